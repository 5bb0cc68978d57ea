//! The scenario of a run, as written in a file.

mod load;
mod text;

use std::ops::Range;
use std::time::Duration;

use avi_links::{Profile, ProfileError};
use serde::{Deserialize, Serialize};

pub use self::load::{BUILTIN, ScenarioError};
pub use self::text::Nodes;

/// A scenario. Every field has a default; see `sim/README.md` for how to write one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// A description in one line.
    pub description: String,
    /// How long the run lasts, in virtual seconds.
    pub seconds: Seconds<30>,
    /// Whether nodes are known to break a promise in this scenario.
    pub expected: Expected,
    /// The promises that they are known to break, by their names in reports, if `expected = "broken"`.
    pub breaks: Vec<String>,
    /// Whether the seed also draws the features, limits, rates and kinds of faults, as [`crate::swarm`] says.
    pub swarm: bool,
    /// The configuration of the nodes.
    pub node: NodeSetup,
    /// Which peers the nodes know at the start.
    pub topology: Topology,
    /// Nodes that start when the mesh is up.
    pub join: Join,
    /// The properties of the network.
    pub link: Link,
    /// Pub/sub traffic.
    pub publish: Publish,
    /// Writes into the shared context.
    pub context: SharedContext,
    /// Audio calls.
    pub calls: Calls,
    /// Applications that read their events slowly.
    pub slow_consumers: SlowConsumers,
    /// Nodes that break the rules.
    pub hostile: Hostile,
    /// Nodes of another make.
    pub foreign: Foreign,
    /// The faults and their times.
    pub faults: Vec<Fault>,
    /// Requirements beyond those that always hold.
    pub expect: Expect,
}

/// What is known about a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// All promises are kept.
    #[default]
    Kept,
    /// One of `breaks` is broken. A run that keeps it says so, and fails, so that the mark does not outlive its reason.
    Broken,
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
    /// As a duration; zero if it is negative or too large.
    pub fn duration(self) -> Duration {
        Duration::try_from_secs_f64(self.0).unwrap_or_default()
    }
}

/// The configuration of the nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSetup {
    /// As in the node's configuration.
    pub max_peers: usize,
    /// As in the node's configuration.
    pub max_audio_streams: usize,
    /// As in the node's configuration.
    pub kad: bool,
    /// Whether audio may go by datagrams.
    pub datagrams: bool,
    /// Whether all nodes have the key of one private mesh.
    pub private: bool,
    /// Seconds within which the nodes start, one after the other.
    pub start_within: f64,
    /// Messages and audio frames that may wait for an application.
    pub event_queue: usize,
}

impl Default for NodeSetup {
    fn default() -> Self {
        Self {
            max_peers: 8,
            max_audio_streams: 10,
            kad: true,
            datagrams: true,
            private: false,
            start_within: 2.0,
            event_queue: 1024,
        }
    }
}

/// Which peers the nodes know at the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topology {
    /// The number of earlier nodes that each node knows, chosen by the seed.
    pub bootstrap: usize,
    /// Whether each node is announced to all others at once, as by mDNS on one network.
    pub lan: bool,
    /// The number of homes that the machines share; 0: each machine is a home of its own.
    pub homes: usize,
    /// The numbers of the nodes that each node knows, from node 0 on, in place of those that the seed chooses.
    pub knows: Vec<Vec<u32>>,
    /// The numbers of nodes that never start. Whoever would know one of them knows those that it knows.
    pub absent: Vec<u32>,
}

impl Default for Topology {
    fn default() -> Self {
        Self { bootstrap: 2, lan: false, homes: 0, knows: Vec::new(), absent: Vec::new() }
    }
}

/// Nodes that start when the mesh is up: the last ones of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Join {
    /// The number of these nodes.
    pub nodes: usize,
    /// When they start, in seconds.
    pub at: f64,
    /// The number of other nodes that each of them knows, chosen by the seed.
    pub bootstrap: usize,
    /// Seconds after which their applications search for peers again; 0: they search once.
    pub discover_every: f64,
}

impl Default for Join {
    fn default() -> Self {
        Self { nodes: 0, at: 20.0, bootstrap: 1, discover_every: 0.0 }
    }
}

/// The properties of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Shortest one-way latency of a pair of nodes, in milliseconds.
    pub latency_min_ms: f64,
    /// Longest one-way latency of a pair of nodes, in milliseconds.
    pub latency_max_ms: f64,
    /// The most random delay that is added to each piece of data, in milliseconds.
    pub jitter_ms: f64,
    /// Kilobits per second that a node can send; 0: unlimited. For a link with a queue and loss, use `profiles`.
    pub uplink_kbit: u64,
    /// Names or files of link profiles (see `links/profiles`). Each node has the access link of one of them, chosen by
    /// the seed; without any, links are perfect. Latency and jitter above come in addition, between the links.
    pub profiles: Vec<String>,
}

