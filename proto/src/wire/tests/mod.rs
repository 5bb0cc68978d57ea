//! Does the code implement the byte-layout table? Every vector here is written from the table, not by the encoder.

use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};

mod properties;

use super::*;
use crate::media::{MAX_CODEC_BYTES, MAX_LABEL_BYTES, Media};

/// The limit of decoders whose limit does not matter.
const MAX_FRAME_BYTES: usize = 4096;
/// A frame of an unknown kind that may be skipped: kind 0x7f and a body that looks like frames of its own.
const SKIPPABLE: &str = "06 7f 01 02 80 ff 00";

// ---- helpers ----

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    assert_eq!(digits.len() % 2, 0, "odd number of digits: {text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Adds the length prefix to a body of less than 2^14 bytes.
fn framed(body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let mut frame = if len < 0x80 { vec![len as u8] } else { vec![len as u8 | 0x80, (len >> 7) as u8] };
    assert!(len < 1 << 14);
    frame.extend_from_slice(body);
    frame
}

fn encoded(frames: &[Frame]) -> Bytes {
    let mut out = BytesMut::new();
    frames.iter().for_each(|frame| frame.encode(&mut out));
    out.freeze()
}

/// All results that a decoder gives its caller.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    frames: Vec<Frame>,
    error: Option<WireError>,
    skipped: u64,
    used_bytes: usize,
    buffered_bytes: usize,
}

/// Feeds the pieces to one decoder, and checks the invariants at every step.
fn decode_pieces(max_frame_bytes: usize, pieces: impl IntoIterator<Item = Bytes>) -> Outcome {
    let mut decoder = Decoder::new(max_frame_bytes);
    let mut outcome = Outcome::default();
    for mut piece in pieces {
        let before = piece.len();
        let flow = decode_piece(&mut decoder, max_frame_bytes, &mut piece, &mut outcome);
        outcome.used_bytes += before - piece.len();
        if flow.is_break() {
            break;
        }
    }
    outcome.skipped = decoder.skipped();
    outcome.buffered_bytes = decoder.buffered_bytes();
    outcome
}

fn decode_piece(decoder: &mut Decoder, max: usize, piece: &mut Bytes, outcome: &mut Outcome) -> ControlFlow<()> {
    loop {
        let result = decoder.decode(piece);
        assert!(decoder.buffered_bytes() <= max, "{} bytes are held back, {max} allowed", decoder.buffered_bytes());
        match result {
            Ok(Some(frame)) => outcome.frames.push(frame),
            Ok(None) => {
                assert!(piece.is_empty(), "None although {} bytes are left", piece.len());
                return ControlFlow::Continue(());
            }
            Err(error) => {
                assert_terminal(decoder, piece, &error);
                outcome.error = Some(error);
                return ControlFlow::Break(());
            }
        }
    }
}

fn assert_terminal(decoder: &mut Decoder, rest: &Bytes, error: &WireError) {
    assert_eq!(decoder.buffered_bytes(), 0, "bytes are held back after {error}");
    for mut input in [rest.clone(), Bytes::from_static(&[1, 2]), Bytes::new()] {
        let before = input.clone();
        assert_eq!(decoder.decode(&mut input).as_ref(), Err(error));
        assert_eq!(input, before, "bytes were consumed after {error}");
    }
}

fn decode_whole(bytes: &[u8]) -> Outcome {
    decode_pieces(MAX_FRAME_BYTES, [Bytes::copy_from_slice(bytes)])
}

/// Checks a split at every position, and a split into single bytes.
fn assert_same_at_every_split(bytes: &[u8], expected: &Outcome) {
    let bytes = Bytes::copy_from_slice(bytes);
    for at in 0..=bytes.len() {
        let outcome = decode_pieces(MAX_FRAME_BYTES, [bytes.slice(..at), bytes.slice(at..)]);
        assert_eq!(&outcome, expected, "cut at {at}");
    }
    let outcome = decode_pieces(MAX_FRAME_BYTES, (0..bytes.len()).map(|at| bytes.slice(at..at + 1)));
    assert_eq!(&outcome, expected, "byte by byte");
}

