//! What can an application do with a device?

mod config;
mod context;
mod events;
mod handlers;
mod own;

use std::fmt;
use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use avi_p2p::{AviEvent, AviP2p, AviP2pError, AviP2pHandle, ContextOptions, EventReceiver, PeerId, StreamId};
use tokio::runtime::Handle;

use self::handlers::Callbacks;
use crate::capability;
use crate::error::DeviceError;
use crate::legacy::{self, Adapter};
use crate::stats::{Counters, DeviceStats};
use crate::stream::{StreamHandler, StreamHandlerFactory};
use crate::streams::Streams;
use crate::topics::{Added, Topics};

pub use self::config::{AviDeviceConfig, AviDeviceType, DeviceOptions};

/// A device: a node, and who handles what happens to it. Cheap to clone.
///
/// Handlers are called from [`start_event_loop`](Self::start_event_loop) on. Each has a task of its own and a queue of
/// 1,024 items and 8 MiB: a slow one delays nobody else's, and loses its oldest items
/// ([`stats`](Self::stats) counts them). Those of `on_peer_discovered`, `on_peer_connected` and `on_peer_disconnected`
/// share one task, and are called in the order of what happened. Handlers of other events have no order among each other.
///
/// The device stops with [`shutdown`](Self::shutdown), or when the last of its clones and of its node's handles is
/// dropped.
#[derive(Clone)]
pub struct AviDevice {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: Arc<AviDeviceConfig>,
    /// What `config` says of its capabilities, for the shared context.
    capabilities: serde_json::Value,
    /// Whether it will be seen to that they are still there.
    restoring: AtomicBool,
    runtime: Handle,
    pub(crate) node: AviP2pHandle,
    /// Until the shutdown.
    owner: Mutex<Option<AviP2p>>,
    /// Until the event loop takes them: the first one, and the rest.
    events: Mutex<Option<(AviEvent, EventReceiver)>>,
    counters: Arc<Counters>,
    callbacks: Mutex<Callbacks>,
    pub(crate) topics: Topics,
    streams: Arc<Streams>,
    /// If there may be nodes of AVI 0.5.
    adapter: Option<Adapter>,
    /// Held while a subscription of the node changes: handlers and small devices share it.
    pub(crate) subscribing: tokio::sync::Mutex<()>,
    #[cfg(feature = "gateway")]
    pub(crate) gateway: crate::gateway::Link,
    /// That of `can_gateway_embedded`.
    #[cfg(feature = "gateway")]
    pub(crate) embedded: Mutex<Option<crate::gateway::Gateway>>,
}

impl AviDevice {
    /// Starts a device that finds others by mDNS, has a new identity, and keeps nothing across restarts. It needs a
    /// tokio runtime around it, which runs its handlers; its node has a thread of its own.
    ///
    /// # Errors
    /// As [`with_options`](Self::with_options).
    pub async fn new(config: AviDeviceConfig) -> Result<Self, DeviceError> {
        Self::with_options(config, DeviceOptions::default()).await
    }

    /// Starts a device.
    ///
    /// # Errors
    /// [`NoRuntime`](DeviceError::NoRuntime) outside of a tokio runtime; [`CapabilityName`](DeviceError::CapabilityName);
    /// [`Node`](DeviceError::Node) if the node does not start, as [`AviP2p::start`] says.
    pub async fn with_options(config: AviDeviceConfig, options: DeviceOptions) -> Result<Self, DeviceError> {
        let runtime = Handle::try_current().map_err(|_| DeviceError::NoRuntime)?;
        let failed = |error: serde_json::Error| DeviceError::Capabilities(error.to_string());
        let capabilities = serde_json::to_value(&config.capabilities).map_err(failed)?;
        if let Some(name) = capability::wrong_name(&capabilities) {
            return Err(DeviceError::CapabilityName { name: name.to_owned() });
        }
        let mut p2p = options.p2p;
        p2p.node_name.clone_from(&config.node_name);
        p2p.deliver_own = true;
        p2p.context.get_or_insert_with(shared_by_all);
        let (owner, mut events) = AviP2p::start(p2p).await?;
        // It is that the node has started: from now on its addresses are known.
        let first = events.recv().await.ok_or(AviP2pError::ChannelClosed)?;
        let (node, counters) = (owner.handle(), Arc::<Counters>::default());
        let adapter = options.legacy_context.then(|| Adapter::start(&runtime, node.clone(), counters.clone()));
        let inner = Inner {
            capabilities,
            restoring: AtomicBool::new(false),
            adapter,
            node,
            owner: Mutex::new(Some(owner)),
            events: Mutex::new(Some((first, events))),
            callbacks: Mutex::default(),
            topics: Topics::new(runtime.clone(), counters.clone()),
            streams: Arc::new(Streams::new(runtime.clone(), counters.clone())),
            config: Arc::new(config),
            subscribing: tokio::sync::Mutex::default(),
            #[cfg(feature = "gateway")]
            gateway: crate::gateway::Link::default(),
            #[cfg(feature = "gateway")]
            embedded: Mutex::default(),
            counters,
            runtime,
        };
        let device = Self { inner: Arc::new(inner) };
        if options.legacy_context {
            device.subscribe_async(legacy::TOPIC, device.inner.legacy_handler()).await?;
        }
        if device.inner.config.can_gateway_embedded {
            device.start_embedded_gateway().await;
        }
        Ok(device)
    }

