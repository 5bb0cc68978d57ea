//! Which connections are kept? One per peer, and a few places are kept free for new peers while some are refused.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use super::admission::MAX_RETIRED;
use super::io::ConnectionId;
use super::peer::{Connection, Peer, Retired, State};
use super::peers::Peers;
use super::time::Time;
use crate::id::PeerId;
use crate::stats::PeerDirection;

/// Two connections are a simultaneous dial if the newer one was made so soon after the older one. Otherwise the other end
/// has lost the older one without closing it, or replaces it.
const SIMULTANEOUS: Duration = Duration::from_secs(5);
/// How long the older one has to answer a probe. The other end may have lost it, and the newer one is all there is.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
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

/// A retired connection has delivered everything with this pong, whose ping was sent after both ends had retired it, if it
/// has had so much time: what has not left by then has waited for too long, and is reported.
const DELIVERED: u32 = 2;
const DELIVERED_AFTER: Duration = Duration::from_secs(30);

/// What to do about several connections to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Duplicate {
    /// Ask on both whether they work.
    Probe([ConnectionId; 2]),
    /// Close this one: both ends know both, and the other one works.
    Close(ConnectionId),
    /// Use one alone: the other end has lost the others, or nothing moves on them.
    Retire { others: Vec<ConnectionId>, kept: ConnectionId },
}

impl Peers {
    /// Of several connections to a peer, those that this node gives up. `is_open` is false for one that is
    /// being closed; `is_needed` says whether something on a connection would end with it.
    pub(crate) fn superfluous(
        &mut self,
        now: Time,
        id: &PeerId,
        is_open: impl Fn(ConnectionId) -> bool,
        is_needed: impl Fn(ConnectionId) -> bool,
    ) -> Option<Duplicate> {
        let State::Connected { connections, .. } = &mut self.peers.get_mut(id)?.state else { return None };
        let is_in_use = |connection: &Connection| !connection.is_retired() && is_open(connection.id);
        let mut in_use: Vec<_> = connections.iter_mut().filter(|connection| is_in_use(connection)).collect();
        let first = in_use.first()?.direction;
        let is_mixed = in_use.iter().any(|connection| connection.direction != first);
        let has_begun = in_use.iter().any(|connection| connection.opened.is_some());
        let (newest, in_use) = in_use.split_last_mut()?;
        let older = in_use.first_mut()?;
        let decided_at = newest.since + SIMULTANEOUS;
        let is_simultaneous = newest.since - older.since < SIMULTANEOUS;
        // Upstream tells its subscriptions on its first connection alone. A peer of another make does not tell them again if
        // that one ends, so the one on which it began is kept.
        let newest_is_first = newest.opened.is_some_and(|at| older.opened.is_none_or(|first| at < first));
        if is_simultaneous && now < decided_at {
            let probed = older.probed_beside.filter(|(beside, _)| *beside == newest.id);
            let Some((_, probed_at)) = probed else {
                (older.is_answered, newest.is_answered) = (false, false);
                older.probed_beside = Some((newest.id, now));
                self.doubled.set(id.clone(), now + ANSWERED_WITHIN);
                return Some(Duplicate::Probe([older.id, newest.id]));
            };
            let answered_by = probed_at + ANSWERED_WITHIN;
            let is_lost = newest.is_answered && !older.is_answered && now >= answered_by;
            // Both ends see all connections. The end with the lower peer id decides; if one end has dialled them all, the
            // other.
            let decides = if is_mixed { self.local < *id } else { newest.direction == PeerDirection::Inbound };
            if decides && older.is_answered && newest.is_answered && newest_is_first && !is_needed(older.id) {
                return Some(Duplicate::Close(older.id));
            }
            let is_older_first = has_begun && !newest_is_first;
            if decides && older.is_answered && (is_older_first || now >= answered_by) {
                return Some(Duplicate::Close(newest.id));
            }
            if !is_lost {
                // If the other end decides nothing, it is of another make.
                self.doubled.set(id.clone(), if now < answered_by { answered_by } else { decided_at });
                return None;
            }
        }
        if is_simultaneous && !newest.is_answered {
            // The newest may be dead, and the older too. Their silence will show that.
            self.doubled.set(id.clone(), now + SIMULTANEOUS);
            return None;
        }
        let kept = newest.id;
        if is_simultaneous && older.is_answered && older.opened.is_some() && !newest_is_first {
            // The other end has decided nothing: it is of another make. Pub/sub has never used the newest.
            if is_needed(kept) {
                self.doubled.set(id.clone(), now + SIMULTANEOUS);
                return None;
            }
            return Some(Duplicate::Close(kept));
        }
        let State::Connected { connections, .. } = &self.peers.get(id)?.state else { return None };
        let in_use = connections.iter().filter(|connection| is_in_use(connection)).map(|connection| connection.id);
        let others: Vec<_> = in_use.filter(|id| *id != kept).collect();
        if others.iter().copied().any(is_needed) {
            // A call cannot leave it. If it is dead, its silence will show that.
            self.doubled.set(id.clone(), now + SIMULTANEOUS);
            return None;
        }
        Some(Duplicate::Retire { others, kept })
    }

