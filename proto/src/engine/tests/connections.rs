//! Several connections to one peer; the facts known about connected peers.

use std::collections::BTreeSet;

use super::*;

fn knows(n: u16) -> AviP2pConfig {
    AviP2pConfig { bootstrap_peers: vec![address(n)], ..config() }
}

#[test]
fn simultaneous_dials_end_in_one_connection_and_the_lower_id_decides() {
    let mut mesh = Mesh::new(vec![knows(2), knows(1)]);
    assert_eq!(mesh.links(0, 1).len(), 1);
    assert_eq!(mesh.nodes[0].stats().duplicate_connections, 1);
    assert_eq!(mesh.nodes[1].stats().duplicate_connections, 0);
    for (n, other) in [(0, 1), (1, 0)] {
        let stats = mesh.nodes[n].stats();
        assert_eq!((stats.connections_opened, stats.connections_closed, stats.peers_connected), (2, 1, 1));
        let (peer_id, address) = (mesh.id(other), address(other as u16 + 1));
        let is_named = named(&peer_id);
        assert_eq!(mesh.events(n), [AviEvent::PeerConnected { peer_id, address }, is_named], "reported once");
    }
    mesh.run_for(secs(600));
    assert_eq!((mesh.links(0, 1).len(), mesh.nodes[0].stats().dials), (1, 1));
}

fn disconnect(connection: u64) -> NetAction {
    NetAction::Disconnect { connection: ConnectionId(connection) }
}

fn retire(connection: u64) -> NetAction {
    NetAction::Retire { connection: ConnectionId(connection) }
}

fn pong(node: &mut Node, connection: u64, from: u16) {
    node.net(NetEvent::Pong { connection: ConnectionId(connection), peer: peer(from), rtt: millis(1) });
}

#[test]
fn the_older_of_two_connections_far_apart_is_retired_and_closed_when_it_has_delivered_everything() {
    for (local, other) in [(1, 2), (2, 1)] {
        let mut node = Node::with_peer(local, other, config());
        node.has_pongs = false;
        node.wait(secs(5));
        pong(&mut node, 1, other);
        node.connected(2, other, Direction::Inbound);
        assert_eq!((node.take_actions(), node.stats().duplicate_connections), (vec![retire(1)], 1));
        // What waits for the path waits for thirty seconds at most.
        for _ in 0..6 {
            assert_eq!(node.take_actions(), []);
            node.wait(secs(5));
            pong(&mut node, 2, other);
            pong(&mut node, 1, other);
        }
        assert_eq!(node.take_actions(), [disconnect(1)]);
        pong(&mut node, 1, other);
        node.disconnected(1, other);
        assert_eq!((node.take_actions(), node.take_events()), (vec![], vec![]));
    }
}

#[test]
fn a_retired_connection_that_is_silent_ends_and_nobody_is_declared_dead() {
    let mut node = Node::with_peer(1, 2, config());
    node.has_pongs = false;
    node.wait(secs(6));
    node.connected(2, 2, Direction::Inbound);
    assert_eq!(node.take_actions(), [retire(1)]);
    node.wait(secs(2));
    assert_eq!(node.take_actions(), [NetAction::CheckAlive { connection: ConnectionId(1) }]);
    node.net(NetEvent::Progress { connection: ConnectionId(1), silent_for: secs(60) });
    let abort = NetAction::Abort { connection: ConnectionId(1) };
    assert_eq!((node.take_actions(), node.stats().ping_timeouts), (vec![disconnect(1), abort], 0));
}

#[test]
fn a_retired_connection_ends_with_the_newest_one() {
    let mut node = Node::with_peer(1, 2, config());
    node.wait(secs(5));
    node.connected(2, 2, Direction::Inbound);
    assert_eq!(node.take_actions(), [retire(1)]);
    node.disconnected(2, 2);
    assert_eq!(node.take_actions(), [disconnect(1), NetAction::Abort { connection: ConnectionId(1) }]);
    node.disconnected(1, 2);
    assert_eq!(node.take_events(), [AviEvent::PeerDisconnected { peer_id: peer(2) }]);
}

fn probe(connection: u64) -> NetAction {
    NetAction::Probe { connection: ConnectionId(connection) }
}

fn answers(node: &mut Node, connection: u64, from: u16) {
    node.net(NetEvent::Answered { connection: ConnectionId(connection), peer: peer(from) });
}

