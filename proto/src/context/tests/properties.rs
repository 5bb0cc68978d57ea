//! Does the order in which entries come matter? It must not, nor how often they come.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::context::entry::{Entry, Op, tests::unsigned};
use crate::context::json::value_at;
use crate::context::options::ContextOptions;
use crate::context::path::Path;
use crate::context::store::{Plan, Store};

const PEERS: [&str; 2] =
    ["12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"];

fn merge(store: &mut Store, entry: &Arc<Entry>) {
    match store.plan(entry) {
        Plan::Fits(covered) => store.put(entry.clone(), &covered),
        Plan::Known => {}
        Plan::Full { limit, max } => panic!("{limit} = {max}"),
    }
}

fn store_of<'a>(entries: impl IntoIterator<Item = &'a Arc<Entry>>) -> Store {
    let mut store = Store::new(ContextOptions::default(), None);
    entries.into_iter().for_each(|entry| merge(&mut store, entry));
    store
}

/// The bytes of a state, in a fixed order.
fn state(store: &Store) -> BTreeSet<Vec<u8>> {
    store.entries().map(written).collect()
}

fn written(entry: &Arc<Entry>) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.write(&mut bytes);
    bytes
}

/// The model: all that was heard, and no cleverness.
fn model(entries: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
    let is_covered = |entry: &Arc<Entry>| entries.iter().any(|other| covers(other, entry));
    entries.iter().filter(|entry| !is_covered(entry)).cloned().collect()
}

/// As the documentation says it, by segments.
fn covers(over: &Entry, under: &Entry) -> bool {
    let segments = |entry: &Entry| entry.path.as_str().split('.').map(str::to_owned).collect::<Vec<_>>();
    let (above, below) = (segments(over), segments(under));
    let above = if over.path.is_root() { Vec::new() } else { above };
    let below = if under.path.is_root() { Vec::new() } else { below };
    let owned = below.iter().position(|segment| PEERS.contains(&segment.as_str()));
    let reaches = below.starts_with(&above) && owned.is_none_or(|owned| above.len() > owned);
    let later = over.stamp > under.stamp;
    match (&over.op, &under.op) {
        (Op::Object, Op::Object) => above == below && later,
        (Op::Object, _) => false,
        (Op::Removed | Op::Value(_), Op::Removed | Op::Value(_)) if above == below && over.stamp == under.stamp => {
            over.op > under.op
        }
        _ => reaches && later,
    }
}

fn read(entries: &[Arc<Entry>], at: &[&str]) -> Option<Value> {
    let path = |entry: &Arc<Entry>| match entry.path.as_str() {
        "" => Vec::new(),
        path => path.split('.').map(str::to_owned).collect::<Vec<_>>(),
    };
    let visible: Vec<_> = entries.iter().filter(|entry| entry.op != Op::Removed).collect();
    let below = visible.iter().filter(|entry| path(entry).len() > at.len() && path(entry).starts_with(&owned(at)));
    let keys: BTreeSet<String> = below.map(|entry| path(entry)[at.len()].clone()).collect();
    let here = |op: fn(&Op) -> bool| visible.iter().find(|entry| path(entry) == owned(at) && op(&entry.op));
    if !keys.is_empty() {
        let children = keys.iter().filter_map(|key| {
            let below: Vec<_> = at.iter().copied().chain([key.as_str()]).collect();
            Some((key.clone(), read(entries, &below)?))
        });
        return Some(Value::Object(children.collect()));
    }
    match (here(|op| *op == Op::Object), here(|op| matches!(op, Op::Value(_)))) {
        (Some(_), _) => Some(Value::Object(Map::new())),
        (None, Some(entry)) => match &entry.op {
            Op::Value(json) => serde_json::from_slice(json).ok(),
            _ => None,
        },
        (None, None) => None,
    }
}

fn owned(at: &[&str]) -> Vec<String> {
    at.iter().map(|segment| (*segment).to_owned()).collect()
}

fn entry() -> impl Strategy<Value = Arc<Entry>> {
    let segment =
        prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just("a-b"), 1 => Just(PEERS[0]), 1 => Just(PEERS[1])];
    let path = proptest::collection::vec(segment, 0..4).prop_map(|segments| segments.join("."));
    let op = prop_oneof![Just(Op::Removed), Just(Op::Object), (0..3u8).prop_map(|n| Op::Value(n.to_string().into()))];
    (path, 1..12u64, 0..3u8, op).prop_map(|(path, at, author, op)| {
        let op = if path.is_empty() && matches!(op, Op::Value(_)) { Op::Object } else { op };
        unsigned(&path, at, [author; 32], op)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_order_in_which_entries_come_and_how_often_changes_nothing(
        entries in proptest::collection::vec(entry(), 0..24),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..48),
    ) {
        let mut store = store_of(&entries);
        // Any prefix in any order, some of them twice, and then all of them backwards.
        let shuffled = order.iter().filter(|_| !entries.is_empty()).map(|at| at.get(&entries));
        let mut other = store_of(shuffled.chain(entries.iter().rev()));
        prop_assert_eq!(state(&store), state(&other));
        prop_assert_eq!(store.digest().root(), other.digest().root());
        prop_assert_eq!((store.visible(), store.tombstones(), store.bytes(), store.authors()),
            (other.visible(), other.tombstones(), other.bytes(), other.authors()));
    }

    #[test]
    fn merging_states_is_associative_commutative_and_idempotent(
        a in proptest::collection::vec(entry(), 0..12),
        b in proptest::collection::vec(entry(), 0..12),
        c in proptest::collection::vec(entry(), 0..12),
    ) {
        let join = |left: &Store, right: &Store| {
            let mut joined = left.clone();
            right.entries().for_each(|entry| merge(&mut joined, entry));
            joined
        };
        let (a, b, c) = (store_of(&a), store_of(&b), store_of(&c));
        prop_assert_eq!(state(&join(&join(&a, &b), &c)), state(&join(&a, &join(&b, &c))));
        prop_assert_eq!(state(&join(&a, &b)), state(&join(&b, &a)));
        prop_assert_eq!(state(&join(&a, &a)), state(&a));
    }

    #[test]
    fn the_store_has_and_shows_what_the_model_does(entries in proptest::collection::vec(entry(), 0..24)) {
        let store = store_of(&entries);
        let model = model(&entries);
        prop_assert_eq!(state(&store), model.iter().map(written).collect::<BTreeSet<_>>());
        for path in ["", "a", "a.b", "b", PEERS[0]] {
            let at: Vec<_> = path.split('.').filter(|segment| !segment.is_empty()).collect();
            prop_assert_eq!(value_at(&store, &Path::parse(path).unwrap()), read(&model, &at), "at {}", path);
        }
        let visible = store.entries().filter(|entry| entry.is_visible()).count();
        prop_assert_eq!(store.visible(), visible);
        prop_assert_eq!(store.tombstones(), store.entries().count() - visible);
        prop_assert_eq!(store.bytes(), store.entries().map(|entry| entry.len()).sum::<usize>());
    }
}
