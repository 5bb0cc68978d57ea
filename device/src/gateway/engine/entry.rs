//! Whose is a datagram, and who gets a session?

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::rate::Rates;
use super::secure::{self, Grant, Transport};
use super::session::{Mode, Session};
use super::{Downlink, ErrorCode, GatewayEngine, MAX_DATAGRAM_BYTES, Time, Uplink};

/// A `Hello` so soon after another is the same one, repeated by the network or a device that lost the answer.
const REPEATED: Duration = Duration::from_secs(2);
/// How long a handshake waits for the first datagram that proves that the device has the keys.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes that may wait, of one device. More than one: an old one that somebody repeats does not replace the new.
const PENDING_OF_DEVICE: usize = 4;
/// Handshakes of one device that are recognised when somebody repeats them.
const SEEN_OF_DEVICE: usize = 16;

/// A handshake that has been answered.
#[derive(Debug)]
pub(super) struct Pending {
    device: u64,
    from: SocketAddr,
    keep: bool,
    pub(super) until: Duration,
    transport: Transport,
    init: Vec<u8>,
    response: Vec<u8>,
}

impl GatewayEngine {
    /// A datagram came. The driver reads more than [`MAX_DATAGRAM_BYTES`], so that a longer one can be told.
    pub fn handle_datagram(&mut self, time: Time, from: SocketAddr, datagram: &[u8]) {
        self.stats.datagrams_received += 1;
        match datagram.first() {
            Some(&secure::INIT) => self.handle_init(time, from, datagram),
            Some(&secure::DATA) => self.handle_sealed(time, from, datagram),
            _ => match self.sessions.at(from) {
                Some(device) => self.handle_frame(time, device, datagram, datagram.len()),
                None => self.handle_stranger(time, from, datagram),
            },
        }
    }

    /// A frame of a device that has a session. The datagram was as long as `datagram_bytes`.
    fn handle_frame(&mut self, time: Time, device: u64, frame: &[u8], datagram_bytes: usize) {
        let Some(session) = self.sessions.get_mut(device) else { return };
        if !session.rates.datagrams.take(1, time.now) {
            return self.limit(time, device);
        }
        session.heard = session.heard.max(time.now);
        if datagram_bytes > MAX_DATAGRAM_BYTES {
            self.stats.oversize += 1;
            return self.tell(time, device, ErrorCode::Oversize);
        }
        match Uplink::decode(frame) {
            Some(frame) => self.handle_uplink(time, device, frame),
            None => {
                self.stats.bad_frames += 1;
                self.tell(time, device, ErrorCode::BadFrame);
            }
        }
    }

    /// A device sends too fast.
    pub(super) fn limit(&mut self, time: Time, device: u64) {
        self.stats.rate_limited += 1;
        if self.sessions.get_mut(device).is_some_and(|session| session.may_tell_rate(time.now)) {
            self.tell(time, device, ErrorCode::Rate);
        }
    }

    /// Whether an address has not yet asked for too many sessions.
    pub(super) fn may_look_at(&mut self, time: Time, from: SocketAddr) -> bool {
        let may = self.senders.take(from.ip(), time.now);
        if !may {
            self.stats.unknown_limited += 1;
        }
        may
    }

    /// A plain datagram from an address without a session. An answer is not longer than the datagram, and goes only to
    /// where plain sessions may come from.
    fn handle_stranger(&mut self, time: Time, from: SocketAddr, datagram: &[u8]) {
        if !self.may_look_at(time, from) {
            return;
        }
        if !self.config.plain_from_anywhere && !is_private(from.ip()) {
            self.stats.plain_refused += 1;
            return;
        }
        let code = match Uplink::decode(datagram.get(..MAX_DATAGRAM_BYTES).unwrap_or(datagram)) {
            _ if datagram.len() > MAX_DATAGRAM_BYTES => {
                self.stats.oversize += 1;
                ErrorCode::Oversize
            }
            Some(Uplink::Hello { device_id }) => return self.handle_hello(time, from, device_id, false),
            Some(Uplink::HelloExtended { device_id }) => return self.handle_hello(time, from, device_id, true),
            Some(_) => {
                self.stats.unknown_session += 1;
                ErrorCode::UnknownSession
            }
            None => {
                self.stats.bad_frames += 1;
                ErrorCode::BadFrame
            }
        };
        self.tell_stranger(from, datagram.len(), code);
    }

