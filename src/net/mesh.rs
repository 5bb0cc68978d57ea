//! Who is in GossipSub's meshes, and who breaks its rules? Looks once a second, with its heartbeat.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::task::waker;
use futures_timer::Delay;
use libp2p_identity::PeerId;

use crate::net::wake::{Flag, Task};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was seen last.
pub(super) struct Mesh {
    peers: BTreeSet<PeerId>,
    /// Connected peers that the engine has been told of.
    misbehaved: BTreeSet<PeerId>,
    /// Connected peers that have forwarded a message beyond the bounds.
    warned: BTreeSet<PeerId>,
    next: Delay,
    due: Arc<Flag>,
    waker: Waker,
}

impl Mesh {
    pub(super) fn new(task: Arc<Task>) -> Self {
        let due = Flag::new(task);
        Self {
            peers: BTreeSet::new(),
            misbehaved: BTreeSet::new(),
            warned: BTreeSet::new(),
            next: Delay::new(LOOK_EVERY),
            waker: waker(due.clone()),
            due,
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_set()
    }

    /// Whether it is time to look.
    pub(super) fn poll_due(&mut self) -> bool {
        if !self.due.take() || self.next.poll_unpin(&mut Context::from_waker(&self.waker)).is_pending() {
            return false;
        }
        self.next.reset(LOOK_EVERY);
        // Only its poll sets the waker.
        self.due.set();
        true
    }

    /// Whether it is news that a peer breaks the rules: what it sends until its connections have ended is not.
    pub(super) fn is_news(&mut self, peer: PeerId) -> bool {
        self.misbehaved.insert(peer)
    }

    /// A peer has forwarded a message beyond the bounds. Returns whether it was not the first one.
    pub(super) fn is_too_often(&mut self, peer: PeerId) -> bool {
        !self.warned.insert(peer)
    }

    /// The peer has no connection any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.misbehaved.remove(peer);
        self.warned.remove(peer);
    }

    /// Returns the peers if they have changed.
    pub(super) fn look(&mut self, peers: BTreeSet<PeerId>) -> Option<&BTreeSet<PeerId>> {
        if self.peers == peers {
            return None;
        }
        self.peers = peers;
        Some(&self.peers)
    }
}
