//! When does GossipSub need a heartbeat? While anything happens, about every second. In a quiet mesh, where a heartbeat
//! has little to do, nobody is woken for one: the network room beats when something else polls it, as the pongs do that
//! every peer sends.

use std::time::Duration;

use super::io::NetAction;
use super::outbox::Outbox;
use super::time::Time;

/// From one heartbeat to the next. GossipSub's own timer, which is set for 1 s when the heartbeat before has been carried
/// out, must have fired by then, or this one does nothing: so it is 50 ms longer.
const BEAT_EVERY: Duration = Duration::from_millis(1050);
/// Heartbeats after anything that happens: the first mends the meshes, the next hears what others say to that.
pub(crate) const BEATS_AFTER_ALL: u32 = 2;
/// Heartbeats after a message: gossip tells of it with three, and forgets it with the fifth.
pub(crate) const BEATS_AFTER_MESSAGE: u32 = 5;
/// Heartbeats after a topic was left: GossipSub counts by them when it may be joined again, which is after ten seconds.
pub(crate) const BEATS_AFTER_LEAVING: u32 = 12;

/// How many heartbeats are wanted, and when the next one is due.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    wanted: u32,
    /// `None` while none is wanted.
    next: Option<Time>,
}

impl Heartbeat {
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.next
    }

    /// Something has happened that so many heartbeats have to do with.
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
