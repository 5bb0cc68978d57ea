//! Statistics of a node, a peer, an audio stream.

use std::time::Duration;

use crate::error::StreamCloseReason;
use crate::event::DiscoverySource;
use crate::id::PeerId;
use crate::media::Media;

macro_rules! stats {
    ($($(#[doc = $help:literal])+ $kind:ident $name:ident;)*) => {
        /// Counters of a node since its start. Everything that is dropped, refused or limited is counted here.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $help])+ pub $name: u64,)*
        }

        /// Every figure of a node with its name, help and kind.
        pub fn figures(stats: &Stats) -> Vec<Figure> {
            vec![$(Figure {
                name: stringify!($name),
                help: concat!($($help),+).trim(),
                kind: Kind::$kind,
                value: stats.$name,
            },)*]
        }
    };
}

/// A statistic as a metric.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The name of the field of [`Stats`].
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether it only rises.
    pub kind: Kind,
    /// The value.
    pub value: u64,
}

/// Whether a statistic only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)] // As the table below has them.
pub enum Kind {
    /// It only rises.
    counter,
    /// It rises and falls.
    gauge,
}

stats! {
    /// Peers connected now.
    gauge peers_connected;
    /// Peers remembered now, connected or not.
    gauge peers_known;
    /// Discovered peers that were not remembered because `known_peers` was reached.
    counter peers_ignored;
    /// Addresses heard by mDNS that were dropped: not in the subnet of an interface that is used, not plain TCP, or
    /// beyond `addresses_per_peer` and `known_peers`.
    counter mdns_ignored;
    /// Connections made, in both directions.
    counter connections_opened;
    /// Connections ended.
    counter connections_closed;
    /// Peers disconnected to keep room for others to connect.
    counter peers_pruned;
    /// Idle peers disconnected so that a peer could be dialled for a call.
    counter peers_displaced;
    /// Peers connected now that are in one of GossipSub's meshes with this node.
    gauge mesh_peers;
    /// Second connections to a peer that this node gave up: of two dials that crossed, the newer; of two of which one end has
    /// lost the older, or the older is stuck, the older.
    counter duplicate_connections;
    /// Those that still deliver what they have taken.
    gauge retired_connections;
    /// Peers that were disconnected because they speak libp2p, but are no nodes of AVI.
    counter foreign_peers;
    /// Bans: a peer broke the rules of pub/sub, was disconnected, and is banned for five minutes. Its attempts to
    /// reconnect count in `peers_refused`.
    counter peers_banned;
    /// Connections refused after their handshake, in either direction, or ended by `block_peer` and `disallow_peer`,
    /// because the peer is blocked, banned or not allowed. The refused ones also count in `inbound_refused` or
    /// `outbound_refused`.
    counter peers_refused;
    /// Connections ended because the peer was silent: for 14 s no byte arrived, and none that waited was taken, and dials
    /// from the eighth second on were in vain; 27 s while datagrams come from it.
    counter ping_timeouts;
    /// Dials begun.
    counter dials;
    /// Dials that failed, including those of `outbound_refused`.
    counter dials_failed;
    /// Outbound connections that this node itself refused: no room is left, the peer has enough connections, or it is
    /// blocked, banned or not allowed, which counts in `peers_refused` too.
    counter outbound_refused;
    /// Inbound connections that this node refused: no room is left for them or for their handshake, the peer has enough
    /// connections, or it is blocked, banned or not allowed, which counts in `peers_refused` too.
    counter inbound_refused;
    /// Inbound connections that failed in their handshake.
    counter inbound_failed;
    /// Failures to accept a connection, since the process or the system has no room for another one.
    counter accepts_failed;

    /// Messages given to the mesh.
    counter messages_published;
    /// Messages held for a first subscriber since the start.
    counter messages_held;
    /// Messages held now.
    gauge messages_held_now;
    /// Held messages that found no subscriber in time.
    counter messages_expired;
    /// Calls of `publish` answered with an error other than `ChannelClosed`: one each, however many subscribers there
    /// are. With `Congested`, where the queue of every subscriber is full, the drops also count in `slow_peer_drops`,
    /// one for each subscriber.
    counter publishes_refused;
    /// Messages received on subscribed topics.
    counter messages_received;
    /// Messages of peers that were refused: oversize, of blocked authors, or on topics that are no longer subscribed
    /// to; and malformed ones after which the peer opened a new substream. libp2p does not report how many other
    /// messages were malformed or badly signed.
    counter messages_refused;
    /// Messages to one peer that were dropped because the peer's queue was full or they waited too long. They include
    /// own messages, forwarded ones and GossipSub's announcements; one for each peer and message. The publish itself
    /// has succeeded if another peer had room. And own messages that were on their way when a connection fell silent for
    /// good, whether or not they have arrived.
    counter slow_peer_drops;
    /// Subscriptions of peers beyond `max_topics` that were not remembered.
    counter subscriptions_ignored;

    /// Values in the shared context now, of all authors. The figures of the context count entries.
    gauge context_entries;
    /// Tombstones in the shared context now.
    gauge context_tombstones;
    /// Bytes of the shared context now.
    gauge context_bytes;
    /// Authors in the shared context now.
    gauge context_authors;
    /// Entries that this node has written into the shared context.
    counter context_writes;
    /// Entries that this node has written again: its clock has gone back since, or they belong to it and would expire.
    counter context_written_again;
    /// New entries of others that were taken.
    counter context_taken;
    /// Entries refused because their clock is too far ahead, or dropped for that once this node's own clock was set.
    counter context_refused_ahead;
    /// Entries refused because they are below the id of another peer than their author.
    counter context_refused_not_owner;
    /// Entries of others refused because a limit of `ContextOptions` is reached.
    counter context_refused_full;
    /// Entries refused because their author has not signed them. Nothing more is taken from whom they came for a minute.
    counter context_refused_forged;
    /// Messages and frames of the shared context that could not be read, and entries published by another than their author.
    counter context_refused_invalid;
    /// Entries refused because their author may not connect: it is blocked, or not in `allowed_peers`.
    counter context_refused_blocked;
    /// Messages, requests and entries that were not looked at, because too many came, of too many new authors or beyond the
    /// bounds, or forged ones came before.
    counter context_refused_busy;
    /// Exchanges that this node began: with a neighbour it has met, in turn, and after one that brought news.
    counter context_exchanges;
    /// Those that failed, or lasted too long. They are tried again.
    counter context_exchanges_failed;
    /// Requests of exchanges that others began, answered.
    counter context_answers;

    /// Audio streams open, requested or offered now.
    gauge streams_now;
    /// Audio streams requested by this node.
    counter streams_requested;
    /// Audio streams offered by peers.
    counter streams_offered;
    /// Offers refused because `max_audio_streams` was reached, or the half of it that one peer may request at once.
    counter streams_refused;
    /// Times that a stream went on over another connection, after the one it had was lost.
    counter streams_resumed;
    /// Streams ended because the other end broke the protocol.
    counter protocol_errors;
    /// Frames of unknown kinds that were skipped.
    counter frames_skipped;
    /// Audio frames handed to substreams.
    counter audio_frames_sent;
    /// Audio frames dropped by this node because a path was congested.
    counter audio_frames_dropped;
    /// Audio frames refused with `Congested`.
    counter audio_frames_refused;
    /// Audio frames received.
    counter audio_frames_received;
    /// Audio frames that the other ends dropped.
    counter audio_frames_missing;
    /// Datagrams received for the calls of this node.
    counter datagrams_received;
    /// Datagrams of this node that the system did not take at once: its buffer was full, or nobody can be reached there.
    counter datagrams_dropped;
    /// Datagrams received that no call of this node expects.
    counter datagrams_ignored;

    /// Messages dropped because the application read too slowly.
    counter events_dropped_messages;
    /// Audio frames dropped because the application read too slowly.
    counter events_dropped_audio_frames;
    /// Lifecycle events dropped because the application read too slowly.
    counter events_dropped_lifecycle;
}

