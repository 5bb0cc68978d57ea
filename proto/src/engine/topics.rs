//! Pub/sub: this node's subscriptions, those of its peers, and messages held for a first subscriber.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::command::{CommandId, Reply};
use super::io::{NetAction, PublishId, PublishOutcome};
use super::outbox::Outbox;
use super::time::Time;
use crate::config::{AviP2pConfig, Limits};
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::id::{PeerId, Topic};
use crate::publish::Published;
use crate::situation::{Situation, reached};

/// The topic of the shared context. It is no topic of the application's.
pub(crate) const CONTEXT_TOPIC: &str = "/avi/context/1";

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Topics {
    local: PeerId,
    deliver_own: bool,
    limits: Limits,
    publish_hold: Duration,
    subscribed: BTreeSet<Topic>,
    /// The topics of connected peers, and the same map reversed.
    of_peer: BTreeMap<PeerId, BTreeSet<Topic>>,
    subscribers: BTreeMap<Topic, BTreeSet<PeerId>>,
    /// Held messages, ordered by expiry.
    held: VecDeque<Held>,
    held_bytes: usize,
    pending: BTreeMap<PublishId, Pending>,
    next: u64,
    /// The topics of the last messages that were sent, and how many followed each other in each, the newest last.
    sent: VecDeque<(Topic, u64)>,
}

/// So many changes of the topic are remembered.
const MAX_SENT: usize = 1024;

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Held {
    expires: Time,
    topic: Topic,
    #[cfg_attr(feature = "recorder", serde(with = "crate::recording::lengths"))]
    data: Bytes,
}

/// A message given to the network, whose result is pending.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Pending {
    origin: Origin,
    topic: Topic,
    #[cfg_attr(feature = "recorder", serde(with = "crate::recording::lengths"))]
    data: Bytes,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
enum Origin {
    Command(CommandId<Published>),
    Held { expires: Time },
}

