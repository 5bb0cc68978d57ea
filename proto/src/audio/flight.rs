//! When may the next frame leave? Frames in flight are bounded by what the other end acknowledges, so that they do not
//! grow old in the buffers below.
//!
//! The terms are those of RFC 9002 and of BBR (draft-ietf-ccwg-bbr). What differs from both: audio has a rate of its own
//! and is worthless when it is late, so the aim is a short queue and not all of the path's rate; and acknowledgements
//! are rare.
//!
//! - *Acknowledgements.* An end that knows ACK sends one about every 100 ms, and says so when the stream opens. An older
//!   end sends a REPORT every second. So a frame is acknowledged after the path's round trip (`base`, a windowed minimum,
//!   without the queueing that ACK tells) and up to an interval, which is measured: how long an acknowledgement was
//!   possible and did not come, smoothed. With an end that has told nothing yet, frames leave as the channel takes them, up to
//!   [`UNREPORTED_BYTES`] in [`UNREPORTED_FOR`].
//! - *The bound in time.* On a substream, the flight is closed while its oldest frame has waited for more than `base`, the
//!   interval and [`STALL`]. So the frames behind an outage are few, and those after it are fresh.
//! - *The bound in bytes.* A path whose queue is long at each acknowledgement for [`PERSISTS_FOR`] is limited. Then the
//!   bytes in flight are at most `rate · (base + queue_target)`; what the path has taken since the last acknowledgement is
//!   estimated with the rate. The rate is a windowed maximum of delivery-rate samples.
//! - *Startup.* Before the first ACK, [`FIRST_ACK_WITHIN`] of audio leaves; then the bytes in flight may grow by twice what
//!   is acknowledged, for a second. A long queue ends that at once: the path is limited.
//! - *The least delay* is measured anew every [`DRAIN_EVERY`] on a limited path: the flight pauses until the queue is
//!   empty, as BBR does in ProbeRTT. What is left of the queueing delay then is no queue: the path has become longer.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

use super::send::Batch;
use super::window::{DELAY_OVER, Least};
use crate::engine::Time;
use crate::wire::Ack;

/// The queueing delay that a limited path keeps, besides the frame on its way. Less would leave it idle between two
/// frames. More would overflow the queues of slow links, which hold a few packets: in the simulated 128 kbit/s with 200 ms
/// of queue, TCP then loses packets, and what comes behind them is late.
const QUEUE_TARGET: Duration = Duration::from_millis(25);
/// The same of a path of datagrams. There nothing waits behind a lost packet.
const LOSSY_QUEUE_TARGET: Duration = Duration::from_millis(60);
/// A queueing delay that, at each acknowledgement, jitter alone does not explain.
const LONG_QUEUE: Duration = Duration::from_millis(40);
const LOSSY_LONG_QUEUE: Duration = Duration::from_millis(60);
/// A queueing delay that says that the path may take more.
const SHORT_QUEUE: Duration = Duration::from_millis(25);
/// The path is limited if its queue is long for this time: a lost packet's retransmission is over by then.
const PERSISTS_FOR: Duration = Duration::from_millis(200);
/// A path is no longer limited after this time in which its queue was not long and no frame was held back.
const RELIEVED_AFTER: Duration = Duration::from_secs(3);
/// How long a path must take all that it is given before it counts as unlimited.
const STARTUP_FOR: Duration = Duration::from_secs(1);
/// How long an acknowledgement may be overdue: TCP's least retransmission timeout (200 ms on Linux), and a round trip.
const STALL: Duration = Duration::from_millis(300);
/// How much audio leaves before the first ACK, which comes soon. The rest waits for it. On a path whose round trip is known,
/// as much more.
const FIRST_ACK_WITHIN: Duration = Duration::from_millis(60);
const MAX_FIRST_RTT: Duration = Duration::from_millis(500);
/// Frames for a limited path may wait this long, once all that left for [`WAITING_FOR`] waited longer. Such a standing queue
/// before the path only adds delay (RFC 8289 §3.1).
const FRESH: Duration = Duration::from_millis(20);
const WAITING_FOR: Duration = Duration::from_millis(100);
/// The least time between two ACKs.
pub(crate) const ACK_EVERY: Duration = Duration::from_millis(100);
/// The least time from a frame to its ACK. Frames that waited for a lost packet, or for a radio that dozes, come together;
/// the delay of the newest is that of the path now.
pub(crate) const ACK_AFTER: Duration = Duration::from_millis(10);
/// RFC 3550 §6.2 sends reports every few seconds; calls need them sooner.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(1);
/// The longest interval between acknowledgements that is allowed for.
const MAX_INTERVAL: Duration = Duration::from_secs(2);
/// The bound of an end that has reported nothing: as much as the kernel holds, within the time of a REPORT.
const UNREPORTED_BYTES: u64 = 256 * 1024;
const UNREPORTED_FOR: Duration = Duration::from_secs(1);
/// How long a datagram without an acknowledgement counts as on its way, at least. Queues of slow links are shorter.
const UNACKED_FOR: Duration = Duration::from_secs(1);
/// How long a rate is believed, or twice as long.
const RATE_OVER: Duration = Duration::from_secs(2);
/// Shorter than [`DELAY_OVER`], so that each window of both ends contains an empty queue.
const DRAIN_EVERY: Duration = Duration::from_secs(8);
/// How much longer than the queue a pause lasts. An error of the least delay shrinks by this much each time.
const DRAIN_MORE: Duration = Duration::from_millis(60);
/// REPORT comes too seldom to see an empty queue: an older end's least delay is believed for this long.
const REPORTED_DELAY_OVER: Duration = Duration::from_secs(300);
/// Frames that left within this time are one entry, so that a flood costs no memory.
const GRAIN: Duration = Duration::from_millis(5);

