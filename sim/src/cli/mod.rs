//! Which commands exist, and what do they share?

mod branch;
mod child;
mod compare;
mod run;
mod seeds;
mod shrink;
mod situations;
mod sweep;
mod verify;

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use avi_links::ProfileError;
use avi_sim::html::RenderError;
use avi_sim::scenario::{BUILTIN, Scenario, ScenarioError, Seconds};
use avi_sim::{NetworkKind, Options, Unsupported};
use clap::{Args, Parser, Subcommand};
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use thiserror::Error;

/// Deterministic simulation of avi-p2p: the real stack, in virtual time.
#[derive(Parser)]
#[command(name = "avi-sim", bin_name = "cargo sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run a scenario once.
    Run(run::Args),
    /// Run a scenario with many seeds, each in a process of its own.
    Sweep(sweep::Args),
    /// Reduce a failure to the fewest nodes, faults and seconds that still break the same promise.
    Shrink(shrink::Args),
    /// Run a scenario twice and see that the same happens, and something else with another seed.
    Verify(verify::Args),
    /// Compare two reports that `run --json` wrote.
    Compare(compare::Args),
    /// List the scenarios that come with the tool.
    List,
    /// List the situations that are worth reaching, by the names that reports and `--expect` use.
    Situations,
}

/// What makes a run, apart from its seed.
#[derive(Args, Clone)]
struct Setup {
    /// A built-in scenario, or a file.
    scenario: String,
    /// Honest nodes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    nodes: u32,
    /// Virtual seconds, in place of the scenario's own.
    #[arg(long, allow_negative_numbers = true)]
    seconds: Option<f64>,
    /// What carries the bytes: `events`, or `turmoil`, with at most 25 homes.
    #[arg(long, default_value_t = NetworkKind::Events)]
    network: NetworkKind,
    /// The access links of the nodes, in place of the scenario's own: names or files of profiles, with commas.
    #[arg(long, value_delimiter = ',')]
    links: Vec<String>,
    /// Go on after a promise was broken, so that the figures are those of a whole run.
    #[arg(long)]
    to_the_end: bool,
    /// Homes that the machines share, in place of the scenario's own; 0: each machine is a home of its own.
    #[arg(long)]
    homes: Option<usize>,
}

/// The outcome of a command.
#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Good,
    /// A promise is broken, runs differ, or figures are worse.
    Bad,
}

/// Why a command cannot be carried out.
#[derive(Debug, Error)]
enum CliError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("--links: {0}")]
    Links(ProfileError),
    #[error("with {options}, {field} = {value}: expected {expected}")]
    Option { options: String, field: String, value: String, expected: String },
    #[error("{scenario} names node {node}: expected --nodes of at least {}", node + 1)]
    Node { scenario: String, node: u32 },
    #[error("seed {seed} keeps all promises: there is nothing to shrink")]
    NothingBroken { seed: u64 },
    #[error("seed {seed} {error}")]
    Child { seed: u64, error: child::ChildError },
    #[error(
        "--stop-at {at}: expected times of more than 0 and less than {end}, the end of the run, in order, each once"
    )]
    StopAt { at: String, end: f64 },
    #[error("--branch {seeds}: only events can go another way from a certain time on: expected --network events")]
    BranchOnTurmoil { seeds: String },
    #[error("--report: expected one time in --stop-at and one seed in --branch, whose run the page then shows")]
    ManyBranches,
    #[error("--record: expected no --branch, since an engine that draws from another seed cannot be replayed")]
    RecordedBranch,
    #[error(
        "seed {seed} breaks \"{invariant}\" at {broken} s: expected earlier times than {at} in --stop-at, or --to-the-end"
    )]
    BrokenBefore { seed: u64, invariant: String, broken: f64, at: f64 },
    #[error(
        "with --branch {branch}, the run before {at} s is not the one of seed {seed}: its trace is {trace}, and not {original}"
    )]
    AnotherPast { seed: u64, branch: u64, at: f64, trace: String, original: String },
    #[error("{scenario}: {error}")]
    Unsupported { scenario: String, error: Unsupported },
    #[error("{file}: {error}")]
    File { file: String, error: io::Error },
    #[error("{file} is not a report of `run --json`: {error}")]
    Report { file: String, error: serde_json::Error },
    #[error("the reports cannot be compared: {what} is {base} in the base and {head} in the head")]
    Different { what: &'static str, base: String, head: String },
    #[error("--{name} {value}: expected 0 or more")]
    Threshold { name: &'static str, value: f64 },
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("stdout: {0}")]
    Output(io::Error),
}

/// Runs the command line. Exit code 1 means a failure in the simulation, 2 a wrong command.
pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Task::Run(args) => run::run(&args),
        Task::Sweep(args) => sweep::sweep(&args),
        Task::Shrink(args) => shrink::command(&args),
        Task::Verify(args) => verify::verify(&args),
        Task::Compare(args) => compare::compare(&args),
        Task::List => list(),
        Task::Situations => situations::list(),
    };
    match done {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}

