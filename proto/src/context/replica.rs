//! What does a node write into the context, and what does it take from others?

mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::entry::{Entry, Op, Signer};
use super::json::{invalid_path, leaves, value_at};
use super::options::ContextOptions;
use super::path::Path;
use super::stamp::{Author, Hlc, Wall};
use super::store::{Plan, Store};
use crate::error::AviP2pError;
use crate::id::PeerId;

/// A write of the application.
#[derive(derive_more::Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum ContextWrite {
    /// Puts a value at a path. An object is merged: the keys that it does not have stay.
    Set {
        /// The path, unchecked.
        path: String,
        /// The value.
        #[debug("..")]
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::json"))]
        value: Value,
    },
    /// Puts a value at a path, in place of all that is there.
    Replace {
        /// The path, unchecked.
        path: String,
        /// The value.
        #[debug("..")]
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::json"))]
        value: Value,
    },
    /// Removes what is at a path, and below it.
    Remove {
        /// The path, unchecked.
        path: String,
    },
}

/// What others see of a write, or of what came from others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Change {
    pub(crate) author: Author,
    pub(crate) path: Path,
}

/// Why an entry of another node was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refused {
    /// Its clock is too far ahead.
    Ahead,
    /// It belongs to another peer.
    NotOwner,
    /// Its author may not connect to this node either.
    KeptOut,
    /// A limit is reached.
    Full,
    /// Too much came from where it came from.
    Busy,
    /// The author has not signed it.
    Forged,
}

/// What became of an entry of another node.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It was known, or is out of date.
    Known,
    Refused(Refused),
    /// It is part of the state. Some of its predecessors' entries may have been written again.
    New {
        change: Option<Change>,
        again: Vec<Arc<Entry>>,
    },
}

/// What the clock of this node has led to.
#[derive(Debug, Default)]
pub(crate) struct Corrected {
    /// This node's own entries, written again.
    pub(crate) again: Vec<Arc<Entry>>,
    /// What is not shown any more.
    pub(crate) changes: Vec<Change>,
    /// How many entries were too far ahead.
    pub(crate) ahead: usize,
}

/// Whether an entry is an [`Op::Object`].
type IsObject = bool;

/// The context of one node.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Replica {
    pub(crate) store: Store,
    options: ContextOptions,
    local: PeerId,
    /// `None` if the node's key is not an Ed25519 key.
    signer: Option<Signer>,
    last: Hlc,
    /// The latest entry that was taken: the time of a node whose own clock was never set.
    latest: Hlc,
    /// When the file that was read was written, until the clock is set and tells how old that is.
    pub(crate) read_at: Option<Wall>,
    /// What this node has written since its start: at each path, the last object, and the last of what covers.
    written: BTreeMap<(Path, IsObject), Op>,
    written_again: usize,
}

impl Replica {
    pub(crate) fn new(options: &ContextOptions, local: PeerId, secret: Option<&[u8; 32]>) -> Self {
        let signer = secret.map(Signer::new).filter(|signer| signer.author.peer_id() == local);
        Self {
            store: Store::new(options.clone(), signer.as_ref().map(|signer| signer.author)),
            options: options.clone(),
            local,
            signer,
            last: Hlc::default(),
            latest: Hlc::default(),
            read_at: None,
            written: BTreeMap::new(),
            written_again: 0,
        }
    }

    #[cfg(feature = "recorder")]
    pub(crate) fn signer_mut(&mut self) -> Option<&mut Signer> {
        self.signer.as_mut()
    }

    /// This node as an author.
    pub(crate) fn author(&self) -> Option<Author> {
        self.signer.as_ref().map(|signer| signer.author)
    }

    /// What is at a path.
    ///
    /// # Errors
    /// [`AviP2pError::InvalidContextPath`].
    pub(crate) fn value(&self, path: &str) -> Result<Option<Value>, AviP2pError> {
        let path = Path::parse(path).map_err(|expected| invalid_path(path, expected))?;
        Ok(self.value_at(&path))
    }

