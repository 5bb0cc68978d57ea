//! What is known about one peer, or about one entry of `bootstrap_peers`?

use std::time::Duration;

use super::io::ConnectionId;
use super::time::Time;
use crate::event::DiscoverySource;
use crate::id::PeerId;
use crate::stats::PeerDirection;

/// First wait before a peer is dialled again. It doubles with every failure.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest wait, before jitter.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// Longest wait for a bootstrap peer, before jitter: two halves of a mesh that cannot reach each other may have nothing
/// else in common, and are to be one again 30 s after they can.
pub(super) const MAX_BOOTSTRAP_BACKOFF: Duration = Duration::from_secs(20);
/// Where a peer stands.
#[derive(Debug)]
pub(super) enum State {
    /// Waits for its turn in the dial budget. Next: `Dialing`, `Connected`, forgotten.
    Known,
    /// A dial is under way. Next: `Connected`, `Backoff`, forgotten.
    Dialing,
    /// At least one connection. Next: `Backoff`, forgotten if nothing says where it can be dialled.
    Connected { since: Time, connections: Vec<Connection> },
    /// Waits for its timer; without one, its bootstrap entry dials it. Next: `Known`, `Connected`, forgotten.
    Backoff,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) since: Time,
    pub(super) direction: PeerDirection,
    /// Whether it stays within this machine.
    pub(super) is_loopback: bool,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) state: State,
    pub(super) source: DiscoverySource,
    /// Where this node has reached it.
    pub(super) proven: Option<String>,
    /// Where others say that it is; the newest last.
    pub(super) hints: Vec<String>,
    pub(super) name: Option<String>,
    pub(super) rtt: Option<Duration>,
    /// Failed dials in a row.
    pub(super) failures: u32,
}

/// An entry of `bootstrap_peers`.
#[derive(Debug)]
pub(super) struct Bootstrap {
    /// As configured.
    pub(super) address: String,
    /// Without the peer id.
    pub(super) dial_address: String,
    /// Who it must be, if the configuration says so.
    pub(super) pinned: Option<PeerId>,
    /// Who answered last.
    pub(super) peer: Option<PeerId>,
    /// Whether that is no node of AVI.
    pub(super) is_foreign: bool,
    pub(super) failures: u32,
    /// Whether the last dial found this node itself.
    pub(super) is_myself: bool,
    pub(super) waits: bool,
}

impl Peer {
    pub(super) fn new(source: DiscoverySource) -> Self {
        Self { state: State::Known, source, proven: None, hints: Vec::new(), name: None, rtt: None, failures: 0 }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        let connections = match &self.state {
            State::Connected { connections, .. } => connections.as_slice(),
            _ => &[],
        };
        connections.iter().map(|connection| connection.id)
    }

    /// Where to dial it, the likeliest first.
    pub(super) fn addresses(&self) -> Vec<String> {
        let hints = self.hints.iter().rev().filter(|hint| self.proven.as_ref() != Some(hint));
        self.proven.iter().chain(hints).cloned().collect()
    }

    /// Whether nothing is known of it but its id.
    pub(super) fn is_unheard_of(&self) -> bool {
        !self.can_be_dialled() && !self.is_connected()
    }

    pub(super) fn can_be_dialled(&self) -> bool {
        self.proven.is_some() || !self.hints.is_empty()
    }

    /// Somebody else is there.
    pub(super) fn unlearn(&mut self, address: &str) {
        self.proven.take_if(|proven| proven == address);
        self.hints.retain(|hint| hint != address);
    }

    /// Remembers at most `max` hints. Returns whether one was new.
    pub(super) fn hear(&mut self, addresses: Vec<String>, max: usize) -> bool {
        let mut is_news = false;
        for address in addresses.into_iter().take(max) {
            let before = self.hints.len();
            self.hints.retain(|other| *other != address);
            is_news |= self.hints.len() == before && self.proven.as_ref() != Some(&address);
            self.hints.push(address);
        }
        self.hints.drain(..self.hints.len().saturating_sub(max));
        is_news
    }
}

impl Bootstrap {
    /// Whether this entry looks after that peer.
    pub(super) fn is(&self, id: &PeerId) -> bool {
        self.peer.as_ref().or(self.pinned.as_ref()) == Some(id)
    }

    pub(super) fn new(address: &str) -> Self {
        let (dial_address, pinned) = match address.split_once("/p2p/") {
            Some((dial_address, peer)) => (dial_address.to_owned(), Some(PeerId::new(peer))),
            None => (address.to_owned(), None),
        };
        Self {
            address: address.to_owned(),
            dial_address,
            pinned,
            peer: None,
            is_foreign: false,
            failures: 0,
            is_myself: false,
            waits: true,
        }
    }
}

pub(super) fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << failures.min(6)).min(MAX_BACKOFF)
}

/// An address of loopback is of use only to those who reach the peer over loopback.
pub(super) fn is_loopback(address: &str) -> bool {
    address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/")
}
