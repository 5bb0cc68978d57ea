//! How does a file belong to one node? It is locked for as long as the node lives.

use std::fs::{File, TryLockError};
use std::path::Path;

/// A lock on a file. The system releases it when the process ends.
pub(crate) struct Lock(File);

/// Another node has the lock, in this process or another.
pub(crate) struct InUse;

impl Lock {
    /// Locks the file's neighbour with the ending `.lock`, which stays: for a file that is replaced while it is in use.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    #[cfg(any(feature = "context", feature = "recorder"))]
    pub(crate) fn beside(path: &Path) -> Result<Option<Self>, String> {
        let folder = crate::temporary::folder(path);
        if !folder.is_dir() {
            return Err(format!("the folder {folder:?} is missing: make it, or name another file"));
        }
        let beside = crate::temporary::beside(path, ".lock");
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&beside);
        let file = file.map_err(|error| format!("{beside:?} cannot be made: {error}"))?;
        Self::take(&beside, file).map_err(|_| "another node uses it: stop that node, or name another file".to_owned())
    }

    /// Locks an open file. `None` where the file system has no locks: then nothing keeps a second node from it.
    pub(crate) fn take(path: &Path, file: File) -> Result<Option<Self>, InUse> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Err(InUse),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(?path, %error, "the file cannot be locked: start no second node with it");
                Ok(None)
            }
        }
    }
}

impl Drop for Lock {
    /// Closing the file alone would not do while a child process that is about to begin has it open too.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "a file stays locked until it is closed");
        }
    }
}
