//! Calls that outlive their connection.

use bytes::BytesMut;

use super::*;
use crate::wire::{Ack, Code, Frame, Token};

const RESUME_WITHIN: Duration = Duration::from_secs(15);

fn gone(peer: &PeerId) -> AviEvent {
    AviEvent::PeerDisconnected { peer_id: peer.clone() }
}

fn came(peer: &PeerId, n: u16) -> AviEvent {
    AviEvent::PeerConnected { peer_id: peer.clone(), address: address(n) }
}

/// Sends a frame in each direction, and checks that both arrive.
#[track_caller]
fn assert_talks(mesh: &mut Mesh, here: StreamId, there: StreamId) {
    let (a, b) = (mesh.id(0), mesh.id(1));
    mesh.send(0, here, b"there").unwrap();
    mesh.send(1, there, b"back").unwrap();
    assert_eq!(mesh.events(0), [audio(&b, here, b"back")]);
    assert_eq!(mesh.events(1), [audio(&a, there, b"there")]);
}

fn resumed(mesh: &Mesh) -> [u64; 2] {
    [0, 1].map(|n| mesh.nodes[n].stats().streams_resumed)
}

#[test]
fn a_call_goes_on_after_its_connection_is_lost_however_often() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    let (a, b) = (mesh.id(0), mesh.id(1));
    assert_talks(&mut mesh, here, there);
    for times in 1..=20 {
        mesh.run_for(secs(5));
        mesh.cut_link(times - 1);
        assert_eq!(mesh.events(0), [gone(&b), came(&b, 2), named(&b)]);
        assert_eq!(mesh.events(1), [gone(&a), came(&a, 1), named(&a)]);
        assert_talks(&mut mesh, here, there);
        assert_eq!(resumed(&mesh), [times as u64; 2]);
    }
    let stats = mesh.audio_stats(1, there);
    assert_eq!((stats.frames_given, stats.frames_received, stats.frames_lost), (21, 21, 0));
    assert!(stats.accepted);
    mesh.close(0, here).unwrap();
    assert_eq!(mesh.events(1), [closed(&a, there, StreamCloseReason::RemoteClose)]);
}

#[test]
fn reports_go_on_too() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    assert_talks(&mut mesh, here, there);
    mesh.cut_link(0);
    mesh.run_for(millis(100));
    mesh.events(0);
    mesh.events(1);
    assert_talks(&mut mesh, here, there);
    mesh.run_for(secs(1));
    assert_eq!(mesh.audio_stats(0, here).remote.unwrap().highest_sequence, 1);
}

#[test]
fn what_was_lost_with_the_connection_is_told_as_a_gap_and_what_is_too_old_is_dropped() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    let a = mesh.id(0);
    mesh.send(0, here, b"0").unwrap();
    mesh.events(1);
    // Two are on their way when the connection ends: one write, and one that waits for it.
    mesh.congest(0);
    mesh.send(0, here, b"1").unwrap();
    mesh.unplug(1, true);
    mesh.cut_link(0);
    for n in 2..12 {
        mesh.run_for(millis(100));
        mesh.send(0, here, &[n]).unwrap();
    }
    mesh.relieve(0);
    mesh.unplug(1, false);
    mesh.run_for(secs(5));
    let events = mesh.events(1);
    let missing: u64 =
        events.iter().map(|event| if let AviEvent::AudioGap { missing, .. } = event { *missing } else { 0 }).sum();
    let heard = events.iter().filter(|event| matches!(event, AviEvent::AudioData { .. })).count() as u64;
    assert_eq!((heard + missing, events.contains(&gone(&a))), (11, true), "{events:?}");
    assert!(missing >= 9, "those are older than the queue: {events:?}");
    let (stats, there) = (mesh.audio_stats(0, here), mesh.audio_stats(1, there));
    assert_eq!((stats.frames_given, there.frames_received + there.frames_lost), (12, 12));
    assert_eq!(stats.frames_sent + stats.frames_dropped, 12);
}

#[test]
fn a_stream_that_refuses_old_audio_sends_none_after_a_pause() {
    let mut mesh = Mesh::pair(config(), config());
    let options = StreamOptions { on_congestion: OnCongestion::Refuse, ..StreamOptions::default() };
    let (here, there) = mesh.call(options);
    mesh.unplug(1, true);
    mesh.cut_link(0);
    mesh.send(0, here, b"taken").unwrap();
    mesh.run_for(secs(1));
    assert!(matches!(mesh.send(0, here, b"refused"), Err(AviP2pError::Congested(_))));
    mesh.unplug(1, false);
    mesh.run_for(secs(5));
    let a = mesh.id(0);
    assert_eq!(mesh.events(1), [gone(&a), came(&a, 1), named(&a), gap(&a, there, 1)]);
    assert_eq!(mesh.audio_stats(0, here).frames_dropped, 1);
}