/// What is known about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PeerInfo {
    /// The peer's id.
    pub peer_id: PeerId,
    /// Its `node_name` as it sent it last, also after it has disconnected.
    pub name: Option<String>,
    /// The known addresses at which it may be reached.
    pub addresses: Vec<String>,
    /// How it became known.
    pub source: DiscoverySource,
    /// Whether it is connected.
    pub connected: bool,
    /// Who dialled the connection that is used; `None` without one.
    pub direction: Option<PeerDirection>,
    /// How long it has been connected; `None` if it is not.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::serial::seconds::option"))]
    pub connected_for: Option<Duration>,
    /// The last round-trip time of a ping; `None` before the first.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::serial::seconds::option"))]
    pub rtt: Option<Duration>,
    /// The topics it subscribes to, in order.
    pub topics: Vec<String>,
}

/// Who dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PeerDirection {
    /// The peer did.
    Inbound,
    /// This node did.
    Outbound,
}

/// Statistics of one audio stream. They can be read until 64 other streams have ended after it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct AudioStats {
    /// The other end.
    pub peer_id: PeerId,
    /// Whether audio may flow.
    pub accepted: bool,
    /// The opener's description of the audio.
    pub media: Option<Media>,
    /// The opener's label for the stream.
    pub label: Option<String>,
    /// Frames that the application gave to this end.
    pub frames_given: u64,
    /// Frames that have left: as datagrams, or on the substream.
    pub frames_sent: u64,
    /// Frames dropped by this end because the path was congested.
    pub frames_dropped: u64,
    /// Payload bytes queued to be sent.
    pub queued_bytes: usize,
    /// Bytes that were sent, with the headers of their frames, and that the other end has not acknowledged.
    pub in_flight_bytes: u64,
    /// How long frames wait in queues on the path, beyond its own delay, as of the other end's last acknowledgement.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::serial::seconds::option"))]
    pub queue_delay: Option<Duration>,
    /// Bits a second that the path takes from this end, with the headers of frames, while it takes less than it is
    /// given. `None` if no limit is known. See [`AviEvent::AudioRate`](crate::event::AviEvent::AudioRate).
    pub rate_bits_per_second: Option<u64>,
    /// What carries the frames that this end sends.
    pub path: AudioPath,
    /// How often `path` has changed. A call begins on the substream.
    pub path_changes: u64,
    /// The round trip time of the datagrams' path, once it was measured.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::serial::seconds::option"))]
    pub path_rtt: Option<Duration>,
    /// Frames that this end sent a second time, because the path loses some.
    pub frames_repeated: u64,
    /// Frames received from the other end.
    pub frames_received: u64,
    /// Frames that the other end's application gave, and that this one's does not get: they never came, or far too late.
    pub frames_lost: u64,
    /// Frames received too late to be played in time (see `audio_queue`).
    pub frames_late: u64,
    /// Interarrival jitter of received frames, after RFC 3550 §6.4.1.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub jitter: Duration,
    /// The other end's last report on what this end sent, about once a second.
    pub remote: Option<RemoteAudioReport>,
    /// The jitter buffer, if the stream is read [paced](crate::media::Playout::Paced).
    pub playout: Option<PlayoutStats>,
    /// Why the stream has ended, once it has.
    pub ended: Option<StreamCloseReason>,
}

