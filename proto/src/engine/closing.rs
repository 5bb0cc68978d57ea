//! Which connections do not end although they were told to?

use std::time::Duration;

use super::io::ConnectionId;
use super::time::{Time, TimerTable};

/// How long a peer may take to receive what is under way when its connection is closed. A connection to a peer that has
/// stopped reading would never end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections that are being closed. Bounded by the connections.
#[derive(Debug)]
pub(crate) struct Closing {
    timers: TimerTable<ConnectionId>,
}

impl Closing {
    pub(crate) fn new() -> Self {
        Self { timers: TimerTable::new() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    /// The connection was told to end. What was told before counts.
    pub(crate) fn begin(&mut self, now: Time, connection: ConnectionId) {
        if !self.timers.is_set(&connection) {
            self.timers.set(connection, now + CLOSE_TIMEOUT);
        }
    }

    pub(crate) fn on_disconnected(&mut self, connection: ConnectionId) {
        self.timers.stop(&connection);
    }

    /// A connection that has not ended in time; each once.
    pub(crate) fn pop_late(&mut self, now: Time) -> Option<ConnectionId> {
        self.timers.pop_due(now)
    }
}
