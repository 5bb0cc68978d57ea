//! Where does the peer seem to be now? The source of its newest datagram, which may be anybody's address.

use std::net::SocketAddr;
use std::time::Duration;

use super::route::PROBE_DATAGRAM_BYTES;
use crate::engine::Time;

/// How often an address may be taken up, another or the same one again.
const TAKEN_UP_EVERY: Duration = Duration::from_secs(1);
/// The pauses between the probes of an address. It gets no more until it is taken up again.
const PAUSES_MS: [u64; 2] = [50, 100];
/// The most answers to its PROBEs in that time.
const MAX_ANSWERS: u8 = 3;

/// An address that is not confirmed, and what may still be sent there. The peer chooses it, since the source of a
/// datagram can be forged: so it gets a few probes a second, none larger than what came from there.
#[derive(Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Seen {
    address: Option<SocketAddr>,
    taken_up_at: Option<Time>,
    next_probe: Option<Time>,
    probes: usize,
    answers: u8,
}

impl Seen {
    /// Whether it is this address.
    pub(super) fn is(&self, address: SocketAddr) -> bool {
        self.address == Some(address)
    }

    /// Takes an address up, unless it is too soon. Returns whether to probe it.
    pub(super) fn hear(&mut self, now: Time, from: SocketAddr, bytes: usize) -> bool {
        let is_too_soon = self.taken_up_at.is_some_and(|at| now - at < TAKEN_UP_EVERY);
        if is_too_soon || bytes < PROBE_DATAGRAM_BYTES {
            return false;
        }
        let next_probe = Some(now + Duration::from_millis(PAUSES_MS[0]));
        *self = Self { address: Some(from), taken_up_at: Some(now), next_probe, probes: 1, answers: 0 };
        true
    }

    pub(super) fn next_probe(&self) -> Option<Time> {
        self.next_probe
    }

    /// The address, if it is to be probed again.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<SocketAddr> {
        let at = self.next_probe.filter(|at| *at <= now)?;
        self.next_probe = PAUSES_MS.get(self.probes).map(|pause| at.max(now) + Duration::from_millis(*pause));
        self.probes += 1;
        self.address
    }

    pub(super) fn may_answer(&mut self, from: SocketAddr) -> bool {
        let may = self.is(from) && self.answers < MAX_ANSWERS;
        self.answers += u8::from(may);
        may
    }

    /// Forgets the address, but not when it was taken up.
    pub(super) fn clear(&mut self) {
        self.address = None;
        self.next_probe = None;
    }
}
