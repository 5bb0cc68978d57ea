//! The plan of a run, drawn from a scenario and a seed: what happens, when, and to which nodes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::network::{Group, Homes, Host};
use crate::random::{Random, mix};
use crate::scenario::{Fault, PartitionMode, Scenario};

/// The longest time of a search for peers, in seconds.
const WALK: f64 = 30.0;
/// How many seconds a sybil stays, and then stays away.
const SYBIL_STAYS: f64 = 3.0;
const SYBIL_AWAY: f64 = 2.0;

/// All external actions of a run, in order of time.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Members of the mesh, hostile ones at the end.
    pub nodes: usize,
    /// The number of honest members.
    pub honest: usize,
    /// The last honest ones, which start when the mesh is up.
    pub late: Range<u32>,
    /// Nodes that connect only to the victim; numbered after the members.
    pub sybils: Range<u32>,
    /// Hosts that only send garbage or dial; numbered after the sybils.
    pub outsiders: Range<u32>,
    /// The number of all machines. Nodes move to the last ones.
    pub hosts: usize,
    /// Which of them share a home.
    pub homes: Homes,
    /// The node that the sybils connect to.
    pub victim: Option<Host>,
    /// The other machines that each node uses during the run.
    pub moves: BTreeMap<Host, Group>,
    /// When the run ends.
    pub end: Duration,
    /// The actions, in order.
    pub actions: Vec<(Duration, Action)>,
    /// The planned faults, for invariants and reports.
    pub troubles: Vec<Trouble>,
    /// Nodes whose applications read slowly.
    pub slow: Vec<Host>,
    /// The peers that each node knows at the start.
    pub bootstrap: Vec<Vec<Host>>,
    /// When each member starts for the first time.
    pub first_start: Vec<Duration>,
}

/// A time with a fault.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The begin.
    pub from: Duration,
    /// The end.
    pub until: Duration,
    /// A description of the fault.
    pub what: String,
    /// Whether it delays data in flight.
    pub delays: bool,
}

/// An action of the plan.
#[derive(Clone, Debug)]
pub enum Action {
    /// A node starts, perhaps again.
    Start(Host),
    /// A node shuts down.
    Leave(Host),
    /// A host loses power.
    Crash(Host),
    /// The next start of a node is on another machine.
    Move {
        /// The node that moves.
        node: Host,
        /// The machine that it moves to.
        to: Host,
    },
    /// A node's application searches for peers.
    Discover(Host),
    /// A message is published.
    Publish {
        /// The publishing node.
        node: Host,
        /// The number of the topic.
        topic: usize,
        /// The number of the message.
        message: u64,
    },
    /// A node calls one of its peers.
    Call {
        /// The calling node.
        node: Host,
        /// The number of the call.
        call: u64,
    },
    /// Stops all data from the first group to the second.
    Cut {
        /// The number of the fault, by which it is healed.
        trouble: usize,
        /// The senders.
        from: Group,
        /// The receivers.
        to: Group,
        /// What happens to the data.
        mode: PartitionMode,
    },
    /// Ends the cuts of a fault.
    Heal {
        /// The number of the fault.
        trouble: usize,
    },
    /// Adds this to the one-way latency of everything.
    SlowDown(Duration),
    /// The applications that do not read begin to read.
    WakeSlow,
    /// Hostile hosts and members begin.
    Attack,
}

/// How a node goes down.
#[derive(Clone, Copy)]
struct Down {
    action: fn(Host) -> Action,
    what: &'static str,
}

const CRASH: Down = Down { action: Action::Crash, what: "crash" };
const LEAVE: Down = Down { action: Action::Leave, what: "leave" };

struct Drawing<'a> {
    scenario: &'a Scenario,
    random: Random,
    homes: Homes,
    honest: Vec<Host>,
    /// The nodes that are there from the start.
    early: Vec<Host>,
    bootstrap: Vec<Vec<Host>>,
    victim: Option<Host>,
    moves: BTreeMap<Host, Group>,
    /// The next machine that no node has used yet.
    free: u32,
    actions: Vec<(Duration, Action)>,
    troubles: Vec<Trouble>,
}

