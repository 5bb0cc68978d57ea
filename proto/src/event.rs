//! What a node tells its application.

use std::time::Duration;

use crate::error::StreamCloseReason;
use crate::id::{PeerId, StreamId};

/// An event of a node, from `EventReceiver::recv`.
///
/// Lifecycle events are kept until they are read, up to a bound; what no longer holds is taken back, so that a call that
/// was offered and withdrawn unread, or a peer that came and went, is never heard of. `Message`, `PublishExpired`,
/// `AudioData` and `AudioGap` are bounded by [`Limits`](crate::config::Limits): the oldest go first, and `Lagged` says how many.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AviEvent {
    /// The node listens. The first event of a node.
    Started {
        /// This node's id.
        local_peer_id: PeerId,
        /// Where it listens, as `/ip4/192.0.2.7/tcp/9000`: what another node's `bootstrap_peers` takes, as it is or with
        /// `/p2p/<local_peer_id>` behind it.
        listen_addresses: Vec<String>,
    },
    /// The addresses that the node listens on have changed; here are all of them.
    ListenAddressesChanged {
        /// As in `Started`.
        listen_addresses: Vec<String>,
    },
    /// A peer has been heard of: by mDNS, Kademlia or another peer. It may be out of reach.
    PeerDiscovered {
        /// Who.
        peer_id: PeerId,
    },
    /// A peer is connected. One that does not let this node in, as by its `allowed_peers`, hangs up at once: then
    /// `PeerDisconnected` follows, and `BootstrapFailed` if it is in `bootstrap_peers`.
    PeerConnected {
        /// Who.
        peer_id: PeerId,
        /// Its address on this connection, as `/ip4/192.0.2.7/tcp/9000`.
        address: String,
    },
    /// The last connection to a peer has ended.
    PeerDisconnected {
        /// Who.
        peer_id: PeerId,
    },
    /// A bootstrap peer could not be reached. It will be dialled again.
    BootstrapFailed {
        /// The entry of `bootstrap_peers`.
        address: String,
        /// Why.
        reason: String,
        /// When it is dialled next.
        retry_in: Duration,
    },
    /// A way of discovery does not work on this machine; the node goes on without it.
    DiscoveryUnavailable {
        /// Which way.
        source: DiscoverySource,
        /// Why.
        reason: String,
    },
    /// Messages to a peer were dropped, because it takes them too slowly. It may have got them from others.
    PeerSlow {
        /// Who.
        peer_id: PeerId,
        /// How many messages, since the last such event.
        dropped: u64,
    },
    /// A message on a subscribed topic.
    Message {
        /// Its author, as its signature proves; not the neighbour that forwarded it.
        from: PeerId,
        /// The topic.
        topic: String,
        /// The payload.
        data: Vec<u8>,
    },
    /// A message that was held for a first subscriber has not found one within `publish_hold` or before the shutdown, or
    /// its path was congested when it did. Nobody has received it.
    PublishExpired {
        /// The topic.
        topic: String,
        /// The payload.
        data: Vec<u8>,
    },
    /// A peer asks for an audio stream: accept it, or reject it.
    /// `AviP2pHandle::audio_stats` has the media and label that it gave.
    AudioStreamRequested {
        /// Who asks.
        from: PeerId,
        /// This node's name for the stream.
        stream_id: StreamId,
    },
    /// The other end accepted a stream that this node requested.
    AudioStreamAccepted {
        /// The other end.
        peer_id: PeerId,
        /// The stream.
        stream_id: StreamId,
    },
    /// A frame of audio, in order.
    AudioData {
        /// The other end.
        from: PeerId,
        /// The stream.
        stream_id: StreamId,
        /// The frame, as it was sent.
        data: Vec<u8>,
    },
    /// Frames of a stream are missing: the sender dropped them because the path was congested.
    AudioGap {
        /// The other end.
        from: PeerId,
        /// The stream.
        stream_id: StreamId,
        /// How many frames.
        missing: u64,
    },
    /// A stream has ended; its last event. Its figures are gone.
    AudioStreamClosed {
        /// The other end.
        peer_id: PeerId,
        /// The stream.
        stream_id: StreamId,
        /// Why.
        reason: StreamCloseReason,
    },
    /// The node has ended because its code, or that of a library below it, panicked. The last event of such a node; every
    /// call returns [`ChannelClosed`](crate::AviP2pError::ChannelClosed) from now on. Start another node, and report it.
    NodeFailed {
        /// The panic's text.
        reason: String,
    },
    /// The application reads too slowly: since the last event, this much was dropped.
    Lagged {
        /// `Message` and `PublishExpired` events.
        messages: u64,
        /// Audio frames of all streams together, those of dropped `AudioGap` events included. They are gaps that no
        /// `AudioGap` reports: a call that must not drift in time is best read promptly.
        audio_frames: u64,
        /// Lifecycle events beyond `limits.event_lifecycle`, after coalescing.
        lifecycle: u64,
    },
}

/// How a peer came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DiscoverySource {
    /// It is in `bootstrap_peers`.
    Bootstrap,
    /// mDNS on the local network.
    Mdns,
    /// Kademlia, through other peers.
    Kademlia,
    /// It connected to this node.
    Inbound,
    /// It is in `paired_peers`.
    Paired,
}
