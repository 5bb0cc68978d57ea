//! How are audio substreams read and written? In turn, and only those that are ready.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use futures::io::{AsyncRead, AsyncWrite};
use libp2p_swarm::Stream;

use crate::net::audio::ready::{Entry, ReadyQueue};
use crate::net::audio::reason;
use crate::wake::Wake;
use avi_p2p_proto::engine::{ConnectionId, NetEvent, SubstreamId};

/// The most bytes that one turn of a substream reads.
const READ_BYTES: usize = 64 * 1024;

/// All audio substreams of a node.
pub(super) struct Substreams {
    open: BTreeMap<SubstreamId, Substream>,
    by_connection: BTreeSet<(ConnectionId, SubstreamId)>,
    ready: Arc<ReadyQueue>,
    /// Shared by all reads and zeroed once, at the first substream. Received bytes are copied out in a buffer of their
    /// exact size, so a small frame never keeps a large buffer alive in a queue.
    scratch: Vec<u8>,
    last_id: u64,
}

impl Substreams {
    /// `wake` is notified when a substream is ready.
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        Self {
            open: BTreeMap::new(),
            by_connection: BTreeSet::new(),
            ready: ReadyQueue::new(wake),
            scratch: Vec::new(),
            last_id: 0,
        }
    }

    /// Adds a substream.
    pub(super) fn add(&mut self, connection: ConnectionId, io: Stream) -> SubstreamId {
        self.last_id += 1;
        if self.scratch.is_empty() {
            self.scratch = vec![0; READ_BYTES];
        }
        let id = SubstreamId(self.last_id);
        let (entry, waker) = self.ready.entry(id);
        entry.queue();
        self.open.insert(id, Substream::new(connection, io, entry, waker));
        self.by_connection.insert((connection, id));
        id
    }

    /// The number of substreams on a connection.
    pub(super) fn count(&self, connection: ConnectionId) -> usize {
        self.by_connection.range(of(connection)).count()
    }

    /// Writes as much as possible at once. [`poll`](Self::poll) writes the rest.
    pub(super) fn write(&mut self, id: SubstreamId, bytes: Bytes, events: &mut VecDeque<NetEvent>) {
        let Some(substream) = self.open.get_mut(&id) else { return };
        debug_assert!(substream.writing.is_empty(), "one write at a time");
        if substream.finish != Finish::No {
            return;
        }
        substream.writing = bytes;
        if substream.writing.is_empty() {
            events.push_back(NetEvent::Writable { substream: id });
        }
        substream.write_turn(id, events);
        substream.requeue();
    }

    /// Closes this node's direction after the pending bytes.
    pub(super) fn finish(&mut self, id: SubstreamId) {
        let Some(substream) = self.open.get_mut(&id) else { return };
        if substream.finish == Finish::No {
            substream.finish = Finish::Wanted;
            substream.entry.queue();
        }
    }

    /// Drops a substream.
    pub(super) fn reset(&mut self, id: SubstreamId) {
        if let Some(substream) = self.open.remove(&id) {
            self.by_connection.remove(&(substream.connection, id));
        }
    }

    /// Drops all substreams of a connection.
    pub(super) fn drop_connection(&mut self, connection: ConnectionId) {
        let ids: Vec<_> = self.by_connection.range(of(connection)).map(|&(_, id)| id).collect();
        ids.into_iter().for_each(|id| self.reset(id));
    }

    /// Whether a substream is ready.
    pub(super) fn is_due(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Polls one ready substream. Returns false if none is ready.
    pub(super) fn poll(&mut self, events: &mut VecDeque<NetEvent>) -> bool {
        while let Some(id) = self.ready.pop() {
            let Some(substream) = self.open.get_mut(&id) else { continue };
            substream.entry.taken();
            match substream.turn(id, &mut self.scratch, events) {
                Turn::Gone => self.reset(id),
                Turn::Moved => drop(substream.entry.queue()),
                Turn::Waits => {}
            }
            return true;
        }
        false
    }
}

fn of(connection: ConnectionId) -> std::ops::RangeInclusive<(ConnectionId, SubstreamId)> {
    (connection, SubstreamId(0))..=(connection, SubstreamId(u64::MAX))
}

/// The state of closing this node's direction. No → Wanted → Done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finish {
    No,
    Wanted,
    Done,
}

/// The result of a turn.
enum Turn {
    /// There may be more to do.
    Moved,
    /// It waits; its waker is registered.
    Waits,
    /// The substream has ended.
    Gone,
}

struct Substream {
    connection: ConnectionId,
    io: Stream,
    entry: Arc<Entry>,
    waker: Waker,
    writing: Bytes,
    unflushed: bool,
    finish: Finish,
    readable: bool,
    /// Why writing failed. Bytes that the peer sent before are still read.
    failure: Option<String>,
}

