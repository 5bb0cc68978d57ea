//! Which peer is dialled, and when? The dial budget, its order, and the backoff between dials.

use std::time::Duration;

use super::admission::Refusal;
use super::io::{DialFailure, DialId, NetAction};
use super::outbox::Outbox;
use super::peer::{Bootstrap, FIRST_BACKOFF, MAX_BACKOFF, MAX_BOOTSTRAP_BACKOFF, Peer, State, backoff};
use super::peers::{Peers, Target};
use super::time::Time;
use crate::event::AviEvent;
use crate::id::PeerId;
use crate::situation::{Situation, reached};

/// A discovered peer is forgotten after this many failed dials in a row, which takes about eleven minutes.
const MAX_FAILURES: u32 = 16;
/// After this many failed dials, a stream that waits for the peer fails.
const WANTED_DIALS: u32 = 3;
/// After this many hang-ups in a row, the pause before a bootstrap peer is dialled again grows beyond one second.
const HANG_UPS: u32 = 30;
const MYSELF: &str = "it is this node itself, or another with the same identity";
/// The most dials at once to a peer whose connection is stuck.
const MAX_STUCK_DIALS: usize = 3;
/// One in this many concurrent dials is reserved for bootstrap, paired and wanted peers.
const KEPT_DIALS: usize = 4;

impl Peers {
    /// Starts as many dials as the budget allows.
    pub(crate) fn dial(&mut self, out: &mut Outbox) {
        while self.all_dials() < self.limits.concurrent_dials && self.connected + self.dials.len() < self.max_peers {
            let Some(target) = self.next_target() else { return };
            let (peer, addresses) = match &target {
                Target::Bootstrap(index) => {
                    let entry = &mut self.bootstrap[*index];
                    entry.waits = false;
                    if entry.failures > 0 {
                        reached(Situation::DialRetried);
                    }
                    (entry.pinned.clone(), vec![entry.dial_address.clone()])
                }
                Target::Peer(id) => {
                    self.candidates.remove(id);
                    let Some(peer) = self.peers.get_mut(id) else { continue };
                    peer.state = State::Dialing;
                    if peer.failures > 0 {
                        reached(Situation::DialRetried);
                    }
                    (Some(id.clone()), peer.addresses_to_dial())
                }
            };
            let dial = self.begin_dial(peer, addresses, out);
            self.dials.insert(dial, target);
        }
    }

    fn all_dials(&self) -> usize {
        self.dials.len() + self.stuck_dials.len()
    }

    fn begin_dial(&mut self, peer: Option<PeerId>, addresses: Vec<String>, out: &mut Outbox) -> DialId {
        let dial = DialId(self.next_dial);
        self.next_dial += 1;
        tracing::debug!(peer = peer.as_ref().map(PeerId::as_str), ?addresses, "dial");
        out.stats.dials += 1;
        out.net(NetAction::Dial { dial, peer, addresses });
        dial
    }

    /// Dials a connected peer, since its connection is stuck. Every two seconds comes another dial, beside those that wait
    /// for an answer: their attempts may fall into outages too.
    pub(crate) fn replace(&mut self, id: &PeerId, out: &mut Outbox) {
        let Some(peer) = self.peers.get(id).filter(|peer| peer.can_be_dialled()) else { return };
        let is_single = peer.all_connections().iter().filter(|connection| !connection.is_retired()).count() == 1;
        let dials = self.stuck_dials.values().filter(|other| *other == id).count();
        let kept_free = self.limits.concurrent_dials / KEPT_DIALS;
        if is_single && dials < MAX_STUCK_DIALS && self.all_dials() < self.limits.concurrent_dials - kept_free {
            let addresses = peer.addresses_to_dial();
            let dial = self.begin_dial(Some(id.clone()), addresses, out);
            self.stuck_dials.insert(dial, id.clone());
        }
    }

    /// Returns a peer that the application waits for if no more dials are tried for it, and the reason.
    pub(crate) fn on_dial_failed(
        &mut self,
        now: Time,
        dial: DialId,
        failure: DialFailure,
        out: &mut Outbox,
    ) -> Option<(PeerId, String)> {
        let target = self.dials.remove(&dial);
        if target.is_none() && self.stuck_dials.remove(&dial).is_none() {
            return None;
        }
        out.stats.dials_failed += 1;
        if let DialFailure::Refused(refusal) = failure {
            reached(Situation::DialRefused);
            out.stats.outbound_refused += 1;
            out.stats.peers_refused += u64::from(refusal == Refusal::KeptOut);
        }
        match target? {
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
            // It means that this node has no room. It says nothing about the peer.
            DialFailure::Refused(_) => {
                self.back_off(now, &id);
                return None;
            }
            DialFailure::Myself => "it is this node itself".to_owned(),
            DialFailure::WrongPeer { ref address, ref obtained } => {
                peer.unlearn(address);
                answered_as(address, obtained)
            }
            DialFailure::Unreachable(ref reason) | DialFailure::HungUp(ref reason) => reason.clone(),
        };
        peer.failures = peer.failures.saturating_add(1);
        let is_hopeless = peer.failures >= MAX_FAILURES && !self.access.is_paired(&id);
        let is_given_up = failure == DialFailure::Myself || is_hopeless;
        let is_forgotten = is_given_up || !peer.can_be_dialled();
        // A full node disconnects a peer after it has refused a dial. The next dial then finds room.
        let in_vain = self.wanted.get_mut(&id).map(|dials| {
            *dials += 1;
            *dials >= WANTED_DIALS || is_forgotten
        });
        if in_vain == Some(true) {
            self.wanted.remove(&id);
            self.is_admission_stale = true;
        }
        if is_forgotten {
            reached(Situation::PeerForgotten);
            self.forget(&id);
        } else {
            self.back_off(now, &id);
        }
        in_vain?.then_some((id, reason))
    }

