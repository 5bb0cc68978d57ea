//! Which sockets are ready, and which timers are due? Asked by the node's thread alone.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Instant;

use futures::task::AtomicWaker;
use polling::{AsRawSource, AsSource, Event, Events, PollMode, Poller};

/// The sockets and timers of a node.
pub(super) struct Reactor {
    poller: Poller,
    /// Taken by the node's thread alone.
    events: Mutex<Events>,
    sources: Mutex<BTreeMap<usize, Arc<Readiness>>>,
    timers: Mutex<BTreeMap<(Instant, u64), Waker>>,
    /// The node's thread.
    thread: OnceLock<ThreadId>,
    last_key: AtomicUsize,
    /// If set, the next wait returns at once.
    must_not_wait: AtomicBool,
    has_failed: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        let poller = Poller::new()?;
        if !poller.supports_edge() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this system has no edge-triggered polling: use start_on_tokio",
            ));
        }
        Ok(Self {
            poller,
            events: Mutex::new(Events::new()),
            sources: Mutex::default(),
            timers: Mutex::default(),
            thread: OnceLock::new(),
            last_key: AtomicUsize::new(0),
            must_not_wait: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            failure: Mutex::default(),
        })
    }

    /// From now on this thread alone calls [`wait`](Self::wait).
    pub(super) fn belongs_here(&self) {
        let _ = self.thread.set(thread::current().id());
    }

    /// Makes [`wait`](Self::wait) return, from another thread.
    pub(super) fn notify(&self) {
        if let Err(error) = self.poller.notify() {
            tracing::error!(%error, "the node's thread cannot be woken");
        }
    }

    /// Makes the next [`wait`](Self::wait) return at once, from the same thread.
    pub(super) fn do_not_wait(&self) {
        self.must_not_wait.store(true, Ordering::Relaxed);
    }

    /// Waits until a socket is ready, a timer is due or somebody calls [`notify`](Self::notify), and wakes those who
    /// wait for it. The caller then polls the node's task.
    pub(super) fn wait(&self) {
        if let Err(error) = self.try_wait() {
            // The node ends at the next part of its work.
            *lock(&self.failure) = Some(error);
            self.has_failed.store(true, Ordering::SeqCst);
        }
    }

    /// # Panics
    /// Once, if the system can poll no more.
    pub(super) fn assert_works(&self) {
        if self.has_failed.load(Ordering::Relaxed)
            && let Some(error) = lock(&self.failure).take()
        {
            panic!("the system polls no more: {error}");
        }
    }

    fn try_wait(&self) -> io::Result<()> {
        let deadline = match self.must_not_wait.swap(false, Ordering::Relaxed) {
            true => Some(Instant::now()),
            false => lock(&self.timers).first_key_value().map(|((at, _), _)| *at),
        };
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut events = lock(&self.events);
        events.clear();
        self.poller.wait(&mut events, timeout)?;
        for event in events.iter() {
            let source = lock(&self.sources).get(&event.key).cloned();
            if let Some(source) = source {
                source.set(event);
            }
        }
        drop(events);
        self.wake_due();
        // Whoever was woken just now is polled before the next wait.
        self.must_not_wait.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn wake_due(&self) {
        let mut timers = lock(&self.timers);
        if timers.is_empty() {
            return;
        }
        let later = timers.split_off(&(Instant::now(), u64::MAX));
        let due = std::mem::replace(&mut *timers, later);
        drop(timers);
        due.into_values().for_each(Waker::wake);
    }

    /// Resolves at that moment or later. Polled by any thread.
    pub(super) async fn sleep_until(self: Arc<Self>, at: Instant) {
        let timer = Timer { key: (at, self.next_key() as u64), reactor: self };
        poll_fn(|cx| {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            timer.reactor.set(timer.key, cx.waker());
            Poll::Pending
        })
        .await;
    }

    fn set(&self, key: (Instant, u64), waker: &Waker) {
        let mut timers = lock(&self.timers);
        let is_new = timers.insert(key, waker.clone()).is_none();
        let is_first = timers.first_key_value().is_some_and(|(first, _)| *first == key);
        drop(timers);
        // A wait that is under way would take too long.
        if is_new && is_first && self.thread.get() != Some(&thread::current().id()) {
            self.notify();
        }
    }

    fn next_key(&self) -> usize {
        self.last_key.fetch_add(1, Ordering::Relaxed)
    }
}

