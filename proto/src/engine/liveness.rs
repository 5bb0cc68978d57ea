//! Is the other end still there? Every connection has a deadline by which the next pong must have come.
//!
//! The ping protocol's own failures come late: it keeps the first to itself, and the second waits for a substream that
//! a dead path never negotiates. Together that is 25 s; here it is [`PONG_TIMEOUT`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::io::ConnectionId;
use super::time::{Time, TimerTable};

/// From a pong to the next ping.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long a pong may take.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// From a pong to the next, at most.
const PONG_TIMEOUT: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);
/// A deadline that is seen so late has waited for this node, which then cannot know what others have done meanwhile.
const STALL: Duration = Duration::from_millis(500);

/// The connections that should hear pongs. Bounded by the connections.
#[derive(Debug)]
pub(crate) struct Liveness {
    deadlines: BTreeMap<ConnectionId, Time>,
    /// A pong moves the deadline, not the timer: a timer that fires early costs less than one that is set anew with every
    /// pong.
    timers: TimerTable<ConnectionId>,
}

impl Liveness {
    pub(crate) fn new() -> Self {
        Self { deadlines: BTreeMap::new(), timers: TimerTable::new() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    pub(crate) fn on_connected(&mut self, now: Time, connection: ConnectionId) {
        self.deadlines.insert(connection, now + PONG_TIMEOUT);
        self.timers.set(connection, now + PONG_TIMEOUT);
    }

    pub(crate) fn on_pong(&mut self, now: Time, connection: ConnectionId) {
        if let Some(deadline) = self.deadlines.get_mut(&connection) {
            *deadline = now + PONG_TIMEOUT;
        }
    }

    /// Whether pongs are expected: the connection is there, and not being closed.
    pub(crate) fn expects(&self, connection: ConnectionId) -> bool {
        self.deadlines.contains_key(&connection)
    }

    /// No pong is expected any more.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.deadlines.remove(&connection);
        self.timers.stop(&connection);
    }

    /// To be called first when the engine's timeout comes `late`.
    pub(crate) fn on_lateness(&mut self, now: Time, late: Duration) {
        if late > STALL {
            self.deadlines.values_mut().for_each(|deadline| *deadline = (*deadline).max(now + PING_TIMEOUT));
        }
    }

    /// A connection that is silent for too long; each once.
    pub(crate) fn pop_silent(&mut self, now: Time) -> Option<ConnectionId> {
        while let Some(connection) = self.timers.pop_due(now) {
            match self.deadlines.get(&connection) {
                Some(&deadline) if deadline > now => self.timers.set(connection, deadline),
                Some(_) => {
                    self.deadlines.remove(&connection);
                    return Some(connection);
                }
                None => {}
            }
        }
        None
    }
}
