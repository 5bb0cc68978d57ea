//! Which subscriptions of a peer are remembered? Those of short topics, and at most so many. The others are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p_gossipsub::{TopicHash, TopicSubscriptionFilter};
use libp2p_identity::PeerId;

use crate::config::Limits;

/// Upstream asks about a topic alone. Whoever wraps upstream says whose it is.
#[derive(Clone)]
pub(in crate::net) struct Subscriptions(Arc<Mutex<State>>);

struct State {
    max_topic_bytes: usize,
    max_topics: usize,
    /// The peer whose message is being handled.
    speaker: Option<PeerId>,
    topics: BTreeMap<PeerId, BTreeSet<TopicHash>>,
    ignored: u64,
}

impl Subscriptions {
    pub(super) fn new(limits: &Limits) -> Self {
        let Limits { max_topics, max_topic_bytes, .. } = *limits;
        let (speaker, topics, ignored) = Default::default();
        Self(Arc::new(Mutex::new(State { max_topic_bytes, max_topics, speaker, topics, ignored })))
    }

    /// The questions that follow are about what this peer says, or this node if it is `None`.
    pub(super) fn speaks(&self, peer: Option<PeerId>) {
        self.lock().speaker = peer;
    }

    /// Upstream tells that a peer has joined a topic, perhaps after it has told that the peer left.
    pub(super) fn on_subscribed(&self, peer: &PeerId, topic: &TopicHash) {
        self.lock().topics.entry(*peer).or_default().insert(topic.clone());
    }

    /// A peer has left a topic.
    pub(super) fn on_unsubscribed(&self, peer: &PeerId, topic: &TopicHash) {
        self.lock().topics.get_mut(peer).map(|topics| topics.remove(topic));
    }

    /// Upstream has forgotten a peer.
    pub(super) fn forget(&self, peer: &PeerId) {
        self.lock().topics.remove(peer);
    }

    /// How many were ignored since the last call.
    pub(super) fn take_ignored(&self) -> u64 {
        std::mem::take(&mut self.lock().ignored)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TopicSubscriptionFilter for Subscriptions {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        let State { max_topic_bytes, max_topics, speaker, topics, ignored } = &mut *self.lock();
        let is_short = topic.as_str().len() <= *max_topic_bytes;
        let Some(peer) = speaker else { return is_short };
        let topics = topics.entry(*peer).or_default();
        let fits = topics.contains(topic) || is_short && topics.len() < *max_topics && topics.insert(topic.clone());
        *ignored += u64::from(!fits);
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_a_peer_are_cut_at_the_bound_and_the_others_counted() {
        let limits = Limits { max_topics: 2, max_topic_bytes: 3, ..Limits::default() };
        let mut subscriptions = Subscriptions::new(&limits);
        let (peers, topic) = ([PeerId::random(), PeerId::random()], |name: &str| TopicHash::from_raw(name));
        for peer in peers {
            subscriptions.speaks(Some(peer));
            let kept = ["a", "long", "b", "c", "a"].map(|name| subscriptions.can_subscribe(&topic(name)));
            assert_eq!(kept, [true, false, true, false, true]);
        }
        assert_eq!((subscriptions.take_ignored(), subscriptions.take_ignored()), (4, 0));
        subscriptions.on_unsubscribed(&peers[1], &topic("a"));
        assert!(subscriptions.can_subscribe(&topic("c")));
        subscriptions.forget(&peers[1]);
        assert!(subscriptions.can_subscribe(&topic("d")));
        subscriptions.speaks(None);
        assert!((0..9).all(|n| subscriptions.can_subscribe(&topic(&n.to_string()))));
    }
}
