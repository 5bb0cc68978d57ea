//! What a receiver measures of a stream: order, gaps, lateness, interarrival jitter.

use std::time::Duration;

use thiserror::Error;

use super::window::{DELAY_OVER, Least};
use crate::engine::Time;
use crate::situation::{Situation, reached};
use crate::wire::{Ack, Report};

/// One part in this many: 200 ppm, twice the tolerance of a cheap device's clock, because both clocks may drift.
const MAX_DRIFT: u64 = 5_000;
/// A frame that takes so much longer than the fastest one, besides the time that it may wait before the path, was stuck on a
/// path that did not work: more than a retransmission timeout of TCP with a long round trip.
const OVERDUE: Duration = Duration::from_millis(500);
/// If frames stay overdue for this long, it is the clocks or the path that have changed.
const OVERDUE_FOR: Duration = Duration::from_secs(1);
/// As above, with pauses between the frames.
const OVERDUE_AT_MOST: Duration = Duration::from_secs(10);
/// Frames that come further apart do not follow each other.
const PAUSE: Duration = Duration::from_millis(500);

/// A frame came twice or out of order. A reliable channel cannot cause that, so the other end breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("DATA.sequence = {sequence} comes after {expected} was due")]
pub struct OutOfOrder {
    /// The sequence that came.
    pub sequence: u64,
    /// The lowest sequence that was allowed.
    pub expected: u64,
}

/// The receiving half of one stream.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct AudioReceiver {
    late_after: Duration,
    expected: u64,
    received: u64,
    /// Frames that came too late to be handed over, and what follows the highest of them.
    stuck: u64,
    after_stuck: u64,
    lost: u64,
    late: u64,
    /// Sixteen times the jitter in microseconds, as in RFC 3550 §A.8.
    jitter_x16_us: u64,
    last_transit_us: Option<i128>,
    /// Of the frame that came last, handed over or not.
    acked_transit_us: Option<i128>,
    least_transit_us: i128,
    /// The least transit of late, for ACK. A path that has become longer for good is no queue.
    recent_transit_us: Least<i128>,
    last_arrival_us: u64,
    overdue: Option<Overdue>,
}

/// Frames that are overdue, one after another.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Overdue {
    first: Time,
    /// The first one after the last pause.
    since: Time,
    last: Time,
}

impl AudioReceiver {
    /// A frame counts as late if its transit takes `late_after` longer than the fastest one's.
    pub fn new(late_after: Duration) -> Self {
        Self {
            late_after,
            expected: 0,
            received: 0,
            stuck: 0,
            after_stuck: 0,
            lost: 0,
            late: 0,
            jitter_x16_us: 0,
            last_transit_us: None,
            acked_transit_us: None,
            least_transit_us: i128::MAX,
            recent_transit_us: Least::new(DELAY_OVER),
            last_arrival_us: 0,
            overdue: None,
        }
    }

    /// Whether a frame comes so late that it was stuck. Frames that stay so late for a second without a pause, or for ten
    /// seconds, are the usual ones from then on. Between attempts of TCP there are pauses.
    pub fn is_overdue(&mut self, now: Time, timestamp_us: u64) -> bool {
        let transit_us = i128::from(now.as_micros()) - i128::from(timestamp_us);
        let bound_us = (self.late_after + OVERDUE).as_micros() as i128;
        if transit_us.saturating_sub(self.least_transit_us) <= bound_us {
            self.overdue = None;
            return false;
        }
        let overdue = self.overdue.get_or_insert(Overdue { first: now, since: now, last: now });
        if now - overdue.last > PAUSE {
            overdue.since = now;
        }
        overdue.last = now;
        if now - overdue.since < OVERDUE_FOR && now - overdue.first < OVERDUE_AT_MOST {
            return true;
        }
        (self.overdue, self.least_transit_us) = (None, transit_us);
        false
    }

