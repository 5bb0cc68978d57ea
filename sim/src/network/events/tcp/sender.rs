//! What is sent, what is sent again, and when?

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::congestion::Congestion;
use super::{Ack, Data, SEGMENT_BYTES, WINDOW_BYTES};

const RTO_MIN: Duration = Duration::from_millis(200);
const RTO_MAX: Duration = Duration::from_secs(120);
/// RFC 6298, before the first round trip was measured.
const RTO_FIRST: Duration = Duration::from_secs(1);
/// Linux gives up after 15 retransmissions (`tcp_retries2`), which takes 924.6 s with the shortest timeout.
const MOST_TIMEOUTS: u32 = 15;
/// What Linux accounts for a segment, beside its data; and what it reckons with for a full one.
const OVERHEAD_BYTES: usize = 1280;
const ACCOUNTED_BYTES: usize = 4352;
/// The send buffer holds at least so many segments, and so many bytes at most (`tcp_wmem`).
const BUFFER_SEGMENTS: usize = 10;
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// Three segments beyond a missing one say that it is lost.
const DUPLICATE_ACKS: usize = 3;

struct Segment {
    bytes: Bytes,
    is_last: bool,
    sent_at: Duration,
    was_resent: bool,
    has_arrived: bool,
    /// It is lost, and has to be sent again.
    is_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Timer {
    /// Is a segment late, or only reordered?
    Reordering(Duration),
    TailLossProbe(Duration),
    Retransmission(Duration),
}

/// The sending half of an end.
pub(super) struct Sender {
    unsent: BytesMut,
    is_closed: bool,
    has_sent_last: bool,
    /// The number of the first segment of `flight`.
    first: u64,
    /// What was sent and is not acknowledged in order.
    flight: VecDeque<Segment>,
    flight_bytes: usize,
    buffer_bytes: usize,
    /// What the receiver still takes, beyond what was under way when it said so.
    window_bytes: usize,
    congestion: Congestion,
    was_limited: bool,
    last_sent_at: Duration,
    round_trip: Option<(Duration, Duration)>,
    shortest: Duration,
    timeouts: u32,
    /// Losses up to this segment have been answered with a smaller window.
    recovery_until: Option<u64>,
    /// When the segment was sent that arrived last in the order of sending, its number, and its round trip.
    newest: (Duration, u64, Duration),
    highest_arrived: u64,
    has_seen_reordering: bool,
    timer: Option<Timer>,
    has_probed: bool,
    /// The timer asks for a segment beyond what windows allow.
    must_probe: bool,
}

impl Sender {
    pub(super) fn new() -> Self {
        Self {
            unsent: BytesMut::new(),
            is_closed: false,
            has_sent_last: false,
            first: 0,
            flight: VecDeque::new(),
            flight_bytes: 0,
            buffer_bytes: 2 * BUFFER_SEGMENTS * ACCOUNTED_BYTES,
            window_bytes: WINDOW_BYTES,
            congestion: Congestion::new(),
            was_limited: false,
            last_sent_at: Duration::ZERO,
            round_trip: None,
            shortest: Duration::MAX,
            timeouts: 0,
            recovery_until: None,
            newest: (Duration::ZERO, 0, Duration::ZERO),
            highest_arrived: 0,
            has_seen_reordering: false,
            timer: None,
            has_probed: false,
            must_probe: false,
        }
    }

    fn used_bytes(&self) -> usize {
        self.unsent.len() + self.flight_bytes + self.flight.len() * OVERHEAD_BYTES
    }

    pub(super) fn write(&mut self, buffer: &[u8]) -> usize {
        let len = buffer.len().min(self.buffer_bytes.saturating_sub(self.used_bytes()));
        self.unsent.extend_from_slice(&buffer[..len]);
        len
    }

    /// Like Linux, it tells a writer that waits when a third of the buffer is free.
    pub(super) fn is_writable(&self) -> bool {
        self.used_bytes() <= self.buffer_bytes / 3 * 2
    }

    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn is_done(&self) -> bool {
        self.has_sent_last && self.flight.is_empty()
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.timeouts > MOST_TIMEOUTS
    }

    /// Segments that are believed to be in the network.
    fn under_way(&self) -> usize {
        self.flight.iter().filter(|segment| !segment.has_arrived && !segment.is_lost).count()
    }

