//! Calls to peers that are known and not connected.

use super::*;

fn ask(node: &mut Node, n: u16) -> StreamId {
    node.request(&peer(n), StreamOptions::default()).unwrap()
}

/// A node that is full of idle peers from 10 on, and has discovered `peer(2)`.
fn full(max_peers: u16) -> Node {
    let mut node = Node::new(1, AviP2pConfig { max_peers: max_peers.into(), ..config() });
    (10..10 + max_peers).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.discovered(2);
    node.take_events();
    node.take_actions();
    node
}

fn unreachable(n: u16, stream: StreamId) -> AviEvent {
    closed(&peer(n), stream, StreamCloseReason::Unreachable)
}

#[test]
fn a_call_to_a_peer_that_waits_for_its_next_dial_dials_it_at_once_and_goes_on_when_it_is_there() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let dial = node.take_dials()[0].0;
    node.dial_failed(dial);
    node.take_events();
    let stream = ask(&mut node, 2);
    let dial = node.take_dials()[0].0;
    node.connected(1, 2, Direction::Outbound(dial));
    assert_eq!(node.take_actions(), [NetAction::OpenSubstream { stream, connection: ConnectionId(1) }]);
    assert_eq!(node.stats().streams_now, 1);
}

#[test]
fn a_call_to_a_peer_that_nobody_has_heard_of_is_an_error() {
    let mut node = Node::new(1, config());
    let result = node.request(&peer(2), StreamOptions::default());
    assert_eq!(result, Err(AviP2pError::PeerNotFound(peer(2))));
}

#[test]
fn a_call_to_oneself_or_to_who_is_kept_out_says_why() {
    let listed = Some(vec![peer(2), peer(3), peer(4)]);
    let paired_peers = vec![peer(5), peer(6)];
    let mut node = Node::new(1, AviP2pConfig { allowed_peers: listed, paired_peers, ..config() });
    (2..8).for_each(|n| node.discovered(n));
    for n in [2, 5] {
        node.ask(|id| Command::SetBlocked { id, peer: peer(n), is_blocked: true }).unwrap();
    }
    node.ask(|id| Command::SetAllowed { id, peer: peer(6), is_allowed: false }).unwrap();
    node.net(NetEvent::Misbehaved { peer: peer(3) });
    for (n, why) in [
        (1, "it is this node itself"),
        (2, "it is in blocked_peers"),
        (3, "it has broken the rules of pub/sub, and is kept out for five minutes"),
        (5, "it is in blocked_peers"),
        (7, "it is not in allowed_peers"),
    ] {
        let error = node.request(&peer(n), StreamOptions::default()).unwrap_err();
        assert_eq!(error, AviP2pError::PeerRefused { peer_id: peer(n), reason: why });
        assert_eq!(error.to_string(), format!("peer {} cannot be called: {why}", peer(n)));
    }
    ask(&mut node, 4);
    // A paired peer needs no entry in the list.
    ask(&mut node, 6);
    // Its address is unknown, but the reason of a refusal is more important.
    let unheard_of = node.request(&peer(8), StreamOptions::default());
    assert!(matches!(unheard_of, Err(AviP2pError::PeerRefused { .. })), "{unheard_of:?}");
}

#[test]
fn two_nodes_that_know_each_other_hold_a_call_without_having_been_connected() {
    let mut mesh = Mesh::new(vec![AviP2pConfig { max_peers: 1, ..config() }, config(), config()]);
    mesh.connect(0, 2);
    mesh.nodes[0].discovered(2);
    mesh.settle();
    assert!(mesh.links(0, 1).is_empty(), "there is no room");
    let stream = ask(&mut mesh.nodes[0], 2);
    mesh.settle();
    let offered = mesh.events(1).into_iter().find_map(|event| match event {
        AviEvent::AudioStreamRequested { stream_id, .. } => Some(stream_id),
        _ => None,
    });
    mesh.nodes[1].ask(|id| Command::AcceptStream { id, stream: offered.unwrap() }).unwrap();
    mesh.settle();
    assert!(mesh.events(0).contains(&accepted(&peer(2), stream)));
    assert_eq!((mesh.nodes[0].stats().peers_displaced, mesh.nodes[0].stats().peers_connected), (1, 1));
}

