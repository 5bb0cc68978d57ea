//! Which peers may connect? The connection policy, which the network layer asks before a handshake and after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::time::{Time, TimerTable};
use crate::config::{AviP2pConfig, MAX_LISTED_PEERS};
use crate::error::AviP2pError;
use crate::id::PeerId;

/// How long a peer that was judged is kept out.
pub(super) const BAN: Duration = Duration::from_secs(300);
/// The most peers that are kept out so. Beyond it, the one whose time would end first may come in.
const MAX_BANNED: usize = 1024;
/// One in use, [`MAX_RETIRED`] that deliver what they have taken, and a new one.
const MAX_CONNECTIONS_PER_PEER: usize = 4;
/// The most retired connections to a peer.
pub(super) const MAX_RETIRED: usize = 2;

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum Refusal {
    /// The node is shutting down.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// `max_peers` is reached, or the remaining places are reserved for other peers.
    #[error("max_peers is reached")]
    MaxPeers,
    /// Too many connections are in their handshake.
    #[error("limits.pending_inbound is reached")]
    PendingInbound,
    /// Too many of the connections in their handshake come from one address.
    #[error("limits.pending_inbound_per_ip is reached")]
    PendingInboundPerIp,
    /// There are enough connections to this peer.
    #[error("the peer has enough connections")]
    ConnectionsPerPeer,
    /// The peer is blocked, judged, or not in `allowed_peers`.
    #[error("the peer is not allowed, is blocked, has broken the rules, or shares no pub/sub protocol")]
    KeptOut,
}

/// The counts of the network layer that a decision needs.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Count {
    /// Peers connected.
    pub peers: usize,
    /// Inbound connections in their handshake.
    pub pending: usize,
    /// Inbound connections in their handshake from the same address.
    pub pending_from_ip: usize,
}

/// The current connection policy. The engine sends a new one after every change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Admission {
    pub(super) max_peers: usize,
    pub(super) max_pending: usize,
    pub(super) max_pending_per_ip: usize,
    /// Peers that the application waits for. The last places are reserved for them.
    pub(super) wanted: BTreeSet<PeerId>,
    pub(super) lists: Arc<Lists>,
}

impl Admission {
    /// Decides before the handshake of an inbound connection.
    ///
    /// # Errors
    /// Why the connection is refused.
    pub fn inbound(&self, count: Count) -> Result<(), Refusal> {
        if count.peers >= self.max_peers {
            Err(Refusal::MaxPeers)
        } else if count.pending >= self.max_pending {
            Err(Refusal::PendingInbound)
        } else if count.pending_from_ip >= self.max_pending_per_ip {
            Err(Refusal::PendingInboundPerIp)
        } else {
            Ok(())
        }
    }

    /// Decides before this node dials. `connections` counts those to the same peer.
    ///
    /// # Errors
    /// Why the dial is refused.
    pub fn outbound(&self, peers: usize, connections: usize) -> Result<(), Refusal> {
        if peers >= self.max_peers && connections == 0 { Err(Refusal::MaxPeers) } else { Ok(()) }
    }

    /// The places that this peer may not take.
    fn reserved_from(&self, peer: &PeerId) -> usize {
        if self.wanted.contains(peer) { 0 } else { self.wanted.len() }
    }

    /// Decides after a handshake, which has proven the peer's id. `connections` counts the earlier ones to this peer.
    ///
    /// # Errors
    /// Why the connection must end before any protocol begins.
    pub fn established(&self, peer: &PeerId, peers: usize, connections: usize) -> Result<(), Refusal> {
        if !self.lists.admit(peer) {
            Err(Refusal::KeptOut)
        } else if connections == 0 && peers + self.reserved_from(peer) >= self.max_peers {
            Err(Refusal::MaxPeers)
        } else if connections >= MAX_CONNECTIONS_PER_PEER {
            Err(Refusal::ConnectionsPerPeer)
        } else {
            Ok(())
        }
    }
}

/// The peers that may and may not connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Lists {
    /// `None` allows every peer.
    allowed: Option<BTreeSet<PeerId>>,
    paired: BTreeSet<PeerId>,
    blocked: BTreeSet<PeerId>,
    banned: BTreeMap<PeerId, Verdict>,
}

/// Why a peer is kept out for [`BAN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Verdict {
    /// It breaks the rules of pub/sub.
    Misbehaved,
    /// It speaks none of this node's pub/sub protocols.
    Foreign,
}

impl Verdict {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Misbehaved => "it has broken the rules of pub/sub, and is kept out for five minutes",
            Self::Foreign => "it speaks none of this node's pub/sub protocols, and is kept out for five minutes",
        }
    }
}

