//! How late do frames come? The delays of the last ten seconds in which frames came, and what follows for the playout.
//!
//! A quantile of recent delays is the way of Moon, Kurose and Towsley ("Packet audio playout delay adjustment", 1998);
//! one value for each tenth of a second, so that the many frames behind one stall count once, is that of WebRTC's NetEq.

use std::collections::VecDeque;

/// The time that is one slot, in microseconds.
const SLOT_US: i128 = 100_000;
/// Slots that count.
const SLOTS: usize = 100;
/// Slots that count for the fastest frame. A path that is slower from now on shows within two seconds.
const FLOOR_SLOTS: usize = 20;
/// With fewer slots the spread is not yet known.
const FEW_SLOTS: usize = 10;
/// Slots that are older than this are forgotten: at 200 ppm the clocks have drifted apart by 6 ms since then.
const MAX_AGE_SLOTS: i128 = 300;
/// The share of slots, in percent, in which all frames shall be in time.
const IN_TIME_PERCENT: usize = 97;

/// Delays relative to the sender's clock: only their differences mean something.
#[derive(Debug)]
pub(super) struct Delays {
    slots: VecDeque<Slot>,
    /// The spread that is assumed while there are few slots.
    assumed_us: i128,
    spread_us: i128,
    floor_us: i128,
    usual_lag_us: i128,
    min_us: i128,
    max_us: i128,
    sorted: Vec<i128>,
}

/// The frames that came within a tenth of a second.
#[derive(Clone, Copy, Debug)]
struct Slot {
    number: i128,
    /// From the frame's place on the timeline to its arrival; of the latest frame.
    delay_us: i128,
    /// From the frame's timestamp to its arrival; of the fastest frame.
    transit_us: i128,
    lag_us: i128,
}

impl Delays {
    /// No delays. The target is between `min_us` and `max_us` above the fastest frame, and begins with `assumed_us`.
    pub(super) fn new(min_us: i128, max_us: i128, assumed_us: i128) -> Self {
        Self {
            slots: VecDeque::with_capacity(SLOTS + 1),
            assumed_us,
            spread_us: assumed_us.clamp(min_us, max_us),
            floor_us: 0,
            usual_lag_us: 0,
            min_us,
            max_us,
            sorted: Vec::with_capacity(SLOTS),
        }
    }

    /// Records the arrival of a frame. Returns whether all earlier delays were too old to count.
    pub(super) fn record(&mut self, arrival_us: i128, delay_us: i128, transit_us: i128, lag_us: i128) -> bool {
        let number = arrival_us / SLOT_US;
        let had_some = !self.slots.is_empty();
        while self.slots.front().is_some_and(|slot| number - slot.number > MAX_AGE_SLOTS) {
            self.slots.pop_front();
        }
        let is_new = had_some && self.slots.is_empty();
        if is_new {
            self.assumed_us = self.spread_us;
        }
        match self.slots.back_mut().filter(|slot| slot.number >= number) {
            Some(slot) => {
                slot.delay_us = slot.delay_us.max(delay_us);
                slot.transit_us = slot.transit_us.min(transit_us);
                slot.lag_us = slot.lag_us.max(lag_us);
            }
            None => self.slots.push_back(Slot { number, delay_us, transit_us, lag_us }),
        }
        if self.slots.len() > SLOTS {
            self.slots.pop_front();
        }
        self.sum_up();
        is_new
    }

    fn sum_up(&mut self) {
        self.usual_lag_us = self.quantile(50, |slot| slot.lag_us);
        let recent = self.slots.iter().rev().take(FLOOR_SLOTS);
        let fastest_us = recent.map(|slot| slot.transit_us).min().unwrap_or_default();
        // As if the sender's application had given it in time. Frames given early do not make the path look faster.
        self.floor_us = fastest_us + self.usual_lag_us;
        let late_us = self.quantile(IN_TIME_PERCENT, |slot| slot.delay_us);
        let assumed_us = if self.slots.len() < FEW_SLOTS { self.assumed_us } else { 0 };
        self.spread_us = (late_us - self.floor_us).max(assumed_us).clamp(self.min_us, self.max_us);
    }

    fn quantile(&mut self, percent: usize, value: impl Fn(&Slot) -> i128) -> i128 {
        self.sorted.clear();
        self.sorted.extend(self.slots.iter().map(value));
        let at = self.sorted.len() * percent / 100;
        if at < self.sorted.len() { *self.sorted.select_nth_unstable(at).1 } else { 0 }
    }

    /// The delay at which frames should be played.
    pub(super) fn target_us(&self) -> i128 {
        self.floor_us + self.spread_us
    }

    /// How far the target is above the fastest recent frame.
    pub(super) fn spread_us(&self) -> i128 {
        self.spread_us
    }

    /// The delay of the fastest recent frame.
    pub(super) fn floor_us(&self) -> i128 {
        self.floor_us
    }

    /// The highest delay at which a frame may be played.
    pub(super) fn ceiling_us(&self) -> i128 {
        self.floor_us + self.max_us
    }

    /// How late the sender's application usually is with its latest frames.
    pub(super) fn usual_lag_us(&self) -> i128 {
        self.usual_lag_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records frames every 20 ms with these delays in milliseconds, from a moment on. Returns the target.
    fn record(delays: &mut Delays, from_ms: i128, ms: impl Iterator<Item = i128>) -> i128 {
        for (n, delay_ms) in (0..).zip(ms) {
            delays.record((from_ms + n * 20 + delay_ms) * 1000, delay_ms * 1000, delay_ms * 1000, 0);
        }
        delays.target_us() / 1000
    }

    #[test]
    fn the_target_covers_all_but_the_rarest_delays() {
        let mut delays = Delays::new(10_000, 500_000, 40_000);
        assert_eq!(record(&mut delays, 0, (0..20).map(|_| 30)), 70, "begins with what is assumed");
        assert_eq!(record(&mut delays, 400, (0..500).map(|n| 30 + n % 7 * 10)), 90);
        // One stall of 400 ms: the frames behind it come at once.
        assert_eq!(record(&mut delays, 10_400, (0..20).map(|n| 430 - n * 20)), 90, "one slot in a hundred");
        assert_eq!(delays.floor_us(), 30_000);
    }

    #[test]
    fn a_slower_path_is_the_usual_one_after_ten_seconds_and_old_delays_are_forgotten() {
        let mut delays = Delays::new(10_000, 500_000, 40_000);
        record(&mut delays, 0, (0..500).map(|_| 20));
        assert_eq!(record(&mut delays, 10_000, (0..500).map(|_| 200)), 210);
        assert_eq!(record(&mut delays, 20_000, (0..100).map(|_| 20)), 200, "shrinks later");
        assert_eq!(record(&mut delays, 22_000, (0..400).map(|_| 20)), 30);
        // After an hour of silence the clocks differ. What is kept is the spread.
        assert!(delays.record(4_000_000_000, 720_000, 720_000, 0));
        assert_eq!(delays.target_us(), 730_000);
    }
}
