//! Does the same seed give the same run, and another seed a different one?

use std::panic::resume_unwind;
use std::thread;

use avi_sim::report::Report;
use serde_json::Value;

use super::child::Reports;
use super::{CliError, Outcome, Setup, print};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    setup: Setup,
    /// The seed that runs twice; the next one runs once.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Fields that may differ, because they do not belong to the simulation.
const IGNORED: [&str; 3] = ["wall_seconds", "peak_memory_bytes", "repro"];
/// The most differing fields that are shown.
const SHOWN: usize = 20;

pub(super) fn verify(args: &Args) -> Result<Outcome, CliError> {
    args.setup.load()?;
    let reports = Reports::new()?;
    let other = args.seed.wrapping_add(1);
    let run = |name, seed| reports.run(name, &args.setup, seed, &[]);
    // In parallel: other load on the machine must not matter.
    let [once, again, other_seed] = thread::scope(|scope| {
        let runs = [("once", args.seed), ("again", args.seed), ("other", other)];
        runs.map(|(name, seed)| scope.spawn(move || run(name, seed)))
            .map(|run| run.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let mut text = String::new();
    for (seed, result) in [(args.seed, &once), (args.seed, &again), (other, &other_seed)] {
        text += &match result {
            Ok(Report { trace, violation: None, .. }) => format!("seed {seed}: trace {trace}\n"),
            Ok(Report { trace, violation: Some(broken), .. }) => {
                format!("seed {seed}: trace {trace} (broken: {})\n", broken.invariant)
            }
            Err(error) => format!("seed {seed} {error}\n"),
        };
    }
    let problems = match (once, again, other_seed) {
        (Ok(once), Ok(again), Ok(other)) => judge(&once, &again, &other),
        _ => vec!["not every run left a report".to_owned()],
    };
    problems.iter().for_each(|problem| text += &format!("FAILED: {problem}\n"));
    if problems.is_empty() {
        text += "deterministic: the same seed gives the same trace and figures, another seed another trace\n";
    }
    print(&text)?;
    Ok(if problems.is_empty() { Outcome::Good } else { Outcome::Bad })
}

fn judge(once: &Report, again: &Report, other: &Report) -> Vec<String> {
    let mut problems = Vec::new();
    if once.trace != again.trace {
        problems.push("the same seed gave two traces".to_owned());
    }
    let fields = differences(once, again);
    if !fields.is_empty() {
        let more = if fields.len() > SHOWN { format!("\n  and {} more", fields.len() - SHOWN) } else { String::new() };
        let shown = &fields[..fields.len().min(SHOWN)];
        problems.push(format!("the same seed gave two reports:\n  {}{more}", shown.join("\n  ")));
    }
    if once.trace == other.trace {
        problems.push("another seed gave the same trace: the seed has no effect".to_owned());
    }
    problems
}

/// Each field of the reports that differs, with both values.
fn differences(once: &Report, again: &Report) -> Vec<String> {
    let mut found = Vec::new();
    if let (Ok(once), Ok(again)) = (serde_json::to_value(once), serde_json::to_value(again)) {
        collect(&mut found, "", &once, &again);
    }
    found
}

fn collect(found: &mut Vec<String>, path: &str, once: &Value, again: &Value) {
    match (once, again) {
        (Value::Object(once), Value::Object(again)) => {
            for (name, value) in once {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if !IGNORED.contains(&path.as_str()) {
                    collect(found, &path, value, again.get(name).unwrap_or(&Value::Null));
                }
            }
        }
        (Value::Array(once), Value::Array(again)) if once.len() == again.len() => {
            for (index, (once, again)) in once.iter().zip(again).enumerate() {
                collect(found, &format!("{path}[{index}]"), once, again);
            }
        }
        (Value::Array(once), Value::Array(again)) => {
            found.push(format!("{path}: {} and {} entries", once.len(), again.len()));
        }
        _ if once != again => found.push(format!("{path}: {once} and {again}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(trace: &str) -> Report {
        Report { trace: trace.to_owned(), ..Report::default() }
    }

    #[test]
    fn time_on_the_wall_is_no_difference() {
        let again = Report { wall_seconds: 2.0, peak_memory_bytes: 3, repro: "again".to_owned(), ..report("a") };
        assert_eq!(judge(&report("a"), &again, &report("b")), Vec::<String>::new());
    }

    #[test]
    fn a_difference_is_named_by_its_field() {
        let mut again = report("a");
        again.messages.delivered = 3;
        again.timeline.push(Default::default());
        let problems = judge(&report("a"), &again, &report("b"));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("messages.delivered: 0 and 3"), "{problems:?}");
        assert!(problems[0].contains("timeline: 0 and 1 entries"), "{problems:?}");
    }

    #[test]
    fn a_seed_without_effect_is_found() {
        assert_eq!(judge(&report("a"), &report("a"), &report("a")).len(), 1);
        assert!(judge(&report("a"), &report("c"), &report("b")).concat().contains("two traces"));
    }
}