    pub(crate) fn value_at(&self, path: &Path) -> Option<Value> {
        value_at(&self.store, path)
    }

    // This node's writes.

    /// Carries a write out: all of it, or nothing. Returns the new entries, and what has changed.
    pub(crate) fn write(
        &mut self,
        wall: Wall,
        write: &ContextWrite,
    ) -> Result<(Vec<Arc<Entry>>, Vec<Change>), AviP2pError> {
        let (covering, leaves) = self.operations(write)?;
        if self.signer.is_none() {
            return Err(AviP2pError::ContextReadOnly(self.local.clone()));
        }
        self.check_size(&leaves)?;
        covering.iter().chain(&leaves).try_for_each(|(path, _)| self.check_owner(path))?;
        let floor = covering.iter().chain(&leaves).filter_map(|(path, _)| self.latest_around(path)).max();
        let own = self.stamp(wall);
        let first = own.max(floor.map_or(Hlc::default(), Hlc::next));
        let second = if covering.is_empty() { first } else { first.next() };
        let stamped = covering.into_iter().map(|op| (first, op)).chain(leaves.into_iter().map(|op| (second, op)));
        let mut entries = Vec::new();
        for (hlc, (path, op)) in stamped {
            entries.extend(self.signer.as_ref().map(|signer| signer.sign(path, hlc, op)));
        }
        let changes = self.put_all(&entries)?;
        // Not `second`: where this node must win, the clock may be that of another author.
        self.last = own.next();
        for entry in &entries {
            self.note(entry);
        }
        Ok((entries, topmost(changes)))
    }

    /// What a write does: first what covers all that is there, then the leaves.
    #[allow(clippy::type_complexity, reason = "two lists of the same kind, in order")]
    fn operations(&self, write: &ContextWrite) -> Result<(Vec<(Path, Op)>, Vec<(Path, Op)>), AviP2pError> {
        let checked = |path: &str| Path::parse(path).map_err(|expected| invalid_path(path, expected));
        match write {
            ContextWrite::Remove { path } => Ok((self.removals(&checked(path)?), Vec::new())),
            ContextWrite::Replace { path, value } => {
                let path = checked(path)?;
                let leaves = self.with_object_above(&path, leaves(&path, value)?);
                Ok((self.removals(&path), leaves))
            }
            ContextWrite::Set { path, value } => {
                let path = checked(path)?;
                Ok((Vec::new(), self.with_object_above(&path, leaves(&path, value)?)))
            }
        }
    }

    /// The tombstone of a path, and those of what belongs to this node below it, which the first does not cover.
    fn removals(&self, path: &Path) -> Vec<(Path, Op)> {
        let mut removals = vec![(path.clone(), Op::Removed)];
        let below = self.store.under(path.as_str()).filter(|entry| entry.is_visible() && self.may_write(entry.owner()));
        for entry in below {
            let own = entry.owned_from.filter(|&owned| owned > path.as_str().len());
            let own = own.and_then(|owned| Path::parse(entry.path.as_str().get(..owned)?).ok());
            if let Some(own) = own
                && removals.last().is_none_or(|(last, _)| *last != own)
            {
                removals.push((own, Op::Removed));
            }
        }
        removals
    }

    /// Makes an object of a value above the path, so that it does not come back when what is below it is removed.
    fn with_object_above(&self, path: &Path, mut leaves: Vec<(Path, Op)>) -> Vec<(Path, Op)> {
        let above = path.lineage().skip(1).find(|above| {
            let shown = self.store.slot(above).and_then(|slot| slot.shown());
            shown.is_some_and(|entry| matches!(entry.op, Op::Value(_)) && self.may_write(entry.owner()))
        });
        leaves.extend(above.and_then(|above| Path::parse(above).ok()).map(|above| (above, Op::Object)));
        leaves
    }

