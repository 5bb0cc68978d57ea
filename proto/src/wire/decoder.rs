//! Decodes frames from bytes that arrive in pieces of any size.

use bytes::{Buf, Bytes, BytesMut};

use super::frame::Frame;
use super::reader::{WireError, read_uvarint};

/// The longest length prefix: a varint of 64 bits.
pub const MAX_PREFIX_BYTES: usize = 10;

/// An incremental decoder. However the bytes are split, it gives the same frames and the same error.
///
/// It holds at most one frame. A frame that lies within one piece is not copied: its payload shares the piece. An
/// error is terminal: every later call returns it again and consumes nothing.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Decoder {
    max_frame_bytes: usize,
    /// The received part of the length prefix.
    prefix: [u8; MAX_PREFIX_BYTES],
    prefix_len: usize,
    /// The length of the frame, once it is known.
    frame_len: Option<usize>,
    /// The part of the frame that came in earlier pieces.
    #[cfg_attr(feature = "recorder", serde(with = "crate::recording::partial"))]
    partial: BytesMut,
    #[cfg_attr(feature = "recorder", serde(skip))]
    failed: Option<WireError>,
    skipped: u64,
}

impl Decoder {
    /// `max_frame_bytes` bounds the length without the length prefix.
    pub fn new(max_frame_bytes: usize) -> Self {
        Self {
            max_frame_bytes,
            prefix: [0; MAX_PREFIX_BYTES],
            prefix_len: 0,
            frame_len: None,
            partial: BytesMut::new(),
            failed: None,
            skipped: 0,
        }
    }

    /// The next frame, or `None` if `input` is used up and the frame is incomplete.
    ///
    /// # Errors
    /// [`WireError`] for the first frame that breaks the rules, and again at every call after it.
    #[inline]
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Frame>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance(input).inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Frames of unknown kinds that were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Bytes buffered for an incomplete frame, without its length prefix.
    pub fn buffered_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Whether a part of a frame has come, and the rest has not.
    pub fn is_within_frame(&self) -> bool {
        self.prefix_len > 0 || self.frame_len.is_some()
    }

    #[inline]
    fn advance(&mut self, input: &mut Bytes) -> Result<Option<Frame>, WireError> {
        loop {
            let frame_len = match self.frame_len {
                Some(frame_len) => frame_len,
                None => match self.read_prefix(input)? {
                    Some(frame_len) => *self.frame_len.insert(frame_len),
                    None => return Ok(None),
                },
            };
            let missing = frame_len - self.partial.len();
            if input.len() < missing {
                // Reserved at once and exactly, so that the whole frame needs no other allocation.
                self.partial.reserve(missing);
                self.partial.extend_from_slice(input);
                input.clear();
                return Ok(None);
            }
            let rest = input.split_to(missing);
            let frame = if self.partial.is_empty() {
                rest
            } else {
                self.partial.extend_from_slice(&rest);
                std::mem::take(&mut self.partial).freeze()
            };
            self.frame_len = None;
            match Frame::decode(frame)? {
                Some(frame) => return Ok(Some(frame)),
                None => self.skipped += 1,
            }
        }
    }

    #[inline]
    fn read_prefix(&mut self, input: &mut Bytes) -> Result<Option<usize>, WireError> {
        const FIELD: &str = "length";
        while input.has_remaining() {
            let byte = input.get_u8();
            self.prefix[self.prefix_len] = byte;
            self.prefix_len += 1;
            if byte & 0x80 == 0 {
                let (len, _) = read_uvarint(&self.prefix[..self.prefix_len], FIELD)?;
                self.prefix_len = 0;
                return match usize::try_from(len) {
                    Ok(0) => Err(WireError::Empty),
                    Ok(frame_len) if frame_len <= self.max_frame_bytes => Ok(Some(frame_len)),
                    _ => Err(WireError::FrameTooLarge { len, max: self.max_frame_bytes }),
                };
            }
            if self.prefix_len == MAX_PREFIX_BYTES {
                return Err(WireError::BadVarint { field: FIELD });
            }
        }
        Ok(None)
    }
}
