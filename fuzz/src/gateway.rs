//! What must a gateway hold, whatever devices, strangers and the mesh do?
//!
//! `avi-device` includes this file in its tests, and replays the corpus.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::engine::{
    DeviceKey, Downlink, GatewayConfig, GatewayEngine, GatewayLimits, Incoming, MAX_DATAGRAM_BYTES, Output, PressType,
    SensorValue, SmallDevice, Time, Uplink,
};
use super::script::Script;

/// So many operations: a fuzzer learns nothing more from longer ones.
const OPERATIONS: usize = 300;
const TOPICS: [&str; 6] = ["a", "b", "device/7/button", "/avi/context/1", "avi-context-updates", ""];
/// The addresses that `address` has.
const NETWORKS: u64 = 5;
/// Devices with a key.
const SECURE: [u64; 2] = [70, 71];

/// The body of the target.
pub fn gateway(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut world = World::new(&mut script);
    for _ in 0..OPERATIONS {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
    }
    world.end();
}

/// A gateway, who speaks to it, and what its node holds.
struct World {
    engine: GatewayEngine,
    limits: GatewayLimits,
    now: Duration,
    boards: BTreeMap<u64, SmallDevice>,
    hellos: u8,
    /// Datagrams that somebody recorded.
    recorded: VecDeque<Vec<u8>>,
    grants: bool,
    topics: BTreeSet<String>,
    requests: VecDeque<u64>,
    /// Streams of the node, and whether the gateway may accept them.
    streams: BTreeMap<u64, bool>,
    next_stream: u64,
    /// What the shared context has, and how many values that is.
    context: BTreeMap<String, usize>,
    writes: u64,
    published: u64,
}

impl World {
    fn new(script: &mut Script<'_>) -> Self {
        let limits = match script.flag() {
            true => GatewayLimits {
                sessions: 4,
                sessions_per_ip: 2,
                subscriptions: 2,
                topics: 3,
                streams: 1,
                sensors: 1,
                datagrams_per_second: 3,
                messages_per_second: 2,
                context_writes_per_second: 1,
                context_values: 16,
                downlink_bytes_per_second: 1024,
                unknown_per_second: 2,
                handshakes_per_second: 1,
            },
            false => GatewayLimits { unknown_per_second: 10_000, ..GatewayLimits::default() },
        };
        let config = GatewayConfig {
            plain: script.flag(),
            plain_from_anywhere: script.flag(),
            devices: SECURE.map(|id| DeviceKey::new(id, key(id))).to_vec(),
            limits: limits.clone(),
            ..GatewayConfig::default()
        };
        let mut drawn = 0_u8;
        let entropy = Box::new(move || {
            drawn = drawn.wrapping_add(1);
            (drawn % 16 != 15).then_some([drawn; 32])
        });
        let engine = GatewayEngine::new(config, "12D3KooWGateway", entropy).expect("a valid configuration");
        Self {
            engine,
            limits,
            now: Duration::ZERO,
            boards: BTreeMap::new(),
            hellos: 0,
            recorded: VecDeque::new(),
            grants: true,
            topics: BTreeSet::new(),
            requests: VecDeque::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            context: BTreeMap::new(),
            writes: 0,
            published: 0,
        }
    }

    fn time(&self) -> Time {
        Time { now: self.now, unix_s: self.now.as_secs() }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let time = self.time();
        match script.below(16) {
            0 => {
                let from = address(script);
                self.datagram(from, script.bytes(2 * MAX_DATAGRAM_BYTES));
            }
            1 => {
                let from = address(script);
                with_frame(script, |frame| self.datagram(from, &frame.encode()));
            }
            2 => self.hello(script),
            3 | 4 => self.secure(script),
            5 | 6 => self.repeat(script),
            7 => {
                let (topic, len) = (script.pick(&TOPICS), script.number().min(5000) as usize);
                self.engine.handle_message(time, topic, &vec![7; len]);
            }
            8 => self.grants = !self.grants,
            9 => self.open(script.flag()),
            10 => self.engine.handle_stream_accepted(time, script.number()),
            11 => {
                let stream = script.number();
                self.streams.remove(&stream);
                self.engine.handle_stream_closed(time, stream);
            }
            12 => {
                let (stream, len) = (script.number(), script.number().min(70_000) as usize);
                self.engine.handle_audio(time, stream, &vec![9; len]);
            }
            13 => self.offer(script),
            14 => self.pass(script.duration()),
            _ => self.engine.handle_deadline(time),
        }
        self.carry_out();
        self.check();
    }

