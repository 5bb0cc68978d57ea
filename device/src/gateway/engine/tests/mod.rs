//! What does the gateway promise to devices, and against others?

mod context;
mod hostile;
mod original;
mod plain;
mod secure;
mod streams;
mod vectors;

use std::net::SocketAddr;
use std::time::Duration;

use super::{DeviceKey, Downlink, ErrorCode, GatewayConfig, GatewayEngine, Output, Time, Uplink};

/// A gateway whose node grants everything at once.
struct Bench {
    engine: GatewayEngine,
    now: Duration,
}

fn plain_config() -> GatewayConfig {
    GatewayConfig { plain: true, ..GatewayConfig::default() }
}

fn key(device_id: u64) -> DeviceKey {
    DeviceKey::new(device_id, [u8::try_from(device_id % 251).expect("small"); 32])
}

/// An address in a private network.
fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 168, 1, host], 4000))
}

/// Random enough for a test, and the same each time.
fn entropy() -> super::Entropy {
    let mut count = 0_u8;
    Box::new(move || {
        count = count.wrapping_add(1);
        Some([count; 32])
    })
}

impl Bench {
    fn new(config: GatewayConfig) -> Self {
        let engine = GatewayEngine::new(config, "12D3KooWGateway", entropy()).expect("a valid configuration");
        let mut bench = Self { engine, now: Duration::from_secs(1000) };
        let stale = Output::RemoveContext { path: "avi.gateway.12D3KooWGateway".to_owned() };
        assert_eq!(bench.outputs(), [stale], "what an earlier gateway left behind");
        bench
    }

    fn time(&self) -> Time {
        Time { now: self.now, unix_s: 1_700_000_000 }
    }

    /// What the gateway wants, with the answers of a node that grants everything.
    fn outputs(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            if let Output::Subscribe { topic } = &output {
                self.engine.handle_subscribed(self.time(), topic, true);
            }
            outputs.push(output);
        }
        self.engine.sessions.check();
        outputs
    }

    fn datagram(&mut self, from: SocketAddr, datagram: &[u8]) -> Vec<Output> {
        self.engine.handle_datagram(self.time(), from, datagram);
        self.outputs()
    }

    fn frame(&mut self, from: SocketAddr, frame: &Uplink<'_>) -> Vec<Output> {
        self.datagram(from, &frame.encode())
    }

    fn hello(&mut self, from: SocketAddr, device_id: u64) -> Vec<Output> {
        self.frame(from, &Uplink::Hello { device_id })
    }

    fn message(&mut self, topic: &str, data: &[u8]) -> Vec<Output> {
        self.engine.handle_message(self.time(), topic, data);
        self.outputs()
    }

    /// Lets time pass, as a driver does.
    fn pass(&mut self, time: Duration) -> Vec<Output> {
        let end = self.now + time;
        let mut outputs = Vec::new();
        let mut turns = 0;
        while let Some(deadline) = self.engine.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.engine.handle_deadline(self.time());
            outputs.extend(self.outputs());
            turns += 1;
            assert!(turns < 10_000, "a deadline that does not go on");
        }
        self.now = end;
        outputs
    }
}

/// The datagrams to an address.
fn datagrams(outputs: &[Output], address: SocketAddr) -> Vec<Vec<u8>> {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Send { to, datagram } if *to == address => Some(datagram.clone()),
        _ => None,
    });
    sent.collect()
}

fn error(code: ErrorCode) -> Vec<u8> {
    vec![1, code as u8]
}

/// Whether the outputs to an address are this one frame.
fn answers(outputs: &[Output], address: SocketAddr, frame: &Downlink<'_>) -> bool {
    datagrams(outputs, address) == [frame.encode()]
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
