//! One engine, its contract, and a network that remembers the actions to answer.

use std::collections::VecDeque;
use std::time::Duration;

use avi_p2p_proto::config::AviP2pConfig;
use avi_p2p_proto::engine::{Command, CommandId, Engine, Input, NetAction, NetEvent, Output, Reply, Time};
use avi_p2p_proto::event::AviEvent;
use avi_p2p_proto::id::StreamId;
use avi_p2p_proto::recording::Recorded;

use super::super::contract::Contract;
use super::super::recorded::{assert_replays, recorded};
use super::network::Network;
use super::peer;

/// The outputs with their times.
pub(super) type Trace = Vec<(Time, Output)>;

/// The most deadlines in a wait: far more than possible without a livelock.
const MAX_STEPS: usize = 10_000;
/// The longest time of a shutdown: CLOSE frames, last messages, closing of connections.
const STOPPED_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct World {
    engine: Recorded,
    contract: Contract,
    now: Time,
    commands: u64,
    /// Whether the engine also gets timeouts that are not due.
    is_woken_early: bool,
    pub(super) network: Network,
    /// Actions that the network has not answered yet.
    asked: VecDeque<NetAction>,
    /// The streams that the application knows.
    pub(super) streams: Vec<StreamId>,
    trace: Trace,
}

impl World {
    pub(super) fn new(config: &AviP2pConfig, is_woken_early: bool) -> Self {
        let mut world = Self {
            engine: match is_woken_early {
                true => recorded(Engine::new(config, peer(1), [7; 32])),
                false => Recorded::new(Engine::new(config, peer(1), [7; 32]), None),
            },
            contract: Contract::new(config),
            now: Time::ZERO,
            commands: 0,
            is_woken_early,
            network: Network::default(),
            asked: VecDeque::new(),
            streams: Vec::new(),
            trace: Trace::new(),
        };
        world.drain();
        world
    }

    pub(super) fn reuse_ids(&mut self) {
        self.contract.expect_reused_ids();
        self.network.reuses_ids = true;
    }

    // Inputs.

    /// The id of the next command.
    pub(super) fn next_id<T>(&mut self) -> CommandId<T> {
        self.commands += 1;
        CommandId::new(self.commands)
    }

    pub(super) fn command(&mut self, command: Command) {
        self.handle(Input::Command(command));
    }

    pub(super) fn ask(&self, question: impl FnOnce(&Engine, Time)) {
        question(&self.engine, self.now);
    }

    pub(super) fn net(&mut self, event: NetEvent) {
        self.network.on_event(&event);
        self.handle(Input::Net(event));
    }

    /// The network answers the oldest pending action.
    pub(super) fn answer(&mut self, answer: impl FnOnce(&NetAction, &mut Network) -> Vec<NetEvent>) {
        if let Some(action) = self.asked.pop_front() {
            let events = answer(&action, &mut self.network);
            events.into_iter().for_each(|event| self.net(event));
        }
    }

    pub(super) fn answer_all(&mut self) {
        for _ in 0..self.asked.len() {
            self.answer(|action, network| network.as_asked(action));
        }
    }

    /// Advances the time, through every deadline on the way.
    pub(super) fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut steps = 0;
        while let Some(deadline) = self.engine.next_deadline().filter(|deadline| *deadline <= until) {
            steps += 1;
            assert!(steps < MAX_STEPS, "a livelock at {:?}", self.now);
            self.now = self.now.max(deadline);
            self.time_out();
        }
        self.now = until;
    }

    /// Advances the time without handling deadlines.
    pub(super) fn oversleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    pub(super) fn time_out(&mut self) {
        self.engine.handle_timeout(self.now);
        self.drain();
        let deadline = self.engine.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "{deadline:?} is still due at {:?}", self.now);
    }

    pub(super) fn finish(mut self) -> Trace {
        let id = self.next_id();
        self.command(Command::Shutdown { id });
        self.wait(STOPPED_WITHIN);
        self.contract.assert_settled();
        assert_eq!(self.engine.next_deadline(), None, "a deadline after Stopped");
        // After the shutdown, a command is answered and changes nothing.
        let id = self.next_id();
        self.command(Command::Subscribe { id, topic: "t0".to_owned() });
        self.net(NetEvent::InboundFailed);
        self.time_out();
        self.contract.assert_settled();
        if self.is_woken_early {
            assert_replays(&self.engine);
        }
        self.trace
    }

    fn handle(&mut self, input: Input) {
        self.contract.on_input(&input);
        self.engine.handle(self.now, input);
        self.drain();
        if self.is_woken_early {
            Contract::assert_nothing_is_missed(&mut self.engine, self.now);
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.contract.on_output(&output);
            self.trace.push((self.now, output.clone()));
            match output {
                Output::Net(action) => {
                    self.network.on_action(&action);
                    self.asked.push_back(action);
                }
                Output::Event(AviEvent::AudioStreamRequested { stream_id, .. }) => self.streams.push(stream_id),
                Output::Reply(Reply::Stream { result: Ok(stream), .. }) => self.streams.push(stream),
                _ => {}
            }
        }
        if let Ok(stats) = self.engine.stats() {
            self.contract.on_stats(&stats);
        }
    }
}
