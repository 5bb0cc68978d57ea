//! Each fault of the 0.5 context, which must not reach ours.

use serde_json::{Value, json};

use super::*;

const X: &str = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";
const Y: &str = "12D3KooWJ7LZPXWyXaitTvxvvbtAxtQjG6VRedD4uw8MeV8dfEFT";
const HERE: &str = "12D3KooWKsM1jFKNswcmXKZUuA5RSLporG33bGpjMdfNxTUdKfxw";
/// The time of the tests, in seconds since 1970.
const NOW: u64 = 1_764_000_000;

/// A 0.5 node: what it has, and how it takes over what others have.
struct Old {
    id: PeerId,
    clock: BTreeMap<String, u64>,
    timestamp: u64,
    data: Value,
}

impl Old {
    fn new(id: &str) -> Self {
        let data = json!({ "avi": { "device": {} } });
        Self { id: PeerId::new(id), clock: BTreeMap::new(), timestamp: NOW - 60, data }
    }

    /// Its application writes, and it publishes all of its context.
    fn writes(&mut self, at_s: u64, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        change(&mut self.data);
        self.timestamp = at_s;
        *self.clock.entry(self.id.to_string()).or_default() += 1;
        self.publishes()
    }

    fn publishes(&self) -> Vec<u8> {
        let Self { id, clock, timestamp, data } = self;
        let snapshot = json!({
            "device_id": id.as_str(), "timestamp": timestamp, "vector_clock": clock, "data": data
        });
        serde_json::to_vec(&snapshot).unwrap()
    }

    /// As 0.5 does: a clock that is ahead replaces all, one that is behind fills what is missing, and of two values
    /// written at once the one of the older context stays.
    fn hears(&mut self, json: &[u8]) {
        let other: Snapshot = serde_json::from_slice(json).unwrap();
        let of = |clock: &BTreeMap<String, u64>, node: &String| clock.get(node).copied().unwrap_or_default();
        let nodes: Vec<_> = self.clock.keys().chain(other.vector_clock.keys()).cloned().collect();
        let is_ahead = nodes.iter().any(|node| of(&self.clock, node) > of(&other.vector_clock, node));
        let is_behind = nodes.iter().any(|node| of(&self.clock, node) < of(&other.vector_clock, node));
        match (is_ahead, is_behind) {
            (false, false) => return,
            (false, true) => self.data = other.data,
            (true, false) => return merge(&mut self.data, other.data, true),
            (true, true) => merge(&mut self.data, other.data, self.timestamp <= other.timestamp),
        }
        self.timestamp = self.timestamp.max(other.timestamp);
        for (node, count) in other.vector_clock {
            let known = self.clock.entry(node).or_default();
            *known = (*known).max(count);
        }
    }
}

fn merge(here: &mut Value, other: Value, prefer_here: bool) {
    match (here, other) {
        (Value::Object(here), Value::Object(other)) => {
            for (key, value) in other {
                match here.get_mut(&key) {
                    Some(there) => merge(there, value, prefer_here),
                    None => drop(here.insert(key, value)),
                }
            }
        }
        (_, _) if prefer_here => {}
        (here, other) => *here = other,
    }
}

/// This node: the shared context, and the adapter.
struct Here {
    legacy: Legacy,
    context: Value,
    now: u64,
}

impl Here {
    fn new(context: Value) -> Self {
        Self { legacy: Legacy::new(&PeerId::new(HERE)), context, now: NOW }
    }

    fn new_at(id: &str, context: Value) -> Self {
        Self { legacy: Legacy::new(&PeerId::new(id)), context, now: NOW }
    }

    fn hears(&mut self, from: &str, json: &[u8]) -> Vec<(String, Value)> {
        let taken = self.legacy.handle_snapshot(&PeerId::new(from), json, &self.context, self.now * 1000).unwrap();
        for (path, value) in &taken.writes {
            self.writes(path, Some(value.clone()));
        }
        taken.writes
    }

    fn writes(&mut self, path: &str, value: Option<Value>) {
        self.legacy.handle_change(path, value.is_none(), self.now * 1000);
        let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut place = &mut self.context;
        for key in above.split('.').filter(|key| !key.is_empty()) {
            let map = place.as_object_mut().unwrap();
            place = map.entry(key).or_insert_with(|| json!({}));
        }
        let place = place.as_object_mut().unwrap();
        match value {
            Some(value) => drop(place.insert(key.to_owned(), value)),
            None => drop(place.remove(key)),
        }
    }

