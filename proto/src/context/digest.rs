//! How do two nodes find out what they do not both have? By a hash of all, then of each of 256 buckets, then by ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::entry::{Entry, EntryId};

/// Entries are in the bucket of the first byte of their ids.
pub(crate) const BUCKETS: usize = 256;

/// The entries of a node by their ids. The hashes are 128 bits of SHA-256 of sorted ids, so that nobody can choose entries
/// whose hash is that of others.
#[derive(Clone, Debug)]
pub(crate) struct Digest {
    by_id: BTreeMap<EntryId, Arc<Entry>>,
    /// `None` where entries have changed since.
    hashes: [Option<u128>; BUCKETS],
}

impl Default for Digest {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), hashes: [None; BUCKETS] }
    }
}

impl Digest {
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) {
        self.hashes[bucket_of(entry.id)] = None;
        self.by_id.insert(entry.id, entry);
    }

    pub(crate) fn remove(&mut self, id: EntryId) {
        self.hashes[bucket_of(id)] = None;
        self.by_id.remove(&id);
    }

    pub(crate) fn entry(&self, id: EntryId) -> Option<&Arc<Entry>> {
        self.by_id.get(&id)
    }

    /// The entries of a bucket, by their ids.
    pub(crate) fn bucket(&self, bucket: u8) -> impl Iterator<Item = (&EntryId, &Arc<Entry>)> {
        let first = u128::from(bucket) << 120;
        self.by_id.range(EntryId(first)..=EntryId(first | (u128::MAX >> 8)))
    }

    /// The hash of each bucket.
    pub(crate) fn buckets(&mut self) -> [u128; BUCKETS] {
        let mut hashes = [0; BUCKETS];
        for (bucket, hash) in (0..=u8::MAX).zip(&mut hashes) {
            let known = self.hashes[usize::from(bucket)];
            *hash = known.unwrap_or_else(|| hash_of(self.bucket(bucket).map(|(id, _)| id.0.to_be_bytes())));
            self.hashes[usize::from(bucket)] = Some(*hash);
        }
        hashes
    }

    /// The hash of all.
    pub(crate) fn root(&mut self) -> u128 {
        hash_of(self.buckets().map(u128::to_be_bytes))
    }
}

fn bucket_of(id: EntryId) -> usize {
    usize::from(id.0.to_be_bytes()[0])
}

fn hash_of<const N: usize>(parts: impl IntoIterator<Item = [u8; N]>) -> u128 {
    let mut hash = Sha256::new();
    parts.into_iter().for_each(|part| hash.update(part));
    hash.finalize().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}
