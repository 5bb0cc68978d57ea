//! Which seeds fail, and how much do the figures vary between seeds?

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use avi_sim::report::{Percentiles, Report, Violation};
use comfy_table::CellAlignment;
use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;

use super::child::{ChildError, Reports};
use super::shrink::{self, Effort};
use super::{CliError, Outcome, Setup, commit, print, table};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    setup: Setup,
    /// A..B without B, or A..=B with it.
    #[arg(long, value_name = "A..B")]
    seeds: Seeds,
    /// Runs at a time; as many as there are cores, if it is not said.
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// Afterwards shrinks the failure of the first seed that broke a promise, as `shrink` does.
    #[arg(long)]
    shrink: bool,
    #[command(flatten)]
    effort: Effort,
}

/// A range of seeds, at least one.
#[derive(Clone, Debug, PartialEq)]
struct Seeds(RangeInclusive<u64>);

#[derive(Debug, Error, PartialEq)]
enum SeedsError {
    #[error("expected A..B or A..=B, as 0..100")]
    Form,
    #[error("there is no seed in it: A..B is without B, and A..=B with it")]
    Empty,
}

impl FromStr for Seeds {
    type Err = SeedsError;

    fn from_str(text: &str) -> Result<Self, SeedsError> {
        let (first, rest) = text.split_once("..").ok_or(SeedsError::Form)?;
        let (last, included) = rest.strip_prefix('=').map_or((rest, false), |last| (last, true));
        let first: u64 = first.parse().map_err(|_| SeedsError::Form)?;
        let last: u64 = last.parse().map_err(|_| SeedsError::Form)?;
        let last = if included { last } else { last.checked_sub(1).ok_or(SeedsError::Empty)? };
        if first > last { Err(SeedsError::Empty) } else { Ok(Self(first..=last)) }
    }
}

/// The figures that are kept of a seed.
struct Figures {
    /// One that is not known.
    violation: Option<Violation>,
    values: [Option<f64>; NAMES.len()],
}

const NAMES: [&str; 10] = [
    "delivery ratio",
    "latency p50, ms",
    "latency p95, ms",
    "latency p99, ms",
    "age of audio p50, ms",
    "age of audio p99, ms",
    "audio not heard, %",
    "connections opened",
    "bytes a node, p50",
    "wall seconds",
];

impl From<Report> for Figures {
    fn from(report: Report) -> Self {
        let messages = &report.messages;
        let ratio = (messages.possible > 0).then(|| messages.delivered as f64 / messages.possible as f64);
        let latency = |value| (messages.latency_ms.count > 0).then_some(value);
        let audio = &report.audio;
        let age = |value| (audio.latency_ms.count > 0).then_some(value);
        let heard = || audio.received as f64 / audio.sent as f64;
        let values = [
            ratio,
            latency(messages.latency_ms.p50),
            latency(messages.latency_ms.p95),
            latency(messages.latency_ms.p99),
            age(audio.latency_ms.p50),
            age(audio.latency_ms.p99),
            (audio.sent > 0).then(|| 100.0 * (1.0 - heard())),
            Some(report.connections.opened as f64),
            (report.bytes_sent.count > 0).then_some(report.bytes_sent.p50),
            Some(report.wall_seconds),
        ];
        Self { values, violation: report.unexpected().cloned() }
    }
}

type Results = BTreeMap<u64, Result<Figures, ChildError>>;

pub(super) fn sweep(args: &Args) -> Result<Outcome, CliError> {
    args.setup.load()?;
    let results = run_all(args, &Reports::new()?);
    let failed = results.values().filter(|result| !matches!(result, Ok(Figures { violation: None, .. }))).count();
    let mut text = format!("{}\n", spread(&results).trim_fmt());
    if failed > 0 {
        text += &failures(&args.setup, &results);
    }
    text += &format!("{} of {} seeds failed\n", failed, results.len());
    print(&text)?;
    let broken = |result: &Result<Figures, ChildError>| matches!(result, Ok(Figures { violation: Some(_), .. }));
    if let Some((seed, _)) = results.iter().find(|(_, result)| args.shrink && broken(result)) {
        return shrink::reduce(&args.setup, *seed, args.jobs, &args.effort);
    }
    Ok(if failed > 0 { Outcome::Bad } else { Outcome::Good })
}

