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

/// A discovered peer is forgotten after this many failed dials in a row, about eleven minutes.
const MAX_FAILURES: u32 = 16;
/// Two connections are a simultaneous dial if the older one is younger than this. Otherwise the other end has lost the
/// older one without a word.
const SIMULTANEOUS: Duration = Duration::from_secs(5);

/// One in this many places is kept free for those who come.
const RESERVE: usize = 8;
/// How long a peer stays at least: long enough to hear of others.
const SETTLED: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Bootstrap(usize),
    Peer(PeerId),
}

#[derive(Debug)]
pub(crate) struct Peers {
    local: PeerId,
    max_peers: usize,
    known_peers: usize,
    addresses_per_peer: usize,
    concurrent_dials: usize,
    peers: BTreeMap<PeerId, Peer>,
    /// The peers in `State::Known` that have an address.
    candidates: BTreeSet<PeerId>,
    connected: usize,
    /// The neighbours in GossipSub's meshes.
    mesh: BTreeSet<PeerId>,
    bootstrap: Vec<Bootstrap>,
    dials: BTreeMap<DialId, Target>,
    next_dial: u64,
    timers: TimerTable<Target>,
    rng: Rng,
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

    /// Begins as many dials as the budget allows.
    pub(crate) fn dial(&mut self, out: &mut Outbox) {
        while self.dials.len() < self.concurrent_dials && self.connected + self.dials.len() < self.max_peers {
            let Some(target) = self.next_bootstrap().or_else(|| self.next_candidate()) else { return };
            let dial = DialId(self.next_dial);
            self.next_dial += 1;
            let (peer, addresses) = match &target {
                Target::Bootstrap(index) => {
                    let entry = &mut self.bootstrap[*index];
                    entry.waits = false;
                    (entry.pinned.clone(), vec![entry.dial_address.clone()])
                }
                Target::Peer(id) => {
                    self.candidates.remove(id);
                    let Some(peer) = self.peers.get_mut(id) else { continue };
                    peer.state = State::Dialing;
                    (Some(id.clone()), peer.addresses())
                }
            };
            tracing::debug!(peer = peer.as_ref().map(PeerId::as_str), ?addresses, "dial");
            out.stats.dials += 1;
            out.net(NetAction::Dial { dial, peer, addresses });
            self.dials.insert(dial, target);
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

    /// Of several connections to a peer, those that this node closes.
    pub(crate) fn superfluous(
        &self,
        now: Time,
        id: &PeerId,
        is_in_use: impl Fn(ConnectionId) -> bool,
    ) -> Vec<ConnectionId> {
        let Some(State::Connected { connections, .. }) = self.peers.get(id).map(|peer| &peer.state) else {
            return Vec::new();
        };
        let [older, .., newer] = connections.as_slice() else { return Vec::new() };
        if now - older.since < SIMULTANEOUS {
            // Both ends see both, and the lower peer id decides for them.
            return if self.local < *id { vec![newer.id] } else { Vec::new() };
        }
        if is_in_use(older.id) {
            // If it is alive, it matters to a call; if it is dead, ping will say so, and the peer dials again.
            return vec![newer.id];
        }
        // Gossipsub tells its subscriptions on the first connection alone. The other end has forgotten that one, so
        // only a new beginning makes both ends know the same.
        connections.iter().map(|connection| connection.id).collect()
    }

    /// When hardly any room is left: a connected peer to part with, so that the next one who comes finds some.
    ///
    /// Parting with a peer costs it little, who knows others by now; a full node costs a newcomer the mesh.
    pub(crate) fn surplus(&mut self, now: Time, is_in_use: impl Fn(ConnectionId) -> bool) -> Vec<ConnectionId> {
        if self.connected <= self.max_peers - self.max_peers / RESERVE {
            return Vec::new();
        }
        let mut settled = Vec::new();
        for (id, peer) in &self.peers {
            if let State::Connected { since, connections } = &peer.state
                && now - *since >= SETTLED
                && !self.bootstrap.iter().any(|entry| entry.is(id))
                && !connections.iter().any(|connection| is_in_use(connection.id))
            {
                settled.push(connections);
            }
        }
        let at = self.rng.next() as usize % settled.len().max(1);
        settled.get(at).into_iter().flat_map(|connections| connections.iter()).map(|connection| connection.id).collect()
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

    pub(crate) fn on_dial_failed(&mut self, now: Time, dial: DialId, failure: DialFailure, out: &mut Outbox) {
        let Some(target) = self.dials.remove(&dial) else { return };
        out.stats.dials_failed += 1;
        out.stats.outbound_refused += u64::from(failure == DialFailure::Refused);
        match target {
            Target::Bootstrap(index) => self.on_bootstrap_failed(now, index, failure, out),
            Target::Peer(id) => {
                let Some(peer) = self.peers.get_mut(&id).filter(|peer| matches!(peer.state, State::Dialing)) else {
                    return;
                };
                // A refusal says that there is no room here, and nothing about the peer.
                peer.failures += u32::from(failure != DialFailure::Refused);
                if failure == DialFailure::Myself || peer.failures >= MAX_FAILURES {
                    self.forget(&id);
                } else {
                    self.back_off(now, &id);
                }
            }
        }
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

    fn next_bootstrap(&self) -> Option<Target> {
        let is_due = |entry: &Bootstrap| {
            let id = entry.peer.as_ref().or(entry.pinned.as_ref());
            entry.waits && !id.is_some_and(|id| self.is_connected(id))
        };
        self.bootstrap.iter().position(is_due).map(Target::Bootstrap)
    }

    fn next_candidate(&mut self) -> Option<Target> {
        if self.connected + self.dials.len() >= self.dial_target() {
            return None;
        }
        // At random, or every node of a mesh would dial the same few first.
        let at = self.rng.next() as usize % self.candidates.len().max(1);
        self.candidates.iter().nth(at).cloned().map(Target::Peer)
    }

    fn make_known(&mut self, id: &PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.state = State::Known;
            if peer.can_be_dialled() {
                self.candidates.insert(id.clone());
            }
        }
    }

    fn back_off(&mut self, now: Time, id: &PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.state = State::Backoff;
            let wait = self.rng.jitter(backoff(peer.failures.saturating_sub(1)));
            self.timers.set(Target::Peer(id.clone()), now + wait);
        }
    }

    fn forget(&mut self, id: &PeerId) {
        self.peers.remove(id);
        self.candidates.remove(id);
        self.timers.stop(&Target::Peer(id.clone()));
    }

    /// Makes room for one more peer, at the cost of the one that failed most. Returns whether there is room.
    fn make_room(&mut self) -> bool {
        if self.peers.len() < self.known_peers {
            return true;
        }
        let failing = self.peers.iter().filter(|(_, peer)| matches!(peer.state, State::Backoff) && peer.failures > 0);
        let worst = failing.max_by_key(|(_, peer)| peer.failures).map(|(id, _)| id.clone());
        worst.inspect(|id| self.forget(id)).is_some()
    }

    fn on_bootstrap_connected(&mut self, index: usize, id: &PeerId) {
        let entry = &mut self.bootstrap[index];
        (entry.failures, entry.is_myself) = (0, false);
        entry.peer = Some(id.clone());
        // Whoever answers there is dialled again for ever, also if another connection is the one that stays.
        entry.waits = true;
    }

    /// Returns whether a bootstrap entry looks after this peer.
    fn redial_bootstrap(&mut self, now: Time, id: &PeerId) -> bool {
        // A bootstrap peer that has parted with a node of many peers had none to spare.
        let pause = if self.connected < self.dial_target() { FIRST_BACKOFF } else { MAX_BOOTSTRAP_BACKOFF };
        let mut found = false;
        for (index, entry) in self.bootstrap.iter_mut().enumerate().filter(|(_, entry)| entry.is(id)) {
            found = true;
            entry.waits = false;
            let pause = if std::mem::take(&mut entry.is_foreign) { MAX_BACKOFF } else { pause };
            let wait = self.rng.jitter(pause);
            self.timers.set(Target::Bootstrap(index), now + wait);
        }
        found
    }

    /// Whether discovered peers would be dialled.
    pub(crate) fn wants_more(&self) -> bool {
        self.connected < self.dial_target()
    }

    /// Discovered peers are dialled only up to half of `max_peers`: a mesh whose nodes are all full has no room for
    /// the next one.
    fn dial_target(&self) -> usize {
        (self.max_peers / 2).max(1)
    }

    fn on_bootstrap_failed(&mut self, now: Time, index: usize, failure: DialFailure, out: &mut Outbox) {
        let entry = &mut self.bootstrap[index];
        let is_myself = failure == DialFailure::Myself;
        if std::mem::replace(&mut entry.is_myself, is_myself) && is_myself {
            // As in a list that all nodes share. With another address, or if the other one's identity is mended, it
            // may be somebody else.
            return self.timers.set(Target::Bootstrap(index), now + MAX_BACKOFF);
        }
        let reason = match failure {
            DialFailure::Myself => "it is this node itself, or another with the same identity".to_owned(),
            DialFailure::Refused => "the connection policy refused it".to_owned(),
            DialFailure::Unreachable(reason) => reason,
        };
        let pause = backoff(entry.failures).min(MAX_BOOTSTRAP_BACKOFF);
        let retry_in = if is_myself { MAX_BACKOFF } else { self.rng.jitter(pause) };
        entry.failures = entry.failures.saturating_add(1);
        self.timers.set(Target::Bootstrap(index), now + retry_in);
        let address = entry.address.clone();
        tracing::debug!(address, reason, ?retry_in, "bootstrap peer cannot be reached");
        out.event(AviEvent::BootstrapFailed { address, reason, retry_in });
    }
}
