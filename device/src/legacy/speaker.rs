//! What has a node had before?

use std::collections::{BTreeMap, BTreeSet};

use super::snapshot::Leaf;

/// The most paths whose values are remembered, and the most values of one.
const MAX_PATHS: usize = 4096;
const MAX_VALUES: usize = 64;

/// A snapshot of a node.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The node's own count of changes, by which it is known.
    pub version: u64,
    /// All counts: what the node had taken over by then.
    pub clock: BTreeMap<String, u64>,
    /// The hashes of its values.
    pub values: BTreeMap<String, u64>,
}

impl Said {
    pub fn new(version: u64, clock: BTreeMap<String, u64>, leaves: &[Leaf]) -> Self {
        Self { version, clock, values: leaves.iter().map(|leaf| (leaf.path.clone(), leaf.hash)).collect() }
    }

    /// The count of a node in it.
    pub fn count(&self, node: &str) -> u64 {
        self.clock.get(node).copied().unwrap_or_default()
    }
}

/// The values that anybody has ever had.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<String, BTreeSet<u64>>);

impl Known {
    pub fn add(&mut self, leaves: &[Leaf]) {
        for leaf in leaves {
            if self.0.contains_key(&leaf.path) || self.0.len() < MAX_PATHS {
                let values = self.0.entry(leaf.path.clone()).or_default();
                if values.len() < MAX_VALUES {
                    values.insert(leaf.hash);
                }
            }
        }
    }

    /// Whether nobody has had this value there. It is not so if that is not known any more.
    pub fn is_new(&self, leaf: &Leaf) -> bool {
        match self.0.get(&leaf.path) {
            Some(values) => values.len() < MAX_VALUES && !values.contains(&leaf.hash),
            None => self.0.len() < MAX_PATHS,
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }
}
