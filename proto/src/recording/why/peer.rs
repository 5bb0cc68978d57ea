//! What became of a peer: found, dialled, connected, disconnected, and why.

use super::Explanation;
use super::ledger::{Changes, Dialled, Ledger};
use super::runs::{Reason, Run, Runs};
use crate::engine::{Command, DialFailure, Direction, Input, NetAction, NetEvent, Output, Refusal};
use crate::event::AviEvent;
use crate::id::PeerId;
use crate::recording::replay::{Step, StepInput};

/// Why inbound connections were refused that may have been those of the peer.
const KEPT_OUT: &str = "the peer is not allowed, is blocked, has broken the rules, or shares no pub/sub protocol; the records do \
                        not say who it was, and it may be this one";

#[derive(Debug)]
pub(super) struct PeerStory {
    id: PeerId,
    /// Whether it is not known that it may connect: what was refused without an id may have been it.
    may_be_kept_out: bool,
    /// Refused connections that are not told yet.
    runs: Runs,
}

impl PeerStory {
    pub(super) fn new(id: PeerId) -> Self {
        Self { id, may_be_kept_out: true, runs: Runs::default() }
    }

    pub(super) fn on_step(&mut self, step: &Step, ledger: &Ledger, changes: &Changes, told: &mut Explanation) {
        if ledger.is_connected(&self.id) {
            self.may_be_kept_out = false;
        }
        self.runs.tell_old(step.time, told);
        if let StepInput::Input(input) = &step.input {
            self.on_input(step, input, changes, told);
        }
        for (connection, _, why) in changes.closing.iter().filter(|(_, peer, _)| *peer == self.id) {
            told.add(step, format!("this node closes connection {}: {why}", connection.0));
        }
        step.outputs.iter().for_each(|output| self.on_output(step, output, changes, told));
    }

    pub(super) fn finish(&mut self, told: &mut Explanation) {
        self.runs.tell(told);
    }

    /// What is said of a dial, if it may have been to this peer.
    fn dial_failed(&self, dial: &Dialled, failure: &DialFailure) -> Option<String> {
        let addresses = dial.addresses.join(", ");
        let addresses = if addresses.is_empty() { "an address" } else { &addresses };
        let why = failed(failure);
        match (&dial.peer, failure) {
            (Some(peer), _) if *peer == self.id => Some(format!("a dial has failed: {why}")),
            (_, DialFailure::WrongPeer { address, obtained }) if *obtained == self.id => {
                Some(format!("a dial to another peer has failed: this one has answered at {address}"))
            }
            (None, DialFailure::Refused(Refusal::KeptOut)) if self.may_be_kept_out => Some(format!(
                "a dial to {addresses} has failed: {why}; the record does not say who is there, and it may be this peer"
            )),
            _ => None,
        }
    }

    fn on_input(&mut self, step: &Step, input: &Input, changes: &Changes, told: &mut Explanation) {
        let id = self.id.clone();
        let is_it = |peer: &PeerId| *peer == id;
        let text = match input {
            Input::Net(NetEvent::Connected { connection, peer, address, direction }) if is_it(peer) => {
                let who = match direction {
                    Direction::Inbound => "the peer has dialled this node",
                    Direction::Outbound(_) => "this node has dialled the peer",
                };
                format!("connection {} is established, at {address}: {who}", connection.0)
            }
            Input::Net(NetEvent::Disconnected { connection, peer }) if is_it(peer) => {
                let why = changes.ended.as_ref().map_or("", |(_, _, why)| why);
                format!("connection {} has ended: {why}", connection.0)
            }
            Input::Net(NetEvent::DialFailed { failure, .. }) => {
                let dial = changes.dialled.as_ref();
                let Some(text) = dial.and_then(|dial| self.dial_failed(dial, failure)) else { return };
                text
            }
            Input::Net(NetEvent::InboundRefused(Refusal::KeptOut)) if self.may_be_kept_out => {
                let (done, reason) = ("refused after their handshake", Reason::Other(KEPT_OUT));
                return self.runs.add(step, Run::new("inbound connection", done, reason, 1));
            }
            Input::Net(NetEvent::Foreign { peer }) if is_it(peer) => {
                self.may_be_kept_out = true;
                "the peer says which protocols it speaks: none is of this node's pub/sub".to_owned()
            }
            Input::Net(NetEvent::Misbehaved { peer }) if is_it(peer) => {
                self.may_be_kept_out = true;
                "pub/sub says that the peer breaks its rules, by its score or by what it sends".to_owned()
            }
            Input::Net(NetEvent::SlowPeer { peer, dropped }) if is_it(peer) => {
                format!("{dropped} messages to it were dropped: it takes them too slowly, and its queue is full")
            }
            Input::Command(Command::SetBlocked { peer, is_blocked, .. }) if is_it(peer) => {
                self.may_be_kept_out = true;
                format!("the application {} it", if *is_blocked { "blocks" } else { "unblocks" })
            }
            Input::Command(Command::SetAllowed { peer, is_allowed, .. }) if is_it(peer) => {
                self.may_be_kept_out = true;
                format!("the application {} it", if *is_allowed { "allows" } else { "allows no more" })
            }
            _ => return,
        };
        told.add(step, text);
    }

    fn on_output(&self, step: &Step, output: &Output, changes: &Changes, told: &mut Explanation) {
        let text = match output {
            Output::Event(AviEvent::BootstrapFailed { address, reason, .. }) if self.is_at(address, changes) => {
                format!("the application is told that {address} cannot be reached: {reason}")
            }
            Output::Net(NetAction::Dial { peer: Some(peer), addresses, .. }) if *peer == self.id => {
                format!("this node dials it at {}", addresses.join(", "))
            }
            Output::Event(AviEvent::PeerDiscovered { peer_id, .. }) if *peer_id == self.id => {
                "the peer becomes known".to_owned()
            }
            Output::Event(AviEvent::PeerDisconnected { peer_id }) if *peer_id == self.id => {
                "the peer is disconnected: that was its last connection".to_owned()
            }
            Output::Event(AviEvent::PeerDuplicated { peer_id, addresses }) if *peer_id == self.id => {
                format!("two nodes have its identity, at {} and at {}", addresses[0], addresses[1])
            }
            Output::Event(AviEvent::PeerSlow { peer_id, dropped }) if *peer_id == self.id => {
                format!("the application is told that {dropped} messages to it were dropped, or were on their way")
            }
            _ => return,
        };
        told.add(step, text);
    }

    /// Whether an entry of `bootstrap_peers` is this peer: it says so, or its connection or dial has just ended.
    fn is_at(&self, entry: &str, changes: &Changes) -> bool {
        let of_entry = entry.rsplit_once("/p2p/").map(|(_, id)| id);
        let dialled = changes.dialled.as_ref().and_then(|dial| dial.peer.as_ref());
        let ended = changes.ended.as_ref().map(|(_, peer, _)| peer);
        of_entry.map_or_else(|| dialled == Some(&self.id) || ended == Some(&self.id), |id| id == self.id.as_str())
    }
}

/// Why a dial has failed, in words.
pub(super) fn failed(failure: &DialFailure) -> String {
    match failure {
        DialFailure::Refused(refusal) => format!("this node's policy refused it: {refusal}"),
        DialFailure::Myself => "this node itself is at the address".to_owned(),
        DialFailure::WrongPeer { address, obtained } => format!("at {address} another peer answered, {obtained}"),
        DialFailure::Unreachable(why) => format!("nobody answered as a node would ({why})"),
        DialFailure::HungUp(why) => format!("the other end closed it before it said its name ({why}): it may be full"),
    }
}