fn opens(node: &mut Node, connection: u64) {
    node.net(NetEvent::PubSubOpened { connection: ConnectionId(connection) });
}

#[test]
fn of_two_young_connections_the_one_on_which_the_peer_began_its_pub_sub_is_kept() {
    for (opened, then, closed) in [(1, Some(2), 2), (2, Some(1), 1), (2, None, 1)] {
        let mut node = Node::with_peer(1, 2, config());
        node.has_pongs = false;
        node.connected(2, 2, Direction::Inbound);
        answers(&mut node, 1, 2);
        answers(&mut node, 2, 2);
        assert_eq!(node.take_actions(), [probe(1), probe(2)], "its subscriptions may come on either");
        node.wait(millis(50));
        opens(&mut node, opened);
        assert_eq!(node.take_actions(), [disconnect(closed)], "{opened}");
        node.wait(millis(50));
        then.into_iter().for_each(|connection| opens(&mut node, connection));
        assert_eq!(node.take_actions(), []);
    }
}

#[test]
fn of_three_young_connections_one_is_left_in_whatever_order_the_news_comes() {
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    for (local, other) in [(1, 2), (2, 1)] {
        for (opened, answered) in orders.iter().flat_map(|opened| orders.iter().map(move |answered| (opened, answered)))
        {
            let mut node = Node::with_peer(local, other, config());
            node.has_pongs = false;
            node.connected(2, other, Direction::Inbound);
            node.connected(3, other, Direction::Outbound(DialId(1)));
            let mut given_up = BTreeSet::new();
            // Whether a connection has ended is known only later.
            for _ in 0..10 {
                for connection in opened {
                    opens(&mut node, *connection);
                    node.wait(millis(1));
                }
                answered.iter().for_each(|connection| answers(&mut node, *connection, other));
                given_up.extend(node.take_actions().into_iter().filter_map(|action| match action {
                    NetAction::Disconnect { connection } | NetAction::Retire { connection } => Some(connection),
                    _ => None,
                }));
                node.wait(secs(1));
            }
            assert_eq!(given_up.len(), 2, "{local} {opened:?} {answered:?}: {given_up:?}");
            if local == 1 {
                assert!(!given_up.contains(&ConnectionId(opened[0])), "{opened:?} {answered:?}: {given_up:?}");
            }
        }
    }
}

#[test]
fn of_two_young_connections_to_a_peer_without_pub_sub_the_older_is_kept() {
    let mut node = Node::with_peer(1, 2, config());
    node.has_pongs = false;
    node.connected(2, 2, Direction::Inbound);
    answers(&mut node, 1, 2);
    answers(&mut node, 2, 2);
    node.take_actions();
    node.wait(secs(3) - millis(1));
    assert_eq!(node.take_actions(), []);
    node.wait(millis(1));
    assert_eq!(node.take_actions(), [disconnect(2)]);
}

#[test]
fn of_two_young_connections_one_end_closes_one_and_if_it_does_not_the_other_gives_it_up() {
    // The lower id decides about dials of both ends, and whoever was dialled about two dials of one end.
    for (local, other, second, began_on, decides) in [
        (1, 2, Direction::Outbound(DialId(1)), 1, true),
        (2, 1, Direction::Outbound(DialId(1)), 1, false),
        (2, 1, Direction::Outbound(DialId(1)), 2, false),
        (1, 2, Direction::Inbound, 1, true),
        (2, 1, Direction::Inbound, 1, true),
    ] {
        let mut node = Node::with_peer(local, other, config());
        node.has_pongs = false;
        node.connected(2, other, second);
        assert_eq!(node.take_actions(), [probe(1), probe(2)], "{local}, {second:?}");
        opens(&mut node, began_on);
        answers(&mut node, 2, other);
        assert_eq!(node.take_actions(), [], "the older one may be slow");
        answers(&mut node, 1, other);
        assert_eq!(node.take_actions(), if decides { vec![disconnect(2)] } else { vec![] }, "{local}, {second:?}");
        answers(&mut node, 1, other);
        assert_eq!(node.take_actions(), []);
        if !decides {
            node.wait(secs(5) - millis(1));
            assert_eq!(node.take_actions(), []);
            node.wait(millis(1));
            assert_eq!(node.take_actions(), [if began_on == 1 { disconnect(2) } else { retire(1) }]);
        }
    }
}

