//! How much may be sent to a peer beside a call? Counts what the engine has granted, and tells it when that is used up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use libp2p_identity::PeerId;

use crate::wake::{Flag, Wake};

/// The most bytes of one write under a grant. A frame of audio waits in the multiplexer for at most one of them.
const MAX_WRITE: usize = 2048;
/// The least part of a grant for each substream that waits. A smaller write costs more headers than it carries.
const MIN_SHARE: u32 = 256;

/// The credit of a peer. All substreams to the peer share it, except those of audio.
pub(in crate::net) struct Credit {
    peer: PeerId,
    used: Arc<Used>,
    /// Spares writers the lock when there is no limit. What counts is `state`.
    is_limited: AtomicBool,
    /// The substreams with a write that waits, for credit or for the path.
    blocked: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The bytes left of the grant; `None` if there is no limit.
    left: Option<u32>,
    /// The number of grants so far.
    grant: u64,
    /// The most that one substream may take of the grant. So no substream waits for as long as another has data.
    share: u32,
    /// Whether the engine knows that the grant is used up.
    is_told: bool,
    waiting: BTreeMap<u64, Waker>,
    last_key: u64,
}

/// A substream that takes credit, and what it has taken of which grant.
pub(super) struct Account {
    key: u64,
    grant: u64,
    taken: u32,
    is_blocked: bool,
}

