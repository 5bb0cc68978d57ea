//! What happens in a run, as a file says it.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A scenario. Every field has a default; see `sim/README.md` for how to write one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// One line for people.
    pub description: String,
    /// How long the run lasts, in virtual seconds.
    pub seconds: Seconds<30>,
    /// How the nodes are set up.
    pub node: NodeSetup,
    /// Who knows whom at the start.
    pub topology: Topology,
    /// What the network is like.
    pub link: Link,
    /// Pub/sub traffic.
    pub publish: Publish,
    /// Audio calls.
    pub calls: Calls,
    /// Applications that read their events slowly.
    pub slow_consumers: SlowConsumers,
    /// Nodes that break the rules.
    pub hostile: Hostile,
    /// What goes wrong, and when.
    pub faults: Vec<Fault>,
    /// What must hold, beyond what always must.
    pub expect: Expect,
}

/// Seconds, more than 0 and at most a day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds<const DEFAULT: u32>(pub f64);

impl<const DEFAULT: u32> Default for Seconds<DEFAULT> {
    fn default() -> Self {
        Self(DEFAULT.into())
    }
}

impl<const DEFAULT: u32> Seconds<DEFAULT> {
    /// As a duration; nothing if it is negative or absurd.
    pub fn duration(self) -> Duration {
        Duration::try_from_secs_f64(self.0).unwrap_or_default()
    }
}

/// How the nodes are set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSetup {
    /// As in the node's configuration.
    pub max_peers: usize,
    /// As in the node's configuration.
    pub max_audio_streams: usize,
    /// As in the node's configuration.
    pub kad: bool,
    /// Over how many seconds the nodes start, one after the other.
    pub start_within: f64,
    /// Messages and audio frames that may wait for an application.
    pub event_queue: usize,
}

impl Default for NodeSetup {
    fn default() -> Self {
        Self { max_peers: 8, max_audio_streams: 10, kad: true, start_within: 2.0, event_queue: 1024 }
    }
}

/// Who knows whom at the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topology {
    /// How many of the nodes that started before it each node knows, chosen by the seed.
    pub bootstrap: usize,
    /// Whether everyone hears of everyone at once, as by mDNS on one network.
    pub lan: bool,
}

impl Default for Topology {
    fn default() -> Self {
        Self { bootstrap: 2, lan: false }
    }
}

/// What the network is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Shortest latency of a pair of nodes, in milliseconds one way.
    pub latency_min_ms: f64,
    /// Longest latency of a pair of nodes.
    pub latency_max_ms: f64,
    /// What is added at random to each piece of data, at most.
    pub jitter_ms: f64,
    /// Kilobits a second that a node can send; 0: no bound.
    pub uplink_kbit: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self { latency_min_ms: 2.0, latency_max_ms: 40.0, jitter_ms: 2.0, uplink_kbit: 0 }
    }
}

/// Pub/sub traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// Topics; every node subscribes to all of them.
    pub topics: usize,
    /// Messages in all, spread evenly, each by a node that the seed chooses.
    pub messages: usize,
    /// Bytes of a message, at least 16.
    pub bytes: usize,
    /// When the first may be sent, in seconds.
    pub from: f64,
    /// When the last may be sent; 0: five seconds before the end.
    pub until: f64,
}

impl Default for Publish {
    fn default() -> Self {
        Self { topics: 1, messages: 20, bytes: 64, from: 10.0, until: 0.0 }
    }
}

/// Audio calls, between nodes that are connected and that the seed chooses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Calls {
    /// Calls in all.
    pub count: usize,
    /// When the first may begin, in seconds.
    pub from: f64,
    /// How long each lasts.
    pub seconds: f64,
    /// Milliseconds from frame to frame.
    pub frame_ms: u64,
    /// Bytes of a frame, at least 16.
    pub frame_bytes: usize,
}

impl Default for Calls {
    fn default() -> Self {
        Self { count: 0, from: 10.0, seconds: 5.0, frame_ms: 20, frame_bytes: 160 }
    }
}

/// Applications that read their events slowly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlowConsumers {
    /// How many nodes have one.
    pub count: usize,
    /// Milliseconds that they take for an event; 0: they read nothing until the last five seconds.
    pub event_ms: u64,
}