impl Plan {
    /// Draws the plan of a run with this many honest nodes.
    pub fn draw(scenario: &Scenario, nodes: usize, seed: u64) -> Self {
        let end = scenario.seconds.duration();
        let hostile = &scenario.hostile;
        let members = nodes + hostile.flood + hostile.stream_flood;
        let early = nodes.saturating_sub(scenario.join.nodes).max(1);
        let sybils = members as u32..(members + hostile.sybils) as u32;
        let outsiders = sybils.end..sybils.end + (hostile.garbage + hostile.dial_storm) as u32;
        let mut drawing = Drawing {
            scenario,
            random: Random::new(mix(seed, 0x706c_616e)),
            homes: Homes::new(scenario.topology.homes),
            honest: (0..nodes as u32).map(Host).collect(),
            early: (0..early as u32).map(Host).collect(),
            bootstrap: Vec::new(),
            victim: None,
            moves: BTreeMap::new(),
            free: outsiders.end,
            actions: Vec::new(),
            troubles: Vec::new(),
        };
        drawing.starts(members);
        if hostile.sybils > 0 {
            drawing.sybils(sybils.clone(), end);
        }
        let slow = drawing.slow(end);
        drawing.publishes(end);
        drawing.calls();
        scenario.faults.iter().for_each(|fault| drawing.fault(fault));
        if scenario.hostile.count() > 0 {
            drawing.actions.push((end / 5, Action::Attack));
        }
        let starts =
            drawing.actions.iter().filter_map(|(at, action)| matches!(action, Action::Start(_)).then_some(*at));
        let first_start = starts.take(members).collect();
        let Drawing { mut actions, mut troubles, bootstrap, victim, moves, free, homes, .. } = drawing;
        // The sort is stable: of two actions at one time, the one that was drawn first comes first.
        actions.sort_by_key(|(at, _)| *at);
        troubles.sort_by_key(|trouble| trouble.from);
        Self {
            nodes: members,
            honest: nodes,
            late: early as u32..nodes as u32,
            sybils,
            outsiders,
            hosts: free as usize,
            homes,
            victim,
            moves,
            end,
            actions,
            troubles,
            slow,
            bootstrap,
            first_start,
        }
    }

    /// All machines that these nodes use during the run.
    pub fn machines(&self, nodes: &Group) -> Group {
        let moved = nodes.iter().filter_map(|node| self.moves.get(node)).flatten();
        nodes.iter().chain(moved).copied().collect()
    }

    /// All machines on these nodes' side of a cut: their own ones, or with shared homes everything in the homes where
    /// these nodes first start.
    pub fn side(&self, nodes: &Group) -> Group {
        if !self.homes.are_shared() {
            return self.machines(nodes);
        }
        let homes = self.homes.of(nodes);
        (0..self.hosts as u32).map(Host).filter(|machine| homes.contains(&self.homes.home(*machine))).collect()
    }
}

