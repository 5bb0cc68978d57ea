//! Does another node have this node's identity?

use std::collections::BTreeSet;

use super::outbox::Outbox;
use crate::event::AviEvent;

/// The most addresses that are told.
const MAX_TOLD: usize = 64;

/// The addresses at which another node has answered with this node's id.
#[derive(Debug, Default)]
pub(super) struct Doubles {
    told: BTreeSet<String>,
}

impl Doubles {
    /// Tells an address, once, unless this node itself listens there: a peer may have had it before.
    pub(super) fn on_answered(&mut self, address: &str, listening: &[String], out: &mut Outbox) {
        let is_here = listening.iter().any(|own| own == address || is_wildcard_of(own, address));
        if !is_here && self.told.len() < MAX_TOLD && self.told.insert(address.to_owned()) {
            tracing::warn!(address, "another node has this node's identity");
            out.event(AviEvent::DuplicateIdentity { address: address.to_owned() });
        }
    }
}

/// Whether a node listens on all addresses, at the port of this one.
fn is_wildcard_of(own: &str, address: &str) -> bool {
    let port = |text: &'_ str| text.rsplit('/').next().map(str::to_owned);
    (own.starts_with("/ip4/0.0.0.0/") || own.starts_with("/ip6/::/")) && port(own) == port(address)
}
