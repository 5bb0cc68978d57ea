//! What does a gateway decide? A state machine without clock, socket or randomness of its own.
//!
//! To drive it: give it what happens, with the time, through the `handle_*` methods. After each, take what it wants
//! from [`poll_output`](GatewayEngine::poll_output) until there is nothing left, and carry it out in that order. Call
//! [`handle_deadline`](GatewayEngine::handle_deadline) when [`next_deadline`](GatewayEngine::next_deadline) has come.

mod config;
mod context;
mod entry;
mod frames;
mod output;
mod rate;
mod secure;
mod session;
mod small_device;
mod stats;
mod streams;
#[cfg(test)]
mod tests;
mod topics;
mod uplink;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

pub use config::{DeviceKey, GatewayConfig, GatewayError, GatewayLimits};
pub use frames::{Downlink, ErrorCode, MAX_DATAGRAM_BYTES, PressType, SensorValue, Uplink};
pub use output::{Output, Time};
pub use secure::NOISE_PROTOCOL;
pub use small_device::{Incoming, NotConnected, SmallDevice};
pub use stats::GatewayStats;
pub use streams::is_for_small_device;

use entry::Pending;
use rate::{Ended, Senders, TokenBucket};
use session::{Mode, Session, Sessions};
use topics::Topics;

/// Sessions that are remembered when they have ended, if no more may be at once.
const ENDED: usize = 256;

/// Gives bytes that nobody can guess, or none: then there is no handshake.
pub type Entropy = Box<dyn FnMut() -> Option<[u8; 32]> + Send>;

/// The state machine of a gateway.
pub struct GatewayEngine {
    config: GatewayConfig,
    /// The node's peer id.
    node: String,
    entropy: Entropy,
    sessions: Sessions,
    ended: Ended,
    topics: Topics,
    /// The device and its number for each stream of the node.
    streams: BTreeMap<u64, (u64, u8)>,
    requests: u64,
    pending: BTreeMap<u32, Pending>,
    senders: Senders,
    handshakes: TokenBucket,
    /// The last handshakes of each device: one that comes again is somebody's who recorded it.
    seen: BTreeMap<u64, VecDeque<Vec<u8>>>,
    context_writes: TokenBucket,
    /// Whether something waits for a turn to be written: then nothing else goes before it.
    is_behind: bool,
    /// Devices whose session has ended, and whom the context still has.
    to_forget: BTreeSet<u64>,
    /// How many devices were removed from the context since all were written at once.
    forgotten: usize,
    /// How many values the context has.
    context_values: usize,
    /// The sensor that was written last when its turn came.
    last_written: (u64, String),
    outputs: VecDeque<Output>,
    stats: GatewayStats,
    /// Not later than the next thing to do.
    deadline: Option<Duration>,
}

impl fmt::Debug for GatewayEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayEngine").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

impl GatewayEngine {
    /// A gateway of the node with this peer id.
    ///
    /// # Errors
    /// As [`GatewayConfig::validate`].
    pub fn new(config: GatewayConfig, node: &str, entropy: Entropy) -> Result<Self, GatewayError> {
        config.validate()?;
        let handshakes = config.limits.handshakes_per_second;
        let writes = config.limits.context_writes_per_second;
        // What a gateway left behind that did not end as it should.
        let stale = Output::RemoveContext { path: format!("avi.gateway.{node}") };
        Ok(Self {
            senders: Senders::new(config.limits.unknown_per_second),
            handshakes: TokenBucket::new(handshakes, handshakes.saturating_mul(2), Duration::ZERO),
            config,
            node: node.to_owned(),
            entropy,
            sessions: Sessions::default(),
            ended: Ended::default(),
            topics: Topics::default(),
            streams: BTreeMap::new(),
            requests: 0,
            pending: BTreeMap::new(),
            seen: BTreeMap::new(),
            context_writes: TokenBucket::new(writes, writes.saturating_mul(2), Duration::ZERO),
            is_behind: false,
            to_forget: BTreeSet::new(),
            forgotten: 0,
            context_values: 0,
            last_written: (0, String::new()),
            outputs: VecDeque::from([stale]),
            stats: GatewayStats::default(),
            deadline: None,
        })
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`handle_deadline`](Self::handle_deadline), at the latest. To call it earlier does no harm.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The figures now.
    #[must_use]
    pub fn stats(&self) -> GatewayStats {
        let (sessions, topics, streams) = (self.sessions.len(), self.topics.len(), self.streams.len());
        GatewayStats { sessions, topics, streams, ..self.stats.clone() }
    }

    /// Time has passed.
    pub fn handle_deadline(&mut self, time: Time) {
        let now = time.now;
        self.pending.retain(|_, pending| pending.until > now);
        let over = self.sessions.iter().filter(|(_, session)| session.ends_at(&self.config) <= now);
        for device in over.map(|(device, _)| device).collect::<Vec<_>>() {
            self.stats.sessions_expired += 1;
            self.end(time, device);
        }
        for topic in self.topics.expire(now) {
            self.outputs.push_back(Output::Unsubscribe { topic });
        }
        self.deadline = self.find_deadline(now);
        self.write_context(time);
    }

