//! Which peers a node dials, when and how often, and which it remembers.

use super::*;

fn knows(addresses: &[String]) -> AviP2pConfig {
    AviP2pConfig { bootstrap_peers: addresses.to_vec(), ..config() }
}

/// Checks that a wait is `base`, up to a quarter more or less.
#[track_caller]
fn assert_about(waited: Duration, base: Duration) {
    assert!(waited >= base.mul_f64(0.75) && waited <= base.mul_f64(1.25), "{waited:?} is not about {base:?}");
}

#[track_caller]
fn only_dial(node: &mut Node) -> DialId {
    match node.take_dials()[..] {
        [(dial, _)] => dial,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn the_wait_doubles_with_every_failed_dial_up_to_a_minute_give_or_take_a_quarter() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let mut waits = Vec::new();
    for failures in 0..15 {
        let dial = only_dial(&mut node);
        node.dial_failed(dial);
        let waited = node.step();
        assert_about(waited, secs(60.min(1 << failures)));
        waits.push(waited);
    }
    waits.dedup_by_key(|waited| waited.as_secs_f64() / 60.0);
    assert_eq!(waits.len(), 15, "no two waits are the same");
}

#[test]
fn a_discovered_peer_is_forgotten_after_sixteen_failures() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    for _ in 1..16 {
        let dial = only_dial(&mut node);
        node.dial_failed(dial);
        node.step();
    }
    assert!(node.peer_info(2).is_some());
    let dial = only_dial(&mut node);
    node.dial_failed(dial);
    assert_eq!(node.peer_info(2), None);
    assert_eq!(node.deadline(), None);
    assert_eq!(node.stats().dials_failed, 16);
    // It may be discovered again.
    node.take_events();
    node.discovered(2);
    assert_eq!(node.take_events(), [AviEvent::PeerDiscovered { peer_id: peer(2) }]);
    only_dial(&mut node);
}

#[test]
fn a_bootstrap_peer_is_dialled_for_ever_and_every_failure_is_told() {
    let entry = format!("{}/p2p/{}", address(2), peer(2));
    let mut node = Node::new(1, knows(std::slice::from_ref(&entry)));
    for failures in 0..60u32 {
        let NetAction::Dial { dial, peer: wanted, addresses } = node.actions.pop_front().unwrap() else { panic!() };
        assert_eq!((wanted, addresses), (Some(peer(2)), vec![address(2)]));
        node.dial_failed(dial);
        let told = node.take_events();
        let waited = node.step();
        let reason = "nobody there".to_owned();
        assert_eq!(told, [AviEvent::BootstrapFailed { address: entry.clone(), reason, retry_in: waited }]);
        assert_about(waited, secs(20.min(1 << failures.min(10))));
        assert!(waited <= secs(25));
    }
}

#[test]
fn an_entry_with_an_older_form_of_peer_id_or_a_name_is_dialled_as_any_other() {
    let entries = [format!("{}/ipfs/{}", address(2), peer(2)), "/dns4/hub.local/tcp/9000".to_owned()];
    let mut node = Node::new(1, knows(&entries));
    let dials = node.take_actions().into_iter().map(|action| match action {
        NetAction::Dial { peer, addresses, .. } => (peer, addresses),
        other => panic!("{other:?}"),
    });
    let expected = [(Some(peer(2)), vec![address(2)]), (None, vec![entries[1].clone()])];
    assert_eq!(dials.collect::<Vec<_>>(), expected);
}

#[test]
fn success_makes_the_next_wait_short_again() {
    let mut node = Node::new(1, knows(&[address(2)]));
    for _ in 0..10 {
        let dial = only_dial(&mut node);
        node.dial_failed(dial);
        node.step();
    }
    let dial = only_dial(&mut node);
    node.connected(1, 2, Direction::Outbound(dial));
    node.identified(2, &[]);
    node.wait(secs(3600));
    assert_eq!(node.take_dials(), []);
    node.disconnected(1, 2);
    let waited = node.step();
    assert_about(waited, secs(1));
    node.wait(secs(60));
    only_dial(&mut node);
}

