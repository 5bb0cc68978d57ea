//! All inputs and outputs of the engine.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::admission::{Admission, Refusal};
use super::command::{Command, Reply};
use crate::event::{AviEvent, DiscoverySource};
use crate::id::{PeerId, StreamId, Topic};
use crate::media::AudioFrame;
pub use crate::path::MAX_DATAGRAM_BYTES;

/// A connection. The network layer chooses the id, and never reuses it within a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct ConnectionId(pub u64);

/// A substream of a connection. The network layer chooses the id, and never reuses it within a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct SubstreamId(pub u64);

/// A dial. The engine chooses the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct DialId(pub u64);

/// A message given to the mesh. The engine chooses the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct PublishId(pub u64);

/// A request of an exchange of the shared context. The engine chooses the id.
#[cfg(feature = "context")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct ExchangeId(pub u64);

/// A request of another node's exchange. The network layer chooses the id, and never reuses it within a node.
#[cfg(feature = "context")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct AskId(pub u64);

/// What the datagrams of one call begin with. The receiver chooses it, and tells it to the sender alone.
pub type DatagramId = [u8; 8];

/// An input of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// A command of the application. It is answered by exactly one [`Output::Reply`] with the same id.
    Command(Command),
    /// An event of the network.
    Net(NetEvent),
}

/// An output of the engine.
#[derive(derive_more::Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The answer to a command.
    Reply(Reply),
    /// An event for the application.
    Event(AviEvent),
    /// A frame of audio for the application: through a reader of the stream, or as [events](AviEvent::of_audio).
    Audio {
        /// The other end.
        from: PeerId,
        /// The stream.
        stream_id: StreamId,
        /// The frame.
        frame: AudioFrame,
    },
    /// An action for the network.
    Net(NetAction),
    /// Replace the content of [`ContextOptions::file`](crate::context::ContextOptions::file) by this, so that there is
    /// always a whole one.
    #[cfg(feature = "context")]
    SaveContext {
        /// The content.
        #[debug("{} bytes", bytes.len())]
        bytes: Bytes,
    },
    /// The shutdown is complete.
    Stopped,
}

/// Who dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum Direction {
    /// The peer did.
    Inbound,
    /// This node did, with this dial.
    Outbound(DialId),
}

/// Why a dial failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum DialFailure {
    /// The connection policy refused it.
    Refused(Refusal),
    /// The address belongs to this node.
    Myself,
    /// Another peer answered at one of the addresses, or another node with this node's id.
    WrongPeer {
        /// The address at which it answered.
        address: String,
        /// The peer that answered.
        obtained: PeerId,
    },
    /// No address answered as a node would.
    Unreachable(String),
    /// The other end closed the connection before it said its name. It may be full.
    HungUp(String),
}

/// A constant text. serde takes `&'static str` itself for one that must be borrowed from what is read.
type Reason = &'static str;

/// The result of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum PublishOutcome {
    /// The message is in the queues of neighbours.
    Sent,
    /// No peer subscribes to the topic.
    NoSubscribers,
    /// The queue of every neighbour is full.
    Congested,
    /// The network layer cannot send it; the text says why.
    Refused(#[cfg_attr(feature = "recorder", serde(with = "crate::recording::refusal"))] Reason),
}

