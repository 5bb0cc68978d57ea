//! How is a run executed? On a new thread, over the chosen network, from one action of the plan to the next.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use thiserror::Error;

use crate::network::Homes;
use crate::network::turmoil::{self, Turmoil};
use crate::plan::Plan;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::situations::Counters;
use crate::world::World;
use crate::{course, interpose, summary, swarm};

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The scenario's name or file.
    pub scenario: String,
    /// The number of honest nodes.
    pub nodes: usize,
    /// The seed of all random choices.
    pub seed: u64,
    /// The length in virtual seconds, if it differs from the scenario's.
    pub seconds: Option<f64>,
    /// The network to use.
    pub network: NetworkKind,
    /// Whether a run goes on after a promise was broken.
    pub to_the_end: bool,
    /// Times, in order, up to which the report has the trace.
    pub stop_at: Vec<Duration>,
    /// The seed of all random choices after the last of those times. The plan stays. With the seed of the run, nothing
    /// changes. Only with [`NetworkKind::Events`].
    pub branch: Option<u64>,
    /// A folder for the recordings of all nodes, one file for each start, if they are wanted.
    pub record: Option<PathBuf>,
}

/// The networks to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkKind {
    /// The project's own: event-driven, for meshes of any size.
    Events,
    /// turmoil, as a cross-check by an independent simulator.
    Turmoil,
}

impl NetworkKind {
    /// Checks that a scenario can run on this network, with so many honest nodes.
    ///
    /// # Errors
    /// The feature of the scenario that the network lacks.
    pub fn supports(self, scenario: &Scenario, nodes: usize) -> Result<(), Unsupported> {
        let (uplink_kbit, homes) = (scenario.link.uplink_kbit, self.homes(scenario, nodes));
        let machines = scenario.most_machines(nodes);
        if self == Self::Turmoil && uplink_kbit > 0 {
            return Err(Unsupported::Uplink { uplink_kbit });
        }
        if self == Self::Turmoil && !scenario.link.profiles.is_empty() {
            return Err(Unsupported::Profiles);
        }
        if self == Self::Turmoil && homes > turmoil::MOST_HOMES {
            return Err(Unsupported::ManyHomes { homes });
        }
        match homes > 0 && machines.div_ceil(homes) > Homes::MOST_MACHINES {
            true => Err(Unsupported::LargeHomes { homes, machines }),
            false => Ok(()),
        }
    }

    /// The number of homes that the machines of a run share, as [`Topology::homes`](crate::scenario::Topology::homes).
    /// If the scenario has none, and more machines than turmoil can have homes, they share as many as it can have.
    pub fn homes(self, scenario: &Scenario, nodes: usize) -> usize {
        match (self, scenario.topology.homes) {
            (Self::Turmoil, 0) if scenario.most_machines(nodes) > turmoil::MOST_HOMES => turmoil::MOST_HOMES,
            (_, homes) => homes,
        }
    }
}

/// Why a scenario cannot run on a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unsupported {
    /// Only `events` limits the bandwidth of a node.
    #[error("link.uplink_kbit = {uplink_kbit}: turmoil has no bandwidth: expected 0, or --network events")]
    Uplink {
        /// The value in the scenario.
        uplink_kbit: u64,
    },
    /// Only `events` has links that lose and delay packets.
    #[error("link.profiles: turmoil has no links with queues and loss: expected none, or --network events")]
    Profiles,
    /// Each home costs turmoil time in every tick.
    #[error(
        "topology.homes = {homes}: expected at most {most} with turmoil, or --network events",
        most = turmoil::MOST_HOMES
    )]
    ManyHomes {
        /// The value in the scenario.
        homes: usize,
    },
    /// The machines of a home are at different ports of one address.
    #[error(
        "topology.homes = {homes}, for up to {machines} machines: expected more homes, a home has at most {most} machines",
        most = Homes::MOST_MACHINES
    )]
    LargeHomes {
        /// The value in the scenario.
        homes: usize,
        /// The most machines of the run.
        machines: usize,
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

/// The most real time for a virtual second: far more than it takes with ten thousand nodes.
const STUCK_AFTER: Duration = Duration::from_secs(300);

/// Runs a scenario on its own thread. `progress` holds the virtual milliseconds passed.
///
/// Run one simulation per process: a second one would see the counters that the first has left in the libraries below.
pub fn run(options: &Options, scenario: Scenario, progress: Arc<AtomicU64>) -> Report {
    let began = std::time::Instant::now();
    let mut scenario = swarm::draw(&scenario, options.nodes, options.seed, options.network);
    scenario.topology.homes = options.network.homes(&scenario, options.nodes);
    let homes = scenario.topology.homes;
    let plan = Plan::draw(&scenario, options.nodes, options.seed);
    let (seed, kind) = (options.seed, options.network);
    let (description, settings) = (scenario.description.clone(), scenario.to_toml());
    let known_broken = scenario.breaks.clone();
    let counters = Counters::new();
    let (listeners, options_of_run) = (counters.clone(), options.clone());
    let (ending, ended) = mpsc::channel();
    let passed = progress.clone();
    let simulation =
        std::thread::Builder::new().name("simulation".to_owned()).stack_size(course::STACK).spawn(move || {
            // Dropped when the simulation ends, whatever the reason.
            let _ending: mpsc::Sender<()> = ending;
            interpose::begin(seed);
            let listening = listeners.listen();
            match kind {
                NetworkKind::Events => course::run(scenario, plan, &options_of_run, &progress, (listeners, listening)),
                NetworkKind::Turmoil => on_turmoil(scenario, plan, &options_of_run, &progress),
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
    report.known_broken = known_broken;
    report.settings = settings;
    report.nodes = options.nodes;
    report.seed = options.seed;
    report.network = options.network.to_string();
    report.homes = homes;
    report.situations = counters.counts();
    report.wall_seconds = began.elapsed().as_secs_f64();
    report.peak_memory_bytes = summary::peak_memory_bytes();
    report
}

/// Waits until a simulation ends, or until its virtual time stops. A task that polls endlessly within one poll is not
/// caught by the bound on polls.
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

/// Uses one runtime per home, and advances in ticks of a millisecond.
fn on_turmoil(scenario: Scenario, plan: Plan, options: &Options, progress: &AtomicU64) -> Report {
    let seed = options.seed;
    let (network, mut simulation) = Turmoil::new(plan.hosts, plan.homes, &scenario.link, plan.end, seed);
    let mut world = World::new(scenario, plan, seed, Arc::new(network));
    world.record(options.record.clone());
    loop {
        let next = world.next();
        while simulation.elapsed() < next {
            if let Err(error) = simulation.step() {
                return summary::of_failure(&error.to_string());
            }
            note(progress, simulation.elapsed());
        }
        if world.turn(next, options.to_the_end) {
            return world.conclude(next);
        }
    }
}

pub(crate) fn note(progress: &AtomicU64, now: Duration) {
    progress.store(now.as_millis() as u64, Ordering::Relaxed);
}
