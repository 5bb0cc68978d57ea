//! Which entries does a node have? Of all that it has heard, those that no other one covers, within bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::digest::Digest;
use super::entry::{Entry, EntryId, Op};
use super::options::ContextOptions;
use super::path::Path;
use super::stamp::{Author, Hlc, Wall};

/// A set of entries, none of which covers another.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Store {
    limits: ContextOptions,
    /// This node as an author. It has a place whatever others write.
    own: Option<Author>,
    slots: BTreeMap<Path, Slot>,
    authors: BTreeMap<Author, Usage>,
    /// The entries that [expire](Store::expires), the oldest first.
    mortal: BTreeSet<(Hlc, EntryId)>,
    /// Not recorded: it is made of the slots.
    #[cfg_attr(feature = "recorder", serde(skip))]
    digest: Digest,
    visible: usize,
    tombstones: usize,
    bytes: usize,
}

/// The entries of one path.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Slot {
    /// Of [`Op::Value`] or [`Op::Removed`].
    pub(crate) value: Option<Arc<Entry>>,
    /// Of [`Op::Object`].
    pub(crate) object: Option<Arc<Entry>>,
}

#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Usage {
    entries: usize,
    tombstones: usize,
    bytes: usize,
}

/// What would become of an entry.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing: it is there, or another one covers it.
    Known,
    /// Nothing: a limit is reached.
    Full { limit: &'static str, max: usize },
    /// It takes the place of these.
    Fits(Vec<Arc<Entry>>),
}

impl Slot {
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.value.iter().chain(&self.object)
    }

    /// What is shown at the path if nothing is below it.
    pub(crate) fn shown(&self) -> Option<&Arc<Entry>> {
        self.object.as_ref().or(self.value.as_ref().filter(|entry| entry.is_visible()))
    }
}

impl Store {
    /// Makes what a recording does not have.
    #[cfg(feature = "recorder")]
    pub(crate) fn complete(&mut self) {
        self.slots.values().flat_map(Slot::entries).for_each(|entry| self.digest.insert(entry.clone()));
    }

    pub(crate) fn new(limits: ContextOptions, own: Option<Author>) -> Self {
        Self {
            limits,
            own,
            slots: BTreeMap::new(),
            authors: BTreeMap::new(),
            mortal: BTreeSet::new(),
            digest: Digest::default(),
            visible: 0,
            tombstones: 0,
            bytes: 0,
        }
    }

    /// What would become of an entry. Changes nothing.
    pub(crate) fn plan(&self, entry: &Entry) -> Plan {
        if self.has(entry) { Plan::Known } else { self.plan_new(entry).0 }
    }

