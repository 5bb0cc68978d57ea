//! How much of the node's time may a connection take? A few new substreams per poll, and limited time to close. And how
//! much of the path's? What the engine grants beside a call.

use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};

use crate::net::connections::closing::Handle;
use crate::net::connections::metered::Metered;

/// The most substreams of a peer that are accepted before other connections are polled.
const INBOUND_IN_TURN: usize = 4;

/// A multiplexer with three bounds. The engine can abort it while it closes: without that, a connection to a peer that
/// has stopped reading is never reported as closed. One poll accepts a limited number of substreams: without that, one
/// poll lasts as long as the peer opens substreams. And all substreams but those of audio share the peer's credit.
pub(in crate::net) struct Bounded<M> {
    muxer: M,
    handle: Handle,
    inbound_in_turn: usize,
}

impl<M> Bounded<M> {
    pub(in crate::net) fn new(muxer: M, handle: Handle) -> Self {
        Self { muxer, handle, inbound_in_turn: 0 }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Bounded<M>
where
    M::Substream: Unpin,
{
    type Substream = Metered<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        if self.inbound_in_turn >= INBOUND_IN_TURN {
            self.inbound_in_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let inbound = Pin::new(&mut self.muxer).poll_inbound(cx);
        self.inbound_in_turn = if inbound.is_ready() { self.inbound_in_turn + 1 } else { 0 };
        inbound.map_ok(|substream| self.handle.meter(substream))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        Pin::new(&mut self.muxer).poll_outbound(cx).map_ok(|substream| self.handle.meter(substream))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.muxer).poll_close(cx) {
            return Poll::Ready(closed);
        }
        self.handle.poll_aborted(cx).map(Ok)
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
    use libp2p_core::ConnectedPoint;
    use libp2p_identity::PeerId;

    use super::*;
    use crate::net::connections::closing::Closing;

    /// A peer that opens substreams endlessly.
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
    fn a_connection_that_does_not_close_ends_when_it_is_aborted() {
        let (woken, closing, peer) = (Arc::<Woken>::default(), Closing::new(Arc::default()), PeerId::random());
        let register = || (closing.register(peer, endpoint()), closing.claim(&peer, &endpoint()).unwrap());
        let waker = waker(woken.clone());
        let cx = &mut Context::from_waker(&waker);
        let (handle, key) = register();
        let mut muxer = Bounded::new(Flood, handle);
        assert!(Pin::new(&mut muxer).poll_close(cx).is_pending());
        let (_twin, other) = register();
        closing.abort(other);
        assert!(Pin::new(&mut muxer).poll_close(cx).is_pending(), "another connection to the peer was aborted");
        closing.abort(key);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(Pin::new(&mut muxer).poll_close(cx).is_ready());
        // An abort before the closing begins counts too: the closing does not wait then.
        let (handle, key) = register();
        let mut late = Bounded::new(Flood, handle);
        closing.abort(key);
        assert!(Pin::new(&mut late).poll_close(cx).is_ready());
        assert_eq!(closing.claim(&peer, &endpoint()), None, "each is claimed once");
    }

    fn endpoint() -> ConnectedPoint {
        let [local_addr, send_back_addr] = ["/memory/1", "/memory/2"].map(|address| address.parse().unwrap());
        ConnectedPoint::Listener { local_addr, send_back_addr }
    }

    #[test]
    fn a_peer_that_opens_substreams_without_end_leaves_others_their_turn() {
        let woken = Arc::<Woken>::default();
        let waker = waker(woken.clone());
        let cx = &mut Context::from_waker(&waker);
        let mut muxer = Bounded::new(Flood, Closing::new(Arc::default()).register(PeerId::random(), endpoint()));
        for turn in 1..4 {
            let mut taken = 0;
            while Pin::new(&mut muxer).poll_inbound(cx).is_ready() {
                taken += 1;
            }
            assert_eq!((taken, woken.0.load(Ordering::SeqCst)), (INBOUND_IN_TURN, turn));
        }
    }
}
