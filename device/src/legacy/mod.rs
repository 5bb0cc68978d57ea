//! How do nodes of AVI 0.5 share the context, without their faults becoming ours?
//!
//! Such a node publishes its whole context after each change of its own, with one time for all of it, and takes over that
//! of others when their clock says so. So what it publishes is its own change, beside copies of what others had, of any
//! age. A value of it is taken over another one if it is a change of its own:
//!
//! - it differs from what the node had before: in its last snapshot, or if it has taken over that of this node since, in
//!   that; and nobody whose snapshots the node has taken since had it there; or
//! - it comes with the very first change of the node, which is later than the last change here; or
//! - in the first snapshot that is heard from the node, which has taken over that of this node, it is all that differs.
//!
//! What cannot be told, as most of a first snapshot, fills gaps and changes nothing. Absence and emptiness (null, an empty
//! object) never remove anything; a key that a 0.5 node deletes comes back to it. A key that was removed here comes back
//! from there only with a value that it has not had. Below the id of a peer only that peer's snapshot counts.
//!
//! In the other direction the shared context is published as such a snapshot, later than all that 0.5 nodes have said,
//! and they take all of it, deletions included.
//!
//! This machine has no clock and no network: `driver` gives it both.

mod driver;
mod snapshot;
mod speaker;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use avi_p2p::PeerId;
use serde_json::Value;

use self::snapshot::{Leaf, Refused, Snapshot, at, hash, is_gap, leaves};
use self::speaker::{Said, Speaker};

pub(crate) use self::driver::Adapter;
pub(crate) use self::snapshot::TOPIC;

/// The most nodes that are remembered; one that is forgotten counts as new when it is heard again.
const MAX_SPEAKERS: usize = 32;
/// The most nodes in the clock of what is published.
const MAX_CLOCK: usize = 64;
/// The most paths of the shared context whose last change is remembered.
const MAX_CHANGES: usize = 4096;
/// How far the clock of a node may be ahead, as in the shared context.
const MAX_AHEAD_S: u64 = 15 * 60;

/// What is known of the contexts of other nodes.
#[derive(Debug)]
pub(crate) struct Legacy {
    local: String,
    /// How many changes of each node have been heard, this one's included.
    clock: BTreeMap<String, u64>,
    /// The nodes that have published their contexts, this one included.
    speakers: BTreeMap<String, Speaker>,
    heard: u64,
    /// The last changes of the shared context: when, in seconds since 1970, and whether it was a removal.
    changes: BTreeMap<String, (u64, bool)>,
    /// Their paths, the oldest first.
    order: VecDeque<String>,
    /// The hash of the context that all nodes have taken, if it is known.
    published: Option<u64>,
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

/// A snapshot of a 0.5 node, before its values are looked at.
#[derive(Debug)]
struct Statement<'a> {
    from: &'a PeerId,
    /// The nodes whose snapshots it has taken since its last one, with the count of each.
    raised: Vec<(String, u64)>,
    when: When,
    /// If it had all of what this node published with this count, and nothing else, when it was changed once.
    base: Option<u64>,
}

/// When a node has written what is new in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    /// Since its last snapshot.
    AfterLast,
    /// In this second since 1970: it has never written anything else.
    At(u64),
    /// The value at this path is all that differs from what it has taken over: that is why it has published.
    Sole(String),
    /// At some time.
    Unknown,
}

/// Whose a value in a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The node has just written it.
    Own,
    /// It is a copy of what somebody has said.
    Copy,
    /// It cannot be told.
    Unknown,
}