fn assert_error(bytes: &[u8], error: WireError) {
    let outcome = decode_whole(bytes);
    assert_eq!(outcome.error.as_ref(), Some(&error), "{bytes:02x?}");
    assert_eq!(outcome.frames, [], "{bytes:02x?}");
    // Frames before an error are decoded, frames after it are not.
    let behind_a_frame = [&hex("01 02")[..], bytes, &hex("01 02 01 02")].concat();
    let used_bytes = 2 + outcome.used_bytes;
    let expected = Outcome { frames: vec![Frame::Accept], error: Some(error), used_bytes, ..Outcome::default() };
    assert_same_at_every_split(&behind_a_frame, &expected);
}

fn assert_decodes(bytes: &[u8], frame: &Frame) {
    let expected = Outcome { frames: vec![frame.clone()], used_bytes: bytes.len(), ..Outcome::default() };
    assert_eq!(decode_whole(bytes), expected, "{bytes:02x?}");
}

fn media(codec: &str, sample_rate_hz: u32, channels: u8, frame_duration_us: u32) -> Media {
    Media { codec: codec.into(), sample_rate_hz, channels, frame_duration_us }
}

fn open(media: Option<Media>, label: Option<&str>) -> Frame {
    Frame::Open(Open { media, label: label.map(str::to_owned) })
}

fn reject(code: Code, reason: &str) -> Frame {
    Frame::Reject { code, reason: reason.into() }
}

fn data(sequence: u64, timestamp_us: u64, payload: &[u8]) -> Frame {
    Frame::Data { sequence, timestamp_us, payload: Bytes::copy_from_slice(payload) }
}

fn close(code: Code, next_sequence: u64, reason: &str) -> Frame {
    Frame::Close { code, next_sequence, reason: reason.into() }
}

fn report(highest_sequence: u64, lost: u64, late: u64, jitter_us: u64) -> Frame {
    Frame::Report(Report { highest_sequence, lost, late, jitter_us })
}

fn ack(highest_sequence: u64, received: u64, delay_us: u64) -> Frame {
    Frame::Ack(Ack { highest_sequence, received, delay_us })
}

// ---- golden vectors ----

fn golden_openings() -> Vec<(Vec<u8>, Frame)> {
    let opus = media("opus", 48_000, 1, 20_000);
    let pcm = media("pcm_s16le", 16_000, 2, 10_000);
    vec![
        (hex("03 01 01 00"), open(None, None)),
        (hex("11 01 01 01  04 6f707573 0000bb80 01 00004e20"), open(Some(opus), None)),
        (hex("07 01 01 02  03 6ec3a9"), open(None, Some("né"))),
        (hex("04 01 01 02  00"), open(None, Some(""))),
        (hex("1b 01 01 03  09 70636d5f7331366c65 00003e80 02 00002710  04 68616c6c"), open(Some(pcm), Some("hall"))),
    ]
}

fn golden_answers() -> Vec<(Vec<u8>, Frame)> {
    vec![
        (hex("01 02"), Frame::Accept),
        (hex("05 03 00 02 6e6f"), reject(Code::Application, "no")),
        (hex("03 03 01 00"), reject(Code::Timeout, "")),
        (hex("07 03 02 04 66756c6c"), reject(Code::Limit, "full")),
        (hex("06 03 03 03 e282ac"), reject(Code::Protocol, "€")),
        (hex("03 03 04 00"), reject(Code::Other(4), "")),
        (hex("05 03 ff 02 c3a9"), reject(Code::Other(255), "é")),
    ]
}

fn golden_stream() -> Vec<(Vec<u8>, Frame)> {
    vec![
        (hex("04 04 00 00 00"), data(0, 0, &[0])),
        (hex("06 04 05 7f aabbcc"), data(5, 127, &[0xaa, 0xbb, 0xcc])),
        (hex("06 04 8001 ff7f 80"), data(128, 16_383, &[0x80])),
        (hex("07 04 ac02 a09c01 01"), data(300, 20_000, &[1])),
        (hex("16 04 ffffffffffffffffff01 80808080808080808001 7f"), data(u64::MAX, 1 << 63, &[0x7f])),
        ([hex("8001 04 01 02"), vec![0x5a; 125]].concat(), data(1, 2, &[0x5a; 125])),
        (hex("04 05 00 00 00"), close(Code::Application, 0, "")),
        (hex("09 05 01 808001 03 627965"), close(Code::Timeout, 16_384, "bye")),
        (hex("0d 05 c8 ffffffffffffffffff01 00"), close(Code::Other(200), u64::MAX, "")),
        (hex("05 06 00 00 00 00"), report(0, 0, 0, 0)),
        (hex("08 06 e807 03 8001 dc0b"), report(1000, 3, 128, 1500)),
        (hex("04 07 00 00 00"), ack(0, 0, 0)),
        (hex("08 07 e807 e207 a09c01"), ack(1000, 994, 20_000)),
    ]
}

