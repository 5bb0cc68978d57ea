//! Do the flight recorders of simulated nodes record what can be replayed, without a change of what happens?

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use avi_p2p::recording::Replay;
use avi_sim::scenario::BUILTIN;
use serde_json::Value;

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recordings-{name}"))
}

/// The report of a run, without what recording costs. The trace is left out too: it counts how often an allocator reads the
/// clock.
fn run(arguments: &[&str], json: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_avi-sim"))
        .arg("run")
        .args(arguments)
        .args(["--json", json.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    for field in ["trace", "wall_seconds", "peak_memory_bytes", "repro"] {
        report.as_object_mut().unwrap().remove(field).unwrap_or_else(|| panic!("no {field}"));
    }
    fs::remove_file(json).unwrap();
    report
}

/// Replays all recordings of a folder. Returns how many there are.
fn replay(folder: &Path, what: &str) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let replay = Replay::new(fs::read(&file).unwrap()).unwrap_or_else(|error| panic!("{what}: {file:?}: {error}"));
        let steps = replay.map(|step| step.unwrap_or_else(|error| panic!("{what}: {file:?}: {error}")));
        assert!(steps.count() > 1, "{what}: {file:?}");
        count += 1;
    }
    count
}

#[test]
fn every_recording_of_every_scenario_replays_and_none_changes_the_run() {
    for (name, _) in BUILTIN {
        let nodes = match name {
            "context_hostile" => "4",
            name if name.starts_with("voice_") => "2",
            _ => "10",
        };
        let folder = place(name);
        let _ = fs::remove_dir_all(&folder);
        let plain = [name, "--nodes", nodes, "--seed", "2"];
        let json = place(&format!("{name}.json"));
        let recorded = run(&[&plain[..], &["--record", folder.to_str().unwrap()]].concat(), &json);
        assert_eq!(recorded, run(&plain, &json), "{name}");
        assert!(replay(&folder, name) >= 2, "{name}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
