//! A scenario and a seed, drawn out: what happens when, to whom.

use std::time::Duration;

use crate::network::{Group, Host};
use crate::random::{Random, mix};
use crate::scenario::{Fault, PartitionMode, Scenario};

/// Everything that a run does from outside of the nodes, in order of time.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Members of the mesh, hostile ones at the end.
    pub nodes: usize,
    /// Of them, how many keep the rules.
    pub honest: usize,
    /// Hosts in all: members, and after them those that only send garbage or dial.
    pub hosts: usize,
    /// When the run ends.
    pub end: Duration,
    /// What happens, in order.
    pub actions: Vec<(Duration, Action)>,
    /// What goes wrong, for invariants and reports.
    pub troubles: Vec<Trouble>,
    /// Nodes whose applications read slowly.
    pub slow: Vec<Host>,
    /// Who knows whom at the start.
    pub bootstrap: Vec<Vec<Host>>,
    /// When each member starts for the first time.
    pub first_start: Vec<Duration>,
}

/// A time in which something is wrong.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Begin.
    pub from: Duration,
    /// End.
    pub until: Duration,
    /// What, for people.
    pub what: String,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Action {
    /// A node starts, perhaps again.
    Start(Host),
    /// A node says goodbye.
    Leave(Host),
    /// A host loses power.
    Crash(Host),
    /// A message is published.
    Publish {
        /// By whom.
        node: Host,
        /// On which topic.
        topic: usize,
        /// Names the message.
        message: u64,
    },
    /// A node calls one of its peers.
    Call {
        /// Who.
        node: Host,
        /// Names the call.
        call: u64,
    },
    /// Nothing passes from the first group to the second.
    Cut {
        /// Names it for its end.
        trouble: usize,
        /// Whose bytes.
        from: Group,
        /// To whom.
        to: Group,
        /// What becomes of them.
        mode: PartitionMode,
    },
    /// The cuts of that name are over.
    Heal {
        /// Their name.
        trouble: usize,
    },
    /// Everything takes that much longer.
    SlowDown(Duration),
    /// The applications that read nothing begin to read.
    WakeSlow,
    /// Hostile hosts and members begin.
    Attack,
}

struct Drawing<'a> {
    scenario: &'a Scenario,
    random: Random,
    honest: Vec<Host>,
    actions: Vec<(Duration, Action)>,
    troubles: Vec<Trouble>,
}

impl Plan {
    /// Draws the plan of a run with so many honest nodes.
    pub fn draw(scenario: &Scenario, nodes: usize, seed: u64) -> Self {
        let end = scenario.seconds.duration();
        let members = nodes + scenario.hostile.flood + scenario.hostile.stream_flood;
        let mut drawing = Drawing {
            scenario,
            random: Random::new(mix(seed, 0x706c_616e)),
            honest: (0..nodes as u32).map(Host).collect(),
            actions: Vec::new(),
            troubles: Vec::new(),
        };
        let bootstrap = drawing.starts(members);
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
        let Drawing { mut actions, mut troubles, .. } = drawing;
        // Stable: what is drawn first comes first.
        actions.sort_by_key(|(at, _)| *at);
        troubles.sort_by_key(|trouble| trouble.from);
        let hosts = members + scenario.hostile.garbage + scenario.hostile.dial_storm;
        Self { nodes: members, honest: nodes, hosts, end, actions, troubles, slow, bootstrap, first_start }
    }
}

