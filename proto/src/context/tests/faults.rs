//! Which faults of other shared contexts can this one not have?

use std::time::Duration;

use serde_json::{Value, json};

use super::replicas::{NOW, exchange, id, later, remove, replace, replica, replica_with, set, take, whole, write};
use crate::context::entry::{Op, Signer};
use crate::context::file::{read_file, write_file};
use crate::context::options::ContextOptions;
use crate::context::path::Path;
use crate::context::replica::{ContextWrite, Refused, Replica, Taken};
use crate::context::stamp::{Hlc, Wall};
use crate::error::AviP2pError;

#[test]
fn two_writes_at_the_same_time_end_equal_at_all_nodes() {
    let (mut a, mut b) = (replica(1), replica(2));
    let of_a = write(&mut a, NOW, set("x", json!("a")));
    let of_b = write(&mut b, NOW, set("x", json!("b")));
    take(&mut a, NOW, &of_b);
    take(&mut b, NOW, &of_a);
    assert_eq!(whole(&a), whole(&b));
}

#[test]
fn a_stale_copy_does_not_bring_back_what_was_removed() {
    let (mut a, mut b) = (replica(1), replica(2));
    let stale = write(&mut a, NOW, set("x.y", json!(1)));
    take(&mut b, NOW, &stale);
    let removal = write(&mut b, later(1), remove("x"));
    take(&mut a, later(1), &removal);
    take(&mut a, later(2), &stale);
    take(&mut b, later(2), &stale);
    assert_eq!((whole(&a), whole(&b)), (json!({}), json!({})));
    // Nor does one who never heard of the removal.
    let mut c = replica(3);
    take(&mut c, later(3), &stale);
    exchange(later(3), &mut c, &mut a);
    assert_eq!((whole(&a), whole(&c)), (json!({}), json!({})));
}

#[test]
fn an_older_write_never_wins_though_it_arrives_later() {
    let (mut a, mut b) = (replica(1), replica(2));
    let old = write(&mut a, NOW, set("x", json!("old")));
    let new = write(&mut b, later(1), set("x", json!("new")));
    let mut c = replica(3);
    take(&mut c, later(2), &new);
    take(&mut c, later(2), &old);
    assert_eq!(whole(&c), json!({ "x": "new" }));
}

#[test]
fn a_write_wins_over_what_its_author_saw_though_its_clock_is_behind() {
    let (mut a, mut b) = (replica(1), replica(2));
    let seen = write(&mut a, later(600), set("x", json!("seen")));
    take(&mut b, NOW, &seen);
    let answer = write(&mut b, NOW, set("x", json!("answer")));
    take(&mut a, later(600), &answer);
    assert_eq!((whole(&a), whole(&b)), (json!({ "x": "answer" }), json!({ "x": "answer" })));
}

#[test]
fn an_empty_context_erases_nothing() {
    let (mut a, mut b) = (replica(1), replica(2));
    write(&mut a, NOW, set("avi.device", json!({ "kitchen": 1 })));
    // It is later, and knows nothing.
    let empty =
        [write(&mut b, later(60), set("", json!({}))), write(&mut b, later(60), set("avi", json!({ "device": {} })))];
    empty.iter().for_each(|entries| take(&mut a, later(60), entries));
    exchange(later(60), &mut b, &mut a);
    assert_eq!(whole(&a), json!({ "avi": { "device": { "kitchen": 1 } } }));
    assert_eq!(whole(&b), whole(&a));
}

#[test]
fn nobody_writes_as_another_author() {
    let mut a = replica(1);
    let path = || Path::parse("x").unwrap();
    let genuine = Signer::new(&[2; 32]).sign(path(), Hlc::at(NOW), Op::Value("1".into()));
    let mut bytes = Vec::new();
    genuine.write(&mut bytes);
    // The author's key in place of the forger's.
    bytes[..32].copy_from_slice(&Signer::new(&[3; 32]).author.0);
    let forged = crate::context::frames::read_message(bytes.into()).unwrap();
    assert!(matches!(a.take(NOW, forged[0].clone()), Taken::Refused(Refused::Forged)));
    assert_eq!(whole(&a), json!({}));
    take(&mut a, NOW, &[genuine]);
}

