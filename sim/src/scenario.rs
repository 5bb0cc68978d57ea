//! What happens in a run, as a file says it.

mod load;

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::load::{BUILTIN, ScenarioError};

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
    /// Nodes that come when the mesh is up.
    pub join: Join,
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
    /// Whether all nodes have the key of one private mesh.
    pub private: bool,
    /// Over how many seconds the nodes start, one after the other.
    pub start_within: f64,
    /// Messages and audio frames that may wait for an application.
    pub event_queue: usize,
}

impl Default for NodeSetup {
    fn default() -> Self {
        Self { max_peers: 8, max_audio_streams: 10, kad: true, private: false, start_within: 2.0, event_queue: 1024 }
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

/// Nodes that come when the mesh is up: the last ones of the run's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Join {
    /// How many.
    pub nodes: usize,
    /// When, in seconds.
    pub at: f64,
    /// How many of the others each of them knows, chosen by the seed.
    pub bootstrap: usize,
    /// After how many seconds their applications look for peers again; 0: they look once.
    pub discover_every: f64,
}

impl Default for Join {
    fn default() -> Self {
        Self { nodes: 0, at: 20.0, bootstrap: 1, discover_every: 0.0 }
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
    /// Nodes, each somebody else, that connect to one honest node alone, again and again.
    pub sybils: usize,
    /// The number of that node, from 0; if left out, the last that is there from the start.
    pub victim: Option<u32>,
}

impl Hostile {
    /// Of all kinds together.
    pub fn count(&self) -> usize {
        self.garbage + self.dial_storm + self.flood + self.stream_flood + self.sybils
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
        /// Whether they have another address then.
        #[serde(default)]
        moves: bool,
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
        /// Whether they have another address then.
        #[serde(default)]
        moves: bool,
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
    /// How long a node of `join` may take to be connected to half of `max_peers`, in seconds.
    pub join_within: f64,
}

impl Default for Expect {
    fn default() -> Self {
        Self { heal_within: 30.0, deliver_within: 5.0, join_within: 10.0 }
    }
}

fn half() -> f64 {
    0.5
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

    /// Whether nodes come back with another address.
    fn moves(&self) -> bool {
        matches!(self, Self::Crash { moves: true, .. } | Self::Leave { moves: true, .. })
    }

    /// Whether nodes come back.
    fn restarts(&self) -> bool {
        matches!(self, Self::Crash { restart_at: Some(_), .. } | Self::Leave { restart_at: Some(_), .. })
    }
}