    /// What is due in the context already waits for its turn.
    fn find_deadline(&self, now: Duration) -> Option<Duration> {
        let waiting = |session: &Session| {
            let waiting = session.sensors.values().filter(|sensor| sensor.waiting.is_some());
            waiting.map(|sensor| sensor.next_write).filter(|at| *at > now).min()
        };
        let sessions = self.sessions.iter();
        let ends = sessions.flat_map(|(_, session)| [Some(session.ends_at(&self.config)), waiting(session)]).flatten();
        let pending = self.pending.values().map(|pending| pending.until);
        ends.chain(pending).chain(self.topics.next_deadline()).min()
    }

    /// Something new may have to be done at this time.
    fn wake_at(&mut self, at: Duration) {
        self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
    }

    /// The gateway ends: every session does.
    pub fn shutdown(&mut self, time: Time) {
        for device in self.sessions.devices() {
            self.end(time, device);
        }
        self.forget_all();
        self.pending.clear();
        while let Some(topic) = self.topics.make_room() {
            self.outputs.push_back(Output::Unsubscribe { topic });
        }
        self.deadline = None;
    }

    /// The node subscribes to a topic now, or does not because of a limit.
    pub fn handle_subscribed(&mut self, time: Time, topic: &str, is_held: bool) {
        for device in self.topics.answered(topic, is_held) {
            if is_held {
                self.send(time, device, &Downlink::SubscribeAck { topic });
                continue;
            }
            self.stats.mesh_refused += 1;
            if let Some(session) = self.sessions.get_mut(device) {
                session.subscriptions.remove(topic);
            }
            self.tell(time, device, ErrorCode::Congested);
        }
    }

    /// The node did not take a message of a device.
    pub fn handle_refused(&mut self, time: Time, device: u64) {
        self.stats.mesh_refused += 1;
        self.tell(time, device, ErrorCode::Congested);
    }

    /// The system did not take a datagram.
    pub fn handle_send_failed(&mut self) {
        self.stats.send_failed += 1;
    }

    /// The context did not take a value.
    pub fn handle_context_refused(&mut self) {
        self.stats.context_refused += 1;
    }

    /// A message came on a topic of the mesh.
    pub fn handle_message(&mut self, time: Time, topic: &str, data: &[u8]) {
        let holders = self.sessions.iter().filter(|(_, session)| session.subscriptions.contains_key(topic));
        for device in holders.map(|(device, _)| device).collect::<Vec<_>>() {
            match self.send(time, device, &Downlink::Message { topic, data }) {
                Sent::Yes => self.stats.delivered += 1,
                Sent::No => {}
                Sent::Oversize => {
                    let session = self.sessions.get_mut(device);
                    let told = session.and_then(|session| session.subscriptions.get_mut(topic));
                    if told.is_some_and(|told| !std::mem::replace(told, true)) {
                        self.tell(time, device, ErrorCode::Oversize);
                    }
                }
            }
        }
    }

    /// Sends a frame to a device that has a session.
    fn send(&mut self, time: Time, device: u64, frame: &Downlink<'_>) -> Sent {
        let Some(session) = self.sessions.get_mut(device) else { return Sent::No };
        if !session.is_extended() && !frame.is_original() {
            self.stats.not_asked_for += 1;
            return Sent::No;
        }
        let bytes = frame.encode();
        if bytes.len() > session.max_frame_bytes() {
            self.stats.oversize += 1;
            return Sent::Oversize;
        }
        if !session.rates.downlink.take(bytes.len(), time.now) {
            self.stats.downlink_limited += 1;
            return Sent::No;
        }
        let datagram = match &mut session.mode {
            Mode::Plain { .. } => Some(bytes),
            Mode::Secure(transport) => transport.seal(&bytes),
        };
        let Some(datagram) = datagram else { return Sent::No };
        let to = session.address;
        self.send_datagram(to, datagram);
        Sent::Yes
    }

    fn send_datagram(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        self.stats.datagrams_sent += 1;
        self.outputs.push_back(Output::Send { to, datagram });
    }

    /// Tells a device why something was refused or lost.
    fn tell(&mut self, time: Time, device: u64, code: ErrorCode) {
        self.send(time, device, &Downlink::Error { reason: code as u8 });
    }

    /// Tells the device that its request is refused by a limit or a rule.
    fn refuse(&mut self, time: Time, device: u64, code: ErrorCode) {
        self.stats.refused += 1;
        self.tell(time, device, code);
    }

    /// Ends a session.
    fn end(&mut self, time: Time, device: u64) {
        self.tell(time, device, ErrorCode::SessionEnded);
        self.end_uses(time, device);
        let Some(session) = self.sessions.remove(device) else { return };
        let most = (self.config.limits.sessions as usize).max(ENDED);
        self.ended.put(session.id, session.plain_from(), session.rates.clone(), time.now, most);
        self.leave_context(time, session);
    }

    /// Ends the subscriptions and streams of a session.
    fn end_uses(&mut self, time: Time, device: u64) {
        let Some(session) = self.sessions.get_mut(device) else { return };
        for topic in std::mem::take(&mut session.subscriptions).into_keys() {
            self.topics.unsubscribe(&topic, device, time.now);
        }
        for stream in std::mem::take(&mut session.streams).into_values() {
            if let Some(stream) = stream.state.stream() {
                self.streams.remove(&stream);
                self.outputs.push_back(Output::CloseStream { stream });
            }
        }
        self.wake_for_topics();
    }

    fn wake_for_topics(&mut self) {
        if let Some(at) = self.topics.next_deadline() {
            self.wake_at(at);
        }
    }
}

/// What became of a frame for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Yes,
    /// The device is gone, cannot read it, or gets too much: counted.
    No,
    Oversize,
}
