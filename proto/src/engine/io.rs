//! Everything that can go into the engine and come out of it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::admission::{Admission, Refusal};
use super::command::{Command, Reply};
use crate::event::{AviEvent, DiscoverySource};
use crate::id::{PeerId, StreamId, Topic};

/// A connection, named by the network room. Never used again within a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A substream of a connection, named by the network room. Never used again within a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubstreamId(pub u64);

/// A dial, named by the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// A message given to the mesh, named by the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub u64);

/// What goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The application wants something; answered by exactly one [`Output::Reply`] with the same id.
    Command(Command),
    /// Something happened on the network.
    Net(NetEvent),
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The answer to a command.
    Reply(Reply),
    /// Something the application should know.
    Event(AviEvent),
    /// Something the network should do.
    Net(NetAction),
    /// The shutdown is complete.
    Stopped,
}

/// Who dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer did.
    Inbound,
    /// This node did; by which dial.
    Outbound(DialId),
}

/// Why a dial failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// The connection policy refused it.
    Refused(Refusal),
    /// The address is this node's own.
    Myself,
    /// Somebody else answered at one of the addresses.
    WrongPeer {
        /// Which.
        address: String,
        /// Who.
        obtained: PeerId,
    },
    /// No address answered.
    Unreachable(String),
}

/// What became of a message given to the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// It is on its way to the neighbours.
    Sent,
    /// Nobody subscribes to its topic.
    NoSubscribers,
    /// The queue of every neighbour is full.
    Congested,
    /// The network room cannot send it.
    Refused(&'static str),
}

/// What happens on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// The node listens here, and nowhere else.
    Listening {
        /// All addresses.
        addresses: Vec<String>,
    },
    /// A peer may be reached here. A hint: nothing about it is proven.
    Discovered {
        /// Who.
        peer: PeerId,
        /// Where.
        addresses: Vec<String>,
        /// Who says so.
        source: DiscoverySource,
    },
    /// A peer near this node says by mDNS where it is. It repeats that for as long as it is there.
    Announced {
        /// Who.
        peer: PeerId,
        /// Where.
        addresses: Vec<String>,
    },
    /// Addresses heard by mDNS were dropped: nobody could be there.
    MdnsIgnored {
        /// How many.
        addresses: u64,
    },
    /// A way of discovery does not work: when it is first tried, when that is noticed, and after every
    /// [`NetAction::RetryDiscovery`] in vain.
    DiscoveryUnavailable {
        /// Which.
        source: DiscoverySource,
        /// Why.
        reason: String,
    },
    /// A way of discovery works again.
    DiscoveryAvailable {
        /// Which.
        source: DiscoverySource,
    },
    /// The addresses of this machine have changed.
    InterfacesChanged,
    /// A listener has ended, or some could not be made.
    ListenersMissing,
    /// The walk begun by [`NetAction::Walk`] has ended.
    WalkEnded {
        /// Whom it found, or why it failed.
        result: Result<Vec<PeerId>, String>,
    },
    /// A connection is there; the peer has proven who it is.
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
        /// Which.
        dial: DialId,
        /// Why.
        failure: DialFailure,
    },
    /// The connection policy refused an inbound connection.
    InboundRefused(Refusal),
    /// An inbound connection failed in its handshake.
    InboundFailed,
    /// A peer has said who it is.
    Identified {
        /// The peer.
        peer: PeerId,
        /// Its `node_name`.
        name: String,
        /// Where it says that it listens.
        addresses: Vec<String>,
    },
    /// A connected peer speaks libp2p, but is no node of this kind.
    Foreign {
        /// The peer.
        peer: PeerId,
    },
    /// A ping was answered.
    Pong {
        /// The connection.
        connection: ConnectionId,
        /// The peer.
        peer: PeerId,
        /// The round trip's duration.
        rtt: Duration,
    },
    /// The peer has ended every pub/sub substream that was opened to it on this connection: it will hear nothing.
    Deaf {
        /// The connection.
        connection: ConnectionId,
    },
    /// GossipSub has something to do for its next heartbeats. Told once from one [`NetAction::Heartbeat`] to the next.
    GossipActive,
    /// A peer subscribes to a topic.
    PeerSubscribed {
        /// The peer.
        peer: PeerId,
        /// The topic.
        topic: String,
    },
    /// A peer subscribes to a topic no more.
    PeerUnsubscribed {
        /// The peer.
        peer: PeerId,
        /// The topic.
        topic: String,
    },
    /// What became of [`NetAction::Publish`].
    Published {
        /// Which.
        publish: PublishId,
        /// What.
        outcome: PublishOutcome,
    },
    /// A message came, its author proven.
    Message {
        /// The author.
        from: PeerId,
        /// The topic.
        topic: String,
        /// The payload.
        data: Bytes,
    },
    /// A message came that cannot be accepted.
    MessageRefused,
    /// Messages to a peer were dropped because it takes them too slowly.
    SlowPeer {
        /// The peer.
        peer: PeerId,
        /// How many.
        dropped: u64,
    },
    /// The neighbours in GossipSub's meshes, of all topics together, have changed: these are all of them.
    MeshChanged {
        /// The neighbours.
        peers: BTreeSet<PeerId>,
    },
    /// A peer's GossipSub score says that it breaks the rules.
    Misbehaved {
        /// The peer.
        peer: PeerId,
    },
    /// The substream that [`NetAction::OpenSubstream`] asked for is there.
    SubstreamOpened {
        /// For which stream.
        stream: StreamId,
        /// The substream.
        substream: SubstreamId,
    },
    /// It could not be opened.
    SubstreamFailed {
        /// For which stream.
        stream: StreamId,
        /// Why.
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
    /// Bytes came.
    Received {
        /// The substream.
        substream: SubstreamId,
        /// The bytes.
        bytes: Bytes,
    },
    /// The bytes of the last [`NetAction::Write`] were taken; there may be a next one.
    Writable {
        /// The substream.
        substream: SubstreamId,
    },
    /// The other end has finished its direction. No more bytes come.
    Finished {
        /// The substream.
        substream: SubstreamId,
    },
    /// The substream is gone. Its last event.
    Broken {
        /// The substream.
        substream: SubstreamId,
        /// Why.
        reason: String,
    },
}

