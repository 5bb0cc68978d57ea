//! Side by side: nodes of this library and plain programs on libp2p, in processes of their own over loopback.
//!
//! ```text
//! cargo bench --bench versus [-- [audio] [pubsub] [node] [--quick] [--rounds N]]
//! ```
//!
//! The runs of both sides alternate. Each row has the median of each side, and the median of the ratios of the runs
//! that stood next to each other, with the least and the greatest of them. `BENCHMARKS.md` says more.

mod ear;
mod ours;
mod plain;
mod process;
mod side;
mod table;
mod work;

use std::time::{Duration, Instant};

use process::{Facts, Program, Usage};
use table::{Goal, Table};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const FRAME_BYTES: usize = 1024;
/// The measured one and those in the background.
const MAX_CALLS: usize = 21;
/// How long what was sent has to arrive before it counts as lost.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((flag, rest)) if flag == "--child" => {
            let facts = Facts::parse(rest.iter().map(String::as_str));
            work::child(rest.first().map_or("", String::as_str), facts)
        }
        _ => Plan::parse(&arguments).and_then(|plan| plan.run()),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Which works, how often, how long.
struct Plan {
    sections: Vec<String>,
    rounds: usize,
    /// Quick runs are this many times shorter.
    shorter: u64,
}

/// A section's name and its works.
type Section = (&'static str, fn(&Plan) -> Vec<Work>);

/// One kind of run.
struct Work {
    what: String,
    facts: Facts,
    servers: usize,
    /// What one server is to hear.
    expected: u64,
    figures: fn(&Run) -> Outcome<Vec<Figure>>,
}

/// A figure's name, its value, what is wanted of its ratio.
type Figure = (&'static str, f64, Goal);

/// What a run came to.
struct Run {
    expected: u64,
    client: Facts,
    servers: Vec<Facts>,
    seconds: f64,
    cpu_us: f64,
    end: Usage,
}

impl Plan {
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut plan = Self { sections: Vec::new(), rounds: 7, shorter: 1 };
        let mut arguments = arguments.iter().map(String::as_str);
        let mut rounds = None;
        while let Some(argument) = arguments.next() {
            match argument {
                "audio" | "pubsub" | "node" => plan.sections.push(argument.to_owned()),
                "--quick" => (plan.rounds, plan.shorter) = (3, 4),
                "--rounds" => rounds = Some(arguments.next().ok_or("--rounds N")?.parse()?),
                // From cargo.
                "--bench" => {}
                other => {
                    return Err(format!("unknown argument {other}: audio, pubsub, node, --quick, --rounds N").into());
                }
            }
        }
        plan.rounds = rounds.unwrap_or(plan.rounds).max(1);
        Ok(plan)
    }

    fn run(&self) -> Outcome {
        let began = Instant::now();
        let mut table = Table::new();
        let sections: [Section; 3] = [("audio", Self::audio), ("pubsub", Self::pubsub), ("node", Self::node)];
        for (section, works) in sections {
            if self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section) {
                works(self).iter().try_for_each(|work| self.compare(work, &mut table))?;
            }
        }
        println!("\n{} rounds, {:.0} s", self.rounds, began.elapsed().as_secs_f64());
        table.print_misses();
        Ok(())
    }

    fn audio(&self) -> Vec<Work> {
        let echoes = 8000 / self.shorter;
        let paced = 200 / self.shorter;
        let (one, each) = (200_000 / self.shorter, 10_000 / self.shorter);
        let facts = |work: &str, calls: u64, frames: u64| {
            Facts::default().with("work", work).with("calls", calls).with("frames", frames).with("messages", 0)
        };
        let messages = paced * 4;
        vec![
            Work::new("round trip", facts("echo", 1, echoes), echoes, |run| {
                let goals = [("p50 µs", "p50_us", Goal::AtMost(1.3)), ("p99 µs", "p99_us", Goal::None)];
                goals.into_iter().map(|(name, key, goal)| Ok((name, run.client.number(key)?, goal))).collect()
            }),
            Work::new("one way, 50 frames/s", facts("pace", 1, paced), paced, one_way),
            Work::new(
                "one way, beside 20 calls and 200 messages/s",
                facts("pace", 21, paced).with("messages", messages),
                21 * paced + messages,
                one_way,
            ),
            Work::new("flood, 1 call", facts("flood", 1, one), one, flood),
            Work::new("flood, 20 calls", facts("flood", 20, each), 20 * each, flood),
        ]
    }

    fn pubsub(&self) -> Vec<Work> {
        let publish = |bytes: u64, messages: u64, servers: usize| {
            let facts = Facts::default().with("work", "publish").with("calls", 0);
            let what = match servers {
                1 => format!("messages of {bytes} B"),
                more => format!("messages of {bytes} B to {more}"),
            };
            let facts = facts.with("bytes", bytes).with("messages", messages / self.shorter);
            Work { servers, ..Work::new(&what, facts, messages / self.shorter, messages_a_second) }
        };
        vec![publish(64, 12_000, 1), publish(1024, 12_000, 1), publish(65_536, 1_600, 1), publish(1024, 1_600, 10)]
    }

    fn node(&self) -> Vec<Work> {
        let idle = Facts::default().with("work", "idle").with("calls", 0).with("seconds", 6.0 / self.shorter as f64);
        vec![
            Work::new("start", Facts::default().with("work", "start"), 1, |run| {
                let server = run.servers.first().ok_or("no server")?;
                Ok(vec![("ms to the first message", server.number("p50_us")? / 1000.0, Goal::None)])
            }),
            Work::new("idle", idle, 0, |run| {
                Ok(vec![
                    ("CPU µs/s a node", run.cpu_us / run.client.number("seconds")? / 2.0, Goal::AtMost(1.2)),
                    ("RSS KiB", run.end.rss_kib, Goal::None),
                    ("threads", run.end.threads, Goal::None),
                ])
            }),
        ]
    }

    fn compare(&self, work: &Work, table: &mut Table) -> Outcome {
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            // Who comes first has no advantage.
            let sides = if round % 2 == 0 { ["ours", "plain"] } else { ["plain", "ours"] };
            for side in sides {
                let run = work.run(side).map_err(|error| format!("{}, {side}: {error}", work.what))?;
                let figures = (work.figures)(&run)?;
                if side == "ours" { ours.push(figures) } else { plain.push(figures) }
            }
        }
        table.add(&work.what, &ours, &plain);
        Ok(())
    }
}

