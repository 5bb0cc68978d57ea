//! Who handles which stream?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use avi_p2p::{AviP2pError, AviP2pHandle, PeerId, StreamCloseReason, StreamId, StreamOptions};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::call::{Call, Change};
use crate::error::DeviceError;
use crate::stats::Counters;
use crate::stream::{StreamContext, StreamHandler, StreamHandlerFactory};

/// How many changes of a stream may wait: two that end it, and frames that came before it had a reader.
const MAX_CHANGES: usize = 64;
/// How many of them only a change of state may take.
const KEPT_FOR_STATE: usize = 4;
/// The reason that AVI 0.5 refuses with, too.
const NOT_HANDLED: &str = "not_handled";

/// The streams of a device, and who handles them.
pub(crate) struct Streams {
    runtime: Handle,
    counters: Arc<Counters>,
    factories: Mutex<BTreeMap<String, Arc<dyn StreamHandlerFactory>>>,
    open: Mutex<BTreeMap<StreamId, Open>>,
    /// Held by whoever has asked the node for a stream and has not said so in `open` yet.
    requesting: Arc<tokio::sync::Mutex<()>>,
}

/// A stream that has not ended.
struct Open {
    peer: PeerId,
    changes: Sender<Change>,
    /// While the application has to answer it.
    offered: Option<Receiver<Change>>,
}

impl Streams {
    pub fn new(runtime: Handle, counters: Arc<Counters>) -> Self {
        let (factories, open, requesting) = Default::default();
        Self { runtime, counters, factories, open, requesting }
    }

    /// The handlers of streams with this reason, whichever end requests them. The last one counts.
    pub fn register(&self, reason: String, factory: Arc<dyn StreamHandlerFactory>) {
        lock(&self.factories).insert(reason, factory);
    }

    pub fn factory(&self, reason: &str) -> Option<Arc<dyn StreamHandlerFactory>> {
        lock(&self.factories).get(reason).cloned()
    }

    /// Asks a peer for a stream. The call is a task, so that a caller that is not polled holds nothing.
    pub async fn request(
        self: &Arc<Self>,
        node: &AviP2pHandle,
        peer: PeerId,
        reason: String,
    ) -> Result<StreamId, DeviceError> {
        let Some(factory) = self.factory(&reason) else { return Err(DeviceError::NoStreamHandler { reason }) };
        let (streams, node) = (self.clone(), node.clone());
        let requested = self.runtime.spawn(async move {
            let requesting = streams.requesting.lock().await;
            let options = StreamOptions { label: Some(reason), ..StreamOptions::default() };
            let id = node.request_stream_with(peer.clone(), options).await?;
            let changes = streams.open(id, peer.clone());
            drop(requesting);
            let context = StreamContext { handle: node, stream_id: id, peer_id: peer };
            let call = Call::new(context.clone(), changes).await;
            streams.carry(context, async move { call.requested(factory.create_handler().await).await });
            Ok::<_, AviP2pError>(id)
        });
        // The task ends early only with its runtime, which the node's calls do not outlive.
        Ok(requested.await.unwrap_or(Err(AviP2pError::ChannelClosed))?)
    }

    /// A peer offers a stream: `ask` is called if no factory is registered for its reason, and says whether the
    /// application answers.
    pub fn offered(
        self: &Arc<Self>,
        node: AviP2pHandle,
        peer: PeerId,
        id: StreamId,
        ask: impl FnOnce(PeerId, StreamId, String) -> bool + Send + 'static,
    ) {
        let changes = self.open(id, peer.clone());
        let streams = self.clone();
        self.runtime.spawn(async move {
            let Ok(stats) = node.audio_stats(id).await else { return };
            let reason = stats.label.unwrap_or_default();
            if let Some(factory) = streams.factory(&reason) {
                let context = StreamContext { handle: node, stream_id: id, peer_id: peer };
                let call = Call::new(context.clone(), changes).await;
                return streams.carry(context, async move { call.offered(factory.create_handler().await).await });
            }
            // Before the application hears of it, so that it can answer at once.
            if let Some(open) = streams.lock().get_mut(&id) {
                open.offered = Some(changes);
            }
            if !ask(peer, id, reason.clone()) {
                streams.counters.streams_refused.add(1);
                tracing::info!(stream = %id, reason, "a stream is refused: no handler for its reason");
                let _ = streams.refuse(&node, id, NOT_HANDLED).await;
            }
        });
    }

    /// Accepts an offered stream.
    pub fn accept(
        self: &Arc<Self>,
        node: AviP2pHandle,
        id: StreamId,
        handler: Box<dyn StreamHandler>,
    ) -> Result<(), DeviceError> {
        let (peer, changes) = self.answer(id)?;
        let context = StreamContext { handle: node, stream_id: id, peer_id: peer };
        self.carry(context.clone(), async move { Call::new(context, changes).await.offered(handler).await });
        Ok(())
    }

    /// Refuses an offered stream.
    pub async fn refuse(&self, node: &AviP2pHandle, id: StreamId, reason: &str) -> Result<(), DeviceError> {
        self.answer(id)?;
        Ok(node.reject_audio_stream(id, reason).await?)
    }

    fn answer(&self, id: StreamId) -> Result<(PeerId, Receiver<Change>), DeviceError> {
        let mut open = self.lock();
        let offered = open.get_mut(&id).and_then(|open| Some((open.peer.clone(), open.offered.take()?)));
        offered.ok_or(DeviceError::StreamNotOffered(id))
    }

    /// A stream has changed. Streams that this device has not requested through here are not its own.
    pub async fn changed(&self, id: StreamId, change: Change) {
        if !self.lock().contains_key(&id) {
            // It may be one that is being requested: then it is known once that is done.
            drop(self.requesting.lock().await);
        }
        let ends = matches!(change, Change::Closed(_));
        let mut open = self.lock();
        let Some(stream) = open.get(&id) else { return };
        let has_room = !matches!(change, Change::Frame(_)) || stream.changes.capacity() > KEPT_FOR_STATE;
        if !has_room || stream.changes.try_send(change).is_err() {
            self.counters.frames_dropped.add(1);
        }
        if ends {
            open.remove(&id);
        }
    }

    /// The node has ended, and all streams with it.
    pub fn end(&self) {
        for (_, stream) in std::mem::take(&mut *self.lock()) {
            let _ = stream.changes.try_send(Change::Closed(StreamCloseReason::LocalClose));
        }
    }

    fn open(&self, id: StreamId, peer: PeerId) -> Receiver<Change> {
        let (changes, receiver) = mpsc::channel(MAX_CHANGES);
        self.lock().insert(id, Open { peer, changes, offered: None });
        receiver
    }

    /// Runs the task of a stream. If its handler panics, the stream is closed.
    fn carry(&self, context: StreamContext, call: impl Future<Output = ()> + Send + 'static) {
        let counters = self.counters.clone();
        let task = self.runtime.spawn(call);
        self.runtime.spawn(async move {
            if task.await.is_err_and(|error| error.is_panic()) {
                counters.handler_panics.add(1);
                tracing::error!(stream = %context.stream_id, "the handler of a stream has panicked: it is closed");
                // It may have ended.
                let _ = context.handle.close_audio_stream(context.stream_id).await;
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, Open>> {
        lock(&self.open)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.end();
    }
}

/// No code of the application runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