    fn publishes(&mut self) -> Vec<u8> {
        self.legacy.snapshot(&self.context, self.now * 1000).expect("it has changed")
    }
}

fn written(path: &str, value: impl Into<Value>) -> Vec<(String, Value)> {
    vec![(path.to_owned(), value.into())]
}

/// A 0.5 node that this one knows, and that knows this one.
fn met(context: Value) -> (Here, Old) {
    let (mut here, mut x) = (Here::new(context), Old::new(X));
    x.hears(&here.publishes());
    here.hears(X, &x.writes(NOW, |data| data["x"] = json!("is here")));
    (here, x)
}

#[test]
fn what_either_writes_the_other_has() {
    let (mut here, mut x) = met(json!({ "light": { "on": false } }));
    assert_eq!(here.hears(X, &x.writes(NOW + 1, |data| data["light"]["on"] = json!(true))), written("light.on", true));
    here.now = NOW + 2;
    here.writes("light.dim", Some(json!(0.5)));
    x.hears(&here.publishes());
    assert_eq!(x.data, here.context);
}

#[test]
fn a_switch_that_goes_on_and_off_is_followed_however_quickly() {
    let (mut here, mut x) = met(json!({ "light": false }));
    for round in 0..20 {
        let on = round % 2 == 0;
        assert_eq!(here.hears(X, &x.writes(NOW, |data| data["light"] = json!(on))), written("light", on));
        // Sometimes it hears of its own change from here before the next, sometimes it does not.
        if round % 3 == 0 {
            x.hears(&here.publishes());
        }
    }
}

#[test]
fn a_change_that_was_undone_here_can_be_made_again() {
    let (mut here, mut x) = met(json!({ "light": "off" }));
    for _ in 0..3 {
        assert_eq!(here.hears(X, &x.writes(NOW, |data| data["light"] = json!("on"))), written("light", "on"));
        here.writes("light", Some(json!("off")));
        x.hears(&here.publishes());
        assert_eq!(x.data["light"], "off");
    }
}

#[test]
fn two_writes_in_the_same_second_come_to_one_value_everywhere() {
    let (mut here, mut x) = met(json!({ "light": "off" }));
    here.writes("light", Some(json!("red")));
    here.hears(X, &x.writes(NOW, |data| data["light"] = json!("blue")));
    x.hears(&here.publishes());
    assert_eq!(x.data, here.context);
    assert_eq!(here.context["light"], "blue");
}

#[test]
fn a_deletion_here_is_one_there_and_no_copy_revives_it() {
    let (mut here, mut x) = met(json!({ "avi": { "speaker": "y" }, "light": 1 }));
    let old = here.publishes_again();
    here.writes("avi.speaker", None);
    assert_eq!(here.hears(X, &x.writes(NOW + 1, |data| data["light"] = json!(2))), written("light", 2));
    assert_eq!(here.context["avi"], json!({}));
    x.hears(&here.publishes());
    assert_eq!(x.data["avi"], json!({}));
    // An old snapshot that is delivered late gives the key back to the 0.5 node, and not to this one.
    x.hears(&old);
    assert_eq!(x.data["avi"]["speaker"], "y", "that is the fault");
    assert_eq!(here.hears(X, &x.writes(NOW + 2, |data| data["light"] = json!(3))), written("light", 3));
    // Another value there is a new one.
    assert_eq!(
        here.hears(X, &x.writes(NOW + 3, |data| data["avi"]["speaker"] = json!("x"))),
        written("avi.speaker", "x")
    );
}

impl Here {
    fn publishes_again(&mut self) -> Vec<u8> {
        self.legacy.forget_published();
        self.publishes()
    }
}

#[test]
fn a_deletion_there_is_none_here() {
    let (mut here, mut x) = met(json!({ "light": 1, "user": { "name": "Ana" } }));
    let removed = x.writes(NOW + 1, |data| drop(data.as_object_mut().unwrap().remove("user")));
    assert_eq!(here.hears(X, &removed), []);
    x.hears(&here.publishes());
    assert_eq!(x.data["user"]["name"], "Ana", "it comes back");
}

