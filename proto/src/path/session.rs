//! How is a datagram sealed and opened? The layout is in [`path`](super).

use bytes::{BufMut, Bytes, BytesMut};
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use thiserror::Error;

use super::keys::{Key, SessionId};
use super::window::Window;

/// The largest datagram: with IPv6 and UDP headers it fills the 1,500 bytes of an Ethernet frame. A path with a smaller MTU
/// fragments or drops the largest ones. What does not fit goes by the substream.
pub const MAX_DATAGRAM_BYTES: usize = 1_452;
/// What sealing adds: id, counter and tag.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;
/// The most bytes of frames in a datagram.
pub const MAX_PLAINTEXT_BYTES: usize = MAX_DATAGRAM_BYTES - OVERHEAD_BYTES;

const HEADER_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// After that many forgeries a key is not used any more (RFC 9001 §6.6).
const MAX_FORGERIES: u64 = 1 << 36;

/// Why frames cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The frames do not fit a datagram.
    #[error("{len} bytes of frames exceed the {MAX_PLAINTEXT_BYTES} of a datagram")]
    TooLarge {
        /// The bytes of the frames.
        len: usize,
    },
    /// Every counter was used.
    #[error("the session has used all of its counters")]
    Exhausted,
}

/// Why a datagram cannot be opened. It gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Its length is not that of a sealed datagram.
    #[error("a datagram of {len} bytes: {OVERHEAD_BYTES} to {MAX_DATAGRAM_BYTES} are allowed")]
    Length {
        /// The bytes of the datagram.
        len: usize,
    },
    /// It is for another session.
    #[error("a datagram of another session")]
    OtherSession,
    /// It was not sealed with this key, or was changed.
    #[error("a datagram that is not authentic")]
    Forged,
    /// It came before, or is so old that it may have.
    #[error("datagram {counter} was replayed, or is too old")]
    Replayed {
        /// Its counter.
        counter: u64,
    },
    /// So many were forged that the key is not used any more.
    #[error("the key has seen too many forgeries")]
    WornOut,
}

/// The sending end of a session.
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Sealer {
    id: SessionId,
    #[cfg_attr(feature = "recorder", serde(skip))]
    cipher: Cipher,
    /// The next counter.
    next: u64,
}

impl Sealer {
    /// The sending end of a session that the other end invited to. A session has one, ever.
    pub fn new(id: SessionId, key: &Key) -> Self {
        Self { id, cipher: cipher(key), next: 0 }
    }

    /// The sending end of a session in a recording.
    #[cfg(feature = "recorder")]
    pub(super) fn recorded(id: SessionId) -> Self {
        Self { id, cipher: Cipher::Recorded, next: 0 }
    }

    /// Seals the `len` bytes of frames that `write` appends to the buffer it is given, which has exactly that room.
    ///
    /// # Errors
    /// [`SealError`], before `write` is called. [`SealError::TooLarge`] also if it appends more than fits.
    pub fn seal(&mut self, len: usize, write: impl FnOnce(&mut BytesMut)) -> Result<Bytes, SealError> {
        if len > MAX_PLAINTEXT_BYTES {
            return Err(SealError::TooLarge { len });
        }
        // The last counter stays unused: it has no successor.
        let after = self.next.checked_add(1).ok_or(SealError::Exhausted)?;
        let mut datagram = BytesMut::with_capacity(OVERHEAD_BYTES + len);
        datagram.put_slice(self.id.as_bytes());
        datagram.put_u64(self.next);
        write(&mut datagram);
        let len = datagram.len() - HEADER_BYTES;
        if len > MAX_PLAINTEXT_BYTES {
            return Err(SealError::TooLarge { len });
        }
        let (header, frames) = datagram.split_at_mut(HEADER_BYTES);
        let sealed = self.cipher.seal(self.next, header, frames);
        // ChaCha20 takes 256 GiB.
        let tag = sealed.ok_or(SealError::TooLarge { len })?;
        datagram.put_slice(&tag);
        self.next = after;
        Ok(datagram.freeze())
    }
}

/// The receiving end of a session.
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Opener {
    id: SessionId,
    #[cfg_attr(feature = "recorder", serde(skip))]
    cipher: Cipher,
    seen: Window,
    forgeries: u64,
}

