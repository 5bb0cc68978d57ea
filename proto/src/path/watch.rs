//! Is what was sent by datagram confirmed in time?

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::Time;

/// Three times the interval of ACK: how long a path that works may be without a confirmation, besides a round trip.
pub(super) const CONFIRMED_WITHIN: Duration = Duration::from_millis(300);
/// The most frames of which it is known when they were sent. If more wait for a confirmation, probes decide.
const MAX_SENT: usize = 256;

/// The frames that the path has taken, and the time up to which what was sent has been confirmed.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Frames sent after `confirmed_at`, in the order in which they were sent.
    sent: VecDeque<Sent>,
    /// When the newest was sent of what was confirmed.
    confirmed_at: Time,
    rtt: Option<Duration>,
    /// Datagrams dropped on this machine since the last confirmation.
    dropped: u32,
}

#[derive(Debug)]
struct Sent {
    sequence: u64,
    at: Time,
    bytes: usize,
}

impl Watch {
    /// Begins anew, with the probe that has confirmed a path. What was measured before may be of another path.
    pub(super) fn begin(&mut self, now: Time, sent_at: Time) {
        *self = Self { sent: VecDeque::new(), confirmed_at: sent_at, rtt: Some(now - sent_at), dropped: 0 };
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

    pub(super) fn on_probed(&mut self, now: Time, sent_at: Time) {
        let (sample, rtt) = (now - sent_at, self.rtt.unwrap_or(now - sent_at));
        // As RFC 6298 §2 if it grows. An answer that had to wait on the substream counts little, and is soon forgotten.
        self.rtt = Some(if sample < rtt { (rtt + sample) / 2 } else { (rtt * 7 + sample.min(rtt * 2)) / 8 });
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
        self.rtt
    }

    /// Whether a datagram of more than `bytes` waits for a confirmation.
    pub(super) fn has_larger(&self, bytes: usize) -> bool {
        self.sent.iter().any(|sent| sent.bytes > bytes)
    }

    fn confirm(&mut self, sent_at: Time) {
        self.dropped = 0;
        self.confirmed_at = self.confirmed_at.max(sent_at);
        while self.sent.front().is_some_and(|sent| sent.at <= self.confirmed_at) {
            self.sent.pop_front();
        }
    }
}
