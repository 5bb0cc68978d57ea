//! Is what is heard at the other end of a lossy link still what was said? Two programs in network namespaces, with the
//! emulator of the library's own tests between them. It takes root, iproute2 and espeak-ng; where one is missing the test
//! says so and passes, unless `AVI_NETNS=required`.
#![cfg(target_os = "linux")]

#[path = "../../../tests/emulator/mod.rs"]
mod emulator;
mod measure;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use avi_links::Profile;
use emulator::namespace::or_skip;
use emulator::{Emulator, Machine};
use measure::{aligned, intelligibility};

const SEED: u64 = 7;
const WITHIN: Duration = Duration::from_secs(60);
/// Above it is speech with which nothing is wrong; the negative controls are below.
const ENOUGH: f64 = 0.9;
const SPOKEN: &str = "Good morning. The kettle in the kitchen is boiling, and somebody is waiting at the front door. \
                      Please bring the blue umbrella, because it will rain before noon.";
const OTHER: &str = "She sells sea shells by the sea shore, while five wizards mix jugs of liquid vapour. He thought that \
                     this was the long path to the harbour, and that they both had chosen it.";

#[test]
fn a_sentence_over_wifi_that_loses_packets_is_understood() {
    let folder = Folder::new();
    let Some(said) = or_skip_espeak(speak(SPOKEN, &folder.file("said.wav"))) else { return };
    let other = speak(OTHER, &folder.file("other.wav")).unwrap();
    let wifi = Profile::load("wifi").unwrap();
    let Some(emulator) = or_skip(Emulator::start(&[wifi.clone(), wifi], SEED)) else { return };
    let [hall, kitchen] = emulator.machines() else { unreachable!() };

    let (said_file, heard_file) = (folder.file("said.wav"), folder.file("heard.wav"));
    let mut caller = Intercom::start(hall, &["--name", "hall", "--call", "kitchen", "--wav-in", text(&said_file)]);
    let id = caller.line(" is 12D3KooW").split(' ').nth(2).unwrap().to_owned();
    let mut callee =
        Intercom::start(kitchen, &["--name", "kitchen", "--drop-in", &id, "--once", "--wav-out", text(&heard_file)]);
    let figures = callee.line("frames spoken");
    caller.end();
    callee.end();
    let report = emulator.stop().unwrap();
    assert!(report.lost > 0);

    let heard = samples(&heard_file);
    let score = |heard: &[f64]| intelligibility(&said, &aligned(&said, heard));
    let (call, holed, wrong) = (score(&heard), score(&with_holes(&heard)), score(&other));
    println!(
        "{call:.3} heard, {holed:.3} with holes, {wrong:.3} for other words; {} of {} packets lost; {figures}",
        report.lost, report.sent
    );
    assert!(call >= ENOUGH, "{call}: {figures}");
    assert!(holed < ENOUGH, "{holed}: three frames in ten are missing");
    assert!(wrong < ENOUGH, "{wrong}: something else was said");
}

#[test]
fn the_measure_knows_the_same_sound_later_and_quieter() {
    let Some(said) = or_skip_espeak(speak(SPOKEN, &Folder::new().file("said.wav"))) else { return };
    let later: Vec<f64> = [0.0; 4321].into_iter().chain(said.iter().map(|sample| sample / 3.0)).collect();
    let score = intelligibility(&said, &aligned(&said, &later));
    assert!(score > 0.999, "{score}");
}

/// Silence in place of three frames in ten.
fn with_holes(sound: &[f64]) -> Vec<f64> {
    let mut state = SEED;
    let holes = sound.chunks(intercom::FRAME).flat_map(|frame| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let factor = if (state >> 33) % 10 < 3 { 0.0 } else { 1.0 };
        frame.iter().map(move |sample| sample * factor)
    });
    holes.collect()
}

/// Has it said, and gives what was said, at the rate of calls.
fn speak(words: &str, file: &Path) -> Result<Vec<f64>, String> {
    let said = Command::new("espeak-ng").args(["-v", "en-gb", "-s", "150", "-w"]).arg(file).arg(words).status();
    match said {
        Ok(status) if status.success() => Ok(samples(file)),
        Ok(status) => Err(format!("espeak-ng: {status}")),
        Err(error) => Err(format!("espeak-ng: {error}")),
    }
}

fn or_skip_espeak<T>(attempt: Result<T, String>) -> Option<T> {
    let is_required = std::env::var("AVI_NETNS").is_ok_and(|value| value == "required");
    match attempt {
        Ok(made) => Some(made),
        Err(reason) if is_required => panic!("espeak-ng is required: {reason}"),
        Err(reason) => {
            // Not with eprintln!, which is only shown when a test fails.
            let _ = writeln!(std::io::stderr(), "SKIPPED: nothing speaks here: {reason}");
            None
        }
    }
}

fn samples(file: &Path) -> Vec<f64> {
    intercom::wav::read(file).unwrap().into_iter().map(f64::from).collect()
}

fn text(file: &Path) -> &str {
    file.to_str().unwrap()
}

/// Goes with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("intercom-{}-{:?}", std::process::id(), std::thread::current().id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program, in a machine. It ends with its value.
struct Intercom {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Intercom {
    fn start(machine: &Machine, arguments: &[&str]) -> Self {
        let mut command = machine.namespace.command(Path::new(env!("CARGO_BIN_EXE_intercom")));
        command.args(["--listen", &machine.ip.to_string()]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (to, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line with this in it.
    fn line(&mut self, part: &str) -> String {
        let until = Instant::now() + WITHIN;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no {part:?}: {error}; {:#?}", self.seen),
            }
        }
    }

    /// It ends by itself, and well.
    fn end(mut self) {
        // Its output ends when it does.
        while self.lines.recv_timeout(WITHIN).is_ok() {}
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Intercom {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
