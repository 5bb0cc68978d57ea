//! What exists in a run, and how does the plan change it? The same for both networks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use avi_p2p::{AviP2pConfig, ContextOptions, Identity, Limits, NetworkKey};
use futures::executor::block_on;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::app::{self, Order, Reading, Setup};
use crate::audit::{self, Check};
use crate::identity::{identity, keypair, secret};
use crate::interpose;
use crate::ledger::{Rules, Shared};
use crate::mesh::{Change, Mesh};
use crate::network::{CutId, Host, Network};
use crate::plan::{Action, Plan};
use crate::platform::{SimPlatform, Tasks};
use crate::random::{Random, mix};
use crate::recordings::Recordings;
use crate::report::{Report, Sample, Span, Stop};
use crate::scenario::{Ending, Lack, Scenario};
use crate::{foreign, hostile, summary};

/// A running simulation.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) plan: Plan,
    pub(crate) seed: u64,
    pub(crate) ledger: Shared,
    network: Arc<dyn Network>,
    running: BTreeMap<Host, Running>,
    /// The first of two processes of a node, by the number of the fault.
    old: BTreeMap<(usize, Host), Running>,
    /// The machines on which moved nodes start.
    moved: BTreeMap<Host, Host>,
    generations: BTreeMap<Host, u32>,
    cuts: BTreeMap<usize, Vec<CutId>>,
    pub(crate) timeline: Vec<Sample>,
    stops: Vec<Stop>,
    panics: Arc<Mutex<Option<String>>>,
    /// Where the recordings of the nodes go, if they are recorded.
    recordings: Option<Recordings>,
    actions: VecDeque<(Duration, Action)>,
    checks: VecDeque<(Duration, Check)>,
    next_sample: Duration,
}

struct Running {
    machine: Host,
    generation: u32,
    orders: UnboundedSender<Order>,
    tasks: Tasks,
}

impl World {
    /// A world at its start.
    pub(crate) fn new(scenario: Scenario, plan: Plan, seed: u64, network: Arc<dyn Network>) -> Self {
        let Scenario { node, hostile, .. } = &scenario;
        // With so many places, nobody disconnects a peer to make room.
        let has_places = 2 * plan.present().saturating_sub(1) <= node.max_peers;
        let ledger = Shared::new(Rules {
            honest: plan.honest,
            is_calm: plan.troubles.is_empty(),
            foreign: plan.foreign.keys().copied().collect::<BTreeSet<_>>(),
            keeps_foreign: plan.troubles.is_empty() && hostile.count() == 0 && has_places,
            bans_nobody: hostile.flood + hostile.stream_flood + hostile.sybils == 0,
            max_peers: node.max_peers,
            max_audio_streams: node.max_audio_streams,
            frame_within: bound(scenario.expect.frame_within),
            frame_growth: bound(scenario.expect.frame_growth),
            loses_nobody: audit::loses_nobody(&plan),
            calls_survive: scenario.expect.calls_survive,
            enough_peers: (node.max_peers / 2).max(1).min(plan.present().saturating_sub(1)),
        });
        ledger.lock().mesh = Mesh::of(&plan);
        Self {
            ledger,
            network,
            running: BTreeMap::new(),
            old: BTreeMap::new(),
            moved: BTreeMap::new(),
            generations: BTreeMap::new(),
            cuts: BTreeMap::new(),
            timeline: Vec::new(),
            stops: Vec::new(),
            panics: catch_panics(),
            recordings: None,
            actions: plan.actions.clone().into(),
            checks: audit::checks(&plan, &scenario.expect).into(),
            next_sample: Duration::from_secs(1),
            scenario,
            plan,
            seed,
        }
    }

    /// Has all nodes recorded, each start into a file of this folder.
    pub(crate) fn record(&mut self, folder: Option<PathBuf>) {
        self.recordings = folder.map(Recordings::new);
    }

    /// The time of the next action or check.
    pub(crate) fn next(&self) -> Duration {
        let (action, check) = (self.actions.front().map(|(at, _)| *at), self.checks.front().map(|(at, _)| *at));
        let next = [action, check].into_iter().flatten().fold(self.next_sample, Duration::min);
        next.min(self.plan.end)
    }

