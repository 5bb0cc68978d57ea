//! The invariants of a whole run: delivery, healing, calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ledger::{HostRecord, Ledger};
use crate::network::Host;
use crate::plan::{Action, Overlap, Plan, Trouble};
use crate::scenario::{Ending, Expect};

/// How long before a message a node must have had a peer to count as connected. By then its subscriptions are known.
const KNOWN: Duration = Duration::from_secs(3);
/// How long before a message a restarted node must have been up.
const SETTLED: Duration = Duration::from_secs(8);
/// How long connected peers may take to detect a crash.
const NOTICED: Duration = Duration::from_secs(15);

/// The longest outage that no connection notices: a peer is given up after 14 s of silence, and may have sent its last
/// ping 5 s before the outage.
const SURVIVED: Duration = Duration::from_secs(8);
/// How long a node may have more connections than peers: so long two dials may cross, and a closing may take.
const DOUBLED: Duration = Duration::from_secs(5);

/// Messages younger than this at the end of a run may still arrive.
const OVERDUE: Duration = Duration::from_secs(20);

/// A check that is made at a certain time.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// Whether a message has reached every node that it should.
    Delivery {
        /// The number of the message.
        message: u64,
    },
    /// Whether the mesh has formed.
    Formation,
    /// Whether the mesh is connected again.
    Healing,
    /// Whether nodes have one connection a peer again.
    Single,
    /// Whether a late node has enough peers.
    Join {
        /// The late node.
        node: Host,
    },
    /// Whether all peers of a node know that its host has lost power.
    Notice {
        /// The node whose host lost power.
        node: Host,
        /// The time of the crash.
        crashed_at: Duration,
    },
}

/// The checks and their times. There are none while another fault would disturb them.
pub fn checks(plan: &Plan, expect: &Expect) -> Vec<(Duration, Check)> {
    let heal = secs(expect.heal_within);
    let deliver = secs(expect.deliver_within);
    let is_calm = |from: Duration, until: Duration| is_calm(plan, from, until, |_| false);
    let mut checks = Vec::new();
    for (at, action) in &plan.actions {
        if let Action::Publish { message, node, .. } = action
            && *at + deliver <= plan.end
            && self::is_calm(plan, at.saturating_sub(heal), *at + deliver, |trouble| {
                // A node that publishes and shuts down at once: the message still reaches its peers.
                trouble.from == *at
                    && !trouble.delays
                    && leaves_at(plan, *node, *at)
                    && !plan.foreign.contains_key(node)
            })
        {
            checks.push((*at + deliver, Check::Delivery { message: *message }));
        }
    }
    let early = plan.first_start[..plan.late.start as usize].iter().max().copied().unwrap_or_default();
    let formed = early + secs(expect.form_within);
    let is_peaceful = plan.honest == plan.nodes && plan.sybils.is_empty() && plan.outsiders.is_empty();
    if is_peaceful && formed <= plan.end && is_calm(Duration::ZERO, formed) {
        checks.push((formed, Check::Formation));
    }
    // Those that come late, and the neighbours of hostile ones, have the same time as a mesh has to heal.
    let formed = plan.first_start.last().copied().unwrap_or_default() + heal;
    if formed <= plan.end && is_calm(Duration::ZERO, formed) {
        checks.push((formed, Check::Healing));
    }
    for trouble in &plan.troubles {
        let at = trouble.until + heal;
        if at <= plan.end && is_calm(trouble.until + Duration::from_nanos(1), at) {
            checks.push((at, Check::Healing));
        }
    }
    for Overlap { until, .. } in &plan.overlaps {
        let at = *until + heal;
        if at <= plan.end && is_calm(*until + Duration::from_nanos(1), at) {
            checks.push((at, Check::Single));
        }
    }
    for node in plan.late.clone().map(Host) {
        let at = plan.first_start[node.0 as usize] + secs(expect.join_within);
        if at <= plan.end && is_calm(at.saturating_sub(heal), at) && !plan.foreign.contains_key(&node) {
            checks.push((at, Check::Join { node }));
        }
    }
    checks.extend(notices(plan));
    checks.sort_by_key(|(at, _)| *at);
    checks
}

