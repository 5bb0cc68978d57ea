//! How does a recording look? Segments, each of which can be replayed by itself.
//!
//! ```text
//! recording = segment · segment · …
//! segment   = magic: 7 bytes "avi-rec" · format: u8 (1) · item of HEAD · item of STATE · items of RECORD · [item of END]
//! item      = kind: u8 · length of body: uvarint · checksum: u32 little-endian · body
//! ```
//!
//! | kind | item   | body, in [postcard](https://postcard.jamesmunns.com/wire-format) |
//! |------|--------|------|
//! | 0x01 | HEAD   | [`Head`] |
//! | 0x02 | STATE  | the engine, without secrets; only the version that wrote it reads it |
//! | 0x03 | RECORD | [`Record`] |
//! | 0x04 | END    | text: why nothing more is recorded |
//!
//! The checksum is the lower half of SipHash-1-3 of the body with the kind as the key. It finds damage, and not malice.

use std::hash::Hasher as _;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::error::RecordingError;
use super::options::Content;
use crate::engine::{Input, Taken, Time};
use crate::id::PeerId;

/// What a segment begins with, before the format.
pub const MAGIC: [u8; 7] = *b"avi-rec";
/// The format that this version writes and reads.
pub const FORMAT: u8 = 1;
/// The longest body of an item: a state is at most a quarter of a ring.
const MAX_BODY_BYTES: usize = 512 * 1024 * 1024;

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Head = 1,
    State = 2,
    Record = 3,
    End = 4,
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of `avi-p2p-proto` that has written it.
    pub version: String,
    /// Whether it was built with the feature `context`.
    pub has_context: bool,
    /// Whether payloads were kept.
    pub content: Content,
    /// Whether ids, names and addresses are to be shown as [`Pseudonyms`](super::Pseudonyms).
    pub pseudonyms: bool,
    /// The node.
    #[serde(with = "super::unchecked")]
    pub local: PeerId,
    /// Wall time in milliseconds since 1970 at [`Time::ZERO`].
    pub unix_millis: u64,
    /// The number of its first record, from 0.
    pub first: u64,
    /// The engine's time at its begin.
    pub time: Time,
    /// Why it begins.
    pub began: Began,
}

/// Why a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Began {
    /// The node has started.
    Start,
    /// Half of the ring was full. It goes on where the segment before it ends.
    Full,
    /// Inputs before it were not recorded: the disk was too slow, or refused to take them.
    Gap,
}

/// What went into the engine once, and what came out.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Nanoseconds since the record before it, or the begin of the segment.
    pub(super) elapsed_ns: u128,
    /// The wall time that the engine was told before it: milliseconds since the last one that it was told in this
    /// segment.
    pub(super) wall: Option<i64>,
    pub(super) event: Event,
    pub(super) taken: Option<Taken>,
    /// A keyed hash of the payloads, the same for the same payloads in one run of a node.
    pub(super) payload: Option<u64>,
    /// `None` if the engine has panicked.
    pub(super) answer: Option<Answer>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    Input(Input),
    Timeout,
}

/// What came out of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The number of outputs.
    pub outputs: u32,
    /// A digest of them: kinds, ids, lengths.
    pub digest: u64,
}

pub(super) fn put_magic(into: &mut Vec<u8>) {
    into.extend_from_slice(&MAGIC);
    into.push(FORMAT);
}

pub(super) fn put_item(kind: Kind, body: &[u8], into: &mut Vec<u8>) {
    into.push(kind as u8);
    into.extend_from_slice(unsigned_varint::encode::usize(body.len(), &mut unsigned_varint::encode::usize_buffer()));
    into.extend_from_slice(&checksum(kind, body).to_le_bytes());
    into.extend_from_slice(body);
}

/// Appends a value to a body.
pub(super) fn put_value<T: Serialize + ?Sized>(value: &T, into: &mut Vec<u8>) -> Result<(), postcard::Error> {
    *into = postcard::to_extend(value, std::mem::take(into))?;
    Ok(())
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half")]
fn checksum(kind: Kind, body: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(kind as u64, 0);
    hasher.write(body);
    hasher.finish() as u32
}

/// A part of a recording.
#[derive(Debug)]
pub(super) enum Part<'a> {
    /// A segment begins.
    Begin,
    Item {
        kind: Kind,
        body: &'a [u8],
    },
}

