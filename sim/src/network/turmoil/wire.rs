//! What happens to data in flight between two homes?

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use turmoil::{LinkIter, Sim};

use crate::network::{CutId, Home, latency};
use crate::scenario::{Link, PartitionMode};

/// The links between all homes, as they should be and as turmoil has them.
pub(super) struct Wires {
    link: Link,
    seed: u64,
    homes: u32,
    slower: Duration,
    cuts: BTreeMap<CutId, (BTreeSet<Home>, BTreeSet<Home>, PartitionMode)>,
    /// Pairs that differ from their initial state. The smaller home comes first in a pair.
    troubled: BTreeMap<(Home, Home), Fates>,
    /// The times at which waiting data may continue, for the free direction of a pair that is held because of the other
    /// one.
    free: BTreeMap<(Home, Home), VecDeque<Duration>>,
    cuts_changed: bool,
    latency_changed: bool,
}

/// What happens to each direction: to data from the smaller home, and to data from the other.
type Fates = (Option<PartitionMode>, Option<PartitionMode>);

impl Wires {
    pub(super) fn new(homes: u32, link: Link, seed: u64) -> Self {
        Self {
            link,
            seed,
            homes,
            slower: Duration::ZERO,
            cuts: BTreeMap::new(),
            troubled: BTreeMap::new(),
            free: BTreeMap::new(),
            cuts_changed: false,
            latency_changed: true,
        }
    }

    pub(super) fn cut(&mut self, cut: CutId, from: BTreeSet<Home>, to: BTreeSet<Home>, mode: PartitionMode) {
        self.cuts.insert(cut, (from, to, mode));
        self.cuts_changed = true;
    }

    pub(super) fn heal(&mut self, cut: CutId) {
        self.cuts.remove(&cut);
        self.cuts_changed = true;
    }

    pub(super) fn slow_down(&mut self, more: Duration) {
        self.slower = more;
        self.latency_changed = true;
    }

    /// What happens to data from one home to another. Data within a home is never stopped.
    pub(super) fn fate(&self, from: Home, to: Home) -> Option<PartitionMode> {
        if from == to {
            return None;
        }
        let cuts = self.cuts.values().filter(|(here, there, _)| here.contains(&from) && there.contains(&to));
        let modes: Vec<_> = cuts.map(|(_, _, mode)| *mode).collect();
        match modes.contains(&PartitionMode::Reset) {
            true => Some(PartitionMode::Reset),
            false => modes.first().copied(),
        }
    }

    /// Sets turmoil's links to the state that they should have.
    pub(super) fn arrange(&mut self, sim: &Sim<'_>) {
        let (cuts_changed, latency_changed) = (self.cuts_changed, self.latency_changed);
        (self.cuts_changed, self.latency_changed) = (false, false);
        if !cuts_changed && !latency_changed {
            return;
        }
        for a in (0..self.homes).map(Home) {
            for b in (a.0 + 1..self.homes).map(Home) {
                if latency_changed {
                    let shortest = self.latency(a, b);
                    let jitter = Duration::from_secs_f64(self.link.jitter_ms / 1000.0);
                    sim.set_link_latency(a.ip(), b.ip(), shortest);
                    sim.set_link_max_message_latency(a.ip(), b.ip(), shortest + jitter);
                }
                if cuts_changed {
                    self.arrange_pair(sim, a, b);
                }
            }
        }
    }

    fn arrange_pair(&mut self, sim: &Sim<'_>, a: Home, b: Home) {
        let fates @ (there, back) = (self.fate(a, b), self.fate(b, a));
        if fates == self.troubled.get(&(a, b)).copied().unwrap_or_default() {
            return;
        }
        let hold = Some(PartitionMode::Hold);
        self.troubled.insert((a, b), fates);
        self.free.remove(&(a, b));
        self.free.remove(&(b, a));
        match there == hold || back == hold {
            true => sim.hold(a.ip(), b.ip()),
            false => sim.release(a.ip(), b.ip()),
        }
        for (fate, opposite, from, to) in [(there, back, a, b), (back, there, b, a)] {
            match fate {
                Some(PartitionMode::Reset) => sim.partition_oneway(from.ip(), to.ip()),
                None if opposite == hold => drop(self.free.insert((from, to), VecDeque::new())),
                _ => {}
            }
        }
    }

    /// Delivers the data that turmoil holds in a free direction, after its latency. Call this once after each step.
    pub(super) fn hand_on(&mut self, sim: &Sim<'_>) {
        if self.free.is_empty() {
            return;
        }
        let now = sim.elapsed();
        sim.links(|links| {
            for wire in links {
                let (Some(a), Some(b)) = (Home::at(wire.pair().0), Home::at(wire.pair().1)) else { continue };
                let delay = self.latency(a, b);
                for pair in [(a, b), (b, a)] {
                    if let Some(dues) = self.free.get_mut(&pair) {
                        hand_on_wire(wire, pair.0, dues, now, delay);
                        break;
                    }
                }
            }
        });
    }

    fn latency(&self, a: Home, b: Home) -> Duration {
        latency(&self.link, self.seed, a, b) + self.slower
    }
}

/// Keeps data on a link in order until the tick after its delivery.
fn hand_on_wire(wire: LinkIter<'_>, from: Home, dues: &mut VecDeque<Duration>, now: Duration, delay: Duration) {
    let sent = wire.filter(|sent| Home::at(sent.pair().0.ip()) == Some(from));
    let mut handed_on = 0;
    for (index, sent) in sent.enumerate() {
        if index == dues.len() {
            // No item overtakes another.
            dues.push_back(dues.back().copied().unwrap_or_default().max(now + delay));
        }
        if dues[index] <= now {
            sent.deliver();
            handed_on = index + 1;
        }
    }
    dues.drain(..handed_on);
}
