//! Who must be polled, and who may sleep on?
//!
//! A node has one task. Whoever has work for it leaves a *note* (a [`Flag`] that is set, a connection task in the run
//! queue) and then calls [`Wake::wake`]. The protocol keeps four promises:
//!
//! 1. A note is left before `wake` is called. So whoever is woken finds it.
//! 2. `is_attended` means that somebody is awake who will look at all notes: the task, or a caller in its turn. While it
//!    is true, `wake` wakes nobody.
//! 3. Whoever stops attending first clears `is_attended` and then looks at all notes once more. So a note that was left
//!    before the clearing is found by this look, and a note that is left after it wakes the task.
//! 4. Every turn ends with that look, also the turn of a caller. If a caller finds a note, it wakes the task.
//!
//! The last look happens under the node's lock, for the task and for callers. `model/` checks the protocol in every
//! interleaving, and checks that each of the promises is needed.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Waker};

/// How the task of a node is woken.
#[derive(Default)]
pub(crate) struct Wake {
    is_attended: AtomicBool,
    /// The task's waker; `None` until its first poll, which looks at all notes anyway.
    task: Mutex<Option<Waker>>,
}

impl Wake {
    /// Wakes the task, unless somebody attends. Call after leaving a note.
    pub(crate) fn wake(&self) {
        if !self.is_attended.swap(true, Ordering::SeqCst) {
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
        self.is_attended.store(true, Ordering::SeqCst);
    }

    /// Ends a poll of the task: returns whether it may sleep. `is_due` looks at all notes.
    pub(crate) fn rest(&self, is_due: impl FnOnce() -> bool) -> bool {
        self.stop_attending();
        if is_due() {
            self.is_attended.store(true, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Starts the turn of a caller, who holds the node's lock.
    pub(crate) fn begin(&self) -> Turn {
        Turn { attends: !self.is_attended.swap(true, Ordering::SeqCst) }
    }

    /// Ends the turn of a caller, who still holds the node's lock: returns whether it has to call
    /// [`wake_task`](Self::wake_task) after it has released the lock. `is_due` looks at all notes.
    pub(crate) fn end(&self, turn: Turn, is_due: impl FnOnce() -> bool) -> bool {
        if !turn.attends {
            // The task is awake, and looks at all notes before it sleeps.
            return false;
        }
        self.stop_attending();
        is_due() && !self.is_attended.swap(true, Ordering::SeqCst)
    }

    /// A swap, not a store: it reads what the last call of [`wake`](Self::wake) has written, and so everything that was
    /// done before that call is seen by the look that follows.
    fn stop_attending(&self) {
        self.is_attended.swap(false, Ordering::SeqCst);
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
        Arc::new(Self { is_set: AtomicBool::new(true), wake })
    }

    /// Leaves the note without waking anybody: for whoever attends.
    pub(crate) fn set(&self) {
        self.is_set.store(true, Ordering::SeqCst);
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
            self.wake.wake();
        }
    }
}
