//! How do nodes of AVI 0.5 share the context, without their faults becoming ours?
//!
//! Such a node publishes its whole context after each change of its own, with one time for all of it, and takes over that
//! of others: if their clock is ahead, all of it; if it is behind, what is missing; and else of two values either. So what
//! it publishes is its own change, beside copies of what others had, of any age. A value of it is taken over another one
//! if it is surely a change of its own:
//!
//! - What the node had before is known: its last snapshot, if its clock tells of none that it has taken over since; or a
//!   snapshot of this node, if that was ahead of all else it had. Then whatever differs is its own, but not a value that it
//!   lacked and that somebody has had before.
//! - Otherwise, a value that nobody has had before, if everybody whose changes the node has was heard.
//! - In the first snapshot that is heard from a node: its very first change, if it is later than the last change here; or
//!   the one value that differs from the snapshot of this node that it has taken over.
//!
//! What cannot be told fills gaps and changes nothing. Absence and emptiness (null, an empty object) never remove anything;
//! a key that a 0.5 node deletes comes back to it. A key that was removed here comes back from there only with a value that
//! nobody has had. Of what a node has taken over from this one before this one was started again, nothing is taken. Below the
//! id of a peer only that peer's snapshot counts.
//!
//! In the other direction the shared context is published as such a snapshot, ahead of all that 0.5 nodes have said, and
//! they take all of it, deletions included.
//!
//! This machine has no clock and no network: `driver` gives it both.

mod driver;
mod origin;
mod snapshot;
mod speaker;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use avi_p2p::PeerId;
use serde_json::Value;

use self::origin::{Origin, Statement};
use self::snapshot::{Leaf, MAX_CLOCK, Refused, Snapshot, at, hash, is_gap, leaves};
use self::speaker::{Known, Said};

pub(crate) use self::driver::Adapter;
pub(crate) use self::snapshot::TOPIC;

/// The most nodes that are remembered; one that is forgotten counts as new when it is heard again.
const MAX_SPEAKERS: usize = 32;
/// The most paths of the shared context whose last change is remembered.
const MAX_CHANGES: usize = 4096;
/// The most snapshots of this node that are remembered.
const MAX_PUBLISHED: usize = 16;
/// How far the clock of a node may be ahead, as in the shared context.
const MAX_AHEAD_S: u64 = 15 * 60;
/// How far the count of this node that others tell may be ahead of what it has published, and of its clock, in
/// milliseconds. One that is further ahead is none that it has said.
const MAX_STEP: u64 = MAX_AHEAD_S * 1000;

/// What is known of the contexts of other nodes.
#[derive(Debug)]
pub(crate) struct Legacy {
    local: String,
    /// How many changes of each node have been heard, this one's included.
    clock: BTreeMap<String, u64>,
    /// The last snapshot of each other node, and when it was heard, as a count of all.
    speakers: BTreeMap<String, (Said, u64)>,
    heard: u64,
    /// The last snapshots of this node.
    published: VecDeque<Said>,
    known: Known,
    /// The last changes of the shared context: when, in seconds since 1970, and whether it was a removal.
    changes: BTreeMap<String, (u64, bool)>,
    /// Their paths, the oldest first.
    order: VecDeque<String>,
    /// The hash of the context that all nodes have taken, if it is known.
    shared: Option<u64>,
}

/// What a snapshot changes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Taken {
    /// The values to write, by their paths.
    pub writes: Vec<(String, Value)>,
    /// Values that were left out, because they are too many or have keys that cannot be in a path.
    pub left_out: u64,
    /// Whether it was a node of AVI 0.5.
    pub is_legacy: bool,
}

impl Legacy {
    pub fn new(local: &PeerId) -> Self {
        Self {
            local: local.to_string(),
            clock: BTreeMap::new(),
            speakers: BTreeMap::new(),
            heard: 0,
            published: VecDeque::new(),
            known: Known::default(),
            changes: BTreeMap::new(),
            order: VecDeque::new(),
            shared: None,
        }
    }

    /// A path of the shared context was written, or removed.
    pub fn handle_change(&mut self, path: &str, is_removed: bool, unix_ms: u64) {
        if self.changes.insert(path.to_owned(), (unix_ms / 1000, is_removed)).is_none() {
            self.order.push_back(path.to_owned());
        }
        while self.order.len() > MAX_CHANGES {
            let oldest = self.order.pop_front();
            oldest.map(|path| self.changes.remove(&path));
        }
    }

