//! Which peers are in GossipSub's meshes, and which break its rules? Checked after each of its heartbeats.

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;

/// This node's backoff of ten seconds is over then, and the other end has not grafted yet: its own backoff has a slack of one
/// heartbeat. A GRAFT of a favoured peer would be ignored.
const FAVOUR_BEATS: u32 = 10;

/// The state at the last check.
#[derive(Default)]
pub(super) struct Mesh {
    peers: BTreeSet<PeerId>,
    /// Connected peers that were reported to the engine.
    misbehaved: BTreeSet<PeerId>,
    /// Connected peers that have left a topic, and the heartbeats until they may be in the mesh again.
    left: BTreeMap<PeerId, u32>,
}

impl Mesh {
    /// Records that a peer breaks the rules. Returns whether this is new: until its connections have ended, it is
    /// reported once.
    pub(super) fn is_news(&mut self, peer: PeerId) -> bool {
        self.misbehaved.insert(peer)
    }

    /// Records that a peer has left a topic.
    pub(super) fn on_left(&mut self, peer: PeerId) {
        self.left.insert(peer, FAVOUR_BEATS);
    }

    /// Whether a peer has left a topic, and its backoff may not be over.
    pub(super) fn has_left(&self, peer: &PeerId) -> bool {
        self.left.contains_key(peer)
    }

    /// Counts a heartbeat. Returns the peers whose backoff is over.
    pub(super) fn count_beat(&mut self) -> Vec<PeerId> {
        self.left.values_mut().for_each(|beats| *beats -= 1);
        self.left.extract_if(.., |_, beats| *beats == 0).map(|(peer, _)| peer).collect()
    }

    /// Forgets a peer that has no connection any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.misbehaved.remove(peer);
        self.left.remove(peer);
    }

    /// Compares the peers in the meshes with the last ones. Returns them if they have changed.
    pub(super) fn look(&mut self, peers: BTreeSet<PeerId>) -> Option<&BTreeSet<PeerId>> {
        if self.peers == peers {
            return None;
        }
        self.peers = peers;
        Some(&self.peers)
    }
}