    fn tell_stranger(&mut self, to: SocketAddr, asked_bytes: usize, code: ErrorCode) {
        let answer = Downlink::Error { reason: code as u8 }.encode();
        if answer.len() <= asked_bytes {
            self.send_datagram(to, answer);
        }
    }

    /// A device says `Hello`, with or without a session: it begins one, moves its own here, or begins it anew.
    pub(super) fn handle_hello(&mut self, time: Time, from: SocketAddr, id: u64, extended: bool) {
        let now = time.now;
        let device = self.sessions.key_for(&self.config, id, from, extended);
        let refusal = match () {
            () if !self.config.plain || self.config.key_of(id).is_some() => Err(ErrorCode::NotAllowed),
            () => self.sessions.has_room(&self.config, device, from.ip()),
        };
        if let Err(code) = refusal {
            self.stats.plain_refused += 1;
            // The shortest `Hello` has two bytes.
            return self.tell_stranger(from, 2, code);
        }
        if let Some(other) = self.sessions.at(from).filter(|other| *other != device) {
            self.end(time, other);
        }
        let mode = Mode::Plain { extended };
        match self.sessions.get(device) {
            None => {
                self.begin(time, from, device, id, mode);
            }
            Some(session) if session.address == from && now.saturating_sub(session.since) < REPEATED => {
                self.sessions.replace(device, |session| session.mode = mode);
            }
            Some(session) => {
                self.stats.sessions_moved += u64::from(session.address != from);
                self.end_uses(time, device);
                self.sessions.replace(device, |session| {
                    (session.address, session.mode, session.since, session.heard) = (from, mode, now, now);
                });
            }
        }
        self.wake_for_session(device);
        self.send(time, device, &Downlink::Welcome);
    }

    /// Begins a session of a device that has none.
    fn begin(&mut self, time: Time, from: SocketAddr, device: u64, id: u64, mode: Mode) {
        let plain_from = matches!(mode, Mode::Plain { .. }).then_some(from.ip());
        let rates = self.ended.take(id, plain_from);
        let rates = rates.unwrap_or_else(|| Rates::new(&self.config.limits, time.now));
        self.sessions.insert(device, Session::new(id, from, mode, rates, time.now));
        self.stats.sessions_begun += 1;
        self.name_in_context(time, device);
    }

    fn wake_for_session(&mut self, device: u64) {
        if let Some(at) = self.sessions.get(device).map(|session| session.ends_at(&self.config)) {
            self.wake_at(at);
        }
    }

    /// A device asks for a secure session.
    fn handle_init(&mut self, time: Time, from: SocketAddr, init: &[u8]) {
        if !self.may_look_at(time, from) {
            return;
        }
        if let Some(pending) = self.pending.values().find(|pending| pending.from == from && pending.init == init) {
            // The answer was lost.
            let response = pending.response.clone();
            return self.send_datagram(from, response);
        }
        let Some(key) = secure::device_of(init).and_then(|device| self.config.key_of(device)) else {
            self.stats.handshakes_refused += 1;
            return;
        };
        let device = key.device_id;
        let seen = self.seen.entry(device).or_default();
        if seen.iter().any(|seen| seen == init) {
            self.stats.handshakes_limited += 1;
            return;
        }
        let asked = (self.entropy)().and_then(|ephemeral| secure::read_init(key, init, ephemeral));
        let Some(asked) = asked.filter(|asked| asked.version == secure::VERSION) else {
            self.stats.handshakes_refused += 1;
            return;
        };
        // Who cannot prove the key has no part in this bound.
        if !self.handshakes.take(1, time.now) {
            self.stats.handshakes_limited += 1;
            return;
        }
        seen.push_back(init.to_vec());
        if seen.len() > SEEN_OF_DEVICE {
            seen.pop_front();
        }
        let begun = (self.entropy)().and_then(|random| {
            let (keep, grant) = (asked.keep, self.grant(random));
            Some((keep, grant, asked.answer(grant)?))
        });
        let Some((keep, grant, (transport, response))) = begun else {
            self.stats.handshakes_refused += 1;
            return;
        };
        self.make_room_for_handshake(device);
        let until = time.now.saturating_add(HANDSHAKE);
        let init = init.to_vec();
        self.pending
            .insert(grant.session, Pending { device, from, keep, until, transport, init, response: response.clone() });
        self.wake_at(until);
        self.send_datagram(from, response);
    }