impl Drawing<'_> {
    fn starts(&mut self, members: usize) {
        let within = self.scenario.node.start_within;
        let late = self.early.len()..self.honest.len();
        for index in 0..members {
            let is_late = late.contains(&index);
            let at = if is_late { self.scenario.join.at } else { within * index as f64 / members as f64 };
            self.actions.push((secs(at), Action::Start(Host(index as u32))));
            let earlier: Vec<_> = self.early.iter().copied().filter(|host| (host.0 as usize) < index).collect();
            let known = if is_late { self.scenario.join.bootstrap } else { self.scenario.topology.bootstrap };
            self.bootstrap.push(self.random.choose(&earlier, known));
        }
        late.for_each(|index| self.discovers(Host(index as u32)));
    }

    /// A late node searches for peers when it must have some, and repeats that as the scenario says.
    fn discovers(&mut self, host: Host) {
        let every = self.scenario.join.discover_every;
        let mut at = self.scenario.join.at + self.scenario.expect.join_within;
        while at + WALK <= self.scenario.seconds.0 {
            self.actions.push((secs(at), Action::Discover(host)));
            if every == 0.0 {
                return;
            }
            at += every;
        }
    }

    /// Each sybil starts, connects, leaves, and starts again.
    fn sybils(&mut self, sybils: Range<u32>, end: Duration) {
        let last = self.early.len() as u32 - 1;
        let victim = Host(self.scenario.hostile.victim.unwrap_or(last).min(last));
        self.victim = Some(victim);
        for host in sybils.map(Host) {
            self.bootstrap.push(vec![victim]);
            let mut at = end.as_secs_f64() / 5.0 + self.random.between(0.0, SYBIL_STAYS + SYBIL_AWAY);
            while at + SYBIL_STAYS < end.as_secs_f64() {
                self.actions.push((secs(at), Action::Start(host)));
                self.actions.push((secs(at + SYBIL_STAYS), Action::Leave(host)));
                at += SYBIL_STAYS + SYBIL_AWAY;
            }
        }
    }

    fn slow(&mut self, end: Duration) -> Vec<Host> {
        let consumers = &self.scenario.slow_consumers;
        if consumers.count > 0 && consumers.event_ms == 0 {
            self.actions.push((end.saturating_sub(Duration::from_secs(5)), Action::WakeSlow));
        }
        self.random.choose(&self.early.clone(), consumers.count)
    }

    fn publishes(&mut self, end: Duration) {
        let publish = &self.scenario.publish;
        let until = if publish.until > 0.0 { publish.until } else { end.as_secs_f64() - 5.0 };
        let step = (until - publish.from).max(0.0) / publish.messages.max(1) as f64;
        for message in 0..publish.messages {
            let at = secs(publish.from + step * message as f64);
            let node = Host(self.random.below(self.early.len()) as u32);
            let topic = self.random.below(publish.topics);
            self.actions.push((at, Action::Publish { node, topic, message: message as u64 }));
        }
    }

    fn calls(&mut self) {
        let calls = &self.scenario.calls;
        let last = self.scenario.seconds.0 - calls.seconds - 3.0;
        for call in 0..calls.count {
            let at = secs(self.random.between(calls.from, last.max(calls.from)));
            let node = Host(self.random.below(self.early.len()) as u32);
            // If there is a victim, half of the calls are its own, because the sybils may affect them.
            let node = self.victim.filter(|_| call % 2 == 0).unwrap_or(node);
            self.actions.push((at, Action::Call { node, call: call as u64 }));
        }
    }

    fn fault(&mut self, fault: &Fault) {
        match *fault {
            Fault::Partition { from, until, share, one_way, mode } => {
                self.partition(from, until, share, one_way, mode);
            }
            Fault::Crash { at, nodes, restart_at, moves } => self.down(at, nodes, restart_at, moves, CRASH),
            Fault::Leave { at, nodes, restart_at, moves } => self.down(at, nodes, restart_at, moves, LEAVE),
            Fault::Stall { from, until, nodes } => self.stall(from, until, nodes),
            Fault::Latency { from, until, add_ms } => self.latency(from, until, add_ms),
            Fault::Chaos { from, until, count } => (0..count).for_each(|_| self.any_fault(from, until)),
        }
    }

    fn any_fault(&mut self, begin: f64, end: f64) {
        let from = self.random.between(begin, end);
        let until = self.random.between(from, end.min(from + 12.0));
        let nodes = 1 + self.random.below(self.early.len().div_ceil(8));
        let mode = if self.random.below(2) == 0 { PartitionMode::Hold } else { PartitionMode::Reset };
        let one_way = self.random.below(3) == 0;
        match self.random.below(5) {
            0 => {
                let share = self.random.between(0.1, 0.9);
                self.partition(from, until, share, one_way, mode);
            }
            1 => self.down(from, nodes, Some(until), false, CRASH),
            2 => self.down(from, nodes, Some(until.max(from + 2.0)), false, LEAVE),
            3 => self.stall(from, until, nodes),
            _ => {
                let add_ms = self.random.between(50.0, 1500.0);
                self.latency(from, until, add_ms);
            }
        }
    }

    fn partition(&mut self, from: f64, until: f64, share: f64, one_way: bool, mode: PartitionMode) {
        let count = (self.honest.len() as f64 * share).round() as usize;
        let here = self.apart(&self.honest.clone(), count);
        let there: Group = self.honest.iter().copied().filter(|host| !here.contains(host)).collect();
        let way = if one_way { "to" } else { "and" };
        let what = format!("partition of {} {way} {} nodes ({mode:?})", here.len(), there.len());
        let trouble = self.trouble(from, until, what, true);
        if !one_way {
            let (from_group, to) = (there.clone(), here.clone());
            self.actions.push((secs(from), Action::Cut { trouble, from: from_group, to, mode }));
        }
        self.actions.push((secs(from), Action::Cut { trouble, from: here, to: there, mode }));
        self.actions.push((secs(until), Action::Heal { trouble }));
    }

    /// So many of these nodes. With shared homes: all of these nodes in the same share of the homes, at least in one and
    /// not in all.
    fn apart(&mut self, nodes: &[Host], count: usize) -> Group {
        if !self.homes.are_shared() || count == 0 {
            return self.random.choose(nodes, count).into_iter().collect();
        }
        let homes: Vec<_> = self.homes.of(&nodes.iter().copied().collect()).into_iter().collect();
        let share = homes.len() as f64 * count as f64 / nodes.len().max(1) as f64;
        let most = homes.len().saturating_sub(1).max(1);
        let chosen = self.random.choose(&homes, (share.round() as usize).clamp(1, most));
        nodes.iter().copied().filter(|node| chosen.contains(&self.homes.home(*node))).collect()
    }

    fn stall(&mut self, from: f64, until: f64, nodes: usize) {
        let stalled = self.apart(&self.early.clone(), nodes);
        let everyone: Group = self.honest.iter().copied().collect();
        let nodes = if self.homes.are_shared() { stalled.len() } else { nodes };
        let trouble = self.trouble(from, until, format!("stall of {nodes} nodes"), true);
        let mode = PartitionMode::Hold;
        self.actions.push((secs(from), Action::Cut { trouble, from: stalled, to: everyone, mode }));
        self.actions.push((secs(until), Action::Heal { trouble }));
    }

    fn latency(&mut self, from: f64, until: f64, add_ms: f64) {
        self.trouble(from, until, format!("{add_ms:.0} ms more latency"), true);
        self.actions.push((secs(from), Action::SlowDown(secs(add_ms / 1000.0))));
        self.actions.push((secs(until), Action::SlowDown(Duration::ZERO)));
    }

    fn down(&mut self, at: f64, nodes: usize, restart_at: Option<f64>, moves: bool, how: Down) {
        let chosen = if moves { self.movers(nodes) } else { self.random.choose(&self.early.clone(), nodes) };
        let and_move = if moves { ", which move" } else { "" };
        let what = format!("{} of {} nodes{and_move}", how.what, chosen.len());
        self.trouble(at, restart_at.unwrap_or(at), what, false);
        for node in chosen {
            self.actions.push((secs(at), (how.action)(node)));
            let Some(restart_at) = restart_at.map(secs) else { continue };
            if moves {
                let to = Host(self.free);
                self.free += 1;
                self.moves.entry(node).or_default().insert(to);
                self.actions.push((restart_at, Action::Move { node, to }));
            }
            self.actions.push((restart_at, Action::Start(node)));
        }
    }

    /// Nodes that get another address from now on: the wanted number, or as many as possible.
    fn movers(&mut self, nodes: usize) -> Vec<Host> {
        let mut movers = Vec::new();
        for node in self.random.choose(&self.early.clone(), self.early.len()) {
            if movers.len() < nodes && self.can_move(node) {
                self.moves.entry(node).or_default();
                movers.push(node);
            }
        }
        movers
    }

    /// Whether every configuration would still name a node at its address. Not needed if neighbours are announced.
    fn can_move(&self, node: Host) -> bool {
        let has_moved = |host: &Host| *host == node || self.moves.contains_key(host);
        let knows_nobody = |index: usize| self.bootstrap[index].is_empty();
        let is_lost = |known: &Vec<Host>| !known.is_empty() && known.iter().all(has_moved);
        self.scenario.topology.lan || !knows_nobody(node.0 as usize) && !self.bootstrap.iter().any(is_lost)
    }

    fn trouble(&mut self, from: f64, until: f64, what: String, delays: bool) -> usize {
        self.troubles.push(Trouble { from: secs(from), until: secs(until), what, delays });
        self.troubles.len() - 1
    }
}