/// Whether there is no trouble at that time, but what does not count.
fn is_calm(plan: &Plan, from: Duration, until: Duration, does_not_count: impl Fn(&Trouble) -> bool) -> bool {
    let is_away = |trouble: &Trouble| trouble.until < from || trouble.from > until;
    plan.troubles.iter().all(|trouble| is_away(trouble) || does_not_count(trouble))
}

fn leaves_at(plan: &Plan, node: Host, at: Duration) -> bool {
    plan.actions.iter().any(|(left, action)| *left == at && matches!(action, Action::Leave(host) if *host == node))
}

/// Crashes are checked only if the node stays away long enough, and nothing delays the answer to a ping for long.
fn notices(plan: &Plan) -> Vec<(Duration, Check)> {
    let mut notices = Vec::new();
    for (crashed_at, action) in &plan.actions {
        let Action::Crash(node) = action else { continue };
        let (node, crashed_at, at) = (*node, *crashed_at, *crashed_at + NOTICED);
        let returns = plan.actions.iter().any(|(start, action)| {
            matches!(action, Action::Start(host) if *host == node) && (crashed_at..=at).contains(start)
        });
        // Another process of the node is a peer as well.
        let is_double = plan
            .overlaps
            .iter()
            .any(|overlap| overlap.node == node && overlap.from <= at && overlap.until >= crashed_at);
        let begin = crashed_at.saturating_sub(NOTICED);
        let is_delayed =
            plan.troubles.iter().any(|trouble| trouble.delays && trouble.until >= begin && trouble.from <= at);
        if at <= plan.end && !returns && !is_double && !is_delayed {
            notices.push((at, Check::Notice { node, crashed_at }));
        }
    }
    notices
}

/// Whether no node may be given up as silent: none loses power, and no outage lasts for long. After an outage, TCP may
/// wait once more as long before it tries again: one that begins meanwhile counts as the same.
pub fn loses_nobody(plan: &Plan) -> bool {
    let mut troubles: Vec<_> = plan.troubles.iter().map(|trouble| (trouble.from, trouble.until)).collect();
    troubles.sort();
    let mut outage: Option<(Duration, Duration)> = None;
    let is_short = troubles.into_iter().all(|(from, until)| {
        let (begin, end) = outage
            .filter(|(begin, end)| from <= *end + (*end - *begin))
            .map_or((from, until), |(begin, end)| (begin, end.max(until)));
        outage = Some((begin, end));
        end - begin < SURVIVED
    });
    let loses_power = |action: &Action| matches!(action, Action::Crash(_) | Action::Retire { ends: Ending::Crash, .. });
    is_short && !plan.actions.iter().any(|(_, action)| loses_power(action))
}

/// Makes a check.
pub fn check(ledger: &mut Ledger, plan: &Plan, now: Duration, check: Check) {
    match check {
        Check::Delivery { message } => delivery(ledger, plan, now, message),
        Check::Formation => is_one(ledger, plan.late.start, "the mesh is one soon after the start"),
        Check::Healing => is_one(ledger, plan.nodes as u32, "the mesh is one again after the last fault"),
        Check::Single => single(ledger, plan, now),
        Check::Join { node } => join(ledger, plan, now, node),
        Check::Notice { node, crashed_at } => notice(ledger, plan, node, crashed_at),
    }
}

fn join(ledger: &mut Ledger, plan: &Plan, now: Duration, node: Host) {
    // The node may disconnect a peer again a moment later.
    if ledger.joins.get(&node).is_none_or(|join| join.peered_after.is_none()) {
        let peers = ledger.hosts.get(&node).map_or(0, |record| record.connected.len());
        let due = ledger.rules.enough_peers;
        let after = now.saturating_sub(plan.first_start[node.0 as usize]);
        let detail = format!("{after:?} after its start it has {peers} peers, {due} are due");
        ledger.violate("who comes late finds peers", node, detail);
    }
}

