//! Is a datagram opened only if it is authentic and new, and do its frames mean what the byte-layout table says?

use std::collections::BTreeSet;

use avi_p2p_proto::path::{
    ContentError, Key, MAX_DATAGRAM_BYTES, MAX_PLAINTEXT_BYTES, OVERHEAD_BYTES, OpenError, Opener, Sealer, SessionId,
    frames,
};
use bytes::{BufMut, Bytes};

use super::frames::{Front, encoded, front, known};
use super::script::Script;

const ID: [u8; 8] = *b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7";
/// How far back the receiver remembers.
const WINDOW: u64 = 1_024;

fn ends() -> (Sealer, Opener) {
    let key = Key::new([7; 32]);
    (Sealer::new(SessionId::new(ID), &key), Opener::new(SessionId::new(ID), &key))
}

/// Bytes of anybody, frames of a peer, and datagrams lost, changed, copied and in any order.
pub fn datagram(data: &[u8]) {
    let mut script = Script::new(data);
    match script.below(3) {
        0 => of_anybody(script.flag(), script.rest()),
        1 => of_a_peer(script.rest()),
        _ => of_a_network(script),
    }
}

/// Whoever does not have the key is refused, and changes nothing.
fn of_anybody(has_id: bool, bytes: &[u8]) {
    let (mut sealer, mut opener) = ends();
    let bytes = if has_id { [&ID, bytes].concat() } else { bytes.to_vec() };
    let len = bytes.len();
    let expected = match len {
        OVERHEAD_BYTES..=MAX_DATAGRAM_BYTES if bytes.starts_with(&ID) => OpenError::Forged,
        OVERHEAD_BYTES..=MAX_DATAGRAM_BYTES => OpenError::OtherSession,
        _ => OpenError::Length { len },
    };
    assert_eq!(opener.open(Bytes::from(bytes)), Err(expected));
    let genuine = sealer.seal(1, |out| out.put_u8(1)).expect("a byte fits");
    assert!(opener.open(genuine).is_ok_and(|opened| opened.counter == 0 && opened.is_newest));
}

/// Any plaintext of somebody who has the key: only whole frames of datagrams come out, and the rest is an error.
fn of_a_peer(plaintext: &[u8]) {
    let plaintext = &plaintext[..plaintext.len().min(MAX_PLAINTEXT_BYTES)];
    let (mut sealer, mut opener) = ends();
    let datagram = sealer.seal(plaintext.len(), |out| out.put_slice(plaintext)).expect("it fits");
    assert_eq!(datagram.len(), plaintext.len() + OVERHEAD_BYTES);
    let opened = opener.open(datagram).expect("it is authentic");
    assert_eq!(opened.plaintext, plaintext);

    let (mut all, mut rest) = (frames(opened.plaintext), plaintext);
    loop {
        let (result, due) = (all.next(), next_due(&mut rest));
        match (&result, due) {
            (Some(Ok(frame)), Due::Frame("DATA" | "ACK" | "PROBE" | "PROBED", body)) => {
                assert_eq!(Some(frame.name()), known(body), "{frame:?}");
                let bytes = encoded(frame);
                assert!(bytes.ends_with(body) && bytes.len() <= body.len() + 2, "{frame:?}");
                continue;
            }
            (None, Due::Nothing) => {}
            (Some(Err(ContentError::Truncated)), Due::Incomplete) => {}
            (Some(Err(ContentError::Misplaced(name))), Due::Frame(due, _)) => {
                assert!(*name == due && !["DATA", "ACK", "PROBE", "PROBED"].contains(name), "{name}");
            }
            (Some(Err(ContentError::Wire(_))), Due::Frame(..) | Due::Bad) => {}
            (result, due) => panic!("{result:?} from {due:?}"),
        }
        return assert_eq!(all.next(), None, "the end is final");
    }
}

#[derive(Debug)]
enum Due<'a> {
    Nothing,
    Incomplete,
    Bad,
    Frame(&'static str, &'a [u8]),
}

/// What is at the front, behind what is skipped.
fn next_due<'a>(rest: &mut &'a [u8]) -> Due<'a> {
    loop {
        match front(rest, MAX_PLAINTEXT_BYTES) {
            _ if rest.is_empty() => return Due::Nothing,
            Front::Incomplete(_) => return Due::Incomplete,
            Front::Bad(_) => return Due::Bad,
            Front::Body(body, after) => {
                *rest = after;
                match known(body) {
                    Some(name) => return Due::Frame(name, body),
                    None if body[0] >= 0x80 => return Due::Bad,
                    None => {}
                }
            }
        }
    }
}

/// Datagrams that come in any order, more than once, changed, or never: each is opened once, unless it is too old.
fn of_a_network(mut script: Script) {
    let (mut sealer, mut opener) = ends();
    let (mut sent, mut opened, mut highest) = (Vec::new(), BTreeSet::new(), None);
    while !script.is_over() && sent.len() < 2_000 {
        let action = script.byte();
        if action >= 0xc0 || sent.is_empty() {
            // One, or so many that those before it become too old.
            for _ in 0..if action & 7 == 7 { WINDOW + 1 } else { 1 } {
                sent.push(sealer.seal(8, |out| out.put_u64(sent.len() as u64)).expect("there are counters"));
            }
            continue;
        }
        // Counted from the newest.
        let back = usize::try_from(script.number()).unwrap_or(usize::MAX).min(sent.len() - 1);
        let (counter, datagram) = ((sent.len() - 1 - back) as u64, sent[sent.len() - 1 - back].clone());
        if action >= 0x80 {
            let mut changed = datagram.to_vec();
            let at = script.below(changed.len());
            changed[at] ^= 1 << (action & 7);
            let expected = if at < 8 { OpenError::OtherSession } else { OpenError::Forged };
            assert_eq!(opener.open(Bytes::from(changed)), Err(expected));
            continue;
        }
        let is_old = highest.is_some_and(|highest| counter + WINDOW <= highest);
        match opener.open(datagram) {
            Ok(new) => {
                assert!(!is_old && opened.insert(counter), "{counter} was replayed");
                assert_eq!((new.counter, new.is_newest), (counter, highest.is_none_or(|highest| counter > highest)));
                assert_eq!(new.plaintext, counter.to_be_bytes()[..]);
                highest = highest.max(Some(counter));
            }
            Err(error) => {
                assert_eq!(error, OpenError::Replayed { counter });
                assert!(is_old || opened.contains(&counter), "{counter} is new");
            }
        }
    }
}
