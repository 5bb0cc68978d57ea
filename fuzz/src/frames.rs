//! Is the frame code correct for any bytes? Compared with a second implementation of the byte-layout table in
//! `wire/mod.rs`.

use avi_p2p_proto::media::{MAX_CODEC_BYTES, MAX_LABEL_BYTES, Media};
use avi_p2p_proto::path::{Key, SessionId};
use avi_p2p_proto::wire::{Ack, Code, Decoder, Frame, Invitation, MAX_REASON_BYTES, Open, Report, Token, WireError};
use bytes::{Bytes, BytesMut};

use super::script::Script;

/// Limits on both sides of every varint length, and that of the default configuration.
const LIMITS: [usize; 8] = [1, 2, 22, 127, 128, 300, 16_384, 65_557];

/// The name of the frame with this body, if the table has it.
pub(super) fn known(body: &[u8]) -> Option<&'static str> {
    match body {
        [1, ..] => Some("OPEN"),
        [2, ..] => Some("ACCEPT"),
        [3, ..] => Some("REJECT"),
        [4, ..] => Some("DATA"),
        [5, ..] => Some("CLOSE"),
        [6, ..] => Some("REPORT"),
        [7, ..] => Some("ACK"),
        // Another version is skipped.
        [8] | [8, 1, ..] => Some("MEDIA"),
        [9, ..] => Some("PROBE"),
        [10, ..] => Some("PROBED"),
        [11, ..] => Some("RESUMABLE"),
        [12, ..] => Some("RESUME"),
        _ => None,
    }
}

/// Any bytes, within any limit, in any pieces: no panic, no more bytes buffered than the limit, an error is final, and
/// length and kind have the meaning in the table.
pub fn frame_decode(data: &[u8]) {
    for max in LIMITS {
        for piece in [usize::MAX, 1, 7] {
            decode_one(data, max, piece);
        }
    }
}

fn decode_one(data: &[u8], max: usize, piece: usize) {
    let mut decoder = Decoder::new(max);
    let mut expected = Framing::new(data, max);
    for piece in data.chunks(piece.min(data.len().max(1))) {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            let result = decoder.decode(&mut input);
            assert!(decoder.buffered_bytes() <= max, "{} bytes held within {max}", decoder.buffered_bytes());
            match result {
                Ok(Some(frame)) => expected.on_frame(&frame),
                Ok(None) => break assert!(input.is_empty(), "bytes are left without a frame"),
                Err(error) => {
                    expected.on_error(&error);
                    return assert_terminal(&mut decoder, &error);
                }
            }
        }
    }
    expected.on_end();
    assert_eq!(decoder.skipped(), expected.skipped, "frames skipped");
    let held = expected.incomplete_bytes();
    assert_eq!(decoder.buffered_bytes(), held, "bytes held for an incomplete frame");
}

fn assert_terminal(decoder: &mut Decoder, error: &WireError) {
    let held = decoder.buffered_bytes();
    let mut accept = Bytes::from_static(&[0x01, 0x02]);
    assert_eq!(decoder.decode(&mut accept).as_ref(), Err(error), "an error is terminal");
    assert_eq!((accept.len(), decoder.buffered_bytes()), (2, held), "nothing is consumed after an error");
}

/// The length and kind of each frame in a sequence of bytes.
struct Framing<'a> {
    rest: &'a [u8],
    max: usize,
    skipped: u64,
}

/// The content at the front of the bytes.
pub(super) enum Front<'a> {
    Incomplete(usize),
    Bad(&'static str),
    Body(&'a [u8], &'a [u8]),
}

impl<'a> Framing<'a> {
    fn new(rest: &'a [u8], max: usize) -> Self {
        Self { rest, max, skipped: 0 }
    }

    /// The next frame that is not skipped.
    fn next(&mut self) -> Front<'a> {
        loop {
            let front = front(self.rest, self.max);
            let Front::Body(body, rest) = front else { return front };
            self.rest = rest;
            if known(body).is_some() || body[0] >= 0x80 {
                return front;
            }
            self.skipped += 1;
        }
    }

    fn on_frame(&mut self, frame: &Frame) {
        let Front::Body(body, _) = self.next() else { panic!("{frame:?} from no frame") };
        assert_eq!(Some(frame.name()), known(body), "{frame:?}");
        if let Frame::Data { payload, .. } = frame {
            assert!(body.ends_with(payload) && !payload.is_empty(), "{frame:?}");
        }
    }

    fn on_error(&mut self, error: &WireError) {
        let front = self.next();
        let agrees = match (&front, error) {
            (Front::Bad("too large"), WireError::FrameTooLarge { len, max }) => {
                *max == self.max && *len > self.max as u64
            }
            (Front::Bad("empty"), WireError::Empty) => true,
            (Front::Bad("varint"), WireError::BadVarint { field: "length" }) => true,
            (Front::Body([kind, ..], _), WireError::UnknownKind { kind: named }) => kind == named && *kind >= 0x80,
            (Front::Body(..), WireError::FrameTooLarge { .. } | WireError::Empty) => false,
            (Front::Body(body, _), _) => known(body).is_some(),
            _ => false,
        };
        assert!(agrees, "{error:?}");
    }

    fn on_end(&mut self) {
        assert!(matches!(self.next(), Front::Incomplete(_)), "a frame or an error was due");
    }

    fn incomplete_bytes(&self) -> usize {
        match front(self.rest, self.max) {
            Front::Incomplete(held) => held,
            _ => 0,
        }
    }
}

