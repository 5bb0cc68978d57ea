//! The drive loop: waits for a call, a network event or a deadline, asks the engine, carries its answers out.

mod desk;
mod smol;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;
use futures::channel::oneshot;
use futures::future::BoxFuture;

use crate::config::{AviP2pConfig, Limits};
use crate::engine::{Command, CommandId, Engine, Input, Lag, Mailbox, Output, Reply};
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::id::PeerId;
use crate::metrics::Metrics;
use crate::net::Net;
use crate::transport::Network;

pub(crate) use self::desk::Desk;
pub(crate) use self::smol::start_thread;

/// Inputs of one kind that are taken in a row before the other kind has its turn.
const BATCH: usize = 64;
/// Turns before the node's other tasks, which move the connections' bytes, have theirs.
const TURNS: usize = 4;

/// What differs between production and simulation: the executor, the clock, the network.
pub trait Platform: Send + Sync + 'static {
    /// Runs a task to its end, or until the node has stopped.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Monotonic time since any fixed moment.
    fn now(&self) -> Duration;

    /// Waits for that moment of [`Platform::now`].
    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()>;

    /// The network that the node listens on and dials over.
    fn network(&self) -> Network;
}

/// A command and who waits for its reply.
pub(crate) struct Call {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// The mailbox as the drive loop and the receiver share it. Neither ever waits for the other.
pub(crate) struct EventQueue {
    state: Mutex<EventState>,
}

struct EventState {
    mailbox: Mailbox,
    receiver: Option<Waker>,
    is_closed: bool,
    is_abandoned: bool,
}

impl EventQueue {
    pub(crate) fn new(limits: &Limits) -> Self {
        let mailbox = Mailbox::new(limits);
        Self { state: Mutex::new(EventState { mailbox, receiver: None, is_closed: false, is_abandoned: false }) }
    }

    /// The next event; `None` once the node has stopped and every event is read.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<AviEvent>> {
        let mut state = self.lock();
        match state.mailbox.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.is_closed => Poll::Ready(None),
            None => {
                state.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn pop(&self) -> Option<AviEvent> {
        self.lock().mailbox.pop()
    }

    pub(crate) fn dropped(&self) -> Lag {
        self.lock().mailbox.dropped()
    }

    /// Nobody will read any more.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.is_abandoned = true;
        while state.mailbox.pop().is_some() {}
    }

    fn push(&self, event: AviEvent) {
        let mut state = self.lock();
        if !state.is_abandoned {
            state.mailbox.push(event);
        }
    }

