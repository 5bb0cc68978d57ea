use super::*;
use crate::path::frames;
use crate::wire::Frame;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn id() -> SessionId {
    SessionId::new(*b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7")
}

fn key() -> Key {
    Key::new(std::array::from_fn(|n| n as u8))
}

fn ends() -> (Sealer, Opener) {
    (Sealer::new(id(), &key()), Opener::new(id(), &key()))
}

fn sealed(sealer: &mut Sealer, plaintext: &[u8]) -> Bytes {
    sealer.seal(plaintext.len(), |out| out.put_slice(plaintext)).unwrap()
}

#[test]
fn the_cipher_is_that_of_rfc_8439() {
    // §2.8.2.
    let key = Key::new(std::array::from_fn(|n| 0x80 + n as u8));
    let nonce = hex("07000000 40414243 44454647");
    let mut text = *b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
        sunscreen would be it.";
    let data = hex("50515253c0c1c2c3c4c5c6c7");
    let tag = ChaCha20Poly1305::new(key.as_bytes().into())
        .encrypt_in_place_detached(Nonce::from_slice(&nonce), &data, &mut text)
        .unwrap();
    let expected = "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b\
        1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
        3ff4def08e4b7a9de576d26586cec64b6116";
    assert_eq!(text.to_vec(), hex(expected));
    assert_eq!(tag.to_vec(), hex("1ae10b594f09e26a7e902ecbd0600691"));
}

/// Computed with another implementation of the cipher, from the layout.
#[test]
fn a_datagram_has_the_layout_that_is_documented() {
    let frames_and_datagrams = [
        (
            Frame::Data { sequence: 5, timestamp_us: 0, payload: Bytes::from_static(b"\xaa\xbb\xcc") },
            "a0a1a2a3a4a5a6a7 0000000000000000 1ebc4731075d6a a01f18dd8f3d168b33b3af2bbe2727e9",
        ),
        (
            Frame::Probe { token: 0x0102030405060708 },
            "a0a1a2a3a4a5a6a7 0000000000000001 60557ddb320ebd7c2a79 588bc7a30bbaddb4610e3d1794bb4c66",
        ),
    ];
    let (mut sealer, mut opener) = ends();
    for (counter, (frame, datagram)) in (0..).zip(frames_and_datagrams) {
        let mut plaintext = BytesMut::new();
        frame.encode(&mut plaintext);
        assert_eq!(sealed(&mut sealer, &plaintext), hex(datagram));
        let opened = opener.open(Bytes::from(hex(datagram))).unwrap();
        assert_eq!((opened.counter, opened.is_newest), (counter, true));
        assert_eq!(frames(opened.plaintext).collect::<Vec<_>>(), [Ok(frame)]);
    }
}

#[test]
fn a_datagram_is_opened_once() {
    let (mut sealer, mut opener) = ends();
    let datagrams: Vec<_> = (0..3u8).map(|n| sealed(&mut sealer, &[n])).collect();
    for (index, is_newest) in [(0, true), (2, true), (1, false)] {
        let opened = opener.open(datagrams[index].clone()).unwrap();
        assert_eq!((opened.counter, opened.is_newest), (index as u64, is_newest));
        assert_eq!(opened.plaintext, [index as u8][..]);
    }
    for (counter, datagram) in (0..).zip(datagrams) {
        assert_eq!(opener.open(datagram), Err(OpenError::Replayed { counter }));
    }
}

#[test]
fn no_changed_byte_goes_unnoticed_and_a_forgery_uses_up_no_counter() {
    let (mut sealer, mut opener) = ends();
    let datagram = sealed(&mut sealer, b"some frames");
    for at in 0..datagram.len() {
        for bit in 0..8 {
            let mut changed = datagram.to_vec();
            changed[at] ^= 1 << bit;
            let expected = if at < 8 { OpenError::OtherSession } else { OpenError::Forged };
            assert_eq!(opener.open(Bytes::from(changed)), Err(expected), "bit {bit} of byte {at}");
        }
    }
    assert_eq!(opener.open(datagram).unwrap().plaintext, &b"some frames"[..]);
}

#[test]
fn a_datagram_of_another_length_or_key_is_refused() {
    let (mut sealer, mut opener) = ends();
    for len in [0, 1, 8, OVERHEAD_BYTES - 1, MAX_DATAGRAM_BYTES + 1, 65_535] {
        let mut datagram = vec![0; len];
        datagram.iter_mut().zip(id().as_bytes()).for_each(|(to, from)| *to = *from);
        assert_eq!(opener.open(Bytes::from(datagram)), Err(OpenError::Length { len }));
    }
    let datagram = sealed(&mut sealer, b"some frames");
    for len in OVERHEAD_BYTES..datagram.len() {
        assert_eq!(opener.open(datagram.slice(..len)), Err(OpenError::Forged), "{len} bytes");
    }
    let mut stranger = Opener::new(id(), &Key::new([9; 32]));
    assert_eq!(stranger.open(datagram.clone()), Err(OpenError::Forged));
    let mut other = Opener::new(SessionId::new([9; 8]), &key());
    assert_eq!(other.open(datagram), Err(OpenError::OtherSession));
}

#[test]
fn a_datagram_may_be_empty_or_full_and_no_longer() {
    let (mut sealer, mut opener) = ends();
    let empty = sealed(&mut sealer, &[]);
    assert_eq!((empty.len(), opener.open(empty).unwrap().plaintext.len()), (OVERHEAD_BYTES, 0));
    let full = sealed(&mut sealer, &[7; MAX_PLAINTEXT_BYTES]);
    assert_eq!((full.len(), opener.open(full).unwrap().plaintext), (MAX_DATAGRAM_BYTES, vec![7; 1420].into()));
    let len = MAX_PLAINTEXT_BYTES + 1;
    assert_eq!(sealer.seal(len, |_| unreachable!()), Err(SealError::TooLarge { len }));
    let liar = sealer.seal(1, |out| out.put_bytes(7, len));
    assert_eq!(liar, Err(SealError::TooLarge { len }));
    let next = sealed(&mut sealer, b"x");
    assert_eq!(opener.open(next).unwrap().counter, 2, "what was not sealed has used no counter");
}

#[test]
fn no_counter_is_used_twice_not_even_at_the_end() {
    let (mut sealer, mut opener) = ends();
    sealer.next = u64::MAX - 1;
    let last = sealed(&mut sealer, b"last");
    assert_eq!(opener.open(last).unwrap().counter, u64::MAX - 1);
    for _ in 0..2 {
        assert_eq!(sealer.seal(1, |_| unreachable!()), Err(SealError::Exhausted));
    }
}

#[test]
fn a_key_is_not_used_after_too_many_forgeries() {
    let (mut sealer, mut opener) = ends();
    let datagram = sealed(&mut sealer, b"x");
    opener.forgeries = MAX_FORGERIES - 1;
    let mut forged = datagram.to_vec();
    forged[20] ^= 1;
    assert_eq!(opener.open(Bytes::from(forged)), Err(OpenError::Forged));
    assert_eq!(opener.open(datagram), Err(OpenError::WornOut));
}

#[test]
fn a_datagram_is_sealed_and_opened_in_one_buffer() {
    let (mut sealer, mut opener) = ends();
    let mut room = 0;
    let datagram = sealer
        .seal(11, |out| {
            room = out.capacity();
            out.put_slice(b"some frames");
        })
        .unwrap();
    assert_eq!(room, datagram.len(), "the room is exact");
    let at = datagram[HEADER_BYTES..].as_ptr();
    assert_eq!(opener.open(datagram).unwrap().plaintext.as_ptr(), at);
    // A buffer that somebody else has too is left as it is.
    let datagram = sealed(&mut sealer, b"some frames");
    let (shared, before) = (datagram.clone(), datagram.to_vec());
    assert_eq!(opener.open(datagram).unwrap().plaintext, &b"some frames"[..]);
    assert_eq!(shared, before);
}

#[test]
fn debug_prints_no_key() {
    let (sealer, opener) = ends();
    let text = format!("{sealer:?} {opener:?}");
    assert!(text.starts_with("Sealer { id: SessionId([160, 161") && text.len() < 200, "{text}");
}
