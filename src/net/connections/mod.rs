//! Which connections does a node make and have, and how do they end?

mod closing;
mod credit;
mod dial;
mod failure;
mod gate;
mod identify;
mod metered;
mod meters;
mod muxer;
mod ping;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use libp2p_core::{ConnectedPoint, Multiaddr};
use libp2p_identify::Event as IdentifyEvent;
use libp2p_identity::PeerId as LibPeerId;
use libp2p_swarm::dial_opts::DialOpts;
use libp2p_swarm::{ConnectionId as LibConnectionId, DialError, ListenError, NetworkBehaviour, Swarm};

pub(super) use self::closing::Closing;
pub(super) use self::credit::Credit;
pub(super) use self::dial::Dial;
pub(super) use self::failure::{HANDSHAKE_TIMEOUT, HandshakeTimeout};
pub(super) use self::gate::Gate;
pub(super) use self::identify::behaviour as identify_behaviour;
pub(super) use self::meters::{Meter, Meters};
pub(super) use self::muxer::Bounded;
#[cfg_attr(not(feature = "metrics"), allow(unused_imports, reason = "for libp2p's metrics"))]
pub(super) use self::ping::{Answer, Behaviour as Ping, Event as Answered};
pub(super) use self::table::Connection;
use self::table::Table;
use crate::id::PeerId;
use crate::net::translate;
use crate::wake::Wake;
use avi_p2p_proto::engine::{ConnectionId, DialFailure, Direction, NetEvent};

/// The multiplexer may hold ten writes of a substream, and sends one with each of the two frames of a probe, of which the
/// second follows the answer. So these probes, one after the other, come after all that was written before them.
const FLUSH_PROBES: u32 = 5;

/// The connections of a node, and its dials.
pub(super) struct Connections {
    table: Table,
    dials: BTreeMap<LibConnectionId, Dial>,
    local: PeerId,
    /// The inbound connections so far.
    inbound: u64,
    closing: Arc<Closing>,
    meters: Arc<Meters>,
}

impl Connections {
    /// `wake` is notified when a peer's credit is used up.
    pub(super) fn new(local: PeerId, wake: Arc<Wake>) -> Self {
        let (table, meters) = (Table::default(), Arc::default());
        let closing = Closing::new(wake);
        Self { table, dials: BTreeMap::new(), local, inbound: 0, closing, meters }
    }

    /// Whether a credit is used up, and the engine does not know.
    pub(super) fn is_due(&self) -> bool {
        self.closing.used().is_due()
    }

    /// Reports whose credit is used up. Returns false if there is none.
    pub(super) fn report_used(&self, events: &mut VecDeque<NetEvent>) -> bool {
        let used = self.closing.used().take();
        events.extend(used.iter().map(|peer| NetEvent::CreditUsed { peer: self.name(peer) }));
        !used.is_empty()
    }

    /// The handles that the multiplexers register with.
    pub(super) fn closing(&self) -> Arc<Closing> {
        self.closing.clone()
    }

    /// The meters that the sockets register with.
    pub(super) fn meters(&self) -> Arc<Meters> {
        self.meters.clone()
    }

    pub(super) fn by_id(&self, id: ConnectionId) -> Option<&Connection> {
        self.table.by_id(id)
    }

    pub(super) fn in_swarm(&self, in_swarm: LibConnectionId) -> Option<ConnectionId> {
        self.table.in_swarm(in_swarm)
    }

    /// All connected peers.
    pub(super) fn peers(&self) -> impl Iterator<Item = LibPeerId> {
        self.table.peers()
    }

    /// A peer's id as AVI writes it.
    pub(super) fn name(&self, peer: &LibPeerId) -> PeerId {
        self.table.name(peer)
    }

    // Actions of the engine.

