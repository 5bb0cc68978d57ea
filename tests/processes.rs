//! Do nodes in separate processes find each other, as users would run them?
#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(60);

/// An example of this project, as a process of its own.
struct Program {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Program {
    fn run(example: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(Self::path(example));
        command.args(arguments);
        Self::spawn(command, example)
    }

    /// With at most so many file descriptors.
    fn run_with_files(files: u32, example: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]);
        command.arg(Self::path(example)).args(arguments);
        Self::spawn(command, example)
    }

    fn path(example: &str) -> PathBuf {
        let folder: PathBuf = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().into();
        folder.join("examples").join(example)
    }

    fn spawn(mut command: Command, example: &str) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("{example}: {error}; `cargo test` without --test builds it, as `cargo build --examples` does")
        });
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { input: child.stdin.take().unwrap(), child, lines }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the program reads");
    }

    /// The first line with these words in it.
    fn wait(&mut self, words: &str) -> String {
        let deadline = Instant::now() + WITHIN;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no {words:?} ({error}) in {seen:#?}"),
            }
        }
    }

    /// Says `line` again and again, until it is answered with a line that has `words` in it.
    fn ask_until(&mut self, line: &str, words: &str) {
        let deadline = Instant::now() + WITHIN;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            self.say(line);
            while let Ok(answer) = self.lines.recv_timeout(Duration::from_millis(100)) {
                if answer.contains(words) {
                    return;
                }
                seen.push(answer);
            }
        }
        panic!("no {words:?} in {seen:#?}");
    }

    fn ends_well(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_processes_with_a_bootstrap_address_exchange_messages() {
    let mut first = Program::run("simple_node", &["--name", "first"]);
    let started = first.wait("tcp");
    let address = started.split('"').find(|part| part.contains("/127.0.0.1/")).unwrap();
    let mut second = Program::run("simple_node", &["--name", "second", "--bootstrap", address]);
    second.wait("+ ");
    exchange(first, second, "topic1");
}

#[test]
fn a_process_without_file_descriptors_says_so_once_and_accepts_again_when_it_has_some() {
    let mut node = Program::run_with_files(40, "simple_node", &["--name", "first"]);
    let started = node.wait("tcp");
    let address = started.split('"').find(|part| part.contains("/127.0.0.1/")).unwrap().to_owned();
    let port: u16 = address.split('/').nth(4).unwrap().parse().unwrap();
    // The system accepts them, whatever the process does.
    let connections: Vec<_> = (0..60).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    node.wait("AcceptFailed");
    drop(connections);
    let mut other = Program::run("simple_node", &["--name", "second", "--bootstrap", &address]);
    other.wait("+ ");
    node.say("stats");
    let failed = node.wait("accepts_failed");
    assert_ne!(failed.trim(), "accepts_failed: 0,");
    other.say("quit");
    other.ends_well();
    node.wait("- ");
    node.say("quit");
    node.ends_well();
}

/// Needs an interface with multicast besides loopback, which mDNS skips.
#[test]
fn two_processes_find_each_other_by_mdns() {
    let has_multicast = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten().any(|interface| {
        let read = |file: &str| std::fs::read_to_string(interface.path().join(file)).unwrap_or_default();
        let flags = u32::from_str_radix(read("flags").trim().trim_start_matches("0x"), 16).unwrap_or(0);
        // IFF_MULTICAST, and not IFF_LOOPBACK; up and with a carrier.
        flags & 0x1000 != 0 && flags & 0x8 == 0 && flags & 0x1 != 0 && read("carrier").trim() == "1"
    });
    if !has_multicast {
        println!("not tested: this machine has no interface with multicast");
        return;
    }
    let mut first = Program::run("simple_node", &["--name", "first"]);
    first.wait("tcp");
    let mut second = Program::run("simple_node", &["--name", "second"]);
    second.wait("+ ");
    exchange(first, second, "topic2");
}

/// Each test has a topic of its own: other tests' nodes are in the same mesh, and a message that one of them has got is not
/// held for the first.
fn exchange(mut first: Program, mut second: Program, topic: &str) {
    first.say(&format!("sub {topic}"));
    second.say(&format!("pub {topic} hello there"));
    let line = first.wait(&format!("[{topic}]"));
    assert!(line.ends_with(": hello there"), "{line}");
    // A peer's name comes with identify, which a message may overtake.
    second.ask_until("peers", "first");
    second.say("quit");
    second.ends_well();
    first.wait("- ");
    first.say("quit");
    first.ends_well();
}

#[test]
fn the_quick_start_runs_on_the_first_node_of_a_mesh_and_ends_on_ctrl_c() {
    let program = Program::run("quickstart", &[]);
    let pid = program.child.id().to_string();
    // It is up when its node's thread is; until then Ctrl-C would end it before it listens for that.
    let tasks = format!("/proc/{pid}/task");
    let deadline = Instant::now() + WITHIN;
    let handles_interrupt = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim().to_owned();
        u64::from_str_radix(&caught, 16).unwrap_or(0) & 0b10 != 0
    };
    while !handles_interrupt() {
        assert!(Instant::now() < deadline && PathBuf::from(&tasks).exists(), "the quick start did not come up");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    program.ends_well();
}

#[test]
fn a_call_between_two_processes_arrives_whole() {
    let wav = std::env::temp_dir().join(format!("avi-call-{}.wav", std::process::id()));
    let mut listener = Program::run("audio_call", &["listen", "--out", wav.to_str().unwrap()]);
    let started = listener.wait("waiting for calls");
    let address = started.split(' ').find(|part| part.contains("/127.0.0.1/")).unwrap();
    let caller = Program::run("audio_call", &["call", address, "--seconds", "1"]);
    let line = listener.wait("frames received");
    assert!(line.starts_with("50 frames received, 0 missing"), "{line}");
    caller.ends_well();
    listener.ends_well();
    let recorded = hound::WavReader::open(&wav).unwrap();
    assert_eq!((recorded.spec().sample_rate, recorded.duration()), (48_000, 48_000));
    std::fs::remove_file(wav).unwrap();
}