impl Topics {
    pub(crate) fn new(config: &AviP2pConfig, local: PeerId) -> Self {
        Self {
            local,
            deliver_own: config.deliver_own,
            limits: config.limits.clone(),
            publish_hold: config.publish_hold,
            subscribed: BTreeSet::new(),
            of_peer: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            pending: BTreeMap::new(),
            next: 1,
            sent: VecDeque::new(),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.held.front().map(|held| held.expires)
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn of_peer(&self, peer: &PeerId) -> Vec<String> {
        let topics = self.of_peer.get(peer).into_iter().flatten();
        topics.filter(|topic| topic.as_str() != CONTEXT_TOPIC).map(Topic::to_string).collect()
    }

    /// Whether a peer subscribes to anything, also to what is not the application's.
    pub(crate) fn hears(&self, peer: &PeerId) -> bool {
        self.of_peer.get(peer).is_some_and(|topics| !topics.is_empty())
    }

    fn remember(&mut self, topic: &Topic) {
        match self.sent.back_mut() {
            Some((last, count)) if last == topic => *count += 1,
            _ => {
                self.sent.push_back((topic.clone(), 1));
                if self.sent.len() > MAX_SENT {
                    self.sent.pop_front();
                }
            }
        }
    }

    /// How many of the last `count` messages before the last `since` ones were in a topic of a peer. Of those that were sent
    /// too long ago it is not known, and they count.
    pub(crate) fn count_for(&self, peer: &PeerId, mut since: u64, mut count: u64) -> u64 {
        let Some(topics) = self.of_peer.get(peer).filter(|topics| !topics.is_empty()) else { return 0 };
        let mut found = 0;
        for (topic, sent) in self.sent.iter().rev() {
            let skipped = since.min(*sent);
            let counted = count.min(sent - skipped);
            (since, count) = (since - skipped, count - counted);
            found += if topics.contains(topic) { counted } else { 0 };
        }
        found + count
    }

    // Commands of the application.

    pub(crate) fn subscribe(&mut self, topic: &str, out: &mut Outbox) -> Result<(), AviP2pError> {
        let topic = self.own_topic(topic)?;
        if self.subscribed.contains(&topic) {
            return Ok(());
        }
        let max = self.limits.max_topics;
        if self.subscribed.len() >= max {
            return Err(AviP2pError::LimitReached { limit: "limits.max_topics", max });
        }
        self.subscribed.insert(topic.clone());
        out.net(NetAction::Subscribe { topic });
        Ok(())
    }

    pub(crate) fn unsubscribe(&mut self, topic: &str, out: &mut Outbox) -> Result<(), AviP2pError> {
        let topic = self.own_topic(topic)?;
        if !self.subscribed.remove(&topic) {
            return Err(AviP2pError::NotSubscribed(topic.to_string()));
        }
        out.net(NetAction::Unsubscribe { topic });
        Ok(())
    }

    /// Publishes a message. The reply comes when the network has taken it, or when it is held.
    pub(crate) fn publish(&mut self, now: Time, id: CommandId<Published>, topic: &str, data: Bytes, out: &mut Outbox) {
        let held = match self.check_publish(topic, &data) {
            Ok(topic) if self.subscribers.contains_key(&topic) => {
                return self.hand_over(Origin::Command(id), topic, data, out);
            }
            Ok(topic) => self.hold_new(now, topic, data, out),
            Err(error) => Err(error),
        };
        match held {
            Ok(_) => out.stats.messages_held += 1,
            Err(_) => out.stats.publishes_refused += 1,
        }
        out.reply(Reply::Published { id, result: held });
    }

    /// Gives a message to the network if there is a subscriber, and forgets it.
    #[cfg(feature = "context")]
    pub(crate) fn publish_now(&mut self, topic: Topic, data: Bytes, out: &mut Outbox) {
        if self.subscribers.contains_key(&topic) {
            let publish = PublishId(self.next);
            self.next += 1;
            out.net(NetAction::Publish { publish, topic, data });
        }
    }

    // Events of the network.

    pub(crate) fn on_published(&mut self, now: Time, publish: PublishId, outcome: PublishOutcome, out: &mut Outbox) {
        let Some(Pending { origin, topic, data }) = self.pending.remove(&publish) else { return };
        let result = match (outcome, origin) {
            (PublishOutcome::Sent, origin) => {
                out.stats.messages_published += 1;
                self.remember(&topic);
                if let Origin::Command(_) = origin {
                    self.deliver_own(&topic, &data, out);
                }
                Ok(Published::Sent)
            }
            (PublishOutcome::NoSubscribers, Origin::Command(_)) => {
                let held = self.hold_new(now, topic.clone(), data.clone(), out);
                out.stats.messages_held += u64::from(held.is_ok());
                held
            }
            (PublishOutcome::NoSubscribers, Origin::Held { expires }) => {
                self.hold(expires, topic.clone(), data.clone()).map(|()| Published::Held)
            }
            (PublishOutcome::Congested, _) => {
                reached(Situation::MessageCongested);
                Err(AviP2pError::Congested("the queues to all subscribers are full"))
            }
            (PublishOutcome::Refused(why), _) => Err(AviP2pError::NetworkError(why.to_owned())),
        };
        match (origin, result) {
            (Origin::Command(id), result) => {
                out.stats.publishes_refused += u64::from(result.is_err());
                out.reply(Reply::Published { id, result });
            }
            (Origin::Held { .. }, Ok(_)) => {}
            (Origin::Held { .. }, Err(_)) => expire(&topic, data, out),
        }
    }

    pub(crate) fn on_message(&mut self, from: PeerId, topic: String, data: Bytes, out: &mut Outbox) {
        if !self.subscribed.contains(topic.as_str()) {
            // It was sent before the application unsubscribed.
            reached(Situation::MessageUnwanted);
            out.stats.messages_refused += 1;
            return;
        }
        out.stats.messages_received += 1;
        out.event(AviEvent::Message { from, topic, data: data.into() });
    }

    /// Handles the subscription of a connected peer.
    pub(crate) fn on_peer_subscribed(&mut self, peer: PeerId, topic: &str, out: &mut Outbox) {
        let Ok(topic) = Topic::new(topic, self.limits.max_topic_bytes) else {
            out.stats.subscriptions_ignored += 1;
            return;
        };
        let topics = self.of_peer.entry(peer.clone()).or_default();
        let is_full = topics.len() >= self.limits.max_topics && topic.as_str() != CONTEXT_TOPIC;
        if is_full && !topics.contains(&topic) {
            out.stats.subscriptions_ignored += 1;
            return;
        }
        topics.insert(topic.clone());
        self.subscribers.entry(topic.clone()).or_default().insert(peer);
        self.release(&topic, out);
    }

    pub(crate) fn on_peer_unsubscribed(&mut self, peer: &PeerId, topic: &str) {
        if let Some(topics) = self.of_peer.get_mut(peer) {
            topics.remove(topic);
        }
        self.remove_subscriber(peer, topic);
    }

    /// Handles the end of the last connection to a peer.
    pub(crate) fn on_peer_gone(&mut self, peer: &PeerId) {
        for topic in self.of_peer.remove(peer).into_iter().flatten() {
            self.remove_subscriber(peer, topic.as_str());
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Time, out: &mut Outbox) {
        while self.held.front().is_some_and(|held| held.expires <= now) {
            let Some(Held { topic, data, .. }) = self.held.pop_front() else { return };
            self.held_bytes -= data.len();
            expire(&topic, data, out);
        }
    }

    /// Expires all held messages: after the shutdown no subscriber will come.
    pub(crate) fn expire_all(&mut self, out: &mut Outbox) {
        self.publish_hold = Duration::ZERO;
        self.held_bytes = 0;
        for Held { topic, data, .. } in std::mem::take(&mut self.held) {
            expire(&topic, data, out);
        }
    }

    /// Replies to the publishes whose result is pending.
    pub(crate) fn abandon(&mut self, out: &mut Outbox) {
        self.expire_all(out);
        for Pending { origin, topic, data } in std::mem::take(&mut self.pending).into_values() {
            match origin {
                Origin::Command(id) => out.reply(Reply::Published { id, result: Err(AviP2pError::ChannelClosed) }),
                Origin::Held { .. } => expire(&topic, data, out),
            }
        }
    }

    // Consequences of both.

    /// A topic that the application may use.
    fn own_topic(&self, topic: &str) -> Result<Topic, AviP2pError> {
        match topic {
            CONTEXT_TOPIC => Err(AviP2pError::InvalidTopic(format!("{topic:?} is that of the shared context"))),
            topic => Topic::new(topic, self.limits.max_topic_bytes),
        }
    }

    fn check_publish(&self, topic: &str, data: &Bytes) -> Result<Topic, AviP2pError> {
        let topic = self.own_topic(topic)?;
        let max = self.limits.max_message_bytes;
        if data.len() > max {
            let limit = "limits.max_message_bytes";
            return Err(AviP2pError::PayloadTooLarge { len: data.len(), max, limit });
        }
        Ok(topic)
    }

    fn hand_over(&mut self, origin: Origin, topic: Topic, data: Bytes, out: &mut Outbox) {
        let publish = PublishId(self.next);
        self.next += 1;
        out.net(NetAction::Publish { publish, topic: topic.clone(), data: data.clone() });
        self.pending.insert(publish, Pending { origin, topic, data });
    }

    /// Holds a message that `publish` took. Only other nodes wait for it.
    fn hold_new(&mut self, now: Time, topic: Topic, data: Bytes, out: &mut Outbox) -> Result<Published, AviP2pError> {
        self.hold(now + self.publish_hold, topic.clone(), data.clone())?;
        reached(Situation::MessageHeld);
        self.deliver_own(&topic, &data, out);
        Ok(Published::Held)
    }

    /// Delivers a message that `publish` took to this node's application, if it wants its own messages.
    fn deliver_own(&self, topic: &Topic, data: &Bytes, out: &mut Outbox) {
        if self.deliver_own && self.subscribed.contains(topic) {
            out.event(AviEvent::Message { from: self.local.clone(), topic: topic.to_string(), data: data.to_vec() });
        }
    }

    fn hold(&mut self, expires: Time, topic: Topic, data: Bytes) -> Result<(), AviP2pError> {
        let Limits { held_messages, held_bytes, .. } = self.limits;
        if self.held.len() >= held_messages {
            return Err(AviP2pError::LimitReached { limit: "limits.held_messages", max: held_messages });
        }
        if self.held_bytes + data.len() > held_bytes {
            return Err(AviP2pError::LimitReached { limit: "limits.held_bytes", max: held_bytes });
        }
        self.held_bytes += data.len();
        let at = self.held.partition_point(|held| held.expires <= expires);
        self.held.insert(at, Held { expires, topic, data });
        Ok(())
    }

    fn release(&mut self, topic: &Topic, out: &mut Outbox) {
        let (released, kept): (VecDeque<_>, _) =
            std::mem::take(&mut self.held).into_iter().partition(|held| held.topic == *topic);
        self.held = kept;
        for Held { expires, topic, data } in released {
            reached(Situation::MessageReleased);
            self.held_bytes -= data.len();
            self.hand_over(Origin::Held { expires }, topic, data, out);
        }
    }

    fn remove_subscriber(&mut self, peer: &PeerId, topic: &str) {
        if let Some(peers) = self.subscribers.get_mut(topic) {
            peers.remove(peer);
            if peers.is_empty() {
                self.subscribers.remove(topic);
            }
        }
    }
}

fn expire(topic: &Topic, data: Bytes, out: &mut Outbox) {
    reached(Situation::MessageExpired);
    out.stats.messages_expired += 1;
    out.event(AviEvent::PublishExpired { topic: topic.to_string(), data: data.into() });
}
