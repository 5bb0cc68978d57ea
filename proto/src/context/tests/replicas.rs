//! What do writes do, and what do others take of them?

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::context::digest::BUCKETS;
use crate::context::entry::{Entry, Signer};
use crate::context::exchange::{answer, ask, gifts, next_request};
use crate::context::file::{read_file, write_file};
use crate::context::frames::{MAX_FRAME_BYTES, Request, Response};
use crate::context::options::ContextOptions;
use crate::context::replica::{ContextWrite, Replica, Taken};
use crate::context::stamp::Wall;
use crate::error::AviP2pError;
use crate::id::PeerId;

/// 2026-01-01.
pub(super) const NOW: Wall = Wall(1_767_225_600_000);

pub(super) fn replica(n: u8) -> Replica {
    replica_with(n, &ContextOptions::default())
}

pub(super) fn replica_with(n: u8, options: &ContextOptions) -> Replica {
    Replica::new(options, id(n), Some(&[n; 32]))
}

pub(super) fn id(n: u8) -> PeerId {
    Signer::new(&[n; 32]).author.peer_id()
}

pub(super) fn later(seconds: u64) -> Wall {
    NOW.after(Duration::from_secs(seconds))
}

pub(super) fn set(path: &str, value: Value) -> ContextWrite {
    ContextWrite::Set { path: path.to_owned(), value }
}

pub(super) fn replace(path: &str, value: Value) -> ContextWrite {
    ContextWrite::Replace { path: path.to_owned(), value }
}

pub(super) fn remove(path: &str) -> ContextWrite {
    ContextWrite::Remove { path: path.to_owned() }
}

pub(super) fn write(replica: &mut Replica, wall: Wall, write: ContextWrite) -> Vec<Arc<Entry>> {
    replica.write(wall, &write).unwrap().0
}

pub(super) fn take(replica: &mut Replica, wall: Wall, entries: &[Arc<Entry>]) {
    for entry in entries {
        let taken = replica.take(wall, entry.clone());
        assert!(!matches!(taken, Taken::Refused(_)), "{taken:?} of {entry:?}");
    }
}

pub(super) fn whole(replica: &Replica) -> Value {
    replica.value("").unwrap().unwrap_or(json!({}))
}

/// Lets one replica ask the other until both are equal. Returns the number of requests.
pub(super) fn exchange(wall: Wall, asks: &mut Replica, answers: &mut Replica) -> usize {
    let mut requests = 0;
    let mut say = |answers: &mut Replica, request: Request| {
        requests += 1;
        assert!(request.encode().len() <= MAX_FRAME_BYTES);
        let answer = answer(&mut answers.store, Request::decode(request.encode()).unwrap());
        take(answers, wall, &answer.given);
        let bytes = answer.response.encode();
        assert!(bytes.len() <= MAX_FRAME_BYTES);
        Response::decode(bytes).unwrap()
    };
    for round in 0..100u8 {
        let theirs: Box<[u128; BUCKETS]> = match say(answers, ask(&mut asks.store)) {
            Response::Same => return requests,
            Response::Buckets(theirs) => theirs,
            other => panic!("{other:?}"),
        };
        let (request, _) = next_request(&mut asks.store, &theirs, round.wrapping_mul(77));
        let Response::Differ { mut wanted, entries, .. } = say(answers, request) else {
            panic!("expected a difference")
        };
        take(asks, wall, &entries);
        while let Some(request) = gifts(&asks.store, &mut wanted) {
            assert_eq!(say(answers, request), Response::Taken);
        }
    }
    panic!("never equal");
}

#[test]
fn setting_an_object_merges_it_and_replacing_does_not() {
    let mut a = replica(1);
    write(&mut a, NOW, set("avi", json!({ "light": { "on": true, "colour": [1, 2] } })));
    write(&mut a, NOW, set("avi.light", json!({ "on": false })));
    assert_eq!(whole(&a), json!({ "avi": { "light": { "on": false, "colour": [1, 2] } } }));
    write(&mut a, NOW, replace("avi.light", json!({ "dim": 0.5 })));
    assert_eq!(whole(&a), json!({ "avi": { "light": { "dim": 0.5 } } }));
    write(&mut a, NOW, set("avi.light", json!(7)));
    assert_eq!(a.value("avi.light").unwrap(), Some(json!(7)));
    write(&mut a, NOW, remove("avi.light"));
    assert_eq!(a.value("avi.light").unwrap(), None);
}

