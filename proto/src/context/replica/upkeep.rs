//! What does a node write again, and what does it drop, as time passes and its clock is put right?

use std::sync::Arc;
use std::time::Duration;

use super::{Change, Corrected, Replica};
use crate::context::entry::{Entry, Op};
use crate::context::path::Path;
use crate::context::stamp::{Hlc, Wall};
use crate::context::store::Plan;
use crate::situation::{Situation, reached};

/// By how much the clocks of two processes with one key may differ.
const AT_ODDS: Duration = Duration::from_secs(1);
/// How many of its own entries a node writes again at once, because older ones of its own came back with a later stamp. Two
/// nodes with one key would do it as fast as they can.
const MAX_WRITTEN_AGAIN: usize = 1024;
/// How many more after each [`Replica::calm_down`].
const WRITTEN_AGAIN_A_ROUND: usize = 32;

impl Replica {
    /// An entry of this node has come back that this node's clock has not reached yet: an earlier run wrote it by a clock that
    /// has gone back since. What this run has written counts in its place. What is written again covers no more than the entry
    /// does.
    pub(super) fn write_again(&mut self, wall: Wall, came: &Entry, covered: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
        // Another process with this node's key, as in a rolling restart, has about the same time: its later write counts.
        let is_reached = wall.is_plausible() && came.stamp.hlc.wall() <= wall.after(AT_ODDS);
        let Some(signer) = self.signer.as_ref().filter(|signer| signer.author == came.stamp.author && !is_reached)
        else {
            return Vec::new();
        };
        let written = covered.iter().filter(|entry| self.has_written(entry));
        let mut again: Vec<_> = written.map(|entry| (entry.path.clone(), entry.op.clone())).collect();
        let is_in_place = again.iter().any(|(path, op)| *path == came.path && *op != Op::Object);
        match came.op {
            Op::Value(_) if !is_in_place && !self.has_written(came) && self.has_covered(came) => {
                again.push((came.path.clone(), Op::Removed));
            }
            Op::Object => again.extend(self.hidden_by(came)),
            _ => {}
        }
        again.truncate(MAX_WRITTEN_AGAIN.saturating_sub(self.written_again));
        self.written_again += again.len();
        if !again.is_empty() {
            reached(Situation::ContextWrittenAgain);
        }
        let hlc = came.stamp.hlc.next();
        let again: Vec<_> = again.into_iter().map(|(path, op)| signer.sign(path, hlc, op)).collect();
        self.put_again(again)
    }

    /// Whether something above the entry, which this node has written in this run, would cover it if its stamp were later.
    fn has_covered(&self, entry: &Entry) -> bool {
        let mut above = self.store.above(&entry.path).filter(|above| above.path != entry.path);
        above.any(|above| above.op != Op::Object && above.reaches(entry) && self.has_written(above))
    }

    /// The value that this node has written in this run where the object is, if there is nothing in the object.
    fn hidden_by(&self, object: &Entry) -> Option<(Path, Op)> {
        let below = self.store.under(object.path.as_str());
        let is_empty = below.filter(|entry| entry.path != object.path).all(|entry| !entry.is_visible());
        let slot = self.store.slot(object.path.as_str()).filter(|_| is_empty)?;
        let written = slot.entries().find(|entry| matches!(entry.op, Op::Value(_)) && self.has_written(entry))?;
        Some((written.path.clone(), written.op.clone()))
    }

    /// Lets a few more entries be written again.
    pub(crate) fn calm_down(&mut self) {
        self.written_again = self.written_again.saturating_sub(WRITTEN_AGAIN_A_ROUND);
    }

    /// Puts this node's own entries in, as far as they fit. Returns those that did.
    fn put_again(&mut self, mut entries: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
        entries.retain(|entry| match self.store.plan(entry) {
            Plan::Fits(covered) => {
                self.put(entry.clone(), &covered);
                self.note(entry);
                true
            }
            Plan::Known | Plan::Full { .. } => false,
        });
        entries
    }

