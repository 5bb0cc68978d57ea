//! How much may flow to a peer beside a call? A window of bytes, kept so small that the call's queueing delay stays low.
//!
//! Pub/sub shares its path with the call, and often the connection too: what it writes stands in front of audio. So it is
//! a less-than-best-effort transport (RFC 6297), after the manner of LEDBAT (RFC 6817): the bytes in flight are bounded by
//! a window, which grows while the queueing delay is below a target, and shrinks while it is above. The acknowledgements
//! of audio say both what has arrived and how long it waited. Without a call there is no window.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::io::NetAction;
use super::outbox::Outbox;
use super::time::{Time, TimerTable};
use crate::id::PeerId;
use crate::situation::{Situation, reached};

/// RFC 6817 §2.4.2 allows 100 ms at most; a call has 250 ms for everything.
const TARGET: Duration = Duration::from_millis(20);
/// Above this delay the window shrinks at once, not byte by byte.
const EXCESS: Duration = Duration::from_millis(50);
/// The window at first, and after a pause: 100 ms of 160 kbit/s. More if the round trip proves a faster path: a frame of at
/// least [`FRAME_BYTES`] with all headers passes in that time.
const FIRST_WINDOW: u32 = 2048;
const FRAME_BYTES: u32 = 80;
const MAX_FIRST_WINDOW: u32 = 64 * 1024;
/// Lets pings and control messages through, whatever the delay.
const MIN_WINDOW: u32 = 512;
/// More than 100 ms of 1 Gbit/s.
const MAX_WINDOW: u32 = 16 << 20;
/// The least time between two grants. Smaller bursts delay audio less.
const PACE: Duration = Duration::from_millis(25);
const MIN_GRANT: u32 = 512;
/// Without acknowledgements only this much flows, so that little stands in front of the call after an outage.
const PROBE_BYTES: u32 = 256;
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A window that is not used for this long says little about the path any more (RFC 7661).
const STALE: Duration = Duration::from_secs(3);
/// How often what is in flight is let run out. The least delay of the path, which the other end measures delays from, is
/// seen only while nothing else waits there.
const DRAIN_EVERY: Duration = Duration::from_secs(5);
/// Grants that are remembered. More are taken for one.
const MAX_SENT: usize = 256;
/// The times between sending and acknowledgement that are believed.
const FIRST_SPAN: Duration = Duration::from_millis(150);
const MIN_SPAN: Duration = Duration::from_millis(50);
const MAX_SPAN: Duration = Duration::from_secs(2);

/// The windows of the peers that this node has a call with. Their number is bounded by that of the streams.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Bulk {
    windows: BTreeMap<PeerId, Window>,
    /// When the next grant is due. Set only while data waits.
    timers: TimerTable<PeerId>,
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Window {
    bytes: u32,
    first_bytes: u32,
    /// Whether the delay has not been noticed yet: slow start.
    is_starting: bool,
    /// The last grant. When it was given; whether it is used up.
    grant: u32,
    granted_at: Time,
    is_used: bool,
    /// When grants were used up, and their bytes, until audio that was sent later is acknowledged.
    sent: VecDeque<(Time, u32)>,
    in_flight: u32,
    /// From a grant to the acknowledgement that covers it.
    span: Duration,
    acked_at: Time,
    last_delay: Duration,
    /// When nothing was in flight, and whether that is waited for.
    empty_at: Time,
    is_draining: bool,
    /// The window shrinks once per span: before, no acknowledgement shows what that has changed.
    shrunk_at: Option<Time>,
}

