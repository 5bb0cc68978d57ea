//! Who writes the file of the flight recorder? A thread of its own: neither the node nor a caller waits for a disk.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use parking_lot::{Condvar, Mutex};

use crate::error::AviP2pError;
use crate::temporary;
use avi_p2p_proto::recording::{MAGIC, Memory, RecorderOptions, Start, Store};

/// How long records wait for others before they are written.
const GATHER: Duration = Duration::from_millis(100);

/// What the engine's recorder starts with, and its files if it has any.
///
/// # Errors
/// [`AviP2pError::RecorderFile`] if there can be no such file, [`AviP2pError::Io`] if the system refuses a thread.
pub(super) fn start(
    options: &RecorderOptions,
    hash_key: [u8; 16],
    unix_millis: u64,
) -> Result<(Start, Option<Arc<Files>>), AviP2pError> {
    let files = options.file.clone().map(|path| Files::open(path, options)).transpose()?;
    let store: Box<dyn Store> = match &files {
        Some(files) => Box::new(Writer(files.clone())),
        None => Box::<Memory>::default(),
    };
    let segment_bytes = options.segment_bytes();
    Ok((Start { options: options.clone(), store, hash_key, unix_millis, segment_bytes }, files))
}

/// The two files of a recording: the newer segment, and the one before it.
pub(crate) struct Files {
    path: PathBuf,
    older: PathBuf,
    max_queued: usize,
    queue: Mutex<Queue>,
    has_changed: Condvar,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

#[derive(Default)]
struct Queue {
    /// What is to be written, each with whether it is a new segment.
    chunks: VecDeque<(bool, Vec<u8>)>,
    bytes: usize,
    /// Whether the last write has failed: nothing is taken but a new segment.
    is_broken: bool,
    /// Whether not to wait for more: somebody wants all to be written, or there is much.
    is_urgent: bool,
    /// Whether a chunk is being written.
    is_busy: bool,
    /// Whether the older file is of this run.
    has_older: bool,
    is_over: bool,
    has_ended: bool,
}

/// The recorder's end.
struct Writer(Arc<Files>);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Store for Writer {
    fn begin(&mut self, segment: Vec<u8>) -> bool {
        self.0.push(true, &segment)
    }

    fn append(&mut self, item: &[u8]) -> bool {
        self.0.push(false, item)
    }

    fn has_room(&self) -> bool {
        self.0.queue.lock().bytes <= self.0.max_queued / 2
    }

    fn pieces(&self) -> Option<Vec<Bytes>> {
        None
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.queue.lock().is_over = true;
        self.0.has_changed.notify_all();
    }
}

impl Files {
    fn open(path: PathBuf, options: &RecorderOptions) -> Result<Arc<Self>, AviP2pError> {
        let older = older(&path);
        for path in [&path, &older] {
            check(path).map_err(|reason| AviP2pError::RecorderFile { path: path.clone(), reason })?;
        }
        let (ending, ended) = oneshot::channel();
        let files = Arc::new(Self {
            path,
            older,
            max_queued: options.segment_bytes(),
            queue: Mutex::default(),
            has_changed: Condvar::new(),
            ended: Mutex::new(Some(ended)),
        });
        let of_thread = files.clone();
        let failed = |error| AviP2pError::Io(format!("cannot start the thread of the recorder's file: {error}"));
        let work = move || {
            of_thread.write_all();
            // Nobody has to wait for it.
            let _ = ending.send(());
        };
        thread::Builder::new().name("avi-p2p-recorder".to_owned()).spawn(work).map_err(failed)?;
        Ok(files)
    }

    fn push(&self, begins: bool, bytes: &[u8]) -> bool {
        let mut queue = self.queue.lock();
        if (queue.is_broken && !begins) || queue.bytes + bytes.len() > self.max_queued {
            return false;
        }
        let was_empty = queue.chunks.is_empty();
        queue.is_broken = false;
        queue.bytes += bytes.len();
        match queue.chunks.back_mut() {
            Some((_, chunk)) if !begins => chunk.extend_from_slice(bytes),
            _ => queue.chunks.push_back((begins, bytes.to_vec())),
        }
        let is_much = queue.bytes > self.max_queued / 4 && !queue.is_urgent;
        queue.is_urgent |= is_much;
        if was_empty || is_much {
            self.has_changed.notify_all();
        }
        true
    }

