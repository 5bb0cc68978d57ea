//! The contract of an engine, checked on all its inputs and outputs.

use std::collections::{BTreeMap, BTreeSet};

use avi_p2p_proto::config::AviP2pConfig;
use avi_p2p_proto::context::MAX_FRAME_BYTES;
use avi_p2p_proto::engine::{
    AskId, Command, ConnectionId, DatagramId, DialId, Direction, ExchangeId, Input, MAX_DATAGRAM_BYTES, NetAction,
    NetEvent, Output, PublishId, PublishOutcome, Reply, SubstreamId, Time,
};
use avi_p2p_proto::event::{AviEvent, DiscoverySource};
use avi_p2p_proto::id::{PeerId, StreamId};
use avi_p2p_proto::recording::Recorded;
use avi_p2p_proto::stats::Stats;

const CONTEXT_TOPIC: &str = "/avi/context/1";
/// A peer that has gone while it was asked is not waited for, though the network tells of it later.
const MAX_ASKING: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Contract {
    max_peers: usize,
    max_audio_streams: usize,
    held_messages: usize,
    known_peers: usize,
    concurrent_dials: usize,
    /// Whether the network never reuses an id. If it does, the engine's actions on that id are not checked.
    has_honest_ids: bool,
    /// Commands that have no reply yet, by their numbers.
    owed: BTreeMap<u64, Command>,
    streams: BTreeMap<StreamId, Heard>,
    connected: BTreeSet<PeerId>,
    dials: BTreeMap<DialId, Option<PeerId>>,
    /// The open connections, their peers, and whether each was told to close.
    connections: BTreeMap<ConnectionId, (PeerId, bool)>,
    /// The peers to whom everything but audio was limited.
    limited: BTreeSet<PeerId>,
    /// Heartbeats that may still be ordered for past events.
    heartbeats: u32,
    /// Whether listeners are missing, without a retry since. The next field is the same for mDNS.
    are_listeners_missing: bool,
    is_mdns_missing: bool,
    opening: BTreeMap<StreamId, ConnectionId>,
    substreams: BTreeMap<SubstreamId, Substream>,
    are_datagrams_on: bool,
    /// The ids whose datagrams the engine wants.
    expected: BTreeSet<DatagramId>,
    /// Publishes given to the network whose result is pending.
    publishes: BTreeSet<PublishId>,
    /// Messages of the shared context, which are no messages of the application.
    of_context: BTreeSet<PublishId>,
    has_context: bool,
    /// Requests of the shared context: to peers, and of peers.
    asking: BTreeSet<ExchangeId>,
    asked: BTreeSet<AskId>,
    accounts: Accounts,
    stopping: bool,
    stopped: bool,
}

/// The counts of the application's messages.
#[derive(Clone, Copy, Debug, Default)]
struct Accounts {
    taken: u64,
    sent: u64,
    expired: u64,
}

/// The state of a stream as the application knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Asked,
    Accepted,
    Closed,
}

#[derive(Debug)]
struct Substream {
    connection: ConnectionId,
    writing: bool,
    finished: bool,
    heard_finish: bool,
}

/// Queries for tests.
#[cfg(test)]
impl Contract {
    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The number of substreams that the network holds for this node.
    pub(crate) fn substreams(&self) -> usize {
        self.substreams.len()
    }

    pub(crate) fn dials(&self) -> usize {
        self.dials.len()
    }
}

impl Contract {
    pub(crate) fn new(config: &AviP2pConfig) -> Self {
        Self {
            max_peers: config.max_peers,
            max_audio_streams: config.max_audio_streams,
            held_messages: config.limits.held_messages,
            known_peers: config.limits.known_peers + config.paired_peers.len(),
            concurrent_dials: config.limits.concurrent_dials,
            has_honest_ids: true,
            has_context: config.context.is_some(),
            ..Self::default()
        }
    }

    /// Allows the network to reuse ids.
    pub(crate) fn expect_reused_ids(&mut self) {
        self.has_honest_ids = false;
    }

    /// After an input and its outputs, checks that nothing was left undone: a timeout, which checks everything, must
    /// give no further output.
    pub(crate) fn assert_nothing_is_missed(engine: &mut Recorded, now: Time) {
        if engine.next_deadline().is_none_or(|deadline| deadline > now) {
            engine.handle_timeout(now);
            assert_eq!(engine.poll_output(), None, "an early timeout does something, or the input has missed it");
        }
    }