/// What a path does with frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum Path {
    /// All frames arrive, in order: a substream. A frame without an acknowledgement is still on its way.
    #[default]
    Ordered,
    /// Frames and acknowledgements may get lost: datagrams. An acknowledgement resolves the frames before it too, arrived
    /// or not, and only those that `received` counts were delivered. A frame without an acknowledgement is given up after
    /// a second, or twice the time in which one was due; before the first one, as soon as it is overdue.
    Lossy,
}

/// Where acknowledgements come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
enum Feedback {
    /// Nothing has come yet.
    Nothing,
    /// REPORT, from an older end.
    Reports,
    /// ACK.
    Acks,
}

/// Frames that left together.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Sent {
    at: Time,
    /// Of the first frame and the last.
    sequences: (u64, u64),
    given: (Time, Time),
    frames: u64,
    bytes: u64,
    /// The bytes that had been delivered when it left, and when that was known.
    delivered: u64,
    delivered_at: Time,
    /// Whether no more waited, and more could have left: then the path's rate is not seen.
    is_app_limited: bool,
}

/// The frames of one direction of a stream that are on their way.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Flight {
    path: Path,
    feedback: Feedback,
    sent: VecDeque<Sent>,
    in_flight_bytes: u64,
    /// Of one frame, as of the last that left.
    frame_bytes: u64,
    /// What the next frame has, unless some are dropped before.
    next_sequence: Option<u64>,
    /// Of the first frame on this path.
    first_sequence: Option<u64>,
    delivered_bytes: u64,
    /// Frames that the other end has received.
    received: u64,
    acked_at: Time,
    first_ack_within: Duration,
    /// The least time to an acknowledgement.
    base: Least<Duration>,
    interval: Duration,
    /// Bytes a second; the greatest of late.
    rate: Least<Reverse<u64>>,
    queue_delay: Option<Duration>,
    /// When the newest frame was sent that was acknowledged since [`take_acked`](Self::take_acked).
    acked_sent_at: Option<Time>,
    /// As of the acknowledgement before. One alone may tell of a stall, or of a pause.
    queue_before: Duration,
    /// During startup: the bytes that may be in flight, and when it ends.
    startup: Option<(u64, Time)>,
    /// Since when the queue was long at each acknowledgement.
    long_since: Option<Time>,
    /// When the path was last seen limited.
    limited_at: Option<Time>,
    /// Since when each frame that left had waited.
    waiting_since: Option<Time>,
    wants_fresh: bool,
    drained_at: Time,
    drain_until: Time,
    /// The least queueing delay of frames that left after the last pause: this is no queue, the path has become longer.
    longer_by: Option<Duration>,
}

