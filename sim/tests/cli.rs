//! Does the command line report errors clearly, and compare reports correctly? These tests do not simulate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use avi_sim::report::{Report, Violation};

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn sim(arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_avi-sim")).args(arguments).output().unwrap();
    let said = Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!said.err.contains("panicked") && !said.err.contains("backtrace"), "{}", said.err);
    said
}

#[track_caller]
fn refuses(arguments: &[&str], why: &[&str]) {
    let said = sim(arguments);
    assert_eq!(said.code, Some(2), "{arguments:?}: {}", said.err);
    assert_eq!(said.out, "", "{arguments:?}");
    why.iter().for_each(|why| assert!(said.err.contains(why), "{arguments:?}: {}", said.err));
}

fn file(name: &str, text: &str) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli");
    fs::create_dir_all(&folder).unwrap();
    let file: PathBuf = folder.join(name);
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn report() -> Report {
    let mut report = Report {
        scenario: "quiet".to_owned(),
        nodes: 10,
        seed: 1,
        network: "events".to_owned(),
        virtual_seconds: 30.0,
        wall_seconds: 1.0,
        ..Report::default()
    };
    report.messages.possible = 1000;
    report.messages.delivered = 1000;
    report.messages.latency_ms.p50 = 40.0;
    report.messages.latency_ms.p95 = 80.0;
    report.messages.latency_ms.p99 = 100.0;
    report.connections.opened = 200;
    report.bytes_sent.p50 = 50_000.0;
    report
}

/// Two report files that differ by `change`.
fn pair(name: &str, change: impl FnOnce(&mut Report)) -> (String, String) {
    let mut head = report();
    change(&mut head);
    let write = |end, report: &Report| file(&format!("{name}-{end}.json"), &serde_json::to_string(report).unwrap());
    (write("base", &report()), write("head", &head))
}

#[track_caller]
fn compared(name: &str, change: impl FnOnce(&mut Report), limits: &[&str], code: i32, says: &str) {
    let (base, head) = pair(name, change);
    let said = sim(&[&["compare", &base, &head], limits].concat());
    assert_eq!(said.code, Some(code), "{}{}", said.out, said.err);
    assert!(said.out.contains(says), "{}", said.out);
}