/// What the network should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetAction {
    /// Connect; answered by [`NetEvent::Connected`] or [`NetEvent::DialFailed`].
    Dial {
        /// Correlates the answer.
        dial: DialId,
        /// Who must answer, if that is known.
        peer: Option<PeerId>,
        /// Where to try.
        addresses: Vec<String>,
    },
    /// End a connection, after what is on its way to the peer.
    Disconnect {
        /// Which.
        connection: ConnectionId,
    },
    /// End a connection that [`NetAction::Disconnect`] has not ended yet, at once.
    Abort {
        /// Which.
        connection: ConnectionId,
    },
    /// Try again to listen where that has failed; answered by [`NetEvent::ListenersMissing`] if it fails again.
    RetryListeners,
    /// Try again whether a way of discovery works; answered by [`NetEvent::DiscoveryAvailable`] or
    /// [`NetEvent::DiscoveryUnavailable`].
    RetryDiscovery {
        /// Which.
        source: DiscoverySource,
    },
    /// Have GossipSub do what it does once a second.
    Heartbeat,
    /// Connections are admitted by this policy from now on; those there are stay.
    Admit {
        /// The policy.
        admission: Admission,
    },
    /// Refuse new connections and end all there are.
    DisconnectAll,
    /// Remember where a connected peer can be reached, to tell other peers.
    AddRoute {
        /// The peer.
        peer: PeerId,
        /// Where.
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
    /// Stop receiving them.
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
        data: Bytes,
    },
    /// Open an audio substream; answered by [`NetEvent::SubstreamOpened`] or [`NetEvent::SubstreamFailed`], unless the
    /// connection ends first.
    OpenSubstream {
        /// For which stream.
        stream: StreamId,
        /// On which connection.
        connection: ConnectionId,
    },
    /// Write bytes; answered by [`NetEvent::Writable`]. One at a time per substream.
    Write {
        /// The substream.
        substream: SubstreamId,
        /// The bytes.
        bytes: Bytes,
    },
    /// After the bytes written so far, say that no more come.
    Finish {
        /// The substream.
        substream: SubstreamId,
    },
    /// Drop a substream, with whatever it still holds. No event follows.
    Reset {
        /// The substream.
        substream: SubstreamId,
    },
}
