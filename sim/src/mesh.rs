//! How has the mesh looked at each time? Records who was up, connected, in a call and cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::interpose;
use crate::ledger::StreamKey;
use crate::network::{Group, Host};
use crate::plan::Plan;

/// A run with more changes is recorded up to there.
const MAX_CHANGES: usize = 1_000_000;

/// The mesh in time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mesh {
    /// What each node is, by its number.
    pub kinds: Vec<Kind>,
    /// What has changed, in order of time. At first nobody is up.
    pub changes: Vec<(Duration, Change)>,
    /// Whether there were more changes than are recorded.
    pub is_cut_short: bool,
    /// Nodes whose applications read so slowly that only their samples tell what they know.
    slow: BTreeSet<u32>,
    links: BTreeSet<(u32, u32)>,
    calls: BTreeMap<StreamKey, (u32, u32)>,
    up: BTreeSet<u32>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It keeps the rules.
    Honest,
    /// It is of another make.
    Foreign,
    /// It breaks the rules.
    Hostile,
}

/// A change of the mesh.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A node is up.
    Up(u32),
    /// A node has shut down.
    Left(u32),
    /// The host of a node has lost power.
    Crashed(u32),
    /// A node has another one as its peer, or no more. The other one may see it differently for a while.
    Peer {
        /// The node.
        of: u32,
        /// The other one.
        peer: u32,
        /// Whether it is its peer.
        is_up: bool,
    },
    /// A call has begun, or is over.
    Call {
        /// The calling node.
        from: u32,
        /// The called one.
        to: u32,
        /// Whether it has begun.
        is_up: bool,
    },
    /// From one group nothing gets to the other.
    Cut {
        /// The number of the fault.
        trouble: usize,
        /// The senders.
        from: Vec<u32>,
        /// The receivers.
        to: Vec<u32>,
    },
    /// The cuts of a fault are over.
    Heal {
        /// The number of the fault.
        trouble: usize,
    },
}

impl Mesh {
    /// A mesh of which nobody is up.
    pub(crate) fn of(plan: &Plan) -> Self {
        let kind = |number: u32| match () {
            () if plan.foreign.contains_key(&Host(number)) => Kind::Foreign,
            () if (number as usize) < plan.honest => Kind::Honest,
            () => Kind::Hostile,
        };
        let count = (plan.nodes as u32).max(plan.sybils.end);
        let slow = plan.slow.iter().map(|host| host.0).collect();
        Self { kinds: (0..count).map(kind).collect(), slow, ..Self::default() }
    }

    /// The members of a group that are nodes.
    pub(crate) fn nodes_of(&self, group: &Group) -> Vec<u32> {
        group.iter().map(|host| host.0).filter(|number| (*number as usize) < self.kinds.len()).collect()
    }

    pub(crate) fn note(&mut self, change: Change) {
        match self.changes.len() < MAX_CHANGES {
            true => self.changes.push((interpose::now(), change)),
            false => self.is_cut_short = true,
        }
    }

    pub(crate) fn on_up(&mut self, host: Host) {
        if self.up.insert(host.0) {
            self.note(Change::Up(host.0));
        }
    }

    pub(crate) fn on_down(&mut self, host: Host, has_crashed: bool) {
        if !self.up.remove(&host.0) {
            return;
        }
        self.set_peers(host, &BTreeSet::new());
        let calls: Vec<_> = self.calls.keys().filter(|key| key.host == host).copied().collect();
        calls.into_iter().for_each(|key| self.on_call_over(key));
        self.note(if has_crashed { Change::Crashed(host.0) } else { Change::Left(host.0) });
    }

    /// A node tells its application of a peer.
    pub(crate) fn on_peer(&mut self, host: Host, peer: Host, is_up: bool) {
        if self.up.contains(&host.0) && !self.slow.contains(&host.0) {
            self.set_peer(host.0, peer.0, is_up);
        }
    }

    /// A node tells all its peers.
    pub(crate) fn set_peers(&mut self, host: Host, peers: &BTreeSet<u32>) {
        let known = self.links.range((host.0, 0)..=(host.0, u32::MAX)).map(|(_, peer)| *peer);
        let known: BTreeSet<_> = known.collect();
        known.difference(peers).for_each(|peer| self.set_peer(host.0, *peer, false));
        peers.difference(&known).for_each(|peer| self.set_peer(host.0, *peer, true));
    }

    fn set_peer(&mut self, of: u32, peer: u32, is_up: bool) {
        let has_changed = if is_up { self.links.insert((of, peer)) } else { self.links.remove(&(of, peer)) };
        if has_changed {
            self.note(Change::Peer { of, peer, is_up });
        }
    }

    pub(crate) fn on_call(&mut self, key: StreamKey, peer: Host) {
        let (from, to) = (key.host.0, peer.0);
        if self.calls.insert(key, (from, to)).is_none() {
            self.note(Change::Call { from, to, is_up: true });
        }
    }

    pub(crate) fn on_call_over(&mut self, key: StreamKey) {
        if let Some((from, to)) = self.calls.remove(&key) {
            self.note(Change::Call { from, to, is_up: false });
        }
    }
}