#[test]
fn an_empty_context_erases_nothing() {
    let (mut here, mut x) =
        met(json!({ "avi": { "device": { "known": 1 } }, "user": { "name": "Ana", "tags": ["a"] }, "light": 1 }));
    let before = here.context.clone();
    for empty in [json!({}), json!({ "user": {} }), json!({ "user": null, "light": null }), json!({ "user": "none" })] {
        assert_eq!(here.hears(X, &x.writes(NOW, |data| *data = empty.clone())), [], "{empty}");
    }
    assert_eq!(here.context, before);
    let mut y = Old::new(Y);
    assert_eq!(here.hears(Y, &y.writes(NOW, |_| {})), [], "nor that of a node that has just begun");
}

#[test]
fn what_is_empty_fills_gaps() {
    let (mut here, mut x) = met(json!({}));
    let path = format!("avi.device.caps.{X}");
    let caps = json!({ "audio": null, "sensors": {} });
    let taken = here.hears(X, &x.writes(NOW, |data| data["avi"]["device"]["caps"] = json!({ X: caps })));
    assert_eq!(
        taken,
        [written(&format!("{path}.audio"), json!(null)), written(&format!("{path}.sensors"), json!({}))].concat()
    );
    assert_eq!(*at(&here.context, &path).unwrap(), caps, "0.5 reads no capabilities that lack one");
}

#[test]
fn a_first_context_of_unknown_age_fills_gaps_and_overwrites_nothing() {
    let mut here = Here::new(json!({ "light": "new", "user": { "name": "Ana" } }));
    let mut x = Old::new(X);
    // Written before it met anybody: it may be older than what is here.
    x.writes(NOW - 50, |data| *data = json!({ "light": "old", "user": { "age": 7 } }));
    let taken = here.hears(X, &x.writes(NOW, |data| data["door"] = json!("open")));
    assert_eq!(taken, [written("door", "open"), written("user.age", 7)].concat());
    assert_eq!(here.context["light"], "new");
    // From then on it is known what is new.
    assert_eq!(here.hears(X, &x.writes(NOW, |data| data["light"] = json!("newer"))), written("light", "newer"));
}

#[test]
fn a_first_context_that_differs_in_one_value_is_a_change_of_it() {
    let mut here = Here::new(json!({ "light": "here", "user": { "name": "Ana" } }));
    let mut x = Old::new(X);
    let caps = json!({ "avi": { "device": { "caps": { X: { "audio": null } } } } });
    // Nobody hears these two.
    x.writes(NOW - 10, |data| *data = caps);
    x.writes(NOW - 5, |_| {});
    x.hears(&here.publishes());
    let taken = here.hears(X, &x.writes(NOW, |data| data["user"]["name"] = json!("Bea")));
    assert!(taken.contains(&("user.name".to_owned(), json!("Bea"))), "{taken:?}");
    let mut y = Old::new(Y);
    y.writes(NOW - 5, |data| *data = json!({ "light": "older" }));
    y.hears(&here.publishes());
    assert_eq!(y.data["light"], "older", "that is the fault");
    assert_eq!(here.hears(Y, &y.writes(NOW, |data| data["door"] = json!("open"))), written("door", "open"));
}

#[test]
fn a_very_first_change_counts_by_its_time() {
    let device = json!({ "device": { "known": 1 } });
    let mut here = Here::new(json!({ "avi": device, "light": "here" }));
    here.writes("light", Some(json!("here")));
    let mut late = Old::new(X);
    assert_eq!(here.hears(X, &late.writes(NOW + 1, |data| data["light"] = json!("x"))), written("light", "x"));
    let mut early = Old::new(Y);
    assert_eq!(here.hears(Y, &early.writes(NOW - 1, |data| data["light"] = json!("y"))), []);
    let mut here = Here::new(json!({ "avi": device, "light": "here" }));
    let mut ahead = Old::new(X);
    assert_eq!(here.hears(X, &ahead.writes(NOW + 1000, |data| data["light"] = json!("x"))), [], "a clock far ahead");
}

