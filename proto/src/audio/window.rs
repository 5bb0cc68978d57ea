//! The extreme of what was measured of late, in constant memory.

use std::time::Duration;

use crate::engine::Time;

/// How long the least delay of a path is believed, or twice as long.
pub(super) const DELAY_OVER: Duration = Duration::from_secs(10);

/// The least value of the last one to two times `over`.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Least<T> {
    over: Duration,
    since: Time,
    before: Option<T>,
    current: Option<T>,
}

impl<T: Copy + Ord> Least<T> {
    pub(super) fn new(over: Duration) -> Self {
        Self { over, since: Time::ZERO, before: None, current: None }
    }

    pub(super) fn add(&mut self, now: Time, value: T) {
        let elapsed = now - self.since;
        if elapsed >= self.over {
            // After a long silence neither half says anything.
            self.before = if elapsed < 2 * self.over { self.current } else { None };
            (self.current, self.since) = (None, now);
        }
        self.current = Some(self.current.map_or(value, |least| least.min(value)));
    }

    pub(super) fn value(&self) -> Option<T> {
        self.before.into_iter().chain(self.current).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_value_is_forgotten_after_ten_to_twenty_seconds() {
        let mut least = Least::new(DELAY_OVER);
        assert_eq!(least.value(), None);
        let at = |seconds: u64| Time::from_millis(1000 * seconds);
        least.add(at(1), 5);
        least.add(at(2), 9);
        assert_eq!(least.value(), Some(5));
        least.add(at(10), 9);
        assert_eq!(least.value(), Some(5));
        least.add(at(20), 9);
        assert_eq!(least.value(), Some(9));
        least.add(at(100), 12);
        assert_eq!(least.value(), Some(12));
    }
}
