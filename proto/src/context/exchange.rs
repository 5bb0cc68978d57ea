//! How do two nodes come to the same state? One asks, the other answers and remembers nothing.
//!
//! The one that asks begins with the hash of all. If it differs, it gets the hashes of the buckets, and says what it has in
//! those that differ; then it gets what it lacks, and gives what the other lacks.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::digest::BUCKETS;
use super::entry::{Entry, EntryId};
use super::frames::{MAX_IDS, Request, Response, fitting};
use super::store::Store;

/// What a request leads to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// Entries to take.
    pub(crate) given: Vec<Arc<Entry>>,
}

/// The first request of an exchange.
pub(crate) fn ask(store: &mut Store) -> Request {
    Request::Root(store.digest().root())
}

/// Answers a request.
pub(crate) fn answer(store: &mut Store, request: Request) -> Answer {
    let (response, given) = match request {
        Request::Root(root) if root == store.digest().root() => (Response::Same, Vec::new()),
        Request::Root(_) => (Response::Buckets(Box::new(store.digest().buckets())), Vec::new()),
        Request::Have { buckets, ids } => (differ(store, &buckets, ids), Vec::new()),
        Request::Give(entries) => (Response::Taken, entries),
    };
    Answer { response, given }
}

fn differ(store: &mut Store, buckets: &[u8], ids: Vec<EntryId>) -> Response {
    let theirs: BTreeSet<EntryId> = ids.into_iter().collect();
    let wanted: Vec<_> = theirs.iter().filter(|id| store.by_id(**id).is_none()).copied().take(MAX_IDS).collect();
    let digest = store.digest();
    // In the order of the question: it begins elsewhere each time.
    let mut seen = BTreeSet::new();
    let buckets = buckets.iter().filter(|bucket| seen.insert(**bucket));
    let ours = buckets.flat_map(|bucket| digest.bucket(*bucket));
    let mut lacking: Vec<_> = ours.filter(|(id, _)| !theirs.contains(id)).map(|(_, entry)| entry.clone()).collect();
    let entries = fitting(&mut lacking, wanted.len());
    Response::Differ { has_more: !lacking.is_empty(), wanted, entries }
}

/// Says what this node has in the buckets that differ, from this one on. Returns whether that is all of them. If each
/// exchange begins elsewhere, what one of two nodes does not take hides nothing from it.
pub(crate) fn next_request(store: &mut Store, theirs: &[u128; BUCKETS], first: u8) -> (Request, bool) {
    let digest = store.digest();
    let ours = digest.buckets();
    let (mut buckets, mut ids) = (Vec::new(), Vec::new());
    let mut is_all = true;
    for bucket in (0..=u8::MAX).map(|n| first.wrapping_add(n)) {
        let at = usize::from(bucket);
        if ours[at] == theirs[at] {
            continue;
        }
        let in_bucket: Vec<_> = digest.bucket(bucket).map(|(id, _)| *id).collect();
        if !buckets.is_empty() && ids.len() + in_bucket.len() > MAX_IDS {
            is_all = false;
            break;
        }
        buckets.push(bucket);
        ids.extend(in_bucket);
    }
    ids.truncate(MAX_IDS);
    (Request::Have { buckets, ids }, is_all)
}

/// The entries that the other end wants, as many as fit into a frame. The others stay wanted.
pub(crate) fn gifts(store: &Store, wanted: &mut Vec<EntryId>) -> Option<Request> {
    let mut entries: Vec<_> = wanted.iter().filter_map(|id| store.by_id(*id)).cloned().collect();
    let given = fitting(&mut entries, 0);
    *wanted = entries.iter().map(|entry| entry.id).collect();
    (!given.is_empty()).then_some(Request::Give(given))
}
