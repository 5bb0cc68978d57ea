//! How do nodes of AVI 0.5 write their context?

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The topic that they publish it on.
pub(crate) const TOPIC: &str = "avi-context-updates";

/// The most values of a context that are read.
const MAX_LEAVES: usize = 2048;
/// The most devices in a clock: a 0.5 node has another id after each start, and its clock forgets none. And the highest
/// count of one; ours are milliseconds since 1970.
pub(super) const MAX_CLOCK: usize = 4096;
const MAX_COUNT: u64 = 1 << 48;
const MAX_PATH_BYTES: usize = 256;
const MAX_DEPTH: usize = 16;

/// The whole context of a node, as it publishes it after each change of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Whose context it is.
    pub device_id: String,
    /// When it was last changed, in seconds since 1970. One for all of it, so it tells nothing of a single value.
    pub timestamp: u64,
    /// How many changes of each node it has.
    pub vector_clock: BTreeMap<String, u64>,
    /// The context.
    pub data: Value,
    /// Whether it shows the shared context of this library, of which it says nothing new. 0.5 does not know this field.
    #[serde(default)]
    pub shared: bool,
    /// Whether the clock has counts that were left out: beyond the bounds.
    #[serde(skip)]
    pub is_cut: bool,
}

/// Why a snapshot is not taken at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is not the JSON of a context.
    Malformed,
    /// It is signed by another than the one whose context it claims to be.
    OtherDevice,
    /// It is older than what its author has said before.
    Stale,
}

impl Snapshot {
    /// Reads what `from` has signed.
    pub fn read(from: &str, json: &[u8]) -> Result<Self, Refused> {
        let mut snapshot: Self = serde_json::from_slice(json).map_err(|_| Refused::Malformed)?;
        if !snapshot.data.is_object() {
            return Err(Refused::Malformed);
        }
        if snapshot.device_id != from {
            return Err(Refused::OtherDevice);
        }
        let (all, clock) = (snapshot.vector_clock.len(), &mut snapshot.vector_clock);
        clock.retain(|_, count| *count <= MAX_COUNT);
        let own = clock.remove_entry(from);
        while clock.len() >= MAX_CLOCK {
            clock.pop_last();
        }
        clock.extend(own);
        snapshot.is_cut = clock.len() < all;
        Ok(snapshot)
    }
}

/// A value that is not an object, or an empty one: the ends of the tree that a context is.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub path: String,
    pub value: Value,
    pub hash: u64,
}

/// The leaves of a context, in order, and how many had to be left out: beyond the bounds, or with keys that cannot be in a
/// path.
pub(crate) fn leaves(data: &Value) -> (Vec<Leaf>, u64) {
    let (mut leaves, mut left_out) = (Vec::new(), 0);
    collect(String::new(), data, 0, &mut leaves, &mut left_out);
    (leaves, left_out)
}

fn collect(path: String, value: &Value, depth: usize, leaves: &mut Vec<Leaf>, left_out: &mut u64) {
    match value {
        Value::Object(map) if path.is_empty() || !map.is_empty() => {
            for (key, value) in map {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let is_key = !key.is_empty() && !key.contains('.') && !key.contains(char::is_control);
                if is_key && below.len() <= MAX_PATH_BYTES && depth < MAX_DEPTH {
                    collect(below, value, depth + 1, leaves, left_out);
                } else {
                    *left_out += 1;
                }
            }
        }
        _ if leaves.len() >= MAX_LEAVES => *left_out += 1,
        value => leaves.push(Leaf { path, value: value.clone(), hash: hash(value) }),
    }
}

/// Tells values apart. Two that are taken for one are not told apart by their author alone.
pub(crate) fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// What is at a path.
pub(crate) fn at<'a>(data: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(data, |value, key| value.get(key))
}

/// Whether a value at this path would lie beside all that is there: nothing is at it, and no value above it.
pub(crate) fn is_gap(data: &Value, path: &str) -> bool {
    let mut value = data;
    for key in path.split('.') {
        match value {
            Value::Object(map) => match map.get(key) {
                Some(below) => value = below,
                None => return true,
            },
            _ => return false,
        }
    }
    false
}