fn secs(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, nodes: usize, seed: u64) -> Plan {
        Plan::draw(&Scenario::parse("test.toml", text).unwrap(), nodes, seed)
    }

    #[test]
    fn whoever_moves_everyone_still_knows_somebody() {
        let crash = "[[faults]]\nkind = \"crash\"\nat = 3\nnodes = 9\nrestart_at = 9\nmoves = true\n";
        for seed in 0..50 {
            let plan = plan(&crash.repeat(2), 12, seed);
            assert!(!plan.moves.is_empty() && !plan.moves.contains_key(&Host(0)));
            for known in plan.bootstrap.iter().filter(|known| !known.is_empty()) {
                assert!(known.iter().any(|host| !plan.moves.contains_key(host)), "seed {seed}: {known:?}");
            }
        }
    }

    #[test]
    fn every_move_is_to_a_machine_of_its_own_and_before_the_start() {
        let leave = "[[faults]]\nkind = \"leave\"\nat = 3\nnodes = 3\nrestart_at = 9\nmoves = true\n";
        let plan = plan(&format!("{leave}[hostile]\ngarbage = 2\nsybils = 3\nflood = 1\n"), 12, 1);
        assert_eq!((plan.sybils.clone(), plan.outsiders.clone(), plan.hosts), (13..16, 16..18, 21));
        let machines: Group = plan.moves.values().flatten().copied().collect();
        assert_eq!(machines, Group::from([Host(18), Host(19), Host(20)]));
        for pair in plan.actions.windows(2) {
            let [(moved, Action::Move { node, .. }), (started, next)] = pair else { continue };
            assert!(moved == started && matches!(next, Action::Start(host) if host == node), "{next:?}");
        }
    }

    #[test]
    fn with_shared_homes_a_cut_never_divides_a_home() {
        let faults = "[[faults]]\nkind = \"chaos\"\nfrom = 3\nuntil = 25\ncount = 8\n\
            [[faults]]\nkind = \"partition\"\nfrom = 3\nuntil = 9\nshare = 0.9\n\
            [[faults]]\nkind = \"leave\"\nat = 3\nnodes = 5\nrestart_at = 9\nmoves = true\n";
        let mut cuts = 0;
        for (seed, homes) in (0..20).flat_map(|seed| [2, 5, 25].map(|homes| (seed, homes))) {
            let plan = plan(&format!("{faults}[topology]\nhomes = {homes}\n[hostile]\ngarbage = 2\n"), 40, seed);
            let side_of = |nodes: &Group| (plan.side(nodes), plan.homes.of(&plan.side(nodes)));
            for (_, action) in &plan.actions {
                let Action::Cut { from, to, .. } = action else { continue };
                let ((here, home), (there, _)) = (side_of(from), side_of(to));
                let rest: Group = (0..plan.hosts as u32).map(Host).filter(|machine| !here.contains(machine)).collect();
                assert!(
                    !from.is_empty() && !to.is_empty() && home.is_disjoint(&plan.homes.of(&rest)),
                    "{seed} {homes}"
                );
                // A stall cuts off from everybody.
                assert!(there == rest || there.len() == plan.hosts, "{seed} {homes}");
                cuts += 1;
            }
        }
        assert!(cuts > 100, "{cuts}");
    }

    #[test]
    fn who_comes_late_knows_one_who_was_there_and_is_spared_by_faults() {
        let text = "[join]\nnodes = 4\nat = 12\n[[faults]]\nkind = \"crash\"\nat = 3\nnodes = 100\nrestart_at = 9\n";
        let plan = plan(text, 10, 3);
        assert_eq!(plan.late, 6..10);
        for late in 6..10 {
            assert_eq!(plan.first_start[late], Duration::from_secs(12));
            assert!(matches!(plan.bootstrap[late][..], [Host(0..6)]));
            let starts = plan
                .actions
                .iter()
                .filter(|(_, action)| matches!(action, Action::Start(host) if host.0 == late as u32));
            assert_eq!(starts.count(), 1);
        }
    }
}