#[test]
fn success_makes_the_next_wait_for_a_discovered_peer_short_too() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    for _ in 0..5 {
        let dial = only_dial(&mut node);
        node.dial_failed(dial);
        node.step();
    }
    let dial = only_dial(&mut node);
    node.connected(1, 2, Direction::Outbound(dial));
    node.identified(2, &[]);
    node.disconnected(1, 2);
    let waited = node.step();
    assert_about(waited, secs(1));
}

#[test]
fn a_peer_whose_name_is_known_from_before_hangs_up_like_any_other() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let dial = only_dial(&mut node);
    node.connected(1, 2, Direction::Outbound(dial));
    node.identified(2, &[]);
    node.disconnected(1, 2);
    assert_about(node.step(), secs(1));
    for expected in [1, 2, 4, 8] {
        let dial = only_dial(&mut node);
        node.connected(1, 2, Direction::Outbound(dial));
        node.disconnected(1, 2);
        assert_about(node.step(), secs(expected));
    }
}

#[test]
fn whoever_hangs_up_before_it_has_said_its_name_is_dialled_less_and_less() {
    let mut node = Node::new(1, knows(&[address(2)]));
    node.discovered(3);
    // A full node makes a place within seconds, so the wait is short at first.
    for expected in [1; 31].into_iter().chain([2, 4, 8, 16, 20, 20]) {
        for (dial, addresses) in node.take_dials() {
            let n = if addresses == [address(2)] { 2 } else { 3 };
            node.connected(n.into(), n, Direction::Outbound(dial));
            node.take_events();
            node.disconnected(n.into(), n);
            let failed = node.take_events().into_iter().find_map(|event| match event {
                AviEvent::BootstrapFailed { reason, retry_in, .. } => Some((reason, retry_in)),
                _ => None,
            });
            assert_eq!(failed.is_some(), n == 2);
            if let Some((reason, retry_in)) = failed {
                assert!(reason.starts_with("it hung up after the handshake"), "{reason}");
                assert_about(retry_in, secs(expected));
            }
        }
        node.wait(secs(80));
    }
    assert!(node.stats().dials <= 76);
}

#[test]
fn a_node_with_enough_peers_leaves_the_places_of_full_bootstrap_peers_to_others() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 4, ..knows(&[address(2)]) });
    let retry_in = |node: &mut Node| {
        let dial = only_dial(node);
        node.net(NetEvent::DialFailed { dial, failure: DialFailure::HungUp("closed".to_owned()) });
        match node.take_events().as_slice() {
            [AviEvent::BootstrapFailed { retry_in, .. }] => *retry_in,
            other => panic!("{other:?}"),
        }
    };
    assert_about(retry_in(&mut node), secs(1));
    // Those that have dialled this node may know nobody else.
    node.connected(3, 3, Direction::Inbound);
    node.connected(4, 4, Direction::Inbound);
    node.take_events();
    node.wait(secs(2));
    assert_about(retry_in(&mut node), secs(1));
    node.discovered(5);
    let dial = only_dial(&mut node);
    node.connected(5, 5, Direction::Outbound(dial));
    node.take_events();
    node.wait(secs(2));
    assert_about(retry_in(&mut node), secs(20));
}

#[test]
fn a_bootstrap_entry_that_is_this_node_itself_is_told_once_and_tried_every_minute() {
    let mut node = Node::new(1, knows(&[address(1)]));
    let myself = |node: &mut Node| {
        let dial = only_dial(node);
        node.net(NetEvent::DialFailed { dial, failure: DialFailure::Myself });
        node.take_events()
    };
    let dial = only_dial(&mut node);
    node.dial_failed(dial);
    node.take_events();
    node.step();
    let reason = "it is this node itself, or another with the same identity".to_owned();
    let told = AviEvent::BootstrapFailed { address: address(1), reason, retry_in: secs(60) };
    assert_eq!(myself(&mut node), std::slice::from_ref(&told));
    for _ in 0..10 {
        assert_eq!(node.step(), secs(60));
        assert_eq!(myself(&mut node), []);
    }
    // Another peer had answered in between.
    node.step();
    let dial = only_dial(&mut node);
    node.connected(1, 2, Direction::Outbound(dial));
    node.disconnected(1, 2);
    node.take_events();
    node.step();
    assert_eq!(myself(&mut node), [told]);
}

