//! The events that a node reports to its application.

use std::time::Duration;

use crate::error::StreamCloseReason;
use crate::id::{PeerId, StreamId};
use crate::media::AudioFrame;

/// An event of a node, from `EventReceiver::recv`.
///
/// Lifecycle events are kept until they are read, up to a bound. An unread event that no longer holds is removed: the
/// application never sees a call that was offered and withdrawn, or a peer that connected and disconnected, before it
/// read. `Message`, `PublishExpired`, `AudioData` and `AudioGap` are bounded by [`Limits`](crate::config::Limits): the
/// oldest are dropped first, and `Lagged` says how many. `Debug` prints the lengths of payloads, and not their bytes.
#[derive(derive_more::Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum AviEvent {
    /// The node listens. This is its first event.
    Started {
        /// This node's id.
        local_peer_id: PeerId,
        /// The addresses it listens on, as `/ip4/192.0.2.7/tcp/9000`. They are valid in another node's
        /// `bootstrap_peers`, as they are or with `/p2p/<local_peer_id>` appended.
        listen_addresses: Vec<String>,
    },
    /// The addresses that the node listens on have changed.
    ListenAddressesChanged {
        /// All addresses now, as in `Started`.
        listen_addresses: Vec<String>,
    },
    /// A peer has been discovered by mDNS, Kademlia or another peer. It may be unreachable.
    PeerDiscovered {
        /// The peer that was discovered.
        peer_id: PeerId,
    },
    /// A peer is connected. A peer that does not admit this node, for example because of its `allowed_peers`,
    /// disconnects at once: then `PeerDisconnected` follows, and `BootstrapFailed` if it is in `bootstrap_peers`.
    PeerConnected {
        /// The peer that connected.
        peer_id: PeerId,
        /// Its address on this connection, as `/ip4/192.0.2.7/tcp/9000`.
        address: String,
    },
    /// A connected peer has said its name, or has another one now. Anybody may take any name: only the id is proven.
    PeerIdentified {
        /// The peer.
        peer_id: PeerId,
        /// Its `node_name`. Of a peer that is no node of AVI, what its program calls itself, which may be nothing.
        name: String,
    },
    /// The last connection to a peer has ended. Accepted audio streams wait for another one, and end if none comes.
    PeerDisconnected {
        /// The peer that disconnected.
        peer_id: PeerId,
    },
    /// A bootstrap peer could not be reached, or may not connect here. The node tries again, and at once when
    /// `allow_peer` or `unblock_peer` admits it.
    BootstrapFailed {
        /// The entry of `bootstrap_peers`.
        address: String,
        /// Why it failed.
        reason: String,
        /// The time until the next try.
        #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
        retry_in: Duration,
    },
    /// No connection can be accepted now: the process has no file descriptor left, or the system no memory. It is tried
    /// again ten times a second, and counted in [`Stats::accepts_failed`](crate::stats::Stats::accepts_failed). Sent once
    /// until ten seconds have passed without that.
    AcceptFailed {
        /// Why, as the system says it.
        reason: String,
    },
    /// Another node has this node's identity: it answered at an address that this node does not listen on, or has dialled
    /// this node. Peers cannot tell the two apart, and connect now to one, now to the other. Give each a key of its own.
    /// Sent once for each address.
    DuplicateIdentity {
        /// The other node's address; only the host, without a port, if the other node has dialled.
        address: String,
    },
    /// Two nodes have the identity of a peer: both answer, and the addresses that they say they have are all different. Sent
    /// once for each peer.
    PeerDuplicated {
        /// The peer.
        peer_id: PeerId,
        /// An address of each.
        addresses: [String; 2],
    },
    /// A way of discovery does not work on this machine. The node continues without it.
    DiscoveryUnavailable {
        /// The way of discovery that does not work.
        source: DiscoverySource,
        /// Why it does not work.
        reason: String,
    },
    /// Messages to a peer were dropped because it receives them too slowly, or were on their way when its connection
    /// ended; of the latter some may have arrived. It may have got them from others.
    PeerSlow {
        /// The slow peer.
        peer_id: PeerId,
        /// The number of messages dropped since the last such event.
        dropped: u64,
    },
    /// A message on a subscribed topic.
    Message {
        /// Its author, as its signature proves; not the neighbour that forwarded it.
        from: PeerId,
        /// The topic.
        topic: String,
        /// The payload.
        #[debug("{} bytes", data.len())]
        data: Vec<u8>,
    },
    /// What the shared context has at a path has changed, by this node or another one. Of a path, the last one is read; if
    /// the whole below a path changes, one event tells it.
    #[cfg(feature = "context")]
    ContextChanged {
        /// Who wrote it, as a signature proves.
        author: PeerId,
        /// The path, as `avi.device.caps`; empty for the whole.
        path: String,
        /// What is there now; `None` if nothing.
        #[debug("{}", if value.is_some() { "Some(..)" } else { "None" })]
        value: Option<serde_json::Value>,
    },
    /// `ContextChanged` events were dropped, because the application reads too slowly: `Context::snapshot` has what they
    /// would have told.
    #[cfg(feature = "context")]
    ContextLagged {
        /// How many, since the last such event.
        changes: u64,
    },
    /// The file of the shared context cannot be written. It is tried again with the next change.
    #[cfg(feature = "context")]
    ContextNotSaved {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        reason: String,
    },
    /// A held message was not delivered: no subscriber came within `publish_hold` or before the shutdown, or the path
    /// was congested when one came. Nobody has received it.
    PublishExpired {
        /// The topic.
        topic: String,
        /// The payload.
        #[debug("{} bytes", data.len())]
        data: Vec<u8>,
    },
    /// A peer asks for an audio stream: accept it, or reject it. `AviP2pHandle::audio_stats` has the media and label
    /// that it sent.
    AudioStreamRequested {
        /// The peer that asks.
        from: PeerId,
        /// This node's id for the stream.
        stream_id: StreamId,
    },
    /// The other end accepted a stream that this node requested.
    AudioStreamAccepted {
        /// The other end.
        peer_id: PeerId,
        /// The stream.
        stream_id: StreamId,
    },
    /// A frame of audio, in order. Frames of a stream that has an `AudioReader` go there, and so do its gaps.
    AudioData {
        /// The other end.
        from: PeerId,
        /// The stream.
        stream_id: StreamId,
        /// The frame, as it was sent.
        #[debug("{} bytes", data.len())]
        data: Vec<u8>,
    },
    /// Frames of a stream are missing: the sender dropped them because the path was congested, or they were lost on the way.
    AudioGap {
        /// The other end.
        from: PeerId,
        /// The stream.
        stream_id: StreamId,
        /// The number of missing frames.
        missing: u64,
    },
    /// How much the path of a stream takes has changed by a quarter, or has become known or unlimited. An encoder that
    /// follows it loses no frames: those beyond the rate are dropped, or refused. At most about once a second; an unread
    /// one is replaced.
    AudioRate {
        /// The other end.
        peer_id: PeerId,
        /// The stream.
        stream_id: StreamId,
        /// Bits a second for what this end sends, with the headers of frames (at most 31 bytes each, usually 8). `None`:
        /// no limit is known any more.
        bits_per_second: Option<u64>,
    },
    /// A stream has ended. This is its last event. Its figures can be read until 64 other streams have ended.
    AudioStreamClosed {
        /// The other end.
        peer_id: PeerId,
        /// The stream.
        stream_id: StreamId,
        /// Why it ended.
        reason: StreamCloseReason,
    },
    /// The node has ended because its code, or that of a library below it, panicked. This is its last event; every call
    /// returns [`ChannelClosed`](crate::error::AviP2pError::ChannelClosed) from now on, but for `AviP2pHandle::recording`:
    /// with a recorder, it has what led to the panic. Start another node, and report the panic.
    NodeFailed {
        /// The panic's message.
        reason: String,
    },
    /// The application reads too slowly. The fields count what was dropped since the last `Lagged` event.
    Lagged {
        /// Dropped `Message` and `PublishExpired` events.
        messages: u64,
        /// Dropped audio frames of all streams together, including those of dropped `AudioGap` events. No `AudioGap`
        /// reports these gaps: an application whose calls must not drift in time should read promptly.
        audio_frames: u64,
        /// Dropped lifecycle events beyond `limits.event_lifecycle`, after coalescing.
        lifecycle: u64,
    },
}

impl AviEvent {
    #[doc(hidden)]
    /// A frame of audio as events: a gap, if frames are missing before it, and the data.
    pub fn of_audio(from: PeerId, stream_id: StreamId, frame: AudioFrame) -> impl Iterator<Item = Self> {
        let AudioFrame { missing, data, .. } = frame;
        let gap = (missing > 0).then(|| Self::AudioGap { from: from.clone(), stream_id, missing });
        gap.into_iter().chain([Self::AudioData { from, stream_id, data }])
    }
}

/// How a peer became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_prints_the_length_of_its_payload_and_not_its_bytes() {
        let (topic, data) = ("lobby".to_owned(), vec![201; 640]);
        let event = AviEvent::Message { from: PeerId::new("alice"), topic, data };
        let text = format!("{event:?}");
        assert_eq!(text, r#"Message { from: PeerId("alice"), topic: "lobby", data: 640 bytes }"#);
    }
}
