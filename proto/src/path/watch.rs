//! Is what was sent by datagram confirmed in time?

use std::collections::VecDeque;
use std::time::Duration;

use super::order::Via;
use crate::engine::Time;

/// Three times the interval of ACK: how long a path that works may be without a confirmation, besides two round trips: a
/// lost ACK, or a PROBE that asks because none came.
pub(super) const CONFIRMED_WITHIN: Duration = Duration::from_millis(300);
/// And at most: of the probes that ask meanwhile, as many are remembered.
pub(super) const MAX_CONFIRMED_WITHIN: Duration = Duration::from_millis(1_500);
/// The most frames of which it is known when they were sent. If more wait for a confirmation, probes decide.
const MAX_SENT: usize = 256;

/// The frames that the path has taken, and the time up to which what was sent has been confirmed.
#[derive(Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Watch {
    /// Frames sent after `confirmed_at`, in the order in which they were sent.
    sent: VecDeque<Sent>,
    /// When the newest was sent of what was confirmed.
    confirmed_at: Time,
    rtt: Option<Rtt>,
    /// Datagrams dropped on this machine since the last confirmation.
    dropped: u32,
}

/// As of RFC 6298 §2, in which the first deviation is half of the round trip: [`CONFIRMED_WITHIN`] stands for that.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Rtt {
    smoothed: Duration,
    deviation: Duration,
    /// Whether an answer came by datagram. One on the substream may have had to wait there.
    is_direct: bool,
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Sent {
    sequence: u64,
    at: Time,
    bytes: usize,
}

impl Watch {
    /// Begins anew, with the probe that has confirmed a path. What was measured before counts if it is the same path.
    pub(super) fn begin(&mut self, now: Time, sent_at: Time, via: Via, is_same: bool) {
        let rtt = self.rtt.filter(|_| is_same);
        *self = Self { rtt, confirmed_at: sent_at, ..Self::default() };
        self.measure(now - sent_at, via);
    }

    pub(super) fn on_sent(&mut self, now: Time, sequence: u64, bytes: usize) {
        if self.sent.len() < MAX_SENT {
            self.sent.push_back(Sent { sequence, at: now, bytes });
        }
    }

    /// Returns how many datagrams were dropped since the last confirmation.
    pub(super) fn on_dropped(&mut self) -> u32 {
        self.dropped = self.dropped.saturating_add(1);
        self.dropped
    }

    /// If the path has taken this frame, it is confirmed.
    pub(super) fn on_ack(&mut self, sequence: u64) {
        if let Some(sent) = self.sent.iter().find(|sent| sent.sequence == sequence) {
            self.confirm(sent.at);
        }
    }

    pub(super) fn on_probed(&mut self, now: Time, sent_at: Time, via: Via) {
        self.measure(now - sent_at, via);
        self.confirm(sent_at);
    }

    pub(super) fn confirmed_at(&self) -> Time {
        self.confirmed_at
    }

    /// When the first frame was sent of those that wait for a confirmation.
    pub(super) fn waits_since(&self) -> Option<Time> {
        self.sent.front().map(|sent| sent.at)
    }

    /// The smoothed round trip time.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|rtt| rtt.smoothed)
    }

    /// How long a path that works may be without a confirmation. A radio that dozes makes round trips differ much.
    pub(super) fn confirmed_within(&self) -> Duration {
        let Rtt { smoothed, deviation, .. } = self.rtt.unwrap_or_default();
        (CONFIRMED_WITHIN + 2 * smoothed + 4 * deviation).min(MAX_CONFIRMED_WITHIN)
    }

    /// Whether a datagram of more than `bytes` waits for a confirmation.
    pub(super) fn has_larger(&self, bytes: usize) -> bool {
        self.sent.iter().any(|sent| sent.bytes > bytes)
    }

    fn measure(&mut self, sample: Duration, via: Via) {
        let is_direct = via == Via::Datagram;
        self.rtt = Some(match self.rtt {
            Some(rtt) if rtt.is_direct || !is_direct => {
                // What waited on the substream counts little.
                let sample = if is_direct { sample } else { sample.min(rtt.smoothed * 2) };
                let deviation = (rtt.deviation * 3 + sample.abs_diff(rtt.smoothed)) / 4;
                Rtt { smoothed: (rtt.smoothed * 7 + sample) / 8, deviation, ..rtt }
            }
            _ => Rtt { smoothed: sample, deviation: Duration::ZERO, is_direct },
        });
    }

    fn confirm(&mut self, sent_at: Time) {
        self.dropped = 0;
        self.confirmed_at = self.confirmed_at.max(sent_at);
        while self.sent.front().is_some_and(|sent| sent.at <= self.confirmed_at) {
            self.sent.pop_front();
        }
    }
}
