//! Is one report worse than another?

use std::fs;

use avi_sim::report::Report;
use comfy_table::CellAlignment;

use super::{CliError, Outcome, print, table};

#[derive(clap::Args)]
pub(super) struct Args {
    /// A report of `run --json`, from before.
    base: String,
    /// Another one, from after.
    head: String,
    #[command(flatten)]
    limits: Limits,
}

/// How much worse the head may be: the delivery ratio as a difference, the others as a part of the base.
#[derive(clap::Args)]
struct Limits {
    /// How much lower the delivery ratio may be, as a difference.
    #[arg(long, default_value_t = 0.001, value_name = "DIFFERENCE", allow_negative_numbers = true)]
    delivery: f64,
    /// How much higher p50, p95 and p99 of message latency may be, as a part of the base.
    #[arg(long, default_value_t = 0.10, value_name = "PART", allow_negative_numbers = true)]
    latency: f64,
    /// How many more connections may be opened, as a part of the base.
    #[arg(long, default_value_t = 0.10, value_name = "PART", allow_negative_numbers = true)]
    connections: f64,
    /// How many more bytes the middle node may send, as a part of the base.
    #[arg(long, default_value_t = 0.10, value_name = "PART", allow_negative_numbers = true)]
    bytes: f64,
    /// How much longer the run may take, as a part of the base.
    #[arg(long, default_value_t = 0.30, value_name = "PART", allow_negative_numbers = true)]
    wall: f64,
}

/// A figure of both reports, and how much it may change.
struct Figure {
    name: &'static str,
    base: f64,
    head: f64,
    limit: Limit,
}

enum Limit {
    LowerBy(f64),
    HigherByPart(f64),
}

impl Figure {
    fn worse(&self) -> bool {
        match self.limit {
            // The last term allows for ratios that are not binary fractions.
            Limit::LowerBy(difference) => self.base - self.head > difference + 1e-12,
            Limit::HigherByPart(part) => self.head > self.base * (1.0 + part),
        }
    }

    fn change(&self) -> String {
        match self.limit {
            Limit::LowerBy(_) => format!("{:+.4}", self.head - self.base),
            Limit::HigherByPart(_) if self.base == self.head => "+0.0 %".to_owned(),
            Limit::HigherByPart(_) if self.base == 0.0 => "from 0".to_owned(),
            Limit::HigherByPart(_) => format!("{:+.1} %", (self.head / self.base - 1.0) * 100.0),
        }
    }

    fn allowed(&self) -> String {
        match self.limit {
            Limit::LowerBy(difference) => format!("-{difference}"),
            Limit::HigherByPart(part) => format!("+{:.0} %", part * 100.0),
        }
    }

    fn row(&self) -> [String; 6] {
        let digits = if self.base.max(self.head) < 10.0 { 4 } else { 1 };
        let figure = |value: f64| format!("{value:.digits$}");
        let verdict = if self.worse() { "WORSE" } else { "" };
        [self.name.into(), figure(self.base), figure(self.head), self.change(), self.allowed(), verdict.into()]
    }
}

pub(super) fn compare(args: &Args) -> Result<Outcome, CliError> {
    args.limits.check()?;
    let (base, head) = (read(&args.base)?, read(&args.head)?);
    same_run(&base, &head)?;
    let figures = figures(&base, &head, &args.limits);
    let seeds = if base.seed == head.seed { base.seed.to_string() } else { format!("{} and {}", base.seed, head.seed) };
    let name = format!("{}, {} nodes, {}, seed {seeds}", base.scenario, base.nodes, base.network);
    let mut table = table(&[name.as_str(), "base", "head", "change", "allowed", ""]);
    table.add_rows(figures.iter().map(Figure::row));
    table.column_iter_mut().skip(1).take(4).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let mut text = format!("{}\n", table.trim_fmt());
    for (which, report) in [("base", &base), ("head", &head)] {
        if let Some(broken) = &report.violation {
            text += &format!("the {which} broke a promise at {:.3} s: {}\n", broken.at, broken.invariant);
        }
    }
    let worse = figures.iter().filter(|figure| figure.worse()).count();
    let bad = worse > 0 || head.violation.is_some();
    text += &match worse {
        0 => "no figure is worse than allowed\n".to_owned(),
        _ => format!("{worse} of {} figures are worse than allowed\n", figures.len()),
    };
    print(&text)?;
    Ok(if bad { Outcome::Bad } else { Outcome::Good })
}

impl Limits {
    fn check(&self) -> Result<(), CliError> {
        let Self { delivery, latency, connections, bytes, wall } = *self;
        let limits = [
            ("delivery", delivery),
            ("latency", latency),
            ("connections", connections),
            ("bytes", bytes),
            ("wall", wall),
        ];
        match limits.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            Some((name, value)) => Err(CliError::Threshold { name, value }),
            None => Ok(()),
        }
    }
}

fn read(file: &str) -> Result<Report, CliError> {
    let text = fs::read_to_string(file).map_err(|error| CliError::File { file: file.to_owned(), error })?;
    serde_json::from_str(&text).map_err(|error| CliError::Report { file: file.to_owned(), error })
}

fn same_run(base: &Report, head: &Report) -> Result<(), CliError> {
    let different = |what, base: String, head: String| match base == head {
        true => Ok(()),
        false => Err(CliError::Different { what, base, head }),
    };
    different("the scenario", base.scenario.clone(), head.scenario.clone())?;
    different("the number of nodes", base.nodes.to_string(), head.nodes.to_string())?;
    different("the number of homes", base.homes.to_string(), head.homes.to_string())?;
    different("the network", base.network.clone(), head.network.clone())?;
    // A run with a broken promise ends early, so its figures are not compared.
    if base.violation.is_none() && head.violation.is_none() {
        different("the length in seconds", base.virtual_seconds.to_string(), head.virtual_seconds.to_string())?;
    }
    Ok(())
}

fn figures(base: &Report, head: &Report, limits: &Limits) -> Vec<Figure> {
    let ratio = |report: &Report| match report.messages.possible {
        0 => 0.0,
        possible => report.messages.delivered as f64 / possible as f64,
    };
    let higher = |name, part, value: fn(&Report) -> f64| {
        let limit = Limit::HigherByPart(part);
        Figure { name, base: value(base), head: value(head), limit }
    };
    let delivery = Limit::LowerBy(limits.delivery);
    vec![
        Figure { name: "delivery ratio", base: ratio(base), head: ratio(head), limit: delivery },
        higher("latency p50, ms", limits.latency, |report| report.messages.latency_ms.p50),
        higher("latency p95, ms", limits.latency, |report| report.messages.latency_ms.p95),
        higher("latency p99, ms", limits.latency, |report| report.messages.latency_ms.p99),
        higher("connections opened", limits.connections, |report| report.connections.opened as f64),
        higher("bytes a node, p50", limits.bytes, |report| report.bytes_sent.p50),
        higher("wall seconds", limits.wall, |report| report.wall_seconds),
    ]
}
