//! Which datagram also carries the frame before its own? As RFC 2198 proposes, while the path loses some.

use std::time::Duration;

use super::AudioFrame;
use super::session::MAX_PLAINTEXT_BYTES;
use crate::engine::Time;
use crate::situation::{Situation, reached};

/// For how long after a loss frames are sent twice.
const ON_FOR: Duration = Duration::from_secs(30);
/// If so many frames in a hundred are lost although they are sent twice, the copies are a part of what the path does not
/// take, and are left out for that time.
const USELESS_PERCENT: u64 = 30;
/// Of so many frames.
const JUDGED_FRAMES: u64 = 50;
/// A frame that is longer is not worth another copy of it.
const MAX_COPY_BYTES: usize = MAX_PLAINTEXT_BYTES / 2;

/// Decides what the datagrams of one direction carry.
///
/// Two datagrams in a row must be lost for a frame to be lost. That costs as many bytes again, and no delay.
#[derive(Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Redundancy {
    on_until: Option<Time>,
    /// The frame of the last datagram.
    last: Option<AudioFrame>,
    /// Frames that were missing at the last acknowledgement.
    missing: u64,
    /// Frames of which a loss is known.
    lost: u64,
    /// The highest sequence, the losses and the copies when those were judged last.
    judged: (u64, u64, u64),
    off_until: Time,
    copies: u64,
}

impl Redundancy {
    /// Learns from an acknowledgement: the other end has received `received` frames, none above `highest_sequence`.
    /// `dropped` is the number of frames that were never sent, and leave holes in the sequence.
    ///
    /// Only what is still missing at the next acknowledgement is lost. The rest was overtaken.
    pub fn on_ack(&mut self, now: Time, highest_sequence: u64, received: u64, dropped: u64) {
        if received == 0 {
            // Nothing has arrived, so `highest_sequence` is none.
            return;
        }
        let missing = highest_sequence.saturating_add(1).saturating_sub(received).saturating_sub(dropped);
        let lost = missing.min(self.missing);
        self.missing = missing;
        if lost > self.lost {
            self.on_loss(now);
        }
        // What was dropped above `highest_sequence` hides losses until that is acknowledged too.
        self.lost = self.lost.max(lost);
        self.judge(now, highest_sequence);
    }

    fn judge(&mut self, now: Time, highest_sequence: u64) {
        let (since, lost, copies) = self.judged;
        let frames = highest_sequence.saturating_sub(since);
        if frames >= JUDGED_FRAMES {
            // What was lost before there were copies says nothing about them.
            let has_copies = self.copies - copies >= frames / 2;
            if has_copies && (self.lost - lost).saturating_mul(100) >= frames.saturating_mul(USELESS_PERCENT) {
                reached(Situation::RedundancyUseless);
                self.off_until = now + ON_FOR;
            }
            self.judged = (highest_sequence, self.lost, self.copies);
        }
    }

    /// Notes a loss that the caller has seen by itself.
    pub fn on_loss(&mut self, now: Time) {
        if self.on_until.is_none_or(|until| until <= now) {
            reached(Situation::RedundancyOn);
        }
        self.on_until = Some(now + ON_FOR);
    }

    /// Whether frames are sent twice.
    pub fn is_on(&self, now: Time) -> bool {
        now >= self.off_until && self.on_until.is_some_and(|until| now < until)
    }

    /// The frames of the next datagram, in this order: the frame before, if there is to be a copy of it, and the frame
    /// itself. Together they take at most `max_bytes`, if the frame alone does.
    pub fn pack(&mut self, now: Time, frame: AudioFrame, max_bytes: usize) -> (Option<AudioFrame>, AudioFrame) {
        let is_on = self.is_on(now);
        let before = self.last.replace(frame.clone()).filter(|before| {
            is_on
                && before.sequence.checked_add(1) == Some(frame.sequence)
                && before.encoded_bytes() <= MAX_COPY_BYTES
                && before.encoded_bytes() + frame.encoded_bytes() <= max_bytes
        });
        self.copies += u64::from(before.is_some());
        (before, frame)
    }