impl Flight {
    /// Nothing is in flight, and nothing is known.
    pub fn new(path: Path) -> Self {
        Self {
            path,
            feedback: Feedback::Nothing,
            sent: VecDeque::new(),
            in_flight_bytes: 0,
            frame_bytes: 0,
            next_sequence: None,
            first_sequence: None,
            delivered_bytes: 0,
            received: 0,
            acked_at: Time::ZERO,
            first_ack_within: FIRST_ACK_WITHIN,
            base: Least::new(DELAY_OVER),
            interval: REPORT_EVERY,
            rate: Least::new(RATE_OVER),
            queue_delay: None,
            acked_sent_at: None,
            queue_before: Duration::ZERO,
            startup: None,
            long_since: None,
            limited_at: None,
            waiting_since: None,
            wants_fresh: false,
            drained_at: Time::ZERO,
            drain_until: Time::ZERO,
            longer_by: None,
        }
    }

    /// Forgets the path and what is in flight on it: frames take another path from now on, whose round trip may be known.
    /// Whether the other end sends ACK, and how many frames it has received, does not depend on the path.
    pub fn change_path(&mut self, path: Path, rtt: Option<Duration>) {
        let Self { feedback, interval, received, .. } = *self;
        let first_ack_within = FIRST_ACK_WITHIN + rtt.unwrap_or_default().min(MAX_FIRST_RTT);
        *self = Self { feedback, interval, received, first_ack_within, ..Self::new(path) };
    }

    /// How many bytes may leave now. Frames may leave while they have less: the last one may exceed it.
    pub fn room(&mut self, now: Time) -> usize {
        self.give_up(now);
        let Some(oldest) = self.sent.front() else { return usize::MAX };
        if self.feedback == Feedback::Nothing {
            return to_usize(UNREPORTED_BYTES.saturating_sub(self.in_flight_bytes));
        }
        if now < self.drain_until || self.is_stalled(now, oldest) {
            return 0;
        }
        match self.window() {
            Some(window) => to_usize(window.saturating_sub(self.estimated_bytes(now))),
            None => usize::MAX,
        }
    }

    /// As [`room`](Self::room), for what leaves on a substream: it keeps its order, so nothing follows what is stuck.
    pub fn room_in_order(&mut self, now: Time) -> usize {
        let room = self.room(now);
        let is_stuck = |oldest: &Sent| self.feedback != Feedback::Nothing && now - oldest.at > self.patience();
        if self.sent.front().is_some_and(is_stuck) { 0 } else { room }
    }

    /// When there will be room without an acknowledgement, if there is none now.
    pub fn opens_at(&self, now: Time) -> Option<Time> {
        let oldest = self.sent.front()?;
        let at = match self.window() {
            _ if self.feedback == Feedback::Nothing => oldest.at + UNREPORTED_FOR,
            _ if now < self.drain_until => self.drain_until,
            _ if self.is_stalled(now, oldest) => self.gives_up_at(oldest)?,
            Some(window) => {
                let over = self.in_flight_bytes.saturating_sub(window) + 1;
                let after = Duration::from_micros(over.saturating_mul(1_000_000).checked_div(self.rate())? + 1);
                (after <= self.interval).then(|| self.acked_at + after)?
            }
            None => return None,
        };
        // Not at once again, whatever was rounded.
        Some(at.max(now + Duration::from_millis(1)))
    }

    /// How long a frame may wait before the path, if it may wait for `max_wait` when the path's queue is as short as it
    /// should be. What the queue takes longer is taken from that.
    pub fn max_wait(&self, max_wait: Duration) -> Duration {
        let queue = self.queue_delay.unwrap_or_default().min(self.queue_before);
        let over = queue.saturating_sub(self.queue_target());
        let left = if self.wants_fresh { Duration::ZERO } else { max_wait.saturating_sub(over) };
        left.max(FRESH.min(max_wait))
    }

    fn queue_target(&self) -> Duration {
        match self.path {
            Path::Ordered => QUEUE_TARGET,
            Path::Lossy => LOSSY_QUEUE_TARGET,
        }
    }

