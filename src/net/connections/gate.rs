//! Which connections are allowed? Counts connections and asks the engine's policy, before the handshake where possible.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll};

use libp2p_core::transport::PortUse;
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::FromSwarm;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};

use crate::net::translate;
use avi_p2p_proto::engine::{Admission, Count, Refusal};

/// Counts all connections and applies the connection policy. Until it has a policy, it refuses every connection.
#[derive(Default)]
pub(in crate::net) struct Gate {
    admission: Option<Admission>,
    peers: BTreeMap<PeerId, usize>,
    pending_inbound: BTreeMap<ConnectionId, Option<IpAddr>>,
}

impl Gate {
    /// Sets the policy.
    pub(in crate::net) fn admit(&mut self, admission: Admission) {
        self.admission = Some(admission);
    }

    /// Refuses every connection from now on.
    pub(in crate::net) fn close(&mut self) {
        self.admission = None;
    }

    fn admission(&self) -> Result<&Admission, Refusal> {
        self.admission.as_ref().ok_or(Refusal::ShuttingDown)
    }

    fn check_inbound(&self, ip: Option<IpAddr>) -> Result<(), Refusal> {
        let pending_from_ip = self.pending_inbound.values().filter(|other| **other == ip).count();
        let count = Count { peers: self.peers.len(), pending: self.pending_inbound.len(), pending_from_ip };
        self.admission()?.inbound(count)
    }

    fn check_outbound(&self, peer: Option<PeerId>) -> Result<(), Refusal> {
        self.admission()?.outbound(self.peers.len(), peer.map_or(0, |peer| self.connections(&peer)))
    }

    fn check_established(&self, peer: &PeerId) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let connections = self.connections(peer);
        let checked = self
            .admission()
            .and_then(|admission| admission.established(&translate::peer_id(peer), self.peers.len(), connections));
        checked.map(|()| dummy::ConnectionHandler).map_err(deny)
    }

    fn connections(&self, peer: &PeerId) -> usize {
        self.peers.get(peer).copied().unwrap_or_default()
    }

    fn settled(&mut self, connection: ConnectionId) {
        self.pending_inbound.remove(&connection);
    }
}

/// The addresses that one host controls: one IPv4 address, or an IPv6 network of 64 bits.
fn host(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (!0 << 64)).into(),
    }
}

fn deny(refusal: Refusal) -> ConnectionDenied {
    tracing::debug!(%refusal, "connection refused");
    ConnectionDenied::new(refusal)
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = translate::parts(remote).map(|(socket, _)| host(socket.ip()));
        self.check_inbound(ip).map_err(deny)?;
        self.pending_inbound.insert(connection, ip);
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
