//! Who reads the events? The application, at its own pace: neither it nor the node ever waits for the other.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc::error::TryRecvError;

use crate::config::Limits;
use crate::event::AviEvent;
use avi_p2p_proto::engine::{Lag, Mailbox};

/// The mailbox, shared by the node and the receiver. Neither ever waits for the other.
pub(crate) struct EventQueue {
    state: Mutex<EventState>,
}

struct EventState {
    mailbox: Mailbox,
    receiver: Option<Waker>,
    /// The final event. It is kept outside the mailbox, so that a full mailbox cannot drop it.
    last: Option<AviEvent>,
    /// The node has ended.
    is_closed: bool,
    /// The receiver wants no more events.
    is_refusing: bool,
}

impl EventState {
    fn pop(&mut self) -> Option<AviEvent> {
        self.mailbox.pop().or_else(|| self.last.take())
    }

    /// Whether nothing comes after what is queued.
    fn has_ended(&self) -> bool {
        self.is_closed || self.is_refusing
    }
}

impl EventQueue {
    pub(crate) fn new(limits: &Limits) -> Self {
        let mailbox = Mailbox::new(limits);
        Self {
            state: Mutex::new(EventState { mailbox, receiver: None, last: None, is_closed: false, is_refusing: false }),
        }
    }

    /// The next event; `None` once the node has stopped, or the receiver refuses events, and every event is read.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<AviEvent>> {
        let mut state = self.lock();
        match state.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.has_ended() => Poll::Ready(None),
            None => {
                state.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next event, if there is one now.
    pub(crate) fn pop(&self) -> Result<AviEvent, TryRecvError> {
        let mut state = self.lock();
        let why_not = if state.has_ended() { TryRecvError::Disconnected } else { TryRecvError::Empty };
        state.pop().ok_or(why_not)
    }

    pub(crate) fn dropped(&self) -> Lag {
        self.lock().mailbox.dropped()
    }

    /// Takes no more events. Those in it stay readable.
    pub(crate) fn refuse(&self) {
        self.lock().is_refusing = true;
    }

    /// Nobody will read any more.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.is_refusing = true;
        state.receiver = None;
        while state.pop().is_some() {}
    }

    pub(super) fn push(&self, event: AviEvent) {
        let mut state = self.lock();
        if !state.is_refusing {
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

    /// No more events come after `last`.
    pub(super) fn close(&self, last: Option<AviEvent>) {
        let mut state = self.lock();
        state.is_closed = true;
        state.last = last.filter(|_| !state.is_refusing);
        let receiver = state.receiver.take();
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, EventState> {
        // Nothing under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
