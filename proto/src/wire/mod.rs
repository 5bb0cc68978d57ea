//! Audio on the wire: the byte layout of `/avi/audio/2.0.0`.
//!
//! One libp2p substream carries one audio stream, in both directions. Each direction is a sequence of frames:
//!
//! ```text
//! frame   = length: uvarint   bytes that follow, 1 ..= max_audio_frame_bytes + 21
//!         · kind:   u8
//!         · body
//! ```
//!
//! | kind | frame  | body |
//! |------|--------|------|
//! | 0x01 | OPEN   | version: u8 (1) · flags: u8 (bit 0: media, bit 1: label, others 0) · \[media\] · \[label: text ≤ 256\] |
//! |      | media  | codec: text ≤ 32 · sample_rate_hz: u32 · channels: u8 · frame_duration_us: u32 |
//! | 0x02 | ACCEPT | empty |
//! | 0x03 | REJECT | code: u8 · reason: text ≤ 256 |
//! | 0x04 | DATA   | sequence: uvarint · timestamp_us: uvarint · payload: 1 ..= max_audio_frame_bytes bytes, to the end |
//! | 0x05 | CLOSE  | code: u8 · next_sequence: uvarint · reason: text ≤ 256 |
//! | 0x06 | REPORT | highest_sequence: uvarint · lost: uvarint · late: uvarint · jitter_us: uvarint |
//! | 0x07 | ACK    | highest_sequence: uvarint · received: uvarint · delay_us: uvarint |
//! | 0x08 | MEDIA  | version: u8 (1) · flags: u8 (0) · port: u16 (not 0) · id: 8 bytes · key: 32 bytes |
//! | 0x09 | PROBE  | token: u64 |
//! | 0x0a | PROBED | token: u64 |
//! | 0x0b | RESUMABLE | token: 16 bytes |
//! | 0x0c | RESUME | token: 16 bytes · next_sequence: uvarint |
//!
//! - `uvarint`: multiformats' unsigned varint of at most 64 bits, in its shortest form. `u16` to `u64`: big-endian.
//! - `text`: length in bytes as uvarint, then UTF-8.
//! - Unknown kinds below 0x80 are skipped, so that a later version may add some; unknown kinds at or above 0x80 end
//!   the stream. Bytes left over after a known body end the stream.
//! - Codes of REJECT and CLOSE: 0 the application wanted it, 1 a timeout, 2 a limit, 3 a broken rule.
//! - `sequence` counts the frames that the sender's application gave, from 0; frames that the sender dropped leave a
//!   hole. `timestamp_us` counts from the stream's first frame. `next_sequence` of CLOSE is the number of frames given
//!   in all, so that drops at the end are seen too.
//! - REPORT comes about once a second while audio arrives, ACK about every 100 ms. `highest_sequence` of ACK resolves that
//!   frame and all before it; `received` is the number of frames that have arrived; `delay_us` is the transit of the newest
//!   frame over the least recent one. Each end sends an ACK of zeros when the stream opens: it says that ACKs will come.
//! - MEDIA invites the other end to send datagrams: to the address at which it knows this end, with this port. Its id
//!   and key are those of [`path`](crate::path), which says how a datagram looks. Another version of it is skipped.
//! - PROBE asks whether a path works, PROBED answers with its token: on the substream, in a datagram, or both.
//! - RESUMABLE, at most once a substream: this end can go on with the stream on another connection. The accepting end
//!   sends it after ACCEPT, the requesting end after it has got one. An end that has not sent it ends the stream with
//!   its connection.
//! - RESUME is the first frame of a new substream, in place of OPEN, with the other end's token. The other end answers
//!   with RESUME and the same token, then RESUMABLE with a new one; or with REJECT. `next_sequence` is the sequence of
//!   the next frame of this direction. What is missing before it, the old connection has lost.

mod decoder;
mod frame;
mod reader;
#[cfg(test)]
mod tests;

pub use decoder::{Decoder, MAX_PREFIX_BYTES};
pub use frame::{
    Ack, Code, DATA_OVERHEAD_BYTES, Frame, Invitation, MAX_REASON_BYTES, Open, Report, Token, WIRE_VERSION, data_bytes,
    encode_data,
};
#[cfg(feature = "context")]
pub(crate) use reader::Reader;
pub use reader::WireError;
