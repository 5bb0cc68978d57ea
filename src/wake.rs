//! Who must be polled, and who may sleep on?
//!
//! A node has one task. A thread that has work for it first leaves a *note*: it sets a [`Flag`], puts a connection task
//! into the run queue, and the like. Then it calls [`Wake::wake`]. The protocol keeps four promises:
//!
//! 1. A note is left before `wake` is called. So the task finds it when it is woken.
//! 2. `is_attended` means that somebody will look at the notes: the task, which is awake or being woken, or a caller in
//!    its *turn*, from [`Wake::begin`] to [`Wake::end`]. While it is true, `wake` wakes nobody. Connection tasks, which a
//!    caller does not look for, ask for `is_awake` in its place ([`Wake::wake_beside`]).
//! 3. Whoever stops attending first clears `is_attended`, and then looks at the notes once more. This look finds a note
//!    that was left before the clearing. A note that is left after the clearing wakes the task.
//! 4. Every turn of a caller ends with such a look. If it finds a note, and nobody attends, the caller wakes the task.
//!
//! `is_due` sums up the notes that only the holder of the node's lock may take: all but the connection tasks. Whoever
//! leaves such a note sets it. Whoever has worked with the lock clears it, then looks at every such note, and sets it
//! again if one is there ([`Wake::sum_up`]); a look with [`Wake::rest`] or [`Wake::end`] follows. So these need no lock.
//! The tests in `model/` check the protocol in all interleavings with up to three preemptions, and check that they
//! notice when a look, a note, or their order is missing.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Waker};

/// How the task of a node is woken.
#[derive(Default)]
pub(crate) struct Wake {
    is_attended: AtomicBool,
    /// Whether the task itself is awake, or being woken.
    is_awake: AtomicBool,
    /// Whether a flag may be set.
    is_due: AtomicBool,
    /// The task's waker; `None` until its first poll, which looks at all notes anyway.
    task: Mutex<Option<Waker>>,
}

impl Wake {
    /// Wakes the task, unless somebody attends. Call after leaving a note.
    pub(crate) fn wake(&self) {
        if !self.set_attended(true) {
            self.wake_task();
        }
    }

    /// The same for a connection task, which a caller in its turn does not look for: wakes the task, unless the task itself
    /// is awake.
    pub(crate) fn wake_beside(&self) {
        if !self.is_awake.swap(true, Ordering::SeqCst) {
            self.wake_task();
        }
    }

    /// Starts a poll of the task.
    pub(crate) fn attend(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
        drop(task);
        self.is_awake.swap(true, Ordering::SeqCst);
        self.set_attended(true);
    }

    /// Whether the holder of the node's lock has something to do.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::SeqCst)
    }

    /// Says that the holder of the node's lock has something to do.
    pub(crate) fn set_due(&self) {
        self.is_due.swap(true, Ordering::SeqCst);
    }

    /// Sums the notes up anew. Call with the node's lock, after the work. `is_due` looks at all flags.
    pub(crate) fn sum_up(&self, is_due: impl FnOnce() -> bool) {
        // First cleared, then looked: a flag that is set meanwhile says so itself.
        self.is_due.swap(false, Ordering::SeqCst);
        if is_due() {
            self.set_due();
        }
    }

    /// Ends a poll of the task: returns whether it may sleep. `is_due` looks at the notes that are no flags.
    pub(crate) fn rest(&self, is_due: impl FnOnce() -> bool) -> bool {
        self.is_awake.swap(false, Ordering::SeqCst);
        self.set_attended(false);
        if self.is_due() || is_due() {
            self.is_awake.swap(true, Ordering::SeqCst);
            self.set_attended(true);
            return false;
        }
        true
    }

    /// Starts the turn of a caller.
    pub(crate) fn begin(&self) -> Turn {
        Turn { attends: !self.set_attended(true) }
    }

    /// Ends the turn of a caller: returns whether it has to call [`wake_task`](Self::wake_task). `is_due` looks at the
    /// notes that are no flags.
    pub(crate) fn end(&self, turn: Turn, is_due: impl FnOnce() -> bool) -> bool {
        if turn.attends {
            self.set_attended(false);
        }
        (self.is_due() || is_due()) && !self.set_attended(true)
    }

    /// Returns what it was. All fields are only ever swapped, never stored to: a swap reads what others have written, and
    /// so the look that follows sees the notes that they left before.
    fn set_attended(&self, is_attended: bool) -> bool {
        self.is_attended.swap(is_attended, Ordering::SeqCst)
    }

    /// Wakes the task, attended or not.
    pub(crate) fn wake_task(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The turn of a caller, from [`Wake::begin`] to [`Wake::end`].
#[must_use]
pub(crate) struct Turn {
    /// Whether nobody attended when it began.
    attends: bool,
}

/// A note that something has to be polled. As a waker it sets itself and wakes the node's task.
pub(crate) struct Flag {
    is_set: AtomicBool,
    wake: Arc<Wake>,
}

impl Flag {
    /// Starts set, so that the first poll happens.
    pub(crate) fn new(wake: Arc<Wake>) -> Arc<Self> {
        wake.set_due();
        Arc::new(Self { is_set: AtomicBool::new(true), wake })
    }

    /// Leaves the note without waking anybody: for whoever has the node's lock.
    pub(crate) fn set(&self) {
        self.is_set.swap(true, Ordering::SeqCst);
        self.wake.set_due();
    }

    /// Whether a poll is due.
    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// Takes the note away. Returns whether it was there.
    pub(crate) fn take(&self) -> bool {
        self.is_set.swap(false, Ordering::SeqCst)
    }
}

impl task::Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_set.swap(true, Ordering::SeqCst) {
            self.wake.set_due();
            self.wake.wake();
        }
    }
}
