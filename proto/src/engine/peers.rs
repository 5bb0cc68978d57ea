//! Which peers are known, and which are connected?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::admission::{Access, Admission, BAN, Verdict};
#[cfg(feature = "context")]
use super::context::Standing;
use super::io::{ConnectionId, DialId, Direction};
use super::outbox::Outbox;
use super::peer::{Bootstrap, Connection, Peer, State, is_loopback};
use super::rng::Rng;
use super::time::{Time, TimerTable};
use crate::config::{AviP2pConfig, Limits};
use crate::error::AviP2pError;
use crate::event::{AviEvent, DiscoverySource};
use crate::id::PeerId;
use crate::stats::{PeerDirection, PeerInfo};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Target {
    Bootstrap(usize),
    Peer(PeerId),
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Peers {
    pub(super) local: PeerId,
    pub(super) max_peers: usize,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    /// The peers in `State::Known` that have an address.
    pub(super) candidates: BTreeSet<PeerId>,
    pub(super) connected: usize,
    /// How many of the connected peers this node has dialled.
    pub(super) chosen: usize,
    /// Whether this node must dial one more peer, because the last connected bootstrap peer has hung up.
    pub(super) is_adrift: bool,
    /// The neighbours in GossipSub's meshes.
    pub(super) mesh: BTreeSet<PeerId>,
    pub(super) bootstrap: Vec<Bootstrap>,
    pub(super) dials: BTreeMap<DialId, Target>,
    /// The dials to connected peers, since their connections are stuck. They need no place.
    pub(super) stuck_dials: BTreeMap<DialId, PeerId>,
    pub(super) next_dial: u64,
    pub(super) timers: TimerTable<Target>,
    /// The peers with two connections of which the other end may close one.
    pub(super) doubled: TimerTable<PeerId>,
    pub(super) rng: Rng,
    /// The peers that the application waits for and that are not connected, with the number of failed dials.
    pub(super) wanted: BTreeMap<PeerId, u32>,
    /// When the next peer may be disconnected to make room.
    pub(super) next_parting: Time,
    /// Until when places are kept free, because newcomers were refused.
    pub(super) rush_until: Time,
    /// When to check again whether a peer can be disconnected to make room, if places are missing.
    pub(super) next_room: Option<Time>,
    /// The peer that is being disconnected to make room for newcomers.
    pub(super) pruned: Option<PeerId>,
    /// The peer that is being disconnected to make room for a wanted peer.
    pub(super) displaced: Option<PeerId>,
    pub(super) access: Access,
    pub(super) limits: Limits,
    /// Whether the policy has changed since the network layer got it.
    pub(super) is_admission_stale: bool,
}

impl Peers {
    pub(crate) fn new(config: &AviP2pConfig, local: PeerId, rng: Rng) -> Self {
        let access = Access::new(config);
        let paired = access.paired().filter(|id| **id != local);
        Self {
            peers: paired.map(|id| (id.clone(), Peer::new(DiscoverySource::Paired))).collect(),
            local,
            max_peers: config.max_peers,
            candidates: BTreeSet::new(),
            connected: 0,
            chosen: 0,
            is_adrift: false,
            mesh: BTreeSet::new(),
            bootstrap: config.bootstrap_peers.iter().filter_map(|text| Bootstrap::new(text)).collect(),
            dials: BTreeMap::new(),
            stuck_dials: BTreeMap::new(),
            next_dial: 1,
            timers: TimerTable::new(),
            doubled: TimerTable::new(),
            rng,
            wanted: BTreeMap::new(),
            next_parting: Time::ZERO,
            rush_until: Time::ZERO,
            next_room: None,
            pruned: None,
            displaced: None,
            access,
            limits: config.limits.clone(),
            is_admission_stale: true,
        }
    }

    pub(crate) fn admits(&self, peer: &PeerId) -> bool {
        self.access.admits(peer)
    }

    /// Why the peer cannot be connected under the current lists.
    pub(crate) fn objection(&self, peer: &PeerId) -> Option<&'static str> {
        if *peer == self.local { Some("it is this node itself") } else { self.access.objection(peer) }
    }

    /// What is known of a peer that has written into the shared context.
    #[cfg(feature = "context")]
    pub(crate) fn standing(&self, author: &PeerId) -> Standing {
        if !self.admits(author) {
            Standing::KeptOut
        } else if self.is_connected(author) || self.access.is_listed(author) {
            Standing::Met
        } else {
            Standing::Stranger
        }
    }

    pub(crate) fn is_blocked(&self, peer: &PeerId) -> bool {
        self.access.is_blocked(peer)
    }

    /// The connection policy for the network layer, if it has changed.
    pub(crate) fn take_admission(&mut self) -> Option<Admission> {
        std::mem::take(&mut self.is_admission_stale).then(|| Admission {
            max_peers: self.max_peers,
            max_pending: self.limits.pending_inbound,
            max_pending_per_ip: self.limits.pending_inbound_per_ip,
            wanted: self.wanted.keys().cloned().collect(),
            lists: self.access.lists(),
        })
    }

    /// Changes who may connect. Returns the connections to close.
    pub(super) fn set_access(
        &mut self,
        id: &PeerId,
        set: impl FnOnce(&mut Access, &PeerId) -> Result<(), AviP2pError>,
        out: &mut Outbox,
    ) -> Result<Vec<ConnectionId>, AviP2pError> {
        set(&mut self.access, id)?;
        self.is_admission_stale = true;
        self.revise_bootstrap(id);
        if !self.admits(id) {
            return Ok(self.keep_out(id));
        }
        if self.let_in(id) {
            out.event(AviEvent::PeerDiscovered { peer_id: id.clone() });
        }
        Ok(Vec::new())
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
        self.peers.get(peer).is_some_and(Peer::is_connected)
    }

    /// Whether an entry of `bootstrap_peers` stands for the peer.
    pub(crate) fn is_bootstrap(&self, peer: &PeerId) -> bool {
        self.bootstrap.iter().any(|entry| entry.is(peer))
    }

    /// Whether a dial is in progress.
    pub(crate) fn is_dialling(&self) -> bool {
        !self.dials.is_empty()
    }

    /// The connection that new streams use: the newest that is not retired.
    pub(crate) fn connection(&self, peer: &PeerId) -> Option<ConnectionId> {
        let mut connections = self.peers.get(peer)?.all_connections().iter().rev();
        connections.find(|connection| !connection.is_retired()).map(|connection| connection.id)
    }

    /// The known facts about a peer, except its topics.
    pub(crate) fn info(&self, now: Time, id: &PeerId) -> Option<PeerInfo> {
        let peer = self.peers.get(id)?;
        let since = match &peer.state {
            State::Connected { since, .. } => Some(*since),
            _ => None,
        };
        let direction = match &peer.state {
            State::Connected { connections, .. } => connections.last().map(|connection| connection.direction),
            _ => None,
        };
        Some(PeerInfo {
            peer_id: id.clone(),
            direction,
            name: peer.name.clone(),
            addresses: peer.addresses(),
            source: peer.source,
            connected: since.is_some(),
            connected_for: since.map(|since| now - since),
            rtt: peer.rtt,
            topics: Vec::new(),
        })
    }

    /// The peers with this name, the connected ones first.
    pub(crate) fn named(&self, name: &str) -> Vec<PeerId> {
        let named = self.peers.iter().filter(|(_, peer)| peer.name.as_deref() == Some(name));
        let (connected, others): (Vec<_>, Vec<_>) = named.partition(|(_, peer)| peer.is_connected());
        connected.into_iter().chain(others).map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let timers = [self.timers.next_deadline(), self.doubled.next_deadline(), self.access.next_deadline()];
        timers.into_iter().chain([self.next_room]).flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        for peer in self.access.handle_timeout(now) {
            self.is_admission_stale = true;
            self.revise_bootstrap(&peer);
            self.let_in(&peer);
        }
        while let Some(target) = self.timers.pop_due(now) {
            match target {
                Target::Bootstrap(index) => self.bootstrap[index].waits = true,
                Target::Peer(peer) => self.make_known(&peer),
            }
        }
    }

    // Events of the network.

    /// Handles reported addresses of a peer.
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
        let is_new = self.peers.get(&id).is_none_or(|peer| self.access.is_paired(&id) && peer.is_unheard_of());
        if !self.peers.contains_key(&id) && !self.make_room() {
            out.stats.peers_ignored += 1;
            return;
        }
        let max = self.limits.addresses_per_peer;
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
        // If the peer may not connect now, the application is told once it may.
        if is_new && self.admits(&id) {
            out.event(AviEvent::PeerDiscovered { peer_id: id });
        }
    }

    /// Removes expired hints of a peer. The address at which this node has reached the peer stays. While the peer is
    /// connected or wanted, nothing is removed: a connected peer reports its own addresses, and for a wanted peer all
    /// are tried.
    pub(crate) fn on_expired(&mut self, id: &PeerId, addresses: &[String]) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        if peer.is_connected() || self.wanted.contains_key(id) {
            return;
        }
        peer.hints.retain(|hint| !addresses.contains(hint));
        // A dial in progress has its addresses already. If it fails, the peer is forgotten then.
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
        published: u64,
    ) -> bool {
        let source = match direction {
            Direction::Inbound => DiscoverySource::Inbound,
            Direction::Outbound(dial) => match self.dials.remove(&dial) {
                Some(Target::Bootstrap(index)) => {
                    self.on_bootstrap_connected(index, id);
                    DiscoverySource::Bootstrap
                }
                Some(Target::Peer(_)) => DiscoverySource::Kademlia,
                None => {
                    self.stuck_dials.remove(&dial);
                    DiscoverySource::Kademlia
                }
            },
        };
        self.candidates.remove(id);
        self.timers.stop(&Target::Peer(id.clone()));
        if !self.peers.contains_key(id) {
            // A connected peer is always remembered; `max_peers` bounds their number.
            self.make_room();
        }
        let peer = self.peers.entry(id.clone()).or_insert_with(|| Peer::new(source));
        if direction != Direction::Inbound {
            peer.proven = Some(address.to_owned());
        }
        self.is_admission_stale |= self.wanted.remove(id).is_some();
        let direction = match direction {
            Direction::Inbound => PeerDirection::Inbound,
            Direction::Outbound(_) => PeerDirection::Outbound,
        };
        self.is_adrift &= direction == PeerDirection::Inbound;
        let connection = Connection {
            id: connection,
            since: now,
            direction,
            is_loopback: is_loopback(address),
            published: [published; 2],
            probed_beside: None,
            is_answered: false,
            opened: None,
            retired: None,
        };
        let was_chosen = peer.is_chosen();
        let is_new = match &mut peer.state {
            State::Connected { connections, .. } => {
                connections.push(connection);
                false
            }
            state => {
                *state = State::Connected { since: now, connections: vec![connection] };
                true
            }
        };
        self.chosen += usize::from(peer.is_chosen() && !was_chosen);
        self.connected += usize::from(is_new);
        is_new
    }

    /// Returns whether it was the peer's last connection.
    pub(crate) fn on_disconnected(
        &mut self,
        now: Time,
        connection: ConnectionId,
        id: &PeerId,
        out: &mut Outbox,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(id) else { return false };
        let was_chosen = peer.is_chosen();
        let State::Connected { connections, .. } = &mut peer.state else { return false };
        connections.retain(|other| other.id != connection);
        let was_last = connections.is_empty();
        self.chosen -= usize::from(was_chosen && !peer.is_chosen());
        if self.displaced.as_ref() == Some(id) {
            self.displaced = None;
        }
        if self.pruned.as_ref() == Some(id) {
            self.pruned = None;
        }
        if !was_last {
            return false;
        }
        self.doubled.stop(id);
        self.connected -= 1;
        // A peer that has not sent its name has closed the connection at once: it may be full, or may block this node.
        let hung_up = !peer.is_identified;
        peer.failures = peer.failures.saturating_add(hung_up.into());
        (peer.rtt, peer.is_identified) = (None, false);
        let can_be_dialled = peer.can_be_dialled();
        let has_room = self.peers.len() <= self.limits.known_peers || self.access.is_paired(id);
        if !can_be_dialled || !has_room {
            self.forget(id);
        } else if self.admits(id) {
            self.back_off(now, id);
        } else {
            self.make_known(id);
        }
        if self.redial_bootstrap(now, id, hung_up, out) {
            self.timers.stop(&Target::Peer(id.clone()));
        }
        true
    }

    /// Handles the name and addresses of a connected peer. Returns the addresses to tell others, and whether this is
    /// the first time.
    pub(crate) fn on_identified(
        &mut self,
        id: &PeerId,
        name: String,
        mut addresses: Vec<String>,
        out: &mut Outbox,
    ) -> (Vec<String>, bool) {
        let max = self.limits.addresses_per_peer;
        let is_in = self.access.admits(id);
        let Some(peer) = self.peers.get_mut(id).filter(|_| is_in) else { return (Vec::new(), false) };
        let State::Connected { connections, .. } = &peer.state else { return (Vec::new(), false) };
        let stays_here = connections.iter().any(|connection| connection.is_loopback);
        addresses.retain(|address| stays_here || !is_loopback(address));
        addresses.truncate(max);
        if !addresses.is_empty() {
            // It knows best where it is: what others say may be long past.
            peer.hints.clear();
        }
        peer.hear(addresses.clone(), max);
        peer.failures = 0;
        for entry in self.bootstrap.iter_mut().filter(|entry| entry.is(id)) {
            entry.failures = 0;
        }
        // On another machine, a loopback address belongs to someone else.
        if addresses.iter().any(|address| !is_loopback(address)) {
            addresses.retain(|address| !is_loopback(address));
        }
        let is_first = !std::mem::replace(&mut peer.is_identified, true);
        let before = peer.name.replace(name.clone());
        if is_first || before.as_ref() != Some(&name) {
            out.event(AviEvent::PeerIdentified { peer_id: id.clone(), name });
        }
        (addresses, is_first)
    }

    /// Keeps out a connected peer that speaks no pub/sub of this node. What it says of itself after that is no news.
    /// Returns the connections to close; `None` if that was known.
    pub(crate) fn on_foreign(&mut self, now: Time, id: &PeerId, out: &mut Outbox) -> Option<Vec<ConnectionId>> {
        let peer = self.peers.get_mut(id).filter(|peer| peer.is_connected())?;
        if self.access.is_judged(id, Verdict::Foreign) {
            return None;
        }
        // It is not dialled again unless it is discovered again.
        (peer.proven, peer.hints) = (None, Vec::new());
        for entry in self.bootstrap.iter().filter(|entry| entry.is(id)) {
            let (address, reason) = (entry.address.clone(), Verdict::Foreign.reason().to_owned());
            out.event(AviEvent::BootstrapFailed { address, reason, retry_in: BAN });
        }
        Some(self.judge(now, id, Verdict::Foreign))
    }

    /// Bans a peer that breaks the rules of pub/sub. Returns the connections to close.
    pub(crate) fn on_misbehaved(&mut self, now: Time, id: &PeerId) -> Vec<ConnectionId> {
        self.judge(now, id, Verdict::Misbehaved)
    }

    fn judge(&mut self, now: Time, id: &PeerId, verdict: Verdict) -> Vec<ConnectionId> {
        self.access.ban(now, id, verdict);
        self.is_admission_stale = true;
        self.keep_out(id)
    }

    pub(crate) fn mesh_count(&self) -> usize {
        self.mesh.iter().filter(|peer| self.is_connected(peer)).count()
    }

    pub(crate) fn on_mesh_changed(&mut self, mesh: BTreeSet<PeerId>) {
        self.mesh = mesh;
    }

    /// Whether the peer has never answered a ping: each of its answers says that it supports none.
    pub(crate) fn has_no_pings(&self, id: &PeerId) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.rtt.is_none())
    }

    /// Handles a pong, when this node has published so many messages.
    pub(crate) fn on_pong(&mut self, id: &PeerId, connection: ConnectionId, rtt: Option<Duration>, published: u64) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.rtt = rtt.or(peer.rtt);
        if let State::Connected { connections, .. } = &mut peer.state
            && let Some(connection) = connections.iter_mut().find(|other| other.id == connection)
        {
            connection.published = [published, connection.published[0]];
        }
    }

    // Consequences.

    pub(super) fn make_known(&mut self, id: &PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.state = State::Known;
        if !peer.can_be_dialled() {
            self.forget(id);
        } else if self.access.admits(id) {
            self.candidates.insert(id.clone());
        }
    }

    /// Stops dialling a peer that may not connect any more. Its addresses stay known, for when it may. Returns its
    /// connections.
    fn keep_out(&mut self, id: &PeerId) -> Vec<ConnectionId> {
        let Some(peer) = self.peers.get_mut(id) else { return Vec::new() };
        if matches!(peer.state, State::Backoff) {
            peer.state = State::Known;
            self.timers.stop(&Target::Peer(id.clone()));
        }
        self.candidates.remove(id);
        self.is_admission_stale |= self.wanted.remove(id).is_some();
        peer.connections().collect()
    }

    /// Makes a peer that may connect again a candidate for dials, unless an entry of `bootstrap_peers` dials it. Returns
    /// whether it was none before.
    fn let_in(&mut self, id: &PeerId) -> bool {
        if self.is_bootstrap(id) {
            return false;
        }
        let waits = self.peers.get(id).is_some_and(|peer| matches!(peer.state, State::Known) && peer.can_be_dialled());
        waits && self.candidates.insert(id.clone())
    }

    pub(super) fn forget(&mut self, id: &PeerId) {
        match self.peers.get_mut(id) {
            Some(peer) if self.access.is_paired(id) => *peer = Peer::new(DiscoverySource::Paired),
            _ => drop(self.peers.remove(id)),
        }
        self.is_admission_stale |= self.wanted.remove(id).is_some();
        self.candidates.remove(id);
        self.timers.stop(&Target::Peer(id.clone()));
    }

    /// Makes room for one more peer: forgets the one that has failed most, or one that may not connect. Returns whether
    /// there is room.
    pub(super) fn make_room(&mut self) -> bool {
        if self.peers.len() < self.limits.known_peers {
            return true;
        }
        let failing = self.peers.iter().filter(|(id, peer)| {
            matches!(peer.state, State::Backoff)
                && peer.failures > 0
                && !self.access.is_paired(id)
                && !self.wanted.contains_key(*id)
        });
        let worst = failing.max_by_key(|(_, peer)| peer.failures).map(|(id, _)| id.clone());
        let worst = worst.or_else(|| {
            let mut kept_out = self.peers.iter().filter(|(id, peer)| {
                matches!(peer.state, State::Known) && !self.admits(id) && !self.access.is_paired(id)
            });
            kept_out.next().map(|(id, _)| id.clone())
        });
        worst.inspect(|id| self.forget(id)).is_some()
    }
}