/// An event of the network.
#[derive(derive_more::Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum NetEvent {
    /// The addresses that the node listens on have changed.
    Listening {
        /// All addresses that the node listens on now.
        addresses: Vec<String>,
    },
    /// Someone has reported addresses of a peer. They are unproven hints.
    Discovered {
        /// The peer that was discovered.
        peer: PeerId,
        /// The addresses at which it may be reached.
        addresses: Vec<String>,
        /// The source that reported it.
        source: DiscoverySource,
    },
    /// A peer on the local network has announced its addresses by mDNS. It repeats that for as long as it is there.
    Announced {
        /// The peer that announced itself.
        peer: PeerId,
        /// Its announced addresses.
        addresses: Vec<String>,
    },
    /// Addresses heard by mDNS were dropped, because no peer can be reached there.
    MdnsIgnored {
        /// The number of addresses dropped.
        addresses: u64,
    },
    /// A way of discovery does not work. Sent after the first failed attempt, when a failure is noticed, and after
    /// every failed [`NetAction::RetryDiscovery`].
    DiscoveryUnavailable {
        /// The way of discovery.
        source: DiscoverySource,
        /// Why it does not work.
        reason: String,
    },
    /// A way of discovery works again.
    DiscoveryAvailable {
        /// The way of discovery.
        source: DiscoverySource,
    },
    /// The addresses of this machine have changed.
    InterfacesChanged,
    /// A listener, or a socket of datagrams, has ended or could not be created.
    ListenersMissing,
    /// The node receives datagrams now, on all addresses that it can listen on. Sent again with another port if that
    /// changes.
    DatagramsOn {
        /// The UDP port.
        port: u16,
    },
    /// The node receives and sends no datagrams any more. If there is an address to receive them at,
    /// [`NetEvent::ListenersMissing`] follows.
    DatagramsOff {
        /// Why.
        reason: String,
    },
    /// A datagram arrived that begins with an [expected](NetAction::ExpectDatagrams) id. Anybody may have sent it.
    Datagram {
        /// The address that it says it comes from.
        from: SocketAddr,
        /// All of it, the id included; at most [`MAX_DATAGRAM_BYTES`].
        #[debug("{} bytes", bytes.len())]
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::runs"))]
        bytes: Bytes,
    },
    /// A [`NetAction::SendDatagram`] was not carried out: the system's buffer is full, or nobody can be reached there.
    DatagramDropped {
        /// Where the datagram should have gone.
        to: SocketAddr,
    },
    /// Datagrams arrived that begin with no expected id, or are too long, and were dropped.
    DatagramsIgnored {
        /// How many, since the last such event.
        count: u64,
    },
    /// The walk started by [`NetAction::Walk`] has ended.
    WalkEnded {
        /// The peers it found, or why it failed.
        result: Result<Vec<PeerId>, String>,
    },
    /// A connection is established. The peer has proven its id.
    Connected {
        /// The connection.
        connection: ConnectionId,
        /// The peer.
        peer: PeerId,
        /// The peer's address.
        address: String,
        /// Who dialled.
        direction: Direction,
    },
    /// A connection has ended.
    Disconnected {
        /// The connection.
        connection: ConnectionId,
        /// The peer.
        peer: PeerId,
    },
    /// A dial has failed.
    DialFailed {
        /// The dial that failed.
        dial: DialId,
        /// Why it failed.
        failure: DialFailure,
    },
    /// A connection that waits at a listener cannot be accepted now.
    AcceptFailed {
        /// Why.
        reason: String,
    },
    /// The connection policy refused an inbound connection.
    InboundRefused(Refusal),
    /// An inbound connection failed in its handshake.
    InboundFailed,
    /// A node with this node's identity has dialled: another one, or this node itself.
    Doubled {
        /// Where it dialled from.
        address: String,
    },
    /// A peer has sent its name and addresses.
    Identified {
        /// The connection.
        connection: ConnectionId,
        /// The peer.
        peer: PeerId,
        /// Its `node_name`.
        name: String,
        /// The addresses it says it listens on.
        addresses: Vec<String>,
    },
    /// A connected peer speaks libp2p, but none of this node's pub/sub protocols.
    Foreign {
        /// The peer.
        peer: PeerId,
    },
    /// A peer has opened pub/sub on a connection: from there its subscriptions come.
    PubSubOpened {
        /// The connection.
        connection: ConnectionId,
    },
    /// A ping was answered.
    Pong {
        /// The connection.
        connection: ConnectionId,
        /// The peer.
        peer: PeerId,
        /// The round-trip time.
        rtt: Duration,
    },
    /// The answer to all [`NetAction::Probe`]s of a connection so far. A peer that supports no pings gives it to each ping
    /// too.
    Answered {
        /// The connection.
        connection: ConnectionId,
        /// The peer.
        peer: PeerId,
    },
    /// The answer to a [`NetAction::Flush`].
    Flushed {
        /// The connection.
        connection: ConnectionId,
    },
    /// The answer to [`NetAction::CheckAlive`].
    Progress {
        /// The connection.
        connection: ConnectionId,
        /// The time since bytes last moved: some arrived, or the peer made room for bytes that waited. What a buffer
        /// with room takes proves nothing.
        silent_for: Duration,
    },
    /// The peer has reset every pub/sub substream that was opened to it on this connection: it will receive no
    /// messages.
    Deaf {
        /// The connection.
        connection: ConnectionId,
    },
    /// The [granted](NetAction::Grant) bytes are used up, and data for the peer waits. Sent at most once per grant.
    CreditUsed {
        /// The peer.
        peer: PeerId,
    },
    /// GossipSub has work for its next heartbeats. Sent at most once between two [`NetAction::Heartbeat`]s.
    GossipActive,
    /// Pub/sub uses another connection to the peer, which will tell its subscriptions again.
    PeerRenewed {
        /// The peer.
        peer: PeerId,
    },
    /// A peer subscribes to a topic.
    PeerSubscribed {
        /// The peer.
        peer: PeerId,
        /// The topic.
        topic: String,
    },
    /// A peer no longer subscribes to a topic.
    PeerUnsubscribed {
        /// The peer.
        peer: PeerId,
        /// The topic.
        topic: String,
    },
    /// Subscriptions of peers were ignored: the topic is too long, or the peer has too many.
    SubscriptionsIgnored {
        /// How many, since the last such event.
        count: u64,
    },
    /// The result of a [`NetAction::Publish`].
    Published {
        /// The publish that this answers.
        publish: PublishId,
        /// Its result.
        outcome: PublishOutcome,
    },
    /// A message arrived. Its signature proves the author.
    Message {
        /// The author.
        from: PeerId,
        /// The topic.
        topic: String,
        /// The payload.
        #[debug("{} bytes", data.len())]
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::runs"))]
        data: Bytes,
    },
    /// A message arrived that was not accepted.
    MessageRefused,
    /// The answer to a [`NetAction::AskContext`], or why there is none. Always given, at the latest when the connections to
    /// the peer have ended, unless the node stops.
    #[cfg(feature = "context")]
    ContextAnswered {
        /// The exchange.
        exchange: ExchangeId,
        /// The response, at most [`MAX_FRAME_BYTES`](crate::context::MAX_FRAME_BYTES).
        #[debug("{:?}", result.as_ref().map(Bytes::len))]
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::runs::result"))]
        result: Result<Bytes, String>,
    },
    /// A connected peer compares its context with this node's; answered by [`NetAction::AnswerContext`].
    #[cfg(feature = "context")]
    ContextAsked {
        /// Correlates the answer.
        ask: AskId,
        /// The peer.
        peer: PeerId,
        /// The request, at most [`MAX_FRAME_BYTES`](crate::context::MAX_FRAME_BYTES).
        #[debug("{} bytes", request.len())]
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::runs"))]
        request: Bytes,
    },
    /// Messages to a peer were dropped because it receives them too slowly.
    SlowPeer {
        /// The peer.
        peer: PeerId,
        /// The number of messages dropped.
        dropped: u64,
    },
    /// The set of neighbours in GossipSub's meshes, over all topics, has changed.
    MeshChanged {
        /// All neighbours in the meshes now.
        peers: BTreeSet<PeerId>,
    },
    /// A peer breaks the rules of pub/sub, by its GossipSub score or by what it sends.
    Misbehaved {
        /// The peer.
        peer: PeerId,
    },
    /// The substream requested by [`NetAction::OpenSubstream`] is open.
    SubstreamOpened {
        /// The stream that asked for it.
        stream: StreamId,
        /// The substream.
        substream: SubstreamId,
    },
    /// The substream requested by [`NetAction::OpenSubstream`] could not be opened.
    SubstreamFailed {
        /// The stream that asked for it.
        stream: StreamId,
        /// Why it could not be opened.
        reason: String,
    },
    /// A peer opened an audio substream.
    SubstreamOffered {
        /// The substream.
        substream: SubstreamId,
        /// The peer.
        peer: PeerId,
        /// The connection.
        connection: ConnectionId,
    },
    /// Bytes arrived.
    Received {
        /// The substream.
        substream: SubstreamId,
        /// The bytes.
        #[debug("{} bytes", bytes.len())]
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::runs"))]
        bytes: Bytes,
    },
    /// The bytes of the last [`NetAction::Write`] were taken; the next write may follow.
    Writable {
        /// The substream.
        substream: SubstreamId,
    },
    /// The other end has closed its direction. No more bytes will come.
    Finished {
        /// The substream.
        substream: SubstreamId,
    },
    /// The substream has failed. This is its last event.
    Broken {
        /// The substream.
        substream: SubstreamId,
        /// Why it failed.
        reason: String,
    },
}