#[test]
fn a_call_displaces_one_idle_peer_of_a_full_node_and_the_place_is_kept_for_it() {
    let mut node = full(4);
    let stream = ask(&mut node, 2);
    let actions = node.take_actions();
    let [NetAction::Disconnect { connection }] = actions[..] else { panic!("{actions:?}") };
    let admits = |node: &Node, n| node.admission.as_ref().unwrap().established(&peer(n), 3, 0);
    assert_eq!(admits(&node, 99), Err(Refusal::MaxPeers), "nobody else takes the place");
    assert_eq!(admits(&node, 2), Ok(()), "but the called peer itself may connect");
    node.wait(millis(1));
    assert_eq!(node.take_actions(), [], "one is enough");
    node.disconnected(connection.0, connection.0 as u16);
    let dial = node.take_dials()[0].0;
    node.connected(1, 2, Direction::Outbound(dial));
    assert_eq!(node.take_actions(), [NetAction::OpenSubstream { stream, connection: ConnectionId(1) }]);
    assert_eq!((admits(&node, 99), node.stats().peers_displaced), (Ok(()), 1));
}

#[test]
fn neither_calls_nor_bootstrap_nor_paired_peers_are_displaced() {
    let bootstrap_peers = vec![format!("{}/p2p/{}", address(10), peer(10))];
    let paired_peers = vec![peer(11)];
    let mut node = Node::new(1, AviP2pConfig { max_peers: 3, bootstrap_peers, paired_peers, ..config() });
    let dial = node.take_dials()[0].0;
    node.connected(10, 10, Direction::Outbound(dial));
    (11..13).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.discovered(2);
    ask(&mut node, 12);
    node.take_actions();
    let stream = ask(&mut node, 2);
    assert_eq!(node.take_actions(), []);
    node.take_events();
    node.wait(secs(30));
    assert!(node.take_events().contains(&unreachable(2, stream)));
    // When one of them leaves, the call would have room, but no call waits any more.
    node.disconnected(10, 10);
    node.wait(secs(1));
    assert_eq!(node.stats().peers_displaced, 0);
}

#[test]
fn a_peer_that_does_not_answer_is_dialled_three_times_for_a_call() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let dial = node.take_dials()[0].0;
    node.dial_failed(dial);
    let stream = ask(&mut node, 2);
    node.take_events();
    for last in [false, false, true] {
        let dial = node.take_dials()[0].0;
        node.dial_failed(dial);
        let told = if last { vec![unreachable(2, stream)] } else { vec![] };
        assert_eq!(node.take_events(), told);
        if !last {
            assert!(node.step() < secs(3));
        }
    }
    assert!(node.peer_info(2).is_some());
}

#[test]
fn a_refused_dial_does_not_end_a_call() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let dial = node.take_dials()[0].0;
    let stream = ask(&mut node, 2);
    node.take_events();
    node.net(NetEvent::DialFailed { dial, failure: DialFailure::Refused(Refusal::MaxPeers) });
    assert_eq!(node.take_events(), []);
    node.step();
    let dial = node.take_dials()[0].0;
    node.net(NetEvent::DialFailed { dial, failure: DialFailure::Myself });
    assert_eq!(node.take_events(), [unreachable(2, stream)]);
}

#[test]
fn a_call_whose_peer_is_never_reached_in_time_was_unreachable_and_one_that_is_not_answered_timed_out() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let never = ask(&mut node, 2);
    node.take_events();
    node.wait(secs(30));
    assert_eq!(node.take_events(), [unreachable(2, never)]);
    node.connected(1, 3, Direction::Inbound);
    let unanswered = ask(&mut node, 3);
    node.take_events();
    node.wait(secs(30));
    assert_eq!(node.take_events(), [closed(&peer(3), unanswered, StreamCloseReason::Timeout)]);
}