fn golden() -> Vec<(Vec<u8>, Frame)> {
    [golden_openings(), golden_answers(), golden_stream()].concat()
}

/// All golden frames with a frame of an unknown kind in the middle, and the result of decoding them.
fn exchange() -> (Bytes, Outcome) {
    let golden = golden();
    let mut bytes = Vec::new();
    for (index, (frame, _)) in golden.iter().enumerate() {
        if index == golden.len() / 2 {
            bytes.extend(hex(SKIPPABLE));
        }
        bytes.extend(frame);
    }
    let frames = golden.into_iter().map(|(_, frame)| frame).collect();
    let outcome = Outcome { frames, skipped: 1, used_bytes: bytes.len(), ..Outcome::default() };
    (bytes.into(), outcome)
}

#[test]
fn every_frame_encodes_to_the_bytes_of_the_table() {
    for (bytes, frame) in golden() {
        assert_eq!(encoded(std::slice::from_ref(&frame)), bytes, "{frame:?}");
    }
}

#[test]
fn the_bytes_of_the_table_decode_to_every_frame() {
    for (bytes, frame) in golden() {
        assert_decodes(&bytes, &frame);
    }
}

#[test]
fn the_room_of_a_data_frame_is_known_before_it_is_encoded() {
    for shift in 0..64 {
        for (sequence, timestamp_us) in [(1 << shift, u64::MAX >> shift), ((1 << shift) - 1, 0)] {
            for payload in [1, 121, 122, 16_380, 16_381] {
                let mut out = BytesMut::new();
                encode_data(sequence, timestamp_us, &vec![0; payload], &mut out);
                assert_eq!(out.len(), data_bytes(sequence, timestamp_us, payload));
            }
        }
    }
}

#[test]
fn encoding_appends_and_leaves_what_is_there() {
    let mut out = BytesMut::from(&b"before"[..]);
    Frame::Accept.encode(&mut out);
    encode_data(5, 127, &[0xaa, 0xbb, 0xcc], &mut out);
    assert_eq!(out, [&b"before"[..], &hex("01 02  06 04 05 7f aabbcc")].concat());
}

#[test]
fn codes_are_the_numbers_of_the_table_in_both_directions() {
    let named = [(0, Code::Application), (1, Code::Timeout), (2, Code::Limit), (3, Code::Protocol)];
    for (number, code) in named.into_iter().chain((4..=255).map(|number| (number, Code::Other(number)))) {
        assert_eq!(Code::from(number), code);
        assert_eq!(u8::from(code), number);
    }
}

#[test]
fn data_adds_at_most_its_stated_overhead_and_other_frames_are_at_most_303_bytes() {
    let frame_bytes = |frame| {
        let bytes = encoded(&[frame]);
        bytes.len() - if bytes[0] < 0x80 { 1 } else { 2 }
    };
    assert_eq!(frame_bytes(data(u64::MAX, u64::MAX, &[0; 960])), 960 + DATA_OVERHEAD_BYTES);
    let longest_media = media(&"c".repeat(32), u32::MAX, u8::MAX, u32::MAX);
    assert_eq!(frame_bytes(open(Some(longest_media), Some(&"l".repeat(256)))), 303);
    assert_eq!(frame_bytes(close(Code::Application, u64::MAX, &"r".repeat(256))), 270);
    assert_eq!(frame_bytes(reject(Code::Application, &"r".repeat(256))), 260);
    assert_eq!(frame_bytes(report(u64::MAX, u64::MAX, u64::MAX, u64::MAX)), 41);
    assert_eq!(frame_bytes(ack(u64::MAX, u64::MAX, u64::MAX)), 31);
}

// ---- splittings ----

#[test]
fn an_exchange_cut_anywhere_gives_the_same_frames() {
    let (bytes, expected) = exchange();
    assert_same_at_every_split(&bytes, &expected);
}

#[test]
fn an_exchange_cut_at_any_two_points_gives_the_same_frames() {
    let (bytes, expected) = exchange();
    assert!(bytes.len() <= 400, "{} bytes make this test slow", bytes.len());
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let pieces = [bytes.slice(..first), bytes.slice(first..second), bytes.slice(second..)];
            assert_eq!(decode_pieces(MAX_FRAME_BYTES, pieces), expected, "cut at {first} and {second}");
        }
    }
}

