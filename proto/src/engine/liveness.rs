//! Is the peer of a connection still there? Whoever sends bytes, or takes bytes, is.
//!
//! A pong says so exactly, and comes often enough on an idle connection. On a busy or slow one, pongs wait behind data:
//! before a connection is ended, the network is asked when bytes last moved on it. That costs nothing while pongs come.
//!
//! One lost ping ends nothing: the next one is answered before [`SILENT_AFTER`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::io::ConnectionId;
use super::time::{Time, TimerTable};

/// The time from a pong to the next ping, and from a lost ping to the next one.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long the ping protocol waits for a pong. With [`PING_INTERVAL`] on both sides of it, the pong of the next ping
/// comes within 13 s of the last one.
pub const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// After this silence, the network is asked: a ping was not answered in time.
const LOOK_AFTER: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);
/// How long a peer has to answer when this machine's addresses have changed: its connection may be bound to one that is
/// gone.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// How often it is asked from then on.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The longest silence of a peer that is there. TCP doubles the pause between its attempts, from 0.2 s: what was sent at
/// the beginning of an outage of 10 s comes after 12.6 s (RFC 6298 §5.5).
const SILENT_AFTER: Duration = Duration::from_secs(14);
/// The longest silence of a connection that only delivers what it has taken, or whose peer is heard elsewhere. TCP tries
/// again after 25.4 s.
const PATIENCE: Duration = Duration::from_secs(27);
/// How long the network may take to say when bytes last moved.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// If the engine's timeout is this late, the node itself was stalled, and cannot tell whether its peers were silent.
const STALL: Duration = Duration::from_millis(500);
/// How long peers have to be heard after a stall.
const AFTER_STALL: Duration = Duration::from_secs(5);

/// What to do about a connection whose peer was not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Due {
    /// Ask the network when bytes last moved.
    Ask(ConnectionId),
    /// The peer is gone.
    Silent(ConnectionId),
}

/// What the network's answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// The peer is there.
    Alive,
    /// Nothing has moved for a while.
    Stuck,
    /// The peer is gone.
    Silent,
}

/// The connections whose peers must be heard. Their number is bounded by that of the connections.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Liveness {
    watched: BTreeMap<ConnectionId, Watched>,
    /// A sign of life moves no timer. One that fires early costs less than one that is set again with every pong.
    timers: TimerTable<ConnectionId>,
    /// After a stall of this node, nobody is asked until then.
    spared_until: Time,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Watched {
    heard_at: Time,
    /// Whether a newer connection is used in its place.
    is_retired: bool,
    /// Whether its peer is heard elsewhere.
    is_heard_elsewhere: bool,
    /// Whether the network was asked, and has not answered.
    is_asked: bool,
    /// Since when an answer to a probe is awaited.
    doubted_at: Option<Time>,
}

impl Watched {
    fn new(now: Time) -> Self {
        Self { heard_at: now, is_retired: false, is_heard_elsewhere: false, is_asked: false, doubted_at: None }
    }

    fn on_heard(&mut self, at: Time) {
        (self.heard_at, self.is_heard_elsewhere, self.doubted_at) = (at, false, None);
    }

    /// How long it may be silent.
    fn patience(&self) -> Duration {
        if self.is_retired || self.is_heard_elsewhere { PATIENCE } else { SILENT_AFTER }
    }
}

impl Liveness {
    pub(crate) fn new() -> Self {
        Self { watched: BTreeMap::new(), timers: TimerTable::new(), spared_until: Time::ZERO }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    pub(crate) fn on_connected(&mut self, now: Time, connection: ConnectionId) {
        self.watched.insert(connection, Watched::new(now));
        self.timers.set(connection, now + LOOK_AFTER);
    }

    /// The peer has shown that it is there.
    pub(crate) fn on_heard(&mut self, now: Time, connection: ConnectionId) {
        if let Some(watched) = self.watched.get_mut(&connection) {
            watched.on_heard(now);
            watched.is_asked = false;
        }
    }

    /// All peers are probed now: whoever does not answer soon may be out of reach. Returns their connections.
    pub(crate) fn doubt_all(&mut self, now: Time) -> Vec<ConnectionId> {
        let doubted = self.watched.iter_mut().filter(|(_, watched)| !watched.is_retired);
        let doubted = doubted.map(|(connection, watched)| {
            watched.doubted_at = Some(now);
            self.timers.set(*connection, now + ANSWERED_WITHIN);
            *connection
        });
        doubted.collect()
    }

    /// Whether a peer has not answered since this machine's addresses changed.
    pub(crate) fn is_doubted(&self, connection: ConnectionId) -> bool {
        self.watched.get(&connection).is_some_and(|watched| watched.doubted_at.is_some())
    }

    /// A newer connection is used in place of this one.
    pub(crate) fn on_retired(&mut self, connection: ConnectionId) {
        if let Some(watched) = self.watched.get_mut(&connection) {
            watched.is_retired = true;
        }
    }

    /// Whether datagrams of the peer come, though its connection is stuck.
    pub(crate) fn set_heard_elsewhere(&mut self, connection: ConnectionId, is_heard: bool) {
        if let Some(watched) = self.watched.get_mut(&connection) {
            watched.is_heard_elsewhere = is_heard;
        }
    }

    /// Handles the network's answer.
    pub(crate) fn on_progress(&mut self, now: Time, connection: ConnectionId, silent_for: Duration) -> Life {
        let Some(watched) = self.watched.get_mut(&connection).filter(|watched| watched.is_asked) else {
            return Life::Alive;
        };
        let patience = watched.patience();
        if silent_for >= patience {
            self.forget(connection);
            return Life::Silent;
        }
        watched.is_asked = false;
        let is_doubted = watched.doubted_at.is_some_and(|at| silent_for >= now - at);
        if silent_for < LOOK_AFTER && !is_doubted {
            watched.on_heard(now - silent_for);
            self.timers.set(connection, now + (LOOK_AFTER - silent_for));
            return Life::Alive;
        }
        self.timers.set(connection, now + LOOK_EVERY.min(patience - silent_for));
        Life::Stuck
    }

    /// Whether the connection exists and is not being closed.
    pub(crate) fn expects(&self, connection: ConnectionId) -> bool {
        self.watched.contains_key(&connection)
    }

    /// Stops watching a connection.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.watched.remove(&connection);
        self.timers.stop(&connection);
    }

    /// Spares all peers for a while if the engine's timeout is `late`. Call this first.
    pub(crate) fn on_lateness(&mut self, now: Time, late: Duration) {
        if late > STALL {
            self.spared_until = now + AFTER_STALL;
        }
    }

    /// Takes a connection whose peer was not heard in time.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Due> {
        while let Some(connection) = self.timers.pop_due(now) {
            let Some(watched) = self.watched.get_mut(&connection) else { continue };
            let doubtful_at = watched.doubted_at.map_or(watched.heard_at + LOOK_AFTER, |at| at + ANSWERED_WITHIN);
            let look_at = doubtful_at.max(self.spared_until);
            if look_at > now {
                self.timers.set(connection, look_at);
            } else if std::mem::replace(&mut watched.is_asked, true) {
                self.watched.remove(&connection);
                return Some(Due::Silent(connection));
            } else {
                self.timers.set(connection, now + ANSWER_WITHIN);
                return Some(Due::Ask(connection));
            }
        }
        None
    }
}