    /// Checks that the node has stopped and that nobody waits for it.
    pub(crate) fn assert_settled(&self) {
        assert!(self.stopped, "not stopped");
        assert!(self.owed.is_empty(), "no reply: {:?}", self.owed);
        assert!(self.asked.is_empty(), "no answer: {:?}", self.asked);
        let mut open = self.streams.iter().filter(|(_, heard)| **heard != Heard::Closed);
        assert_eq!(open.next(), None, "no AudioStreamClosed");
        let Accounts { taken, sent, expired } = self.accounts;
        assert_eq!(taken, sent + expired, "each message that was taken is sent or expires");
    }

    pub(crate) fn on_input(&mut self, input: &Input) {
        match input {
            Input::Command(command) => {
                self.stopping |= matches!(command, Command::Shutdown { .. });
                let before = self.owed.insert(command.number(), command.clone());
                assert_eq!(before, None, "the driver uses {} twice", command.number());
            }
            Input::Net(event) => self.on_event(event),
        }
    }

    fn on_event(&mut self, event: &NetEvent) {
        self.heartbeats = self.heartbeats.max(match event {
            NetEvent::PeerUnsubscribed { .. } => 14,
            NetEvent::Published { .. } | NetEvent::Message { .. } | NetEvent::MessageRefused => 5,
            NetEvent::Connected { .. }
            | NetEvent::Disconnected { .. }
            | NetEvent::PeerSubscribed { .. }
            | NetEvent::GossipActive => 2,
            _ => 0,
        });
        match event {
            NetEvent::Published { publish, .. } if self.of_context.remove(publish) => {}
            NetEvent::ContextAnswered { exchange, .. } => drop(self.asking.remove(exchange)),
            NetEvent::ContextAsked { ask, .. } if !self.stopped => {
                assert!(self.asked.insert(*ask), "the driver uses {ask:?} twice");
            }
            NetEvent::Published { publish, outcome } => {
                let is_awaited = self.publishes.remove(publish);
                self.accounts.sent += u64::from(is_awaited && *outcome == PublishOutcome::Sent && !self.stopped);
            }
            NetEvent::Connected { connection, peer, direction, .. } => {
                self.connections.insert(*connection, (peer.clone(), false));
                if let Direction::Outbound(dial) = direction {
                    self.dials.remove(dial);
                }
            }
            NetEvent::DialFailed { dial, .. } => drop(self.dials.remove(dial)),
            NetEvent::ListenersMissing => self.are_listeners_missing = true,
            NetEvent::DatagramsOn { .. } => self.are_datagrams_on = true,
            NetEvent::DatagramsOff { .. } => self.are_datagrams_on = false,
            NetEvent::DiscoveryUnavailable { source: DiscoverySource::Mdns, .. } => self.is_mdns_missing = true,
            NetEvent::DiscoveryAvailable { source: DiscoverySource::Mdns } => self.is_mdns_missing = false,
            NetEvent::Disconnected { connection, peer } => {
                // An event that names another peer does not remove the connection.
                self.connections.retain(|other, (to, _)| other != connection || to != peer);
                self.substreams.retain(|_, substream| substream.connection != *connection);
                self.opening.retain(|_, on| on != connection);
            }
            NetEvent::SubstreamOpened { stream, substream } => {
                let connection = self.opening.remove(stream).unwrap_or(ConnectionId(u64::MAX));
                self.open(*substream, connection);
            }
            NetEvent::SubstreamFailed { stream, .. } => {
                self.opening.remove(stream);
            }
            NetEvent::SubstreamOffered { substream, connection, .. } => self.open(*substream, *connection),
            NetEvent::Writable { substream } => {
                if let Some(substream) = self.substreams.get_mut(substream) {
                    substream.writing = false;
                }
                self.let_go();
            }
            NetEvent::Finished { substream } => {
                if let Some(substream) = self.substreams.get_mut(substream) {
                    substream.heard_finish = true;
                }
                self.let_go();
            }
            NetEvent::Broken { substream, .. } => {
                self.substreams.remove(substream);
            }
            _ => {}
        }
    }

    pub(crate) fn on_output(&mut self, output: &Output) {
        assert!(!self.stopped || matches!(output, Output::Reply(_)), "{output:?} after Stopped");
        match output {
            Output::Reply(reply) => self.on_reply(reply),
            Output::Event(event) => self.on_application_event(event),
            Output::Audio { stream_id, .. } => {
                assert_eq!(self.streams.get(stream_id), Some(&Heard::Accepted), "{output:?}");
            }
            Output::Net(action) => self.on_action(action),
            Output::SaveContext { .. } => assert!(self.has_context, "a file without a context"),
            Output::Stopped => self.stopped = true,
        }
    }