    /// Makes the attempt of a dial. Returns the dial if it has failed at once and there is another address to try.
    pub(super) fn dial<B: NetworkBehaviour>(
        &mut self,
        mut dial: Dial,
        opts: DialOpts,
        swarm: &mut Swarm<B>,
        events: &mut VecDeque<NetEvent>,
    ) -> Option<Dial> {
        let connection = opts.connection_id();
        dial.inbound = self.inbound;
        match swarm.dial(opts) {
            Ok(()) => {
                self.dials.insert(connection, dial);
                None
            }
            Err(error) => self.failed(dial, &error, events),
        }
    }

    pub(super) fn disconnect<B: NetworkBehaviour>(&self, connection: ConnectionId, swarm: &mut Swarm<B>) {
        if let Some(connection) = self.table.by_id(connection) {
            swarm.close_connection(connection.in_swarm);
        }
    }

    /// Reports when bytes last moved on a connection.
    pub(super) fn check_alive(&self, connection: ConnectionId, events: &mut VecDeque<NetEvent>) {
        if let Some(Connection { meter, endpoint, .. }) = self.table.by_id(connection) {
            let silent_for = self.meters.silent_for(*meter, endpoint);
            events.push_back(NetEvent::Progress { connection, silent_for });
        }
    }

    /// Ends a connection that is being closed, without waiting for the peer.
    pub(super) fn abort(&self, connection: ConnectionId) {
        if let Some(muxer) = self.table.by_id(connection).and_then(|connection| connection.muxer) {
            self.closing.abort(muxer);
        }
    }

    /// Sets what the connections to a peer may carry beside audio.
    pub(super) fn grant(&self, peer: &PeerId, bytes: Option<u32>) {
        if let Some(peer) = translate::libp2p_peer_id(peer) {
            self.closing.grant(&peer, bytes);
        }
    }

    pub(super) fn disconnect_all<B: NetworkBehaviour>(&self, swarm: &mut Swarm<B>) {
        let dialled = self.dials.values().filter_map(|dial| dial.peer);
        for peer in self.table.peers().chain(dialled) {
            // An error means that there is no connection, only a dial. The dial is cancelled too.
            let _ = swarm.disconnect_peer_id(peer);
        }
    }

    // Events of the swarm.

    /// Returns false for an outbound connection that the engine did not order.
    pub(super) fn on_established(
        &mut self,
        in_swarm: LibConnectionId,
        peer: LibPeerId,
        endpoint: &ConnectedPoint,
        events: &mut VecDeque<NetEvent>,
    ) -> bool {
        let direction = match endpoint {
            ConnectedPoint::Dialer { .. } => match self.dials.remove(&in_swarm) {
                Some(dial) => Direction::Outbound(dial.id),
                None => return false,
            },
            ConnectedPoint::Listener { .. } => Direction::Inbound,
        };
        let keys = (self.closing.claim(&peer, endpoint), self.meters.claim(endpoint));
        let connection = self.table.add(in_swarm, peer, keys, endpoint.clone());
        let peer = self.table.name(&peer);
        let address = translate::text(endpoint.get_remote_address());
        tracing::debug!(%peer, address, ?direction, "connected");
        events.push_back(NetEvent::Connected { connection, peer, address, direction });
        true
    }

    /// Returns the connection that has ended.
    pub(super) fn on_closed(
        &mut self,
        in_swarm: LibConnectionId,
        cause: Option<&libp2p_swarm::ConnectionError>,
        events: &mut VecDeque<NetEvent>,
    ) -> Option<Connection> {
        let connection = self.table.remove(in_swarm)?;
        let peer = translate::peer_id(&connection.peer);
        tracing::debug!(%peer, ?cause, "disconnected");
        events.push_back(NetEvent::Disconnected { connection: connection.id, peer });
        Some(connection)
    }

    /// Returns the dial if there is another address to try.
    pub(super) fn on_dial_error(
        &mut self,
        in_swarm: LibConnectionId,
        peer: Option<LibPeerId>,
        error: &DialError,
        events: &mut VecDeque<NetEvent>,
    ) -> Option<Dial> {
        if let DialError::Denied { .. } = error {
            self.abort_refused(peer);
        }
        // Only the engine's dials reach this point.
        let dial = self.dials.remove(&in_swarm)?;
        self.failed(dial, error, events)
    }

