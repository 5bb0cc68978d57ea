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
/// The longest silence of a peer that is there. TCP doubles the pause between its attempts, from 0.2 s: what was sent at
/// the beginning of an outage of 10 s comes after 12.6 s (RFC 6298 §5.5).
const SILENT_AFTER: Duration = Duration::from_secs(14);
/// How long the network may take to say when bytes last moved.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// If the engine's timeout is this late, the node itself was stalled, and cannot tell whether its peers were silent.
const STALL: Duration = Duration::from_millis(500);
/// How long peers have to be heard after a stall.
const AFTER_STALL: Duration = Duration::from_secs(5);

/// What to do about a connection whose deadline has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask the network when bytes last moved.
    Ask(ConnectionId),
    /// The peer is gone.
    Silent(ConnectionId),
}

/// The connections whose peers must be heard. Their number is bounded by that of the connections.
#[derive(Debug)]
pub(crate) struct Liveness {
    watched: BTreeMap<ConnectionId, Watched>,
    /// A sign of life moves the deadline, not the timer. A timer that fires early costs less than one that is set again
    /// with every pong.
    timers: TimerTable<ConnectionId>,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    deadline: Time,
    /// Whether the network was asked, and has not answered.
    is_asked: bool,
}

impl Liveness {
    pub(crate) fn new() -> Self {
        Self { watched: BTreeMap::new(), timers: TimerTable::new() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    pub(crate) fn on_connected(&mut self, now: Time, connection: ConnectionId) {
        let deadline = now + SILENT_AFTER;
        self.watched.insert(connection, Watched { deadline, is_asked: false });
        self.timers.set(connection, deadline);
    }

    /// The peer has shown that it is there.
    pub(crate) fn on_heard(&mut self, now: Time, connection: ConnectionId) {
        if let Some(watched) = self.watched.get_mut(&connection) {
            *watched = Watched { deadline: now + SILENT_AFTER, is_asked: false };
        }
    }

    /// Handles the network's answer. Returns whether the peer is gone.
    pub(crate) fn on_progress(&mut self, now: Time, connection: ConnectionId, silent_for: Duration) -> bool {
        let Some(watched) = self.watched.get_mut(&connection).filter(|watched| watched.is_asked) else { return false };
        if silent_for >= SILENT_AFTER {
            self.forget(connection);
            return true;
        }
        let deadline = now + (SILENT_AFTER - silent_for);
        *watched = Watched { deadline, is_asked: false };
        self.timers.set(connection, deadline);
        false
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

    /// Extends all deadlines if the engine's timeout is `late`. Call this first.
    pub(crate) fn on_lateness(&mut self, now: Time, late: Duration) {
        if late > STALL {
            let earliest = now + AFTER_STALL;
            self.watched.values_mut().for_each(|watched| watched.deadline = watched.deadline.max(earliest));
        }
    }

    /// Takes a connection whose peer was not heard in time.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Due> {
        while let Some(connection) = self.timers.pop_due(now) {
            let Some(watched) = self.watched.get_mut(&connection) else { continue };
            if watched.deadline > now {
                self.timers.set(connection, watched.deadline);
            } else if std::mem::replace(&mut watched.is_asked, true) {
                self.watched.remove(&connection);
                return Some(Due::Silent(connection));
            } else {
                watched.deadline = now + ANSWER_WITHIN;
                self.timers.set(connection, watched.deadline);
                return Some(Due::Ask(connection));
            }
        }
        None
    }
}
