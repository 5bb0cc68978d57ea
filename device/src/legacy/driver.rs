//! When is a context read from 0.5 nodes, and published to them?

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use avi_p2p::{AviP2pError, AviP2pHandle, PeerId};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::AbortHandle;

use super::snapshot::{Refused, TOPIC, tree};
use super::{Legacy, Taken};
use crate::stats::Counters;

/// How long changes are collected before they are published.
const COLLECT: Duration = Duration::from_secs(1);
/// How often it is looked for nodes to publish to after a change, or after a peer has come: once each time that changes
/// are collected. A 0.5 node subscribes as soon as it is connected.
const LOOKS: u32 = 30;

/// Brings the shared context to 0.5 nodes, and theirs to it.
#[derive(Debug)]
pub(crate) struct Adapter {
    legacy: Arc<Mutex<Legacy>>,
    /// One waits if something is to be published.
    changed: Sender<()>,
    publisher: AbortHandle,
    counters: Arc<Counters>,
}

impl Adapter {
    pub fn start(runtime: &Handle, node: AviP2pHandle, counters: Arc<Counters>) -> Self {
        let legacy = Arc::new(Mutex::new(Legacy::new(node.local_peer_id())));
        let (changed, changes) = mpsc::channel(1);
        let publisher = Publisher { legacy: legacy.clone(), node, counters: counters.clone() };
        let publisher = runtime.spawn(publisher.run(changes)).abort_handle();
        Self { legacy, changed, publisher, counters }
    }

    /// The shared context has changed.
    pub fn handle_change(&self, path: &str, is_removed: bool) {
        self.legacy().handle_change(path, is_removed, unix_ms());
        self.publish_soon();
    }

    /// A message on the topic of 0.5.
    pub async fn handle_message(&self, node: &AviP2pHandle, from: &PeerId, json: &[u8]) {
        if from == node.local_peer_id() {
            return;
        }
        let context = node.context();
        let Ok(current) = context.snapshot().await else { return };
        let taken = self.legacy().handle_snapshot(from, json, &current, unix_ms());
        match taken {
            Ok(Taken { writes, left_out, is_legacy }) => {
                self.counters.legacy_values_refused.add(left_out);
                self.write(&context, writes).await;
                if is_legacy {
                    self.counters.legacy_snapshots.add(1);
                    self.publish_soon();
                }
            }
            Err(refused) => {
                self.counters.legacy_snapshots_refused.add(1);
                let why = match refused {
                    Refused::Malformed => "it is not the JSON of a context",
                    Refused::OtherDevice => "it is signed by another than its device",
                    Refused::Stale => "it is older than the last one",
                };
                tracing::debug!(%from, why, "a context of AVI 0.5 is refused");
            }
        }
    }

    /// All at once, or if that is refused, one after the other.
    async fn write(&self, context: &avi_p2p::Context, writes: Vec<(String, Value)>) {
        if writes.is_empty() || context.set("", tree(&writes)).await.is_ok() {
            self.counters.legacy_values.add(writes.len() as u64);
            return;
        }
        for (path, value) in writes {
            match context.set(&path, value).await {
                Ok(()) => self.counters.legacy_values.add(1),
                Err(error) => {
                    self.counters.legacy_values_refused.add(1);
                    tracing::debug!(%error, path, "a value of AVI 0.5 is refused");
                }
            }
        }
    }

    /// A peer has come, or more has changed than can be told.
    pub fn publish_soon(&self) {
        // If one waits already, that is soon enough.
        let _ = self.changed.try_send(());
    }

    fn legacy(&self) -> MutexGuard<'_, Legacy> {
        lock(&self.legacy)
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

/// Publishes the shared context, as long as there is an adapter.
struct Publisher {
    legacy: Arc<Mutex<Legacy>>,
    node: AviP2pHandle,
    counters: Arc<Counters>,
}

impl Publisher {
    async fn run(self, mut changes: Receiver<()>) {
        let mut served = BTreeSet::new();
        while changes.recv().await.is_some() {
            let mut looks = LOOKS;
            while looks > 0 {
                tokio::time::sleep(COLLECT).await;
                looks = if changes.try_recv().is_ok() { LOOKS } else { looks - 1 };
                match self.publish(&mut served).await {
                    Ok(()) => {}
                    Err(AviP2pError::ChannelClosed) => return,
                    Err(error) => {
                        self.counters.legacy_publishes_failed.add(1);
                        lock(&self.legacy).forget_published();
                        tracing::warn!(%error, "the shared context does not reach nodes of AVI 0.5");
                    }
                }
            }
        }
    }

    /// Publishes what has changed to those who listen, and to who has begun to listen since.
    async fn publish(&self, served: &mut BTreeSet<PeerId>) -> Result<(), AviP2pError> {
        let listeners = self.listeners().await?;
        if !listeners.is_subset(served) {
            lock(&self.legacy).forget_published();
        }
        served.clone_from(&listeners);
        if listeners.is_empty() {
            return Ok(());
        }
        if lock(&self.legacy).leaves_it_to(listeners.iter()) {
            return Ok(());
        }
        let current = self.node.context().snapshot().await?;
        let snapshot = lock(&self.legacy).snapshot(&current, unix_ms());
        if let Some(json) = snapshot {
            self.node.publish(TOPIC, json).await?;
            self.counters.legacy_publishes.add(1);
        }
        Ok(())
    }

    /// The peers that subscribe to the topic.
    async fn listeners(&self) -> Result<BTreeSet<PeerId>, AviP2pError> {
        let mut listeners = BTreeSet::new();
        for peer in self.node.connected_peers().await? {
            // It may have gone.
            let info = self.node.peer_info(&peer).await;
            if info.is_ok_and(|info| info.topics.iter().any(|topic| topic.as_str() == TOPIC)) {
                listeners.insert(peer);
            }
        }
        Ok(listeners)
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

fn lock(legacy: &Mutex<Legacy>) -> MutexGuard<'_, Legacy> {
    legacy.lock().unwrap_or_else(PoisonError::into_inner)
}
