//! How is one side measured over one profile? An emulator of its own, a process in each of its two machines.

use std::time::Duration;

use avi_links::{Lane, Profile};

use crate::call::{FRAME_EVERY, MESSAGE_EVERY};
use crate::emulator::report::Lateness;
use crate::emulator::{Emulator, Machine};
use crate::options::Options;
use crate::process::{Facts, Outcome, Program};
use crate::side::LISTEN_IP;

/// What a frame may be older than the links make it, before it is late.
pub const LATE_AFTER: Duration = Duration::from_millis(150);
/// Of IPv4 and UDP.
const HEADER_BYTES: usize = 28;
/// More than a call takes to end after its last frame.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

pub struct Trial<'a> {
    pub name: &'a str,
    pub profile: &'a Profile,
    pub side: &'static str,
    pub options: &'a Options,
}

/// What came of it.
pub struct Row {
    pub profile: String,
    pub side: &'static str,
    pub expected_frames: u64,
    pub expected_messages: u64,
    /// Or why there was no call.
    pub call: Result<Heard, String>,
    pub emulator: Lateness,
    pub packets: u64,
    pub packets_lost: u64,
}

pub struct Heard {
    pub frames: u64,
    pub late: u64,
    pub messages: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Why the call ended before its time.
    pub ended: Option<String>,
}

impl Trial<'_> {
    pub fn run(&self) -> Outcome<Row> {
        let count = |every: Duration| (self.options.length.as_nanos() / every.as_nanos()) as u64;
        let (expected_frames, expected_messages) = (count(FRAME_EVERY), count(MESSAGE_EVERY));
        let late = self.own_delay() + LATE_AFTER;
        let facts = Facts::default()
            .with("side", self.side)
            .with("frames", expected_frames)
            .with("messages", expected_messages)
            .with("frame_bytes", self.options.frame_bytes)
            .with("late_ns", late.as_nanos());
        let emulator = Emulator::start(&[self.profile.clone(), self.profile.clone()], self.options.seed)?;
        let call = self.call(&emulator, facts).map_err(|error| error.to_string());
        let report = emulator.stop()?;
        Ok(Row {
            profile: self.name.to_owned(),
            side: self.side,
            expected_frames,
            expected_messages,
            call,
            emulator: report.lateness(),
            packets: report.sent,
            packets_lost: report.lost,
        })
    }

    fn call(&self, emulator: &Emulator, facts: Facts) -> Outcome<Heard> {
        let [speaks, hears] = emulator.machines() else { return Err("not two machines".into()) };
        let mut server = start(hears, "server", &facts)?;
        let address = server.wait("ready")?.text("address")?.to_owned();
        let mut client = start(speaks, "client", &facts.with("addresses", address))?;
        client.wait("ready")?;
        client.say("go")?;
        let end = client.wait_within("end", self.options.length + ENDS_WITHIN)?.ok_or("the call does not end")?;
        server.say("stop")?;
        let done = server.wait("done")?;
        let ms = |key: &str| Outcome::Ok(done.number(key)? / 1000.0);
        Ok(Heard {
            frames: done.count("frames")?,
            late: done.count("late")?,
            messages: done.count("messages")?,
            p50_ms: ms("p50_us")?,
            p99_ms: ms("p99_us")?,
            max_ms: ms("max_us")?,
            ended: end.text("ended").ok().map(|reason| reason.replace('_', " ")),
        })
    }

    /// The age of a frame that meets no queue, no loss and no jitter.
    fn own_delay(&self) -> Duration {
        let bits = (self.options.frame_bytes + HEADER_BYTES) as f64 * 8.0;
        let lane = |lane: &Lane| {
            let sending = if lane.rate_kbit > 0 { bits / lane.rate_kbit as f64 } else { 0.0 };
            Duration::from_secs_f64((lane.latency_ms + sending) / 1000.0)
        };
        lane(&self.profile.up) + lane(&self.profile.down)
    }
}

fn start(machine: &Machine, role: &str, facts: &Facts) -> Outcome<Program> {
    let mut command = machine.namespace.command(&std::env::current_exe()?);
    command.env(LISTEN_IP, machine.ip.to_string());
    Program::start(command, role, facts)
}
