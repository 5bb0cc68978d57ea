//! How is a work compared? Its runs take turns, one side after the other, each in processes of its own.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Facts, Outcome, Program, Usage, now};
use crate::sides::{self, Choice, Chosen, Sides};
use crate::table::{Figure, Table};

const OPTIONS: &str = "--only WORK, --quick, --rounds N";
/// How long what was sent has to arrive before it counts as lost.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked what has been used until then.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Which works of which sides, how often, how long.
pub struct Plan {
    sections: Vec<String>,
    /// Parts of the names of works.
    only: Vec<String>,
    /// The others are relative to the first.
    sides: Vec<Chosen>,
    rounds: usize,
    /// Quick runs are this many times shorter.
    pub shorter: u64,
}

/// A section's name and its works.
pub type Section = (&'static str, fn(&Plan) -> Vec<Work>);

/// One kind of run.
pub struct Work {
    pub what: String,
    pub facts: Facts,
    pub servers: usize,
    /// What one server is to hear.
    pub expected: u64,
    pub figures: fn(&Run) -> Outcome<Vec<Figure>>,
}

/// What a run came to.
pub struct Run {
    pub client: Facts,
    pub servers: Vec<Facts>,
    pub seconds: f64,
    pub cpu_us: f64,
    pub end: Usage,
    /// Messages that the client's node says it has dropped, if it says so.
    pub dropped: Option<f64>,
    expected: u64,
}

impl Plan {
    pub fn parse(arguments: &[String], sections: &[Section], sides: &Sides) -> Outcome<Self> {
        let mut plan = Self { sections: Vec::new(), only: Vec::new(), sides: Vec::new(), rounds: 7, shorter: 1 };
        let mut choice = Choice::default();
        let mut arguments = arguments.iter().map(String::as_str);
        let mut rounds = None;
        while let Some(argument) = arguments.next() {
            match argument {
                "--quick" => (plan.rounds, plan.shorter) = (3, 4),
                "--only" => plan.only.push(arguments.next().ok_or("--only WORK")?.to_owned()),
                "--rounds" => rounds = Some(arguments.next().ok_or("--rounds N")?.parse()?),
                // From cargo.
                "--bench" => {}
                section if sections.iter().any(|(name, _)| *name == section) => plan.sections.push(section.to_owned()),
                option if choice.parse(option, &mut arguments)? => {}
                other => {
                    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
                    let names = names.join(", ");
                    return Err(format!("unknown argument {other}: {names}, {OPTIONS}, {}", sides::OPTIONS).into());
                }
            }
        }
        plan.rounds = rounds.unwrap_or(plan.rounds).max(1);
        plan.sides = choice.of(sides)?;
        Ok(plan)
    }

    /// Compares the sides.
    pub fn run(&self, sections: &[Section]) -> Outcome {
        let began = Instant::now();
        let works = self.works(sections)?;
        let mut table = Table::new(&self.sides);
        works.iter().try_for_each(|work| self.compare(work, &mut table))?;
        println!("\n{} rounds, {:.0} s", self.rounds, began.elapsed().as_secs_f64());
        table.print_misses();
        Ok(())
    }

    fn works(&self, sections: &[Section]) -> Outcome<Vec<Work>> {
        let wanted = |section: &str| self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section);
        let works = sections.iter().filter(|(section, _)| wanted(section)).flat_map(|(_, works)| works(self));
        let works: Vec<Work> = works.collect();
        let names: Vec<&str> = works.iter().map(|work| work.what.as_str()).collect();
        if let Some(part) = self.only.iter().find(|part| !names.iter().any(|name| name.contains(part.as_str()))) {
            return Err(format!("no work with {part:?} in its name among: {}", names.join("; ")).into());
        }
        let is_wanted = |work: &Work| self.only.is_empty() || self.only.iter().any(|part| work.what.contains(part));
        Ok(works.into_iter().filter(is_wanted).collect())
    }

    fn compare(&self, work: &Work, table: &mut Table) -> Outcome {
        let sides = &self.sides;
        let mut runs = vec![Vec::new(); sides.len()];
        for round in 0..self.rounds {
            // Who comes first has no advantage.
            for at in 0..sides.len() {
                let at = (round + at) % sides.len();
                let run =
                    work.run(&sides[at]).map_err(|error| format!("{}, {}: {error}", work.what, sides[at].name))?;
                runs[at].push((work.figures)(&run)?);
            }
        }
        if let Some((first, others)) = runs.split_first() {
            table.add(&work.what, first, others);
        }
        Ok(())
    }
}

