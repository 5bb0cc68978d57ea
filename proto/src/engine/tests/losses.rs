//! Audio streams whose connection or substream is lost.

use super::*;
use crate::wire::{Ack, Frame};

/// A node with an accepted stream of `peer(2)`, which cannot go on with it on another connection.
fn in_a_call_with_an_old_peer() -> (Node, SubstreamId, StreamId) {
    let mut node = Node::with_peer(1, 2, config());
    let substream = node.offered(1, 2);
    node.received(substream, &[Frame::Open(Default::default())]);
    let [AviEvent::AudioStreamRequested { stream_id, .. }] = node.take_events()[..] else { panic!() };
    node.ask(|id| Command::AcceptStream { id, stream: stream_id }).unwrap();
    assert_eq!(node.written(substream), [Frame::Accept, Frame::Ack(Ack::default())]);
    (node, substream, stream_id)
}

#[test]
fn a_lost_connection_ends_the_streams_of_an_old_peer_as_peer_disconnected() {
    let (mut node, _, stream) = in_a_call_with_an_old_peer();
    node.disconnected(1, 2);
    let gone = AviEvent::PeerDisconnected { peer_id: peer(2) };
    assert_eq!(node.take_events(), [closed(&peer(2), stream, StreamCloseReason::PeerDisconnected), gone]);
}

#[test]
fn a_stream_whose_connection_this_node_closes_ends_as_peer_disconnected_however_long_that_takes() {
    for is_reported in [true, false] {
        let (mut node, substream, stream) = in_a_call_with_an_old_peer();
        node.net(NetEvent::Foreign { peer: peer(2) });
        node.net(NetEvent::Broken { substream, reason: "gone".to_owned() });
        node.wait(millis(2900));
        assert_eq!(node.take_events(), []);
        match is_reported {
            true => node.disconnected(1, 2),
            false => node.wait(millis(100)),
        }
        assert_eq!(node.take_events()[0], closed(&peer(2), stream, StreamCloseReason::PeerDisconnected));
    }
    // The substream may break first.
    let (mut node, substream, stream) = in_a_call_with_an_old_peer();
    node.net(NetEvent::Broken { substream, reason: "gone".to_owned() });
    node.net(NetEvent::Foreign { peer: peer(2) });
    node.wait(secs(2));
    node.disconnected(1, 2);
    assert_eq!(node.take_events()[0], closed(&peer(2), stream, StreamCloseReason::PeerDisconnected));
}

#[test]
fn requests_and_offers_end_with_the_connection_too() {
    let mut mesh = Mesh::pair(config(), config());
    let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
    let there = mesh.offer(1);
    let (a, b) = (mesh.id(0), mesh.id(1));
    mesh.cut_link(0);
    assert_eq!(mesh.events(0)[0], closed(&b, here, StreamCloseReason::PeerDisconnected));
    assert_eq!(mesh.events(1)[0], closed(&a, there, StreamCloseReason::PeerDisconnected));
}

#[test]
fn a_broken_substream_on_a_living_connection_is_an_error_within_half_a_second() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.break_substreams();
    assert_eq!((mesh.events(0), mesh.events(1)), (vec![], vec![]));
    mesh.run_for(millis(500));
    let (a, b) = (mesh.id(0), mesh.id(1));
    let error = || StreamCloseReason::Error("reset".to_owned());
    assert_eq!(mesh.events(0), [closed(&b, here, error())]);
    assert_eq!(mesh.events(1), [closed(&a, there, error())]);
}

#[test]
fn a_substream_that_breaks_just_before_its_connection_is_reported_as_peer_disconnected() {
    let (mut node, substream, stream) = in_a_call_with_an_old_peer();
    node.net(NetEvent::Broken { substream, reason: "reset".to_owned() });
    node.wait(millis(499));
    node.disconnected(1, 2);
    assert_eq!(node.take_events()[0], closed(&peer(2), stream, StreamCloseReason::PeerDisconnected));
}