    fn long_queue(&self) -> Duration {
        match self.path {
            Path::Ordered => LONG_QUEUE,
            Path::Lossy => LOSSY_LONG_QUEUE,
        }
    }

    /// Records frames that leave. `is_app_limited` tells that no more frames wait.
    pub fn on_sent(&mut self, now: Time, batch: &Batch, is_app_limited: bool) {
        if now - batch.given.1 <= FRESH || self.limited_at.is_none() {
            self.waiting_since = None;
        } else if now - *self.waiting_since.get_or_insert(now) >= WAITING_FOR {
            self.wants_fresh = true;
        }
        let was_dropped =
            self.next_sequence.replace(batch.sequences.1 + 1).is_some_and(|next| next < batch.sequences.0);
        if self.limited_at.is_some() && (was_dropped || !is_app_limited) {
            self.limited_at = Some(now);
        }
        self.first_sequence.get_or_insert(batch.sequences.0);
        self.in_flight_bytes += batch.bytes;
        self.frame_bytes = batch.bytes / batch.frames.max(1);
        let fills_window =
            self.path == Path::Ordered && self.window().is_some_and(|window| self.estimated_bytes(now) >= window);
        let is_app_limited = is_app_limited && !fills_window;
        match self.sent.back_mut() {
            Some(last) if now - last.at < GRAIN => {
                (last.sequences.1, last.given.1) = (batch.sequences.1, batch.given.1);
                last.frames += batch.frames;
                last.bytes += batch.bytes;
                last.is_app_limited &= is_app_limited;
            }
            last => {
                // The path was idle until now.
                let delivered_at = if last.is_none() { now } else { self.acked_at };
                self.sent.push_back(Sent {
                    at: now,
                    sequences: batch.sequences,
                    given: batch.given,
                    frames: batch.frames,
                    bytes: batch.bytes,
                    delivered: self.delivered_bytes,
                    delivered_at,
                    is_app_limited,
                });
            }
        }
    }

    /// Handles ACK.
    pub fn on_ack(&mut self, now: Time, ack: &Ack) {
        if self.feedback != Feedback::Acks {
            (self.feedback, self.interval, self.base) = (Feedback::Acks, ACK_EVERY, Least::new(DELAY_OVER));
        }
        if ack.received > 0 {
            let received = ack.received.saturating_sub(self.received);
            self.received = self.received.max(ack.received);
            let queued = Duration::from_micros(ack.delay_us);
            self.on_acknowledged(now, ack.highest_sequence, Some(received), Some(queued));
        }
    }

    /// Handles `highest_sequence` of REPORT. It says nothing new if ACKs come.
    pub fn on_report(&mut self, now: Time, highest_sequence: u64) {
        if self.feedback == Feedback::Nothing {
            (self.feedback, self.base) = (Feedback::Reports, Least::new(REPORTED_DELAY_OVER));
        }
        if self.feedback == Feedback::Reports {
            self.on_acknowledged(now, highest_sequence, None, None);
        }
    }

    /// Bytes that were sent and are not acknowledged, with the headers of their frames.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// The bits of frames that the path takes in a second, while it is limited.
    pub fn rate_bits_per_second(&self) -> Option<u64> {
        self.limited_at.map(|_| self.rate().saturating_mul(8))
    }

    /// How long frames wait in the path's queues, as of the last acknowledgement.
    pub fn queue_delay(&self) -> Option<Duration> {
        self.queue_delay
    }

    /// When the newest acknowledged frame was sent, and how long it waited in the path's queues; `None` if nothing was
    /// acknowledged since the last call.
    pub fn take_acked(&mut self) -> Option<(Time, Duration)> {
        self.acked_sent_at.take().zip(self.queue_delay)
    }

