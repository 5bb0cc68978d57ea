//! Does a mesh keep its promises at relevant sizes? Each run has its own process, and checks every invariant.

use std::fs;
use std::path::Path;
use std::process::Command;

use avi_sim::report::Report;

/// What each scenario is there for: the situations that its runs here must reach.
const REACHED: [(&str, &str); 15] = [
    ("quiet", "newcomer_refused,peer_pruned,walk_found_peers"),
    (
        "join",
        "bootstrap_failed,dial_refused,dial_retried,duplicate_closed,newcomer_refused,peer_pruned,walk_found_peers",
    ),
    ("churn", "connection_stuck,dial_retried,message_may_be_lost,peer_pruned,peer_silent"),
    ("moves", "connection_stuck,dial_retried,message_may_be_lost,peer_silent"),
    ("sybils", "bootstrap_failed,call_to_datagrams,newcomer_refused,peer_pruned"),
    ("restart", "connection_retired,message_may_be_lost,walk_found_peers"),
    ("restart_young", "connection_retired,message_may_be_lost"),
    ("resubscribe", "newcomer_refused,peer_pruned,walk_found_peers"),
    ("farewell", "bootstrap_failed,dial_retried,walk_found_peers"),
    ("overlap", "connection_retired,message_may_be_lost,peer_doubled"),
    ("overlap_crash", "connection_retired,message_may_be_lost,peer_doubled"),
    ("mixed", "walk_found_peers"),
    ("partition", "connection_retired,connection_stuck,peer_silent,retired_delivered"),
    ("slow_consumers", "reader_lagged_messages"),
    ("context", "context_differed,context_same"),
];

fn report(scenario: &str, nodes: usize) -> Report {
    report_of(scenario, nodes, 1)
}

fn report_of(scenario: &str, nodes: usize, seed: u64) -> Report {
    let name = Path::new(scenario).file_stem().unwrap().to_str().unwrap();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mesh-{name}-{nodes}-{seed}.json"));
    let reached = REACHED.iter().find(|(name, _)| *name == scenario).map(|(_, names)| ["--expect", names]);
    let output = Command::new(env!("CARGO_BIN_EXE_avi-sim"))
        .args(["run", scenario, "--nodes", &nodes.to_string(), "--seed", &seed.to_string(), "--json"])
        .arg(&file)
        .args(reached.into_iter().flatten())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn written(name: &str, text: &str) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn the_connections_of_a_node_depend_on_max_peers_and_not_on_the_size_of_the_mesh() {
    let [small, large] = [25, 200].map(|nodes| report("quiet", nodes).connections);
    for connections in [&small, &large] {
        assert!(connections.of_a_node.max <= 8.0 && connections.degree.max <= 8.0, "{connections:?}");
    }
    let (few, many) = (small.of_a_node.mean, large.of_a_node.mean);
    assert!((many / few - 1.0).abs() <= 0.15, "{few} connections a node among 25, {many} among 200");
}

#[test]
fn whoever_finds_its_bootstrap_peers_full_is_in_the_mesh_within_seconds() {
    let early = written("early.toml", "seconds = 20\n[publish]\nmessages = 40\nfrom = 8\nuntil = 14\n");
    // In each of these runs one or two nodes find all nodes that they know full, again and again.
    for seed in [1219, 1463, 1593] {
        let messages = report_of(&early, 25, seed).messages;
        assert_eq!(messages.delivered, messages.possible, "seed {seed}");
    }
}

#[test]
fn nodes_of_few_places_leave_nobody_out() {
    let few = written("few.toml", "seconds = 30\n[node]\nmax_peers = 6\n[publish]\nfrom = 12\n");
    for seed in [2, 3, 4] {
        let messages = report_of(&few, 25, seed).messages;
        assert_eq!(messages.delivered, messages.possible, "seed {seed}");
    }
}

#[test]
fn a_node_that_comes_late_finds_the_mesh_and_hears_of_most_of_it() {
    let report = report("join", 200);
    assert_eq!(report.joins.nodes, 1);
    assert!(report.joins.peered_ms.count == 1 && report.joins.peered_ms.max <= 10_000.0, "{:?}", report.joins);
    assert!(report.joins.found.p50 >= 25.0 && report.joins.heard.p50 >= 0.6, "{:?}", report.joins);
}

#[test]
fn a_crash_is_silent_and_noticed_within_15_s() {
    let noticed = report("churn", 25).connections.noticed_ms;
    assert!(noticed.count > 0 && noticed.p50 >= 1_000.0 && noticed.max <= 15_000.0, "{noticed:?}");
}

#[test]
fn a_node_that_comes_back_with_another_address_is_in_the_mesh_again() {
    report("moves", 25);
}

#[test]
fn what_halves_slow_readers_and_shared_values_are_for_is_reached() {
    for (scenario, nodes) in [("partition", 12), ("slow_consumers", 25), ("context", 12)] {
        report(scenario, nodes);
    }
}

#[test]
fn tombstones_are_dropped_when_their_time_is_over_and_all_nodes_have_the_same() {
    let lasting = "seconds = 170\n[context]\nwrites = 100\nfrom = 8\nuntil = 30\ntombstone_lifetime = 60\n";
    let report = report(&written("tombstones.toml", lasting), 8);
    assert!(report.situations["context_expired"] > 0, "{:?}", report.situations);
}

#[test]
fn a_situation_that_is_never_reached_fails_a_run_and_a_sweep() {
    let sim = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_avi-sim")).args(arguments).output().unwrap();
    let short = written("short.toml", "seconds = 12\n");
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mesh-sweep.json");
    let expect = |names: &str| {
        let sweep =
            ["sweep", &short, "--nodes", "5", "--seeds", "0..3", "--json", json.to_str().unwrap(), "--expect", names];
        (sim(&["run", &short, "--nodes", "5", "--expect", names]), sim(&sweep))
    };
    let (run, sweep) = expect("walk_found_peers");
    assert!(run.status.success() && sweep.status.success(), "{}", String::from_utf8_lossy(&sweep.stdout));
    let counts: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let walks = &counts["situations"]["walk_found_peers"];
    assert!(walks["seeds"] == 3 && walks["times"].as_u64().unwrap() >= 3, "{counts}");
    assert_eq!(counts["situations"]["peer_banned"]["times"], 0);
    let (run, sweep) = expect("walk_found_peers,peer_banned");
    for output in [run, sweep] {
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.contains("NEVER REACHED: peer_banned: A peer was banned.") && said.contains("walk_found_peers"),
            "{said}"
        );
    }
    let (run, sweep) = expect("peer_blessed");
    for output in [run, sweep] {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains("peer_blessed") && said.contains("no situation"),
            "{said}"
        );
    }
}

