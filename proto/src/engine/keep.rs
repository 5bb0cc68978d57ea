//! Which connections are kept? One a peer, and a few places free for those who come.

use std::cmp::Reverse;
use std::time::Duration;

use super::io::ConnectionId;
use super::peer::State;
use super::peers::Peers;
use super::time::Time;
use crate::id::PeerId;
use crate::stats::PeerDirection;

/// Two connections are a simultaneous dial if the older one is younger than this. Otherwise the other end has lost the
/// older one without a word.
const SIMULTANEOUS: Duration = Duration::from_secs(5);
/// One in this many places is kept free for those who come.
const RESERVE: usize = 8;
/// How long a peer stays at least: long enough to hear of others.
const SETTLED: Duration = Duration::from_secs(3);
/// How often a peer is parted with to make room: a storm of newcomers does not drive out everyone else.
const PART_EVERY: Duration = Duration::from_millis(500);

impl Peers {
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
        if self.connected <= self.max_peers - self.max_peers / RESERVE || now < self.next_parting {
            return Vec::new();
        }
        let surplus = self.idle(is_in_use, |since| now - since >= SETTLED);
        if surplus.is_some() {
            self.next_parting = now + PART_EVERY;
        }
        self.connections_of(surplus.as_ref())
    }

    /// Whom to part with so that a peer that is wanted can be dialled: one at a time.
    pub(crate) fn displaced(&mut self, is_in_use: impl Fn(ConnectionId) -> bool) -> Vec<ConnectionId> {
        let is_full = self.connected + self.dials.len() >= self.max_peers;
        if self.displaced.is_some() || !is_full || !self.is_place_wanted() {
            return Vec::new();
        }
        self.displaced = self.idle(is_in_use, |_| true);
        self.connections_of(self.displaced.as_ref())
    }

    /// A connected peer that can be parted with: neither configured nor in a call. Those in GossipSub's meshes are the
    /// last to go; before that those whom this node has dialled, because nobody else can choose them. Among equals the
    /// newest goes, so that a storm of newcomers drives out itself.
    fn idle(&self, is_in_use: impl Fn(ConnectionId) -> bool, is_old: impl Fn(Time) -> bool) -> Option<PeerId> {
        let idle = self.peers.iter().filter_map(|(id, peer)| match &peer.state {
            State::Connected { since, connections }
                if is_old(*since)
                    && !self.access.is_paired(id)
                    && !self.bootstrap.iter().any(|entry| entry.is(id))
                    && !peer.connections().any(&is_in_use) =>
            {
                let is_chosen = connections.iter().any(|connection| connection.direction == PeerDirection::Outbound);
                Some((self.mesh.contains(id), is_chosen, Reverse(*since), id))
            }
            _ => None,
        });
        idle.min().map(|(.., id)| id.clone())
    }

    fn connections_of(&self, id: Option<&PeerId>) -> Vec<ConnectionId> {
        id.and_then(|id| self.peers.get(id)).into_iter().flat_map(|peer| peer.connections()).collect()
    }
}
