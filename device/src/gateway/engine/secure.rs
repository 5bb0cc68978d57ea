//! How does a secure session look as datagrams? Noise's handshake, then numbered datagrams that may get lost or
//! overtaken.

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, StatelessTransportState};

use super::config::DeviceKey;

/// The handshake: both have the device's key, and forget the keys of a session when it ends.
pub const NOISE_PROTOCOL: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// The first part of the prologue; the device id follows.
const PROLOGUE: &[u8; 13] = b"avi-gateway/1";
/// The version in the first message's payload.
pub(super) const VERSION: u8 = 1;

/// First byte of the device's handshake message.
pub(super) const INIT: u8 = 0xa1;
/// First byte of the gateway's answer.
pub(super) const RESPONSE: u8 = 0xa2;
/// First byte of everything after.
pub(super) const DATA: u8 = 0xa3;
/// First byte of a notice that the gateway does not know a session.
pub(super) const NO_SESSION: u8 = 0xa4;

const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// Type, device id, ephemeral key, version and flags, tag.
pub(super) const INIT_BYTES: usize = 1 + 8 + KEY_BYTES + 2 + TAG_BYTES;
/// Type, ephemeral key, [`Grant`], tag. Not longer than the question.
pub(super) const RESPONSE_BYTES: usize = 1 + KEY_BYTES + GRANT_BYTES + TAG_BYTES;
const GRANT_BYTES: usize = 10;
const DATA_HEADER_BYTES: usize = 13;
/// What sealing adds to a frame.
pub(super) const OVERHEAD_BYTES: usize = DATA_HEADER_BYTES + TAG_BYTES;

/// The device's flag: the session goes on with new keys, and keeps its subscriptions and streams.
pub(super) const KEEP: u8 = 1;

/// What the gateway says with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// Names the session in all datagrams after.
    pub(super) session: u32,
    /// The session ends after so many seconds of silence.
    pub(super) idle_s: u16,
    /// The session's keys end after so many seconds.
    pub(super) age_s: u32,
}

impl Grant {
    fn encode(self) -> [u8; GRANT_BYTES] {
        let mut bytes = [0; GRANT_BYTES];
        bytes[..4].copy_from_slice(&self.session.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.idle_s.to_le_bytes());
        bytes[6..].copy_from_slice(&self.age_s.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; GRANT_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j] = bytes;
        Self {
            session: u32::from_le_bytes([a, b, c, d]),
            idle_s: u16::from_le_bytes([e, f]),
            age_s: u32::from_le_bytes([g, h, i, j]),
        }
    }
}

/// The ephemeral key comes from outside: the engine has no randomness of its own.
struct Resolver([u8; KEY_BYTES]);

struct Once([u8; KEY_BYTES]);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        if dest.len() != KEY_BYTES {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(&self.0);
        Ok(())
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(self.0)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

fn handshake(device: &DeviceKey, ephemeral: [u8; KEY_BYTES], initiator: bool) -> Result<HandshakeState, snow::Error> {
    let mut prologue = PROLOGUE.to_vec();
    prologue.extend(device.device_id.to_le_bytes());
    let builder = Builder::with_resolver(NOISE_PROTOCOL.parse()?, Box::new(Resolver(ephemeral)))
        .prologue(&prologue)?
        .psk(0, device.key())?;
    if initiator { builder.build_initiator() } else { builder.build_responder() }
}

/// The device id that a handshake message names. Nothing proves it yet.
pub(super) fn device_of(init: &[u8]) -> Option<u64> {
    let init: &[u8; INIT_BYTES] = init.try_into().ok()?;
    let (kind, rest) = init.split_first()?;
    (*kind == INIT).then(|| rest.first_chunk().map(|id| u64::from_le_bytes(*id)))?
}

/// A device that waits for the answer.
#[derive(Debug)]
pub(super) struct Initiator(Box<HandshakeState>);

impl Initiator {
    /// The datagram that asks for a session.
    pub(super) fn new(
        device: &DeviceKey,
        keep: bool,
        ephemeral: [u8; KEY_BYTES],
    ) -> Result<(Self, Vec<u8>), snow::Error> {
        let mut state = handshake(device, ephemeral, true)?;
        let mut init = vec![0; INIT_BYTES];
        init[0] = INIT;
        init[1..9].copy_from_slice(&device.device_id.to_le_bytes());
        let payload = [VERSION, if keep { KEEP } else { 0 }];
        let written = state.write_message(&payload, &mut init[9..])?;
        debug_assert_eq!(written + 9, INIT_BYTES);
        Ok((Self(Box::new(state)), init))
    }

    /// Reads the gateway's answer. Another's changes nothing.
    pub(super) fn read(&mut self, response: &[u8]) -> Option<Grant> {
        let (&RESPONSE, message) = response.split_first()? else { return None };
        let mut grant = [0; GRANT_BYTES];
        let is_answer = response.len() == RESPONSE_BYTES && self.0.read_message(message, &mut grant) == Ok(GRANT_BYTES);
        is_answer.then(|| Grant::decode(grant))
    }

