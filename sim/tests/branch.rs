//! From which moment on is a failure likely? A run goes another way from there, and its past stays as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use avi_sim::report::Report;

/// The first frame that is older than a good link makes it breaks a promise. Outages of the links come by chance.
const OUTAGES: &str = r#"
seconds = 60

[topology]
bootstrap = 1

[node]
kad = false

[link]
profiles = ["roaming"]

[publish]
messages = 0

[calls]
from = 10
seconds = 20
list = [{ at = 10, node = 1 }]

[expect]
frame_within = 0.25
"#;

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_avi-sim")).args(arguments).output().unwrap()
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("branch-{name}"))
}

fn written(name: &str, text: &str) -> String {
    let file = place(name);
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// The report of a run with these arguments, whatever it breaks.
fn report(name: &str, arguments: &[&str]) -> Report {
    let file = place(&format!("{name}.json"));
    let output = sim(&[&["run"], arguments, &["--json", file.to_str().unwrap()]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// What is not of the simulation, or says how it was asked for, left out.
fn without_names(report: Report) -> Report {
    let (repro, trace, stops) = (String::new(), String::new(), Vec::new());
    Report { wall_seconds: 0.0, peak_memory_bytes: 0, repro, trace, stops, ..report }
}

#[test]
fn a_branch_with_the_seed_of_the_run_is_the_run() {
    let run = ["chaos", "--nodes", "12", "--seed", "5", "--seconds", "75"];
    let plain = report("plain", &run);
    let stopped = report("stopped", &[&run[..], &["--stop-at", "31.7"]].concat());
    let same = report("same", &[&run[..], &["--stop-at", "31.7", "--branch", "5"]].concat());
    assert_eq!((&same.trace, &same.stops), (&stopped.trace, &stopped.stops));
    assert_eq!(without_names(same), without_names(plain.clone()));
    assert_eq!(without_names(stopped), without_names(plain));
}

#[test]
fn branches_have_one_past_and_each_its_own_future() {
    let branch = |name: &str, seed: &str| {
        report(
            name,
            &["chaos_plain", "--nodes", "12", "--seed", "5", "--to-the-end", "--stop-at", "31.7", "--branch", seed],
        )
    };
    let [one, again, other, original] =
        [("one", "1"), ("again", "1"), ("other", "2"), ("original", "5")].map(|(name, seed)| branch(name, seed));
    assert_eq!(without_names(one.clone()), without_names(again.clone()));
    assert_eq!(one.trace, again.trace);
    let past = |report: &Report| (report.stops[0].trace.clone(), report.timeline[..31].to_vec());
    for future in [&one, &other] {
        assert_eq!(past(future), past(&original));
        assert_eq!(future.troubles, original.troubles, "the plan stays");
    }
    let future = |report: &Report| (report.trace.clone(), report.timeline.last().copied().unwrap().bytes_sent);
    assert!(future(&one) != future(&other) && future(&one) != future(&original) && future(&other) != future(&original));
    assert_eq!((one.stops[0].branch, original.stops[0].branch), (Some(1), None));
}

#[test]
fn the_moment_from_which_a_failure_is_certain_is_found() {
    let scenario = written("outages.toml", OUTAGES);
    let original = report("outages", &[&scenario, "--nodes", "2", "--seed", "3"]);
    let broken = original.violation.unwrap();
    assert_eq!(broken.invariant, "a frame is young, or does not come");
    let [early, late] = [broken.at - 6.0, broken.at - 0.05];
    let (times, json) = (format!("{early},{late}"), place("lines.json"));
    let output = sim(&[
        "run",
        &scenario,
        "--nodes",
        "2",
        "--seed",
        "3",
        "--stop-at",
        &times,
        "--branch",
        "0..16",
        "--json",
        json.to_str().unwrap(),
    ]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("seed 3 itself breaks") && said.contains("16 of 16"), "{said}");
    let lines: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let broken = |line: usize| lines[line]["broken"].as_u64().unwrap();
    assert!(broken(0) <= 12, "six seconds before, nothing is lost yet: {said}");
    // The outage has begun: the frame is late already.
    assert_eq!((broken(1), lines[1]["total"].as_u64()), (16, Some(16)));
    // What the last line says to run is one of them.
    let repro = said.lines().find_map(|line| line.strip_prefix("repro cargo sim ")).unwrap();
    let repro: Vec<_> = repro.split_once("  #").map_or(repro, |(repro, _)| repro).split(' ').collect();
    let again = sim(&repro);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stdout).contains("BROKEN: a frame is young"), "{repro:?}");
}

#[test]
fn what_cannot_branch_is_refused() {
    let refused = |arguments: &[&str], why: &str| {
        let output = sim(&[&["run", "quiet"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(why), "{arguments:?}: {said}");
    };
    refused(&["--branch", "0..4"], "--stop-at");
    refused(&["--stop-at", "10", "--branch", "4..4"], "there is no seed in it");
    refused(&["--stop-at", "10", "--branch", "four"], "expected a seed, or several");
    refused(&["--stop-at", "0"], "--stop-at 0: expected times of more than 0 and less than 30");
    refused(&["--stop-at", "30"], "--stop-at 30: expected");
    refused(&["--stop-at", "NaN"], "--stop-at NaN: expected");
    refused(&["--stop-at", "12,10"], "--stop-at 12,10: expected");
    refused(&["--stop-at", "10", "--branch", "1", "--network", "turmoil"], "expected --network events");
    refused(
        &["--stop-at", "10", "--branch", "0..4", "--report", "x.html"],
        "expected one time in --stop-at and one seed",
    );
    let scenario = written("early.toml", OUTAGES);
    let output = sim(&["run", &scenario, "--nodes", "2", "--seed", "3", "--stop-at", "12,55", "--branch", "0..2"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("expected earlier times than 55"), "{said}");
}