#[test]
fn another_node_with_this_ones_identity_is_told_once_for_each_address() {
    let mut node = Node::new(1, knows(&[address(2), address(1)]));
    node.net(NetEvent::Listening { addresses: vec![address(1), "/ip4/0.0.0.0/tcp/9003".to_owned()] });
    node.take_events();
    let mut told = Vec::new();
    for _ in 0..5 {
        for (dial, addresses) in node.take_dials() {
            let failure = DialFailure::WrongPeer { address: addresses[0].clone(), obtained: peer(1) };
            node.net(NetEvent::DialFailed { dial, failure });
        }
        told.extend(node.take_events().into_iter().filter_map(|event| match event {
            AviEvent::DuplicateIdentity { address } => Some(address),
            _ => None,
        }));
        node.wait(secs(60));
    }
    assert_eq!(told, [address(2)], "not those that the node itself listens on");
    let failure = DialFailure::WrongPeer { address: address(3), obtained: peer(1) };
    node.net(NetEvent::DialFailed { dial: DialId(99), failure });
    assert!(!node.take_events().contains(&AviEvent::DuplicateIdentity { address: address(3) }));
}

#[test]
fn a_node_does_not_dial_a_peer_that_turns_out_to_be_itself_again() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let dial = only_dial(&mut node);
    node.net(NetEvent::DialFailed { dial, failure: DialFailure::Myself });
    assert_eq!((node.deadline(), node.peer_info(2)), (None, None));
    node.discovered(1);
    assert_eq!(node.take_dials(), [], "its own id");
}

#[test]
fn a_refused_dial_says_nothing_about_the_peer() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    for _ in 0..50 {
        let dial = only_dial(&mut node);
        node.net(NetEvent::DialFailed { dial, failure: DialFailure::Refused(Refusal::MaxPeers) });
        let waited = node.step();
        assert_about(waited, secs(1));
    }
    assert_eq!(node.stats().outbound_refused, 50);
}

#[test]
fn dials_at_a_time_are_bounded() {
    let mut node = Node::new(1, limited(|limits| limits.concurrent_dials = 3));
    (2..30).for_each(|n| node.discovered(n));
    let dials = node.take_dials();
    assert_eq!((dials.len(), node.contract.dials()), (3, 3));
    node.dial_failed(dials[0].0);
    assert_eq!(node.take_dials().len(), 1);
    node.wait(secs(600));
    assert_eq!(node.contract.dials(), 3);
}

#[test]
fn half_of_max_peers_is_dialled_and_the_rest_kept_for_inbound() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 5, ..config() });
    node.connected(1, 100, Direction::Inbound);
    (2..30).for_each(|n| node.discovered(n));
    let dials = node.take_dials();
    assert_eq!(dials.len(), 1, "one peer and one dial are half of five, rounded down");
    for (connection, (dial, addresses)) in (2..).zip(&dials) {
        let n = (2..30).find(|n| addresses.contains(&address(*n))).unwrap();
        node.connected(connection, n, Direction::Outbound(*dial));
    }
    node.connected(4, 101, Direction::Inbound);
    assert_eq!((node.take_dials(), node.stats().peers_connected), (vec![], 3));
    node.disconnected(1, 100);
    assert_eq!(node.take_dials(), vec![], "two are half of five");
    node.disconnected(4, 101);
    assert_eq!(node.take_dials().len(), 1, "the room is used");
}

#[test]
fn a_node_with_one_place_dials_for_it_and_bootstrap_peers_are_dialled_for_every_place() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 1, ..config() });
    node.discovered(2);
    only_dial(&mut node);
    let addresses: Vec<_> = (2..10).map(address).collect();
    let mut node = Node::new(1, AviP2pConfig { max_peers: 5, ..knows(&addresses) });
    assert_eq!(node.take_dials().len(), 5);
}

