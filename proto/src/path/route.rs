//! Which address takes the datagrams of this direction, if any does? The sender's end of one direction.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::order::Via;
use super::probes::{Probe, Probes};
use super::schedule::{self, EAGER_FOR, KEPT_ALIVE_EVERY, LOST_EVERY};
use super::seen::Seen;
use super::session::{MAX_DATAGRAM_BYTES, OVERHEAD_BYTES};
use super::watch::Watch;
use crate::engine::Time;

/// The size of a datagram that carries PROBE or PROBED alone.
pub(super) const PROBE_DATAGRAM_BYTES: usize = OVERHEAD_BYTES + 10;
/// A path that is not confirmed for that long is probed, before it is given up. The substream also carries PROBED, and
/// loses none.
const ASKED_AFTER: Duration = Duration::from_millis(150);
const ASKED_EVERY: Duration = Duration::from_millis(50);
/// How often a path is probed that carries ACKs alone: nothing else confirms those, and the other end waits for them.
const ACKS_CHECKED_EVERY: Duration = Duration::from_millis(500);
/// A path that is lost again so soon must answer twice as often before it is used again.
const FLAPS_WITHIN: Duration = Duration::from_secs(5);
const MAX_NEEDED: u32 = 8;
/// Datagrams dropped on this machine, in a row, after which the path counts as lost.
const MAX_DROPPED: u32 = 3;
/// The size that every path takes (RFC 9000 §14).
const SAFE_DATAGRAM_BYTES: usize = 1_200;

/// A PROBE to send, in a datagram of its own. It may go to an address that has not been confirmed; nothing else may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The address.
    pub to: SocketAddr,
    /// The token of the PROBE.
    pub token: u64,
}

/// The figures of a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct RouteStats {
    /// How often another address, or the first, took over.
    pub changes: u64,
    /// How often the path stopped working.
    pub losses: u64,
    /// PROBEs sent.
    pub probes_sent: u64,
    /// PROBEs answered.
    pub probes_answered: u64,
    /// The smoothed round trip time, from PROBE to the first PROBED.
    pub rtt: Option<Duration>,
}

/// `Probing` and `Suspect` differ in how often probes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
enum Phase {
    /// No address has been confirmed. Next: `Up`.
    Probing,
    /// The path takes datagrams, and is watched. Next: `Suspect`.
    Up,
    /// Nothing of what was sent was confirmed in time. Next: `Up`.
    Suspect,
}

/// The path of one direction, from the first MEDIA to the end of the stream.
///
/// Drive it as the engine: an input, then [`poll_transmit`](Self::poll_transmit) until `None`, then wait for
/// [`next_deadline`](Self::next_deadline) or an input.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Route {
    phase: Phase,
    /// When the phase began, or its probes were made frequent again.
    since: Time,
    /// Probes of all addresses since then.
    rounds: usize,
    last_round: Time,
    /// The peer's address on the connection, with the port of MEDIA.
    told: Option<SocketAddr>,
    /// The address that was confirmed last.
    confirmed: Option<SocketAddr>,
    /// The address that the newest datagram came from, if it is another one.
    seen: Seen,
    due: VecDeque<SocketAddr>,
    probes: Probes,
    watch: Watch,
    /// Whether the next probe comes soon although the path carries no audio: it carries ACKs, or has just been found.
    is_checked_soon: bool,
    /// How many answers a lost path must give, and has given.
    needed: u32,
    answers: (u32, Time),
    max_datagram_bytes: usize,
    stats: RouteStats,
}

impl Route {
    /// A direction to which MEDIA has invited. `told` is the peer's address on the connection, if it is an IP address,
    /// with the port of MEDIA.
    pub fn new(now: Time, told: Option<SocketAddr>) -> Self {
        let mut route = Self {
            phase: Phase::Probing,
            since: now,
            rounds: 0,
            last_round: now,
            told,
            confirmed: None,
            seen: Seen::default(),
            due: VecDeque::new(),
            probes: Probes::default(),
            watch: Watch::default(),
            is_checked_soon: false,
            needed: 1,
            answers: (0, now),
            max_datagram_bytes: MAX_DATAGRAM_BYTES,
            stats: RouteStats::default(),
        };
        route.start_round(now);
        route
    }