    fn on_reply(&mut self, reply: &Reply) {
        let command = self.owed.remove(&reply.number()).unwrap_or_else(|| panic!("a second reply: {reply:?}"));
        let is_of_its_kind = match command {
            Command::RequestStream { .. } => matches!(reply, Reply::Stream { .. }),
            Command::FindMorePeers { .. } => matches!(reply, Reply::Peers { .. }),
            Command::Publish { .. } => matches!(reply, Reply::Published { .. }),
            _ => matches!(reply, Reply::Done { .. }),
        };
        assert!(is_of_its_kind, "{reply:?} to {command:?}");
        match (command, reply) {
            (Command::Subscribe { .. }, Reply::Done { result: Ok(()), .. }) => self.heartbeats = self.heartbeats.max(2),
            (Command::Unsubscribe { .. }, Reply::Done { result: Ok(()), .. }) => {
                self.heartbeats = self.heartbeats.max(14);
            }
            (_, Reply::Stream { result: Ok(stream), .. }) => {
                assert_eq!(self.streams.insert(*stream, Heard::Asked), None, "{stream:?} given twice");
            }
            (Command::AcceptStream { stream, .. }, Reply::Done { result: Ok(()), .. }) => self.accept(stream),
            (_, Reply::Published { result: Ok(_), .. }) => self.accounts.taken += 1,
            _ => {}
        }
    }

    /// Compares the engine's statistics with the outputs seen.
    pub(crate) fn on_stats(&self, stats: &Stats) {
        assert!(stats.streams_now <= self.max_audio_streams as u64, "{} streams", stats.streams_now);
        assert!(stats.messages_held_now <= self.held_messages as u64, "{} held", stats.messages_held_now);
        assert_eq!(stats.peers_connected, self.connected.len() as u64, "the application knows who is there");
        // A connected peer is always remembered.
        let known = stats.peers_known.saturating_sub(stats.peers_connected);
        assert!(known <= self.known_peers as u64, "{known} peers known");
    }

    fn on_application_event(&mut self, event: &AviEvent) {
        match event {
            AviEvent::PeerConnected { peer_id, .. } => {
                assert!(self.connected.insert(peer_id.clone()), "{event:?} twice");
            }
            AviEvent::PeerDisconnected { peer_id } => assert!(self.connected.remove(peer_id), "{event:?} from nowhere"),
            AviEvent::AudioStreamRequested { stream_id, .. } => {
                assert_eq!(self.streams.insert(*stream_id, Heard::Asked), None, "{event:?} twice");
            }
            AviEvent::AudioStreamAccepted { stream_id, .. } => self.accept(*stream_id),
            AviEvent::AudioData { .. } => panic!("audio is an output of its own: {event:?}"),
            AviEvent::AudioGap { stream_id, .. } => {
                assert_eq!(self.streams.get(stream_id), Some(&Heard::Accepted), "{event:?}");
            }
            AviEvent::AudioStreamClosed { stream_id, .. } => {
                let before = self.streams.insert(*stream_id, Heard::Closed);
                assert!(matches!(before, Some(Heard::Asked | Heard::Accepted)), "{event:?} after {before:?}");
            }
            AviEvent::PublishExpired { .. } => self.accounts.expired += 1,
            _ => {}
        }
    }