impl Link {
    /// The profiles.
    ///
    /// # Errors
    /// [`ProfileError`] for a profile that does not exist or is not valid.
    pub fn load_profiles(&self) -> Result<Vec<Profile>, ProfileError> {
        self.profiles.iter().map(|name| Profile::load(name)).collect()
    }
}

impl Default for Link {
    fn default() -> Self {
        Self { latency_min_ms: 2.0, latency_max_ms: 40.0, jitter_ms: 2.0, uplink_kbit: 0, profiles: Vec::new() }
    }
}

/// Pub/sub traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// Topics; every node subscribes to all of them.
    pub topics: usize,
    /// The number of messages, spread evenly over time, each from a node that the seed chooses.
    pub messages: usize,
    /// Bytes of a message, at least 16.
    pub bytes: usize,
    /// When the first may be sent, in seconds.
    pub from: f64,
    /// When the last may be sent; 0: five seconds before the end.
    pub until: f64,
    /// Further messages, each at a time and from a node of its own.
    pub list: Vec<MessageAt>,
}

/// One message of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageAt {
    /// The time, in seconds.
    pub at: f64,
    /// The number of its author.
    pub node: u32,
    /// The number of its topic, from 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub topic: usize,
}

impl Default for Publish {
    fn default() -> Self {
        Self { topics: 1, messages: 20, bytes: 64, from: 10.0, until: 0.0, list: Vec::new() }
    }
}

/// Writes into the shared context, each by a node that the seed chooses: of values that the node alone writes, and of ones
/// that all do; one of four removes something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SharedContext {
    /// The number of writes, spread evenly over time; 0: nodes have no context.
    pub writes: usize,
    /// When the first is made, in seconds.
    pub from: f64,
    /// When the last is made.
    pub until: f64,
    /// The values that all nodes write.
    pub shared: usize,
    /// The most seconds by which the wall clock of a node is wrong, in either direction. It changes with every restart.
    pub skew: f64,
    /// How long a tombstone is kept, in seconds; 0: as long as by default.
    pub tombstone_lifetime: f64,
    /// Seconds after the last write, and after the mesh has healed from the last fault, within which all nodes must have the
    /// same.
    pub equal_within: f64,
}

impl Default for SharedContext {
    fn default() -> Self {
        Self { writes: 0, from: 10.0, until: 20.0, shared: 4, skew: 0.0, tombstone_lifetime: 0.0, equal_within: 60.0 }
    }
}

/// Audio calls between connected nodes that the seed chooses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Calls {
    /// The number of calls.
    pub count: usize,
    /// When the first may begin, in seconds.
    pub from: f64,
    /// How long each call lasts, in seconds.
    pub seconds: f64,
    /// Milliseconds between two frames.
    pub frame_ms: u64,
    /// Bytes of a frame, at least 16.
    pub frame_bytes: usize,
    /// Further calls, each at a time and from a node of its own.
    pub list: Vec<CallAt>,
}

/// One call of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallAt {
    /// The time, in seconds.
    pub at: f64,
    /// The number of the calling node.
    pub node: u32,
    /// Chooses, with the seed, which of its peers it calls.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pick: u64,
}

impl Default for Calls {
    fn default() -> Self {
        Self { count: 0, from: 10.0, seconds: 5.0, frame_ms: 20, frame_bytes: 160, list: Vec::new() }
    }
}

/// Applications that read their events slowly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlowConsumers {
    /// The number of nodes with such an application.
    pub count: usize,
    /// Milliseconds that they take per event; 0: they do not read until the last five seconds.
    pub event_ms: u64,
    /// The numbers of further ones.
    pub nodes: Vec<u32>,
}

/// Nodes that break the rules. They are not included in the number of nodes of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hostile {
    /// Hosts that connect, and send bytes that are no handshake.
    pub garbage: usize,
    /// Hosts that connect repeatedly without sending anything.
    pub dial_storm: usize,
    /// Members that publish as fast as they can.
    pub flood: usize,
    /// Members that request streams from all peers, repeatedly.
    pub stream_flood: usize,
    /// Members that write into the shared context, without pause: the first one, the third and so on with a clock that is an
    /// hour ahead, and also over what all nodes write.
    pub context_flood: usize,
    /// Nodes with different identities that connect to one honest node only, repeatedly.
    pub sybils: usize,
    /// The number of that node, from 0. By default the last one that is there from the start.
    pub victim: Option<u32>,
    /// When they begin, in seconds; 0: after a fifth of the run.
    pub from: f64,
}