#[test]
fn sybils_cost_their_victim_neither_its_calls_nor_the_mesh() {
    let report = report("sybils", 50);
    assert_eq!((report.audio.calls, report.audio.failed), (6, 0));
    assert_eq!(report.messages.delivered, report.messages.possible);
}

#[test]
fn a_storm_of_dials_costs_no_delivery() {
    let storm = "seconds = 30\n[hostile]\ngarbage = 20\ndial_storm = 20\n";
    let report = report(&written("storm.toml", storm), 100);
    assert_eq!(report.messages.delivered, report.messages.possible);
}

#[test]
fn a_node_that_restarts_before_anybody_notices_is_in_the_mesh_again() {
    report("restart", 25);
}

#[test]
fn a_node_that_restarts_while_its_connections_are_young_is_in_the_mesh_again() {
    for seed in 1..4 {
        let report = report_of("restart_young", 12, seed);
        assert!(report.violation.is_none(), "seed {seed}: {:?}", report.violation);
    }
}

#[test]
fn who_subscribes_again_gets_messages_again() {
    report("resubscribe", 25);
}

#[test]
fn a_message_that_finds_no_subscriber_is_held_and_expires() {
    let text = "seconds = 50\n[publish]\nmessages = 5\nfrom = 15\nuntil = 20\n\
        [[faults]]\nkind = \"unsubscribe\"\nfrom = 10\nuntil = 45\nnodes = 5\n";
    let report = report_of(&written("expired.toml", text), 5, 1);
    assert!(report.situations["message_expired"] > 0 && report.messages.delivered == 0, "{:?}", report.messages);
}

#[test]
fn who_leaves_a_topic_and_returns_gets_and_relays_messages_at_once() {
    // Three nodes in a line: nothing finds a way round. GossipSub's backoff is 10 s, with a heartbeat of slack.
    for pause in [0.2, 2.0, 10.5, 15.0, 30.0] {
        for node in 0..3 {
            let scenario = format!(
                "seconds = {}\n[expect]\ndeliver_within = 0.3\n[node]\nkad = false\n[topology]\nbootstrap = 1\n\
                [publish]\nmessages = 200\nfrom = {}\n\
                [[faults]]\nkind = \"unsubscribe\"\nfrom = 20\nuntil = {}\nnodes = [{node}]\n",
                pause + 40.0,
                pause + 20.3,
                pause + 20.0,
            );
            let file = written(&format!("return-{pause}-{node}.toml"), &scenario);
            for seed in 0..3 {
                let report = report_of(&file, 3, seed);
                assert!(report.violation.is_none(), "node {node} for {pause} s, seed {seed}: {:?}", report.violation);
            }
        }
    }
}

