//! What is libp2p's swarm made of, and when is it polled?

mod behaviour;
mod boxed;
mod fair;
mod identity;
mod metrics;
mod transport;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::Stream as _;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::Boxed as Transport;
use libp2p_identity::PeerId;
use libp2p_swarm::{Config, SwarmEvent};

pub(super) use self::behaviour::{Behaviour, BehaviourEvent};
use self::boxed::Boxed;
pub(super) use self::identity::keypair;
pub(super) use self::metrics::Recorder;
pub(super) use self::transport::build as build_transport;
use crate::wake::{Flag, Wake};

/// libp2p's swarm of this node's protocols.
type Inner = libp2p_swarm::Swarm<Boxed<Behaviour>>;

/// A swarm that is polled only after a wake-up: a poll costs more than a small frame.
pub(super) struct Swarm {
    pub(super) inner: Inner,
    due: Arc<Flag>,
    waker: Waker,
}

impl Swarm {
    pub(super) fn new(
        transport: Transport<(PeerId, StreamMuxerBox)>,
        behaviour: Behaviour,
        local: PeerId,
        config: Config,
        wake: Arc<Wake>,
    ) -> Self {
        let inner = Inner::new(transport, Boxed(behaviour), local, config);
        let due = Flag::new(wake);
        Self { inner, waker: Waker::from(due.clone()), due }
    }

    #[cfg(test)]
    pub(super) fn behaviour(&self) -> &Behaviour {
        &self.inner.behaviour().0
    }

    pub(super) fn behaviour_mut(&mut self) -> &mut Behaviour {
        &mut self.inner.behaviour_mut().0
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