    /// Whether the peer is not connected and an address of it is known.
    pub(crate) fn can_be_reached(&self, id: &PeerId) -> bool {
        self.peers.get(id).is_some_and(Peer::can_be_dialled)
    }

    /// Marks a peer that the application waits for. It is dialled before all others and without waiting for its
    /// backoff.
    pub(crate) fn want(&mut self, id: &PeerId) {
        self.is_admission_stale |= self.wanted.insert(id.clone(), 0).is_none();
        if self.peers.get(id).is_some_and(|peer| matches!(peer.state, State::Backoff)) {
            self.timers.stop(&Target::Peer(id.clone()));
            self.make_known(id);
        }
    }

    /// As [`want`](Self::want), but the peer is dialled after its backoff.
    pub(crate) fn want_later(&mut self, id: &PeerId) {
        self.is_admission_stale |= self.wanted.insert(id.clone(), 0).is_none();
    }

    /// Removes the wanted peers that no stream waits for any more.
    pub(crate) fn release_wanted(&mut self, is_awaited: impl Fn(&PeerId) -> bool) {
        let before = self.wanted.len();
        self.wanted.retain(|id, _| is_awaited(id));
        self.is_admission_stale |= self.wanted.len() != before;
    }

    /// Whether the node would dial discovered peers.
    pub(crate) fn wants_more(&self) -> bool {
        self.missing(0) > 0
    }

    /// How many discovered peers to dial while so many dials are in progress. A node has peers up to half of `max_peers`:
    /// in a mesh of full nodes, a new node finds no room. Those that have dialled it may all depend on it, and then they
    /// and the node are apart from the mesh. So it has dialled a quarter of `max_peers` itself, and one beyond the half when
    /// the last connected bootstrap peer has disconnected it.
    fn missing(&self, dials: usize) -> usize {
        let target = (self.max_peers / 2).max(1).saturating_sub(self.connected);
        let min_chosen = (self.max_peers / 4).max(1).saturating_sub(self.chosen);
        let is_adrift = self.is_adrift && self.connected <= self.max_peers / 2;
        target.max(min_chosen).max(usize::from(is_adrift)).saturating_sub(dials)
    }

    pub(super) fn on_bootstrap_connected(&mut self, index: usize, id: &PeerId) {
        let entry = &mut self.bootstrap[index];
        entry.is_myself = false;
        entry.peer = Some(id.clone());
        // The peer at this address is redialled without end, even if another connection to it is the one that is kept.
        entry.waits = true;
    }

