//! From which moment on is a failure likely? Runs the past of a seed again up to a time, goes on from there with other seeds, and
//! counts how often a promise breaks.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;

use avi_sim::report::{Report, Stop, Violation};
use avi_sim::{NetworkKind, scenario::Scenario};
use comfy_table::CellAlignment;
use serde::Serialize;

use super::child::{ChildError, Reports};
use super::seeds::{BranchSeeds, in_parallel};
use super::sweep::progress;
use super::{CliError, Outcome, Setup, check_writable, commit, print, table, write};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Times in virtual seconds, in order. With `--branch`, the run goes another way from there; without, its report has the
    /// trace up to each.
    #[arg(long, value_name = "T,..", value_delimiter = ',', allow_negative_numbers = true)]
    pub(super) stop_at: Vec<f64>,
    /// Goes on from each `--stop-at` with these seeds, and counts how often a promise breaks from there. What happened before
    /// stays, which is checked, and so does the plan: who starts, publishes, calls, fails and attacks, and when. From the seed
    /// comes what is left to chance: delays, losses and outages of the network, and all choices of the nodes. The run's own seed
    /// changes nothing. With one time and one seed: that run, with its report.
    #[arg(long, value_name = "A..B", requires = "stop_at")]
    pub(super) branch: Option<BranchSeeds>,
    /// Runs at a time of `--branch`; as many as there are cores, if it is not said.
    #[arg(long, requires = "branch")]
    jobs: Option<NonZero<usize>>,
}

impl Args {
    /// Checks that the scenario can do that.
    pub(super) fn check(&self, setup: &Setup, scenario: &Scenario) -> Result<(), CliError> {
        let end = scenario.seconds.0;
        let is_in_order = self.stop_at.is_sorted_by(|a, b| a < b);
        let is_within = self.stop_at.iter().all(|at| *at > 0.0 && *at < end);
        if !(is_in_order && is_within) {
            return Err(CliError::StopAt { at: times(&self.stop_at), end });
        }
        match &self.branch {
            Some(seeds) if setup.network != NetworkKind::Events => {
                Err(CliError::BranchOnTurmoil { seeds: seeds.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// The seed, if one time and one seed are given: then it is a run like others.
    pub(super) fn only(&self) -> Option<u64> {
        self.branch.as_ref().and_then(BranchSeeds::only).filter(|_| self.stop_at.len() == 1)
    }

    /// Whether the run goes another way from some time on.
    pub(super) fn has_any(&self) -> bool {
        self.branch.is_some()
    }

    /// Several branches, if they are asked for.
    pub(super) fn several(&self) -> Option<&BranchSeeds> {
        self.branch.as_ref().filter(|_| self.only().is_none())
    }

    /// The arguments that make this run again.
    pub(super) fn arguments(&self) -> Vec<String> {
        match self.only() {
            Some(seed) => one(self.stop_at[0], seed),
            None => Vec::new(),
        }
    }
}

/// The arguments of one branch.
fn one(at: f64, seed: u64) -> Vec<String> {
    ["--stop-at".to_owned(), at.to_string(), "--branch".to_owned(), seed.to_string()].into()
}

fn times(times: &[f64]) -> String {
    times.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
}

/// What became of the branches at one time.
#[derive(Default, Serialize)]
struct Line {
    at: f64,
    total: usize,
    broken: usize,
    /// The promises, each with the seeds that break it first.
    promises: BTreeMap<String, Vec<u64>>,
}

/// Runs the original and all branches, and prints a line for each time.
pub(super) fn branch(
    args: &Args,
    setup: &Setup,
    seed: u64,
    seeds: &BranchSeeds,
    json: Option<&Path>,
) -> Result<Outcome, CliError> {
    if let Some(file) = json {
        check_writable(file)?;
    }
    let reports = Reports::new()?;
    let stop_at = ["--stop-at".to_owned(), times(&args.stop_at)];
    let failed = |error: ChildError| CliError::Child { seed, error };
    let original = reports.run("original", setup, seed, &stop_at).map_err(failed)?;
    if let Some((broken, at)) = original.violation.as_ref().zip(args.stop_at.get(original.stops.len())) {
        let (invariant, broken) = (broken.invariant.clone(), broken.at);
        return Err(CliError::BrokenBefore { seed, invariant, broken, at: *at });
    }
    let all = (0..args.stop_at.len()).flat_map(|index| seeds.all().map(move |branch| (index, branch)));
    let bar = progress(seeds.count().saturating_mul(args.stop_at.len() as u64));
    let results = in_parallel(all, args.jobs, |(index, branch)| {
        let name = format!("{index}-{branch}");
        let result = reports.run(&name, setup, seed, &one(args.stop_at[*index], *branch));
        bar.inc(1);
        result.map(|report| (report.unexpected().cloned(), report.stops))
    });
    bar.finish_and_clear();
    let mut lines: Vec<_> = args.stop_at.iter().map(|at| Line { at: *at, ..Line::default() }).collect();
    for ((index, branch), result) in results {
        let (violation, stops) = result.map_err(failed)?;
        same_past(seed, branch, &original.stops[index], &stops)?;
        lines[index].total += 1;
        if let Some(broken) = violation {
            lines[index].broken += 1;
            lines[index].promises.entry(broken.invariant).or_default().push(branch);
        }
    }
    print(&text(setup, seed, &original, &lines))?;
    if let Some(file) = json {
        let json = serde_json::to_string_pretty(&lines);
        let error = |error: serde_json::Error| CliError::File { file: file.display().to_string(), error: error.into() };
        write(file, &json.map_err(error)?)?;
    }
    Ok(if lines.iter().any(|line| line.broken > 0) { Outcome::Bad } else { Outcome::Good })
}

/// A branch whose past differs says nothing about the run.
fn same_past(seed: u64, branch: u64, original: &Stop, stops: &[Stop]) -> Result<(), CliError> {
    let trace = stops.first().map_or("none", |stop| &stop.trace);
    match trace == original.trace {
        true => Ok(()),
        false => Err(CliError::AnotherPast {
            seed,
            branch,
            at: original.at,
            trace: trace.to_owned(),
            original: original.trace.clone(),
        }),
    }
}

fn text(setup: &Setup, seed: u64, original: &Report, lines: &[Line]) -> String {
    let mut table = table(&["goes on from", "broken", "promise", "seeds that break it"]);
    for line in lines {
        let (from, broken) = (format!("{} s", line.at), format!("{} of {}", line.broken, line.total));
        if line.promises.is_empty() {
            table.add_row([from.as_str(), &broken, "-", "-"]);
        }
        for (index, (promise, seeds)) in line.promises.iter().enumerate() {
            let seeds: Vec<_> = seeds.iter().map(u64::to_string).collect();
            let seeds = seeds.join(" ");
            match index {
                0 => table.add_row([from.as_str(), &broken, promise, &seeds]),
                _ => table.add_row(["", "", promise, &seeds]),
            };
        }
    }
    let right = table.column_iter_mut().take(2);
    right.for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let of_original = match &original.violation {
        Some(Violation { invariant, at, .. }) => format!("breaks \"{invariant}\" at {at:.3} s"),
        None => "keeps all promises".to_owned(),
    };
    let mut text = format!("{}\nseed {seed} itself {of_original}\n", table.trim_fmt());
    let first = lines.iter().rev().find_map(|line| Some((line.at, *line.promises.values().flatten().min()?)));
    if let Some((at, branch)) = first {
        text += &format!("repro {}\n", setup.repro_with(seed, &one(at, branch), commit().as_deref()));
    }
    text
}
