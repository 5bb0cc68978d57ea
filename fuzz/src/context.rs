//! Do nodes come to the same shared context, whatever is lost, repeated, mangled or made up on the way?

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use avi_p2p_proto::config::AviP2pConfig;
use avi_p2p_proto::context::{ContextOptions, ContextWrite};
use avi_p2p_proto::engine::{
    AskId, Command, CommandId, ConnectionId, ContextStart, Direction, Engine, ExchangeId, Input, NetAction, NetEvent,
    Output, PublishOutcome, Time,
};
use avi_p2p_proto::id::PeerId;
use avi_p2p_proto::recording::Recorded;
use bytes::Bytes;
use serde_json::{Value, json};

use super::contract::Contract;
use super::recorded::{assert_replays, recorded};
use super::script::Script;

const TOPIC: &str = "/avi/context/1";
/// The peer ids of the keys whose secret bytes are all 1, all 2, all 3.
const IDS: [&str; 3] = [
    "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5",
    "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq",
    "12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba",
];
/// 2026-01-01.
const STARTED_AT: u64 = 1_767_225_600_000;
/// Clocks are wrong by less than half of what is accepted.
const MAX_SKEW_MS: u64 = 7 * 60_000;
/// The longest wait of a step.
const MAX_WAIT: Duration = Duration::from_secs(100);
/// After the last fault: a minute in which a mangled frame is held against its bearer, and a round for each neighbour.
const EQUAL_WITHIN: Duration = Duration::from_secs(240);
/// More events than any input can lead to without a livelock.
const MAX_EVENTS: usize = 100_000;

struct Node {
    id: PeerId,
    engine: Recorded,
    contract: Contract,
    unix_millis: u64,
    commands: u64,
}

struct World {
    nodes: Vec<Node>,
    now: Time,
    /// What is under way, and to whom.
    queue: VecDeque<(usize, NetEvent)>,
    /// Who asked, in which exchange.
    asked: BTreeMap<AskId, (usize, ExchangeId)>,
    last_ask: u64,
}

/// Three nodes write, and the network between them does what the input says. There must be no panic, and afterwards all
/// have the same.
pub fn context(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new(script.flag());
    while !script.is_over() {
        step(&mut world, &mut script);
    }
    world.heal();
    let all: Vec<_> = (0..IDS.len()).map(|n| world.nodes[n].engine.context_value("")).collect();
    assert_eq!(all[0], all[1], "nodes 0 and 1 differ");
    assert_eq!(all[1], all[2], "nodes 1 and 2 differ");
    world.finish();
}

fn step(world: &mut World, script: &mut Script) {
    match script.byte() {
        0..0x60 => any_write(world, script),
        0x60..0xa0 => world.deliver(1 + script.below(8)),
        0xa0..0xb0 => world.lose(),
        0xb0..0xb8 => world.repeat(),
        0xb8..0xd0 => world.mangle(script),
        0xd0..0xe0 => {
            let (n, from, noise) = (script.below(3), script.below(3), Bytes::copy_from_slice(script.bytes(300)));
            world.make_up(n, from, noise, script.flag());
        }
        0xe0..0xe8 => {
            let n = script.below(3);
            world.nodes[n].unix_millis = STARTED_AT + script.number() % MAX_SKEW_MS;
        }
        0xe8.. => world.wait(script.duration().min(MAX_WAIT)),
    }
}

fn any_write(world: &mut World, script: &mut Script) {
    let n = script.below(3);
    let path = match script.below(10) {
        0 => String::new(),
        1 => "a".to_owned(),
        2 => "a.b".to_owned(),
        3 => "a.c".to_owned(),
        4 => "a-b".to_owned(),
        5 => format!("a.{}", IDS[script.below(3)]),
        6 => format!("a.{}.x", IDS[n]),
        7 => "d.e.f".to_owned(),
        8 => format!("d.{}", script.byte()),
        _ => script.text(300),
    };
    let value = match script.below(6) {
        0 => json!({}),
        1 => json!(null),
        2 => json!({ "b": script.byte(), "c": { "d": [script.byte()] } }),
        3 => Value::String(script.text(300)),
        4 => Value::String("x".repeat(400 * usize::from(script.byte()))),
        _ => json!(script.number()),
    };
    let write = match script.below(4) {
        0 => ContextWrite::Remove { path },
        1 => ContextWrite::Replace { path, value },
        _ => ContextWrite::Set { path, value },
    };
    let node = &mut world.nodes[n];
    node.commands += 1;
    let id = CommandId::new(node.commands);
    world.handle(n, Input::Command(Command::WriteContext { id, write }));
}