    /// Begins to call handlers. A second call does nothing.
    pub fn start_event_loop(&self) {
        let events = lock(&self.inner.events).take();
        if let Some((first, events)) = events {
            self.inner.runtime.spawn(events::run(first, events, Arc::downgrade(&self.inner)));
        }
    }

    /// Leaves the mesh: other devices no longer find this one's capabilities. Takes at most about 2 s. What waits for
    /// handlers is still handled. Later calls return [`ChannelClosed`](AviP2pError::ChannelClosed).
    ///
    /// # Errors
    /// As [`AviP2p::shutdown`].
    pub async fn shutdown(&self) -> Result<(), DeviceError> {
        let owner = lock(&self.inner.owner).take();
        let Some(owner) = owner else { return Err(AviP2pError::ChannelClosed.into()) };
        #[cfg(feature = "gateway")]
        self.end_embedded_gateway().await;
        self.inner.withdraw().await;
        Ok(owner.shutdown().await?)
    }

    /// This device's id.
    pub async fn get_id(&self) -> PeerId {
        self.inner.node.local_peer_id().clone()
    }

    /// What this device says of itself.
    #[must_use]
    pub fn get_config(&self) -> Arc<AviDeviceConfig> {
        self.inner.config.clone()
    }

    /// The node, for all that it can do.
    #[must_use]
    pub fn handle(&self) -> AviP2pHandle {
        self.inner.node.clone()
    }

    /// The devices that are connected now, in order of their ids.
    ///
    /// # Errors
    /// [`ChannelClosed`](AviP2pError::ChannelClosed) after the shutdown.
    pub async fn get_peers(&self) -> Result<Vec<PeerId>, DeviceError> {
        Ok(self.inner.node.connected_peers().await?)
    }

    /// What has been dropped, and why.
    #[must_use]
    pub fn stats(&self) -> DeviceStats {
        self.inner.counters.snapshot()
    }

    /// Sends a message to every subscriber of a topic, this device included. Without any, it is held for a while.
    ///
    /// # Errors
    /// As [`AviP2pHandle::publish`].
    pub async fn publish(&self, topic: &str, data: Vec<u8>) -> Result<(), DeviceError> {
        Ok(self.inner.node.publish(topic, data).await?)
    }

    /// Handles the messages of a topic, this device's own included: their author, the topic, the payload. The handler may
    /// block: it has a thread of tokio's pool for such. A topic may have up to 64 handlers.
    ///
    /// # Errors
    /// As [`AviP2pHandle::subscribe`]; [`TooManyHandlers`](DeviceError::TooManyHandlers).
    pub async fn subscribe(
        &self,
        topic: &str,
        handler: impl Fn(PeerId, String, Vec<u8>) + Send + Sync + 'static,
    ) -> Result<(), DeviceError> {
        self.inner.subscribe(topic, |topics| topics.add_blocking(topic, handler)).await
    }

    /// As [`subscribe`](Self::subscribe), for a handler that is asynchronous, and does not block its thread.
    ///
    /// # Errors
    /// As there.
    pub async fn subscribe_async<F, Fut>(&self, topic: &str, handler: F) -> Result<(), DeviceError>
    where
        F: Fn(PeerId, String, Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.inner.subscribe(topic, |topics| topics.add_async(topic, handler)).await
    }

    /// Ends all handlers of a topic, once they have handled what waits.
    ///
    /// # Errors
    /// As [`AviP2pHandle::unsubscribe`].
    pub async fn unsubscribe(&self, topic: &str) -> Result<(), DeviceError> {
        let _subscribing = self.inner.subscribing.lock().await;
        self.inner.topics.remove(topic);
        #[cfg(feature = "gateway")]
        if self.inner.gateway.holds(topic) {
            return Ok(());
        }
        Ok(self.inner.node.unsubscribe(topic).await?)
    }

