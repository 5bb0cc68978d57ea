//! Production: one thread a node, on smol's executor, with tokio as the reactor of its sockets.

use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_executor::Executor;
use futures::future::BoxFuture;
use futures_timer::Delay;

use super::Platform;
use crate::transport::Network;

/// The executor, the clock and the sockets of a node's thread.
struct Smol {
    /// Weak, because the executor owns the tasks that own this.
    executor: Weak<Executor<'static>>,
    epoch: Instant,
}

impl Platform for Smol {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(task).detach();
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        Box::pin(Delay::new(moment.saturating_sub(self.now())))
    }

    fn network(&self) -> Network {
        Network::Tcp
    }
}

/// Starts the thread of a node, which ends with the task that `node` makes. `until_end` is dropped at its very end.
///
/// libp2p's TCP and mDNS know only tokio's reactor, so a tokio runtime waits for readiness on this thread. It runs the
/// executor and, of mDNS, a task an interface: nothing hops between threads.
pub(crate) fn start_thread<T, F>(
    node: impl FnOnce(Arc<dyn Platform>) -> F + Send + 'static,
    until_end: T,
) -> io::Result<JoinHandle<()>>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let reactor = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    std::thread::Builder::new().name("avi-p2p".to_owned()).spawn(move || {
        let _until_end = until_end;
        let executor = Arc::new(Executor::new());
        let platform = Arc::new(Smol { executor: Arc::downgrade(&executor), epoch: Instant::now() });
        reactor.block_on(async move {
            let node = executor.spawn(node(platform));
            executor.run(node).await;
        });
        drop(reactor);
    })
}