    /// Refuses what cannot fit before it is signed.
    fn check_size(&self, leaves: &[(Path, Op)]) -> Result<(), AviP2pError> {
        let max = self.options.max_entries_per_author;
        if leaves.len() > max {
            return Err(AviP2pError::LimitReached { limit: "context.max_entries_per_author", max });
        }
        let max = self.options.max_bytes / 4;
        let len = |(path, op): &(Path, Op)| {
            let json = if let Op::Value(json) = op { json.len() } else { 0 };
            path.as_str().len() + json
        };
        match leaves.iter().map(len).sum::<usize>() > max {
            true => Err(AviP2pError::LimitReached { limit: "a quarter of context.max_bytes", max }),
            false => Ok(()),
        }
    }

    fn may_write(&self, owner: Option<&str>) -> bool {
        !self.options.ownership || owner.is_none_or(|owner| owner == self.local.as_str())
    }

    fn check_owner(&self, path: &Path) -> Result<(), AviP2pError> {
        let owner = path.owner(path.owned_from());
        match owner {
            Some(owner) if !self.may_write(Some(owner)) => {
                Err(AviP2pError::ContextOwned { path: path.as_str().to_owned(), owner: PeerId::new(owner) })
            }
            _ => Ok(()),
        }
    }

    /// The latest stamp of what an entry at this path may have to cover, and of what would cover it.
    fn latest_around(&self, path: &Path) -> Option<Hlc> {
        let (own, len) = (path.owned_from(), path.as_str().len());
        // What is above a peer's own path does not cover what is below it.
        let above = self.store.above(path).filter(|entry| own.is_none_or(|own| entry.path.as_str().len() >= own));
        let under = self.store.under(path.as_str()).filter(|entry| entry.owned_from.is_none_or(|own| len >= own));
        above.chain(under).map(|entry| entry.stamp.hlc).max()
    }

    /// The clock of the next write: the wall clock, or more to be later than this node's last one. Where a write must cover
    /// a later entry it is later than that, and there alone: an author that is ahead by as much as is allowed could
    /// otherwise have this node's writes refused by those whose clocks are behind.
    fn stamp(&self, wall: Wall) -> Hlc {
        let learned = if wall.is_plausible() { Hlc::default() } else { self.latest.next() };
        Hlc::at(wall).max(self.last.next()).max(learned)
    }

    /// Puts all entries into the store, or none.
    fn put_all(&mut self, entries: &[Arc<Entry>]) -> Result<Vec<Change>, AviP2pError> {
        // The entries are shared, so that a copy is cheap.
        let before = (entries.len() > 1).then(|| self.store.clone());
        let mut changes = Vec::new();
        for entry in entries {
            match self.store.plan(entry) {
                Plan::Fits(covered) => changes.extend(self.put(entry.clone(), &covered)),
                Plan::Known => {}
                Plan::Full { limit, max } => {
                    self.store = before.unwrap_or_else(|| self.store.clone());
                    return Err(AviP2pError::LimitReached { limit, max });
                }
            }
        }
        Ok(changes)
    }

    /// Puts an entry in place of those that it covers. Returns what has changed of what is shown.
    fn put(&mut self, entry: Arc<Entry>, covered: &[Arc<Entry>]) -> Option<Change> {
        self.latest = self.latest.max(entry.stamp.hlc);
        let same = |covered: &Arc<Entry>| covered.path == entry.path && covered.op == entry.op;
        let has_hidden = covered.iter().any(|covered| covered.is_visible() && !same(covered));
        let is_repeated = covered.iter().any(same);
        let (author, path) = (entry.stamp.author, entry.path.clone());
        self.store.put(entry.clone(), covered);
        let is_shown = entry.is_visible() && !is_repeated && self.is_shown(&entry);
        (has_hidden || is_shown).then_some(Change { author, path })
    }

