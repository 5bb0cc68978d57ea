//! Which handlers does an application register for what happens to its device?

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use avi_p2p::{PeerId, StreamId};

use super::{AviDevice, BoxFuture, lock};
use crate::worker::Worker;

/// What happens to a peer.
#[derive(Debug)]
pub(super) enum PeerEvent {
    Discovered(PeerId),
    Connected(PeerId, String),
    Disconnected(PeerId),
}

/// A handler of what happens to peers.
type PeerHandler = Arc<dyn Fn(AviDevice, PeerEvent) -> BoxFuture + Send + Sync>;

/// The handlers of what happens to peers, at most one of a kind.
#[derive(Clone, Default)]
pub(super) struct PeerHandlers {
    discovered: Option<PeerHandler>,
    connected: Option<PeerHandler>,
    disconnected: Option<PeerHandler>,
}

impl PeerHandlers {
    fn of(&self, event: &PeerEvent) -> Option<&PeerHandler> {
        match event {
            PeerEvent::Discovered(_) => self.discovered.as_ref(),
            PeerEvent::Connected(..) => self.connected.as_ref(),
            PeerEvent::Disconnected(_) => self.disconnected.as_ref(),
        }
    }

    pub(super) fn has(&self, event: &PeerEvent) -> bool {
        self.of(event).is_some()
    }
}

impl fmt::Debug for PeerHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerHandlers").finish_non_exhaustive()
    }
}

/// The handlers, at most one of a kind.
#[derive(Debug, Default)]
pub(super) struct Callbacks {
    /// The addresses that the device listens on, once it has started.
    pub addresses: Option<Vec<String>>,
    pub started: Option<Worker<Vec<String>>>,
    /// Who calls those of peers, one after the other: an application may rely on the order of what happens to a peer.
    pub peers: Option<Worker<PeerEvent>>,
    pub peer: PeerHandlers,
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

    /// Tells of a peer that was discovered. It may be unreachable. A second handler replaces the first. This handler and
    /// those of connected and disconnected peers are called one after the other, in the order in which it happened.
    pub async fn on_peer_discovered<F, Fut>(&self, handler: F)
    where
        F: Fn(AviDevice, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let call = move |device, event| match event {
            PeerEvent::Discovered(peer) => Some(handler(device, peer.to_string())),
            _ => None,
        };
        self.handle_peers(|handlers, call| handlers.discovered = Some(call), call);
    }

    /// Tells of a peer that is connected, and of its address. A second handler replaces the first. In order with
    /// [`on_peer_discovered`](Self::on_peer_discovered).
    pub async fn on_peer_connected<F, Fut>(&self, handler: F)
    where
        F: Fn(AviDevice, String, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let call = move |device, event| match event {
            PeerEvent::Connected(peer, address) => Some(handler(device, peer.to_string(), address)),
            _ => None,
        };
        self.handle_peers(|handlers, call| handlers.connected = Some(call), call);
    }

    /// Tells of a peer whose last connection has ended. A second handler replaces the first. In order with
    /// [`on_peer_discovered`](Self::on_peer_discovered).
    pub async fn on_peer_disconnected<F, Fut>(&self, handler: F)
    where
        F: Fn(AviDevice, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let call = move |device, event| match event {
            PeerEvent::Disconnected(peer) => Some(handler(device, peer.to_string())),
            _ => None,
        };
        self.handle_peers(|handlers, call| handlers.disconnected = Some(call), call);
    }

    /// Registers a handler of what happens to peers. `call` returns none for what it does not handle.
    fn handle_peers<F, Fut>(&self, put: impl FnOnce(&mut PeerHandlers, PeerHandler), call: F)
    where
        F: Fn(AviDevice, PeerEvent) -> Option<Fut> + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let call = Arc::new(call);
        let handler: PeerHandler = Arc::new(move |device, event| {
            let call = call.clone();
            // Also what a handler does before its first await may panic: in its own task.
            Box::pin(async move {
                if let Some(call) = call(device, event) {
                    call.await;
                }
            })
        });
        let mut callbacks = lock(&self.inner.callbacks);
        put(&mut callbacks.peer, handler);
        callbacks.peers.get_or_insert_with(|| {
            self.worker("on_peer_discovered, on_peer_connected or on_peer_disconnected", |device, event| async move {
                let handler = lock(&device.inner.callbacks).peer.of(&event).cloned();
                if let Some(handler) = handler {
                    handler(device, event).await;
                }
            })
        });
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