#[test]
fn a_value_that_became_an_object_does_not_come_back() {
    let mut a = replica(1);
    write(&mut a, NOW, set("a", json!(1)));
    write(&mut a, NOW, set("a.b", json!(2)));
    write(&mut a, NOW, remove("a.b"));
    assert_eq!(whole(&a), json!({ "a": {} }));
}

#[test]
fn a_write_is_whole_or_not_at_all() {
    let options = ContextOptions { max_entries: 3, ..ContextOptions::default() };
    let mut a = replica_with(1, &options);
    write(&mut a, NOW, set("a", json!({ "x": 1, "y": 2 })));
    let error = a.write(NOW, &set("b", json!({ "x": 1, "y": 2 }))).unwrap_err();
    assert_eq!(error, AviP2pError::LimitReached { limit: "context.max_entries", max: 3 });
    assert_eq!(whole(&a), json!({ "a": { "x": 1, "y": 2 } }));
    // What is replaced makes room.
    write(&mut a, NOW, replace("a", json!({ "p": 1, "q": 2, "r": 3 })));
    assert_eq!(whole(&a), json!({ "a": { "p": 1, "q": 2, "r": 3 } }));
}

#[test]
fn a_write_that_cannot_be_says_why() {
    let mut a = replica(1);
    let mut error = |write: ContextWrite| a.write(NOW, &write).unwrap_err().to_string();
    assert!(error(set("a..b", json!(1))).contains("\"a..b\": expected segments that are not empty"));
    assert!(error(set("a", json!({ "b.c": 1 }))).contains("keys that are not empty and have no dot"));
    assert!(error(set("", json!(1))).contains("an object"));
    assert!(error(set("a", json!("x".repeat(17_000)))).contains("17002 bytes exceeds"));
    let owned = format!("caps.{}.x", id(2));
    assert!(error(set(&owned, json!(1))).contains("which alone writes there"));
    let nested = (0..200).fold(json!(1), |inner, _| json!([inner]));
    assert!(error(set("a", nested)).contains("nested"));
    let mut reader = Replica::new(&ContextOptions::default(), id(1), None);
    assert_eq!(reader.write(NOW, &remove("a")).unwrap_err(), AviP2pError::ContextReadOnly(id(1)));
}

#[test]
fn a_subtree_is_removed_with_what_is_this_nodes_own_below_it_and_without_what_is_anothers() {
    let (mut a, mut b) = (replica(1), replica(2));
    let of_b = write(&mut b, NOW, set(&format!("caps.{}", id(2)), json!({ "mic": true })));
    take(&mut a, NOW, &of_b);
    write(&mut a, NOW, set("caps.note", json!("x")));
    write(&mut a, NOW, set(&format!("caps.{}", id(1)), json!({ "mic": false })));
    let removal = write(&mut a, NOW, remove("caps"));
    assert_eq!(whole(&a), json!({ "caps": { (id(2).as_str()): { "mic": true } } }));
    take(&mut b, NOW, &removal);
    assert_eq!(whole(&a), whole(&b));
}

#[test]
fn two_nodes_become_equal_in_three_requests_each_way_and_equal_ones_need_one() {
    let (mut a, mut b) = (replica(1), replica(2));
    for n in 0..200 {
        write(&mut a, NOW, set(&format!("a.k{n}"), json!(n)));
        write(&mut b, NOW, set(&format!("b.k{n}"), json!(n)));
    }
    // Root, what a has, what it gives, and the root again.
    assert_eq!(exchange(NOW, &mut a, &mut b), 4);
    assert_eq!(whole(&a), whole(&b));
    assert_eq!(exchange(NOW, &mut b, &mut a), 1);
    write(&mut b, later(1), remove("a"));
    exchange(later(1), &mut a, &mut b);
    assert_eq!(whole(&a), whole(&b));
    assert_eq!(a.value("a").unwrap(), None);
}

