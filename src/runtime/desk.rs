//! Who may have the node? Its task and its callers, one at a time.
//!
//! Two locks, so that nobody ever waits for long: the engine's is held for one input, the driver's for as long as there
//! is something to do. A caller takes the second only if nobody has it, and then does the node's work itself, down to
//! the socket: no thread has to be woken.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::driver::Driver;
use super::events::{CloseOnDrop, EventQueue};
use super::{Call, Place, Platform};
use crate::config::AviP2pConfig;
use crate::engine::{Command, CommandId, Engine, Input, Output, Reply, Time};
use crate::error::AviP2pError;
use crate::id::{PeerId, StreamId};
use crate::metrics::Metrics;
use crate::net::{Around, Net, Task, Tasks};

/// Calls that are answered at once, before the caller lets the other tasks of its executor have a turn.
const CALLS_IN_A_ROW: u64 = 32;
/// Times that the drive loop finds a caller at work before callers stand back until it has had its turn.
const REFUSALS: u32 = 64;
/// Frames that follow each other this closely are taken to the network by the node's task, many at a time: that costs
/// less than a write each, and the caller goes on meanwhile.
const IN_A_RUSH: Duration = Duration::from_micros(20);

/// A node, as its task and its callers share it.
pub(crate) struct Desk {
    state: Mutex<State>,
    /// `None` before the start and after the end.
    driver: Mutex<Option<Driver>>,
    /// Set by the drive loop when it finds a caller at work, who then wakes it.
    is_wanted: AtomicBool,
    /// How often it has found one since it last was at work itself.
    refusals: AtomicU32,
    task: Arc<Task>,
    connections: Arc<Tasks>,
    events: Arc<EventQueue>,
    /// Those that were answered at once.
    calls: AtomicU64,
    platform: Arc<dyn Platform>,
    /// The platform's time when the engine's began.
    epoch: Duration,
}

/// The engine, and what it wants done. What comes out of it is carried out under the driver's lock alone, in order.
struct State {
    engine: Engine,
    outputs: VecDeque<Output>,
    last_frame: Option<Time>,
    /// Nobody carries anything out any more.
    is_closed: bool,
}

impl State {
    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.outputs.push_back(output);
        }
    }
}

/// What became of a frame.
struct Sent {
    result: Result<(), AviP2pError>,
    /// Something is to be carried out.
    is_due: bool,
    /// It followed the last one closely.
    is_in_a_rush: bool,
}

