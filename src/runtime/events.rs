//! Who reads the events? The application, at its own pace: neither it nor the node ever waits for the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::config::Limits;
use crate::engine::{Lag, Mailbox};
use crate::event::AviEvent;

/// The mailbox as the driver, on whichever thread, and the receiver share it. Neither ever waits for the other.
pub(crate) struct EventQueue {
    state: Mutex<EventState>,
}

struct EventState {
    mailbox: Mailbox,
    receiver: Option<Waker>,
    is_closed: bool,
    is_abandoned: bool,
}

impl EventQueue {
    pub(crate) fn new(limits: &Limits) -> Self {
        let mailbox = Mailbox::new(limits);
        Self { state: Mutex::new(EventState { mailbox, receiver: None, is_closed: false, is_abandoned: false }) }
    }

    /// The next event; `None` once the node has stopped and every event is read.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<AviEvent>> {
        let mut state = self.lock();
        match state.mailbox.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.is_closed => Poll::Ready(None),
            None => {
                state.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn pop(&self) -> Option<AviEvent> {
        self.lock().mailbox.pop()
    }

    pub(crate) fn dropped(&self) -> Lag {
        self.lock().mailbox.dropped()
    }

    /// Nobody will read any more.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.is_abandoned = true;
        while state.mailbox.pop().is_some() {}
    }

    pub(super) fn push(&self, event: AviEvent) {
        let mut state = self.lock();
        if !state.is_abandoned {
            state.mailbox.push(event);
        }
    }

    /// Wakes a reader that waits, if there is something to read.
    pub(super) fn wake(&self) {
        let mut state = self.lock();
        let receiver = if state.mailbox.is_empty() { None } else { state.receiver.take() };
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let receiver = state.receiver.take();
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, EventState> {
        // Nothing under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue, also when the drive loop is dropped in the middle.
pub(super) struct CloseOnDrop(pub(super) Arc<EventQueue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}