struct Timer {
    key: (Instant, u64),
    reactor: Arc<Reactor>,
}

impl Drop for Timer {
    fn drop(&mut self) {
        lock(&self.reactor.timers).remove(&self.key);
    }
}

/// A socket that the reactor watches.
pub(super) struct Watched<S: AsSource> {
    socket: S,
    key: usize,
    readiness: Arc<Readiness>,
    reactor: Arc<Reactor>,
}

impl<S: AsSource> Watched<S>
where
    for<'a> &'a S: AsRawSource,
{
    /// Takes a socket that does not block.
    #[allow(unsafe_code)]
    pub(super) fn new(reactor: Arc<Reactor>, socket: S) -> io::Result<Self> {
        let (key, readiness) = (reactor.next_key(), Arc::<Readiness>::default());
        // Nothing was written yet, so nothing blocks.
        readiness.write.is_ready.store(true, Ordering::SeqCst);
        lock(&reactor.sources).insert(key, readiness.clone());
        let watched = Self { socket, key, readiness, reactor };
        // SAFETY: the poller must forget the socket before that is closed. `Drop` does so, and `socket` is private and
        // never replaced.
        unsafe { watched.reactor.poller.add_with_mode(&watched.socket, Event::readable(key), PollMode::Edge)? };
        Ok(watched)
    }

    /// Watches for writability too. This causes extra wake-ups, so it starts only after a write has blocked.
    fn watch_writing(&self) -> io::Result<()> {
        self.reactor.poller.modify_with_mode(&self.socket, Event::all(self.key), PollMode::Edge)
    }

    pub(super) fn socket(&self) -> &S {
        &self.socket
    }

    /// Tries to read until that would block.
    pub(super) fn poll_read<T>(
        &self,
        cx: &mut Context<'_>,
        read: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.readiness.read.poll(cx, &self.socket, read)
    }

    /// Tries to write until that would block.
    pub(super) fn poll_write<T>(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.readiness.write.poll(cx, &self.socket, |socket| {
            let written = write(socket);
            if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                self.watch_writing()?;
            }
            written
        })
    }

    /// Resolves when a connection that is being made is there, or has failed.
    pub(super) async fn connected(&self) -> io::Result<()> {
        self.readiness.write.is_ready.store(false, Ordering::SeqCst);
        self.watch_writing()?;
        poll_fn(|cx| if self.readiness.write.take(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        self.readiness.write.is_ready.store(true, Ordering::SeqCst);
        self.reactor.poller.modify_with_mode(&self.socket, Event::readable(self.key), PollMode::Edge)
    }
}

impl<S: AsSource> Drop for Watched<S> {
    fn drop(&mut self) {
        lock(&self.reactor.sources).remove(&self.key);
        if let Err(error) = self.reactor.poller.delete(&self.socket) {
            tracing::debug!(%error, "a socket was not watched any more");
        }
    }
}

/// Readiness reported since the last attempt.
#[derive(Default)]
struct Readiness {
    read: Side,
    write: Side,
}

impl Readiness {
    fn set(&self, event: Event) {
        if event.readable {
            self.read.set();
        }
        if event.writable {
            self.write.set();
        }
    }
}

/// Readiness of one direction.
#[derive(Default)]
struct Side {
    /// Cleared before each try, so that an edge that comes during the try is not lost.
    is_ready: AtomicBool,
    waker: AtomicWaker,
}

impl Side {
    fn set(&self) {
        if !self.is_ready.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// Whether a try is worthwhile. If it is not, `cx` is woken when it becomes so.
    fn take(&self, cx: &Context<'_>) -> bool {
        if self.is_ready.swap(false, Ordering::SeqCst) {
            return true;
        }
        self.waker.register(cx.waker());
        self.is_ready.swap(false, Ordering::SeqCst)
    }

    fn poll<S, T>(&self, cx: &Context<'_>, socket: &S, mut io: impl FnMut(&S) -> io::Result<T>) -> Poll<io::Result<T>> {
        while self.take(cx) {
            match io(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.is_ready.store(true, Ordering::SeqCst),
                result => {
                    // There may be more.
                    self.is_ready.store(true, Ordering::SeqCst);
                    return Poll::Ready(result);
                }
            }
        }
        Poll::Pending
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
