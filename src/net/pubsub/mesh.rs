//! Who is in GossipSub's meshes, and who breaks its rules? Looks after each of its heartbeats.

use std::collections::BTreeSet;

use libp2p_identity::PeerId;

/// What was seen last.
#[derive(Default)]
pub(super) struct Mesh {
    peers: BTreeSet<PeerId>,
    /// Connected peers that the engine has been told of.
    misbehaved: BTreeSet<PeerId>,
    /// Connected peers that have forwarded a message beyond the bounds.
    warned: BTreeSet<PeerId>,
}

impl Mesh {
    /// Whether it is news that a peer breaks the rules: what it sends until its connections have ended is not.
    pub(super) fn is_news(&mut self, peer: PeerId) -> bool {
        self.misbehaved.insert(peer)
    }

    /// A peer has forwarded a message beyond the bounds. Returns whether it was not the first one.
    pub(super) fn is_too_often(&mut self, peer: PeerId) -> bool {
        !self.warned.insert(peer)
    }

    /// The peer has no connection any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.misbehaved.remove(peer);
        self.warned.remove(peer);
    }

    /// Returns the peers if they have changed.
    pub(super) fn look(&mut self, peers: BTreeSet<PeerId>) -> Option<&BTreeSet<PeerId>> {
        if self.peers == peers {
            return None;
        }
        self.peers = peers;
        Some(&self.peers)
    }
}