#[test]
fn what_belongs_to_a_peer_is_written_by_it_alone() {
    let (mut a, mut b) = (replica(1), replica(2));
    let path = format!("avi.device.caps.{}", id(1));
    let of_a = write(&mut a, NOW, set(&path, json!({ "mic": true })));
    take(&mut b, NOW, &of_a);
    let signer = Signer::new(&[2; 32]);
    for (path, op) in [(format!("{path}.mic"), Op::Removed), (path.clone(), Op::Value("1".into()))] {
        let entry = signer.sign(Path::parse(&path).unwrap(), Hlc::at(later(1)), op);
        assert!(matches!(a.take(later(1), entry), Taken::Refused(Refused::NotOwner)));
    }
    // Nor does what is above it cover it.
    let above = write(&mut b, later(1), remove("avi"));
    take(&mut a, later(1), &above);
    assert_eq!(a.value(&path).unwrap(), Some(json!({ "mic": true })));
    assert_eq!(whole(&a), whole(&b));

    let anybody = ContextOptions { ownership: false, ..ContextOptions::default() };
    let (mut a, mut b) = (replica_with(1, &anybody), replica_with(2, &anybody));
    let of_a = write(&mut a, NOW, set(&path, json!({ "mic": true })));
    take(&mut b, NOW, &of_a);
    let removal = write(&mut b, later(1), remove("avi"));
    take(&mut a, later(1), &removal);
    assert_eq!((whole(&a), whole(&b)), (json!({}), json!({})));
}

#[test]
fn a_clock_far_ahead_is_refused_and_moves_no_other_clock() {
    let mut a = replica(1);
    let signer = Signer::new(&[2; 32]);
    let far = signer.sign(Path::parse("x").unwrap(), Hlc::at(later(16 * 60)), Op::Value("1".into()));
    assert!(matches!(a.take(NOW, far), Taken::Refused(Refused::Ahead)));
    // One that is ahead by less is taken. This node's own writes elsewhere stay at its own time.
    let near = signer.sign(Path::parse("x").unwrap(), Hlc::at(later(14 * 60)), Op::Value("1".into()));
    take(&mut a, NOW, &[near]);
    let elsewhere = write(&mut a, NOW, set("y", json!(1)));
    assert_eq!(elsewhere[0].stamp.hlc.wall(), NOW);
    // Nor does one above what is its own.
    take(&mut a, NOW, &[signer.sign(Path::parse("").unwrap(), Hlc::at(later(14 * 60)), Op::Removed)]);
    let own = write(&mut a, NOW, set(&format!("caps.{}", id(1)), json!(1)));
    assert_eq!(own[0].stamp.hlc.wall(), NOW);
    // Where it must win, it does.
    let there = write(&mut a, NOW, set("x", json!(2)));
    assert_eq!(there[0].stamp.hlc.wall(), later(14 * 60));
    assert_eq!(a.value("x").unwrap(), Some(json!(2)));
    let elsewhere = format!("other.{}", id(1));
    // That moves no other write of this node either, nor does what it has of before a restart.
    assert_eq!(write(&mut a, NOW, set(&elsewhere, json!(3)))[0].stamp.hlc.wall(), NOW);
    let mut again = replica(1);
    read_file(&mut again, &ContextOptions::default(), NOW, write_file(&a, NOW)).unwrap();
    assert_eq!(write(&mut again, NOW, set(&elsewhere, json!(4)))[0].stamp.hlc.wall(), NOW);
    let over = write(&mut again, NOW, set("x", json!(5)));
    assert!(over[0].stamp > there[0].stamp);
}

#[test]
fn a_node_without_a_clock_takes_the_time_of_the_others_until_its_own_is_set() {
    let (mut a, mut b) = (replica(1), replica(2));
    let boot = Wall(60_000);
    let of_a = write(&mut a, NOW, set("x", json!("a")));
    take(&mut b, boot, &of_a);
    let of_b = write(&mut b, boot, set("y", json!("b")));
    assert_eq!(of_b[0].stamp.hlc.wall(), NOW);
    take(&mut a, NOW, &of_b);
    // Somebody lied to it about the time. When its clock is set, it notices, and its own writes are good again.
    let lie = Signer::new(&[3; 32]).sign(Path::parse("z").unwrap(), Hlc(u64::MAX), Op::Object);
    take(&mut b, boot, &[lie]);
    let lost = write(&mut b, boot, set("y", json!("c")));
    assert!(matches!(a.take(NOW, lost[0].clone()), Taken::Refused(Refused::Ahead)));
    let corrected = b.follow_clock(later(60), Duration::ZERO);
    assert_eq!((corrected.again.len(), corrected.ahead), (1, 2));
    // What the liar wrote is not there any more.
    assert_eq!(corrected.changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), ["z"]);
    take(&mut a, later(60), &corrected.again);
    assert_eq!((whole(&a), whole(&b)), (json!({ "x": "a", "y": "c" }), json!({ "x": "a", "y": "c" })));
}