#[test]
fn a_call_that_is_given_up_in_time_displaces_nobody() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 1, paired_peers: vec![peer(10)], ..config() });
    node.connected(10, 10, Direction::Inbound);
    node.discovered(2);
    let stream = ask(&mut node, 2);
    node.ask(|id| Command::CloseStream { id, stream }).unwrap();
    node.disconnected(10, 10);
    node.connected(11, 11, Direction::Inbound);
    node.take_actions();
    node.wait(secs(600));
    assert_eq!(node.stats().peers_displaced, 0);
}

#[test]
fn dials_for_calls_come_before_all_others_and_find_one_free() {
    let mut node = Node::new(1, limited(|limits| limits.concurrent_dials = 4));
    (2..30).for_each(|n| node.discovered(n));
    let dials = node.take_dials();
    assert_eq!(dials.len(), 3, "one in four is kept");
    let last = (2..30).rev().find(|n| dials.iter().all(|(_, addresses)| *addresses != [address(*n)])).unwrap();
    ask(&mut node, last);
    assert_eq!(node.take_dials()[0].1, [address(last)]);
}

#[test]
fn a_call_that_waits_when_the_node_shuts_down_is_closed() {
    let mut node = full(1);
    let stream = ask(&mut node, 2);
    node.take_events();
    node.command(|id| Command::Shutdown { id });
    assert_eq!(node.take_events(), [closed(&peer(2), stream, StreamCloseReason::LocalClose)]);
}

#[test]
fn a_call_ends_at_once_when_the_peer_that_it_waits_for_is_kept_out() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let stream = ask(&mut node, 2);
    node.take_events();
    node.ask(|id| Command::SetBlocked { id, peer: peer(2), is_blocked: true }).unwrap();
    assert_eq!(node.take_events(), [unreachable(2, stream)]);
}

#[test]
fn a_displaced_peer_with_a_second_connection_does_not_hold_up_the_next_call() {
    let mut node = full(1);
    ask(&mut node, 2);
    node.take_actions();
    node.connected(50, 10, Direction::Inbound);
    node.take_actions();
    node.disconnected(10, 10);
    let again = node.take_actions();
    assert_eq!(again, [NetAction::Disconnect { connection: ConnectionId(50) }]);
}

#[test]
fn an_address_where_somebody_else_answers_is_tried_no_more() {
    let mut node = Node::new(1, config());
    node.discovered_at(2, &["/ip4/192.0.2.7/tcp/1", &address(2)]);
    let dial = node.take_dials()[0].0;
    let (wrong, obtained) = ("/ip4/192.0.2.7/tcp/1".to_owned(), peer(1));
    node.net(NetEvent::DialFailed { dial, failure: DialFailure::WrongPeer { address: wrong, obtained } });
    node.step();
    assert_eq!(node.take_dials()[0].1, [address(2)]);
}

#[test]
fn whom_to_part_with_is_decided_when_the_last_place_has_been_dialled_for() {
    let bootstrap_peers = vec![address(2), address(3)];
    let mut node = Node::new(1, AviP2pConfig { max_peers: 2, bootstrap_peers, ..config() });
    let dials = node.take_dials();
    node.connected(10, 10, Direction::Inbound);
    // One place is taken, and one dial is in progress: the other entry waits again, and a peer must be disconnected
    // now.
    node.connected(11, 2, Direction::Outbound(dials[0].0));
    node.dial_failed(dials[1].0);
    node.step();
    let parted = node.take_actions();
    assert!(parted.contains(&NetAction::Disconnect { connection: ConnectionId(10) }), "{parted:?}");
    let quiet = node.deadline();
    node.advance_to(node.now);
    assert_eq!((node.take_actions(), node.deadline()), (vec![], quiet));
}
