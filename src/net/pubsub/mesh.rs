//! Which peers are in GossipSub's meshes, and which break its rules? Checked after each of its heartbeats.

use std::collections::BTreeSet;

use libp2p_identity::PeerId;

/// The state at the last check.
#[derive(Default)]
pub(super) struct Mesh {
    peers: BTreeSet<PeerId>,
    /// Connected peers that were reported to the engine.
    misbehaved: BTreeSet<PeerId>,
}

impl Mesh {
    /// Records that a peer breaks the rules. Returns whether this is new: until its connections have ended, it is
    /// reported once.
    pub(super) fn is_news(&mut self, peer: PeerId) -> bool {
        self.misbehaved.insert(peer)
    }

    /// Forgets a peer that has no connection any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.misbehaved.remove(peer);
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