    /// The session, once the answer has been read.
    pub(super) fn into_transport(self, grant: Grant) -> Option<Transport> {
        Some(Transport::new(self.0.into_stateless_transport_mode().ok()?, grant.session))
    }
}

/// A device has asked, and has the key.
pub(super) struct Asked {
    state: HandshakeState,
    /// The first payload: a version and flags.
    pub(super) version: u8,
    pub(super) keep: bool,
}

/// Reads a device's question. It fails before any Diffie-Hellman if the device has not got the key.
pub(super) fn read_init(device: &DeviceKey, init: &[u8], ephemeral: [u8; KEY_BYTES]) -> Option<Asked> {
    if device_of(init)? != device.device_id {
        return None;
    }
    let mut state = handshake(device, ephemeral, false).ok()?;
    let mut payload = [0; 2];
    if state.read_message(&init[9..], &mut payload) != Ok(2) {
        return None;
    }
    let [version, flags] = payload;
    Some(Asked { state, version, keep: flags & KEEP != 0 })
}

impl Asked {
    /// The answer, and the session that it begins.
    pub(super) fn answer(mut self, grant: Grant) -> Option<(Transport, Vec<u8>)> {
        let mut response = vec![0; RESPONSE_BYTES];
        response[0] = RESPONSE;
        self.state.write_message(&grant.encode(), &mut response[1..]).ok()?;
        Some((Transport::new(self.state.into_stateless_transport_mode().ok()?, grant.session), response))
    }
}

/// Seals and opens the datagrams of one session, for either end.
#[derive(Debug)]
pub(super) struct Transport {
    noise: StatelessTransportState,
    pub(super) session: u32,
    sent: u64,
    window: Window,
}

impl Transport {
    fn new(noise: StatelessTransportState, session: u32) -> Self {
        Self { noise, session, sent: 0, window: Window::default() }
    }

    /// A datagram with a frame in it. `None` when the counter has reached its end, which no session lives to see.
    pub(super) fn seal(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let counter = self.sent;
        self.sent = counter.checked_add(1)?;
        let mut datagram = vec![0; frame.len() + OVERHEAD_BYTES];
        datagram[0] = DATA;
        datagram[1..5].copy_from_slice(&self.session.to_le_bytes());
        datagram[5..DATA_HEADER_BYTES].copy_from_slice(&counter.to_le_bytes());
        self.noise.write_message(counter, frame, &mut datagram[DATA_HEADER_BYTES..]).ok()?;
        Some(datagram)
    }

    /// The frame in a datagram, if it is authentic and has not come before.
    pub(super) fn open(&mut self, datagram: &[u8]) -> Option<Opened> {
        let (session, counter, sealed) = split_data(datagram)?;
        if session != self.session || !self.window.may_take(counter) || sealed.len() < TAG_BYTES {
            return None;
        }
        let mut frame = vec![0; sealed.len()];
        let len = self.noise.read_message(counter, sealed, &mut frame).ok()?;
        frame.truncate(len);
        let is_newest = self.window.take(counter);
        Some(Opened { frame, is_newest })
    }
}

/// What was in a datagram.
pub(super) struct Opened {
    pub(super) frame: Vec<u8>,
    /// No datagram that was sent after it has come yet.
    pub(super) is_newest: bool,
}

/// Session, counter, and what is sealed.
pub(super) fn split_data(datagram: &[u8]) -> Option<(u32, u64, &[u8])> {
    let (&DATA, rest) = datagram.split_first()? else { return None };
    let (session, rest) = rest.split_first_chunk()?;
    let (counter, sealed) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*session), u64::from_le_bytes(*counter), sealed))
}

/// Says that a session is not known. Anybody can say so.
pub(super) fn no_session(session: u32) -> Vec<u8> {
    let mut datagram = vec![NO_SESSION];
    datagram.extend(session.to_le_bytes());
    datagram
}

/// Which of the last 128 counters have come (RFC 4303 §3.4.3).
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// The counter after the greatest that has come.
    next: u64,
    /// Bit 0 is the greatest that has come.
    seen: u128,
}

impl Window {
    fn may_take(self, counter: u64) -> bool {
        match self.next.checked_sub(1).and_then(|greatest| greatest.checked_sub(counter)) {
            // It is the first of all, or greater than the greatest. The greatest of all counters is Noise's own.
            None => counter < u64::MAX,
            Some(age @ ..128) => self.seen & (1 << age) == 0,
            Some(_) => false,
        }
    }

    /// Notes one that may be taken. True if it is the greatest yet.
    fn take(&mut self, counter: u64) -> bool {
        if counter >= self.next {
            let step = counter - self.next + 1;
            self.seen = u32::try_from(step).ok().and_then(|step| self.seen.checked_shl(step)).unwrap_or(0) | 1;
            self.next = counter + 1;
            return true;
        }
        let age = self.next - 1 - counter;
        self.seen |= u32::try_from(age).ok().and_then(|age| 1_u128.checked_shl(age)).unwrap_or(0);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_counter_is_taken_once_and_none_that_is_too_old() {
        let mut window = Window::default();
        let mut taken = BTreeSet::new();
        let counters =
            [5, 3, 5, 0, 3, 200, 72, 73, 199, 72, 200, 71, 1 << 40, 200, (1 << 40) - 127, u64::MAX - 1, u64::MAX];
        let expected: Vec<u64> = vec![5, 3, 0, 200, 73, 199, 1 << 40, (1 << 40) - 127, u64::MAX - 1];
        let mut order = Vec::new();
        for counter in counters {
            if window.may_take(counter) {
                window.take(counter);
                assert!(taken.insert(counter), "{counter} is taken twice");
                order.push(counter);
            }
        }
        assert_eq!(order, expected);
    }

    #[test]
    fn an_answer_is_not_longer_than_its_question() {
        const { assert!(RESPONSE_BYTES <= INIT_BYTES) };
        assert!(no_session(7).len() < OVERHEAD_BYTES);
    }
}