#[test]
fn a_storm_of_nodes_keeps_every_limit_and_finds_peace() {
    let mut mesh = Mesh::new((0..12).map(|_| AviP2pConfig { max_peers: 4, ..config() }).collect());
    for n in 0..12 {
        (1..=12).for_each(|other| mesh.nodes[n].discovered(other));
    }
    mesh.settle();
    mesh.run_for(secs(600));
    for n in 0..12 {
        let connected = mesh.nodes[n].stats().peers_connected;
        assert!((1..=4).contains(&connected), "node {n} has {connected} peers");
        let links: usize = (0..12).map(|other| mesh.links(n, other).len()).sum();
        assert_eq!(links as u64, connected, "node {n}: one link a peer");
    }
}

#[test]
fn a_lost_peer_is_dialled_again() {
    let mut mesh = Mesh::new(vec![config(), config()]);
    mesh.nodes[0].discovered(2);
    mesh.settle();
    assert_eq!(mesh.links(0, 1).len(), 1);
    for _ in 0..5 {
        let link = mesh.links(0, 1)[0];
        mesh.cut_link(link);
        assert_eq!(mesh.links(0, 1).len(), 0);
        mesh.run_for(millis(1250));
        assert_eq!(mesh.links(0, 1).len(), 1);
    }
    assert_eq!(mesh.nodes[0].stats().duplicate_connections, 0);
}

#[test]
fn a_peer_is_dialled_at_once_when_it_turns_up_at_another_address() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let dial = only_dial(&mut node);
    node.dial_failed(dial);
    node.discovered(2);
    assert_eq!(node.take_dials(), [], "nothing new");
    node.discovered_at(2, &["/ip4/192.0.2.77/tcp/1"]);
    let dials = node.take_dials();
    assert_eq!(dials[0].1, ["/ip4/192.0.2.77/tcp/1".to_owned(), address(2)]);
}

#[test]
fn addresses_that_mdns_drops_are_counted() {
    let mut node = Node::new(1, config());
    [3, 4].into_iter().for_each(|addresses| node.net(NetEvent::MdnsIgnored { addresses }));
    assert_eq!(node.stats().mdns_ignored, 7);
}

#[test]
fn a_dial_that_an_inbound_connection_overtakes_harms_nobody() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let dial = only_dial(&mut node);
    node.connected(1, 2, Direction::Inbound);
    node.dial_failed(dial);
    node.wait(secs(600));
    assert_eq!((node.take_dials(), node.stats().peers_connected), (vec![], 1));
}

#[test]
fn a_peer_is_discovered_once() {
    let mut node = Node::new(1, config());
    (0..3).for_each(|_| node.discovered(2));
    node.discovered_at(2, &["/ip4/192.0.2.77/tcp/1"]);
    assert_eq!(node.take_events(), [AviEvent::PeerDiscovered { peer_id: peer(2) }]);
    node.discovered_at(3, &[]);
    assert_eq!(node.take_events(), [], "without an address it cannot be reached");
}

#[test]
fn known_peers_bounds_who_is_remembered() {
    let mut node = Node::new(1, limited(|limits| limits.known_peers = 16));
    (2..42).for_each(|n| node.discovered(n));
    let stats = node.stats();
    assert_eq!((stats.peers_known, stats.peers_ignored), (16, 24));
    assert_eq!(node.take_events().len(), 16);
    // A peer that cannot be reached makes room.
    let dial = node.take_dials()[0].0;
    node.dial_failed(dial);
    node.discovered(50);
    let stats = node.stats();
    assert_eq!((stats.peers_known, stats.peers_ignored), (16, 24));
    assert!(node.peer_info(50).is_some());
}

#[test]
fn peers_that_come_say_where_they_listen_and_leave_are_bounded_too() {
    let mut node = Node::new(1, limited(|limits| limits.known_peers = 16));
    for n in 2..300 {
        node.connected(n.into(), n, Direction::Inbound);
        node.identified(n, &[&address(n)]);
        node.disconnected(n.into(), n);
        assert!(node.stats().peers_known <= 16, "{} after {n}", node.stats().peers_known);
    }
}