#[test]
fn the_list_names_every_scenario_that_comes_with_the_tool() {
    let said = sim(&["list"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    for (name, _) in avi_sim::scenario::BUILTIN {
        assert!(said.out.contains(name), "{name}");
    }
}

#[test]
fn help_names_every_command() {
    let said = sim(&["--help"]);
    assert_eq!(said.code, Some(0));
    ["run", "sweep", "shrink", "verify", "compare", "list", "situations"]
        .iter()
        .for_each(|name| assert!(said.out.contains(name), "{name}"));
}

#[test]
fn a_scenario_that_is_not_there_is_refused_with_the_names_of_those_that_are() {
    for command in [&["run", "nowhere"][..], &["sweep", "nowhere", "--seeds", "0..2"], &["verify", "nowhere"]] {
        refuses(command, &["nowhere", "no such file", "quiet"]);
    }
}

#[test]
fn a_bad_scenario_file_is_refused_with_its_line() {
    let unknown = file("unknown.toml", "seconds = 5\nsecnods = 6\n");
    refuses(&["run", &unknown], &["unknown.toml:2: ", "secnods"]);
    let range = file("range.toml", "\n[publish]\nbytes = 4\n");
    refuses(&["sweep", &range, "--seeds", "0..2"], &["range.toml:3: publish.bytes = 4: expected 16 to 65536"]);
}

#[test]
fn what_a_scenario_cannot_mean_is_refused() {
    let refused = |name: &str, text: &str, why: &str| refuses(&["run", &file(name, text)], &[why]);
    let crash = "[[faults]]\nkind = \"crash\"\nat = 3\nnodes = 1\nmoves = true\n";
    refused("moves.toml", crash, "moves.toml:5: moves = true: expected false, or a restart_at beside it");
    let late = "[[faults]]\nkind = \"crash\"\nat = 3\nnodes = 1\n[join]\nnodes = 1\nat = 31\n";
    refused("late.toml", late, "late.toml:7: join.at = 31: expected 0 to the scenario's seconds");
    refused("often.toml", "[join]\ndiscover_every = 0.5\n", "join.discover_every = 0.5: expected 0, or 1 to 86400");
    refused(
        "never.toml",
        "[expect]\njoin_within = nan\n",
        "never.toml:2: expect.join_within = NaN: expected 0 to 86400",
    );
    refused("many.toml", "[hostile]\nsybils = 10001\n", "many.toml:2: hostile.sybils = 10001: expected at most 10000");
}

#[test]
fn a_list_with_a_mistake_is_refused_with_the_line_of_its_item() {
    let refused = |name: &str, text: &str, why: &str| refuses(&["run", &file(name, text)], &[why]);
    let message = "[[publish.list]]\nat = 3\nnode = 1\n";
    refused(
        "list_at.toml",
        &format!("{message}\n[[publish.list]]\nnode = 2\nat = 31\n"),
        "list_at.toml:7: publish.list[1].at = 31: expected 0 to 30, the scenario's seconds",
    );
    refused(
        "list_topic.toml",
        &format!("{message}topic = 1\n"),
        "list_topic.toml:4: publish.list[0].topic = 1: expected",
    );
    refused("list_call.toml", "[[calls.list]]\nat = -1\nnode = 0\n", "list_call.toml:2: calls.list[0].at = -1");
    let stall = |nodes: &str| format!("[[faults]]\nkind = \"stall\"\nfrom = 1\nuntil = 2\nnodes = {nodes}\n");
    refused("twice.toml", &stall("[3, 3]"), "twice.toml:5: faults[0].nodes = [3, 3]: expected each number once");
    refused("high.toml", &stall("[3, 10]"), "high.toml names node 10: expected --nodes of at least 11");
    let chaos = "[[faults]]\nkind = \"chaos\"\nfrom = 1\nuntil = 2\ncount = 3\nkinds = [\"flood\"]\n";
    refused("kinds.toml", chaos, "unknown variant `flood`");
    refused(
        "begin.toml",
        "[hostile]\nfrom = 31\n",
        "begin.toml:2: hostile.from = 31: expected 0 to the scenario's seconds",
    );
}

#[test]
fn two_processes_of_a_node_that_cannot_be_are_refused() {
    let refused = |name: &str, text: &str, why: &str| {
        let overlap = format!("[[faults]]\nkind = \"overlap\"\nfrom = 5\n{text}");
        refuses(&["run", &file(name, &overlap)], &[why]);
    };
    refused("before.toml", "until = 4\nnodes = 1\n", "before.toml:1: faults = 5 to 4: expected a begin before its end");
    refused("after.toml", "until = 31\nnodes = 1\n", "after.toml:1: faults = 5 to 31: expected a begin before its end");
    refused(
        "same.toml",
        "until = 6\nnodes = [3, 3]\n",
        "same.toml:5: faults[0].nodes = [3, 3]: expected each number once",
    );
    let named = "until = 6\nnodes = [3]\nid = \"lower\"\n";
    refused("order.toml", named, "order.toml:6: faults[0].id = lower: expected \"any\", beside the numbers");
    refused(
        "ends.toml",
        "until = 6\nnodes = 1\nends = \"rest\"\n",
        "unknown variant `rest`, expected `leave` or `crash`",
    );
    refused("far.toml", "until = 6\nnodes = [10]\n", "far.toml names node 10: expected --nodes of at least 11");
}

#[test]
fn nodes_of_another_make_that_cannot_be_are_refused() {
    let refused = |name: &str, text: &str, why: &str| refuses(&["run", &file(name, text)], &[why]);
    let once = "expected each of ping, kad and name once at most";
    let lacks = "[foreign]\nnodes = 1\nlacks = [\"kad\", \"kad\"]\n";
    refused("lacks.toml", lacks, &format!("lacks.toml:3: foreign.lacks = [kad, kad]: {once}"));
    refused(
        "tls.toml",
        "[foreign]\nlacks = [\"tls\"]\n",
        "unknown variant `tls`, expected one of `ping`, `kad`, `name`",
    );
    let list = "[[foreign.list]]\nnode = 2\n";
    refused("pair.toml", &list.repeat(2), "pair.toml:4: foreign.list[1].node = 2: expected each number once");
    let lacks = format!("{list}lacks = [\"name\", \"name\"]\n");
    refused("twice_lacks.toml", &lacks, &format!("twice_lacks.toml:3: foreign.list[0].lacks = [name, name]: {once}"));
    refused("tenth.toml", "[[foreign.list]]\nnode = 10\n", "tenth.toml names node 10: expected --nodes of at least 11");
    let key = "[node]\nprivate = true\n[foreign]\nnodes = 1\n";
    refused("key.toml", key, "key.toml:2: node.private = true: expected false, beside nodes of another make");
}

#[test]
fn the_scenario_that_a_seed_draws_is_shown_and_is_one() {
    let [once, other] =
        ["7", "8"].map(|seed| sim(&["run", "chaos", "--nodes", "25", "--seed", seed, "--print-scenario"]).out);
    assert_ne!(once, other);
    assert!(!once.contains("swarm"), "{once}");
    let again = sim(&["run", &file("drawn.toml", &once), "--nodes", "25", "--seed", "7", "--print-scenario"]);
    assert_eq!(again.out, once);
}

#[test]
fn a_length_that_does_not_fit_the_scenario_is_refused() {
    refuses(&["run", "quiet", "--seconds", "0"], &["--seconds 0", "more than 0"]);
    refuses(&["run", "quiet", "--seconds", "-3"], &["--seconds -3", "more than 0"]);
    refuses(&["run", "quiet", "--seconds", "NaN"], &["--seconds NaN", "more than 0"]);
    let faults = "seconds = 60\n[[faults]]\nkind = \"stall\"\nfrom = 20\nuntil = 40\nnodes = 1\n";
    refuses(&["verify", &file("faults.toml", faults), "--seconds", "30"], &["--seconds 30", "faults = 20 to 40"]);
}

#[test]
fn a_range_without_seeds_is_refused() {
    refuses(&["sweep", "quiet", "--seeds", "5..5"], &["5..5", "there is no seed in it"]);
    refuses(&["sweep", "quiet", "--seeds", "9..=5"], &["there is no seed in it"]);
    refuses(&["sweep", "quiet", "--seeds", "five"], &["expected A..B or A..=B"]);
    refuses(&["sweep", "quiet"], &["--seeds"]);
    refuses(&["sweep", "quiet", "--seeds", "0..2", "--jobs", "0"], &["--jobs"]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    refuses(&["run", "quiet", "--nodes", "0"], &["--nodes"]);
    refuses(&["run", "quiet", "--seed", "-1"], &["-1"]);
    refuses(&["run", "quiet", "--network", "pigeons"], &["pigeons"]);
    refuses(&["run", "quiet", "--json", "/nowhere/at/all.json"], &["/nowhere/at/all.json"]);
    refuses(&["dance"], &["dance"]);
}

#[test]
fn equal_reports_compare_well() {
    compared("equal", |_| {}, &[], 0, "no figure is worse than allowed");
    compared("seed", |head| head.seed = 2, &[], 0, "seed 1 and 2");
    compared("better", |head| head.wall_seconds = 0.1, &[], 0, "-90.0 %");
}

#[test]
fn a_figure_beyond_its_limit_fails() {
    compared("delivery", |head| head.messages.delivered = 998, &[], 1, "1 of 7 figures are worse");
    compared("delivery-edge", |head| head.messages.delivered = 999, &[], 0, "-0.0010");
    compared("delivery-wide", |head| head.messages.delivered = 998, &["--delivery", "0.01"], 0, "-0.0020");
    compared("p50", |head| head.messages.latency_ms.p50 = 45.0, &[], 1, "+12.5 %");
    compared("p95", |head| head.messages.latency_ms.p95 = 90.0, &[], 1, "+12.5 %");
    compared("p99", |head| head.messages.latency_ms.p99 = 109.0, &[], 0, "+9.0 %");
    compared("p99-narrow", |head| head.messages.latency_ms.p99 = 109.0, &["--latency", "0"], 1, "WORSE");
    compared("opened", |head| head.connections.opened = 221, &[], 1, "+10.5 %");
    compared("bytes", |head| head.bytes_sent.p50 = 60_000.0, &[], 1, "+20.0 %");
    compared("wall", |head| head.wall_seconds = 1.4, &[], 1, "+40.0 %");
}

#[test]
fn a_head_that_delivers_nothing_or_breaks_a_promise_fails() {
    compared("nothing", |head| head.messages = Default::default(), &[], 1, "-1.0000");
    let broken = Violation { invariant: "once".to_owned(), at: 4.0, ..Violation::default() };
    compared("broken", |head| head.violation = Some(broken), &[], 1, "the head broke a promise at 4.000 s: once");
}

#[test]
fn reports_of_different_runs_are_refused() {
    let refused = |name: &str, change: fn(&mut Report), why: &[&str]| {
        let (base, head) = pair(name, change);
        refuses(&["compare", &base, &head], why);
    };
    refused("scenario", |head| head.scenario = "churn".to_owned(), &["the scenario is quiet in the base and churn"]);
    refused("nodes", |head| head.nodes = 11, &["the number of nodes is 10 in the base and 11"]);
    refused("network", |head| head.network = "turmoil".to_owned(), &["the network is events in the base"]);
    refused("length", |head| head.virtual_seconds = 20.0, &["the length in seconds is 30 in the base and 20"]);
}

#[test]
fn what_is_no_report_is_refused() {
    let (base, _) = pair("no-report", |_| {});
    refuses(&["compare", &base, "nowhere.json"], &["nowhere.json"]);
    refuses(&["compare", &base, &file("empty.json", "")], &["empty.json is not a report"]);
    refuses(&["compare", &base, &base, "--wall", "-1"], &["--wall -1: expected 0 or more"]);
}
