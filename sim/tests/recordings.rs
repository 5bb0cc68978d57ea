//! Do the flight recorders of simulated nodes record what can be replayed, without a change of what happens?

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use avi_p2p::recording::Replay;
use avi_sim::scenario::BUILTIN;

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recordings-{name}"))
}

/// The trace of a run.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_avi-sim")).arg("run").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    said.lines().find_map(|line| line.strip_prefix("trace ").filter(|trace| trace.len() == 64)).unwrap().to_owned()
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
        let nodes = if name.starts_with("voice_") { "2" } else { "10" };
        let folder = place(name);
        let _ = fs::remove_dir_all(&folder);
        let run_of = ["run", name, "--nodes", nodes, "--seed", "2"];
        let recorded = run(&[&run_of[1..], &["--record", folder.to_str().unwrap()]].concat());
        assert_eq!(recorded, run(&run_of[1..]), "{name}");
        assert!(replay(&folder, name) >= 2, "{name}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