#[test]
fn a_node_that_restarts_with_its_clock_put_right_keeps_what_it_wrote_by_the_wrong_one() {
    let options = ContextOptions::default();
    let (mut a, wrong) = (replica(1), later(400 * 24 * 3600));
    let lie = write(&mut replica(2), wrong, set("theirs", json!(1)));
    take(&mut a, wrong, &lie);
    let before = write(&mut a, wrong, set("x", json!({ "y": 1, "z": 2 })));
    write(&mut a, wrong, remove("gone"));
    let mut again = replica(1);
    read_file(&mut again, &options, NOW, write_file(&a, wrong)).unwrap();
    let corrected = again.follow_clock(NOW, Duration::ZERO);
    assert_eq!((corrected.again.len(), corrected.ahead), (3, 4));
    assert_eq!(corrected.changes.len(), 1, "{:?}", corrected.changes);
    assert_eq!(whole(&again), json!({ "x": { "y": 1, "z": 2 } }));
    let mut b = replica(3);
    take(&mut b, NOW, &corrected.again);
    assert_eq!(whole(&b), whole(&again));
    // Just before the time of the old ones comes, they do not win over what is written now.
    write(&mut again, later(1), set("x.y", json!("now")));
    take(&mut again, wrong.before(Duration::from_secs(60)), &before);
    assert_eq!(whole(&again), json!({ "x": { "y": "now", "z": 2 } }));
}

#[test]
fn the_age_of_a_file_is_looked_at_when_the_clock_is_set() {
    let (options, boot) = (ContextOptions::default(), Wall(60_000));
    let (mut a, mut b) = (replica(1), replica(2));
    let of_b = write(&mut b, NOW, set("b", json!(1)));
    take(&mut a, NOW, &of_b);
    write(&mut a, NOW, set("a", json!(1)));
    let file = write_file(&a, NOW);
    let restarted = |file: &bytes::Bytes| {
        let mut again = replica(1);
        assert_eq!(read_file(&mut again, &options, boot, file.clone()).unwrap(), NOW);
        again
    };
    // Saved before its clock was set, or before that was noticed, it is as old as it was.
    let file = write_file(&restarted(&file), boot);
    let file = write_file(&restarted(&file), later(9 * 24 * 3600));
    let mut soon = restarted(&file);
    assert_eq!(soon.follow_clock(later(6 * 24 * 3600), Duration::ZERO).changes, []);
    assert_eq!(whole(&soon), json!({ "a": 1, "b": 1 }));
    let mut late = restarted(&file);
    assert_eq!(late.follow_clock(later(8 * 24 * 3600), Duration::ZERO).changes.len(), 1);
    assert_eq!(whole(&late), json!({ "a": 1 }));
}

#[test]
fn what_a_node_wrote_before_its_clock_went_back_does_not_win_over_what_it_writes_now() {
    let mut others = replica(9);
    let before = write(&mut replica(1), later(600), set("x", json!("before")));
    take(&mut others, later(600), &before);
    // It restarts without its context, and its clock is ten minutes behind.
    let mut now = replica(1);
    write(&mut now, NOW, set("x", json!("now")));
    exchange(later(1), &mut now, &mut others);
    assert_eq!(whole(&now), json!({ "x": "now" }));
    exchange(later(2), &mut now, &mut others);
    assert_eq!(whole(&others), json!({ "x": "now" }));
}

/// What is at the end if a node writes `before`, restarts without its context and with a clock that is ten minutes behind,
/// writes `now`, and only then meets a node that has what it wrote before.
fn after_the_clock_went_back(before: &[ContextWrite], now: ContextWrite) -> Value {
    let (mut first, mut again, mut others) = (replica(1), replica(1), replica(9));
    for before in before {
        let entries = write(&mut first, later(600), before.clone());
        take(&mut others, later(600), &entries);
    }
    write(&mut again, NOW, now);
    for wall in [later(1), later(2), later(3)] {
        exchange(wall, &mut again, &mut others);
    }
    assert_eq!(whole(&again), whole(&others));
    whole(&again)
}

