//! A scenario that leaves nothing to chance: what a seed draws from another scenario, written item by item.
//!
//! Whatever is removed from an explicit scenario leaves the rest as it is, because nothing else is drawn after it.

use super::{Action, Drawing};
use crate::scenario::{CallAt, Expected, Fault, Foreign, ForeignNode, MessageAt, Scenario};

impl Scenario {
    /// The scenario with the messages, calls, slow applications and faults that the seed draws from it. Its plan is the
    /// same.
    pub fn explicit(&self, nodes: usize, seed: u64) -> Self {
        let drawing = Drawing::of(self, nodes, seed);
        let mut explicit = Self { expected: Expected::Kept, breaks: Vec::new(), ..self.clone() };
        explicit.hostile.from = match self.hostile.count() {
            0 => 0.0,
            _ => self.hostile.begin(self.seconds.duration()).as_secs_f64(),
        };
        (explicit.publish.messages, explicit.calls.count, explicit.slow_consumers.count) = (0, 0, 0);
        (explicit.publish.list, explicit.calls.list) = (Vec::new(), Vec::new());
        for (at, action) in &drawing.actions {
            let at = at.as_secs_f64();
            match *action {
                Action::Publish { node, topic, .. } => {
                    explicit.publish.list.push(MessageAt { at, node: node.0, topic });
                }
                Action::Call { node, call } => explicit.calls.list.push(CallAt { at, node: node.0, pick: call }),
                _ => {}
            }
        }
        explicit.slow_consumers.nodes = drawing.slow.iter().map(|host| host.0).collect();
        let foreign = drawing.foreign.iter().map(|(host, lacks)| ForeignNode { node: host.0, lacks: lacks.clone() });
        explicit.foreign = Foreign { list: foreign.collect(), ..Foreign::default() };
        let mut faults = drawing.faults;
        faults.iter_mut().for_each(|fault| fault.end_by(self.seconds.0));
        explicit.faults = faults;
        explicit
    }
}

impl Fault {
    /// Lets it end, or its nodes restart, at this time at the latest.
    pub(crate) fn end_by(&mut self, end: f64) {
        match self {
            Self::Partition { until, .. }
            | Self::Stall { until, .. }
            | Self::Unsubscribe { until, .. }
            | Self::Overlap { until, .. }
            | Self::Latency { until, .. }
            | Self::Chaos { until, .. } => *until = until.min(end),
            Self::Crash { restart_at, .. } | Self::Leave { restart_at, .. } => {
                *restart_at = restart_at.map(|at| at.min(end));
            }
            Self::Clock { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::*;
    use crate::scenario::BUILTIN;

    #[test]
    fn an_explicit_scenario_has_the_same_plan() {
        for (name, text) in BUILTIN {
            for seed in 0..20 {
                let scenario =
                    crate::swarm::draw(&Scenario::parse(name, text).unwrap(), 25, seed, crate::NetworkKind::Events);
                let written = scenario.explicit(25, seed).to_toml();
                let explicit = Scenario::parse(name, &written).unwrap();
                // Nothing is left to chance: another seed changes only whom the nodes know.
                assert_eq!(Plan::draw(&explicit, 25, seed), Plan::draw(&scenario, 25, seed), "{name}, seed {seed}");
            }
        }
    }

    #[test]
    fn what_is_removed_leaves_the_rest_as_it_is() {
        let scenario = Scenario::parse("chaos_plain", include_str!("../../scenarios/chaos_plain.toml")).unwrap();
        let mut explicit = scenario.explicit(25, 7);
        let before = Plan::draw(&explicit, 25, 7);
        explicit.faults.remove(0);
        explicit.publish.list.remove(0);
        let after = Plan::draw(&explicit, 25, 7);
        let timed = |plan: &Plan| -> Vec<_> {
            plan.actions
                .iter()
                .filter(|(_, action)| matches!(action, Action::Crash(_) | Action::Call { .. }))
                .cloned()
                .collect()
        };
        assert_eq!(after.bootstrap, before.bootstrap);
        assert_eq!(after.slow, before.slow);
        assert!(timed(&after).iter().all(|action| timed(&before).contains(action)));
        assert_eq!(after.troubles.len() + 1, before.troubles.len());
        assert!(after.troubles.iter().all(|trouble| before.troubles.contains(trouble)));
    }

    #[test]
    fn nobody_is_alone_because_others_are_absent() {
        let text = "[topology]\nbootstrap = 1\nabsent = [0, 1, 4, 5, 6, 11]\n";
        let scenario = Scenario::parse("test.toml", text).unwrap();
        for seed in 0..50 {
            let plan = Plan::draw(&scenario, 12, seed);
            assert_eq!(plan.present(), 6);
            let starts = plan.actions.iter().filter(|(_, action)| matches!(action, Action::Start(_)));
            assert_eq!(starts.count(), 6);
            for node in [2, 3, 7, 8, 9, 10] {
                let known = &plan.bootstrap[node];
                assert!(known.iter().all(|host| (host.0 as usize) < node && !plan.absent.contains(host)), "{known:?}");
                assert_eq!(known.is_empty(), node == 2, "seed {seed}, node {node}");
            }
        }
    }
}
