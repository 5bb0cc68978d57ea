//! What keeps a node from working on this machine and network, and what can be done?

mod interfaces;
mod machine;
mod mesh;
mod multicast;
mod port;
mod udp;
mod wifi;

use avi_p2p::AviP2pConfig;

use crate::args::{Doctor, Global};
use crate::config;
use crate::exit::Failure;
use crate::line::{Finding, Level, Line};
use crate::output::Output;

/// What is said of one thing.
pub(super) fn finding(level: Level, check: &'static str, what: impl Into<String>, advice: Option<&str>) -> Finding {
    Finding { level, check, what: what.into(), advice: advice.map(str::to_owned) }
}

pub(super) fn ok(check: &'static str, what: impl Into<String>) -> Finding {
    finding(Level::Ok, check, what, None)
}

pub(super) fn note(check: &'static str, what: impl Into<String>, advice: &str) -> Finding {
    finding(Level::Note, check, what, Some(advice))
}

pub(super) fn problem(check: &'static str, what: impl Into<String>, advice: &str) -> Finding {
    finding(Level::Problem, check, what, Some(advice))
}

/// Prints findings, and counts the problems.
struct Report {
    out: Output,
    problems: usize,
}

impl Report {
    fn say(&mut self, findings: impl IntoIterator<Item = Finding>) -> Result<(), Failure> {
        for finding in findings {
            self.problems += usize::from(finding.level == Level::Problem);
            self.out.say(&Line::Finding(finding))?;
        }
        Ok(())
    }
}

pub(crate) async fn run(args: &Doctor, global: &Global, out: Output) -> Result<(), Failure> {
    let config = config::read(global)?;
    let mut report = Report { out, problems: 0 };
    machine(&config, &mut report).await?;
    mesh::look(args, config, &mut report).await?;
    match report.problems {
        0 => Ok(()),
        1 => Err(Failure::Finding("1 problem".to_owned())),
        many => Err(Failure::Finding(format!("{many} problems"))),
    }
}

/// All that can be seen without a node.
async fn machine(config: &AviP2pConfig, report: &mut Report) -> Result<(), Failure> {
    report.say([machine::clock()])?;
    report.say([machine::files(config)])?;
    report.say(machine::buffers(config))?;
    let interfaces = interfaces::list().map_err(|error| Failure::Network(format!("interfaces: {error}")))?;
    let (used, unused): (Vec<_>, Vec<_>) =
        interfaces.into_iter().partition(|interface| config.interfaces.allows(&interface.name));
    report.say(interfaces::look(&used, &unused, config.enable_mdns))?;
    report.say(wifi::look(&used))?;
    report.say(port::look(config))?;
    if !config.enable_mdns {
        report.say([ok("multicast", "not needed: enable_mdns is off")])?;
    }
    for interface in used {
        if config.enable_mdns && interface.can_multicast() {
            report.out.progress(&format!("trying multicast on {}", interface.name));
            let tried = interface.clone();
            report.say([smol::unblock(move || multicast::look(&tried)).await])?;
        }
        if config.enable_datagrams && interface.is_up() {
            report.say(smol::unblock(move || udp::look(&interface)).await)?;
        }
    }
    Ok(())
}
