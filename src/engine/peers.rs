//! Who is known, who is connected, whom to dial and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::io::{ConnectionId, DialFailure, DialId, Direction, NetAction};
use super::outbox::Outbox;
use super::peer::{
    Bootstrap, Connection, FIRST_BACKOFF, MAX_BACKOFF, MAX_BOOTSTRAP_BACKOFF, Peer, State, backoff, is_loopback,
};
use super::rng::Rng;
use super::time::{Time, TimerTable};
use crate::config::AviP2pConfig;
use crate::event::{AviEvent, DiscoverySource};
use crate::id::PeerId;
use crate::stats::PeerInfo;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Bootstrap(usize),
    Peer(PeerId),
}

#[derive(Debug)]
pub(crate) struct Peers {
    pub(super) local: PeerId,
    pub(super) max_peers: usize,
    pub(super) known_peers: usize,
    pub(super) addresses_per_peer: usize,
    pub(super) concurrent_dials: usize,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    /// The peers in `State::Known` that have an address.
    pub(super) candidates: BTreeSet<PeerId>,
    pub(super) connected: usize,
    /// The neighbours in GossipSub's meshes.
    pub(super) mesh: BTreeSet<PeerId>,
    pub(super) bootstrap: Vec<Bootstrap>,
    pub(super) dials: BTreeMap<DialId, Target>,
    pub(super) next_dial: u64,
    pub(super) timers: TimerTable<Target>,
    pub(super) rng: Rng,
}

impl Peers {
    pub(crate) fn new(config: &AviP2pConfig, local: PeerId, rng: Rng) -> Self {
        Self {
            local,
            max_peers: config.max_peers,
            known_peers: config.limits.known_peers,
            addresses_per_peer: config.limits.addresses_per_peer,
            concurrent_dials: config.limits.concurrent_dials,
            peers: BTreeMap::new(),
            candidates: BTreeSet::new(),
            connected: 0,
            mesh: BTreeSet::new(),
            bootstrap: config.bootstrap_peers.iter().map(|address| Bootstrap::new(address)).collect(),
            dials: BTreeMap::new(),
            next_dial: 1,
            timers: TimerTable::new(),
            rng,
        }
    }

    pub(crate) fn known(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn connected(&self) -> impl Iterator<Item = &PeerId> {
        let connected = self.peers.iter().filter(|(_, peer)| matches!(peer.state, State::Connected { .. }));
        connected.map(|(id, _)| id)
    }

    pub(crate) fn connected_count(&self) -> usize {
        self.connected
    }

    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        self.connection(peer).is_some()
    }

    /// The connection that new streams use: the newest.
    pub(crate) fn connection(&self, peer: &PeerId) -> Option<ConnectionId> {
        match &self.peers.get(peer)?.state {
            State::Connected { connections, .. } => connections.last().map(|connection| connection.id),
            _ => None,
        }
    }

    /// Everything about a peer but its topics.
    pub(crate) fn info(&self, now: Time, id: &PeerId) -> Option<PeerInfo> {
        let peer = self.peers.get(id)?;
        let since = match &peer.state {
            State::Connected { since, .. } => Some(*since),
            _ => None,
        };
        Some(PeerInfo {
            peer_id: id.clone(),
            name: peer.name.clone(),
            addresses: peer.addresses(),
            source: peer.source,
            connected: since.is_some(),
            connected_for: since.map(|since| now - since),
            rtt: peer.rtt,
            topics: Vec::new(),
        })
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        while let Some(target) = self.timers.pop_due(now) {
            match target {
                Target::Bootstrap(index) => self.bootstrap[index].waits = true,
                Target::Peer(peer) => self.make_known(&peer),
            }
        }
    }

    // What the network says.

    /// Somebody says that a peer may be reached at these addresses.
    pub(crate) fn on_discovered(
        &mut self,
        id: PeerId,
        addresses: Vec<String>,
        source: DiscoverySource,
        out: &mut Outbox,
    ) {
        if id == self.local || addresses.is_empty() {
            return;
        }
        let is_new = !self.peers.contains_key(&id);
        if is_new && !self.make_room() {
            out.stats.peers_ignored += 1;
            return;
        }
        let max = self.addresses_per_peer;
        let peer = self.peers.entry(id.clone()).or_insert_with(|| Peer::new(source));
        let moved = peer.hear(addresses, max);
        match peer.state {
            State::Known => self.make_known(&id),
            State::Backoff if moved => {
                self.timers.stop(&Target::Peer(id.clone()));
                self.make_known(&id);
            }
            _ => {}
        }
        if is_new {
            out.event(AviEvent::PeerDiscovered { peer_id: id });
        }
    }

