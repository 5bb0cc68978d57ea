//! How much does a connection read in a row? A bounded amount, so that a peer that never stops sending does not delay
//! others.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncWrite, IoSlice};

/// Reads before a connection yields: 256 KiB, at the 8 KiB that Noise asks for.
const READS_IN_A_ROW: u32 = 32;

/// A stream that yields after [`READS_IN_A_ROW`].
pub(super) struct Fair<S> {
    stream: S,
    reads_in_a_row: u32,
}

impl<S> Fair<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, reads_in_a_row: 0 }
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
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fair<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
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
    use std::task::Waker;

    use futures::io::Repeat;

    use super::*;

    #[test]
    fn a_stream_that_never_blocks_yields_now_and_then() {
        let mut stream = Fair::new(futures::io::repeat(1) as Repeat);
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let in_a_row = (0..).take_while(|_| Pin::new(&mut stream).poll_read(cx, &mut [0]).is_ready()).count();
            assert_eq!(in_a_row, READS_IN_A_ROW as usize);
        }
    }
}
