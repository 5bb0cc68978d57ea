//! How is a handler called, so that it delays nobody else's?

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::queue::Queue;
use crate::stats::Counters;

/// A handler with a queue and a task of its own. Dropping it ends both, once what waits has been handled.
pub(crate) struct Worker<T> {
    queue: Arc<Queue<T>>,
}

impl<T: Send + 'static> Worker<T> {
    /// `call` begins a call of the handler, which the next one waits for. `what` names the handler in logs.
    pub fn start(
        runtime: &Handle,
        counters: Arc<Counters>,
        what: String,
        call: impl Fn(T) -> JoinHandle<()> + Send + 'static,
    ) -> Self {
        let queue = Arc::new(Queue::new());
        let items = queue.clone();
        runtime.spawn(async move {
            while let Some(item) = items.pop().await {
                if let Err(error) = call(item).await
                    && error.is_panic()
                {
                    counters.handler_panics.add(1);
                    tracing::error!("the handler of {what} has panicked; it is called again for what comes next");
                }
            }
        });
        Self { queue }
    }

    /// Gives the handler an item of so many bytes, and returns how many it was too slow for.
    pub fn push(&self, item: T, bytes: usize) -> u64 {
        self.queue.push(item, bytes)
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<T> fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}
