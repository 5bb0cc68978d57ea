//! How is the engine served? Takes inputs to it, and carries out what comes of them, on whichever thread has the lock.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;

use super::events::CloseOnDrop;
use super::{Call, Caller, Desk, Place, ReplyTo};
use crate::engine::{Command, CommandId, Input, Output, Reply};
use crate::id::{PeerId, StreamId};
use crate::net::Net;

/// Inputs of one kind that are taken in a row before the other kind has its turn.
const BATCH: usize = 64;
/// Turns before the reactor, which says what sockets are ready, has its own.
const TURNS: usize = 4;
/// How long the application may wait for an event while there is more to do: waking it for each would cost the busy
/// more than the events do.
const NEWS_WITHIN: Duration = Duration::from_micros(200);

/// What a caller writes itself. More is left to the node's task, which encrypts it on another thread while the
/// caller goes on: that saves more than it costs to wake one.
const HEAVY_BYTES: usize = 32 * 1024;
/// The most that is left in a row, before the caller moves it all: a queue that grows costs more than it saves.
const MAX_LEFT_BYTES: usize = 8 * HEAVY_BYTES;
/// A write costs as much as to encrypt this.
const WRITE_BYTES: usize = 4 * 1024;

/// Of the one command that is nobody's call. The calls' begin at 1.
const OWN_COMMAND: CommandId = CommandId::new(0);

/// The calls that wait. Whoever waits for an answer that will not come is told so: dropping the channel's receiver
/// alone would keep what is in it.
struct Calls(Pin<Box<async_channel::Receiver<(Call, Place)>>>);

impl Drop for Calls {
    fn drop(&mut self) {
        self.0.close();
        while self.0.try_recv().is_ok() {}
    }
}

/// Who waits for which reply.
#[derive(Default)]
struct Callers {
    done: BTreeMap<CommandId, ReplyTo<()>>,
    streams: BTreeMap<CommandId<StreamId>, ReplyTo<StreamId>>,
    peers: BTreeMap<CommandId<Vec<PeerId>>, ReplyTo<Vec<PeerId>>>,
}

impl Callers {
    fn insert(&mut self, caller: Caller) {
        match caller {
            Caller::Done(id, reply_to) => drop(self.done.insert(id, reply_to)),
            Caller::Stream(id, reply_to) => drop(self.streams.insert(id, reply_to)),
            Caller::Peers(id, reply_to) => drop(self.peers.insert(id, reply_to)),
        }
    }

    /// A caller who gave up does not want to know.
    fn answer(&mut self, reply: Reply) {
        match reply {
            Reply::Done { id, result } => drop(self.done.remove(&id).map(|reply_to| reply_to.send(result))),
            Reply::Stream { id, result } => drop(self.streams.remove(&id).map(|reply_to| reply_to.send(result))),
            Reply::Peers { id, result } => drop(self.peers.remove(&id).map(|reply_to| reply_to.send(result))),
        }
    }
}

/// The network, and everyone who waits for something.
pub(super) struct Driver {
    /// To be carried out; empty between inputs.
    outputs: VecDeque<Output>,
    net: Net,
    calls: Calls,
    are_calls_closed: bool,
    callers: Callers,
    events: CloseOnDrop,
    /// When the first event came of those whose reader has not been woken yet.
    news_since: Option<Duration>,
    timer: Option<(Duration, BoxFuture<'static, ()>)>,
    is_stopped: bool,
    /// Bytes that callers have left to the node's task since it last ran.
    left_bytes: usize,
}

impl Driver {
    pub(super) fn new(net: Net, calls: async_channel::Receiver<(Call, Place)>, events: CloseOnDrop) -> Self {
        Self {
            outputs: VecDeque::new(),
            net,
            calls: Calls(Box::pin(calls)),
            are_calls_closed: false,
            callers: Callers::default(),
            events,
            news_since: None,
            timer: None,
            is_stopped: false,
            left_bytes: 0,
        }
    }

    /// Does what there is to do. Returns whether it has left off before it found nothing more; besides, what comes
    /// meanwhile [is due](Self::is_due).
    pub(super) fn poll(&mut self, desk: &Desk, cx: &mut Context<'_>) -> bool {
        self.left_bytes = 0;
        for _ in 0..TURNS {
            let called = self.take_outputs(desk) | self.poll_calls(desk, cx);
            let heard = self.poll_net(desk);
            if heard && self.take_news() {
                self.events.0.wake();
            }
            let timed_out = self.poll_timer(desk, cx);
            if self.is_stopped || !(called || heard || timed_out) {
                return false;
            }
        }
        true
    }