/// One object of leaves, for one write.
pub(crate) fn tree(leaves: &[(String, Value)]) -> Value {
    let mut root = Map::new();
    for (path, value) in leaves {
        let mut place = &mut root;
        let mut keys = path.split('.').peekable();
        while let Some(key) = keys.next() {
            if keys.peek().is_none() {
                place.insert(key.to_owned(), value.clone());
                break;
            }
            let below = place.entry(key).or_insert_with(|| Value::Object(Map::new()));
            // The leaves are those of one tree, so none is above another.
            let Value::Object(map) = below else { break };
            place = map;
        }
    }
    Value::Object(root)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_json_of_a_0_5_node_is_read() {
        let json =
            br#"{"device_id":"x","timestamp":1764249810,"vector_clock":{"x":3,"y":1},"data":{"avi":{"device":{}}}}"#;
        let snapshot = Snapshot::read("x", json).unwrap();
        assert_eq!((snapshot.vector_clock["x"], snapshot.shared), (3, false));
        assert_eq!(Snapshot::read("y", json), Err(Refused::OtherDevice));
    }

    #[test]
    fn what_is_no_context_is_refused() {
        let with = |clock: &str, data: &str| {
            format!(r#"{{"device_id":"x","timestamp":1,"vector_clock":{clock},"data":{data}}}"#)
        };
        let deep = with("{}", &format!("{}{}", r#"{"a":"#.repeat(200), "}".repeat(200)));
        let bad = ["", "[]", "{}", &with("{}", "null"), &with(r#"{"x":-1}"#, "{}"), &deep];
        for json in bad {
            assert_eq!(Snapshot::read("x", json.as_bytes()), Err(Refused::Malformed), "{json:.80}");
        }
    }

    #[test]
    fn counts_beyond_the_bounds_are_left_out_and_the_context_is_read() {
        let with = |clock: &BTreeMap<String, u64>| {
            let snapshot = json!({ "device_id": "x", "timestamp": 1, "vector_clock": clock, "data": { "a": 1 } });
            Snapshot::read("x", snapshot.to_string().as_bytes()).unwrap()
        };
        let snapshot = with(&BTreeMap::from([("x".to_owned(), 2), ("y".to_owned(), MAX_COUNT + 1)]));
        assert_eq!((snapshot.vector_clock.len(), snapshot.is_cut), (1, true));
        let mut many: BTreeMap<_, _> = (0..MAX_CLOCK).map(|id| (id.to_string(), 1)).collect();
        many.insert("x".to_owned(), 7);
        let snapshot = with(&many);
        assert_eq!((snapshot.vector_clock.len(), snapshot.vector_clock["x"], snapshot.is_cut), (MAX_CLOCK, 7, true));
        many.remove("9");
        assert!(!with(&many).is_cut);
    }

    #[test]
    fn leaves_are_bounded_and_what_cannot_be_a_path_is_left_out() {
        let (found, left_out) = leaves(&json!({ "a": { "b": 1, "c": [], "d": {} }, "": 2, "e.f": 3, "g": null }));
        assert_eq!(found.iter().map(|leaf| leaf.path.as_str()).collect::<Vec<_>>(), ["a.b", "a.c", "a.d", "g"]);
        assert_eq!(left_out, 2);
        let wide: Map<_, _> = (0..3000).map(|key| (format!("{key:04}"), Value::from(1))).collect();
        let (found, left_out) = leaves(&Value::Object(wide));
        assert_eq!((found.len(), left_out), (MAX_LEAVES, 3000 - MAX_LEAVES as u64));
        let deep = (0..20).fold(json!(1), |below, _| json!({ "a": below }));
        assert_eq!((leaves(&deep).0.len(), leaves(&deep).1), (0, 1));
    }

    #[test]
    fn leaves_become_the_tree_that_they_were() {
        let data = json!({ "a": { "b": 1, "c": [1, 2], "e": {} }, "d": "x" });
        let pairs: Vec<_> = leaves(&data).0.into_iter().map(|leaf| (leaf.path, leaf.value)).collect();
        assert_eq!(tree(&pairs), data);
    }

    #[test]
    fn an_empty_context_has_no_leaf() {
        assert!(leaves(&json!({})).0.is_empty());
    }

    #[test]
    fn a_gap_is_where_nothing_is() {
        let data = json!({ "a": { "b": 1 } });
        assert!(is_gap(&data, "a.c") && is_gap(&data, "x.y.z"));
        assert!(!is_gap(&data, "a.b") && !is_gap(&data, "a") && !is_gap(&data, "a.b.c"));
    }
}