    /// Handles streams with this reason, whichever end requests them: they are accepted, and each has a handler of its
    /// own. A second factory for the same reason replaces the first.
    pub async fn register_stream_handler<F>(&self, reason: String, factory: F)
    where
        F: StreamHandlerFactory + 'static,
    {
        self.inner.streams.register(reason, Arc::new(factory));
    }

    /// Asks a peer for a stream, and says why: at most 256 bytes. Its answer comes to the handler, which is that of the
    /// reason, within `accept_timeout`.
    ///
    /// A stream carries audio. It is encrypted and in order, and does not wait: on a path that is too slow the oldest data
    /// is dropped at the sender, and datagrams can be lost. What must arrive is published.
    ///
    /// # Errors
    /// [`NoStreamHandler`](DeviceError::NoStreamHandler); as [`AviP2pHandle::request_stream_with`].
    pub async fn request_stream(&self, peer_id: PeerId, reason: String) -> Result<StreamId, DeviceError> {
        self.inner.streams.request(&self.inner.node, peer_id, reason).await
    }

    /// Accepts a stream that [`on_stream_requested`](Self::on_stream_requested) told of.
    ///
    /// # Errors
    /// [`StreamNotOffered`](DeviceError::StreamNotOffered).
    pub async fn accept_stream(
        &self,
        stream_id: StreamId,
        handler: impl StreamHandler + 'static,
    ) -> Result<(), DeviceError> {
        self.inner.streams.accept(self.inner.node.clone(), stream_id, Box::new(handler))
    }

    /// Refuses a stream that [`on_stream_requested`](Self::on_stream_requested) told of. The reason reaches the other
    /// end, cut to 256 bytes.
    ///
    /// # Errors
    /// [`StreamNotOffered`](DeviceError::StreamNotOffered).
    pub async fn refuse_stream(&self, stream_id: StreamId, reason: &str) -> Result<(), DeviceError> {
        self.inner.streams.refuse(&self.inner.node, stream_id, reason).await
    }

    /// Sends data on an open stream: 1 byte to `limits.max_audio_frame_bytes`, by default 64 KiB.
    ///
    /// # Errors
    /// As [`AviP2pHandle::send_audio`].
    pub async fn send_stream_data(&self, stream_id: StreamId, data: Vec<u8>) -> Result<(), DeviceError> {
        Ok(self.inner.node.send_audio(stream_id, data).await?)
    }

    /// Ends a stream, requested, offered or open. Its handlers at both ends are told; data that waits is still sent.
    ///
    /// # Errors
    /// As [`AviP2pHandle::close_audio_stream`].
    pub async fn close_stream(&self, stream_id: StreamId) -> Result<(), DeviceError> {
        Ok(self.inner.node.close_audio_stream(stream_id).await?)
    }
}

impl Inner {
    /// Hands what 0.5 nodes publish to the adapter. Does not keep the device alive.
    fn legacy_handler(self: &Arc<Self>) -> impl Fn(PeerId, String, Vec<u8>) -> BoxFuture + Send + Sync + 'static {
        let inner = Arc::downgrade(self);
        move |from, _, json| {
            let inner = inner.clone();
            Box::pin(async move {
                let Some(inner) = inner.upgrade() else { return };
                let Some(adapter) = &inner.adapter else { return };
                adapter.handle_message(&inner.node, &from, &json).await;
            })
        }
    }

    /// Adds a handler within the lock, so that no unsubscription from before takes it away.
    async fn subscribe(
        &self,
        topic: &str,
        add: impl FnOnce(&Topics) -> Result<Added, DeviceError>,
    ) -> Result<(), DeviceError> {
        let _subscribing = self.subscribing.lock().await;
        let added = add(&self.topics)?;
        let subscribed = self.node.subscribe(topic).await;
        if subscribed.is_err() {
            self.topics.undo(topic, &added);
        }
        Ok(subscribed?)
    }
}

#[cfg(not(feature = "gateway"))]
impl AviDevice {
    async fn start_embedded_gateway(&self) {
        tracing::warn!("can_gateway_embedded needs the feature `gateway` of avi-device: small devices cannot join");
    }
}

impl fmt::Debug for AviDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { config, node, .. } = &*self.inner;
        f.debug_struct("AviDevice").field("name", &config.node_name).field("id", node.local_peer_id()).finish()
    }
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The shared context of a device that sets up none: any device may write anywhere, so that the core can remove what a
/// device that is gone has said of itself.
fn shared_by_all() -> ContextOptions {
    ContextOptions { ownership: false, ..ContextOptions::default() }
}

/// No code of the application runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
