//! Which of several connections to a peer does upstream use? It would put one queue of messages into all of them, and
//! tell its subscriptions on the first one alone. If that one is dead, its neighbour never hears of them.
//!
//! So upstream sees one connection per peer: the first. The others wait, with the substream that the peer has opened.
//! When the one in use ends or is retired, upstream sees the peer leave and come back on the newest of the others, and
//! begins anew there.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::task::{Context, Poll};

use libp2p_core::transport::PortUse;
use libp2p_core::{ConnectedPoint, Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::{ConnectionClosed, ConnectionEstablished, FromSwarm};
use libp2p_swarm::handler::{ConnectionEvent, FullyNegotiatedInbound};
use libp2p_swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, NetworkBehaviour,
    NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

pub(super) type Protocol<H> =
    SubstreamProtocol<<H as ConnectionHandler>::InboundProtocol, <H as ConnectionHandler>::InboundOpenInfo>;
pub(super) type Inbound<H> =
    FullyNegotiatedInbound<<H as ConnectionHandler>::InboundProtocol, <H as ConnectionHandler>::InboundOpenInfo>;

/// Wraps upstream's behaviour, and shows it one connection per peer.
pub(in crate::net) struct Single<B: NetworkBehaviour> {
    pub(super) upstream: B,
    /// The connections of each peer. Upstream knows the first one.
    connections: BTreeMap<PeerId, Vec<Connection>>,
    /// What upstream accepts, once it has had a connection.
    protocol: Option<Protocol<THandler<B>>>,
    /// The handlers of connections that upstream has begun to use, for their tasks.
    begun: VecDeque<(PeerId, ConnectionId, THandler<B>)>,
    /// The peers with which upstream has begun anew.
    renewed: VecDeque<PeerId>,
}

struct Connection {
    id: ConnectionId,
    endpoint: ConnectedPoint,
}

impl<B: NetworkBehaviour> Single<B>
where
    Protocol<THandler<B>>: Clone,
{
    pub(super) fn new(upstream: B) -> Self {
        let (connections, begun, renewed) = Default::default();
        Self { upstream, connections, protocol: None, begun, renewed }
    }

    /// A peer with which upstream has begun anew: it has forgotten the peer's subscriptions.
    pub(super) fn pop_renewed(&mut self) -> Option<PeerId> {
        self.renewed.pop_front()
    }

    fn is_used(&self, peer: &PeerId, connection: ConnectionId) -> bool {
        self.used(peer) == Some(connection)
    }

    fn used(&self, peer: &PeerId) -> Option<ConnectionId> {
        self.connections.get(peer)?.first().map(|connection| connection.id)
    }

    fn handler(&mut self, peer: PeerId, connection: Connection) -> Result<Handler<THandler<B>>, ConnectionDenied> {
        let others = self.connections.get(&peer).is_some_and(|connections| !connections.is_empty());
        let handler = match self.protocol.clone().filter(|_| others) {
            Some(protocol) => Handler::Waiting { protocol, inbound: None },
            None => {
                let handler = self.admit(peer, &connection)?;
                self.protocol.get_or_insert_with(|| handler.listen_protocol());
                Handler::Used(handler)
            }
        };
        self.connections.entry(peer).or_default().push(connection);
        Ok(handler)
    }

    /// Shows upstream a connection.
    fn admit(&mut self, peer: PeerId, connection: &Connection) -> Result<THandler<B>, ConnectionDenied> {
        let id = connection.id;
        match &connection.endpoint {
            ConnectedPoint::Dialer { address, role_override, port_use } => {
                self.upstream.handle_established_outbound_connection(id, peer, address, *role_override, *port_use)
            }
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                self.upstream.handle_established_inbound_connection(id, peer, local_addr, send_back_addr)
            }
        }
    }

    /// Forgets a connection. Returns whether upstream knew it.
    fn forget(&mut self, peer: &PeerId, connection: ConnectionId) -> bool {
        let was_used = self.is_used(peer, connection);
        if let Some(connections) = self.connections.get_mut(peer) {
            connections.retain(|other| other.id != connection);
            if connections.is_empty() {
                self.connections.remove(peer);
            }
        }
        was_used
    }

    /// Lets upstream use another connection to the peer, if there is one. The handler of this one still sends what
    /// upstream has given it.
    pub(super) fn retire(&mut self, peer: &PeerId, connection: ConnectionId) {
        let Some([used, _, ..]) = self.connections.get(peer).map(Vec::as_slice) else { return };
        if used.id == connection {
            let endpoint = used.endpoint.clone();
            self.leave(ConnectionClosed {
                peer_id: *peer,
                connection_id: connection,
                endpoint: &endpoint,
                cause: None,
                remaining_established: 0,
            });
        }
    }

    /// Shows upstream that a peer has left, if it has used this connection, and comes back on another.
    fn leave(&mut self, closed: ConnectionClosed) {
        let is_known = |connections: &Vec<Connection>| connections.iter().any(|one| one.id == closed.connection_id);
        if self.connections.get(&closed.peer_id).is_some_and(|connections| !is_known(connections)) {
            // A retired one: what it has delivered last may be older subscriptions than those on the one in use.
            return self.introduce(closed.peer_id);
        }
        if self.forget(&closed.peer_id, closed.connection_id) {
            let closed = ConnectionClosed { remaining_established: 0, ..closed };
            self.upstream.on_swarm_event(FromSwarm::ConnectionClosed(closed));
            self.begin_anew(closed.peer_id);
        }
    }

    /// Shows upstream the connection in use as the peer's first: it tells its subscriptions there.
    fn introduce(&mut self, peer_id: PeerId) {
        if let Some([used, ..]) = self.connections.get(&peer_id).map(Vec::as_slice) {
            self.upstream.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id: used.id,
                endpoint: &used.endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
        }
    }

    /// Shows upstream the newest of the connections that wait.
    fn begin_anew(&mut self, peer: PeerId) {
        while let Some(connection) = self.connections.get_mut(&peer).and_then(Vec::pop) {
            let Ok(handler) = self.admit(peer, &connection) else { continue };
            self.begun.push_back((peer, connection.id, handler));
            self.renewed.push_back(peer);
            self.connections.entry(peer).or_default().insert(0, connection);
            return self.introduce(peer);
        }
        self.connections.remove(&peer);
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Single<B>
where
    Protocol<THandler<B>>: Clone + Send,
    Inbound<THandler<B>>: Send,
{
    type ConnectionHandler = Handler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.upstream.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.upstream.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let endpoint = ConnectedPoint::Listener { local_addr: local.clone(), send_back_addr: remote.clone() };
        self.handler(peer, Connection { id, endpoint })
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let endpoint = ConnectedPoint::Dialer { address: address.clone(), role_override, port_use };
        self.handler(peer, Connection { id, endpoint })
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                if self.is_used(&established.peer_id, established.connection_id) {
                    let first = ConnectionEstablished { other_established: 0, ..established };
                    self.upstream.on_swarm_event(FromSwarm::ConnectionEstablished(first));
                }
            }
            FromSwarm::AddressChange(change) if !self.is_used(&change.peer_id, change.connection_id) => {}
            FromSwarm::ConnectionClosed(closed) => self.leave(closed),
            // Another behaviour has denied the connection.
            FromSwarm::DialFailure(failure) => {
                failure.peer_id.map(|peer| self.forget(&peer, failure.connection_id));
                self.upstream.on_swarm_event(event);
            }
            FromSwarm::ListenFailure(failure) => {
                failure.peer_id.map(|peer| self.forget(&peer, failure.connection_id));
                self.upstream.on_swarm_event(event);
            }
            _ => self.upstream.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.upstream.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection, handler)) = self.begun.pop_front() {
            let event = Order::Begin(Box::new(handler));
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event });
        }
        self.upstream.poll(cx).map(|event| match event {
            ToSwarm::NotifyHandler { peer_id, event, .. } => match self.used(&peer_id) {
                Some(connection) => ToSwarm::NotifyHandler {
                    peer_id,
                    handler: NotifyHandler::One(connection),
                    event: Order::Upstream(event),
                },
                None => ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All },
            },
            event => event.map_in(Order::Upstream),
        })
    }
}