fn run_all(args: &Args, reports: &Reports) -> Results {
    let (first, last) = args.seeds.0.clone().into_inner();
    let jobs = args.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let jobs = (jobs as u64).min((last - first).saturating_add(1));
    let bar = progress((last - first).saturating_add(1));
    let (taken, results) = (AtomicU64::new(0), Mutex::new(Results::new()));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let take = || first.checked_add(taken.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed <= last);
                while let Some(seed) = take() {
                    let result = reports.run(&seed.to_string(), &args.setup, seed).map(Figures::from);
                    tell(&bar, seed, &result);
                    results.lock().unwrap_or_else(|broken| broken.into_inner()).insert(seed, result);
                }
            });
        }
    });
    bar.finish_and_clear();
    results.into_inner().unwrap_or_else(|broken| broken.into_inner())
}

fn progress(seeds: u64) -> ProgressBar {
    let bar = ProgressBar::new(seeds);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len} seeds, {elapsed}, {eta} left") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(500));
    bar
}

/// Reports a failure at once on a terminal.
fn tell(bar: &ProgressBar, seed: u64, result: &Result<Figures, ChildError>) {
    match result {
        Ok(Figures { violation: Some(violation), .. }) => bar.println(format!("seed {seed}: {}", violation.invariant)),
        Err(error) => bar.println(format!("seed {seed}: {error}")),
        Ok(_) => {}
    }
    bar.inc(1);
}

fn spread(results: &Results) -> comfy_table::Table {
    let mut table = table(&["over seeds", "min", "median", "max", "seeds"]);
    for (index, name) in NAMES.into_iter().enumerate() {
        let values = results.values().filter_map(|result| result.as_ref().ok()?.values[index]);
        let values: Vec<f64> = values.collect();
        if values.is_empty() {
            table.add_row([name, "-", "-", "-", "0"]);
            continue;
        }
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let Percentiles { p50, max, count, .. } = Percentiles::of(values);
        let digits = if max <= 1.0 { 4 } else { 1 };
        let figure = |value: f64| format!("{value:.digits$}");
        table.add_row([name.to_owned(), figure(min), figure(p50), figure(max), count.to_string()]);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn failures(setup: &Setup, results: &Results) -> String {
    let commit = commit();
    let mut table = table(&["seed", "failed", "at", "repro"]);
    let mut dead = String::new();
    for (seed, result) in results {
        let (what, at) = match result {
            Ok(Figures { violation: None, .. }) => continue,
            Ok(Figures { violation: Some(broken), .. }) => (broken.invariant.clone(), format!("{:.3} s", broken.at)),
            Err(error) => {
                dead += &format!("seed {seed} {error}\n");
                ("no report: see below".to_owned(), "-".to_owned())
            }
        };
        table.add_row([seed.to_string(), what, at, setup.repro(*seed, commit.as_deref())]);
    }
    format!("\n{}\n{dead}", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_seeds_excludes_its_end_unless_it_says_otherwise() {
        assert_eq!("3..5".parse(), Ok(Seeds(3..=4)));
        assert_eq!("3..=5".parse(), Ok(Seeds(3..=5)));
        assert_eq!("7..=7".parse(), Ok(Seeds(7..=7)));
        assert_eq!(format!("0..={}", u64::MAX).parse(), Ok(Seeds(0..=u64::MAX)));
    }

    #[test]
    fn a_range_without_seeds_or_sense_is_refused() {
        for empty in ["5..5", "5..4", "0..0", "5..=4"] {
            assert_eq!(empty.parse::<Seeds>(), Err(SeedsError::Empty), "{empty}");
        }
        for wrong in
            ["", "5", "..", "5..", "..5", "a..b", "1..2..3", "-1..3", "1...3", "1..==3", "1..99999999999999999999"]
        {
            assert_eq!(wrong.parse::<Seeds>(), Err(SeedsError::Form), "{wrong}");
        }
    }
}
