//! A failing run, and what makes it smaller.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::network::Host;
use crate::plan::Plan;
use crate::scenario::{
    CallAt, Calls, Fault, Foreign, ForeignNode, Lack, MessageAt, NodeSetup, Nodes, Publish, Scenario, Seconds, Topology,
};
use crate::{NetworkKind, swarm};

/// Only longer times without an event are shortened, to this.
const SHORT: f64 = 0.5;

/// An explicit scenario, with the number of nodes and the seed of its run.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The scenario.
    pub scenario: Scenario,
    /// The number of honest nodes, with those that are absent.
    pub nodes: usize,
    /// The seed.
    pub seed: u64,
}

impl Case {
    /// What the seed draws from a scenario, item by item.
    pub fn explicit(scenario: &Scenario, nodes: usize, seed: u64, network: NetworkKind) -> Self {
        let scenario = swarm::draw(scenario, nodes, seed, network).explicit(nodes, seed);
        Self { scenario, nodes, seed }
    }

    /// The numbers of the nodes that start.
    pub fn present(&self) -> Vec<u32> {
        let absent = &self.scenario.topology.absent;
        (0..self.nodes as u32).filter(|node| !absent.contains(node)).collect()
    }

    pub(super) fn is_valid(&self) -> bool {
        let is_within = self.scenario.highest_named().is_none_or(|node| (node as usize) < self.nodes);
        is_within && Scenario::parse("", &self.scenario.to_toml()).is_ok()
    }

    fn change(&self, change: impl FnOnce(&mut Scenario)) -> Self {
        let mut case = self.clone();
        change(&mut case.scenario);
        case
    }

    pub(super) fn with_faults(&self, kept: &[Fault]) -> Self {
        self.change(|scenario| scenario.faults = kept.to_vec())
    }

    pub(super) fn with_messages(&self, kept: &[MessageAt]) -> Self {
        self.change(|scenario| scenario.publish.list = kept.to_vec())
    }

    pub(super) fn with_calls(&self, kept: &[CallAt]) -> Self {
        self.change(|scenario| scenario.calls.list = kept.to_vec())
    }

    pub(super) fn with_slow(&self, kept: &[u32]) -> Self {
        self.change(|scenario| scenario.slow_consumers.nodes = kept.to_vec())
    }

    pub(super) fn with_foreign(&self, kept: &[ForeignNode]) -> Self {
        self.change(|scenario| scenario.foreign = Foreign { list: kept.to_vec(), ..Foreign::default() })
    }

    /// Only these nodes start, and nothing happens to the others.
    pub(super) fn with_nodes(&self, kept: &[u32]) -> Option<Self> {
        let is_kept = |node: u32| kept.contains(&node);
        let case = self.change(|scenario| {
            scenario.topology.absent = (0..self.nodes as u32).filter(|node| !is_kept(*node)).collect();
            scenario.publish.list.retain(|message| is_kept(message.node));
            scenario.calls.list.retain(|call| is_kept(call.node));
            scenario.slow_consumers.nodes.retain(|node| is_kept(*node));
            scenario.foreign.list.retain(|foreign| is_kept(foreign.node));
            scenario.faults.retain_mut(|fault| restrict(fault, is_kept));
        });
        (!kept.is_empty()).then_some(case)
    }

    /// A fault happens to these of its nodes only. It must be one or more.
    pub(super) fn with_nodes_of_fault(&self, fault: usize, kept: &[u32]) -> Option<Self> {
        let case = self.change(|scenario| {
            if let Some(fault) = scenario.faults.get_mut(fault) {
                restrict(fault, |node| kept.contains(&node));
            }
        });
        (!kept.is_empty()).then_some(case)
    }

    /// The case with an end of the run at this time or soon after, if that is earlier.
    pub(super) fn ending_at(&self, end: f64) -> Option<Self> {
        let Scenario { node, join, hostile, .. } = &self.scenario;
        let join = if join.nodes > 0 { join.at } else { 0.0 };
        // Rounded up, because promises are checked at the end as well.
        let end = ((end * 10.0).ceil() / 10.0).max(node.start_within).max(join).max(hostile.from);
        let case = self.change(|scenario| {
            scenario.seconds = Seconds(end);
            scenario.publish.list.retain(|message| message.at <= end);
            scenario.calls.list.retain(|call| call.at <= end);
            scenario.calls.seconds = scenario.calls.seconds.min(end);
            scenario.faults.retain(|fault| fault.span().start <= end);
            scenario.faults.iter_mut().for_each(|fault| fault.end_by(end));
        });
        (end > 0.0 && end < self.scenario.seconds.0).then_some(case)
    }

