//! Who moves the bytes of connections? A task each, polled by whoever drives the node, or, while one thread does that, by
//! another: libp2p's tasks and swarm speak through channels alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::net::wake::{Entry, ReadyQueue, Task};

/// The tasks of all connections, those under way included.
pub(crate) struct Tasks {
    running: Mutex<Running>,
    spawned: Spawned,
    ready: Arc<ReadyQueue<u64>>,
}

#[derive(Default)]
struct Running {
    /// In an order that is the same in every run, also when all are dropped.
    by_key: BTreeMap<u64, Connection>,
    last_key: u64,
}

struct Connection {
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
    pub(crate) fn new(task: Arc<Task>) -> Arc<Self> {
        let (running, spawned, ready) =
            (Mutex::default(), Spawned::default(), ReadyQueue::new(task, Task::wake_beside));
        Arc::new(Self { running, spawned, ready })
    }

    /// What the swarm starts its tasks with, while it is driven.
    pub(super) fn spawner(&self) -> impl Fn(BoxFuture<'static, ()>) + Send + 'static {
        let spawned = self.spawned.clone();
        move |task| spawned.lock().push(task)
    }

    pub(crate) fn is_due(&self) -> bool {
        !self.ready.is_empty() || !self.spawned.lock().is_empty()
    }

    /// Gives each that is ready a turn. False when none is, or another thread is about it.
    pub(crate) fn poll(&self) -> bool {
        let mut running = match self.running.try_lock() {
            Ok(running) => running,
            // The node ends with a task that has panicked.
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        running.start(&self.spawned, &self.ready);
        let ready = self.ready.len();
        (0..ready).map_while(|_| self.ready.pop()).for_each(|key| running.poll(key));
        ready > 0
    }

    /// Ends all of them.
    pub(crate) fn clear(&self) {
        let tasks = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        drop(tasks);
        self.spawned.lock().clear();
    }
}

impl Running {
    fn start(&mut self, spawned: &Spawned, ready: &Arc<ReadyQueue<u64>>) {
        for task in std::mem::take(&mut *spawned.lock()) {
            self.last_key += 1;
            let (entry, waker) = ready.entry(self.last_key);
            entry.queue();
            self.by_key.insert(self.last_key, Connection { task, entry, waker });
        }
    }

    fn poll(&mut self, key: u64) {
        let Some(Connection { task, entry, waker }) = self.by_key.get_mut(&key) else { return };
        entry.taken();
        if task.poll_unpin(&mut Context::from_waker(waker)).is_ready() {
            self.by_key.remove(&key);
        }
    }
}
