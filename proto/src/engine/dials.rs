//! Whom to dial, and when? The dial budget, its order, and the waits between dials.

use super::admission::Refusal;
use super::io::{DialFailure, DialId, NetAction};
use super::outbox::Outbox;
use super::peer::{Bootstrap, FIRST_BACKOFF, MAX_BACKOFF, MAX_BOOTSTRAP_BACKOFF, Peer, State, backoff};
use super::peers::{Peers, Target};
use super::time::Time;
use crate::event::AviEvent;
use crate::id::PeerId;

/// A discovered peer is forgotten after this many failed dials in a row, about eleven minutes.
const MAX_FAILURES: u32 = 16;
/// A peer that the application waits for is dialled so often before it is told that it waits in vain.
const WANTED_DIALS: u32 = 3;
const MYSELF: &str = "it is this node itself, or another with the same identity";
/// Addresses that one dial tries, all at once: so it ends when one handshake may.
const MAX_DIAL_ADDRESSES: usize = 8;
/// One in this many dials at a time is kept for peers that are more than heard of.
const KEPT_DIALS: usize = 4;

impl Peers {
    /// Begins as many dials as the budget allows.
    pub(crate) fn dial(&mut self, out: &mut Outbox) {
        while self.dials.len() < self.limits.concurrent_dials && self.connected + self.dials.len() < self.max_peers {
            let Some(target) = self.next_target() else { return };
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
                    let mut addresses = peer.addresses();
                    addresses.truncate(MAX_DIAL_ADDRESSES);
                    (Some(id.clone()), addresses)
                }
            };
            tracing::debug!(peer = peer.as_ref().map(PeerId::as_str), ?addresses, "dial");
            out.stats.dials += 1;
            out.net(NetAction::Dial { dial, peer, addresses });
            self.dials.insert(dial, target);
        }
    }

    /// Returns the peer that the application waits for in vain, and why.
    pub(crate) fn on_dial_failed(
        &mut self,
        now: Time,
        dial: DialId,
        failure: DialFailure,
        out: &mut Outbox,
    ) -> Option<(PeerId, String)> {
        let target = self.dials.remove(&dial)?;
        out.stats.dials_failed += 1;
        if let DialFailure::Refused(refusal) = failure {
            out.stats.outbound_refused += 1;
            out.stats.peers_refused += u64::from(refusal == Refusal::KeptOut);
        }
        match target {
            Target::Bootstrap(index) => {
                self.on_bootstrap_failed(now, index, failure, out);
                None
            }
            Target::Peer(id) => self.on_peer_failed(now, id, failure),
        }
    }

    fn on_peer_failed(&mut self, now: Time, id: PeerId, failure: DialFailure) -> Option<(PeerId, String)> {
        let peer = self.peers.get_mut(&id).filter(|peer| matches!(peer.state, State::Dialing))?;
        let reason = match failure {
            // It says that there is no room here, and nothing about the peer.
            DialFailure::Refused(_) => {
                self.back_off(now, &id);
                return None;
            }
            DialFailure::Myself => "it is this node itself".to_owned(),
            DialFailure::WrongPeer { ref address, ref obtained } => {
                peer.unlearn(address);
                answered_as(address, obtained)
            }
            DialFailure::Unreachable(ref reason) => reason.clone(),
        };
        peer.failures = peer.failures.saturating_add(1);
        let is_hopeless = peer.failures >= MAX_FAILURES && !self.access.is_paired(&id);
        let is_given_up = failure == DialFailure::Myself || is_hopeless;
        let is_forgotten = is_given_up || !peer.can_be_dialled();
        // A full peer parts with somebody when it has refused a dial, so that the next one finds room.
        let in_vain = self.wanted.get_mut(&id).map(|dials| {
            *dials += 1;
            *dials >= WANTED_DIALS || is_forgotten
        });
        if in_vain == Some(true) {
            self.wanted.remove(&id);
            self.is_admission_stale = true;
        }
        if is_forgotten {
            self.forget(&id);
        } else {
            self.back_off(now, &id);
        }
        in_vain?.then_some((id, reason))
    }

    /// Whether it is known where a peer is that is not connected.
    pub(crate) fn can_be_reached(&self, id: &PeerId) -> bool {
        self.peers.get(id).is_some_and(Peer::can_be_dialled)
    }

    /// The application waits for a peer: it is dialled before all others, and before its time.
    pub(crate) fn want(&mut self, id: &PeerId) {
        self.is_admission_stale |= self.wanted.insert(id.clone(), 0).is_none();
        if self.peers.get(id).is_some_and(|peer| matches!(peer.state, State::Backoff)) {
            self.timers.stop(&Target::Peer(id.clone()));
            self.make_known(id);
        }
    }

    /// Forgets the wanted peers that no stream waits for any more.
    pub(crate) fn release_wanted(&mut self, is_awaited: impl Fn(&PeerId) -> bool) {
        let before = self.wanted.len();
        self.wanted.retain(|id, _| is_awaited(id));
        self.is_admission_stale |= self.wanted.len() != before;
    }

    /// Whether discovered peers would be dialled.
    pub(crate) fn wants_more(&self) -> bool {
        self.connected < self.dial_target()
    }

    pub(super) fn on_bootstrap_connected(&mut self, index: usize, id: &PeerId) {
        let entry = &mut self.bootstrap[index];
        entry.is_myself = false;
        entry.peer = Some(id.clone());
        // Whoever answers there is dialled again for ever, also if another connection is the one that stays.
        entry.waits = true;
    }

    /// Returns whether a bootstrap entry looks after this peer.
    pub(super) fn redial_bootstrap(&mut self, now: Time, id: &PeerId, hung_up: bool, out: &mut Outbox) -> bool {
        // A bootstrap peer that has parted with a node of many peers had none to spare.
        let pause = if self.connected < self.dial_target() { FIRST_BACKOFF } else { MAX_BOOTSTRAP_BACKOFF };
        let entries: Vec<_> = (0..self.bootstrap.len()).filter(|index| self.bootstrap[*index].is(id)).collect();
        for &index in &entries {
            let entry = &mut self.bootstrap[index];
            entry.waits = false;
            let is_foreign = std::mem::take(&mut entry.is_foreign);
            if hung_up && !is_foreign {
                let reason = "it hung up after the handshake: it may be full, or not let this node in".to_owned();
                self.on_bootstrap_failed(now, index, DialFailure::Unreachable(reason), out);
            } else {
                let wait = self.rng.jitter(if is_foreign { MAX_BACKOFF } else { pause });
                self.timers.set(Target::Bootstrap(index), now + wait);
            }
        }
        !entries.is_empty()
    }

    pub(super) fn back_off(&mut self, now: Time, id: &PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.state = State::Backoff;
            let max = if self.access.is_paired(id) { MAX_BOOTSTRAP_BACKOFF } else { MAX_BACKOFF };
            let failures = self.wanted.get(id).map_or(peer.failures, |dials| *dials);
            let wait = self.rng.jitter(backoff(failures.saturating_sub(1)).min(max));
            self.timers.set(Target::Peer(id.clone()), now + wait);
        }
    }

    /// Whether somebody waits for a place who is more than heard of: whoever the application waits for, and bootstrap and
    /// paired peers unless they have failed again and again.
    pub(super) fn is_place_wanted(&self) -> bool {
        let is_fresh = |failures: u32| failures < WANTED_DIALS;
        self.wanted.keys().any(|id| self.candidates.contains(id))
            || self.bootstrap.iter().any(|entry| self.is_due(entry) && is_fresh(entry.failures))
            || self.access.paired().any(|id| {
                self.candidates.contains(id) && self.peers.get(id).is_some_and(|peer| is_fresh(peer.failures))
            })
    }

    /// Whom the application waits for, then bootstrap peers, then paired ones, then whoever has been heard of.
    fn next_target(&mut self) -> Option<Target> {
        let wanted = self.wanted.keys().find(|id| self.candidates.contains(*id)).cloned().map(Target::Peer);
        wanted.or_else(|| self.next_bootstrap()).or_else(|| self.next_paired()).or_else(|| self.next_candidate())
    }

    fn next_paired(&self) -> Option<Target> {
        self.access.paired().find(|id| self.candidates.contains(*id)).cloned().map(Target::Peer)
    }

    fn next_bootstrap(&self) -> Option<Target> {
        self.bootstrap.iter().position(|entry| self.is_due(entry)).map(Target::Bootstrap)
    }

    fn is_due(&self, entry: &Bootstrap) -> bool {
        let id = entry.peer.as_ref().or(entry.pinned.as_ref());
        entry.waits && id.is_none_or(|id| !self.is_connected(id) && self.admits(id))
    }

    fn next_candidate(&mut self) -> Option<Target> {
        let kept_free = self.limits.concurrent_dials / KEPT_DIALS;
        // Without anyone to choose from nothing is drawn: a call that does nothing leaves no trace in later ones.
        if self.candidates.is_empty()
            || self.connected + self.dials.len() >= self.dial_target()
            || self.dials.len() >= self.limits.concurrent_dials - kept_free
        {
            return None;
        }
        // At random, or every node of a mesh would dial the same few first.
        let at = self.rng.next() as usize % self.candidates.len();
        self.candidates.iter().nth(at).cloned().map(Target::Peer)
    }

    fn on_bootstrap_failed(&mut self, now: Time, index: usize, failure: DialFailure, out: &mut Outbox) {
        let entry = &mut self.bootstrap[index];
        let is_myself = match &failure {
            DialFailure::Myself => true,
            DialFailure::WrongPeer { obtained, .. } => *obtained == self.local,
            _ => false,
        };
        if std::mem::replace(&mut entry.is_myself, is_myself) && is_myself {
            // As in a list that all nodes share. With another address, or if the other one's identity is mended, it
            // may be somebody else.
            return self.timers.set(Target::Bootstrap(index), now + MAX_BACKOFF);
        }
        let reason = match failure {
            DialFailure::Myself => MYSELF.to_owned(),
            DialFailure::WrongPeer { .. } if is_myself => MYSELF.to_owned(),
            DialFailure::WrongPeer { address, obtained } => answered_as(&address, &obtained),
            DialFailure::Refused(refusal) => format!("refused here: {refusal}"),
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

fn answered_as(address: &str, obtained: &PeerId) -> String {
    format!("{address}: answered as {obtained}")
}
