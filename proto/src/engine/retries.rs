//! When does the network layer retry what the operating system has refused?

use std::time::Duration;

use super::io::NetAction;
use super::outbox::Outbox;
use super::time::{Time, TimerTable};
use crate::event::{AviEvent, DiscoverySource};

/// First wait before failed listeners are tried again. It doubles with every failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);
/// How often to check whether mDNS works again.
const MDNS_RETRY: Duration = Duration::from_secs(30);
/// After this long without a failure to accept a connection, the next one is news.
const ACCEPTS_AGAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
enum Retry {
    Listeners,
    Mdns,
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Retries {
    timers: TimerTable<Retry>,
    /// The wait before the next retry of the listeners.
    pause: Duration,
    /// Why mDNS does not work, if it does not.
    mdns_failure: Option<String>,
    /// When a connection could not be accepted last.
    accept_failed_at: Option<Time>,
}

impl Retries {
    pub(crate) fn new() -> Self {
        Self { timers: TimerTable::new(), pause: FIRST_RETRY, mdns_failure: None, accept_failed_at: None }
    }

    /// Counts a connection that cannot be accepted, and tells the first of many.
    pub(crate) fn on_accept_failed(&mut self, now: Time, reason: String, out: &mut Outbox) {
        out.stats.accepts_failed += 1;
        let is_known = self.accept_failed_at.replace(now).is_some_and(|at| now - at < ACCEPTS_AGAIN);
        if !is_known {
            tracing::warn!(reason, "no connection can be accepted now");
            out.event(AviEvent::AcceptFailed { reason });
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    /// Resets the waits: earlier failures say nothing about the new addresses of the machine.
    pub(crate) fn on_interfaces_changed(&mut self) {
        self.timers.stop(&Retry::Listeners);
        self.pause = FIRST_RETRY;
    }

    /// Schedules a retry of the missing listeners. Several missing at once count as one failure.
    pub(crate) fn on_listeners_missing(&mut self, now: Time) {
        if !self.timers.is_set(&Retry::Listeners) {
            self.timers.set(Retry::Listeners, now + self.pause);
            self.pause = (2 * self.pause).min(MAX_RETRY);
        }
    }

    /// Reports a new failure to the application.
    pub(crate) fn on_unavailable(&mut self, now: Time, source: DiscoverySource, reason: String, out: &mut Outbox) {
        if source == DiscoverySource::Mdns {
            self.timers.set(Retry::Mdns, now + MDNS_RETRY);
            if self.mdns_failure.as_ref() == Some(&reason) {
                return;
            }
            self.mdns_failure = Some(reason.clone());
        }
        out.event(AviEvent::DiscoveryUnavailable { source, reason });
    }

    pub(crate) fn on_available(&mut self, source: DiscoverySource) {
        if source == DiscoverySource::Mdns {
            self.timers.stop(&Retry::Mdns);
            self.mdns_failure = None;
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Time, out: &mut Outbox) {
        while let Some(retry) = self.timers.pop_due(now) {
            out.net(match retry {
                Retry::Listeners => NetAction::RetryListeners,
                Retry::Mdns => NetAction::RetryDiscovery { source: DiscoverySource::Mdns },
            });
        }
    }
}