    fn on_acknowledged(&mut self, now: Time, highest: u64, received: Option<u64>, queued: Option<Duration>) {
        // It may tell of a path that was left: how long frames waited there says nothing about this one.
        if self.first_sequence.is_none_or(|first| highest < first) {
            return;
        }
        let in_flight = self.in_flight_bytes;
        let Some(acked) = self.resolve(highest) else {
            // An older ACK was overtaken, or all was given up that it tells of: then the queue is longer than was thought.
            if let Some(queued) = queued.filter(|_| received.is_some_and(|received| received > 0)) {
                self.on_queue(now, queued);
            }
            return;
        };
        if self.base.value().is_none() && self.feedback == Feedback::Acks {
            // Until the next ACK, a little of what the application gives. In a short time much may have left.
            let micros = (now - acked.oldest_at).as_micros() as u64;
            let next = bytes_in(in_flight, self.interval / 10).saturating_mul(1_000_000).checked_div(micros);
            self.startup = next.map(|next| (in_flight.saturating_add(next), now + STARTUP_FOR));
        }
        self.startup = self.startup.map(|(window, until)| (window.saturating_add(2 * acked.bytes), until));
        let delivered = match (self.path, received) {
            (Path::Lossy, Some(received)) if received < acked.frames => share(acked.bytes, received, acked.frames),
            _ => acked.bytes,
        };
        self.delivered_bytes += delivered;
        let (given, sent) = (acked.newest.given.1, acked.newest.at);
        // ACK counts from when the frame was given. No more was spent in queues than has passed.
        let queued = queued.map(|queued| queued.min(now - given));
        self.base.add(now, queued.map_or(now - sent, |queued| now - (given + queued)));
        let base = self.base.value().unwrap_or_default();
        // For so long an acknowledgement was possible.
        let interval = now - self.acked_at.max(acked.oldest_at + base);
        self.interval = (self.interval * 7 + interval.min(MAX_INTERVAL)) / 8;
        self.acked_at = now;
        self.acked_sent_at = Some(sent);
        self.sample_rate(now, &acked.newest);
        let queued = queued.map_or((now - sent).saturating_sub(base), |queued| queued.saturating_sub(sent - given));
        if sent >= self.drain_until && self.drain_until > Time::ZERO {
            self.longer_by = Some(self.longer_by.map_or(queued, |least| least.min(queued)));
        }
        self.on_queue(now, queued.saturating_sub(self.longer_by.unwrap_or_default()));
    }

    /// Takes the frames up to `highest` out of the flight; `None` if it has none of them.
    fn resolve(&mut self, highest: u64) -> Option<Acked> {
        let oldest = self.sent.front().filter(|oldest| oldest.sequences.0 <= highest)?;
        let mut acked = Acked { oldest_at: oldest.at, newest: *oldest, frames: 0, bytes: 0 };
        while let Some(sent) = self.sent.front_mut().filter(|sent| sent.sequences.0 <= highest) {
            let (first, last) = sent.sequences;
            acked.newest = *sent;
            if highest >= last {
                acked.frames += sent.frames;
                acked.bytes += sent.bytes;
                self.sent.pop_front();
            } else {
                let (of, parts) = (highest - first + 1, last - first + 1);
                let (frames, bytes) = (share(sent.frames, of, parts), share(sent.bytes, of, parts));
                acked.frames += frames;
                acked.bytes += bytes;
                sent.frames -= frames;
                sent.bytes -= bytes;
                // As if the application had given the frames of an entry evenly.
                let given = sent.given.0 + (sent.given.1 - sent.given.0).mul_f64(of as f64 / parts as f64);
                (sent.sequences.0, sent.given.0, acked.newest.given.1) = (highest + 1, given, given);
            }
        }
        self.in_flight_bytes -= acked.bytes;
        Some(acked)
    }

    /// A delivery-rate sample, as of draft-ietf-ccwg-bbr §4.5. One that the application's rate bounds counts only if it
    /// is higher than what is known.
    fn sample_rate(&mut self, now: Time, newest: &Sent) {
        let over_us = (now - newest.delivered_at).as_micros() as u64;
        let bytes = self.delivered_bytes - newest.delivered;
        let Some(sample) = bytes.saturating_mul(1_000_000).checked_div(over_us) else { return };
        if sample > 0 && (!newest.is_app_limited || sample >= self.rate()) {
            self.rate.add(now, Reverse(sample));
        }
    }

