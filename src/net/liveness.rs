//! Is the other end still there? Watches for pongs, and says when they stay away.
//!
//! The ping protocol's own failures come late: it keeps the first to itself, and the second waits for a substream that
//! a dead path never negotiates. Together that is 25 s; here it is [`PONG_TIMEOUT`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

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
    deadlines: BTreeMap<ConnectionId, Delay>,
    due: Arc<Flag>,
    waker: Waker,
}

impl Liveness {
    pub(super) fn new(task: Arc<Task>) -> Self {
        let due = Flag::new(task);
        Self { deadlines: BTreeMap::new(), waker: waker(due.clone()), due }
    }

    /// The connection is new, or there was a pong.
    pub(super) fn heard(&mut self, connection: ConnectionId) {
        let deadline = self.deadlines.entry(connection).or_insert_with(|| Delay::new(PONG_TIMEOUT));
        deadline.reset(PONG_TIMEOUT);
        // Only its poll sets the waker.
        if deadline.poll_unpin(&mut Context::from_waker(&self.waker)).is_ready() {
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
        let mut passed =
            self.deadlines.iter_mut().filter_map(|(&id, deadline)| deadline.poll_unpin(cx).is_ready().then_some(id));
        let silent = passed.next()?;
        // There may be more.
        self.due.set();
        self.deadlines.remove(&silent);
        Some(silent)
    }
}
