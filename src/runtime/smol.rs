//! How does production run? On a thread of the node's own, which smol's `polling` wakes when a socket is ready or a timer
//! is due.

mod reactor;
mod tcp;
mod udp;

use std::io;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use self::reactor::Reactor;
use self::tcp::Tcp;
use super::Platform;
use crate::network::Network;

/// A thread with a reactor.
pub(crate) struct Smol {
    reactor: Arc<Reactor>,
    epoch: Instant,
}

impl Smol {
    /// # Errors
    /// The system's error if it refuses a poller, or if it has no edge-triggered polling.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { reactor: Arc::new(Reactor::new()?), epoch: Instant::now() })
    }

    /// What starts the thread that drives a task. The thread ends with the task.
    pub(crate) fn spawner(&self) -> impl FnOnce(BoxFuture<'static, ()>) -> io::Result<()> + use<> {
        let reactor = self.reactor.clone();
        let thread = thread::Builder::new().name("avi-p2p".to_owned());
        move |task| thread.spawn(move || block_on(&reactor, task)).map(drop)
    }
}

impl Platform for Smol {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.reactor.clone().sleep_until(self.epoch + moment))
    }

    fn enter(&self, work: &mut dyn FnMut()) {
        self.reactor.assert_works();
        work();
    }

    fn network(&self) -> Network {
        Network::System(Arc::new(Tcp::new(self.reactor.clone())))
    }
}

/// Drives a task, and the reactor in between.
fn block_on(reactor: &Arc<Reactor>, mut task: BoxFuture<'static, ()>) {
    let waker = Waker::from(Arc::new(Unpark { reactor: reactor.clone(), thread: thread::current().id() }));
    reactor.belongs_here();
    while task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        reactor.wait();
    }
}

/// Wakes the thread of a node.
struct Unpark {
    reactor: Arc<Reactor>,
    thread: ThreadId,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match thread::current().id() == self.thread {
            // It is awake, and polls the task before it waits again.
            true => self.reactor.do_not_wait(),
            false => self.reactor.notify(),
        }
    }
}