#[test]
fn bytes_that_end_without_a_goodbye_are_an_error() {
    let mut node = Node::with_peer(1, 2, config());
    let substream = node.offered(1, 2);
    node.received(substream, &[Frame::Open(Default::default())]);
    let [AviEvent::AudioStreamRequested { stream_id, .. }] = node.take_events()[..] else { panic!() };
    node.ask(|id| Command::AcceptStream { id, stream: stream_id }).unwrap();
    node.net(NetEvent::Finished { substream });
    node.wait(millis(500));
    let error = StreamCloseReason::Error("the substream ended without CLOSE".to_owned());
    assert_eq!(node.take_events(), [closed(&peer(2), stream_id, error)]);
    assert_eq!(node.contract.substreams(), 0);
}

#[test]
fn a_stream_that_was_lost_can_be_closed_and_ends_once() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    mesh.break_substreams();
    mesh.close(0, here).unwrap();
    mesh.run_for(secs(10));
    let b = mesh.id(1);
    assert_eq!(mesh.events(0), [closed(&b, here, StreamCloseReason::LocalClose)]);
}

#[test]
fn a_substream_that_cannot_be_opened_is_an_error() {
    let mut node = Node::with_peer(1, 2, config());
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    node.net(NetEvent::SubstreamFailed { stream, reason: "unsupported protocol".to_owned() });
    node.wait(millis(500));
    let error = StreamCloseReason::Error("unsupported protocol".to_owned());
    assert_eq!(node.take_events(), [closed(&peer(2), stream, error)]);
}

#[test]
fn a_request_survives_the_loss_of_a_duplicate_connection() {
    // This node has the greater id: of two connections, the other end chooses.
    let mut node = Node::with_peer(9, 2, config());
    node.connected(2, 2, Direction::Outbound(DialId(1)));
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    let open = |connection| NetAction::OpenSubstream { stream, connection: ConnectionId(connection) };
    assert_eq!(node.take_actions().last(), Some(&open(2)));
    node.net(NetEvent::SubstreamOpened { stream, substream: SubstreamId(1) });
    node.written(SubstreamId(1));
    node.net(NetEvent::Broken { substream: SubstreamId(1), reason: "reset".to_owned() });
    node.wait(millis(100));
    node.disconnected(2, 2);
    assert_eq!(node.take_actions(), [open(1)]);
    node.net(NetEvent::SubstreamOpened { stream, substream: SubstreamId(2) });
    assert_eq!(node.written(SubstreamId(2)), [Frame::Open(Default::default())]);
    // The time for an answer starts again.
    node.wait(millis(29_999));
    node.received(SubstreamId(2), &[Frame::Accept]);
    assert_eq!(node.take_events(), [accepted(&peer(2), stream)]);
    node.wait(secs(60));
    assert_eq!(node.take_events(), []);
}

#[test]
fn a_request_survives_also_when_only_its_substream_was_being_opened() {
    let mut node = Node::with_peer(9, 2, config());
    node.connected(2, 2, Direction::Inbound);
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    node.net(NetEvent::SubstreamFailed { stream, reason: "closing".to_owned() });
    node.disconnected(2, 2);
    node.net(NetEvent::SubstreamOpened { stream, substream: SubstreamId(2) });
    node.received(SubstreamId(2), &[Frame::Accept]);
    assert_eq!(node.take_events(), [accepted(&peer(2), stream)]);
}