    /// Whether the entry is there, or another one covers it. Looks at its path and at those above it alone.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        let mut above = entry.path.lineage().filter_map(|path| self.slots.get(path)).flat_map(Slot::entries);
        above.any(|known| **known == *entry || known.covers(entry))
    }

    /// What would become of an entry that the store does not [have](Store::has), and how many it was compared with.
    pub(crate) fn plan_new(&self, entry: &Entry) -> (Plan, usize) {
        let mut compared = 0;
        let mut is_covered = |other: &&Arc<Entry>| {
            compared += 1;
            entry.covers(other)
        };
        let covered: Vec<_> = match entry.op {
            Op::Object => self.slots.get(&entry.path).and_then(|slot| slot.object.as_ref()).into_iter().collect(),
            Op::Removed | Op::Value(_) => self.under(entry.path.as_str()).filter(&mut is_covered).collect(),
        };
        let covered: Vec<_> = covered.into_iter().cloned().collect();
        let plan = match self.first_exceeded(entry, &covered) {
            Some((limit, max)) => Plan::Full { limit, max },
            None => Plan::Fits(covered),
        };
        (plan, compared)
    }

    /// The limit that the entry exceeds when these have gone.
    fn first_exceeded(&self, entry: &Entry, covered: &[Arc<Entry>]) -> Option<(&'static str, usize)> {
        let limits = &self.limits;
        let mut gone = Usage::default();
        let mut gone_of_author = Usage::default();
        for entry_gone in covered {
            gone.add(entry_gone);
            if entry_gone.stamp.author == entry.stamp.author {
                gone_of_author.add(entry_gone);
            }
        }
        let of_author = self.authors.get(&entry.stamp.author).copied().unwrap_or_default();
        let visible = self.visible - gone.visible() + usize::from(entry.is_visible());
        let tombstones = self.tombstones - gone.tombstones + usize::from(!entry.is_visible());
        // The authors who are gone are not counted off: it is a bound against many, and not an exact one.
        let authors = self.authors.len() + usize::from(of_author.entries == 0);
        let tombstones_of_author = of_author.tombstones - gone_of_author.tombstones + 1;
        let visible_of_author = of_author.visible() - gone_of_author.visible() + 1;
        let bytes_of_author = of_author.bytes - gone_of_author.bytes + entry.len();
        let bytes = self.bytes - gone.bytes + entry.len();
        let is_visible = entry.is_visible();
        let is_new_author = of_author.entries == 0 && self.own != Some(entry.stamp.author);
        let quarter_of_tombstones = (limits.max_tombstones / 4).max(1);
        [
            ("context.max_entries", limits.max_entries, visible, is_visible),
            ("context.max_tombstones", limits.max_tombstones, tombstones, !is_visible),
            ("context.max_entries_per_author", limits.max_entries_per_author, visible_of_author, is_visible),
            ("a quarter of context.max_tombstones", quarter_of_tombstones, tombstones_of_author, !is_visible),
            ("context.max_authors", limits.max_authors, authors, is_new_author),
            ("context.max_bytes", limits.max_bytes, bytes, true),
            ("a quarter of context.max_bytes", limits.max_bytes / 4, bytes_of_author, true),
        ]
        .into_iter()
        .find_map(|(limit, max, would_be, matters)| (matters && would_be > max).then_some((limit, max)))
    }

    /// Adds an entry that [fits](Plan::Fits), in place of those.
    pub(crate) fn put(&mut self, entry: Arc<Entry>, covered: &[Arc<Entry>]) {
        covered.iter().for_each(|covered| self.remove(covered));
        self.authors.entry(entry.stamp.author).or_default().add(&entry);
        self.bytes += entry.len();
        match entry.is_visible() {
            true => self.visible += 1,
            false => self.tombstones += 1,
        }
        if self.expires(&entry) {
            self.mortal.insert((entry.stamp.hlc, entry.id));
        }
        self.digest.insert(entry.clone());
        let slot = self.slots.entry(entry.path.clone()).or_default();
        match entry.op {
            Op::Object => slot.object = Some(entry),
            Op::Removed | Op::Value(_) => slot.value = Some(entry),
        }
    }

    fn remove(&mut self, entry: &Entry) {
        let Some(slot) = self.slots.get_mut(&entry.path) else { return };
        let place = if entry.op == Op::Object { &mut slot.object } else { &mut slot.value };
        if place.take().is_none() {
            return;
        }
        if slot.value.is_none() && slot.object.is_none() {
            self.slots.remove(&entry.path);
        }
        if let Some(usage) = self.authors.get_mut(&entry.stamp.author) {
            usage.entries -= 1;
            usage.tombstones -= usize::from(!entry.is_visible());
            usage.bytes -= entry.len();
            if usage.entries == 0 {
                self.authors.remove(&entry.stamp.author);
            }
        }
        self.bytes -= entry.len();
        match entry.is_visible() {
            true => self.visible -= 1,
            false => self.tombstones -= 1,
        }
        self.mortal.remove(&(entry.stamp.hlc, entry.id));
        self.digest.remove(entry.id);
    }

    /// Whether an entry is dropped when it becomes old: a tombstone, and what belongs to a peer, which renews it for as long
    /// as it is there. With [`ContextOptions::ownership`] off, only tombstones are.
    pub(crate) fn expires(&self, entry: &Entry) -> bool {
        !entry.is_visible() || (self.limits.ownership && entry.owned_from.is_some())
    }

    /// The entries that expire and were written before this time.
    pub(crate) fn expiring(&self, before: Wall) -> impl Iterator<Item = &Arc<Entry>> {
        let old = self.mortal.iter().take_while(move |(hlc, _)| hlc.wall() < before);
        old.filter_map(|(_, id)| self.digest.entry(*id))
    }

    /// Drops the entries that expire and were written before this time.
    pub(crate) fn expire(&mut self, before: Wall) -> Vec<Arc<Entry>> {
        let old: Vec<_> = self.expiring(before).cloned().collect();
        old.iter().for_each(|entry| self.remove(entry));
        old
    }

    /// Takes some of the entries out.
    pub(crate) fn take_out(&mut self, which: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let out: Vec<_> = self.entries().filter(|entry| which(entry)).cloned().collect();
        out.iter().for_each(|entry| self.remove(entry));
        out
    }

    pub(crate) fn slot(&self, path: &str) -> Option<&Slot> {
        self.slots.get(path)
    }

    /// The slots at a path and below it, each after those above it.
    pub(crate) fn slots_under(&self, path: &str) -> impl Iterator<Item = (&Path, &Slot)> {
        let at = self.slots.get_key_value(path);
        let below = match path {
            "" => (Bound::Excluded(String::new()), Bound::Unbounded),
            // The character after the dot.
            _ => (Bound::Included(format!("{path}.")), Bound::Excluded(format!("{path}/"))),
        };
        let (from, to) = (below.0.as_ref().map(String::as_str), below.1.as_ref().map(String::as_str));
        at.into_iter().chain(self.slots.range::<str, _>((from, to)))
    }

    /// The entries at a path and below it.
    pub(crate) fn under(&self, path: &str) -> impl Iterator<Item = &Arc<Entry>> {
        self.slots_under(path).flat_map(|(_, slot)| slot.entries())
    }

    /// The entries that cover what is at the path, or would.
    pub(crate) fn above(&self, path: &Path) -> impl Iterator<Item = &Arc<Entry>> {
        path.lineage().filter_map(|path| self.slots.get(path)).flat_map(Slot::entries)
    }

    /// All entries.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.slots.values().flat_map(Slot::entries)
    }

    pub(crate) fn by_id(&self, id: EntryId) -> Option<&Arc<Entry>> {
        self.digest.entry(id)
    }

    pub(crate) fn digest(&mut self) -> &mut Digest {
        &mut self.digest
    }

    pub(crate) fn visible(&self) -> usize {
        self.visible
    }

    pub(crate) fn tombstones(&self) -> usize {
        self.tombstones
    }

    pub(crate) fn has_author(&self, author: Author) -> bool {
        self.authors.contains_key(&author)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn authors(&self) -> usize {
        self.authors.len()
    }
}

impl Usage {
    fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        self.tombstones += usize::from(!entry.is_visible());
        self.bytes += entry.len();
    }

    fn visible(&self) -> usize {
        self.entries - self.tombstones
    }
}
