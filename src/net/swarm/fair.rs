//! How much does a connection read in a row? A bounded amount, so that a peer that never stops sending does not delay
//! others. And do its bytes move?

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncWrite, IoSlice};

use crate::net::connections::Meter;

/// Reads before a connection yields: 256 KiB, at the 8 KiB that Noise asks for.
const READS_IN_A_ROW: u32 = 32;

/// A stream that yields after [`READS_IN_A_ROW`], and tells its meter what proves that the peer is there: bytes that
/// arrive, and bytes that are taken after others had to wait. A buffer with room takes bytes from a peer that is gone
/// too; it makes room only for what the peer has acknowledged.
pub(super) struct Fair<S> {
    stream: S,
    meter: Meter,
    reads_in_a_row: u32,
    is_blocked: bool,
}

impl<S> Fair<S> {
    pub(super) fn new(stream: S, meter: Meter) -> Self {
        Self { stream, meter, reads_in_a_row: 0, is_blocked: false }
    }

    fn on_written(&mut self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.is_blocked = true,
            Poll::Ready(Ok(1..)) if self.is_blocked => {
                self.is_blocked = false;
                self.meter.on_moved();
            }
            Poll::Ready(_) => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Fair<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.reads_in_a_row >= READS_IN_A_ROW {
            self.reads_in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.reads_in_a_row = if read.is_ready() { self.reads_in_a_row + 1 } else { 0 };
        if let Poll::Ready(Ok(1..)) = read {
            self.meter.on_moved();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fair<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.on_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.on_written(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;
    use std::time::Duration;

    use futures::io::Repeat;
    use libp2p_core::{ConnectedPoint, Multiaddr};

    use super::*;
    use crate::net::connections::Meters;

    fn endpoint() -> ConnectedPoint {
        ConnectedPoint::Listener { local_addr: Multiaddr::empty(), send_back_addr: Multiaddr::empty() }
    }

    #[test]
    fn a_stream_that_never_blocks_yields_now_and_then() {
        let meter = Arc::<Meters>::default().register(endpoint());
        let mut stream = Fair::new(futures::io::repeat(1) as Repeat, meter);
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let in_a_row = (0..).take_while(|_| Pin::new(&mut stream).poll_read(cx, &mut [0]).is_ready()).count();
            assert_eq!(in_a_row, READS_IN_A_ROW as usize);
        }
    }

    /// A socket that gives and takes what it is told to.
    #[derive(Default)]
    struct Told {
        gives: usize,
        takes: usize,
    }

    fn up_to(bytes: &mut usize, most: usize) -> Poll<io::Result<usize>> {
        match std::mem::take(bytes).min(most) {
            0 => Poll::Pending,
            moved => Poll::Ready(Ok(moved)),
        }
    }

    impl AsyncRead for Told {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            up_to(&mut self.gives, buf.len())
        }
    }

    impl AsyncWrite for Told {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            up_to(&mut self.takes, bytes.len())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn bytes_that_arrive_and_bytes_that_had_to_wait_show_that_the_peer_is_there() {
        let mut stream = Fair::new(Told::default(), Arc::<Meters>::default().register(endpoint()));
        let cx = &mut Context::from_waker(Waker::noop());
        let mut has_moved = |gives: usize, takes: usize| {
            let before = stream.meter.at_us();
            // A later time is a greater number.
            std::thread::sleep(Duration::from_micros(10));
            (stream.stream.gives, stream.stream.takes) = (gives, takes);
            let _ = Pin::new(&mut stream).poll_read(cx, &mut [0; 9]);
            let _ = Pin::new(&mut stream).poll_write(cx, &[0; 9]);
            stream.meter.at_us() > before
        };
        assert!(!has_moved(0, 9), "a buffer with room");
        assert!(!has_moved(0, 9), "a buffer with room");
        assert!(!has_moved(0, 0), "a full buffer");
        assert!(!has_moved(0, 0), "a full buffer");
        assert!(has_moved(0, 1), "it has made room");
        assert!(!has_moved(0, 1), "a buffer with room again");
        assert!(has_moved(1, 1), "a byte has arrived");
    }
}
