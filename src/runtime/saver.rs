//! Who writes the file of the shared context? A thread of its own: neither the node nor a caller waits for a disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use futures::channel::oneshot;
use parking_lot::{Condvar, Mutex};

use super::events::EventQueue;
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::lock::Lock;
use crate::temporary::{self, Temporary};

/// The file of a node's context, which no other node may use meanwhile.
pub(super) struct ContextFile {
    path: PathBuf,
    /// What it has; `None` if there is no file yet.
    pub(super) content: Option<Bytes>,
    lock: Option<Lock>,
}

impl ContextFile {
    /// # Errors
    /// [`AviP2pError::ContextFile`] if it cannot be read, if no file can be made there, or if another node uses it.
    pub(super) fn open(path: &Path, max_bytes: usize) -> Result<Self, AviP2pError> {
        let failed = |reason: String| AviP2pError::ContextFile { path: path.to_owned(), reason };
        let lock = Lock::beside(path).map_err(failed)?;
        let content = read(path, max_bytes).map_err(failed)?;
        Ok(Self { path: path.to_owned(), content, lock })
    }
}

fn read(path: &Path, max_bytes: usize) -> Result<Option<Bytes>, String> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be looked at: {error}")),
    };
    if !metadata.is_file() {
        return Err("not a file: name a file, or a path where none is yet".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(max_bytes as u64 + 1).read_to_end(&mut bytes));
    file.map_err(|error| format!("cannot be read: {error}"))?;
    Ok(Some(bytes.into()))
}

/// Writes a file, each time as a whole.
pub(super) struct Saver {
    slot: Arc<Slot>,
    ended: oneshot::Receiver<()>,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    has_changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What to write next. A newer content replaces it.
    next: Option<Bytes>,
    is_over: bool,
}

impl Saver {
    /// # Errors
    /// The system's, if it refuses a thread.
    pub(super) fn start(file: ContextFile, events: Arc<EventQueue>) -> io::Result<Self> {
        let ContextFile { path, lock, .. } = file;
        let slot = Arc::<Slot>::default();
        let (ending, ended) = oneshot::channel();
        let of_thread = slot.clone();
        thread::Builder::new().name("avi-p2p-context".to_owned()).spawn(move || {
            while let Some(bytes) = of_thread.next() {
                if let Err(error) = replace(&path, &bytes) {
                    tracing::warn!(?path, %error, "the context is not saved");
                    events.push(AviEvent::ContextNotSaved { path: path.clone(), reason: error.to_string() });
                    events.wake();
                }
            }
            // Whoever has waited may start the next node with this file.
            drop(lock);
            let _ = ending.send(());
        })?;
        Ok(Self { slot, ended })
    }

    pub(super) fn save(&self, bytes: Bytes) {
        self.slot.state.lock().next = Some(bytes);
        self.slot.has_changed.notify_one();
    }

    /// Waits until all that was to be saved is.
    pub(super) async fn finish(mut self) {
        self.slot.end();
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.slot.end();
    }
}

impl Slot {
    /// Waits for what to write next; `None` at the end.
    fn next(&self) -> Option<Bytes> {
        let mut state = self.state.lock();
        loop {
            match state.next.take() {
                None if !state.is_over => self.has_changed.wait(&mut state),
                next => return next,
            }
        }
    }

    fn end(&self) {
        self.state.lock().is_over = true;
        self.has_changed.notify_one();
    }
}

/// Replaces a file: at any moment, also after a power failure, it is the old or the new one, and whole.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = temporary::folder(path);
    let written = Temporary::write(folder, bytes)?;
    fs::rename(written.path(), path)?;
    temporary::sync(folder)
}