impl Work {
    fn new(what: &str, facts: Facts, expected: u64, figures: fn(&Run) -> Outcome<Vec<Figure>>) -> Self {
        Self { what: what.to_owned(), facts, servers: 1, expected, figures }
    }

    fn run(&self, side: &str) -> Outcome<Run> {
        let facts = self.facts.clone().with("side", side).with("expected", self.expected);
        let mut servers = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..self.servers {
            let mut server = Program::start("server", &facts)?;
            addresses.push(server.wait("ready")?.text("address")?.to_owned());
            servers.push(server);
        }
        let mut client = Program::start("client", &facts.with("addresses", addresses.join(",")))?;
        client.wait("ready")?;
        let before = usage(&mut client, &mut servers)?;
        let began = Instant::now();
        client.say("go")?;
        let report = client.wait("end")?;
        let heard = servers.iter_mut().map(|server| done(server, self.expected));
        let heard = heard.collect::<Outcome<Vec<Facts>>>()?;
        let seconds = began.elapsed().as_secs_f64();
        let cpu_us = usage(&mut client, &mut servers)? - before;
        Ok(Run { expected: self.expected, client: report, servers: heard, seconds, cpu_us, end: client.usage()? })
    }
}

/// What a server has heard, complete or not.
fn done(server: &mut Program, expected: u64) -> Outcome<Facts> {
    if let Ok(facts) = server.wait_within("done", ARRIVES_WITHIN) {
        return Ok(facts);
    }
    server.say("stop")?;
    let facts = server.wait("done")?;
    eprintln!("incomplete: {} of {expected} heard", facts.count("heard")?);
    Ok(facts)
}

/// The CPU time of all of them.
fn usage(client: &mut Program, servers: &mut [Program]) -> Outcome<f64> {
    let servers = servers.iter_mut().map(|server| server.usage().map(|usage| usage.cpu_us));
    Ok(client.usage()?.cpu_us + servers.sum::<Outcome<f64>>()?)
}

impl Run {
    fn sum(&self, key: &str) -> Outcome<f64> {
        self.servers.iter().map(|server| server.number(key)).sum()
    }

    fn lost(&self) -> Outcome<f64> {
        Ok((self.servers.len() as u64 * self.expected) as f64 - self.sum("heard")?)
    }
}

fn one_way(run: &Run) -> Outcome<Vec<Figure>> {
    let server = run.servers.first().ok_or("no server")?;
    Ok(vec![("p50 µs", server.number("p50_us")?, Goal::None), ("p99 µs", server.number("p99_us")?, Goal::None)])
}

fn flood(run: &Run) -> Outcome<Vec<Figure>> {
    let heard = run.sum("heard")?;
    Ok(vec![
        ("frames/s", heard / run.seconds, Goal::AtLeast(1.5)),
        ("CPU s a million frames", run.cpu_us / heard, Goal::AtMost(0.75)),
        ("lost", run.lost()?, Goal::Zero),
        ("out of order", run.sum("out_of_order")?, Goal::Zero),
    ])
}

fn messages_a_second(run: &Run) -> Outcome<Vec<Figure>> {
    let heard = run.sum("heard")?;
    Ok(vec![
        ("messages/s", heard / run.seconds, Goal::AtLeast(1.0)),
        ("CPU µs a message", run.cpu_us / heard, Goal::AtMost(1.0)),
        ("lost", run.lost()?, Goal::Zero),
        ("out of order", run.sum("out_of_order")?, Goal::Zero),
    ])
}
