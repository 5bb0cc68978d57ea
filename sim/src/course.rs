//! How does a run on the event-driven network go from one action of the plan to the next, and how may it go another way from
//! a certain time on?
//!
//! Up to then the run with another seed is the same run, draw for draw. Then a new thread goes on with it: the libraries of the
//! stack draw their generators and the keys of their hash maps once a thread. The network and the engines of the nodes that run
//! get new generators. What was drawn before stays: the plan, identities, the latency of each pair of homes, keys.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;
use tracing::subscriber::DefaultGuard;

use crate::network::events::Events;
use crate::plan::Plan;
use crate::random::mix;
use crate::report::Report;
use crate::runner::{Options, note};
use crate::scenario::Scenario;
use crate::situations::Counters;
use crate::world::World;
use crate::{interpose, summary};

/// The stack of a simulation's thread, in bytes.
pub(crate) const STACK: usize = 16 << 20;

/// A run under way.
struct Course {
    world: World,
    network: Events,
    epoch: Instant,
    stops: VecDeque<Duration>,
    seed: u64,
    /// The seed from the last stop on, if it is another one.
    branch: Option<u64>,
    to_the_end: bool,
}

/// Why a course has paused.
enum Pause {
    /// It is over.
    Over(Box<Report>),
    /// From now on everything is drawn from this seed.
    Branch(Box<Course>, u64),
}

/// Runs a scenario on one runtime, whose paused clock jumps to the next event.
pub(crate) fn run(
    scenario: Scenario,
    plan: Plan,
    options: &Options,
    progress: &AtomicU64,
    (counters, listening): (Counters, DefaultGuard),
) -> Report {
    let profiles = match scenario.link.load_profiles() {
        Ok(profiles) => profiles,
        // A file has changed since it was checked.
        Err(error) => return summary::of_failure(&error.to_string()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
    let pause = runtime.block_on(async {
        let seed = options.seed;
        let network = Events::new(plan.hosts, plan.homes, &scenario.link, &profiles, seed);
        tokio::spawn(network.clone().pump());
        let mut world = World::new(scenario, plan, seed, Arc::new(network.clone()));
        world.record(options.record.clone());
        let course = Course {
            world,
            network,
            epoch: Instant::now(),
            stops: options.stop_at.clone().into(),
            seed,
            branch: options.branch.filter(|branch| *branch != seed),
            to_the_end: options.to_the_end,
        };
        course.go_on(progress).await
    });
    match pause {
        Pause::Over(report) => {
            // Nodes that still run would try to close connections in a network that has ended.
            runtime.shutdown_background();
            *report
        }
        Pause::Branch(course, seed) => {
            drop(listening);
            on_another_thread(runtime, *course, seed, progress, &counters)
        }
    }
}

fn on_another_thread(runtime: Runtime, course: Course, seed: u64, progress: &AtomicU64, counters: &Counters) -> Report {
    let (handed_over, fired) = (interpose::hand_over(), futures_timer::fired());
    let ended = thread::scope(|scope| {
        let thread = thread::Builder::new().name("branch".to_owned()).stack_size(STACK);
        let branch = thread.spawn_scoped(scope, move || {
            // The run's seed is in it too, so that branches of two runs differ also in this.
            interpose::take_over(handed_over, mix(course.seed, seed));
            futures_timer::carry_over(fired);
            let _listening = counters.listen();
            course.network.reseed(seed);
            course.world.reseed(seed);
            let pause = runtime.block_on(course.go_on(progress));
            runtime.shutdown_background();
            match pause {
                Pause::Over(report) => *report,
                Pause::Branch(..) => summary::of_failure("a run branches once"),
            }
        });
        branch.map(|branch| branch.join())
    });
    match ended {
        Ok(Ok(report)) => report,
        // The caller catches it, as if it had come on its own thread.
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => summary::of_failure(&error.to_string()),
    }
}

impl Course {
    async fn go_on(mut self, progress: &AtomicU64) -> Pause {
        loop {
            let next = self.world.next();
            let stop = self.stops.front().copied().filter(|stop| *stop <= next);
            let next = stop.unwrap_or(next);
            tokio::time::sleep_until(self.epoch + next).await;
            note(progress, next);
            if stop.is_some() {
                self.stops.pop_front();
                let branch = self.branch.take_if(|_| self.stops.is_empty());
                self.world.stop(next, branch);
                match branch {
                    Some(seed) => return Pause::Branch(Box::new(self), seed),
                    None => continue,
                }
            }
            if self.world.turn(next, self.to_the_end) {
                return Pause::Over(Box::new(self.world.conclude(next)));
            }
        }
    }
}
