//! How a node ends.

use super::*;

fn stopped(mesh: &Mesh, n: usize) -> bool {
    mesh.nodes[n].contract.has_stopped()
}

#[test]
fn a_shutdown_says_goodbye_to_streams_and_peers_and_ends() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    let asked = mesh.request(1, 0, StreamOptions::default()).unwrap();
    let offered = mesh.offer(0);
    mesh.send(0, here, b"last words").unwrap();
    let (a, b) = (mesh.id(0), mesh.id(1));
    assert_eq!(mesh.ask(0, |id| Command::Shutdown { id }), Ok(()));
    assert!(stopped(&mesh, 0) && !stopped(&mesh, 1));
    let local = || StreamCloseReason::LocalClose;
    let gone = |peer: &PeerId| AviEvent::PeerDisconnected { peer_id: peer.clone() };
    assert_eq!(mesh.events(0), [closed(&b, here, local()), closed(&b, offered, local()), gone(&b)]);
    let expected = [
        audio(&a, there, b"last words"),
        closed(&a, there, StreamCloseReason::RemoteClose),
        closed(&a, asked, StreamCloseReason::Rejected(String::new())),
        gone(&a),
    ];
    assert_eq!(mesh.events(1), expected);
}

#[test]
fn held_messages_expire_with_the_node() {
    let mut mesh = Mesh::new(vec![config()]);
    mesh.publish(0, "t", b"1").unwrap();
    mesh.publish(0, "u", b"2").unwrap();
    let id = mesh.nodes[0].command(|id| Command::Shutdown { id });
    assert_eq!(mesh.events(0), [expired("t", b"1"), expired("u", b"2")]);
    assert_eq!(mesh.nodes[0].reply(id), Some(Ok(())));
}

#[test]
fn a_shutdown_waits_until_the_last_messages_have_arrived_and_tells_what_has_not() {
    for arrives in [true, false] {
        let mut node = Node::with_peer(1, 2, config());
        node.connected(2, 3, Direction::Inbound);
        node.net(NetEvent::PeerSubscribed { peer: peer(2), topic: "t".to_owned() });
        let publish = node.publish("t", b"goodbye");
        node.net(NetEvent::Published { publish: PublishId(1), outcome: PublishOutcome::Sent });
        assert_eq!(node.reply(publish), Some(Ok(Published::Sent)));
        node.take_actions();
        let shutdown = node.command(|id| Command::Shutdown { id });
        let connection = ConnectionId(1);
        assert_eq!(node.take_actions(), [NetAction::Flush { connection }], "nobody else subscribes");
        node.wait(millis(1499));
        assert_eq!(node.take_actions(), []);
        if arrives {
            node.net(NetEvent::Flushed { connection });
        } else {
            node.wait(millis(1));
        }
        assert_eq!(node.take_actions(), [NetAction::DisconnectAll]);
        node.disconnected(1, 2);
        node.disconnected(2, 3);
        assert_eq!(node.reply(shutdown), Some(Ok(())));
        let slow = node.take_events().contains(&AviEvent::PeerSlow { peer_id: peer(2), dropped: 1 });
        assert_eq!(slow, !arrives);
    }
}

fn assert_is_closed(node: &mut Node) {
    let closed = AviP2pError::ChannelClosed;
    assert_eq!(node.ask(|id| Command::Subscribe { id, topic: "t".to_owned() }), Err(closed.clone()));
    assert_eq!(node.ask(|id| Command::Publish { id, topic: "t".to_owned(), data: Bytes::new() }), Err(closed.clone()));
    assert_eq!(node.request(&peer(2), StreamOptions::default()), Err(closed.clone()));
    assert_eq!(node.ask(|id| Command::FindMorePeers { id }), Err(closed.clone()));
    assert_eq!(node.ask(|id| Command::Shutdown { id }), Err(closed.clone()));
    assert_eq!(node.engine().connected_peers(), Err(closed.clone()));
    assert_eq!(node.engine().peer_info(node.now, &peer(2)), Err(closed.clone()));
    assert_eq!(node.engine().audio_stats(StreamId(1)), Err(closed.clone()));
    assert_eq!(node.engine().stats(), Err(closed));
}

#[test]
fn commands_and_questions_during_and_after_a_shutdown_find_the_channel_closed() {
    let mut node = Node::with_peer(1, 2, config());
    let shutdown = node.command(|id| Command::Shutdown { id });
    assert_is_closed(&mut node);
    node.disconnected(1, 2);
    assert_eq!(node.reply(shutdown), Some(Ok(())));
    assert!(node.contract.has_stopped());
    assert_is_closed(&mut node);
    node.take_actions();
    node.connected(2, 3, Direction::Inbound);
    node.discovered(4);
    assert_eq!((node.take_actions(), node.deadline()), (vec![], None));
}

