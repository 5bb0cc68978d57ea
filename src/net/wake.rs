//! Who must be polled? Wakers that remember what they stand for, so that a poll touches only what is ready.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use futures::task::{ArcWake, AtomicWaker, waker};

/// Something that was woken, or not.
pub(super) struct Flag {
    set: AtomicBool,
    parent: Arc<AtomicWaker>,
}

impl Flag {
    /// Starts set, so that the first poll happens.
    pub(super) fn new(parent: Arc<AtomicWaker>) -> Arc<Self> {
        Arc::new(Self { set: AtomicBool::new(true), parent })
    }

    /// Says that a poll is due.
    pub(super) fn set(&self) {
        self.set.store(true, Ordering::Release);
    }

    /// Whether a poll is due; from now on it is not.
    pub(super) fn take(&self) -> bool {
        self.set.swap(false, Ordering::AcqRel)
    }
}

impl ArcWake for Flag {
    fn wake_by_ref(this: &Arc<Self>) {
        if !this.set.swap(true, Ordering::AcqRel) {
            this.parent.wake();
        }
    }
}

/// The keys that were woken, in order, each at most once.
pub(super) struct ReadyQueue<K> {
    keys: Mutex<VecDeque<K>>,
    parent: Arc<AtomicWaker>,
}

impl<K: Copy + Send + Sync + 'static> ReadyQueue<K> {
    pub(super) fn new(parent: Arc<AtomicWaker>) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::new(VecDeque::new()), parent })
    }

    /// The next key; the holder of its [`Entry`] calls [`Entry::taken`] before it polls.
    pub(super) fn pop(&self) -> Option<K> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// A waker for a key.
    pub(super) fn entry(self: &Arc<Self>, key: K) -> (Arc<Entry<K>>, Waker) {
        let entry = Arc::new(Entry { key, queued: AtomicBool::new(false), queue: self.clone() });
        (entry.clone(), waker(entry))
    }
}

/// A key that can be woken.
pub(super) struct Entry<K> {
    key: K,
    queued: AtomicBool,
    queue: Arc<ReadyQueue<K>>,
}

impl<K: Copy + Send + Sync + 'static> Entry<K> {
    /// Puts the key at the back of the queue, unless it is in it.
    pub(super) fn queue(&self) -> bool {
        let new = !self.queued.swap(true, Ordering::AcqRel);
        if new {
            self.queue.keys.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.key);
        }
        new
    }

    /// The key has left the queue.
    pub(super) fn taken(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl<K: Copy + Send + Sync + 'static> ArcWake for Entry<K> {
    fn wake_by_ref(this: &Arc<Self>) {
        if this.queue() {
            this.queue.parent.wake();
        }
    }
}
