//! What became of a peer: found, dialled, connected, disconnected, and why.

use super::Explanation;
use super::ledger::{Changes, Ledger};
use crate::engine::{Command, DialFailure, Direction, Input, NetAction, NetEvent, Output};
use crate::event::AviEvent;
use crate::id::PeerId;
use crate::recording::replay::{Step, StepInput};

#[derive(Debug)]
pub(super) struct PeerStory {
    id: PeerId,
}

impl PeerStory {
    pub(super) fn new(id: PeerId) -> Self {
        Self { id }
    }

    pub(super) fn on_step(&mut self, step: &Step, _: &Ledger, changes: &Changes, told: &mut Explanation) {
        if let StepInput::Input(input) = &step.input {
            self.on_input(step, input, changes, told);
        }
        for (connection, _, why) in changes.closing.iter().filter(|(_, peer, _)| *peer == self.id) {
            told.add(step, format!("this node closes connection {}: {why}", connection.0));
        }
        step.outputs.iter().for_each(|output| self.on_output(step, output, told));
    }

    fn on_input(&self, step: &Step, input: &Input, changes: &Changes, told: &mut Explanation) {
        let is_it = |peer: &PeerId| *peer == self.id;
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
            Input::Net(NetEvent::DialFailed { failure, .. }) if changes.dialled.as_ref().is_some_and(is_it) => {
                format!("a dial has failed: {}", failed(failure))
            }
            Input::Net(NetEvent::Foreign { peer }) if is_it(peer) => {
                "the peer says which protocols it speaks: none is of this node's pub/sub".to_owned()
            }
            Input::Net(NetEvent::Misbehaved { peer }) if is_it(peer) => {
                "pub/sub says that the peer breaks its rules, by its score or by what it sends".to_owned()
            }
            Input::Net(NetEvent::SlowPeer { peer, dropped }) if is_it(peer) => {
                format!("{dropped} messages to it were dropped: it takes them too slowly, and its queue is full")
            }
            Input::Command(Command::SetBlocked { peer, is_blocked, .. }) if is_it(peer) => {
                format!("the application {} it", if *is_blocked { "blocks" } else { "unblocks" })
            }
            Input::Command(Command::SetAllowed { peer, is_allowed, .. }) if is_it(peer) => {
                format!("the application {} it", if *is_allowed { "allows" } else { "allows no more" })
            }
            _ => return,
        };
        told.add(step, text);
    }

    fn on_output(&self, step: &Step, output: &Output, told: &mut Explanation) {
        let text = match output {
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
}

/// Why a dial has failed, in words.
pub(super) fn failed(failure: &DialFailure) -> String {
    match failure {
        DialFailure::Refused(refusal) => format!("this node's policy refused it ({refusal:?})"),
        DialFailure::Myself => "this node itself is at the address".to_owned(),
        DialFailure::WrongPeer { address, obtained } => format!("at {address} another peer answered, {obtained}"),
        DialFailure::Unreachable(why) => format!("nobody answered as a node would ({why})"),
        DialFailure::HungUp(why) => format!("the other end closed it before it said its name ({why}): it may be full"),
    }
}
