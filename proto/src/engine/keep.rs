//! Which connections are kept? One per peer, and a few places are kept free for new peers while some are refused.

use std::cmp::Reverse;
use std::time::Duration;

use super::io::ConnectionId;
use super::peer::{Peer, State};
use super::peers::Peers;
use super::time::Time;
use crate::id::PeerId;

/// Two connections are a simultaneous dial if the older one is younger than this. Otherwise the other end has lost the
/// older one without closing it.
const SIMULTANEOUS: Duration = Duration::from_secs(5);
/// One in this many places is kept free for new peers, and at least one.
const RESERVE: usize = 8;
/// A node with fewer places keeps none free. It would have so few peers that a mesh of such nodes falls apart whenever
/// one of them makes room.
const MIN_PLACES: usize = 6;
/// How long places are kept free after a newcomer was refused. It comes back after about a second, and others with it.
const RUSH: Duration = Duration::from_secs(10);
/// The minimum time that a peer stays connected: enough to learn of other peers, which takes a walk.
const SETTLED: Duration = Duration::from_secs(3);
/// The minimum time between two disconnects to make room. So many newcomers at once do not replace all other peers.
const PART_EVERY: Duration = Duration::from_millis(500);

impl Peers {
    /// Of several connections to a peer, those that this node closes. `is_needed` says whether something on a connection
    /// would end with it.
    pub(crate) fn superfluous(
        &self,
        now: Time,
        id: &PeerId,
        is_needed: impl Fn(ConnectionId) -> bool,
    ) -> Vec<ConnectionId> {
        let Some(State::Connected { connections, .. }) = self.peers.get(id).map(|peer| &peer.state) else {
            return Vec::new();
        };
        let [older, .., newer] = connections.as_slice() else { return Vec::new() };
        if now - older.since < SIMULTANEOUS {
            // Both ends see both connections. The end with the lower peer id decides.
            return if self.local < *id { vec![newer.id] } else { Vec::new() };
        }
        if is_needed(older.id) {
            // If the older one is alive, a call needs it. If it is dead, its silence will show that, and the peer dials
            // again.
            return vec![newer.id];
        }
        // Gossipsub sends its subscriptions on the first connection only. The other end has lost that connection, so
        // both ends must start again with a new one to agree.
        connections.iter().map(|connection| connection.id).collect()
    }

    /// A newcomer was refused, since all places are taken.
    pub(crate) fn on_refused(&mut self, now: Time) {
        self.rush_until = now + RUSH;
    }

    /// The connections of a peer to disconnect when few places are left and newcomers are refused, so that they find one.
    /// One peer at a time. If no peer may be disconnected yet, it is due again later: newcomers that were refused
    /// meanwhile may know nobody else, and they try again.
    ///
    /// The disconnected peer loses little, because it knows other peers by now. A newcomer that finds every node full
    /// cannot join the mesh.
    pub(crate) fn surplus(&mut self, now: Time, is_in_use: impl Fn(ConnectionId) -> bool) -> Vec<ConnectionId> {
        self.next_room = None;
        let reserve = if self.max_peers < MIN_PLACES { 0 } else { (self.max_peers / RESERVE).max(1) };
        if now >= self.rush_until || self.connected <= self.max_peers - reserve || self.pruned.is_some() {
            return Vec::new();
        }
        let Some(oldest) = self.idle_peers(&is_in_use).map(|(.., since)| since).min() else { return Vec::new() };
        let earliest = self.next_parting.max(oldest + SETTLED);
        if now < earliest {
            self.next_room = Some(earliest);
            return Vec::new();
        }
        self.pruned = self.idle(is_in_use, |since| now - since >= SETTLED);
        self.next_parting = now + PART_EVERY;
        self.connections_of(self.pruned.as_ref())
    }

    /// Whether [`Peers::surplus`] is due again.
    pub(crate) fn is_room_due(&self, now: Time) -> bool {
        self.next_room.is_some_and(|next| next <= now)
    }

    /// The connections of a peer to disconnect so that a wanted peer can be dialled. One peer at a time.
    pub(crate) fn displaced(&mut self, is_in_use: impl Fn(ConnectionId) -> bool) -> Vec<ConnectionId> {
        let is_full = self.connected + self.dials.len() >= self.max_peers;
        if self.displaced.is_some() || !is_full || !self.is_place_wanted() {
            return Vec::new();
        }
        self.displaced = self.idle(is_in_use, |_| true);
        self.connections_of(self.displaced.as_ref())
    }

    /// A connected peer that may be disconnected to make room: it is neither configured nor in a call. Peers outside
    /// GossipSub's meshes come first. Among these, peers that dialled this node come first, because those that this
    /// node dialled would not be dialled by others. Among equals the newest comes first, so that many newcomers at once
    /// replace only each other.
    fn idle(&self, is_in_use: impl Fn(ConnectionId) -> bool, is_old: impl Fn(Time) -> bool) -> Option<PeerId> {
        let idle = self
            .idle_peers(&is_in_use)
            .filter(|(.., since)| is_old(*since))
            .map(|(id, peer, since)| (self.mesh.contains(id), peer.is_chosen(), Reverse(since), id));
        idle.min().map(|(.., id)| id.clone())
    }

    /// The connected peers that may be disconnected to make room, and the time since which each is connected.
    fn idle_peers(&self, is_in_use: &impl Fn(ConnectionId) -> bool) -> impl Iterator<Item = (&PeerId, &Peer, Time)> {
        self.peers.iter().filter_map(move |(id, peer)| match &peer.state {
            State::Connected { since, .. }
                if !self.access.is_paired(id) && !self.is_bootstrap(id) && !peer.connections().any(is_in_use) =>
            {
                Some((id, peer, *since))
            }
            _ => None,
        })
    }

    fn connections_of(&self, id: Option<&PeerId>) -> Vec<ConnectionId> {
        id.and_then(|id| self.peers.get(id)).into_iter().flat_map(|peer| peer.connections()).collect()
    }
}