    /// Whether a value or an object is what is shown at its path, and nothing below it.
    fn is_shown(&self, entry: &Entry) -> bool {
        let mut shown = self.store.slots_under(entry.path.as_str()).filter_map(|(_, slot)| slot.shown());
        shown.next().is_some_and(|first| **first == *entry) && shown.next().is_none()
    }

    /// Remembers what this node has written in this run.
    fn note(&mut self, entry: &Entry) {
        self.written.insert((entry.path.clone(), entry.op == Op::Object), entry.op.clone());
        if self.written.len() > 2 * self.options.max_entries_per_author {
            let store = &self.store;
            self.written.retain(|(path, _), _| store.slot(path.as_str()).is_some());
        }
    }

    /// Whether this node has written the entry in this run, and nothing else at its path since.
    fn has_written(&self, entry: &Entry) -> bool {
        let key = (entry.path.clone(), entry.op == Op::Object);
        self.author() == Some(entry.stamp.author) && self.written.get(&key) == Some(&entry.op)
    }

    /// The time of a file that is written now: that of the one that was read, for as long as the clock has not told how old
    /// that is.
    pub(crate) fn age(&self, wall: Wall) -> Wall {
        self.read_at.unwrap_or(wall)
    }

    // What comes from others.

    /// Takes an entry of another node, if it is new, allowed and signed.
    #[cfg(test)]
    pub(crate) fn take(&mut self, wall: Wall, entry: Arc<Entry>) -> Taken {
        self.screen(wall, &entry).unwrap_or_else(|| self.take_new(wall, entry).0)
    }

    /// What becomes of an entry of another node, if a short look is enough to tell.
    pub(crate) fn screen(&self, wall: Wall, entry: &Entry) -> Option<Taken> {
        let written = entry.stamp.hlc.wall();
        if wall.is_plausible() && written > wall.after(self.options.max_ahead) {
            return Some(Taken::Refused(Refused::Ahead));
        }
        if self.options.ownership && entry.owner().is_some_and(|owner| owner != entry.stamp.author.peer_id().as_str()) {
            return Some(Taken::Refused(Refused::NotOwner));
        }
        let is_over = wall.is_plausible() && written < wall.before(self.options.tombstone_lifetime);
        ((is_over && self.store.expires(entry)) || self.store.has(entry)).then_some(Taken::Known)
    }

    /// Takes an entry that has been [screened](Replica::screen), if there is room and it is signed. Also tells with how many
    /// entries it was compared.
    pub(crate) fn take_new(&mut self, wall: Wall, entry: Arc<Entry>) -> (Taken, usize) {
        let (plan, compared) = self.store.plan_new(&entry);
        let taken = match plan {
            Plan::Known => Taken::Known,
            Plan::Full { .. } => Taken::Refused(Refused::Full),
            Plan::Fits(_) if !entry.is_authentic() => Taken::Refused(Refused::Forged),
            Plan::Fits(covered) => {
                let change = self.put(entry.clone(), &covered);
                Taken::New { change, again: self.write_again(wall, &entry, &covered) }
            }
        };
        (taken, compared)
    }

    /// Puts in an entry of the node's own file, which was verified.
    pub(crate) fn restore(&mut self, entry: Arc<Entry>) {
        if let Plan::Fits(covered) = self.store.plan(&entry) {
            self.put(entry, &covered);
        }
    }
}

/// The changes that are not below another one.
pub(crate) fn topmost(changes: Vec<Change>) -> Vec<Change> {
    let changed: BTreeMap<Path, Author> = changes.into_iter().map(|change| (change.path, change.author)).collect();
    let is_topmost = |path: &Path| !path.lineage().skip(1).any(|above| changed.contains_key(above));
    let topmost = changed.iter().filter(|(path, _)| is_topmost(path));
    topmost.map(|(path, author)| Change { author: *author, path: path.clone() }).collect()
}