fn list() -> Result<Outcome, CliError> {
    let mut table = table(&["scenario", "seconds", "description"]);
    for (name, _) in BUILTIN {
        let scenario = Scenario::load(name)?;
        table.add_row([name.to_owned(), scenario.seconds.0.to_string(), scenario.description]);
    }
    print(&format!("{}\n", table.trim_fmt()))?;
    Ok(Outcome::Good)
}

impl Setup {
    /// The scenario, with the requested length and homes.
    fn load(&self) -> Result<Scenario, CliError> {
        let mut scenario = Scenario::load(&self.scenario)?;
        if !self.links.is_empty() {
            scenario.link.profiles.clone_from(&self.links);
            scenario.link.load_profiles().map_err(CliError::Links)?;
        }
        let mut options = Vec::new();
        if let Some(seconds) = self.seconds {
            scenario.seconds = Seconds(seconds);
            options.push(format!("--seconds {seconds}"));
        }
        if let Some(homes) = self.homes {
            scenario.topology.homes = homes;
            options.push(format!("--homes {homes}"));
        }
        // Values that were valid without these options may now be out of range.
        if !options.is_empty()
            && let Ok(text) = toml::to_string(&scenario)
        {
            Scenario::parse(&self.scenario, &text).map_err(|error| match error {
                ScenarioError::Range { field, value, expected, .. } => {
                    CliError::Option { options: options.join(" "), field, value, expected }
                }
                error => error.into(),
            })?;
        }
        if let Some(node) = scenario.highest_named().filter(|node| *node >= self.nodes) {
            return Err(CliError::Node { scenario: self.scenario.clone(), node });
        }
        let unsupported = |error| CliError::Unsupported { scenario: self.scenario.clone(), error };
        self.network.supports(&scenario, self.nodes as usize).map_err(unsupported)?;
        Ok(scenario)
    }

    fn options(&self, seed: u64) -> Options {
        Options {
            scenario: self.scenario.clone(),
            nodes: self.nodes as usize,
            seed,
            seconds: self.seconds,
            network: self.network,
            to_the_end: self.to_the_end,
            stop_at: Vec::new(),
            branch: None,
            record: None,
        }
    }

    /// The arguments of a run that differ from the defaults.
    fn arguments(&self, seed: u64) -> Vec<String> {
        let nodes = self.nodes.to_string();
        let run = ["run", &self.scenario, "--nodes", &nodes, "--seed", &seed.to_string()].map(str::to_owned);
        let mut arguments = Vec::from(run);
        if let Some(seconds) = self.seconds {
            arguments.extend(["--seconds".to_owned(), seconds.to_string()]);
        }
        if !self.links.is_empty() {
            arguments.extend(["--links".to_owned(), self.links.join(",")]);
        }
        if self.to_the_end {
            arguments.push("--to-the-end".to_owned());
        }
        if let Some(homes) = self.homes {
            arguments.extend(["--homes".to_owned(), homes.to_string()]);
        }
        if self.network != NetworkKind::Events {
            arguments.extend(["--network".to_owned(), self.network.to_string()]);
        }
        arguments
    }

    /// The command that repeats a seed, and its commit, if known.
    fn repro(&self, seed: u64, commit: Option<&str>) -> String {
        self.repro_with(seed, &[], commit)
    }

    /// The same, with more arguments.
    fn repro_with(&self, seed: u64, more: &[String], commit: Option<&str>) -> String {
        let arguments: Vec<_> = self.arguments(seed).iter().chain(more).map(|argument| quote(argument)).collect();
        let commit = commit.map(|commit| format!("  # commit {commit}")).unwrap_or_default();
        format!("cargo sim {}{commit}", arguments.join(" "))
    }
}

/// The commit of the working directory, if git knows it.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let hash = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !hash.is_empty()).then_some(hash)
}

/// Quotes a word for a shell.
fn quote(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

const LINE: LineStyle = LineStyle::none().fill('─').junction('─');
const LINES: TableStyle = TableStyle::new().top_border(LINE).header_separator(LINE).bottom_border(LINE);

fn table<T: Display>(header: &[T]) -> Table {
    let mut table = Table::new();
    // Lines are never wrapped, so that they can be copied.
    table.load_style(LINES).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(ToString::to_string));
    table
}

/// Checks before the work whether its result can be written. The file keeps its content until then.
fn check_writable(file: &Path) -> Result<(), CliError> {
    OpenOptions::new().create(true).append(true).open(file).map(drop).map_err(|error| file_error(file, error))
}

fn write(file: &Path, text: &str) -> Result<(), CliError> {
    fs::write(file, text).map_err(|error| file_error(file, error))
}

fn file_error(file: &Path, error: io::Error) -> CliError {
    CliError::File { file: file.display().to_string(), error }
}

/// Writes to stdout. It is no error if the reader has ended, for example `head`.
fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}