    fn on_action(&mut self, action: &NetAction) {
        match action {
            NetAction::Publish { publish, topic, .. } if topic.as_str() == CONTEXT_TOPIC => {
                assert!(
                    self.has_context && self.of_context.insert(*publish),
                    "{publish:?} twice, or without a context"
                );
            }
            NetAction::AskContext { exchange, peer, request } => {
                assert!(self.has_context && self.connected.contains(peer), "{action:?} to nobody");
                assert!(self.asking.insert(*exchange), "{exchange:?} twice");
                assert!(self.asking.len() <= MAX_ASKING, "{} requests at a time", self.asking.len());
                assert!(request.len() <= MAX_FRAME_BYTES, "{action:?} is too long");
            }
            NetAction::AnswerContext { ask, response } => {
                assert!(self.asked.remove(ask), "{action:?} to nobody");
                assert!(response.as_ref().is_none_or(|bytes| bytes.len() <= MAX_FRAME_BYTES), "{action:?} is too long");
            }
            NetAction::Publish { publish, .. } => assert!(self.publishes.insert(*publish), "{publish:?} twice"),
            NetAction::Dial { dial, peer, .. } => {
                assert!(self.dials.insert(*dial, peer.clone()).is_none(), "{dial:?} twice");
                assert!(self.dials.len() <= self.concurrent_dials, "{} dials at a time", self.dials.len());
                // A peer whose connection is replaced has a place.
                let has_place = |peer: &Option<PeerId>| peer.as_ref().is_some_and(|peer| self.connected.contains(peer));
                let newcomers = self.dials.values().filter(|peer| !has_place(peer)).count();
                let connected = self.connected.len();
                assert!(connected + newcomers <= self.max_peers, "{connected} connected, {newcomers} dials");
            }
            NetAction::Heartbeat => {
                assert!(self.heartbeats > 0, "a heartbeat, and nothing has happened");
                self.heartbeats -= 1;
            }
            NetAction::RetryListeners => {
                assert!(std::mem::take(&mut self.are_listeners_missing), "a retry of listeners that are there");
            }
            NetAction::RetryDiscovery { .. } => {
                assert!(std::mem::take(&mut self.is_mdns_missing), "a retry of mDNS, which works");
            }
            NetAction::SendDatagram { bytes, .. } => {
                assert!(self.are_datagrams_on, "a datagram without a socket");
                assert!(bytes.len() <= MAX_DATAGRAM_BYTES, "a datagram of {} bytes", bytes.len());
            }
            NetAction::ExpectDatagrams { id } => {
                assert!(self.expected.insert(*id), "{action:?} twice");
                assert!(self.expected.len() <= self.max_audio_streams, "more ids than streams");
            }
            NetAction::ForgetDatagrams { id } => assert!(self.expected.remove(id), "{action:?}, never expected"),
            NetAction::Grant { peer, bytes: Some(bytes) } => {
                assert!(*bytes > 0, "pings and control messages always get through");
                self.limited.insert(peer.clone());
            }
            NetAction::Grant { peer, bytes: None } => {
                assert!(self.limited.remove(peer), "{action:?} of a peer without a limit");
            }
            _ if !self.has_honest_ids => {}
            NetAction::Disconnect { connection } => {
                let at = self.connections.get_mut(connection);
                at.unwrap_or_else(|| panic!("{action:?} of a connection that is gone")).1 = true;
            }
            NetAction::Retire { connection } | NetAction::Probe { connection } | NetAction::Flush { connection } => {
                let is_there = self.connections.contains_key(connection);
                assert!(is_there, "{action:?} of a connection that is gone");
            }
            NetAction::Abort { connection } => {
                let is_ending = self.connections.get(connection).is_some_and(|(_, is_ending)| *is_ending);
                assert!(is_ending, "{action:?} of a connection that was not told to end");
            }
            NetAction::CheckAlive { connection } => {
                let is_ending = self.connections.get(connection).is_none_or(|(_, is_ending)| *is_ending);
                assert!(!is_ending, "{action:?} of a connection that is gone or was told to end");
            }
            NetAction::OpenSubstream { stream, connection } => {
                assert!(self.connections.contains_key(connection), "{action:?} on a connection that is gone");
                self.opening.insert(*stream, *connection);
            }
            NetAction::Write { substream, bytes } => {
                let at = self.substream(*substream, action);
                assert!(!at.writing && !at.finished && !bytes.is_empty(), "{action:?} on {at:?}");
                at.writing = true;
            }
            NetAction::Finish { substream } => {
                let at = self.substream(*substream, action);
                assert!(!at.finished, "{action:?} twice");
                at.finished = true;
                self.let_go();
            }
            NetAction::Reset { substream } => {
                self.substream(*substream, action);
                self.substreams.remove(substream);
            }
            _ => {}
        }
    }

    fn accept(&mut self, stream: StreamId) {
        assert_eq!(self.streams.insert(stream, Heard::Accepted), Some(Heard::Asked), "{stream:?} accepted");
    }

    fn open(&mut self, id: SubstreamId, connection: ConnectionId) {
        let fresh = Substream { connection, writing: false, finished: false, heard_finish: false };
        let before = self.substreams.insert(id, fresh);
        assert!(!self.has_honest_ids || before.is_none(), "the driver uses {id:?} twice");
    }

    fn substream(&mut self, id: SubstreamId, action: &NetAction) -> &mut Substream {
        self.substreams.get_mut(&id).unwrap_or_else(|| panic!("{action:?} on a substream that is gone"))
    }

    fn let_go(&mut self) {
        self.substreams.retain(|_, at| !(at.finished && at.heard_finish && !at.writing));
    }
}
