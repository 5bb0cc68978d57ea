//! What can the application ask of the engine? Commands, and the one reply to each.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use bytes::Bytes;

#[cfg(feature = "context")]
use crate::context::ContextWrite;
use crate::error::AviP2pError;
use crate::id::{PeerId, StreamId};
use crate::media::StreamOptions;
use crate::publish::Published;

/// Correlates a command with its reply, whose value is a `T`. The driver chooses the number. Until a command has its
/// reply, no other command may have the same number, whatever its `T` is.
pub struct CommandId<T = ()> {
    number: u64,
    value: PhantomData<fn() -> T>,
}

impl<T> CommandId<T> {
    /// An id with this number.
    pub const fn new(number: u64) -> Self {
        Self { number, value: PhantomData }
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.number
    }
}

// Implemented by hand: derives would require the same traits of `T`.

#[cfg(feature = "recorder")]
impl<T> serde::Serialize for CommandId<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.number.serialize(serializer)
    }
}

#[cfg(feature = "recorder")]
impl<'de, T> serde::Deserialize<'de> for CommandId<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::Deserialize::deserialize(deserializer).map(Self::new)
    }
}

impl<T> Clone for CommandId<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for CommandId<T> {}

impl<T> fmt::Debug for CommandId<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CommandId").field(&self.number).finish()
    }
}

impl<T> PartialEq for CommandId<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for CommandId<T> {}

impl<T> PartialOrd for CommandId<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for CommandId<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}

impl<T> Hash for CommandId<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

/// A request of the application. The type of each id says what the [`Reply`] carries.
#[derive(derive_more::Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum Command {
    /// Receive messages of a topic.
    Subscribe {
        /// Correlates the reply.
        id: CommandId,
        /// The topic, unchecked.
        topic: String,
    },
    /// Stop receiving messages of a topic.
    Unsubscribe {
        /// Correlates the reply.
        id: CommandId,
        /// The topic, unchecked.
        topic: String,
    },
    /// Send a message to a topic's subscribers.
    Publish {
        /// Correlates the reply.
        id: CommandId<Published>,
        /// The topic, unchecked.
        topic: String,
        /// The payload.
        #[debug("{} bytes", data.len())]
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::runs"))]
        data: Bytes,
    },
    /// Add a peer to `allowed_peers`, or remove it.
    SetAllowed {
        /// Correlates the reply.
        id: CommandId,
        /// The peer to add or remove.
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::unchecked"))]
        peer: PeerId,
        /// Whether it may connect.
        is_allowed: bool,
    },
    /// Add a peer to `blocked_peers`, or remove it.
    SetBlocked {
        /// Correlates the reply.
        id: CommandId,
        /// The peer to add or remove.
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::unchecked"))]
        peer: PeerId,
        /// Whether it is blocked.
        is_blocked: bool,
    },
    /// Ask a peer for an audio stream. It is dialled first if it is known and not connected.
    RequestStream {
        /// Correlates the reply.
        id: CommandId<StreamId>,
        /// The peer to ask.
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::unchecked"))]
        peer: PeerId,
        /// Media, label and congestion policy of the stream.
        options: StreamOptions,
    },
    /// Agree to a stream that a peer asked for.
    AcceptStream {
        /// Correlates the reply.
        id: CommandId,
        /// The stream to accept.
        stream: StreamId,
    },
    /// Decline a stream that a peer asked for.
    RejectStream {
        /// Correlates the reply.
        id: CommandId,
        /// The stream to reject.
        stream: StreamId,
        /// The reason, for the other end.
        reason: String,
    },
    /// Send a frame of audio.
    SendAudio {
        /// Correlates the reply.
        id: CommandId,
        /// The stream to send on.
        stream: StreamId,
        /// The frame.
        #[debug("{} bytes", data.len())]
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::runs"))]
        data: Bytes,
    },
    /// End a stream.
    CloseStream {
        /// Correlates the reply.
        id: CommandId,
        /// The stream to close.
        stream: StreamId,
    },
    /// Find peers through the known ones. The reply comes at once.
    DiscoverPeers {
        /// Correlates the reply.
        id: CommandId,
    },
    /// The same. The reply comes when the search has ended, and lists the peers found.
    FindMorePeers {
        /// Correlates the reply.
        id: CommandId<Vec<PeerId>>,
    },
    /// Write into the shared context.
    #[cfg(feature = "context")]
    WriteContext {
        /// Correlates the reply.
        id: CommandId,
        /// What to write.
        write: ContextWrite,
    },
    /// Close all streams and connections, and stop.
    Shutdown {
        /// Correlates the reply.
        id: CommandId,
    },
}

impl Command {
    /// The reply to a command that is refused.
    pub(super) fn refused(&self, error: AviP2pError) -> Reply {
        match *self {
            Self::RequestStream { id, .. } => Reply::Stream { id, result: Err(error) },
            Self::FindMorePeers { id } => Reply::Peers { id, result: Err(error) },
            Self::Publish { id, .. } => Reply::Published { id, result: Err(error) },
            #[cfg(feature = "context")]
            Self::WriteContext { id, .. } => Reply::Done { id, result: Err(error) },
            Self::Subscribe { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::SetAllowed { id, .. }
            | Self::SetBlocked { id, .. }
            | Self::AcceptStream { id, .. }
            | Self::RejectStream { id, .. }
            | Self::SendAudio { id, .. }
            | Self::CloseStream { id, .. }
            | Self::DiscoverPeers { id }
            | Self::Shutdown { id } => Reply::Done { id, result: Err(error) },
        }
    }

    /// The number of the command's id. Its reply has the same number.
    pub fn number(&self) -> u64 {
        match self {
            Self::RequestStream { id, .. } => id.number(),
            Self::FindMorePeers { id } => id.number(),
            Self::Publish { id, .. } => id.number(),
            #[cfg(feature = "context")]
            Self::WriteContext { id, .. } => id.number(),
            Self::Subscribe { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::SetAllowed { id, .. }
            | Self::SetBlocked { id, .. }
            | Self::AcceptStream { id, .. }
            | Self::RejectStream { id, .. }
            | Self::SendAudio { id, .. }
            | Self::CloseStream { id, .. }
            | Self::DiscoverPeers { id }
            | Self::Shutdown { id } => id.number(),
        }
    }
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The reply to a command without a result value.
    Done {
        /// The command's id.
        id: CommandId,
        /// Whether the command succeeded.
        result: Result<(), AviP2pError>,
    },
    /// The reply to [`Command::RequestStream`].
    Stream {
        /// The command's id.
        id: CommandId<StreamId>,
        /// The new stream.
        result: Result<StreamId, AviP2pError>,
    },
    /// The reply to [`Command::Publish`].
    Published {
        /// The command's id.
        id: CommandId<Published>,
        /// What became of the message.
        result: Result<Published, AviP2pError>,
    },
    /// The reply to [`Command::FindMorePeers`].
    Peers {
        /// The command's id.
        id: CommandId<Vec<PeerId>>,
        /// The peers found.
        result: Result<Vec<PeerId>, AviP2pError>,
    },
}

impl Reply {
    /// The number of the command that this answers.
    pub fn number(&self) -> u64 {
        match self {
            Self::Done { id, .. } => id.number(),
            Self::Stream { id, .. } => id.number(),
            Self::Peers { id, .. } => id.number(),
            Self::Published { id, .. } => id.number(),
        }
    }
}
