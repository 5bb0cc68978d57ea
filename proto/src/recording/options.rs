//! What is recorded, and where? The options of the flight recorder.

use std::path::PathBuf;

use crate::config::{in_range, invalid};
use crate::error::AviP2pError;

/// The flight recorder of a node: [`AviP2pConfig::recorder`](crate::config::AviP2pConfig::recorder). It keeps the
/// latest inputs of the node's engine in a ring, so that what the node decided can be replayed:
/// `AviP2pHandle::recording`.
///
/// ```
/// # mod avi_p2p { pub use avi_p2p_proto::{config::*, recording::*}; }
/// use avi_p2p::{AviP2pConfig, RecorderOptions};
/// let recorder = RecorderOptions { file: Some("/var/lib/avi/flight.rec".into()), ..Default::default() };
/// let config = AviP2pConfig { recorder: Some(recorder), ..Default::default() };
/// ```
///
/// A recording has **no secret**: no key of the identity, the mesh or a call, and no signature key. It has, with
/// [`Content::Redacted`] too: peer ids, addresses, node names, topics, labels and reasons of streams, and times; and
/// the whole shared context with its values, since nodes compare it by its hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct RecorderOptions {
    /// A file that survives the node, also if the process is killed: it is written within 0.1 s, by a thread of its
    /// own. The half before it, or the recording of the last run, is beside it, with `.1` after its name. Default:
    /// none, and the recording is in memory.
    pub file: Option<PathBuf>,
    /// The most bytes of the recording; 64 KiB to 1 GiB, default 4 MiB. A call both ways takes about 7 KiB a second, so
    /// 4 MiB are about ten minutes of it. Half of them are dropped at a time. If the state of the engine does not fit a
    /// quarter, as with a large shared context, recording ends, and the recording says so.
    pub bytes: usize,
    /// What of messages and audio is kept. Default [`Content::Redacted`].
    pub content: Content,
    /// Whether whoever shows the recording is to replace ids, names and addresses by [`Pseudonyms`](super::Pseudonyms).
    /// The recording itself has the real ones: an engine compares ids, and verifies signatures by them. Default false.
    pub pseudonyms: bool,
}

/// What a recording keeps of messages and audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Content {
    /// Lengths, and a hash of the first 1,024 bytes with a key that is forgotten with the node: equal payloads can be
    /// found, and not guessed.
    #[default]
    Redacted,
    /// All bytes as they came, but for those that waited in queues when half of the ring was full.
    Kept,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self { file: None, bytes: 4 * 1024 * 1024, content: Content::Redacted, pseudonyms: false }
    }
}

impl RecorderOptions {
    /// After how many bytes the next segment begins: the ring has two.
    pub fn segment_bytes(&self) -> usize {
        self.bytes / 2
    }

    /// # Errors
    /// [`AviP2pError::InvalidConfig`] with the first field that is out of range.
    pub(crate) fn validate(&self) -> Result<(), AviP2pError> {
        if self.file.as_ref().is_some_and(|path| path.file_name().is_none()) {
            return Err(invalid("recorder.file", format!("{:?}", self.file), "the path of a file".to_owned()));
        }
        in_range("recorder.bytes", self.bytes, 64 * 1024..=1024 * 1024 * 1024)
    }
}
