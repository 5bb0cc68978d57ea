//! When is the file of the context written?

use std::time::Duration;

use super::SharedContext;
use crate::context::write_file;
use crate::engine::io::Output;
use crate::engine::outbox::Outbox;
use crate::engine::time::Time;

/// The file is written so long after a change, and for each 100 KiB of it a second later: a context that changes all the
/// time must not wear out a memory card.
const SAVE_AFTER: Duration = Duration::from_secs(1);
const SAVED_BYTES_PER_SECOND: usize = 100 * 1024;
/// The file is written at least so often, or eight times in the lifetime of a tombstone: its age says how long the node was
/// away.
const SAVE_EVERY: Duration = Duration::from_secs(24 * 3600);

impl SharedContext {
    pub(super) fn want_save(&mut self, now: Time) {
        if self.options.file.is_none() || self.save_at.is_some() {
            return;
        }
        let pause = SAVE_AFTER + Duration::from_secs((self.replica.store.bytes() / SAVED_BYTES_PER_SECOND) as u64);
        self.save_at = Some((now + SAVE_AFTER).max(self.saved_at.map_or(Time::ZERO, |at| at + pause)));
    }

    /// Has the file written again before it looks as if this node had been away, and after the clock was set.
    pub(super) fn keep_file_young(&mut self, now: Time) {
        let wall = self.wall(now);
        let every = SAVE_EVERY.min(self.options.tombstone_lifetime / 8);
        let is_young = self.file_time.after(every) > wall && self.file_time <= wall.after(every);
        if wall.is_plausible() && !is_young && self.replica.store.bytes() > 0 {
            self.want_save(now);
        }
    }

    pub(super) fn save(&mut self, now: Time, out: &mut Outbox) {
        self.save_at = None;
        self.saved_at = Some(now);
        self.file_time = self.replica.age(self.wall(now));
        out.push(Output::SaveContext { bytes: write_file(&self.replica, self.wall(now)) });
    }

    /// Saves at the end, also without a change: the node was here until now.
    pub(super) fn save_last(&mut self, now: Time, out: &mut Outbox) {
        if self.options.file.is_some() && (self.save_at.is_some() || self.replica.store.bytes() > 0) {
            self.save(now, out);
        }
    }
}
