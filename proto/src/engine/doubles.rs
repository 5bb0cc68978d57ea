//! Do two nodes have the same identity: this node's, or that of a peer?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::io::{ConnectionId, NetAction};
use super::outbox::Outbox;
use super::peer::is_loopback;
use super::time::Time;
use crate::event::AviEvent;
use crate::id::PeerId;
use crate::situation::{Situation, reached};

/// The most addresses, and the most peers, that are told.
const MAX_TOLD: usize = 64;
/// The most addresses that are compared.
const MAX_ADDRESSES: usize = 32;

/// A node that dials itself hears of it at both ends, within the time that a handshake has.
const BOTH_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// What is known of nodes that share an identity.
#[derive(Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Doubles {
    /// Where another node has this node's identity.
    told: BTreeSet<String>,
    /// When a dial of this node was last answered with its own id.
    answered_as_self: Option<Time>,
    told_peers: BTreeSet<PeerId>,
    /// What the other end of each connection says are its addresses.
    addresses: BTreeMap<ConnectionId, Vec<String>>,
    /// Connections that lead to another node than a newer one to the same peer, if they still answer.
    suspects: BTreeMap<ConnectionId, (PeerId, [String; 2])>,
}

impl Doubles {
    /// Tells an address where another node answered with this node's id, once, unless this node itself listens there: a
    /// peer may have had it before.
    pub(super) fn on_answered_as_self(&mut self, now: Time, address: &str, listening: &[String], out: &mut Outbox) {
        self.on_myself(now);
        let is_here = listening.iter().any(|own| own == address || is_wildcard_of(own, address));
        if !is_here {
            self.tell(address, out);
        }
    }

    /// A dial has ended at this node itself, or at another one with its identity.
    pub(super) fn on_myself(&mut self, now: Time) {
        self.answered_as_self = Some(now);
    }

    /// Tells that a node with this node's identity has dialled, once for each host, unless it may be this node itself.
    pub(super) fn on_dialled(&mut self, now: Time, address: &str, is_dialling: bool, out: &mut Outbox) {
        let may_be_self = is_dialling || self.answered_as_self.is_some_and(|at| now - at < BOTH_ENDS_WITHIN);
        if !may_be_self {
            // Each dial comes from another port.
            let host: Vec<_> = address.split('/').take(3).collect();
            self.tell(&host.join("/"), out);
        }
    }

    fn tell(&mut self, address: &str, out: &mut Outbox) {
        if self.told.len() < MAX_TOLD && self.told.insert(address.to_owned()) {
            tracing::warn!(address, "another node has this node's identity");
            reached(Situation::IdentityDoubled);
            out.event(AviEvent::DuplicateIdentity { address: address.to_owned() });
        }
    }

    /// Handles what the other end of a connection says of itself. If another connection to the same peer has led to one
    /// with other addresses, it is asked whether it still answers: a host that has moved does not.
    pub(super) fn on_identified(
        &mut self,
        peer: &PeerId,
        connection: ConnectionId,
        connections: &[ConnectionId],
        addresses: &[String],
        out: &mut Outbox,
    ) {
        self.suspects.remove(&connection);
        if !connections.contains(&connection) {
            return;
        }
        let other = connections.iter().filter(|other| **other != connection).find_map(|other| {
            let at = self.addresses.get(other)?;
            has_moved(at, addresses).map(|(from, to)| (*other, [from.to_owned(), to.to_owned()]))
        });
        // A change is told on one connection alone.
        let new: Vec<_> = addresses.iter().take(MAX_ADDRESSES).cloned().collect();
        if let Some(old) = self.addresses.insert(connection, new.clone()) {
            for other in connections {
                if let Some(list) = self.addresses.get_mut(other).filter(|list| **list == old) {
                    list.clone_from(&new);
                }
            }
        }
        if let Some((other, both)) = other
            && self.told_peers.len() < MAX_TOLD
            && !self.told_peers.contains(peer)
        {
            self.suspects.insert(other, (peer.clone(), both));
            out.net(NetAction::Probe { connection: other });
        }
    }

    /// Handles the answer to a probe.
    pub(super) fn on_answered(&mut self, connection: ConnectionId, out: &mut Outbox) {
        if let Some((peer_id, addresses)) = self.suspects.remove(&connection)
            && self.told_peers.insert(peer_id.clone())
        {
            tracing::warn!(peer = %peer_id, ?addresses, "two nodes have the identity of this peer");
            reached(Situation::PeerDoubled);
            out.event(AviEvent::PeerDuplicated { peer_id, addresses });
        }
    }

    pub(super) fn on_disconnected(&mut self, connection: ConnectionId) {
        self.addresses.remove(&connection);
        self.suspects.remove(&connection);
    }
}

/// An address of each of two lists, if they have none in common. A loopback address is the same on each machine, unless
/// one of the lists has no other.
fn has_moved<'a>(from: &'a [String], to: &'a [String]) -> Option<(&'a str, &'a str)> {
    let is_elsewhere = |list: &[String]| list.iter().any(|address| !is_loopback(address));
    let ignores_loopback = is_elsewhere(from) && is_elsewhere(to);
    let counts = |address: &&String| !ignores_loopback || !is_loopback(address);
    let (from_one, to_one) = (from.iter().find(counts)?, to.iter().find(counts)?);
    let is_common = from.iter().filter(counts).any(|address| to.contains(address));
    (!is_common).then_some((from_one.as_str(), to_one.as_str()))
}

/// Whether a node listens on all addresses, at the port of this one.
fn is_wildcard_of(own: &str, address: &str) -> bool {
    let port = |text: &'_ str| text.rsplit('/').next().map(str::to_owned);
    (own.starts_with("/ip4/0.0.0.0/") || own.starts_with("/ip6/::/")) && port(own) == port(address)
}