    /// Each thing that is left out, or as it is by default. What comes first simplifies more.
    pub(super) fn plainer(&self) -> Vec<Self> {
        let NodeSetup { max_peers, max_audio_streams, kad, datagrams, private, event_queue, .. } = NodeSetup::default();
        let changes: [fn(&mut Scenario); 10] = [
            |scenario| scenario.hostile = Default::default(),
            |scenario| scenario.join = Default::default(),
            |scenario| scenario.link = Default::default(),
            |scenario| {
                scenario.publish.list.iter_mut().for_each(|message| message.topic = 0);
                let list = std::mem::take(&mut scenario.publish.list);
                scenario.publish = Publish { messages: 0, list, ..Publish::default() };
            },
            |scenario| {
                let seconds = scenario.seconds.0.min(scenario.calls.seconds);
                scenario.calls = Calls { list: scenario.calls.list.clone(), seconds, ..Calls::default() };
            },
            |scenario| scenario.calls.seconds = Calls::default().seconds.min(scenario.seconds.0),
            |scenario| {
                let Topology { bootstrap, lan, .. } = Topology::default();
                (scenario.topology.bootstrap, scenario.topology.lan) = (bootstrap, lan);
            },
            |scenario| {
                if scenario.slow_consumers.nodes.is_empty() {
                    scenario.slow_consumers = Default::default();
                }
            },
            |scenario| {
                scenario.hostile.sybils /= 2;
                scenario.hostile.garbage = scenario.hostile.garbage.min(1);
                scenario.hostile.dial_storm = scenario.hostile.dial_storm.min(1);
            },
            |scenario| {
                if scenario.hostile.count() == 0 {
                    scenario.hostile = Default::default();
                }
            },
        ];
        let mut cases: Vec<_> = changes.into_iter().map(|change| self.change(change)).collect();
        cases.extend(Lack::ALL.map(|lack| {
            self.change(|scenario| {
                scenario.foreign.list.iter_mut().for_each(|foreign| foreign.lacks.retain(|lacked| *lacked != lack));
            })
        }));
        cases.push(self.change(|scenario| scenario.node.max_peers = max_peers));
        cases.push(self.change(|scenario| scenario.node.max_audio_streams = max_audio_streams));
        cases.push(self.change(|scenario| scenario.node.kad = kad));
        cases.push(self.change(|scenario| scenario.node.datagrams = datagrams));
        cases.push(self.change(|scenario| scenario.node.private = private));
        cases.push(self.change(|scenario| scenario.node.event_queue = event_queue));
        cases
    }

    /// The case without absent nodes: with those that are present numbered anew, or at least without the last ones.
    pub(super) fn renumbered(&self) -> Vec<Self> {
        let present = self.present();
        if present.len() == self.nodes {
            return Vec::new();
        }
        let numbers: BTreeMap<u32, u32> = present.iter().copied().zip(0..).collect();
        let plan = Plan::draw(&self.scenario, self.nodes, self.seed);
        let knows = present.iter().map(|node| {
            let known = plan.bootstrap[*node as usize].iter();
            known.filter_map(|host| numbers.get(&host.0).copied()).collect()
        });
        let knows: Vec<Vec<u32>> = knows.collect();
        let mut renumbered = self.change(|scenario| {
            scenario.topology.absent.clear();
            scenario.topology.knows = knows;
            scenario.join.nodes = plan.late.clone().filter(|node| !plan.absent.contains(&Host(*node))).count();
            scenario.hostile.victim = plan.victim.and_then(|host| numbers.get(&host.0).copied());
            scenario.publish.list.iter_mut().for_each(|message| rename(&mut message.node, &numbers));
            scenario.calls.list.iter_mut().for_each(|call| rename(&mut call.node, &numbers));
            scenario.slow_consumers.nodes.iter_mut().for_each(|node| rename(node, &numbers));
            scenario.foreign.list.iter_mut().for_each(|foreign| rename(&mut foreign.node, &numbers));
            for fault in &mut scenario.faults {
                named_mut(fault).into_iter().flatten().for_each(|node| rename(node, &numbers));
            }
        });
        renumbered.nodes = present.len();
        let nodes = present.last().map_or(1, |last| *last as usize + 1);
        let mut trimmed = self.change(|scenario| {
            scenario.topology.absent.retain(|node| (*node as usize) < nodes);
            scenario.topology.knows.truncate(nodes);
            scenario.join.nodes = scenario.join.nodes.saturating_sub(self.nodes - nodes);
            // The nodes start when they did.
            scenario.node.start_within *= nodes as f64 / self.nodes as f64;
        });
        trimmed.nodes = nodes;
        vec![renumbered, trimmed]
    }

