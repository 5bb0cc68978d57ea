//! How much is taken from whom? Every peer and author has a budget, and who passes on forgeries is not heard for a while.

use std::time::Duration;

use crate::engine::time::Time;

/// How long nothing is taken from a peer that has passed on a forged entry, or bytes that are none.
pub(super) const DISTRUST_FOR: Duration = Duration::from_secs(60);
/// What a peer may ask: at once, and a second.
pub(super) const REQUESTS: Rate = Rate { burst: 128, per_second: 8 };
/// The signatures that are verified for one peer. A verification takes about 60 µs on a desktop computer, 400 µs on a small
/// board.
pub(super) const VERIFICATIONS: Rate = Rate { burst: 4096, per_second: 64 };

/// Whoever entries come from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) verifications: Budget,
    pub(super) distrusted_until: Time,
}

#[derive(Clone, Copy)]
pub(super) struct Rate {
    burst: u32,
    per_second: u32,
}

/// What is left of a rate.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    at: Time,
}

impl Budget {
    pub(super) fn new(now: Time, rate: Rate) -> Self {
        Self { left: rate.burst, at: now }
    }

    /// Takes one, if one is left.
    pub(super) fn take(&mut self, now: Time, rate: Rate) -> bool {
        let seconds = u32::try_from((now - self.at).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            self.left = self.left.saturating_add(seconds.saturating_mul(rate.per_second)).min(rate.burst);
            self.at = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

impl Source {
    pub(super) fn new(now: Time) -> Self {
        Self { verifications: Budget::new(now, VERIFICATIONS), distrusted_until: Time::ZERO }
    }

    pub(super) fn is_idle(&self, now: Time) -> bool {
        self.distrusted_until <= now && now - self.verifications.at > DISTRUST_FOR
    }
}