    /// Frames that were sent a second time.
    pub fn copies(&self) -> u64 {
        self.copies
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const START: Time = Time::from_millis(5_000);

    fn sized(sequence: u64, bytes: usize) -> AudioFrame {
        AudioFrame { sequence, timestamp_us: 0, payload: Bytes::from(vec![7; bytes]) }
    }

    fn frame(sequence: u64) -> AudioFrame {
        sized(sequence, 100)
    }

    /// The sequence of the copy in the datagram of a frame.
    fn copy(redundancy: &mut Redundancy, now: Time, frame: AudioFrame) -> Option<u64> {
        let (before, same) = redundancy.pack(now, frame.clone(), MAX_PLAINTEXT_BYTES);
        assert_eq!(same, frame);
        before.map(|before| before.sequence)
    }

    #[test]
    fn frames_are_sent_twice_for_30_s_after_a_loss() {
        let mut redundancy = Redundancy::default();
        assert_eq!(copy(&mut redundancy, START, frame(0)), None);
        assert_eq!(copy(&mut redundancy, START, frame(1)), None);
        redundancy.on_loss(START);
        assert_eq!(copy(&mut redundancy, START, frame(2)), Some(1));
        let end = START + ON_FOR;
        assert_eq!(copy(&mut redundancy, START + (ON_FOR - Duration::from_millis(1)), frame(3)), Some(2));
        assert_eq!(copy(&mut redundancy, end, frame(4)), None);
        redundancy.on_loss(end);
        assert_eq!(copy(&mut redundancy, end, frame(5)), Some(4));
        assert_eq!(redundancy.copies(), 3);
    }

    #[test]
    fn copies_that_do_not_help_are_left_out_for_a_while() {
        // A path that takes half of what comes, and one that loses every tenth frame.
        for (lost_each, helps) in [(2, false), (10, true)] {
            let mut redundancy = Redundancy::default();
            for n in 0..40 {
                let (highest, now) = (n * 5 + 4, START + Duration::from_millis(n * 100));
                for sequence in n * 5..=highest {
                    copy(&mut redundancy, now, frame(sequence));
                }
                redundancy.on_ack(now, highest, highest + 1 - highest / lost_each, 0);
            }
            let now = START + Duration::from_secs(4);
            assert_eq!(redundancy.is_on(now), helps, "{lost_each}");
            redundancy.on_loss(now + ON_FOR);
            assert!(redundancy.is_on(now + ON_FOR));
        }
    }

    #[test]
    fn only_the_frame_just_before_is_copied() {
        let mut redundancy = Redundancy::default();
        redundancy.on_loss(START);
        assert_eq!(copy(&mut redundancy, START, frame(0)), None);
        assert_eq!(copy(&mut redundancy, START, frame(5)), None, "4 took the substream");
        assert_eq!(copy(&mut redundancy, START, frame(6)), Some(5));
        assert_eq!(copy(&mut redundancy, START, frame(u64::MAX)), None);
        assert_eq!(copy(&mut redundancy, START, frame(0)), None);
    }

    #[test]
    fn a_copy_must_fit_and_be_short() {
        let mut redundancy = Redundancy::default();
        redundancy.on_loss(START);
        let header = frame(1).encoded_bytes() - 100;
        let longest = MAX_COPY_BYTES - header - 1;
        copy(&mut redundancy, START, sized(1, longest));
        assert_eq!(copy(&mut redundancy, START, sized(2, longest)), Some(1), "exactly full");
        assert_eq!(copy(&mut redundancy, START, sized(3, longest + 1)), None, "the two do not fit");
        assert_eq!(copy(&mut redundancy, START, sized(4, 1)), None, "too long for a copy");
        assert_eq!(redundancy.pack(START, frame(6), 100).0, None, "the caller's bound");
    }

    /// Whether each acknowledgement, one after the other, tells of a loss.
    fn losses(acks: &[(u64, u64, u64)]) -> Vec<bool> {
        let mut redundancy = Redundancy::default();
        let tell = |&(highest, received, dropped): &_| {
            redundancy.on_until = None;
            redundancy.on_ack(START, highest, received, dropped);
            redundancy.is_on(START)
        };
        acks.iter().map(tell).collect()
    }

    #[test]
    fn what_stays_missing_is_a_loss() {
        let acks = [(9, 10, 0), (19, 19, 0), (29, 29, 0), (39, 39, 0), (49, 47, 0), (59, 57, 0), (69, 67, 0)];
        assert_eq!(losses(&acks), [false, false, true, false, false, true, false]);
    }

    #[test]
    fn what_was_overtaken_is_no_loss() {
        let acks = [(9, 9, 0), (19, 20, 0), (29, 28, 0), (39, 40, 0), (49, 49, 0), (59, 60, 0)];
        assert_eq!(losses(&acks), [false; 6]);
    }

    #[test]
    fn what_was_never_sent_is_no_loss() {
        // Two were dropped below 20, later three above it; 25 to 27 of those that were sent get lost.
        assert_eq!(losses(&[(9, 10, 0), (19, 18, 2), (29, 28, 2), (29, 28, 5), (39, 35, 5)]), [false; 5]);
        assert_eq!(losses(&[(29, 28, 2), (39, 32, 5), (49, 42, 5)]), [false, false, true]);
        assert_eq!(losses(&[(0, 0, 0), (0, 0, 0), (0, u64::MAX, 9), (u64::MAX, 1, u64::MAX)]), [false; 4]);
    }
}