#[test]
fn a_frame_that_is_not_complete_is_held_back_without_its_length() {
    for (bytes, frame) in golden() {
        let prefix_bytes = if bytes[0] < 0x80 { 1 } else { 2 };
        for at in 0..bytes.len() {
            let outcome = decode_whole(&bytes[..at]);
            let buffered_bytes = at.saturating_sub(prefix_bytes);
            let expected = Outcome { used_bytes: at, buffered_bytes, ..Outcome::default() };
            assert_eq!(outcome, expected, "{frame:?} cut at {at}");
        }
    }
}

#[test]
fn a_frame_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
    let largest = [hex("83 02 04 00 00"), vec![7; 256]].concat();
    let outcome = decode_pieces(259, [largest.clone().into()]);
    assert_eq!(outcome.frames, [data(0, 0, &[7; 256])]);
    let outcome = decode_pieces(258, [largest.into()]);
    assert_eq!(outcome.error, Some(WireError::FrameTooLarge { len: 259, max: 258 }));
    assert_eq!(outcome.used_bytes, 2);
}

// ---- unknown kinds ----

#[test]
fn unknown_kinds_below_0x80_are_skipped_and_counted() {
    let unknown = std::iter::once(0).chain(0x08..=0x7f);
    let mut bytes: Vec<u8> = unknown.flat_map(|kind| [1, kind, 3, kind, 0x80, 0xff]).collect();
    bytes.extend(hex("01 02"));
    let expected = Outcome { frames: vec![Frame::Accept], skipped: 242, used_bytes: bytes.len(), ..Outcome::default() };
    assert_same_at_every_split(&bytes, &expected);
}

#[test]
fn unknown_kinds_from_0x80_on_end_the_stream() {
    for kind in [0x80, 0x81, 0xff] {
        assert_error(&[1, kind], WireError::UnknownKind { kind });
        assert_error(&[3, kind, 0, 0], WireError::UnknownKind { kind });
    }
}

// ---- errors of the length ----

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_is_held() {
    for (prefix, len) in [
        ("8120", 4097),
        ("80808080808080808001", 1 << 63),
        ("ffffffffffffffffff01", u64::MAX),
        ("ffffffffffffffff7f", (1 << 63) - 1),
    ] {
        let error = WireError::FrameTooLarge { len, max: MAX_FRAME_BYTES };
        assert_error(&hex(prefix), error.clone());
        assert_error(&[hex(prefix), vec![4; 64]].concat(), error);
    }
}

#[test]
fn a_length_that_is_no_minimal_varint_of_64_bits_is_refused() {
    for prefix in [
        "8000",                   // 0 in two bytes
        "8100",                   // 1 in two bytes
        "82808000",               // 2 in four bytes
        "80808080808080808000",   // 0 in ten bytes
        "8080808080808080808000", // eleven bytes
        "8080808080808080808001",
        "ffffffffffffffffffff01",
        "80808080808080808002", // bit 64
        "82808080808080808002", // bit 64, and a length that would be fine without it
        "ffffffffffffffffff03",
        "ffffffffffffffffff7f", // bits 63 to 69
    ] {
        assert_error(&hex(prefix), WireError::BadVarint { field: "length" });
    }
}

#[test]
fn a_varint_without_an_end_is_refused_at_its_tenth_byte() {
    let outcome = decode_whole(&[0x80; 64]);
    assert_eq!(outcome.error, Some(WireError::BadVarint { field: "length" }));
    assert_eq!(outcome.used_bytes, 10);
}

#[test]
fn a_length_of_zero_is_refused() {
    assert_error(&[0], WireError::Empty);
}

// ---- errors of the bodies ----

