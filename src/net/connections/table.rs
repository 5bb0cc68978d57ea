//! Which connection is which? Maps libp2p's ids, which a whole process shares, to this node's own.

use std::collections::BTreeMap;

use libp2p_core::ConnectedPoint;
use libp2p_swarm::ConnectionId as LibConnectionId;

use crate::id::PeerId;
use crate::net::translate;
use avi_p2p_proto::engine::ConnectionId;

/// An established connection.
#[derive(Clone)]
pub(in crate::net) struct Connection {
    pub(in crate::net) id: ConnectionId,
    pub(in crate::net) in_swarm: LibConnectionId,
    pub(in crate::net) peer: libp2p_identity::PeerId,
    /// The keys of its multiplexer and of its socket's meter.
    pub(super) muxer: Option<u64>,
    pub(super) meter: Option<u64>,
    pub(super) endpoint: ConnectedPoint,
}

/// All established connections.
#[derive(Default)]
pub(super) struct Table {
    by_id: BTreeMap<ConnectionId, Connection>,
    in_swarm: BTreeMap<LibConnectionId, ConnectionId>,
    /// The peers' ids as text, which is expensive to make, and how many connections use each.
    peers: BTreeMap<libp2p_identity::PeerId, (PeerId, usize)>,
    last_id: u64,
}

impl Table {
    pub(super) fn add(
        &mut self,
        in_swarm: LibConnectionId,
        peer: libp2p_identity::PeerId,
        (muxer, meter): (Option<u64>, Option<u64>),
        endpoint: ConnectedPoint,
    ) -> ConnectionId {
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        self.by_id.insert(id, Connection { id, in_swarm, peer, muxer, meter, endpoint });
        self.in_swarm.insert(in_swarm, id);
        self.peers.entry(peer).or_insert_with(|| (translate::peer_id(&peer), 0)).1 += 1;
        id
    }

    pub(super) fn remove(&mut self, in_swarm: LibConnectionId) -> Option<Connection> {
        let connection = self.by_id.remove(&self.in_swarm.remove(&in_swarm)?)?;
        if let Some((_, uses)) = self.peers.get_mut(&connection.peer) {
            *uses -= 1;
            if *uses == 0 {
                self.peers.remove(&connection.peer);
            }
        }
        Some(connection)
    }

    pub(super) fn by_id(&self, id: ConnectionId) -> Option<&Connection> {
        self.by_id.get(&id)
    }

    pub(super) fn in_swarm(&self, in_swarm: LibConnectionId) -> Option<ConnectionId> {
        self.in_swarm.get(&in_swarm).copied()
    }

    /// All connected peers.
    pub(super) fn peers(&self) -> impl Iterator<Item = libp2p_identity::PeerId> {
        self.peers.keys().copied()
    }

    /// A peer's id as AVI writes it.
    pub(super) fn name(&self, peer: &libp2p_identity::PeerId) -> PeerId {
        self.peers.get(peer).map_or_else(|| translate::peer_id(peer), |(name, _)| name.clone())
    }
}
