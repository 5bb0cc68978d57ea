//! Which nodes are near, on a network that is not the operating system's?

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::id::PeerId;
use crate::network::Network;
use crate::wake::{Flag, Wake};

/// The hints of a pluggable network. Polled only after a wake-up.
pub(super) struct Neighbours {
    hints: BoxStream<'static, (PeerId, SocketAddr)>,
    due: Arc<Flag>,
    waker: Waker,
}

impl Neighbours {
    /// There are no hints on a network of the operating system, where mDNS is used.
    pub(super) fn new(network: &Network, is_enabled: bool, wake: Arc<Wake>) -> Self {
        let hints = match network {
            Network::Custom(transport) if is_enabled => transport.neighbours(),
            _ => stream::pending().boxed(),
        };
        let due = Flag::new(wake);
        Self { hints, waker: Waker::from(due.clone()), due }
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_set()
    }

    pub(super) fn poll_next(&mut self) -> Option<(PeerId, SocketAddr)> {
        if !self.due.take() {
            return None;
        }
        match self.hints.poll_next_unpin(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Some(hint)) => {
                self.due.set();
                Some(hint)
            }
            Poll::Ready(None) | Poll::Pending => None,
        }
    }
}
