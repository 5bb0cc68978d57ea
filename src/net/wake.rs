//! Who must be polled? Wakers that remember what they stand for, so that a poll touches only what is ready, and whose
//! task sleeps on while somebody is at work anyway.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use futures::task::{ArcWake, AtomicWaker, waker};

/// The task that drives the node, as those see it who have something for it to do.
#[derive(Default)]
pub(crate) struct Task {
    waker: AtomicWaker,
    /// It has been woken since it was polled last.
    is_woken: AtomicBool,
    /// The thread on which somebody is at work, who looks at everything that may be due before it stops; or 0.
    busy: AtomicUsize,
}

impl Task {
    /// To be called when it is polled, before it looks for what is due.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
        self.is_woken.store(false, Ordering::SeqCst);
    }

    /// To be called after a note of what is due was left where whoever is at work will look for it.
    pub(crate) fn wake(&self) {
        if self.busy.load(Ordering::SeqCst) == 0 {
            self.wake_now();
        }
    }

    /// The same for what another thread than the one at work could do.
    pub(crate) fn wake_beside(&self) {
        if self.busy.load(Ordering::SeqCst) != this_thread() {
            self.wake_now();
        }
    }

    fn wake_now(&self) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// From now on nobody needs to be woken.
    pub(crate) fn begin(&self) {
        self.busy.store(this_thread(), Ordering::SeqCst);
    }

    /// What becomes due from now on wakes the task. What has become due before is to be looked for afterwards.
    pub(crate) fn end(&self) {
        self.busy.store(0, Ordering::SeqCst);
    }
}

/// A number that no other thread has, and that is not 0.
fn this_thread() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// Something that was woken, or not.
pub(super) struct Flag {
    set: AtomicBool,
    parent: Arc<Task>,
}

impl Flag {
    /// Starts set, so that the first poll happens.
    pub(super) fn new(parent: Arc<Task>) -> Arc<Self> {
        Arc::new(Self { set: AtomicBool::new(true), parent })
    }

    /// Says that a poll is due.
    pub(super) fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Whether a poll is due; from now on it is not.
    pub(super) fn take(&self) -> bool {
        self.set.swap(false, Ordering::SeqCst)
    }
}

impl ArcWake for Flag {
    fn wake_by_ref(this: &Arc<Self>) {
        if !this.set.swap(true, Ordering::SeqCst) {
            this.parent.wake();
        }
    }
}

/// The keys that were woken, in order, each at most once.
pub(super) struct ReadyQueue<K> {
    keys: Mutex<VecDeque<K>>,
    parent: Arc<Task>,
    wake: fn(&Task),
}

impl<K: Copy + Send + Sync + 'static> ReadyQueue<K> {
    pub(super) fn new(parent: Arc<Task>, wake: fn(&Task)) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::new(VecDeque::new()), parent, wake })
    }

    /// The next key; the holder of its [`Entry`] calls [`Entry::taken`] before it polls.
    pub(super) fn pop(&self) -> Option<K> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
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
        self.queued.swap(false, Ordering::AcqRel);
    }
}

impl<K: Copy + Send + Sync + 'static> ArcWake for Entry<K> {
    fn wake_by_ref(this: &Arc<Self>) {
        if this.queue() {
            (this.queue.wake)(&this.queue.parent);
        }
    }
}