#[test]
fn an_older_value_that_a_third_node_has_kept_does_not_win() {
    let (mut here, mut x) = met(json!({ "light": 0 }));
    let mut y = Old::new(Y);
    y.hears(&here.publishes());
    let first = y.writes(NOW + 1, |data| data["light"] = json!(1));
    here.hears(Y, &first);
    here.hears(Y, &y.writes(NOW + 2, |data| data["light"] = json!(2)));
    assert_eq!(here.context["light"], 2);
    // It reaches the third node only now.
    x.hears(&first);
    assert_eq!(x.data["light"], 1);
    assert_eq!(here.hears(X, &x.writes(NOW + 3, |data| data["door"] = json!("open"))), written("door", "open"));
    assert_eq!(here.context["light"], 2);
}

#[test]
fn an_older_value_of_a_node_that_nobody_has_heard_does_not_win() {
    let (mut here, mut x) = met(json!({ "light": 0 }));
    let mut y = Old::new(Y);
    x.hears(&y.writes(NOW - 30, |data| *data = json!({ "light": 1, "door": "open" })));
    assert_eq!(x.data["door"], "open");
    here.writes("light", Some(json!(2)));
    x.data["light"] = json!(1);
    assert_eq!(here.hears(X, &x.writes(NOW + 3, |_| {})), written("door", "open"), "only what nobody has yet");
}

#[test]
fn a_context_of_another_device_is_refused() {
    let (mut here, mut x) = met(json!({}));
    let json = x.writes(NOW, |data| data["light"] = json!(1));
    let refused = here.legacy.handle_snapshot(&PeerId::new(Y), &json, &here.context, NOW * 1000);
    assert_eq!(refused, Err(Refused::OtherDevice));
}

#[test]
fn what_a_peer_says_of_another_is_not_taken() {
    let (mut here, mut x) = met(json!({ "avi": { "device": { "caps": { Y: { "a": 1 } } } } }));
    let taken =
        here.hears(X, &x.writes(NOW, |data| data["avi"]["device"]["caps"] = json!({ X: { "b": 2 }, Y: { "a": 3 } })));
    assert_eq!(taken, written(&format!("avi.device.caps.{X}.b"), 2));
}

#[test]
fn a_snapshot_that_comes_late_is_refused() {
    let (mut here, mut x) = met(json!({}));
    let (first, second) =
        (x.writes(NOW, |data| data["light"] = json!(1)), x.writes(NOW, |data| data["light"] = json!(2)));
    assert_eq!(here.hears(X, &second), written("light", 2));
    let refused = here.legacy.handle_snapshot(&PeerId::new(X), &first, &here.context, NOW * 1000);
    assert_eq!(refused, Err(Refused::Stale));
}

#[test]
fn another_adapter_says_nothing_new_and_saves_one_publication() {
    let mut here = Here::new(json!({ "light": 1 }));
    let mut there = Here { legacy: Legacy::new(&PeerId::new(Y)), context: json!({ "light": 0 }), now: NOW };
    assert_eq!(here.hears(Y, &there.publishes()), [], "it may lag behind");
    there.writes("light", Some(json!(1)));
    here.hears(Y, &there.publishes());
    assert_eq!(here.legacy.snapshot(&here.context, NOW * 1000), None, "0.5 nodes have it already");
    here.writes("light", Some(json!(2)));
    assert!(here.legacy.snapshot(&here.context, NOW * 1000).is_some());
}