#[test]
fn a_context_that_is_larger_than_a_frame_takes_several_rounds() {
    let options = ContextOptions { max_bytes: 16 << 20, max_entries_per_author: 4096, ..ContextOptions::default() };
    let (mut a, mut b) = (replica_with(1, &options), replica_with(2, &options));
    for n in 0..60 {
        write(&mut a, NOW, set(&format!("a{n}"), json!("x".repeat(16_000))));
        write(&mut b, NOW, set(&format!("b{n}"), json!("y".repeat(16_000))));
    }
    (0..3000).for_each(|n| drop(write(&mut a, NOW, set(&format!("s{n}"), json!(n)))));
    assert!(exchange(NOW, &mut b, &mut a) > 8);
    assert_eq!(whole(&a), whole(&b));
}

#[test]
fn a_file_brings_back_what_was_written_and_a_damaged_one_says_what_is_wrong() {
    let options = ContextOptions::default();
    let (mut a, mut b) = (replica(1), replica(2));
    let of_b = write(&mut b, NOW, set("b", json!({ "x": [1.25, null], "y": {} })));
    take(&mut a, NOW, &of_b);
    write(&mut a, NOW, set("a", json!("é")));
    write(&mut a, NOW, remove("gone"));
    let bytes = write_file(&a, NOW);

    let mut again = replica(1);
    read_file(&mut again, &options, later(60), bytes.clone()).unwrap();
    assert_eq!(whole(&again), whole(&a));
    assert_eq!(again.store.digest().root(), a.store.digest().root());

    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1;
        let mut again = replica(1);
        let error = read_file(&mut again, &options, NOW, damaged.into()).unwrap_err();
        assert!(error.contains("damaged"), "byte {at}: {error}");
        assert_eq!(again.store.entries().count(), 0);
        assert!(read_file(&mut again, &options, NOW, bytes.slice(..at)).is_err(), "cut at {at}");
    }
}

#[test]
fn an_old_file_brings_back_this_nodes_own_entries_alone() {
    let options = ContextOptions::default();
    let (mut a, mut b) = (replica(1), replica(2));
    let of_b = write(&mut b, NOW, set("b", json!(1)));
    take(&mut a, NOW, &of_b);
    write(&mut a, NOW, set("a", json!(1)));
    let bytes = write_file(&a, NOW);
    let mut again = replica(1);
    read_file(&mut again, &options, later(8 * 24 * 3600), bytes).unwrap();
    assert_eq!(whole(&again), json!({ "a": 1 }));
}

#[test]
fn what_one_of_two_nodes_does_not_take_hides_nothing_from_it() {
    let few = ContextOptions { max_entries_per_author: 10, ..ContextOptions::default() };
    let many = ContextOptions { max_entries_per_author: 4096, max_bytes: 8 << 20, ..ContextOptions::default() };
    let (mut a, mut b) = (replica_with(1, &many), replica_with(2, &few));
    for n in 0..200 {
        write(&mut a, NOW, set(&format!("k{n}"), json!("x".repeat(4000))));
    }
    // It is in the last of the buckets, behind more than a frame.
    let mut c = replica(3);
    let one = (0..).map(|n| write(&mut c, NOW, set(&format!("c{n}"), json!(n)))).find(|one| one[0].id.0 >> 120 > 0xf8);
    take(&mut a, NOW, &one.unwrap());
    let mut rounds = 0..=u8::MAX;
    let has_come = |b: &Replica| b.store.authors() == 2;
    while !has_come(&b) {
        // Not a power of two, so that each round begins elsewhere.
        let first = rounds.next().unwrap().wrapping_mul(77);
        let theirs = a.store.digest().buckets();
        let (request, _) = next_request(&mut b.store, &theirs, first);
        let Response::Differ { entries, .. } = answer(&mut a.store, request).response else { panic!() };
        entries.into_iter().for_each(|entry| drop(b.take(NOW, entry)));
    }
    assert!(rounds.start() > &1, "the first round must not have brought it");
}