    /// The times in which no message, call or fault begins or ends.
    pub(super) fn gaps(&self) -> Vec<Range<f64>> {
        let mut times = vec![self.scenario.node.start_within];
        self.change(|scenario| each_time(scenario, |at| times.push(*at)));
        times.sort_by(f64::total_cmp);
        let gaps = times.windows(2).map(|pair| pair[0]..pair[1]);
        gaps.filter(|gap| gap.end - gap.start > 2.0 * SHORT).collect()
    }

    /// The case in which this part of each of these gaps does not take place.
    pub(super) fn without_time(&self, gaps: &[(Range<f64>, f64)]) -> Option<Self> {
        let gone = |gap: &Range<f64>, part: f64| (gap.end - gap.start - SHORT) * part;
        let before =
            |at: f64| gaps.iter().filter(|(gap, _)| gap.end <= at).map(|(gap, part)| gone(gap, *part)).sum::<f64>();
        let case = self.change(|scenario| {
            each_time(scenario, |at| *at -= before(*at));
            scenario.seconds.0 -= before(f64::INFINITY);
        });
        (!gaps.is_empty()).then_some(case)
    }

    /// The case with all times rounded, to seconds or to tenths of a second.
    pub(super) fn with_round_times(&self) -> Vec<Self> {
        let rounded = |steps: f64| {
            self.change(|scenario| {
                each_time(scenario, |at| *at = (*at * steps).round() / steps);
                let tenths = (scenario.node.start_within * 10.0).round() / 10.0;
                scenario.node.start_within = tenths.min(scenario.seconds.0);
            })
        };
        let cases = [rounded(1.0), rounded(10.0)];
        // What was rounded to seconds is as it would be when rounded to tenths.
        cases.into_iter().filter(|case| case != self).collect()
    }
}

/// Restricts a fault that names nodes to some of them. Returns whether any is left.
fn restrict(fault: &mut Fault, is_kept: impl Fn(u32) -> bool) -> bool {
    match named_mut(fault) {
        Some(nodes) => {
            nodes.retain(|node| is_kept(*node));
            !nodes.is_empty()
        }
        None => true,
    }
}

fn named_mut(fault: &mut Fault) -> Option<&mut Vec<u32>> {
    match fault {
        Fault::Partition { nodes, .. } => Some(nodes),
        Fault::Crash { nodes: Nodes::These(nodes), .. }
        | Fault::Leave { nodes: Nodes::These(nodes), .. }
        | Fault::Stall { nodes: Nodes::These(nodes), .. }
        | Fault::Unsubscribe { nodes: Nodes::These(nodes), .. }
        | Fault::Overlap { nodes: Nodes::These(nodes), .. }
        | Fault::Clock { nodes: Nodes::These(nodes), .. } => Some(nodes),
        _ => None,
    }
}

fn rename(node: &mut u32, numbers: &BTreeMap<u32, u32>) {
    *node = numbers.get(node).copied().unwrap_or(*node);
}

/// Every time at which something happens after the nodes have started.
fn each_time(scenario: &mut Scenario, mut visit: impl FnMut(&mut f64)) {
    for fault in &mut scenario.faults {
        match fault {
            Fault::Partition { from, until, .. }
            | Fault::Stall { from, until, .. }
            | Fault::Unsubscribe { from, until, .. }
            | Fault::Overlap { from, until, .. }
            | Fault::Latency { from, until, .. }
            | Fault::Chaos { from, until, .. } => [from, until].into_iter().for_each(&mut visit),
            Fault::Crash { at, restart_at, .. } | Fault::Leave { at, restart_at, .. } => {
                visit(at);
                restart_at.iter_mut().for_each(&mut visit);
            }
            Fault::Clock { at, .. } => visit(at),
        }
    }
    scenario.publish.list.iter_mut().for_each(|message| visit(&mut message.at));
    scenario.calls.list.iter_mut().for_each(|call| visit(&mut call.at));
    if scenario.join.nodes > 0 {
        visit(&mut scenario.join.at);
    }
    if scenario.hostile.count() > 0 {
        visit(&mut scenario.hostile.from);
    }
}
