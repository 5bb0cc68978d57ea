//! How is a run carried out? A fresh thread, a paused clock, the plan's actions at their times.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use avi_p2p::{AviP2pConfig, Identity, Limits};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use crate::app::{self, Order, Reading, Setup};
use crate::audit::{self, Check};
use crate::interpose;
use crate::ledger::Shared;
use crate::network::events::Events;
use crate::network::{CutId, Host, Network, PORT};
use crate::plan::{Action, Plan};
use crate::platform::{SimPlatform, Tasks};
use crate::report::{Report, Sample, Span};
use crate::scenario::Scenario;
use crate::{hostile, summary};

/// What is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The scenario's name or file.
    pub scenario: String,
    /// How many honest nodes.
    pub nodes: usize,
    /// Where all that is drawn comes from.
    pub seed: u64,
    /// How many virtual seconds, if not as many as the scenario says.
    pub seconds: Option<f64>,
    /// Over which network.
    pub network: NetworkKind,
}

/// The networks to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkKind {
    /// Ours: event-driven, for meshes of any size.
    Events,
    /// turmoil, as a cross-check by an independent simulator.
    Turmoil,
}

impl fmt::Display for NetworkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Events => "events",
            Self::Turmoil => "turmoil",
        })
    }
}

impl FromStr for NetworkKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "events" => Ok(Self::Events),
            "turmoil" => Ok(Self::Turmoil),
            other => Err(format!("{other}: expected events or turmoil")),
        }
    }
}

/// Runs a scenario on a thread of its own. `progress` says how many virtual milliseconds have passed.
///
/// One simulation a process: a second one would find what the first left in the counters of the crates below.
pub fn run(options: &Options, scenario: Scenario, progress: Arc<AtomicU64>) -> Report {
    let began = std::time::Instant::now();
    let plan = Plan::draw(&scenario, options.nodes, options.seed);
    let seed = options.seed;
    let description = scenario.description.clone();
    let simulation = std::thread::Builder::new().name("simulation".to_owned()).stack_size(16 << 20).spawn(move || {
        interpose::begin(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
        let report = runtime.block_on(async { World::new(scenario, plan, seed).conduct(&progress).await });
        // Nodes that still run would say goodbye to a world that is over.
        runtime.shutdown_background();
        report
    });
    let report = simulation.map_err(|error| error.to_string()).and_then(|thread| {
        thread.join().map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or("a panic".to_owned()))
    });
    let mut report = report.unwrap_or_else(|panic| summary::of_panic(&panic));
    report.scenario = options.scenario.clone();
    report.description = description;
    report.nodes = options.nodes;
    report.seed = options.seed;
    report.network = options.network.to_string();
    report.wall_seconds = began.elapsed().as_secs_f64();
    report.peak_memory_bytes = summary::peak_memory_bytes();
    report
}

/// A run under way.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) plan: Plan,
    pub(crate) seed: u64,
    pub(crate) ledger: Shared,
    network: Arc<dyn Network>,
    running: BTreeMap<Host, Running>,
    generations: BTreeMap<Host, u32>,
    cuts: BTreeMap<usize, Vec<CutId>>,
    pub(crate) timeline: Vec<Sample>,
    panics: Arc<Mutex<Option<String>>>,
}

struct Running {
    orders: UnboundedSender<Order>,
    tasks: Tasks,
}

impl World {
    /// Must be made inside the simulation's runtime.
    fn new(scenario: Scenario, plan: Plan, seed: u64) -> Self {
        let network = Events::new(plan.hosts, &scenario.link, seed);
        tokio::spawn(network.clone().pump());
        let node = &scenario.node;
        let ledger = Shared::new(plan.honest, node.max_peers, node.max_audio_streams);
        Self {
            ledger,
            network: Arc::new(network),
            running: BTreeMap::new(),
            generations: BTreeMap::new(),
            cuts: BTreeMap::new(),
            timeline: Vec::new(),
            panics: catch_panics(),
            scenario,
            plan,
            seed,
        }
    }

