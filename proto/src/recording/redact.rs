//! What of the bytes of a call is not kept? The payloads of DATA, unless asked for, and the keys of MEDIA, ever.
//! Headers and the other frames are.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Deserializer, Serializer};

use super::runs;

/// Kinds of frames, as in the table of [`wire`](crate::wire).
const DATA: u8 = 0x04;
const MEDIA: u8 = 0x08;
const LAST: u8 = 0x0c;
/// Where in the body of MEDIA the key is: after version, flags, port and id.
const KEY: std::ops::Range<usize> = 12..44;

/// Follows the frames of one direction of a substream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scanner {
    at: At,
    /// Of the frame: bytes that are still to come.
    rest: usize,
    /// Of the frame: bytes that came after its kind.
    read: usize,
    /// Of DATA: varints that came to their end.
    varints: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// In the length, of which so much is known.
    Length {
        bits: u32,
        value: u64,
    },
    /// Before the kind.
    #[default]
    Start,
    Kind,
    Data,
    Media,
    /// Of another kind of the table.
    Known,
    /// Of a later version, which may have anything in it.
    Unknown,
}

/// What of the payloads is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Nothing.
    Lengths,
    /// All of it, but never a key.
    Payloads,
}

impl Scanner {
    /// Within a frame of so many bytes.
    fn within(len: usize) -> Self {
        Self { at: At::Kind, rest: len, ..Self::default() }
    }

    /// Overwrites what is not kept with zeros. Adds the payloads to `hash`.
    pub(super) fn redact(&mut self, bytes: &mut [u8], keep: Keep, mut payload: impl FnMut(&[u8])) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.at {
                At::Start | At::Length { .. } => {
                    self.on_length(byte);
                    at += 1;
                }
                At::Kind => {
                    self.at = match byte {
                        DATA => At::Data,
                        MEDIA => At::Media,
                        ..=LAST => At::Known,
                        _ => At::Unknown,
                    };
                    (self.read, self.varints) = (0, 0);
                    at += 1;
                    self.pass(1);
                }
                At::Data if self.varints < 2 => {
                    // A varint of more than ten bytes is none: the decoder looks no further.
                    self.read += 1;
                    if byte & 0x80 == 0 || self.read == 10 {
                        (self.varints, self.read) = (self.varints + 1, 0);
                    }
                    at += 1;
                    self.pass(1);
                }
                At::Data => {
                    let end = bytes.len().min(at.saturating_add(self.rest));
                    payload(&bytes[at..end]);
                    if keep == Keep::Lengths {
                        bytes[at..end].fill(0);
                    }
                    self.pass(end - at);
                    at = end;
                }
                At::Media => {
                    if KEY.contains(&self.read) {
                        bytes[at] = 0;
                    }
                    self.read += 1;
                    at += 1;
                    self.pass(1);
                }
                At::Known | At::Unknown => {
                    let end = bytes.len().min(at.saturating_add(self.rest));
                    if self.at == At::Unknown {
                        bytes[at..end].fill(0);
                    }
                    self.pass(end - at);
                    at = end;
                }
            }
        }
    }

    fn on_length(&mut self, byte: u8) {
        let (bits, value) = if let At::Length { bits, value } = self.at { (bits, value) } else { (0, 0) };
        let value = value | u64::from(byte & 0x7f).checked_shl(bits).unwrap_or(0);
        if byte & 0x80 != 0 && bits < 63 {
            self.at = At::Length { bits: bits + 7, value };
            return;
        }
        self.rest = usize::try_from(value).unwrap_or(usize::MAX);
        self.at = if self.rest == 0 { At::Start } else { At::Kind };
    }

    fn pass(&mut self, bytes: usize) {
        self.rest = self.rest.saturating_sub(bytes);
        if self.rest == 0 {
            self.at = At::Start;
        }
    }
}

/// Whole frames that wait to be sent.
pub(crate) mod frames {
    use super::{Bytes, BytesMut, Deserializer, Keep, Scanner, Serializer, runs};

