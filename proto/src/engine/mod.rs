//! The engine: everything a node decides, as state transitions without a clock, randomness, tasks or sockets.
//!
//! # Driving it
//!
//! 1. Feed it: [`Engine::handle`] for a command or a network event, [`Engine::handle_timeout`] when
//!    [`Engine::next_deadline`] has come. `now` never goes back.
//! 2. Drain it: [`Engine::poll_output`] until `None`, after every `handle*`. Carry the outputs out in that order.
//! 3. Ask for [`Engine::next_deadline`], and wait for that, a command or a network event.
//!
//! Every command gets exactly one reply. Questions ([`Engine::stats`] and its like) are plain calls, at any time.
//! [`Output::Stopped`] is the last output, but for the replies to commands that come after it.
//!
//! The same seed and the same inputs at the same times give the same outputs.

mod address;
mod admission;
mod bulk;
mod closing;
mod command;
#[cfg(feature = "context")]
mod context;
mod datagrams;
mod dials;
mod doubles;
#[cfg(feature = "recorder")]
mod drawn;
mod heartbeat;
#[cfg(feature = "recorder")]
mod inspect;
mod io;
mod keep;
mod liveness;
mod mailbox;
mod outbox;
mod peer;
mod peers;
mod records;
mod resume;
mod retries;
mod rng;
mod stream;
mod streams;
#[cfg(test)]
mod tests;
mod time;
mod topics;
mod tracked;
mod upkeep;
mod walks;

use std::collections::BTreeMap;
use std::time::Duration;

#[cfg(feature = "context")]
pub use crate::context::ContextWrite;
pub use crate::id::Topic;
pub use address::ip_of;
pub use admission::{Admission, Count, Refusal};
pub use command::{Command, CommandId, Reply};
#[cfg(feature = "context")]
pub use context::ContextStart;
#[cfg(feature = "recorder")]
pub(crate) use drawn::Taken;
#[cfg(feature = "recorder")]
pub(crate) use inspect::Place;
#[cfg(feature = "context")]
pub use io::{AskId, ExchangeId};
pub use io::{
    ConnectionId, DatagramId, DialFailure, DialId, Direction, Input, MAX_DATAGRAM_BYTES, NetAction, NetEvent, Output,
    PublishId, PublishOutcome, SubstreamId,
};
pub use liveness::{PING_INTERVAL, PING_TIMEOUT};
pub use mailbox::{Lag, Mailbox};
pub use time::Time;
#[cfg(all(feature = "recorder", feature = "context"))]
pub(crate) use topics::CONTEXT_TOPIC;

use crate::config::AviP2pConfig;
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::id::{PeerId, StreamId};
use crate::media::StreamOptions;
use crate::path::Secrets;
use crate::situation::{Situation, reached};
use crate::stats::{AudioStats, PeerInfo, Stats};
use admission::Access;
use bulk::Bulk;
use closing::Closing;
use doubles::Doubles;
use heartbeat::{BEATS_AFTER_ALL, BEATS_AFTER_LEAVING, Heartbeat};
use liveness::{Life, Liveness};
use outbox::Outbox;
use peers::Peers;
use records::Records;
use retries::Retries;
use rng::Rng;
use streams::{Acked, Streams};
use topics::Topics;
use tracked::Tracked;
use walks::Walks;

/// How long the other ends of streams have to receive CLOSE.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// What was published so long before the shutdown has arrived, or is told as lost: pongs show that.
const RECENT: Duration = Duration::from_secs(15);
/// How long the shutdown waits for recent messages to arrive, from its begin.
const FLUSHED_WITHIN: Duration = Duration::from_millis(1500);
/// How long connections have to close.
const DISCONNECT_WITHIN: Duration = Duration::from_millis(500);

/// The phase of a node's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
enum Phase {
    /// Next: `Goodbye`.
    Running,
    /// Streams are being closed, and the last messages are being sent. Next: `Linger`.
    Goodbye { shutdown: CommandId, began: Time },
    /// The last messages are being sent. Next: `Disconnecting`.
    Linger { shutdown: CommandId, began: Time },
    /// Connections are being closed. Next: `Stopped`.
    Disconnecting { shutdown: CommandId, until: Time },
    /// The node has stopped.
    Stopped,
}

