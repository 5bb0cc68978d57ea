//! Which connections can be aborted? Abort handles of the multiplexers, by peer. They outlive libp2p's own handles.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use libp2p_identity::PeerId;

/// The multiplexers of all connections. libp2p tells a multiplexer its peer, but not its connection.
#[derive(Default)]
pub(in crate::net) struct Closing(Mutex<Muxers>);

#[derive(Default)]
struct Muxers {
    by_key: BTreeMap<u64, (PeerId, Arc<Abort>)>,
    last_key: u64,
}

#[derive(Default)]
struct Abort {
    is_ordered: AtomicBool,
    waker: AtomicWaker,
}

impl Closing {
    /// Registers a new multiplexer and returns its handle.
    pub(in crate::net) fn register(self: &Arc<Self>, peer: PeerId) -> Handle {
        let mut muxers = self.lock();
        muxers.last_key += 1;
        let (key, abort) = (muxers.last_key, Arc::<Abort>::default());
        muxers.by_key.insert(key, (peer, abort.clone()));
        Handle { key, abort, closing: self.clone() }
    }

    /// Aborts the closing of every connection to this peer: it no longer waits for the peer.
    pub(super) fn abort(&self, peer: &PeerId) {
        for (_, abort) in self.lock().by_key.values().filter(|(of, _)| of == peer) {
            abort.is_ordered.store(true, Ordering::SeqCst);
            abort.waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Muxers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle that a multiplexer holds. It is deregistered when dropped.
pub(in crate::net) struct Handle {
    key: u64,
    abort: Arc<Abort>,
    closing: Arc<Closing>,
}

impl Handle {
    pub(super) fn poll_aborted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.abort.waker.register(cx.waker());
        if self.abort.is_ordered.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.closing.lock().by_key.remove(&self.key);
    }
}
