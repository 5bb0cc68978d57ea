//! Who may have the engine? The drive loop and the callers, one at a time, each for one input.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;

use super::Platform;
use crate::engine::{Command, CommandId, Engine, Input, Output, Reply, Time};
use crate::error::AviP2pError;

/// Calls that are answered at once, before the caller lets the other tasks of its executor have a turn.
const CALLS_IN_A_ROW: u64 = 32;

/// The engine, and what it wants done. What comes out of it is carried out by the drive loop alone, in order.
pub(crate) struct Desk {
    state: Mutex<State>,
    drive_loop: AtomicWaker,
    platform: Arc<dyn Platform>,
    /// The platform's time when the engine's began.
    epoch: Duration,
}

struct State {
    engine: Engine,
    outputs: VecDeque<Output>,
    next_command: u64,
    /// Nobody carries anything out any more.
    is_closed: bool,
}

impl State {
    fn command_id(&mut self) -> CommandId {
        self.next_command += 1;
        CommandId(self.next_command)
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.outputs.push_back(output);
        }
    }
}

impl Desk {
    pub(super) fn new(platform: Arc<dyn Platform>, engine: impl FnOnce() -> Engine) -> Arc<Self> {
        let epoch = platform.now();
        let mut state = State { engine: engine(), outputs: VecDeque::new(), next_command: 0, is_closed: false };
        state.drain();
        Arc::new(Self { state: Mutex::new(state), drive_loop: AtomicWaker::new(), platform, epoch })
    }

    /// Has a call answered here and now, by the thread that makes it: a frame of audio costs no switch of threads, and
    /// what is sent while the drive loop is busy goes out as one write. Only for commands that the engine answers at
    /// once and that move no deadline.
    pub(crate) async fn answer(&self, command: Command) -> Reply {
        let (reply, count) = self.answer_now(command);
        if count.is_multiple_of(CALLS_IN_A_ROW) {
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
        reply
    }

    fn answer_now(&self, command: Command) -> (Reply, u64) {
        let mut state = self.lock();
        if state.is_closed {
            return (Err(AviP2pError::ChannelClosed), 1);
        }
        let command_id = state.command_id();
        state.engine.handle(self.now(), Input::Command { id: command_id, command });
        let mut reply = None;
        while let Some(output) = state.engine.poll_output() {
            match output {
                Output::Reply { id, result } if id == command_id => reply = Some(result),
                output => state.outputs.push_back(output),
            }
        }
        let is_due = !state.outputs.is_empty();
        drop(state);
        if is_due {
            self.drive_loop.wake();
        }
        (reply.unwrap_or(Err(AviP2pError::ChannelClosed)), command_id.0)
    }

    // The drive loop's side.

    /// To be called before the loop looks for work.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.drive_loop.register(cx.waker());
    }

    /// Takes what is to be carried out. False if that is nothing.
    pub(super) fn take(&self, outputs: &mut VecDeque<Output>) -> bool {
        std::mem::swap(&mut self.lock().outputs, outputs);
        !outputs.is_empty()
    }

    /// Hands over a command, whose reply will be among the outputs.
    pub(super) fn command(&self, command: Command, outputs: &mut VecDeque<Output>) -> CommandId {
        let mut state = self.lock();
        let id = state.command_id();
        state.engine.handle(self.now(), Input::Command { id, command });
        state.drain();
        std::mem::swap(&mut state.outputs, outputs);
        id
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

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::{BoxFuture, pending};

    use super::*;
    use crate::config::AviP2pConfig;
    use crate::id::{PeerId, StreamId};
    use crate::transport::Network;

    /// Time stands still, and nothing runs.
    struct Still;

    impl Platform for Still {
        fn spawn(&self, _: BoxFuture<'static, ()>) {}

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

    fn desk() -> Arc<Desk> {
        Desk::new(Arc::new(Still), || Engine::new(&AviP2pConfig::default(), PeerId::new("me"), [0; 32]))
    }

    fn frame() -> Command {
        Command::SendAudio { stream: StreamId(1), data: bytes::Bytes::from_static(b"audio") }
    }

    #[test]
    fn a_call_is_answered_without_the_drive_loop_until_that_has_ended() {
        let desk = desk();
        assert_eq!(desk.answer(frame()).now_or_never(), Some(Err(AviP2pError::StreamNotFound(StreamId(1)))));
        desk.close();
        assert_eq!(desk.answer(frame()).now_or_never(), Some(Err(AviP2pError::ChannelClosed)));
    }

    #[test]
    fn whoever_calls_without_pause_lets_other_tasks_have_a_turn() {
        let desk = desk();
        let answered = (0..10 * CALLS_IN_A_ROW).filter(|_| desk.answer(frame()).now_or_never().is_some()).count();
        assert_eq!(answered as u64, 10 * (CALLS_IN_A_ROW - 1));
    }
}
