//! What happens to data in flight between two turmoil hosts?

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use turmoil::{LinkIter, Sim};

use crate::network::{CutId, Group, Host, latency};
use crate::scenario::{Link, PartitionMode};

/// The links between all hosts, as they should be and as turmoil has them.
pub(super) struct Wires {
    link: Link,
    seed: u64,
    hosts: u32,
    slower: Duration,
    cuts: BTreeMap<CutId, (Group, Group, PartitionMode)>,
    /// Pairs that differ from their initial state. The smaller host comes first in a pair.
    troubled: BTreeMap<(Host, Host), Fates>,
    /// The times at which waiting data may continue, for the free direction of a pair that is held because of the other
    /// one.
    free: BTreeMap<(Host, Host), VecDeque<Duration>>,
    cuts_changed: bool,
    latency_changed: bool,
}

/// What happens to each direction: to data from the smaller host, and to data from the other.
type Fates = (Option<PartitionMode>, Option<PartitionMode>);

impl Wires {
    pub(super) fn new(hosts: usize, link: Link, seed: u64) -> Self {
        Self {
            link,
            seed,
            hosts: hosts as u32,
            slower: Duration::ZERO,
            cuts: BTreeMap::new(),
            troubled: BTreeMap::new(),
            free: BTreeMap::new(),
            cuts_changed: false,
            latency_changed: true,
        }
    }

    pub(super) fn cut(&mut self, cut: CutId, from: Group, to: Group, mode: PartitionMode) {
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

    /// What happens to data from one host to another.
    pub(super) fn fate(&self, from: Host, to: Host) -> Option<PartitionMode> {
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
        for a in (0..self.hosts).map(Host) {
            for b in (a.0 + 1..self.hosts).map(Host) {
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

    fn arrange_pair(&mut self, sim: &Sim<'_>, a: Host, b: Host) {
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
                let (Some(a), Some(b)) = (Host::of(wire.pair().0), Host::of(wire.pair().1)) else { continue };
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

    fn latency(&self, a: Host, b: Host) -> Duration {
        latency(&self.link, self.seed, a, b) + self.slower
    }
}

/// Keeps data on a link in order until the tick after its delivery.
fn hand_on_wire(wire: LinkIter<'_>, from: Host, dues: &mut VecDeque<Duration>, now: Duration, delay: Duration) {
    let sent = wire.filter(|sent| Host::of(sent.pair().0.ip()) == Some(from));
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
