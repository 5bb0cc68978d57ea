//! Who writes the file of the flight recorder? A thread of its own: neither the node nor a caller waits for a disk.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use parking_lot::{Condvar, Mutex};

use crate::error::AviP2pError;
use crate::lock::Lock;
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
    /// A file that is not yet the newer one.
    new: PathBuf,
    /// Of a file, and of the queue.
    max_bytes: usize,
    queue: Mutex<Queue>,
    has_changed: Condvar,
    /// Locked while files change their names. The node never waits for it.
    disk: Mutex<Disk>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

#[derive(Default)]
struct Queue {
    /// What is to be written.
    chunks: VecDeque<(Place, Vec<u8>)>,
    bytes: usize,
    /// The bytes of the newer file, with those in the queue; `None` if there is none of this run.
    newer: Option<usize>,
    /// Whether the last write has failed: nothing is taken but a new segment.
    is_broken: bool,
    /// Whether not to wait for more: somebody wants all to be written, or there is much.
    is_urgent: bool,
    /// Whether a chunk is being written.
    is_busy: bool,
    is_over: bool,
    has_ended: bool,
}

/// Where a chunk goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A segment, into a file of its own. What was the newer file is the older one then.
    NewFile,
    /// A segment, after what is in the newer file: something is missing before it.
    SameFile,
    /// Records of the segment.
    After,
}

#[derive(Default)]
struct Disk {
    /// Whether the older file is of this run.
    has_older: bool,
    /// The bytes of the newer file that are whole items.
    whole: u64,
}

/// The recorder's end.
struct Writer(Arc<Files>);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Store for Writer {
    fn begin(&mut self, segment: Vec<u8>) -> Option<usize> {
        self.0.begin(&segment)
    }

    fn append(&mut self, item: &[u8]) -> bool {
        let mut queue = self.0.queue.lock();
        !queue.is_broken && self.0.push(&mut queue, Place::After, item)
    }

    fn has_room(&self) -> bool {
        self.0.queue.lock().bytes <= self.0.max_bytes / 2
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
        let failed = |path: &PathBuf| {
            let path = path.clone();
            |reason: String| AviP2pError::RecorderFile { path, reason }
        };
        let (older, new) = (temporary::beside(&path, ".1"), temporary::beside(&path, ".new"));
        let lock = Lock::beside(&path).map_err(failed(&path))?;
        [&path, &older, &new].into_iter().try_for_each(|path| check(path).map_err(failed(path)))?;
        let (ending, ended) = oneshot::channel();
        let files = Arc::new(Self {
            path,
            older,
            new,
            max_bytes: options.segment_bytes(),
            queue: Mutex::default(),
            has_changed: Condvar::new(),
            disk: Mutex::default(),
            ended: Mutex::new(Some(ended)),
        });
        let of_thread = files.clone();
        let refused = |error| AviP2pError::Io(format!("cannot start the thread of the recorder's file: {error}"));
        let work = move || {
            of_thread.write_all();
            // Whoever has waited may start the next node with this file.
            drop(lock);
            let _ = ending.send(());
        };
        thread::Builder::new().name("avi-p2p-recorder".to_owned()).spawn(work).map_err(refused)?;
        Ok(files)
    }

    /// Takes a segment. It begins a file if the newer one is full; else something was not recorded, and it goes on there: a
    /// disk that has room now and then must not push out what was recorded before.
    fn begin(&self, segment: &[u8]) -> Option<usize> {
        let mut queue = self.queue.lock();
        let in_file = queue.newer.map(|bytes| bytes + segment.len()).filter(|bytes| *bytes <= self.max_bytes);
        let (place, bytes) = in_file.map_or((Place::NewFile, segment.len()), |bytes| (Place::SameFile, bytes));
        if place == Place::NewFile {
            queue.newer = Some(0);
        }
        if !self.push(&mut queue, place, segment) {
            return None;
        }
        queue.is_broken = false;
        Some(bytes)
    }