#[test]
fn a_node_that_was_started_again_is_later_than_before() {
    let mut x = Old::new(X);
    let mut here = Here::new(json!({ "light": 1, "door": "open" }));
    x.hears(&here.publishes());
    let mut here = Here { legacy: Legacy::new(&PeerId::new(HERE)), context: json!({ "light": 2 }), now: NOW + 1 };
    let first = x.writes(NOW, |data| data["x"] = json!(1));
    assert_eq!(here.hears(X, &first), [], "which of it this node has said before, it has forgotten");
    x.hears(&here.publishes());
    assert_eq!(x.data, json!({ "light": 2 }), "it takes all, the deletion too");
    assert_eq!(here.hears(X, &x.writes(NOW, |data| data["x"] = json!(1))), written("x", 1));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut here = Here::new(json!({}));
    for node in 0..100_u8 {
        // Peer ids of Ed25519 keys: the key is the id.
        let id = format!("node{node}");
        let snapshot = json!({
            "device_id": id, "timestamp": NOW, "vector_clock": { id.as_str(): 1 }, "data": { "a": 1 }
        });
        here.hears(&id, &serde_json::to_vec(&snapshot).unwrap());
        here.writes(&format!("path{node}"), None);
    }
    assert_eq!(here.legacy.speakers.len(), MAX_SPEAKERS);
    assert_eq!(here.legacy.clock.len(), 101);
    let many: BTreeMap<_, _> = (0..2 * MAX_CLOCK as u64).map(|node| (node.to_string(), 1)).collect();
    here.legacy.advance(&many, NOW * 1000);
    assert_eq!(here.legacy.clock.len(), MAX_CLOCK);
    assert!(here.legacy.clock.contains_key(HERE), "this node has its place");
    for number in 0..10_000 {
        here.legacy.known.add(&leaves(&json!({ "busy": number, format!("path{number}"): 1 })).0);
    }
    assert_eq!(here.legacy.known.len(), 4095 + 2048 + 10_000 % 2048, "a value of each path, and the last ones of one");
    for change in 0..2 * MAX_CHANGES {
        here.legacy.handle_change(&format!("a{change}"), true, NOW);
        here.legacy.handle_change(&format!("a{change}"), false, NOW);
    }
    assert_eq!((here.legacy.changes.len(), here.legacy.order.len()), (MAX_CHANGES, MAX_CHANGES));
}

/// A 0.5 node has a new id after each start.
#[test]
fn a_hundred_starts_of_0_5_nodes_end_nothing() {
    let (mut here, mut x) = met(json!({ "light": 0 }));
    for start in 1..=100 {
        let mut y = Old::new(&format!("{Y}{start}"));
        y.hears(&here.publishes_again());
        let id = y.id.to_string();
        let json = y.writes(NOW, |data| data["light"] = json!(start));
        assert_eq!(here.hears(&id, &json), written("light", start));
        x.hears(&json);
        x.hears(&here.publishes());
        assert_eq!(x.data, here.context, "start {start}");
    }
    assert!(x.clock.len() > 100);
    assert_eq!(here.hears(X, &x.writes(NOW, |data| data["light"] = json!(0))), written("light", 0));
    let mut there = Here::new_at(Y, json!({}));
    assert_eq!(there.hears(HERE, &here.publishes()), [], "another adapter reads it");
}

#[test]
fn who_lies_about_counts_harms_only_himself() {
    let (mut here, mut x) = met(json!({ "light": 0 }));
    let mut liar = Old::new(Y);
    for lie in [u64::MAX, (1 << 48) - 1, NOW * 1000 * 2] {
        liar.clock.insert(HERE.to_owned(), lie);
        liar.clock.insert("nobody".to_owned(), u64::MAX);
        here.hears(Y, &liar.writes(NOW, |data| data["y"] = json!(lie)));
        let published: Snapshot = serde_json::from_slice(&here.publishes()).unwrap();
        assert!(published.vector_clock[HERE] <= NOW * 1000 + MAX_STEP, "{lie}");
        assert!(!published.vector_clock.contains_key("nobody"));
        // Who has not heard the liar shares as before.
        x.hears(&serde_json::to_vec(&published).unwrap());
        assert_eq!(x.data, here.context);
        assert_eq!(here.hears(X, &x.writes(NOW, |data| data["light"] = json!(lie))), written("light", lie));
    }
}

#[test]
fn a_toggle_is_followed_when_two_adapters_have_published() {
    for order in [[0, 1], [1, 0]] {
        let (mut here, mut x) = met(json!({ "light": false }));
        let mut there = Here::new_at(Y, here.context.clone());
        for round in 0..10 {
            let on = round % 2 == 0;
            let json = x.writes(NOW, |data| data["light"] = json!(on));
            let taken = [here.hears(X, &json), there.hears(X, &json)];
            assert!(taken.contains(&written("light", on)), "round {round}: {taken:?}");
            // They share the context.
            for adapter in [&mut here, &mut there] {
                adapter.context["light"] = json!(on);
            }
            there.context = here.context.clone();
            // Both publish before they hear each other.
            let both = [here.publishes_again(), there.publishes_again()];
            order.iter().for_each(|first| x.hears(&both[*first]));
            here.hears(Y, &both[1]);
            there.hears(HERE, &both[0]);
            assert_eq!(x.data["light"], on, "round {round}");
        }
    }
}