#[test]
fn what_came_before_the_clock_went_back_stays_gone_below_what_was_written_since() {
    let before = [set("x", json!({ "a": 1, "b": 2 }))];
    let after = |now| after_the_clock_went_back(&before, now);
    assert_eq!(after(remove("x")), json!({}));
    assert_eq!(after(set("x", json!("now"))), json!({ "x": "now" }));
    assert_eq!(after(replace("x", json!({ "c": 3 }))), json!({ "x": { "c": 3 } }));
    // What it has only added to, it has not written over.
    assert_eq!(after(set("x.c", json!(3))), json!({ "x": { "a": 1, "b": 2, "c": 3 } }));
}

#[test]
fn an_object_from_before_the_clock_went_back_takes_nothing_away() {
    let empty = [set("x", json!({}))];
    assert_eq!(after_the_clock_went_back(&empty, set("x", json!(5))), json!({ "x": 5 }));
    assert_eq!(after_the_clock_went_back(&empty, replace("x", json!({ "c": 3 }))), json!({ "x": { "c": 3 } }));
    let below_a_value = [set("x", json!(1)), set("x.y", json!(2))];
    assert_eq!(after_the_clock_went_back(&below_a_value, set("x", json!(5))), json!({ "x": 5 }));
    // Also at the root, with what others have written meanwhile.
    let (mut others, mut again, mut b) = (replica(9), replica(1), replica(2));
    take(&mut others, later(600), &write(&mut replica(1), later(600), set("", json!({}))));
    take(&mut b, NOW, &write(&mut again, NOW, remove("")));
    take(&mut again, later(300), &write(&mut b, later(300), set("of_b", json!({ "a": 1, "b": 2 }))));
    for wall in [later(301), later(302), later(303)] {
        exchange(wall, &mut again, &mut others);
        exchange(wall, &mut b, &mut others);
    }
    assert_eq!((whole(&again), whole(&b)), (json!({ "of_b": { "a": 1, "b": 2 } }), whole(&others)));
}

#[test]
fn what_is_written_again_wins_over_nothing_that_others_have_written_later() {
    let (mut others, mut a, mut b) = (replica(9), replica(1), replica(2));
    let before = [
        write(&mut replica(1), later(300), set("x.a", json!(1))),
        write(&mut replica(1), later(300), set("y", json!(1))),
    ];
    take(&mut others, later(300), &before.concat());
    take(&mut b, NOW, &write(&mut a, NOW, remove("x")));
    take(&mut b, NOW, &write(&mut a, NOW, set("y", json!("now"))));
    let of_b =
        [write(&mut b, later(500), set("x.a.k", json!(9))), write(&mut b, later(500), set("y", json!("b")))].concat();
    write(&mut a, later(10), set("z", json!(1)));
    exchange(later(20), &mut a, &mut others);
    take(&mut a, later(500), &of_b);
    for seconds in 501..504 {
        exchange(later(seconds), &mut a, &mut others);
        exchange(later(seconds), &mut b, &mut others);
    }
    assert_eq!(whole(&others), json!({ "x": { "a": { "k": 9 } }, "y": "b", "z": 1 }));
    assert_eq!((whole(&a), whole(&b)), (whole(&others), whole(&others)));
}

#[test]
fn of_two_processes_with_one_key_and_clocks_that_are_right_the_later_write_counts() {
    let (mut old, mut new) = (replica(1), replica(1));
    take(&mut new, NOW, &write(&mut old, NOW, remove("x")));
    let written = write(&mut new, later(10), set("x", json!({ "on": true, "dim": 3 })));
    for entry in written {
        let taken = old.take(later(10), entry);
        assert!(matches!(&taken, Taken::New { again, .. } if again.is_empty()), "{taken:?}");
    }
    assert_eq!(whole(&old), json!({ "x": { "on": true, "dim": 3 } }));
}