#[test]
fn of_two_young_connections_the_older_is_retired_if_it_alone_is_silent() {
    for (local, other) in [(1, 2), (2, 1)] {
        let mut node = Node::with_peer(local, other, config());
        node.has_pongs = false;
        node.connected(2, other, Direction::Inbound);
        answers(&mut node, 2, other);
        assert_eq!(node.take_actions(), [probe(1), probe(2)]);
        node.wait(secs(3) - millis(1));
        assert_eq!(node.take_actions(), []);
        node.wait(millis(1));
        assert_eq!(node.take_actions(), [retire(1)]);
    }
}

#[test]
fn a_peer_with_a_new_connection_is_subscribed_to_what_it_tells_there() {
    let mut node = Node::with_peer(1, 2, config());
    let subscribed = |topic: &str| NetEvent::PeerSubscribed { peer: peer(2), topic: topic.to_owned() };
    node.net(subscribed("old"));
    node.net(NetEvent::PeerRenewed { peer: peer(2) });
    node.net(subscribed("new"));
    assert_eq!(node.peer_info(2).unwrap().topics, ["new"]);
}

#[test]
fn after_two_connections_far_apart_both_ends_use_the_newer_one() {
    for (from, to) in [(0, 1), (1, 0)] {
        let mut mesh = Mesh::pair(config(), config());
        mesh.run_for(secs(10));
        mesh.events(0);
        mesh.events(1);
        mesh.connect(from, to);
        mesh.run_for(secs(36));
        assert_eq!(mesh.links(0, 1), [1]);
        assert_eq!((mesh.events(0), mesh.events(1)), (vec![], vec![]));
    }
}

#[test]
fn a_request_and_a_call_move_to_the_newer_connection() {
    for (from, to) in [(0, 1), (1, 0)] {
        let mut mesh = Mesh::pair(config(), config());
        mesh.run_for(secs(10));
        let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
        let left = mesh.offer(1);
        mesh.connect(from, to);
        let there = mesh.offer(1);
        mesh.accept(1, there).unwrap();
        mesh.run_for(secs(36));
        assert_eq!(mesh.links(0, 1), [1]);
        assert_eq!(mesh.events(0), [accepted(&mesh.id(1), here)]);
        let (a, reason) = (mesh.id(0), StreamCloseReason::Error("reset".to_owned()));
        assert_eq!(mesh.events(1), [closed(&a, left, reason)]);
        mesh.connect(from, to);
        mesh.run_for(secs(36));
        assert_eq!(mesh.links(0, 1), [2]);
        mesh.send(0, here, b"on").unwrap();
        assert_eq!(mesh.events(1), [audio(&a, there, b"on")]);
    }
}

#[test]
fn a_peer_is_gone_with_its_last_connection() {
    let mut node = Node::with_peer(9, 2, config());
    node.connected(2, 2, Direction::Inbound);
    node.disconnected(1, 2);
    assert_eq!(node.take_events(), []);
    assert_eq!(node.engine().connected_peers(), Ok(vec![peer(2)]));
    node.disconnected(2, 2);
    assert_eq!(node.take_events(), [AviEvent::PeerDisconnected { peer_id: peer(2) }]);
    assert_eq!(node.engine().connected_peers(), Ok(vec![]));
    assert_eq!(node.peer_info(2), None, "no address of it is known");
}

#[test]
fn a_peer_without_pub_sub_is_kept_out_for_five_minutes_whatever_it_says_of_itself() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let [(dial, _)] = node.take_dials()[..] else { panic!() };
    node.connected(1, 2, Direction::Outbound(dial));
    for _ in 0..2 {
        node.net(NetEvent::Foreign { peer: peer(2) });
        node.identified(2, &["/ip4/192.0.2.9/tcp/9"]);
    }
    assert_eq!(node.take_actions(), [NetAction::Disconnect { connection: ConnectionId(1) }]);
    assert_eq!(node.stats().foreign_peers, 1);
    node.disconnected(1, 2);
    assert_eq!(node.peer_info(2), None);
    node.discovered(2);
    node.wait(secs(299));
    assert_eq!(node.take_dials(), []);
    let reason = "it speaks none of this node's pub/sub protocols, and is kept out for five minutes";
    let refused = AviP2pError::PeerRefused { peer_id: peer(2), reason };
    assert_eq!(node.request(&peer(2), StreamOptions::default()), Err(refused));
    node.wait(secs(1));
    assert_eq!(node.take_dials().len(), 1);
    // An event about a peer that is not connected has no effect.
    node.net(NetEvent::Foreign { peer: peer(3) });
    assert_eq!(node.take_actions(), []);
}

