//! How many segments may be under way? CUBIC (RFC 9438), as Linux has it.

use std::time::Duration;

/// RFC 6928.
const INITIAL_WINDOW: f64 = 10.0;
/// CUBIC's multiplicative decrease, and its scaling constant.
const BETA: f64 = 0.7;
const C: f64 = 0.4;

/// The congestion window, in segments.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    window: f64,
    slow_start_until: f64,
    /// The window before the last loss.
    window_max: f64,
    /// When the growth since the last loss began, and the window that Reno would have by now.
    epoch: Option<(Duration, f64)>,
}

impl Congestion {
    pub(super) fn new() -> Self {
        Self { window: INITIAL_WINDOW, slow_start_until: f64::MAX, window_max: 0.0, epoch: None }
    }

    pub(super) fn window(&self) -> usize {
        self.window as usize
    }

    /// This many segments have arrived while the window was what bounded the sender.
    pub(super) fn on_arrived(&mut self, now: Duration, segments: usize, round_trip: Duration) {
        let segments = segments as f64;
        if self.window < self.slow_start_until {
            self.window += segments;
            return;
        }
        let (began, reno) = self.epoch.get_or_insert((now, self.window));
        // RFC 9438, section 4.3: where Reno would be faster, be as fast.
        let alpha = 3.0 * (1.0 - BETA) / (1.0 + BETA);
        *reno += alpha * segments / self.window;
        let reno = *reno;
        let since = (now.saturating_sub(*began) + round_trip).as_secs_f64();
        let window_max = self.window_max.max(self.window);
        let k = ((window_max - self.window_max * BETA).max(0.0) / C).cbrt();
        let cubic = C * (since - k).powi(3) + window_max;
        let target = cubic.clamp(self.window, self.window * 1.5);
        self.window += (target - self.window) / self.window * segments;
        self.window = self.window.max(reno);
    }

    /// A segment was lost: once in a round trip.
    pub(super) fn on_loss(&mut self) {
        // Fast convergence.
        let is_lower = self.window < self.window_max;
        self.window_max = if is_lower { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.slow_start_until = (self.window * BETA).max(2.0);
        self.window = self.slow_start_until;
        self.epoch = None;
    }

    /// Nothing has been acknowledged for a retransmission timeout.
    pub(super) fn on_timeout(&mut self, is_first: bool) {
        if is_first {
            self.on_loss();
        }
        self.window = 1.0;
    }

    /// Nothing was sent for a while: what the window was says little now.
    pub(super) fn on_idle(&mut self) {
        self.window = self.window.min(INITIAL_WINDOW);
        self.epoch = None;
    }
}
