//! Has the behaviour of the nodes changed? Compares the trace of one small run with the accepted one.

use std::path::Path;
use std::process::Command;

const RUN: [&str; 6] = ["run", "quiet", "--nodes", "10", "--seed", "1"];

fn trace() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_avi-sim")).args(RUN).output().expect("the tool runs");
    let text = String::from_utf8(output.stdout).expect("the tool writes UTF-8");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.lines().find_map(|line| line.strip_prefix("trace ")).expect("a trace line").to_owned()
}

#[test]
fn the_trace_of_a_small_run_is_the_one_that_was_accepted() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.txt");
    let trace = trace();
    if std::env::var_os("AVI_SIM_ACCEPT").is_some() {
        std::fs::write(&file, format!("{trace}\n")).expect("the golden trace can be written");
    }
    let accepted = std::fs::read_to_string(&file).expect("the golden trace is in the repository");
    assert_eq!(
        trace,
        accepted.trim(),
        "the behaviour has changed; if that is meant, see sim/README.md, \"Accept a change of behaviour\""
    );
}
