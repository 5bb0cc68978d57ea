//! Is the engine pure? Asked of its sources, and of the tree of what it is built from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Words that only code with a clock, randomness, tasks, channels, sockets or libp2p has a use for.
const IMPURE: [&str; 24] = [
    "libp2p",
    "tokio",
    "smol",
    "futures",
    "async",
    "await",
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "thread",
    "spawn",
    "sleep",
    "mpsc",
    "oneshot",
    "channel",
    "Mutex",
    "Condvar",
    "Atomic",
    "rand",
    "getrandom",
    "HashMap",
    "HashSet",
    "TcpStream",
    "UdpSocket",
];

#[test]
fn the_engine_names_no_clock_randomness_task_channel_or_network() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for room in ["engine", "audio", "wire"] {
        collect(&root.join(room), &mut files);
    }
    assert!(files.len() >= 15, "the check saw only {files:?}");
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file can be read");
        for (number, line) in text.lines().enumerate() {
            found.extend(impure_words(line).map(|word| format!("{}:{}: {word}", file.display(), number + 1)));
        }
    }
    assert!(found.is_empty(), "the pure core is not pure:\n{}", found.join("\n"));
}

#[test]
fn the_purity_check_sees_impure_code_and_not_prose() {
    for line in ["let now = Instant::now();", "async fn f() {}", "use libp2p_swarm::Swarm;", "x.await", "AtomicU64"] {
        assert!(impure_words(line).next().is_some(), "{line}");
    }
    for line in ["//! no clock, no tokio, no async", "    /// spawn nothing", "let branded = operand;", "x // a thread"]
    {
        assert_eq!(impure_words(line).next(), None, "{line}");
    }
}

#[test]
fn the_pure_core_is_built_without_libp2p_or_a_runtime() {
    let tree = |features: &[&str]| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["tree", "--offline", "--locked", "--edges", "normal,build", "--prefix", "none"])
            .args(features)
            .output()
            .expect("cargo can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("cargo writes UTF-8")
    };
    let names = ["libp2p", "tokio", "smol", "async-", "futures"];
    let has = |tree: &str, name: &str| tree.lines().any(|line| line.starts_with(name));
    let core = tree(&["--no-default-features"]);
    assert!(has(&core, "bytes"), "{core}");
    for name in names {
        assert!(!has(&core, name), "{name} is in the tree of the pure core:\n{core}");
    }
    let whole = tree(&[]);
    assert!(has(&whole, "libp2p") && has(&whole, "tokio"), "the check cannot see what it looks for:\n{whole}");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("a folder's entry can be read").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

fn impure_words(line: &str) -> impl Iterator<Item = &'static str> {
    let code = line.split("//").next().unwrap_or_default().to_owned();
    IMPURE.into_iter().filter(move |word| {
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.into_iter().any(|other| match *word {
            "Atomic" | "libp2p" => other.starts_with(word),
            _ => other == *word,
        })
    })
}
