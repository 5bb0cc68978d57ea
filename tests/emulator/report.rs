//! What did the emulator do, and how exact was it?

use std::time::Duration;

use avi_links::Fate;

/// Of one emulator, from its start to its end.
#[derive(Debug, Default)]
pub struct Report {
    /// Packets that came out of a machine.
    pub sent: u64,
    /// Packets that a link dropped: an uplink or a downlink.
    pub lost: u64,
    /// How late packets were handed over, after the moment that the links said. Sorted only by [`Self::lateness`].
    lateness: Vec<Duration>,
}

/// How much later than the links said packets were handed over: what this machine's load adds to every delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lateness {
    /// The median.
    pub p50: Duration,
    /// Of one in a hundred at least.
    pub p99: Duration,
    /// Of the latest.
    pub max: Duration,
}

impl Report {
    pub(super) fn count(&mut self, fate: &Fate) {
        self.lost += u64::from(fate.at.is_none());
    }

    pub(super) fn delivered(&mut self, late: Duration) {
        self.lateness.push(late);
    }

    /// Packets that came to a machine.
    pub fn handed_over(&self) -> usize {
        self.lateness.len()
    }

    pub fn lateness(&self) -> Lateness {
        let mut sorted = self.lateness.clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)));
        let at = |percent| at(percent).copied().unwrap_or_default();
        Lateness { p50: at(50), p99: at(99), max: at(100) }
    }
}
