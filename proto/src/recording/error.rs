//! What is wrong with a recording?

use thiserror::Error;

use super::format::{Answer, FORMAT};
use crate::engine::Time;

/// Why a recording cannot be read, or not replayed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// It is no recording.
    #[error("not a recording: byte {offset} is not of `avi-rec`, with which one begins")]
    Foreign {
        /// The first byte that is another one.
        offset: usize,
    },
    /// It has another format.
    #[error(
        "byte {offset}: a recording of format {found}, and this version reads format {FORMAT}: use the one that wrote it"
    )]
    Format {
        /// Where the format stands.
        offset: usize,
        /// The format.
        found: u8,
    },
    /// Another version has recorded it. The state of an engine is read by its own version alone.
    #[error(
        "byte {offset}: recorded by avi-p2p-proto {found}, and this is {}: replay it with that version{}",
        env!("CARGO_PKG_VERSION"),
        if *.context_differs { ", built with the same feature `context`" } else { "" }
    )]
    Version {
        /// Where its segment begins.
        offset: usize,
        /// The version that has recorded it.
        found: String,
        /// Whether one of the two has the feature `context`.
        context_differs: bool,
    },
    /// It ends too early, as after a power failure. What is before it is whole.
    #[error("the recording ends at byte {offset}, within what begins at byte {began}: expected {expected}")]
    Truncated {
        /// Where it ends.
        offset: usize,
        /// Where its last part begins.
        began: usize,
        /// What is missing.
        expected: &'static str,
    },
    /// It was changed after it was written.
    #[error("the recording is damaged at byte {offset}: expected {expected}")]
    Damaged {
        /// Where the damaged part begins.
        offset: usize,
        /// What should be there.
        expected: String,
    },
    /// The engine did something else than the one that was recorded.
    #[error(transparent)]
    Diverged(Box<Divergence>),
    /// The engine had done the same, and is in another state than the one that was recorded.
    #[error(
        "byte {offset}: before record {number} the outputs are the same, and the state of the engine is another: {difference}"
    )]
    StateDiverged {
        /// Where the state of the recording is.
        offset: usize,
        /// The record that would be next.
        number: u64,
        /// The first difference.
        difference: String,
    },
}

/// The first record at which an engine did something else than the one that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "byte {offset}: record {number}, {input} at {time:?}: the recorded engine gave {} outputs with digest {:016x}, this \
     one {} with {:016x}: {outputs}", expected.outputs, expected.digest, found.outputs, found.digest
)]
pub struct Divergence {
    /// Where the record begins.
    pub offset: usize,
    /// Its number.
    pub number: u64,
    /// Its time.
    pub time: Time,
    /// Its input.
    pub input: String,
    /// What the recorded engine gave.
    pub expected: Answer,
    /// What this one gave.
    pub found: Answer,
    /// The outputs of this one.
    pub outputs: String,
}