impl World {
    fn new(has_ownership: bool) -> Self {
        let options = ContextOptions { ownership: has_ownership, ..ContextOptions::default() };
        let config =
            AviP2pConfig { enable_mdns: false, enable_kad: false, context: Some(options), ..AviP2pConfig::default() };
        let start = |n: usize| {
            let (id, secret) = (PeerId::new(IDS[n]), [n as u8 + 1; 32]);
            let mut engine = Engine::new(&config, id.clone(), secret);
            let start = ContextStart { secret: Some(secret.into()), file: None, unix_millis: STARTED_AT };
            engine.start_context(start).expect("there is no file");
            Node {
                id,
                engine: recorded(engine),
                contract: Contract::new(&config),
                unix_millis: STARTED_AT,
                commands: 0,
            }
        };
        let nodes = (0..IDS.len()).map(start).collect();
        let mut world = Self { nodes, now: Time::ZERO, queue: VecDeque::new(), asked: BTreeMap::new(), last_ask: 0 };
        for n in 0..IDS.len() {
            world.drain(n);
            for (other, id) in IDS.iter().enumerate().filter(|(other, _)| *other != n) {
                let (peer, address) = (PeerId::new(id), super::engine_ops::address(other as u16));
                let (connection, direction) = (ConnectionId(other as u64), Direction::Inbound);
                world.net(n, NetEvent::Connected { connection, peer: peer.clone(), address, direction });
                world.net(n, NetEvent::PeerSubscribed { peer, topic: TOPIC.to_owned() });
            }
        }
        world
    }

    // What the input does.

    fn deliver(&mut self, events: usize) {
        for _ in 0..events {
            let Some((n, event)) = self.queue.pop_front() else { return };
            self.net(n, event);
        }
    }

    /// The oldest event under way never arrives. A request that is lost is told to who asked.
    fn lose(&mut self) {
        let Some((n, event)) = self.queue.pop_front() else { return };
        match event {
            NetEvent::ContextAsked { ask, .. } => {
                let Some((asks, exchange)) = self.asked.remove(&ask) else { return };
                self.net(asks, NetEvent::ContextAnswered { exchange, result: Err("lost".to_owned()) });
            }
            NetEvent::ContextAnswered { exchange, .. } => {
                self.net(n, NetEvent::ContextAnswered { exchange, result: Err("lost".to_owned()) });
            }
            _ => {}
        }
    }

    /// The oldest message arrives twice.
    fn repeat(&mut self) {
        if let Some((n, event @ NetEvent::Message { .. })) = self.queue.front().cloned() {
            self.net(n, event);
        }
    }

    /// The oldest event under way has other bytes.
    fn mangle(&mut self, script: &mut Script) {
        let mut mangled = |bytes: &Bytes| {
            let mut bytes = bytes.to_vec();
            let at = script.number() as usize;
            match script.below(3) {
                0 if !bytes.is_empty() => {
                    let at = at % bytes.len();
                    bytes[at] ^= 1 << script.below(8);
                }
                1 => bytes.truncate(at % (bytes.len() + 1)),
                _ => bytes.extend_from_slice(script.bytes(64)),
            }
            Bytes::from(bytes)
        };
        match self.queue.front_mut() {
            Some((_, NetEvent::Message { data, .. })) => *data = mangled(data),
            Some((_, NetEvent::ContextAsked { request, .. })) => *request = mangled(request),
            Some((_, NetEvent::ContextAnswered { result: Ok(response), .. })) => *response = mangled(response),
            _ => {}
        }
    }

