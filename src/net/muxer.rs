//! When is a connection closed? When the peer has taken the last bytes, or has had its time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures_timer::Delay;
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};

/// How long a peer may take to receive what is under way when its connection is closed.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bounds how long a connection takes to close. Without it, one to a peer that has stopped reading is never reported
/// as closed.
pub(super) struct CloseInTime<M> {
    muxer: M,
    timeout: Option<Delay>,
}

impl<M> CloseInTime<M> {
    pub(super) fn new(muxer: M) -> Self {
        Self { muxer, timeout: None }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for CloseInTime<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.muxer).poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.muxer).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.muxer).poll_close(cx) {
            return Poll::Ready(closed);
        }
        self.timeout.get_or_insert_with(|| Delay::new(CLOSE_TIMEOUT)).poll_unpin(cx).map(Ok)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.muxer).poll(cx)
    }
}
