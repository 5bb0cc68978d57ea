//! Which connections may be made? The connection policy, applied before a handshake where possible.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p_core::transport::PortUse;
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::FromSwarm;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use thiserror::Error;

/// Simultaneous dials make two connections for a moment; a third may be a reconnect that the old ones have not noticed.
const MAX_CONNECTIONS_PER_PEER: usize = 3;

/// Why a connection was refused.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Refusal(pub(super) &'static str);

/// Knows every connection, and refuses those beyond the limits.
pub(super) struct Gate {
    max_peers: usize,
    max_pending_inbound: usize,
    closing: bool,
    peers: BTreeMap<PeerId, usize>,
    pending_inbound: BTreeSet<ConnectionId>,
}

impl Gate {
    pub(super) fn new(max_peers: usize, max_pending_inbound: usize) -> Self {
        Self {
            max_peers,
            max_pending_inbound,
            closing: false,
            peers: BTreeMap::new(),
            pending_inbound: BTreeSet::new(),
        }
    }

    /// Refuses everything from now on.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    fn check_open(&self) -> Result<(), &'static str> {
        if self.closing { Err("the node is shutting down") } else { Ok(()) }
    }

    fn check_inbound(&self) -> Result<(), &'static str> {
        self.check_open()?;
        if self.peers.len() >= self.max_peers {
            Err("max_peers is reached")
        } else if self.pending_inbound.len() >= self.max_pending_inbound {
            Err("limits.pending_inbound is reached")
        } else {
            Ok(())
        }
    }

    fn check_outbound(&self, peer: Option<PeerId>) -> Result<(), &'static str> {
        self.check_open()?;
        if self.peers.len() >= self.max_peers && !peer.is_some_and(|peer| self.peers.contains_key(&peer)) {
            return Err("max_peers is reached");
        }
        Ok(())
    }

    fn check_established(&self, peer: &PeerId) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let check = || {
            self.check_open()?;
            match self.peers.get(peer) {
                None if self.peers.len() >= self.max_peers => Err("max_peers is reached"),
                Some(&connections) if connections >= MAX_CONNECTIONS_PER_PEER => Err("the peer has enough connections"),
                _ => Ok(dummy::ConnectionHandler),
            }
        };
        check().map_err(deny)
    }

    fn settled(&mut self, connection: ConnectionId) {
        self.pending_inbound.remove(&connection);
    }
}

fn deny(reason: &'static str) -> ConnectionDenied {
    tracing::debug!(reason, "connection refused");
    ConnectionDenied::new(Refusal(reason))
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.check_inbound().map_err(deny)?;
        self.pending_inbound.insert(connection);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check_established(&peer)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.check_outbound(peer).map_err(deny)?;
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check_established(&peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.settled(established.connection_id);
                *self.peers.entry(established.peer_id).or_default() += 1;
            }
            FromSwarm::ConnectionClosed(closed) if closed.remaining_established == 0 => {
                self.peers.remove(&closed.peer_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.peers.insert(closed.peer_id, closed.remaining_established);
            }
            FromSwarm::DialFailure(failure) => self.settled(failure.connection_id),
            FromSwarm::ListenFailure(failure) => self.settled(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
