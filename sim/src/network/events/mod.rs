//! An event-driven network: data in flight waits in a heap until its time, and an idle mesh costs nothing.

pub mod datagrams;
mod host;
mod line;
mod tcp;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use avi_links::{Fate, Profile};
use avi_p2p::PeerId;
use avi_p2p::transport::{BoxByteStream, Transport};
use bytes::Bytes;
use tokio::time::Instant;

use self::datagrams::Inbox;
use self::host::{Duplex, HostTransport};
use self::line::{Answer, End, EndId, Says};
use super::lan::Lan;
use super::{CutId, FIRST_EPHEMERAL, Group, Homes, Host, Network, Software, WITHIN_HOME, latency};
use crate::random::{Random, mix};
use crate::scenario::{Link, PartitionMode};

/// The most bytes in flight or unread in one direction of a connection, like a TCP window.
const WINDOW_BYTES: usize = 256 * 1024;
/// The most connections that a listener has not accepted yet. Further ones are refused, as by a full backlog.
const BACKLOG: usize = 128;

/// The network. All clones share it.
#[derive(Clone)]
pub struct Events {
    state: Arc<Mutex<State>>,
}

struct State {
    me: Weak<Mutex<State>>,
    epoch: Instant,
    homes: Homes,
    link: Link,
    seed: u64,
    random: Random,
    slower: Duration,
    heap: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    pump: Option<Waker>,
    hosts: Vec<HostState>,
    /// Connections between machines with perfect links.
    pipes: BTreeMap<PipeId, Pipe>,
    /// The ends of all other connections.
    ends: BTreeMap<EndId, End>,
    next_connection: u64,
    cuts: BTreeMap<CutId, (Group, Group, PartitionMode)>,
    next_cut: u64,
    /// Data held by cuts, in order.
    held: Vec<Due>,
    digest: u64,
    lan: Lan,
}

#[derive(Default)]
struct HostState {
    is_on: bool,
    listeners: BTreeMap<u16, Backlog>,
    /// The next port of outgoing connections. A home uses that of its first machine.
    next_port: u16,
    /// When its uplink will be free.
    uplink_free: Duration,
    bytes_sent: u64,
    /// Its access link; `None`: a perfect one.
    access: Option<avi_links::Link>,
    /// Its datagram sockets, by their ports.
    sockets: BTreeMap<u16, Inbox>,
}

#[derive(Default)]
struct Backlog {
    waiting: VecDeque<(BoxByteStream, SocketAddr)>,
    waker: Option<Waker>,
}

/// One direction of a connection: the connection's id, and whether the dialler writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PipeId(u64, bool);

impl PipeId {
    fn reverse(self) -> Self {
        Self(self.0, !self.1)
    }
}

/// One direction of a connection, from the writer to the reader.
struct Pipe {
    from: Host,
    to: Host,
    /// When the last sent item arrives: no item overtakes another.
    last_at: Duration,
    unread: VecDeque<Bytes>,
    /// Bytes in flight or unread.
    outstanding_bytes: usize,
    ended: bool,
    reset: bool,
    /// The reader's host has lost power since, and no longer knows the connection.
    is_forgotten: bool,
    is_finished: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Due {
    at: Duration,
    sequence: u64,
    delivery: Delivery,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Due {
    fn key(&self) -> (Duration, u64) {
        (self.at, self.sequence)
    }
}

struct Delivery {
    from: Host,
    to: Host,
    what: What,
}

enum What {
    Connect {
        from: SocketAddr,
        to: SocketAddr,
        answer: Answer,
    },
    Answer {
        answer: Answer,
        result: io::Result<BoxByteStream>,
    },
    Data {
        pipe: PipeId,
        bytes: Bytes,
    },
    End {
        pipe: PipeId,
    },
    Reset {
        pipe: PipeId,
    },
    /// A packet of TCP, before or after it has crossed the receiver's downlink.
    Packet {
        to: EndId,
        says: Box<Says>,
        has_crossed: bool,
    },
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        payload: Bytes,
        has_crossed: bool,
    },
    /// A timer of an end of a connection.
    Timer {
        end: EndId,
        at: Duration,
    },
}

impl What {
    /// Whether the network may lose it.
    fn is_packet(&self) -> bool {
        matches!(self, Self::Packet { .. } | Self::Datagram { .. })
    }
}

/// The fate of a packet on a perfect link.
fn straight(now: Duration) -> Fate {
    Fate { at: Some(now), again: None }
}

impl Events {
    /// A network with this many hosts. Each has an access link with one of the profiles, which the seed chooses; without
    /// profiles, all links are perfect. Create it inside the simulation's runtime.
    pub fn new(hosts: usize, homes: Homes, link: &Link, profiles: &[Profile], seed: u64) -> Self {
        let access = |host: usize| {
            let draw = mix(mix(seed, 0x6c69_6e6b), host as u64);
            let profile = profiles.get(draw as usize % profiles.len().max(1))?;
            Some(avi_links::Link::new(profile, mix(draw, 1)))
        };
        let hosts = (0..hosts).map(|host| HostState {
            is_on: true,
            next_port: FIRST_EPHEMERAL,
            access: access(host),
            ..HostState::default()
        });
        let state = |me: &Weak<Mutex<State>>| State {
            me: me.clone(),
            epoch: Instant::now(),
            homes,
            link: link.clone(),
            seed,
            random: Random::new(mix(seed, 0x6e65_7477)),
            slower: Duration::ZERO,
            heap: BinaryHeap::new(),
            sequence: 0,
            pump: None,
            hosts: hosts.collect(),
            pipes: BTreeMap::new(),
            ends: BTreeMap::new(),
            next_connection: 0,
            cuts: BTreeMap::new(),
            next_cut: 0,
            held: Vec::new(),
            digest: seed,
            lan: Lan::new(homes),
        };
        Self { state: Arc::new_cyclic(|me| Mutex::new(state(me))) }
    }