    /// A peer sends bytes of its own making.
    fn make_up(&mut self, n: usize, from: usize, bytes: Bytes, is_message: bool) {
        let peer = self.nodes[from].id.clone();
        if from == n {
            return;
        }
        self.last_ask += 1;
        let event = match is_message {
            true => NetEvent::Message { from: peer, topic: TOPIC.to_owned(), data: bytes },
            false => NetEvent::ContextAsked { ask: AskId(self.last_ask), peer, request: bytes },
        };
        self.net(n, event);
    }

    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        for _ in 0..MAX_EVENTS {
            let due = self.nodes.iter().filter_map(|node| node.engine.next_deadline()).min();
            let Some(due) = due.filter(|due| *due <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(due);
            for n in 0..self.nodes.len() {
                self.tell_time(n);
                self.nodes[n].engine.handle_timeout(self.now);
                self.drain(n);
            }
        }
        panic!("a livelock at {:?}", self.now);
    }

    /// From now on everything arrives.
    fn heal(&mut self) {
        let until = self.now + EQUAL_WITHIN;
        while self.now < until {
            let mut events = 0;
            while !self.queue.is_empty() {
                self.deliver(1);
                events += 1;
                assert!(events < MAX_EVENTS, "a livelock at {:?}", self.now);
            }
            self.wait(Duration::from_millis(500));
        }
    }

    fn finish(mut self) {
        for n in 0..self.nodes.len() {
            self.nodes[n].commands += 1;
            let id = CommandId::new(self.nodes[n].commands);
            self.handle(n, Input::Command(Command::Shutdown { id }));
        }
        self.wait(Duration::from_secs(3));
        for node in &self.nodes {
            node.contract.assert_settled();
            assert_replays(&node.engine);
        }
    }

    // What engines do.

    fn net(&mut self, n: usize, event: NetEvent) {
        self.handle(n, Input::Net(event));
    }

    fn tell_time(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.engine.set_wall_time(self.now, node.unix_millis + self.now.as_micros() / 1000);
    }

    fn handle(&mut self, n: usize, input: Input) {
        self.tell_time(n);
        let node = &mut self.nodes[n];
        node.contract.on_input(&input);
        node.engine.handle(self.now, input);
        self.drain(n);
        let node = &mut self.nodes[n];
        Contract::assert_nothing_is_missed(&mut node.engine, self.now);
    }

    fn drain(&mut self, n: usize) {
        while let Some(output) = self.nodes[n].engine.poll_output() {
            self.nodes[n].contract.on_output(&output);
            if let Output::Net(action) = output {
                self.carry_out(n, action);
            }
        }
    }

    fn carry_out(&mut self, n: usize, action: NetAction) {
        let from = self.nodes[n].id.clone();
        let place = |peer: &PeerId| IDS.iter().position(|id| *id == peer.as_str()).expect("one of the three");
        match action {
            NetAction::Publish { publish, topic, data } => {
                for other in (0..IDS.len()).filter(|other| *other != n) {
                    let (from, topic, data) = (from.clone(), topic.to_string(), data.clone());
                    self.queue.push_back((other, NetEvent::Message { from, topic, data }));
                }
                self.queue.push_back((n, NetEvent::Published { publish, outcome: PublishOutcome::Sent }));
            }
            NetAction::AskContext { exchange, peer, request } => {
                self.last_ask += 1;
                let ask = AskId(self.last_ask);
                self.asked.insert(ask, (n, exchange));
                self.queue.push_back((place(&peer), NetEvent::ContextAsked { ask, peer: from, request }));
            }
            NetAction::AnswerContext { ask, response } => {
                if let Some((asks, exchange)) = self.asked.remove(&ask) {
                    let result = response.ok_or_else(|| "the substream has ended".to_owned());
                    self.queue.push_back((asks, NetEvent::ContextAnswered { exchange, result }));
                }
            }
            NetAction::CheckAlive { connection } => {
                self.queue.push_back((n, NetEvent::Progress { connection, silent_for: Duration::ZERO }));
            }
            _ => {}
        }
    }
}