    /// Carries a caller's command out as far as it goes at once.
    pub(super) fn call(&mut self, desk: &Desk, call: Call) {
        let bytes = if let Command::Publish { data, .. } = &call.command { data.len() } else { 0 };
        let cost = self.net.connection_count() * (bytes + WRITE_BYTES);
        self.handle_call(desk, call);
        self.settle(desk);
        self.left_bytes += cost;
        if cost <= HEAVY_BYTES || self.left_bytes > MAX_LEFT_BYTES {
            self.left_bytes = 0;
            self.net.move_bytes();
        }
    }

    /// Carries out what callers have come to, as far as it goes at once: to the sockets, if they take it.
    pub(super) fn flush(&mut self, desk: &Desk) {
        self.settle(desk);
        self.net.move_bytes();
    }

    fn settle(&mut self, desk: &Desk) {
        self.take_outputs(desk);
        while let Some(event) = self.net.queued_event() {
            self.handle(desk, Input::Net(event));
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Whether the drive loop must not sleep.
    pub(super) fn is_due(&self, desk: &Desk) -> bool {
        let is_timer_due = || match (desk.next_deadline(), &self.timer) {
            // It is set too late, or its time has come.
            (Some(deadline), Some((set, _))) => deadline < *set || desk.platform_now() >= *set,
            (deadline, None) => deadline.is_some(),
            (None, Some(_)) => false,
        };
        let are_calls_due = || !self.calls.0.is_empty() || self.calls.0.is_closed() && !self.are_calls_closed;
        self.is_stopped || self.net.is_due() || desk.is_due() || are_calls_due() || is_timer_due()
    }

    /// Whether the events' reader is to be woken, which whoever asks then does.
    pub(super) fn take_news(&mut self) -> bool {
        self.news_since.take().is_some()
    }

    /// Whether anything came.
    fn poll_calls(&mut self, desk: &Desk, cx: &mut Context<'_>) -> bool {
        for taken in 0..BATCH {
            if self.are_calls_closed {
                return taken > 0;
            }
            match self.calls.0.as_mut().poll_next(cx) {
                Poll::Ready(Some((call, place))) => {
                    self.handle_call(desk, call);
                    drop(place);
                }
                Poll::Ready(None) => {
                    // The last owner is gone.
                    self.are_calls_closed = true;
                    self.handle(desk, Input::Command(Command::Shutdown { id: OWN_COMMAND }));
                }
                Poll::Pending => return taken > 0,
            }
        }
        true
    }

    fn poll_net(&mut self, desk: &Desk) -> bool {
        for taken in 0..BATCH {
            match self.net.next_event() {
                Some(event) => self.handle(desk, Input::Net(event)),
                None => return taken > 0,
            }
            if self.news_since.is_some_and(|since| desk.platform_now() >= since.saturating_add(NEWS_WITHIN)) {
                self.news_since = None;
                self.events.0.wake();
            }
        }
        true
    }

    fn poll_timer(&mut self, desk: &Desk, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = desk.next_deadline() else {
            self.timer = None;
            return false;
        };
        // A timer that is too early is kept: waking once for nothing costs less than setting it anew each time.
        let (set, timer) = match &mut self.timer {
            Some(timer) if timer.0 <= deadline => timer,
            timer => timer.insert((deadline, desk.sleep_until(deadline))),
        };
        if desk.platform_now() < *set && timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer = None;
        desk.handle_timeout(&mut self.outputs);
        self.carry_out(desk);
        true
    }

    fn handle(&mut self, desk: &Desk, input: Input) {
        desk.handle(input, &mut self.outputs);
        self.carry_out(desk);
    }

    fn handle_call(&mut self, desk: &Desk, Call { command, caller }: Call) {
        self.callers.insert(caller);
        self.handle(desk, Input::Command(command));
    }

    /// Carries out what calls have come to that were answered at once. Whether there was any.
    fn take_outputs(&mut self, desk: &Desk) -> bool {
        let any = desk.take(&mut self.outputs);
        self.carry_out(desk);
        any
    }

    fn carry_out(&mut self, desk: &Desk) {
        while let Some(output) = self.outputs.pop_front() {
            match output {
                Output::Reply(reply) => self.callers.answer(reply),
                Output::Event(event) => {
                    self.events.0.push(event);
                    // Once for many of them: a reader that is woken by the first falls asleep before the second.
                    self.news_since.get_or_insert_with(|| desk.platform_now());
                }
                Output::Net(action) => self.net.act(action),
                Output::Stopped => self.is_stopped = true,
            }
        }
    }
}
