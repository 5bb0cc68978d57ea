//! Which network carries the nodes of a simulation?

pub mod events;
mod lan;
pub mod turmoil;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use avi_p2p::PeerId;
use avi_p2p::transport::Transport;

use crate::random::mix;
use crate::scenario::{Link, PartitionMode};

/// The port that every node listens on.
pub const PORT: u16 = 4001;

/// A machine of the simulated network, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub u32);

impl Host {
    /// Its only address, in 10.0.0.0/8.
    pub fn ip(self) -> IpAddr {
        let [_, a, b, c] = (self.0 + 1).to_be_bytes();
        Ipv4Addr::new(10, a, b, c).into()
    }

    /// The address that its node listens on.
    pub fn socket(self) -> SocketAddr {
        SocketAddr::new(self.ip(), PORT)
    }

    /// The address in the form of a node's configuration.
    pub fn multiaddr(self) -> String {
        format!("/ip4/{}/tcp/{PORT}", self.ip())
    }

    /// The host with this address.
    pub fn of(ip: IpAddr) -> Option<Self> {
        let IpAddr::V4(ip) = ip else { return None };
        let [net, a, b, c] = ip.octets();
        let number = u32::from_be_bytes([0, a, b, c]);
        (net == 10 && number > 0).then(|| Self(number - 1))
    }
}

/// The id of a cut in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CutId(pub u64);

/// A group of hosts on one side of a partition.
pub type Group = std::collections::BTreeSet<Host>;

/// The program of a host: a function that starts it in the runtime in which it is called.
pub type Software = Box<dyn FnOnce() + Send>;

/// The one-way latency between two hosts, without jitter. It is the same in both directions and for the whole run.
fn latency(link: &Link, seed: u64, a: Host, b: Host) -> Duration {
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

    /// Stops all data from `from` to `to` until [`Network::heal`].
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
