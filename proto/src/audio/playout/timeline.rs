//! Where does a frame belong on the sender's timeline?
//!
//! Frames follow each other by their sequence, a frame duration apart. A sender's application gives them unevenly, also
//! many at once, so timestamps only tell a pause: after it a frame comes much later than its sequence says.

/// A frame that is later than its sequence says, by more than this and three frames, begins a new talkspurt.
const PAUSE_US: i128 = 60_000;
/// A hole that would put a frame this much before its timestamp is shorter than the sequence says.
const EARLY_US: i128 = 1_000_000;
/// Assumed until timestamps have told the duration of a frame: the most usual one of voice.
const USUAL_US: i128 = 20_000;
/// What a frame may last, in microseconds.
const PLAUSIBLE_US: std::ops::RangeInclusive<i128> = 1_000..=1_000_000;
/// Frame durations of the usual codecs. An estimate is rounded to one of them if it is near.
const CODECS_US: [i128; 8] = [2_500, 5_000, 10_000, 20_000, 30_000, 40_000, 60_000, 120_000];
/// The first estimate is made from this many frames, the last from five times as many.
const FIRST_ESTIMATE: i128 = 10;
/// Frames that are further apart than this are not of one talkspurt, and tell nothing about the duration.
const BURST_US: i128 = 250_000;

/// What comes just before a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Another frame.
    Frame,
    /// One or more frames that are missing.
    Hole,
    /// A pause of the sender, or nothing.
    Pause,
}

/// The place of a frame on the timeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) media_us: i128,
    /// How much later than `media_us` the sender's application gave the frame. Negative if it was early.
    pub(super) lag_us: i128,
    pub(super) before: Before,
}

/// Places frames by sequence and timestamp. Numbers are wide enough for any that the other end may claim.
#[derive(Debug)]
pub(super) struct Timeline {
    duration_us: i128,
    /// `None` if the duration is known.
    estimate: Option<Estimate>,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    sequence: u64,
    timestamp_us: i128,
    media_us: i128,
}

/// The time between frames, as timestamps tell it.
#[derive(Debug, Default)]
struct Estimate {
    frames: i128,
    sum_us: i128,
}

impl Timeline {
    /// An empty timeline. An implausible duration counts as unknown.
    pub(super) fn new(duration_us: Option<u64>) -> Self {
        let known = duration_us.map(i128::from).filter(|us| PLAUSIBLE_US.contains(us));
        Self { duration_us: known.unwrap_or(USUAL_US), estimate: known.is_none().then(Estimate::default), last: None }
    }

    /// The duration of a frame.
    pub(super) fn duration_us(&self) -> i128 {
        self.duration_us
    }

    /// Places a frame. `usual_lag_us` is that of recent frames. `None` if the frame is not later than the one before.
    pub(super) fn place(&mut self, sequence: u64, timestamp_us: u64, usual_lag_us: i128) -> Option<Place> {
        let timestamp_us = i128::from(timestamp_us);
        let place = match self.last {
            None => Place { media_us: timestamp_us, lag_us: 0, before: Before::Pause },
            Some(last) => {
                let steps = i128::from(sequence.checked_sub(last.sequence).filter(|steps| *steps > 0)?);
                self.learn(steps, timestamp_us - last.timestamp_us);
                let mut media_us = last.media_us + steps * self.duration_us;
                if steps > 1 && media_us - timestamp_us > EARLY_US {
                    media_us = (last.media_us + self.duration_us).max(timestamp_us - usual_lag_us);
                }
                let lag_us = timestamp_us - media_us;
                if lag_us - usual_lag_us > PAUSE_US.max(3 * self.duration_us) {
                    Place { media_us: timestamp_us - usual_lag_us, lag_us: usual_lag_us, before: Before::Pause }
                } else {
                    Place { media_us, lag_us, before: if steps > 1 { Before::Hole } else { Before::Frame } }
                }
            }
        };
        self.last = Some(Last { sequence, timestamp_us, media_us: place.media_us });
        Some(place)
    }

    fn learn(&mut self, steps: i128, elapsed_us: i128) {
        let Some(estimate) = &mut self.estimate else { return };
        if (0..=BURST_US * steps).contains(&elapsed_us) {
            estimate.frames += steps;
            estimate.sum_us += elapsed_us;
        }
        if estimate.frames < FIRST_ESTIMATE {
            return;
        }
        let mean_us = estimate.sum_us / estimate.frames;
        let is_near = |us: &&i128| (mean_us - **us).abs() * 8 <= **us;
        let us = CODECS_US.iter().find(is_near).copied().unwrap_or(mean_us);
        if PLAUSIBLE_US.contains(&us) {
            self.duration_us = us;
        }
        if estimate.frames >= 5 * FIRST_ESTIMATE {
            self.estimate = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places frames with these timestamps in milliseconds, without a hole.
    fn place_all(timeline: &mut Timeline, timestamps_ms: impl IntoIterator<Item = u64>) -> Vec<(i128, Before)> {
        let place = |(n, ms)| timeline.place(n, ms * 1000, 0).expect("sequences rise");
        (0..).zip(timestamps_ms).map(place).map(|place| (place.media_us / 1000, place.before)).collect()
    }

    #[test]
    fn frames_given_at_once_are_a_frame_duration_apart() {
        let places = place_all(&mut Timeline::new(Some(20_000)), [0, 0, 0, 60, 60, 100]);
        let media: Vec<i128> = places.iter().map(|(media_ms, _)| *media_ms).collect();
        assert_eq!(media, [0, 20, 40, 60, 80, 100]);
        assert!(places[1..].iter().all(|(_, before)| *before == Before::Frame), "{places:?}");
    }

    #[test]
    fn a_timestamp_that_jumps_is_a_pause_and_a_sequence_that_jumps_a_hole() {
        let mut timeline = Timeline::new(Some(20_000));
        let places = place_all(&mut timeline, [0, 20, 5000, 5020]);
        assert_eq!(places[2..], [(5000, Before::Pause), (5020, Before::Frame)]);
        let place = timeline.place(6, 5_080_000, 0).unwrap();
        assert_eq!((place.media_us, place.lag_us, place.before), (5_080_000, 0, Before::Hole));
        assert!(timeline.place(6, 5_100_000, 0).is_none(), "twice");
        let place = timeline.place(1 << 60, 5_100_000, 0).unwrap();
        assert_eq!(place.media_us, 5_100_000, "nobody has dropped that much in 20 ms");
    }

    #[test]
    fn the_duration_is_learned_from_timestamps() {
        for (unknown, step_ms) in [(None, 60), (None, 10), (Some(1), 40)] {
            let mut timeline = Timeline::new(unknown);
            // Two milliseconds of jitter, and a pause.
            place_all(&mut timeline, (0..100).map(|n| n * step_ms + n % 3 + if n > 30 { 9000 } else { 0 }));
            assert_eq!(timeline.duration_us(), i128::from(step_ms) * 1000);
        }
    }
}
