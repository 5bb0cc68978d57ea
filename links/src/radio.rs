//! When does a machine's radio carry nothing, in either direction? Outages, and sleep between beacons.

use std::time::Duration;

use crate::profile::{Doze, Outage, Radio, millis};

/// The state of a radio.
#[derive(Clone, Debug)]
pub(crate) struct Air {
    random: fastrand::Rng,
    outage: Option<Outage>,
    /// The next outages, in order; those that are over are gone. Two are enough, since both directions ask about
    /// times that lie close together.
    outages: [(Duration, Duration); 2],
    doze: Option<Doze>,
    /// Until when the radio is awake.
    awake_until: Duration,
    /// The next beacon that the radio hears.
    heard_at: Duration,
}

impl Air {
    pub(crate) fn new(radio: &Radio, seed: u64) -> Self {
        let mut air = Self {
            random: fastrand::Rng::with_seed(seed),
            outage: radio.outage.clone(),
            outages: [(Duration::ZERO, Duration::ZERO); 2],
            doze: radio.doze.clone(),
            awake_until: Duration::ZERO,
            heard_at: Duration::ZERO,
        };
        air.outages[1] = air.outage_after(Duration::ZERO);
        // Beacons of two machines do not come at the same times.
        let phase = air.random.f64();
        air.heard_at = radio.doze.as_ref().map_or(Duration::ZERO, |doze| millis(doze.beacon_ms * phase));
        air
    }

    pub(crate) fn reseed(&mut self, now: Duration, seed: u64) {
        self.random = fastrand::Rng::with_seed(seed);
        if self.outages[1].0 > now {
            self.outages[1] = self.outage_after(self.outages[0].1.max(now));
        }
    }

    /// Whether nothing passes at this time.
    pub(crate) fn is_out(&mut self, at: Duration) -> bool {
        if self.outage.is_none() {
            return false;
        }
        while self.outages[1].1 <= at {
            self.outages = [self.outages[1], self.outage_after(self.outages[1].1)];
        }
        self.outages.iter().any(|(from, until)| (*from..*until).contains(&at))
    }

    fn outage_after(&mut self, at: Duration) -> (Duration, Duration) {
        let Some(outage) = &self.outage else { return (Duration::MAX, Duration::MAX) };
        let mut between = |low: f64, high: f64| Duration::from_secs_f64(low + (high - low) * self.random.f64());
        let from = at + between(outage.every_min_s, outage.every_max_s);
        (from, from + between(outage.min_s, outage.max_s))
    }

    /// When the radio takes a packet that waits for it since `at`: at once while it is awake, else with the next beacon
    /// that it hears.
    pub(crate) fn awake_at(&mut self, at: Duration) -> Duration {
        let Some(doze) = &self.doze else { return at };
        if at > self.awake_until {
            while self.heard_at < at {
                let missed = std::iter::repeat_with(|| self.random.f64()).take_while(|draw| *draw >= doze.heard);
                self.heard_at += millis(doze.beacon_ms * (1 + missed.count()) as f64);
            }
        }
        let taken = if at > self.awake_until { self.heard_at } else { at };
        self.awake_until = self.awake_until.max(taken + millis(doze.awake_ms));
        taken
    }
}
