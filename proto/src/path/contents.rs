//! Which frames does an opened datagram carry?

use bytes::Bytes;
use thiserror::Error;

use super::session::MAX_PLAINTEXT_BYTES;
use crate::wire::{Decoder, Frame, WireError};

/// What is wrong with the frames of an authentic datagram: its sender breaks the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The bytes are no frame.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The last frame is incomplete.
    #[error("the datagram ends within a frame")]
    Truncated,
    /// A frame that only the substream may carry.
    #[error("{0} in a datagram")]
    Misplaced(&'static str),
}

/// The frames of a datagram, in order. Payloads share its buffer. Ends after an error.
#[derive(Debug)]
pub struct Frames {
    decoder: Decoder,
    rest: Bytes,
    is_over: bool,
}

/// The frames in the plaintext of a datagram.
pub fn frames(plaintext: Bytes) -> Frames {
    Frames { decoder: Decoder::new(MAX_PLAINTEXT_BYTES), rest: plaintext, is_over: false }
}

impl Frames {
    /// The frames that are still to come.
    #[cfg(feature = "recorder")]
    pub(crate) fn rest(&self) -> &Bytes {
        &self.rest
    }

    /// Frames of unknown kinds that were skipped so far.
    pub fn skipped(&self) -> u64 {
        self.decoder.skipped()
    }

    fn decode(&mut self) -> Result<Option<Frame>, ContentError> {
        match self.decoder.decode(&mut self.rest)? {
            Some(frame @ (Frame::Data { .. } | Frame::Ack(_) | Frame::Probe { .. } | Frame::Probed { .. })) => {
                Ok(Some(frame))
            }
            Some(frame) => Err(ContentError::Misplaced(frame.name())),
            None if self.decoder.is_within_frame() => Err(ContentError::Truncated),
            None => Ok(None),
        }
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, ContentError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let frame = self.decode().transpose();
        self.is_over = !matches!(frame, Some(Ok(_)));
        frame
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::Code;

    fn encoded(frames: &[Frame]) -> Bytes {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        bytes.freeze()
    }

    fn data(sequence: u64) -> Frame {
        Frame::Data { sequence, timestamp_us: 0, payload: Bytes::from_static(b"audio") }
    }

    #[test]
    fn a_datagram_may_carry_several_frames() {
        let sent = [data(1), Frame::Probe { token: 5 }, data(2), Frame::Probed { token: 6 }];
        let bytes = encoded(&sent);
        let received: Vec<_> = frames(bytes.clone()).map(Result::unwrap).collect();
        assert_eq!(received, sent);
        let Frame::Data { payload, .. } = &received[0] else { panic!() };
        assert!(bytes.as_ptr_range().contains(&payload.as_ptr()), "the payload is not copied");
        assert_eq!(frames(Bytes::new()).next(), None);
    }

    #[test]
    fn a_kind_of_a_later_version_is_skipped() {
        let bytes = [&[2, 0x7f, 1][..], &encoded(&[data(1)]), &[1, 0x7e]].concat();
        let mut all = frames(Bytes::from(bytes));
        assert_eq!((all.next(), all.next(), all.skipped()), (Some(Ok(data(1))), None, 2));
    }

    #[test]
    fn a_datagram_that_ends_within_a_frame_is_refused() {
        let whole = encoded(&[data(1), data(2)]);
        for len in 1..whole.len() {
            let results: Vec<_> = frames(whole.slice(..len)).collect();
            let first = whole.len() / 2;
            let expected = match len {
                len if len == first => vec![Ok(data(1))],
                len if len < first => vec![Err(ContentError::Truncated)],
                _ => vec![Ok(data(1)), Err(ContentError::Truncated)],
            };
            assert_eq!(results, expected, "{len} bytes");
        }
    }

    #[test]
    fn what_opens_and_closes_a_stream_comes_on_the_substream_alone() {
        for frame in [Frame::Accept, Frame::Close { code: Code::Application, next_sequence: 0, reason: String::new() }]
        {
            let results: Vec<_> = frames(encoded(&[data(1), frame.clone(), data(2)])).collect();
            assert_eq!(results, [Ok(data(1)), Err(ContentError::Misplaced(frame.name()))]);
        }
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        let mut all = frames(Bytes::from_static(&[0, 1, 2]));
        assert_eq!((all.next(), all.next()), (Some(Err(ContentError::Wire(WireError::Empty))), None));
    }
}