#[test]
fn a_call_whose_peer_does_not_come_back_ends_after_fifteen_seconds() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    let (a, b) = (mesh.id(0), mesh.id(1));
    mesh.unplug(1, true);
    mesh.cut_link(0);
    mesh.run_for(RESUME_WITHIN - millis(1));
    assert_eq!((mesh.events(0), mesh.events(1)), (vec![gone(&b)], vec![gone(&a)]));
    assert_eq!(mesh.nodes[0].stats().streams_now, 1);
    mesh.run_for(millis(1));
    assert_eq!(mesh.events(0), [closed(&b, here, StreamCloseReason::PeerDisconnected)]);
    assert_eq!(mesh.events(1), [closed(&a, there, StreamCloseReason::PeerDisconnected)]);
    // It does not come back when the peer does.
    mesh.unplug(1, false);
    mesh.connect(0, 1);
    mesh.run_for(secs(60));
    assert_eq!((mesh.events(0), mesh.events(1)), (vec![came(&b, 2), named(&b)], vec![came(&a, 1), named(&a)]));
}

#[test]
fn a_call_survives_a_silent_death_of_its_connection() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.silence(0);
    // The peer is dialled again before anybody is declared dead.
    mesh.run_for(secs(8));
    assert_talks(&mut mesh, here, there);
    mesh.run_for(secs(60));
    assert_eq!((mesh.events(0), mesh.events(1)), (vec![], vec![]));
    assert_talks(&mut mesh, here, there);
    assert_eq!([0, 1].map(|n| mesh.nodes[n].stats().ping_timeouts), [0, 0]);
}

#[test]
fn an_end_that_still_believes_in_the_old_connection_goes_on_too() {
    for (loser, age) in [(0, 0), (1, 0), (0, 6), (1, 6)] {
        let mut mesh = Mesh::pair(config(), config());
        let (here, there) = mesh.call(StreamOptions::default());
        mesh.run_for(secs(age));
        mesh.lose_link(0, loser);
        // Two connections within the first five seconds look like a simultaneous dial, and one of them is closed.
        mesh.run_for(secs(10));
        mesh.events(0);
        mesh.events(1);
        assert_talks(&mut mesh, here, there);
        assert!(resumed(&mesh)[0] >= 1, "node {loser} after {age} s");
        mesh.run_for(secs(30));
        assert_talks(&mut mesh, here, there);
    }
}

#[test]
fn the_application_may_close_a_call_that_waits_for_its_connection() {
    for closer in 0..2 {
        let mut mesh = Mesh::pair(config(), config());
        let streams = <[StreamId; 2]>::from(mesh.call(StreamOptions::default()));
        mesh.unplug(1, true);
        mesh.cut_link(0);
        mesh.close(closer, streams[closer]).unwrap();
        mesh.run_for(secs(5));
        mesh.unplug(1, false);
        mesh.run_for(secs(5));
        let (me, other) = (mesh.id(closer), mesh.id(1 - closer));
        let closed_as = |mesh: &mut Mesh, n: usize| {
            let mut events = mesh.events(n);
            events.retain(|event| matches!(event, AviEvent::AudioStreamClosed { .. }));
            events
        };
        let here = closed(&other, streams[closer], StreamCloseReason::LocalClose);
        assert_eq!(closed_as(&mut mesh, closer), [here]);
        let there = closed(&me, streams[1 - closer], StreamCloseReason::RemoteClose);
        assert_eq!(closed_as(&mut mesh, 1 - closer), [there]);
    }
}

#[test]
fn an_end_that_hangs_up_on_a_connection_that_carries_nothing_is_heard_on_the_next_one() {
    for closer in 0..2 {
        let mut mesh = Mesh::pair(config(), config());
        let streams = <[StreamId; 2]>::from(mesh.call(StreamOptions::default()));
        mesh.run_for(secs(6));
        mesh.silence(0);
        mesh.close(closer, streams[closer]).unwrap();
        mesh.run_for(secs(8));
        let (me, other) = (mesh.id(closer), mesh.id(1 - closer));
        assert_eq!(mesh.events(closer), [closed(&other, streams[closer], StreamCloseReason::LocalClose)]);
        assert_eq!(mesh.events(1 - closer), [closed(&me, streams[1 - closer], StreamCloseReason::RemoteClose)]);
        mesh.run_for(secs(60));
        assert_eq!([0, 1].map(|n| mesh.nodes[n].stats().streams_now), [0, 0]);
    }
}