/// One body of every kind, field by field.
fn bodies() -> Vec<Vec<(&'static str, Vec<u8>)>> {
    let text = |len: &str, bytes: usize| [hex(len), vec![b'x'; bytes]].concat();
    vec![
        vec![
            ("kind", hex("01")),
            ("OPEN.version", hex("01")),
            ("OPEN.flags", hex("03")),
            ("OPEN.codec", hex("04 6f707573")),
            ("OPEN.sample_rate_hz", hex("0000bb80")),
            ("OPEN.channels", hex("01")),
            ("OPEN.frame_duration_us", hex("00004e20")),
            ("OPEN.label", text("c801", 200)),
        ],
        vec![("kind", hex("03")), ("REJECT.code", hex("00")), ("REJECT.reason", text("8001", 128))],
        vec![
            ("kind", hex("04")),
            ("DATA.sequence", hex("ffffffffffffffffff01")),
            ("DATA.timestamp_us", hex("a09c01")),
            ("DATA.payload", hex("00")),
        ],
        vec![
            ("kind", hex("05")),
            ("CLOSE.code", hex("00")),
            ("CLOSE.next_sequence", hex("808001")),
            ("CLOSE.reason", text("8002", 256)),
        ],
        vec![
            ("kind", hex("06")),
            ("REPORT.highest_sequence", hex("e807")),
            ("REPORT.lost", hex("03")),
            ("REPORT.late", hex("8001")),
            ("REPORT.jitter_us", hex("dc0b")),
        ],
        vec![
            ("kind", hex("07")),
            ("ACK.highest_sequence", hex("e807")),
            ("ACK.received", hex("e207")),
            ("ACK.delay_us", hex("a09c01")),
        ],
    ]
}

/// The body up to the field `name`, from the frame that has it.
fn body_before(name: &str) -> Vec<u8> {
    let bodies = bodies();
    let fields = bodies.iter().find(|fields| fields.iter().any(|(field, _)| *field == name)).expect(name);
    fields.iter().take_while(|(field, _)| *field != name).flat_map(|(_, bytes)| bytes.clone()).collect()
}

/// A frame whose field `name` is `value`; the fields after it are missing.
fn frame_with(name: &str, value: &[u8]) -> Vec<u8> {
    framed(&[&body_before(name)[..], value].concat())
}

#[test]
fn a_frame_that_ends_within_a_field_names_the_field() {
    for fields in bodies() {
        let body: Vec<u8> = fields.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(decode_whole(&framed(&body)).frames.len(), 1, "{body:02x?}");
        let mut at = 0;
        for (field, bytes) in fields {
            let within = at..at + bytes.len();
            at = within.end;
            if field != "kind" {
                within.for_each(|end| assert_error(&framed(&body[..end]), WireError::Truncated { field }));
            }
        }
    }
}

#[test]
fn data_without_a_payload_is_refused() {
    assert_error(&hex("03 04 00 00"), WireError::Truncated { field: "DATA.payload" });
}

#[test]
fn bytes_left_over_behind_a_body_are_refused() {
    for (_, frame) in golden() {
        if matches!(frame, Frame::Data { .. }) {
            continue; // its payload goes to the end
        }
        for extra in [1, 3] {
            let bytes = encoded(std::slice::from_ref(&frame));
            let bytes = framed(&[&bytes[1..], &vec![0; extra]].concat());
            assert_error(&bytes, WireError::TrailingBytes { frame: frame.name(), extra });
        }
    }
}

#[test]
fn a_varint_of_a_body_that_is_not_minimal_or_beyond_64_bits_names_its_field() {
    for field in [
        "DATA.sequence",
        "DATA.timestamp_us",
        "CLOSE.next_sequence",
        "REPORT.highest_sequence",
        "REPORT.lost",
        "REPORT.late",
        "REPORT.jitter_us",
        "ACK.highest_sequence",
        "ACK.received",
        "ACK.delay_us",
        "OPEN.codec",
        "OPEN.label",
        "REJECT.reason",
        "CLOSE.reason",
    ] {
        for varint in ["8000", "8100", "8080808080808080808001", "80808080808080808002", "ffffffffffffffffff7f"] {
            assert_error(&frame_with(field, &hex(varint)), WireError::BadVarint { field });
        }
    }
}

#[test]
fn a_text_beyond_its_limit_names_its_field_and_length() {
    for (field, prefix, value) in [
        ("OPEN.codec", "21", 33),
        ("OPEN.label", "8102", 257),
        ("REJECT.reason", "8102", 257),
        ("CLOSE.reason", "8102", 257),
    ] {
        let error = WireError::OutOfRange { field, value };
        let text = vec![b'x'; value as usize];
        assert_error(&frame_with(field, &hex(prefix)), error.clone());
        assert_error(&frame_with(field, &[hex(prefix), text].concat()), error);
        let endless = WireError::OutOfRange { field, value: u64::MAX };
        assert_error(&frame_with(field, &hex("ffffffffffffffffff01")), endless);
    }
}

