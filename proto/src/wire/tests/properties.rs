//! Does the code keep its promises for any frame, any bytes, any splits?

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

// ---- properties ----

/// Texts of at most `max_bytes`: of any characters, and of ASCII up to the limit.
fn any_text(max_bytes: usize) -> impl Strategy<Value = String> {
    let wide = vec(any::<char>(), 0..=max_bytes / 4);
    let ascii = vec(proptest::char::range(' ', '~'), 0..=max_bytes);
    prop_oneof![wide, ascii].prop_map(|chars| chars.into_iter().collect())
}

/// Numbers of every length that a varint can have.
fn any_number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
}

fn any_open() -> impl Strategy<Value = Frame> {
    let media = (any_text(MAX_CODEC_BYTES), any::<u32>(), any::<u8>(), any::<u32>())
        .prop_map(|(codec, sample_rate_hz, channels, us)| media(&codec, sample_rate_hz, channels, us));
    (option::of(media), option::of(any_text(MAX_LABEL_BYTES))).prop_map(|(media, label)| open(media, label.as_deref()))
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let code = || any::<u8>().prop_map(Code::from);
    let reason = || any_text(MAX_REASON_BYTES);
    let number = any_number;
    prop_oneof![
        any_open(),
        Just(Frame::Accept),
        (code(), reason()).prop_map(|(code, reason)| reject(code, &reason)),
        (number(), number(), vec(any::<u8>(), 1..400)).prop_map(|(sequence, us, payload)| data(sequence, us, &payload)),
        (code(), number(), reason()).prop_map(|(code, next_sequence, reason)| close(code, next_sequence, &reason)),
        (number(), number(), number(), number()).prop_map(|(highest, lost, late, us)| report(highest, lost, late, us)),
        (number(), number(), number()).prop_map(|(highest, received, us)| ack(highest, received, us)),
    ]
}

/// Bytes that are valid up to the length more often than random ones: frames, frames with one byte changed, any body of
/// a known or unknown kind, and any bytes.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let good = || any_frame().prop_map(|frame| encoded(&[frame]).to_vec());
    let changed = (good(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, index, byte)| {
        let index = index.index(bytes.len());
        bytes[index] = byte;
        bytes
    });
    let body = (0..10u8, vec(prop_oneof![Just(0x80), 0..4u8, any::<u8>()], 0..40))
        .prop_map(|(kind, rest)| framed(&[&[kind][..], &rest].concat()));
    let noise = vec(any::<u8>(), 0..40);
    vec(prop_oneof![4 => good(), 1 => changed, 2 => body, 1 => noise], 0..6).prop_map(|parts| parts.concat())
}

/// Splits the bytes into pieces of these lengths, used in turn.
fn pieces_of(bytes: &Bytes, lengths: &[usize]) -> Vec<Bytes> {
    let mut rest = bytes.clone();
    let mut pieces: Vec<Bytes> = lengths
        .iter()
        .cycle()
        .map_while(|len| (!rest.is_empty()).then(|| rest.split_to(rest.len().min(*len))))
        .collect();
    pieces.push(rest);
    pieces
}

/// Lengths of pieces, at least one of which is not zero.
fn any_lengths() -> impl Strategy<Value = Vec<usize>> {
    (vec(prop_oneof![0..4usize, 0..300usize], 0..6), 1..50usize).prop_map(|(mut lengths, last)| {
        lengths.push(last);
        lengths
    })
}

proptest! {
    #[test]
    fn any_frame_decodes_to_itself(frame in any_frame()) {
        assert_decodes(&encoded(std::slice::from_ref(&frame)), &frame);
    }

    #[test]
    fn any_frames_in_any_pieces_decode_to_themselves(frames in vec(any_frame(), 0..8), lengths in any_lengths()) {
        let bytes = encoded(&frames);
        let outcome = decode_pieces(MAX_FRAME_BYTES, pieces_of(&bytes, &lengths));
        prop_assert_eq!(outcome, Outcome { frames, used_bytes: bytes.len(), ..Outcome::default() });
    }

    #[test]
    fn any_bytes_give_the_same_in_any_pieces_and_within_any_limit(
        bytes in any_bytes(),
        first in any_lengths(),
        second in any_lengths(),
        max_frame_bytes in prop_oneof![0..64usize, 0..600usize, Just(MAX_FRAME_BYTES)],
    ) {
        let bytes = Bytes::from(bytes);
        let whole = decode_pieces(max_frame_bytes, [bytes.clone()]);
        prop_assert_eq!(&decode_pieces(max_frame_bytes, pieces_of(&bytes, &first)), &whole);
        prop_assert_eq!(&decode_pieces(max_frame_bytes, pieces_of(&bytes, &second)), &whole);
    }

    #[test]
    fn no_bytes_but_the_encoders_own_decode_to_a_frame(bytes in any_bytes()) {
        let outcome = decode_whole(&bytes);
        prop_assume!(outcome.skipped == 0);
        let again = encoded(&outcome.frames);
        prop_assert!(bytes.starts_with(&again), "{:02x?} was decoded to {:?}", bytes, outcome.frames);
        if outcome.error.is_none() {
            let incomplete = decode_whole(&bytes[again.len()..]);
            prop_assert_eq!((incomplete.frames, incomplete.error), (vec![], None));
        }
    }
}
