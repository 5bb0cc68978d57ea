//! What can go wrong, in terms that a caller can act on.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::id::{PeerId, StreamId};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AviP2pError {
    /// The node has not been started. Kept for source compatibility with AVI 0.1: a node cannot be had before it
    /// runs, so nothing returns it.
    #[error("the node has not been started")]
    NotStarted,

    /// Nobody has said where this peer is: wait for `PeerDiscovered` or `PeerConnected`, or check the id.
    #[error("peer {0} is not known here: wait for PeerDiscovered or PeerConnected, or check the id")]
    PeerNotFound(PeerId),

    /// This peer cannot be called: it is this node itself, or is kept out. Of these a ban alone ends by itself, after five
    /// minutes.
    #[error("peer {peer_id} cannot be called: {reason}")]
    PeerRefused {
        /// Who.
        peer_id: PeerId,
        /// Why: this node itself, `blocked_peers`, `allowed_peers`, or a ban for breaking the rules of pub/sub.
        reason: &'static str,
    },

    /// No such audio stream: never opened here, or already closed.
    #[error("no audio stream {0}: never opened here, or closed already")]
    StreamNotFound(StreamId),

    /// The topic is empty, too long or has control characters; the text says which.
    #[error("invalid topic: {0}")]
    InvalidTopic(String),

    /// The network refused an operation; the text says what and why.
    #[error("network error: {0}")]
    NetworkError(String),

    /// `subscribe` on a topic that is subscribed to already.
    #[error("already subscribed to topic {0:?}")]
    AlreadySubscribed(String),

    /// `unsubscribe` from a topic that is not subscribed to.
    #[error("not subscribed to topic {0:?}")]
    NotSubscribed(String),

    /// The node has stopped: it was shut down, or the runtime that it was a task of has ended.
    #[error("the node has stopped: start another")]
    ChannelClosed,

    /// The node has ended because its code, or that of a library below it, panicked; the text is the panic's. Start
    /// another node, and report it.
    #[error("the node has panicked: {0}; start another, and report this")]
    Panicked(String),

    /// The operating system, or a runtime, refused something; the text says what and why.
    #[error("I/O error: {0}")]
    Io(String),

    /// Data could not be encoded or decoded. Kept for source compatibility with AVI 0.1; payloads are bytes and
    /// nothing returns it.
    #[error("serialization error: {0}")]
    Serialization(String),

    /// A configuration field is out of range.
    #[error("invalid configuration: {field} = {value}: expected {expected}")]
    InvalidConfig {
        /// The field's name.
        field: String,
        /// The value it had.
        value: String,
        /// What it should have been.
        expected: String,
    },

    /// The node cannot listen: the port is taken, or the address is not this machine's.
    #[error("cannot listen on {address} (listen_ips, listen_port): {reason}")]
    ListenFailed {
        /// IP address and port.
        address: String,
        /// What the operating system said.
        reason: String,
    },

    /// The identity file cannot be used, or cannot be made. A node never goes on under another peer id.
    #[error("identity file {path:?}: {reason}")]
    Identity {
        /// As it stands in the configuration.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },

    /// The text is not a peer id.
    #[error("not a peer id, as 12D3KooW…: {0:?}")]
    InvalidPeerId(String),

    /// A payload exceeds its limit.
    #[error("payload of {len} bytes exceeds {limit} = {max}")]
    PayloadTooLarge {
        /// The payload's size in bytes.
        len: usize,
        /// The largest size allowed, in bytes.
        max: usize,
        /// The field of the configuration that says so.
        limit: &'static str,
    },

    /// A payload that may not be empty is empty.
    #[error("{0} may not be empty")]
    EmptyPayload(&'static str),

    /// The stream has not been accepted (yet): wait for `AudioStreamAccepted`, or accept it first.
    #[error("audio stream {0} has not been accepted: wait for AudioStreamAccepted, or accept it first")]
    StreamNotAccepted(StreamId),

    /// The call does not fit the stream's state, as accepting it twice or accepting one's own request.
    #[error("audio stream {stream_id} cannot be {action}: it is {state}")]
    StreamState {
        /// The stream.
        stream_id: StreamId,
        /// What the caller wanted to do.
        action: &'static str,
        /// The state the stream is in.
        state: &'static str,
    },

    /// A limit of the configuration has been reached; free something or raise it.
    #[error("limit reached: {limit} = {max}; free something or raise it")]
    LimitReached {
        /// The field of the configuration.
        limit: &'static str,
        /// Its value.
        max: usize,
    },

    /// The path to the peers is congested; try again later, or send less.
    #[error("congested: {0}")]
    Congested(&'static str),

    /// No answer in time.
    #[error("{operation} got no answer within {after:?}")]
    Timeout {
        /// What was waited for.
        operation: &'static str,
        /// How long.
        after: Duration,
    },

    /// The feature is turned off in the configuration.
    #[error("{0} is off: turn it on in the configuration")]
    Disabled(&'static str),
}

/// Why an audio stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamCloseReason {
    /// This node closed or rejected it.
    LocalClose,
    /// The other end closed it.
    RemoteClose,
    /// The substream broke although the peer is still connected; the text says how.
    Error(String),
    /// The other end rejected the request, with its reason (may be empty).
    Rejected(String),
    /// The request was not answered within `accept_timeout`.
    Timeout,
    /// The connection to the peer was lost.
    PeerDisconnected,
    /// The other end broke the protocol; the text names the frame and field.
    Protocol(String),
}
