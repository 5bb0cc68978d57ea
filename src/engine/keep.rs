//! Which connections are kept? One a peer, and a few places free for those who come.

use std::time::Duration;

use super::io::ConnectionId;
use super::peer::State;
use super::peers::Peers;
use super::time::Time;
use crate::id::PeerId;

/// Two connections are a simultaneous dial if the older one is younger than this. Otherwise the other end has lost the
/// older one without a word.
const SIMULTANEOUS: Duration = Duration::from_secs(5);
/// One in this many places is kept free for those who come.
const RESERVE: usize = 8;
/// How long a peer stays at least: long enough to hear of others.
const SETTLED: Duration = Duration::from_secs(3);

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
}
