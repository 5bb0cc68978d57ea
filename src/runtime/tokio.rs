//! How does a node run as a task of the application's tokio runtime?

use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;

use super::Platform;
use crate::network::Network;

/// The tokio runtime of an application.
pub(crate) struct Tokio {
    runtime: Handle,
    epoch: Instant,
}

impl Tokio {
    /// The runtime that this is called in, if there is one.
    pub(crate) fn here() -> Option<Self> {
        Handle::try_current().ok().map(|runtime| Self { runtime, epoch: Instant::now() })
    }

    /// What runs a task on it.
    pub(crate) fn spawner(&self) -> impl FnOnce(BoxFuture<'static, ()>) + use<> {
        let runtime = self.runtime.clone();
        move |task| drop(runtime.spawn(task))
    }
}

impl Platform for Tokio {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        // The reader of a stream may be anywhere.
        let _entered = self.runtime.enter();
        Box::pin(tokio::time::sleep_until((self.epoch + moment).into()))
    }

    fn network(&self) -> Network {
        Network::Tcp
    }

    fn enter(&self, work: &mut dyn FnMut()) {
        let _entered = self.runtime.enter();
        // tokio gives each task a budget. If that of the caller's task is used up, sockets return `Pending` and ask to be
        // polled again at once. So the work runs without a budget.
        let work = tokio::task::unconstrained(async { work() });
        work.now_or_never().unwrap_or_default();
    }
}