    /// Delivers due items, for as long as the simulation runs.
    pub async fn pump(self) {
        let mut timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        std::future::poll_fn(|cx| {
            loop {
                let mut aftermath = Aftermath::default();
                let next = self.lock().deliver_due(cx, &mut aftermath);
                aftermath.conclude();
                let Some(next) = next else { return Poll::<()>::Pending };
                timer.as_mut().reset(next);
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    /// Takes all draws from another seed from now on. The latency of each pair of homes stays.
    pub fn reseed(&self, seed: u64) {
        let mut state = self.lock();
        state.random = Random::new(mix(seed, 0x6e65_7477));
        let now = state.now();
        for (host, machine) in (0u64..).zip(&mut state.hosts) {
            if let Some(access) = &mut machine.access {
                access.reseed(now, mix(mix(seed, 0x6c69_6e6b), host));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a simulation ends it. Until then its state can still be read.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Delivers the due items. Returns when the next item is due.
    fn deliver_due(&mut self, cx: &mut Context<'_>, aftermath: &mut Aftermath) -> Option<Instant> {
        let now = self.now();
        while self.heap.peek().is_some_and(|Reverse(due)| due.at <= now) {
            let Some(Reverse(due)) = self.heap.pop() else { break };
            match self.cut(due.delivery.from, due.delivery.to) {
                // TCP sends again what a cut has swallowed; nobody sends a datagram again.
                Some(_) if due.delivery.what.is_packet() => {}
                Some(PartitionMode::Hold) => self.held.push(due),
                // The cut has reset the connection at its beginning, and nobody answers a dial.
                Some(PartitionMode::Reset) => aftermath.lost.push(due.delivery),
                None if self.is_on(due.delivery.to) => self.deliver(now, due, aftermath),
                None => aftermath.lost.push(due.delivery),
            }
        }
        self.pump = Some(cx.waker().clone());
        self.heap.peek().map(|Reverse(due)| self.epoch + due.at)
    }

    fn is_on(&self, host: Host) -> bool {
        self.hosts.get(host.0 as usize).is_some_and(|host| host.is_on)
    }

    fn deliver(&mut self, now: Duration, Due { at, delivery, .. }: Due, aftermath: &mut Aftermath) {
        let (kind, len) = match &delivery.what {
            What::Connect { .. } => (1, 0),
            What::Answer { .. } => (2, 0),
            What::Data { bytes, .. } => (3, bytes.len() as u64),
            What::End { .. } => (4, 0),
            What::Reset { .. } => (5, 0),
            What::Packet { says, has_crossed, .. } => (6 + u64::from(*has_crossed), says.len() as u64),
            What::Datagram { payload, has_crossed, .. } => (8 + u64::from(*has_crossed), payload.len() as u64),
            What::Timer { .. } => (10, 0),
        };
        let ends = u64::from(delivery.from.0) << 32 | u64::from(delivery.to.0);
        self.digest = mix(mix(mix(self.digest, now.as_nanos() as u64), ends), kind << 32 | len);
        let (sender, receiver) = (delivery.from, delivery.to);
        let hosts = (sender, receiver);
        match delivery.what {
            What::Connect { from, to, answer } => self.on_connect((sender, from), (receiver, to), answer, aftermath),
            What::Answer { answer, result } => aftermath.refused.extend(answer.send(result).err()),
            What::Data { pipe, bytes } => self.on_data(pipe, bytes, aftermath),
            What::End { pipe } => {
                if let Some(pipe) = self.pipes.get_mut(&pipe) {
                    pipe.ended = true;
                    aftermath.wakers.extend(pipe.reader.take());
                }
            }
            What::Reset { pipe } => self.break_off(pipe, aftermath),
            What::Packet { to, says, has_crossed } => self.on_packet(at, hosts, to, *says, has_crossed, aftermath),
            What::Datagram { from, to, payload, has_crossed } => {
                self.on_datagram(at, hosts, (from, to), payload, has_crossed, aftermath);
            }
            What::Timer { end, at } => self.on_timer(end, at, aftermath),
        }
    }

    fn on_connect(
        &mut self,
        (dialler, from): (Host, SocketAddr),
        (listener, to): (Host, SocketAddr),
        answer: Answer,
        aftermath: &mut Aftermath,
    ) {
        let backlog = self.hosts.get_mut(listener.0 as usize).and_then(|host| host.listeners.get_mut(&to.port()));
        let result = match (backlog.filter(|backlog| backlog.waiting.len() < BACKLOG), self.me.upgrade()) {
            (Some(backlog), Some(state)) => {
                self.next_connection += 1;
                let (there, back) = (PipeId(self.next_connection, true), PipeId(self.next_connection, false));
                self.pipes.insert(there, Pipe::new(dialler, listener));
                self.pipes.insert(back, Pipe::new(listener, dialler));
                let events = Events { state };
                let accepted = Duplex { events: events.clone(), read: there, write: back };
                backlog.waiting.push_back((Box::pin(accepted), from));
                aftermath.wakers.extend(backlog.waker.take());
                Ok(Box::pin(Duplex { events, read: back, write: there }) as BoxByteStream)
            }
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        };
        self.send(listener, dialler, None, 0, What::Answer { answer, result });
    }

    fn on_data(&mut self, id: PipeId, bytes: Bytes, aftermath: &mut Aftermath) {
        match self.pipes.get_mut(&id).filter(|pipe| !pipe.is_forgotten) {
            Some(pipe) if !pipe.reset => {
                pipe.unread.push_back(bytes);
                aftermath.wakers.extend(pipe.reader.take());
            }
            Some(_) => {}
            // The reader is gone. Like TCP, it answers with a reset.
            None => {
                if let Some(back) = self.pipes.get(&id.reverse()) {
                    let (from, to) = (back.from, back.to);
                    self.send(from, to, None, 0, What::Reset { pipe: id.reverse() });
                }
            }
        }
    }

    /// Ends both directions of a connection, at each end that still exists.
    fn break_off(&mut self, id: PipeId, aftermath: &mut Aftermath) {
        for id in [id, id.reverse()] {
            if let Some(pipe) = self.pipes.get_mut(&id) {
                pipe.reset = true;
                aftermath.wakers.extend(pipe.reader.take());
                aftermath.wakers.extend(pipe.writer.take());
            }
        }
    }

    /// Sends an item. It arrives after all earlier items in the same direction of the connection.
    fn send(&mut self, from: Host, to: Host, pipe: Option<PipeId>, len: usize, what: What) {
        let now = self.now();
        let mut departs = now;
        if let Some(host) = self.hosts.get_mut(from.0 as usize) {
            host.bytes_sent += len as u64;
            if self.link.uplink_kbit > 0 {
                let bits = len as f64 * 8.0;
                let takes = Duration::from_secs_f64(bits / (self.link.uplink_kbit as f64 * 1000.0));
                host.uplink_free = host.uplink_free.max(now) + takes;
                departs = host.uplink_free;
            }
        }
        let delay = self.distance(from, to);
        let mut at = departs + delay;
        if let Some(pipe) = pipe.and_then(|pipe| self.pipes.get_mut(&pipe)) {
            at = at.max(pipe.last_at);
            pipe.last_at = at;
        }
        self.schedule(at, Delivery { from, to, what });
    }

    /// The time from one machine, or its access link, to another's.
    fn distance(&mut self, from: Host, to: Host) -> Duration {
        let jitter = Duration::from_secs_f64(self.link.jitter_ms / 1000.0 * self.random.unit());
        if self.homes.are_together(from, to) {
            return WITHIN_HOME;
        }
        latency(&self.link, self.seed, self.homes.home(from), self.homes.home(to)) + jitter + self.slower
    }

    /// The access link of a machine, which it shares with its home; `None` if it is perfect, or if data between the two
    /// does not leave their home.
    fn access(&mut self, machine: Host, other: Host) -> Option<&mut avi_links::Link> {
        if self.homes.are_together(machine, other) {
            return None;
        }
        let home = self.homes.home(machine);
        self.hosts.get_mut(home.0 as usize)?.access.as_mut()
    }

    /// Whether nothing between two machines is lost.
    fn is_perfect(&mut self, a: Host, b: Host) -> bool {
        self.access(a, b).is_none() && self.access(b, a).is_none()
    }

    fn schedule(&mut self, at: Duration, delivery: Delivery) {
        self.sequence += 1;
        let is_next = self.heap.peek().is_none_or(|Reverse(due)| at < due.at);
        self.heap.push(Reverse(Due { at, sequence: self.sequence, delivery }));
        if is_next && let Some(pump) = self.pump.take() {
            pump.wake();
        }
    }

    fn cut(&self, from: Host, to: Host) -> Option<PartitionMode> {
        if self.homes.are_together(from, to) {
            return None;
        }
        let cut = self.cuts.values().find(|(here, there, _)| here.contains(&from) && there.contains(&to));
        cut.map(|(_, _, mode)| *mode)
    }
}

impl Pipe {
    fn new(from: Host, to: Host) -> Self {
        Self {
            from,
            to,
            last_at: Duration::ZERO,
            unread: VecDeque::new(),
            outstanding_bytes: 0,
            ended: false,
            reset: false,
            is_forgotten: false,
            is_finished: false,
            reader: None,
            writer: None,
        }
    }
}

/// Work for after the network's lock is released, because an end of a connection takes the lock when it is dropped.
#[derive(Default)]
struct Aftermath {
    wakers: Vec<Waker>,
    lost: Vec<Delivery>,
    refused: Vec<io::Result<BoxByteStream>>,
}

impl Aftermath {
    fn conclude(self) {
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

impl Network for Events {
    fn launch(&self, _: Host, software: Software) {
        software();
    }

    fn transport(&self, host: Host) -> Arc<dyn Transport> {
        Arc::new(HostTransport { events: self.clone(), host })
    }

    fn announce(&self, host: Host, peer: PeerId) {
        self.lock().lan.announce(host, peer);
    }

    fn power(&self, host: Host, on: bool) {
        let mut state = self.lock();
        let Some(machine) = state.hosts.get_mut(host.0 as usize) else { return };
        machine.is_on = on;
        let forgotten = (std::mem::take(&mut machine.listeners), std::mem::take(&mut machine.sockets));
        if !on {
            state.forget_ends(host);
        }
        // Its ends of connections will be dropped, and send nothing more. The other ends are not told.
        for pipe in state.pipes.values_mut() {
            pipe.is_finished |= pipe.from == host;
            if pipe.to == host {
                pipe.is_forgotten = true;
                pipe.unread.clear();
            }
        }
        drop(state);
        drop(forgotten);
    }

    fn cut(&self, from: &Group, to: &Group, mode: PartitionMode) -> CutId {
        let mut aftermath = Aftermath::default();
        let mut state = self.lock();
        state.next_cut += 1;
        let cut = CutId(state.next_cut);
        state.cuts.insert(cut, (from.clone(), to.clone(), mode));
        if mode == PartitionMode::Reset {
            let across = |pipe: &Pipe| from.contains(&pipe.from) && to.contains(&pipe.to);
            let broken: Vec<_> = state.pipes.iter().filter(|(_, pipe)| across(pipe)).map(|(id, _)| *id).collect();
            broken.into_iter().for_each(|id| state.break_off(id, &mut aftermath));
            let is_across = |here, there| from.contains(&here) && to.contains(&there);
            state.break_ends(is_across, &mut aftermath);
        }
        drop(state);
        aftermath.conclude();
        cut
    }

    fn heal(&self, cut: CutId) {
        let mut state = self.lock();
        state.cuts.remove(&cut);
        let now = state.now();
        // Items keep their old numbers, so that none overtakes another. Items held by another cut are held again.
        let held = std::mem::take(&mut state.held);
        state.heap.extend(held.into_iter().map(|due| Reverse(Due { at: due.at.max(now), ..due })));
        let pump = state.pump.take();
        drop(state);
        pump.into_iter().for_each(Waker::wake);
    }

    fn slow_down(&self, more: Duration) {
        self.lock().slower = more;
    }

    fn bytes_sent(&self) -> Vec<u64> {
        self.lock().hosts.iter().map(|host| host.bytes_sent).collect()
    }

    fn digest(&self) -> u64 {
        self.lock().digest
    }
}