    /// The next segment to send now.
    pub(super) fn poll_data(&mut self, now: Duration) -> Option<Data> {
        let is_probe = std::mem::take(&mut self.must_probe);
        let under_way = self.under_way();
        let is_allowed = under_way < self.congestion.window().max(1) || is_probe;
        if !is_allowed {
            self.was_limited = true;
            return None;
        }
        if let Some(at) = self.flight.iter().position(|segment| segment.is_lost) {
            return Some(self.resend(now, at));
        }
        let has_more = !self.unsent.is_empty() || self.is_closed && !self.has_sent_last;
        if has_more && (self.flight_bytes < self.window_bytes || is_probe) {
            return Some(self.send(now, under_way));
        }
        let last = self.flight.iter().rposition(|segment| !segment.has_arrived);
        match last.filter(|_| is_probe) {
            Some(at) => Some(self.resend(now, at)),
            None => {
                // Without a window and with nothing under way, only a probe finds out whether there is one again.
                if has_more && self.flight.is_empty() && self.timer.is_none() {
                    self.timer = Some(Timer::Retransmission(now + self.timeout()));
                }
                None
            }
        }
    }

    fn send(&mut self, now: Duration, under_way: usize) -> Data {
        if self.flight.is_empty() && now > self.last_sent_at + self.timeout() && self.first > 0 {
            self.congestion.on_idle();
        }
        let bytes = self.unsent.split_to(self.unsent.len().min(SEGMENT_BYTES)).freeze();
        let is_last = self.is_closed && self.unsent.is_empty();
        self.has_sent_last |= is_last;
        self.flight_bytes += bytes.len();
        let number = self.first + self.flight.len() as u64;
        self.flight.push_back(Segment {
            bytes: bytes.clone(),
            is_last,
            sent_at: now,
            was_resent: false,
            has_arrived: false,
            is_lost: false,
        });
        self.was_limited |= under_way + 1 >= self.congestion.window();
        self.last_sent_at = now;
        if !matches!(self.timer, Some(Timer::Reordering(_))) {
            self.arm(now);
        }
        Data { number, bytes, is_last }
    }

    fn resend(&mut self, now: Duration, at: usize) -> Data {
        let segment = &mut self.flight[at];
        (segment.is_lost, segment.was_resent, segment.sent_at) = (false, true, now);
        let data = Data { number: self.first + at as u64, bytes: segment.bytes.clone(), is_last: segment.is_last };
        self.last_sent_at = now;
        if self.timer.is_none() {
            self.timer = Some(Timer::Retransmission(now + self.timeout()));
        }
        data
    }

    /// RFC 6298, with Linux's bounds, doubled for each timeout in a row.
    fn timeout(&self) -> Duration {
        let base = self.round_trip.map_or(RTO_FIRST, |(smooth, variation)| smooth + (variation * 4).max(RTO_MIN));
        (base * 2u32.pow(self.timeouts.min(16))).min(RTO_MAX)
    }

    /// Sets the timer after progress: a tail loss probe, or the retransmission timeout after one.
    fn arm(&mut self, now: Duration) {
        let timeout = now + self.timeout();
        let probe = self.round_trip.filter(|_| !self.has_probed && self.recovery_until.is_none() && self.timeouts == 0);
        self.timer = match probe {
            _ if self.flight.is_empty() => None,
            // A single segment may wait for a delayed acknowledgement.
            Some((smooth, _)) => {
                let delayed = if self.flight.len() == 1 { RTO_MIN } else { Duration::from_millis(2) };
                Some(Timer::TailLossProbe((now + smooth * 2 + delayed).min(timeout)))
            }
            None => Some(Timer::Retransmission(timeout)),
        };
    }

    pub(super) fn on_ack(&mut self, now: Duration, ack: &Ack) {
        let mut arrived = 0;
        let end = self.first + self.flight.len() as u64;
        for (from, until) in ack.ahead.iter().copied().chain([(self.first, ack.next)]) {
            for number in from.max(self.first)..until.min(end) {
                arrived += usize::from(self.on_arrived(now, number));
            }
        }
        let mut has_advanced = false;
        while self.first < ack.next
            && let Some(segment) = self.flight.pop_front()
        {
            self.first += 1;
            self.flight_bytes -= segment.bytes.len();
            has_advanced = true;
        }
        self.on_window(now, ack.window);
        if self.recovery_until.is_some_and(|until| self.first >= until) {
            self.recovery_until = None;
        }
        if arrived > 0 && self.was_limited && self.recovery_until.is_none() {
            let round_trip = self.round_trip.map_or(Duration::ZERO, |(smooth, _)| smooth);
            self.congestion.on_arrived(now, arrived, round_trip);
        }
        if arrived > 0 || has_advanced {
            self.was_limited = false;
            (self.timeouts, self.has_probed) = (0, false);
            let wanted = 2 * ACCOUNTED_BYTES * self.congestion.window().max(BUFFER_SEGMENTS);
            self.buffer_bytes = self.buffer_bytes.max(wanted.min(BUFFER_BYTES_MAX));
            self.arm(now);
            self.find_losses(now);
        }
    }

