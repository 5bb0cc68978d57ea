//! When does GossipSub need a heartbeat? While anything happens, about once a second. In a quiet mesh a heartbeat has
//! little to do, and nothing is woken for it: the network layer does the heartbeat when something else polls it, such
//! as the pongs that every peer sends.

use std::time::Duration;

use super::io::NetAction;
use super::outbox::Outbox;
use super::time::Time;

/// The time between two heartbeats. GossipSub sets its own timer to 1 s after each heartbeat. If that timer has not
/// fired, an ordered heartbeat does nothing, so this is 50 ms longer.
const BEAT_EVERY: Duration = Duration::from_millis(1050);
/// Heartbeats after any other event: the first repairs the meshes, the second handles the replies to that.
pub(crate) const BEATS_AFTER_ALL: u32 = 2;
/// Heartbeats after a message: gossip announces it with three, and forgets it with the fifth.
pub(crate) const BEATS_AFTER_MESSAGE: u32 = 5;
/// Heartbeats after this node or a peer has left a topic. GossipSub counts heartbeats until the topic may be joined again after
/// ten seconds, and the network layer favours who returns until one of them has grafted it.
pub(crate) const BEATS_AFTER_LEAVING: u32 = 14;

/// How many heartbeats are needed, and when the next one is due.
#[derive(Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Heartbeat {
    wanted: u32,
    /// `None` if no heartbeat is needed.
    next: Option<Time>,
}

impl Heartbeat {
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.next
    }

    /// Asks for at least this many heartbeats from now on.
    pub(crate) fn want(&mut self, now: Time, beats: u32) {
        self.wanted = self.wanted.max(beats);
        self.next.get_or_insert(now + BEAT_EVERY);
    }

    pub(crate) fn handle_timeout(&mut self, now: Time, out: &mut Outbox) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        out.net(NetAction::Heartbeat);
        self.wanted -= 1;
        self.next = (self.wanted > 0).then(|| now + BEAT_EVERY);
    }
}