fn says(node: &mut Node, n: u16, name: &str) {
    let addresses = vec![address(n)];
    node.net(NetEvent::Identified {
        connection: ConnectionId(n.into()),
        peer: peer(n),
        name: name.to_owned(),
        addresses,
    });
}

#[test]
fn a_name_is_told_on_each_connection_and_when_it_changes() {
    let mut node = Node::with_peer(1, 2, config());
    let is_named = |name: &str| AviEvent::PeerIdentified { peer_id: peer(2), name: name.to_owned() };
    for name in ["hall", "hall", "kitchen", "kitchen"] {
        says(&mut node, 2, name);
    }
    assert_eq!(node.take_events(), [is_named("hall"), is_named("kitchen")]);
    node.disconnected(1, 2);
    assert_eq!(node.peer_info(2).unwrap().name.as_deref(), Some("kitchen"), "its name stays known");
    node.connected(2, 2, Direction::Inbound);
    node.take_events();
    says(&mut node, 2, "kitchen");
    assert_eq!(node.take_events(), [is_named("kitchen")]);
    // Nobody else is here.
    says(&mut node, 3, "stranger");
    assert_eq!(node.take_events(), []);
}

#[test]
fn peers_are_found_by_name_the_connected_ones_first() {
    let mut node = Node::new(1, config());
    for n in 2..6 {
        node.connected(n.into(), n, Direction::Inbound);
        says(&mut node, n, if n == 5 { "hall" } else { "lamp" });
    }
    node.disconnected(2, 2);
    assert_eq!(node.engine().find_peers("lamp"), Ok(vec![peer(3), peer(4), peer(2)]));
    assert_eq!(node.engine().find_peers("hall"), Ok(vec![peer(5)]));
    assert_eq!(node.engine().find_peers("Hall"), Ok(vec![]));
}

#[test]
fn a_bootstrap_peer_without_pub_sub_is_told_once_and_tried_again_after_five_minutes() {
    let mut node = Node::new(1, AviP2pConfig { bootstrap_peers: vec![address(2)], ..config() });
    for _ in 0..2 {
        let [(dial, _)] = node.take_dials()[..] else { panic!() };
        node.connected(1, 2, Direction::Outbound(dial));
        node.net(NetEvent::Foreign { peer: peer(2) });
        node.identified(2, &[&address(2)]);
        node.disconnected(1, 2);
        let told = |event: &AviEvent| match event {
            AviEvent::BootstrapFailed { reason, retry_in, .. } => Some((reason.contains("pub/sub"), *retry_in)),
            _ => None,
        };
        let told: Vec<_> = node.take_events().iter().filter_map(told).collect();
        assert_eq!(told, [(true, secs(300))]);
        node.wait(secs(299));
        assert_eq!((node.take_dials(), node.take_events()), (vec![], vec![]));
        node.wait(secs(1));
    }
}

#[test]
fn what_is_known_about_a_peer_can_be_asked() {
    let mut node = Node::with_peer(1, 2, config());
    node.identified(2, &["/ip4/192.0.2.9/tcp/9"]);
    node.net(NetEvent::Pong { connection: ConnectionId(1), peer: peer(2), rtt: millis(7) });
    for topic in ["b", "a"] {
        node.net(NetEvent::PeerSubscribed { peer: peer(2), topic: topic.to_owned() });
    }
    node.wait(secs(5));
    let info = node.peer_info(2).unwrap();
    assert_eq!((info.peer_id, info.source, info.connected), (peer(2), DiscoverySource::Inbound, true));
    assert_eq!((info.name.as_deref(), info.rtt, info.connected_for), (Some("node 2"), Some(millis(7)), Some(secs(5))));
    assert_eq!((info.addresses, info.topics), (vec!["/ip4/192.0.2.9/tcp/9".to_owned()], vec!["a".into(), "b".into()]));

    node.disconnected(1, 2);
    let info = node.peer_info(2).unwrap();
    assert_eq!((info.connected, info.connected_for, info.rtt), (false, None, None));
    assert!(info.topics.is_empty());
    let bad = node.engine().peer_info(node.now, &PeerId::new("alice"));
    assert_eq!(bad, Err(AviP2pError::InvalidPeerId("alice".to_owned())));
}