/// What a connection's handler is told.
pub(in crate::net) enum Order<H: ConnectionHandler> {
    Upstream(H::FromBehaviour),
    /// Upstream uses the connection from now on.
    Begin(Box<H>),
}

impl<H: ConnectionHandler> fmt::Debug for Order<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(event) => event.fmt(f),
            Self::Begin(_) => f.write_str("Begin"),
        }
    }
}

/// The handler of a connection.
pub(in crate::net) enum Handler<H: ConnectionHandler> {
    Used(H),
    /// The connection waits, with the last substream that the peer has opened.
    Waiting {
        protocol: Protocol<H>,
        inbound: Option<Inbound<H>>,
    },
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H>
where
    Protocol<H>: Clone + Send,
    Inbound<H>: Send,
{
    type FromBehaviour = Order<H>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        match self {
            Self::Used(handler) => handler.listen_protocol(),
            Self::Waiting { protocol, .. } => protocol.clone(),
        }
    }

    fn connection_keep_alive(&self) -> bool {
        matches!(self, Self::Used(handler) if handler.connection_keep_alive())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        match self {
            Self::Used(handler) => handler.poll(cx),
            Self::Waiting { .. } => Poll::Pending,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        match self {
            Self::Used(handler) => handler.poll_close(cx),
            Self::Waiting { .. } => Poll::Ready(None),
        }
    }

    fn on_behaviour_event(&mut self, order: Self::FromBehaviour) {
        match (order, self) {
            (Order::Upstream(event), Self::Used(handler)) => handler.on_behaviour_event(event),
            // It was for a connection that has ended.
            (Order::Upstream(_), Self::Waiting { .. }) => {}
            (Order::Begin(handler), this) => {
                let before = std::mem::replace(this, Self::Used(*handler));
                if let (Self::Used(handler), Self::Waiting { inbound: Some(inbound), .. }) = (this, before) {
                    handler.on_connection_event(ConnectionEvent::FullyNegotiatedInbound(inbound));
                }
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        match (self, event) {
            (Self::Used(handler), event) => handler.on_connection_event(event),
            (Self::Waiting { inbound, .. }, ConnectionEvent::FullyNegotiatedInbound(opened)) => *inbound = Some(opened),
            (Self::Waiting { .. }, _) => {}
        }
    }
}