    /// A node has published its context: what of it goes into the shared one, which is `current`?
    pub fn handle_snapshot(
        &mut self,
        from: &PeerId,
        json: &[u8],
        current: &Value,
        unix_ms: u64,
    ) -> Result<Taken, Refused> {
        let Snapshot { timestamp, vector_clock, data, shared, is_cut, .. } = Snapshot::read(from.as_str(), json)?;
        let version = vector_clock.get(from.as_str()).copied().unwrap_or_default();
        if self.speakers.get(from.as_str()).is_some_and(|(last, _)| version <= last.version) {
            return Err(Refused::Stale);
        }
        self.advance(&vector_clock, unix_ms);
        // What a 0.5 node has published, others of them may refuse: its clock need not be ahead of theirs.
        self.shared = shared.then(|| hash(&data));
        let (leaves, left_out) = leaves(&data);
        let mut taken = Taken { left_out, is_legacy: !shared, ..Taken::default() };
        let mut now = Said::new(version, vector_clock, &leaves);
        now.is_cut = is_cut;
        now.shared = shared.then(|| hash(&data));
        if !shared {
            let said = self.statement(from, &now, timestamp, unix_ms);
            let welcome = leaves.iter().filter(|leaf| self.is_welcome(&said, leaf, current));
            taken.writes = welcome.map(|leaf| (leaf.path.clone(), leaf.value.clone())).collect();
        }
        self.known.add(&leaves);
        self.remember(from.as_str(), now);
        Ok(taken)
    }

    /// The shared context as a snapshot, unless all nodes have it. `unix_ms` is the time.
    pub fn snapshot(&mut self, current: &Value, unix_ms: u64) -> Option<Vec<u8>> {
        let content = hash(current);
        if self.shared == Some(content) {
            return None;
        }
        // Later than all before it, also of this node before it was started again.
        let count = self.clock.entry(self.local.clone()).or_default();
        *count = (*count + 1).max(unix_ms);
        let (version, leaves) = (*count, leaves(current).0);
        self.known.add(&leaves);
        let mut said = Said::new(version, self.clock.clone(), &leaves);
        said.shared = Some(content);
        self.published.push_back(said);
        if self.published.len() > MAX_PUBLISHED {
            self.published.pop_front();
        }
        self.shared = Some(content);
        let snapshot = Snapshot {
            device_id: self.local.clone(),
            timestamp: unix_ms / 1000,
            vector_clock: self.clock.clone(),
            data: current.clone(),
            shared: true,
            is_cut: false,
        };
        serde_json::to_vec(&snapshot).ok()
    }

    /// Makes the next snapshot be published whatever has been: not all nodes have the last one.
    pub fn forget_published(&mut self) {
        self.shared = None;
    }

    /// What is published from now on is later than this. A count of this node that it cannot have said is a lie: it would
    /// never end.
    fn advance(&mut self, heard: &BTreeMap<String, u64>, unix_ms: u64) {
        let published = self.clock.entry(self.local.clone()).or_default();
        let most = (*published).max(unix_ms).saturating_add(MAX_STEP);
        for (node, count) in heard.iter().filter(|(node, count)| **node != self.local || **count <= most) {
            if self.clock.contains_key(node) || self.clock.len() < MAX_CLOCK {
                let known = self.clock.entry(node.clone()).or_default();
                *known = (*known).max(*count);
            }
        }
    }

    /// Whether another one of these nodes publishes the shared context, so that this one need not: the first of all that
    /// do. Two at once would not be ahead of each other.
    pub fn leaves_it_to<'a>(&self, mut listeners: impl Iterator<Item = &'a PeerId>) -> bool {
        listeners.any(|peer| {
            let said = self.speakers.get(peer.as_str());
            peer.as_str() < self.local.as_str() && said.is_some_and(|(said, _)| said.shared.is_some())
        })
    }

    fn is_welcome(&self, said: &Statement<'_>, leaf: &Leaf, current: &Value) -> bool {
        if owner(&leaf.path).is_some_and(|owner| owner != said.from.as_str()) {
            return false;
        }
        let is_empty = leaf.value.is_null() || leaf.value.is_object();
        match self.origin(said, leaf) {
            Origin::Copy => false,
            Origin::Unknown => is_gap(current, &leaf.path) && !self.last_change(&leaf.path).1,
            Origin::Own if is_empty => is_gap(current, &leaf.path),
            // A subtree does not become a value.
            Origin::Own => at(current, &leaf.path).is_none_or(|there| !there.is_object() && *there != leaf.value),
        }
    }

    /// When a path or one above it was last changed, as far as is known, and whether one of them was removed.
    fn last_change(&self, path: &str) -> (u64, bool) {
        let above = path.match_indices('.').map(|(dot, _)| &path[..dot]);
        let changes = above.chain(["", path]).filter_map(|path| self.changes.get(path));
        changes.fold((0, false), |(last_s, removed), (at_s, is_removal)| (last_s.max(*at_s), removed | is_removal))
    }

    fn remember(&mut self, node: &str, said: Said) {
        if !self.speakers.contains_key(node) && self.speakers.len() >= MAX_SPEAKERS {
            let oldest = self.speakers.iter().min_by_key(|(_, (_, heard))| *heard).map(|(id, _)| id.clone());
            oldest.map(|id| self.speakers.remove(&id));
        }
        self.heard += 1;
        self.speakers.insert(node.to_owned(), (said, self.heard));
    }
}

/// The peer that a path belongs to: the first key that is a peer id.
fn owner(path: &str) -> Option<&str> {
    path.split('.').find(|key| key.parse::<PeerId>().is_ok())
}