    fn on_queue(&mut self, now: Time, queued: Duration) {
        self.queue_before = self.queue_delay.replace(queued).unwrap_or_default();
        let is_starting = self.startup.is_some();
        let long_queue = self.long_queue();
        self.startup = self.startup.filter(|(_, until)| now < *until && queued <= long_queue);
        if queued <= long_queue {
            self.long_since = None;
        } else if is_starting || now - *self.long_since.get_or_insert(now) >= PERSISTS_FOR {
            if self.limited_at.is_none() {
                self.drained_at = now;
            }
            self.limited_at = Some(now);
        }
        if self.limited_at.is_some_and(|at| now - at >= RELIEVED_AFTER) {
            (self.limited_at, self.waiting_since, self.wants_fresh) = (None, None, false);
        }
        if queued <= SHORT_QUEUE {
            self.drained_at = now;
        } else if self.feedback == Feedback::Acks && self.limited_at.is_some() && now - self.drained_at >= DRAIN_EVERY {
            (self.drained_at, self.longer_by) = (now, None);
            self.drain_until = now + queued + DRAIN_MORE;
        }
    }

    /// The bytes that may be in flight before the next frame leaves, if they are bounded.
    fn window(&self) -> Option<u64> {
        let window = match (self.limited_at, self.startup) {
            (None, None) => return None,
            (None, Some((window, _))) => window,
            (Some(_), _) => {
                let base = self.base.value()? + self.longer_by.unwrap_or_default();
                let window = bytes_in(self.rate(), base + self.queue_target());
                // An idle path may take more than is known.
                let is_short = self.queue_delay?.max(self.queue_before) <= SHORT_QUEUE;
                match self.path {
                    Path::Lossy if is_short => return Some(2 * window),
                    Path::Lossy => return Some(window),
                    Path::Ordered if is_short => window + window / 4 + self.frame_bytes,
                    Path::Ordered => window,
                }
            }
        };
        // The frame may exceed the bound by half of itself.
        Some(window.saturating_sub(self.frame_bytes / 2))
    }

    /// The rate in bytes a second, 0 if it is not known.
    fn rate(&self) -> u64 {
        self.rate.value().map_or(0, |Reverse(rate)| rate)
    }

    /// The bytes in flight, without those that the path has probably taken since the last acknowledgement.
    fn estimated_bytes(&self, now: Time) -> u64 {
        self.in_flight_bytes.saturating_sub(bytes_in(self.rate(), (now - self.acked_at).min(self.interval)))
    }

    /// Whether the oldest frame has waited too long for its acknowledgement. Datagrams behind it do not wait for it, and
    /// the acknowledgements may be what is lost: whether a known path works is then for probes to say.
    fn is_stalled(&self, now: Time, oldest: &Sent) -> bool {
        let is_known = self.path == Path::Lossy && self.base.value().is_some();
        !is_known && now - oldest.at > self.patience()
    }

    /// How old the oldest frame in flight may be.
    fn patience(&self) -> Duration {
        match self.base.value() {
            Some(base) => base + self.longer_by.unwrap_or_default() + self.interval + STALL,
            None => self.first_ack_within,
        }
    }

    fn gives_up_at(&self, oldest: &Sent) -> Option<Time> {
        match (self.feedback, self.path) {
            (Feedback::Nothing, _) => Some(oldest.at + UNREPORTED_FOR),
            // Before the first ACK the flight is closed until then: no longer than an ACK may take.
            (_, Path::Lossy) if self.base.value().is_none() => Some(oldest.at + self.patience() + STALL),
            (_, Path::Lossy) => Some(oldest.at + (2 * self.patience()).max(UNACKED_FOR)),
            (_, Path::Ordered) => None,
        }
    }

    fn give_up(&mut self, now: Time) {
        while let Some(oldest) = self.sent.front()
            && self.gives_up_at(oldest).is_some_and(|at| at <= now)
        {
            self.in_flight_bytes -= oldest.bytes;
            self.sent.pop_front();
        }
    }
}

/// What an acknowledgement takes out of the flight.
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Acked {
    oldest_at: Time,
    newest: Sent,
    frames: u64,
    bytes: u64,
}

fn share(amount: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(amount) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(amount).min(amount)
}

fn bytes_in(bytes_per_second: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    bytes_per_second.saturating_mul(micros) / 1_000_000
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
