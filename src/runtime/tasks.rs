//! Who moves the bytes of connections? A task for each connection, in a queue of those that are ready.
//!
//! The node's task runs them, without the node's lock: libp2p's connection tasks and its swarm communicate only through
//! channels. A caller runs those that its own input woke, and no others.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};

use async_task::{Runnable, Task};
use futures::future::BoxFuture;

use crate::wake::Wake;

/// The tasks of all connections, of those that are being dialled too.
pub(crate) struct Tasks {
    queue: Mutex<Queue>,
    /// To cancel them, in an order that is the same in every run.
    all: Mutex<All>,
    wake: Arc<Wake>,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Runnable>,
    /// The thread of the caller whose turn it is.
    caller: Option<ThreadId>,
    /// What that caller's input has woken.
    woken: VecDeque<Runnable>,
    is_closed: bool,
}

/// The future of a connection. `async-task` aborts the process if a future panics while it is dropped, and streams of a
/// pluggable network are dropped with it: so such a panic ends here.
struct Contained(Option<BoxFuture<'static, ()>>);

impl Future for Contained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Ready(()), |future| future.as_mut().poll(cx))
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let future = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
            tracing::error!("a connection has panicked while it was dropped");
        }
    }
}

#[derive(Default)]
struct All {
    tasks: BTreeMap<u64, Task<()>>,
    last_key: u64,
    /// When this many tasks are stored, those that have finished are removed.
    sweep_at: usize,
}

impl Tasks {
    pub(crate) fn new(wake: Arc<Wake>) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), all: Mutex::default(), wake })
    }

    /// Starts a task. It is ready.
    pub(crate) fn spawn(self: &Arc<Self>, future: BoxFuture<'static, ()>) {
        let tasks = Arc::downgrade(self);
        let schedule = move |runnable| {
            if let Some(tasks) = tasks.upgrade() {
                tasks.schedule(runnable);
            }
        };
        let (runnable, task) = async_task::spawn(Contained(Some(future)), schedule);
        self.all.lock().unwrap_or_else(PoisonError::into_inner).add(task);
        runnable.schedule();
    }

    fn schedule(&self, runnable: Runnable) {
        let mut queue = self.queue();
        if queue.is_closed {
            drop(queue);
            // This drops its future, which may wake other tasks.
            return drop(runnable);
        }
        if queue.caller.is_some_and(|caller| caller == thread::current().id()) {
            return queue.woken.push_back(runnable);
        }
        queue.ready.push_back(runnable);
        drop(queue);
        self.wake.wake_beside();
    }

    /// Whether a task is ready.
    pub(crate) fn is_due(&self) -> bool {
        !self.queue().ready.is_empty()
    }

    /// Runs each task that is ready now once.
    pub(crate) fn run(&self) {
        let ready = self.queue().ready.len();
        for runnable in (0..ready).map_while(|_| self.pop_ready()) {
            runnable.run();
        }
    }

    fn pop_ready(&self) -> Option<Runnable> {
        self.queue().ready.pop_front()
    }

    /// From now on, tasks that this thread wakes go into a queue of their own. Call with the node's lock.
    pub(crate) fn begin_caller(&self) {
        self.queue().caller = Some(thread::current().id());
    }

    /// Stops that. If `may_run` says so of the number of tasks that this thread has woken, runs each of them once;
    /// otherwise leaves them to the node's task. Returns whether it has left any.
    pub(crate) fn end_caller(&self, may_run: impl FnOnce(usize) -> bool) -> bool {
        let mut queue = self.queue();
        queue.caller = None;
        let woken = queue.woken.len();
        if woken > 0 && !may_run(woken) {
            let queue = &mut *queue;
            queue.ready.append(&mut queue.woken);
            return true;
        }
        drop(queue);
        for runnable in (0..woken).map_while(|_| self.pop_woken()) {
            runnable.run();
        }
        false
    }

    fn pop_woken(&self) -> Option<Runnable> {
        self.queue().woken.pop_front()
    }

    /// Leaves what a caller has woken to the node's task: the caller has panicked.
    pub(crate) fn leave_woken(&self) {
        let queue = &mut *self.queue();
        queue.caller = None;
        queue.ready.append(&mut queue.woken);
    }

    /// Cancels all tasks.
    pub(crate) fn close(&self) {
        self.queue().is_closed = true;
        let all = std::mem::take(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner).tasks);
        drop(all);
        let (ready, woken) = {
            let queue = &mut *self.queue();
            (std::mem::take(&mut queue.ready), std::mem::take(&mut queue.woken))
        };
        drop((ready, woken));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn add(&mut self, task: Task<()>) {
        if self.tasks.len() >= self.sweep_at {
            self.tasks.retain(|_, task| !task.is_finished());
            self.sweep_at = 2 * self.tasks.len() + 16;
        }
        self.last_key += 1;
        self.tasks.insert(self.last_key, task);
    }
}