impl Work {
    pub fn new(what: &str, facts: Facts, expected: u64, figures: fn(&Run) -> Outcome<Vec<Figure>>) -> Self {
        Self { what: what.to_owned(), facts, servers: 1, expected, figures }
    }

    fn run(&self, side: &Chosen) -> Outcome<Run> {
        let executable = &side.executable;
        let facts = self.facts.clone().with("side", side.side).with("expected", self.expected);
        let mut servers = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..self.servers {
            let mut server = Program::start(Command::new(executable), "server", &facts)?;
            addresses.push(server.wait("ready")?.text("address")?.to_owned());
            servers.push(server);
        }
        let facts = facts.with("addresses", addresses.join(","));
        let mut client = Program::start(Command::new(executable), "client", &facts)?;
        client.wait("ready")?;
        let mut nodes = Nodes { client, servers };
        let before = nodes.used()?.cpu_us;
        let began = now();
        nodes.client.say("go")?;
        let report = nodes.client.wait("end")?;
        let (servers, used) = nodes.done(self.expected)?;
        let last = servers.iter().map(|server| server.count("last_ns")).collect::<Outcome<Vec<u64>>>()?;
        let last = last.into_iter().max().unwrap_or_default();
        let cpu_us = used.iter().find(|used| used.at_ns >= last).map_or(0.0, |used| used.cpu_us - before);
        let seconds = Duration::from_nanos(last.saturating_sub(began)).as_secs_f64();
        let end = nodes.client.usage()?;
        nodes.client.say("dropped")?;
        let dropped = nodes.client.wait("dropped")?.number("messages").ok();
        Ok(Run { client: report, servers, seconds, cpu_us, end, dropped, expected: self.expected })
    }
}

/// The CPU time of all processes of a run until then.
struct Used {
    at_ns: u64,
    cpu_us: f64,
}

/// The processes of a run.
struct Nodes {
    client: Program,
    servers: Vec<Program>,
}

impl Nodes {
    /// What the servers have heard, complete or not, and what was used meanwhile, to the end: to wait for what is lost
    /// is no part of the work.
    fn done(&mut self, expected: u64) -> Outcome<(Vec<Facts>, Vec<Used>)> {
        let (mut heard, mut used) = (Vec::new(), Vec::new());
        for at in 0..self.servers.len() {
            let deadline = Instant::now() + ARRIVES_WITHIN;
            heard.push(loop {
                if let Some(facts) = self.servers[at].wait_within("done", LOOK_EVERY)? {
                    break facts;
                }
                if Instant::now() >= deadline {
                    self.servers[at].say("stop")?;
                    let facts = self.servers[at].wait("done")?;
                    eprintln!("incomplete: {} of {expected} heard", facts.count("heard")?);
                    break facts;
                }
                used.push(self.used()?);
            });
        }
        used.push(self.used()?);
        Ok((heard, used))
    }

    fn used(&mut self) -> Outcome<Used> {
        let at_ns = now();
        let servers = self.servers.iter_mut().map(|server| server.usage().map(|usage| usage.cpu_us));
        Ok(Used { at_ns, cpu_us: self.client.usage()?.cpu_us + servers.sum::<Outcome<f64>>()? })
    }
}

impl Run {
    /// Of all servers.
    pub fn sum(&self, key: &str) -> Outcome<f64> {
        self.servers.iter().map(|server| server.number(key)).sum()
    }

    pub fn lost(&self) -> Outcome<f64> {
        Ok((self.servers.len() as u64 * self.expected) as f64 - self.sum("heard")?)
    }
}