#[test]
fn a_peer_that_is_blocked_does_not_come_back_into_a_call() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    let b = mesh.id(1);
    mesh.unplug(1, true);
    mesh.cut_link(0);
    mesh.ask(0, |id| Command::SetBlocked { id, peer: b.clone(), is_blocked: true }).unwrap();
    assert_eq!(mesh.events(0), [gone(&b), closed(&b, here, StreamCloseReason::PeerDisconnected)]);
    mesh.unplug(1, false);
    mesh.run_for(secs(30));
    assert_eq!((mesh.events(0), resumed(&mesh)), (vec![], [0, 0]));
}

#[test]
fn a_shutdown_ends_a_call_that_waits() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    let b = mesh.id(1);
    mesh.unplug(1, true);
    mesh.cut_link(0);
    assert_eq!(mesh.command(0, |id| Command::Shutdown { id }), Some(Ok(())));
    assert_eq!(mesh.events(0), [gone(&b), closed(&b, here, StreamCloseReason::LocalClose)]);
}

#[test]
fn a_call_that_waits_counts_as_a_stream() {
    let one = || AviP2pConfig { max_audio_streams: 1, ..config() };
    let mut mesh = Mesh::pair(one(), one());
    mesh.call(StreamOptions::default());
    mesh.unplug(1, true);
    mesh.cut_link(0);
    let limit = AviP2pError::LimitReached { limit: "max_audio_streams", max: 1 };
    assert_eq!(mesh.request(0, 1, StreamOptions::default()), Err(limit));
    assert_eq!(mesh.nodes[0].stats().streams_now, 1);
}

#[test]
fn a_peer_that_accepts_connections_only_to_close_them_is_not_dialled_all_the_time() {
    let mut mesh = Mesh::pair(config(), config());
    mesh.call(StreamOptions::default());
    for _ in 0..1000 {
        mesh.links(0, 1).into_iter().for_each(|link| mesh.cut_link(link));
        mesh.run_for(millis(10));
    }
    let dials = mesh.nodes[0].stats().dials + mesh.nodes[1].stats().dials;
    assert!((10..80).contains(&dials), "{dials} dials in 10 s");
}

// One end by hand.

const OLD: SubstreamId = SubstreamId(1);
const NEW: SubstreamId = SubstreamId(2);
const THEIRS: Token = [7; 16];

fn data(sequence: u64) -> Frame {
    Frame::Data { sequence, timestamp_us: 0, payload: Bytes::from_static(b"x") }
}

fn resume(token: Token, next_sequence: u64) -> Frame {
    Frame::Resume { token, next_sequence }
}

/// A node that has accepted a stream of `peer(2)`, and the token that it gave.
fn callee() -> (Node, StreamId, Token) {
    let mut node = Node::with_peer(9, 2, config());
    node.offered(OLD.0, 2);
    node.received(OLD, &[Frame::Open(Default::default())]);
    let [AviEvent::AudioStreamRequested { stream_id, .. }] = node.take_events()[..] else { panic!() };
    node.ask(|id| Command::AcceptStream { id, stream: stream_id }).unwrap();
    assert_eq!(node.written(OLD), [Frame::Accept, Frame::Ack(Ack::default())]);
    node.received(OLD, &[Frame::Resumable { token: THEIRS }, data(0)]);
    node.take_events();
    let token = node.tokens[&OLD];
    (node, stream_id, token)
}

#[test]
fn resume_moves_a_stream_that_still_has_its_old_substream_and_resets_that() {
    let (mut node, stream, token) = callee();
    node.offered(NEW.0, 2);
    // Half of a frame follows at once.
    let mut bytes = BytesMut::new();
    [resume(token, 3), data(3), data(4)].iter().for_each(|frame| frame.encode(&mut bytes));
    let mut bytes = bytes.freeze();
    let end = bytes.split_off(bytes.len() - 2);
    node.net(NetEvent::Received { substream: NEW, bytes });
    assert!(node.take_actions().contains(&NetAction::Reset { substream: OLD }) || node.contract.substreams() == 1);
    assert_eq!(node.take_events(), [gap(&peer(2), stream, 2), audio(&peer(2), stream, b"x")]);
    node.net(NetEvent::Received { substream: NEW, bytes: end });
    assert_eq!(node.take_events(), [audio(&peer(2), stream, b"x")]);
    assert_eq!((node.stats().streams_resumed, node.stats().streams_now), (1, 1));
    // What the old substream still had to say does not count.
    node.net(NetEvent::Broken { substream: OLD, reason: "reset".to_owned() });
    node.wait(secs(60));
    assert_eq!(node.take_events(), []);
}

