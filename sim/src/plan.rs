//! The plan of a run, drawn from a scenario and a seed: what happens, when, and to which nodes.

mod explicit;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use crate::identity::peer_id;
use crate::network::{Group, Homes, Host};
use crate::random::{Random, mix};
use crate::scenario::{Ending, Fault, FaultKind, IdOrder, Lack, Nodes, PartitionMode, Scenario};

/// The longest time of a search for peers, in seconds.
const WALK: f64 = 30.0;
/// How many seconds a sybil stays, and then stays away.
const SYBIL_STAYS: f64 = 3.0;
const SYBIL_AWAY: f64 = 2.0;

/// All external actions of a run, in order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Members of the mesh, hostile ones at the end.
    pub nodes: usize,
    /// The number of honest members, with those that are absent.
    pub honest: usize,
    /// Honest members that never start.
    pub absent: BTreeSet<Host>,
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
    /// When the wall clocks of nodes jump, and by how many seconds.
    pub jumps: BTreeMap<Host, Vec<(Duration, f64)>>,
    /// The times in which a node has two processes.
    pub overlaps: Vec<Overlap>,
    /// Nodes whose applications read slowly.
    pub slow: Vec<Host>,
    /// Nodes of another make, and what each lacks.
    pub foreign: BTreeMap<Host, Vec<Lack>>,
    /// The peers that each node knows at the start.
    pub bootstrap: Vec<Vec<Host>>,
    /// When each member starts for the first time, or would.
    pub first_start: Vec<Duration>,
}

/// A time with a fault.
#[derive(Clone, Debug, PartialEq)]
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

/// A time in which a node has two processes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlap {
    /// The node.
    pub node: Host,
    /// When the second process starts.
    pub from: Duration,
    /// When the first process ends.
    pub until: Duration,
}

/// An action of the plan.
#[derive(Clone, Debug, PartialEq)]
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
    /// A second process of a node starts on another machine, and the first one goes on.
    Overlap {
        /// The number of the fault.
        trouble: usize,
        /// The node.
        node: Host,
        /// The machine of the second process.
        to: Host,
    },
    /// The first of two processes of a node ends.
    Retire {
        /// The number of the fault.
        trouble: usize,
        /// The node.
        node: Host,
        /// How it ends.
        ends: Ending,
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
    /// A node writes into the shared context.
    Write {
        /// The node.
        node: Host,
        /// The number of the write.
        write: u64,
    },
    /// All nodes tell what they have in the shared context.
    ReadContext,
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
    /// A node's application leaves all topics.
    Unsubscribe(Host),
    /// A node's application subscribes to all topics again.
    Subscribe(Host),
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
    fault: fn(f64, Nodes, Option<f64>, bool) -> Fault,
}

const CRASH: Down = Down {
    action: Action::Crash,
    what: "crash",
    fault: |at, nodes, restart_at, moves| Fault::Crash { at, nodes, restart_at, moves },
};
const LEAVE: Down = Down {
    action: Action::Leave,
    what: "leave",
    fault: |at, nodes, restart_at, moves| Fault::Leave { at, nodes, restart_at, moves },
};

struct Drawing<'a> {
    scenario: &'a Scenario,
    seed: u64,
    random: Random,
    homes: Homes,
    honest: Vec<Host>,
    /// The nodes that are there from the start.
    early: Vec<Host>,
    absent: BTreeSet<Host>,
    bootstrap: Vec<Vec<Host>>,
    first_start: Vec<Duration>,
    victim: Option<Host>,
    slow: Vec<Host>,
    foreign: BTreeMap<Host, Vec<Lack>>,
    jumps: BTreeMap<Host, Vec<(Duration, f64)>>,
    overlaps: Vec<Overlap>,
    moves: BTreeMap<Host, Group>,
    /// The next machine that no node has used yet.
    free: u32,
    actions: Vec<(Duration, Action)>,
    troubles: Vec<Trouble>,
    /// The faults, each with its nodes by their numbers.
    faults: Vec<Fault>,
}

impl Plan {
    /// Draws the plan of a run with this many honest nodes.
    pub fn draw(scenario: &Scenario, nodes: usize, seed: u64) -> Self {
        let drawing = Drawing::of(scenario, nodes, seed);
        let (members, sybils, outsiders) = numbers(scenario, nodes);
        let late = drawing.early.len() as u32..nodes as u32;
        let Drawing {
            mut actions,
            mut troubles,
            jumps,
            overlaps,
            bootstrap,
            victim,
            moves,
            free,
            homes,
            absent,
            slow,
            foreign,
            first_start,
            ..
        } = drawing;
        // The sort is stable: of two actions at one time, the one that was drawn first comes first.
        actions.sort_by_key(|(at, _)| *at);
        troubles.sort_by_key(|trouble| trouble.from);
        Self {
            nodes: members,
            honest: nodes,
            absent,
            late,
            sybils,
            outsiders,
            hosts: free as usize,
            homes,
            victim,
            moves,
            end: scenario.seconds.duration(),
            actions,
            troubles,
            jumps,
            overlaps,
            slow,
            foreign,
            bootstrap,
            first_start,
        }
    }

