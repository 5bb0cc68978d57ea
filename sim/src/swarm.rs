//! What does a seed draw besides faults, so that seeds differ in kind? Swarm testing (Groce, Zhang, Eide, Chen, Regehr:
//! "Swarm Testing", ISSTA 2012): each run leaves some features out, so that those that are in meet more often.

use crate::NetworkKind;
use crate::random::{Random, mix};
use crate::scenario::{Fault, FaultKind, Hostile, Link, Publish, Scenario, SlowConsumers};

/// The most bytes that all messages of a run have, so that no run takes minutes.
const PUBLISHED_BYTES: usize = 4_000_000;

/// On slower links, and on those that lose bursts or doze, a mesh is not one when others are, and what is published earlier
/// reaches a part of it.
const SLOW_MS: f64 = 300.0;
const SLOW: [&str; 2] = ["wifi_busy", "wifi_power_save"];
/// The first nodes of a run start within this many seconds.
const STARTS_WITHIN: f64 = 2.0;

/// The concrete scenario of a seed: the same, unless it has `swarm = true`. The result has `swarm = false`.
///
/// Every promise is meant to hold in whatever it draws. What the scenario says about its length, about the times of calls
/// and faults, and about what is expected stays as it is.
pub fn draw(scenario: &Scenario, nodes: usize, seed: u64, network: NetworkKind) -> Scenario {
    let mut drawn = scenario.clone();
    if !scenario.swarm {
        return drawn;
    }
    drawn.swarm = false;
    let mut random = Random::new(mix(seed, 0x7377_6172));
    node(&mut drawn, &mut random);
    link(&mut drawn.link, network, &mut random);
    publish(&mut drawn.publish, &mut random);
    if drawn.link.latency_max_ms >= SLOW_MS || drawn.link.profiles.iter().any(|name| SLOW.contains(&name.as_str())) {
        drawn.publish.from = drawn.publish.from.max(drawn.expect.form_within + STARTS_WITHIN);
    }
    calls(&mut drawn, &mut random);
    if !drawn.link.profiles.is_empty() {
        modest(&mut drawn);
    }
    slow_consumers(&mut drawn.slow_consumers, nodes, &mut random);
    hostile(&mut drawn.hostile, drawn.node.max_peers, &mut random);
    drawn.faults.iter_mut().for_each(|fault| chaos(fault, &mut random));
    drawn.node.datagrams = is_on(&mut random, 3, 4);
    drawn
}

fn node(scenario: &mut Scenario, random: &mut Random) {
    let node = &mut scenario.node;
    node.kad = is_on(random, 3, 4);
    node.private = is_on(random, 1, 3);
    node.max_peers = one_of(random, &[6, 7, 8, 10, 12, 50]);
    node.max_audio_streams = one_of(random, &[1, 2, 10, 64]);
    node.event_queue = one_of(random, &[16, 128, 1024]);
    scenario.topology.lan = is_on(random, 1, 4);
    scenario.topology.bootstrap = match (scenario.topology.lan, node.kad) {
        (true, _) => 0,
        // With fewer than eight places, each must know two others (`AviP2pConfig::max_peers`).
        (false, true) => one_of(random, &[1, 2, 3]).max(1 + usize::from(node.max_peers < 8)),
        // Without Kademlia, a node meets nobody but those that it knows, and they need places for all that know them.
        (false, false) => {
            node.max_peers = 50;
            one_of(random, &[2, 3, 4])
        }
    };
}

fn link(link: &mut Link, network: NetworkKind, random: &mut Random) {
    (link.latency_min_ms, link.latency_max_ms) =
        one_of(random, &[(0.2, 2.0), (2.0, 40.0), (2.0, 40.0), (20.0, 150.0), (100.0, 300.0)]);
    link.jitter_ms = one_of(random, &[0.0, 2.0, 20.0, 100.0]);
    // The only place where profiles are drawn. Those on which a promise is known not to hold are not among them.
    let profiles: &[&str] = one_of(
        random,
        &[
            &[],
            &[],
            &["lan"],
            &["wifi"],
            &["lan", "wifi"],
            &["dsl"],
            &["wifi", "dsl"],
            &["wifi_busy"],
            &["lan", "wifi_power_save"],
        ],
    );
    if network == NetworkKind::Events {
        link.profiles = profiles.iter().map(ToString::to_string).collect();
    }
}

/// Traffic that links with a bound on their rate can carry within the promised times.
fn modest(scenario: &mut Scenario) {
    let Scenario { publish, calls, .. } = scenario;
    publish.bytes = publish.bytes.min(1000);
    publish.messages = publish.messages.min(100);
    calls.count = calls.count.min(12);
    calls.frame_bytes = calls.frame_bytes.min(160);
}

fn publish(publish: &mut Publish, random: &mut Random) {
    publish.topics = one_of(random, &[1, 1, 2, 5]);
    publish.bytes = one_of(random, &[16, 64, 64, 1000, 16_000, 60_000]);
    publish.messages = one_of(random, &[20, 100, 200, 400]).min(PUBLISHED_BYTES / publish.bytes);
}