#[test]
fn addresses_of_a_peer_are_bounded_and_the_newest_stay() {
    let mut node = Node::new(1, limited(|limits| limits.addresses_per_peer = 3));
    let all: Vec<String> = (0..100).map(|n| format!("/ip4/192.0.2.{n}/tcp/1")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    node.discovered_at(2, &all);
    assert_eq!(node.peer_info(2).unwrap().addresses, [all[2], all[1], all[0]], "of one hint, the first");
    all.iter().for_each(|address| node.discovered_at(2, &[address]));
    assert_eq!(node.peer_info(2).unwrap().addresses, [all[99], all[98], all[97]]);
    node.connected(1, 3, Direction::Inbound);
    node.take_actions();
    node.identified(3, &all);
    assert_eq!(node.peer_info(3).unwrap().addresses, [all[2], all[1], all[0]]);
    let told = all[..3].iter().map(|address| (*address).to_owned()).collect();
    assert_eq!(node.take_actions(), [NetAction::AddRoute { peer: peer(3), addresses: told }]);
}

#[test]
fn where_a_peer_was_reached_comes_first_and_no_hint_displaces_it() {
    let mut node = Node::new(1, limited(|limits| limits.addresses_per_peer = 3));
    node.discovered(2);
    let dial = only_dial(&mut node);
    node.connected(1, 2, Direction::Outbound(dial));
    let lies: Vec<_> = (0..10).map(|n| format!("/ip4/198.51.100.{n}/tcp/1")).collect();
    lies.iter().for_each(|lie| node.discovered_at(2, &[lie]));
    let expected = [address(2), lies[9].clone(), lies[8].clone(), lies[7].clone()];
    assert_eq!(node.peer_info(2).unwrap().addresses, expected);
    node.disconnected(1, 2);
    node.step();
    let dials = node.take_dials();
    assert_eq!(dials[0].1, expected);
    node.dial_failed(dials[0].0);
    // Known addresses are no reason to dial at once.
    node.discovered(2);
    node.discovered_at(2, &[&lies[8]]);
    assert_eq!(node.take_dials(), []);
    node.discovered_at(2, &[&lies[0]]);
    assert_eq!(node.take_dials().len(), 1);
}

#[test]
fn a_loopback_address_is_remembered_over_loopback_and_passed_on_if_there_is_no_other() {
    let addresses = ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip4/192.0.2.1/tcp/1"];
    let connect = |address: &str, addresses: &[&str]| {
        let mut node = Node::new(1, config());
        let (connection, peer, address) = (ConnectionId(1), peer(2), address.to_owned());
        node.net(NetEvent::Connected { connection, peer, address, direction: Direction::Inbound });
        node.identified(2, addresses);
        let remembered = node.peer_info(2).unwrap().addresses.len();
        match node.take_actions().as_slice() {
            [NetAction::AddRoute { addresses, .. }] => (remembered, addresses.clone()),
            other => panic!("{other:?}"),
        }
    };
    let (loopback, other) = ([addresses[0], addresses[1]].map(str::to_owned).to_vec(), vec![addresses[2].to_owned()]);
    assert_eq!(connect("/ip4/192.0.2.1/tcp/5555", &addresses), (1, other.clone()));
    for near in ["/ip4/127.0.0.1/tcp/5555", "/ip6/::1/tcp/5555"] {
        assert_eq!(connect(near, &addresses), (3, other.clone()));
        assert_eq!(connect(near, &addresses[..2]), (2, loopback.clone()));
    }
}

#[test]
fn a_peer_that_is_not_connected_cannot_say_where_it_listens() {
    let mut node = Node::new(1, config());
    node.identified(2, &["/ip4/192.0.2.1/tcp/1"]);
    assert_eq!((node.take_actions(), node.peer_info(2)), (vec![], None));
}

#[test]
fn a_full_node_makes_room_for_those_who_come() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 8, ..config() });
    (2..10).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.net(NetEvent::InboundRefused(Refusal::MaxPeers));
    let parted = |node: &mut Node| {
        let actions = node.take_actions();
        actions.into_iter().filter(|action| matches!(action, NetAction::Disconnect { .. })).count()
    };
    assert_eq!(parted(&mut node), 0, "no peer is disconnected before it could learn of others");
    // Whoever was refused finds a place when it comes again, even if it is the first to come since.
    node.wait(secs(3));
    assert_eq!((parted(&mut node), node.stats().peers_pruned), (1, 1));
    node.wait(secs(60));
    node.net(NetEvent::InboundRefused(Refusal::MaxPeers));
    assert_eq!(parted(&mut node), 0, "one place is enough, and the connection may take its time to close");
    node.disconnected(2, 2);
    node.wait(secs(60));
    assert_eq!(parted(&mut node), 0);
    // In calm times, all places are used.
    node.connected(10, 10, Direction::Inbound);
    assert_eq!(parted(&mut node), 0);
    node.net(NetEvent::InboundRefused(Refusal::MaxPeers));
    assert_eq!((parted(&mut node), node.stats().peers_pruned), (1, 2));
}

