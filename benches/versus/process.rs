//! How are the nodes kept apart? Each is a process of its own, which obeys lines and answers with lines.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc as tasks;

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A child that says nothing for longer has failed.
const WITHIN: Duration = Duration::from_secs(40);

/// The program is its own child, once for every node.
pub fn program(
    name: &str,
    child: fn(&str, Facts) -> Outcome,
    parent: fn(&[String]) -> Outcome,
) -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((flag, rest)) if flag == "--child" => {
            let facts = Facts::parse(rest.iter().map(String::as_str));
            child(rest.first().map_or("", String::as_str), facts)
        }
        _ => parent(&arguments),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// What a line says, as `key=value` after its first word.
#[derive(Clone, Debug, Default)]
pub struct Facts(BTreeMap<String, String>);

impl Facts {
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let pairs = words.filter_map(|word| word.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.0.insert(key.to_owned(), value.to_string());
        self
    }

    pub fn text(&self, key: &str) -> Outcome<&str> {
        Ok(self.0.get(key).ok_or_else(|| format!("{key} is missing in {self}"))?)
    }

    pub fn number(&self, key: &str) -> Outcome<f64> {
        let text = self.text(key)?;
        Ok(text.parse().map_err(|error| format!("{key}={text}: {error}"))?)
    }

    pub fn count(&self, key: &str) -> Outcome<u64> {
        Ok(self.number(key)? as u64)
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
    }
}

/// A child as its parent sees it. It ends when this is dropped.
pub struct Program {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    /// What it has said while something else was waited for.
    unread: VecDeque<String>,
}

impl Program {
    /// `executable` with what else its process needs.
    pub fn start(mut executable: Command, role: &str, facts: &Facts) -> Outcome<Self> {
        let mut child = executable
            .args(["--child", role])
            .args(facts.to_string().split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{executable:?}: {error}"))?;
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().ok_or("the child has no output")?);
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { input: child.stdin.take().ok_or("the child has no input")?, child, lines, unread: VecDeque::new() })
    }

    pub fn say(&mut self, word: &str) -> Outcome {
        Ok(writeln!(self.input, "{word}")?)
    }

    /// What the child says with this word.
    pub fn wait(&mut self, word: &str) -> Outcome<Facts> {
        Ok(self.wait_within(word, WITHIN)?.ok_or_else(|| format!("no {word:?} of a child within {WITHIN:?}"))?)
    }

    /// `None` if it has not said it until then.
    pub fn wait_within(&mut self, word: &str, within: Duration) -> Outcome<Option<Facts>> {
        let deadline = Instant::now() + within;
        let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
        if let Some(line) =
            self.unread.iter().position(|line| first(line) == word).and_then(|at| self.unread.remove(at))
        {
            return Ok(Some(Facts::parse(line.split_whitespace())));
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Timeout) => return Ok(None),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(format!("a child ended before it said {word:?}").into());
                }
            };
            match first(&line).as_str() {
                "failed" => return Err(line.into()),
                said if said == word => return Ok(Some(Facts::parse(line.split_whitespace()))),
                _ => self.unread.push_back(line),
            }
        }
    }

    pub fn usage(&mut self) -> Outcome<Usage> {
        self.say("usage")?;
        let facts = self.wait("usage")?;
        Ok(Usage { cpu_us: facts.number("cpu_us")?, rss_kib: facts.number("rss")?, threads: facts.number("threads")? })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time.
    pub cpu_us: f64,
    pub rss_kib: f64,
    pub threads: f64,
}

/// Runs a task of a node. If it fails, so does the run.
pub fn attend(task: impl Future<Output = Outcome> + Send + 'static) {
    tokio::spawn(async {
        if let Err(error) = task.await {
            println!("failed {error}");
        }
    });
}

/// The lines of the parent, but for `usage`, which is answered at once. The process ends with them.
pub fn obey() -> tasks::UnboundedReceiver<String> {
    let (words, heard) = tasks::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match line.as_str() {
                "usage" => println!("usage{}", used()),
                _ => drop(words.send(line)),
            }
        }
        std::process::exit(0);
    });
    heard
}

fn used() -> Facts {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().unwrap_or("0").to_owned()
    };
    let cpu_us = nanos(ClockId::ProcessCPUTime) / 1000;
    Facts::default().with("cpu_us", cpu_us).with("rss", field("VmRSS:")).with("threads", field("Threads:"))
}

/// Nanoseconds of a clock that all processes of this machine share.
pub fn now() -> u64 {
    nanos(ClockId::Monotonic)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
