//! What has a node had before?

use std::collections::{BTreeMap, BTreeSet};

use super::snapshot::Leaf;

/// The most paths whose values are remembered, the most values of all, and those of one path after which the oldest of it
/// are forgotten: a slider has many.
const MAX_PATHS: usize = 4096;
const MAX_VALUES: usize = 1 << 18;
const MAX_GENERATION: usize = 2048;

/// A snapshot of a node.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The node's own count of changes, by which it is known.
    pub version: u64,
    /// All counts: what the node had taken over by then.
    pub clock: BTreeMap<String, u64>,
    /// The hashes of its values.
    pub values: BTreeMap<String, u64>,
    /// Whether its clock has counts that were left out.
    pub is_cut: bool,
    /// The hash of the whole, if it shows the shared context.
    pub shared: Option<u64>,
}

impl Said {
    pub fn new(version: u64, clock: BTreeMap<String, u64>, leaves: &[Leaf]) -> Self {
        let values = leaves.iter().map(|leaf| (leaf.path.clone(), leaf.hash)).collect();
        Self { version, clock, values, is_cut: false, shared: None }
    }

    /// The count of a node in it.
    pub fn count(&self, node: &str) -> u64 {
        self.clock.get(node).copied().unwrap_or_default()
    }
}

/// The values that anybody has had: of a path the last ones, a few thousand.
#[derive(Debug, Default)]
pub(crate) struct Known {
    paths: BTreeMap<String, Values>,
    len: usize,
}

/// Values in two generations: when the younger one is full, it takes the place of the older one.
#[derive(Debug, Default)]
struct Values {
    younger: BTreeSet<u64>,
    older: BTreeSet<u64>,
}

impl Known {
    pub fn add(&mut self, leaves: &[Leaf]) {
        for leaf in leaves {
            if self.paths.contains_key(&leaf.path) || self.paths.len() < MAX_PATHS {
                let values = self.paths.entry(leaf.path.clone()).or_default();
                if values.younger.len() >= MAX_GENERATION {
                    self.len -= values.older.len();
                    values.older = std::mem::take(&mut values.younger);
                }
                if self.len < MAX_VALUES && values.younger.insert(leaf.hash) {
                    self.len += 1;
                }
            }
        }
    }

    /// Whether nobody has had this value there. It is not so if that is not known any more.
    pub fn is_new(&self, leaf: &Leaf) -> bool {
        let is_known = |values: &Values| values.younger.contains(&leaf.hash) || values.older.contains(&leaf.hash);
        match self.paths.get(&leaf.path) {
            Some(values) => self.len < MAX_VALUES && !is_known(values),
            None => self.paths.len() < MAX_PATHS,
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.paths.values().map(|values| values.younger.len() + values.older.len()).sum()
    }
}
