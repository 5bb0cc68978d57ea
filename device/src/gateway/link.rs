//! What does a device tell its gateway? Both share one node, its events and its subscriptions.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use avi_p2p::{PeerId, StreamId};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::engine::is_for_small_device;

/// How much the gateway may be behind.
const MAX_WAITING: usize = 1024;
/// Places that messages leave free for calls.
const KEPT_FOR_CALLS: usize = 64;

/// What happened at the node.
#[derive(Debug)]
pub(super) enum Told {
    Message { topic: String, data: Vec<u8> },
    Offered { peer: PeerId, stream: StreamId, label: String },
    Accepted { stream: StreamId },
}

/// The device's side. Without a gateway it holds nothing, and tells nobody.
#[derive(Debug, Default)]
pub(crate) struct Link {
    gateway: Mutex<Option<Sender<Told>>>,
    held: Mutex<BTreeSet<String>>,
    dropped: AtomicU64,
}

impl Link {
    /// For a gateway that starts. `None` if there is one.
    pub(super) fn open(&self) -> Option<Receiver<Told>> {
        let mut gateway = lock(&self.gateway);
        if gateway.as_ref().is_some_and(|gateway| !gateway.is_closed()) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        *gateway = Some(sender);
        lock(&self.held).clear();
        Some(receiver)
    }

    /// The device ends: so does its gateway.
    pub(crate) fn close(&self) {
        *lock(&self.gateway) = None;
    }

    /// What the gateway was too slow for.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Small devices want the messages of a topic.
    pub(super) fn hold(&self, topic: &str) {
        lock(&self.held).insert(topic.to_owned());
    }

    /// They do not want them any more. True if they did.
    pub(super) fn release(&self, topic: &str) -> bool {
        lock(&self.held).remove(topic)
    }

    /// Whether small devices subscribe to a topic: then the node stays subscribed.
    pub(crate) fn holds(&self, topic: &str) -> bool {
        lock(&self.held).contains(topic)
    }

    /// A message came.
    pub(crate) fn message(&self, topic: &str, data: &[u8]) {
        if self.holds(topic) {
            self.tell(KEPT_FOR_CALLS, || Told::Message { topic: topic.to_owned(), data: data.to_vec() });
        }
    }

    /// A peer offers a stream. True if it is for a small device: then the gateway answers.
    pub(crate) fn offered(&self, peer: &PeerId, stream: StreamId, label: &str) -> bool {
        let offered = || Told::Offered { peer: peer.clone(), stream, label: label.to_owned() };
        is_for_small_device(label) && self.tell(0, offered)
    }

    /// A peer has accepted a stream, of the device or of the gateway.
    pub(crate) fn accepted(&self, stream: StreamId) {
        self.tell(0, || Told::Accepted { stream });
    }

    fn tell(&self, keep: usize, told: impl FnOnce() -> Told) -> bool {
        let gateway = lock(&self.gateway);
        let Some(gateway) = gateway.as_ref().filter(|gateway| !gateway.is_closed()) else { return false };
        let is_told = gateway.capacity() > keep && gateway.try_send(told()).is_ok();
        if !is_told {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        is_told
    }
}

/// No code of the application runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