impl Hostile {
    /// The number of hostile nodes of all kinds.
    pub fn count(&self) -> usize {
        self.garbage + self.dial_storm + self.flood + self.stream_flood + self.context_flood + self.sybils
    }

    /// When they begin in a run that ends then.
    pub fn begin(&self, end: Duration) -> Duration {
        match self.from > 0.0 {
            true => Duration::try_from_secs_f64(self.from).unwrap_or(end),
            false => end / 5,
        }
    }
}

/// Nodes of another make: libp2p programs that speak GossipSub, and no more of AVI than they must. They are among the
/// nodes of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Foreign {
    /// The number of such nodes, chosen by the seed.
    pub nodes: usize,
    /// What they may lack. Each lacks one of these or more, chosen by the seed; nothing, if none is named.
    pub lacks: Vec<Lack>,
    /// Further ones, each with what it lacks.
    pub list: Vec<ForeignNode>,
}

impl Default for Foreign {
    fn default() -> Self {
        Self { nodes: 0, lacks: Lack::ALL.to_vec(), list: Vec::new() }
    }
}

/// A node of another make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignNode {
    /// Its number.
    pub node: u32,
    /// What it lacks.
    #[serde(default)]
    pub lacks: Vec<Lack>,
}

/// What a node of another make may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// It neither sends nor answers pings.
    Ping,
    /// It does not speak Kademlia.
    Kad,
    /// It does not call itself a node of AVI: its protocol version and its agent version in identify are others.
    Name,
}

impl Lack {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ping, Self::Kad, Self::Name];
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// Two groups of nodes cannot reach each other.
    Partition {
        /// The begin, in seconds.
        from: f64,
        /// The end, in seconds.
        until: f64,
        /// The share of the nodes in the first group; the seed chooses them.
        #[serde(default = "half", skip_serializing_if = "is_half")]
        share: f64,
        /// The numbers of the nodes in the first group, in place of a share.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        nodes: Vec<u32>,
        /// Whether only data from the first group to the second is stopped.
        #[serde(default, skip_serializing_if = "is_default")]
        one_way: bool,
        /// What happens to connections.
        #[serde(default, skip_serializing_if = "is_default")]
        mode: PartitionMode,
    },
    /// Nodes lose power, and perhaps start again.
    Crash {
        /// The time, in seconds.
        at: f64,
        /// Which nodes.
        nodes: Nodes,
        /// When they start again with the same identity, if at all.
        #[serde(default)]
        restart_at: Option<f64>,
        /// Whether they then have another address.
        #[serde(default, skip_serializing_if = "is_default")]
        moves: bool,
    },
    /// Nodes shut down, and perhaps start again.
    Leave {
        /// The time, in seconds.
        at: f64,
        /// Which nodes.
        nodes: Nodes,
        /// When they start again with the same identity, if at all.
        #[serde(default)]
        restart_at: Option<f64>,
        /// Whether they then have another address.
        #[serde(default, skip_serializing_if = "is_default")]
        moves: bool,
    },
    /// Data that some nodes send does not arrive for a while; then all of it arrives.
    Stall {
        /// The begin, in seconds.
        from: f64,
        /// The end, in seconds.
        until: f64,
        /// Which nodes.
        nodes: Nodes,
    },
    /// The applications of some nodes leave all topics, and subscribe again. The network has no part in it.
    Unsubscribe {
        /// When they leave the topics, in seconds.
        from: f64,
        /// When they subscribe again, in seconds.
        until: f64,
        /// Which nodes.
        nodes: Nodes,
    },
    /// A second process of a node starts, with the same identity at another address, while the first one runs; later
    /// the first one ends, as in a rolling restart.
    Overlap {
        /// When the second process starts, in seconds.
        from: f64,
        /// When the first process ends, in seconds.
        until: f64,
        /// Which nodes.
        nodes: Nodes,
        /// Which of the nodes the seed may choose, if it chooses.
        #[serde(default, skip_serializing_if = "is_default")]
        id: IdOrder,
        /// How the first process ends.
        #[serde(default, skip_serializing_if = "is_default")]
        ends: Ending,
    },
    /// The latency of everything is higher for a while.
    Latency {
        /// The begin, in seconds.
        from: f64,
        /// The end, in seconds.
        until: f64,
        /// Additional milliseconds, one way.
        add_ms: f64,
    },
    /// The wall clocks of some nodes jump, as when somebody sets them. The network has no part in it.
    Clock {
        /// The time, in seconds.
        at: f64,
        /// Which nodes.
        nodes: Nodes,
        /// The seconds by which they jump ahead, or back if it is negative.
        by: f64,
    },
    /// Faults of all kinds, drawn from the seed.
    Chaos {
        /// When the first fault may begin, in seconds.
        from: f64,
        /// When the last fault has ended, in seconds.
        until: f64,
        /// The number of faults.
        count: usize,
        /// The kinds to draw from; all, if none is named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kinds: Vec<FaultKind>,
    },
}