#[test]
fn a_text_that_is_not_utf_8_names_its_field() {
    for field in ["OPEN.codec", "OPEN.label", "REJECT.reason", "CLOSE.reason"] {
        // No lead byte, half a character, a surrogate, a longer form of '/', beyond U+10FFFF.
        for text in ["01 ff", "02 61c3", "03 eda080", "02 c0af", "04 f4908080"] {
            assert_error(&frame_with(field, &hex(text)), WireError::NotUtf8 { field });
        }
    }
}

#[test]
fn an_open_of_another_version_is_refused() {
    for value in [0, 2, 255] {
        let error = WireError::OutOfRange { field: "OPEN.version", value: value.into() };
        assert_error(&[3, 1, value, 0], error.clone());
        assert_error(&[2, 1, value], error);
    }
}

#[test]
fn an_open_with_a_flag_that_is_not_known_is_refused() {
    for value in [0b100, 0b111, 0x80, 0xff] {
        assert_error(&[3, 1, 1, value], WireError::OutOfRange { field: "OPEN.flags", value: value.into() });
    }
}

// ---- payloads and texts ----

#[test]
fn a_payload_that_lies_within_one_piece_is_not_copied() {
    let whole =
        Bytes::from(hex("01 02  06 04 05 7f aabbcc  8001 04 01 02 ").into_iter().chain([9; 125]).collect::<Vec<_>>());
    // In one piece, and with one or both lengths in a piece of their own.
    for pieces in [vec![whole.clone()], cut(&whole, &[3]), cut(&whole, &[3, 9]), cut(&whole, &[10, 11])] {
        let outcome = decode_pieces(MAX_FRAME_BYTES, pieces);
        let [_, Frame::Data { payload: first, .. }, Frame::Data { payload: second, .. }] = &outcome.frames[..] else {
            panic!("{outcome:?}");
        };
        assert_eq!((&first[..], &second[..]), (&[0xaa, 0xbb, 0xcc][..], &[9; 125][..]));
        assert_eq!(first.as_ptr(), whole[6..].as_ptr());
        assert_eq!(second.as_ptr(), whole[14..].as_ptr());
    }
}

/// The pieces between the positions `at`; they share the bytes.
fn cut(bytes: &Bytes, at: &[usize]) -> Vec<Bytes> {
    let starts = std::iter::once(0).chain(at.iter().copied());
    let ends = at.iter().copied().chain([bytes.len()]);
    starts.zip(ends).map(|(start, end)| bytes.slice(start..end)).collect()
}

#[test]
fn texts_of_the_longest_length_survive_unchanged() {
    for unit in ["x", "é", "😀"] {
        let text = |max_bytes: usize| unit.repeat(max_bytes / unit.len());
        let (codec, label, reason) = (text(MAX_CODEC_BYTES), text(MAX_LABEL_BYTES), text(MAX_REASON_BYTES));
        assert_eq!((codec.len(), label.len(), reason.len()), (32, 256, 256));
        for frame in [
            open(Some(media(&codec, 1, 1, 1)), Some(&label)),
            reject(Code::Limit, &reason),
            close(Code::Limit, 1, &reason),
        ] {
            assert_decodes(&encoded(std::slice::from_ref(&frame)), &frame);
        }
    }
}

#[test]
fn texts_beyond_their_limit_are_cut_at_a_character_and_still_decode() {
    // The part that does not fit: a byte, the second half of a character, and three of four bytes.
    for (last, before_last) in [("x", 256), ("é", 255), ("€", 254), ("😀", 253), ("😀", 255)] {
        let kept = "a".repeat(before_last);
        let long = format!("{kept}{last}{}", "z".repeat(1000));
        for (given, cut) in [
            (reject(Code::Application, &long), reject(Code::Application, &kept)),
            (close(Code::Protocol, 9, &long), close(Code::Protocol, 9, &kept)),
            (open(None, Some(&long)), open(None, Some(&kept))),
        ] {
            assert_decodes(&encoded(&[given]), &cut);
        }
    }
    let long_codec = format!("{}€", "c".repeat(31));
    let given = open(Some(media(&long_codec, 1, 2, 3)), Some("hall"));
    assert_decodes(&encoded(&[given]), &open(Some(media(&"c".repeat(31), 1, 2, 3)), Some("hall")));
}