/// Nodes that break the rules. They are not counted in the nodes of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hostile {
    /// Hosts that connect, and send what is no handshake.
    pub garbage: usize,
    /// Hosts that connect again and again, and say nothing.
    pub dial_storm: usize,
    /// Members that publish as fast as they can.
    pub flood: usize,
    /// Members that ask everyone for streams, again and again.
    pub stream_flood: usize,
}

impl Hostile {
    /// Of all kinds together.
    pub fn count(&self) -> usize {
        self.garbage + self.dial_storm + self.flood + self.stream_flood
    }
}

/// What goes wrong, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// Two groups of nodes cannot reach each other.
    Partition {
        /// Begin, in seconds.
        from: f64,
        /// End.
        until: f64,
        /// Part of the nodes in the first group.
        #[serde(default = "half")]
        share: f64,
        /// Whether only bytes from the first group to the second are stopped.
        #[serde(default)]
        one_way: bool,
        /// What becomes of connections.
        #[serde(default)]
        mode: PartitionMode,
    },
    /// Nodes lose power, and perhaps come back.
    Crash {
        /// When, in seconds.
        at: f64,
        /// How many; the seed chooses.
        nodes: usize,
        /// When they start again with the same identity, if they do.
        #[serde(default)]
        restart_at: Option<f64>,
    },
    /// Nodes say goodbye, and perhaps come back.
    Leave {
        /// When, in seconds.
        at: f64,
        /// How many; the seed chooses.
        nodes: usize,
        /// When they start again with the same identity, if they do.
        #[serde(default)]
        restart_at: Option<f64>,
    },
    /// Nothing that some nodes send arrives for a while; then all of it does.
    Stall {
        /// Begin, in seconds.
        from: f64,
        /// End.
        until: f64,
        /// How many; the seed chooses.
        nodes: usize,
    },
    /// Everything takes longer for a while.
    Latency {
        /// Begin, in seconds.
        from: f64,
        /// End.
        until: f64,
        /// Milliseconds more, one way.
        add_ms: f64,
    },
    /// Faults of all kinds, drawn from the seed.
    Chaos {
        /// When the first may begin, in seconds.
        from: f64,
        /// When the last has ended.
        until: f64,
        /// How many.
        count: usize,
    },
}

/// What a partition does to what is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionMode {
    /// It waits, and arrives when the partition ends, as with a cable that was out for a moment.
    #[default]
    Hold,
    /// It is lost, and the connections are reset.
    Reset,
}

/// What must hold, beyond what always must.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// How long after the last fault the mesh may take to be one again, in seconds.
    pub heal_within: f64,
    /// How long a message may take to reach everybody who is connected in calm times, in seconds.
    pub deliver_within: f64,
}

impl Default for Expect {
    fn default() -> Self {
        Self { heal_within: 30.0, deliver_within: 5.0 }
    }
}

fn half() -> f64 {
    0.5
}

/// Why a file is not a scenario.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// It cannot be read.
    #[error("{file}: {error}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is not TOML, or a field is unknown or of the wrong type.
    #[error("{file}:{line}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What was expected.
        message: String,
    },
    /// A value is out of range.
    #[error("{file}:{line}: {field} = {value}: expected {expected}")]
    Range {
        /// The file.
        file: String,
        /// Counted from 1; of the field's name, or 1.
        line: usize,
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What was expected.
        expected: String,
    },
}

impl Scenario {
    /// Reads a file, or the built-in scenario of that name.
    ///
    /// # Errors
    /// [`ScenarioError`], with the file, the line, and what was expected.
    pub fn load(name: &str) -> Result<Self, ScenarioError> {
        let builtin = BUILTIN.iter().find(|(builtin, _)| *builtin == name);
        if let Some((name, text)) = builtin {
            return Self::parse(&format!("sim/scenarios/{name}.toml"), text);
        }
        let text = std::fs::read_to_string(Path::new(name)).map_err(|error| ScenarioError::Unreadable {
            file: name.to_owned(),
            error: match error.kind() {
                std::io::ErrorKind::NotFound => {
                    let names: Vec<_> = BUILTIN.iter().map(|(name, _)| *name).collect();
                    std::io::Error::other(format!("no such file, and no scenario of the built-in {}", names.join(", ")))
                }
                _ => error,
            },
        })?;
        Self::parse(name, &text)
    }