impl Lists {
    fn admit(&self, peer: &PeerId) -> bool {
        self.objection(peer).is_none()
    }

    /// Why a peer may not connect. Blocking overrides the other lists.
    fn objection(&self, peer: &PeerId) -> Option<&'static str> {
        if self.blocked.contains(peer) {
            return Some("it is in blocked_peers");
        }
        if let Some(verdict) = self.banned.get(peer) {
            return Some(verdict.reason());
        }
        let is_allowed = self.allowed.as_ref().is_none_or(|allowed| allowed.contains(peer));
        (!is_allowed && !self.paired.contains(peer)).then_some("it is not in allowed_peers")
    }
}

/// The lists, and when each ban ends.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Access {
    lists: Arc<Lists>,
    banned_until: TimerTable<PeerId>,
}

impl Access {
    pub(super) fn new(config: &AviP2pConfig) -> Self {
        let lists = Lists {
            allowed: config.allowed_peers.as_ref().map(|peers| peers.iter().cloned().collect()),
            paired: config.paired_peers.iter().cloned().collect(),
            blocked: config.blocked_peers.iter().cloned().collect(),
            banned: BTreeMap::new(),
        };
        Self { lists: Arc::new(lists), banned_until: TimerTable::new() }
    }

    pub(super) fn lists(&self) -> Arc<Lists> {
        self.lists.clone()
    }

    pub(super) fn admits(&self, peer: &PeerId) -> bool {
        self.lists.admit(peer)
    }

    /// Why a peer may not connect.
    pub(super) fn objection(&self, peer: &PeerId) -> Option<&'static str> {
        self.lists.objection(peer)
    }

    pub(super) fn is_blocked(&self, peer: &PeerId) -> bool {
        self.lists.blocked.contains(peer)
    }

    /// Whether the peer is named in `allowed_peers` or `paired_peers`.
    #[cfg(feature = "context")]
    pub(super) fn is_listed(&self, peer: &PeerId) -> bool {
        self.is_paired(peer) || self.lists.allowed.as_ref().is_some_and(|allowed| allowed.contains(peer))
    }

    pub(super) fn paired(&self) -> impl Iterator<Item = &PeerId> {
        self.lists.paired.iter()
    }

    pub(super) fn is_paired(&self, peer: &PeerId) -> bool {
        self.lists.paired.contains(peer)
    }

    /// Whether a peer is kept out because of this.
    pub(super) fn is_judged(&self, peer: &PeerId, verdict: Verdict) -> bool {
        self.lists.banned.get(peer) == Some(&verdict)
    }

    /// Adds a peer to `allowed_peers`, or removes it.
    pub(super) fn set_allowed(&mut self, peer: &PeerId, is_allowed: bool) -> Result<(), AviP2pError> {
        let Some(allowed) = Arc::make_mut(&mut self.lists).allowed.as_mut() else {
            return Err(AviP2pError::Disabled("allowed_peers"));
        };
        set(allowed, peer, is_allowed, "allowed_peers")
    }

    /// Adds a peer to `blocked_peers`, or removes it.
    pub(super) fn set_blocked(&mut self, peer: &PeerId, is_blocked: bool) -> Result<(), AviP2pError> {
        set(&mut Arc::make_mut(&mut self.lists).blocked, peer, is_blocked, "blocked_peers")
    }

    /// Keeps a peer out for [`BAN`].
    pub(super) fn ban(&mut self, now: Time, peer: &PeerId, verdict: Verdict) {
        let banned = &mut Arc::make_mut(&mut self.lists).banned;
        if banned.insert(peer.clone(), verdict).is_none()
            && banned.len() > MAX_BANNED
            && let Some(first) = self.banned_until.pop_due(now + BAN)
        {
            banned.remove(&first);
        }
        self.banned_until.set(peer.clone(), now + BAN);
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.banned_until.next_deadline()
    }

    /// Ends the bans that are over. Returns the peers that may connect again.
    pub(super) fn handle_timeout(&mut self, now: Time) -> Vec<PeerId> {
        let mut over = Vec::new();
        while let Some(peer) = self.banned_until.pop_due(now) {
            Arc::make_mut(&mut self.lists).banned.remove(&peer);
            over.push(peer);
        }
        over.retain(|peer| self.admits(peer));
        over
    }
}

fn set(list: &mut BTreeSet<PeerId>, peer: &PeerId, is_on: bool, limit: &'static str) -> Result<(), AviP2pError> {
    if !is_on {
        list.remove(peer);
    } else if list.len() >= MAX_LISTED_PEERS && !list.contains(peer) {
        return Err(AviP2pError::LimitReached { limit, max: MAX_LISTED_PEERS });
    } else {
        list.insert(peer.clone());
    }
    Ok(())
}