#[test]
fn a_shutdown_ends_within_two_seconds_though_nobody_answers() {
    let mut node = Node::with_peer(1, 2, AviP2pConfig { enable_kad: true, ..config() });
    node.request(&peer(2), StreamOptions::default()).unwrap();
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    node.net(NetEvent::SubstreamOpened { stream, substream: SubstreamId(1) });
    node.net(NetEvent::PeerSubscribed { peer: peer(2), topic: "t".to_owned() });
    let search = node.command(|id| Command::FindMorePeers { id });
    let publish = node.publish("t", b"x");
    let shutdown = node.command(|id| Command::Shutdown { id });
    assert_eq!(node.reply(search), Some(Err(AviP2pError::ChannelClosed)));
    node.wait(secs(2));
    assert!(node.contract.has_stopped());
    assert_eq!(node.reply(publish), Some(Err(AviP2pError::ChannelClosed)));
    assert_eq!(node.reply(shutdown), Some(Ok(())));
    assert_eq!(node.take_actions().last(), Some(&NetAction::DisconnectAll));
}

#[test]
fn a_congested_path_does_not_hold_up_a_shutdown() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.congest(0);
    (0..5).for_each(|n| mesh.send(0, here, &[n]).unwrap());
    assert_eq!(mesh.command(0, |id| Command::Shutdown { id }), None);
    mesh.run_for(secs(2));
    assert!(stopped(&mesh, 0));
    let a = mesh.id(0);
    // The other end does not know that it was a shutdown, and waits for a new connection.
    assert_eq!(mesh.events(1), [AviEvent::PeerDisconnected { peer_id: a.clone() }]);
    mesh.run_for(secs(15));
    assert_eq!(mesh.events(1)[0], closed(&a, there, StreamCloseReason::PeerDisconnected));
}

#[test]
fn a_node_that_shuts_down_takes_no_new_streams_and_dials_nobody() {
    let mut node = Node::with_peer(1, 2, config());
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    node.net(NetEvent::SubstreamOpened { stream, substream: SubstreamId(1) });
    node.command(|id| Command::Shutdown { id });
    node.take_actions();
    node.take_events();
    node.offered(2, 2);
    node.discovered(3);
    assert_eq!(node.take_actions(), [NetAction::Reset { substream: SubstreamId(2) }]);
    assert!(!node.contract.has_stopped(), "CLOSE is pending");
}

#[test]
fn a_substream_that_has_not_said_what_it_is_does_not_hold_up_a_shutdown() {
    let mut node = Node::with_peer(1, 2, config());
    node.offered(1, 2);
    node.command(|id| Command::Shutdown { id });
    let reset = NetAction::Reset { substream: SubstreamId(1) };
    assert_eq!(node.take_actions(), [reset, NetAction::DisconnectAll]);
}

#[test]
fn a_published_message_that_finds_nobody_during_a_shutdown_expires() {
    let mut node = Node::with_peer(1, 2, config());
    node.net(NetEvent::PeerSubscribed { peer: peer(2), topic: "t".to_owned() });
    let publish = node.publish("t", b"x");
    node.command(|id| Command::Shutdown { id });
    node.net(NetEvent::Published { publish: PublishId(1), outcome: PublishOutcome::NoSubscribers });
    assert!(node.reply(publish).is_some());
    assert_eq!(node.take_events(), [expired("t", b"x")]);
}

#[test]
fn two_nodes_that_shut_down_at_once_both_end() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.nodes[0].command(|id| Command::Shutdown { id });
    mesh.nodes[1].command(|id| Command::Shutdown { id });
    mesh.settle();
    mesh.run_for(millis(50));
    assert!(stopped(&mesh, 0) && stopped(&mesh, 1));
    let (a, b) = (mesh.id(0), mesh.id(1));
    assert_eq!(mesh.events(0)[0], closed(&b, here, StreamCloseReason::LocalClose));
    assert_eq!(mesh.events(1)[0], closed(&a, there, StreamCloseReason::LocalClose));
}

#[test]
fn a_crash_of_the_other_end_is_no_goodbye() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    mesh.unplug(1, true);
    mesh.cut_link(0);
    let b = mesh.id(1);
    assert_eq!(mesh.events(0), [AviEvent::PeerDisconnected { peer_id: b.clone() }]);
    mesh.run_for(secs(15));
    assert_eq!(mesh.events(0)[0], closed(&b, here, StreamCloseReason::PeerDisconnected));
}
