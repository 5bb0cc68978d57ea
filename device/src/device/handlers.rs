//! Which handlers does an application register for what happens to its device?

use std::future::Future;
use std::sync::Arc;

use avi_p2p::{PeerId, StreamId};

use super::{AviDevice, lock};
use crate::worker::Worker;

/// The handlers, at most one of a kind.
#[derive(Debug, Default)]
pub(super) struct Callbacks {
    /// The addresses that the device listens on, once it has started.
    pub addresses: Option<Vec<String>>,
    pub started: Option<Worker<Vec<String>>>,
    pub discovered: Option<Worker<PeerId>>,
    pub connected: Option<Worker<(PeerId, String)>>,
    pub disconnected: Option<Worker<PeerId>>,
    pub stream_requested: Option<Worker<(PeerId, StreamId, String)>>,
}

impl AviDevice {
    /// Tells once that the device has started, with its id and the addresses that it listens on; at once if it has
    /// started already. A second handler replaces the first.
    pub async fn on_started<F, Fut>(&self, handler: F)
    where
        F: Fn(AviDevice, String, Vec<String>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let id = self.inner.node.local_peer_id().to_string();
        let worker = self.worker("on_started", move |device, addresses| handler(device, id.clone(), addresses));
        let mut callbacks = lock(&self.inner.callbacks);
        if let Some(addresses) = callbacks.addresses.clone() {
            worker.push(addresses, 0);
        }
        callbacks.started = Some(worker);
    }

    /// Tells of a peer that was discovered. It may be unreachable. A second handler replaces the first.
    pub async fn on_peer_discovered<F, Fut>(&self, handler: F)
    where
        F: Fn(AviDevice, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let worker = self.worker("on_peer_discovered", move |device, peer: PeerId| handler(device, peer.to_string()));
        lock(&self.inner.callbacks).discovered = Some(worker);
    }

    /// Tells of a peer that is connected, and of its address. A second handler replaces the first.
    pub async fn on_peer_connected<F, Fut>(&self, handler: F)
    where
        F: Fn(AviDevice, String, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let call = move |device, (peer, address): (PeerId, String)| handler(device, peer.to_string(), address);
        lock(&self.inner.callbacks).connected = Some(self.worker("on_peer_connected", call));
    }

    /// Tells of a peer whose last connection has ended. A second handler replaces the first.
    pub async fn on_peer_disconnected<F, Fut>(&self, handler: F)
    where
        F: Fn(AviDevice, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let worker = self.worker("on_peer_disconnected", move |device, peer: PeerId| handler(device, peer.to_string()));
        lock(&self.inner.callbacks).disconnected = Some(worker);
    }

    /// Asks about a stream that a peer requests, with its reason, if no factory is registered for that. Answer it with
    /// [`accept_stream`](Self::accept_stream) or [`refuse_stream`](Self::refuse_stream), within the peer's
    /// `accept_timeout`; without this handler it is refused as `not_handled`. A second handler replaces the first.
    pub async fn on_stream_requested<F, Fut>(&self, handler: F)
    where
        F: Fn(AviDevice, PeerId, StreamId, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let call = move |device, (peer, stream, reason)| handler(device, peer, stream, reason);
        lock(&self.inner.callbacks).stream_requested = Some(self.worker("on_stream_requested", call));
    }

    /// Does not keep the device alive.
    fn worker<T, F, Fut>(&self, what: &str, handler: F) -> Worker<T>
    where
        T: Send + 'static,
        F: Fn(AviDevice, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (runtime, device, handler) = (self.inner.runtime.clone(), Arc::downgrade(&self.inner), Arc::new(handler));
        Worker::start(&self.inner.runtime, self.inner.counters.clone(), what.to_owned(), move |item| {
            let (device, handler) = (device.clone(), handler.clone());
            runtime.spawn(async move {
                if let Some(inner) = device.upgrade() {
                    handler(AviDevice { inner }, item).await;
                }
            })
        })
    }
}
