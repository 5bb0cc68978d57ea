//! How does a failure become small? Delta debugging (Zeller, Hildebrandt: "Simplifying and Isolating Failure-Inducing
//! Input", IEEE TSE 28(2), 2002) over the faults, messages, calls, nodes and seconds of an explicit scenario.

mod case;

pub use self::case::Case;

/// Something that runs cases.
pub trait Oracle {
    /// Runs these cases, and returns the first one that breaks the promise, and when it does, in seconds. The answer
    /// must depend on nothing but the cases.
    fn first_failing(&mut self, cases: &[Case]) -> Option<(usize, f64)>;

    /// Is told of each smaller case that breaks the promise.
    fn progress(&mut self, case: &Case);

    /// Whether no more cases can be run.
    fn is_exhausted(&self) -> bool;
}

/// Reduces a case that breaks a promise at this time to a smaller one that breaks the same.
pub fn shrink(case: Case, at: f64, oracle: &mut dyn Oracle) -> Case {
    let mut shrinker = Shrinker { case, at, oracle };
    shrinker.cut();
    while !shrinker.oracle.is_exhausted() {
        let before = shrinker.case.clone();
        shrinker.round();
        if shrinker.case == before {
            break;
        }
    }
    shrinker.case
}

struct Shrinker<'a> {
    /// The smallest case so far.
    case: Case,
    /// When it breaks the promise, in seconds.
    at: f64,
    oracle: &'a mut dyn Oracle,
}

impl Shrinker<'_> {
    fn round(&mut self) {
        let scenario = &self.case.scenario;
        let (faults, messages) = (scenario.faults.clone(), scenario.publish.list.clone());
        let (calls, slow) = (scenario.calls.list.clone(), scenario.slow_consumers.nodes.clone());
        let foreign = scenario.foreign.list.clone();
        self.minimize(faults, |case, kept| Some(case.with_faults(kept)));
        self.cut();
        self.minimize(messages, |case, kept| Some(case.with_messages(kept)));
        self.minimize(calls, |case, kept| Some(case.with_calls(kept)));
        self.minimize(slow, |case, kept| Some(case.with_slow(kept)));
        self.minimize(foreign, |case, kept| Some(case.with_foreign(kept)));
        self.cut();
        self.minimize(self.case.present(), Case::with_nodes);
        for fault in 0..self.case.scenario.faults.len() {
            let named = self.case.scenario.faults.get(fault).map(|fault| fault.named().to_vec()).unwrap_or_default();
            self.minimize(named, |case, kept| case.with_nodes_of_fault(fault, kept));
        }
        self.each(Case::plainer);
        self.first_of(Case::renumbered);
        self.squeeze();
        self.each(Case::with_round_times);
        self.cut();
    }

    /// Ends the run just after the promise is broken; if that is found at the end of a run only, earlier.
    fn cut(&mut self) {
        let ends = [self.at, self.case.scenario.seconds.0 / 2.0, self.case.scenario.seconds.0 * 0.75];
        let shorter: Vec<_> = ends.into_iter().filter_map(|end| self.case.ending_at(end)).collect();
        self.adopt(shorter);
    }

    /// Shortens the times in which nothing happens.
    fn squeeze(&mut self) {
        let gaps = self.case.gaps();
        let case = self.case.clone();
        self.minimize(gaps.clone(), move |_, kept| {
            let shut = gaps.iter().filter(|gap| !kept.contains(gap)).map(|gap| (gap.clone(), 1.0));
            case.without_time(&shut.collect::<Vec<_>>())
        });
        for index in 0..self.case.gaps().len() {
            let Some(gap) = self.case.gaps().get(index).cloned() else { break };
            let part = |part| self.case.without_time(&[(gap.clone(), part)]);
            let shorter: Vec<_> = [0.75, 0.5, 0.25].into_iter().filter_map(part).collect();
            self.adopt(shorter);
        }
    }

    /// Tries each of these alternatives, again and again, until none of them breaks the promise.
    fn each(&mut self, alternatives: fn(&Case) -> Vec<Case>) {
        while self.first_of(alternatives) {}
    }

    /// Takes the first of these alternatives that breaks the promise.
    fn first_of(&mut self, alternatives: fn(&Case) -> Vec<Case>) -> bool {
        let cases = alternatives(&self.case);
        self.adopt(cases)
    }

    fn adopt(&mut self, cases: Vec<Case>) -> bool {
        self.first_failing(&cases.into_iter().map(Some).collect::<Vec<_>>()).is_some()
    }

    /// Takes the first case that breaks the promise, and returns its index.
    fn first_failing(&mut self, cases: &[Option<Case>]) -> Option<usize> {
        // What is no valid scenario, or no other one, is not run.
        let valid = |case: &&Case| case.is_valid() && **case != self.case;
        let tried = cases.iter().enumerate();
        let tried = tried.filter_map(|(index, case)| Some((index, case.as_ref().filter(valid)?.clone())));
        let (indices, cases): (Vec<_>, Vec<_>) = tried.unzip();
        let (first, at) = self.oracle.first_failing(&cases)?;
        (self.case, self.at) = (cases[first].clone(), at);
        self.oracle.progress(&self.case);
        Some(indices[first])
    }

    /// ddmin: keeps as few of these items as break the promise. In the end none of them can be left out.
    fn minimize<T: Clone>(&mut self, mut items: Vec<T>, with: impl Fn(&Case, &[T]) -> Option<Case>) {
        if items.is_empty() || self.first_failing(&[with(&self.case, &[])]).is_some() {
            return;
        }
        let mut parts = 2;
        while items.len() >= 2 {
            let subsets = split(&items, parts);
            let complements = (0..subsets.len()).filter(|_| parts > 2).map(|left_out| {
                let kept = subsets.iter().enumerate().filter(|(index, _)| *index != left_out);
                kept.flat_map(|(_, subset)| subset.iter().cloned()).collect()
            });
            let mut candidates: Vec<Vec<T>> = subsets.clone();
            candidates.extend(complements);
            let cases: Vec<_> = candidates.iter().map(|kept| with(&self.case, kept)).collect();
            match self.first_failing(&cases) {
                Some(index) => {
                    parts = if index < subsets.len() { 2 } else { (parts - 1).max(2) };
                    items = candidates.swap_remove(index);
                }
                None if parts < items.len() => parts = (2 * parts).min(items.len()),
                None => return,
            }
        }
    }
}