/// An authentic datagram that is no replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its counter.
    pub counter: u64,
    /// Whether no datagram with a higher counter came before. Only such a one says where its sender is.
    pub is_newest: bool,
    /// Its frames, for [`frames`](super::frames).
    pub plaintext: Bytes,
}

impl Opener {
    /// The receiving end of the session that it invited to.
    pub fn new(id: SessionId, key: &Key) -> Self {
        Self { id, cipher: cipher(key), seen: Window::default(), forgeries: 0 }
    }

    /// The receiving end of a session in a recording.
    #[cfg(feature = "recorder")]
    pub(super) fn recorded(id: SessionId) -> Self {
        Self { id, cipher: Cipher::Recorded, seen: Window::default(), forgeries: 0 }
    }

    /// Opens a datagram. It is decrypted in its own buffer, unless somebody else has that too.
    ///
    /// # Errors
    /// [`OpenError`], which the caller counts. A datagram that is not authentic changes nothing.
    pub fn open(&mut self, datagram: Bytes) -> Result<Opened, OpenError> {
        let len = datagram.len();
        if !(OVERHEAD_BYTES..=MAX_DATAGRAM_BYTES).contains(&len) {
            return Err(OpenError::Length { len });
        }
        if SessionId::of(&datagram) != Some(self.id) {
            return Err(OpenError::OtherSession);
        }
        if self.forgeries >= MAX_FORGERIES {
            return Err(OpenError::WornOut);
        }
        let mut datagram = datagram.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let counter = self.authenticate(&mut datagram).ok_or(OpenError::Forged).inspect_err(|_| self.forgeries += 1)?;
        // Checked after the authentication, so that a forger cannot make a counter count as seen.
        let is_newest = self.seen.is_highest(counter);
        if !self.seen.insert(counter) {
            return Err(OpenError::Replayed { counter });
        }
        let plaintext = datagram.freeze().slice(HEADER_BYTES..len - TAG_BYTES);
        Ok(Opened { counter, is_newest, plaintext })
    }

    /// Decrypts the frames in place. Returns the counter.
    fn authenticate(&self, datagram: &mut [u8]) -> Option<u64> {
        let (header, sealed) = datagram.split_at_mut_checked(HEADER_BYTES)?;
        let (frames, tag) = sealed.split_at_mut_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
        let counter = u64::from_be_bytes(*header.last_chunk()?);
        self.cipher.open(counter, header, frames, tag).then_some(counter)
    }
}

fn cipher(key: &Key) -> Cipher {
    Cipher::Sealed(ChaCha20Poly1305::new(key.as_bytes().into()))
}

/// What seals the datagrams of a session.
#[cfg_attr(feature = "recorder", derive(Default))]
enum Cipher {
    Sealed(ChaCha20Poly1305),
    /// Nothing: a recording has frames that were opened, and no key. The tag of an authentic datagram is zeros.
    #[cfg(feature = "recorder")]
    #[default]
    Recorded,
}

impl Cipher {
    /// Encrypts the frames in place, and returns the tag.
    fn seal(&self, counter: u64, header: &[u8], frames: &mut [u8]) -> Option<Tag> {
        match self {
            Self::Sealed(cipher) => cipher.encrypt_in_place_detached(&nonce(counter), header, frames).ok(),
            #[cfg(feature = "recorder")]
            Self::Recorded => Some(Tag::default()),
        }
    }

    /// Decrypts the frames in place. Returns whether they are authentic.
    fn open(&self, counter: u64, header: &[u8], frames: &mut [u8], tag: &[u8]) -> bool {
        match self {
            Self::Sealed(cipher) => {
                cipher.decrypt_in_place_detached(&nonce(counter), header, frames, Tag::from_slice(tag)).is_ok()
            }
            #[cfg(feature = "recorder")]
            Self::Recorded => tag.iter().all(|byte| *byte == 0),
        }
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

// Neither prints its key.

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("id", &self.id).field("next", &self.next).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("id", &self.id).field("forgeries", &self.forgeries).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tests/session.rs"]
mod tests;