#[test]
fn a_request_that_moves_leaves_the_old_substream_behind() {
    let mut node = Node::with_peer(9, 2, config());
    node.connected(2, 2, Direction::Inbound);
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    node.net(NetEvent::SubstreamOpened { stream, substream: SubstreamId(1) });
    // OPEN has not been sent, half a frame has arrived, and the end of the connection is reported before the
    // substream's.
    node.net(NetEvent::Received { substream: SubstreamId(1), bytes: bytes::Bytes::from_static(&[9, 1]) });
    node.disconnected(2, 2);
    node.net(NetEvent::Broken { substream: SubstreamId(1), reason: "reset".to_owned() });
    node.net(NetEvent::SubstreamOpened { stream, substream: SubstreamId(2) });
    node.net(NetEvent::Broken { substream: SubstreamId(1), reason: "reset".to_owned() });
    assert_eq!(node.written(SubstreamId(2)), [Frame::Open(Default::default())]);
    node.received(SubstreamId(2), &[Frame::Accept]);
    assert_eq!(node.take_events(), [accepted(&peer(2), stream)]);
}

#[test]
fn a_request_is_moved_three_times_and_then_given_up() {
    let mut node = Node::with_peer(9, 2, config());
    for n in 2..6 {
        node.connected(n, 2, Direction::Outbound(DialId(n)));
    }
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    for n in [5, 4, 3] {
        node.disconnected(n, 2);
        assert_eq!(node.take_events(), []);
    }
    node.disconnected(2, 2);
    assert_eq!(node.take_events(), [closed(&peer(2), stream, StreamCloseReason::PeerDisconnected)]);
}

#[test]
fn an_open_stream_does_not_survive_its_connection_though_another_is_there() {
    // This node has the greater id: of two connections, the other end chooses.
    let mut node = Node::with_peer(9, 2, config());
    let substream = node.offered(1, 2);
    node.received(substream, &[Frame::Open(Default::default())]);
    let [AviEvent::AudioStreamRequested { stream_id, .. }] = node.take_events()[..] else { panic!() };
    node.ask(|id| Command::AcceptStream { id, stream: stream_id }).unwrap();
    node.connected(2, 2, Direction::Inbound);
    node.disconnected(1, 2);
    assert_eq!(node.take_events(), [closed(&peer(2), stream_id, StreamCloseReason::PeerDisconnected)]);
}

#[test]
fn audio_for_a_stream_that_has_just_been_lost_is_taken_and_counted_as_dropped() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    mesh.break_substreams();
    for n in 0..5 {
        assert_eq!(mesh.send(0, here, &[n]), Ok(()));
        mesh.run_for(millis(99));
    }
    mesh.run_for(millis(5));
    assert_eq!(mesh.send(0, here, b"late"), Err(AviP2pError::StreamNotFound(here)));
    let stats = mesh.nodes[0].stats();
    assert_eq!((stats.audio_frames_sent, stats.audio_frames_dropped), (0, 5));
    assert!(matches!(mesh.events(0)[..], [AviEvent::AudioStreamClosed { .. }]));
}

#[test]
fn two_nodes_that_dial_each_other_can_ask_for_streams_at_once() {
    let knows = |n| AviP2pConfig { bootstrap_peers: vec![address(n)], ..config() };
    let mut mesh = Mesh::new(vec![knows(2), knows(1)]);
    for (from, to) in [(0, 1), (1, 0)] {
        mesh.events(from);
        mesh.events(to);
        let stream = mesh.request(from, to, StreamOptions::default()).unwrap();
        let offer = mesh.offer(to);
        mesh.accept(to, offer).unwrap();
        let other = mesh.id(to);
        assert_eq!(mesh.events(from), [accepted(&other, stream)]);
    }
}

#[test]
fn audio_on_an_offer_that_was_lost_before_its_answer_is_refused() {
    let mut node = Node::with_peer(1, 2, config());
    let substream = node.offered(1, 2);
    node.received(substream, &[Frame::Open(Default::default())]);
    let [AviEvent::AudioStreamRequested { stream_id, .. }] = node.take_events()[..] else { panic!() };
    node.net(NetEvent::Broken { substream, reason: "reset".to_owned() });
    let audio = |id| Command::SendAudio { id, stream: stream_id, data: "audio".into() };
    assert_eq!(node.ask(audio), Err(AviP2pError::StreamNotAccepted(stream_id)));
}
