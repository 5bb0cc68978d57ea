//! What is the smallest run that still breaks the same promise?

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;

use avi_sim::report::{Report, Violation};
use avi_sim::scenario::Scenario;
use avi_sim::shrink::{Case, Oracle, shrink};

use super::child::{ChildError, Reports};
use super::{CliError, Outcome, Setup, commit, print, quote};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    setup: Setup,
    /// The seed that fails.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs at a time; as many as there are cores, if it is not said.
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    #[command(flatten)]
    effort: Effort,
}

/// How much is done for a small result, and where it goes.
#[derive(clap::Args)]
pub(super) struct Effort {
    /// The most runs that a failure is reduced by.
    #[arg(long, default_value_t = 400)]
    budget: usize,
    /// Writes the small scenario to this file as well.
    #[arg(long, value_name = "FILE.toml")]
    output: Option<PathBuf>,
}

/// The commands say what they shrink; `cargo sim shrink` shrinks what it is given.
pub(super) fn command(args: &Args) -> Result<Outcome, CliError> {
    reduce(&args.setup, args.seed, args.jobs, &args.effort)
}

/// Reduces the failure of a seed, and prints what is left of it.
pub(super) fn reduce(
    setup: &Setup,
    seed: u64,
    jobs: Option<NonZero<usize>>,
    effort: &Effort,
) -> Result<Outcome, CliError> {
    let scenario = setup.load()?;
    let jobs = jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let mut runs = Runs {
        setup,
        jobs,
        budget: effort.budget,
        begun: 0,
        reports: Reports::new()?,
        known: BTreeMap::new(),
        invariant: String::new(),
    };
    let case = Case::explicit(&scenario, setup.nodes as usize, seed, setup.network);
    let first = runs.run(&case);
    let violation = first.map_err(|error| CliError::Child { seed, error })?.violation;
    let Violation { invariant, at, detail, .. } = violation.ok_or(CliError::NothingBroken { seed })?;
    tell(&format!("broken at {at:.3} s: {invariant}: {detail}"));
    runs.invariant = invariant;
    tell(&format!("at first: {}", describe(&case)));
    let small = shrink(case, at, &mut runs);
    if runs.is_exhausted() {
        tell(&format!("the budget of {} runs is spent; --budget N allows more", runs.budget));
    }
    let text = written(&small, setup, &runs.invariant, effort);
    if let Some(file) = &effort.output {
        fs::write(file, &text).map_err(|error| CliError::File { file: file.display().to_string(), error })?;
    }
    print(&text)?;
    Ok(Outcome::Bad)
}

/// Runs cases in processes of their own, some at a time.
struct Runs<'a> {
    setup: &'a Setup,
    jobs: usize,
    budget: usize,
    begun: usize,
    reports: Reports,
    /// When each case that has run broke the promise, if it did.
    known: BTreeMap<(usize, String), Option<f64>>,
    /// The promise.
    invariant: String,
}

impl Runs<'_> {
    fn run(&self, case: &Case) -> Result<Report, ChildError> {
        let name = format!("case-{}", self.begun);
        self.run_as(&name, case)
    }

    fn run_as(&self, name: &str, case: &Case) -> Result<Report, ChildError> {
        let scenario = self.reports.file(&format!("{name}.toml"));
        fs::write(&scenario, case.scenario.to_toml()).map_err(ChildError::Start)?;
        let setup = Setup {
            scenario: scenario.display().to_string(),
            nodes: case.nodes as u32,
            seconds: None,
            links: Vec::new(),
            ..self.setup.clone()
        };
        let report = self.reports.run(name, &setup, case.seed, &[]);
        let _ = fs::remove_file(&scenario);
        report
    }

    /// Runs these cases at the same time. What fails in another way does not count.
    fn run_all(&mut self, cases: &[&Case]) {
        let first = self.begun;
        self.begun += cases.len();
        let results: Vec<_> = thread::scope(|scope| {
            let run = |(index, case): (usize, &&Case)| self.run_as(&format!("case-{}", first + index), case);
            let threads: Vec<_> = cases.iter().enumerate().map(|case| scope.spawn(move || run(case))).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        for (case, result) in cases.iter().zip(results) {
            let violation = result.ok().and_then(Result::ok).and_then(|report| report.violation);
            let at = violation.filter(|broken| broken.invariant == self.invariant).map(|broken| broken.at);
            self.known.insert(key(case), at);
        }
    }
}

impl Oracle for Runs<'_> {
    fn first_failing(&mut self, cases: &[Case]) -> Option<(usize, f64)> {
        let mut begin = 0;
        while begin < cases.len() {
            // The next ones that are not known yet, and those that are known before them.
            let mut batch: Vec<&Case> = Vec::new();
            let mut end = begin;
            while end < cases.len() && batch.len() < self.jobs.min(self.budget.saturating_sub(self.begun)) {
                let case = &cases[end];
                if !self.known.contains_key(&key(case)) && !batch.iter().any(|other| key(other) == key(case)) {
                    batch.push(case);
                }
                end += 1;
            }
            if end == begin {
                return None;
            }
            self.run_all(&batch);
            let failing = (begin..end).find_map(|index| Some((index, (*self.known.get(&key(&cases[index]))?)?)));
            if failing.is_some() {
                return failing;
            }
            begin = end;
        }
        None
    }

    fn progress(&mut self, case: &Case) {
        tell(&format!("after {} of {} runs: {}", self.begun, self.budget, describe(case)));
    }

    fn is_exhausted(&self) -> bool {
        self.begun >= self.budget
    }
}

fn key(case: &Case) -> (usize, String) {
    (case.nodes, case.scenario.to_toml())
}

fn describe(case: &Case) -> String {
    let Scenario { faults, publish, calls, seconds, .. } = &case.scenario;
    let numbers = [
        (case.present().len(), "nodes"),
        (faults.len(), "faults"),
        (publish.list.len(), "messages"),
        (calls.list.len(), "calls"),
    ];
    let numbers = numbers.map(|(count, what)| format!("{count} {what}"));
    format!("{}, {:.1} s", numbers.join(", "), seconds.0)
}

/// The scenario as a file, with the command that runs it.
fn written(case: &Case, setup: &Setup, invariant: &str, effort: &Effort) -> String {
    let file = effort.output.as_ref().map_or("small.toml".to_owned(), |file| file.display().to_string());
    let run = Setup { scenario: file, nodes: case.nodes as u32, seconds: None, links: Vec::new(), ..setup.clone() };
    let commit = commit();
    let (seed, from) = (case.seed, setup.arguments(case.seed));
    let from: Vec<_> = from.iter().skip(1).map(|argument| quote(argument)).collect();
    let small = case.scenario.to_toml();
    format!(
        "# breaks: {invariant}\n# {}, reduced from: {}\n# repro {}\n{small}",
        describe(case),
        from.join(" "),
        run.repro(seed, commit.as_deref()),
    )
}

/// Progress goes to stderr, so that stdout is the scenario alone.
fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