#[test]
fn a_clock_that_is_put_right_moves_writes_back_by_as_much() {
    let (mut a, mut b) = (replica(1), replica(2));
    let ahead = Duration::from_secs(20 * 60);
    take(&mut a, NOW, &write(&mut b, NOW, set("x.old", json!(1))));
    // What it replaces now, it replaces by a clock that is 20 minutes ahead.
    write(&mut a, NOW.after(ahead), replace("x", json!({ "a": 1 })));
    let meanwhile = write(&mut b, later(10), set("x.new", json!(2)));
    take(&mut a, later(10).after(ahead), &meanwhile);
    let corrected = a.follow_clock(later(20), ahead);
    take(&mut b, later(20), &corrected.again);
    take(&mut a, later(20), &meanwhile);
    assert_eq!((whole(&a), whole(&b)), (json!({ "x": { "a": 1, "new": 2 } }), whole(&a)));
    // If nobody knows by how much, the last write was just now.
    write(&mut a, later(60).after(ahead), set("y", json!(1)));
    assert_eq!(a.follow_clock(later(60), Duration::ZERO).again[0].stamp.hlc.wall(), later(60));
}

#[test]
fn bounds_hold_and_what_is_beyond_them_is_refused() {
    let options =
        ContextOptions { max_entries_per_author: 3, max_authors: 2, max_tombstones: 8, ..ContextOptions::default() };
    let mut a = replica_with(1, &options);
    let sign =
        |author: u8, path: &str, op: Op| Signer::new(&[author; 32]).sign(Path::parse(path).unwrap(), Hlc::at(NOW), op);
    let mut full =
        |author: u8, path: &str, op: Op| matches!(a.take(NOW, sign(author, path, op)), Taken::Refused(Refused::Full));
    for n in 0..3 {
        assert!(!full(2, &format!("k{n}"), Op::Object));
    }
    assert!(full(2, "k3", Op::Object), "a fourth entry of one author");
    assert!(!full(3, "gone1", Op::Removed));
    assert!(!full(3, "gone2", Op::Removed));
    assert!(full(3, "gone3", Op::Removed), "a third tombstone of one author");
    assert!(!full(3, "k3", Op::Object), "tombstones take nothing from values");
    assert!(full(4, "x", Op::Object), "a third author");
    // This node has a place beside them.
    write(&mut a, NOW, set("own", json!(1)));
    let mut c = replica_with(1, &ContextOptions { max_tombstones: 1, ..ContextOptions::default() });
    take(&mut c, NOW, &[sign(2, "gone1", Op::Removed)]);
    assert!(matches!(c.take(NOW, sign(3, "gone2", Op::Removed)), Taken::Refused(Refused::Full)), "a second tombstone");
    let json = |n: usize| Op::Value(format!("\"{}\"", "x".repeat(n)).into());
    let options = ContextOptions { max_bytes: 128 * 1024, ..ContextOptions::default() };
    let mut b = replica_with(1, &options);
    take(&mut b, NOW, &[sign(2, "a", json(16_000))]);
    take(&mut b, NOW, &[sign(2, "b", json(16_000))]);
    let third = b.take(NOW, sign(2, "c", json(2_000)));
    assert!(matches!(third, Taken::Refused(Refused::Full)), "more than a quarter of the bytes: {third:?}");
}

#[test]
fn a_tombstone_is_dropped_after_its_lifetime_and_not_taken_again() {
    let week = 7 * 24 * 3600;
    let mut a = replica(1);
    let removal = write(&mut a, NOW, remove("x"));
    a.expire(later(week - 1));
    assert_eq!(a.store.tombstones(), 1);
    a.expire(later(week + 1));
    assert_eq!(a.store.tombstones(), 0);
    let taken = a.take(later(week + 1), removal[0].clone());
    assert!(matches!(taken, Taken::Known), "{taken:?}");
}

