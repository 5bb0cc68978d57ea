//! Does the pure core take more instructions than it did? Counted by valgrind, so that a busy machine changes nothing.
//!
//! ```text
//! cargo bench --bench instructions [-- --bless]
//! ```
//!
//! Compares with `benches/instructions.txt`, and fails beyond its tolerance; `--bless` writes that file anew.

mod rig;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use avi_p2p::wire::{Decoder, encode_data};
use bytes::{Bytes, BytesMut};

use rig::{Rig, frames_from};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// More than this in percent fails; as much less asks for new figures.
const TOLERANCE_PERCENT: u64 = 10;
/// What a path costs is the difference of two runs, so that start and setup do not count.
const REPEATS: [u64; 2] = [100, 300];
const PAYLOAD: [u8; 1024] = [7; 1024];
const INSTALL: &str = "valgrind is missing: `apt-get install valgrind` on Debian and its like";

/// A hot path, so many times.
type HotPath = (&'static str, fn(u64));

const PATHS: [HotPath; 10] = [
    ("encode a frame of 1 KiB", |repeats| {
        let mut out = BytesMut::with_capacity(2048);
        for sequence in 0..repeats {
            out.clear();
            encode_data(sequence, sequence * 20_000, black_box(&PAYLOAD), &mut out);
            black_box(&out);
        }
    }),
    ("encode and decode a frame of 1 KiB, whole", |repeats| decode(repeats, usize::MAX)),
    ("encode and decode a frame of 1 KiB, in pieces of 100 B", |repeats| decode(repeats, 100)),
    ("send a frame, 100 peers", |repeats| {
        let (mut rig, payload) = (Rig::new(100), Bytes::from(PAYLOAD.to_vec()));
        for _ in 0..repeats {
            rig.send_and_write(payload.clone(), |output| drop(black_box(output)));
        }
    }),
    ("receive a frame, 100 peers", |repeats| {
        let mut rig = Rig::new(100);
        for _ in 0..repeats {
            let input = rig.receive(1, &PAYLOAD);
            rig.step(input, |output| drop(black_box(output)));
        }
    }),
    ("publish a message, 100 peers", |repeats| {
        let (mut rig, data) = (Rig::new(100), Bytes::from(PAYLOAD.to_vec()));
        for _ in 0..repeats {
            rig.publish(data.clone(), |output| drop(black_box(output)));
        }
    }),
    ("receive a message, 100 peers", |repeats| {
        let mut rig = Rig::new(100);
        for _ in 0..repeats {
            let input = rig.message(Bytes::from(PAYLOAD.to_vec()));
            rig.step(input, |output| drop(black_box(output)));
        }
    }),
    ("send a frame of 160 B, recorded", |repeats| {
        let (mut rig, payload) = (Rig::recorded(100), Bytes::from(vec![7; 160]));
        for _ in 0..repeats {
            rig.send_and_write(payload.clone(), |output| drop(black_box(output)));
        }
    }),
    ("receive a frame of 160 B, recorded", |repeats| {
        let mut rig = Rig::recorded(100);
        for _ in 0..repeats {
            let input = rig.receive(1, &PAYLOAD[..160]);
            rig.step(input, |output| drop(black_box(output)));
        }
    }),
    ("publish a message of 64 B, recorded", |repeats| {
        let (mut rig, data) = (Rig::recorded(100), Bytes::from(vec![7; 64]));
        for _ in 0..repeats {
            rig.publish(data.clone(), |output| drop(black_box(output)));
        }
    }),
];

fn decode(repeats: u64, piece: usize) {
    let mut decoder = Decoder::new(64 * 1024);
    for sequence in 0..repeats {
        let mut bytes = frames_from(sequence, 1, &PAYLOAD);
        while !bytes.is_empty() {
            let mut piece = bytes.split_to(piece.min(bytes.len()));
            drop(black_box(decoder.decode(&mut piece)));
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--run", path, repeats] => run(path, repeats),
        _ => check(arguments.iter().any(|argument| argument == "--bless")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &str, repeats: &str) -> Outcome {
    let (_, path) = PATHS.get(path.parse::<usize>()?).ok_or("no such path")?;
    path(repeats.parse()?);
    Ok(())
}

fn check(bless: bool) -> Outcome {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let before = if bless { BTreeMap::new() } else { read(&file)? };
    let mut now =
        String::from("# Instructions a time, on x86-64; `cargo bench --bench instructions -- --bless` writes this.\n");
    let mut failed = Vec::new();
    println!("{:<54} {:>8} {:>8}", "", "before", "now");
    for (at, (name, _)) in PATHS.iter().enumerate() {
        let [fewer, more] = [count(at, REPEATS[0])?, count(at, REPEATS[1])?];
        let each = (more - fewer) / (REPEATS[1] - REPEATS[0]);
        writeln!(now, "{each:>8}  {name}")?;
        let Some(&before) = before.get(*name) else {
            println!("{name:<54} {:>8} {each:>8}", "");
            if !bless {
                failed.push(format!("{name}: has no figure yet; --bless writes it"));
            }
            continue;
        };
        println!("{name:<54} {before:>8} {each:>8}");
        if each * 100 > before * (100 + TOLERANCE_PERCENT) {
            failed.push(format!("{name}: {each} instructions, {before} before, {TOLERANCE_PERCENT} % more allowed"));
        } else if each * (100 + TOLERANCE_PERCENT) < before * 100 {
            println!("{:<54} less: --bless keeps it so", "");
        }
    }
    if bless {
        std::fs::write(file, now)?;
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

fn read(file: &PathBuf) -> Outcome<BTreeMap<String, u64>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let entries = lines.filter_map(|line| line.trim().split_once("  "));
    entries.map(|(count, name)| Ok((name.to_owned(), count.parse()?))).collect()
}

/// The instructions of a run, start and end included.
fn count(path: usize, repeats: u64) -> Outcome<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--run", &path.to_string(), &repeats.to_string()])
        .output()
        .map_err(|error| format!("{INSTALL} ({error})"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    match collected {
        Some((_, count)) if output.status.success() => Ok(count.trim().parse()?),
        _ => Err(format!("valgrind failed: {said}").into()),
    }
}