impl Substream {
    fn new(connection: ConnectionId, io: Stream, entry: Arc<Entry>, waker: Waker) -> Self {
        Self {
            connection,
            io,
            entry,
            waker,
            writing: Bytes::new(),
            unflushed: false,
            finish: Finish::No,
            readable: true,
            failure: None,
        }
    }

    /// Queues the substream again if it has a write or a failure to handle that no waker will report.
    fn requeue(&self) {
        if self.failure.is_some() || !self.writing.is_empty() {
            self.entry.queue();
        }
    }

    fn turn(&mut self, id: SubstreamId, scratch: &mut [u8], events: &mut VecDeque<NetEvent>) -> Turn {
        let wrote = self.write_turn(id, events);
        let read = match self.read_turn(id, scratch, events) {
            Ok(read) => read,
            Err(reason) => {
                events.push_back(NetEvent::Broken { substream: id, reason });
                return Turn::Gone;
            }
        };
        match (self.failure.take(), self.readable, self.finish) {
            (Some(failure), ..) if read => self.failure = Some(failure),
            (Some(reason), ..) => {
                events.push_back(NetEvent::Broken { substream: id, reason });
                return Turn::Gone;
            }
            (None, false, Finish::Done) => return Turn::Gone,
            (None, ..) => {}
        }
        if wrote || read { Turn::Moved } else { Turn::Waits }
    }

    /// Does at most one write. When nothing is left to write, flushes and closes. Returns whether it made progress.
    fn write_turn(&mut self, id: SubstreamId, events: &mut VecDeque<NetEvent>) -> bool {
        if self.failure.is_some() {
            return false;
        }
        match self.try_write(id, events) {
            Ok(moved) => moved,
            Err(error) => {
                self.writing.clear();
                self.failure = Some(reason(&error));
                true
            }
        }
    }

    fn try_write(&mut self, id: SubstreamId, events: &mut VecDeque<NetEvent>) -> io::Result<bool> {
        let cx = &mut Context::from_waker(&self.waker);
        let mut io = Pin::new(&mut self.io);
        let mut moved = false;
        if !self.writing.is_empty() {
            let Poll::Ready(written) = io.as_mut().poll_write(cx, &self.writing)? else { return Ok(false) };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.writing.advance(written);
            (moved, self.unflushed) = (true, true);
            if !self.writing.is_empty() {
                return Ok(true);
            }
            // Frees the buffer, which may be part of a larger one.
            self.writing = Bytes::new();
            events.push_back(NetEvent::Writable { substream: id });
        }
        if self.unflushed {
            let Poll::Ready(()) = io.as_mut().poll_flush(cx)? else { return Ok(moved) };
            (moved, self.unflushed) = (true, false);
        }
        if self.finish == Finish::Wanted {
            let Poll::Ready(()) = io.as_mut().poll_close(cx)? else { return Ok(moved) };
            (moved, self.finish) = (true, Finish::Done);
        }
        Ok(moved)
    }

    /// Does at most one read. Returns `Ok(true)` if it made progress, an error if the substream is broken.
    fn read_turn(
        &mut self,
        id: SubstreamId,
        scratch: &mut [u8],
        events: &mut VecDeque<NetEvent>,
    ) -> Result<bool, String> {
        if !self.readable {
            return Ok(false);
        }
        let cx = &mut Context::from_waker(&self.waker);
        match Pin::new(&mut self.io).poll_read(cx, scratch) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(self.failure.take().unwrap_or_else(|| reason(&error))),
            Poll::Ready(Ok(0)) => {
                self.check_end()?;
                self.readable = false;
                events.push_back(NetEvent::Finished { substream: id });
                Ok(true)
            }
            Poll::Ready(Ok(read)) => {
                let bytes = Bytes::copy_from_slice(&scratch[..read]);
                events.push_back(NetEvent::Received { substream: id, bytes });
                Ok(true)
            }
        }
    }

    /// Checks whether an end of data is a clean one. Yamux reports a reset, and the end of the connection, to a reader
    /// as a clean end. A writer sees the difference: after a reset an empty write fails; after a clean end it costs at
    /// most an empty frame.
    fn check_end(&mut self) -> Result<(), String> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.finish != Finish::No || !self.writing.is_empty() {
            return Ok(());
        }
        let cx = &mut Context::from_waker(&self.waker);
        match Pin::new(&mut self.io).poll_write(cx, &[]) {
            Poll::Ready(Err(error)) => Err(reason(&error)),
            _ => Ok(()),
        }
    }
}
