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
            assert!(!from.is_empty() && !to.is_empty() && home.is_disjoint(&plan.homes.of(&rest)), "{seed} {homes}");
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
        let starts =
            plan.actions.iter().filter(|(_, action)| matches!(action, Action::Start(host) if host.0 == late as u32));
        assert_eq!(starts.count(), 1);
    }
}

#[test]
fn a_node_with_two_processes_has_the_wanted_place_among_its_neighbours_and_ends_once() {
    for id in ["lower", "higher"] {
        let overlap = format!("[[faults]]\nkind = \"overlap\"\nfrom = 5\nuntil = 8\nnodes = 3\nid = \"{id}\"\n");
        let tree = format!("{overlap}[topology]\nbootstrap = 1\n");
        let mut drawn = 0;
        for seed in 0..30 {
            let plan = plan(&tree, 12, seed);
            for Overlap { node, from, until } in plan.overlaps.iter().copied() {
                assert_eq!((from, until), (Duration::from_secs(5), Duration::from_secs(8)));
                let knows = |a: Host, b: Host| plan.bootstrap[a.0 as usize].contains(&b);
                let neighbours = (0..12).map(Host).filter(|other| knows(node, *other) || knows(*other, node));
                for other in neighbours {
                    assert_eq!(peer_id(seed, node) < peer_id(seed, other), id == "lower", "seed {seed}");
                }
                let retired =
                    |action: &Action| matches!(action, Action::Retire { node: retired, .. } if *retired == node);
                assert_eq!(plan.actions.iter().filter(|(at, action)| *at == until && retired(action)).count(), 1);
                assert_eq!(plan.moves[&node].len(), 1);
                drawn += 1;
            }
        }
        assert!(drawn >= 60, "{id}: {drawn}");
    }
}

#[test]
fn nodes_of_another_make_lack_something_and_change_no_other_draw() {
    let text = "[[faults]]\nkind = \"chaos\"\nfrom = 3\nuntil = 25\ncount = 8\n[calls]\ncount = 3\n";
    let mut kinds = BTreeSet::new();
    for seed in 0..30 {
        let (without, with) = (plan(text, 12, seed), plan(&format!("{text}[foreign]\nnodes = 3\n"), 12, seed));
        assert_eq!(with.foreign.len(), 3);
        assert!(with.foreign.values().all(|lacks| !lacks.is_empty()));
        kinds.extend(with.foreign.values().cloned());
        assert_eq!(Plan { foreign: BTreeMap::new(), ..with }, without);
    }
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    let listed =
        "[[foreign.list]]\nnode = 4\nlacks = [\"ping\"]\n[[foreign.list]]\nnode = 5\n[topology]\nabsent = [5]\n";
    assert_eq!(plan(listed, 12, 1).foreign, BTreeMap::from([(Host(4), vec![Lack::Ping])]));
}