    /// The oldest handshake of a device that waits gives way: it has had the longest time to be proved.
    fn make_room_for_handshake(&mut self, device: u64) {
        let of_device = self.pending.iter().filter(|(_, pending)| pending.device == device);
        if of_device.clone().count() >= PENDING_OF_DEVICE {
            let oldest = of_device.min_by_key(|(_, pending)| pending.until).map(|(number, _)| *number);
            oldest.map(|number| self.pending.remove(&number));
        }
    }

    /// A number that no session has, and how long the session may last.
    fn grant(&self, random: [u8; 32]) -> Grant {
        let mut session = u32::from_le_bytes([random[0], random[1], random[2], random[3]]);
        while self.pending.contains_key(&session) || self.sessions.numbered(session).is_some() {
            session = session.wrapping_add(1);
        }
        // Validation keeps both within range.
        let idle_s = u16::try_from(self.config.idle.as_secs()).unwrap_or(u16::MAX);
        let age_s = u32::try_from(self.config.key_age.as_secs()).unwrap_or(u32::MAX);
        Grant { session, idle_s, age_s }
    }

    /// A sealed datagram, of a session or of a handshake that it completes.
    fn handle_sealed(&mut self, time: Time, from: SocketAddr, datagram: &[u8]) {
        let Some((number, _, _)) = secure::split_data(datagram) else {
            self.stats.bad_frames += 1;
            return;
        };
        if let Some(device) = self.sessions.numbered(number) {
            let Some(session) = self.sessions.get_mut(device) else { return };
            let Mode::Secure(transport) = &mut session.mode else { return };
            let Some(opened) = transport.open(datagram) else {
                self.stats.not_authentic += 1;
                return;
            };
            if opened.is_newest && session.address != from {
                session.address = from;
                self.stats.sessions_moved += 1;
            }
            return self.handle_frame(time, device, &opened.frame, datagram.len());
        }
        if let Some(pending) = self.pending.get_mut(&number).filter(|pending| pending.until > time.now) {
            let Some(opened) = pending.transport.open(datagram) else {
                self.stats.not_authentic += 1;
                return;
            };
            let device = pending.device;
            self.confirm(time, from, number);
            return self.handle_frame(time, device, &opened.frame, datagram.len());
        }
        if self.may_look_at(time, from) {
            self.stats.unknown_session += 1;
            self.send_datagram(from, secure::no_session(number));
        }
    }

    /// The device has proved that it has the keys of a handshake: they are its session's from now on.
    fn confirm(&mut self, time: Time, from: SocketAddr, number: u32) {
        let Some(Pending { device, keep, transport, .. }) = self.pending.remove(&number) else { return };
        // What else waits is older, or somebody's who repeats what he heard.
        self.pending.retain(|_, pending| pending.device != device);
        let mode = Mode::Secure(Box::new(transport));
        if let Some(session) = self.sessions.get(device) {
            self.stats.sessions_moved += u64::from(session.address != from);
            if !keep {
                self.end_uses(time, device);
            }
            self.sessions.replace(device, |session| {
                (session.address, session.mode, session.since, session.heard) = (from, mode, time.now, time.now);
            });
        } else {
            self.begin(time, from, device, device, mode);
        }
        self.wake_for_session(device);
    }
}

/// Whether an address is of a private network, a link or this machine (RFC 1918, 3927, 4193, 4291).
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
