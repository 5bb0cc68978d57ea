//! Which connections have not closed although they were told to?

use std::time::Duration;

use super::io::ConnectionId;
use super::time::{Time, TimerTable};

/// How long a connection may take to close while the peer receives pending data. A connection to a peer that has
/// stopped reading would never close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections that are being closed. Their number is bounded by that of the connections.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
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

    /// Records that a connection was told to close. A second call does not extend the deadline.
    pub(crate) fn begin(&mut self, now: Time, connection: ConnectionId) {
        if !self.timers.is_set(&connection) {
            self.timers.set(connection, now + CLOSE_TIMEOUT);
        }
    }

    pub(crate) fn on_disconnected(&mut self, connection: ConnectionId) {
        self.timers.stop(&connection);
    }

    /// Takes a connection that has not closed in time. Each is returned once.
    pub(crate) fn pop_late(&mut self, now: Time) -> Option<ConnectionId> {
        self.timers.pop_due(now)
    }
}