fn single(ledger: &mut Ledger, plan: &Plan, now: Duration) {
    let is_doubled = |record: &HostRecord| record.doubled_since.is_some_and(|since| since + DOUBLED <= now);
    let honest = ledger.hosts.range(..Host(plan.honest as u32));
    let mut up = honest.filter(|(host, record)| record.up_since.is_some() && !plan.foreign.contains_key(host));
    let doubled = up.find(|(_, record)| is_doubled(record)).map(|(host, record)| (*host, record.stats.clone()));
    if let Some((host, stats)) = doubled {
        let open = stats.connections_opened.saturating_sub(stats.connections_closed);
        let detail = format!("{open} connections to {} peers", stats.peers_connected);
        ledger.violate("after a node had two processes, a peer has one connection", host, detail);
    }
}

fn notice(ledger: &mut Ledger, plan: &Plan, node: Host, crashed_at: Duration) {
    let is_unaware = |record: &HostRecord| {
        let peers = record.connected.iter();
        record.up_since.is_some()
            && peers.filter(|(_, since)| **since <= crashed_at).any(|(peer, _)| ledger.host_of(peer) == Some(node))
    };
    let honest = (0..plan.honest as u32).map(Host).filter(|host| !plan.slow.contains(host));
    let mut unaware = honest.filter(|host| ledger.hosts.get(host).is_some_and(is_unaware));
    if let Some(host) = unaware.next() {
        let detail = format!("node {} lost power at {crashed_at:?} and is still a peer", node.0);
        ledger.violate("a crash is noticed within 15 s", host, detail);
    }
}

fn delivery(ledger: &mut Ledger, plan: &Plan, now: Duration, name: u64) {
    let Some(message) = ledger.messages.get(&name).filter(|message| !message.was_refused) else { return };
    let missing = expected(ledger, plan, message.author, message.at);
    let missing: Vec<_> = missing.into_iter().filter(|host| !message.has_reached(*host)).collect();
    if let Some(first) = missing.first() {
        let (author, at) = (message.author.0, message.at);
        let some: Vec<_> = missing.iter().take(10).map(|host| host.0).collect();
        let detail = format!(
            "message {name} of node {author}, published at {at:?} in calm times, has not reached {} nodes within {:?}: {some:?}",
            missing.len(),
            now.saturating_sub(at),
        );
        ledger.violate("a message reaches every connected subscriber", *first, detail);
    }
}

/// The nodes that must receive a message published at that time, in calm times.
pub fn expected(ledger: &Ledger, plan: &Plan, author: Host, at: Duration) -> Vec<Host> {
    let settled = |host: Host, since: Duration| {
        // At the very start of a run, publishing begins when the scenario says that the mesh is formed.
        let is_first = plan.first_start.get(host.0 as usize).is_some_and(|first| since <= *first + SETTLED);
        since + SETTLED <= at || is_first && since <= at
    };
    let honest = (0..plan.honest as u32).map(Host).filter(|host| *host != author && !plan.slow.contains(host));
    honest
        .filter(|host| {
            let record = ledger.hosts.get(host);
            let is_known = |since: Duration| since + KNOWN <= at;
            record.and_then(|record| record.up_since).is_some_and(|since| settled(*host, since))
                && record.and_then(|record| record.connected_since).is_some_and(is_known)
                && record.and_then(|record| record.subscribed_since).is_some_and(is_known)
        })
        .collect()
}

/// Whether the first `nodes` nodes, as far as they are up, are connected with each other.
fn is_one(ledger: &mut Ledger, nodes: u32, invariant: &str) {
    let groups = groups(ledger, (0..nodes).map(Host));
    let up: usize = groups.iter().map(Vec::len).sum();
    if let [first, second, ..] = groups.as_slice() {
        let detail = format!("{} of {up} nodes are in one mesh, this one is not", first.len());
        ledger.violate(invariant, second[0], detail);
    }
}

