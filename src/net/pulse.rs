//! When does GossipSub's heart beat? Every second while anything happens, and less often in a quiet mesh, where a beat
//! has nothing to do but to wake the machine.

use std::task::Context;
use std::time::Duration;

use futures::FutureExt;
use futures_timer::Delay;

/// From one beat to the next. It is upstream's shortest too.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(1);
/// The same in a mesh where nothing happens. What happens then ends the rest.
const REST_EVERY: Duration = Duration::from_secs(5);
/// Beats after the last happening: gossip tells of a message with three, and forgets it with the fifth.
const BEATS_BEFORE_REST: u32 = 5;

/// A timer that is wound just after those of upstream, for the same time, and so finds them due when it is.
pub(super) struct Pulse {
    timer: Delay,
    is_due: bool,
    /// Since anything happened.
    quiet_beats: u32,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { timer: Delay::new(BEAT_EVERY), is_due: false, quiet_beats: 0 }
    }

    /// Something has happened that a beat may have to do with. Returns whether that ends a rest: the pulse is to be
    /// polled then.
    pub(super) fn quicken(&mut self) -> bool {
        let is_resting = self.is_resting();
        self.quiet_beats = 0;
        if is_resting {
            self.timer.reset(BEAT_EVERY);
        }
        is_resting
    }

    /// To be called before upstream is polled, which beats if it is time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        self.is_due |= self.timer.poll_unpin(cx).is_ready();
    }

    /// To be called after that. Whether it has beaten; the pulse is to be polled again then.
    pub(super) fn beat(&mut self) -> bool {
        let is_due = std::mem::take(&mut self.is_due);
        if is_due {
            self.quiet_beats = self.quiet_beats.saturating_add(1);
            let pause = self.pause();
            self.timer.reset(pause);
        }
        is_due
    }

    fn pause(&self) -> Duration {
        if self.is_resting() { REST_EVERY } else { BEAT_EVERY }
    }

    fn is_resting(&self) -> bool {
        self.quiet_beats >= BEATS_BEFORE_REST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(pulse: &mut Pulse) {
        pulse.is_due = true;
        assert!(pulse.beat());
        assert!(!pulse.beat());
    }

    #[test]
    fn a_heart_rests_when_nothing_has_happened_for_a_while_until_something_does() {
        let mut pulse = Pulse::new();
        for _ in 0..BEATS_BEFORE_REST {
            assert!(!pulse.quicken());
            beat(&mut pulse);
        }
        for _ in 1..BEATS_BEFORE_REST {
            assert_eq!(pulse.pause(), BEAT_EVERY);
            beat(&mut pulse);
        }
        assert_eq!(pulse.pause(), REST_EVERY);
        beat(&mut pulse);
        assert!(pulse.quicken());
        assert!(!pulse.quicken());
    }
}
