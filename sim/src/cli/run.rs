//! How is a scenario run once, and what is said about it?

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use avi_sim::report::{Report, Violation};
use avi_sim::scenario::Scenario;
use avi_sim::{html, swarm};
use indicatif::{ProgressBar, ProgressStyle};

use super::{CliError, Outcome, Setup, commit, print, table};

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
}

pub(super) fn run(args: &Args) -> Result<Outcome, CliError> {
    let scenario = args.setup.load()?;
    if args.print_scenario {
        print(&swarm::draw(&scenario, args.setup.nodes as usize, args.seed, args.setup.network).to_toml())?;
        return Ok(Outcome::Good);
    }
    for file in [&args.json, &args.report].into_iter().flatten() {
        // Checked before the run rather than after it. The file keeps its content until then.
        OpenOptions::new().create(true).append(true).open(file).map_err(|error| file_error(file, error))?;
    }
    let mut report = watch(args, scenario.clone());
    report.repro = args.setup.repro(args.seed, commit().as_deref());
    print(&text(&report))?;
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| file_error(file, error.into()))?;
        write(file, &json)?;
    }
    if let Some(file) = &args.report {
        write(file, &html::render(&report)?)?;
    }
    let is_bad = report.unexpected().is_some() || report.is_mended();
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
        avi_sim::run(&args.setup.options(args.seed), scenario, Arc::clone(&progress))
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

fn text(report: &Report) -> String {
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
    format!("{}\n{verdict}trace {}\nrepro {}\n", table.trim_fmt(), report.trace, report.repro)
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

fn write(file: &Path, text: &str) -> Result<(), CliError> {
    fs::write(file, text).map_err(|error| file_error(file, error))
}

fn file_error(file: &Path, error: std::io::Error) -> CliError {
    CliError::File { file: file.display().to_string(), error }
}