#[test]
fn started_comes_first_and_other_addresses_are_told_as_a_change() {
    let mut node = Node::new(1, config());
    let listen = |addresses: &[&str]| addresses.iter().map(|address| (*address).to_owned()).collect::<Vec<_>>();
    node.net(NetEvent::Listening { addresses: listen(&["/b", "/a"]) });
    let started = AviEvent::Started { local_peer_id: peer(1), listen_addresses: listen(&["/a", "/b"]) };
    assert_eq!(node.take_events(), [started]);
    node.net(NetEvent::Listening { addresses: listen(&["/a", "/b"]) });
    assert_eq!(node.take_events(), []);
    node.net(NetEvent::Listening { addresses: listen(&["/c"]) });
    assert_eq!(node.take_events(), [AviEvent::ListenAddressesChanged { listen_addresses: listen(&["/c"]) }]);
}

#[test]
fn the_port_of_datagrams_is_known_while_there_is_one() {
    let mut node = Node::new(1, config());
    assert_eq!(node.engine().media_port(), None);
    node.net(NetEvent::DatagramsOn { port: 9000 });
    node.net(NetEvent::DatagramsOn { port: 9001 });
    assert_eq!(node.engine().media_port(), Some(9001));
    node.net(NetEvent::DatagramsOff { reason: "gone".to_owned() });
    assert_eq!(node.engine().media_port(), None);
    node.net(NetEvent::ListenersMissing);
    node.wait(secs(1));
    assert_eq!(node.take_actions(), [NetAction::RetryListeners]);
}

#[test]
fn what_the_network_room_counts_is_in_the_stats() {
    let mut node = Node::with_peer(1, 2, config());
    node.net(NetEvent::InboundRefused(Refusal::MaxPeers));
    node.net(NetEvent::InboundFailed);
    node.net(NetEvent::MessageRefused);
    node.net(NetEvent::SlowPeer { peer: peer(1), dropped: 3 });
    let stats = node.stats();
    assert_eq!((stats.inbound_refused, stats.inbound_failed), (1, 1));
    assert_eq!((stats.messages_refused, stats.slow_peer_drops), (1, 3));
    let there = "192.0.2.1:9000".parse().unwrap();
    node.net(NetEvent::DatagramDropped { to: there });
    node.net(NetEvent::DatagramsIgnored { count: 4 });
    node.net(NetEvent::DatagramsIgnored { count: u64::MAX });
    node.net(NetEvent::Datagram { from: there, bytes: Bytes::from_static(b"12345678") });
    let stats = node.stats();
    let datagrams = (stats.datagrams_received, stats.datagrams_dropped, stats.datagrams_ignored);
    assert_eq!(datagrams, (0, 1, u64::MAX), "nobody was invited");
    let (source, reason) = (DiscoverySource::Mdns, "no interface".to_owned());
    node.net(NetEvent::DiscoveryUnavailable { source, reason: reason.clone() });
    assert_eq!(node.take_events(), [AviEvent::DiscoveryUnavailable { source, reason }]);
}

/// Takes the messages that the node publishes now, as GossipSub does. Returns how many.
fn take_published(node: &mut Node) -> usize {
    let published: Vec<_> = node
        .take_actions()
        .into_iter()
        .filter_map(|action| match action {
            NetAction::Publish { publish, .. } => Some(publish),
            _ => None,
        })
        .collect();
    for publish in &published {
        node.net(NetEvent::Published { publish: *publish, outcome: PublishOutcome::Sent });
    }
    published.len()
}

#[test]
fn held_messages_that_went_into_a_dying_connection_are_told_lost() {
    let mut node = Node::new(1, config());
    for _ in 0..10 {
        node.publish("lobby", b"held");
    }
    node.connected(1, 2, Direction::Inbound);
    node.net(NetEvent::PeerSubscribed { peer: peer(2), topic: "lobby".to_owned() });
    assert_eq!(take_published(&mut node), 10);
    node.take_events();
    node.disconnected(1, 2);
    let slow = AviEvent::PeerSlow { peer_id: peer(2), dropped: 10 };
    assert_eq!(node.take_events(), [slow, AviEvent::PeerDisconnected { peer_id: peer(2) }]);
}

