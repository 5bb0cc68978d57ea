//! What is libp2p's swarm made of, and when is it polled?

mod behaviour;
mod fair;
mod identity;
mod metrics;
mod transport;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::Stream as _;
use libp2p_swarm::SwarmEvent;

pub(super) use self::behaviour::{Behaviour, BehaviourEvent};
pub(super) use self::identity::keypair;
pub(super) use self::metrics::Recorder;
pub(super) use self::transport::build as build_transport;
use crate::wake::{Flag, Wake};

/// A swarm that is polled only after a wake-up: a poll costs more than a small frame.
pub(super) struct Swarm {
    pub(super) inner: libp2p_swarm::Swarm<Behaviour>,
    due: Arc<Flag>,
    waker: Waker,
}

impl Swarm {
    pub(super) fn new(inner: libp2p_swarm::Swarm<Behaviour>, wake: Arc<Wake>) -> Self {
        let due = Flag::new(wake);
        Self { inner, waker: Waker::from(due.clone()), due }
    }

    pub(super) fn behaviour_mut(&mut self) -> &mut Behaviour {
        self.inner.behaviour_mut()
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_set()
    }

    /// Marks the swarm as due, after a change that only a poll carries out.
    pub(super) fn set_due(&self) {
        self.due.set();
    }

    pub(super) fn poll(&mut self) -> Poll<SwarmEvent<BehaviourEvent>> {
        if !self.due.take() {
            return Poll::Pending;
        }
        let cx = &mut Context::from_waker(&self.waker);
        match Pin::new(&mut self.inner).poll_next(cx) {
            Poll::Ready(Some(event)) => {
                self.due.set();
                Poll::Ready(event)
            }
            // A swarm never ends.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
