//! When is a context read from 0.5 nodes, and published to them?

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use avi_p2p::{AviP2pError, AviP2pHandle, PeerId, Published};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::AbortHandle;

use super::snapshot::{Refused, TOPIC, tree};
use super::{Legacy, Taken};
use crate::stats::Counters;

/// How long changes are collected before they are published.
const COLLECT: Duration = Duration::from_secs(1);

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
    /// `hold` is how long the node holds what nobody has subscribed to.
    pub fn start(runtime: &Handle, node: AviP2pHandle, counters: Arc<Counters>, hold: Duration) -> Self {
        let legacy = Arc::new(Mutex::new(Legacy::new(node.local_peer_id())));
        let (changed, changes) = mpsc::channel(1);
        let publisher = Publisher { legacy: legacy.clone(), node, counters: counters.clone(), hold };
        let publisher = runtime.spawn(publisher.run(changes)).abort_handle();
        Self { legacy, changed, publisher, counters }
    }

    /// The shared context has changed.
    pub fn handle_change(&self, path: &str, is_removed: bool) {
        self.legacy().handle_change(path, is_removed, unix_ms());
        self.publish_soon();
    }

    /// A peer has come, or more has changed than can be told.
    pub fn handle_newcomer(&self) {
        self.legacy().handle_newcomer();
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

    fn publish_soon(&self) {
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
    hold: Duration,
}

impl Publisher {
    async fn run(self, mut changes: Receiver<()>) {
        while changes.recv().await.is_some() {
            tokio::time::sleep(COLLECT).await;
            // What comes from now on is published the next time.
            let _ = changes.try_recv();
            match self.publish().await {
                // Nobody listens: at most one waits for a first listener.
                Ok(Some(Published::Held)) => {
                    tokio::time::sleep(self.hold).await;
                    lock(&self.legacy).handle_newcomer();
                }
                Ok(_) => {}
                Err(AviP2pError::ChannelClosed) => return,
                Err(error) => {
                    self.counters.legacy_publishes_failed.add(1);
                    lock(&self.legacy).handle_newcomer();
                    tracing::warn!(%error, "the shared context does not reach nodes of AVI 0.5");
                }
            }
        }
    }

    async fn publish(&self) -> Result<Option<Published>, AviP2pError> {
        let current = self.node.context().snapshot().await?;
        let snapshot = lock(&self.legacy).snapshot(&current, unix_ms());
        let Some(json) = snapshot else { return Ok(None) };
        let published = self.node.publish_tracked(TOPIC, json).await?;
        self.counters.legacy_publishes.add(1);
        Ok(Some(published))
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

fn lock(legacy: &Mutex<Legacy>) -> MutexGuard<'_, Legacy> {
    legacy.lock().unwrap_or_else(PoisonError::into_inner)
}