/// The decisions of a node. See the [module](self) for how to drive it.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Engine {
    phase: Phase,
    local: PeerId,
    listening: Option<Vec<String>>,
    last_publish: Option<Time>,
    /// The connections on which the last messages may not have arrived, during the shutdown.
    flushing: BTreeMap<ConnectionId, PeerId>,
    peers: Tracked<Peers>,
    topics: Topics,
    streams: Streams,
    bulk: Bulk,
    walks: Walks,
    liveness: Liveness,
    closing: Closing,
    records: Records,
    retries: Retries,
    heartbeat: Heartbeat,
    doubles: Doubles,
    #[cfg(feature = "context")]
    context: Option<Box<context::SharedContext>>,
    out: Outbox,
}

impl Engine {
    /// An engine at [`Time::ZERO`]. The configuration has been [validated](AviP2pConfig::validate); `seed` is for
    /// jitter, walks, tokens, and the keys of datagrams: it must come from the operating system's generator, and must not be
    /// kept elsewhere.
    pub fn new(config: &AviP2pConfig, local: PeerId, seed: [u8; 32]) -> Self {
        // Nothing that lives on can be rewound to the keys.
        let mut first = Rng::new(seed);
        let secrets = Secrets::new(first.key());
        let mut rng = Rng::new(first.key());
        #[cfg(feature = "context")]
        let of_context = Rng::new(first.key());
        let walks = Walks::new(config, Rng::new(rng.key()));
        let streams = Streams::new(config, Rng::new(rng.key()), secrets);
        let mut engine = Self {
            phase: Phase::Running,
            listening: None,
            last_publish: None,
            flushing: BTreeMap::new(),
            peers: Tracked::new(Peers::new(config, local.clone(), rng)),
            topics: Topics::new(config, local.clone()),
            local,
            streams,
            bulk: Bulk::new(),
            walks,
            liveness: Liveness::new(),
            closing: Closing::new(),
            records: Records::new(&config.limits),
            retries: Retries::new(),
            heartbeat: Heartbeat::default(),
            doubles: Doubles::default(),
            #[cfg(feature = "context")]
            context: None,
            out: Outbox::default(),
        };
        #[cfg(feature = "context")]
        let context = context::SharedContext::new(config, &engine.local, of_context, &mut engine.out);
        #[cfg(feature = "context")]
        {
            engine.context = context.map(Box::new);
        }
        engine.advance(Time::ZERO, true);
        engine
    }

