//! Is the pure core built without I/O, a runtime, a clock or randomness? Asked of the crate graph.
//!
//! What of std it may not use, `proto/clippy.toml` lists, and clippy enforces.

use std::process::Command;

/// How the names of crates begin that only impure code needs. `rand_core` is not one of them: it has traits alone, and no
/// source of randomness.
const IMPURE: [&str; 10] =
    ["libp2p", "tokio", "smol", "async-", "polling", "futures", "rand", "getrandom", "socket2", "mio"];

#[test]
fn the_pure_core_is_built_without_libp2p_runtime_or_randomness() {
    let core = tree("avi-p2p-proto");
    assert!(core.iter().any(|name| name == "bytes"), "the check saw only {core:?}");
    let impure: Vec<_> = core.iter().filter(|name| is_impure(name)).collect();
    assert!(impure.is_empty(), "the pure core is built with {impure:?}");

    let whole = tree("avi-p2p");
    for prefix in ["libp2p", "tokio", "futures", "async-", "polling", "rand", "getrandom", "socket2"] {
        let is_seen = whole.iter().any(|name| name.starts_with(prefix) && is_impure(name));
        assert!(is_seen, "the check does not see {prefix} in {whole:?}");
    }
}

fn is_impure(name: &str) -> bool {
    name != "rand_core" && IMPURE.iter().any(|prefix| name.starts_with(prefix))
}

/// The names of the crates that a package of this workspace is built from, its own among them.
fn tree(package: &str) -> Vec<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--offline", "--locked", "--edges", "normal,build", "--prefix", "none", "--package", package])
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