impl Legacy {
    pub fn new(local: &PeerId) -> Self {
        Self {
            local: local.to_string(),
            clock: BTreeMap::new(),
            speakers: BTreeMap::new(),
            heard: 0,
            changes: BTreeMap::new(),
            order: VecDeque::new(),
            published: None,
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
        let snapshot = Snapshot::read(from.as_str(), json)?;
        let version = snapshot.vector_clock.get(from.as_str()).copied().unwrap_or_default();
        if self.speakers.get(from.as_str()).is_some_and(|speaker| version <= speaker.version) {
            return Err(Refused::Stale);
        }
        self.advance(&snapshot.vector_clock);
        // What a 0.5 node has published, others of them may refuse: its clock need not be ahead of theirs.
        self.published = snapshot.shared.then(|| hash(&snapshot.data));
        let (leaves, left_out) = leaves(&snapshot.data);
        let mut taken = Taken { left_out, is_legacy: !snapshot.shared, ..Taken::default() };
        if !snapshot.shared {
            let said = self.statement(from, &snapshot, &leaves, unix_ms);
            let welcome = leaves.iter().filter(|leaf| self.is_welcome(&said, leaf, current));
            taken.writes = welcome.map(|leaf| (leaf.path.clone(), leaf.value.clone())).collect();
        }
        self.remember(from.as_str(), version, &leaves, snapshot.vector_clock);
        Ok(taken)
    }

    /// The shared context as a snapshot, unless all nodes have it. `unix_ms` is the time.
    pub fn snapshot(&mut self, current: &Value, unix_ms: u64) -> Option<Vec<u8>> {
        let content = hash(current);
        if self.published == Some(content) {
            return None;
        }
        // Later than all before it, also of this node before it was started again.
        let count = self.clock.entry(self.local.clone()).or_default();
        *count = (*count + 1).max(unix_ms);
        let version = *count;
        self.remember(&self.local.clone(), version, &leaves(current).0, BTreeMap::new());
        self.published = Some(content);
        let snapshot = Snapshot {
            device_id: self.local.clone(),
            timestamp: unix_ms / 1000,
            vector_clock: self.clock.clone(),
            data: current.clone(),
            shared: true,
        };
        serde_json::to_vec(&snapshot).ok()
    }

    /// Makes the next snapshot be published whatever has been: not all nodes have the last one.
    pub fn forget_published(&mut self) {
        self.published = None;
    }

    /// What is published from now on is later than this.
    fn advance(&mut self, heard: &BTreeMap<String, u64>) {
        for (node, count) in heard {
            if self.clock.contains_key(node) || self.clock.len() < MAX_CLOCK {
                let known = self.clock.entry(node.clone()).or_default();
                *known = (*known).max(*count);
            }
        }
    }

    /// What is known of a snapshot before its values are looked at.
    fn statement<'a>(&self, from: &'a PeerId, snapshot: &Snapshot, leaves: &[Leaf], unix_ms: u64) -> Statement<'a> {
        let version = snapshot.vector_clock.get(from.as_str()).copied().unwrap_or_default();
        let before = self.speakers.get(from.as_str()).map(|speaker| &speaker.clock);
        let count_before = |node: &str| before.and_then(|clock| clock.get(node)).copied().unwrap_or_default();
        let is_raised = |(node, count): &(&String, &u64)| *node != from.as_str() && **count > count_before(node);
        let raised = snapshot.vector_clock.iter().filter(is_raised).map(|(node, count)| (node.clone(), *count));
        let is_timely = version == 1 && snapshot.timestamp <= unix_ms / 1000 + MAX_AHEAD_S;
        let raised: Vec<_> = raised.collect();
        let here = match raised.as_slice() {
            [(node, count)] if *node == self.local => self.speakers.get(node).map(|here| (here, *count)),
            _ => None,
        };
        let base = match (self.speakers.get(from.as_str()), here) {
            // What this node publishes after it has heard a node is ahead of that, and so replaces all that the node has.
            (Some(last), Some((_, count))) if version == last.version + 1 && count > last.published => Some(count),
            _ => None,
        };
        let when = match before {
            Some(_) => When::AfterLast,
            None if is_timely => When::At(snapshot.timestamp),
            None => here.and_then(|(here, count)| sole(from, here, count, leaves)).map_or(When::Unknown, When::Sole),
        };
        Statement { from, raised, when, base }
    }

    /// Whose a value of a snapshot is.
    fn origin(&self, said: &Statement<'_>, leaf: &Leaf) -> Origin {
        let last = match said.base.zip(self.speakers.get(&self.local)) {
            Some((count, here)) => here.said(&leaf.path, count),
            None => self.speakers.get(said.from.as_str()).map_or(Said::Nothing, |speaker| speaker.last(&leaf.path)),
        };
        match last {
            Said::Value(hash) if hash == leaf.hash => return Origin::Copy,
            Said::Forgotten => return Origin::Unknown,
            Said::Value(_) | Said::Nothing => {}
        }
        // 0.5 takes what it lacks from any snapshot, however old, and its clock does not show that.
        let was_said = || self.speakers.values().any(|speaker| speaker.ever_said(&leaf.path, leaf.hash));
        let (changed_s, was_removed) = self.last_change(&leaf.path);
        if last == Said::Nothing && was_removed && was_said() {
            return Origin::Copy;
        }
        let mut origin = match &said.when {
            When::AfterLast => Origin::Own,
            When::At(second) if *second > changed_s => Origin::Own,
            When::Sole(path) if *path == leaf.path => Origin::Own,
            When::At(_) | When::Sole(_) | When::Unknown => Origin::Unknown,
        };
        for (node, count) in &said.raised {
            match self.speakers.get(node).filter(|speaker| speaker.version >= *count) {
                Some(speaker) => match speaker.said(&leaf.path, *count) {
                    Said::Value(hash) if hash == leaf.hash => return Origin::Copy,
                    Said::Forgotten => origin = Origin::Unknown,
                    Said::Value(_) | Said::Nothing => {}
                },
                // What this node has said before it was started again.
                None if *node == self.local => return Origin::Copy,
                None => origin = Origin::Unknown,
            }
        }
        origin
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

    fn remember(&mut self, node: &str, version: u64, leaves: &[Leaf], clock: BTreeMap<String, u64>) {
        if !self.speakers.contains_key(node) && self.speakers.len() >= MAX_SPEAKERS {
            let others = self.speakers.iter().filter(|(id, _)| **id != self.local);
            let oldest = others.min_by_key(|(_, speaker)| speaker.heard).map(|(id, _)| id.clone());
            oldest.map(|id| self.speakers.remove(&id));
        }
        self.heard += 1;
        let published = self.clock.get(&self.local).copied().unwrap_or_default();
        let speaker = self.speakers.entry(node.to_owned()).or_default();
        speaker.say(version, leaves);
        (speaker.clock, speaker.heard, speaker.published) = (clock, self.heard, published);
    }
}

/// The path of the only value that is not as this node has published it, but for what the node says of itself.
fn sole(from: &PeerId, here: &Speaker, count: u64, leaves: &[Leaf]) -> Option<String> {
    let differs = |leaf: &&Leaf| here.said(&leaf.path, count) != Said::Value(leaf.hash);
    let of_others = |leaf: &&Leaf| owner(&leaf.path) != Some(from.as_str());
    let mut differing = leaves.iter().filter(of_others).filter(differs);
    differing.next().filter(|_| differing.next().is_none()).map(|leaf| leaf.path.clone())
}

/// The peer that a path belongs to: the first key that is a peer id.
fn owner(path: &str) -> Option<&str> {
    path.split('.').find(|key| key.parse::<PeerId>().is_ok())
}
