//! Is the other end still there? Watches for pongs, and says when they stay away.
//!
//! The ping protocol's own failures come late: it keeps the first to itself, and the second waits for a substream that
//! a dead path never negotiates. Together that is 25 s; here it is [`PONG_TIMEOUT`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures_timer::Delay;
use libp2p_ping as ping;

use crate::engine::ConnectionId;
use crate::wake::{Flag, Wake};

/// From a pong to the next ping.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long a pong may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// A timer that is seen so late has waited for this node, which then cannot know what others have done meanwhile.
const STALL: Duration = Duration::from_millis(500);
/// From a pong to the next, at most.
const PONG_TIMEOUT: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);

/// The protocol that makes a peer speak.
pub(in crate::net) fn behaviour() -> ping::Behaviour {
    ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT))
}

/// The connections that should hear pongs.
pub(super) struct Liveness {
    deadlines: BTreeMap<ConnectionId, Instant>,
    /// Until the deadline that was the first when it was set. Pongs move deadlines, not this: to set a timer costs more
    /// than to find sometimes that it was early.
    timer: Option<(Instant, Delay)>,
    due: Arc<Flag>,
    waker: Waker,
}

impl Liveness {
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        let due = Flag::new(wake);
        Self { deadlines: BTreeMap::new(), timer: None, waker: Waker::from(due.clone()), due }
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
        while self.timer.as_mut().is_none_or(|(_, timer)| timer.poll_unpin(cx).is_ready()) {
            let now = Instant::now();
            if self.timer.take().is_some_and(|(set, _)| now.saturating_duration_since(set) > STALL) {
                self.deadlines.values_mut().for_each(|deadline| *deadline = (*deadline).max(now + PING_TIMEOUT));
            }
            let (&connection, &deadline) = self.deadlines.iter().min_by_key(|(_, deadline)| **deadline)?;
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                self.deadlines.remove(&connection);
                // There may be more.
                self.due.set();
                return Some(connection);
            }
            self.timer = Some((deadline, Delay::new(left)));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_once(liveness: &mut Liveness, timer_is_late_by: Duration) {
        let past = Instant::now() - timer_is_late_by;
        liveness.timer = Some((past, Delay::new(Duration::ZERO)));
        liveness.deadlines.values_mut().for_each(|deadline| *deadline = past);
        let (_, timer) = liveness.timer.as_mut().expect("just set");
        futures::executor::block_on(timer);
        liveness.due.set();
    }

    #[test]
    fn each_connection_that_is_silent_is_told_once_and_a_pong_is_waited_for_anew() {
        let [gone, heard, forgotten, other] = [1, 2, 3, 4].map(ConnectionId);
        let mut liveness = Liveness::new(Arc::default());
        for connection in [gone, heard, forgotten, other] {
            liveness.heard(connection);
        }
        assert_eq!(liveness.poll_silent(), None);
        assert!(liveness.timer.is_some() && !liveness.is_due(), "it waits");
        at_once(&mut liveness, Duration::ZERO);
        liveness.heard(heard);
        liveness.forget(forgotten);
        let told: Vec<_> = std::iter::from_fn(|| liveness.poll_silent()).collect();
        assert_eq!(told, [gone, other]);
        assert!(liveness.timer.is_some() && !liveness.is_due(), "for the one that is left");
    }

    #[test]
    fn after_a_stall_of_this_node_its_peers_have_time_to_answer() {
        let mut liveness = Liveness::new(Arc::default());
        liveness.heard(ConnectionId(1));
        at_once(&mut liveness, 2 * STALL);
        assert_eq!(liveness.poll_silent(), None);
        let left = liveness.deadlines[&ConnectionId(1)] - Instant::now();
        assert!(left <= PING_TIMEOUT && left > PING_TIMEOUT / 2, "{left:?}");
    }
}
