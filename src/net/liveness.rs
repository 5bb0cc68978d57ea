//! Is the other end still there? Watches for pongs, and says when they stay away.
//!
//! The ping protocol's own failures come late: it keeps the first to itself, and the second waits for a substream that
//! a dead path never negotiates. Together that is 25 s; here it is [`PONG_TIMEOUT`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::task::waker;
use futures_timer::Delay;

use crate::engine::ConnectionId;
use crate::net::wake::{Flag, Task};

/// From a pong to the next ping.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long a pong may take.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// From a pong to the next, at most.
const PONG_TIMEOUT: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);

/// The connections that should hear pongs.
pub(super) struct Liveness {
    deadlines: BTreeMap<ConnectionId, Instant>,
    /// Until the deadline that was the first when it was set. Pongs move deadlines, not this: to set a timer costs more
    /// than to find sometimes that it was early.
    timer: Option<Delay>,
    due: Arc<Flag>,
    waker: Waker,
}

impl Liveness {
    pub(super) fn new(task: Arc<Task>) -> Self {
        let due = Flag::new(task);
        Self { deadlines: BTreeMap::new(), timer: None, waker: waker(due.clone()), due }
    }

    /// The connection is new, or there was a pong.
    pub(super) fn heard(&mut self, connection: ConnectionId) {
        self.deadlines.insert(connection, Instant::now() + PONG_TIMEOUT);
        if self.timer.is_none() {
            self.due.set();
        }
    }

    /// No pong is to be expected.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.deadlines.remove(&connection);
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_set()
    }

    /// A connection that is silent for too long; each once.
    pub(super) fn poll_silent(&mut self) -> Option<ConnectionId> {
        if !self.due.take() {
            return None;
        }
        let cx = &mut Context::from_waker(&self.waker);
        while self.timer.as_mut().is_none_or(|timer| timer.poll_unpin(cx).is_ready()) {
            self.timer = None;
            let (&connection, &deadline) = self.deadlines.iter().min_by_key(|(_, deadline)| **deadline)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.deadlines.remove(&connection);
                // There may be more.
                self.due.set();
                return Some(connection);
            }
            self.timer = Some(Delay::new(left));
        }
        None
    }
}
