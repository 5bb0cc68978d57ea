//! Who may use the node, and for how long? One value behind one lock, used by the node's task and by callers.
//!
//! The holder of the lock feeds the engine, carries out its outputs, and releases the lock. Nobody holds it for long: the
//! task for [`BATCH`] inputs or [`BATCH_WITHIN`], a caller for one input and for the [`CALLER_BYTES`] that it writes.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[cfg(feature = "recorder")]
use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};

use super::Platform;
use super::events::EventQueue;
use super::readers::{ReaderQueue, Readers};
#[cfg(feature = "recorder")]
use super::recorder::{self, Files};
#[cfg(feature = "context")]
use super::saver::{ContextFile, Saver};
use super::tasks::Tasks;
use crate::config::AviP2pConfig;
#[cfg(feature = "context")]
use crate::config::ContextOptions;
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::id::{PeerId, StreamId};
use crate::media::Playout;
use crate::metrics::Metrics;
use crate::net::Net;
use crate::publish::Published;
use crate::reader::AudioReader;
use crate::stats::{AudioStats, Stats};
use crate::wake::{Flag, Wake};
#[cfg(feature = "context")]
use avi_p2p_proto::context::max_file_bytes;
#[cfg(feature = "context")]
use avi_p2p_proto::engine::ContextStart;
use avi_p2p_proto::engine::{Command, CommandId, Engine, Input, Output, Reply, Time};

/// Inputs that the node's task takes before it lets callers have the lock.
const BATCH: usize = 64;
/// How long it takes inputs at most before it lets them have it, and before it wakes the reader of events.
const BATCH_WITHIN: Duration = Duration::from_micros(200);
/// Batches before the task yields to its executor, which then polls the sockets.
const BATCHES: usize = 4;

/// What a caller writes itself. More than that it leaves to the node's task, which encrypts it on another thread while
/// the caller goes on.
const CALLER_BYTES: usize = 32 * 1024;
/// Writing to a connection costs about as much as encrypting this.
const WRITE_BYTES: usize = 4 * 1024;
/// If frames follow each other faster than this, the node's task writes them in batches: that costs less than a write
/// each.
const RUSH: Duration = Duration::from_micros(20);
/// Calls in a row that a caller never had to wait for, before it lets other tasks of its executor have a turn.
const CALLS_IN_A_ROW: u64 = 32;

/// A node, as its task and its callers share it.
pub(crate) struct Shared {
    node: Mutex<State>,
    wake: Arc<Wake>,
    tasks: Arc<Tasks>,
    events: Arc<EventQueue>,
    platform: Arc<dyn Platform>,
    /// Has no parent, so that the node's log entries do not appear in the span of a caller.
    span: tracing::Span,
    /// Nobody can call any more.
    is_abandoned: AtomicBool,
    /// The panic that has ended the node.
    panic: OnceLock<String>,
    /// The files of the recorder, if it has any.
    #[cfg(feature = "recorder")]
    files: OnceLock<Arc<Files>>,
    /// The recording of a node that has ended.
    #[cfg(feature = "recorder")]
    recording: OnceLock<Vec<Bytes>>,
    calls: AtomicU64,
}

/// The engine, recorded if that is wanted.
#[cfg(feature = "recorder")]
type Driven = avi_p2p_proto::recording::Recorded;
#[cfg(not(feature = "recorder"))]
type Driven = Engine;

/// Starting → Running → Ended.
enum State {
    Starting,
    Running(Box<Node>),
    Ended,
}

/// The engine, what carries its outputs out, and who waits for what.
struct Node {
    engine: Driven,
    /// The platform's time when the engine's began.
    epoch: Duration,
    platform: Arc<dyn Platform>,
    net: Net,
    callers: Callers,
    last_command: u64,
    last_frame: Option<Time>,
    events: Arc<EventQueue>,
    readers: Readers,
    news: News,
    /// Writes the file of the shared context.
    #[cfg(feature = "context")]
    saver: Option<Saver>,
    timer: Option<(Duration, BoxFuture<'static, ()>)>,
    /// Set when the timer has come to its end.
    timer_due: Arc<Flag>,
    timer_waker: Waker,
    is_stopped: bool,
}

/// Whom to wake after the lock is released: a waker may do anything.
#[derive(Default)]
struct News {
    has_events: bool,
    readers: Vec<Waker>,
    replies: Vec<Box<dyn FnOnce() + Send>>,
}

/// What a caller gets from its turn.
enum Answered<T> {
    Now(Result<T, AviP2pError>),
    Later(oneshot::Receiver<Result<T, AviP2pError>>),
}

/// Those who wait for a reply, by the type of it.
#[derive(Default)]
pub(crate) struct Callers {
    done: Waiting<()>,
    stream: Waiting<StreamId>,
    peers: Waiting<Vec<PeerId>>,
    published: Waiting<Published>,
}

/// Replies of one type.
pub(crate) struct Waiting<T> {
    /// The reply to the command that was just given.
    at_once: Option<(CommandId<T>, Result<T, AviP2pError>)>,
    later: BTreeMap<CommandId<T>, oneshot::Sender<Result<T, AviP2pError>>>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { at_once: None, later: BTreeMap::new() }
    }
}