    /// Returns whether a bootstrap entry redials this peer.
    pub(super) fn redial_bootstrap(&mut self, now: Time, id: &PeerId, hung_up: bool, out: &mut Outbox) -> bool {
        let entries: Vec<_> = (0..self.bootstrap.len()).filter(|index| self.bootstrap[*index].is(id)).collect();
        // Whoever never said its name has not been a way into the mesh.
        let is_kept_out = !self.admits(id);
        if !hung_up && !is_kept_out && !entries.is_empty() {
            let is_connected = |entry: &Bootstrap| entry.peer.as_ref().is_some_and(|peer| self.is_connected(peer));
            self.is_adrift |= !self.bootstrap.iter().any(is_connected);
        }
        // A bootstrap peer that has disconnected this node needed the place for others, who may know nobody else. A node
        // that does know others dials those.
        let is_lost = self.connected == 0 || self.candidates.is_empty() && self.wants_more();
        let pause = if is_lost { FIRST_BACKOFF } else { MAX_BOOTSTRAP_BACKOFF };
        for &index in &entries {
            let entry = &mut self.bootstrap[index];
            entry.waits = is_kept_out;
            if is_kept_out {
                continue;
            }
            if hung_up {
                let reason = "it hung up after the handshake: it may be full, or not let this node in".to_owned();
                self.on_bootstrap_failed(now, index, DialFailure::HungUp(reason), out);
            } else {
                let wait = self.rng.jitter(pause);
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

    /// Whether a peer waits for a place that is wanted, or is a bootstrap or paired peer that has not failed
    /// repeatedly.
    pub(super) fn is_place_wanted(&self) -> bool {
        let is_fresh = |failures: u32| failures < WANTED_DIALS;
        self.wanted.keys().any(|id| self.candidates.contains(id))
            || self.bootstrap.iter().any(|entry| self.is_due(entry) && is_fresh(entry.failures))
            || self.access.paired().any(|id| {
                self.candidates.contains(id) && self.peers.get(id).is_some_and(|peer| is_fresh(peer.failures))
            })
    }

    /// The next peer to dial: wanted peers first, then bootstrap peers, then paired ones, then discovered ones.
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
        entry.waits && entry.id().is_none_or(|id| !self.is_connected(id) && self.admits(id))
    }

    fn next_candidate(&mut self) -> Option<Target> {
        let kept_free = self.limits.concurrent_dials / KEPT_DIALS;
        // Without candidates no random number is drawn, so a call that does nothing has no effect on later ones.
        if self.candidates.is_empty()
            || self.missing(self.dials.len()) == 0
            || self.all_dials() >= self.limits.concurrent_dials - kept_free
        {
            return None;
        }
        // Chosen at random. Otherwise every node of a mesh would dial the same few peers first.
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
            // All nodes may share a list that names this node too, so its own entry is no failure. Another node may
            // have the address later, or the configuration of the other node may be corrected, so it is tried again.
            return self.timers.set(Target::Bootstrap(index), now + MAX_BACKOFF);
        }
        let failures = entry.failures;
        let pause = match failure {
            DialFailure::HungUp(_) => self.pause_after_hang_up(failures),
            _ => backoff(failures).min(MAX_BOOTSTRAP_BACKOFF),
        };
        let entry = &mut self.bootstrap[index];
        let reason = match failure {
            DialFailure::Myself => MYSELF.to_owned(),
            DialFailure::WrongPeer { .. } if is_myself => MYSELF.to_owned(),
            DialFailure::WrongPeer { address, obtained } => answered_as(&address, &obtained),
            DialFailure::Refused(refusal) => format!("refused here: {refusal}"),
            DialFailure::Unreachable(reason) | DialFailure::HungUp(reason) => reason,
        };
        let retry_in = if is_myself { MAX_BACKOFF } else { self.rng.jitter(pause) };
        entry.failures = failures.saturating_add(1);
        self.tell_failed(now, index, reason, retry_in, out);
    }

    /// Tells which entries of `bootstrap_peers` cannot be dialled, because their peers are kept out. They are told again
    /// every minute, and tried at once when that changes.
    pub(crate) fn tell_kept_out(&mut self, now: Time, out: &mut Outbox) {
        for index in 0..self.bootstrap.len() {
            let entry = &self.bootstrap[index];
            if let Some(id) = entry.id().filter(|id| entry.waits && !self.is_connected(id))
                && let Some(objection) = self.access.objection(id)
            {
                self.bootstrap[index].waits = false;
                self.tell_failed(now, index, format!("refused here: {objection}"), MAX_BACKOFF, out);
            }
        }
    }

    /// Has the entries of a peer looked at anew at once, since it may connect now, or no more.
    pub(super) fn revise_bootstrap(&mut self, id: &PeerId) {
        for index in 0..self.bootstrap.len() {
            let target = Target::Bootstrap(index);
            if self.bootstrap[index].is(id) && self.timers.is_set(&target) {
                self.timers.stop(&target);
                self.bootstrap[index].waits = true;
            }
        }
    }

    /// Tells that an entry has failed, and sets when it is tried again.
    fn tell_failed(&mut self, now: Time, index: usize, reason: String, retry_in: Duration, out: &mut Outbox) {
        self.timers.set(Target::Bootstrap(index), now + retry_in);
        let address = self.bootstrap[index].address.clone();
        tracing::debug!(address, reason, ?retry_in, "bootstrap peer cannot be reached");
        reached(Situation::BootstrapFailed);
        out.event(AviEvent::BootstrapFailed { address, reason, retry_in });
    }

    /// The pause after a bootstrap peer has hung up. It may be full, and then it makes a place within seconds. A node
    /// that lacks peers may know no other way into the mesh, and others like it come for the same places, so it
    /// comes back every second, for about half a minute. A node that has enough leaves the place to such nodes.
    fn pause_after_hang_up(&self, failures: u32) -> Duration {
        if !self.wants_more() {
            return MAX_BOOTSTRAP_BACKOFF;
        }
        backoff(failures.saturating_sub(HANG_UPS)).min(MAX_BOOTSTRAP_BACKOFF)
    }
}

fn answered_as(address: &str, obtained: &PeerId) -> String {
    format!("{address}: answered as {obtained}")
}
