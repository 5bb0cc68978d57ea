//! What may the application ask for, and what does it get? Commands, and the one reply that each has.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use bytes::Bytes;

use crate::error::AviP2pError;
use crate::id::{PeerId, StreamId};
use crate::media::StreamOptions;

/// Correlates a command with its reply, whose value is a `T`. The driver chooses the number; as long as a command has
/// no reply, no other command has its number, whatever that one's `T` is.
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

// Derived, these would ask the same of `T`.

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

/// What the application can want. The type of each id says what the [`Reply`] carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Receive messages of a topic.
    Subscribe {
        /// Correlates the reply.
        id: CommandId,
        /// The topic, unchecked.
        topic: String,
    },
    /// Stop receiving them.
    Unsubscribe {
        /// Correlates the reply.
        id: CommandId,
        /// The topic, unchecked.
        topic: String,
    },
    /// Send a message to a topic's subscribers.
    Publish {
        /// Correlates the reply.
        id: CommandId,
        /// The topic, unchecked.
        topic: String,
        /// The payload.
        data: Bytes,
    },
    /// Let a peer in, or do so no more, where `allowed_peers` says who may come.
    SetAllowed {
        /// Correlates the reply.
        id: CommandId,
        /// The peer.
        peer: PeerId,
        /// Whether it may come.
        is_allowed: bool,
    },
    /// Keep a peer out, or do so no more.
    SetBlocked {
        /// Correlates the reply.
        id: CommandId,
        /// The peer.
        peer: PeerId,
        /// Whether it is kept out.
        is_blocked: bool,
    },
    /// Ask a peer for an audio stream. It is dialled first if it is known and not connected.
    RequestStream {
        /// Correlates the reply.
        id: CommandId<StreamId>,
        /// The peer.
        peer: PeerId,
        /// How.
        options: StreamOptions,
    },
    /// Agree to a stream that a peer asked for.
    AcceptStream {
        /// Correlates the reply.
        id: CommandId,
        /// The stream.
        stream: StreamId,
    },
    /// Decline a stream that a peer asked for.
    RejectStream {
        /// Correlates the reply.
        id: CommandId,
        /// The stream.
        stream: StreamId,
        /// Why, for the other end.
        reason: String,
    },
    /// Send a frame of audio.
    SendAudio {
        /// Correlates the reply.
        id: CommandId,
        /// The stream.
        stream: StreamId,
        /// The frame.
        data: Bytes,
    },
    /// End a stream.
    CloseStream {
        /// Correlates the reply.
        id: CommandId,
        /// The stream.
        stream: StreamId,
    },
    /// Look for peers through the peers that are known. The reply lists those that were found.
    DiscoverPeers {
        /// Correlates the reply.
        id: CommandId<Vec<PeerId>>,
    },
    /// Say goodbye to everyone and stop.
    Shutdown {
        /// Correlates the reply.
        id: CommandId,
    },
}

impl Command {
    /// The reply to a command that is not carried out.
    pub(super) fn refused(&self, error: AviP2pError) -> Reply {
        match *self {
            Self::RequestStream { id, .. } => Reply::Stream { id, result: Err(error) },
            Self::DiscoverPeers { id } => Reply::Peers { id, result: Err(error) },
            Self::Subscribe { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::Publish { id, .. }
            | Self::SetAllowed { id, .. }
            | Self::SetBlocked { id, .. }
            | Self::AcceptStream { id, .. }
            | Self::RejectStream { id, .. }
            | Self::SendAudio { id, .. }
            | Self::CloseStream { id, .. }
            | Self::Shutdown { id } => Reply::Done { id, result: Err(error) },
        }
    }

    /// The number of its id, which its reply has too.
    pub fn number(&self) -> u64 {
        match self {
            Self::RequestStream { id, .. } => id.number(),
            Self::DiscoverPeers { id } => id.number(),
            Self::Subscribe { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::Publish { id, .. }
            | Self::SetAllowed { id, .. }
            | Self::SetBlocked { id, .. }
            | Self::AcceptStream { id, .. }
            | Self::RejectStream { id, .. }
            | Self::SendAudio { id, .. }
            | Self::CloseStream { id, .. }
            | Self::Shutdown { id } => id.number(),
        }
    }
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a command that asks for nothing but to be carried out.
    Done {
        /// The command.
        id: CommandId,
        /// Whether it was.
        result: Result<(), AviP2pError>,
    },
    /// To [`Command::RequestStream`].
    Stream {
        /// The command.
        id: CommandId<StreamId>,
        /// The new stream.
        result: Result<StreamId, AviP2pError>,
    },
    /// To [`Command::DiscoverPeers`].
    Peers {
        /// The command.
        id: CommandId<Vec<PeerId>>,
        /// The peers.
        result: Result<Vec<PeerId>, AviP2pError>,
    },
}

impl Reply {
    /// The number of its command.
    pub fn number(&self) -> u64 {
        match self {
            Self::Done { id, .. } => id.number(),
            Self::Stream { id, .. } => id.number(),
            Self::Peers { id, .. } => id.number(),
        }
    }
}