#[test]
fn what_belongs_to_a_peer_goes_when_that_peer_does() {
    const DAY: u64 = 24 * 3600;
    let (mut a, mut b) = (replica(1), replica(2));
    let of_a = format!("caps.{}", id(1));
    let entries = write(&mut a, NOW, set(&of_a, json!({ "mic": true, "leds": {} })));
    take(&mut b, NOW, &entries);
    take(&mut b, NOW, &write(&mut a, NOW, set("shared", json!(1))));
    assert_eq!(a.renew(later(3 * DAY)).len(), 0);
    // It renews what is its own, and nothing is seen of that.
    let renewed = a.renew(later(4 * DAY));
    assert_eq!(renewed.len(), 2);
    for entry in &renewed {
        let taken = b.take(later(4 * DAY), entry.clone());
        assert!(matches!(taken, Taken::New { change: None, .. }), "{taken:?}");
    }
    assert_eq!((b.expire(later(10 * DAY)), whole(&a)), (vec![], whole(&b)));
    assert_eq!(a.store.digest().root(), b.store.digest().root());
    // It was here four days ago, and comes back with its file: all is there, also where it was dropped.
    let file = write_file(&a, later(4 * DAY));
    let at = later(12 * DAY);
    let gone: Vec<_> = b.expire(at).into_iter().map(|change| change.path.as_str().to_owned()).collect();
    assert_eq!(gone, [format!("{of_a}.leds"), format!("{of_a}.mic")]);
    assert_eq!(whole(&b), json!({ "shared": 1 }));
    assert!(matches!(b.take(at, renewed[0].clone()), Taken::Known), "nobody brings it back but the peer");
    let mut again = replica(1);
    read_file(&mut again, &ContextOptions::default(), at, file).unwrap();
    exchange(at, &mut again, &mut b);
    assert_eq!(whole(&b), json!({ "shared": 1, "caps": { (id(1).as_str()): { "mic": true, "leds": {} } } }));
    // Without ownership nobody renews it.
    let anybody = ContextOptions { ownership: false, ..ContextOptions::default() };
    let mut c = replica_with(3, &anybody);
    take(&mut c, NOW, &entries);
    assert_eq!(c.expire(later(30 * DAY)), vec![]);
}

#[test]
fn renewing_a_value_covers_nothing_below_it() {
    const DAY: u64 = 24 * 3600;
    let mut a = replica(1);
    let path = format!("caps.{}", id(1));
    write(&mut a, NOW, set(&path, json!("a value")));
    write(&mut a, later(2 * DAY), set(&path, json!({ "mic": true })));
    let before = whole(&a);
    a.renew(later(4 * DAY));
    assert_eq!(whole(&a), before);
    for day in 5..20 {
        a.renew(later(day * DAY));
        a.expire(later(day * DAY));
        assert_eq!(whole(&a), before, "day {day}");
    }
}

#[test]
fn an_object_is_compared_with_one_entry_however_much_is_below_it() {
    let mut a = replica(1);
    (0..200).for_each(|n| drop(write(&mut a, NOW, set(&format!("a.k{n}"), json!(n)))));
    let sign = |op: Op| Signer::new(&[2; 32]).sign(Path::parse("a").unwrap(), Hlc::at(NOW), op);
    assert_eq!(a.store.plan_new(&sign(Op::Object)).1, 0);
    assert_eq!(a.store.plan_new(&sign(Op::Removed)).1, 200);
}

#[test]
fn what_cannot_fit_is_refused_before_it_is_signed() {
    let mut a = replica(1);
    let many: serde_json::Map<_, _> = (0..1025).map(|n| (format!("k{n}"), json!(n))).collect();
    let error = a.write(NOW, &set("a", many.into())).unwrap_err();
    assert_eq!(error, AviP2pError::LimitReached { limit: "context.max_entries_per_author", max: 1024 });
    let large: serde_json::Map<_, _> = (0..20).map(|n| (format!("k{n}"), json!("x".repeat(15_000)))).collect();
    let error = a.write(NOW, &set("a", large.into())).unwrap_err();
    assert_eq!(error, AviP2pError::LimitReached { limit: "a quarter of context.max_bytes", max: 256 * 1024 });
}

#[test]
fn two_nodes_with_one_key_do_not_write_again_as_fast_as_they_can() {
    let (mut a, twin) = (replica(1), Signer::new(&[1; 32]));
    write(&mut a, NOW, set("x", json!("a")));
    // It writes over what the other one has, again and again.
    let fight = |a: &mut Replica, times: usize| {
        // The other one's clock is a minute ahead.
        let mut last = a.store.entries().next().unwrap().stamp.hlc.max(Hlc::at(later(60)));
        let mut written = 0;
        for _ in 0..times {
            let entry = twin.sign(Path::parse("x").unwrap(), last.next(), Op::Value("\"twin\"".into()));
            let Taken::New { again, .. } = a.take(NOW, entry.clone()) else { panic!("{entry:?}") };
            last = again.first().map_or(entry.stamp.hlc, |again| again.stamp.hlc);
            written += again.len();
        }
        written
    };
    assert_eq!(fight(&mut a, 2000), 1024);
    assert_eq!(whole(&a), json!({ "x": "twin" }));
    a.calm_down();
    write(&mut a, NOW, set("x", json!("a")));
    assert_eq!(fight(&mut a, 100), 32);
}