    /// Drops the tombstones whose time is over, and what belongs to a peer that has not renewed it.
    pub(crate) fn expire(&mut self, wall: Wall) -> Vec<Change> {
        if !wall.is_plausible() {
            return Vec::new();
        }
        let expired = self.store.expire(wall.before(self.options.tombstone_lifetime));
        expired.iter().for_each(|_| reached(Situation::ContextExpired));
        let lost = expired.iter().filter(|entry| entry.is_visible());
        lost.map(|entry| Change { author: entry.stamp.author, path: entry.path.clone() }).collect()
    }

    /// Writes again what belongs to this node, before it expires. What is shown: a value that something is below would cover
    /// that.
    pub(crate) fn renew(&mut self, wall: Wall) -> Vec<Arc<Entry>> {
        if !wall.is_plausible() {
            return Vec::new();
        }
        let (own, half) = (self.author(), wall.before(self.options.tombstone_lifetime / 2));
        let is_due = |entry: &&Arc<Entry>| {
            let is_renewed = entry.op == Op::Object || self.is_shown(entry);
            entry.is_visible() && own == Some(entry.stamp.author) && is_renewed
        };
        let due: Vec<_> = self.store.expiring(half).filter(is_due).cloned().collect();
        self.sign_again(wall, due.iter())
    }

    /// Drops what the clock, which was not set before, or was wrong, tells to be too far ahead or to come from an old file.
    /// This node's own entries of those it writes again, at the time at which it wrote them by the clock that is right now:
    /// that has gone back by `gone_back`, as far as is known.
    pub(crate) fn follow_clock(&mut self, wall: Wall, gone_back: Duration) -> Corrected {
        if !wall.is_plausible() {
            return Corrected::default();
        }
        let own = self.author();
        let mut dropped = Vec::new();
        if let Some(read_at) = self.read_at.take().filter(|at| *at < wall.before(self.options.tombstone_lifetime)) {
            let in_file = read_at.after(self.options.max_ahead);
            dropped = self.store.take_out(|entry| own != Some(entry.stamp.author) && entry.stamp.hlc.wall() <= in_file);
        }
        let bound = wall.after(self.options.max_ahead);
        let mut again = Vec::new();
        let mut ahead = 0;
        if self.latest.max(self.last).wall() > bound {
            let too_far = self.store.take_out(|entry| entry.stamp.hlc.wall() > bound);
            self.last = self.last.min(Hlc::at(wall));
            self.latest = self.store.entries().map(|entry| entry.stamp.hlc).max().unwrap_or_default();
            ahead = too_far.len();
            again = self.sign_back(wall, gone_back, &too_far);
            dropped.extend(too_far);
        }
        let is_again = |entry: &Entry| again.iter().any(|again| (&again.path, &again.op) == (&entry.path, &entry.op));
        let lost = dropped.iter().filter(|entry| entry.is_visible() && !is_again(entry));
        let changes = lost.map(|entry| Change { author: entry.stamp.author, path: entry.path.clone() }).collect();
        Corrected { again, changes, ahead }
    }

    /// Writes this node's own of these entries again, at its own time.
    fn sign_again<'a>(&mut self, wall: Wall, entries: impl Iterator<Item = &'a Arc<Entry>>) -> Vec<Arc<Entry>> {
        let hlc = self.stamp(wall);
        self.sign_own(entries, |_| hlc)
    }

    /// Writes this node's own of these entries again, as much earlier as its clock has gone back, and none of them after
    /// now. They stay in their order.
    fn sign_back(&mut self, wall: Wall, gone_back: Duration, entries: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
        let now = Hlc::at(wall).0;
        let last = entries.iter().map(|entry| entry.stamp.hlc.0).max().unwrap_or(now);
        let back = (Hlc::at(Wall(0).after(gone_back)).0).max(last.saturating_sub(now));
        self.sign_own(entries.iter(), |hlc| Hlc(hlc.0.saturating_sub(back)))
    }

    fn sign_own<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Arc<Entry>>,
        at: impl Fn(Hlc) -> Hlc,
    ) -> Vec<Arc<Entry>> {
        let Some(signer) = &self.signer else { return Vec::new() };
        let own = entries.filter(|entry| entry.stamp.author == signer.author);
        let again: Vec<_> =
            own.map(|entry| signer.sign(entry.path.clone(), at(entry.stamp.hlc), entry.op.clone())).collect();
        self.last = again.iter().map(|entry| entry.stamp.hlc).fold(self.last, Hlc::max);
        self.put_again(again)
    }
}
