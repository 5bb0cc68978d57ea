//! What does an application do with a stream?

use avi_p2p::{AviP2pHandle, PeerId, StreamCloseReason, StreamId};

use crate::error::DeviceError;

/// Which stream a handler is called for.
#[derive(Debug, Clone)]
pub struct StreamContext {
    /// The node, for all that it can do.
    pub handle: AviP2pHandle,
    /// The stream.
    pub stream_id: StreamId,
    /// The other end.
    pub peer_id: PeerId,
}

impl StreamContext {
    /// Sends data to the other end: 1 byte to `limits.max_audio_frame_bytes`. If the path is congested, the oldest data
    /// that waits is dropped.
    ///
    /// # Errors
    /// Those of [`AviP2pHandle::send_audio`].
    pub async fn send(&self, data: Vec<u8>) -> Result<(), DeviceError> {
        Ok(self.handle.send_audio(self.stream_id, data).await?)
    }
}

/// What an application does with one stream. Each stream has a handler and a task of its own: a slow one delays no
/// other. The methods are called one after another.
///
/// Implement it with [`async_trait`](crate::async_trait).
#[async_trait::async_trait]
pub trait StreamHandler: Send + Sync {
    /// The stream is open: data may flow in both directions.
    async fn on_accepted(&mut self, ctx: &StreamContext);

    /// The other end has refused the stream that this device requested, with its reason. This is the last call.
    async fn on_rejected(&mut self, peer_id: PeerId, stream_id: StreamId, reason: String);

    /// Data from the other end, as it was sent, in order. What was lost or dropped on the way is missing. While this
    /// runs, at most `limits.event_audio_frames` frames wait, and the oldest are dropped.
    async fn on_data(&mut self, ctx: &StreamContext, data: Vec<u8>);

    /// The stream has ended, whether it was accepted or not. This is the last call.
    async fn on_closed(&mut self, peer_id: PeerId, stream_id: StreamId, reason: StreamCloseReason);
}

/// Makes the handler of each stream with a reason, whichever end requests it.
///
/// Implement it with [`async_trait`](crate::async_trait).
#[async_trait::async_trait]
pub trait StreamHandlerFactory: Send + Sync {
    /// A handler for a new stream.
    async fn create_handler(&self) -> Box<dyn StreamHandler>;
}
