//! What can go wrong. Each error says what a caller can do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::id::{PeerId, StreamId};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AviP2pError {
    /// The node has not been started. Kept for source compatibility with AVI 0.1. Nothing returns it, because there is
    /// no node before it runs.
    #[error("the node has not been started")]
    #[deprecated(note = "nothing returns it")]
    NotStarted,

    /// No address of this peer is known: wait for `PeerDiscovered` or `PeerConnected`, or check the id.
    #[error("peer {0} is not known here: wait for PeerDiscovered or PeerConnected, or check the id")]
    PeerNotFound(PeerId),

    /// This peer cannot be called: it is this node itself, is blocked, not allowed, or banned. Only a ban ends by
    /// itself, after five minutes.
    #[error("peer {peer_id} cannot be called: {reason}")]
    PeerRefused {
        /// The peer that cannot be called.
        peer_id: PeerId,
        /// Why: this node itself, `blocked_peers`, `allowed_peers`, or a ban for breaking the rules of pub/sub.
        reason: &'static str,
    },

    /// There is no such audio stream: it was never opened here, or is already closed.
    #[error("no audio stream {0}: never opened here, or closed already")]
    StreamNotFound(StreamId),

    /// Audio was sent on a stream that has ended. Of streams that ended before the last 64, only
    /// [`StreamNotFound`](Self::StreamNotFound) is known.
    #[error("audio stream {stream_id} has ended: {reason}")]
    StreamEnded {
        /// The stream.
        stream_id: StreamId,
        /// Why it ended.
        reason: StreamCloseReason,
    },

    /// The topic is empty, too long or has control characters; the text says which.
    #[error("invalid topic: {0}")]
    InvalidTopic(String),

    /// The network refused an operation; the text says which and why.
    #[error("network error: {0}")]
    NetworkError(String),

    /// `subscribe` was called for a topic that is already subscribed to. Kept for source compatibility with AVI 0.1.
    /// Nothing returns it: a second call does nothing.
    #[error("already subscribed to topic {0:?}")]
    #[deprecated(note = "nothing returns it")]
    AlreadySubscribed(String),

    /// `unsubscribe` was called for a topic that is not subscribed to.
    #[error("not subscribed to topic {0:?}")]
    NotSubscribed(String),

    /// The node has stopped: it was shut down, or the runtime that ran its task has ended.
    #[error("the node has stopped: start another")]
    ChannelClosed,

    /// The node has ended because its code, or that of a library below it, panicked; the text is the panic's message.
    /// Start another node, and report the panic.
    #[error("the node has panicked: {0}; start another, and report this")]
    Panicked(String),

    /// The operating system, or a runtime, refused an operation; the text says which and why.
    #[error("I/O error: {0}")]
    Io(String),

    /// Data could not be encoded or decoded. Kept for source compatibility with AVI 0.1. Nothing returns it, because
    /// payloads are bytes.
    #[error("serialization error: {0}")]
    #[deprecated(note = "nothing returns it")]
    Serialization(String),

    /// A configuration field is out of range.
    #[error("invalid configuration: {field} = {value}: expected {expected}")]
    InvalidConfig {
        /// The field's name.
        field: String,
        /// The value it had.
        value: String,
        /// The values that it may have.
        expected: String,
    },

    /// A field of [`StreamOptions`](crate::media::StreamOptions) or [`PlayoutOptions`](crate::media::PlayoutOptions) is
    /// out of range.
    #[error("invalid options of an audio stream: {field} = {value}: expected {expected}")]
    InvalidOptions {
        /// The field's name.
        field: &'static str,
        /// The value it had.
        value: String,
        /// The values that it may have.
        expected: String,
    },

    /// The node cannot listen: the port is taken, or the address does not belong to this machine.
    #[error("cannot listen on {address} (listen_ips, listen_port): {reason}")]
    ListenFailed {
        /// The IP address and port.
        address: String,
        /// The operating system's error.
        reason: String,
    },

    /// The identity file cannot be used or created, or another node uses it. A node never starts with another peer id instead.
    #[error("identity file {path:?}: {reason}")]
    Identity {
        /// The path in the configuration.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },

    /// The text is not a peer id.
    #[error("not a peer id, as 12D3KooW…: {0:?}")]
    InvalidPeerId(String),

    /// The text is not an [address](crate::address::Address).
    #[error("not an address: {address:?}: expected {expected}")]
    InvalidAddress {
        /// The text, cut if it is long.
        address: String,
        /// What was expected, and where.
        expected: String,
    },

    /// The text is not a path of the shared context.
    #[error("invalid path of the context: {path:?}: expected {expected}")]
    InvalidContextPath {
        /// The text, cut if it is long.
        path: String,
        /// What was expected.
        expected: String,
    },

    /// The shared context cannot have this value at this path.
    #[error("invalid value of the context at {path:?}: expected {expected}")]
    InvalidContextValue {
        /// The path.
        path: String,
        /// What was expected.
        expected: String,
    },

    /// The path of the shared context is below a peer's own id: that peer alone writes there.
    #[error(
        "{path:?} in the context belongs to {owner}, which alone writes there: write elsewhere, or set context.ownership to false on all nodes"
    )]
    ContextOwned {
        /// The path.
        path: String,
        /// Whom it belongs to.
        owner: PeerId,
    },

    /// This node cannot write into the shared context, since its identity is not an Ed25519 key. It reads it.
    #[error("{0} cannot write into the context: its identity must be an Ed25519 key")]
    ContextReadOnly(PeerId),

    /// The file of the shared context cannot be used. It stays as it is.
    #[error("context file {path:?}: {reason}")]
    ContextFile {
        /// The path in the configuration.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },

    /// The file of the flight recorder cannot be used, or not be read. What is there stays as it is.
    #[error("recorder file {path:?}: {reason}")]
    RecorderFile {
        /// The path.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },

    /// A payload exceeds its limit.
    #[error("payload of {len} bytes exceeds {limit} = {max}")]
    PayloadTooLarge {
        /// The payload's size in bytes.
        len: usize,
        /// The largest size allowed, in bytes.
        max: usize,
        /// The configuration field that sets the limit.
        limit: &'static str,
    },

    /// A payload is empty that may not be; the text says what it is of.
    #[error("{0} may not be empty")]
    EmptyPayload(&'static str),

    /// The stream has not been accepted (yet): wait for `AudioStreamAccepted`, or accept it first.
    #[error("audio stream {0} has not been accepted: wait for AudioStreamAccepted, or accept it first")]
    StreamNotAccepted(StreamId),

    /// The stream's state does not allow the call, for example accepting it twice or accepting one's own request.
    #[error("audio stream {stream_id} cannot be {action}: it is {state}")]
    StreamState {
        /// The stream.
        stream_id: StreamId,
        /// The operation that the caller asked for.
        action: &'static str,
        /// The state that the stream is in.
        state: &'static str,
    },

    /// A limit of the configuration has been reached; free something or raise it.
    #[error("limit reached: {limit} = {max}; free something or raise it")]
    LimitReached {
        /// The field of the configuration.
        limit: &'static str,
        /// The value of the limit.
        max: usize,
    },

    /// The path to the peers is congested; try again later, or send less. The text says which queue is full.
    #[error("congested: {0}")]
    Congested(&'static str),

    /// An operation got no answer in time.
    #[error("{operation} got no answer within {after:?}")]
    Timeout {
        /// The operation.
        operation: &'static str,
        /// The time limit.
        after: Duration,
    },

    /// The feature is turned off in the configuration, whose field this is.
    #[error("{field} is off: {hint}", field = .0, hint = how_to_enable(.0))]
    Disabled(&'static str),
}

fn how_to_enable(field: &str) -> &'static str {
    match field {
        "allowed_peers" => {
            "every peer may connect; write `allowed_peers: Some(vec![])` in the configuration for a list"
        }
        "recorder" => "write `recorder: Some(RecorderOptions::default())` in the configuration",
        "context" => "write `context: Some(ContextOptions::default())` in the configuration",
        _ => "turn it on in the configuration",
    }
}

/// Why an audio stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum StreamCloseReason {
    /// This node closed or rejected it.
    LocalClose,
    /// The other end closed it.
    RemoteClose,
    /// The substream failed although the peer is still connected; the text says how.
    Error(String),
    /// The other end rejected the request, with its reason: at most 256 bytes, and it may be empty.
    Rejected(String),
    /// The request was not answered within `accept_timeout`.
    Timeout,
    /// The peer of the request could not be reached: every dial failed, none has succeeded within `accept_timeout`, or the
    /// peer may not connect any more.
    Unreachable,
    /// The connection to the peer was lost. If the stream was accepted, no other connection came within 15 s, or the peer
    /// does not know the stream any more, may not connect any more, or is of a version that cannot go on.
    PeerDisconnected,
    /// The other end broke the protocol; the text names the frame and field.
    Protocol(String),
}

impl fmt::Display for StreamCloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalClose => f.write_str("this end closed it"),
            Self::RemoteClose => f.write_str("the other end closed it"),
            Self::Error(why) => write!(f, "its substream failed: {why}"),
            Self::Rejected(why) if why.is_empty() => f.write_str("the other end rejected it"),
            Self::Rejected(why) => write!(f, "the other end rejected it: {why}"),
            Self::Timeout => f.write_str("the other end did not answer in time"),
            Self::Unreachable => f.write_str("the peer could not be reached"),
            Self::PeerDisconnected => f.write_str("the connection to the peer was lost"),
            Self::Protocol(why) => write!(f, "the other end broke the protocol: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_stream_is_told_with_its_reason() {
        let reason = StreamCloseReason::Rejected("busy".to_owned());
        let text = AviP2pError::StreamEnded { stream_id: StreamId(7), reason }.to_string();
        assert_eq!(text, "audio stream 7 has ended: the other end rejected it: busy");
        assert_eq!(StreamCloseReason::Rejected(String::new()).to_string(), "the other end rejected it");
    }

    #[test]
    fn a_list_that_is_missing_is_told_with_what_to_write() {
        let text = AviP2pError::Disabled("allowed_peers").to_string();
        assert!(text.contains("`allowed_peers: Some(vec![])`"), "{text}");
        let text = AviP2pError::Disabled("enable_kad").to_string();
        assert_eq!(text, "enable_kad is off: turn it on in the configuration");
    }
}
