//! Whom to dial, and when? The dial budget, its order, and the waits between dials.

use super::io::{DialFailure, DialId, NetAction};
use super::outbox::Outbox;
use super::peer::{Bootstrap, FIRST_BACKOFF, MAX_BACKOFF, MAX_BOOTSTRAP_BACKOFF, State, backoff};
use super::peers::{Peers, Target};
use super::time::Time;
use crate::event::AviEvent;
use crate::id::PeerId;

/// A discovered peer is forgotten after this many failed dials in a row, about eleven minutes.
const MAX_FAILURES: u32 = 16;

impl Peers {
    /// Begins as many dials as the budget allows.
    pub(crate) fn dial(&mut self, out: &mut Outbox) {
        while self.dials.len() < self.concurrent_dials && self.connected + self.dials.len() < self.max_peers {
            let Some(target) = self.next_bootstrap().or_else(|| self.next_candidate()) else { return };
            let dial = DialId(self.next_dial);
            self.next_dial += 1;
            let (peer, addresses) = match &target {
                Target::Bootstrap(index) => {
                    let entry = &mut self.bootstrap[*index];
                    entry.waits = false;
                    (entry.pinned.clone(), vec![entry.dial_address.clone()])
                }
                Target::Peer(id) => {
                    self.candidates.remove(id);
                    let Some(peer) = self.peers.get_mut(id) else { continue };
                    peer.state = State::Dialing;
                    (Some(id.clone()), peer.addresses())
                }
            };
            tracing::debug!(peer = peer.as_ref().map(PeerId::as_str), ?addresses, "dial");
            out.stats.dials += 1;
            out.net(NetAction::Dial { dial, peer, addresses });
            self.dials.insert(dial, target);
        }
    }

    pub(crate) fn on_dial_failed(&mut self, now: Time, dial: DialId, failure: DialFailure, out: &mut Outbox) {
        let Some(target) = self.dials.remove(&dial) else { return };
        out.stats.dials_failed += 1;
        out.stats.outbound_refused += u64::from(failure == DialFailure::Refused);
        match target {
            Target::Bootstrap(index) => self.on_bootstrap_failed(now, index, failure, out),
            Target::Peer(id) => {
                let Some(peer) = self.peers.get_mut(&id).filter(|peer| matches!(peer.state, State::Dialing)) else {
                    return;
                };
                // A refusal says that there is no room here, and nothing about the peer.
                peer.failures += u32::from(failure != DialFailure::Refused);
                if failure == DialFailure::Myself || peer.failures >= MAX_FAILURES || !peer.can_be_dialled() {
                    self.forget(&id);
                } else {
                    self.back_off(now, &id);
                }
            }
        }
    }

    /// Whether discovered peers would be dialled.
    pub(crate) fn wants_more(&self) -> bool {
        self.connected < self.dial_target()
    }

    pub(super) fn on_bootstrap_connected(&mut self, index: usize, id: &PeerId) {
        let entry = &mut self.bootstrap[index];
        (entry.failures, entry.is_myself) = (0, false);
        entry.peer = Some(id.clone());
        // Whoever answers there is dialled again for ever, also if another connection is the one that stays.
        entry.waits = true;
    }

    /// Returns whether a bootstrap entry looks after this peer.
    pub(super) fn redial_bootstrap(&mut self, now: Time, id: &PeerId) -> bool {
        // A bootstrap peer that has parted with a node of many peers had none to spare.
        let pause = if self.connected < self.dial_target() { FIRST_BACKOFF } else { MAX_BOOTSTRAP_BACKOFF };
        let mut found = false;
        for (index, entry) in self.bootstrap.iter_mut().enumerate().filter(|(_, entry)| entry.is(id)) {
            found = true;
            entry.waits = false;
            let pause = if std::mem::take(&mut entry.is_foreign) { MAX_BACKOFF } else { pause };
            let wait = self.rng.jitter(pause);
            self.timers.set(Target::Bootstrap(index), now + wait);
        }
        found
    }

    pub(super) fn back_off(&mut self, now: Time, id: &PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.state = State::Backoff;
            let wait = self.rng.jitter(backoff(peer.failures.saturating_sub(1)));
            self.timers.set(Target::Peer(id.clone()), now + wait);
        }
    }

    fn next_bootstrap(&self) -> Option<Target> {
        let is_due = |entry: &Bootstrap| {
            let id = entry.peer.as_ref().or(entry.pinned.as_ref());
            entry.waits && !id.is_some_and(|id| self.is_connected(id))
        };
        self.bootstrap.iter().position(is_due).map(Target::Bootstrap)
    }

    fn next_candidate(&mut self) -> Option<Target> {
        if self.connected + self.dials.len() >= self.dial_target() {
            return None;
        }
        // At random, or every node of a mesh would dial the same few first.
        let at = self.rng.next() as usize % self.candidates.len().max(1);
        self.candidates.iter().nth(at).cloned().map(Target::Peer)
    }

    fn on_bootstrap_failed(&mut self, now: Time, index: usize, failure: DialFailure, out: &mut Outbox) {
        let entry = &mut self.bootstrap[index];
        let is_myself = failure == DialFailure::Myself;
        if std::mem::replace(&mut entry.is_myself, is_myself) && is_myself {
            // As in a list that all nodes share. With another address, or if the other one's identity is mended, it
            // may be somebody else.
            return self.timers.set(Target::Bootstrap(index), now + MAX_BACKOFF);
        }
        let reason = match failure {
            DialFailure::Myself => "it is this node itself, or another with the same identity".to_owned(),
            DialFailure::Refused => "the connection policy refused it".to_owned(),
            DialFailure::Unreachable(reason) => reason,
        };
        let pause = backoff(entry.failures).min(MAX_BOOTSTRAP_BACKOFF);
        let retry_in = if is_myself { MAX_BACKOFF } else { self.rng.jitter(pause) };
        entry.failures = entry.failures.saturating_add(1);
        self.timers.set(Target::Bootstrap(index), now + retry_in);
        let address = entry.address.clone();
        tracing::debug!(address, reason, ?retry_in, "bootstrap peer cannot be reached");
        out.event(AviEvent::BootstrapFailed { address, reason, retry_in });
    }

    /// Discovered peers are dialled only up to half of `max_peers`: a mesh whose nodes are all full has no room for
    /// the next one.
    fn dial_target(&self) -> usize {
        (self.max_peers / 2).max(1)
    }
}