/// What carries audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum AudioPath {
    /// The connection that the stream was opened on: reliable, and in order.
    #[default]
    Substream,
    /// Datagrams, over UDP. Each frame is on its own, and does not wait for a lost one.
    Datagrams,
}

/// Statistics of a jitter buffer. Each frame that came is played, removed, late, or still buffered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PlayoutStats {
    /// The delay that recent frames ask for, above that of the fastest of them.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub target_delay: Duration,
    /// The delay at which the last frame was played, above that of the fastest recent one.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub delay: Duration,
    /// The duration of the frames that wait.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub buffered: Duration,
    /// Frames played.
    pub played: u64,
    /// Ticks without a frame, for which the application was told to conceal.
    pub concealed: u64,
    /// Frames that came so late that `max_delay` did not allow to play them.
    pub late: u64,
    /// Frame durations by which the delay has grown, because frames came after their time.
    pub inserted: u64,
    /// Frames that were not played in order to shorten the delay, because too many waited, or because the application
    /// read too slowly.
    pub removed: u64,
}

/// What the other end of an audio stream reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RemoteAudioReport {
    /// Highest sequence received; sequences count from 0.
    pub highest_sequence: u64,
    /// Frames that never arrived.
    pub lost: u64,
    /// Frames that arrived too late to be played in time.
    pub late: u64,
    /// Interarrival jitter.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub jitter: Duration,
}