    /// Does the actions and checks that are due. Returns whether the run is over: at its end, or, unless it goes on to
    /// the end, when a promise is broken.
    pub(crate) fn turn(&mut self, now: Duration, to_the_end: bool) -> bool {
        while self.actions.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, action)) = self.actions.pop_front() else { break };
            self.act(action);
        }
        while self.checks.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, check)) = self.checks.pop_front() else { break };
            audit::check(&mut self.ledger.lock(), &self.plan, now, check);
        }
        if self.next_sample <= now {
            self.sample(now);
            self.next_sample += Duration::from_secs(1);
        }
        self.notice_panics();
        now >= self.plan.end || !to_the_end && self.ledger.lock().violation.is_some()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(host) => self.start(host),
            Action::Leave(host) => {
                let running = self.running.remove(&host);
                running.into_iter().for_each(|running| self.end(host, &running, Ending::Leave));
            }
            Action::Crash(host) => {
                let running = self.running.remove(&host);
                running.into_iter().for_each(|running| self.end(host, &running, Ending::Crash));
            }
            Action::Move { node, to } => drop(self.moved.insert(node, to)),
            Action::Overlap { trouble, node, to } => {
                self.old.extend(self.running.remove(&node).map(|running| ((trouble, node), running)));
                self.moved.insert(node, to);
                self.start(node);
            }
            Action::Retire { trouble, node, ends } => {
                let old = self.old.remove(&(trouble, node));
                old.into_iter().for_each(|running| self.end(node, &running, ends));
            }
            Action::Discover(host) => self.order(host, Order::Discover),
            Action::Publish { node, topic, message } => self.order(node, Order::Publish { topic, message }),
            Action::Write { node, write } => self.order(node, Order::Write { write }),
            Action::ReadContext => {
                (0..self.plan.honest as u32).for_each(|host| self.order(Host(host), Order::ReadContext));
            }
            Action::Call { node, call } => self.order(node, Order::Call { call }),
            Action::Cut { trouble, from, to, mode } => {
                let (from, to) = (self.plan.side(&from), self.plan.side(&to));
                let cut = self.network.cut(&from, &to, mode);
                let mesh = &mut self.ledger.lock().mesh;
                let (from, to) = (mesh.nodes_of(&from), mesh.nodes_of(&to));
                mesh.note(Change::Cut { trouble, from, to });
                self.cuts.entry(trouble).or_default().push(cut);
            }
            Action::Heal { trouble } => {
                self.ledger.lock().mesh.note(Change::Heal { trouble });
                let cuts = self.cuts.remove(&trouble).unwrap_or_default();
                cuts.into_iter().for_each(|cut| self.network.heal(cut));
            }
            Action::Unsubscribe(host) => self.order(host, Order::Unsubscribe),
            Action::Subscribe(host) => self.order(host, Order::Subscribe),
            Action::SlowDown(more) => self.network.slow_down(more),
            Action::WakeSlow => self.plan.slow.clone().into_iter().for_each(|host| self.order(host, Order::Wake)),
            Action::Attack => self.attack(),
        }
    }

    fn end(&self, host: Host, running: &Running, how: Ending) {
        match how {
            Ending::Leave => drop(running.orders.send(Order::Leave)),
            Ending::Crash => {
                if let Some(recordings) = &self.recordings {
                    // Nothing in it waits.
                    block_on(recordings.save(host, running.generation, &self.ledger));
                }
                self.network.power(running.machine, false);
                running.tasks.end();
                self.ledger.lock().on_crash(host, running.generation);
            }
        }
    }

    fn start(&mut self, host: Host) {
        if self.running.contains_key(&host) {
            return;
        }
        let generation = self.generations.entry(host).or_default();
        *generation += 1;
        let generation = *generation;
        let machine = self.moved.get(&host).copied().unwrap_or(host);
        self.network.power(machine, true);
        if self.plan.late.contains(&host.0) {
            self.ledger.lock().on_join(host);
        }
        let tasks = Tasks::default();
        let (orders, inbox) = unbounded_channel();
        let setup = Setup {
            host,
            machine,
            generation,
            config: self.config(host, machine),
            reading: self.reading(host),
            topics: self.scenario.publish.topics,
            message_bytes: self.scenario.publish.bytes,
            shared: self.scenario.context.shared,
            calls: self.scenario.calls.clone(),
            is_honest: (host.0 as usize) < self.plan.honest,
            seed: self.seed,
            recordings: self.recordings.clone(),
            lan: self.scenario.topology.lan.then(|| self.network.clone()),
        };
        let (transport, ledger) = (self.network.transport(machine), self.ledger.clone());
        let wrong_by = self.wrong_by(host, generation);
        let jumps = self.plan.jumps.get(&host).cloned().unwrap_or_default();
        self.running.insert(host, Running { machine, generation, orders, tasks: tasks.clone() });
        let foreign = self.plan.foreign.get(&host).map(|lacks| self.foreign(host, lacks));
        let software = move || match foreign {
            Some(make) => tasks.spawn(foreign::run(setup, make, transport, tasks.clone(), inbox, ledger)),
            None => {
                let platform = SimPlatform::new(transport).with_wall_clock(wrong_by, jumps);
                tasks.spawn(app::run(setup, platform, tasks.clone(), inbox, ledger));
            }
        };
        self.network.launch(machine, Box::new(software));
    }

    /// The seconds by which the wall clock of a node is ahead.
    fn wrong_by(&self, host: Host, generation: u32) -> f64 {
        let hostile = &self.scenario.hostile;
        let first = self.plan.honest + hostile.flood + hostile.stream_flood;
        if self.scenario.context.writes == 0 {
            return 0.0;
        }
        match (host.0 as usize).checked_sub(first) {
            Some(number) if number < hostile.context_flood && number % 2 == 0 => 3600.0,
            _ => {
                let skew = self.scenario.context.skew;
                Random::new(mix(mix(self.seed, host.0.into()), generation.into())).between(-skew, skew)
            }
        }
    }

    fn foreign(&self, host: Host, lacks: &[Lack]) -> foreign::Make {
        let known = self.plan.bootstrap.get(host.0 as usize).into_iter().flatten();
        foreign::Make {
            key: keypair(self.seed, host),
            lacks: lacks.iter().copied().collect(),
            known: known.map(|host| self.plan.homes.socket(*host)).collect(),
        }
    }

    fn config(&self, host: Host, machine: Host) -> AviP2pConfig {
        let node = &self.scenario.node;
        let homes = self.plan.homes;
        let listen = homes.socket(machine);
        let bootstrap = self.plan.bootstrap.get(host.0 as usize).into_iter().flatten();
        AviP2pConfig {
            node_name: format!("node-{}", host.0),
            listen_ips: vec![listen.ip()],
            listen_port: listen.port(),
            bootstrap_peers: bootstrap.map(|host| homes.multiaddr(*host)).collect(),
            enable_mdns: self.scenario.topology.lan,
            // A sybil connects only to the victim.
            enable_kad: node.kad && !self.plan.sybils.contains(&host.0),
            enable_datagrams: node.datagrams,
            network_key: node.private.then(|| NetworkKey::from_bytes(secret(self.seed, "network key", Host(0)))),
            max_peers: node.max_peers,
            max_audio_streams: node.max_audio_streams,
            identity: Identity::Bytes(identity(self.seed, host)),
            context: (self.scenario.context.writes > 0).then(|| self.context()),
            limits: Limits {
                event_messages: node.event_queue,
                event_audio_frames: node.event_queue,
                ..Limits::default()
            },
            ..AviP2pConfig::default()
        }
    }

    fn context(&self) -> ContextOptions {
        let defaults = ContextOptions::default();
        let tombstone_lifetime = bound(self.scenario.context.tombstone_lifetime).unwrap_or(defaults.tombstone_lifetime);
        ContextOptions { tombstone_lifetime, ..defaults }
    }

    fn reading(&self, host: Host) -> Reading {
        match (self.plan.slow.contains(&host), self.scenario.slow_consumers.event_ms) {
            (false, _) => Reading::Promptly,
            (true, 0) => Reading::Never,
            (true, pause) => Reading::Slowly(Duration::from_millis(pause)),
        }
    }

    fn order(&self, host: Host, order: Order) {
        if let Some(running) = self.running.get(&host) {
            let _ = running.orders.send(order);
        }
    }

    fn attack(&mut self) {
        let members = self.plan.honest as u32..self.plan.nodes as u32;
        let (flood, streams) = (self.scenario.hostile.flood, self.scenario.hostile.stream_flood);
        for (index, host) in members.map(Host).enumerate() {
            self.order(
                host,
                match index {
                    _ if index < flood => Order::Flood,
                    _ if index < flood + streams => Order::FloodStreams,
                    _ => Order::FloodContext { is_ahead: (index - flood - streams) % 2 == 0 },
                },
            );
        }
        let honest = (0..self.plan.honest as u32).map(Host);
        let present = honest.filter(|host| !self.plan.absent.contains(host));
        let targets: Vec<_> = present.map(|host| self.plan.homes.socket(host)).collect();
        for (index, host) in self.plan.outsiders.clone().map(Host).enumerate() {
            let transport = self.network.transport(host);
            let seed = self.seed ^ u64::from(host.0);
            let (is_garbage, targets) = (index < self.scenario.hostile.garbage, targets.clone());
            let software = move || match is_garbage {
                true => drop(tokio::spawn(hostile::garbage(transport, targets, seed))),
                false => drop(tokio::spawn(hostile::dial_storm(transport, targets, seed))),
            };
            self.network.launch(host, Box::new(software));
        }
    }

    /// Records the trace of everything before this time. How often the time was asked for is no part of it: that depends on
    /// earlier stops.
    pub(crate) fn stop(&mut self, at: Duration, branch: Option<u64>) {
        let random = interpose::asked().random;
        let trace = self.ledger.lock().digest_with(&[self.network.digest(), random]);
        self.stops.push(Stop { at: at.as_secs_f64(), trace, branch });
    }

    /// Has all nodes that run draw from another seed.
    pub(crate) fn reseed(&self, seed: u64) {
        for running in self.running.values().chain(self.old.values()) {
            let _ = running.orders.send(Order::Reseed { seed });
        }
    }

    /// Asks every node for its state, and records a sample.
    fn sample(&mut self, now: Duration) {
        for running in self.running.values().chain(self.old.values()) {
            let _ = running.orders.send(Order::Sample);
        }
        let sample = summary::sample(&self.ledger.lock(), &self.plan, self.network.as_ref(), now);
        self.timeline.push(sample);
    }

    fn notice_panics(&self) {
        let panic = self.panics.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            self.ledger.lock().violate("nothing panics", Host(0), panic);
        }
    }

    /// Makes the report.
    pub(crate) fn conclude(self, end: Duration) -> Report {
        if let Some(recordings) = &self.recordings {
            block_on(recordings.save_all(&self.ledger));
        }
        let mut ledger = self.ledger.lock();
        ledger.context.has_one_clock =
            self.scenario.context.skew == 0.0 && self.plan.jumps.is_empty() && self.scenario.hostile.context_flood == 0;
        audit::at_the_end(&mut ledger, &self.plan);
        summary::check_heartbeats(&mut ledger, &self.plan, end);
        let asked = interpose::asked();
        ledger.trace(&[self.network.digest(), asked.clock, asked.random]);
        let mut report = summary::of(&ledger, &self.plan, self.network.as_ref());
        report.virtual_seconds = end.as_secs_f64();
        report.timeline = self.timeline.clone();
        report.stops = self.stops.clone();
        report.mesh = std::mem::take(&mut ledger.mesh);
        let spans = self.plan.troubles.iter().map(|trouble| Span {
            from: trouble.from.as_secs_f64(),
            until: trouble.until.as_secs_f64(),
            what: trouble.what.clone(),
        });
        report.troubles = spans.collect();
        report
    }
}

/// A bound in seconds, of which 0 is none.
fn bound(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|bound| !bound.is_zero())
}

/// tokio catches a task's panic, but the run must report it.
fn catch_panics() -> Arc<Mutex<Option<String>>> {
    let seen = Arc::new(Mutex::new(None));
    let (slot, before) = (seen.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| panic.to_string());
        before(panic);
    }));
    seen
}
