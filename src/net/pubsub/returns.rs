//! How do messages get to whoever leaves a topic and comes back, and from there to others, until GossipSub's backoff is over?
//! Both ends make each other explicit peers (gossipsub v1.1, "Explicit Peering Agreements"), which send each other all
//! messages. These are in no mesh, so the favour must end; but what was published since the last heartbeat before a GRAFT is
//! announced to nobody, so it must not end sooner. It is interrupted while the swarm is polled: then GossipSub grafts, and
//! accepts a GRAFT, and forwards nothing.

use std::collections::{BTreeMap, BTreeSet};

use libp2p_gossipsub::TopicHash;
use libp2p_identity::PeerId;

/// By this heartbeat both ends have had one that could graft. Without it, both have enough others in their meshes.
const LAST_BEAT: u32 = 14;

/// Pairs of this node and a peer of which one has left a topic, until they may be in each other's mesh again.
#[derive(Default)]
pub(super) struct Returns {
    left: BTreeMap<(PeerId, TopicHash), Left>,
}

struct Left {
    beats: u32,
    has_returned: bool,
}

impl Returns {
    /// Records that a peer has left a topic, or that this node has left its topic.
    pub(super) fn on_left(&mut self, peer: PeerId, topic: &TopicHash) {
        let left = self.left.entry((peer, topic.clone())).or_insert(Left { beats: 0, has_returned: false });
        left.beats = 0;
    }

    /// Records that a peer has joined a topic. Returns whether it is favoured.
    pub(super) fn on_joined(&mut self, peer: &PeerId, topic: &TopicHash) -> bool {
        let left = self.left.get_mut(&(*peer, topic.clone()));
        left.map(|left| left.has_returned = true).is_some()
    }

    /// Records that this node has joined a topic. Returns the peers that are favoured.
    pub(super) fn on_joined_here(&mut self, topic: &TopicHash) -> Vec<PeerId> {
        let here = self.left.iter_mut().filter(|((_, left), _)| left == topic);
        here.map(|((peer, _), left)| {
            left.has_returned = true;
            *peer
        })
        .collect()
    }

    /// Counts a heartbeat. Returns the peers that are favoured no longer.
    pub(super) fn count_beat(&mut self) -> BTreeSet<PeerId> {
        let before = self.favoured();
        self.left.values_mut().for_each(|left| left.beats += 1);
        self.left.retain(|_, left| left.beats < LAST_BEAT);
        &before - &self.favoured()
    }

    /// The favoured peers.
    pub(super) fn favoured(&self) -> BTreeSet<PeerId> {
        let returned = self.left.iter().filter(|(_, left)| left.has_returned);
        returned.map(|((peer, _), _)| *peer).collect()
    }

    /// Ends the favours of those that are in the mesh by now. Returns those of the interrupted ones that are still favoured.
    pub(super) fn resume(
        &mut self,
        interrupted: &BTreeSet<PeerId>,
        is_in_mesh: impl Fn(&PeerId, &TopicHash) -> bool,
    ) -> BTreeSet<PeerId> {
        self.left.retain(|(peer, topic), _| !interrupted.contains(peer) || !is_in_mesh(peer, topic));
        interrupted & &self.favoured()
    }

    /// Forgets a peer that has no connection any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.left.retain(|(left, _), _| left != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicHash {
        TopicHash::from_raw(name)
    }

    /// The heartbeat with which the favour of a peer ends.
    fn ends_at(returns: &mut Returns, peer: PeerId) -> Option<u32> {
        (1..=20).find(|_| returns.count_beat().contains(&peer))
    }

    #[test]
    fn who_returns_is_favoured_until_it_may_be_grafted() {
        let peer = PeerId::random();
        let mut returns = Returns::default();
        assert!(!returns.on_joined(&peer, &topic("t")), "it has never left");
        returns.on_left(peer, &topic("t"));
        assert!(returns.on_joined(&peer, &topic("t")));
        assert_eq!(ends_at(&mut returns, peer), Some(14));
        assert!(!returns.on_joined(&peer, &topic("t")), "the backoff is over");
    }

    #[test]
    fn a_favour_ends_once_the_peer_is_in_the_mesh_of_each_topic_that_it_has_left() {
        let peer = PeerId::random();
        let mut returns = Returns::default();
        for name in ["t", "u"] {
            returns.on_left(peer, &topic(name));
            returns.on_joined(&peer, &topic(name));
        }
        let peers = BTreeSet::from([peer]);
        assert_eq!(returns.favoured(), peers);
        assert_eq!(returns.resume(&peers, |_, _| false), peers);
        assert_eq!(returns.resume(&peers, |_, grafted| *grafted == topic("t")), peers);
        assert_eq!(returns.resume(&peers, |_, grafted| *grafted == topic("u")), BTreeSet::new());
        assert_eq!(returns.favoured(), BTreeSet::new());
    }

    #[test]
    fn who_stays_away_or_is_gone_is_not_favoured() {
        let peer = PeerId::random();
        let mut returns = Returns::default();
        returns.on_left(peer, &topic("t"));
        assert_eq!(ends_at(&mut returns, peer), None);
        returns.on_left(peer, &topic("t"));
        assert_eq!(returns.on_joined_here(&topic("u")), []);
        assert_eq!(returns.on_joined_here(&topic("t")), [peer]);
        returns.forget(&peer);
        assert_eq!(ends_at(&mut returns, peer), None);
    }
}
