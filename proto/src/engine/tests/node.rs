//! One engine, checked by the contract, and driven by hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use super::*;
pub(super) use crate::fuzzing::{address, peer};
use crate::fuzzing::{assert_replays, recorded};
use crate::recording::Recorded;
use crate::wire::{Decoder, Frame, Token};

/// The default configuration, without walks by itself.
pub(super) fn config() -> AviP2pConfig {
    AviP2pConfig { enable_mdns: false, enable_kad: false, ..AviP2pConfig::default() }
}

pub(super) fn limited(limit: impl FnOnce(&mut Limits)) -> AviP2pConfig {
    let mut config = config();
    limit(&mut config.limits);
    config
}

/// A value that a reply may carry.
pub(super) trait Value: Sized {
    fn of(reply: Reply) -> Result<Self, AviP2pError>;
}

impl Value for () {
    fn of(reply: Reply) -> Result<Self, AviP2pError> {
        match reply {
            Reply::Done { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }
}

impl Value for StreamId {
    fn of(reply: Reply) -> Result<Self, AviP2pError> {
        match reply {
            Reply::Stream { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }
}

impl Value for Published {
    fn of(reply: Reply) -> Result<Self, AviP2pError> {
        match reply {
            Reply::Published { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }
}

impl Value for Vec<PeerId> {
    fn of(reply: Reply) -> Result<Self, AviP2pError> {
        match reply {
            Reply::Peers { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }
}

/// An engine and its id: of a node with a context, that of a key.
fn started(n: u16, config: &AviP2pConfig) -> (PeerId, Engine) {
    #[cfg(feature = "context")]
    if config.context.is_some() {
        return context::started(n, config, None).expect("there is no file");
    }
    (peer(n), Engine::new(config, peer(n), [n as u8; 32]))
}

/// An engine and its outputs that no test has taken yet. When it is dropped, the engine is shut down without answers of
/// the network, and must have settled.
pub(super) struct Node {
    pub(super) id: PeerId,
    pub(super) config: AviP2pConfig,
    pub(super) now: Time,
    engine: Recorded,
    /// The wall clock at the start of the engine.
    #[cfg(feature = "context")]
    pub(super) unix_millis: u64,
    /// What was to be written to the file of the context.
    #[cfg(feature = "context")]
    pub(super) saved: Vec<(Time, Bytes)>,
    pub(super) contract: Contract,
    events: Vec<AviEvent>,
    pub(super) actions: VecDeque<NetAction>,
    /// The ordered heartbeats. Only their own tests look at them.
    pub(super) heartbeats: Vec<Time>,
    /// What may flow beside calls. The same.
    pub(super) grants: Vec<(PeerId, Option<u32>)>,
    /// The open connections.
    connections: BTreeMap<ConnectionId, PeerId>,
    /// The connections on which no pongs come.
    pub(super) mute: BTreeSet<ConnectionId>,
    /// Whether peers answer pings.
    pub(super) has_pongs: bool,
    next_pongs: Time,
    /// The connection policy; `None` once all connections were closed for good.
    pub(super) admission: Option<Admission>,
    /// The replies by the numbers of their commands.
    replies: BTreeMap<u64, Reply>,
    commands: u64,
    decoders: BTreeMap<SubstreamId, Decoder>,
    /// The last token given on each substream.
    pub(super) tokens: BTreeMap<SubstreamId, Token>,
    /// All outputs so far.
    pub(super) trace: Vec<(Time, Output)>,
}

impl Node {
    pub(super) fn new(n: u16, config: AviP2pConfig) -> Self {
        let (id, engine) = started(n, &config);
        let mut node = Self {
            now: Time::ZERO,
            engine: recorded(engine),
            #[cfg(feature = "context")]
            unix_millis: context::STARTED_AT,
            #[cfg(feature = "context")]
            saved: Vec::new(),
            contract: Contract::new(&config),
            id,
            config,
            events: Vec::new(),
            actions: VecDeque::new(),
            heartbeats: Vec::new(),
            grants: Vec::new(),
            connections: BTreeMap::new(),
            mute: BTreeSet::new(),
            has_pongs: true,
            next_pongs: Time::ZERO + PING_INTERVAL,
            admission: None,
            replies: BTreeMap::new(),
            commands: 0,
            decoders: BTreeMap::new(),
            tokens: BTreeMap::new(),
            trace: Vec::new(),
        };
        node.drain();
        node
    }

    /// A node that `peer(n)` has dialled, on `ConnectionId(1)`.
    pub(super) fn with_peer(local: u16, n: u16, config: AviP2pConfig) -> Self {
        let mut node = Self::new(local, config);
        node.connected(1, n, Direction::Inbound);
        node.take_events();
        node
    }

    // Inputs.

    pub(super) fn command<T>(&mut self, command: impl FnOnce(CommandId<T>) -> Command) -> CommandId<T> {
        self.commands += 1;
        let id = CommandId::new(self.commands);
        self.handle(Input::Command(command(id)));
        id
    }

    pub(super) fn net(&mut self, event: NetEvent) {
        self.handle(Input::Net(event));
    }

    /// Sends a command that must be answered at once.
    pub(super) fn ask<T: Value>(&mut self, command: impl FnOnce(CommandId<T>) -> Command) -> Result<T, AviP2pError> {
        let id = self.command(command);
        self.reply(id).expect("no answer at once")
    }

    pub(super) fn connected(&mut self, connection: u64, n: u16, direction: Direction) {
        let (connection, peer, address) = (ConnectionId(connection), peer(n), address(n));
        self.net(NetEvent::Connected { connection, peer, address, direction });
    }

    pub(super) fn disconnected(&mut self, connection: u64, n: u16) {
        self.net(NetEvent::Disconnected { connection: ConnectionId(connection), peer: peer(n) });
    }

    pub(super) fn identified(&mut self, n: u16, addresses: &[&str]) {
        self.identified_on(n.into(), n, addresses);
    }

    pub(super) fn identified_on(&mut self, connection: u64, n: u16, addresses: &[&str]) {
        let connection = ConnectionId(connection);
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        self.net(NetEvent::Identified { connection, peer: peer(n), name: format!("node {n}"), addresses });
    }

    pub(super) fn discovered(&mut self, n: u16) {
        self.discovered_at(n, &[&address(n)]);
    }

    pub(super) fn discovered_at(&mut self, n: u16, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        self.net(NetEvent::Discovered { peer: peer(n), addresses, source: DiscoverySource::Mdns });
    }

    pub(super) fn dial_failed(&mut self, dial: DialId) {
        self.net(NetEvent::DialFailed { dial, failure: DialFailure::Unreachable("nobody there".to_owned()) });
    }

    /// `peer(n)` opens a substream on `ConnectionId(1)`.
    pub(super) fn offered(&mut self, substream: u64, n: u16) -> SubstreamId {
        let substream = SubstreamId(substream);
        self.net(NetEvent::SubstreamOffered { substream, peer: peer(n), connection: ConnectionId(1) });
        substream
    }

    /// The other end of a substream sends these frames, in one piece.
    pub(super) fn received(&mut self, substream: SubstreamId, frames: &[Frame]) {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        self.net(NetEvent::Received { substream, bytes: bytes.freeze() });
    }

    /// Advances the time, through every deadline on the way.
    pub(super) fn wait(&mut self, duration: Duration) {
        self.advance_to(self.now + duration);
    }

    pub(super) fn advance_to(&mut self, time: Time) {
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 100_000, "a livelock");
            let deadline = self.due().filter(|deadline| *deadline <= time);
            let has_pongs = self.has_pongs && !self.connections.is_empty() && !self.contract.has_stopped();
            let are_pongs_next = deadline.map_or(self.next_pongs <= time, |deadline| self.next_pongs < deadline);
            if has_pongs && are_pongs_next {
                self.now = self.now.max(self.next_pongs);
                self.next_pongs = self.now + PING_INTERVAL;
                self.pongs();
            } else if let Some(deadline) = deadline {
                self.now = deadline;
                self.time_out();
            } else {
                break;
            }
        }
        self.now = time;
    }

    /// Every peer answers a ping.
    fn pongs(&mut self) {
        for (connection, peer) in self.connections.clone() {
            if !self.mute.contains(&connection) {
                self.net(NetEvent::Pong { connection, peer, rtt: millis(7) });
            }
        }
    }

    /// Calls the engine's timeout.
    pub(super) fn time_out(&mut self) {
        self.tell_wall_time();
        self.engine.handle_timeout(self.now);
        self.drain();
    }

    /// Advances to the next deadline. Returns the time passed.
    pub(super) fn step(&mut self) -> Duration {
        let deadline = self.deadline().expect("no deadline");
        let waited = deadline - self.now;
        self.advance_to(deadline);
        waited
    }

    // Outputs.

    /// The engine's next deadline.
    pub(super) fn due(&self) -> Option<Time> {
        self.engine.next_deadline()
    }

    pub(super) fn reply<T: Value>(&mut self, id: CommandId<T>) -> Option<Result<T, AviP2pError>> {
        self.replies.remove(&id.number()).map(T::of)
    }

    /// The engine, for queries.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// As [`due`](Self::due), but without the permanent ones: heartbeats, and checks of silent peers.
    pub(super) fn deadline(&self) -> Option<Time> {
        let Engine { peers, topics, streams, walks, records, retries, .. } = &*self.engine;
        let machines = [
            peers.next_deadline(),
            topics.next_deadline(),
            streams.next_deadline(),
            walks.next_deadline(),
            records.next_deadline(),
            retries.next_deadline(),
        ];
        let phase = match self.engine.phase {
            Phase::Goodbye { began, .. } | Phase::Linger { began, .. } => Some(began),
            Phase::Disconnecting { until, .. } => Some(until),
            Phase::Running | Phase::Stopped => None,
        };
        machines.into_iter().chain([phase]).flatten().min().filter(|_| self.due().is_some())
    }

    pub(super) fn events(&self) -> &[AviEvent] {
        &self.events
    }

    pub(super) fn take_events(&mut self) -> Vec<AviEvent> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn take_actions(&mut self) -> Vec<NetAction> {
        self.actions.drain(..).collect()
    }

    pub(super) fn take_dials(&mut self) -> Vec<(DialId, Vec<String>)> {
        let dial = |action| match action {
            NetAction::Dial { dial, addresses, .. } => Some((dial, addresses)),
            _ => None,
        };
        self.take_actions().into_iter().filter_map(dial).collect()
    }

    /// The frames written to a substream since the last call, without RESUMABLE. Every write is taken at once.
    pub(super) fn written(&mut self, substream: SubstreamId) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(at) = self
            .actions
            .iter()
            .position(|action| matches!(action, NetAction::Write { substream: to, .. } if *to == substream))
        {
            if let Some(NetAction::Write { mut bytes, .. }) = self.actions.remove(at) {
                let decoder = self.decoders.entry(substream).or_insert_with(|| Decoder::new(1 << 21));
                frames.extend(std::iter::from_fn(|| decoder.decode(&mut bytes).expect("malformed frames")));
            }
            self.net(NetEvent::Writable { substream });
        }
        frames.retain(|frame| match frame {
            Frame::Resumable { token } => {
                self.tokens.insert(substream, *token);
                false
            }
            _ => true,
        });
        frames
    }

    /// What was recorded so far.
    pub(super) fn recording(&self) -> Vec<u8> {
        self.engine.recording().expect("it is recorded")
    }

    pub(super) fn stats(&self) -> Stats {
        self.engine.stats().expect("the node has stopped")
    }

    pub(super) fn peer_info(&self, n: u16) -> Option<PeerInfo> {
        match self.engine.peer_info(self.now, &peer(n)) {
            Ok(info) => Some(info),
            Err(AviP2pError::PeerNotFound(_)) => None,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn request(&mut self, peer: &PeerId, options: StreamOptions) -> Result<StreamId, AviP2pError> {
        self.ask(|id| Command::RequestStream { id, peer: peer.clone(), options })
    }

    pub(super) fn publish(&mut self, topic: &str, data: &[u8]) -> CommandId<Published> {
        self.command(|id| Command::Publish { id, topic: topic.to_owned(), data: Bytes::copy_from_slice(data) })
    }

    fn handle(&mut self, input: Input) {
        self.contract.on_input(&input);
        match &input {
            Input::Net(NetEvent::Connected { connection, peer, .. }) => {
                self.connections.insert(*connection, peer.clone());
            }
            Input::Net(NetEvent::Disconnected { connection, .. }) => drop(self.connections.remove(connection)),
            _ => {}
        }
        self.tell_wall_time();
        self.engine.handle(self.now, input);
        self.drain();
        Contract::assert_nothing_is_missed(&mut self.engine, self.now);
    }

    fn tell_wall_time(&mut self) {
        #[cfg(feature = "context")]
        self.engine.set_wall_time(self.now, self.unix_millis + self.now.as_micros() / 1000);
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.contract.on_output(&output);
            self.trace.push((self.now, output.clone()));
            match output {
                Output::Reply(reply) => drop(self.replies.insert(reply.number(), reply)),
                Output::Event(event) => self.events.push(event),
                Output::Audio { from, stream_id, frame } => {
                    self.events.extend(AviEvent::of_audio(from, stream_id, frame));
                }
                Output::Net(NetAction::Admit { admission }) => self.admission = Some(admission),
                Output::Net(NetAction::Grant { peer, bytes }) => self.grants.push((peer, bytes)),
                Output::Net(NetAction::Heartbeat) => self.heartbeats.push(self.now),
                Output::Net(action) => {
                    if action == NetAction::DisconnectAll {
                        self.admission = None;
                    }
                    self.actions.push_back(action);
                }
                #[cfg(feature = "context")]
                Output::SaveContext { bytes } => self.saved.push((self.now, bytes)),
                Output::Stopped => {}
            }
        }
        let deadline = self.due();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "{deadline:?} is due at {:?}", self.now);
        assert!(!self.contract.has_stopped() || deadline.is_none(), "a deadline after Stopped");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.command(|id| Command::Shutdown { id });
            self.wait(secs(2));
            self.contract.assert_settled();
            assert_replays(&self.engine);
        }
    }
}

#[test]
fn peer_ids_of_the_tests_are_valid_and_in_order() {
    assert!((0..1000).all(|n| peer(n).check().is_ok() && peer(n) < peer(n + 1)));
}