/// Makes the checksum of the item at `offset` right, if there is one: for what looks at damaged recordings.
#[doc(hidden)]
pub fn reseal(bytes: &mut [u8], offset: usize) {
    let kind = match bytes.get(offset) {
        Some(2) => Kind::State,
        Some(3) => Kind::Record,
        _ => return,
    };
    let Some(rest) = bytes.get_mut(offset + 1..) else { return };
    let Ok((len, after)) = unsigned_varint::decode::usize(rest) else { return };
    let at = rest.len() - after.len();
    let Some((sum, body)) = rest[at..].split_first_chunk_mut() else { return };
    if let Some(body) = body.get(..len) {
        *sum = checksum(kind, body).to_le_bytes();
    }
}

/// Changes the answer of the record at `offset`.
#[cfg(test)]
pub(crate) fn plant(bytes: &mut Vec<u8>, offset: usize) {
    let Ok(Some((Part::Item { kind: Kind::Record, body }, next))) = part(bytes, offset) else { panic!("no record") };
    let mut record: Record = value(body, offset, "a record").unwrap();
    record.answer.as_mut().unwrap().digest ^= 1;
    let (mut body, mut item) = (Vec::new(), Vec::new());
    put_value(&record, &mut body).unwrap();
    put_item(Kind::Record, &body, &mut item);
    bytes.splice(offset..next, item);
}

/// The part at `at`, and where the next one is; `None` at the end.
pub(super) fn part(bytes: &[u8], at: usize) -> Result<Option<(Part<'_>, usize)>, RecordingError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(&first) = rest.first() else { return Ok(None) };
    let kind = match first {
        1 => Kind::Head,
        2 => Kind::State,
        3 => Kind::Record,
        4 => Kind::End,
        _ => return begin(rest, at).map(|next| Some((Part::Begin, next))),
    };
    let truncated = |expected| RecordingError::Truncated { offset: bytes.len(), began: at, expected };
    let damaged = |expected| RecordingError::Damaged { offset: at, expected };
    let (len, after) = match unsigned_varint::decode::usize(&rest[1..]) {
        Ok(read) => read,
        Err(unsigned_varint::decode::Error::Insufficient) => return Err(truncated("the length of an item")),
        Err(_) => return Err(damaged("the length of an item, as a varint".to_owned())),
    };
    if len > MAX_BODY_BYTES {
        return Err(damaged(format!("an item of at most {MAX_BODY_BYTES} bytes, and not of {len}")));
    }
    let (sum, after) = after.split_first_chunk().ok_or_else(|| truncated("the checksum of an item"))?;
    let (body, after) = after.split_at_checked(len).ok_or_else(|| truncated("the rest of an item"))?;
    let (found, expected) = (u32::from_le_bytes(*sum), checksum(kind, body));
    if found != expected {
        return Err(damaged(format!("the checksum {expected:08x}, and not {found:08x}")));
    }
    Ok(Some((Part::Item { kind, body }, bytes.len() - after.len())))
}

fn begin(rest: &[u8], at: usize) -> Result<usize, RecordingError> {
    let same = rest.iter().zip(&MAGIC).take_while(|(found, expected)| found == expected).count();
    if same < MAGIC.len() {
        return Err(match at {
            _ if same == rest.len() => RecordingError::Truncated {
                offset: at + same,
                began: at,
                expected: "the rest of a segment's first bytes",
            },
            0 => RecordingError::Foreign { offset: same },
            _ => RecordingError::Damaged { offset: at, expected: "an item or a segment".to_owned() },
        });
    }
    match rest.get(MAGIC.len()) {
        Some(&FORMAT) => Ok(at + MAGIC.len() + 1),
        Some(&found) => Err(RecordingError::Format { offset: at + MAGIC.len(), found }),
        None => {
            Err(RecordingError::Truncated { offset: at + MAGIC.len(), began: at, expected: "the format of a segment" })
        }
    }
}

/// The value in a body that was found at `offset`.
pub(super) fn value<T: DeserializeOwned>(body: &[u8], offset: usize, what: &str) -> Result<T, RecordingError> {
    let damaged = |expected| RecordingError::Damaged { offset, expected };
    let (value, rest) = postcard::take_from_bytes(body).map_err(|error| damaged(format!("{what} ({error})")))?;
    match rest {
        [] => Ok(value),
        rest => Err(damaged(format!("{what}, and not {} bytes after it", rest.len()))),
    }
}