    /// Wakes a reader that waits, if there is something to read.
    fn wake(&self) {
        let mut state = self.lock();
        let receiver = if state.mailbox.is_empty() { None } else { state.receiver.take() };
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let receiver = state.receiver.take();
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, EventState> {
        // Nothing under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue, also when the drive loop is dropped in the middle.
struct CloseOnDrop(Arc<EventQueue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The calls that wait. Whoever waits for an answer that will not come is told so: dropping the channel's receiver
/// alone would keep what is in it.
struct Calls(Pin<Box<async_channel::Receiver<Call>>>);

impl Drop for Calls {
    fn drop(&mut self) {
        self.0.close();
        while self.0.try_recv().is_ok() {}
    }
}

/// What the application has of a node that runs.
pub(crate) struct Started {
    pub(crate) local_peer_id: PeerId,
    pub(crate) desk: Arc<Desk>,
}

/// What the drive loop has of the application.
pub(crate) struct Outside {
    pub(crate) calls: async_channel::Receiver<Call>,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) metrics: Metrics,
    pub(crate) started: oneshot::Sender<Result<Started, AviP2pError>>,
}

/// Starts a node and drives it until it has stopped.
pub(crate) async fn run(config: AviP2pConfig, platform: Arc<dyn Platform>, outside: Outside) {
    let Outside { calls, events, metrics, started } = outside;
    let (calls, events) = (Calls(Box::pin(calls)), CloseOnDrop(events));
    match Driver::start(&config, platform, calls, events, &metrics).await {
        Ok(mut driver) => {
            // If nobody waits for the start any more, the calls' channel is closed too, and the driver sees that.
            let local_peer_id = driver.net.local_peer_id().clone();
            let _ = started.send(Ok(Started { local_peer_id, desk: driver.desk.clone() }));
            std::future::poll_fn(|cx| driver.poll(cx)).await;
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    }
}

struct Driver {
    desk: Arc<Desk>,
    /// To be carried out; empty between inputs.
    outputs: VecDeque<Output>,
    net: Net,
    calls: Calls,
    are_calls_closed: bool,
    callers: BTreeMap<CommandId, oneshot::Sender<Reply>>,
    events: CloseOnDrop,
    timer: Option<(Duration, BoxFuture<'static, ()>)>,
    platform: Arc<dyn Platform>,
    is_stopped: bool,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.desk.close();
    }
}

impl Driver {
    async fn start(
        config: &AviP2pConfig,
        platform: Arc<dyn Platform>,
        calls: Calls,
        events: CloseOnDrop,
        metrics: &Metrics,
    ) -> Result<Self, AviP2pError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| AviP2pError::Io(format!("no randomness: {error}")))?;
        let spawner = platform.clone();
        let net = Net::start(config, platform.network(), metrics, move |task| spawner.spawn(task)).await?;
        let mut driver = Self {
            desk: Desk::new(platform.clone(), || Engine::new(config, net.local_peer_id().clone(), seed)),
            outputs: VecDeque::new(),
            net,
            calls,
            are_calls_closed: false,
            callers: BTreeMap::new(),
            events,
            timer: None,
            platform,
            is_stopped: false,
        };
        driver.take_outputs();
        Ok(driver)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.desk.register(cx);
        for _ in 0..TURNS {
            let called = self.take_outputs() | self.poll_calls(cx);
            let heard = self.poll_net(cx);
            let timed_out = self.poll_timer(cx);
            if self.is_stopped {
                return Poll::Ready(());
            }
            if !(called || heard || timed_out) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether anything came.
    fn poll_calls(&mut self, cx: &mut Context<'_>) -> bool {
        for taken in 0..BATCH {
            if self.are_calls_closed {
                return taken > 0;
            }
            match self.calls.0.as_mut().poll_next(cx) {
                Poll::Ready(Some(Call { command, reply })) => self.handle_command(command, Some(reply)),
                Poll::Ready(None) => {
                    // The last owner is gone.
                    self.are_calls_closed = true;
                    self.handle_command(Command::Shutdown, None);
                }
                Poll::Pending => return taken > 0,
            }
        }
        true
    }

    fn poll_net(&mut self, cx: &mut Context<'_>) -> bool {
        for taken in 0..BATCH {
            match self.net.poll_event(cx) {
                Poll::Ready(event) => {
                    self.desk.handle(Input::Net(event), &mut self.outputs);
                    self.carry_out();
                }
                Poll::Pending => return taken > 0,
            }
        }
        true
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.desk.next_deadline() else {
            self.timer = None;
            return false;
        };
        // A timer that is too early is kept: waking once for nothing costs less than setting it anew each time.
        let (_, timer) = match &mut self.timer {
            Some(timer) if timer.0 <= deadline => timer,
            timer => timer.insert((deadline, self.platform.sleep_until(deadline))),
        };
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer = None;
        self.desk.handle_timeout(&mut self.outputs);
        self.carry_out();
        true
    }

    fn handle_command(&mut self, command: Command, reply: Option<oneshot::Sender<Reply>>) {
        let id = self.desk.command(command, &mut self.outputs);
        if let Some(reply) = reply {
            self.callers.insert(id, reply);
        }
        self.carry_out();
    }

    /// Carries out what calls have come to that were answered at once. Whether there was any.
    fn take_outputs(&mut self) -> bool {
        let any = self.desk.take(&mut self.outputs);
        self.carry_out();
        any
    }

    fn carry_out(&mut self) {
        let mut is_news = false;
        while let Some(output) = self.outputs.pop_front() {
            match output {
                Output::Reply { id, result } => {
                    if let Some(caller) = self.callers.remove(&id) {
                        // A caller who gave up does not want to know.
                        let _ = caller.send(result);
                    }
                }
                Output::Event(event) => {
                    self.events.0.push(event);
                    is_news = true;
                }
                Output::Net(action) => self.net.act(action),
                Output::Stopped => self.is_stopped = true,
            }
        }
        if is_news {
            // Once for all of them: a reader that is woken by the first of many would fall asleep before the second.
            self.events.0.wake();
        }
    }
}
