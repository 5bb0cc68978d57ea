//! A bounds-checked cursor over one frame's body, whose errors name the field.

use bytes::{Buf, Bytes};
use thiserror::Error;

/// Why bytes cannot be decoded as a frame. The stream that they came on must end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// The length prefix exceeds the limit; nothing was allocated for it.
    #[error("frame of {len} bytes exceeds {max}")]
    FrameTooLarge {
        /// The announced length.
        len: u64,
        /// The largest length allowed.
        max: usize,
    },
    /// The length prefix is zero: there is no room for a kind.
    #[error("frame without a kind")]
    Empty,
    /// A varint is longer than 64 bits or not in its shortest form.
    #[error("{field} is not a minimal varint of 64 bits")]
    BadVarint {
        /// Frame and field.
        field: &'static str,
    },
    /// The body ends within a field.
    #[error("the frame ends within {field}")]
    Truncated {
        /// Frame and field.
        field: &'static str,
    },
    /// A value is outside of its range.
    #[error("{field} = {value} is out of range")]
    OutOfRange {
        /// Frame and field.
        field: &'static str,
        /// The value.
        value: u64,
    },
    /// A text is not UTF-8.
    #[error("{field} is not UTF-8")]
    NotUtf8 {
        /// Frame and field.
        field: &'static str,
    },
    /// A field does not have the form that it must have.
    #[error("{field} is invalid")]
    Invalid {
        /// Frame and field.
        field: &'static str,
    },
    /// Bytes are left after the body.
    #[error("{extra} bytes left over after {frame}")]
    TrailingBytes {
        /// The frame.
        frame: &'static str,
        /// The number of bytes left.
        extra: usize,
    },
    /// A kind that may not be skipped and is not known.
    #[error("unknown critical frame kind {kind:#04x}")]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
}

/// Reads a minimal varint of at most 64 bits. Returns its value and its length in bytes.
#[inline]
pub(super) fn read_uvarint(bytes: &[u8], field: &'static str) -> Result<(u64, usize), WireError> {
    let (value, rest) = unsigned_varint::decode::u64(bytes).map_err(|error| match error {
        unsigned_varint::decode::Error::Insufficient => WireError::Truncated { field },
        _ => WireError::BadVarint { field },
    })?;
    let used = bytes.len() - rest.len();
    // The tenth byte has room for bit 63 only; the library silently drops higher bits.
    match bytes[..used] {
        [_, _, _, _, _, _, _, _, _, last] if last > 1 => Err(WireError::BadVarint { field }),
        _ => Ok((value, used)),
    }
}

/// Reads fields from the front of a frame's body.
pub(crate) struct Reader {
    body: Bytes,
}

impl Reader {
    #[inline]
    pub(crate) fn new(body: Bytes) -> Self {
        Self { body }
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.body.try_get_u8().map_err(|_| WireError::Truncated { field })
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.body.try_get_u16().map_err(|_| WireError::Truncated { field })
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.body.try_get_u32().map_err(|_| WireError::Truncated { field })
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.body.try_get_u64().map_err(|_| WireError::Truncated { field })
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        self.body.try_copy_to_slice(&mut array).map_err(|_| WireError::Truncated { field })?;
        Ok(array)
    }

    #[inline]
    pub(crate) fn uvarint(&mut self, field: &'static str) -> Result<u64, WireError> {
        let (value, used) = read_uvarint(&self.body, field)?;
        self.body.advance(used);
        Ok(value)
    }

    /// Whether nothing is left.
    #[cfg(feature = "context")]
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Bytes after their length.
    pub(crate) fn bytes(&mut self, field: &'static str, max_bytes: usize) -> Result<Bytes, WireError> {
        let len = self.uvarint(field)?;
        let bytes = usize::try_from(len).ok().filter(|bytes| *bytes <= max_bytes);
        let bytes = bytes.ok_or(WireError::OutOfRange { field, value: len })?;
        if bytes > self.body.len() {
            return Err(WireError::Truncated { field });
        }
        Ok(self.body.split_to(bytes))
    }

    pub(crate) fn text(&mut self, field: &'static str, max_bytes: usize) -> Result<String, WireError> {
        let text = self.bytes(field, max_bytes)?;
        std::str::from_utf8(&text).map(str::to_owned).map_err(|_| WireError::NotUtf8 { field })
    }

    /// Returns the rest of the body, which shares the frame's buffer.
    #[inline]
    pub(crate) fn rest(self) -> Bytes {
        self.body
    }

    pub(crate) fn finish(self, frame: &'static str) -> Result<(), WireError> {
        match self.body.len() {
            0 => Ok(()),
            extra => Err(WireError::TrailingBytes { frame, extra }),
        }
    }
}