#[test]
fn of_two_adapters_one_publishes() {
    let (mut here, mut there) = (Here::new(json!({ "a": 1 })), Here::new_at(Y, json!({ "a": 1 })));
    let (first, second) = (PeerId::new(HERE), PeerId::new(Y));
    assert!(!here.legacy.leaves_it_to([&second].into_iter()), "before it is known");
    let (of_here, of_there) = (here.publishes(), there.publishes());
    here.hears(Y, &of_there);
    there.hears(HERE, &of_here);
    assert!(here.legacy.leaves_it_to([&second].into_iter()));
    assert!(!there.legacy.leaves_it_to([&first].into_iter()));
    assert!(!here.legacy.leaves_it_to([].into_iter()), "when the other one has gone");
    let mut x = Old::new("12D3KooWA");
    here.hears("12D3KooWA", &x.writes(NOW, |_| {}));
    assert!(!here.legacy.leaves_it_to([&x.id].into_iter()), "a 0.5 node publishes no shared context");
}

#[test]
fn a_slider_is_followed_however_often_it_moves() {
    let (mut here, mut x) = met(json!({ "dim": 0 }));
    let mut y = Old::new(Y);
    for position in 1..6000 {
        // What the node hears from another one hides what it had: only new values are surely its own.
        x.hears(&y.writes(NOW, |_| {}));
        here.hears(Y, &y.publishes());
        assert_eq!(here.hears(X, &x.writes(NOW, |data| data["dim"] = json!(position))), written("dim", position));
    }
}

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX generator; the high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Three 0.5 nodes and this one write, remove, publish, hear late, and merge as 0.5 does. Each write has the next number.
#[test]
fn no_value_is_ever_replaced_by_an_older_one_and_all_come_to_the_same() {
    const Z: &str = "12D3KooWGLrpQv8b6fx5cVTHsvSVPEeCaBqojKdXyerCAnv8t5Qw";
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut here = Here::new(json!({}));
        let mut olds = [Old::new(X), Old::new(Y), Old::new(Z)];
        // What was last written at each path here, or removed.
        let mut newest = BTreeMap::<String, u64>::new();
        let mut published: Vec<Vec<u8>> = Vec::new();
        let mut taken = 0;
        for step in 1..200_u64 {
            let (who, path) = (random.below(3) as usize, format!("p.{}", random.below(4)));
            match random.below(9) {
                0 => {
                    here.writes(&path, Some(json!(step)));
                    newest.insert(path, step);
                }
                1 if at(&here.context, &path).is_some() => {
                    here.writes(&path, None);
                    newest.insert(path, step);
                }
                // All that 0.5 nodes publish reaches this node, in order; the others hear it late, or never.
                2..=4 => {
                    let key = path[2..].to_owned();
                    let json = olds[who].writes(NOW + step, |data| data["p"][key.as_str()] = json!(step));
                    here.now = NOW + step;
                    for (path, value) in here.hears(&olds[who].id.to_string(), &json) {
                        let Some(number) = value.as_u64() else { continue };
                        let before = newest.insert(path.clone(), number).unwrap_or_default();
                        assert!(before < number, "seed {seed}, step {step}: {path} was of {before}, became {number}");
                        taken += 1;
                    }
                    published.push(json);
                }
                5 | 6 if !published.is_empty() => {
                    let at = random.below(published.len() as u64) as usize;
                    olds[who].hears(&published[at]);
                }
                // Two that connect tell each other all they have, and nobody else.
                7 => {
                    let other = olds[(who + 1) % 3].publishes();
                    olds[who].hears(&other);
                }
                _ => published.extend(here.legacy.snapshot(&here.context, here.now * 1000)),
            }
        }
        let last = here.publishes_again();
        for old in &mut olds {
            old.hears(&last);
            assert_eq!(old.data, here.context, "seed {seed}");
        }
        assert!(taken > 20, "seed {seed}: only {taken} values of 0.5 nodes were taken");
    }
}
