//! How does a file belong to one node? It is locked for as long as the node lives.

use std::fs::{File, TryLockError};
use std::path::Path;

/// A lock on a file. The system releases it when the process ends.
pub(crate) struct Lock(File);

/// Another node has the lock, in this process or another.
pub(crate) struct InUse;

impl Lock {
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