    /// The thread's work.
    fn write_all(&self) {
        let mut file = None;
        while let Some(chunks) = self.next() {
            for (begins, bytes) in chunks {
                let written = self.write(&mut file, begins, &bytes);
                let mut queue = self.queue.lock();
                if let Err(error) = written {
                    tracing::warn!(path = ?self.path, %error, "the recording is not written until this succeeds again");
                    // What follows means nothing without it.
                    (queue.is_broken, file) = (true, None);
                    let segment = queue.chunks.iter().position(|(begins, _)| *begins);
                    let gone = segment.unwrap_or(queue.chunks.len());
                    let gone: usize = queue.chunks.drain(..gone).map(|(_, bytes)| bytes.len()).sum();
                    queue.bytes -= gone;
                }
                queue.bytes -= bytes.len();
            }
            self.queue.lock().is_busy = false;
            self.has_changed.notify_all();
        }
        if let Some(Err(error)) = file.map(|file: File| file.sync_all()) {
            tracing::warn!(path = ?self.path, %error, "the end of the recording may not be on the disk");
        }
        self.queue.lock().has_ended = true;
        self.has_changed.notify_all();
    }

    /// Waits for what to write next; `None` at the end.
    fn next(&self) -> Option<VecDeque<(bool, Vec<u8>)>> {
        let mut queue = self.queue.lock();
        while queue.chunks.is_empty() {
            if queue.is_over {
                return None;
            }
            queue.is_urgent = false;
            self.has_changed.wait(&mut queue);
        }
        let until = std::time::Instant::now() + GATHER;
        while !queue.is_urgent && !queue.is_over && !self.has_changed.wait_until(&mut queue, until).timed_out() {}
        (queue.is_busy, queue.is_urgent) = (true, false);
        Some(std::mem::take(&mut queue.chunks))
    }

    fn write(&self, file: &mut Option<File>, begins: bool, bytes: &[u8]) -> io::Result<()> {
        if begins {
            let is_first = file.take().is_none();
            match fs::rename(&self.path, &self.older) {
                Ok(()) => self.queue.lock().has_older = !is_first,
                Err(error) if error.kind() == ErrorKind::NotFound => self.queue.lock().has_older = false,
                Err(error) => return Err(error),
            }
            *file = Some(temporary::create(&self.path)?);
        }
        // Without a file the segment could not be begun, and its records were dropped.
        file.as_mut().map_or(Ok(()), |file| file.write_all(bytes))
    }

    /// Waits until all is written, and reads it. On a thread of its own.
    pub(crate) async fn read(self: &Arc<Self>) -> Result<Vec<u8>, AviP2pError> {
        let (reading, read) = oneshot::channel();
        let files = self.clone();
        let work = move || {
            // The caller may have dropped its future.
            let _ = reading.send(files.read_both());
        };
        let failed =
            |error: io::Error| AviP2pError::RecorderFile { path: self.path.clone(), reason: error.to_string() };
        thread::Builder::new().name("avi-p2p-recording".to_owned()).spawn(work).map_err(failed)?;
        read.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())).map_err(failed)
    }

    fn read_both(&self) -> io::Result<Vec<u8>> {
        let mut queue = self.queue.lock();
        while !queue.has_ended && (queue.is_busy || !queue.chunks.is_empty()) {
            queue.is_urgent = true;
            self.has_changed.notify_all();
            self.has_changed.wait(&mut queue);
        }
        // The lock keeps the thread from beginning another segment meanwhile: it cannot take one.
        let mut bytes = match queue.has_older {
            true => fs::read(&self.older)?,
            false => Vec::new(),
        };
        File::open(&self.path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Waits until the thread has ended.
    pub(super) async fn ended(&self) {
        let ended = self.ended.lock().take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
    }
}

fn older(path: &Path) -> PathBuf {
    let mut older = path.as_os_str().to_owned();
    older.push(".1");
    older.into()
}

/// Nothing but a recording is replaced.
fn check(path: &Path) -> Result<(), String> {
    let folder = temporary::folder(path);
    if !folder.is_dir() {
        return Err(format!("the folder {folder:?} is missing: make it, or name another file"));
    }
    let mut begin = [0; MAGIC.len()];
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("cannot be opened: {error}")),
    };
    let is_recording = match file.read_exact(&mut begin) {
        Ok(()) => begin == MAGIC,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => file.metadata().is_ok_and(|file| file.len() == 0),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    match is_recording {
        true => Ok(()),
        false => Err("is no recording, and stays as it is: name another file".to_owned()),
    }
}
