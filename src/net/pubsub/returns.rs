//! How do messages get to whoever leaves a topic and comes back, and from there to others, until GossipSub's backoff is over?
//! Both ends make each other explicit peers (gossipsub v1.1, "Explicit Peering Agreements"), which send each other all
//! messages. These are in no mesh, so the favour must end; but what was published since the last heartbeat before a GRAFT is
//! announced to nobody, so it must not end sooner. It is interrupted while the swarm is polled: then GossipSub grafts, and
//! accepts a GRAFT, and forwards nothing.

use std::collections::{BTreeMap, BTreeSet};

use libp2p_gossipsub::TopicHash;
use libp2p_identity::PeerId;

/// From this heartbeat on a GRAFT may come: the backoff of ten seconds is about to end, and the other end waits for a
/// heartbeat longer.
const GRAFT_BEATS: u32 = 10;
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

    /// The peers whose favour is interrupted while the swarm is polled.
    pub(super) fn interrupted(&self) -> BTreeSet<PeerId> {
        self.peers(|left| left.has_returned && left.beats >= GRAFT_BEATS)
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

    fn favoured(&self) -> BTreeSet<PeerId> {
        self.peers(|left| left.has_returned)
    }

    fn peers(&self, are: impl Fn(&Left) -> bool) -> BTreeSet<PeerId> {
        self.left.iter().filter(|(_, left)| are(left)).map(|((peer, _), _)| *peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicHash {
        TopicHash::from_raw(name)
    }

    /// The first heartbeat after which the favour is interrupted, and the first after which there is none.
    fn beats(returns: &mut Returns, peer: PeerId) -> (Option<u32>, Option<u32>) {
        let (mut interrupted_at, mut ended_at) = (None, None);
        for beat in 1..=20 {
            let has_ended = returns.count_beat().contains(&peer);
            ended_at = ended_at.or(has_ended.then_some(beat));
            interrupted_at = interrupted_at.or((!returns.interrupted().is_empty()).then_some(beat));
        }
        (interrupted_at, ended_at)
    }

    #[test]
    fn who_returns_is_favoured_until_it_may_be_grafted() {
        let peer = PeerId::random();
        let mut returns = Returns::default();
        assert!(!returns.on_joined(&peer, &topic("t")), "it has never left");
        returns.on_left(peer, &topic("t"));
        assert!(returns.on_joined(&peer, &topic("t")));
        assert_eq!(beats(&mut returns, peer), (Some(10), Some(14)));
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
        (0..10).for_each(|_| assert!(returns.count_beat().is_empty()));
        let peers = BTreeSet::from([peer]);
        assert_eq!(returns.interrupted(), peers);
        assert_eq!(returns.resume(&peers, |_, _| false), peers);
        assert_eq!(returns.resume(&peers, |_, grafted| *grafted == topic("t")), peers);
        assert_eq!(returns.resume(&peers, |_, grafted| *grafted == topic("u")), BTreeSet::new());
        assert_eq!(returns.interrupted(), BTreeSet::new());
    }

    #[test]
    fn who_stays_away_or_is_gone_is_not_favoured() {
        let peer = PeerId::random();
        let mut returns = Returns::default();
        returns.on_left(peer, &topic("t"));
        assert_eq!(beats(&mut returns, peer), (None, None));
        returns.on_left(peer, &topic("t"));
        assert_eq!(returns.on_joined_here(&topic("u")), []);
        assert_eq!(returns.on_joined_here(&topic("t")), [peer]);
        returns.forget(&peer);
        assert_eq!(beats(&mut returns, peer), (None, None));
    }
}
