//! How much is taken from whom? Every peer and author has a budget, and who passes on forgeries is not heard for a while.

use std::time::Duration;

use crate::engine::time::Time;

/// How long nothing is taken from a peer that has passed on a forged entry, or bytes that are none.
pub(super) const DISTRUST_FOR: Duration = Duration::from_secs(60);
/// What a peer may ask.
pub(super) const REQUESTS: Rate = Rate { burst: 128, count: 8, seconds: 1 };
/// The signatures that are verified for one peer. A verification takes about 60 µs on a desktop computer, 400 µs on a small
/// board.
pub(super) const VERIFICATIONS: Rate = Rate { burst: 4096, count: 64, seconds: 1 };
/// Comparisons of entries that cost about as much as a verification.
const COMPARISONS: usize = 256;
/// Entries beyond the bounds that are looked at for one peer. Only with all that it would replace an entry can tell.
pub(super) const BEYOND_BOUNDS: Rate = Rate { burst: 256, count: 16, seconds: 1 };
/// Authors that this node has never met nor heard of, from one peer. A key costs nothing: whoever invents them must not fill
/// the bounds for ever at once.
pub(super) const NEW_AUTHORS: Rate = Rate { burst: 64, count: 1, seconds: 5 };

/// Whoever entries come from.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Source {
    pub(super) verifications: Budget,
    pub(super) beyond_bounds: Budget,
    pub(super) new_authors: Budget,
    pub(super) distrusted_until: Time,
}

/// So many at once, then a count each few seconds.
#[derive(Clone, Copy)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Rate {
    burst: u32,
    count: u32,
    seconds: u32,
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Budget {
    left: u32,
    at: Time,
}

impl Budget {
    pub(super) fn new(now: Time, rate: Rate) -> Self {
        Self { left: rate.burst, at: now }
    }

    /// Whether one is left.
    pub(super) fn has(&mut self, now: Time, rate: Rate) -> bool {
        let passed = (now - self.at).as_secs() / u64::from(rate.seconds);
        if let periods @ 1.. = u32::try_from(passed).unwrap_or(u32::MAX) {
            self.left = self.left.saturating_add(periods.saturating_mul(rate.count)).min(rate.burst);
            self.at = self.at + Duration::from_secs(passed * u64::from(rate.seconds));
        }
        self.left > 0
    }

    /// Takes one, if one is left.
    pub(super) fn take(&mut self, now: Time, rate: Rate) -> bool {
        let is_left = self.has(now, rate);
        self.left = self.left.saturating_sub(1);
        is_left
    }

    /// Takes what so many comparisons cost.
    pub(super) fn spend_on(&mut self, comparisons: usize) {
        self.left = self.left.saturating_sub(u32::try_from(comparisons / COMPARISONS).unwrap_or(u32::MAX));
    }
}

impl Source {
    pub(super) fn new(now: Time) -> Self {
        Self {
            verifications: Budget::new(now, VERIFICATIONS),
            beyond_bounds: Budget::new(now, BEYOND_BOUNDS),
            new_authors: Budget::new(now, NEW_AUTHORS),
            distrusted_until: Time::ZERO,
        }
    }

    pub(super) fn is_idle(&self, now: Time) -> bool {
        self.distrusted_until <= now && now - self.verifications.at > DISTRUST_FOR
    }
}