impl Desk {
    /// Starts a node. Returns its id too.
    pub(super) async fn open(
        config: &AviP2pConfig,
        platform: Arc<dyn Platform>,
        calls: async_channel::Receiver<(Call, Place)>,
        events: CloseOnDrop,
        metrics: &Metrics,
    ) -> Result<(Arc<Self>, PeerId), AviP2pError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| AviP2pError::Io(format!("no randomness: {error}")))?;
        let task = Arc::new(Task::default());
        let around = Around { network: platform.network(), reactor_outlives_node: platform.outlives_node() };
        let net = Net::start(config, around, metrics, task.clone()).await?;
        let local = net.local_peer_id().clone();
        let engine = || Engine::new(config, local.clone(), seed);
        let desk = Self::new(platform, task, net.tasks().clone(), events.0.clone(), engine);
        *desk.driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(Driver::new(net, calls, events));
        Ok((Arc::new(desk), local))
    }

    fn new(
        platform: Arc<dyn Platform>,
        task: Arc<Task>,
        connections: Arc<Tasks>,
        events: Arc<EventQueue>,
        engine: impl FnOnce() -> Engine,
    ) -> Self {
        let epoch = platform.now();
        let (outputs, last_frame, is_closed) = (VecDeque::new(), None, false);
        let mut state = State { engine: engine(), outputs, last_frame, is_closed };
        state.drain();
        let (state, driver) = (Mutex::new(state), Mutex::new(None));
        let (is_wanted, refusals, calls) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU64::new(0));
        Self { state, driver, is_wanted, refusals, task, connections, events, calls, platform, epoch }
    }

    // The callers' side.

    /// Sends a frame of audio, here and now: what the engine says to it is known at once, and moves no deadline.
    pub(crate) async fn send_audio(&self, id: CommandId, stream: StreamId, data: Bytes) -> Result<(), AviP2pError> {
        let Sent { result, is_due, is_in_a_rush } = self.answer(id, stream, data);
        if is_due && (is_in_a_rush || !self.drive(|driver| driver.flush(self))) {
            self.task.wake();
        }
        self.breathe().await;
        result
    }

    /// Asks the engine what it knows.
    pub(crate) async fn ask<T>(
        &self,
        question: impl FnOnce(&Engine, Time) -> Result<T, AviP2pError>,
    ) -> Result<T, AviP2pError> {
        let answer = {
            let _end = WakeOnPanic(&self.task);
            let state = self.lock();
            if state.is_closed { Err(AviP2pError::ChannelClosed) } else { question(&state.engine, self.now()) }
        };
        self.breathe().await;
        answer
    }

    /// Does what a call asks for, if nobody is at work. Otherwise the call comes back.
    pub(crate) async fn call(&self, call: Call) -> Option<Call> {
        let mut call = Some(call);
        let is_done = self.drive(|driver| {
            if let Some(call) = call.take() {
                driver.call(self, call);
            }
        });
        if is_done {
            self.breathe().await;
        }
        call
    }

    /// A caller that never has to wait lets other tasks have a turn nevertheless.
    async fn breathe(&self) {
        if !(self.calls.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(CALLS_IN_A_ROW) {
            return;
        }
        let mut has_yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut has_yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn answer(&self, id: CommandId, stream: StreamId, data: Bytes) -> Sent {
        let _end = WakeOnPanic(&self.task);
        let mut state = self.lock();
        if state.is_closed {
            return Sent { result: Err(AviP2pError::ChannelClosed), is_due: false, is_in_a_rush: false };
        }
        let now = self.now();
        let last = state.last_frame.replace(now);
        state.engine.handle(now, Input::Command(Command::SendAudio { id, stream, data }));
        let mut sent = Err(AviP2pError::ChannelClosed);
        while let Some(output) = state.engine.poll_output() {
            match output {
                Output::Reply(Reply::Done { id: of, result }) if of == id => sent = result,
                output => state.outputs.push_back(output),
            }
        }
        let is_in_a_rush = last.is_some_and(|last| now.0.saturating_sub(last.0) < IN_A_RUSH);
        Sent { result: sent, is_due: !state.outputs.is_empty(), is_in_a_rush }
    }

    /// Has some of the node's work done on this thread. False, and nothing done, if somebody else is at work, or the
    /// node has ended.
    fn drive(&self, mut work: impl FnMut(&mut Driver)) -> bool {
        if self.refusals.load(Ordering::Relaxed) > REFUSALS {
            return false;
        }
        let _end = WakeOnPanic(&self.task);
        let Ok(mut driver) = self.driver.try_lock() else { return false };
        let Some(at_work) = driver.as_mut() else { return false };
        let busy = Busy::begin(&self.task);
        self.platform.enter(&mut || work(at_work));
        drop(busy);
        // Whatever the drive loop has come for until now is due now.
        self.is_wanted.store(false, Ordering::SeqCst);
        let (is_due, has_news) = (at_work.is_due(self), at_work.take_news());
        drop(driver);
        fence(Ordering::SeqCst);
        if has_news {
            self.events.wake();
        }
        if self.is_wanted.swap(false, Ordering::SeqCst) || is_due {
            self.task.wake();
        }
        true
    }

    // The drive loop's side.

    /// Drives the node until it has stopped.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.task.register(cx);
        let mut driver = match self.try_driver() {
            Ok(driver) => driver,
            Err(TryLockError::WouldBlock) => {
                // Readiness of sockets goes on arriving on this thread, and bytes go on moving.
                self.refusals.fetch_add(1, Ordering::Relaxed);
                if self.connections.poll() && self.connections.is_due() {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            Err(TryLockError::Poisoned(_)) => {
                tracing::error!("a caller's thread panicked in the middle of the node's work: the node ends");
                return Poll::Ready(());
            }
        };
        if self.state.is_poisoned() {
            tracing::error!("a caller's thread panicked in the middle of a decision: the node ends");
            return Poll::Ready(());
        }
        self.refusals.store(0, Ordering::Relaxed);
        let Some(at_work) = driver.as_mut() else { return Poll::Ready(()) };
        let busy = Busy::begin(&self.task);
        let has_more = at_work.poll(self, cx);
        drop(busy);
        let (is_due, has_news, is_stopped) = (at_work.is_due(self), at_work.take_news(), at_work.is_stopped());
        drop(driver);
        if has_news {
            self.events.wake();
        }
        if is_stopped {
            return Poll::Ready(());
        }
        if is_due || has_more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// If a caller has it, that caller wakes the task when it has done.
    fn try_driver(&self) -> Result<MutexGuard<'_, Option<Driver>>, TryLockError<MutexGuard<'_, Option<Driver>>>> {
        let first = self.driver.try_lock();
        if !matches!(first, Err(TryLockError::WouldBlock)) {
            return first;
        }
        self.is_wanted.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // It may have been given back before that was seen.
        self.driver.try_lock()
    }

    /// Ends it, with everything it has.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(driver);
        self.connections.clear();
    }

    // The driver's side.

    /// Takes what is to be carried out. False if that is nothing.
    pub(super) fn take(&self, outputs: &mut VecDeque<Output>) -> bool {
        std::mem::swap(&mut self.lock().outputs, outputs);
        !outputs.is_empty()
    }

    /// Whether there is something to carry out, or a panic to end the node for.
    pub(super) fn is_due(&self) -> bool {
        let state = self.lock();
        state.is_closed || !state.outputs.is_empty()
    }

    pub(super) fn handle(&self, input: Input, outputs: &mut VecDeque<Output>) {
        let mut state = self.lock();
        state.engine.handle(self.now(), input);
        state.drain();
        std::mem::swap(&mut state.outputs, outputs);
    }

    pub(super) fn handle_timeout(&self, outputs: &mut VecDeque<Output>) {
        let mut state = self.lock();
        state.engine.handle_timeout(self.now());
        state.drain();
        std::mem::swap(&mut state.outputs, outputs);
    }

    /// The platform's time by which [`handle_timeout`](Self::handle_timeout) is due.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.lock().engine.next_deadline().map(|deadline| self.epoch.saturating_add(deadline.0))
    }

    pub(super) fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        self.platform.sleep_until(moment)
    }

    pub(super) fn platform_now(&self) -> Duration {
        self.platform.now()
    }

    /// Under the lock, so that the engine's time never goes back.
    fn now(&self) -> Time {
        Time(self.platform.now().saturating_sub(self.epoch))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|error: PoisonError<_>| {
            // The engine has panicked half-way through an input.
            let mut state = error.into_inner();
            state.is_closed = true;
            state
        })
    }
}

