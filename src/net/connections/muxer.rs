//! How much time of the node may a connection take? A few new substreams in a turn, and some seconds to close.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures_timer::Delay;
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};

/// How long a peer may take to receive what is under way when its connection is closed.
pub(in crate::net) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Substreams that a peer opens before it is the turn of other connections.
const INBOUND_IN_TURN: usize = 4;

/// Bounds how long a connection takes to close: without it, one to a peer that has stopped reading is never reported
/// as closed. And how many of a peer's substreams are taken in a turn, which would last as long as it opens some.
pub(in crate::net) struct Bounded<M> {
    muxer: M,
    timeout: Option<Delay>,
    inbound_in_turn: usize,
}

impl<M> Bounded<M> {
    pub(in crate::net) fn new(muxer: M) -> Self {
        Self { muxer, timeout: None, inbound_in_turn: 0 }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Bounded<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        if self.inbound_in_turn >= INBOUND_IN_TURN {
            self.inbound_in_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let inbound = Pin::new(&mut self.muxer).poll_inbound(cx);
        self.inbound_in_turn = if inbound.is_ready() { self.inbound_in_turn + 1 } else { 0 };
        inbound
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::io::Cursor;
    use futures::task::{ArcWake, waker};

    use super::*;

    /// A peer that opens substreams without end.
    struct Flood;

    impl StreamMuxer for Flood {
        type Substream = Cursor<Vec<u8>>;
        type Error = Infallible;

        fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<Self::Substream, Infallible>> {
            Poll::Ready(Ok(Cursor::default()))
        }

        fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<Self::Substream, Infallible>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Infallible>> {
            Poll::Pending
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(woken: &Arc<Self>) {
            woken.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_peer_that_opens_substreams_without_end_leaves_others_their_turn() {
        let woken = Arc::<Woken>::default();
        let waker = waker(woken.clone());
        let cx = &mut Context::from_waker(&waker);
        let mut muxer = Bounded::new(Flood);
        for turn in 1..4 {
            let mut taken = 0;
            while Pin::new(&mut muxer).poll_inbound(cx).is_ready() {
                taken += 1;
            }
            assert_eq!((taken, woken.0.load(Ordering::SeqCst)), (INBOUND_IN_TURN, turn));
        }
    }
}
