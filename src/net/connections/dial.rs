//! Which addresses does a dial try at once, and which one after the other?

use std::collections::VecDeque;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId as LibPeerId;
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};

use crate::id::PeerId;
use crate::net::translate;
use avi_p2p_proto::engine::{DialFailure, DialId};

/// A dial that the engine has ordered. The addresses of a known peer are tried at once; those of an unknown one, which
/// libp2p does not take together, one after the other until a node answers.
pub(in crate::net) struct Dial {
    pub(super) id: DialId,
    pub(super) peer: Option<LibPeerId>,
    /// How many connections had come in when the attempt began.
    pub(super) inbound: u64,
    untried: VecDeque<Multiaddr>,
    /// The address that is tried alone.
    tried: Option<Multiaddr>,
    /// Why the addresses before it failed.
    reasons: Vec<String>,
}

impl Dial {
    /// # Errors
    /// Why the dial is impossible.
    pub(in crate::net) fn new(id: DialId, peer: Option<&PeerId>, addresses: &[String]) -> Result<Self, DialFailure> {
        let failed = |reason: &str| DialFailure::Unreachable(reason.to_owned());
        let untried: VecDeque<_> = addresses.iter().filter_map(|text| translate::parse_dialable(text)).collect();
        if untried.is_empty() {
            return Err(failed("no usable address"));
        }
        let translated = |peer| translate::libp2p_peer_id(peer).ok_or_else(|| failed("not a peer id"));
        Ok(Self { id, peer: peer.map(translated).transpose()?, inbound: 0, untried, tried: None, reasons: Vec::new() })
    }

    /// The next attempt, if there is an address left.
    pub(in crate::net) fn next(&mut self) -> Option<DialOpts> {
        // Always dials from a new port. Two nodes that dial each other from their listening ports make one TCP
        // connection with two diallers, whose handshake fails.
        if let Some(peer) = self.peer {
            let addresses: Vec<_> = self.untried.drain(..).collect();
            let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).allocate_new_port();
            return (!addresses.is_empty()).then(|| opts.addresses(addresses).build());
        }
        self.tried = self.untried.pop_front();
        let address = self.tried.clone()?;
        Some(DialOpts::unknown_peer_id().address(address).allocate_new_port().build())
    }

    /// Takes the failure of an attempt. Returns that of the dial, unless another address may be tried.
    pub(super) fn on_failed(&mut self, failure: DialFailure) -> Option<DialFailure> {
        let make = match &failure {
            DialFailure::Unreachable(_) => DialFailure::Unreachable,
            DialFailure::HungUp(_) => DialFailure::HungUp,
            // A node has answered, or this node itself has no room.
            _ => return Some(failure),
        };
        let (DialFailure::Unreachable(reason) | DialFailure::HungUp(reason)) = failure else { return Some(failure) };
        let is_only = self.reasons.is_empty() && self.untried.is_empty();
        let reason = match self.tried.take().filter(|_| !is_only) {
            Some(address) => format!("{address}: {reason}"),
            None => reason,
        };
        self.reasons.push(reason);
        self.untried.is_empty().then(|| make(self.reasons.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(reason: &str) -> DialFailure {
        DialFailure::Unreachable(reason.to_owned())
    }

    fn dial(addresses: &[&str]) -> Dial {
        let addresses: Vec<_> = addresses.iter().map(|&address| address.to_owned()).collect();
        let mut dial = Dial::new(DialId(1), None, &addresses).unwrap();
        assert!(dial.next().is_some());
        dial
    }

    #[test]
    fn the_addresses_of_an_unknown_peer_are_tried_in_turn_and_all_their_failures_told() {
        let mut both = dial(&["/ip6/::1/tcp/9", "/ip4/127.0.0.1/tcp/9"]);
        assert_eq!(both.on_failed(unreachable("refused")), None);
        assert!(both.next().is_some());
        let told = "/ip6/::1/tcp/9: refused; /ip4/127.0.0.1/tcp/9: reset";
        assert_eq!(both.on_failed(DialFailure::HungUp("reset".to_owned())), Some(DialFailure::HungUp(told.to_owned())));
        assert!(both.next().is_none());
        assert_eq!(dial(&["/ip6/::1/tcp/9"]).on_failed(unreachable("refused")), Some(unreachable("refused")));
    }

    #[test]
    fn after_a_node_has_answered_no_other_address_is_tried() {
        let mut both = dial(&["/ip6/::1/tcp/9", "/ip4/127.0.0.1/tcp/9"]);
        assert_eq!(both.on_failed(DialFailure::Myself), Some(DialFailure::Myself));
    }
}
