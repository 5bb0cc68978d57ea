//! Production: a thread of the node's own, or a task of the application's tokio runtime.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::{Handle, Runtime};

use super::Platform;
use crate::net::reactor;
use crate::transport::Network;

/// A tokio runtime: libp2p's TCP and mDNS know no other reactor.
pub(crate) struct Tokio {
    reactor: Handle,
    epoch: Instant,
    /// It is the application's.
    outlives_node: bool,
}

impl Tokio {
    /// The runtime that this is called in, if there is one.
    pub(crate) fn here() -> Option<Self> {
        Handle::try_current().ok().map(|reactor| Self { reactor, epoch: Instant::now(), outlives_node: true })
    }

    /// What runs a task on it.
    pub(crate) fn spawner(&self) -> impl FnOnce(BoxFuture<'static, ()>) + use<> {
        let reactor = self.reactor.clone();
        move |task| drop(reactor.spawn(task))
    }
}

impl Platform for Tokio {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until((self.epoch + moment).into()))
    }

    fn network(&self) -> Network {
        Network::Tcp
    }

    fn enter(&self, work: &mut dyn FnMut()) {
        let _reactor = self.reactor.enter();
        // Sockets must not find the budget used up that tokio gives the caller's task: it would not be told when they
        // are ready.
        let work = tokio::task::unconstrained(async { work() });
        work.now_or_never().unwrap_or_default();
    }

    fn outlives_node(&self) -> bool {
        self.outlives_node
    }
}

/// Starts the thread of a node, which ends with the task that `node` makes. `until_end` is dropped at its very end.
///
/// It runs the node's task and, of mDNS, a task an interface. Callers do the node's work on their own threads.
pub(crate) fn start_thread<T, F>(
    node: impl FnOnce(Arc<dyn Platform>) -> F + Send + 'static,
    until_end: T,
) -> io::Result<JoinHandle<()>>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let run = move |runtime: Runtime| {
        let platform = Tokio { reactor: runtime.handle().clone(), epoch: Instant::now(), outlives_node: false };
        runtime.block_on(node(Arc::new(platform)));
        drop(runtime);
        drop(until_end);
    };
    reactor::start("avi-p2p", run).map(|(_, thread)| thread)
}