    /// Carries the plan out, and looks at what comes of it.
    async fn conduct(mut self, progress: &AtomicU64) -> Report {
        let epoch = Instant::now();
        let actions = std::mem::take(&mut self.plan.actions);
        self.plan.actions = actions.clone();
        let mut actions = actions.into_iter().peekable();
        let checks: Vec<(Duration, Check)> = audit::checks(&self.plan, &self.scenario.expect);
        let mut checks = checks.into_iter().peekable();
        let mut tick = Duration::from_secs(1);
        loop {
            let next = [actions.peek().map(|(at, _)| *at), checks.peek().map(|(at, _)| *at), Some(tick)];
            let next = next.into_iter().flatten().min().unwrap_or(tick).min(self.plan.end);
            tokio::time::sleep_until(epoch + next).await;
            progress.store(next.as_millis() as u64, Ordering::Relaxed);
            while let Some((_, action)) = actions.next_if(|(at, _)| *at <= next) {
                self.act(action);
            }
            while let Some((_, check)) = checks.next_if(|(at, _)| *at <= next) {
                audit::check(&mut self.ledger.lock(), &self.plan, next, check);
            }
            if tick <= next {
                self.sample(next);
                tick += Duration::from_secs(1);
            }
            self.notice_panics();
            if next >= self.plan.end || self.ledger.lock().violation.is_some() {
                return self.conclude(next);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(host) => self.start(host),
            Action::Leave(host) => {
                if let Some(running) = self.running.remove(&host) {
                    let _ = running.orders.send(Order::Leave);
                }
            }
            Action::Crash(host) => {
                if let Some(running) = self.running.remove(&host) {
                    self.network.power(host, false);
                    running.tasks.end();
                    self.ledger.lock().on_leave(host);
                }
            }
            Action::Publish { node, topic, message } => self.order(node, Order::Publish { topic, message }),
            Action::Call { node, call } => self.order(node, Order::Call { call }),
            Action::Cut { trouble, from, to, mode } => {
                let cut = self.network.cut(&from, &to, mode);
                self.cuts.entry(trouble).or_default().push(cut);
            }
            Action::Heal { trouble } => {
                let cuts = self.cuts.remove(&trouble).unwrap_or_default();
                cuts.into_iter().for_each(|cut| self.network.heal(cut));
            }
            Action::SlowDown(more) => self.network.slow_down(more),
            Action::WakeSlow => self.plan.slow.clone().into_iter().for_each(|host| self.order(host, Order::Wake)),
            Action::Attack => self.attack(),
        }
    }

    fn start(&mut self, host: Host) {
        if self.running.contains_key(&host) {
            return;
        }
        let generation = self.generations.entry(host).or_default();
        *generation += 1;
        self.network.power(host, true);
        let tasks = Tasks::default();
        let platform = SimPlatform::new(self.network.transport(host), tasks.clone());
        let (orders, inbox) = unbounded_channel();
        let setup = Setup {
            host,
            generation: *generation,
            config: self.config(host),
            reading: self.reading(host),
            topics: self.scenario.publish.topics,
            message_bytes: self.scenario.publish.bytes,
            calls: self.scenario.calls.clone(),
            is_honest: (host.0 as usize) < self.plan.honest,
            seed: self.seed,
            lan: self.scenario.topology.lan.then(|| self.network.clone()),
        };
        tasks.spawn(app::run(setup, platform, inbox, self.ledger.clone()));
        self.running.insert(host, Running { orders, tasks });
    }

    fn config(&self, host: Host) -> AviP2pConfig {
        let node = &self.scenario.node;
        let bootstrap = self.plan.bootstrap.get(host.0 as usize).into_iter().flatten();
        AviP2pConfig {
            node_name: format!("node-{}", host.0),
            listen_ips: vec![host.ip()],
            listen_port: PORT,
            bootstrap_peers: bootstrap.map(|host| host.multiaddr()).collect(),
            enable_mdns: self.scenario.topology.lan,
            enable_kad: node.kad,
            max_peers: node.max_peers,
            max_audio_streams: node.max_audio_streams,
            identity: Identity::Bytes(secret(self.seed, host)),
            limits: Limits {
                event_messages: node.event_queue,
                event_audio_frames: node.event_queue,
                ..Limits::default()
            },
            ..AviP2pConfig::default()
        }
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
        let flood = self.scenario.hostile.flood;
        for (index, host) in members.map(Host).enumerate() {
            self.order(host, if index < flood { Order::Flood } else { Order::FloodStreams });
        }
        let outsiders = self.plan.nodes as u32..self.plan.hosts as u32;
        let targets: Vec<_> = (0..self.plan.honest as u32).map(Host).collect();
        for (index, host) in outsiders.map(Host).enumerate() {
            let transport = self.network.transport(host);
            let seed = self.seed ^ u64::from(host.0);
            match index < self.scenario.hostile.garbage {
                true => tokio::spawn(hostile::garbage(transport, targets.clone(), seed)),
                false => tokio::spawn(hostile::dial_storm(transport, targets.clone(), seed)),
            };
        }
    }

    /// Asks every node how it stands, and notes how the run stands.
    fn sample(&mut self, now: Duration) {
        for running in self.running.values() {
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

    fn conclude(self, end: Duration) -> Report {
        let mut ledger = self.ledger.lock();
        audit::at_the_end(&mut ledger, &self.plan);
        summary::check_heartbeats(&mut ledger, &self.plan, end);
        let asked = interpose::asked();
        ledger.trace(&[self.network.digest(), asked.clock, asked.random]);
        let mut report = summary::of(&ledger, &self.plan, self.network.as_ref());
        report.virtual_seconds = end.as_secs_f64();
        report.timeline = self.timeline.clone();
        let spans = self.plan.troubles.iter().map(|trouble| Span {
            from: trouble.from.as_secs_f64(),
            until: trouble.until.as_secs_f64(),
            what: trouble.what.clone(),
        });
        report.troubles = spans.collect();
        report
    }
}

/// The same secret for a host in every run of a seed, whatever happens in it.
fn secret(seed: u64, host: Host) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(b"avi-sim identity");
    digest.update(seed.to_le_bytes());
    digest.update(host.0.to_le_bytes());
    digest.finalize().into()
}

/// tokio catches a task's panic; the run must know of it.
fn catch_panics() -> Arc<Mutex<Option<String>>> {
    let seen = Arc::new(Mutex::new(None));
    let (slot, before) = (seen.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| panic.to_string());
        before(panic);
    }));
    seen
}
