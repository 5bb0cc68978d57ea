//! How is a run carried out? On a fresh thread, over the network of choice, from one thing of the plan to the next.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use crate::network::events::Events;
use crate::network::turmoil::Turmoil;
use crate::plan::Plan;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::world::World;
use crate::{interpose, summary};

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

impl NetworkKind {
    /// Whether a scenario can be run on it.
    ///
    /// # Errors
    /// What of the scenario it cannot do.
    pub fn supports(self, scenario: &Scenario) -> Result<(), Unsupported> {
        match (self, scenario.link.uplink_kbit) {
            (Self::Turmoil, uplink_kbit @ 1..) => Err(Unsupported::Uplink { uplink_kbit }),
            _ => Ok(()),
        }
    }
}

/// Why a scenario cannot be run on a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unsupported {
    /// Only `events` bounds what a node can send.
    #[error("link.uplink_kbit = {uplink_kbit}: turmoil has no bandwidth: expected 0, or --network events")]
    Uplink {
        /// What the scenario asks for.
        uplink_kbit: u64,
    },
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

/// How much wall time a virtual second may take: far more than it takes with ten thousand nodes.
const STUCK_AFTER: Duration = Duration::from_secs(300);

/// Runs a scenario on a thread of its own. `progress` says how many virtual milliseconds have passed.
///
/// One simulation a process: a second one would find what the first left in the counters of the crates below.
pub fn run(options: &Options, scenario: Scenario, progress: Arc<AtomicU64>) -> Report {
    let began = std::time::Instant::now();
    let plan = Plan::draw(&scenario, options.nodes, options.seed);
    let (seed, kind) = (options.seed, options.network);
    let description = scenario.description.clone();
    let (ending, ended) = mpsc::channel();
    let passed = progress.clone();
    let simulation = std::thread::Builder::new().name("simulation".to_owned()).stack_size(16 << 20).spawn(move || {
        // Dropped when the simulation ends, however it does.
        let _ending: mpsc::Sender<()> = ending;
        interpose::begin(seed);
        match kind {
            NetworkKind::Events => on_events(scenario, plan, seed, &progress),
            NetworkKind::Turmoil => on_turmoil(scenario, plan, seed, &progress),
        }
    });
    let report = match simulation {
        Err(error) => Err(error.to_string()),
        Ok(_) if is_stuck(&passed, &ended) => Err(format!("no virtual time has passed for {STUCK_AFTER:?}")),
        Ok(thread) => {
            thread.join().map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or("a panic".to_owned()))
        }
    };
    let mut report = report.unwrap_or_else(|failure| summary::of_failure(&failure));
    report.scenario = options.scenario.clone();
    report.description = description;
    report.nodes = options.nodes;
    report.seed = options.seed;
    report.network = options.network.to_string();
    report.wall_seconds = began.elapsed().as_secs_f64();
    report.peak_memory_bytes = summary::peak_memory_bytes();
    report
}

/// Waits for the end of a simulation, or until its virtual time stands still: whatever polls without end in one task is
/// not caught by the bound on polls.
fn is_stuck(progress: &AtomicU64, ended: &mpsc::Receiver<()>) -> bool {
    let (mut last, mut since) = (0, std::time::Instant::now());
    while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_secs(1)) {
        let now = progress.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, std::time::Instant::now());
        } else if since.elapsed() > STUCK_AFTER {
            return true;
        }
    }
    false
}

/// In one runtime, whose paused clock jumps to what comes next.
fn on_events(scenario: Scenario, plan: Plan, seed: u64, progress: &AtomicU64) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
    let report = runtime.block_on(async {
        let network = Events::new(plan.hosts, &scenario.link, seed);
        tokio::spawn(network.clone().pump());
        let mut world = World::new(scenario, plan, seed, Arc::new(network));
        let epoch = Instant::now();
        loop {
            let next = world.next();
            tokio::time::sleep_until(epoch + next).await;
            note(progress, next);
            if world.turn(next) {
                return world.conclude(next);
            }
        }
    });
    // Nodes that still run would say goodbye to a world that is over.
    runtime.shutdown_background();
    report
}

/// In a runtime for each host, a tick of a millisecond at a time.
fn on_turmoil(scenario: Scenario, plan: Plan, seed: u64, progress: &AtomicU64) -> Report {
    let (network, mut simulation) = Turmoil::new(plan.hosts, &scenario.link, plan.end, seed);
    let mut world = World::new(scenario, plan, seed, Arc::new(network));
    loop {
        let next = world.next();
        while simulation.elapsed() < next {
            if let Err(error) = simulation.step() {
                return summary::of_failure(&error.to_string());
            }
            note(progress, simulation.elapsed());
        }
        if world.turn(next) {
            return world.conclude(next);
        }
    }
}

fn note(progress: &AtomicU64, now: Duration) {
    progress.store(now.as_millis() as u64, Ordering::Relaxed);
}
