//! Which seeds fail, and how much do the figures vary between seeds?

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;

use avi_sim::report::{Percentiles, Report, Violation};
use avi_sim::situations::Situations;
use comfy_table::CellAlignment;
use indicatif::{ProgressBar, ProgressStyle};

use super::child::{ChildError, Reports};
use super::seeds::{Seeds, in_parallel};
use super::shrink::{self, Effort};
use super::situations::{self, Expected, Reached};
use super::{CliError, Outcome, Setup, check_writable, commit, print, table, write};

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
    #[command(flatten)]
    expected: Expected,
    /// Writes as JSON how often each situation was reached, and by how many seeds.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The figures that are kept of a seed.
struct Figures {
    /// One that is not known.
    violation: Option<Violation>,
    values: [Option<f64>; NAMES.len()],
    situations: Situations,
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
        Self { values, violation: report.unexpected().cloned(), situations: report.situations }
    }
}

type Results = BTreeMap<u64, Result<Figures, ChildError>>;

pub(super) fn sweep(args: &Args) -> Result<Outcome, CliError> {
    args.setup.load()?;
    if let Some(file) = &args.json {
        check_writable(file)?;
    }
    let results = run_all(args, &Reports::new()?);
    let failed = results.values().filter(|result| !matches!(result, Ok(Figures { violation: None, .. }))).count();
    let reached = Reached::of(results.values().flatten().map(|figures| &figures.situations));
    let mut text = format!("{}\n\n{}", spread(&results).trim_fmt(), reached.text());
    if failed > 0 {
        text += &failures(&args.setup, &results);
    }
    text += &format!("{} of {} seeds failed\n", failed, results.len());
    let missed = args.expected.missed(&reached);
    text += &situations::complaint(&missed);
    print(&text)?;
    if let Some(file) = &args.json {
        write(file, &reached.json(&args.setup.scenario, results.len(), failed))?;
    }
    let broken = |result: &Result<Figures, ChildError>| matches!(result, Ok(Figures { violation: Some(_), .. }));
    if let Some((seed, _)) = results.iter().find(|(_, result)| args.shrink && broken(result)) {
        return shrink::reduce(&args.setup, *seed, args.jobs, &args.effort);
    }
    Ok(if failed > 0 || !missed.is_empty() { Outcome::Bad } else { Outcome::Good })
}

fn run_all(args: &Args, reports: &Reports) -> Results {
    let bar = progress(args.seeds.count());
    let results = in_parallel(args.seeds.all(), args.jobs, |seed| {
        let result = reports.run(&seed.to_string(), &args.setup, *seed, &[]).map(Figures::from);
        tell(&bar, *seed, &result);
        result
    });
    bar.finish_and_clear();
    results
}

pub(super) fn progress(seeds: u64) -> ProgressBar {
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