impl Drawing<'_> {
    fn starts(&mut self, members: usize) -> Vec<Vec<Host>> {
        let within = self.scenario.node.start_within;
        let mut bootstrap = Vec::new();
        for index in 0..members as u32 {
            let at = secs(within * f64::from(index) / members as f64);
            self.actions.push((at, Action::Start(Host(index))));
            let earlier: Vec<_> = (0..index).map(Host).collect();
            bootstrap.push(self.random.choose(&earlier, self.scenario.topology.bootstrap));
        }
        bootstrap
    }

    fn slow(&mut self, end: Duration) -> Vec<Host> {
        let consumers = &self.scenario.slow_consumers;
        if consumers.count > 0 && consumers.event_ms == 0 {
            self.actions.push((end.saturating_sub(Duration::from_secs(5)), Action::WakeSlow));
        }
        self.random.choose(&self.honest.clone(), consumers.count)
    }

    fn publishes(&mut self, end: Duration) {
        let publish = &self.scenario.publish;
        let until = if publish.until > 0.0 { publish.until } else { end.as_secs_f64() - 5.0 };
        let step = (until - publish.from).max(0.0) / publish.messages.max(1) as f64;
        for message in 0..publish.messages {
            let at = secs(publish.from + step * message as f64);
            let node = Host(self.random.below(self.honest.len()) as u32);
            let topic = self.random.below(publish.topics);
            self.actions.push((at, Action::Publish { node, topic, message: message as u64 }));
        }
    }

    fn calls(&mut self) {
        let calls = &self.scenario.calls;
        let last = self.scenario.seconds.0 - calls.seconds - 3.0;
        for call in 0..calls.count {
            let at = secs(self.random.between(calls.from, last.max(calls.from)));
            let node = Host(self.random.below(self.honest.len()) as u32);
            self.actions.push((at, Action::Call { node, call: call as u64 }));
        }
    }

    fn fault(&mut self, fault: &Fault) {
        match *fault {
            Fault::Partition { from, until, share, one_way, mode } => {
                self.partition(from, until, share, one_way, mode);
            }
            Fault::Crash { at, nodes, restart_at } => self.down(at, nodes, restart_at, Action::Crash, "crash"),
            Fault::Leave { at, nodes, restart_at } => self.down(at, nodes, restart_at, Action::Leave, "leave"),
            Fault::Stall { from, until, nodes } => self.stall(from, until, nodes),
            Fault::Latency { from, until, add_ms } => self.latency(from, until, add_ms),
            Fault::Chaos { from, until, count } => (0..count).for_each(|_| self.any_fault(from, until)),
        }
    }

    fn any_fault(&mut self, begin: f64, end: f64) {
        let from = self.random.between(begin, end);
        let until = self.random.between(from, end.min(from + 12.0));
        let nodes = 1 + self.random.below(self.honest.len().div_ceil(8));
        let mode = if self.random.below(2) == 0 { PartitionMode::Hold } else { PartitionMode::Reset };
        let one_way = self.random.below(3) == 0;
        match self.random.below(5) {
            0 => {
                let share = self.random.between(0.1, 0.9);
                self.partition(from, until, share, one_way, mode);
            }
            1 => self.down(from, nodes, Some(until), Action::Crash, "crash"),
            2 => self.down(from, nodes, Some(until.max(from + 2.0)), Action::Leave, "leave"),
            3 => self.stall(from, until, nodes),
            _ => {
                let add_ms = self.random.between(50.0, 1500.0);
                self.latency(from, until, add_ms);
            }
        }
    }

    fn partition(&mut self, from: f64, until: f64, share: f64, one_way: bool, mode: PartitionMode) {
        let count = (self.honest.len() as f64 * share).round() as usize;
        let here: Group = self.random.choose(&self.honest.clone(), count).into_iter().collect();
        let there: Group = self.honest.iter().copied().filter(|host| !here.contains(host)).collect();
        let way = if one_way { "to" } else { "and" };
        let what = format!("partition of {} {way} {} nodes ({mode:?})", here.len(), there.len());
        let trouble = self.trouble(from, until, what);
        if !one_way {
            let (from_group, to) = (there.clone(), here.clone());
            self.actions.push((secs(from), Action::Cut { trouble, from: from_group, to, mode }));
        }
        self.actions.push((secs(from), Action::Cut { trouble, from: here, to: there, mode }));
        self.actions.push((secs(until), Action::Heal { trouble }));
    }

    fn stall(&mut self, from: f64, until: f64, nodes: usize) {
        let stalled: Group = self.random.choose(&self.honest.clone(), nodes).into_iter().collect();
        let everyone: Group = self.honest.iter().copied().collect();
        let trouble = self.trouble(from, until, format!("stall of {nodes} nodes"));
        let mode = PartitionMode::Hold;
        self.actions.push((secs(from), Action::Cut { trouble, from: stalled, to: everyone, mode }));
        self.actions.push((secs(until), Action::Heal { trouble }));
    }

    fn latency(&mut self, from: f64, until: f64, add_ms: f64) {
        self.trouble(from, until, format!("{add_ms:.0} ms more latency"));
        self.actions.push((secs(from), Action::SlowDown(secs(add_ms / 1000.0))));
        self.actions.push((secs(until), Action::SlowDown(Duration::ZERO)));
    }

    fn down(&mut self, at: f64, nodes: usize, restart_at: Option<f64>, how: fn(Host) -> Action, what: &str) {
        let chosen = self.random.choose(&self.honest.clone(), nodes);
        self.trouble(at, restart_at.unwrap_or(at), format!("{what} of {} nodes", chosen.len()));
        for host in chosen {
            self.actions.push((secs(at), how(host)));
            if let Some(restart_at) = restart_at {
                self.actions.push((secs(restart_at), Action::Start(host)));
            }
        }
    }

    fn trouble(&mut self, from: f64, until: f64, what: String) -> usize {
        self.troubles.push(Trouble { from: secs(from), until: secs(until), what });
        self.troubles.len() - 1
    }
}

fn secs(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
