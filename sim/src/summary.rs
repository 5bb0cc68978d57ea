//! What are the results of a run? Computes the report from the ledger.

use std::time::Duration;

use avi_p2p::Stats;

use crate::ledger::Ledger;
use crate::network::{Group, Host, Network};
use crate::plan::Plan;
use crate::report::{Audio, Connections, Joins, Messages, Percentiles, Report, Sample, Violation, histogram};

const BINS: usize = 40;

/// The current state of the run.
pub fn sample(ledger: &Ledger, plan: &Plan, network: &dyn Network, now: Duration) -> Sample {
    let members = ledger.hosts.range(..Host(plan.nodes as u32)).map(|(_, record)| record);
    let up: Vec<_> = members.filter(|record| record.up_since.is_some()).collect();
    let degrees: Vec<_> = up.iter().map(|record| record.peers.len()).collect();
    Sample {
        at: now.as_secs_f64(),
        published: ledger.published,
        delivered: ledger.delivered,
        possible: possible(ledger, plan),
        up: up.len() as u64,
        degree_mean: degrees.iter().sum::<usize>() as f64 / degrees.len().max(1) as f64,
        degree_max: degrees.iter().max().copied().unwrap_or_default() as u64,
        bytes_sent: network.bytes_sent().iter().sum(),
        heard_mean: Percentiles::of(heard(ledger, plan)).mean,
    }
}

/// The share of the other nodes that each late node has heard of.
fn heard(ledger: &Ledger, plan: &Plan) -> Vec<f64> {
    let others = (plan.nodes - plan.absent.len()).saturating_sub(1).max(1) as f64;
    ledger.joins.values().map(|join| join.heard.len() as f64 / others).collect()
}

fn joins(ledger: &Ledger, plan: &Plan) -> Joins {
    let joins = ledger.joins.values();
    let peered = joins.clone().filter_map(|join| join.peered_after).map(|after| after.as_secs_f64() * 1000.0);
    Joins {
        nodes: joins.len() as u64,
        peered_ms: Percentiles::of(peered.collect()),
        found: Percentiles::of(joins.flat_map(|join| join.found.iter().copied()).collect()),
        heard: Percentiles::of(heard(ledger, plan)),
    }
}

/// The number of deliveries if each message reaches each other honest node.
fn possible(ledger: &Ledger, plan: &Plan) -> u64 {
    ledger.published * (plan.present() as u64).saturating_sub(1)
}

/// The report of a whole run.
pub fn of(ledger: &Ledger, plan: &Plan, network: &dyn Network) -> Report {
    let honest = ledger.hosts.range(..Host(plan.honest as u32)).map(|(_, record)| record);
    let up: Vec<_> = honest.filter(|record| record.up_since.is_some()).collect();
    let degrees: Vec<f64> = up.iter().map(|record| record.peers.len() as f64).collect();
    let open = |stats: &Stats| stats.connections_opened.saturating_sub(stats.connections_closed);
    let connections = up.iter().map(|record| open(&record.stats) as f64);
    let sum = |figure: fn(&Stats) -> u64| ledger.hosts.values().map(|record| figure(&record.stats)).sum();
    Report {
        trace: ledger.digest(),
        messages: Messages {
            published: ledger.published,
            expired: ledger.expired,
            possible: possible(ledger, plan),
            delivered: ledger.delivered,
            out_of_order: ledger.out_of_order,
            latency_ms: Percentiles::of(ledger.latencies_ms.clone()),
            latency_histogram: histogram(&ledger.latencies_ms, BINS),
        },
        audio: Audio {
            calls: ledger.audio.calls,
            failed: ledger.audio.failed,
            sent: ledger.audio.sent,
            received: ledger.audio.received,
            missing: ledger.audio.missing,
            latency_ms: Percentiles::of(ledger.audio.latencies_ms.clone()),
        },
        connections: Connections {
            degree: Percentiles::of(degrees.clone()),
            opened: sum(|stats| stats.connections_opened),
            dials: sum(|stats| stats.dials),
            dials_failed: sum(|stats| stats.dials_failed),
            refused: sum(|stats| stats.inbound_refused),
            degree_histogram: histogram(&degrees, plan_bins(&degrees)),
            of_a_node: Percentiles::of(connections.collect()),
            total: up.iter().map(|record| open(&record.stats)).sum(),
            noticed_ms: Percentiles::of(ledger.noticed_ms.clone()),
        },
        joins: joins(ledger, plan),
        bytes_sent: Percentiles::of(bytes_sent(plan, network)),
        violation: ledger.violation.clone(),
        ..Report::default()
    }
}

/// The bytes that each honest node sent, on all its machines.
fn bytes_sent(plan: &Plan, network: &dyn Network) -> Vec<f64> {
    let sent = network.bytes_sent();
    let by = |machine: &Host| sent.get(machine.0 as usize).copied().unwrap_or_default();
    let machines = |host| plan.machines(&Group::from([Host(host)]));
    (0..plan.honest as u32).map(|host| machines(host).iter().map(by).sum::<u64>() as f64).collect()
}

/// One bin for each number of peers.
fn plan_bins(degrees: &[f64]) -> usize {
    degrees.iter().copied().fold(1.0, f64::max) as usize
}

/// A run whose timers do not fire looks deterministic, and proves nothing.
pub fn check_heartbeats(ledger: &mut Ledger, plan: &Plan, end: Duration) {
    // Gossipsub's heartbeat alone fires once per second and node.
    let due = (plan.nodes - plan.absent.len()) as f64 * (end.as_secs_f64() - 10.0) * 0.3;
    let fired = futures_timer::fired();
    if plan.troubles.is_empty() && (fired as f64) < due {
        let detail = format!("{fired} timers fired, at least {due:.0} were due: is futures-timer patched?");
        ledger.violate("the timers of the stack tick", Host(0), detail);
    }
}

/// The report of a run that failed.
pub fn of_failure(failure: &str) -> Report {
    let invariant = "a run comes to its end".to_owned();
    let violation = Violation { invariant, detail: failure.to_owned(), ..Violation::default() };
    Report { violation: Some(violation), ..Report::default() }
}

/// The most memory that the process has used.
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