#[test]
fn from_six_places_on_one_is_kept_free() {
    for (max_peers, is_made) in [(2, false), (4, false), (5, false), (6, true), (7, true)] {
        let mut node = Node::new(1, AviP2pConfig { max_peers, ..config() });
        (2..2 + max_peers as u16).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
        node.net(NetEvent::InboundRefused(Refusal::MaxPeers));
        node.wait(secs(60));
        assert_eq!(node.stats().peers_pruned, u64::from(is_made), "{max_peers} places");
    }
}

#[test]
fn a_full_node_makes_room_again_and_again_while_newcomers_take_it() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 8, ..config() });
    (2..10).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.net(NetEvent::InboundRefused(Refusal::MaxPeers));
    node.wait(secs(3));
    let mut pruned = Vec::new();
    for n in 10..14 {
        let cut = node.take_actions().into_iter().find_map(|action| match action {
            NetAction::Disconnect { connection } => Some(connection.0 as u16),
            _ => None,
        });
        let cut = cut.expect("a place is made without another refusal");
        node.disconnected(cut.into(), cut);
        pruned.push(cut);
        // The newcomer takes the place at once.
        node.connected(n.into(), n, Direction::Inbound);
        assert!(!node.take_actions().iter().any(|action| matches!(action, NetAction::Disconnect { .. })));
        node.wait(millis(500));
    }
    assert_eq!(pruned, [2, 3, 4, 5], "peers that have just come stay");
}

#[test]
fn a_timeout_that_is_not_due_changes_nothing_of_what_follows() {
    let retry_in = |early: usize| {
        let mut node = Node::new(1, AviP2pConfig { bootstrap_peers: vec![address(2)], ..config() });
        (0..early).for_each(|_| node.time_out());
        let dial = node.take_dials()[0].0;
        node.dial_failed(dial);
        match node.take_events().as_slice() {
            [AviEvent::BootstrapFailed { retry_in, .. }] => *retry_in,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(retry_in(0), retry_in(5));
}

#[test]
fn a_node_dials_one_of_its_peers_itself_however_many_have_dialled_it() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 6, ..config() });
    (2..6).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.discovered(6);
    let dial = only_dial(&mut node);
    node.discovered(7);
    assert_eq!(node.take_dials(), [], "one dial is enough");
    node.dial_failed(dial);
    let dial = only_dial(&mut node);
    node.connected(7, 7, Direction::Outbound(dial));
    node.wait(secs(60));
    assert_eq!(node.take_dials(), []);
    node.disconnected(7, 7);
    assert_eq!(node.take_dials().len(), 1, "nobody is left that it has dialled");
}

#[test]
fn a_node_that_its_last_bootstrap_peer_has_disconnected_dials_somebody_else_as_well() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 6, ..knows(&[address(2), address(3)]) });
    for (dial, addresses) in node.take_dials() {
        let n = if addresses == [address(2)] { 2 } else { 3 };
        node.connected(n.into(), n, Direction::Outbound(dial));
        node.identified(n, &[]);
    }
    node.discovered(4);
    let dial = only_dial(&mut node);
    node.connected(4, 4, Direction::Outbound(dial));
    (5..7).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.discovered(7);
    node.disconnected(2, 2);
    assert_eq!(node.take_dials(), [], "it has another bootstrap peer");
    node.disconnected(3, 3);
    let dial = only_dial(&mut node);
    node.connected(7, 7, Direction::Outbound(dial));
    node.discovered(8);
    assert_eq!(node.take_dials(), [], "once");
}