    /// Handles an input. It never fails: a peer's fault becomes an action or an event, a caller's fault becomes a
    /// reply.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Command(command) => self.handle_command(now, command),
            Input::Net(_) if self.phase == Phase::Stopped => {}
            Input::Net(event) => self.handle_net(now, event),
        }
        self.topics.handle_timeout(now, &mut self.out);
        #[cfg(feature = "context")]
        self.begin_context_exchanges(now);
        // Most inputs, such as audio, change nothing that decides about dials and disconnects.
        let has_changed = self.peers.has_changed() || self.streams.has_released();
        self.advance(now, has_changed);
    }

    /// Does the work that is due. Early and repeated calls do nothing.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.phase == Phase::Stopped {
            return;
        }
        self.keep_up(now);
        self.peers.handle_timeout(now);
        while let Some(peer) = self.peers.pop_doubled(now) {
            self.keep_one(now, &peer);
        }
        if self.peers.is_room_due(now) {
            self.make_room(now);
        }
        self.topics.handle_timeout(now, &mut self.out);
        self.streams.handle_timeout(now, &mut self.out);
        let streams = &self.streams;
        self.bulk.handle_timeout(now, |peer| streams.speaks_to(now, peer), &mut self.out);
        self.walks.handle_timeout(now, self.peers.wants_more(), &mut self.out);
        #[cfg(feature = "context")]
        self.handle_context_timeout(now);
        // Always checks everything. An early call in a test thus shows work that an input has left undone.
        self.advance(now, true);
    }

    /// The next output to carry out. Drain until `None` after every `handle*`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop()
    }

    /// The time at which [`Engine::handle_timeout`] must be called.
    pub fn next_deadline(&self) -> Option<Time> {
        let phase = match self.phase {
            Phase::Running => None,
            Phase::Goodbye { began, .. } => Some(began + GOODBYE_WITHIN),
            Phase::Linger { began, .. } => Some(began + FLUSHED_WITHIN),
            Phase::Disconnecting { until, .. } => Some(until),
            Phase::Stopped => return None,
        };
        let machines = [
            self.peers.next_deadline(),
            self.topics.next_deadline(),
            self.streams.next_deadline(),
            self.bulk.next_deadline(),
            self.walks.next_deadline(),
            self.liveness.next_deadline(),
            self.closing.next_deadline(),
            self.records.next_deadline(),
            self.retries.next_deadline(),
            self.heartbeat.next_deadline(),
            #[cfg(feature = "context")]
            self.context.as_ref().and_then(|context| context.next_deadline()),
        ];
        machines.into_iter().chain([phase]).flatten().min()
    }

    /// Takes all draws from another seed from now on. Keys that were drawn stay. For simulations that follow several futures
    /// of one past.
    pub fn reseed(&mut self, seed: [u8; 32]) {
        let mut first = Rng::new(seed);
        self.peers.rng = Rng::new(first.key());
        self.walks.rng = Rng::new(first.key());
        self.streams.tokens = Rng::new(first.key());
        #[cfg(feature = "context")]
        if let Some(context) = &mut self.context {
            context.rng = Rng::new(first.key());
        }
    }

    // Queries: they only read.

    /// The addresses that the node listens on, in order.
    ///
    /// # Errors
    /// [`AviP2pError::ChannelClosed`] from [`Command::Shutdown`] on, as with the other questions.
    pub fn listen_addresses(&self) -> Result<Vec<String>, AviP2pError> {
        self.check_running()?;
        Ok(self.listening.clone().unwrap_or_default())
    }

    /// The connected peers, ordered by id.
    ///
    /// # Errors
    /// [`AviP2pError::ChannelClosed`] alone.
    pub fn connected_peers(&self) -> Result<Vec<PeerId>, AviP2pError> {
        self.check_running()?;
        Ok(self.peers.connected().cloned().collect())
    }

    /// The known facts about a peer.
    ///
    /// # Errors
    /// [`AviP2pError::InvalidPeerId`]; [`AviP2pError::PeerNotFound`].
    pub fn peer_info(&self, now: Time, peer: &PeerId) -> Result<PeerInfo, AviP2pError> {
        self.check_running()?;
        peer.check()?;
        let mut info = self.peers.info(now, peer).ok_or_else(|| AviP2pError::PeerNotFound(peer.clone()))?;
        info.topics = self.topics.of_peer(peer);
        Ok(info)
    }

    /// The known peers with this name, the connected ones first.
    ///
    /// # Errors
    /// [`AviP2pError::ChannelClosed`] alone.
    pub fn find_peers(&self, name: &str) -> Result<Vec<PeerId>, AviP2pError> {
        self.check_running()?;
        Ok(self.peers.named(name))
    }

    /// The node's counters.
    ///
    /// # Errors
    /// [`AviP2pError::ChannelClosed`] alone.
    pub fn stats(&self) -> Result<Stats, AviP2pError> {
        self.check_running()?;
        let stats = Stats {
            peers_connected: self.peers.connected_count() as u64,
            peers_known: self.peers.known() as u64,
            mesh_peers: self.peers.mesh_count() as u64,
            retired_connections: self.peers.retired_count() as u64,
            messages_held_now: self.topics.held() as u64,
            streams_now: self.streams.count() as u64,
            ..self.out.stats.clone()
        };
        #[cfg(feature = "context")]
        let stats = self.context.iter().fold(stats, |stats, context| context.add_figures(stats));
        Ok(stats)
    }

    /// The figures of an audio stream, also of the 64 that ended last.
    ///
    /// # Errors
    /// [`AviP2pError::StreamNotFound`].
    pub fn audio_stats(&self, stream: StreamId) -> Result<AudioStats, AviP2pError> {
        self.check_running()?;
        self.streams.audio_stats(stream)
    }

    /// The UDP port at which this node receives datagrams, if it does.
    pub fn media_port(&self) -> Option<u16> {
        self.streams.port()
    }

    fn check_running(&self) -> Result<(), AviP2pError> {
        if self.phase == Phase::Running { Ok(()) } else { Err(AviP2pError::ChannelClosed) }
    }

    fn handle_command(&mut self, now: Time, command: Command) {
        tracing::trace!(?command, "command");
        if self.phase != Phase::Running {
            return self.out.reply(command.refused(AviP2pError::ChannelClosed));
        }
        let out = &mut self.out;
        let (id, result) = match command {
            Command::Subscribe { id, topic } => {
                let result = self.topics.subscribe(&topic, out);
                (id, result.inspect(|()| self.heartbeat.want(now, BEATS_AFTER_ALL)))
            }
            Command::Unsubscribe { id, topic } => {
                let result = self.topics.unsubscribe(&topic, out);
                (id, result.inspect(|()| self.heartbeat.want(now, BEATS_AFTER_LEAVING)))
            }
            Command::Publish { id, topic, data } => {
                self.last_publish = Some(now);
                return self.topics.publish(now, id, &topic, data, out);
            }
            Command::RequestStream { id, peer, options } => {
                let result = peer.check().and_then(|()| self.request_stream(now, peer, options));
                return self.out.reply(Reply::Stream { id, result });
            }
            Command::SetAllowed { id, peer, is_allowed } => {
                (id, self.set_access(now, &peer, |access, peer| access.set_allowed(peer, is_allowed)))
            }
            Command::SetBlocked { id, peer, is_blocked } => {
                (id, self.set_access(now, &peer, |access, peer| access.set_blocked(peer, is_blocked)))
            }
            Command::AcceptStream { id, stream } => (id, self.streams.accept(now, stream, out)),
            Command::RejectStream { id, stream, reason } => (id, self.streams.reject(now, stream, reason, out)),
            Command::SendAudio { id, stream, data } => {
                let result = self.streams.send(now, stream, data, out);
                if let Some(peer) = self.streams.take_talk() {
                    self.bulk.begin(now, &peer, out);
                }
                (id, result)
            }
            Command::CloseStream { id, stream } => (id, self.streams.close(now, stream, out)),
            Command::DiscoverPeers { id } => (id, self.walks.discover(now, out)),
            Command::FindMorePeers { id } => return self.walks.find_more(now, id, out),
            #[cfg(feature = "context")]
            Command::WriteContext { id, write } => return self.write_context(now, id, &write),
            Command::Shutdown { id } => return self.begin_shutdown(now, id),
        };
        self.out.done(id, result);
    }

    fn request_stream(&mut self, now: Time, peer: PeerId, options: StreamOptions) -> Result<StreamId, AviP2pError> {
        if let Some(reason) = self.peers.objection(&peer) {
            return Err(AviP2pError::PeerRefused { peer_id: peer, reason });
        }
        let connection = self.peers.connection(&peer);
        if connection.is_none() && !self.peers.can_be_reached(&peer) {
            return Err(AviP2pError::PeerNotFound(peer));
        }
        let stream = self.streams.request(now, peer.clone(), connection, options, &mut self.out)?;
        if connection.is_none() {
            self.peers.want(&peer);
        }
        Ok(stream)
    }

    fn set_access(
        &mut self,
        now: Time,
        peer: &PeerId,
        set: impl FnOnce(&mut Access, &PeerId) -> Result<(), AviP2pError>,
    ) -> Result<(), AviP2pError> {
        peer.check()?;
        let connections = self.peers.set_access(peer, set, &mut self.out)?;
        if !self.peers.admits(peer) {
            self.streams.on_unreachable(peer, "it may not come in", &mut self.out);
            self.streams.on_kept_out(now, peer, &mut self.out);
        }
        self.out.stats.peers_refused += connections.len() as u64;
        self.disconnect(now, connections);
        Ok(())
    }

    fn handle_net(&mut self, now: Time, event: NetEvent) {
        tracing::trace!(?event, "network");
        self.want_heartbeats(now, &event);
        let out = &mut self.out;
        match event {
            NetEvent::Listening { addresses } => self.on_listening(now, addresses),
            NetEvent::Discovered { peer, addresses, source } => self.peers.on_discovered(peer, addresses, source, out),
            NetEvent::Announced { peer, addresses } => self.on_announced(now, peer, addresses),
            NetEvent::MdnsIgnored { addresses } => out.stats.mdns_ignored += addresses,
            NetEvent::DiscoveryUnavailable { source, reason } => {
                self.retries.on_unavailable(now, source, reason, out);
            }
            NetEvent::DiscoveryAvailable { source } => self.retries.on_available(source),
            NetEvent::InterfacesChanged => {
                self.retries.on_interfaces_changed();
                self.streams.on_interfaces_changed(now, out);
                self.doubt_connections(now);
            }
            NetEvent::ListenersMissing => self.retries.on_listeners_missing(now),
            NetEvent::DatagramsOn { port } => self.streams.on_port(now, Some(port), out),
            NetEvent::DatagramsOff { reason } => {
                tracing::debug!(reason, "no datagrams");
                self.streams.on_port(now, None, out);
            }
            NetEvent::Datagram { from, bytes } => {
                self.streams.on_datagram(now, from, bytes, out);
                self.tell_bulk(now);
            }
            NetEvent::DatagramDropped { to } => {
                out.stats.datagrams_dropped += 1;
                self.streams.on_datagram_dropped(now, to, out);
            }
            NetEvent::DatagramsIgnored { count } => {
                out.stats.datagrams_ignored = out.stats.datagrams_ignored.saturating_add(count);
            }
            NetEvent::WalkEnded { result } => {
                self.walks.on_ended(now, result.map_err(AviP2pError::NetworkError), out);
            }
            NetEvent::Connected { connection, peer, address, direction } => {
                self.on_connected(now, connection, peer, address, direction);
            }
            NetEvent::Disconnected { connection, peer } => self.on_disconnected(now, connection, peer),
            NetEvent::DialFailed { dial, failure } => {
                let listening = self.listening.as_deref().unwrap_or_default();
                match &failure {
                    DialFailure::Myself => self.doubles.on_myself(now),
                    DialFailure::WrongPeer { address, obtained } if *obtained == self.local => {
                        self.doubles.on_answered_as_self(now, address, listening, out);
                    }
                    _ => {}
                }
                if let Some((peer, reason)) = self.peers.on_dial_failed(now, dial, failure, out) {
                    self.streams.on_unreachable(&peer, &reason, out);
                    if self.streams.waits_for(&peer) {
                        self.peers.want_later(&peer);
                    }
                }
            }
            NetEvent::InboundRefused(refusal) => self.on_inbound_refused(now, refusal),
            NetEvent::AcceptFailed { reason } => self.retries.on_accept_failed(now, reason, out),
            NetEvent::InboundFailed => out.stats.inbound_failed += 1,
            NetEvent::Doubled { address } => {
                out.stats.inbound_failed += 1;
                self.doubles.on_dialled(now, &address, self.peers.is_dialling(), out);
            }
            NetEvent::Identified { connection, peer, name, addresses } => {
                let connections = self.peers.all_connections_to(&peer);
                self.doubles.on_identified(&peer, connection, &connections, &addresses, out);
                self.on_identified(now, peer, name, addresses);
            }
            NetEvent::Foreign { peer } => {
                if let Some(connections) = self.peers.on_foreign(now, &peer, out) {
                    tracing::debug!(%peer, "speaks no pub/sub of this node");
                    reached(Situation::PeerForeign);
                    self.out.stats.foreign_peers += 1;
                    self.disconnect(now, connections);
                }
            }
            NetEvent::Pong { connection, peer, rtt } => self.on_pong(now, connection, &peer, rtt),
            NetEvent::Answered { connection, peer } => self.on_answered(now, connection, &peer),
            NetEvent::PubSubOpened { connection } => {
                if let Some(peer) = self.peers.on_pub_sub_opened(now, connection) {
                    self.keep_one(now, &peer);
                }
            }
            NetEvent::Flushed { connection } => {
                if let Some(peer) = self.flushing.remove(&connection) {
                    self.peers.take_undelivered(&peer, connection, out.stats.messages_published);
                }
            }
            NetEvent::Progress { connection, silent_for } => {
                match self.liveness.on_progress(now, connection, silent_for) {
                    Life::Alive => {}
                    Life::Stuck => self.on_stuck(now, connection, silent_for),
                    Life::Silent => self.on_silent(now, connection),
                }
            }
            NetEvent::Deaf { connection } if self.liveness.expects(connection) => self.disconnect(now, [connection]),
            // The connection is being closed already.
            NetEvent::Deaf { .. } => {}
            NetEvent::CreditUsed { peer } => {
                self.bulk.on_used(now, &peer, self.streams.speaks_to(now, &peer), out);
            }
            // Heartbeats after an event are counted above.
            NetEvent::GossipActive => {}
            NetEvent::PeerRenewed { peer } => {
                self.topics.on_peer_gone(&peer);
                #[cfg(feature = "context")]
                self.context.iter_mut().for_each(|context| context.on_peer_left(&peer));
            }
            NetEvent::PeerSubscribed { peer, topic } => {
                if self.peers.is_connected(&peer) {
                    self.topics.on_peer_subscribed(peer.clone(), &topic, out);
                    #[cfg(feature = "context")]
                    self.on_context_peer(now, &peer, &topic);
                }
            }
            NetEvent::SubscriptionsIgnored { count } => {
                out.stats.subscriptions_ignored = out.stats.subscriptions_ignored.saturating_add(count);
            }
            NetEvent::PeerUnsubscribed { peer, topic } => {
                self.topics.on_peer_unsubscribed(&peer, &topic);
                #[cfg(feature = "context")]
                self.context
                    .iter_mut()
                    .filter(|_| topic == topics::CONTEXT_TOPIC)
                    .for_each(|all| all.on_peer_left(&peer));
            }
            NetEvent::Published { publish, outcome } => self.topics.on_published(now, publish, outcome, out),
            NetEvent::Message { from, .. } if self.peers.is_blocked(&from) => out.stats.messages_refused += 1,
            #[cfg(feature = "context")]
            NetEvent::Message { from, topic, data } if topic == topics::CONTEXT_TOPIC => {
                self.on_context_message(now, &from, data);
            }
            #[cfg(feature = "context")]
            NetEvent::ContextAnswered { exchange, result } => self.on_context_answered(now, exchange, result),
            #[cfg(feature = "context")]
            NetEvent::ContextAsked { ask, peer, request } => self.on_context_asked(now, ask, peer, request),
            NetEvent::Message { from, topic, data } => self.topics.on_message(from, topic, data, out),
            NetEvent::MessageRefused => out.stats.messages_refused += 1,
            NetEvent::SlowPeer { peer, dropped } => self.on_slow_peer(peer, dropped),
            NetEvent::MeshChanged { peers } => self.peers.on_mesh_changed(peers),
            NetEvent::Misbehaved { peer } => self.on_misbehaved(now, peer),
            NetEvent::SubstreamOpened { stream, substream } => self.streams.on_opened(now, stream, substream, out),
            NetEvent::SubstreamFailed { stream, reason } => self.streams.on_open_failed(now, stream, reason, out),
            NetEvent::SubstreamOffered { substream, .. } if self.phase != Phase::Running => {
                out.net(NetAction::Reset { substream });
            }
            NetEvent::SubstreamOffered { substream, peer, connection } => {
                self.streams.on_offered(now, substream, peer, connection, out);
            }
            NetEvent::Received { substream, bytes } => {
                self.streams.on_received(now, substream, bytes, out);
                self.tell_bulk(now);
            }
            NetEvent::Writable { substream } => self.streams.on_writable(now, substream, out),
            NetEvent::Finished { substream } => self.streams.on_finished(now, substream, out),
            NetEvent::Broken { substream, reason } => self.streams.on_broken(now, substream, reason, out),
        }
    }

    /// Passes on what was acknowledged of audio.
    fn tell_bulk(&mut self, now: Time) {
        if let Some(Acked { peer, sent_at, delay }) = self.streams.take_acked() {
            self.bulk.on_acked(now, &peer, sent_at, delay, &mut self.out);
        }
    }

    fn on_listening(&mut self, now: Time, mut addresses: Vec<String>) {
        addresses.sort();
        match self.listening.replace(addresses.clone()) {
            None => {
                let local_peer_id = self.local.clone();
                tracing::info!(peer = %local_peer_id, ?addresses, "listening");
                self.out.event(AviEvent::Started { local_peer_id, listen_addresses: addresses });
                self.peers.tell_kept_out(now, &mut self.out);
            }
            Some(before) if before == addresses => {}
            Some(_) => {
                self.out.event(AviEvent::ListenAddressesChanged { listen_addresses: addresses });
                self.doubt_connections(now);
            }
        }
    }

    fn on_connected(&mut self, now: Time, connection: ConnectionId, peer: PeerId, address: String, by: Direction) {
        self.out.stats.connections_opened += 1;
        tracing::debug!(%peer, address, ?by, "connected");
        self.liveness.on_connected(now, connection);
        self.streams.on_address(connection, &address);
        let published = self.out.stats.messages_published;
        if self.peers.on_connected(now, connection, &peer, &address, by, published) {
            self.out.event(AviEvent::PeerConnected { peer_id: peer.clone(), address });
            // A call that has outlived its connection: the new one has no limit yet.
            self.bulk.end(&peer, &mut self.out);
            if self.streams.speaks_to(now, &peer) {
                self.bulk.begin(now, &peer, &mut self.out);
            }
        }
        if !self.peers.admits(&peer) {
            // It was admitted before the policy changed.
            self.out.stats.peers_refused += 1;
            return self.disconnect(now, [connection]);
        }
        self.streams.on_connected(&peer, connection, &mut self.out);
        self.make_room(now);
        self.keep_one(now, &peer);
    }

    fn on_inbound_refused(&mut self, now: Time, refusal: Refusal) {
        self.out.stats.inbound_refused += 1;
        match refusal {
            Refusal::MaxPeers => {
                reached(Situation::NewcomerRefused);
                self.peers.on_refused(now);
                self.make_room(now);
            }
            Refusal::KeptOut => self.out.stats.peers_refused += 1,
            _ => {}
        }
    }

    pub(super) fn on_slow_peer(&mut self, peer_id: PeerId, dropped: u64) {
        self.out.stats.slow_peer_drops = self.out.stats.slow_peer_drops.saturating_add(dropped);
        if self.peers.is_connected(&peer_id) {
            self.out.event(AviEvent::PeerSlow { peer_id, dropped });
        }
    }

    fn on_misbehaved(&mut self, now: Time, peer: PeerId) {
        reached(Situation::PeerBanned);
        self.out.stats.peers_banned += 1;
        tracing::debug!(%peer, "breaks the rules of pub/sub");
        let connections = self.peers.on_misbehaved(now, &peer);
        self.streams.on_kept_out(now, &peer, &mut self.out);
        self.disconnect(now, connections);
    }

    /// Frees a few places while new peers are refused.
    fn make_room(&mut self, now: Time) {
        let streams = &self.streams;
        let surplus = self.peers.surplus(now, |connection| streams.uses(connection));
        if !surplus.is_empty() {
            reached(Situation::PeerPruned);
            self.out.stats.peers_pruned += 1;
        }
        self.disconnect(now, surplus);
    }

    /// Dials and disconnects peers until nothing more is to be done. A second call at once does nothing.
    fn balance_peers(&mut self, now: Time) {
        let streams = &self.streams;
        self.peers.release_wanted(|peer| streams.waits_for(peer));
        if let Some(admission) = self.peers.take_admission() {
            self.out.net(NetAction::Admit { admission });
        }
        // `Started` is the first event.
        if self.listening.is_some() {
            self.peers.tell_kept_out(now, &mut self.out);
        }
        self.peers.dial(&mut self.out);
        self.displace(now);
        let streams = &self.streams;
        self.bulk.retain(|peer| streams.are_with(peer), &mut self.out);
        self.peers.settle();
        self.streams.settle();
    }

    /// Disconnects an idle peer if a wanted peer has no room.
    fn displace(&mut self, now: Time) {
        let streams = &self.streams;
        let displaced = self.peers.displaced(|connection| streams.uses(connection));
        if !displaced.is_empty() {
            reached(Situation::PeerDisplaced);
            self.out.stats.peers_displaced += 1;
        }
        self.disconnect(now, displaced);
    }

    fn on_disconnected(&mut self, now: Time, connection: ConnectionId, peer: PeerId) {
        self.out.stats.connections_closed += 1;
        self.liveness.forget(connection);
        self.closing.on_disconnected(connection);
        self.doubles.on_disconnected(connection);
        self.flushing.remove(&connection);
        if self.peers.ends_early(&peer, connection) {
            self.tell_lost(peer.clone(), connection);
        }
        let was_last = self.peers.on_disconnected(now, connection, &peer, &mut self.out);
        tracing::debug!(%peer, was_last, "disconnected");
        let may_resume = self.phase == Phase::Running && self.peers.admits(&peer);
        self.streams.on_disconnected(now, connection, self.peers.connection(&peer), may_resume, &mut self.out);
        self.abort(now, self.peers.leftovers(&peer));
        if was_last && self.streams.redials_at_once(&peer) {
            self.peers.want(&peer);
        } else if was_last && self.streams.waits_for(&peer) {
            self.peers.want_later(&peer);
        }
        self.make_room(now);
        if was_last {
            self.walks.hasten(now);
            self.bulk.end(&peer, &mut self.out);
            self.topics.on_peer_gone(&peer);
            #[cfg(feature = "context")]
            self.context.iter_mut().for_each(|context| context.on_peer_gone(now, &peer));
            self.out.event(AviEvent::PeerDisconnected { peer_id: peer });
        } else {
            self.keep_one(now, &peer);
        }
    }

    fn on_identified(&mut self, now: Time, peer: PeerId, name: String, addresses: Vec<String>) {
        let (addresses, is_new) = self.peers.on_identified(&peer, name, addresses, &mut self.out);
        if is_new && self.peers.is_bootstrap(&peer) {
            self.walks.on_bootstrap_peer(now);
        } else if is_new {
            self.walks.hasten(now);
        }
        if !addresses.is_empty() {
            self.out.net(NetAction::AddRoute { peer, addresses });
        }
    }

    fn begin_shutdown(&mut self, now: Time, shutdown: CommandId) {
        tracing::info!(peer = %self.local, "shutting down");
        self.walks.stop(&mut self.out);
        #[cfg(feature = "context")]
        self.end_context(now);
        self.topics.expire_all(&mut self.out);
        self.streams.close_all(now, &mut self.out);
        self.bulk.retain(|_| false, &mut self.out);
        if self.last_publish.is_some_and(|at| now - at < RECENT) {
            self.flush();
        }
        self.phase = Phase::Goodbye { shutdown, began: now };
    }

    /// Asks when the last messages have arrived at those who should hear them.
    fn flush(&mut self) {
        let subscribers = self.peers.connected().filter(|peer| self.topics.hears(peer));
        let used = subscribers.filter_map(|peer| Some((self.peers.used_by_pub_sub(peer)?, peer.clone())));
        self.flushing = used.collect();
        for &connection in self.flushing.keys() {
            self.out.net(NetAction::Flush { connection });
        }
    }

    /// Work after any input: dials within the budget, and the next step of the shutdown.
    fn advance(&mut self, now: Time, has_changed: bool) {
        if self.phase == Phase::Running {
            if has_changed {
                self.balance_peers(now);
            }
            return;
        }
        if let Phase::Goodbye { shutdown, began } = self.phase
            && (self.streams.is_empty() || began + GOODBYE_WITHIN <= now)
        {
            self.phase = Phase::Linger { shutdown, began };
        }
        if let Phase::Linger { shutdown, began } = self.phase
            && (self.flushing.is_empty() || began + FLUSHED_WITHIN <= now)
        {
            for (connection, peer) in std::mem::take(&mut self.flushing) {
                self.tell_lost(peer, connection);
            }
            self.out.net(NetAction::DisconnectAll);
            self.phase = Phase::Disconnecting { shutdown, until: now + DISCONNECT_WITHIN };
        }
        if let Phase::Disconnecting { shutdown, until } = self.phase
            && (self.peers.connected_count() == 0 || until <= now)
        {
            self.topics.abandon(&mut self.out);
            self.out.done(shutdown, Ok(()));
            self.out.stopped();
            self.phase = Phase::Stopped;
        }
    }
}