    /// A datagram comes. Whoever has no session gets no more bytes than he sent.
    fn datagram(&mut self, from: SocketAddr, datagram: &[u8]) {
        let before = self.engine.stats();
        self.engine.handle_datagram(self.time(), from, datagram);
        let sent = self.carry_out();
        if before.sessions == 0 && self.engine.stats().sessions_begun == before.sessions_begun {
            let bytes: usize = sent.iter().map(|(_, datagram)| datagram.len()).sum();
            assert!(bytes <= datagram.len(), "{bytes} bytes for {}", datagram.len());
            assert!(sent.iter().all(|(to, _)| *to == from), "an answer goes to who asked");
        }
        for (_, datagram) in sent {
            for board in self.boards.values_mut() {
                if let Incoming::Frame(frame) = board.receive(&datagram) {
                    assert!(Downlink::decode(&frame).is_some(), "a gateway's frame can be read: {frame:?}");
                }
            }
        }
    }

    fn hello(&mut self, script: &mut Script<'_>) {
        let (id, from, keep) = (script.pick(&SECURE), address(script), script.flag());
        self.hellos = self.hellos.wrapping_add(1);
        let board = SmallDevice::secure(&DeviceKey::new(id, key(id)), [self.hellos ^ 0xaa; 32], keep);
        let hello = board.hello();
        self.boards.insert(id, board);
        self.record(&hello);
        self.datagram(from, &hello);
    }

    /// A device with keys sends a frame, which may get lost.
    fn secure(&mut self, script: &mut Script<'_>) {
        let (id, from, is_lost) = (script.pick(&SECURE), address(script), script.flag());
        let Some(board) = self.boards.get_mut(&id) else { return };
        let sealed = with_frame(script, |frame| board.send(&frame).ok());
        let Some(datagram) = sealed else { return };
        self.record(&datagram);
        if !is_lost {
            self.datagram(from, &datagram);
        }
    }

    fn record(&mut self, datagram: &[u8]) {
        self.recorded.push_back(datagram.to_vec());
        if self.recorded.len() > 8 {
            self.recorded.pop_front();
        }
    }

    /// Somebody sends again what he recorded, as it is or changed.
    fn repeat(&mut self, script: &mut Script<'_>) {
        let (which, from, at, flip) = (script.below(8), address(script), script.below(256), script.byte());
        let Some(mut datagram) = self.recorded.get(which).cloned() else { return };
        if let Some(byte) = datagram.get_mut(at) {
            *byte ^= flip;
        }
        self.datagram(from, &datagram);
    }

    fn open(&mut self, is_opened: bool) {
        let Some(request) = self.requests.pop_front() else { return };
        let stream = is_opened.then(|| {
            self.next_stream += 1;
            self.streams.insert(self.next_stream, false);
            self.next_stream
        });
        self.engine.handle_stream_opened(self.time(), request, stream);
    }

    fn offer(&mut self, script: &mut Script<'_>) {
        let label = script.pick(&["device/7/speak", "device/70/speak", "device/71/", "kitchen", "device/x/y"]);
        self.next_stream += 1;
        self.streams.insert(self.next_stream, true);
        if !self.engine.handle_stream_offered(self.time(), self.next_stream, "12D3KooWCore", label) {
            self.streams.remove(&self.next_stream);
        }
    }

    /// Time passes, and the gateway is called when it wants to be.
    fn pass(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        for turn in 0.. {
            let Some(deadline) = self.engine.next_deadline().filter(|deadline| *deadline <= end) else { break };
            self.now = self.now.max(deadline);
            self.engine.handle_deadline(self.time());
            self.carry_out();
            assert!(self.engine.next_deadline().is_none_or(|next| next > self.now), "a busy loop");
            assert!(turn < 100_000, "a deadline every {:?}", time / 100_000);
        }
        self.now = end;
    }