impl<T: Send + 'static> Waiting<T> {
    fn reply(&mut self, id: CommandId<T>, result: Result<T, AviP2pError>, news: &mut News) {
        match self.later.remove(&id) {
            // The caller may have dropped its future; then the reply is discarded.
            Some(caller) => news.replies.push(Box::new(|| drop(caller.send(result)))),
            None => self.at_once = Some((id, result)),
        }
    }

    fn answer(&mut self, id: CommandId<T>) -> Answered<T> {
        match self.at_once.take() {
            Some((answered, result)) if answered == id => Answered::Now(result),
            _ => {
                let (caller, answer) = oneshot::channel();
                self.later.insert(id, caller);
                Answered::Later(answer)
            }
        }
    }
}

/// The type of a command's reply.
pub(crate) trait Answer: Sized + Send + 'static {
    fn waiting(callers: &mut Callers) -> &mut Waiting<Self>;
}

impl Answer for () {
    fn waiting(callers: &mut Callers) -> &mut Waiting<Self> {
        &mut callers.done
    }
}

impl Answer for StreamId {
    fn waiting(callers: &mut Callers) -> &mut Waiting<Self> {
        &mut callers.stream
    }
}

impl Answer for Vec<PeerId> {
    fn waiting(callers: &mut Callers) -> &mut Waiting<Self> {
        &mut callers.peers
    }
}

impl Answer for Published {
    fn waiting(callers: &mut Callers) -> &mut Waiting<Self> {
        &mut callers.published
    }
}

impl Shared {
    pub(crate) fn new(platform: Arc<dyn Platform>, events: Arc<EventQueue>) -> Arc<Self> {
        let wake = Arc::<Wake>::default();
        Arc::new(Self {
            node: Mutex::new(State::Starting),
            tasks: Tasks::new(wake.clone()),
            wake,
            events,
            platform,
            span: tracing::info_span!(parent: None, "avi_p2p"),
            is_abandoned: AtomicBool::new(false),
            panic: OnceLock::new(),
            #[cfg(feature = "recorder")]
            files: OnceLock::new(),
            #[cfg(feature = "recorder")]
            recording: OnceLock::new(),
            calls: AtomicU64::new(0),
        })
    }

    // The callers' side.

    /// Gives the node a command, and waits for the reply.
    pub(crate) async fn call<T: Answer>(
        &self,
        command: impl FnOnce(CommandId<T>) -> Command,
    ) -> Result<T, AviP2pError> {
        let (answered, has_left) = self.turn(|node, tasks| {
            let id = node.command_id();
            let has_left = node.command(command(id), tasks);
            (T::waiting(&mut node.callers).answer(id), has_left)
        })?;
        match answered {
            Answered::Now(result) => {
                self.yield_sometimes(has_left).await;
                result
            }
            Answered::Later(answer) => answer.await.map_err(|_| AviP2pError::ChannelClosed)?,
        }
    }

    /// Asks the engine something.
    pub(crate) async fn ask<T>(
        &self,
        question: impl FnOnce(&Engine, Time) -> Result<T, AviP2pError>,
    ) -> Result<T, AviP2pError> {
        self.ask_node(|node| question(&node.engine, node.now())).await
    }

    /// Makes the reader of a stream.
    pub(crate) async fn open_reader(&self, stream_id: StreamId, playout: Playout) -> Result<AudioReader, AviP2pError> {
        let (queue, epoch) = self.ask_node(|node| node.open_reader(stream_id, playout)).await?;
        Ok(AudioReader::new(queue, self.platform.clone(), epoch))
    }