impl Credit {
    /// An unlimited credit.
    pub(super) fn new(peer: PeerId, used: Arc<Used>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            used,
            is_limited: AtomicBool::new(false),
            blocked: AtomicUsize::new(0),
            state: Mutex::default(),
        })
    }

    /// Whether a write to the peer waits, on a substream that takes credit.
    pub(in crate::net) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) > 0
    }

    pub(super) fn set_blocked(&self, account: &mut Account, is_blocked: bool) {
        match (std::mem::replace(&mut account.is_blocked, is_blocked), is_blocked) {
            (false, true) => drop(self.blocked.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.blocked.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    /// An account for a new substream.
    pub(super) fn account(&self) -> Account {
        let mut state = self.lock();
        state.last_key += 1;
        Account { key: state.last_key, grant: 0, taken: 0, is_blocked: false }
    }

    /// Replaces the grant and wakes the writers. `None` ends the limit.
    pub(super) fn grant(&self, bytes: Option<u32>) {
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting);
        state.grant += 1;
        state.left = bytes;
        state.share = (bytes.unwrap_or(0) / u32::try_from(waiting.len()).unwrap_or(u32::MAX).max(1)).max(MIN_SHARE);
        state.is_told = false;
        self.is_limited.store(bytes.is_some(), Ordering::Relaxed);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }

    /// Takes credit for a write: at most `wanted`, which is not zero, and never zero bytes. The waker is kept if there is
    /// none.
    pub(super) fn poll_take(&self, account: &mut Account, wanted: usize, cx: &Context<'_>) -> Poll<usize> {
        if !self.is_limited.load(Ordering::Relaxed) {
            return Poll::Ready(wanted);
        }
        let mut state = self.lock();
        let Some(left) = state.left else { return Poll::Ready(wanted) };
        if account.grant != state.grant {
            (account.grant, account.taken) = (state.grant, 0);
        }
        let limit = left.min(state.share.saturating_sub(account.taken));
        let taken = limit.min(wanted.min(MAX_WRITE) as u32);
        if taken > 0 {
            state.left = Some(left - taken);
            account.taken += taken;
            return Poll::Ready(taken as usize);
        }
        state.waiting.insert(account.key, cx.waker().clone());
        let was_told = std::mem::replace(&mut state.is_told, true);
        drop(state);
        if !was_told {
            self.used.tell(self.peer);
        }
        Poll::Pending
    }

    /// Gives back what a write has taken and not used.
    pub(super) fn give_back(&self, account: &mut Account, unused: usize) {
        let mut state = self.lock();
        let unused = u32::try_from(unused).unwrap_or(u32::MAX).min(account.taken);
        // A later grant does not count what an earlier one has left.
        if account.grant == state.grant
            && let Some(left) = &mut state.left
        {
            *left += unused;
            account.taken -= unused;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The peers whose credit is used up, until the engine is told: each at most once per grant.
pub(super) struct Used {
    peers: Mutex<Vec<PeerId>>,
    due: Arc<Flag>,
}

impl Used {
    pub(super) fn new(wake: Arc<Wake>) -> Arc<Self> {
        Arc::new(Self { peers: Mutex::default(), due: Flag::new(wake) })
    }

    fn tell(&self, peer: PeerId) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
        std::task::Wake::wake_by_ref(&self.due);
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_set()
    }

    pub(super) fn take(&self) -> Vec<PeerId> {
        if !self.due.take() {
            return Vec::new();
        }
        std::mem::take(&mut *self.peers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use futures::task::{ArcWake, waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(woken: &Arc<Self>) {
            woken.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn credit() -> (Arc<Credit>, Arc<Used>, PeerId) {
        let (used, peer) = (Used::new(Arc::default()), PeerId::random());
        assert_eq!(used.take(), [], "nothing is used up at the start");
        (Credit::new(peer, used.clone()), used, peer)
    }

    #[test]
    fn a_credit_without_a_limit_is_never_used_up() {
        let (credit, used, _) = credit();
        let account = &mut credit.account();
        let cx = &Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert_eq!(credit.poll_take(account, 1 << 20, cx), Poll::Ready(1 << 20));
        }
        assert!(!used.is_due());
    }

    #[test]
    fn a_grant_is_taken_in_small_writes_and_its_end_is_told_once() {
        let (credit, used, peer) = credit();
        let account = &mut credit.account();
        let cx = &Context::from_waker(Waker::noop());
        credit.grant(Some(5000));
        let taken: Vec<_> = (0..3).map(|_| credit.poll_take(account, 1 << 20, cx)).collect();
        assert_eq!(taken, [Poll::Ready(MAX_WRITE), Poll::Ready(MAX_WRITE), Poll::Ready(5000 - 2 * MAX_WRITE)]);
        assert!(!used.is_due(), "told before a writer waits");
        for _ in 0..2 {
            assert_eq!(credit.poll_take(account, 1, cx), Poll::Pending);
        }
        assert_eq!((used.take(), used.is_due()), (vec![peer], false));
        credit.grant(Some(10));
        assert_eq!(credit.poll_take(account, 11, cx), Poll::Ready(10), "a grant replaces the one before");
        assert_eq!(credit.poll_take(account, 1, cx), Poll::Pending);
        assert_eq!(used.take(), [peer]);
    }

    #[test]
    fn a_grant_and_the_end_of_the_limit_wake_whoever_waits() {
        let (credit, _, _) = credit();
        let woken = Arc::<Woken>::default();
        let waker = waker(woken.clone());
        let cx = &Context::from_waker(&waker);
        let accounts = &mut [credit.account(), credit.account()];
        credit.grant(Some(0));
        for grant in [Some(0), None] {
            for account in accounts.iter_mut() {
                for _ in 0..3 {
                    assert_eq!(credit.poll_take(account, 1, cx), Poll::Pending);
                }
            }
            assert_eq!(woken.0.swap(0, Ordering::SeqCst), 0);
            credit.grant(grant);
            assert_eq!(woken.0.swap(0, Ordering::SeqCst), 2, "each once");
        }
        assert_eq!(credit.poll_take(&mut accounts[0], 9000, cx), Poll::Ready(9000));
    }

    #[test]
    fn whoever_waits_gets_a_part_of_the_next_grant() {
        let (credit, _, _) = credit();
        let cx = &Context::from_waker(Waker::noop());
        let (large, small) = (&mut credit.account(), &mut credit.account());
        credit.grant(Some(0));
        assert_eq!(credit.poll_take(large, 1 << 20, cx), Poll::Pending);
        assert_eq!(credit.poll_take(small, 40, cx), Poll::Pending);
        credit.grant(Some(1000));
        assert_eq!(credit.poll_take(large, 1 << 20, cx), Poll::Ready(500));
        assert_eq!(credit.poll_take(large, 1 << 20, cx), Poll::Pending);
        assert_eq!(credit.poll_take(small, 40, cx), Poll::Ready(40));
        credit.grant(Some(1000));
        assert_eq!(credit.poll_take(large, 1 << 20, cx), Poll::Ready(1000), "it waited alone");
    }

    #[test]
    fn what_a_write_does_not_use_is_left_for_the_next() {
        let (credit, _, _) = credit();
        let account = &mut credit.account();
        let cx = &Context::from_waker(Waker::noop());
        credit.grant(Some(100));
        assert_eq!(credit.poll_take(account, 100, cx), Poll::Ready(100));
        credit.give_back(account, 30);
        assert_eq!(credit.poll_take(account, 100, cx), Poll::Ready(30));
        credit.grant(Some(100));
        credit.give_back(account, 30);
        assert_eq!(credit.poll_take(account, 200, cx), Poll::Ready(100), "of another grant");
    }
}
