//! Figures about a node, a peer, an audio stream.

use std::time::Duration;

use crate::event::DiscoverySource;
use crate::id::PeerId;
use crate::media::Media;

/// Counters of a node since its start. Everything that is dropped, refused or limited is counted here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Peers connected now.
    pub peers_connected: u64,
    /// Peers remembered now, connected or not.
    pub peers_known: u64,
    /// Peers heard of that were not remembered because `known_peers` was reached.
    pub peers_ignored: u64,
    /// Addresses heard by mDNS that were dropped: not of the subnet of an interface that is used, not plain TCP, or
    /// beyond `addresses_per_peer` and `known_peers`.
    pub mdns_ignored: u64,
    /// Connections made, in both directions.
    pub connections_opened: u64,
    /// Connections ended.
    pub connections_closed: u64,
    /// Peers parted with to keep room for others to come.
    pub peers_pruned: u64,
    /// Idle peers parted with so that a peer could be dialled for a call.
    pub peers_displaced: u64,
    /// Peers connected now that are in one of GossipSub's meshes with this node.
    pub mesh_peers: u64,
    /// Second connections to a peer that were closed.
    pub duplicate_connections: u64,
    /// Peers that were disconnected because they speak libp2p, but are no nodes of AVI.
    pub foreign_peers: u64,
    /// Peers that were disconnected, and are kept out for a while, because they broke the rules of pub/sub.
    pub peers_banned: u64,
    /// Peers that were refused or disconnected because `allowed_peers` or `blocked_peers` keeps them out.
    pub peers_refused: u64,
    /// Connections closed because pings were not answered.
    pub ping_timeouts: u64,
    /// Dials begun.
    pub dials: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Outbound connections refused by the connection policy.
    pub outbound_refused: u64,
    /// Inbound connections refused by the connection policy.
    pub inbound_refused: u64,
    /// Inbound connections that failed in their handshake.
    pub inbound_failed: u64,

    /// Messages given to the mesh.
    pub messages_published: u64,
    /// Messages held for a first subscriber, ever.
    pub messages_held: u64,
    /// Messages held now.
    pub messages_held_now: u64,
    /// Held messages that found no subscriber in time.
    pub messages_expired: u64,
    /// Publishes refused, for any reason.
    pub publishes_refused: u64,
    /// Messages received on subscribed topics.
    pub messages_received: u64,
    /// Messages of peers that were refused: oversize, or on topics that are not subscribed to any more. Malformed and
    /// badly signed ones are refused too, but libp2p does not tell how many.
    pub messages_refused: u64,
    /// Messages to slow peers that were dropped because the peer's queue was full or they waited too long.
    pub slow_peer_drops: u64,
    /// Subscriptions of peers beyond `max_topics` that were not remembered.
    pub subscriptions_ignored: u64,

    /// Audio streams open, requested or offered now.
    pub streams_now: u64,
    /// Audio streams requested by this node.
    pub streams_requested: u64,
    /// Audio streams offered by peers.
    pub streams_offered: u64,
    /// Offers refused because `max_audio_streams` was reached.
    pub streams_refused: u64,
    /// Streams ended because the other end broke the protocol.
    pub protocol_errors: u64,
    /// Frames of unknown kinds that were skipped.
    pub frames_skipped: u64,
    /// Audio frames handed to substreams.
    pub audio_frames_sent: u64,
    /// Audio frames dropped by this node because a path was congested.
    pub audio_frames_dropped: u64,
    /// Audio frames refused with `Congested`.
    pub audio_frames_refused: u64,
    /// Audio frames received.
    pub audio_frames_received: u64,
    /// Audio frames that the other ends dropped.
    pub audio_frames_missing: u64,

    /// Messages dropped because the application read too slowly.
    pub events_dropped_messages: u64,
    /// Audio frames dropped because the application read too slowly.
    pub events_dropped_audio_frames: u64,
    /// Lifecycle events dropped because the application read too slowly.
    pub events_dropped_lifecycle: u64,
}

/// What is known about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Who.
    pub peer_id: PeerId,
    /// Its `node_name`, once it has said so.
    pub name: Option<String>,
    /// Where it can be reached, as far as is known.
    pub addresses: Vec<String>,
    /// How it came to be known.
    pub source: DiscoverySource,
    /// Whether it is connected.
    pub connected: bool,
    /// Who dialled the connection that is used.
    pub direction: Option<PeerDirection>,
    /// How long it has been connected.
    pub connected_for: Option<Duration>,
    /// The last round-trip time of a ping.
    pub rtt: Option<Duration>,
    /// The topics it subscribes to, in order.
    pub topics: Vec<String>,
}

/// Who dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerDirection {
    /// The peer did.
    Inbound,
    /// This node did.
    Outbound,
}

/// Figures of one audio stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AudioStats {
    /// The other end.
    pub peer_id: PeerId,
    /// Whether audio may flow.
    pub accepted: bool,
    /// What the opener said the audio is.
    pub media: Option<Media>,
    /// What the opener called the stream.
    pub label: Option<String>,
    /// Frames that the application gave to this end.
    pub frames_given: u64,
    /// Frames handed to the substream.
    pub frames_sent: u64,
    /// Frames dropped by this end because the path was congested.
    pub frames_dropped: u64,
    /// Payload bytes that wait to be sent.
    pub queued_bytes: usize,
    /// Frames received from the other end.
    pub frames_received: u64,
    /// Frames that the other end gave and that never came.
    pub frames_lost: u64,
    /// Frames received too late to be played in time (see `audio_queue`).
    pub frames_late: u64,
    /// Interarrival jitter of received frames, after RFC 3550 §6.4.1.
    pub jitter: Duration,
    /// The other end's last report on what this end sent, about once a second.
    pub remote: Option<RemoteAudioReport>,
}

/// What the other end of an audio stream reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteAudioReport {
    /// Highest sequence received; sequences count from 0.
    pub highest_sequence: u64,
    /// Frames that never came.
    pub lost: u64,
    /// Frames that came too late to be played in time.
    pub late: u64,
    /// Interarrival jitter.
    pub jitter: Duration,
}
