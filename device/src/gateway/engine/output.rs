//! What does the engine ask of its driver?

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Since the gateway started. It never goes back.
    pub now: Duration,
    /// Seconds since 1970, for those who read the messages of buttons and sensors.
    pub unix_s: u64,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// The datagram, at most [`MAX_DATAGRAM_BYTES`](super::MAX_DATAGRAM_BYTES).
        datagram: Vec<u8>,
    },
    /// Subscribe, and answer with [`GatewayEngine::handle_subscribed`](super::GatewayEngine::handle_subscribed).
    Subscribe {
        /// The topic.
        topic: String,
    },
    /// End a subscription.
    Unsubscribe {
        /// The topic.
        topic: String,
    },
    /// Publish. If that fails, say so with [`GatewayEngine::handle_refused`](super::GatewayEngine::handle_refused).
    Publish {
        /// Names the session whose message it is: the device's number, or another one for a further board that has the
        /// same.
        device: u64,
        /// The topic.
        topic: String,
        /// The message.
        data: Vec<u8>,
    },
    /// Ask for a stream, and answer with
    /// [`GatewayEngine::handle_stream_opened`](super::GatewayEngine::handle_stream_opened).
    OpenStream {
        /// Names the request in the answer.
        request: u64,
        /// The peer id that the device gave.
        peer: String,
        /// The stream's label.
        reason: String,
    },
    /// Accept a stream that was offered.
    AcceptStream {
        /// The node's number for it.
        stream: u64,
    },
    /// Reject a stream that was offered.
    RejectStream {
        /// The node's number for it.
        stream: u64,
        /// Why, for the other end.
        reason: &'static str,
    },
    /// Send a frame of audio.
    SendAudio {
        /// The node's number for the stream.
        stream: u64,
        /// The frame.
        data: Vec<u8>,
    },
    /// End a stream.
    CloseStream {
        /// The node's number for it.
        stream: u64,
    },
    /// Write to the shared context.
    SetContext {
        /// The path.
        path: String,
        /// The value.
        value: Value,
    },
    /// Write to the shared context, in place of all that is there.
    ReplaceContext {
        /// The path.
        path: String,
        /// The value.
        value: Value,
    },
    /// Remove a path, and all below it, from the shared context.
    RemoveContext {
        /// The path.
        path: String,
    },
}
