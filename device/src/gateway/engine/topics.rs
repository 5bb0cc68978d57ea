//! Which topics does the gateway hold, and for whom? The subscription of the mesh ends with the last device's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a topic is kept without a device: one that starts anew misses nothing, and the mesh hears of no change.
const LINGER: Duration = Duration::from_secs(10);

/// What a subscription needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// The node must subscribe.
    Subscribe,
    /// The node was asked already, and will answer.
    Answer,
    /// Nothing: the topic is held.
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Topics(BTreeMap<String, Topic>);

#[derive(Debug, Default)]
struct Topic {
    holders: BTreeSet<u64>,
    /// Those of the holders whom the node's answer must be told.
    waiting: BTreeSet<u64>,
    is_held: bool,
    /// When nobody holds it any more: until when it is kept.
    until: Option<Duration>,
}

impl Topics {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, topic: &str) -> bool {
        self.0.contains_key(topic)
    }

    pub(super) fn subscribe(&mut self, topic: &str, device: u64) -> Need {
        let need = match self.0.get(topic) {
            None => Need::Subscribe,
            Some(topic) if topic.is_held => Need::Nothing,
            Some(_) => Need::Answer,
        };
        let topic = self.0.entry(topic.to_owned()).or_default();
        topic.holders.insert(device);
        topic.until = None;
        if need != Need::Nothing {
            topic.waiting.insert(device);
        }
        need
    }

    /// The node has answered. Those who waited for it.
    pub(super) fn answered(&mut self, topic: &str, is_held: bool) -> BTreeSet<u64> {
        if is_held {
            let Some(topic) = self.0.get_mut(topic) else { return BTreeSet::new() };
            topic.is_held = true;
            return std::mem::take(&mut topic.waiting);
        }
        self.0.remove(topic).map(|topic| topic.holders).unwrap_or_default()
    }

    pub(super) fn unsubscribe(&mut self, topic: &str, device: u64, now: Duration) {
        if let Some(topic) = self.0.get_mut(topic) {
            topic.holders.remove(&device);
            topic.waiting.remove(&device);
            if topic.holders.is_empty() && topic.until.is_none() {
                topic.until = Some(now.saturating_add(LINGER));
            }
        }
    }

    /// Topics that nobody holds any more, from those kept until `now`. They are removed.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<String> {
        self.0
            .extract_if(.., |_, topic| topic.until.is_some_and(|until| until <= now))
            .map(|(topic, _)| topic)
            .collect()
    }

    /// The topic that nobody has held the longest. It is removed.
    pub(super) fn make_room(&mut self) -> Option<String> {
        let oldest = self.0.iter().filter_map(|(name, topic)| Some((topic.until?, name))).min()?.1.clone();
        self.0.remove(&oldest);
        Some(oldest)
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.0.values().filter_map(|topic| topic.until).min()
    }
}