/// Splits items into so many parts of about equal size.
fn split<T: Clone>(items: &[T], parts: usize) -> Vec<Vec<T>> {
    let bound = |part: usize| part * items.len() / parts;
    (0..parts).map(|part| items[bound(part)..bound(part + 1)].to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Fault, Lack, Scenario};

    /// Decides by looking at a case, without running it.
    struct Judge<F> {
        fails: F,
        runs: usize,
        budget: usize,
    }

    impl<F: Fn(&Case) -> Option<f64>> Oracle for Judge<F> {
        fn first_failing(&mut self, cases: &[Case]) -> Option<(usize, f64)> {
            let mut cases = cases.iter().enumerate();
            cases.find_map(|(index, case)| {
                self.runs += 1;
                (self.runs <= self.budget).then(|| (self.fails)(case)).flatten().map(|at| (index, at))
            })
        }

        fn progress(&mut self, case: &Case) {
            assert!((self.fails)(case).is_some(), "the smallest case breaks the promise at all times");
        }

        fn is_exhausted(&self) -> bool {
            self.runs >= self.budget
        }
    }

    fn chaos(seed: u64) -> Case {
        let text = include_str!("../scenarios/chaos.toml");
        Case::explicit(&Scenario::parse("chaos.toml", text).unwrap(), 25, seed, crate::NetworkKind::Events)
    }

    /// A seed with faults of the kinds that the tests need.
    fn chaos_with(wanted: fn(&Fault) -> bool) -> Case {
        let has = |case: &Case| case.scenario.faults.iter().filter(|fault| wanted(fault)).count() >= 2;
        (0..100).map(chaos).find(|case| has(case) && case.scenario.publish.list.len() >= 100).unwrap()
    }

    fn is_crash(fault: &Fault) -> bool {
        matches!(fault, Fault::Crash { .. })
    }

    #[test]
    fn what_does_not_matter_is_left_out() {
        let case = chaos_with(is_crash);
        let victim = case.scenario.faults.iter().find(|fault| is_crash(fault)).unwrap().named()[0];
        let author = case.scenario.publish.list[50].node;
        let author = if author == victim { (victim + 1) % 25 } else { author };
        // It fails as soon as a message of one node is published after a crash of the other.
        let fails = |case: &Case| {
            let scenario = &case.scenario;
            let crashed = scenario.faults.iter().filter(|fault| is_crash(fault) && !fault.named().is_empty());
            let crashed = crashed.map(|fault| fault.span().start).fold(f64::INFINITY, f64::min);
            let mut messages = scenario.publish.list.iter();
            messages.find(|message| message.at > crashed && message.at < scenario.seconds.0).map(|message| message.at)
        };
        let at = fails(&case).unwrap();
        let mut judge = Judge { fails, runs: 0, budget: 2000 };
        let small = shrink(case.clone(), at, &mut judge);
        let Scenario { faults, publish, calls, seconds, .. } = &small.scenario;
        assert_eq!((faults.len(), publish.list.len(), calls.list.len()), (1, 1, 0), "{author}");
        assert!(is_crash(&faults[0]) && faults[0].named().len() == 1 && publish.messages == 0);
        assert!((small.present().len(), small.nodes) <= (2, 2), "{small:?}");
        assert!(seconds.0 <= 6.0 && seconds.0 < case.scenario.seconds.0, "{seconds:?}");
        assert!(judge.runs < 1000, "{} runs", judge.runs);
    }

    #[test]
    fn two_faults_that_only_fail_together_stay() {
        let case = chaos_with(is_crash);
        let fails = |case: &Case| {
            let crashes = case.scenario.faults.iter().filter(|fault| is_crash(fault)).count();
            (crashes >= 2 && case.present().len() >= 3).then_some(case.scenario.seconds.0)
        };
        let small = shrink(case, 120.0, &mut Judge { fails, runs: 0, budget: 2000 });
        assert_eq!((small.scenario.faults.len(), small.present().len(), small.nodes), (2, 3, 3));
        assert!(small.scenario.publish.list.is_empty() && small.scenario.calls.list.is_empty());
    }

    #[test]
    fn a_node_with_two_processes_and_one_of_another_make_are_left_of_many() {
        let overlap = "[[faults]]\nkind = \"overlap\"\nfrom = 9\nuntil = 12\nnodes = 3\nends = \"crash\"\n";
        let text = format!(
            "{}[foreign]\nnodes = 4\n[[faults]]\nkind = \"latency\"\nfrom = 3\nuntil = 5\nadd_ms = 9\n",
            overlap.repeat(3)
        );
        let scenario = Scenario::parse("test.toml", &text).unwrap();
        let lacks_ping = |case: &Case| case.scenario.foreign.list.iter().any(|node| node.lacks.contains(&Lack::Ping));
        let case =
            (0..).map(|seed| Case::explicit(&scenario, 12, seed, crate::NetworkKind::Events)).find(lacks_ping).unwrap();
        let overlaps = |fault: &Fault| matches!(fault, Fault::Overlap { .. }) && !fault.named().is_empty();
        let fails = |case: &Case| (case.scenario.faults.iter().any(overlaps) && lacks_ping(case)).then_some(20.0);
        let small = shrink(case, 20.0, &mut Judge { fails, runs: 0, budget: 2000 });
        let Scenario { faults, foreign, publish, .. } = &small.scenario;
        assert_eq!((faults.len(), faults[0].named().len(), foreign.list.len(), publish.list.len()), (1, 1, 1, 0));
        assert_eq!(foreign.list[0].lacks, [Lack::Ping]);
        assert!(small.nodes <= 2, "{small:?}");
    }

    #[test]
    fn a_spent_budget_leaves_a_case_that_still_fails() {
        let case = chaos_with(is_crash);
        let fails = |case: &Case| case.scenario.faults.iter().any(is_crash).then_some(50.0);
        let mut judge = Judge { fails, runs: 0, budget: 3 };
        let small = shrink(case.clone(), 50.0, &mut judge);
        assert!(fails(&small).is_some() && small != case);
    }
}
