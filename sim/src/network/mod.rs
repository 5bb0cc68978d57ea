//! Over what do the nodes of a simulation talk?

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

    /// Where its node listens.
    pub fn socket(self) -> SocketAddr {
        SocketAddr::new(self.ip(), PORT)
    }

    /// As a node's configuration has it.
    pub fn multiaddr(self) -> String {
        format!("/ip4/{}/tcp/{PORT}", self.ip())
    }

    /// Whose address this is.
    pub fn of(ip: IpAddr) -> Option<Self> {
        let IpAddr::V4(ip) = ip else { return None };
        let [net, a, b, c] = ip.octets();
        let number = u32::from_be_bytes([0, a, b, c]);
        (net == 10 && number > 0).then(|| Self(number - 1))
    }
}

/// Names a cut of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CutId(pub u64);

/// A group of hosts on one side of a partition.
pub type Group = std::collections::BTreeSet<Host>;

/// What a host does when it has started, as a function that begins it in the runtime it is called in.
pub type Software = Box<dyn FnOnce() + Send>;

/// One way between two hosts, without jitter: the same in both directions, and for the whole run.
fn latency(link: &Link, seed: u64, a: Host, b: Host) -> Duration {
    let pair = u64::from(a.0.min(b.0)) << 32 | u64::from(a.0.max(b.0));
    let part = (mix(seed, pair) >> 11) as f64 / (1u64 << 53) as f64;
    let (low, high) = (link.latency_min_ms, link.latency_max_ms);
    Duration::from_secs_f64((low + (high - low) * part) / 1000.0)
}

/// A simulated network, with what can go wrong in it.
pub trait Network: Send + Sync {
    /// Begins what a host that is on does.
    fn launch(&self, host: Host, software: Software);

    /// What a host's node listens and dials on.
    fn transport(&self, host: Host) -> Arc<dyn Transport>;

    /// Tells everybody at once that a host's node is there, as mDNS does on one network.
    fn announce(&self, host: Host, peer: PeerId);

    /// Turns a host on or off, as by its plug. What it has sent still arrives; nobody is told that it is off, and
    /// what it does not remember when it is back on meets a reset. Its node must be stopped by other means.
    fn power(&self, host: Host, on: bool);

    /// Nothing passes from `from` to `to` until [`Network::heal`].
    fn cut(&self, from: &Group, to: &Group, mode: PartitionMode) -> CutId;

    /// The cut is over.
    fn heal(&self, cut: CutId);

    /// Everything takes that much longer, one way.
    fn slow_down(&self, more: Duration);

    /// Bytes that each host has sent so far.
    fn bytes_sent(&self) -> Vec<u64>;

    /// A digest of everything that was carried, when and to whom.
    fn digest(&self) -> u64;
}
