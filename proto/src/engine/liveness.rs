//! Is the peer of a connection still there? Every connection has a deadline for the next pong.
//!
//! The ping protocol's own failures come late: it does not report the first, and the second waits for a substream that
//! a dead path never negotiates. Together that takes 25 s; here it takes [`PONG_TIMEOUT`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::io::ConnectionId;
use super::time::{Time, TimerTable};

/// The time from a pong to the next ping.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// The time limit for a pong.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time from one pong to the next.
const PONG_TIMEOUT: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);
/// If the engine's timeout is this late, the node itself was stalled, and cannot tell whether pongs were late.
const STALL: Duration = Duration::from_millis(500);

/// The connections that expect pongs. Their number is bounded by that of the connections.
#[derive(Debug)]
pub(crate) struct Liveness {
    deadlines: BTreeMap<ConnectionId, Time>,
    /// A pong moves the deadline, not the timer. A timer that fires early costs less than one that is set again with
    /// every pong.
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

    /// Whether pongs are expected: the connection exists and is not being closed.
    pub(crate) fn expects(&self, connection: ConnectionId) -> bool {
        self.deadlines.contains_key(&connection)
    }

    /// Stops expecting pongs on a connection.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.deadlines.remove(&connection);
        self.timers.stop(&connection);
    }

    /// Extends all deadlines if the engine's timeout is `late`. Call this first.
    pub(crate) fn on_lateness(&mut self, now: Time, late: Duration) {
        if late > STALL {
            self.deadlines.values_mut().for_each(|deadline| *deadline = (*deadline).max(now + PING_TIMEOUT));
        }
    }

    /// Takes a connection that has been silent for too long. Each is returned once.
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