    /// Handles the answer to a probe. Returns whether the connections of the peer must be looked at again.
    ///
    /// An answer on the older of two connections that comes too late is none: the other end may have left it by then.
    pub(crate) fn on_answered(&mut self, now: Time, id: &PeerId, connection: ConnectionId) -> bool {
        let Some(State::Connected { connections, .. }) = self.peers.get_mut(id).map(|peer| &mut peer.state) else {
            return false;
        };
        let is_double = connections.iter().filter(|connection| !connection.is_retired()).count() > 1;
        let answered = connections.iter_mut().find(|other| other.id == connection);
        let is_late = |at: Time| now >= at + ANSWERED_WITHIN;
        answered.is_some_and(|connection| {
            let counts = !connection.probed_beside.is_some_and(|(_, at)| is_late(at));
            counts && !std::mem::replace(&mut connection.is_answered, true)
        }) && is_double
    }

    /// Handles that a peer has opened pub/sub on a connection. Returns the peer if its connections must be looked at again.
    pub(crate) fn on_pub_sub_opened(&mut self, now: Time, connection: ConnectionId) -> Option<PeerId> {
        for (id, peer) in &mut self.peers {
            let State::Connected { connections, .. } = &mut peer.state else { continue };
            if let Some(opened) = connections.iter_mut().find(|other| other.id == connection) {
                opened.opened.get_or_insert(now);
                return (connections.len() > 1).then(|| id.clone());
            }
        }
        None
    }

    /// Takes a peer whose several connections must be looked at again.
    pub(crate) fn pop_doubled(&mut self, now: Time) -> Option<PeerId> {
        self.doubled.pop_due(now)
    }

    /// Marks connections as retired: they end when they have delivered everything, or with the newest one. Returns those that
    /// are too many.
    pub(crate) fn retire(
        &mut self,
        now: Time,
        id: &PeerId,
        older: &[ConnectionId],
        published: u64,
    ) -> Vec<ConnectionId> {
        let Some(State::Connected { connections, .. }) = self.peers.get_mut(id).map(|peer| &mut peer.state) else {
            return Vec::new();
        };
        for connection in connections.iter_mut().filter(|connection| older.contains(&connection.id)) {
            connection.retired = Some(Retired { since: now, pongs: 0, published });
        }
        let retired: Vec<_> = connections.iter().filter(|connection| connection.is_retired()).collect();
        let excess = retired.len().saturating_sub(MAX_RETIRED);
        retired[..excess].iter().map(|connection| connection.id).collect()
    }

    pub(crate) fn retired_count(&self) -> usize {
        let connections = self.peers.values().flat_map(Peer::all_connections);
        connections.filter(|connection| connection.is_retired()).count()
    }

    /// The peer that uses a connection.
    pub(crate) fn user_of(&self, connection: ConnectionId) -> Option<&PeerId> {
        let is_used = |peer: &Peer| {
            let mut connections = peer.all_connections().iter();
            connections.any(|other| other.id == connection && !other.is_retired())
        };
        self.peers.iter().find(|(_, peer)| is_used(peer)).map(|(id, _)| id)
    }

    /// The connection that pub/sub uses: the oldest that is not retired.
    pub(crate) fn used_by_pub_sub(&self, id: &PeerId) -> Option<ConnectionId> {
        let mut connections = self.peers.get(id)?.all_connections().iter();
        connections.find(|connection| !connection.is_retired()).map(|connection| connection.id)
    }

    /// Whether a connection ends before it has delivered what pub/sub has given it. What a peer misses that is kept out is
    /// no loss.
    pub(crate) fn ends_early(&self, id: &PeerId, connection: ConnectionId) -> bool {
        let connections = self.peers.get(id).map_or(&[][..], Peer::all_connections);
        let retired = connections.iter().find(|other| other.id == connection).and_then(|other| other.retired.as_ref());
        retired.map_or_else(
            || self.used_by_pub_sub(id) == Some(connection) && self.admits(id),
            |retired| retired.pongs < DELIVERED,
        )
    }

    /// Which of the `published` messages may not have arrived on a connection, from the first to before the last. From then
    /// on, they count as told.
    pub(crate) fn take_undelivered(&mut self, id: &PeerId, connection: ConnectionId, published: u64) -> Range<u64> {
        let Some(State::Connected { connections, .. }) = self.peers.get_mut(id).map(|peer| &mut peer.state) else {
            return 0..0;
        };
        let connection = connections.iter_mut().find(|other| other.id == connection);
        connection.map_or(0..0, |connection| {
            let taken = connection.retired.as_ref().map_or(published, |retired| retired.published);
            std::mem::replace(&mut connection.published, [published; 2])[1]..taken
        })
    }

    /// Handles a pong. Returns whether a retired connection has delivered everything.
    pub(crate) fn has_delivered(&mut self, now: Time, id: &PeerId, connection: ConnectionId) -> bool {
        let Some(State::Connected { connections, .. }) = self.peers.get_mut(id).map(|peer| &mut peer.state) else {
            return false;
        };
        let connection = connections.iter_mut().find(|other| other.id == connection);
        connection.and_then(|connection| connection.retired.as_mut()).is_some_and(|retired| {
            retired.pongs = retired.pongs.saturating_add(1);
            retired.pongs >= DELIVERED && now - retired.since >= DELIVERED_AFTER
        })
    }

    /// All connections to a peer, retired ones too.
    pub(crate) fn all_connections_to(&self, id: &PeerId) -> Vec<ConnectionId> {
        self.peers.get(id).map_or(&[][..], Peer::all_connections).iter().map(|connection| connection.id).collect()
    }

    /// The connections of a peer that has none but retired ones.
    pub(crate) fn leftovers(&self, id: &PeerId) -> Vec<ConnectionId> {
        let connections = self.peers.get(id).map_or(&[][..], Peer::all_connections);
        let is_left = connections.iter().all(|connection| connection.is_retired());
        connections.iter().filter(|_| is_left).map(|connection| connection.id).collect()
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
