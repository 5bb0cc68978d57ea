//! The results of a run.

use serde::{Deserialize, Serialize};

use crate::mesh::Mesh;
use crate::situations::Situations;

/// The results of a run, as `--json` writes them. Times are virtual unless stated otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's name or file.
    pub scenario: String,
    /// Its description.
    pub description: String,
    /// The scenario as it ran, in TOML: with what `swarm` has drawn.
    #[serde(default)]
    pub settings: String,
    /// Honest nodes.
    pub nodes: usize,
    /// The seed.
    pub seed: u64,
    /// `events` or `turmoil`.
    pub network: String,
    /// The number of homes that the machines shared; 0: each machine was a home of its own.
    #[serde(default)]
    pub homes: usize,
    /// The length of the run.
    pub virtual_seconds: f64,
    /// The real time that the run took.
    pub wall_seconds: f64,
    /// The most memory that the process used, in bytes.
    pub peak_memory_bytes: u64,
    /// A digest of everything that happened.
    pub trace: String,
    /// The command that runs it again.
    pub repro: String,
    /// Pub/sub.
    pub messages: Messages,
    /// Audio.
    pub audio: Audio,
    /// Connections.
    pub connections: Connections,
    /// Nodes that started when the mesh was up.
    #[serde(default)]
    pub joins: Joins,
    /// Bytes sent per node.
    pub bytes_sent: Percentiles,
    /// One sample per second.
    pub timeline: Vec<Sample>,
    /// The planned faults.
    pub troubles: Vec<Span>,
    /// The promise that was broken first, if one was.
    pub violation: Option<Violation>,
    /// The promises that nodes are known to break in this scenario.
    #[serde(default)]
    pub known_broken: Vec<String>,
    /// How often the nodes reached each situation that is worth reaching.
    #[serde(default)]
    pub situations: Situations,
    /// The mesh in time. It is in the page alone.
    #[serde(skip)]
    pub mesh: Mesh,
    /// The trace up to the times that `--stop-at` names, as far as the run got.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<Stop>,
}

/// A time at which a run could go another way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// The time, in seconds.
    pub at: f64,
    /// A digest of everything that happened before.
    pub trace: String,
    /// The seed of everything after, if it is another one than that of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<u64>,
}

impl Report {
    /// The promise that was broken and is not known to be.
    pub fn unexpected(&self) -> Option<&Violation> {
        self.violation.as_ref().filter(|violation| !self.known_broken.contains(&violation.invariant))
    }

    /// Whether a promise that is known to be broken was kept.
    pub fn is_mended(&self) -> bool {
        self.violation.is_none() && !self.known_broken.is_empty()
    }
}

/// Pub/sub.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Messages {
    /// Messages that the library took.
    pub published: u64,
    /// Held messages that were returned, because they were held too long or their path was congested.
    pub expired: u64,
    /// The number of deliveries if complete: each message at each other node that was up.
    pub possible: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Deliveries that overtook an earlier message of the same author.
    pub out_of_order: u64,
    /// The time from publish to delivery.
    pub latency_ms: Percentiles,
    /// The same times as a histogram.
    pub latency_histogram: Vec<Bin>,
}

/// Audio.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audio {
    /// Calls that were accepted.
    pub calls: u64,
    /// Calls that could not begin, for example without a peer.
    pub failed: u64,
    /// Frames that the library took.
    pub sent: u64,
    /// Frames that arrived.
    pub received: u64,
    /// Frames that were reported missing.
    pub missing: u64,
    /// The time from send to arrival.
    pub latency_ms: Percentiles,
}

/// Connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// Peers per node at the end.
    pub degree: Percentiles,
    /// Connections made, each counted at both ends.
    pub opened: u64,
    /// Dials begun.
    pub dials: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Connections refused before their handshake.
    pub refused: u64,
    /// The distribution of the number of peers at the end.
    pub degree_histogram: Vec<Bin>,
    /// Connections per node at the end.
    #[serde(default)]
    pub of_a_node: Percentiles,
    /// All connections at the end, each counted at both ends.
    #[serde(default)]
    pub total: u64,
    /// The time from a crash to `PeerDisconnected`, at each connected peer.
    #[serde(default)]
    pub noticed_ms: Percentiles,
}

/// Nodes that started when the mesh was up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Joins {
    /// The number of these nodes.
    pub nodes: u64,
    /// The time from their start until they had half of `max_peers` or all other nodes as peers, for those that reached
    /// it.
    pub peered_ms: Percentiles,
    /// The number of peers found per search.
    pub found: Percentiles,
    /// The share of the mesh that each had heard of at the end.
    pub heard: Percentiles,
}

/// One bin of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Upper bound, included.
    pub upto: f64,
    /// The number of values in the bin.
    pub count: u64,
}

/// Percentiles of a set of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The number of values.
    pub count: u64,
    /// The mean.
    #[serde(default)]
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 95 of 100 are at most this.
    pub p95: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// The state of a run at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds from the start.
    pub at: f64,
    /// Messages published so far.
    pub published: u64,
    /// Deliveries so far.
    pub delivered: u64,
    /// Deliveries so far that would be complete.
    pub possible: u64,
    /// Nodes that are up.
    pub up: u64,
    /// The mean number of peers per node.
    pub degree_mean: f64,
    /// The largest number of peers of a node.
    pub degree_max: u64,
    /// Bytes sent so far by all nodes.
    pub bytes_sent: u64,
    /// The share of the mesh that a late node has heard of, on average.
    #[serde(default)]
    pub heard_mean: f64,
}

/// A time with a fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The begin, in seconds.
    pub from: f64,
    /// The end, in seconds.
    pub until: f64,
    /// A description of the fault.
    pub what: String,
}

/// A broken promise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// The name of the broken invariant.
    pub invariant: String,
    /// The time, in seconds.
    pub at: f64,
    /// What was observed.
    pub detail: String,
    /// The last events of the nodes concerned.
    pub tail: Vec<String>,
}

impl Percentiles {
    /// The percentiles of these values.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (part * values.len() as f64).ceil() as usize;
            values.get(index.max(1) - 1).copied().unwrap_or_default()
        };
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        Self { count: values.len() as u64, mean, p50: at(0.50), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

/// A histogram of values with bins of equal width.
pub fn histogram(values: &[f64], bins: usize) -> Vec<Bin> {
    let max = values.iter().copied().fold(0.0, f64::max);
    let width = if max > 0.0 { max / bins as f64 } else { 1.0 };
    let mut histogram: Vec<_> = (1..=bins).map(|bin| Bin { upto: width * bin as f64, count: 0 }).collect();
    for value in values {
        let index = ((value / width).ceil() as usize).clamp(1, bins) - 1;
        histogram[index].count += 1;
    }
    histogram
}
