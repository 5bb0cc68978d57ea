//! Does a receiver handle any frames at any times? Compared with a model that implements only RFC 3550.

use std::time::Duration;

use avi_p2p_proto::audio::{AudioReceiver, OutOfOrder};
use avi_p2p_proto::engine::Time;

use super::script::Script;

/// RFC 3550's estimate never exceeds the greatest difference, which is clamped to an hour here.
const MAX_JITTER_US: u64 = 3_600_000_000;
/// Added to every timestamp of the second receiver. Only differences of transit times matter, so both must agree.
const OFFSET_US: u64 = 1 << 40;

/// Any frames and ends, at any times: order, gaps, counters and bounds hold.
pub fn audio_recv(data: &[u8]) {
    let mut script = Script::new(data);
    let late_after = script.duration();
    let mut receiver = AudioReceiver::new(late_after);
    let mut other = AudioReceiver::new(late_after);
    let mut model = Model { late_after_us: late_after.as_micros() as i128, ..Model::default() };
    let mut now = Time::ZERO;
    while !script.is_over() {
        now = now + script.duration().min(Duration::from_secs(1 << 30));
        let before = receiver.report();
        let (is_end, sequence) = (script.byte() >= 0xf0, sequence(&mut script, model.next));
        if is_end {
            let result = receiver.on_end(sequence);
            assert_eq!(result, other.on_end(sequence));
            model.on_end(sequence, result);
        } else {
            // Limited so that the second receiver's timestamp does not overflow.
            let timestamp_us = timestamp(&mut script, now).min(u64::MAX - OFFSET_US);
            let result = receiver.on_data(now, sequence, timestamp_us);
            assert_eq!(result, other.on_data(now, sequence, timestamp_us + OFFSET_US));
            model.on_data(now, sequence, timestamp_us, result);
            if result.is_err() {
                assert_eq!(receiver.report(), before, "a refused frame changes nothing");
            }
        }
        assert_eq!(other.report(), receiver.report(), "the sender's clock may start anywhere");
        model.check(&receiver);
    }
}

/// Usually the next sequence or a slightly higher one; otherwise a repetition, a lower one, or any number.
fn sequence(script: &mut Script, next: u64) -> u64 {
    match script.byte() {
        step @ ..0x80 => next.saturating_add(u64::from(step / 16)),
        back @ 0x80..0xc0 => next.saturating_sub(u64::from(back - 0x80)),
        0xc0..0xe0 => next.saturating_add(script.number()),
        _ => script.number(),
    }
}

/// Usually near the time of arrival; otherwise any time.
fn timestamp(script: &mut Script, now: Time) -> u64 {
    match script.byte() {
        early @ ..0xc0 => now.as_micros().saturating_sub(u64::from(early) * 1000),
        _ => script.number(),
    }
}

#[derive(Default)]
struct Model {
    late_after_us: i128,
    next: u64,
    received: u64,
    lost: u64,
    jitter_us: f64,
    last_transit_us: Option<i128>,
    least_transit_us: Option<i128>,
    first_arrival_us: Option<u64>,
    /// The upper and the lower bound of late frames: without clock drift, and with the largest drift that is corrected.
    late: (u64, u64),
}

impl Model {
    fn on_end(&mut self, next_sequence: u64, result: Result<u64, OutOfOrder>) {
        match next_sequence.checked_sub(self.next) {
            Some(missing) => {
                assert_eq!(result, Ok(missing));
                self.lost += missing;
                self.next = next_sequence;
            }
            None => assert_eq!(result, Err(OutOfOrder { sequence: next_sequence, expected: self.next })),
        }
    }

    fn on_data(&mut self, now: Time, sequence: u64, timestamp_us: u64, result: Result<u64, OutOfOrder>) {
        if sequence < self.next || sequence == u64::MAX {
            return assert_eq!(result, Err(OutOfOrder { sequence, expected: self.next }));
        }
        assert_eq!(result, Ok(sequence - self.next), "what is missing before a frame");
        self.lost += sequence - self.next;
        self.received += 1;
        self.next = sequence + 1;

        let arrival_us = now.as_micros();
        let transit_us = i128::from(arrival_us) - i128::from(timestamp_us);
        let elapsed_us = arrival_us - *self.first_arrival_us.get_or_insert(arrival_us);
        let least_us = self.least_transit_us.map_or(transit_us, |least_us| least_us.min(transit_us));
        self.least_transit_us = Some(least_us);
        // 200 ppm of the elapsed time.
        let drift_us = i128::from(elapsed_us / 5000);
        self.late.0 += u64::from(transit_us - least_us > self.late_after_us);
        self.late.1 += u64::from(transit_us - least_us - drift_us > self.late_after_us);
        if let Some(last_us) = self.last_transit_us.replace(transit_us) {
            let difference_us = (transit_us - last_us).unsigned_abs().min(MAX_JITTER_US.into()) as f64;
            self.jitter_us += (difference_us - self.jitter_us) / 16.0;
        }
    }

    fn check(&self, receiver: &AudioReceiver) {
        let report = receiver.report();
        assert_eq!(receiver.received(), self.received, "frames received");
        assert_eq!(report.lost, self.lost, "frames lost");
        assert_eq!(self.received + self.lost, self.next, "each number was received or lost");
        assert_eq!(report.highest_sequence, self.next.saturating_sub(1));
        let (at_most, at_least) = self.late;
        assert!((at_least..=at_most).contains(&report.late), "{} late of {at_least} to {at_most}", report.late);
        let off_us = (report.jitter_us as f64 - self.jitter_us).abs();
        assert!(off_us <= 2.0, "a jitter of {} µs is {} µs by RFC 3550", report.jitter_us, self.jitter_us);
        assert!(report.jitter_us <= MAX_JITTER_US);
    }
}