    /// Does what the gateway wants, and checks that it may want it. The datagrams.
    fn carry_out(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send { to, datagram } => {
                    assert!(datagram.len() <= MAX_DATAGRAM_BYTES, "{} bytes", datagram.len());
                    sent.push((to, datagram));
                }
                Output::Subscribe { topic } => {
                    if self.grants {
                        assert!(self.topics.insert(topic.clone()), "{topic} is held already");
                    }
                    self.engine.handle_subscribed(self.time(), &topic, self.grants);
                }
                Output::Unsubscribe { topic } => assert!(self.topics.remove(&topic), "{topic} is not held"),
                Output::Publish { topic, .. } => {
                    self.published += 1;
                    assert!(!topic.is_empty() && !topic.starts_with("/avi/") && topic != "avi-context-updates");
                }
                Output::OpenStream { request, .. } => self.requests.push_back(request),
                Output::AcceptStream { stream } => {
                    let may = self.streams.insert(stream, false);
                    assert_eq!(may, Some(true), "stream {stream} is not offered");
                }
                Output::SendAudio { stream, data } => {
                    assert_eq!(self.streams.get(&stream), Some(&false), "stream {stream} is not open");
                    assert!(!data.is_empty());
                }
                Output::RejectStream { stream, .. } | Output::CloseStream { stream } => {
                    assert!(self.streams.remove(&stream).is_some(), "stream {stream} has ended");
                }
                Output::SetContext { path, value } => {
                    self.writes += 1;
                    self.context.insert(path, value.as_object().map_or(1, |values| values.len()));
                }
                // One in a few hundred removals, which paid for it.
                Output::ReplaceContext { path, value } => {
                    let named = |kept: &str| {
                        let device = kept.strip_prefix(&format!("{path}."))?.split('.').next()?;
                        value.get(device)
                    };
                    self.context.retain(|kept, _| named(kept).is_some());
                }
                Output::RemoveContext { path } => {
                    self.writes += 1;
                    self.context.retain(|kept, _| *kept != path && !kept.starts_with(&format!("{path}.")));
                }
            }
        }
        sent
    }

    fn check(&self) {
        let stats = self.engine.stats();
        assert!(stats.sessions <= self.limits.sessions as usize, "{} sessions", stats.sessions);
        assert!(stats.topics <= self.limits.topics as usize, "{} topics", stats.topics);
        assert!(stats.streams <= stats.sessions * self.limits.streams as usize, "{} streams", stats.streams);
        let values: usize = self.context.values().sum();
        assert!(values <= self.limits.context_values as usize, "{values} values in the context");
        let seconds = self.now.as_secs().saturating_add(1);
        let most = seconds.saturating_add(2).saturating_mul(self.limits.context_writes_per_second.into());
        // One more when it starts.
        assert!(self.writes <= most.saturating_add(1), "{} writes in {seconds} s", self.writes);
        // Whose session ends begins the next one with what is left. Who moves leaves his place to another.
        let places = NETWORKS * u64::from(self.limits.sessions_per_ip) + SECURE.len() as u64 + stats.sessions_moved;
        let of_one = seconds.saturating_add(2).saturating_mul(self.limits.messages_per_second.into());
        let most = places.saturating_mul(of_one);
        assert!(self.published <= most, "{} messages in {seconds} s", self.published);
        assert!(self.topics.len() <= stats.topics, "the node holds {:?}", self.topics);
    }

    /// The gateway ends, and leaves nothing behind.
    fn end(mut self) {
        self.engine.shutdown(self.time());
        self.carry_out();
        while !self.requests.is_empty() {
            self.open(true);
            self.carry_out();
        }
        assert!(self.topics.is_empty(), "{:?} are still held", self.topics);
        assert!(self.streams.is_empty(), "{:?} are still there", self.streams);
        assert!(self.context.is_empty(), "the context still has {:?}", self.context);
        assert_eq!(self.engine.next_deadline(), None);
    }
}

fn key(id: u64) -> [u8; 32] {
    [id as u8; 32]
}

/// Four private addresses, one of them twice with another port, and one that is not.
fn address(script: &mut Script<'_>) -> SocketAddr {
    let choices: [([u8; 4], u16); 6] = [
        ([10, 0, 0, 1], 1),
        ([10, 0, 0, 2], 1),
        ([10, 0, 0, 2], 2),
        ([192, 168, 0, 1], 1),
        ([127, 0, 0, 1], 1),
        ([203, 0, 113, 1], 1),
    ];
    let (ip, port) = script.pick(&choices);
    SocketAddr::new(IpAddr::from(ip), port)
}

/// Any frame of a device.
fn with_frame<T>(script: &mut Script<'_>, use_it: impl FnOnce(Uplink<'_>) -> T) -> T {
    let kind = script.below(13);
    let local_stream_id = script.pick(&[0, 1, 128, 129]);
    let topic = script.pick(&TOPICS);
    let device_id = script.pick(&[7, 8, 9, 10, 70]);
    let data = script.bytes(1100);
    let value = script.number();
    use_it(match kind {
        0 => Uplink::Hello { device_id },
        1 => Uplink::Subscribe { topic },
        2 => Uplink::Unsubscribe { topic },
        3 => Uplink::Publish { topic, data },
        4 => Uplink::StreamStart { local_stream_id, target_peer_id: "12D3KooWCore", reason: topic },
        5 => Uplink::StreamData { local_stream_id, data },
        6 => Uplink::StreamClose { local_stream_id },
        7 => Uplink::ButtonPress { button_id: local_stream_id, press_type: PressType::Long, custom_data: topic },
        8 => {
            let data = match value % 3 {
                0 => SensorValue::Temperature(f32::from_bits(value as u32)),
                1 => SensorValue::Status(true),
                _ => SensorValue::Raw(value as i32),
            };
            Uplink::SensorUpdate { sensor_name: topic, data, custom_data: "" }
        }
        9 => Uplink::Ping { token: value as u32 },
        10 => Uplink::HelloExtended { device_id },
        11 => Uplink::StreamAccept { local_stream_id },
        _ => Uplink::Goodbye,
    })
}
