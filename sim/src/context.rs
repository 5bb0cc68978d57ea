//! Do all nodes have the same in the shared context, and what it must be?

use std::collections::BTreeMap;

use avi_p2p::AviP2pHandle;
use serde_json::{Value, json};

use crate::network::Host;
use crate::random::{Random, mix};

/// What all nodes write is below this.
pub const SHARED: &str = "shared";
/// What each node alone writes is below this.
const OWN: &str = "own";
/// What hostile members fill the context with. They never stop, so nodes need not agree on it.
const NOISE: &str = "noise";
/// The values that each node alone writes, besides those below its peer id.
const OWN_VALUES: usize = 4;

/// A write of an application.
pub struct Write {
    /// The path.
    pub path: String,
    /// The value; `None` removes what is there.
    pub value: Option<Value>,
}

impl Write {
    /// What the seed draws for this write of a node.
    pub fn draw(seed: u64, write: u64, host: Host, shared: usize, handle: &AviP2pHandle) -> Self {
        let mut random = Random::new(mix(seed, mix(0x7772_6974, write)));
        let value = (random.below(4) > 0).then(|| json!({ "write": write, "by": host.0 }));
        let path = match random.below(3) {
            0 => format!("{SHARED}.{}", random.below(shared.max(1))),
            1 => format!("{OWN}.{}.{}", host.0, random.below(OWN_VALUES)),
            _ => format!("{OWN}.{}.{}", handle.local_peer_id(), random.below(OWN_VALUES)),
        };
        Self { path, value }
    }
}

/// What was written, and what nodes have at the end.
#[derive(Debug, Default)]
pub struct ContextRecord {
    /// The writes to each path, in order: by whom, in which of its runs.
    writes: BTreeMap<String, Vec<(Host, u32, Option<Value>)>>,
    snapshots: BTreeMap<Host, Value>,
    /// Whether the clocks of all who write are right. Then the last write counts also where all nodes write.
    pub has_one_clock: bool,
}

impl ContextRecord {
    /// A node has written.
    pub fn on_write(&mut self, host: Host, generation: u32, path: String, value: Option<Value>) {
        self.writes.entry(path).or_default().push((host, generation, value));
    }

    /// A node tells what it has.
    pub fn on_snapshot(&mut self, host: Host, mut snapshot: Value) {
        if let Value::Object(map) = &mut snapshot {
            map.remove(NOISE);
        }
        self.snapshots.insert(host, snapshot);
    }

    /// The promises that are broken for the nodes that are up, each in its newest run, in groups that can reach each other.
    pub fn faults(&self, groups: &[Vec<(Host, u32)>]) -> Vec<(&'static str, Host, String)> {
        groups.iter().flat_map(|group| self.faults_of(group)).collect()
    }

    fn faults_of(&self, group: &[(Host, u32)]) -> Vec<(&'static str, Host, String)> {
        let mut faults = Vec::new();
        let told: Vec<_> = group.iter().map(|(host, _)| (*host, self.snapshots.get(host))).collect();
        let Some((first, expected)) = told.iter().find_map(|(host, told)| Some((*host, (*told)?))) else {
            return faults;
        };
        for (host, told) in told {
            match told {
                Some(snapshot) if snapshot == expected => {}
                Some(snapshot) => {
                    let detail = format!("it differs from node {} at {}", first.0, difference(snapshot, expected));
                    faults.push(("all nodes have the same context", host, detail));
                }
                None => faults.push(("all nodes have the same context", host, "it has told nothing".to_owned())),
            }
        }
        // What others have written may not have got here.
        let is_here = |writer: &Host| group.iter().any(|(host, _)| host == writer);
        for (path, writes) in self.writes.iter().filter(|(_, writes)| writes.iter().all(|(host, ..)| is_here(host))) {
            let found = path.split('.').try_fold(expected, |value, key| value.get(key)).cloned();
            let is_open = path.starts_with(SHARED) && !self.has_one_clock;
            let possible = if is_open { all_of(writes) } else { last_of(writes, group) };
            if !possible.contains(&found) {
                let detail = format!("{path} is {found:?}, expected one of {possible:?}");
                faults.push(("the context has what was written last", first, detail));
            }
        }
        faults
    }
}

/// Whatever was written, or nothing.
fn all_of(writes: &[(Host, u32, Option<Value>)]) -> Vec<Option<Value>> {
    writes.iter().map(|(_, _, value)| value.clone()).chain([None]).collect()
}

/// What can be there of what one node alone writes, or nodes with one clock: the last write. One of an earlier run of its node
/// may have been lost with that.
fn last_of(writes: &[(Host, u32, Option<Value>)], up: &[(Host, u32)]) -> Vec<Option<Value>> {
    let mut possible = vec![None];
    for (host, generation, value) in writes {
        if up.contains(&(*host, *generation)) {
            possible.clear();
        }
        possible.push(value.clone());
    }
    possible
}

/// The first path at which two values differ.
fn difference(one: &Value, other: &Value) -> String {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<_> = one.keys().chain(other.keys()).collect();
            keys.sort();
            let differs = keys.into_iter().find(|key| one.get(*key) != other.get(*key));
            differs.map_or_else(String::new, |key| {
                let (one, other) = (one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null));
                format!("{key}.{}", difference(one, other))
            })
        }
        _ => format!(": {one} and {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_and_what_is_out_of_date_is_found() {
        let mut record = ContextRecord::default();
        record.on_write(Host(0), 1, "own.0.1".to_owned(), Some(json!(1)));
        record.on_write(Host(0), 1, "own.0.1".to_owned(), Some(json!(2)));
        let up = vec![(Host(0), 1), (Host(1), 1)];
        let snapshot = |n: u64| json!({ "own": { "0": { "1": n } }, "noise": n });
        record.on_snapshot(Host(0), snapshot(2));
        record.on_snapshot(Host(1), json!({ "own": { "0": { "1": 2 } } }));
        assert_eq!(record.faults(std::slice::from_ref(&up)), []);
        record.on_snapshot(Host(1), snapshot(1));
        assert!(
            record.faults(std::slice::from_ref(&up))[0].2.contains("own.0.1.: 1 and 2"),
            "{:?}",
            record.faults(std::slice::from_ref(&up))
        );
        record.on_snapshot(Host(0), snapshot(1));
        assert_eq!(record.faults(std::slice::from_ref(&up))[0].0, "the context has what was written last");
        // Who cannot reach the other one has its own.
        record.on_snapshot(Host(0), snapshot(2));
        assert_eq!(record.faults(&[vec![up[0]], vec![up[1]]]), []);
        assert_ne!(record.faults(std::slice::from_ref(&up)), []);
        record.on_snapshot(Host(0), snapshot(1));
        // After a restart, what was written before may be lost.
        assert_eq!(record.faults(&[vec![(Host(0), 2), (Host(1), 1)]]), []);
    }

    #[test]
    fn with_one_clock_the_last_write_counts_where_all_nodes_write() {
        let mut record = ContextRecord::default();
        record.on_write(Host(0), 1, "shared.0".to_owned(), Some(json!(1)));
        record.on_write(Host(1), 1, "shared.0".to_owned(), Some(json!(2)));
        let up = vec![(Host(0), 1), (Host(1), 1)];
        up.iter().for_each(|(host, _)| record.on_snapshot(*host, json!({ "shared": { "0": 1 } })));
        assert_eq!(record.faults(std::slice::from_ref(&up)), []);
        record.has_one_clock = true;
        assert_eq!(record.faults(std::slice::from_ref(&up))[0].0, "the context has what was written last");
    }
}