/// Somebody is at work, until this is dropped.
struct Busy<'a>(&'a Task);

impl<'a> Busy<'a> {
    fn begin(task: &'a Task) -> Self {
        task.begin();
        Self(task)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// After a panic the drive loop ends the node. It is woken when what was locked after this is locked no more.
struct WakeOnPanic<'a>(&'a Task);

impl Drop for WakeOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::pending;

    use super::*;
    use crate::transport::Network;

    /// Time stands still, and nothing runs.
    struct Still;

    impl Platform for Still {
        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep_until(&self, _: Duration) -> BoxFuture<'static, ()> {
            pending().boxed()
        }

        fn network(&self) -> Network {
            Network::Tcp
        }
    }

    fn desk() -> Desk {
        let config = AviP2pConfig::default();
        let events = Arc::new(EventQueue::new(&config.limits));
        let task = Arc::<Task>::default();
        Desk::new(Arc::new(Still), task.clone(), Tasks::new(task), events, || {
            Engine::new(&config, PeerId::new("me"), [0; 32])
        })
    }

    fn send(desk: &Desk) -> Option<Result<(), AviP2pError>> {
        desk.send_audio(CommandId::new(1), StreamId(1), Bytes::from_static(b"audio")).now_or_never()
    }

    #[test]
    fn a_call_is_answered_without_the_drive_loop_until_that_has_ended() {
        let desk = desk();
        assert_eq!(send(&desk), Some(Err(AviP2pError::StreamNotFound(StreamId(1)))));
        desk.close();
        assert_eq!(send(&desk), Some(Err(AviP2pError::ChannelClosed)));
    }

    #[test]
    fn a_question_is_answered_until_the_drive_loop_has_ended() {
        let desk = desk();
        let ask = || desk.ask(|engine, _| engine.connected_peers()).now_or_never();
        assert_eq!(ask(), Some(Ok(Vec::new())));
        desk.close();
        assert_eq!(ask(), Some(Err(AviP2pError::ChannelClosed)));
    }

    #[test]
    fn whoever_calls_without_pause_lets_other_tasks_have_a_turn() {
        let desk = desk();
        let answered = (0..10 * CALLS_IN_A_ROW).filter(|_| send(&desk).is_some()).count();
        assert_eq!(answered as u64, 10 * (CALLS_IN_A_ROW - 1));
    }
}
