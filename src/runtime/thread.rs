//! Production: one thread a node, with tokio as the reactor of its sockets.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::{Builder, Handle};
use tokio::time::Instant;

use super::Platform;
use crate::transport::Network;

/// The reactor and the clock of a node's thread.
struct Thread {
    reactor: Handle,
    epoch: Instant,
}

impl Platform for Thread {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.epoch + moment))
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
}

/// Starts the thread of a node, which ends with the task that `node` makes. `until_end` is dropped at its very end.
///
/// libp2p's TCP and mDNS know only tokio's reactor, so a tokio runtime waits for readiness and deadlines on this thread.
/// It runs the node's task and, of mDNS, a task an interface. Callers do the node's work on their own threads.
pub(crate) fn start_thread<T, F>(
    node: impl FnOnce(Arc<dyn Platform>) -> F + Send + 'static,
    until_end: T,
) -> io::Result<JoinHandle<()>>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let reactor = Builder::new_current_thread().enable_io().enable_time().build()?;
    std::thread::Builder::new().name("avi-p2p".to_owned()).spawn(move || {
        let _until_end = until_end;
        let platform = Arc::new(Thread { reactor: reactor.handle().clone(), epoch: Instant::now() });
        reactor.block_on(node(platform));
    })
}
