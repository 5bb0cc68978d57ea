//! What do the nodes of a simulation run on? tokio's paused clock, a simulated network, tasks that a crash can end.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use avi_p2p::Platform;
use avi_p2p::transport::{Network, Transport};
use futures::future::BoxFuture;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::interpose;

/// The most polls in one virtual instant. Beyond it the run is considered stuck.
const MAX_POLLS_PER_INSTANT: u64 = 20_000_000;

/// The wall time when a run begins: 2026-01-01, in seconds since 1970.
const WALL_BASE_S: f64 = 1_767_225_600.0;

/// The platform of one node.
#[derive(Clone)]
pub struct SimPlatform {
    transport: Arc<dyn Transport>,
    epoch: Instant,
    /// The seconds by which its wall clock is ahead at the start.
    wrong_by: f64,
    /// When it jumps, and by how many seconds.
    jumps: Vec<(Duration, f64)>,
}

impl SimPlatform {
    /// Create it inside the simulation's runtime.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, epoch: Instant::now(), wrong_by: 0.0, jumps: Vec::new() }
    }

    /// A wall clock that is ahead by so many seconds, and jumps at these times of the run.
    #[must_use]
    pub fn with_wall_clock(self, wrong_by: f64, jumps: Vec<(Duration, f64)>) -> Self {
        Self { wrong_by, jumps, ..self }
    }
}

impl Platform for SimPlatform {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn unix_millis(&self) -> u64 {
        let now = interpose::now();
        let jumped: f64 = self.jumps.iter().filter(|(at, _)| *at <= now).map(|(_, by)| by).sum();
        ((WALL_BASE_S + self.wrong_by + jumped + now.as_secs_f64()) * 1000.0) as u64
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.epoch + moment))
    }

    fn network(&self) -> Network {
        Network::Custom(self.transport.clone())
    }
}

/// The tasks of one node, which end together when its host loses power.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Mutex<Vec<AbortHandle>>>);

impl Tasks {
    /// Runs a task until it ends, or until [`Tasks::end`].
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(Watched(Box::pin(task))).abort_handle();
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() == tasks.capacity() {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(handle);
    }

    /// Ends all tasks immediately.
    pub fn end(&self) {
        let tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Wraps a task and counts its polls, so that a task that keeps virtual time from advancing is detected.
struct Watched(BoxFuture<'static, ()>);

thread_local! {
    static INSTANT: Cell<(Duration, u64)> = const { Cell::new((Duration::ZERO, 0)) };
}

impl Future for Watched {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = interpose::now();
        let (last, polls) = INSTANT.get();
        let polls = if last == now { polls + 1 } else { 1 };
        INSTANT.set((now, polls));
        assert!(polls < MAX_POLLS_PER_INSTANT, "livelock: {polls} polls at {now:?} of virtual time");
        self.0.as_mut().poll(cx)
    }
}