    /// The figures of an audio stream.
    pub(crate) async fn audio_stats(&self, stream_id: StreamId) -> Result<AudioStats, AviP2pError> {
        self.ask_node(|node| node.audio_stats(stream_id)).await
    }

    /// The node's counters, but for the events that were dropped.
    pub(crate) async fn stats(&self) -> Result<Stats, AviP2pError> {
        self.ask_node(|node| {
            let mut stats = node.engine.stats()?;
            stats.events_dropped_audio_frames = node.readers.dropped();
            Ok(stats)
        })
        .await
    }

    /// What the recorder has recorded so far, also of a node that has ended.
    #[cfg(feature = "recorder")]
    pub(crate) async fn recording(&self) -> Result<Vec<u8>, AviP2pError> {
        if let Some(files) = self.files.get() {
            return files.read().await;
        }
        let pieces = match self.recording.get() {
            Some(pieces) => pieces.clone(),
            None => self.ask_node(|node| node.engine.pieces().ok_or(AviP2pError::Disabled("recorder"))).await?,
        };
        Ok(pieces.concat())
    }

    /// Takes all draws of the engine from another seed from now on.
    #[cfg(feature = "unstable")]
    pub(crate) async fn reseed(&self, seed: [u8; 32]) -> Result<(), AviP2pError> {
        self.ask_node(|node| {
            node.engine.reseed(seed);
            Ok(())
        })
        .await
    }

    async fn ask_node<T>(&self, question: impl FnOnce(&mut Node) -> Result<T, AviP2pError>) -> Result<T, AviP2pError> {
        let answer = self.turn(|node, _| question(node))?;
        self.yield_sometimes(false).await;
        answer
    }

    /// Nobody can call any more: the node is to end. Takes no lock, since it may be called from anywhere.
    pub(crate) fn abandon(&self) {
        self.is_abandoned.swap(true, Ordering::SeqCst);
        self.wake.set_due();
        self.wake.wake();
    }

    /// The panic that has ended the node.
    pub(crate) fn panic(&self) -> Option<&str> {
        self.panic.get().map(String::as_str)
    }

    /// Runs the input of a caller with the lock.
    fn turn<T>(&self, input: impl FnOnce(&mut Node, &Tasks) -> T) -> Result<T, AviP2pError> {
        let mut state = self.node.lock();
        let Some(node) = self.running(&mut state) else { return Err(AviP2pError::ChannelClosed) };
        let turn = self.wake.begin();
        let output = self.guard(|| {
            let output = input(node, &self.tasks);
            self.sum_up(node);
            output
        });
        if output.is_err() {
            // The task ends the node.
            self.tasks.leave_woken();
            self.wake.set_due();
        }
        let news = std::mem::take(&mut node.news);
        // The task, or another caller, gets the lock if it waits: this caller may come again at once.
        MutexGuard::unlock_fair(state);
        if self.wake.end(turn, || self.tasks.is_due()) {
            self.wake.wake_task();
        }
        self.tell(news);
        output.map_err(|Panicked| AviP2pError::ChannelClosed)
    }

    fn sum_up(&self, node: &Node) {
        self.wake.sum_up(|| node.is_due() || self.is_abandoned.load(Ordering::SeqCst));
    }

    fn tell(&self, news: News) {
        if news.has_events {
            self.events.wake();
        }
        news.readers.into_iter().for_each(Waker::wake);
        news.replies.into_iter().for_each(|reply| reply());
    }

