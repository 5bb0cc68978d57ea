//! Who moves the bytes of connections? A task each, polled by whoever drives the node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::net::wake::{Entry, ReadyQueue, Task};

/// The tasks of all connections, those under way included. They end with the node.
pub(super) struct Tasks {
    running: HashMap<u64, Running>,
    spawned: Spawned,
    count: u64,
    ready: Arc<ReadyQueue<u64>>,
}

struct Running {
    task: BoxFuture<'static, ()>,
    entry: Arc<Entry<u64>>,
    waker: Waker,
}

/// Tasks that nobody has polled yet.
#[derive(Clone, Default)]
struct Spawned(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Spawned {
    fn lock(&self) -> MutexGuard<'_, Vec<BoxFuture<'static, ()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    pub(super) fn new(task: Arc<Task>) -> Self {
        Self { running: HashMap::new(), spawned: Spawned::default(), count: 0, ready: ReadyQueue::new(task) }
    }

    /// What the swarm starts its tasks with, while it is driven.
    pub(super) fn spawner(&self) -> impl Fn(BoxFuture<'static, ()>) + Send + 'static {
        let spawned = self.spawned.clone();
        move |task| spawned.lock().push(task)
    }

    pub(super) fn is_due(&self) -> bool {
        !self.ready.is_empty() || !self.spawned.lock().is_empty()
    }

    /// Gives each that is ready a turn. False when none is.
    pub(super) fn poll(&mut self) -> bool {
        self.start();
        let ready = self.ready.len();
        for key in (0..ready).map_while(|_| self.ready.pop()) {
            let Some(Running { task, entry, waker }) = self.running.get_mut(&key) else { continue };
            entry.taken();
            if task.poll_unpin(&mut Context::from_waker(waker)).is_ready() {
                self.running.remove(&key);
            }
        }
        ready > 0
    }

    fn start(&mut self) {
        for task in std::mem::take(&mut *self.spawned.lock()) {
            self.count += 1;
            let (entry, waker) = self.ready.entry(self.count);
            entry.queue();
            self.running.insert(self.count, Running { task, entry, waker });
        }
    }
}