    /// Records the arrival of a frame. Returns how many frames before it are missing.
    ///
    /// # Errors
    /// [`OutOfOrder`] for a number that has been passed, and for the greatest there is. Nothing is recorded.
    pub fn on_data(&mut self, now: Time, sequence: u64, timestamp_us: u64) -> Result<u64, OutOfOrder> {
        // The last number has no successor, so it could come twice. It is refused.
        let after = sequence.checked_add(1).ok_or(OutOfOrder { sequence, expected: self.expected })?;
        let missing = self.skip_to(sequence)?;
        self.expected = after;
        self.received += 1;
        self.on_arrival(now, timestamp_us);
        Ok(missing)
    }

    /// Records a frame that is not handed over. It is acknowledged, and the next one, or the end, tells it as missing.
    pub fn on_stuck(&mut self, now: Time, sequence: u64, timestamp_us: u64) {
        reached(Situation::FrameStuck);
        self.stuck += 1;
        let after = sequence.saturating_add(1);
        // ACK tells the delay of the frame whose number it has. This one may come behind it, on another path.
        if after > self.expected.max(self.after_stuck) {
            self.acked_transit_us = Some(i128::from(now.as_micros()) - i128::from(timestamp_us));
            self.after_stuck = after;
        }
    }

    /// Records the end of the stream after `next_sequence` frames. Returns how many are missing at the end.
    ///
    /// # Errors
    /// [`OutOfOrder`] if more frames have come than that.
    pub fn on_end(&mut self, next_sequence: u64) -> Result<u64, OutOfOrder> {
        let missing = self.skip_to(next_sequence)?;
        self.expected = next_sequence;
        Ok(missing)
    }

    /// The content of the next REPORT.
    pub fn report(&self) -> Report {
        Report {
            highest_sequence: self.expected.saturating_sub(1),
            lost: self.lost,
            late: self.late,
            jitter_us: self.jitter_x16_us >> 4,
        }
    }

    /// The content of the next ACK.
    pub fn ack(&self) -> Ack {
        let least = self.recent_transit_us.value().zip(self.acked_transit_us);
        let delay_us = least.map_or(0, |(least, last)| u64::try_from(last - least).unwrap_or_default());
        let after = self.expected.max(self.after_stuck);
        Ack { highest_sequence: after.saturating_sub(1), received: self.arrived(), delay_us }
    }

    /// The number of frames received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The number of frames that came, those that were stuck among them.
    pub fn arrived(&self) -> u64 {
        self.received + self.stuck
    }

    fn skip_to(&mut self, sequence: u64) -> Result<u64, OutOfOrder> {
        let missing = sequence.checked_sub(self.expected).ok_or(OutOfOrder { sequence, expected: self.expected })?;
        self.lost = self.lost.saturating_add(missing);
        Ok(missing)
    }