impl Bulk {
    pub(crate) fn new() -> Self {
        Self { windows: BTreeMap::new(), timers: TimerTable::new() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    /// Limits what flows to the peer beside the audio that begins now.
    pub(crate) fn begin(&mut self, now: Time, peer: &PeerId, out: &mut Outbox) {
        if !self.windows.contains_key(peer) {
            let window = Window::new(now);
            out.net(NetAction::Grant { peer: peer.clone(), bytes: Some(window.grant) });
            self.windows.insert(peer.clone(), window);
        }
    }

    /// Handles the acknowledgement of audio that was sent to the peer at `sent_at`, and waited in queues for `delay`.
    pub(crate) fn on_acked(&mut self, now: Time, peer: &PeerId, sent_at: Time, delay: Duration, out: &mut Outbox) {
        let Some(window) = self.windows.get_mut(peer) else { return };
        if window.on_acked(now, sent_at, delay) {
            out.net(NetAction::Grant { peer: peer.clone(), bytes: Some(window.grant) });
        }
        if window.is_used {
            self.go_on(now, peer, out);
        }
    }

    /// Handles the end of a grant. `has_call` says whether audio still flows to the peer.
    pub(crate) fn on_used(&mut self, now: Time, peer: &PeerId, has_call: bool, out: &mut Outbox) {
        if !has_call {
            return self.end(peer, out);
        }
        let Some(window) = self.windows.get_mut(peer).filter(|window| !window.is_used) else { return };
        window.on_used(now);
        self.go_on(now, peer, out);
    }

    /// Grants what is due. `has_call` says whether audio still flows to a peer.
    pub(crate) fn handle_timeout(&mut self, now: Time, has_call: impl Fn(&PeerId) -> bool, out: &mut Outbox) {
        while let Some(peer) = self.timers.pop_due(now) {
            match self.windows.get(&peer) {
                Some(_) if has_call(&peer) => self.go_on(now, &peer, out),
                _ => self.end(&peer, out),
            }
        }
    }

    /// Ends the limits of the peers without a stream.
    pub(crate) fn retain(&mut self, has_stream: impl Fn(&PeerId) -> bool, out: &mut Outbox) {
        let over: Vec<_> = self.windows.keys().filter(|peer| !has_stream(peer)).cloned().collect();
        over.iter().for_each(|peer| self.end(peer, out));
    }

    /// Grants more, at once or when it is due.
    fn go_on(&mut self, now: Time, peer: &PeerId, out: &mut Outbox) {
        let Some(window) = self.windows.get_mut(peer) else { return };
        let at = window.next_grant();
        if at > now {
            return self.timers.set(peer.clone(), at);
        }
        self.timers.stop(peer);
        window.renew(now);
        out.net(NetAction::Grant { peer: peer.clone(), bytes: Some(window.grant) });
    }

    /// Ends the limit of a peer. One that stayed on another connection would hold up all but audio for ever.
    pub(crate) fn end(&mut self, peer: &PeerId, out: &mut Outbox) {
        self.timers.stop(peer);
        if self.windows.remove(peer).is_some() {
            out.net(NetAction::Grant { peer: peer.clone(), bytes: None });
        }
    }
}

impl Window {
    fn new(now: Time) -> Self {
        let mut window = Self {
            bytes: FIRST_WINDOW,
            first_bytes: FIRST_WINDOW,
            last_delay: Duration::ZERO,
            is_starting: true,
            grant: 0,
            granted_at: now,
            is_used: false,
            sent: VecDeque::new(),
            in_flight: 0,
            span: FIRST_SPAN,
            acked_at: now,
            empty_at: now,
            is_draining: false,
            shrunk_at: None,
        };
        window.grant = window.share();
        window
    }

    /// The next grant, if the window has room for it: what passes between two grants, at a pace that is a quarter faster
    /// than the window's, so that the window is what limits.
    fn share(&self) -> u32 {
        let share = u128::from(self.bytes) * 5 / 4 * PACE.as_micros() / self.span.as_micros();
        // Less than the whole window, which fits.
        (share as u32).clamp(MIN_GRANT, self.bytes)
    }

    /// The time that the last grant takes at that pace.
    fn pace(&self) -> Duration {
        (self.span * self.grant / self.bytes.max(1) * 4 / 5).clamp(PACE, PROBE_EVERY)
    }

    fn room(&self) -> u32 {
        self.bytes.saturating_sub(self.in_flight)
    }

    /// When the next grant is due. Until an acknowledgement makes room, only probes flow.
    fn next_grant(&self) -> Time {
        let has_room = !self.is_draining && self.room() >= self.share().min(MIN_GRANT);
        self.granted_at + if has_room { self.pace() } else { PROBE_EVERY }
    }

    fn renew(&mut self, now: Time) {
        self.grant = self.share().min(self.room()).max(PROBE_BYTES);
        self.granted_at = now;
        self.is_used = false;
    }

    fn on_used(&mut self, now: Time) {
        self.is_used = true;
        self.in_flight = self.in_flight.saturating_add(self.grant);
        let is_full = self.sent.len() >= MAX_SENT;
        match self.sent.back_mut() {
            Some((at, bytes)) if is_full => (*at, *bytes) = (now, bytes.saturating_add(self.grant)),
            _ => self.sent.push_back((now, self.grant)),
        }
    }

    /// Returns whether the grant that is not used was replaced by a smaller one.
    fn on_acked(&mut self, now: Time, sent_at: Time, delay: Duration) -> bool {
        let round_trip = now - sent_at;
        let span = round_trip + (now - self.acked_at);
        self.is_starting &= delay < TARGET;
        // A radio delays single frames; a queue delays all.
        let delay = delay.min(std::mem::replace(&mut self.last_delay, delay));
        self.span = ((3 * self.span + span) / 4).clamp(MIN_SPAN, MAX_SPAN);
        self.acked_at = now;
        let is_full = self.is_used && self.room() < self.share().max(self.bytes / 4);
        let mut acked = 0;
        while let Some(&(_, bytes)) = self.sent.front().filter(|(at, _)| *at <= sent_at) {
            acked += bytes;
            self.sent.pop_front();
        }
        let is_in_use = self.in_flight > 0;
        self.in_flight = self.in_flight.saturating_sub(acked);
        if self.in_flight == 0 {
            (self.empty_at, self.is_draining) = (now, false);
        }
        self.is_draining |= now - self.empty_at >= DRAIN_EVERY;
        if delay > EXCESS && is_in_use {
            self.shrink(now);
        } else if delay < TARGET && acked > 0 && is_full {
            self.grow(acked, delay);
        }
        self.learn_first(round_trip);
        self.age(now)
    }

    fn learn_first(&mut self, round_trip: Duration) {
        let proven = 100_000 * u128::from(FRAME_BYTES) / round_trip.as_micros().max(1);
        self.first_bytes = self.first_bytes.max(u32::try_from(proven).unwrap_or(u32::MAX).min(MAX_FIRST_WINDOW));
        if self.is_starting {
            self.bytes = self.bytes.max(self.first_bytes);
        }
    }

    fn shrink(&mut self, now: Time) {
        let is_due = self.shrunk_at.is_none_or(|at| now - at >= self.span);
        if is_due {
            reached(Situation::BulkReduced);
            self.bytes = (self.bytes / 8 * 5).max(MIN_WINDOW);
            (self.shrunk_at, self.first_bytes) = (Some(now), FIRST_WINDOW);
        }
    }

    /// By what was acknowledged at first, by up to a quarter of it later.
    fn grow(&mut self, acked: u32, delay: Duration) {
        let spare = u128::from(acked) * (TARGET - delay).as_micros() / TARGET.as_micros();
        let more = if self.is_starting { acked } else { spare as u32 / 4 };
        self.bytes = self.bytes.saturating_add(more).min(MAX_WINDOW);
    }

    /// Halves a window that was not used for a while, down to the first.
    fn age(&mut self, now: Time) -> bool {
        if self.is_used || self.bytes <= self.first_bytes || now - self.granted_at < STALE {
            return false;
        }
        self.bytes = (self.bytes / 2).max(self.first_bytes);
        self.is_starting = true;
        self.granted_at = now;
        let is_less = self.share() < self.grant;
        self.grant = self.grant.min(self.share());
        is_less
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::io::Output;

    /// A call beside a writer, over one link: a queue without loss, then a delay.
    struct Path {
        now: Time,
        bytes_per_ms: f64,
        one_way_ms: u64,
        bulk: Bulk,
        out: Outbox,
        peer: PeerId,
        /// What the writer may still write; `None` without a limit.
        credit: Option<u32>,
        is_told: bool,
        backlog: u64,
        /// Bytes that entered the link, and that left it.
        entered: f64,
        left: f64,
        /// Frames in the link: when they were sent, and how many bytes stand before them.
        frames: VecDeque<(Time, f64)>,
        /// Frames that have left it: when they arrive, were sent, and waited.
        arriving: VecDeque<(Time, Time, Duration)>,
        /// Acknowledgements under way: when they come, and what they say.
        acks: VecDeque<(Time, Time, Duration)>,
        newest: Option<(Time, Duration)>,
        waits: Vec<Duration>,
        /// What others send, as a share of the link.
        others: f64,
        /// Whether nothing comes back.
        is_cut: bool,
        delivered: u64,
        grants: usize,
    }

    impl Path {
        fn new(bits_per_second: u64, one_way_ms: u64) -> Self {
            Self {
                now: Time::ZERO,
                bytes_per_ms: bits_per_second as f64 / 8000.0,
                one_way_ms,
                bulk: Bulk::new(),
                out: Outbox::default(),
                peer: PeerId::new("peer"),
                credit: None,
                is_told: false,
                backlog: 0,
                entered: 0.0,
                left: 0.0,
                frames: VecDeque::new(),
                arriving: VecDeque::new(),
                acks: VecDeque::new(),
                newest: None,
                waits: Vec::new(),
                others: 0.0,
                is_cut: false,
                delivered: 0,
                grants: 0,
            }
        }

        fn call(&mut self) {
            self.bulk.begin(self.now, &self.peer, &mut self.out);
            self.carry_out();
        }

        fn write(&mut self) {
            let taken = self.backlog.min(self.credit.map_or(u64::MAX, u64::from));
            self.backlog -= taken;
            self.delivered += taken;
            self.entered += taken as f64;
            if let Some(credit) = &mut self.credit {
                *credit -= taken as u32;
                if *credit == 0 && self.backlog > 0 && !std::mem::replace(&mut self.is_told, true) {
                    self.bulk.on_used(self.now, &self.peer, true, &mut self.out);
                }
            }
        }

        fn carry_out(&mut self) {
            while let Some(output) = self.out.pop() {
                let Output::Net(NetAction::Grant { bytes, .. }) = output else { panic!("{output:?}") };
                (self.credit, self.is_told) = (bytes, false);
                self.grants += 1;
            }
        }

        /// A millisecond: 20 ms frames of 160 bytes, an acknowledgement every 100 ms.
        fn step(&mut self) {
            let now = self.now;
            let millis = now.as_micros() / 1000;
            self.bulk.handle_timeout(self.now, |_| true, &mut self.out);
            while let Some((_, sent_at, delay)) = take_if(&mut self.acks, |(at, ..)| *at <= now) {
                self.bulk.on_acked(self.now, &self.peer, sent_at, delay, &mut self.out);
            }
            self.carry_out();
            self.write();
            if millis.is_multiple_of(20) {
                self.entered += 160.0;
                self.frames.push_back((self.now, self.entered));
            }
            self.entered += self.bytes_per_ms * self.others;
            self.left = (self.left + self.bytes_per_ms).min(self.entered);
            let left = self.left;
            while let Some((sent_at, _)) = take_if(&mut self.frames, |(_, end)| *end <= left) {
                let arrives = self.now + Duration::from_millis(self.one_way_ms);
                self.arriving.push_back((arrives, sent_at, self.now - sent_at));
            }
            while let Some((_, sent_at, wait)) = take_if(&mut self.arriving, |(at, ..)| *at <= now) {
                self.waits.push(wait);
                self.newest = Some((sent_at, wait));
            }
            if millis.is_multiple_of(100)
                && !self.is_cut
                && let Some((sent_at, wait)) = self.newest.take()
            {
                self.acks.push_back((self.now + Duration::from_millis(self.one_way_ms), sent_at, wait));
            }
            self.now = self.now + Duration::from_millis(1);
        }

        /// Returns the longest wait of a frame, and the bytes that were written.
        fn run(&mut self, seconds: u64) -> (Duration, u64) {
            self.waits.clear();
            let before = self.delivered;
            (0..1000 * seconds).for_each(|_| self.step());
            (self.waits.iter().max().copied().unwrap_or_default(), self.delivered - before)
        }
    }

    fn take_if<T>(queue: &mut VecDeque<T>, is_due: impl Fn(&T) -> bool) -> Option<T> {
        queue.front().is_some_and(is_due).then(|| queue.pop_front()).flatten()
    }

    /// A call that has lasted a second.
    fn call(bits_per_second: u64, one_way_ms: u64) -> Path {
        let mut path = Path::new(bits_per_second, one_way_ms);
        path.call();
        path.run(1);
        path
    }

    #[test]
    fn messages_without_end_leave_a_call_its_time_and_use_what_it_leaves() {
        for (bits_per_second, one_way_ms) in
            [(100_000, 20), (256_000, 5), (256_000, 30), (1_000_000, 15), (20_000_000, 40)]
        {
            let mut path = call(bits_per_second, one_way_ms);
            path.backlog = u64::MAX / 2;
            let (start, _) = path.run(5);
            assert!(start < Duration::from_millis(250), "{start:?} at first, at {bits_per_second} bit/s");
            let (later, bytes) = path.run(120);
            assert!(later < Duration::from_millis(150), "{later:?} at {bits_per_second} bit/s");
            let used = bytes * 8 * 100 / ((bits_per_second - 64_000) * 120);
            assert!(used > 55, "{used} % of what the call leaves of {bits_per_second} bit/s");
        }
    }

    #[test]
    fn a_free_path_is_used_fully_after_a_second() {
        for one_way_ms in [0, 5] {
            let mut path = call(1_000_000_000, one_way_ms);
            path.backlog = 65_000;
            let (wait, bytes) = path.run(1);
            assert_eq!((wait, bytes), (Duration::ZERO, 65_000));
            path.backlog = u64::MAX / 2;
            path.run(2);
            let (_, bytes) = path.run(1);
            assert!(bytes > 100_000_000, "{bytes} bytes in a second");
        }
    }

    #[test]
    fn a_message_now_and_then_finds_a_window_that_the_path_takes() {
        let mut path = call(256_000, 20);
        for _ in 0..6 {
            path.backlog += 65_000;
            let (wait, bytes) = path.run(10);
            assert_eq!(bytes, 65_000);
            assert!(wait < Duration::from_millis(120), "{wait:?}");
        }
    }

    #[test]
    fn a_window_that_was_not_used_shrinks_with_its_grant_and_one_that_is_idle_sets_no_timer() {
        let mut path = call(1_000_000_000, 5);
        path.backlog = 20_000_000;
        path.run(5);
        let (credit, grants) = (path.credit.unwrap(), path.grants);
        assert!(path.backlog == 0 && credit > 50_000, "{credit}");
        path.run(60);
        assert!(path.credit.unwrap() <= MAX_FIRST_WINDOW, "{:?}", path.credit);
        assert!(path.grants - grants < 20, "{} grants while nobody wrote", path.grants - grants);
        assert_eq!(path.bulk.next_deadline(), None);
    }

    #[test]
    fn whoever_else_fills_the_path_is_given_way() {
        let mut path = call(256_000, 20);
        path.backlog = u64::MAX / 2;
        path.run(10);
        // Others send as much as the link carries, behind a queue of 150 ms.
        path.entered += 4800.0;
        path.others = 0.75;
        path.run(2);
        let (_, bytes) = path.run(10);
        assert!((1000..30_000).contains(&bytes), "{bytes} bytes in 10 s");
        path.others = 0.0;
        path.run(5);
        let (wait, bytes) = path.run(10);
        assert!(wait < Duration::from_millis(120) && bytes > 150_000, "{wait:?}, {bytes} bytes in 10 s");
    }

    #[test]
    fn without_acknowledgements_little_flows() {
        let mut path = call(1_000_000, 20);
        path.backlog = u64::MAX / 2;
        path.run(10);
        path.is_cut = true;
        path.run(1);
        let (_, bytes) = path.run(60);
        assert!((1000..=u64::from(PROBE_BYTES) * 61).contains(&bytes), "{bytes} bytes in a minute");
    }

    #[test]
    fn a_silent_call_and_a_call_that_is_over_limit_nothing() {
        let (mut bulk, mut out, peer) = (Bulk::new(), Outbox::default(), PeerId::new("peer"));
        let grants = |out: &mut Outbox| {
            std::iter::from_fn(|| out.pop())
                .map(|output| match output {
                    Output::Net(NetAction::Grant { bytes, .. }) => bytes.is_some(),
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
        };
        let begin = |bulk: &mut Bulk, out: &mut Outbox| bulk.begin(Time::ZERO, &peer, out);
        begin(&mut bulk, &mut out);
        begin(&mut bulk, &mut out);
        assert_eq!(grants(&mut out), [true]);
        bulk.on_used(Time::ZERO, &peer, false, &mut out);
        assert_eq!(grants(&mut out), [false], "when data waits in a silence");
        begin(&mut bulk, &mut out);
        bulk.on_used(Time::ZERO, &peer, true, &mut out);
        bulk.handle_timeout(Time::from_millis(5000), |_| false, &mut out);
        assert_eq!((grants(&mut out), bulk.next_deadline()), (vec![true, false], None), "when data waits longer");
        begin(&mut bulk, &mut out);
        bulk.on_used(Time::ZERO, &peer, true, &mut out);
        bulk.retain(|_| true, &mut out);
        bulk.retain(|_| false, &mut out);
        assert_eq!((grants(&mut out), bulk.next_deadline()), (vec![true, false], None), "when the call is over");
        begin(&mut bulk, &mut out);
        bulk.on_used(Time::ZERO, &peer, true, &mut out);
        bulk.end(&peer, &mut out);
        bulk.on_used(Time::ZERO, &peer, true, &mut out);
        assert_eq!((grants(&mut out), bulk.next_deadline()), (vec![true, false], None), "the connections have ended");
    }

    #[test]
    fn forged_acknowledgements_and_answers_do_no_harm() {
        let (mut bulk, mut out, peer) = (Bulk::new(), Outbox::default(), PeerId::new("peer"));
        bulk.begin(Time::ZERO, &peer, &mut out);
        for n in 0..10_000u64 {
            let now = Time::from_millis(n);
            bulk.on_used(now, &peer, true, &mut out);
            bulk.on_acked(now, &peer, Time(Duration::MAX), Duration::ZERO, &mut out);
            bulk.on_acked(now, &peer, Time::ZERO, Duration::MAX, &mut out);
            bulk.handle_timeout(now, |_| true, &mut out);
        }
        let window = &bulk.windows[&peer];
        assert!(window.bytes <= MAX_WINDOW && window.sent.len() <= MAX_SENT, "{window:?}");
        assert!(window.span >= MIN_SPAN && window.span <= MAX_SPAN);
    }
}