    /// Tells that a dial has failed, or returns it if there is another address to try.
    fn failed(&self, mut dial: Dial, error: &DialError, events: &mut VecDeque<NetEvent>) -> Option<Dial> {
        let failure = match error {
            // A node that has dialled itself, through a router perhaps, accepts a connection before it learns whose id
            // answers.
            DialError::LocalPeerId { address } if dial.inbound == self.inbound => {
                DialFailure::WrongPeer { address: translate::text(address), obtained: self.local.clone() }
            }
            // The same, if another peer was expected there.
            DialError::WrongPeerId { obtained, .. }
                if translate::peer_id(obtained) == self.local && dial.inbound != self.inbound =>
            {
                DialFailure::Myself
            }
            error => failure::dial_failure(error),
        };
        tracing::debug!(?failure, "dial failed");
        match dial.on_failed(failure) {
            Some(failure) => {
                events.push_back(NetEvent::DialFailed { dial: dial.id, failure });
                None
            }
            None => Some(dial),
        }
    }

    /// Counts a connection that has come in.
    pub(super) fn on_inbound(&mut self) {
        self.inbound += 1;
    }

    pub(super) fn on_inbound_error(
        &self,
        address: &Multiaddr,
        peer: Option<LibPeerId>,
        error: &ListenError,
        events: &mut VecDeque<NetEvent>,
    ) {
        if let ListenError::Denied { .. } = error {
            self.abort_refused(peer);
        }
        tracing::debug!(%address, %error, "inbound connection failed");
        events.push_back(match error {
            ListenError::Denied { cause } => NetEvent::InboundRefused(failure::refusal(cause)),
            ListenError::LocalPeerId { .. } => NetEvent::Doubled { address: translate::text(address) },
            _ => NetEvent::InboundFailed,
        });
    }

    /// Aborts a connection that the gate refused after the handshake. The engine is never told of it, and so would
    /// never abort one to a peer that does not read. Only the handshake has been sent on it, so there is room for the
    /// closing message.
    fn abort_refused(&self, peer: Option<LibPeerId>) {
        peer.inspect(|peer| self.closing.abort_unclaimed(peer));
    }

    pub(super) fn on_identify(&self, event: IdentifyEvent, events: &mut VecDeque<NetEvent>) {
        events.extend(identify::event(event, &self.table));
    }

    /// Probes the peer of a connection.
    pub(super) fn probe(&self, connection: ConnectionId, ping: &mut Ping) {
        self.probe_times(connection, 1, ping);
    }

    fn probe_times(&self, connection: ConnectionId, times: u32, ping: &mut Ping) {
        if let Some(Connection { peer, in_swarm, .. }) = self.table.by_id(connection) {
            ping.probe(*peer, *in_swarm, times);
        }
    }

    /// Pub/sub has written all that it had for a connection. Answers to probes show that it has arrived.
    pub(super) fn on_written(&self, in_swarm: LibConnectionId, ping: &mut Ping) {
        if let Some(connection) = self.table.in_swarm(in_swarm) {
            self.probe_times(connection, FLUSH_PROBES, ping);
        }
    }

    pub(super) fn on_answer(&self, Answered { connection, peer, result }: Answered, events: &mut VecDeque<NetEvent>) {
        let Some(connection) = self.table.in_swarm(connection) else { return };
        let peer = self.table.name(&peer);
        match result {
            Ok(Answer::Pong(rtt)) => events.push_back(NetEvent::Pong { connection, peer, rtt }),
            Ok(Answer::Probed { times }) => {
                events.push_back(NetEvent::Answered { connection, peer });
                if times >= FLUSH_PROBES {
                    events.push_back(NetEvent::Flushed { connection });
                }
            }
            // Not an error by itself: the engine ends a connection that is silent for too long.
            Err(error) => tracing::debug!(%peer, %error, "ping failed"),
        }
    }
}
