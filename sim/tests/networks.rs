//! Do both networks give the same results for the same plan? Each run has its own process.

use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use avi_sim::report::Report;

/// A run of a scenario that keeps every promise.
fn report(name: &str, arguments: &[&str]) -> Report {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("networks-{name}.json"));
    let output = Command::new(env!("CARGO_BIN_EXE_avi-sim"))
        .arg("run")
        .args(arguments)
        .args(["--seed", "1", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Several runs, at the same time.
fn reports<const RUNS: usize>(runs: [(&str, &[&str]); RUNS]) -> [Report; RUNS] {
    thread::scope(|scope| {
        let running = runs.map(|(name, arguments)| scope.spawn(move || report(name, arguments)));
        running.map(|run| run.join().unwrap())
    })
}

/// What must be equal on both networks in a calm run, and complete.
fn deliveries(report: &Report) -> [u64; 5] {
    let messages = &report.messages;
    assert!(messages.delivered > 0 && messages.delivered == messages.possible, "{messages:?}");
    [messages.published, messages.possible, messages.delivered, messages.expired, messages.out_of_order]
}

fn written(name: &str, text: &str) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn both_networks_deliver_the_same() {
    let [events, turmoil] = reports([
        ("events", &["quiet", "--nodes", "8"]),
        ("turmoil", &["quiet", "--nodes", "8", "--network", "turmoil"]),
    ]);
    assert_eq!((events.network.as_str(), turmoil.network.as_str()), ("events", "turmoil"));
    assert_eq!((events.homes, turmoil.homes), (0, 0));
    assert_eq!(deliveries(&events), deliveries(&turmoil));
}

#[test]
fn two_hundred_nodes_in_shared_homes_deliver_the_same_on_both_networks() {
    let [events, turmoil] = reports([
        ("events-200", &["quiet", "--nodes", "200", "--homes", "25"]),
        ("turmoil-200", &["quiet", "--nodes", "200", "--network", "turmoil"]),
    ]);
    // turmoil has no more homes, so they are shared without being asked for.
    assert_eq!((events.homes, turmoil.homes), (25, 25));
    assert_eq!(deliveries(&events), deliveries(&turmoil));
    assert_eq!(turmoil.messages.published, 20);
}

#[test]
fn turmoil_gives_the_same_trace_again() {
    let alone: &[&str] = &["quiet", "--nodes", "8", "--network", "turmoil"];
    let together: &[&str] = &["quiet", "--nodes", "60", "--network", "turmoil"];
    let [once, again] = reports([("once", alone), ("again", alone)]);
    assert_eq!(once.trace, again.trace);
    let [once, again] = reports([("once-60", together), ("again-60", together)]);
    assert_eq!((once.homes, once.trace), (25, again.trace));
}

#[test]
fn a_crash_within_a_home_is_silent_on_turmoil_too() {
    let [alone, together] = reports([
        ("churn-8", &["churn", "--nodes", "8", "--network", "turmoil"]),
        ("churn-40", &["churn", "--nodes", "40", "--network", "turmoil"]),
    ]);
    assert_eq!((alone.homes, together.homes), (0, 25));
    for noticed in [alone.connections.noticed_ms, together.connections.noticed_ms] {
        assert!(noticed.count > 0 && noticed.p50 >= 1_000.0 && noticed.max <= 15_000.0, "{noticed:?}");
    }
}

#[test]
fn a_partition_between_homes_heals_on_both_networks() {
    let faults = "[[faults]]\nkind = \"partition\"\nfrom = 12\nuntil = 18\n\
        [[faults]]\nkind = \"partition\"\nfrom = 20\nuntil = 26\nmode = \"reset\"\n\
        [[faults]]\nkind = \"stall\"\nfrom = 28\nuntil = 32\nnodes = 10\n";
    let scenario = written("homes.toml", &format!("seconds = 70\n[topology]\nhomes = 5\n{faults}"));
    let [events, turmoil] = reports([
        ("homes-events", &[&scenario, "--nodes", "30"]),
        ("homes-turmoil", &[&scenario, "--nodes", "30", "--network", "turmoil"]),
    ]);
    assert_eq!((events.homes, turmoil.homes), (5, 5));
    assert_eq!(events.troubles, turmoil.troubles);
    // Three homes of five, and two of five, with six nodes each.
    let expected = ["partition of 18 and 12 nodes (Hold)", "partition of 18 and 12 nodes (Reset)", "stall of 12 nodes"];
    assert_eq!(events.troubles.iter().map(|trouble| trouble.what.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn turmoil_refuses_a_bandwidth() {
    let uplink = written("uplink.toml", "[link]\nuplink_kbit = 512\n");
    refuses(&[&uplink, "--network", "turmoil"], &["link.uplink_kbit = 512", "turmoil has no bandwidth"]);
}

#[test]
fn homes_that_a_network_or_a_fault_cannot_have_are_refused() {
    refuses(&["quiet", "--homes", "26", "--network", "turmoil"], &["topology.homes = 26", "at most 25 with turmoil"]);
    refuses(&["partition", "--homes", "1"], &["with --homes 1, topology.homes = 1", "a fault is between homes"]);
    refuses(&["quiet", "--homes", "2", "--nodes", "60000"], &["topology.homes = 2", "60000 machines", "at most 28767"]);
    let many = written("homes-many.toml", "[topology]\nhomes = 100001\n");
    refuses(&[&many], &["homes-many.toml:2: topology.homes = 100001: expected 0 to 100000"]);
}

#[track_caller]
fn refuses(arguments: &[&str], why: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_avi-sim")).arg("run").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    why.iter().for_each(|why| assert!(error.contains(why), "{error}"));
}