fn calls(scenario: &mut Scenario, random: &mut Random) {
    let calls = &mut scenario.calls;
    calls.count = one_of(random, &[0, 3, 12, 24]);
    calls.seconds = one_of(random, &[1.0, 8.0, 20.0_f64]).min(scenario.seconds.0);
    calls.frame_ms = one_of(random, &[10, 20, 60]);
    calls.frame_bytes = one_of(random, &[16, 160, 160, 1200]);
}

/// None in every second run; else at most an eighth of the nodes.
fn slow_consumers(slow: &mut SlowConsumers, nodes: usize, random: &mut Random) {
    let most = if is_on(random, 1, 2) { nodes / 8 } else { 0 };
    slow.count = if most > 0 { 1 + random.below(most) } else { 0 };
    slow.event_ms = one_of(random, &[0, 5, 50]);
}

/// One kind, in every fourth run. Sybils never fill all places of a node: nothing tells them from others.
fn hostile(hostile: &mut Hostile, max_peers: usize, random: &mut Random) {
    let count = 1 + random.below(3);
    let (kind, comes) = (random.below(4), is_on(random, 1, 4));
    if comes {
        match kind {
            0 => hostile.garbage = count,
            1 => hostile.dial_storm = count,
            2 => hostile.stream_flood = 1,
            _ => hostile.sybils = (5 * count).min(max_peers / 2),
        }
    }
}

/// How many faults, and of which kinds: each is in with one half, and at least one is.
fn chaos(fault: &mut Fault, random: &mut Random) {
    let Fault::Chaos { count, kinds, .. } = fault else { return };
    *count = one_of(random, &[1, 4, 8, 8, 16]);
    *kinds = FaultKind::ALL.into_iter().filter(|_| is_on(random, 1, 2)).collect();
    if kinds.is_empty() {
        kinds.push(one_of(random, &FaultKind::ALL));
    }
}

/// True so often of so many.
fn is_on(random: &mut Random, often: usize, of: usize) -> bool {
    random.below(of) < often
}

fn one_of<T: Copy>(random: &mut Random, values: &[T]) -> T {
    values[random.below(values.len())]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CHAOS: &str = include_str!("../scenarios/chaos.toml");

    #[test]
    fn every_draw_is_a_valid_scenario_and_seeds_differ_in_kind() {
        let scenario = Scenario::parse("chaos.toml", CHAOS).unwrap();
        let mut seen = BTreeSet::new();
        for seed in 0..1000 {
            let drawn = draw(&scenario, 25, seed, NetworkKind::Events);
            assert_eq!(drawn, draw(&scenario, 25, seed, NetworkKind::Events));
            assert!(!drawn.swarm && drawn.seconds == scenario.seconds && drawn.expect == scenario.expect);
            let text = drawn.to_toml();
            Scenario::parse("drawn.toml", &text).unwrap();
            seen.insert(text);
        }
        assert!(seen.len() > 990, "{} of 1000 are different", seen.len());
    }

    #[test]
    fn every_feature_is_on_in_some_runs_and_off_in_others() {
        let scenario = Scenario::parse("chaos.toml", CHAOS).unwrap();
        let drawn: Vec<_> = (0..200).map(|seed| draw(&scenario, 25, seed, NetworkKind::Events)).collect();
        type Feature = (&'static str, fn(&Scenario) -> bool);
        let features: [Feature; 10] = [
            ("kad", |drawn| drawn.node.kad),
            ("datagrams", |drawn| drawn.node.datagrams),
            ("private", |drawn| drawn.node.private),
            ("lan", |drawn| drawn.topology.lan),
            ("profiles", |drawn| !drawn.link.profiles.is_empty()),
            ("calls", |drawn| drawn.calls.count > 0),
            ("slow", |drawn| drawn.slow_consumers.count > 0),
            ("hostile", |drawn| drawn.hostile.count() > 0),
            ("large", |drawn| drawn.publish.bytes > 1000),
            ("crash", |drawn| {
                drawn
                    .faults
                    .iter()
                    .any(|fault| matches!(fault, Fault::Chaos { kinds, .. } if kinds.contains(&FaultKind::Crash)))
            }),
        ];
        for (name, is_on) in features {
            let on = drawn.iter().filter(|drawn| is_on(drawn)).count();
            assert!((10..190).contains(&on), "{name} is on in {on} of 200");
        }
    }

    #[test]
    fn what_turmoil_lacks_is_not_drawn_for_it() {
        let scenario = Scenario::parse("chaos.toml", CHAOS).unwrap();
        for seed in 0..100 {
            let drawn = draw(&scenario, 25, seed, NetworkKind::Turmoil);
            assert_eq!(NetworkKind::Turmoil.supports(&drawn, 25), Ok(()));
        }
    }

    #[test]
    fn a_scenario_without_swarm_stays_as_it_is() {
        let scenario = Scenario::parse("churn.toml", include_str!("../scenarios/churn.toml")).unwrap();
        assert_eq!(draw(&scenario, 25, 1, NetworkKind::Events), scenario);
    }
}
