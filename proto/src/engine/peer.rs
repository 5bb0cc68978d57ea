//! What is known about one peer, or about one entry of `bootstrap_peers`?

use std::time::Duration;

use super::io::ConnectionId;
use super::time::Time;
use crate::address::Address;
use crate::event::DiscoverySource;
use crate::id::PeerId;
use crate::stats::PeerDirection;

/// First backoff before a peer is dialled again. It doubles with every failure.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest backoff, before jitter.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// Longest backoff for a bootstrap peer, before jitter. Two halves of a mesh that cannot reach each other may have only
/// this in common, and must be one mesh again within 30 s after they can.
pub(super) const MAX_BOOTSTRAP_BACKOFF: Duration = Duration::from_secs(20);
/// The most addresses of one dial. They are all tried at once, so the dial ends within the time of one handshake.
const MAX_DIAL_ADDRESSES: usize = 8;

/// The state of a peer.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum State {
    /// Waits for its turn in the dial budget. Next: `Dialing`, `Connected`, forgotten.
    Known,
    /// A dial is in progress. Next: `Connected`, `Backoff`, forgotten.
    Dialing,
    /// Has at least one connection. Next: `Backoff`; forgotten if no address is known at which it can be dialled.
    Connected { since: Time, connections: Vec<Connection> },
    /// Waits for its timer; without one, its bootstrap entry dials it. Next: `Known`, `Connected`, forgotten.
    Backoff,
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) since: Time,
    pub(super) direction: PeerDirection,
    /// Whether the connection stays within this machine.
    pub(super) is_loopback: bool,
    /// How many messages this node had published when the last pong came, and when the one before came: the last pong
    /// shows that the latter have arrived, since its ping was sent after them.
    pub(super) published: [u64; 2],
    /// The newer one beside which it was probed, and when.
    pub(super) probed_beside: Option<(ConnectionId, Time)>,
    /// Whether the peer has answered the last probe.
    pub(super) is_answered: bool,
    /// Since when the peer has pub/sub on it.
    pub(super) opened: Option<Time>,
    /// Since a newer one is used in its place.
    pub(super) retired: Option<Retired>,
}

/// A connection that only delivers what it has taken.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Retired {
    pub(super) since: Time,
    /// The pongs since then.
    pub(super) pongs: u32,
    /// The messages that this node had published.
    pub(super) published: u64,
}

impl Connection {
    pub(super) fn is_retired(&self) -> bool {
        self.retired.is_some()
    }
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Peer {
    pub(super) state: State,
    pub(super) source: DiscoverySource,
    /// The address at which this node has reached it.
    pub(super) proven: Option<String>,
    /// The addresses that others report, the newest last.
    pub(super) hints: Vec<String>,
    /// Its name as it was sent last, on this connection or an earlier one.
    pub(super) name: Option<String>,
    /// Whether the connected peer has sent its name.
    pub(super) is_identified: bool,
    pub(super) rtt: Option<Duration>,
    /// Failed dials in a row.
    pub(super) failures: u32,
}

/// An entry of `bootstrap_peers`.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Bootstrap {
    /// The address as configured.
    pub(super) address: String,
    /// The address without the peer id.
    pub(super) dial_address: String,
    /// The peer id that must answer, if the configuration gives one.
    pub(super) pinned: Option<PeerId>,
    /// The peer that answered last.
    pub(super) peer: Option<PeerId>,
    pub(super) failures: u32,
    /// Whether the last dial found this node itself.
    pub(super) is_myself: bool,
    pub(super) waits: bool,
}

impl Peer {
    pub(super) fn new(source: DiscoverySource) -> Self {
        Self {
            state: State::Known,
            source,
            proven: None,
            hints: Vec::new(),
            name: None,
            is_identified: false,
            rtt: None,
            failures: 0,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    /// Whether it is connected, and this node has dialled it.
    pub(super) fn is_chosen(&self) -> bool {
        match &self.state {
            State::Connected { connections, .. } => {
                connections.iter().any(|connection| connection.direction == PeerDirection::Outbound)
            }
            _ => false,
        }
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.all_connections().iter().map(|connection| connection.id)
    }

    /// Its connections, the oldest first.
    pub(super) fn all_connections(&self) -> &[Connection] {
        match &self.state {
            State::Connected { connections, .. } => connections,
            _ => &[],
        }
    }

    /// The addresses to dial, the most likely first.
    pub(super) fn addresses(&self) -> Vec<String> {
        let hints = self.hints.iter().rev().filter(|hint| self.proven.as_ref() != Some(hint));
        self.proven.iter().chain(hints).cloned().collect()
    }

    /// The addresses of one dial.
    pub(super) fn addresses_to_dial(&self) -> Vec<String> {
        let mut addresses = self.addresses();
        addresses.truncate(MAX_DIAL_ADDRESSES);
        addresses
    }

    /// Whether nothing but its id is known.
    pub(super) fn is_unheard_of(&self) -> bool {
        !self.can_be_dialled() && !self.is_connected()
    }

    pub(super) fn can_be_dialled(&self) -> bool {
        self.proven.is_some() || !self.hints.is_empty()
    }

    /// Forgets an address at which another peer has answered.
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
    /// The peer that this entry stands for, as far as it is known.
    pub(super) fn id(&self) -> Option<&PeerId> {
        self.peer.as_ref().or(self.pinned.as_ref())
    }

    /// Whether this entry stands for that peer.
    pub(super) fn is(&self, id: &PeerId) -> bool {
        self.id() == Some(id)
    }

    /// `None` for text that is no address, which no valid configuration has.
    pub(super) fn new(text: &str) -> Option<Self> {
        let address = Address::parse(text).ok()?;
        Some(Self {
            address: text.to_owned(),
            dial_address: address.without_peer_id().to_string(),
            pinned: address.peer_id().cloned(),
            peer: None,
            failures: 0,
            is_myself: false,
            waits: true,
        })
    }
}

pub(super) fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << failures.min(6)).min(MAX_BACKOFF)
}

/// Whether an address is a loopback address. Only peers that reach the peer over loopback can use it.
pub(super) fn is_loopback(address: &str) -> bool {
    address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/")
}
