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
        let mut value = (random.below(4) > 0).then(|| json!({ "write": write, "by": host.0 }));
        let of_whom = random.below(3);
        // What many write at once, they write in one form, so that parts of one cannot be left beside parts of another.
        if of_whom > 0 && value.is_some() {
            match random.below(4) {
                0 => value = Some(json!(random.below(2))),
                1 => value = Some(json!({})),
                2 => value = Some(json!({ "is": { "on": random.below(2) }, "write": write })),
                _ => {}
            }
        }
        let path = match of_whom {
            0 => format!("{SHARED}.{}", random.below(shared.max(1))),
            1 => format!("{OWN}.{}.{}", host.0, random.below(OWN_VALUES)),
            _ => format!("{OWN}.{}.{}", handle.local_peer_id(), random.below(OWN_VALUES)),
        };
        Self { path, value }
    }
}

/// A write that a node has made.
#[derive(Debug)]
struct Written {
    by: Host,
    /// In which of its runs.
    generation: u32,
    /// The node's clock in milliseconds. It does not go back within a run.
    clock: u64,
    value: Option<Value>,
}

/// What was written, and what nodes have at the end.
#[derive(Debug, Default)]
pub struct ContextRecord {
    /// The writes to each path, in order.
    writes: BTreeMap<String, Vec<Written>>,
    /// The clock of the last write of each node, in its newest run.
    clocks: BTreeMap<(Host, u32), u64>,
    snapshots: BTreeMap<Host, Value>,
    /// Whether the clocks of all who write are right. Then the last write counts also where all nodes write.
    pub has_one_clock: bool,
}

impl ContextRecord {
    /// A node has written, at its wall time.
    pub fn on_write(&mut self, host: Host, generation: u32, unix_millis: u64, path: String, value: Option<Value>) {
        let clock = self.clocks.entry((host, generation)).or_default();
        *clock = unix_millis.max(*clock);
        self.writes.entry(path).or_default().push(Written { by: host, generation, clock: *clock, value });
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
        for (path, writes) in self.writes.iter().filter(|(_, writes)| writes.iter().all(|written| is_here(&written.by)))
        {
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
fn all_of(writes: &[Written]) -> Vec<Option<Value>> {
    writes.iter().map(|written| written.value.clone()).chain([None]).collect()
}

/// What can be there of what one node alone writes, or nodes with one clock: the last write. One of an earlier run of its node
/// may have been lost with that; or it counts, if its clock has gone back since.
fn last_of(writes: &[Written], up: &[(Host, u32)]) -> Vec<Option<Value>> {
    let is_of_newest = |written: &&Written| up.contains(&(written.by, written.generation));
    let Some(last) = writes.iter().rev().find(is_of_newest) else { return all_of(writes) };
    let is_of_another_run = |written: &Written| (written.by, written.generation) != (last.by, last.generation);
    let is_later =
        |written: &&Written| std::ptr::eq(*written, last) || is_of_another_run(written) && written.clock >= last.clock;
    let after = writes.iter().skip_while(|written| !std::ptr::eq(*written, last)).skip(1);
    writes.iter().filter(is_later).chain(after).map(|written| written.value.clone()).collect()
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

    const NOW: u64 = 1_767_225_600_000;

    #[test]
    fn what_differs_and_what_is_out_of_date_is_found() {
        let mut record = ContextRecord::default();
        record.on_write(Host(0), 1, NOW, "own.0.1".to_owned(), Some(json!(1)));
        record.on_write(Host(0), 1, NOW + 1, "own.0.1".to_owned(), Some(json!(2)));
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
        record.on_write(Host(0), 1, NOW, "shared.0".to_owned(), Some(json!(1)));
        record.on_write(Host(1), 1, NOW + 1, "shared.0".to_owned(), Some(json!(2)));
        let up = vec![(Host(0), 1), (Host(1), 1)];
        up.iter().for_each(|(host, _)| record.on_snapshot(*host, json!({ "shared": { "0": 1 } })));
        assert_eq!(record.faults(std::slice::from_ref(&up)), []);
        record.has_one_clock = true;
        assert_eq!(record.faults(std::slice::from_ref(&up))[0].0, "the context has what was written last");
    }

    #[test]
    fn what_an_earlier_run_wrote_by_a_clock_that_has_gone_back_may_count() {
        let mut record = ContextRecord::default();
        for (generation, clock, value) in [(1, NOW + 50, 1), (1, NOW + 60, 2), (2, NOW + 55, 3), (2, NOW + 50, 4)] {
            record.on_write(Host(0), generation, clock, "own.0.1".to_owned(), Some(json!(value)));
        }
        let up = [vec![(Host(0), 2)]];
        for (value, is_possible) in [(1, false), (2, true), (3, false), (4, true)] {
            record.on_snapshot(Host(0), json!({ "own": { "0": { "1": value } } }));
            assert_eq!(record.faults(&up).is_empty(), is_possible, "{value}");
        }
    }
}