/// Those of the nodes that are up, in groups that are connected among themselves. Each is in order, as the groups are by
/// their first node.
fn groups(ledger: &Ledger, nodes: impl Iterator<Item = Host>) -> Vec<Vec<Host>> {
    let is_up = |host: &Host| ledger.hosts.get(host).is_some_and(|record| record.up_since.is_some());
    let mut apart: BTreeSet<Host> = nodes.filter(is_up).collect();
    let mut links: BTreeMap<Host, Vec<Host>> = BTreeMap::new();
    for host in &apart {
        for peer in ledger.hosts[host].peers.iter().filter_map(|peer| ledger.host_of(peer)) {
            links.entry(*host).or_default().push(peer);
            links.entry(peer).or_default().push(*host);
        }
    }
    let mut groups = Vec::new();
    while let Some(first) = apart.pop_first() {
        let (mut group, mut next) = (vec![first], vec![first]);
        while let Some(host) = next.pop() {
            let found: Vec<_> =
                links.get(&host).into_iter().flatten().filter(|peer| apart.remove(peer)).copied().collect();
            group.extend(&found);
            next.extend(found);
        }
        group.sort();
        groups.push(group);
    }
    groups
}

/// At the end of a run: no stream is left, and every sent message and frame is accounted for.
pub fn at_the_end(ledger: &mut Ledger, plan: &Plan) {
    let quiet = plan.troubles.is_empty() && plan.slow.is_empty() && plan.honest == plan.nodes;
    let doubles = ledger.rules.doubles();
    let mut own = ledger.hosts.iter().filter(|(host, _)| !plan.foreign.contains_key(host));
    let doubled = own.find_map(|(host, record)| {
        let open = record.stats.connections_opened.saturating_sub(record.stats.connections_closed);
        // One more connection may be closing.
        let spare = doubles + 1 + record.stats.retired_connections;
        (open > record.stats.peers_connected + spare).then_some((*host, open, record.stats.peers_connected))
    });
    if let Some((host, open, peers)) = doubled.filter(|_| quiet) {
        let detail = format!("{open} connections to {peers} peers");
        ledger.violate("simultaneous dials end in one connection", host, detail);
    }
    let left = ledger.streams.iter().find(|(_, stream)| !stream.is_closed).map(|(key, _)| *key);
    if let Some(key) = left.filter(|_| quiet) {
        ledger.violate("a stream that was asked for ends", key.host, format!("stream {}", key.stream));
    }
    if quiet {
        told(ledger, plan);
    }
    context(ledger, plan);
    let (sent, seen) = (ledger.audio.sent, ledger.audio.received + ledger.audio.missing);
    if quiet && sent != seen {
        let detail = format!("{sent} frames were sent, {seen} arrived or were reported missing");
        ledger.violate("every frame arrives or is reported missing", Host(0), detail);
    }
}

/// Every message that the library took has arrived, or its loss was told: to the author as `PublishExpired`, to the
/// application that was too slow as `Lagged`, or in the counter of messages that a peer's queue had no place for.
fn told(ledger: &mut Ledger, plan: &Plan) {
    let due = plan.end.saturating_sub(OVERDUE);
    let messages = ledger.messages.values().filter(|message| !message.was_refused && message.at <= due);
    let missing = messages.map(|message| {
        let receivers = expected(ledger, plan, message.author, message.at);
        receivers.iter().filter(|host| !message.has_reached(**host)).count() as u64
    });
    let missing: u64 = missing.sum();
    let dropped = |record: &HostRecord| record.stats.slow_peer_drops + record.stats.events_dropped_messages;
    let others = plan.honest as u64 - 1;
    let told = ledger.expired * others + ledger.hosts.values().map(dropped).sum::<u64>();
    if missing > told {
        let detail = format!("{missing} deliveries are missing, {told} were told lost");
        ledger.violate("a message that was taken arrives, or is told lost", Host(0), detail);
    }
}

/// All nodes that can reach each other have the same in the shared context, and of what one node alone writes, what it wrote
/// last.
fn context(ledger: &mut Ledger, plan: &Plan) {
    let honest = (0..plan.honest as u32).map(Host).filter(|host| !plan.foreign.contains_key(host));
    let with_run = |host: Host| (host, ledger.generation(host));
    let groups: Vec<Vec<_>> =
        groups(ledger, honest).into_iter().map(|group| group.into_iter().map(with_run).collect()).collect();
    for (invariant, host, detail) in ledger.context.faults(&groups) {
        ledger.violate(invariant, host, detail);
    }
}

fn secs(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
