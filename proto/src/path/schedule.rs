//! How often is a path probed that is not in use?

use std::time::Duration;

/// How often a path is probed that carries no audio. NATs keep a UDP binding for 30 s at least, most for two minutes
/// (RFC 4787 §4.3).
pub(super) const KEPT_ALIVE_EVERY: Duration = Duration::from_secs(5);
/// A path that has stopped working is probed this often: it is found again within that time and a round trip.
pub(super) const LOST_EVERY: Duration = Duration::from_millis(100);
/// How long probes are frequent at the start, and after a path has stopped working.
pub(super) const EAGER_FOR: Duration = Duration::from_secs(10);
/// And how long after that they are less so.
const HOPEFUL_FOR: Duration = Duration::from_secs(60);
const HOPEFUL_EVERY: Duration = Duration::from_secs(1);
/// The pauses after the first probes of a path that has never worked.
const FIRST_PAUSES_MS: [u64; 5] = [50, 100, 200, 400, 800];

/// The pause after so many probes, for a path that has never worked. `elapsed`: since the first.
pub(super) fn unknown(elapsed: Duration, probes: usize) -> Duration {
    match FIRST_PAUSES_MS.get(probes.saturating_sub(1)) {
        Some(pause) => Duration::from_millis(*pause),
        None if elapsed < EAGER_FOR => HOPEFUL_EVERY,
        None => KEPT_ALIVE_EVERY,
    }
}

/// The pause between probes of a path that stopped working `elapsed` ago.
pub(super) fn lost(elapsed: Duration) -> Duration {
    match elapsed {
        elapsed if elapsed < EAGER_FOR => LOST_EVERY,
        elapsed if elapsed < HOPEFUL_FOR => HOPEFUL_EVERY,
        _ => KEPT_ALIVE_EVERY,
    }
}
