//! What the tests share: `avi` as a process, its lines, and waiting for one with a deadline.
#![allow(dead_code, unused_imports)]

#[cfg(target_os = "linux")]
pub mod cable;

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a test waits before it fails. Generous: machines are shared.
pub const WITHIN: Duration = Duration::from_secs(40);

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_avi"))
}

/// `avi` without what the machine of the test says.
pub fn avi() -> Command {
    clean(Command::new(program()))
}

/// Without the variables that change what it does.
pub fn clean(mut command: Command) -> Command {
    command.env_remove("AVI_CONFIG").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// Options of a node on loopback that finds nobody by itself.
pub fn alone(arguments: &[&str]) -> Command {
    let mut command = avi();
    command.args(["--no-mdns", "--listen", "127.0.0.1", "--json"]).args(arguments);
    command
}

/// Asserts that the README's table has this line, and all of its fields.
#[track_caller]
fn is_documented(line: &Value) {
    let kind = line["line"].as_str().unwrap_or_else(|| panic!("no kind of line: {line}"));
    let rows = include_str!("../../README.md").lines().filter_map(|row| row.strip_prefix('|')?.split_once('|'));
    let of =
        |kind: &str| rows.clone().find(|(kinds, _)| kinds.contains(&format!("`{kind}`"))).map(|(_, fields)| fields);
    let mut fields = of(kind).unwrap_or_else(|| panic!("{kind} is not documented")).to_owned();
    if kind == "call_ended" {
        fields.push_str(of("call_figures").unwrap_or_default());
    }
    for field in line.as_object().unwrap().keys().filter(|field| *field != "line") {
        assert!(fields.contains(&format!("`{field}`")), "{kind}: {field} is not documented");
    }
}

/// A running `avi` with `--json`.
pub struct Running {
    pub child: Child,
    lines: mpsc::Receiver<Value>,
    seen: RefCell<Vec<Value>>,
    errors: Option<JoinHandle<String>>,
}

/// What is left of one that has ended.
pub struct Ended {
    pub code: Option<i32>,
    pub lines: Vec<Value>,
    pub errors: String,
}

impl Running {
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("avi starts");
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Every line of `--json` is an object.
                let value =
                    serde_json::from_str(&line).unwrap_or_else(|error| Value::String(format!("{error}: {line}")));
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, lines, seen: RefCell::default(), errors: Some(errors) }
    }

    /// The first line of this kind that fits, which has not been waited for.
    #[track_caller]
    pub fn wait_for(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + WITHIN;
        let is_it = |line: &Value| line["line"] == kind && fits(line);
        let found = self.seen.borrow().iter().position(is_it);
        if let Some(at) = found {
            return self.seen.borrow_mut().remove(at);
        }
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if is_it(&line) => {
                    is_documented(&line);
                    return line;
                }
                Ok(line) => self.seen.borrow_mut().push(line),
                Err(error) => panic!("no {kind} ({error}) in {:#?}", self.seen.borrow()),
            }
        }
    }

    #[track_caller]
    pub fn wait(&self, kind: &str) -> Value {
        self.wait_for(kind, |_| true)
    }

    /// The address and id of a node that has said that it listens.
    #[track_caller]
    pub fn listens(&self, kind: &str) -> (String, String) {
        let line = self.wait(kind);
        (line["addresses"][0].as_str().unwrap().to_owned(), line["peer_id"].as_str().unwrap().to_owned())
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it ends.
    #[track_caller]
    pub fn ends(mut self) -> Ended {
        let deadline = Instant::now() + WITHIN;
        let mut lines = std::mem::take(&mut *self.seen.borrow_mut());
        loop {
            // Its output ends with it.
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it runs on after {WITHIN:?}: {lines:#?}"),
            }
        }
        lines.iter().for_each(is_documented);
        let code = self.child.wait().unwrap().code();
        let errors = self.errors.take().unwrap().join().unwrap();
        Ended { code, lines, errors }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it to its end.
#[track_caller]
pub fn run(command: Command) -> Ended {
    Running::start(command).ends()
}

impl Ended {
    /// The lines of one kind.
    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| line["line"] == kind).collect()
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{:#?}", self.errors, self.lines);
        self
    }

    /// Ended with this code, and said so in words that contain these.
    #[track_caller]
    pub fn says(self, code: i32, words: &[&str]) -> Self {
        let ended = self.expect(code);
        for word in words {
            assert!(ended.errors.contains(word), "no {word:?} in {}", ended.errors);
        }
        ended
    }
}

/// A folder that goes when this does.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("avi-cli-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A file in it with this text.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