#[test]
fn messages_published_just_before_a_shutdown_arrive() {
    report("farewell", 25);
}

#[test]
fn of_two_processes_with_one_key_the_one_that_stays_is_in_the_mesh() {
    report("overlap", 25);
    report("overlap_crash", 25);
}

#[test]
fn a_node_with_the_higher_id_than_its_neighbours_is_in_the_mesh_again_after_two_processes() {
    let overlap = "seconds = 62\n[node]\nkad = false\n[topology]\nbootstrap = 1\n[publish]\nmessages = 200\nfrom = 8\n\
        [[faults]]\nkind = \"overlap\"\nfrom = 20\nuntil = 23\nnodes = 3\nid = \"higher\"\n";
    for ends in ["leave", "crash"] {
        let scenario = written(&format!("higher-{ends}.toml"), &format!("{overlap}ends = \"{ends}\"\n"));
        let report = report_of(&scenario, 12, 1);
        assert!(report.violation.is_none() && report.troubles[0].what.starts_with("two processes of"), "{report:?}");
        assert_ne!(report.troubles[0].what, "two processes of 0 nodes");
    }
}

#[test]
fn nodes_of_another_make_stay_connected_whatever_they_lack() {
    for seed in 1..4 {
        let report = report_of("mixed", 12, seed);
        assert!(report.violation.is_none(), "seed {seed}: {:?}", report.violation);
    }
}

#[test]
fn a_node_of_another_make_gets_what_all_get_if_it_lacks_at_most_kademlia() {
    for lacks in ["[]", "[\"kad\"]"] {
        let name = format!("foreign-{}.toml", lacks.len());
        let mixed =
            format!("[node]\nmax_peers = 50\n[publish]\nmessages = 60\n[foreign]\nnodes = 3\nlacks = {lacks}\n");
        for seed in 1..4 {
            let messages = report_of(&written(&name, &mixed), 12, seed).messages;
            assert_eq!((messages.published, messages.delivered), (60, messages.possible), "{lacks}, seed {seed}");
        }
    }
}

#[test]
fn two_processes_and_nodes_of_another_make_run_the_same_twice() {
    let lacking = "seconds = 40\n[node]\nmax_peers = 50\n[foreign]\nnodes = 4\nlacks = [\"kad\"]\n\
        [[faults]]\nkind = \"overlap\"\nfrom = 15\nuntil = 18\nnodes = 3\n\
        [[faults]]\nkind = \"crash\"\nat = 22\nnodes = 3\nrestart_at = 25\n";
    let file = written("twice.toml", lacking);
    let output = Command::new(env!("CARGO_BIN_EXE_avi-sim")).args(["verify", &file, "--nodes", "10"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_private_mesh_is_a_mesh() {
    let report = report(&written("private.toml", "seconds = 20\n[node]\nprivate = true\n"), 10);
    assert_eq!(report.messages.delivered, report.messages.possible);
}

#[test]
fn all_nodes_have_the_same_context_whatever_happened_to_the_mesh_and_its_clocks() {
    let written_again = (0..8).map(|seed| report_of("context", 12, seed).situations["context_written_again"]);
    assert!(written_again.sum::<u64>() > 0, "in no run has a clock gone back far enough");
    for seed in 0..4 {
        report_of("context_one_clock", 12, seed);
    }
    report_of("context_hostile", 6, 1);
}

#[test]
fn nodes_that_can_reach_each_other_have_the_same_context_and_the_others_have_theirs() {
    let text = "seconds = 90\n[publish]\nmessages = 0\n[context]\nwrites = 100\nfrom = 5\nuntil = 25\n\
        [[faults]]\nkind = \"partition\"\nfrom = 10\nuntil = 90\nmode = \"reset\"\n\
        [[faults]]\nkind = \"clock\"\nat = 15\nnodes = 4\nby = -300\n";
    let apart = written("context_apart.toml", text);
    for seed in 0..4 {
        report_of(&apart, 12, seed);
    }
}
