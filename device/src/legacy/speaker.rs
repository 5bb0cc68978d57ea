//! What has a node said before, and when?

use std::collections::{BTreeMap, VecDeque};

use super::snapshot::Leaf;

/// How many values of a path are remembered, the last ones.
const MAX_REMEMBERED: usize = 4;
/// The most paths that are remembered of one node.
const MAX_PATHS: usize = 4096;

/// A node that has published its context.
#[derive(Debug, Default)]
pub(crate) struct Speaker {
    /// Its own count of changes in its last snapshot.
    pub version: u64,
    /// All counts in its last snapshot: what it had heard by then.
    pub clock: BTreeMap<String, u64>,
    /// When it was last heard, as a count of all snapshots.
    pub heard: u64,
    /// This node's own count at that time: it had published that much.
    pub published: u64,
    /// What it had at each path, from which of its versions on.
    said: BTreeMap<String, VecDeque<(u64, Option<u64>)>>,
}

/// What a node had at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// A value with this hash.
    Value(u64),
    /// Nothing.
    Nothing,
    /// It was too long ago.
    Forgotten,
}

impl Speaker {
    /// What it has at a path by its last snapshot.
    pub fn last(&self, path: &str) -> Said {
        let last = self.said.get(path).and_then(|said| said.back()).and_then(|(_, hash)| *hash);
        last.map_or(Said::Nothing, Said::Value)
    }

    /// What it had at a path by its own count.
    pub fn said(&self, path: &str, version: u64) -> Said {
        let Some(said) = self.said.get(path) else { return Said::Nothing };
        match said.iter().rev().find(|(at, _)| *at <= version) {
            Some((_, Some(hash))) => Said::Value(*hash),
            Some((_, None)) => Said::Nothing,
            None if said.len() == MAX_REMEMBERED => Said::Forgotten,
            None => Said::Nothing,
        }
    }

    /// Whether it had this value at a path at any time that is remembered.
    pub fn ever_said(&self, path: &str, hash: u64) -> bool {
        self.said.get(path).is_some_and(|said| said.iter().any(|(_, value)| *value == Some(hash)))
    }

    /// Remembers a snapshot.
    pub fn say(&mut self, version: u64, leaves: &[Leaf]) {
        let now: BTreeMap<_, _> = leaves.iter().map(|leaf| (leaf.path.as_str(), leaf.hash)).collect();
        for (path, said) in &mut self.said {
            if !now.contains_key(path.as_str()) && said.back().is_some_and(|(_, last)| last.is_some()) {
                push(said, version, None);
            }
        }
        for (path, hash) in now {
            if self.last(path) != Said::Value(hash) && (self.said.contains_key(path) || self.said.len() < MAX_PATHS) {
                push(self.said.entry(path.to_owned()).or_default(), version, Some(hash));
            }
        }
        self.version = version;
    }
}

fn push(said: &mut VecDeque<(u64, Option<u64>)>, version: u64, value: Option<u64>) {
    if said.len() == MAX_REMEMBERED {
        said.pop_front();
    }
    said.push_back((version, value));
}