#[test]
fn a_message_is_lost_only_to_a_subscriber_of_its_topic() {
    let mut node = Node::with_peer(1, 2, config());
    node.connected(2, 3, Direction::Inbound);
    for (n, topic) in [(2, "lobby"), (3, "cellar")] {
        node.net(NetEvent::PeerSubscribed { peer: peer(n), topic: topic.to_owned() });
    }
    node.take_events();
    for topic in ["lobby", "lobby", "cellar"] {
        node.publish(topic, b"hi");
        assert_eq!(take_published(&mut node), 1);
    }
    node.disconnected(1, 2);
    let slow = |n, dropped| AviEvent::PeerSlow { peer_id: peer(n), dropped };
    assert_eq!(node.take_events(), [slow(2, 2), AviEvent::PeerDisconnected { peer_id: peer(2) }]);
    node.disconnected(2, 3);
    assert_eq!(node.take_events(), [slow(3, 1), AviEvent::PeerDisconnected { peer_id: peer(3) }]);
}

#[test]
fn what_was_published_into_a_connection_that_falls_silent_is_told_lost() {
    let mut node = Node::with_peer(1, 2, config());
    node.has_pongs = false;
    node.net(NetEvent::PeerSubscribed { peer: peer(2), topic: "lobby".to_owned() });
    let publish = |node: &mut Node, count| {
        for _ in 0..count {
            node.publish("lobby", b"hi");
            assert_eq!(take_published(node), 1);
        }
    };
    publish(&mut node, 1);
    pong(&mut node, 1, 2);
    // The next pong shows that the first message has arrived, not that these have.
    publish(&mut node, 2);
    pong(&mut node, 1, 2);
    publish(&mut node, 3);
    node.wait(secs(8));
    node.net(NetEvent::Progress { connection: ConnectionId(1), silent_for: Duration::MAX });
    let slow = AviEvent::PeerSlow { peer_id: peer(2), dropped: 5 };
    assert_eq!((node.take_events(), node.stats().slow_peer_drops), (vec![slow], 5));
}

#[test]
fn what_a_peer_says_of_its_addresses_replaces_what_others_said() {
    let mut node = Node::with_peer(1, 2, config());
    for n in 10..14 {
        let (addresses, source) = (vec![address(n)], DiscoverySource::Kademlia);
        node.net(NetEvent::Discovered { peer: peer(2), addresses, source });
    }
    assert_eq!(node.peer_info(2).unwrap().addresses.len(), 4);
    node.identified(2, &[&address(20)]);
    assert_eq!(node.peer_info(2).unwrap().addresses, [address(20)]);
    node.identified(2, &[]);
    assert_eq!(node.peer_info(2).unwrap().addresses, [address(20)]);
}

#[test]
fn of_two_young_connections_the_one_that_answers_is_never_left_for_one_that_does_not() {
    let mut node = Node::with_peer(2, 1, config());
    node.has_pongs = false;
    node.connected(2, 1, Direction::Outbound(DialId(1)));
    answers(&mut node, 1, 1);
    assert_eq!(node.take_actions(), [probe(1), probe(2)]);
    node.wait(secs(7));
    assert_eq!(node.take_actions(), []);
    answers(&mut node, 2, 1);
    node.wait(secs(5));
    assert!(node.take_actions().contains(&retire(1)));
}

#[test]
fn a_bootstrap_peer_that_speaks_pub_sub_again_is_redialled_as_any_other() {
    let mut node = Node::new(1, AviP2pConfig { bootstrap_peers: vec![address(2)], ..config() });
    let dial = |node: &mut Node| node.take_dials().first().map(|(dial, _)| *dial).expect("it is dialled");
    let first = dial(&mut node);
    node.connected(1, 2, Direction::Outbound(first));
    node.net(NetEvent::Foreign { peer: peer(2) });
    node.disconnected(1, 2);
    node.wait(secs(301));
    let second = dial(&mut node);
    node.connected(2, 2, Direction::Outbound(second));
    node.identified(2, &[&address(2)]);
    node.disconnected(2, 2);
    node.wait(secs(3));
    dial(&mut node);
}
