//! What a run came to.

use serde::{Deserialize, Serialize};

/// The figures of a run, as `--json` writes them. Times are virtual unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's name or file.
    pub scenario: String,
    /// Its description.
    pub description: String,
    /// Honest nodes.
    pub nodes: usize,
    /// The seed.
    pub seed: u64,
    /// `events` or `turmoil`.
    pub network: String,
    /// Length of the run.
    pub virtual_seconds: f64,
    /// How long that took.
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
    /// Nodes that came when the mesh was up.
    #[serde(default)]
    pub joins: Joins,
    /// Bytes that a node sent, over the nodes.
    pub bytes_sent: Percentiles,
    /// Once a second.
    pub timeline: Vec<Sample>,
    /// What went wrong on purpose.
    pub troubles: Vec<Span>,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
}

/// Pub/sub.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Messages {
    /// Messages that the library took.
    pub published: u64,
    /// Messages that came back, held too long or without a path.
    pub expired: u64,
    /// Deliveries that would be complete: each message at each other node that was up.
    pub possible: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Deliveries that overtook an earlier message of the same author.
    pub out_of_order: u64,
    /// From publish to delivery.
    pub latency_ms: Percentiles,
    /// The same, as a histogram.
    pub latency_histogram: Vec<Bin>,
}

/// Audio.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audio {
    /// Calls that were accepted.
    pub calls: u64,
    /// Calls that could not begin, as without a peer.
    pub failed: u64,
    /// Frames that the library took.
    pub sent: u64,
    /// Frames that arrived.
    pub received: u64,
    /// Frames that were reported missing.
    pub missing: u64,
    /// From send to arrival.
    pub latency_ms: Percentiles,
}

/// Connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// Peers of a node at the end, over the nodes.
    pub degree: Percentiles,
    /// Connections made, each counted at both ends.
    pub opened: u64,
    /// Dials begun.
    pub dials: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Connections refused before their handshake.
    pub refused: u64,
    /// How many nodes have how many peers at the end.
    pub degree_histogram: Vec<Bin>,
    /// Connections of a node at the end, over the nodes.
    #[serde(default)]
    pub of_a_node: Percentiles,
    /// Connections at the end in all, each counted at both ends.
    #[serde(default)]
    pub total: u64,
    /// From a crash to `PeerDisconnected`, at each who was connected.
    #[serde(default)]
    pub noticed_ms: Percentiles,
}

/// Nodes that came when the mesh was up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Joins {
    /// How many.
    pub nodes: u64,
    /// From the start to half of `max_peers`, or all others, over those who have got there.
    pub peered_ms: Percentiles,
    /// Peers that a search has found, over the searches.
    pub found: Percentiles,
    /// Part of the mesh that each has heard of at the end.
    pub heard: Percentiles,
}

/// Part of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Upper bound, included.
    pub upto: f64,
    /// How many.
    pub count: u64,
}

/// Some values of many, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many there were.
    pub count: u64,
    /// Their sum, divided by how many they are.
    #[serde(default)]
    pub mean: f64,
    /// The middle one.
    pub p50: f64,
    /// 95 of 100 are at most this.
    pub p95: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// How a run stood at a moment.
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
    /// Peers of a node, on average.
    pub degree_mean: f64,
    /// The most peers of a node.
    pub degree_max: u64,
    /// Bytes sent so far, by all.
    pub bytes_sent: u64,
    /// Part of the mesh that a node which came late has heard of, on average.
    #[serde(default)]
    pub heard_mean: f64,
}

/// A time in which something was wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Begin, in seconds.
    pub from: f64,
    /// End.
    pub until: f64,
    /// What.
    pub what: String,
}

/// A broken promise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Which.
    pub invariant: String,
    /// When, in seconds.
    pub at: f64,
    /// What was seen.
    pub detail: String,
    /// The last events of the nodes concerned.
    pub tail: Vec<String>,
}

impl Percentiles {
    /// Of these values.
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
