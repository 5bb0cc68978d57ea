//! How does the engine reach the multiplexers? Abort handles by connection, and credits by peer. They outlive libp2p's
//! own handles.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use libp2p_core::ConnectedPoint;
use libp2p_identity::PeerId;

use super::credit::{Credit, Used};
use super::metered::Metered;
use crate::wake::Wake;

/// The multiplexers of all connections. libp2p tells a multiplexer its peer and its endpoint, but not its connection: a
/// new connection claims the oldest that fits.
pub(in crate::net) struct Closing {
    muxers: Mutex<Muxers>,
    used: Arc<Used>,
}

#[derive(Default)]
struct Muxers {
    by_key: BTreeMap<u64, Muxer>,
    /// The credits, and how many multiplexers share each: connections to one peer share their path.
    credits: BTreeMap<PeerId, (Arc<Credit>, usize)>,
    last_key: u64,
}

struct Muxer {
    peer: PeerId,
    endpoint: ConnectedPoint,
    is_claimed: bool,
    abort: Arc<Abort>,
}

#[derive(Default)]
struct Abort {
    is_ordered: AtomicBool,
    waker: AtomicWaker,
}

impl Abort {
    fn order(&self) {
        self.is_ordered.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl Closing {
    /// `wake` is notified when a credit is used up.
    pub(in crate::net) fn new(wake: Arc<Wake>) -> Arc<Self> {
        Arc::new(Self { muxers: Mutex::default(), used: Used::new(wake) })
    }

    /// Registers a new multiplexer and returns its handle.
    pub(in crate::net) fn register(self: &Arc<Self>, peer: PeerId, endpoint: ConnectedPoint) -> Handle {
        let mut muxers = self.lock();
        muxers.last_key += 1;
        let (key, abort) = (muxers.last_key, Arc::<Abort>::default());
        muxers.by_key.insert(key, Muxer { peer, endpoint, is_claimed: false, abort: abort.clone() });
        let shared = muxers.credits.entry(peer).or_insert_with(|| (Credit::new(peer, self.used.clone()), 0));
        shared.1 += 1;
        Handle { key, abort, credit: shared.0.clone(), closing: self.clone() }
    }

    /// The credits that are used up.
    pub(super) fn used(&self) -> &Used {
        &self.used
    }

    /// The credit of a peer with a connection.
    pub(in crate::net) fn credit(&self, peer: &PeerId) -> Option<Arc<Credit>> {
        self.lock().credits.get(peer).map(|(credit, _)| credit.clone())
    }

    /// Sets what all connections to this peer may carry beside audio.
    pub(super) fn grant(&self, peer: &PeerId, bytes: Option<u32>) {
        self.credit(peer).inspect(|credit| credit.grant(bytes));
    }

    /// The multiplexer of a new connection.
    pub(super) fn claim(&self, peer: &PeerId, endpoint: &ConnectedPoint) -> Option<u64> {
        let mut muxers = self.lock();
        let fits = |muxer: &Muxer| !muxer.is_claimed && muxer.peer == *peer && muxer.endpoint == *endpoint;
        let (key, muxer) = muxers.by_key.iter_mut().find(|(_, muxer)| fits(muxer))?;
        muxer.is_claimed = true;
        Some(*key)
    }

    /// Aborts the closing of a connection: it no longer waits for the peer.
    pub(super) fn abort(&self, key: u64) {
        self.lock().by_key.get(&key).inspect(|muxer| muxer.abort.order());
    }

    /// Aborts the closing of every connection to this peer that was refused.
    pub(super) fn abort_unclaimed(&self, peer: &PeerId) {
        let muxers = self.lock();
        let unclaimed = muxers.by_key.values().filter(|muxer| !muxer.is_claimed && muxer.peer == *peer);
        unclaimed.for_each(|muxer| muxer.abort.order());
    }

    fn lock(&self) -> MutexGuard<'_, Muxers> {
        self.muxers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle that a multiplexer holds. It is deregistered when dropped.
pub(in crate::net) struct Handle {
    key: u64,
    abort: Arc<Abort>,
    credit: Arc<Credit>,
    closing: Arc<Closing>,
}

impl Handle {
    pub(super) fn meter<S>(&self, substream: S) -> Metered<S> {
        Metered::new(substream, self.credit.clone())
    }

    pub(super) fn poll_aborted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.abort.waker.register(cx.waker());
        if self.abort.is_ordered.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut muxers = self.closing.lock();
        let Some(Muxer { peer, .. }) = muxers.by_key.remove(&self.key) else { return };
        if let Some((_, shared)) = muxers.credits.get_mut(&peer) {
            *shared -= 1;
            if *shared == 0 {
                muxers.credits.remove(&peer);
            }
        }
    }
}
