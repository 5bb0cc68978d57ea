//! Which substreams were woken? Their ids in order, each at most once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Waker};

use crate::wake::Wake;
use avi_p2p_proto::engine::SubstreamId;

/// The substreams that must be polled.
pub(super) struct ReadyQueue {
    ids: Mutex<VecDeque<SubstreamId>>,
    wake: Arc<Wake>,
}

impl ReadyQueue {
    pub(super) fn new(wake: Arc<Wake>) -> Arc<Self> {
        Arc::new(Self { ids: Mutex::default(), wake })
    }

    /// Takes the next id. Call [`Entry::taken`] before polling the substream.
    pub(super) fn pop(&self) -> Option<SubstreamId> {
        self.ids().pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids().is_empty()
    }

    /// An entry and a waker for a substream.
    pub(super) fn entry(self: &Arc<Self>, id: SubstreamId) -> (Arc<Entry>, Waker) {
        let entry = Arc::new(Entry { id, is_queued: AtomicBool::new(false), queue: self.clone() });
        (entry.clone(), Waker::from(entry))
    }

    fn ids(&self) -> MutexGuard<'_, VecDeque<SubstreamId>> {
        // Ignores poisoning: nothing under the lock can panic in the middle of a change.
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queue state of a substream.
pub(super) struct Entry {
    id: SubstreamId,
    is_queued: AtomicBool,
    queue: Arc<ReadyQueue>,
}

impl Entry {
    /// Puts the substream at the back of the queue, unless it is queued. Returns whether it was not queued.
    pub(super) fn queue(&self) -> bool {
        let is_new = !self.is_queued.swap(true, Ordering::AcqRel);
        if is_new {
            self.queue.ids().push_back(self.id);
        }
        is_new
    }

    /// Records that the substream has left the queue.
    pub(super) fn taken(&self) {
        self.is_queued.swap(false, Ordering::AcqRel);
    }
}

impl task::Wake for Entry {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queue() {
            self.queue.wake.set_due();
            self.queue.wake.wake();
        }
    }
}