    fn on_window(&mut self, now: Duration, window: usize) {
        let was_shut = std::mem::replace(&mut self.window_bytes, window) == 0;
        if window == 0 {
            // The receiver lives. It is asked for a window for as long as that takes.
            self.timeouts = self.timeouts.min(MOST_TIMEOUTS / 2);
        } else if was_shut {
            // It dropped what asked for the window.
            self.timeouts = 0;
            self.flight.iter_mut().for_each(|segment| segment.is_lost |= !segment.has_arrived);
            self.arm(now);
        }
    }

    /// A segment has arrived, in order or not. Returns whether that is news.
    fn on_arrived(&mut self, now: Duration, number: u64) -> bool {
        let highest = self.highest_arrived;
        let segment = &mut self.flight[(number - self.first) as usize];
        if std::mem::replace(&mut segment.has_arrived, true) {
            return false;
        }
        segment.is_lost = false;
        let (sent_at, was_resent) = (segment.sent_at, segment.was_resent);
        let took = now.saturating_sub(sent_at);
        self.has_seen_reordering |= !was_resent && number < highest;
        self.highest_arrived = highest.max(number);
        // Of a segment that was sent twice, it is unknown which one arrived, unless only the second one can have.
        let is_clear = !was_resent || took >= self.shortest;
        if is_clear && (sent_at, number) > (self.newest.0, self.newest.1) {
            self.newest = (sent_at, number, took);
        }
        if !was_resent {
            self.shortest = self.shortest.min(took);
            self.round_trip = Some(match self.round_trip {
                None => (took, took / 2),
                Some((smooth, variation)) => ((smooth * 7 + took) / 8, (variation * 3 + smooth.abs_diff(took)) / 4),
            });
        }
        true
    }

    /// RACK: a segment is lost if one that was sent later has arrived, and it had time to arrive itself.
    fn find_losses(&mut self, now: Duration) {
        let (newest_sent, newest, took) = self.newest;
        let beyond = self.flight.iter().filter(|segment| segment.has_arrived).count();
        let is_sure = self.recovery_until.is_some() || beyond >= DUPLICATE_ACKS;
        let patience = if is_sure && !self.has_seen_reordering { Duration::ZERO } else { self.shortest / 4 };
        let (mut has_lost, mut next_check) = (false, None::<Duration>);
        for (at, segment) in self.flight.iter_mut().enumerate() {
            let number = self.first + at as u64;
            if segment.has_arrived || segment.is_lost || (segment.sent_at, number) >= (newest_sent, newest) {
                continue;
            }
            let lost_at = segment.sent_at + took + patience;
            if lost_at <= now {
                (segment.is_lost, has_lost) = (true, true);
            } else {
                next_check = Some(next_check.map_or(lost_at, |check| check.min(lost_at)));
            }
        }
        if has_lost && self.recovery_until.is_none() {
            self.recovery_until = Some(self.first + self.flight.len() as u64);
            self.congestion.on_loss();
            self.arm(now);
        }
        if let Some(check) = next_check {
            self.timer = Some(Timer::Reordering(check));
        }
    }

    pub(super) fn next_timer(&self) -> Option<Duration> {
        self.timer.map(|(Timer::Reordering(at) | Timer::TailLossProbe(at) | Timer::Retransmission(at))| at)
    }

    pub(super) fn on_timer(&mut self, now: Duration) {
        let Some(timer) = self.timer.filter(|_| self.next_timer().is_some_and(|at| at <= now)) else { return };
        self.timer = None;
        match timer {
            Timer::Reordering(_) => {
                self.arm(now);
                self.find_losses(now);
            }
            Timer::TailLossProbe(_) => {
                (self.must_probe, self.has_probed) = (true, true);
                self.timer = Some(Timer::Retransmission(now + self.timeout()));
            }
            Timer::Retransmission(_) => self.on_timeout(now),
        }
    }

    fn on_timeout(&mut self, now: Duration) {
        self.timeouts += 1;
        for segment in self.flight.iter_mut().filter(|segment| !segment.has_arrived) {
            segment.is_lost = true;
        }
        self.congestion.on_timeout(self.timeouts == 1);
        self.recovery_until = Some(self.first + self.flight.len() as u64);
        // With nothing under way, this asks for a new window.
        self.must_probe = self.flight.is_empty();
        self.timer = Some(Timer::Retransmission(now + self.timeout()));
    }
}
