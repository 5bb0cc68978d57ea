//! How is a scenario run once, and what is said about it?

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use avi_sim::report::{Report, Violation};
use avi_sim::scenario::Scenario;
use avi_sim::{html, swarm};
use indicatif::{ProgressBar, ProgressStyle};

use super::branch;
use super::situations::{self, Expected, Reached};
use super::{CliError, Outcome, Setup, check_writable, commit, file_error, print, table, write};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    setup: Setup,
    /// Chooses everything that is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the report as a page with plots.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Prints the scenario that the seed draws, as TOML, and runs nothing.
    #[arg(long)]
    print_scenario: bool,
    /// Has all nodes recorded by their flight recorders, into `node-N-S.rec` in this folder: node N, from its start number S on.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    #[command(flatten)]
    branch: branch::Args,
    #[command(flatten)]
    expected: Expected,
}

pub(super) fn run(args: &Args) -> Result<Outcome, CliError> {
    let scenario = args.setup.load()?;
    if args.print_scenario {
        print(&swarm::draw(&scenario, args.setup.nodes as usize, args.seed, args.setup.network).to_toml())?;
        return Ok(Outcome::Good);
    }
    args.branch.check(&args.setup, &scenario)?;
    if args.record.is_some() && args.branch.has_any() {
        return Err(CliError::RecordedBranch);
    }
    if let Some(seeds) = args.branch.several() {
        if args.report.is_some() {
            return Err(CliError::ManyBranches);
        }
        return branch::branch(&args.branch, &args.setup, args.seed, seeds, args.json.as_deref());
    }
    if let Some(folder) = &args.record {
        fs::create_dir_all(folder).map_err(|error| file_error(folder, error))?;
    }
    [&args.json, &args.report].into_iter().flatten().try_for_each(|file| check_writable(file))?;
    let mut report = watch(args, scenario.clone());
    report.repro = args.setup.repro_with(args.seed, &args.branch.arguments(), commit().as_deref());
    let reached = Reached::of([&report.situations].into_iter());
    let missed = args.expected.missed(&reached);
    print(&(text(&report, &reached) + &situations::complaint(&missed)))?;
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| file_error(file, error.into()))?;
        write(file, &json)?;
    }
    if let Some(file) = &args.report {
        write(file, &html::render(&report)?)?;
    }
    let is_bad = report.unexpected().is_some() || report.is_mended() || !missed.is_empty();
    Ok(if is_bad { Outcome::Bad } else { Outcome::Good })
}

/// Runs the scenario, with a progress bar of virtual time on a terminal.
fn watch(args: &Args, scenario: Scenario) -> Report {
    let end_ms = scenario.seconds.duration().as_millis() as u64;
    let progress = Arc::new(AtomicU64::new(0));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let bar = scope.spawn(|| show(end_ms, &progress, &over));
        let _end = End(&over, bar.thread().clone());
        let mut options = args.setup.options(args.seed);
        let duration = |seconds: &f64| Duration::try_from_secs_f64(*seconds).unwrap_or_default();
        options.stop_at = args.branch.stop_at.iter().map(duration).collect();
        options.branch = args.branch.only();
        options.record.clone_from(&args.record);
        avi_sim::run(&options, scenario, Arc::clone(&progress))
    })
}

/// Ends the progress bar, also after a panic, and waits for its thread.
struct End<'a>(&'a AtomicBool, Thread);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.unpark();
    }
}

fn show(end_ms: u64, progress: &AtomicU64, over: &AtomicBool) {
    let bar = ProgressBar::new(end_ms);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg} virtual, {elapsed} wall") {
        bar.set_style(style);
    }
    while !over.load(Ordering::Relaxed) {
        let now_ms = progress.load(Ordering::Relaxed);
        bar.set_position(now_ms.min(end_ms));
        bar.set_message(format!("{:.1} of {:.0} s", now_ms as f64 / 1e3, end_ms as f64 / 1e3));
        thread::park_timeout(Duration::from_millis(100));
    }
    bar.finish_and_clear();
}

fn text(report: &Report, reached: &Reached) -> String {
    let name = format!("{}, {} nodes, seed {}", report.scenario, report.nodes, report.seed);
    let mut table = table(&[name.as_str(), ""]);
    for (name, value) in html::summary(report) {
        table.add_row([name, &value]);
    }
    let verdict = match &report.violation {
        Some(broken) if report.unexpected().is_none() => format!("{}known to be broken\n", violation(broken)),
        Some(broken) => violation(broken),
        None if report.is_mended() => format!(
            "all promises held: no longer broken is {}: remove the mark `expected` from the scenario\n",
            report.known_broken.join(", "),
        ),
        None => "all promises held\n".to_owned(),
    };
    let stops = report.stops.iter().map(|stop| {
        let on = stop.branch.map(|seed| format!(", then seed {seed}")).unwrap_or_default();
        format!("trace {} up to {} s{on}\n", stop.trace, stop.at)
    });
    let stops: String = stops.collect();
    let (reached, trace, repro) = (reached.text(), &report.trace, &report.repro);
    format!("{}\n{reached}\n{verdict}{stops}trace {trace}\nrepro {repro}\n", table.trim_fmt())
}

fn violation(violation: &Violation) -> String {
    let Violation { invariant, at, detail, tail } = violation;
    let mut text = format!("\nBROKEN: {invariant}\nat {at:.3} s: {detail}\n");
    if !tail.is_empty() {
        text += "the last events:\n";
        tail.iter().for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
    }
    text + "\n"
}
