//! Which properties hold for any input? The bodies of the fuzz targets.
//!
//! Each panics if a property is violated. The tests of `avi-p2p-proto` include this library, and replay the corpora.

mod audio_recv;
mod audio_send;
mod config;
mod context;
mod contract;
#[cfg(test)]
mod corpus;
mod datagram;
mod engine_ops;
mod frames;
mod mailbox;
mod playout;
mod recorded;
mod recording;
mod script;

pub use audio_recv::audio_recv;
pub use audio_send::audio_send;
pub use config::config;
pub use context::context;
pub use datagram::datagram;
pub use engine_ops::engine_ops;
pub use frames::{decoder_split, frame_decode, frame_roundtrip};
pub use mailbox::mailbox;
pub use playout::playout;
pub use recording::recording;

#[cfg(test)]
pub(crate) use contract::Contract;
pub(crate) use engine_ops::{address, peer};
#[cfg(test)]
pub(crate) use recorded::{assert_replays, recorded};
#[cfg(test)]
pub(crate) use recording::whole;

/// The body of a fuzz target, for one input.
pub type Body = fn(&[u8]);

/// Every target, with the name of its corpus.
pub const TARGETS: [(&str, Body); 12] = [
    ("audio_recv", audio_recv),
    ("audio_send", audio_send),
    ("config", config),
    ("context", context),
    ("datagram", datagram),
    ("decoder_split", decoder_split),
    ("engine_ops", engine_ops),
    ("frame_decode", frame_decode),
    ("frame_roundtrip", frame_roundtrip),
    ("mailbox", mailbox),
    ("playout", playout),
    ("recording", recording),
];
