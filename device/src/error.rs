//! What can go wrong? Each error says what a caller can do.

use avi_p2p::{AviP2pError, StreamId};
use thiserror::Error;

/// Why a call to a device failed. It becomes a `String` with `?`, as callers of AVI 0.5 expect.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The node refused it.
    #[error(transparent)]
    Node(#[from] AviP2pError),

    /// A device was made outside of a tokio runtime.
    #[error("a device needs a tokio runtime: make it in #[tokio::main], or within Runtime::block_on")]
    NoRuntime,

    /// The shared context has nothing at this path.
    #[error("nothing in the shared context at {path:?}: check the path, or wait until a device has written it")]
    NotFound {
        /// The path.
        path: String,
    },

    /// What the shared context has at `avi.core` is not the id of a device.
    #[error("avi.core is {value}, which is no peer id: start a core, or write the id of one there")]
    InvalidCoreId {
        /// What is there, cut to 128 characters.
        value: String,
    },

    /// No handler is registered for streams of this reason.
    #[error("no handler for streams with the reason {reason:?}: call register_stream_handler first")]
    NoStreamHandler {
        /// The reason.
        reason: String,
    },

    /// No peer offers this stream: it was answered already, or withdrawn.
    #[error("stream {0} is not offered: it was accepted or refused already, or the other end has withdrawn it")]
    StreamNotOffered(StreamId),

    /// A topic has as many handlers as it may have.
    #[error("topic {topic:?} has {max} handlers already: unsubscribe first")]
    TooManyHandlers {
        /// The topic.
        topic: String,
        /// The most that it may have.
        max: usize,
    },

    /// The name of a sensor, a network or another capability cannot be a key of the shared context.
    #[error("{name:?} cannot name a capability: a name has 1 to 128 bytes, no dot and no control characters")]
    CapabilityName {
        /// The name.
        name: String,
    },

    /// The capabilities have no JSON form.
    #[error("the capabilities cannot be written as JSON: {0}")]
    Capabilities(String),
}

impl From<DeviceError> for String {
    fn from(error: DeviceError) -> Self {
        error.to_string()
    }
}
