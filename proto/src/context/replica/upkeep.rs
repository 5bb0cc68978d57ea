//! What does a node write again, and what does it drop, as time passes and its clock is put right?

use std::sync::Arc;

use super::{Change, Corrected, Replica};
use crate::context::entry::{Entry, Op};
use crate::context::stamp::{Hlc, Wall};
use crate::context::store::Plan;

/// How many of its own entries a node writes again at once, because older ones of its own came back with a later stamp. Two
/// nodes with one key would do it as fast as they can.
const MAX_WRITTEN_AGAIN: usize = 1024;
/// How many more after each [`Replica::calm_down`].
const WRITTEN_AGAIN_A_ROUND: usize = 32;

impl Replica {
    /// An entry of this node from before its start has come back with a later stamp than what it has written since: its
    /// clock has gone back. What it has written last counts, at the path, below it, and above it.
    pub(super) fn write_again(&mut self, came: &Entry, covered: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
        let Some(signer) = self.signer.as_ref().filter(|signer| signer.author == came.stamp.author) else {
            return Vec::new();
        };
        let hlc = self.last.max(came.stamp.hlc).next();
        let written = covered.iter().filter(|entry| self.has_written(entry));
        let mut again: Vec<_> = written.map(|entry| (entry.path.clone(), entry.op.clone())).collect();
        if came.is_visible()
            && !again.iter().any(|(path, op)| *path == came.path && *op != Op::Object)
            && self.has_covered(came)
        {
            again.push((came.path.clone(), Op::Removed));
        }
        again.truncate(MAX_WRITTEN_AGAIN.saturating_sub(self.written_again));
        self.written_again += again.len();
        let again = again.into_iter().map(|(path, op)| signer.sign(path, hlc, op)).collect();
        self.put_again(again)
    }

    /// Whether something that this node has written in this run would cover the entry, if its stamp were later.
    fn has_covered(&self, entry: &Entry) -> bool {
        let mut above = self.store.above(&entry.path);
        above.any(|above| above.op != Op::Object && above.reaches(entry) && self.has_written(above))
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
    /// This node's own entries of those it writes again.
    pub(crate) fn follow_clock(&mut self, wall: Wall) -> Corrected {
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
            again = self.sign_again(wall, too_far.iter());
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
        let Some(signer) = &self.signer else { return Vec::new() };
        let own = entries.filter(|entry| entry.stamp.author == signer.author);
        let again: Vec<_> = own.map(|entry| signer.sign(entry.path.clone(), hlc, entry.op.clone())).collect();
        if !again.is_empty() {
            self.last = hlc;
        }
        self.put_again(again)
    }
}
