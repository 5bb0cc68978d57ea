//! Which PROBEs wait for their PROBED?

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::watch::MAX_CONFIRMED_WITHIN;
use crate::engine::Time;

/// The most that wait: more than are sent to three addresses every 100 ms within a second.
const MAX_WAITING: usize = 32;
/// An answer that takes longer comes too late: such a path would be given up at once, and is of no use to a call.
const ANSWER_WITHIN: Duration = MAX_CONFIRMED_WITHIN;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Probe {
    pub(super) token: u64,
    pub(super) to: SocketAddr,
    pub(super) sent_at: Time,
}

/// The newest ones, in the order in which they were sent.
#[derive(Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Probes {
    waiting: VecDeque<Probe>,
}

impl Probes {
    pub(super) fn insert(&mut self, probe: Probe) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(probe);
    }

    /// The probe that an answer is for. Each is returned once.
    pub(super) fn take(&mut self, now: Time, token: u64) -> Option<Probe> {
        let index = self.waiting.iter().position(|probe| probe.token == token)?;
        self.waiting.remove(index).filter(|probe| now - probe.sent_at <= ANSWER_WITHIN)
    }

    /// When the first of those to `to` was sent that were sent after `since`.
    pub(super) fn first_after(&self, since: Time, to: SocketAddr) -> Option<Time> {
        self.waiting.iter().find(|probe| probe.to == to && probe.sent_at > since).map(|probe| probe.sent_at)
    }
}
