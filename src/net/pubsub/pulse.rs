//! When does GossipSub's heart beat? Every second while anything happens. In a quiet mesh, where a beat has little to do,
//! it wakes nobody: it beats when something else does, as the pongs do that every peer sends.

use std::task::Context;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures_timer::Delay;

/// From one beat to the next, at least. It is upstream's shortest too.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Beats after anything that happens: the first mends the meshes, the next hears what others say to that.
const BEATS_AFTER_ALL: u32 = 2;
/// Beats after a message: gossip tells of it with three, and forgets it with the fifth.
pub(super) const BEATS_AFTER_MESSAGE: u32 = 5;
/// Beats after a topic was left: upstream counts by them when it may be joined again, which is after ten seconds.
pub(super) const BEATS_AFTER_LEAVING: u32 = 12;

/// A timer that is wound just after those of upstream, for the same time, and so finds them due when it is.
pub(super) struct Pulse {
    timer: Delay,
    beaten_at: Instant,
    is_due: bool,
    /// Until the rest.
    beats: u32,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { timer: Delay::new(BEAT_EVERY), beaten_at: Instant::now(), is_due: false, beats: BEATS_AFTER_ALL }
    }

    /// Something has happened that a beat may have to do with.
    pub(super) fn quicken(&mut self) {
        self.quicken_for(BEATS_AFTER_ALL);
    }

    /// The same for something that takes so many beats. Returns whether that ends a rest: the pulse is to be polled then.
    pub(super) fn quicken_for(&mut self, beats: u32) -> bool {
        let is_resting = self.is_resting();
        self.beats = self.beats.max(beats);
        if is_resting {
            self.timer.reset(BEAT_EVERY);
        }
        is_resting
    }

    /// To be called before upstream is polled, which beats if it is time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        self.is_due |= match self.is_resting() {
            true => self.beaten_at.elapsed() >= BEAT_EVERY,
            false => self.timer.poll_unpin(cx).is_ready(),
        };
    }

    /// To be called after that. Whether it has beaten; the pulse is to be polled again then.
    pub(super) fn beat(&mut self) -> bool {
        let is_due = std::mem::take(&mut self.is_due);
        if is_due {
            self.beaten_at = Instant::now();
            self.beats = self.beats.saturating_sub(1);
            if !self.is_resting() {
                self.timer.reset(BEAT_EVERY);
            }
        }
        is_due
    }

    fn is_resting(&self) -> bool {
        self.beats == 0
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Beats until it rests.
    fn beats(pulse: &mut Pulse) -> u32 {
        let mut beats = 0;
        while !pulse.is_resting() {
            pulse.is_due = true;
            assert!(pulse.beat());
            assert!(!pulse.beat());
            beats += 1;
        }
        beats
    }

    #[test]
    fn a_heart_rests_when_nothing_has_happened_for_a_while_until_something_does() {
        let mut pulse = Pulse::new();
        pulse.quicken();
        assert_eq!(beats(&mut pulse), BEATS_AFTER_ALL);
        assert!(pulse.quicken_for(BEATS_AFTER_MESSAGE), "it is to be polled");
        assert!(!pulse.quicken_for(BEATS_AFTER_ALL), "it does not rest any more");
        assert_eq!(beats(&mut pulse), BEATS_AFTER_MESSAGE, "whatever else happens");
        pulse.quicken();
        assert_eq!(beats(&mut pulse), BEATS_AFTER_ALL);
    }

    #[test]
    fn a_heart_that_rests_beats_with_whatever_polls_it_once_a_second_at_most() {
        let mut pulse = Pulse::new();
        beats(&mut pulse);
        let cx = &mut Context::from_waker(Waker::noop());
        pulse.poll(cx);
        assert!(!pulse.beat());
        pulse.beaten_at -= BEAT_EVERY;
        pulse.poll(cx);
        assert!(pulse.beat());
        pulse.poll(cx);
        assert!(!pulse.beat());
    }
}
