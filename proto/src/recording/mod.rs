//! What went into an engine, and what came out? A recorder that runs in production, and a replay of what it has
//! recorded.
//!
//! The engine is pure: what went in decides what comes out. [`Recorded`] notes what goes in, with a digest of what
//! comes out, in a ring of two [segments](Head), each of which begins with the state of the engine. [`Replay`] gives
//! the same to an engine of its own, compares the digests, and shows each step.
//!
//! No secret is recorded. What an engine takes from secrets (ids of sessions, tokens, its own signatures, the frames of
//! sealed datagrams) is in the records, and the engine of a replay takes it from there.

mod digest;
mod error;
mod format;
mod mentions;
mod options;
mod pseudonyms;
mod recorded;
mod recorder;
mod redact;
mod replay;
pub(crate) mod runs;
mod store;
mod why;

pub use error::{Divergence, RecordingError};
#[cfg(test)]
pub(crate) use format::plant;
#[doc(hidden)]
pub use format::reseal;
pub use format::{Answer, Began, FORMAT, Head, MAGIC};
pub use mentions::Mentions;
pub use options::{Content, RecorderOptions};
pub use pseudonyms::Pseudonyms;
pub use recorded::Recorded;
pub use recorder::Start;
pub use replay::{Replay, Step, StepInput};
pub use store::{Memory, Store};
pub use why::{Cause, Explanation, Subject, Why, why};

pub(crate) use redact::{frames, partial};
#[cfg(feature = "context")]
pub(crate) use runs::json;
pub(crate) use runs::{array, lengths, refusal, unchecked};