    fn push(&self, queue: &mut Queue, place: Place, bytes: &[u8]) -> bool {
        if queue.bytes + bytes.len() > self.max_bytes {
            return false;
        }
        let was_empty = queue.chunks.is_empty();
        queue.bytes += bytes.len();
        queue.newer = queue.newer.map(|newer| newer + bytes.len());
        match queue.chunks.back_mut() {
            Some((_, chunk)) if place == Place::After => chunk.extend_from_slice(bytes),
            _ => queue.chunks.push_back((place, bytes.to_vec())),
        }
        let is_much = queue.bytes > self.max_bytes / 4 && !queue.is_urgent;
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
            let mut is_torn = false;
            for (place, bytes) in chunks {
                // What follows means nothing without what was not written.
                let is_left = is_torn && place == Place::After;
                let written = if is_left { Ok(()) } else { self.write(&mut file, place, &bytes) };
                is_torn = is_left || written.is_err();
                if let Err(error) = written {
                    tracing::warn!(path = ?self.path, %error, "the recording is not written until this succeeds again");
                }
                self.queue.lock().bytes -= bytes.len();
            }
            let mut queue = self.queue.lock();
            if is_torn {
                self.on_torn(&mut queue, file.is_some());
            }
            queue.is_busy = false;
            self.has_changed.notify_all();
        }
        if let Some(Err(error)) = file.map(|file: File| file.sync_all()) {
            tracing::warn!(path = ?self.path, %error, "the end of the recording may not be on the disk");
        }
        self.queue.lock().has_ended = true;
        self.has_changed.notify_all();
    }

    /// Drops what waits for a place after what was not written.
    fn on_torn(&self, queue: &mut Queue, has_file: bool) {
        let segment = queue.chunks.iter().position(|(place, _)| *place != Place::After);
        let gone = segment.unwrap_or(queue.chunks.len());
        let gone: usize = queue.chunks.drain(..gone).map(|(_, bytes)| bytes.len()).sum();
        queue.bytes -= gone;
        if queue.chunks.is_empty() {
            queue.is_broken = true;
            queue.newer = has_file.then(|| usize::try_from(self.disk.lock().whole).unwrap_or(usize::MAX));
        }
    }

    /// Waits for what to write next; `None` at the end.
    fn next(&self) -> Option<VecDeque<(Place, Vec<u8>)>> {
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

    fn write(&self, file: &mut Option<File>, place: Place, bytes: &[u8]) -> io::Result<()> {
        match (place, file.as_mut()) {
            (Place::NewFile, _) | (Place::SameFile, None) => return self.turn(file, bytes),
            (Place::SameFile, Some(file)) => {
                // After a write that has failed in the middle.
                let whole = self.disk.lock().whole;
                file.set_len(whole)?;
                file.seek(SeekFrom::Start(whole))?;
                file.write_all(bytes)?;
            }
            (Place::After, Some(file)) => file.write_all(bytes)?,
            (Place::After, None) => return Ok(()),
        }
        self.disk.lock().whole += bytes.len() as u64;
        Ok(())
    }

    /// Begins a file with a segment. The others keep their places until it is written.
    fn turn(&self, file: &mut Option<File>, segment: &[u8]) -> io::Result<()> {
        match fs::remove_file(&self.new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut new = temporary::create(&self.new)?;
        if let Err(error) = new.write_all(segment) {
            let _ = fs::remove_file(&self.new);
            return Err(error);
        }
        let mut disk = self.disk.lock();
        let has_older = match fs::rename(&self.path, &self.older) {
            Ok(()) => file.is_some(),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        fs::rename(&self.new, &self.path)?;
        *disk = Disk { has_older, whole: segment.len() as u64 };
        *file = Some(new);
        Ok(())
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
        drop(queue);
        // Open, they stay the same files, whatever their names are by the time they are read.
        let disk = self.disk.lock();
        let older = disk.has_older.then(|| File::open(&self.older)).transpose()?;
        let (newer, whole) = (File::open(&self.path)?, disk.whole);
        drop(disk);
        let mut bytes = Vec::new();
        if let Some(mut older) = older {
            older.read_to_end(&mut bytes)?;
        }
        newer.take(whole).read_to_end(&mut bytes)?;
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

/// Nothing but a recording is replaced.
fn check(path: &Path) -> Result<(), String> {
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
