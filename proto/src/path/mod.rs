//! Audio by datagrams: how they look, where they go, and in which order their frames are played.
//!
//! Each end of a stream invites the other with MEDIA, over the substream, to send it datagrams. A direction whose path
//! works takes datagrams; the other direction may take the substream. The parts:
//!
//! - [`Secrets`] makes the id and the key of an invitation. [`Sealer`] and [`Opener`] are the two ends of its session.
//! - [`Route`] is the sender's: which address takes datagrams, if any does.
//! - [`Redundancy`] is the sender's: which datagram also carries the frame before its own.
//! - [`Order`] is the receiver's: frames of both paths, each once, in order.
//!
//! # A datagram
//!
//! ```text
//! datagram  = id: 8 bytes · counter: u64 · ciphertext · tag: 16 bytes        at most MAX_DATAGRAM_BYTES
//! plaintext = frames, as on the substream: DATA, ACK, PROBE, PROBED, kinds that are skipped
//! ```
//!
//! ChaCha20-Poly1305 (RFC 8439) seals it: nonce = four zero bytes · counter, additional data = id · counter, `u64`
//! big-endian. The receiver of the datagrams has chosen id and key. The sender counts from 0, and never repeats.
//! `docs/media.md` has the reasons, and what an attacker can do.

mod contents;
mod keys;
mod order;
mod probes;
mod redundancy;
mod route;
mod schedule;
mod seen;
mod session;
mod watch;
mod window;

pub use contents::{ContentError, Frames, frames};
#[cfg(feature = "recorder")]
pub use keys::Drawn;
pub use keys::{Key, Secrets, SessionId};
pub use order::{Arrival, Order, REORDER_WITHIN, Via};
pub use redundancy::Redundancy;
pub use route::{Route, RouteStats, Transmit};
pub use session::{
    MAX_DATAGRAM_BYTES, MAX_PLAINTEXT_BYTES, OVERHEAD_BYTES, OpenError, Opened, Opener, SealError, Sealer,
};
pub use window::Window;

use bytes::{Bytes, BytesMut};

use crate::wire::{data_bytes, encode_data};

/// One frame of audio: the body of DATA.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct AudioFrame {
    /// The index of the frame, counted from 0 by the sender.
    pub sequence: u64,
    /// Microseconds since the stream's first frame.
    pub timestamp_us: u64,
    /// The audio.
    #[cfg_attr(feature = "recorder", serde(with = "crate::recording::lengths"))]
    pub payload: Bytes,
}

impl AudioFrame {
    /// The number of bytes that [`encode`](Self::encode) appends.
    pub fn encoded_bytes(&self) -> usize {
        data_bytes(self.sequence, self.timestamp_us, self.payload.len())
    }

    /// Appends the frame to `out` as DATA.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_data(self.sequence, self.timestamp_us, &self.payload, out);
    }
}
