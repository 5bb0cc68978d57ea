//! Time as a value: instants come in with every input, and a table holds the deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Add, Sub};
use std::time::Duration;

/// Time since the engine started. Monotonic; never a wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Time(pub Duration);

impl Time {
    /// The engine's start.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// From milliseconds since the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Microseconds since the start; saturates after 584,000 years.
    pub fn as_micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates, so that an endless duration stays in the future.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    /// At the earliest the start.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// Zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// At most one deadline per key, in order of time and then of key.
#[derive(Debug)]
#[cfg_attr(
    feature = "recorder",
    derive(serde::Serialize, serde::Deserialize),
    serde(bound(deserialize = "K: Ord + serde::Deserialize<'de>"))
)]
pub(crate) struct TimerTable<K> {
    at: BTreeMap<K, Time>,
    order: BTreeSet<(Time, K)>,
}

impl<K: Ord + Clone> TimerTable<K> {
    pub(crate) fn new() -> Self {
        Self { at: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// Sets the key's deadline, in place of the one it had.
    pub(crate) fn set(&mut self, key: K, at: Time) {
        self.stop(&key);
        self.at.insert(key.clone(), at);
        self.order.insert((at, key));
    }

    pub(crate) fn stop(&mut self, key: &K) {
        if let Some(at) = self.at.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    pub(crate) fn is_set(&self, key: &K) -> bool {
        self.at.contains_key(key)
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the first key whose deadline is `now` or earlier.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<K> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.at.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_once_and_can_be_moved_and_stopped() {
        let mut timers = TimerTable::new();
        timers.set('a', Time::from_millis(30));
        timers.set('b', Time::from_millis(20));
        timers.set('c', Time::from_millis(10));
        timers.set('c', Time::from_millis(40));
        timers.stop(&'b');
        assert_eq!(timers.next_deadline(), Some(Time::from_millis(30)));
        assert_eq!(timers.pop_due(Time::from_millis(29)), None);
        assert_eq!(timers.pop_due(Time::from_millis(50)), Some('a'));
        assert_eq!(timers.pop_due(Time::from_millis(50)), Some('c'));
        assert_eq!(timers.pop_due(Time::from_millis(50)), None);
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn time_saturates_instead_of_overflowing() {
        let end = Time(Duration::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Time::ZERO - end, Duration::ZERO);
    }
}