/// A kind of fault that `chaos` draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the variants of `Fault` with these names say what they are")]
pub enum FaultKind {
    Partition,
    Crash,
    Leave,
    Stall,
    Latency,
}

impl FaultKind {
    /// All kinds, in the order in which `chaos` numbers them.
    pub const ALL: [Self; 5] = [Self::Partition, Self::Crash, Self::Leave, Self::Stall, Self::Latency];
}

/// How the peer id of a node compares with those of the nodes that it knows at its start, and of those that know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdOrder {
    /// In any way.
    #[default]
    Any,
    /// It is lower than all of them.
    Lower,
    /// It is higher than all of them.
    Higher,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It shuts down.
    #[default]
    Leave,
    /// Its host loses power.
    Crash,
}

/// What a partition does to data in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionMode {
    /// It waits, and arrives when the partition ends, as with a cable that was unplugged for a moment.
    #[default]
    Hold,
    /// It is lost, and the connections are reset.
    Reset,
}

/// Requirements beyond those that always hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Seconds within which the nodes that are there from the start must be one mesh, if all of them are honest.
    pub form_within: f64,
    /// Seconds within which the mesh must be connected again after the last fault.
    pub heal_within: f64,
    /// Seconds within which a message must reach all connected nodes in calm times.
    pub deliver_within: f64,
    /// Seconds within which a node of `join` must be connected to half of `max_peers`.
    pub join_within: f64,
    /// The most seconds that an audio frame may take from its sender to its receiver; 0: any.
    pub frame_within: f64,
    /// The most seconds by which the median age of frames in the last third of a call may exceed that in the first
    /// third; 0: any.
    pub frame_growth: f64,
    /// Whether every call must end with a goodbye, whatever the links do.
    pub calls_survive: bool,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            form_within: 10.0,
            heal_within: 30.0,
            deliver_within: 5.0,
            join_within: 10.0,
            frame_within: 0.0,
            frame_growth: 0.0,
            calls_survive: false,
        }
    }
}

fn half() -> f64 {
    0.5
}

impl Scenario {
    /// No run of so many honest nodes has more machines.
    pub fn most_machines(&self, nodes: usize) -> usize {
        let moves = self.faults.iter().map(|fault| match fault {
            Fault::Crash { nodes, moves: true, .. }
            | Fault::Leave { nodes, moves: true, .. }
            | Fault::Overlap { nodes, .. } => nodes.count(),
            _ => 0,
        });
        nodes + self.hostile.count() + moves.map(|moving| moving.min(nodes)).sum::<usize>()
    }
}

fn is_half(share: &f64) -> bool {
    *share == half()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Fault {
    /// The begin and the end, in seconds.
    pub fn span(&self) -> Range<f64> {
        match *self {
            Self::Partition { from, until, .. }
            | Self::Stall { from, until, .. }
            | Self::Unsubscribe { from, until, .. }
            | Self::Overlap { from, until, .. }
            | Self::Latency { from, until, .. }
            | Self::Chaos { from, until, .. } => from..until,
            Self::Crash { at, restart_at, .. } | Self::Leave { at, restart_at, .. } => at..restart_at.unwrap_or(at),
            Self::Clock { at, .. } => at..at,
        }
    }

    /// The numbers of the nodes that it names, if it names some.
    pub fn named(&self) -> &[u32] {
        match self {
            Self::Partition { nodes, .. } => nodes,
            Self::Crash { nodes, .. }
            | Self::Leave { nodes, .. }
            | Self::Stall { nodes, .. }
            | Self::Unsubscribe { nodes, .. }
            | Self::Overlap { nodes, .. }
            | Self::Clock { nodes, .. } => nodes.named(),
            Self::Latency { .. } | Self::Chaos { .. } => &[],
        }
    }

    /// Whether nodes restart with another address.
    fn moves(&self) -> bool {
        matches!(self, Self::Crash { moves: true, .. } | Self::Leave { moves: true, .. })
    }

    /// Whether it only concerns data between homes.
    fn is_between_homes(&self) -> bool {
        matches!(self, Self::Partition { .. } | Self::Stall { .. } | Self::Latency { .. } | Self::Chaos { .. })
    }

    /// Whether nodes restart.
    fn restarts(&self) -> bool {
        matches!(self, Self::Crash { restart_at: Some(_), .. } | Self::Leave { restart_at: Some(_), .. })
    }
}