    /// The number of honest members that start.
    pub fn present(&self) -> usize {
        self.honest - self.absent.len()
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

/// The number of members, and the numbers of the sybils and the outsiders.
fn numbers(scenario: &Scenario, nodes: usize) -> (usize, Range<u32>, Range<u32>) {
    let hostile = &scenario.hostile;
    let members = nodes + hostile.flood + hostile.stream_flood + hostile.context_flood;
    let sybils = members as u32..(members + hostile.sybils) as u32;
    let outsiders = sybils.end..sybils.end + (hostile.garbage + hostile.dial_storm) as u32;
    (members, sybils, outsiders)
}

impl<'a> Drawing<'a> {
    fn of(scenario: &'a Scenario, nodes: usize, seed: u64) -> Self {
        let end = scenario.seconds.duration();
        let (members, sybils, outsiders) = numbers(scenario, nodes);
        let early = nodes.saturating_sub(scenario.join.nodes).max(1);
        let absent = scenario.topology.absent.iter().filter(|node| (**node as usize) < nodes);
        let mut drawing = Self {
            scenario,
            seed,
            random: Random::new(mix(seed, 0x706c_616e)),
            homes: Homes::new(scenario.topology.homes),
            honest: (0..nodes as u32).map(Host).collect(),
            early: (0..early as u32).map(Host).collect(),
            absent: absent.copied().map(Host).collect(),
            bootstrap: Vec::new(),
            first_start: Vec::new(),
            victim: None,
            slow: Vec::new(),
            foreign: BTreeMap::new(),
            jumps: BTreeMap::new(),
            overlaps: Vec::new(),
            moves: BTreeMap::new(),
            free: outsiders.end,
            actions: Vec::new(),
            troubles: Vec::new(),
            faults: Vec::new(),
        };
        drawing.starts(members);
        if scenario.hostile.sybils > 0 {
            drawing.sybils(sybils, end);
        }
        drawing.slow(end);
        drawing.foreign();
        drawing.publishes(end);
        drawing.calls();
        scenario.faults.iter().for_each(|fault| drawing.fault(fault));
        drawing.writes(end);
        if scenario.hostile.count() > 0 {
            drawing.actions.push((scenario.hostile.begin(end), Action::Attack));
        }
        drawing
    }

    fn starts(&mut self, members: usize) {
        let within = self.scenario.node.start_within;
        let late = self.early.len()..self.honest.len();
        for index in 0..members {
            let is_late = late.contains(&index);
            let at = if is_late { self.scenario.join.at } else { within * index as f64 / members as f64 };
            self.first_start.push(secs(at));
            if self.is_present(Host(index as u32)) {
                self.actions.push((secs(at), Action::Start(Host(index as u32))));
            }
            let earlier: Vec<_> = self.early.iter().copied().filter(|host| (host.0 as usize) < index).collect();
            let known = if is_late { self.scenario.join.bootstrap } else { self.scenario.topology.bootstrap };
            self.bootstrap.push(self.random.choose(&earlier, known));
        }
        let knows = &self.scenario.topology.knows;
        for (known, named) in self.bootstrap.iter_mut().zip(knows) {
            *known = named.iter().copied().map(Host).collect();
        }
        self.pass_over_absent();
        for late in late.map(|index| Host(index as u32)) {
            if self.is_present(late) {
                self.discovers(late);
            }
        }
    }

    /// Whoever would know an absent node knows those that it knows, and at least one. So the mesh does not fall apart
    /// because a node in its middle is absent.
    fn pass_over_absent(&mut self) {
        for index in 0..self.bootstrap.len() {
            let drawn = self.bootstrap[index].clone();
            if drawn.iter().all(|host| self.is_present(*host)) {
                continue;
            }
            let mut known = Vec::new();
            for host in drawn {
                // Of the earlier nodes, the lists are already without absent ones.
                let passed = match self.is_present(host) {
                    true => vec![host],
                    false => self.bootstrap.get(host.0 as usize).cloned().unwrap_or_default(),
                };
                known.extend(passed.into_iter().filter(|host| host.0 as usize != index && self.is_present(*host)));
            }
            if known.is_empty() {
                let first = self.early.iter().copied().find(|host| self.is_present(*host));
                known.extend(first.filter(|host| (host.0 as usize) < index));
            }
            let mut seen = BTreeSet::new();
            known.retain(|host| seen.insert(*host));
            self.bootstrap[index] = known;
        }
    }

    fn is_present(&self, host: Host) -> bool {
        !self.absent.contains(&host)
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
            let begin = self.scenario.hostile.begin(end).as_secs_f64();
            let mut at = begin + self.random.between(0.0, SYBIL_STAYS + SYBIL_AWAY);
            while at + SYBIL_STAYS < end.as_secs_f64() {
                self.actions.push((secs(at), Action::Start(host)));
                self.actions.push((secs(at + SYBIL_STAYS), Action::Leave(host)));
                at += SYBIL_STAYS + SYBIL_AWAY;
            }
        }
    }

    fn slow(&mut self, end: Duration) {
        let consumers = &self.scenario.slow_consumers;
        self.slow = self.random.choose(&self.early.clone(), consumers.count);
        self.slow.extend(consumers.nodes.iter().copied().map(Host));
        if !self.slow.is_empty() && consumers.event_ms == 0 {
            self.actions.push((end.saturating_sub(Duration::from_secs(5)), Action::WakeSlow));
        }
    }

    /// They are drawn beside everything else: the other draws are those of a run without them.
    fn foreign(&mut self) {
        let foreign = &self.scenario.foreign;
        let mut random = Random::new(mix(self.seed, 0x666f_7265));
        for node in random.choose(&self.early, foreign.nodes) {
            let first = random.below(foreign.lacks.len());
            let mut is_lacked = |index| index == first || random.below(2) == 0;
            let lacks = foreign.lacks.iter().enumerate().filter(|(index, _)| is_lacked(*index));
            self.foreign.insert(node, lacks.map(|(_, lack)| *lack).collect());
        }
        self.foreign.extend(foreign.list.iter().map(|listed| (Host(listed.node), listed.lacks.clone())));
        self.foreign.retain(|host, _| !self.absent.contains(host));
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
        for (message, listed) in (publish.messages as u64..).zip(&publish.list) {
            let node = Host(listed.node);
            self.actions.push((secs(listed.at), Action::Publish { node, topic: listed.topic, message }));
        }
    }

    /// They are drawn beside everything else, like nodes of another make.
    fn writes(&mut self, end: Duration) {
        let context = &self.scenario.context;
        if context.writes == 0 {
            return;
        }
        let mut random = Random::new(mix(self.seed, 0x636f_6e74));
        let step = (context.until - context.from) / context.writes as f64;
        for write in 0..context.writes {
            let node = Host(random.below(self.early.len()) as u32);
            let at = secs(context.from + step * write as f64);
            self.actions.push((at, Action::Write { node, write: write as u64 }));
        }
        let heal = secs(self.scenario.expect.heal_within);
        let healed = self.troubles.iter().map(|trouble| trouble.until + heal).max().unwrap_or_default();
        let calm = healed.max(secs(context.until)) + secs(context.equal_within);
        self.actions.push((calm.min(end.saturating_sub(Duration::from_secs(1))), Action::ReadContext));
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
        for listed in &calls.list {
            self.actions.push((secs(listed.at), Action::Call { node: Host(listed.node), call: listed.pick }));
        }
    }

    fn fault(&mut self, fault: &Fault) {
        match *fault {
            Fault::Partition { from, until, share, one_way, mode, ref nodes } => {
                self.partition(from, until, share, nodes, one_way, mode);
            }
            Fault::Crash { at, ref nodes, restart_at, moves } => self.down(at, nodes, restart_at, moves, CRASH),
            Fault::Leave { at, ref nodes, restart_at, moves } => self.down(at, nodes, restart_at, moves, LEAVE),
            Fault::Stall { from, until, ref nodes } => self.stall(from, until, nodes),
            Fault::Unsubscribe { from, until, ref nodes } => self.unsubscribe(from, until, nodes),
            Fault::Overlap { from, until, ref nodes, id, ends } => self.overlap(from, until, nodes, id, ends),
            Fault::Latency { from, until, add_ms } => self.latency(from, until, add_ms),
            Fault::Clock { at, ref nodes, by } => self.clock(at, nodes, by),
            Fault::Chaos { from, until, count, ref kinds } => {
                let kinds = if kinds.is_empty() { &FaultKind::ALL } else { kinds.as_slice() };
                (0..count).for_each(|_| self.any_fault(from, until, kinds));
            }
        }
    }

    /// The nodes of a fault: the named ones, or as many as it says.
    fn pick(&mut self, nodes: &Nodes) -> Vec<Host> {
        let mut picked = match nodes {
            Nodes::Count(count) => self.random.choose(&self.early.clone(), *count),
            Nodes::These(nodes) => nodes.iter().copied().map(Host).collect(),
        };
        picked.retain(|host| self.is_present(*host));
        picked
    }

    fn any_fault(&mut self, begin: f64, end: f64, kinds: &[FaultKind]) {
        let from = self.random.between(begin, end);
        let until = self.random.between(from, end.min(from + 12.0));
        let nodes = Nodes::Count(1 + self.random.below(self.early.len().div_ceil(8)));
        let mode = if self.random.below(2) == 0 { PartitionMode::Hold } else { PartitionMode::Reset };
        let one_way = self.random.below(3) == 0;
        match kinds[self.random.below(kinds.len())] {
            FaultKind::Partition => {
                let share = self.random.between(0.1, 0.9);
                self.partition(from, until, share, &[], one_way, mode);
            }
            FaultKind::Crash => self.down(from, &nodes, Some(until), false, CRASH),
            FaultKind::Leave => self.down(from, &nodes, Some(until.max(from + 2.0)), false, LEAVE),
            FaultKind::Stall => self.stall(from, until, &nodes),
            FaultKind::Latency => {
                let add_ms = self.random.between(50.0, 1500.0);
                self.latency(from, until, add_ms);
            }
        }
    }

    fn partition(&mut self, from: f64, until: f64, share: f64, named: &[u32], one_way: bool, mode: PartitionMode) {
        let nodes = match named {
            [] => {
                let count = (self.honest.len() as f64 * share).round() as usize;
                self.apart(&self.honest.clone(), count)
            }
            named => self.with_homes(named, &self.honest),
        };
        let here: Group = nodes.into_iter().filter(|host| self.is_present(*host)).collect();
        let is_there = |host: &Host| self.is_present(*host) && !here.contains(host);
        let there: Group = self.honest.iter().copied().filter(is_there).collect();
        let way = if one_way { "to" } else { "and" };
        let what = format!("partition of {} {way} {} nodes ({mode:?})", here.len(), there.len());
        let trouble = self.trouble(from, until, what, true);
        let nodes = numbers_of(&here);
        let share = if nodes.is_empty() { 0.0 } else { 0.5 };
        self.faults.push(Fault::Partition { from, until, share, nodes, one_way, mode });
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

    /// These nodes, and of the others those in the same homes, if homes are shared: a cut is between homes.
    fn with_homes(&self, named: &[u32], others: &[Host]) -> Group {
        let named: Group = named.iter().copied().map(Host).collect();
        if !self.homes.are_shared() {
            return named;
        }
        let homes = self.homes.of(&named);
        others.iter().copied().filter(|node| homes.contains(&self.homes.home(*node))).collect()
    }

    fn stall(&mut self, from: f64, until: f64, nodes: &Nodes) {
        let mut stalled = match nodes {
            Nodes::Count(count) => self.apart(&self.early.clone(), *count),
            Nodes::These(named) => self.with_homes(named, &self.early),
        };
        stalled.retain(|host| self.is_present(*host));
        let everyone: Group = self.honest.iter().copied().collect();
        let trouble = self.trouble(from, until, format!("stall of {} nodes", stalled.len()), true);
        self.faults.push(Fault::Stall { from, until, nodes: Nodes::These(numbers_of(&stalled)) });
        let mode = PartitionMode::Hold;
        self.actions.push((secs(from), Action::Cut { trouble, from: stalled, to: everyone, mode }));
        self.actions.push((secs(until), Action::Heal { trouble }));
    }

    /// No trouble: what is published meanwhile must reach everyone else.
    fn unsubscribe(&mut self, from: f64, until: f64, nodes: &Nodes) {
        let nodes = self.pick(nodes);
        for node in &nodes {
            self.actions.push((secs(from), Action::Unsubscribe(*node)));
            self.actions.push((secs(until), Action::Subscribe(*node)));
        }
        self.faults.push(Fault::Unsubscribe { from, until, nodes: Nodes::These(numbers_of(&nodes)) });
    }

    fn latency(&mut self, from: f64, until: f64, add_ms: f64) {
        self.trouble(from, until, format!("{add_ms:.0} ms more latency"), true);
        self.faults.push(Fault::Latency { from, until, add_ms });
        self.actions.push((secs(from), Action::SlowDown(secs(add_ms / 1000.0))));
        self.actions.push((secs(until), Action::SlowDown(Duration::ZERO)));
    }

    /// No trouble: only the shared context asks what time it is.
    fn clock(&mut self, at: f64, nodes: &Nodes, by: f64) {
        let nodes = self.pick(nodes);
        nodes.iter().for_each(|node| self.jumps.entry(*node).or_default().push((secs(at), by)));
        self.faults.push(Fault::Clock { at, nodes: Nodes::These(numbers_of(&nodes)), by });
    }

    fn down(&mut self, at: f64, nodes: &Nodes, restart_at: Option<f64>, moves: bool, how: Down) {
        let chosen = if moves { self.movers(nodes, IdOrder::Any) } else { self.pick(nodes) };
        let and_move = if moves { ", which move" } else { "" };
        let what = format!("{} of {} nodes{and_move}", how.what, chosen.len());
        self.trouble(at, restart_at.unwrap_or(at), what, false);
        self.faults.push((how.fault)(at, Nodes::These(numbers_of(&chosen)), restart_at, moves));
        for node in chosen {
            self.actions.push((secs(at), (how.action)(node)));
            let Some(restart_at) = restart_at.map(secs) else { continue };
            if moves {
                let to = self.another_machine(node);
                self.actions.push((restart_at, Action::Move { node, to }));
            }
            self.actions.push((restart_at, Action::Start(node)));
        }
    }

    fn overlap(&mut self, from: f64, until: f64, nodes: &Nodes, id: IdOrder, ends: Ending) {
        let chosen = self.movers(nodes, id);
        let trouble = self.trouble(from, until, format!("two processes of {} nodes", chosen.len()), false);
        let nodes = Nodes::These(numbers_of(&chosen));
        self.faults.push(Fault::Overlap { from, until, nodes, id: IdOrder::Any, ends });
        for node in chosen {
            let to = self.another_machine(node);
            self.actions.push((secs(from), Action::Overlap { trouble, node, to }));
            self.actions.push((secs(until), Action::Retire { trouble, node, ends }));
            self.overlaps.push(Overlap { node, from: secs(from), until: secs(until) });
        }
    }

    /// A machine that nobody has used yet, for this node.
    fn another_machine(&mut self, node: Host) -> Host {
        let machine = Host(self.free);
        self.free += 1;
        self.moves.entry(node).or_default().insert(machine);
        machine
    }

    /// Nodes that get another address from now on: the wanted ones, or as many of them as possible.
    fn movers(&mut self, nodes: &Nodes, id: IdOrder) -> Vec<Host> {
        let (wanted, most) = match nodes {
            Nodes::Count(count) => (Nodes::Count(self.early.len()), *count),
            Nodes::These(these) => (nodes.clone(), these.len()),
        };
        let mut movers = Vec::new();
        for node in self.pick(&wanted) {
            if movers.len() < most && self.can_move(node) && self.is_in_order(node, id) {
                self.moves.entry(node).or_default();
                movers.push(node);
            }
        }
        movers
    }

    /// Whether the peer id of a node is in this order to those of the nodes that it knows, and that know it.
    fn is_in_order(&self, node: Host, id: IdOrder) -> bool {
        let order = match id {
            IdOrder::Any => return true,
            IdOrder::Lower => Ordering::Less,
            IdOrder::Higher => Ordering::Greater,
        };
        let own = peer_id(self.seed, node);
        let known_by = (0..).map(Host).zip(&self.bootstrap).filter(|(_, known)| known.contains(&node));
        let mut neighbours = self.bootstrap[node.0 as usize].iter().copied().chain(known_by.map(|(host, _)| host));
        neighbours.all(|other| own.cmp(&peer_id(self.seed, other)) == order)
    }

    /// Whether every configuration would still name a node at its address. Not needed if neighbours are announced.
    fn can_move(&self, node: Host) -> bool {
        let has_moved = |host: &Host| *host == node || self.moves.contains_key(host);
        let knows_nobody = |index: usize| self.bootstrap.get(index).is_none_or(Vec::is_empty);
        let is_lost = |known: &Vec<Host>| !known.is_empty() && known.iter().all(has_moved);
        self.scenario.topology.lan || !knows_nobody(node.0 as usize) && !self.bootstrap.iter().any(is_lost)
    }

    fn trouble(&mut self, from: f64, until: f64, what: String, delays: bool) -> usize {
        self.troubles.push(Trouble { from: secs(from), until: secs(until), what, delays });
        self.troubles.len() - 1
    }
}

fn numbers_of<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> Vec<u32> {
    hosts.into_iter().map(|host| host.0).collect()
}

fn secs(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests;
