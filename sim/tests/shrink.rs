//! Does a failure become small, and is it still the same? The failure is planted: a promise that one fault must break.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use avi_sim::report::Report;
use avi_sim::scenario::{Fault, Scenario};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_avi-sim")).args(arguments).output().unwrap()
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Only one of the faults makes frames older than they may be here, and only if there is a call meanwhile.
const PLANTED: &str = r#"
seconds = 60

[expect]
frame_within = 0.3

[publish]
messages = 30
from = 5

[calls]
count = 8
seconds = 20
from = 5

[[faults]]
kind = "latency"
from = 8
until = 11
add_ms = 50

[[faults]]
kind = "leave"
at = 12
nodes = 1
restart_at = 15

[[faults]]
kind = "latency"
from = 30
until = 33
add_ms = 500

[[faults]]
kind = "crash"
at = 36
nodes = 2
"#;

#[test]
fn a_planted_failure_becomes_one_fault_that_breaks_the_same_promise() {
    let (planted, small) = (place("planted.toml"), place("planted-small.toml"));
    fs::write(&planted, PLANTED).unwrap();
    let [planted, small] = [&planted, &small].map(|file| file.to_str().unwrap());
    let broken = "a frame is young, or does not come";

    let output = sim(&["shrink", planted, "--nodes", "8", "--seed", "1", "--budget", "150", "--output", small]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let text = fs::read_to_string(small).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), text);
    assert!(text.starts_with(&format!("# breaks: {broken}\n")), "{text}");

    let scenario = Scenario::load(small).unwrap();
    assert!(matches!(scenario.faults[..], [Fault::Latency { add_ms: 500.0, .. }]), "{text}");
    assert!(scenario.publish.list.is_empty() && scenario.publish.messages == 0, "{text}");
    assert!(scenario.calls.list.len() == 1 && scenario.calls.count == 0, "{text}");
    assert!(scenario.seconds.0 < 31.0, "{text}");

    // The repro line, as a person would run it.
    let repro = text.lines().find_map(|line| line.strip_prefix("# repro cargo sim ")).unwrap();
    let repro = repro.split("  #").next().unwrap();
    let nodes = repro.split(" --nodes ").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
    assert_eq!(nodes - scenario.topology.absent.len(), 2, "{text}");
    let json = place("planted-small.json");
    let mut arguments: Vec<_> = repro.split(' ').collect();
    arguments.extend(["--json", json.to_str().unwrap()]);
    assert_eq!(sim(&arguments).status.code(), Some(1));
    let report: Report = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report.violation.unwrap().invariant, broken);
}

#[test]
fn a_seed_that_keeps_all_promises_is_refused() {
    let calm = place("calm.toml");
    fs::write(&calm, "seconds = 12\n").unwrap();
    let output = sim(&["shrink", calm.to_str().unwrap(), "--nodes", "3", "--seed", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("seed 1 keeps all promises"));
}