    /// The node, unless it has not started, has ended, or has panicked and waits for its task to end it.
    fn running<'a>(&self, state: &'a mut State) -> Option<&'a mut Node> {
        match state {
            State::Running(node) if self.panic.get().is_none() => Some(node),
            _ => None,
        }
    }

    /// A caller that never has to wait lets other tasks of its executor have a turn nevertheless. It does so at once if
    /// the node's task, which may be one of them, has a lot to do for it.
    async fn yield_sometimes(&self, has_left: bool) {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if !has_left && !calls.is_multiple_of(CALLS_IN_A_ROW) {
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

    // The task's side.

    /// Starts the node, and drives it until it has stopped.
    pub(crate) async fn run(
        &self,
        config: AviP2pConfig,
        metrics: &Metrics,
        started: oneshot::Sender<Result<PeerId, AviP2pError>>,
    ) {
        let closing = CloseOnDrop(self);
        let node = match Node::start(&config, self, metrics).await {
            Ok(node) => node,
            Err(error) => return drop(started.send(Err(error))),
        };
        let local_peer_id = node.net.local_peer_id().clone();
        *self.node.lock() = State::Running(Box::new(node));
        self.wake.set_due();
        // Whoever has started the node may ask at once where it listens.
        let _ = self.work();
        // If nobody waits for the start any more, the node is abandoned, and sees that.
        let _ = started.send(Ok(local_peer_id));
        poll_fn(|cx| self.poll(cx)).await;
        #[cfg(feature = "context")]
        if let Some(saver) = self.take_saver() {
            saver.finish().await;
        }
        drop(closing);
        #[cfg(feature = "recorder")]
        if let Some(files) = self.files.get() {
            files.ended().await;
        }
    }

    #[cfg(feature = "context")]
    fn take_saver(&self) -> Option<Saver> {
        match &mut *self.node.lock() {
            State::Running(node) => node.saver.take(),
            _ => None,
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.wake.attend(cx.waker());
        for _ in 0..BATCHES {
            if self.guard(|| self.tasks.run()).is_err() || self.wake.is_due() && self.work().is_ready() {
                return Poll::Ready(());
            }
            if self.wake.rest(|| self.tasks.is_due()) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does what only the holder of the lock can do, up to a bound. Ready when the node has ended.
    fn work(&self) -> Poll<()> {
        let mut state = self.node.lock();
        let Some(node) = self.running(&mut state) else { return Poll::Ready(()) };
        let is_abandoned = self.is_abandoned.swap(false, Ordering::SeqCst);
        let worked = self.guard(|| {
            node.work(is_abandoned, &self.tasks);
            self.sum_up(node);
        });
        let news = std::mem::take(&mut node.news);
        let has_ended = worked.is_err() || node.is_stopped;
        // A caller who waits gets the lock, also if the next batch begins at once.
        MutexGuard::unlock_fair(state);
        self.tell(news);
        if has_ended { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ends the node, with everything it has.
    fn close(&self) {
        #[cfg_attr(not(feature = "recorder"), allow(unused_mut, reason = "the recorder has an end"))]
        let mut state = std::mem::replace(&mut *self.node.lock(), State::Ended);
        #[cfg(feature = "recorder")]
        if let State::Running(node) = &mut state {
            let ended = self.guard(|| {
                if self.panic.get().is_some() {
                    node.engine.fail();
                }
                node.engine.pieces()
            });
            ended.ok().flatten().map(|recording| self.recording.set(recording));
        }
        // What has panicked may panic again when it is dropped. Connection tasks catch that themselves.
        let _ = self.guard(|| self.tasks.close());
        let _ = self.guard(|| drop(state));
        let last = self.panic.get().map(|reason| AviEvent::NodeFailed { reason: reason.clone() });
        self.events.close(last);
    }

    /// Runs a part of the node's work. Catches a panic and keeps its text.
    fn guard<T>(&self, work: impl FnOnce() -> T) -> Result<T, Panicked> {
        let (mut work, mut output) = (Some(work), None);
        let mut run = || output = work.take().map(|work| work());
        let run = || self.span.in_scope(|| self.platform.enter(&mut run));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            let reason = panic_text(panic.as_ref());
            tracing::error!(reason, "a panic ends the node");
            let _ = self.panic.set(reason);
            return Err(Panicked);
        }
        output.ok_or(Panicked)
    }
}

/// A part of the node's work has panicked.
#[derive(Clone, Copy, Debug)]
struct Panicked;

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}

/// Ends a node with its task, also when the task is dropped before it has finished.
struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Gives the engine what its context needs of the machine. Returns what writes the context's file, if it has one.
#[cfg(feature = "context")]
fn start_context(
    context: &ContextOptions,
    shared: &Shared,
    net: &mut Net,
    engine: &mut Engine,
) -> Result<Option<Saver>, AviP2pError> {
    let file = context.file.as_ref().map(|path| ContextFile::open(path, max_file_bytes(context))).transpose()?;
    let content = file.as_ref().and_then(|file| file.content.clone());
    let (secret, unix_millis) = (net.take_secret(), shared.platform.unix_millis());
    engine.start_context(ContextStart { secret, file: content, unix_millis })?;
    let saver = file.map(|file| Saver::start(file, shared.events.clone())).transpose();
    saver.map_err(|error| AviP2pError::Io(format!("cannot start the thread of the context's file: {error}")))
}

/// Records the engine from its start, if the configuration says so.
#[cfg(feature = "recorder")]
fn recorded(engine: Engine, config: &AviP2pConfig, shared: &Shared, hash_key: [u8; 16]) -> Result<Driven, AviP2pError> {
    let Some(options) = &config.recorder else { return Ok(Driven::new(engine, None)) };
    let (start, files) = recorder::start(options, hash_key, shared.platform.unix_millis())?;
    files.into_iter().for_each(|files| drop(shared.files.set(files)));
    Ok(Driven::new(engine, Some(start)))
}

impl Node {
    async fn start(config: &AviP2pConfig, shared: &Shared, metrics: &Metrics) -> Result<Self, AviP2pError> {
        // All at once, so that a simulation draws the same whether it is recorded or not.
        let mut drawn = [0; 48];
        getrandom::fill(&mut drawn).map_err(|error| AviP2pError::Io(format!("no randomness: {error}")))?;
        let (mut seed, mut hash_key) = ([0; 32], [0; 16]);
        seed.copy_from_slice(&drawn[..32]);
        hash_key.copy_from_slice(&drawn[32..]);
        let platform = shared.platform.clone();
        // A runtime without a timer panics here, and not when the first deadline comes.
        drop(platform.sleep_until(platform.now()));
        let tasks = shared.tasks.clone();
        let spawn = move |task| tasks.spawn(task);
        #[cfg_attr(not(feature = "context"), allow(unused_mut, reason = "it gives its key to the context"))]
        let mut net = Net::start(config, &platform.network(), metrics, shared.wake.clone(), spawn).await?;
        #[cfg_attr(not(feature = "context"), allow(unused_mut, reason = "the context has more to start with"))]
        let mut engine = Engine::new(config, net.local_peer_id().clone(), seed);
        #[cfg(feature = "context")]
        let saver = match &config.context {
            Some(context) => start_context(context, shared, &mut net, &mut engine)?,
            None => None,
        };
        #[cfg(feature = "recorder")]
        let engine = recorded(engine, config, shared, hash_key)?;
        let timer_due = Flag::new(shared.wake.clone());
        Ok(Self {
            epoch: platform.now(),
            engine,
            platform,
            net,
            callers: Callers::default(),
            last_command: 0,
            last_frame: None,
            events: shared.events.clone(),
            readers: Readers::new(&config.limits),
            #[cfg(feature = "context")]
            saver,
            news: News::default(),
            timer: None,
            timer_waker: Waker::from(timer_due.clone()),
            timer_due,
            is_stopped: false,
        })
    }

    fn open_reader(
        &mut self,
        stream_id: StreamId,
        playout: Playout,
    ) -> Result<(Arc<ReaderQueue>, Duration), AviP2pError> {
        let AudioStats { media, ended, .. } = self.engine.audio_stats(stream_id)?;
        if ended.is_some() {
            return Err(AviP2pError::StreamNotFound(stream_id));
        }
        let frame_duration = media.map(|media| Duration::from_micros(media.frame_duration_us.into()));
        Ok((self.readers.open(stream_id, playout, frame_duration)?, self.epoch))
    }

    fn audio_stats(&self, stream_id: StreamId) -> Result<AudioStats, AviP2pError> {
        let mut stats = self.engine.audio_stats(stream_id)?;
        stats.playout = self.readers.playout_stats(stream_id);
        Ok(stats)
    }

    /// Whether there is something to do for the node's task.
    fn is_due(&self) -> bool {
        let is_timer_due = match (self.next_deadline(), &self.timer) {
            // It is set too late.
            (Some(deadline), Some((set, _))) => deadline < *set,
            (deadline, None) => deadline.is_some(),
            (None, Some(_)) => false,
        };
        self.is_stopped || self.timer_due.is_set() || self.net.is_due() || is_timer_due
    }

    /// Executes a command, and runs the connection tasks that it woke if they write little.
    /// Returns whether it has left a lot to the node's task.
    fn command(&mut self, command: Command, tasks: &Tasks) -> bool {
        let bytes = match &command {
            Command::Publish { data, .. } | Command::SendAudio { data, .. } => data.len(),
            _ => 0,
        };
        let is_in_rush = matches!(command, Command::SendAudio { .. }) && self.is_in_rush();
        tasks.begin_caller();
        self.handle(Input::Command(command));
        self.settle();
        let is_little = |woken| woken * (bytes + WRITE_BYTES) <= CALLER_BYTES;
        let has_left = tasks.end_caller(|woken| !is_in_rush && is_little(woken));
        has_left && !is_in_rush
    }

    /// Whether the last frame was sent a moment ago.
    fn is_in_rush(&mut self) -> bool {
        let now = self.now();
        self.last_frame.replace(now).is_some_and(|last| now - last < RUSH)
    }

    /// Does what there is to do, up to a bound.
    fn work(&mut self, is_abandoned: bool, tasks: &Tasks) {
        if is_abandoned {
            let id = self.command_id();
            self.command(Command::Shutdown { id }, tasks);
        }
        let began = self.platform.now();
        for _ in 0..BATCH {
            match self.net.next_event() {
                Some(event) => self.handle(Input::Net(event)),
                None => break,
            }
            if self.platform.now() >= began.saturating_add(BATCH_WITHIN) {
                break;
            }
        }
        self.settle();
        self.poll_timer();
    }

    /// Handles what the network answers to the engine's actions. Afterwards nothing is queued.
    fn settle(&mut self) {
        while let Some(event) = self.net.queued_event() {
            self.handle(Input::Net(event));
        }
    }

    /// Does what is due, and sets the timer for what is due next.
    fn poll_timer(&mut self) {
        if !self.is_timer_done() {
            return;
        }
        self.timer = None;
        let now = self.now();
        self.tell_wall_time(now);
        self.engine.handle_timeout(now);
        self.carry_out();
        self.settle();
        if self.is_timer_done() {
            // In the next batch.
            self.timer_due.set();
        }
    }

    /// Whether the engine's deadline has come. If it has not, the timer is set.
    fn is_timer_done(&mut self) -> bool {
        self.timer_due.take();
        let Some(deadline) = self.next_deadline() else {
            self.timer = None;
            return false;
        };
        // A timer that is too early is kept: waking once for nothing costs less than setting it anew each time.
        let (set, timer) = match &mut self.timer {
            Some(timer) if timer.0 <= deadline => timer,
            timer => timer.insert((deadline, self.platform.sleep_until(deadline))),
        };
        let cx = &mut Context::from_waker(&self.timer_waker);
        self.platform.now() >= *set || timer.as_mut().poll(cx).is_ready()
    }

    /// The platform's time by which the engine wants to be called.
    fn next_deadline(&self) -> Option<Duration> {
        self.engine.next_deadline().map(|deadline| self.epoch.saturating_add(deadline.0))
    }

    fn now(&self) -> Time {
        Time(self.platform.now().saturating_sub(self.epoch))
    }

    fn command_id<T>(&mut self) -> CommandId<T> {
        self.last_command += 1;
        CommandId::new(self.last_command)
    }

    /// The wall clock may have jumped since the last input.
    #[cfg_attr(not(feature = "context"), allow(unused_variables, reason = "the context alone has a wall clock"))]
    fn tell_wall_time(&mut self, now: Time) {
        #[cfg(feature = "context")]
        if self.engine.wants_wall_time() {
            self.engine.set_wall_time(now, self.platform.unix_millis());
        }
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        self.tell_wall_time(now);
        self.engine.handle(now, input);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let news = &mut self.news;
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Reply(Reply::Done { id, result }) => self.callers.done.reply(id, result, news),
                Output::Reply(Reply::Stream { id, result }) => self.callers.stream.reply(id, result, news),
                Output::Reply(Reply::Peers { id, result }) => self.callers.peers.reply(id, result, news),
                Output::Reply(Reply::Published { id, result }) => self.callers.published.reply(id, result, news),
                Output::Event(event) => {
                    if !self.readers.take(&event, &mut news.readers) {
                        self.events.push(event);
                        news.has_events = true;
                    }
                }
                Output::Audio { from, stream_id, frame } => {
                    if let Err(frame) = self.readers.push(stream_id, frame, &mut news.readers) {
                        AviEvent::of_audio(from, stream_id, frame).for_each(|event| self.events.push(event));
                        news.has_events = true;
                    }
                }
                Output::Net(action) => self.net.act(action),
                #[cfg(feature = "context")]
                Output::SaveContext { bytes } => self.saver.iter().for_each(|saver| saver.save(bytes.clone())),
                Output::Stopped => self.is_stopped = true,
            }
        }
    }
}
