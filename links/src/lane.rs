//! What does one direction of a link do to a packet? Queue, rate, loss, delay.

use std::time::Duration;

use crate::Fate;
use crate::profile::{Burst, Lane, millis};

/// The state of one direction.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    lane: Lane,
    random: fastrand::Rng,
    /// When the last packet in the queue will have been sent.
    free_at: Duration,
    /// Whether the lane is in the bad state of Gilbert and Elliott, and until when it stays as it is.
    is_bad: bool,
    changes_at: Duration,
    /// When the last packet comes out: without reordering, no packet overtakes it.
    last_at: Duration,
}

impl Queue {
    pub(crate) fn new(lane: &Lane, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        // The chain begins in the middle of its life.
        let is_bad = lane.burst.as_ref().is_some_and(|burst| random.f64() < burst.share);
        let changes_at = lane.burst.as_ref().map_or(Duration::MAX, |burst| burst.stay(is_bad, &mut random));
        Self { lane: lane.clone(), random, free_at: Duration::ZERO, is_bad, changes_at, last_at: Duration::ZERO }
    }

    pub(crate) fn reseed(&mut self, now: Duration, seed: u64) {
        self.random = fastrand::Rng::with_seed(seed);
        if let Some(burst) = self.lane.burst.as_ref().filter(|_| self.changes_at > now) {
            // The times are exponentially distributed, so that the rest of one is as long as a whole one.
            self.changes_at = now + burst.stay(self.is_bad, &mut self.random);
        }
    }

    /// When the packet has been sent at the lane's rate; `None` if the queue is full and drops it.
    pub(crate) fn enter(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        if self.lane.rate_kbit == 0 {
            return Some(now);
        }
        let bits_per_second = self.lane.rate_kbit as f64 * 1000.0;
        let waiting = self.free_at.saturating_sub(now).as_secs_f64() * bits_per_second / 8.0;
        // What is being sent has left the queue, so that a packet always fits an idle lane.
        if waiting > 0.0 && waiting + bytes as f64 > self.lane.queue_bytes as f64 {
            return None;
        }
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(bytes as f64 * 8.0 / bits_per_second);
        Some(self.free_at)
    }

    /// What happens on the way to a packet that was sent at `at`.
    pub(crate) fn leave(&mut self, at: Duration) -> Fate {
        if self.is_lost(at) {
            return Fate::default();
        }
        let first = self.arrival(at);
        let again = (self.lane.duplicate > 0.0 && self.random.f64() < self.lane.duplicate).then(|| self.arrival(at));
        Fate { at: Some(first), again }
    }

    fn is_lost(&mut self, at: Duration) -> bool {
        if let Some(burst) = &self.lane.burst {
            while self.changes_at <= at {
                self.is_bad = !self.is_bad;
                self.changes_at += burst.stay(self.is_bad, &mut self.random);
            }
            if self.is_bad && self.random.f64() < burst.loss {
                return true;
            }
        }
        self.lane.loss > 0.0 && self.random.f64() < self.lane.loss
    }

    fn arrival(&mut self, at: Duration) -> Duration {
        let jitter = match self.lane.jitter_ms {
            0.0 => 0.0,
            jitter => jitter * (2.0 * self.random.f64() - 1.0),
        };
        let arrival = at + millis((self.lane.latency_ms + jitter).max(0.0));
        if self.lane.reorder {
            return arrival;
        }
        self.last_at = self.last_at.max(arrival);
        self.last_at
    }
}

impl Burst {
    /// How long the lane stays in a state: exponentially distributed.
    fn stay(&self, is_bad: bool, random: &mut fastrand::Rng) -> Duration {
        let mean_ms = if is_bad { self.mean_ms } else { self.mean_ms * (1.0 - self.share) / self.share };
        // Never 0, so that time passes.
        millis(-mean_ms * (1.0 - random.f64()).ln()) + Duration::from_nanos(1)
    }
}