    /// The address that takes audio now. `None`: the substream does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.confirmed.filter(|_| self.is_up())
    }

    /// Whether datagrams take the audio.
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// The largest datagram that the path takes, as far as is known.
    pub fn max_datagram_bytes(&self) -> usize {
        self.max_datagram_bytes
    }

    /// The figures.
    pub fn stats(&self) -> RouteStats {
        RouteStats { rtt: self.watch.rtt(), ..self.stats }
    }

    /// Another MEDIA came, or the connection to the peer is another one.
    pub fn on_told(&mut self, now: Time, told: Option<SocketAddr>) {
        self.told = told;
        self.probe_again(now);
    }

    /// The addresses of this machine changed, so the path may be another one.
    pub fn on_interfaces_changed(&mut self, now: Time) {
        self.probe_again(now);
    }

    /// An authentic datagram of `bytes` came from the peer, for the other direction. If the peer's address has changed,
    /// the new one is probed, and takes over once it is confirmed (RFC 9000 §9.3). Only the datagram with the highest
    /// counter counts, so that nobody who replays or delays one can say where the peer is (RFC 9146 §6).
    pub fn on_datagram(&mut self, now: Time, from: SocketAddr, bytes: usize, is_newest: bool) {
        if !is_newest || self.confirmed == Some(from) {
            return;
        }
        if self.seen.hear(now, from, bytes) {
            self.probe(from);
        }
    }

    /// Whether a PROBE from this address may be answered by a datagram too. Answers to addresses that are not known are
    /// few, and none is larger than what came. The substream carries an answer too, unless many wait there.
    pub fn may_answer(&mut self, from: SocketAddr) -> bool {
        let is_host = self.told.is_some_and(|told| told.ip() == from.ip());
        is_host || self.confirmed == Some(from) || self.seen.may_answer(from)
    }

    /// A datagram of `bytes` was sent to [`address`](Self::address): with this frame of audio, or without any.
    pub fn on_sent(&mut self, now: Time, sequence: Option<u64>, bytes: usize) {
        match sequence {
            Some(sequence) if self.is_up() => self.watch.on_sent(now, sequence, bytes),
            Some(_) => {}
            None => self.is_checked_soon = true,
        }
    }

    /// A datagram to [`address`](Self::address) was dropped on this machine. Once may be a full buffer. After three in a
    /// row, the path is not waited for.
    pub fn on_dropped(&mut self, now: Time) {
        if self.is_up() && self.watch.on_dropped() >= MAX_DROPPED {
            self.suspect(now);
        }
    }

    /// ACK came, on any path. It confirms this one if its highest frame has taken it.
    pub fn on_ack(&mut self, highest_sequence: u64) {
        self.watch.on_ack(highest_sequence);
    }

    /// PROBED came, on either path. Unknown tokens, and answers that come twice or too late, change nothing.
    pub fn on_probed(&mut self, now: Time, token: u64, via: Via) {
        let Some(probe) = self.probes.take(now, token) else { return };
        self.stats.probes_answered += 1;
        let is_confirmed = self.confirmed == Some(probe.to);
        match self.phase {
            Phase::Up if is_confirmed => self.watch.on_probed(now, probe.sent_at, via),
            Phase::Up if self.seen.is(probe.to) => self.take(now, probe, via),
            // A path that works is not left for another one that does.
            Phase::Up => {}
            Phase::Probing | Phase::Suspect => self.on_answer(now, probe, via),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called.
    pub fn next_deadline(&self) -> Option<Time> {
        [self.next_round(), self.seen.next_probe(), self.suspect_at()].into_iter().flatten().min()
    }

    /// Does what is due. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.suspect_at().is_some_and(|at| at <= now) {
            self.suspect(now);
        }
        if self.next_round().is_some_and(|at| at <= now) {
            self.start_round(now);
        }
        if let Some(address) = self.seen.pop_due(now) {
            self.probe(address);
        }
    }

    /// The next PROBE to send. `token` gives random numbers that nobody can guess.
    pub fn poll_transmit(&mut self, now: Time, token: impl FnOnce() -> u64) -> Option<Transmit> {
        let to = self.due.pop_front()?;
        let token = token();
        self.probes.insert(Probe { token, to, sent_at: now });
        self.stats.probes_sent += 1;
        Some(Transmit { to, token })
    }

    // What follows from these.

    /// When the first was sent of what waits for a confirmation.
    fn unconfirmed_since(&self) -> Option<Time> {
        let to = self.address()?;
        let probe = self.probes.first_after(self.watch.confirmed_at(), to);
        [self.watch.waits_since(), probe].into_iter().flatten().min()
    }

    fn rtt(&self) -> Duration {
        self.watch.rtt().unwrap_or_default()
    }

    fn suspect_at(&self) -> Option<Time> {
        self.unconfirmed_since().map(|since| since + self.watch.confirmed_within())
    }

    /// When all addresses are probed again.
    fn next_round(&self) -> Option<Time> {
        self.told.or(self.confirmed)?;
        let elapsed = self.last_round - self.since;
        let pause = match self.phase {
            Phase::Probing => schedule::unknown(elapsed, self.rounds),
            Phase::Up => return Some(self.next_check()),
            Phase::Suspect => schedule::lost(elapsed),
        };
        Some(self.last_round + pause)
    }

    /// When a path that works is probed again.
    fn next_check(&self) -> Time {
        let pause = if self.is_checked_soon { ACKS_CHECKED_EVERY } else { KEPT_ALIVE_EVERY };
        let regular = self.last_round + pause;
        match self.unconfirmed_since() {
            Some(since) => regular.min((since + ASKED_AFTER + self.rtt()).max(self.last_round + ASKED_EVERY)),
            None => regular,
        }
    }

    fn start_round(&mut self, now: Time) {
        self.rounds += 1;
        self.last_round = now;
        self.is_checked_soon = false;
        let told = self.told.filter(|_| !self.is_up());
        for address in [self.confirmed, told].into_iter().flatten() {
            self.probe(address);
        }
    }

    fn probe_again(&mut self, now: Time) {
        if !self.is_up() {
            self.since = now;
            self.rounds = 0;
        }
        self.start_round(now);
    }

    fn probe(&mut self, address: SocketAddr) {
        if !self.due.contains(&address) {
            self.due.push_back(address);
        }
    }

    /// An address answered while none is in use.
    fn on_answer(&mut self, now: Time, probe: Probe, via: Via) {
        let (count, first) = self.answers;
        let is_first = count == 0 || now - first > 2 * LOST_EVERY * self.needed;
        self.answers = if is_first { (1, now) } else { (count + 1, first) };
        if self.answers.0 >= self.needed {
            return self.take(now, probe, via);
        }
        // More answers are needed: they are asked for soon.
        if now - self.since >= EAGER_FOR {
            self.since = now;
            self.start_round(now);
        }
    }

    /// The address of an answered probe takes over.
    fn take(&mut self, now: Time, probe: Probe, via: Via) {
        let is_same = self.confirmed == Some(probe.to);
        if !is_same {
            self.stats.changes += 1;
            self.confirmed = Some(probe.to);
            self.max_datagram_bytes = MAX_DATAGRAM_BYTES;
            self.needed = 1;
        }
        self.seen.clear();
        self.phase = Phase::Up;
        self.since = now;
        self.last_round = now;
        self.watch.begin(now, probe.sent_at, via, is_same);
        // It is measured again soon: the answer may have waited on the substream.
        self.is_checked_soon = true;
    }

    fn suspect(&mut self, now: Time) {
        let flaps = now - self.since < FLAPS_WITHIN;
        self.needed = if flaps { (self.needed * 2).min(MAX_NEEDED) } else { 1 };
        // Probes came through and frames did not: maybe because they are larger (RFC 8899 §4.3).
        if flaps && self.watch.has_larger(SAFE_DATAGRAM_BYTES) {
            self.max_datagram_bytes = SAFE_DATAGRAM_BYTES;
        }
        self.stats.losses += 1;
        self.phase = Phase::Suspect;
        self.since = now;
        self.rounds = 0;
        self.answers = (0, now);
        self.start_round(now);
    }
}

#[cfg(test)]
#[path = "tests/route.rs"]
mod tests;

#[cfg(test)]
#[path = "tests/route_model.rs"]
mod model;