    pub(crate) fn serialize<S: Serializer>(frames: &BytesMut, serializer: S) -> Result<S::Ok, S::Error> {
        let mut frames = frames.clone();
        Scanner::default().redact(&mut frames, Keep::Lengths, |_| ());
        runs::serialize(&frames, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BytesMut, D::Error> {
        runs::deserialize(deserializer).map(|bytes: Bytes| BytesMut::from(bytes))
    }
}

/// The part of a frame that has come, without its length.
pub(crate) mod partial {
    use super::{Bytes, BytesMut, Deserialize, Deserializer, Keep, Scanner, Serializer, runs};
    use serde::de::Error as _;

    /// No frame is longer.
    const MAX_BYTES: usize = 1024 * 1024 + 64;

    pub(crate) fn serialize<S: Serializer>(partial: &BytesMut, serializer: S) -> Result<S::Ok, S::Error> {
        let mut partial = partial.clone();
        Scanner::within(usize::MAX).redact(&mut partial, Keep::Lengths, |_| ());
        runs::serialize(&partial, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BytesMut, D::Error> {
        #[derive(Deserialize)]
        struct Partial(#[serde(with = "runs")] Bytes);
        let Partial(bytes) = Partial::deserialize(deserializer)?;
        match bytes.len() <= MAX_BYTES {
            true => Ok(BytesMut::from(bytes)),
            false => Err(D::Error::custom("a part of a frame that is longer than a frame")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{Key, SessionId};
    use crate::wire::{Code, Decoder, Frame, Invitation};

    fn sent() -> Vec<u8> {
        let media = Invitation { port: 9, id: SessionId::new([3; 8]), key: Key::new([0xEE; 32]) };
        let data = |sequence, len| Frame::Data { sequence, timestamp_us: 7 << 30, payload: vec![0xAA; len].into() };
        let close = Frame::Close { code: Code::Application, next_sequence: 9, reason: "enough".to_owned() };
        let mut bytes = BytesMut::new();
        for frame in [data(1, 1), Frame::Media(media), data(1 << 40, 300), Frame::Accept, close] {
            frame.encode(&mut bytes);
        }
        bytes.to_vec()
    }

    fn redacted(bytes: &[u8], cut: usize, keep: Keep) -> Vec<u8> {
        let (mut bytes, mut scanner) = (bytes.to_vec(), Scanner::default());
        bytes.chunks_mut(cut).for_each(|piece| scanner.redact(piece, keep, |_| ()));
        bytes
    }

    #[test]
    fn payloads_and_keys_are_zeros_and_the_frames_are_the_same_wherever_the_bytes_are_cut() {
        let sent = sent();
        let whole = redacted(&sent, sent.len(), Keep::Lengths);
        assert!(!whole.contains(&0xAA) && !whole.windows(8).any(|some| some == [0xEE; 8]));
        for cut in 1..sent.len() {
            assert_eq!(redacted(&sent, cut, Keep::Lengths), whole, "pieces of {cut}");
        }
        let (mut decoder, mut bytes, mut names) = (Decoder::new(1000), Bytes::from(whole), Vec::new());
        while let Some(frame) = decoder.decode(&mut bytes).unwrap() {
            names.push(frame.name());
        }
        assert_eq!(names, ["DATA", "MEDIA", "DATA", "ACCEPT", "CLOSE"]);
    }

    #[test]
    fn a_key_is_not_kept_if_payloads_are() {
        let kept = redacted(&sent(), 7, Keep::Payloads);
        assert!(kept.contains(&0xAA) && !kept.contains(&0xEE));
    }

    #[test]
    fn bytes_that_are_no_frames_are_passed() {
        for bytes in [&[0xff; 40][..], &[0; 9], &[1, DATA, 1, DATA, 3, DATA, 0x80, 0x80, 9]] {
            redacted(bytes, 3, Keep::Lengths);
        }
    }
}