pub(super) fn front(bytes: &[u8], max: usize) -> Front<'_> {
    let Some(end) = bytes.iter().take(10).position(|byte| byte & 0x80 == 0) else {
        return if bytes.len() >= 10 { Front::Bad("varint") } else { Front::Incomplete(0) };
    };
    let (prefix, rest) = bytes.split_at(end + 1);
    let len = prefix.iter().rev().fold(0u128, |len, byte| len << 7 | u128::from(byte & 0x7f));
    if len > u64::MAX.into() || (prefix.len() > 1 && prefix.ends_with(&[0])) {
        Front::Bad("varint")
    } else if len == 0 {
        Front::Bad("empty")
    } else if len > max as u128 {
        Front::Bad("too large")
    } else if (rest.len() as u128) < len {
        Front::Incomplete(rest.len())
    } else {
        let (body, rest) = rest.split_at(len as usize);
        Front::Body(body, rest)
    }
}

/// A frame decodes to itself, and only the encoder's own bytes decode to a frame.
pub fn frame_roundtrip(data: &[u8]) {
    let mut script = Script::new(data);
    match script.flag() {
        true => {
            let frame = any_frame(&mut script);
            let mut bytes = encoded(&frame);
            let len = bytes.len();
            let decoded = Decoder::new(len).decode(&mut bytes);
            assert_eq!(decoded, Ok(Some(frame)));
            assert!(bytes.is_empty(), "{} of {len} bytes are left", bytes.len());
        }
        false => {
            let max = 1 << 21;
            let mut bytes = script.rest();
            while let Front::Body(_, rest) = front(bytes, max) {
                let (this, after) = bytes.split_at(bytes.len() - rest.len());
                if let Ok(Some(frame)) = Decoder::new(max).decode(&mut Bytes::copy_from_slice(this)) {
                    assert_eq!(encoded(&frame), this, "{frame:?}");
                }
                bytes = after;
            }
        }
    }
}

/// The same bytes, split in any two ways, give the same frames and the same error.
pub fn decoder_split(data: &[u8]) {
    let mut script = Script::new(data);
    let max = script.pick(&LIMITS);
    let (first, second) = (script.bytes(16), script.bytes(16));
    let bytes = Bytes::copy_from_slice(script.rest());
    let whole = outcome(&bytes, max, &[]);
    assert_eq!(outcome(&bytes, max, first), whole);
    assert_eq!(outcome(&bytes, max, second), whole);
}

/// Frames, skipped frames, bytes buffered and used, and the error.
type Outcome = (Vec<Frame>, u64, usize, usize, Option<WireError>);

/// `cuts` are the lengths of the pieces, used in turn. An empty `cuts` means one piece.
fn outcome(bytes: &Bytes, max: usize, cuts: &[u8]) -> Outcome {
    let (mut decoder, mut frames, mut rest) = (Decoder::new(max), Vec::new(), bytes.clone());
    let mut cuts = cuts.iter().map(|cut| usize::from(*cut) + 1).cycle();
    loop {
        let len = rest.len().min(cuts.next().unwrap_or(usize::MAX));
        let mut piece = rest.split_to(len);
        let error = loop {
            match decoder.decode(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let used = bytes.len() - rest.len() - piece.len();
        if error.is_some() || rest.is_empty() {
            // After an error the buffered bytes do not count.
            let held = if error.is_some() { 0 } else { decoder.buffered_bytes() };
            return (frames, decoder.skipped(), held, used, error);
        }
    }
}

pub(super) fn encoded(frame: &Frame) -> Bytes {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    bytes.freeze()
}

/// A frame that may be sent.
pub(super) fn any_frame(script: &mut Script) -> Frame {
    match script.below(12) {
        0 => {
            let media = script.flag().then(|| Media {
                codec: script.text(MAX_CODEC_BYTES),
                sample_rate_hz: script.number() as u32,
                channels: script.byte(),
                frame_duration_us: script.number() as u32,
            });
            let label = script.flag().then(|| script.text(MAX_LABEL_BYTES));
            Frame::Open(Open { media, label })
        }
        1 => Frame::Accept,
        2 => Frame::Reject { code: Code::from(script.byte()), reason: script.text(MAX_REASON_BYTES) },
        3 => {
            let (sequence, timestamp_us) = (script.number(), script.number());
            let payload = match script.bytes(2048) {
                [] => Bytes::from_static(b"x"),
                payload => Bytes::copy_from_slice(payload),
            };
            Frame::Data { sequence, timestamp_us, payload }
        }
        4 => Frame::Close {
            code: Code::from(script.byte()),
            next_sequence: script.number(),
            reason: script.text(MAX_REASON_BYTES),
        },
        5 => {
            Frame::Ack(Ack { highest_sequence: script.number(), received: script.number(), delay_us: script.number() })
        }
        6 => Frame::Report(Report {
            highest_sequence: script.number(),
            lost: script.number(),
            late: script.number(),
            jitter_us: script.number(),
        }),
        7 => Frame::Media(Invitation {
            port: (script.number() as u16).max(1),
            id: SessionId::new(script.array()),
            key: Key::new(script.array()),
        }),
        8 => Frame::Resumable { token: any_token(script) },
        9 => Frame::Resume { token: any_token(script), next_sequence: script.number() },
        10 => Frame::Probe { token: script.number() },
        _ => Frame::Probed { token: script.number() },
    }
}

pub(super) fn any_token(script: &mut Script) -> Token {
    [script.byte(); 16]
}