/// An action for the network.
#[derive(derive_more::Debug, Clone, PartialEq, Eq)]
pub enum NetAction {
    /// Dial a peer; answered by [`NetEvent::Connected`] or [`NetEvent::DialFailed`].
    Dial {
        /// Correlates the answer.
        dial: DialId,
        /// The peer that must answer, if its id is known.
        peer: Option<PeerId>,
        /// The addresses to try.
        addresses: Vec<String>,
    },
    /// Say when bytes last moved on a connection; answered by [`NetEvent::Progress`], unless the connection ends first.
    CheckAlive {
        /// The connection.
        connection: ConnectionId,
    },
    /// Ask the peer of a connection for a sign of life, now; answered by [`NetEvent::Answered`] when it gives one.
    Probe {
        /// The connection.
        connection: ConnectionId,
    },
    /// Say when the messages that were published so far have arrived on a connection; answered by [`NetEvent::Flushed`],
    /// unless the connection ends first.
    Flush {
        /// The connection.
        connection: ConnectionId,
    },
    /// Give a connection nothing more to send: there is a newer one to the peer. Messages that it has taken already may
    /// still arrive, and what comes on it is read.
    Retire {
        /// The older connection.
        connection: ConnectionId,
    },
    /// Close a connection after sending what is pending.
    Disconnect {
        /// The connection to close.
        connection: ConnectionId,
    },
    /// Abort at once a connection that [`NetAction::Disconnect`] has not closed yet.
    Abort {
        /// The connection to abort.
        connection: ConnectionId,
    },
    /// Limit what the connections to a peer carry beside audio; answered by [`NetEvent::CreditUsed`] when that is not
    /// enough. Substreams of audio are not limited.
    Grant {
        /// The peer.
        peer: PeerId,
        /// The bytes that may be written from now on, whatever was left of the last grant; `None` ends the limit.
        bytes: Option<u32>,
    },
    /// Retry the listeners and the sockets of datagrams that have failed; answered by [`NetEvent::ListenersMissing`] if
    /// one fails again.
    RetryListeners,
    /// Check again whether a way of discovery works; answered by [`NetEvent::DiscoveryAvailable`] or
    /// [`NetEvent::DiscoveryUnavailable`].
    RetryDiscovery {
        /// The way of discovery to check.
        source: DiscoverySource,
    },
    /// Run GossipSub's heartbeat.
    Heartbeat,
    /// Use this connection policy from now on. Existing connections stay.
    Admit {
        /// The policy.
        admission: Admission,
    },
    /// Refuse new connections and close all existing ones.
    DisconnectAll,
    /// Tell other peers where a connected peer can be reached.
    AddRoute {
        /// The connected peer.
        peer: PeerId,
        /// Its addresses.
        addresses: Vec<String>,
    },
    /// Look for peers near a key; answered by [`NetEvent::WalkEnded`].
    Walk {
        /// The key; `None` for this node's own.
        target: Option<[u8; 32]>,
    },
    /// Receive messages of a topic.
    Subscribe {
        /// The topic.
        topic: Topic,
    },
    /// Stop receiving messages of a topic.
    Unsubscribe {
        /// The topic.
        topic: Topic,
    },
    /// Send a message; answered by [`NetEvent::Published`].
    Publish {
        /// Correlates the answer.
        publish: PublishId,
        /// The topic.
        topic: Topic,
        /// The payload.
        #[debug("{} bytes", data.len())]
        data: Bytes,
    },
    /// Compare the context with a connected peer; answered by [`NetEvent::ContextAnswered`].
    #[cfg(feature = "context")]
    AskContext {
        /// Correlates the answer.
        exchange: ExchangeId,
        /// The peer.
        peer: PeerId,
        /// The request.
        #[debug("{} bytes", request.len())]
        request: Bytes,
    },
    /// Answer a peer that compares its context with this node's.
    #[cfg(feature = "context")]
    AnswerContext {
        /// The request that this answers.
        ask: AskId,
        /// The response; `None` ends the substream without one.
        #[debug("{:?} bytes", response.as_ref().map(Bytes::len))]
        response: Option<Bytes>,
    },
    /// Open an audio substream; answered by [`NetEvent::SubstreamOpened`] or [`NetEvent::SubstreamFailed`], unless the
    /// connection ends first, or the same stream asks for one on another connection.
    OpenSubstream {
        /// The stream that asks for it.
        stream: StreamId,
        /// The connection to open it on.
        connection: ConnectionId,
    },
    /// Write bytes; answered by [`NetEvent::Writable`]. One at a time per substream.
    Write {
        /// The substream.
        substream: SubstreamId,
        /// The bytes.
        #[debug("{} bytes", bytes.len())]
        bytes: Bytes,
    },
    /// Close this node's direction after the bytes written so far.
    Finish {
        /// The substream.
        substream: SubstreamId,
    },
    /// Drop a substream with its pending data. No event follows.
    Reset {
        /// The substream.
        substream: SubstreamId,
    },
    /// Send a datagram at once, or drop it: it is never queued. [`NetEvent::DatagramDropped`] follows if it was dropped
    /// here; nothing says whether it arrives.
    SendDatagram {
        /// The address to send it to.
        to: SocketAddr,
        /// The datagram; at most [`MAX_DATAGRAM_BYTES`].
        #[debug("{} bytes", bytes.len())]
        bytes: Bytes,
    },
    /// Report the datagrams that begin with this id. All others are dropped and counted.
    ExpectDatagrams {
        /// The id.
        id: DatagramId,
    },
    /// Report them no more.
    ForgetDatagrams {
        /// The id.
        id: DatagramId,
    },
}