    /// What was said of a peer is out of date. Where this node has reached it itself stays; and while it is connected,
    /// it says where it is.
    pub(crate) fn on_expired(&mut self, id: &PeerId, addresses: &[String]) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        if matches!(peer.state, State::Connected { .. }) {
            return;
        }
        peer.hints.retain(|hint| !addresses.contains(hint));
        // A dial under way has its addresses already; its failure comes to the same.
        if !peer.can_be_dialled() && !matches!(peer.state, State::Dialing) {
            self.forget(id);
        }
    }

    /// Returns whether the peer was not connected before.
    pub(crate) fn on_connected(
        &mut self,
        now: Time,
        connection: ConnectionId,
        id: &PeerId,
        address: &str,
        direction: Direction,
    ) -> bool {
        let source = match direction {
            Direction::Inbound => DiscoverySource::Inbound,
            Direction::Outbound(Some(dial)) => match self.dials.remove(&dial) {
                Some(Target::Bootstrap(index)) => {
                    self.on_bootstrap_connected(index, id);
                    DiscoverySource::Bootstrap
                }
                _ => DiscoverySource::Kademlia,
            },
            Direction::Outbound(None) => DiscoverySource::Kademlia,
        };
        self.candidates.remove(id);
        self.timers.stop(&Target::Peer(id.clone()));
        if !self.peers.contains_key(id) {
            // A connected peer is always remembered; `max_peers` bounds them.
            self.make_room();
        }
        let peer = self.peers.entry(id.clone()).or_insert_with(|| Peer::new(source));
        peer.failures = 0;
        if direction != Direction::Inbound {
            peer.proven = Some(address.to_owned());
        }
        let connection = Connection { id: connection, since: now, is_loopback: is_loopback(address) };
        match &mut peer.state {
            State::Connected { connections, .. } => {
                connections.push(connection);
                false
            }
            state => {
                *state = State::Connected { since: now, connections: vec![connection] };
                self.connected += 1;
                true
            }
        }
    }

    /// Returns whether it was the last one.
    pub(crate) fn on_disconnected(&mut self, now: Time, connection: ConnectionId, id: &PeerId) -> bool {
        let Some(peer) = self.peers.get_mut(id) else { return false };
        let State::Connected { connections, .. } = &mut peer.state else { return false };
        connections.retain(|other| other.id != connection);
        if !connections.is_empty() {
            return false;
        }
        self.connected -= 1;
        (peer.rtt, peer.name) = (None, None);
        if !peer.can_be_dialled() || self.peers.len() > self.known_peers {
            self.forget(id);
        } else {
            self.back_off(now, id);
        }
        if self.redial_bootstrap(now, id) {
            self.timers.stop(&Target::Peer(id.clone()));
        }
        true
    }

    /// A connected peer says who it is. Returns where others can reach it, and whether this is news.
    pub(crate) fn on_identified(
        &mut self,
        id: &PeerId,
        name: String,
        mut addresses: Vec<String>,
    ) -> (Vec<String>, bool) {
        let max = self.addresses_per_peer;
        let Some(peer) = self.peers.get_mut(id) else { return (Vec::new(), false) };
        let State::Connected { connections, .. } = &peer.state else { return (Vec::new(), false) };
        let stays_here = connections.iter().any(|connection| connection.is_loopback);
        addresses.retain(|address| stays_here || !is_loopback(address));
        addresses.truncate(max);
        peer.hear(addresses.clone(), max);
        // On another machine, an address of loopback is somebody else's.
        if addresses.iter().any(|address| !is_loopback(address)) {
            addresses.retain(|address| !is_loopback(address));
        }
        (addresses, peer.name.replace(name).is_none())
    }

    /// A connected peer is not of this kind of mesh. It is not dialled again unless it is heard of anew, or is an entry
    /// of `bootstrap_peers`: then seldom.
    pub(crate) fn on_foreign(&mut self, id: &PeerId, out: &mut Outbox) -> Vec<ConnectionId> {
        for entry in self.bootstrap.iter_mut().filter(|entry| entry.is(id)) {
            entry.is_foreign = true;
            let (address, reason) = (entry.address.clone(), "it is no node of AVI".to_owned());
            out.event(AviEvent::BootstrapFailed { address, reason, retry_in: MAX_BACKOFF });
        }
        let Some(peer) = self.peers.get_mut(id) else { return Vec::new() };
        (peer.proven, peer.hints) = (None, Vec::new());
        match &peer.state {
            State::Connected { connections, .. } => connections.iter().map(|connection| connection.id).collect(),
            _ => Vec::new(),
        }
    }

    /// A peer breaks the rules of pub/sub.
    pub(crate) fn on_misbehaved(&mut self, _now: Time, id: &PeerId) -> Vec<ConnectionId> {
        let Some(peer) = self.peers.get_mut(id) else { return Vec::new() };
        match &peer.state {
            State::Connected { connections, .. } => connections.iter().map(|connection| connection.id).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn on_mesh_changed(&mut self, mesh: BTreeSet<PeerId>) {
        self.mesh = mesh;
    }

    pub(crate) fn on_pong(&mut self, id: &PeerId, rtt: Duration) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.rtt = Some(rtt);
        }
    }

    // What follows.

    pub(super) fn make_known(&mut self, id: &PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.state = State::Known;
            if peer.can_be_dialled() {
                self.candidates.insert(id.clone());
            }
        }
    }

    pub(super) fn forget(&mut self, id: &PeerId) {
        self.peers.remove(id);
        self.candidates.remove(id);
        self.timers.stop(&Target::Peer(id.clone()));
    }

    /// Makes room for one more peer, at the cost of the one that failed most. Returns whether there is room.
    pub(super) fn make_room(&mut self) -> bool {
        if self.peers.len() < self.known_peers {
            return true;
        }
        let failing = self.peers.iter().filter(|(_, peer)| matches!(peer.state, State::Backoff) && peer.failures > 0);
        let worst = failing.max_by_key(|(_, peer)| peer.failures).map(|(id, _)| id.clone());
        worst.inspect(|id| self.forget(id)).is_some()
    }
}
