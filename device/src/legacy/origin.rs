//! Whose is a value in a snapshot: is it the node's own change, or a copy?

use avi_p2p::PeerId;

use super::snapshot::Leaf;
use super::speaker::Said;
use super::{Legacy, MAX_AHEAD_S, owner};

/// A snapshot of a 0.5 node, before its values are looked at.
pub(super) struct Statement<'a> {
    pub from: &'a PeerId,
    /// What the node had before its last change, but for what it lacked.
    base: Option<&'a Said>,
    /// Its last snapshot.
    last: Option<&'a Said>,
    when: When,
    /// Whether it has never taken over anything.
    is_alone: bool,
    /// Whether it is the first that is heard, and has what this node has published before it was started again, or too
    /// long ago.
    is_past: bool,
}

/// When a node has written what nobody else has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum When {
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
pub(super) enum Origin {
    /// The node has just written it.
    Own,
    /// It is a copy of what somebody has said.
    Copy,
    /// It cannot be told.
    Unknown,
}

impl Legacy {
    /// What is known of a snapshot before its values are looked at.
    pub(super) fn statement<'a>(&'a self, from: &'a PeerId, now: &Said, timestamp: u64, unix_ms: u64) -> Statement<'a> {
        let last = self.speakers.get(from.as_str()).map(|(last, _)| last);
        let others = || now.clock.iter().filter(|(node, _)| *node != from.as_str());
        let is_timely = now.version == 1 && timestamp <= unix_ms / 1000 + MAX_AHEAD_S;
        let when = match last {
            Some(_) if !now.is_cut && others().all(|(node, count)| self.has_heard(node, *count)) => When::AfterLast,
            Some(_) => When::Unknown,
            None if is_timely => When::At(timestamp),
            None => self.sole(from, now).map_or(When::Unknown, When::Sole),
        };
        let base = self.shared_with(from.as_str(), now);
        let unmoved = last.filter(|last| others().all(|(node, count)| last.count(node) >= *count));
        let is_past =
            last.is_none() && now.clock.get(&self.local).is_some_and(|count| !self.has_heard(&self.local, *count));
        Statement { from, base: unmoved.or(base), last, when, is_alone: others().next().is_none(), is_past }
    }

    /// The snapshot of this node that a node has taken over last.
    fn published_to(&self, now: &Said) -> Option<&Said> {
        let count = now.clock.get(&self.local)?;
        self.published.iter().find(|said| said.version == *count)
    }

    /// The shared context as a node has taken it over last, from this node or from others of this library: all with the
    /// same content, ahead of all else that the node had.
    fn shared_with(&self, from: &str, now: &Said) -> Option<&Said> {
        let others = self.speakers.iter().filter_map(|(node, (said, _))| {
            let is_last = said.shared.is_some() && now.clock.get(node) == Some(&said.version);
            is_last.then_some(said)
        });
        let shared: Vec<&Said> = self.published_to(now).into_iter().chain(others).collect();
        let base = *shared.first()?;
        let is_one = shared.iter().all(|said| said.shared == base.shared && said.count(from) + 1 >= now.version);
        let mut counts = now.clock.iter().filter(|(node, _)| *node != from);
        let is_ahead = counts.all(|(node, count)| shared.iter().any(|said| said.count(node) >= *count));
        (is_one && is_ahead).then_some(base)
    }

    /// Whether all changes of a node up to this count have been heard.
    fn has_heard(&self, node: &str, count: u64) -> bool {
        match self.speakers.get(node) {
            Some((last, _)) => last.version >= count,
            None => node == self.local && self.published.front().is_some_and(|first| first.version <= count),
        }
    }

    /// The path of the only value that is not as this node has published it, but for what the node says of itself.
    fn sole(&self, from: &PeerId, now: &Said) -> Option<String> {
        let here = self.published_to(now).filter(|_| now.clock.len() == 2)?;
        let is_other =
            |(path, hash): &(&String, &u64)| owner(path) != Some(from.as_str()) && here.values.get(*path) != Some(hash);
        let mut differing = now.values.iter().filter(is_other);
        differing.next().filter(|_| differing.next().is_none()).map(|(path, _)| path.clone())
    }

    /// Whose a value of a snapshot is.
    pub(super) fn origin(&self, said: &Statement<'_>, leaf: &Leaf) -> Origin {
        if let Some(before) = said.base.or(said.last).and_then(|said| said.values.get(&leaf.path)) {
            if *before == leaf.hash {
                return Origin::Copy;
            }
            // Only what is missing is taken from snapshots that the clock does not show.
            if said.base.is_some() {
                return Origin::Own;
            }
        }
        if said.is_past {
            return Origin::Copy;
        }
        let is_new = said.is_alone || self.known.is_new(leaf);
        let is_own = match &said.when {
            When::AfterLast => is_new,
            When::At(second) => is_new && *second > self.last_change(&leaf.path).0,
            When::Sole(path) => *path == leaf.path,
            When::Unknown => false,
        };
        if is_own { Origin::Own } else { Origin::Unknown }
    }
}