#[test]
fn a_token_serves_once_and_only_the_peer_it_was_given_to() {
    let (mut node, stream, token) = callee();
    node.connected(3, 3, Direction::Inbound);
    let rejected = |node: &mut Node, substream: u64, n: u16, connection: u64, token: Token| {
        let (id, connection) = (SubstreamId(substream), ConnectionId(connection));
        node.net(NetEvent::SubstreamOffered { substream: id, peer: peer(n), connection });
        node.received(id, &[resume(token, 0)]);
        matches!(node.written(id)[..], [Frame::Reject { code: Code::Application, .. }])
    };
    node.take_events();
    assert!(rejected(&mut node, 10, 3, 3, token), "another peer has it");
    assert!(rejected(&mut node, 11, 2, 1, [0; 16]), "nobody has given it");
    assert!(rejected(&mut node, 12, 2, 1, THEIRS), "it is the other end's own");
    node.offered(NEW.0, 2);
    node.received(NEW, &[resume(token, 1)]);
    assert_eq!(node.written(NEW), [resume(token, 0)]);
    let newer = node.tokens[&NEW];
    assert_ne!(newer, token);
    // Until the other end has shown that it knows the new one, the answer may have been lost.
    node.offered(20, 2);
    node.received(SubstreamId(20), &[resume(token, 1)]);
    assert_eq!(node.written(SubstreamId(20)), [resume(token, 0)]);
    node.received(SubstreamId(20), &[Frame::Resumable { token: THEIRS }]);
    assert!(rejected(&mut node, 21, 2, 1, token), "it was used");
    assert!(rejected(&mut node, 22, 2, 1, newer), "it was replaced");
    assert_eq!((node.take_events(), node.stats().streams_now), (vec![], 1));
    let newest = node.tokens[&SubstreamId(20)];
    node.ask(|id| Command::CloseStream { id, stream }).unwrap();
    node.offered(23, 2);
    node.received(SubstreamId(23), &[resume(newest, 1)]);
    let answer = node.written(SubstreamId(23));
    assert!(matches!(answer[..], [Frame::Resume { .. }, Frame::Close { .. }]), "the other end hears why: {answer:?}");
    node.wait(secs(15));
    assert!(rejected(&mut node, 24, 2, 1, newest), "the stream is over");
}

/// A node in a call with `peer(2)`, which it has asked for it, after the loss of its connection. RESUME is sent.
fn resuming() -> (Node, StreamId) {
    let mut node = Node::with_peer(9, 2, config());
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    node.net(NetEvent::SubstreamOpened { stream, substream: OLD });
    node.received(OLD, &[Frame::Accept, Frame::Resumable { token: THEIRS }]);
    assert_eq!(node.written(OLD), [Frame::Open(Default::default()), Frame::Ack(Ack::default())]);
    assert!(node.tokens.contains_key(&OLD), "it can go on");
    node.disconnected(1, 2);
    node.connected(2, 2, Direction::Inbound);
    node.net(NetEvent::SubstreamOpened { stream, substream: NEW });
    assert_eq!(node.written(NEW), [resume(THEIRS, 0)]);
    node.take_events();
    (node, stream)
}

#[test]
fn an_answer_to_resume_that_does_not_fit_ends_the_stream() {
    for frames in [
        &[resume([1; 16], 0)][..],
        &[Frame::Accept],
        &[data(0)],
        &[resume(THEIRS, 0), resume(THEIRS, 0)],
        &[resume(THEIRS, 0), Frame::Resumable { token: [1; 16] }, Frame::Resumable { token: [2; 16] }],
    ] {
        let (mut node, stream) = resuming();
        node.received(NEW, frames);
        let events = node.take_events();
        let [AviEvent::AudioStreamClosed { stream_id, reason: StreamCloseReason::Protocol(_), .. }] = &events[..]
        else {
            panic!("{frames:?}: {events:?}")
        };
        assert_eq!((*stream_id, node.stats().protocol_errors), (stream, 1));
    }
}

#[test]
fn a_peer_that_does_not_know_the_stream_any_more_ends_it() {
    let (mut node, stream) = resuming();
    node.received(NEW, &[Frame::Reject { code: Code::Application, reason: "what stream?".to_owned() }]);
    assert_eq!(node.take_events(), [closed(&peer(2), stream, StreamCloseReason::PeerDisconnected)]);
}

#[test]
fn a_peer_that_does_not_answer_resume_ends_the_stream_in_time_and_a_second_loss_gives_no_more_time() {
    let (mut node, stream) = resuming();
    node.wait(secs(10));
    node.disconnected(2, 2);
    node.connected(3, 2, Direction::Inbound);
    node.net(NetEvent::SubstreamOpened { stream, substream: SubstreamId(3) });
    assert_eq!(node.written(SubstreamId(3)), [resume(THEIRS, 0)]);
    node.wait(secs(5) - millis(1));
    assert_eq!(node.take_events().len(), 2, "the peer goes and comes");
    node.wait(millis(1));
    assert_eq!(node.take_events(), [closed(&peer(2), stream, StreamCloseReason::PeerDisconnected)]);
    assert!(matches!(node.written(SubstreamId(3))[..], [Frame::Close { code: Code::Timeout, .. }]));
}
