//! How is the shared context set up? Its file, who may write where, and its bounds.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{in_range, invalid, lasts};
use crate::error::AviP2pError;

/// The shared context of a node: [`AviP2pConfig::context`](crate::config::AviP2pConfig::context). All nodes of a mesh
/// should have the same values but for `file`: a node that takes less than others knows less.
///
/// ```
/// # use avi_p2p_proto::context as avi_p2p;
/// use avi_p2p::ContextOptions;
/// let context = ContextOptions { file: Some("/var/lib/avi/context".into()), ..Default::default() };
/// # assert!(context.ownership);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct ContextOptions {
    /// A file that keeps the context across restarts. It is made when there is something to save. If it is damaged, the start fails, and
    /// the file stays as it is. So does a start with the file of another node that runs: a second file with the ending `.lock` is
    /// locked meanwhile. Default: none, and the context comes from the other nodes after a restart.
    pub file: Option<PathBuf>,
    /// Whether what is below a peer's own id, as `avi.device.caps.<peer>`, is written by that peer alone. Default true.
    pub ownership: bool,
    /// The most values, of all authors together; 1 to 65,536, default 4,096. An empty object is one.
    pub max_entries: usize,
    /// The most values of one author; 1 to 65,536, default 1,024.
    pub max_entries_per_author: usize,
    /// The most tombstones, which keep what was removed from coming back; 1 to 65,536, default 4,096. One author may have a
    /// quarter of them.
    pub max_tombstones: usize,
    /// The most authors; 1 to 10,000, default 256.
    pub max_authors: usize,
    /// The most bytes of all entries, each with its path, value and signature; 128 KiB to 64 MiB, default 1 MiB. One author
    /// may have a quarter of it.
    pub max_bytes: usize,
    /// How long a tombstone is kept; 1 minute to 1 year, default 7 days. A node that was away for longer may bring back what
    /// was removed meanwhile. With `ownership`, what is below a peer's own id is kept for as long: that peer renews it while
    /// it runs.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub tombstone_lifetime: Duration,
    /// How far the clock of another author may be ahead of this node's; 1 s to 1 day, default 15 minutes. What is further
    /// ahead is refused and counted: it would win over all that others write until then.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub max_ahead: Duration,
}

impl Default for ContextOptions {
    fn default() -> Self {
        Self {
            file: None,
            ownership: true,
            max_entries: 4096,
            max_entries_per_author: 1024,
            max_tombstones: 4096,
            max_authors: 256,
            max_bytes: 1024 * 1024,
            tombstone_lifetime: Duration::from_secs(7 * 24 * 3600),
            max_ahead: Duration::from_secs(15 * 60),
        }
    }
}

impl ContextOptions {
    /// # Errors
    /// [`AviP2pError::InvalidConfig`] with the first field that is out of range.
    pub(crate) fn validate(&self) -> Result<(), AviP2pError> {
        if self.file.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(invalid("context.file", "\"\"".to_owned(), "the path of a file".to_owned()));
        }
        in_range("context.max_entries", self.max_entries, 1..=65_536)?;
        in_range("context.max_entries_per_author", self.max_entries_per_author, 1..=65_536)?;
        in_range("context.max_tombstones", self.max_tombstones, 1..=65_536)?;
        in_range("context.max_authors", self.max_authors, 1..=10_000)?;
        in_range("context.max_bytes", self.max_bytes, 128 * 1024..=64 * 1024 * 1024)?;
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
        lasts("context.tombstone_lifetime", self.tombstone_lifetime, minute..=366 * day)?;
        lasts("context.max_ahead", self.max_ahead, Duration::from_secs(1)..=day)
    }
}
