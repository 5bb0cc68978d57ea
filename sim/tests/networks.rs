//! Do both networks give the same results for the same plan? Each run has its own process.

use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use avi_sim::report::Report;

/// A run of a scenario that keeps every promise.
fn report(name: &str, scenario: &str, network: &str) -> Report {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("networks-{name}-{network}.json"));
    let output = Command::new(env!("CARGO_BIN_EXE_avi-sim"))
        .args(["run", scenario, "--nodes", "8", "--seed", "1", "--network", network, "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{network}: {said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn both_networks_deliver_the_same() {
    let [events, turmoil] = thread::scope(|scope| {
        ["events", "turmoil"].map(|network| scope.spawn(move || report("same", "quiet", network))).map(|run| run.join())
    });
    let (events, turmoil) = (events.unwrap(), turmoil.unwrap());
    assert_eq!((events.network.as_str(), turmoil.network.as_str()), ("events", "turmoil"));
    let deliveries = |report: &Report| {
        let messages = &report.messages;
        (messages.published, messages.possible, messages.delivered, messages.expired, messages.out_of_order)
    };
    assert_eq!(deliveries(&events), deliveries(&turmoil));
    assert_eq!(events.messages.delivered, events.messages.possible);
    assert!(events.messages.delivered > 0);
}

#[test]
fn turmoil_gives_the_same_trace_again() {
    let [once, again] = thread::scope(|scope| {
        ["once", "again"].map(|name| scope.spawn(move || report(name, "quiet", "turmoil"))).map(|run| run.join())
    });
    assert_eq!(once.unwrap().trace, again.unwrap().trace);
}

#[test]
fn turmoil_refuses_a_bandwidth() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uplink.toml");
    fs::write(&file, "[link]\nuplink_kbit = 512\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_avi-sim"))
        .args(["run", file.to_str().unwrap(), "--network", "turmoil"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("link.uplink_kbit = 512") && error.contains("turmoil has no bandwidth"), "{error}");
}
