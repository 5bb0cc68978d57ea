//! Which substreams write without a limit? Those of audio. All others take what they write from the peer's credit.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::io::{AsyncRead, AsyncWrite, IoSliceMut};

use super::credit::{Account, Credit};
use crate::net::audio::PROTOCOLS;

/// The most bytes of a negotiation: multistream-select's header, some refused protocols, and the chosen one.
const NEGOTIATION_BYTES: usize = 256;
const HEADER: &[u8] = b"/multistream/1.0.0\n";
const NOT_AVAILABLE: &[u8] = b"na\n";

/// A substream whose writes the engine can limit.
pub(in crate::net) struct Metered<S> {
    stream: S,
    credit: Arc<Credit>,
    account: Account,
    kind: Kind,
}

/// What a substream is for. Negotiated → Audio or Other.
enum Kind {
    /// What was written so far has not chosen a protocol. It is free: only the choice says whether credit is needed.
    Negotiated(Vec<u8>),
    Audio,
    Other,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, credit: Arc<Credit>) -> Self {
        let account = credit.account();
        Self { stream, credit, account, kind: Kind::Negotiated(Vec::new()) }
    }
}

/// Whether the protocol that this end has written is audio's; `None` if it has written none yet. The dialler writes the
/// protocol that it asks for, at once or together with its first data, and the listener writes the one that it takes.
/// See multistream-select 1.0.
fn is_audio(mut written: &[u8]) -> Option<bool> {
    loop {
        let (&length, rest) = written.split_first()?;
        // Longer lines, whose length takes more bytes, name no protocol of audio.
        let length = if length < 0x80 { usize::from(length) } else { return Some(false) };
        let line = rest.get(..length)?;
        match line {
            HEADER | NOT_AVAILABLE => written = &rest[length..],
            line => return Some(line.starts_with(PROTOCOLS.as_bytes())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read_vectored(cx, bufs)
    }
}

impl<S> Drop for Metered<S> {
    fn drop(&mut self) {
        self.credit.set_blocked(&mut self.account, false);
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    fn poll_take_and_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, credit, account, kind } = self;
        let stream = Pin::new(stream);
        match kind {
            Kind::Audio => stream.poll_write(cx, bytes),
            // An empty write only asks whether the substream is still open.
            Kind::Other if bytes.is_empty() => stream.poll_write(cx, bytes),
            Kind::Other => {
                let allowed = ready!(credit.poll_take(account, bytes.len(), cx));
                let result = stream.poll_write(cx, &bytes[..allowed]);
                let written = if let Poll::Ready(Ok(written)) = result { written } else { 0 };
                if written < allowed {
                    credit.give_back(account, allowed - written);
                }
                result
            }
            Kind::Negotiated(before) => {
                let length = bytes.len().min(NEGOTIATION_BYTES - before.len());
                let written = ready!(stream.poll_write(cx, &bytes[..length]))?;
                before.extend_from_slice(&bytes[..written]);
                match is_audio(before) {
                    Some(true) => *kind = Kind::Audio,
                    None if before.len() < NEGOTIATION_BYTES => {}
                    Some(false) | None => *kind = Kind::Other,
                }
                Poll::Ready(Ok(written))
            }
        }
    }

    /// Notes whether a write waits.
    fn note<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        let is_blocked = polled.is_pending() && !matches!(self.kind, Kind::Audio);
        self.credit.set_blocked(&mut self.account, is_blocked);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.poll_take_and_write(cx, bytes);
        self.note(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(polled)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::task::Waker;

    use futures::FutureExt;
    use futures::future::join;
    use futures::io::{AsyncReadExt, AsyncWriteExt};
    use libp2p_identity::PeerId;
    use multistream_select::{Version, dialer_select_proto, listener_select_proto};
    use smol::net::unix::UnixStream;

    use super::*;
    use crate::net::connections::credit::Used;

    const BULK: &str = "/meshsub/1.2.0";
    const AUDIO: &str = "/avi/audio/2.0.0";
    const BYTES: usize = 100;

    /// Passes at most this many bytes a write, and counts them.
    struct Narrow {
        stream: UnixStream,
        width: usize,
        written: usize,
    }

    impl AsyncRead for Narrow {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let length = bytes.len().min(self.width);
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..length]))?;
            self.written += written;
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_close(cx)
        }
    }

    /// The two ends of a substream, each with a credit of so many bytes.
    fn ends(width: usize, credit: u32) -> [(Metered<Narrow>, Arc<Credit>); 2] {
        let (dialler, listener) = UnixStream::pair().unwrap();
        [dialler, listener].map(|stream| {
            let (bytes, credit) = (credit, Credit::new(PeerId::random(), Used::new(Arc::default())));
            credit.grant(Some(bytes));
            (Metered::new(Narrow { stream, width, written: 0 }, credit.clone()), credit)
        })
    }

    /// Sends in both directions, and returns which end needs no credit for that. What there is lets a dialler name further
    /// protocols after the first.
    fn exchange(version: Version, width: usize, proposals: &[&'static str]) -> [bool; 2] {
        let [(dialler, dialler_credit), (listener, listener_credit)] = ends(width, (BYTES / 2) as u32);
        let far = async {
            let (_, mut far) = listener_select_proto(listener, [BULK, AUDIO]).await.unwrap();
            far.flush().await.unwrap();
            let is_free = far.write_all(&[7; BYTES]).now_or_never().is_some();
            listener_credit.grant(None);
            (far, is_free)
        };
        let near = async {
            let (_, mut near) = dialer_select_proto(dialler, proposals.iter().copied(), version).await.unwrap();
            let is_free = near.write_all(&[7; BYTES]).now_or_never().is_some();
            dialler_credit.grant(None);
            (near, is_free)
        };
        let ((_, far_is_free), (_, near_is_free)) = smol::block_on(join(far, near));
        [near_is_free, far_is_free]
    }

    #[test]
    fn both_ends_of_an_audio_substream_write_without_credit_and_no_end_of_another_does() {
        for version in [Version::V1, Version::V1Lazy] {
            for width in [1, 7, 1 << 20] {
                assert_eq!(exchange(version, width, &[AUDIO]), [true, true], "{version:?}, {width} bytes a write");
                assert_eq!(exchange(version, width, &[BULK]), [false, false], "{version:?}, {width} bytes a write");
                let refused = ["/meshsub/1.3.0", "/meshsub/1.2.1", BULK];
                assert_eq!(exchange(version, width, &refused), [false, false], "{version:?}, {width} bytes a write");
            }
        }
    }

    #[test]
    fn a_write_waits_for_credit_and_takes_what_it_uses() {
        let [(mut dialler, credit), (mut listener, _)] = ends(100, 0);
        dialler.kind = Kind::Other;
        let cx = &mut Context::from_waker(Waker::noop());
        let mut write = |bytes: usize| Pin::new(&mut dialler).poll_write(cx, &vec![7; bytes]).map(Result::unwrap);
        assert_eq!((write(0), write(1)), (Poll::Ready(0), Poll::Pending));
        credit.grant(Some(250));
        let written: Vec<_> = (0..4).map(|_| write(5000)).collect();
        assert_eq!(written, [Poll::Ready(100), Poll::Ready(100), Poll::Ready(50), Poll::Pending]);
        let mut read = [0; 251];
        assert_eq!(smol::block_on(listener.read(&mut read)).unwrap(), 250);
    }

    #[test]
    fn an_end_that_never_chooses_a_protocol_needs_credit_after_a_while() {
        for bytes in
            [b"\x03na\n".as_slice(), b"\x7fno line is so long", b"\x80\x01/avi/audio/2.0.0\n", b"\x00", b"GET /"]
        {
            let [(mut dialler, _), (_listener, _)] = ends(1 << 20, 0);
            let cx = &mut Context::from_waker(Waker::noop());
            let mut written = 0;
            while let Poll::Ready(result) = Pin::new(&mut dialler).poll_write(cx, bytes) {
                written += result.unwrap();
                assert!(written <= NEGOTIATION_BYTES, "{written} bytes without credit");
            }
            assert_eq!(dialler.stream.written, written);
        }
    }

    #[test]
    fn the_line_that_chooses_is_the_first_one_with_a_name() {
        let line = |line: &str| [&[line.len() as u8], line.as_bytes()].concat();
        let lines = |of: &[&str]| of.iter().flat_map(|text| line(text)).collect::<Vec<_>>();
        let (header, refused, audio) = ("/multistream/1.0.0\n", "na\n", "/avi/audio/2.0.0\n");
        let whole = lines(&[header, refused, refused, audio]);
        for end in 0..whole.len() {
            assert_eq!(is_audio(&whole[..end]), None, "{end} bytes");
        }
        assert_eq!(is_audio(&whole), Some(true));
        assert_eq!(is_audio(&lines(&[header, "/ipfs/ping/1.0.0\n", audio])), Some(false));
        assert_eq!(is_audio(&lines(&[header, "/avi/audit/1\n"])), Some(false));
    }
}