    /// RFC 3550 §6.4.1: smooths the differences of transit times. The transit times themselves mean nothing, because
    /// the clocks are not synchronised.
    fn on_arrival(&mut self, now: Time, timestamp_us: u64) {
        let transit_us = i128::from(now.as_micros()) - i128::from(timestamp_us);
        // The clocks of two devices drift apart, so the fastest frame of long ago says little about now.
        let elapsed_us = now.as_micros().saturating_sub(self.last_arrival_us);
        self.last_arrival_us = now.as_micros();
        let drifted_us = self.least_transit_us.saturating_add(i128::from(elapsed_us / MAX_DRIFT));
        self.least_transit_us = drifted_us.min(transit_us);
        if transit_us - self.least_transit_us > self.late_after.as_micros() as i128 {
            self.late += 1;
        }
        self.recent_transit_us.add(now, transit_us);
        self.acked_transit_us = Some(transit_us);
        if let Some(last) = self.last_transit_us.replace(transit_us) {
            // Clamped to an hour, so that a forged timestamp cannot overflow the estimate.
            let difference = (transit_us - last).unsigned_abs().min(3_600_000_000) as u64;
            self.jitter_x16_us = self.jitter_x16_us + difference - ((self.jitter_x16_us + 8) >> 4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver() -> AudioReceiver {
        AudioReceiver::new(Duration::from_millis(200))
    }

    #[test]
    fn a_missing_frame_is_reported_as_a_gap() {
        let mut receiver = receiver();
        assert_eq!(receiver.on_data(Time::ZERO, 0, 0), Ok(0));
        assert_eq!(receiver.on_data(Time::ZERO, 3, 0), Ok(2));
        assert_eq!(receiver.on_data(Time::ZERO, 4, 0), Ok(0));
        assert_eq!(receiver.on_end(7), Ok(2));
        assert_eq!((receiver.received(), receiver.report().lost), (3, 4));
    }

    #[test]
    fn a_frame_twice_or_out_of_order_is_an_error() {
        let mut receiver = receiver();
        receiver.on_data(Time::ZERO, 5, 0).unwrap();
        assert_eq!(receiver.on_data(Time::ZERO, 5, 0), Err(OutOfOrder { sequence: 5, expected: 6 }));
        assert_eq!(receiver.on_data(Time::ZERO, 2, 0), Err(OutOfOrder { sequence: 2, expected: 6 }));
        assert_eq!(receiver.on_end(5), Err(OutOfOrder { sequence: 5, expected: 6 }));
    }

    #[test]
    fn a_frame_that_was_stuck_is_dropped_but_a_path_that_stays_slower_is_followed() {
        let mut receiver = receiver();
        receiver.on_data(Time::from_millis(10), 0, 0).unwrap();
        assert!(!receiver.is_overdue(Time::from_millis(700), 0));
        assert!(receiver.is_overdue(Time::from_millis(9_000), 20_000));
        assert!(!receiver.is_overdue(Time::from_millis(9_010), 9_000_000));
        let slow = (0..100).filter(|n| receiver.is_overdue(Time::from_millis(20_000 + 20 * n), 9_000_000 + 20_000 * n));
        assert_eq!(slow.count(), 50, "for a second");
    }

    #[test]
    fn frames_that_come_with_attempts_of_tcp_in_an_outage_are_no_slower_path() {
        let mut receiver = AudioReceiver::new(Duration::from_millis(200));
        receiver.on_data(Time::ZERO, 0, 0).unwrap();
        // They are seconds apart.
        for second in [30, 32, 36] {
            let late =
                |n: u64| receiver.is_overdue(Time::from_millis(1000 * second + 20 * n), 1_000_000 * (second - 3));
            assert!((0..15).all(late), "after {second} s");
        }
        // Frames that are rare and stay late are followed too.
        let mut receiver = AudioReceiver::new(Duration::from_millis(200));
        receiver.on_data(Time::ZERO, 0, 0).unwrap();
        let mut late = |n: u64| receiver.is_overdue(Time::from_millis(60_000 + 800 * n), 57_000_000 + 800_000 * n);
        assert_eq!((0..30).filter(|n| late(*n)).count(), 13);
    }

    #[test]
    fn a_frame_that_was_stuck_is_acknowledged_and_told_as_missing() {
        let mut receiver = receiver();
        receiver.on_data(Time::from_millis(10), 0, 0).unwrap();
        receiver.on_stuck(Time::from_millis(9_000), 2, 40_000);
        assert_eq!((receiver.ack().highest_sequence, receiver.ack().received, receiver.received()), (2, 2, 1));
        assert_eq!(receiver.on_data(Time::from_millis(9_010), 4, 9_000_000), Ok(3), "1, 2 and 3");
        assert_eq!(receiver.report().lost, 3);
        receiver.on_stuck(Time::from_millis(19_000), 5, 9_100_000);
        assert_eq!((receiver.ack().highest_sequence, receiver.ack().received), (5, 4));
        assert_eq!(receiver.on_end(6), Ok(1));
    }

    #[test]
    fn an_ack_tells_the_delay_of_the_frame_whose_number_it_has() {
        let mut receiver = receiver();
        receiver.on_data(Time::from_millis(10), 0, 0).unwrap();
        receiver.on_data(Time::from_millis(130), 6, 120_000).unwrap();
        // It was stuck on the other path.
        receiver.on_stuck(Time::from_millis(9_000), 2, 40_000);
        assert_eq!(receiver.ack(), Ack { highest_sequence: 6, received: 3, delay_us: 0 });
    }

    #[test]
    fn jitter_follows_rfc_3550() {
        let mut receiver = receiver();
        // Transit alternates between 10 and 12 ms, so |D| is 2000 µs every time: J converges to 2000.
        for n in 0..400u64 {
            let transit_ms = if n % 2 == 0 { 10 } else { 12 };
            receiver.on_data(Time::from_millis(n * 20 + transit_ms), n, n * 20_000).unwrap();
        }
        let jitter_us = receiver.report().jitter_us;
        assert!((1990..=2000).contains(&jitter_us), "{jitter_us}");
        // One step by hand: J = 0 + |4000 - 0| / 16.
        let mut receiver = self::receiver();
        receiver.on_data(Time::from_millis(10), 0, 0).unwrap();
        receiver.on_data(Time::from_millis(34), 1, 20_000).unwrap();
        assert_eq!(receiver.report().jitter_us, 250);
    }

    #[test]
    fn an_ack_tells_what_arrived_and_how_long_the_newest_frame_was_in_queues() {
        let mut receiver = receiver();
        assert_eq!(receiver.ack(), Ack::default());
        for (n, transit_ms) in [(0u64, 30), (1, 90), (4, 70)] {
            receiver.on_data(Time::from_millis(n * 20 + transit_ms), n, n * 20_000).unwrap();
        }
        assert_eq!(receiver.ack(), Ack { highest_sequence: 4, received: 3, delay_us: 40_000 });
    }

    #[test]
    fn a_path_that_became_longer_for_good_is_no_queue() {
        let mut receiver = receiver();
        for n in 0..1500u64 {
            let transit_ms = if n == 0 { 30 } else { 230 };
            receiver.on_data(Time::from_millis(n * 20 + transit_ms), n, n * 20_000).unwrap();
            let expected_us = if (1..950).contains(&n) { 200_000 } else { receiver.ack().delay_us };
            assert_eq!(receiver.ack().delay_us, expected_us, "frame {n}");
        }
        assert_eq!(receiver.ack().delay_us, 0);
    }

    #[test]
    fn a_frame_slower_than_the_fastest_by_more_than_the_limit_is_late() {
        let mut receiver = receiver();
        receiver.on_data(Time::from_millis(10), 0, 0).unwrap();
        receiver.on_data(Time::from_millis(230), 1, 20_000).unwrap();
        receiver.on_data(Time::from_millis(251), 2, 40_000).unwrap();
        assert_eq!(receiver.report().late, 1);
    }

    #[test]
    fn clocks_that_drift_apart_make_no_frame_late() {
        let mut receiver = receiver();
        // A sender that is 100 ppm slow, for three hours: at the end its frames seem to take a second longer.
        for second in 0..3 * 3600u64 {
            let arrival = Time(Duration::from_secs(second) + Duration::from_micros(second * 100));
            receiver.on_data(arrival, second, second * 1_000_000).unwrap();
        }
        assert_eq!(receiver.report().late, 0);
    }

    #[test]
    fn forged_numbers_do_not_overflow() {
        let mut receiver = receiver();
        receiver.on_data(Time::ZERO, 0, u64::MAX).unwrap();
        assert!(receiver.on_data(Time::ZERO, u64::MAX, 0).is_err());
        receiver.on_data(Time(Duration::MAX), u64::MAX - 1, 0).unwrap();
        assert_eq!(receiver.on_data(Time::ZERO, 0, 0).unwrap_err().expected, u64::MAX);
        assert_eq!(receiver.on_end(u64::MAX), Ok(0));
    }
}
