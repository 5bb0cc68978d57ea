//! What the tests share: devices on loopback, and waiting for something with a deadline.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use avi_device::device::{AviDevice, AviDeviceConfig, AviDeviceType, DeviceOptions};
use avi_device::{DeviceCapabilities, PeerId};
use avi_p2p::AviP2pConfig;
use tokio::sync::mpsc;

/// How long a test waits before it fails. Generous: machines are shared.
pub const WITHIN: Duration = Duration::from_secs(30);

/// A node on loopback that finds nobody but these.
pub async fn options(peers: &[&AviDevice]) -> DeviceOptions {
    let mut bootstrap_peers = Vec::new();
    for peer in peers {
        bootstrap_peers.extend(addresses(peer).await);
    }
    let p2p = AviP2pConfig {
        bootstrap_peers,
        listen_ips: vec![Ipv4Addr::LOCALHOST.into()],
        enable_mdns: false,
        enable_kad: false,
        ..AviP2pConfig::default()
    };
    DeviceOptions { p2p, ..DeviceOptions::default() }
}

pub async fn addresses(device: &AviDevice) -> Vec<String> {
    device.handle().listen_addresses().await.expect("it runs")
}

pub fn config(name: &str, device_type: AviDeviceType, capabilities: DeviceCapabilities) -> AviDeviceConfig {
    AviDeviceConfig { node_name: name.to_owned(), device_type, can_gateway_embedded: false, capabilities }
}

/// A device that is connected to `peers`, and they to it, when this returns.
pub async fn start(config: AviDeviceConfig, peers: &[&AviDevice]) -> AviDevice {
    start_with(config, options(peers).await, peers).await
}

pub async fn start_with(config: AviDeviceConfig, options: DeviceOptions, peers: &[&AviDevice]) -> AviDevice {
    let device = AviDevice::with_options(config, options).await.expect("the device starts");
    device.start_event_loop();
    for peer in peers {
        connected(&device, peer).await;
    }
    device
}

/// A device of the type NODE that says nothing of itself.
pub async fn node(name: &str, peers: &[&AviDevice]) -> AviDevice {
    start(config(name, AviDeviceType::NODE, DeviceCapabilities::default()), peers).await
}

pub async fn connected(one: &AviDevice, other: &AviDevice) {
    for (here, there) in [(one, other), (other, one)] {
        let id = there.get_id().await;
        until("they are connected", async || here.get_peers().await.expect("it runs").contains(&id)).await;
    }
}

/// Asks again and again until the answer is yes.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asked = tokio::time::timeout(WITHIN, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(asked.await.is_ok(), "within {WITHIN:?} it was not so that {what}");
}

/// Waits until `device` knows that `peer` subscribes to a topic.
pub async fn subscribed(device: &AviDevice, peer: &PeerId, topic: &str) {
    let handle = device.handle();
    until("the peer subscribes", async || {
        handle.peer_info(peer).await.is_ok_and(|info| info.topics.iter().any(|name| name.as_str() == topic))
    })
    .await;
}

/// The next thing that a handler has sent.
pub async fn next<T>(what: &str, receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    in_time(what, receiver.recv()).await.unwrap_or_else(|| panic!("no more {what}"))
}

pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WITHIN, future).await.unwrap_or_else(|_| panic!("no {what} within {WITHIN:?}"))
}