    /// Reads a scenario from text; `file` is for errors.
    ///
    /// # Errors
    /// [`ScenarioError`], with the file, the line, and what was expected.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| ScenarioError::Syntax {
            file: file.to_owned(),
            line: error.span().map_or(1, |span| line_of(text, span)),
            message: error.message().to_owned(),
        })?;
        scenario.check(file, text)?;
        Ok(scenario)
    }

    fn check(&self, file: &str, text: &str) -> Result<(), ScenarioError> {
        let check = |field: &str, ok: bool, value: String, expected: &str| match ok {
            true => Ok(()),
            false => Err(ScenarioError::Range {
                file: file.to_owned(),
                line: line_of_field(text, field),
                field: field.to_owned(),
                value,
                expected: expected.to_owned(),
            }),
        };
        let end = self.seconds.0;
        check("seconds", end > 0.0 && end <= 86_400.0, end.to_string(), "more than 0 and at most 86400")?;
        let NodeSetup { max_peers, event_queue, start_within, .. } = self.node;
        check("node.max_peers", (1..=10_000).contains(&max_peers), max_peers.to_string(), "1 to 10000")?;
        check("node.event_queue", (1..=1_000_000).contains(&event_queue), event_queue.to_string(), "1 to 1000000")?;
        let starts = (0.0..=end).contains(&start_within);
        check("node.start_within", starts, start_within.to_string(), "0 to the scenario's seconds")?;
        let Link { latency_min_ms: low, latency_max_ms: high, jitter_ms, .. } = self.link;
        check("link.latency_min_ms", low >= 0.0 && low <= high, low.to_string(), "0 to latency_max_ms")?;
        check("link.latency_max_ms", high <= 60_000.0, high.to_string(), "at most 60000")?;
        check("link.jitter_ms", (0.0..=60_000.0).contains(&jitter_ms), jitter_ms.to_string(), "0 to 60000")?;
        let Publish { topics, bytes, .. } = self.publish;
        check("publish.topics", (1..=100).contains(&topics), topics.to_string(), "1 to 100")?;
        check("publish.bytes", (16..=65_536).contains(&bytes), bytes.to_string(), "16 to 65536")?;
        let Calls { frame_ms, frame_bytes, seconds, .. } = self.calls;
        check("calls.frame_ms", (1..=1000).contains(&frame_ms), frame_ms.to_string(), "1 to 1000")?;
        check("calls.frame_bytes", (16..=65_536).contains(&frame_bytes), frame_bytes.to_string(), "16 to 65536")?;
        check(
            "calls.seconds",
            seconds > 0.0 && seconds <= end,
            seconds.to_string(),
            "more than 0, within the scenario",
        )?;
        for fault in &self.faults {
            let Range { start, end: stop } = fault.span();
            let ok = start >= 0.0 && start <= stop && stop <= end;
            check("faults", ok, format!("{start} to {stop}"), "a begin before its end, within the scenario's seconds")?;
        }
        Ok(())
    }
}

impl Fault {
    /// From when to when, in seconds.
    pub fn span(&self) -> Range<f64> {
        match *self {
            Self::Partition { from, until, .. }
            | Self::Stall { from, until, .. }
            | Self::Latency { from, until, .. }
            | Self::Chaos { from, until, .. } => from..until,
            Self::Crash { at, restart_at, .. } | Self::Leave { at, restart_at, .. } => at..restart_at.unwrap_or(at),
        }
    }
}

fn line_of(text: &str, span: Range<usize>) -> usize {
    text[..span.start.min(text.len())].matches('\n').count() + 1
}

/// Where a field's own name is set, the closest that can be said once the text is parsed.
fn line_of_field(text: &str, field: &str) -> usize {
    let name = field.rsplit('.').next().unwrap_or(field);
    let is_set = |line: &str| {
        let line = line.trim_start().trim_start_matches('[');
        line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
    };
    text.lines().position(is_set).map_or(1, |line| line + 1)
}

/// Name and text of the scenarios that come with the tool.
pub const BUILTIN: [(&str, &str); 8] = [
    ("quiet", include_str!("../scenarios/quiet.toml")),
    ("calls", include_str!("../scenarios/calls.toml")),
    ("churn", include_str!("../scenarios/churn.toml")),
    ("partition", include_str!("../scenarios/partition.toml")),
    ("slow_consumers", include_str!("../scenarios/slow_consumers.toml")),
    ("hostile", include_str!("../scenarios/hostile.toml")),
    ("lan", include_str!("../scenarios/lan.toml")),
    ("chaos", include_str!("../scenarios/chaos.toml")),
];
