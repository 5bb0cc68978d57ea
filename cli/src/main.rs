//! `avi`: a mesh of avi-p2p from the command line.

mod args;
mod commands;
mod config;
mod exit;
mod line;
mod output;
mod session;
mod sound;
mod who;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Cli, Command};
use crate::exit::Failure;
use crate::output::Output;
use crate::session::with_node;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A replay shows what has happened, and not what is happening; under pseudonyms, nothing else.
    let quiet = match &cli.command {
        Command::Replay(args) => cli.global.verbose == 0 || args.pseudonyms,
        _ => false,
    };
    log(cli.global.verbose, quiet);
    let out = Output::new(&cli.global);
    match smol::block_on(run(cli, out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failed(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// What the node logs goes to standard error.
fn log(verbose: u8, quiet: bool) {
    let level = match verbose {
        _ if quiet => LevelFilter::OFF,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).with_ansi(false).init();
}

async fn run(cli: Cli, out: Output) -> Result<(), Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Record(args) => commands::record::run(&args, config::read(global)?, out).await,
        Command::Completions { shell } => commands::manual::completions(shell, out),
        Command::Man { dir } => commands::manual::pages(dir.as_deref(), out),
        Command::Replay(args) => commands::replay::run(&args, out),
        Command::Doctor(args) => commands::doctor::run(&args, global, out).await,
        Command::Peers(args) => {
            with_node(config::plain(global)?, out, async |session| commands::peers::run(session, &args).await).await
        }
        Command::Sub(args) => {
            with_node(config::plain(global)?, out, async |session| commands::sub::run(session, &args).await).await
        }
        Command::Pub(args) => {
            let config = commands::publish::config(config::plain(global)?, &args);
            let data = commands::publish::payload(&args, &config, out)?;
            with_node(config, out, async |session| commands::publish::run(session, &args, data).await).await
        }
        Command::Call(args) => {
            let mut config = config::in_call(global)?;
            let call = commands::call::prepare(&args, &mut config)?;
            with_node(config, out, async |session| commands::call::run(session, &args, call).await).await
        }
        Command::Answer(args) => {
            commands::answer::check(&args)?;
            with_node(config::in_call(global)?, out, async |session| commands::answer::run(session, &args).await).await
        }
        Command::Context { action } => {
            let config = config::in_context(global)?;
            with_node(config, out, async |session| commands::context::run(session, &action).await).await
        }
    }
}
