//! Which network carries the nodes of a simulation?

pub mod events;
mod homes;
mod lan;
#[cfg(test)]
mod tests;
pub mod turmoil;

use std::sync::Arc;
use std::time::Duration;

use avi_p2p::PeerId;
use avi_p2p::transport::Transport;

pub use self::homes::{Home, Homes};
use crate::random::mix;
use crate::scenario::{Link, PartitionMode};

/// The first port of outgoing connections.
const FIRST_EPHEMERAL: u16 = 32_768;
/// The one-way latency between two machines of one home: the tick that turmoil takes for it. Nothing else delays it.
const WITHIN_HOME: Duration = Duration::from_millis(1);

/// A machine of the simulated network, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub u32);

/// The id of a cut in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CutId(pub u64);

/// A group of hosts on one side of a partition.
pub type Group = std::collections::BTreeSet<Host>;

/// The program of a host: a function that starts it in the runtime in which it is called.
pub type Software = Box<dyn FnOnce() + Send>;

/// The one-way latency between two homes, without jitter. It is the same in both directions and for the whole run.
fn latency(link: &Link, seed: u64, a: Home, b: Home) -> Duration {
    let pair = u64::from(a.0.min(b.0)) << 32 | u64::from(a.0.max(b.0));
    let part = (mix(seed, pair) >> 11) as f64 / (1u64 << 53) as f64;
    let (low, high) = (link.latency_min_ms, link.latency_max_ms);
    Duration::from_secs_f64((low + (high - low) * part) / 1000.0)
}

/// A simulated network, with its faults.
pub trait Network: Send + Sync {
    /// Starts the program of a host that is on.
    fn launch(&self, host: Host, software: Software);

    /// The transport of a host's node.
    fn transport(&self, host: Host) -> Arc<dyn Transport>;

    /// Announces a host's node to all others at once, as mDNS does on one network.
    fn announce(&self, host: Host, peer: PeerId);

    /// Turns a host on or off, like its power supply. Data that it has sent still arrives. Its peers are not told that
    /// it is off. Connections that it does not remember after it is on again get a reset. Its node must be stopped
    /// separately.
    fn power(&self, host: Host, on: bool);

    /// Stops all data from `from` to `to` until [`Network::heal`]. Data within a shared home is never stopped, so both
    /// groups have all machines of a home or none.
    fn cut(&self, from: &Group, to: &Group, mode: PartitionMode) -> CutId;

    /// Ends a cut.
    fn heal(&self, cut: CutId);

    /// Adds this to the one-way latency of everything.
    fn slow_down(&self, more: Duration);

    /// The bytes that each host has sent so far.
    fn bytes_sent(&self) -> Vec<u64>;

    /// A digest of all carried data, with times and receivers.
    fn digest(&self) -> u64;
}
