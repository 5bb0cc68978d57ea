//! Audio by datagrams, and its change to the substream and back.

use std::net::SocketAddr;

use super::*;
use crate::stats::AudioPath;
use crate::wire::Frame;

fn udp(n: usize) -> SocketAddr {
    format!("192.0.2.{}:9000", n + 1).parse().unwrap()
}

/// Two nodes with datagrams, in a call: its ids at both ends.
fn call() -> (Mesh, StreamId, StreamId) {
    let mut mesh = Mesh::pair(config(), config());
    (0..2).for_each(|n| mesh.has_datagrams(n, udp(n)));
    let (here, there) = mesh.call(StreamOptions::default());
    (mesh, here, there)
}

fn path(mesh: &Mesh, n: usize, stream: StreamId) -> AudioPath {
    mesh.audio_stats(n, stream).path
}

/// Sends frames `first..first + count` from node 0, one every 20 ms.
fn talk(mesh: &mut Mesh, stream: StreamId, first: u8, count: u8) {
    for n in first..first + count {
        mesh.send(0, stream, &[n; 100]).unwrap();
        mesh.run_for(millis(20));
    }
}

/// The first bytes of the frames that node 1 got, and the gaps.
fn heard(mesh: &mut Mesh) -> (Vec<u8>, Vec<u64>) {
    let (mut frames, mut gaps) = (Vec::new(), Vec::new());
    for event in mesh.events(1) {
        match event {
            AviEvent::AudioData { data, .. } => frames.push(data[0]),
            AviEvent::AudioGap { missing, .. } => gaps.push(missing),
            AviEvent::AudioStreamClosed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    (frames, gaps)
}

#[test]
fn audio_goes_by_datagrams_as_soon_as_one_was_answered() {
    let (mut mesh, here, there) = call();
    assert_eq!((path(&mesh, 0, here), path(&mesh, 1, there)), (AudioPath::Datagrams, AudioPath::Datagrams));
    let before = mesh.datagrams.len();
    talk(&mut mesh, here, 0, 10);
    assert!(mesh.datagrams.len() >= before + 10);
    assert_eq!(heard(&mut mesh), ((0..10).collect(), vec![]));
    assert!(
        mesh.datagrams.iter().all(|(.., bytes)| !bytes.windows(9).any(|part| part == [3; 9])),
        "audio in the clear"
    );
}

#[test]
fn without_datagrams_at_one_end_everything_is_on_the_substream() {
    for with in 0..2 {
        let mut mesh = Mesh::pair(config(), config());
        mesh.has_datagrams(with, udp(with));
        let (here, _) = mesh.call(StreamOptions::default());
        talk(&mut mesh, here, 0, 10);
        assert_eq!(heard(&mut mesh), ((0..10).collect(), vec![]));
        assert_eq!((path(&mesh, 0, here), mesh.datagrams.len()), (AudioPath::Substream, 0));
    }
}

#[test]
fn a_path_that_loses_everything_is_left_within_half_a_second_and_found_again_when_it_is_back() {
    let (mut mesh, here, _) = call();
    talk(&mut mesh, here, 0, 10);
    mesh.blocked.insert((0, 1));
    talk(&mut mesh, here, 10, 60);
    assert_eq!(path(&mesh, 0, here), AudioPath::Substream);
    let (frames, gaps) = heard(&mut mesh);
    assert!(gaps.iter().sum::<u64>() <= 25, "{gaps:?}");
    assert!(frames.is_sorted() && frames.last() == Some(&69), "{frames:?}");
    mesh.blocked.clear();
    talk(&mut mesh, here, 70, 10);
    assert_eq!(path(&mesh, 0, here), AudioPath::Datagrams);
    talk(&mut mesh, here, 80, 20);
    assert_eq!(heard(&mut mesh), ((70..100).collect(), vec![]));
    assert_eq!(mesh.audio_stats(0, here).path_changes, 3);
}

#[test]
fn a_direction_that_is_blocked_does_not_hold_up_the_other() {
    let mut mesh = Mesh::pair(config(), config());
    (0..2).for_each(|n| mesh.has_datagrams(n, udp(n)));
    mesh.blocked.insert((1, 0));
    let (here, there) = mesh.call(StreamOptions::default());
    talk(&mut mesh, here, 0, 100);
    assert_eq!((path(&mesh, 0, here), path(&mesh, 1, there)), (AudioPath::Datagrams, AudioPath::Substream));
    assert_eq!(heard(&mut mesh), ((0..100).collect(), vec![]));
    mesh.send(1, there, b"back").unwrap();
    assert!(mesh.events(0).contains(&audio(&mesh.id(1), here, b"back")));
}

#[test]
fn a_call_goes_on_when_datagrams_are_filtered_in_both_directions_and_the_other_end_is_silent() {
    // Wherever that falls between two acknowledgements.
    for phase in 0..25 {
        let (mut mesh, here, _) = call();
        talk(&mut mesh, here, 0, 50);
        mesh.run_for(millis(4 * phase));
        heard(&mut mesh);
        mesh.blocked.extend([(0, 1), (1, 0)]);
        talk(&mut mesh, here, 50, 150);
        mesh.run_for(secs(1));
        let (frames, _) = heard(&mut mesh);
        let expected: Vec<u8> = (90..200).collect();
        assert!(frames.ends_with(&expected), "{phase}: {frames:?}");
    }
}

#[test]
fn a_lost_datagram_costs_its_frame_at_first_and_nothing_once_losses_are_seen() {
    let (mut mesh, here, there) = call();
    mesh.lost_of = Some((1, 20));
    talk(&mut mesh, here, 0, 100);
    heard(&mut mesh);
    let before = mesh.audio_stats(1, there).frames_lost;
    assert!(before > 0, "losses must be seen first");
    talk(&mut mesh, here, 100, 150);
    let (frames, gaps) = heard(&mut mesh);
    assert!(frames.len() >= 149 && gaps.is_empty(), "{} frames, {gaps:?}", frames.len());
    assert!(mesh.audio_stats(0, here).frames_repeated > 100);
}

#[test]
fn what_is_forged_replayed_or_from_another_call_changes_nothing() {
    let (mut mesh, here, there) = call();
    talk(&mut mesh, here, 0, 5);
    heard(&mut mesh);
    let sent: Vec<_> = mesh.datagrams.iter().filter(|(n, ..)| *n == 0).map(|(.., bytes)| bytes.clone()).collect();
    let stranger: SocketAddr = "198.51.100.9:4000".parse().unwrap();
    let (stats, count) = (mesh.nodes[1].stats(), mesh.datagrams.len());
    for bytes in &sent {
        mesh.inject(1, stranger, bytes.clone());
        let mut forged = bytes.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        mesh.inject(1, stranger, forged.into());
    }
    mesh.inject(1, stranger, Bytes::from_static(b"a datagram of nobody's session, long enough to be one"));
    assert_eq!(mesh.datagrams.len(), count, "nobody is answered");
    assert_eq!(mesh.events(1), []);
    let ignored = mesh.nodes[1].stats().datagrams_ignored - stats.datagrams_ignored;
    assert_eq!(ignored, 2 * sent.len() as u64 + 1);
    talk(&mut mesh, here, 5, 5);
    assert_eq!(heard(&mut mesh), ((5..10).collect(), vec![]));
    assert_eq!(path(&mesh, 1, there), AudioPath::Datagrams);
}

#[test]
fn an_end_that_moves_to_another_address_is_followed_at_once() {
    let (mut mesh, here, there) = call();
    talk(&mut mesh, here, 0, 60);
    let moved: SocketAddr = "198.51.100.7:9000".parse().unwrap();
    mesh.has_datagrams(0, moved);
    talk(&mut mesh, here, 60, 10);
    heard(&mut mesh);
    mesh.send(1, there, b"found").unwrap();
    assert!(mesh.datagrams.iter().any(|(n, to, _)| *n == 1 && *to == moved));
    assert!(mesh.events(0).contains(&audio(&mesh.id(1), here, b"found")));
    assert_eq!(path(&mesh, 1, there), AudioPath::Datagrams);
}

#[test]
fn the_last_frames_of_a_stream_arrive_though_close_overtakes_them() {
    // Those before it came, or it is the only one.
    for before in [0, 5] {
        let (mut mesh, here, there) = call();
        talk(&mut mesh, here, 0, before);
        heard(&mut mesh);
        mesh.blocked.insert((0, 1));
        mesh.send(0, here, &[5]).unwrap();
        let (.., last) = mesh.datagrams.last().unwrap().clone();
        mesh.blocked.clear();
        mesh.close(0, here).unwrap();
        assert_eq!(mesh.events(1), [], "the last frame is awaited");
        mesh.inject(1, udp(0), last);
        let (from, reason) = (mesh.id(0), StreamCloseReason::RemoteClose);
        assert_eq!(mesh.events(1), [audio(&from, there, &[5]), closed(&from, there, reason)]);
    }
}

#[test]
fn a_last_frame_that_is_lost_is_told_as_a_gap() {
    let (mut mesh, here, there) = call();
    talk(&mut mesh, here, 0, 5);
    heard(&mut mesh);
    mesh.blocked.insert((0, 1));
    mesh.send(0, here, &[5]).unwrap();
    mesh.close(0, here).unwrap();
    mesh.run_for(millis(50));
    let (from, reason) = (mesh.id(0), StreamCloseReason::RemoteClose);
    assert_eq!(mesh.events(1), [gap(&from, there, 1), closed(&from, there, reason)]);
}

#[test]
fn an_end_that_writes_while_it_awaits_the_last_frames_of_a_stream_hears_of_the_end() {
    let (mut mesh, here, there) = call();
    talk(&mut mesh, here, 0, 5);
    heard(&mut mesh);
    mesh.blocked.insert((0, 1));
    mesh.send(0, here, &[5]).unwrap();
    mesh.close(0, here).unwrap();
    // Too long for a datagram.
    mesh.send(1, there, &[6; 4_000]).unwrap();
    mesh.run_for(millis(50));
    let (from, reason) = (mesh.id(0), StreamCloseReason::RemoteClose);
    assert_eq!(mesh.events(1), [gap(&from, there, 1), closed(&from, there, reason)]);
}

#[test]
fn a_call_that_loses_its_connection_talks_on_by_datagrams() {
    let (mut mesh, here, _) = call();
    talk(&mut mesh, here, 0, 5);
    mesh.unplug(1, true);
    mesh.cut_link(0);
    talk(&mut mesh, here, 5, 50);
    let frames: Vec<_> =
        mesh.events(1).into_iter().filter(|event| matches!(event, AviEvent::AudioData { .. })).collect();
    assert_eq!(frames.len(), 55);
}

#[test]
fn a_peer_that_asks_much_and_takes_nothing_gets_few_answers() {
    let mut node = Node::with_peer(1, 3, config());
    let substream = node.offered(1, 3);
    node.received(substream, &[Frame::Open(Default::default())]);
    let [AviEvent::AudioStreamRequested { stream_id: stream, .. }] = node.take_events()[..] else { panic!() };
    node.ask(|id| Command::AcceptStream { id, stream }).unwrap();
    node.written(substream);
    node.received(substream, &vec![Frame::Probe { token: u64::MAX }; 10_000]);
    let answers = node.written(substream);
    let probed = answers.iter().filter(|frame| matches!(frame, Frame::Probed { .. })).count();
    assert!((2..=200).contains(&probed), "{probed}");
}

#[test]
fn an_invitation_that_comes_before_this_node_has_a_socket_counts_afterwards() {
    let mut mesh = Mesh::pair(config(), config());
    mesh.has_datagrams(0, udp(0));
    let (here, there) = mesh.call(StreamOptions::default());
    assert_eq!(path(&mesh, 1, there), AudioPath::Substream);
    mesh.has_datagrams(1, udp(1));
    mesh.run_for(millis(100));
    assert_eq!((path(&mesh, 0, here), path(&mesh, 1, there)), (AudioPath::Datagrams, AudioPath::Datagrams));
}

#[test]
fn nothing_is_heard_of_a_stream_after_its_end() {
    let (mut mesh, here, there) = call();
    talk(&mut mesh, here, 0, 5);
    heard(&mut mesh);
    // A frame is lost, so the next one waits.
    mesh.blocked.insert((0, 1));
    mesh.send(0, here, &[5]).unwrap();
    mesh.blocked.clear();
    mesh.send(0, here, &[6]).unwrap();
    assert_eq!(mesh.events(1), []);
    mesh.close(1, there).unwrap();
    mesh.close(0, here).unwrap_or_default();
    mesh.run_for(millis(200));
    let peer = mesh.id(0);
    assert_eq!(mesh.events(1), [closed(&peer, there, StreamCloseReason::LocalClose)]);
}

#[test]
fn a_frame_too_long_for_a_datagram_goes_by_the_substream_in_order() {
    let (mut mesh, here, _) = call();
    for n in 0..20u8 {
        mesh.send(0, here, &vec![n; if n % 3 == 0 { 4_000 } else { 100 }]).unwrap();
        mesh.run_for(millis(20));
    }
    assert_eq!(heard(&mut mesh), ((0..20).collect(), vec![]));
}

#[test]
fn a_flood_of_frames_is_no_call_and_takes_the_substream() {
    let (mut mesh, here, _) = call();
    let before = mesh.datagrams.len();
    for n in 0..2_000u32 {
        mesh.send(0, here, &[n as u8]).unwrap();
    }
    assert!(mesh.datagrams.len() - before < 100, "{}", mesh.datagrams.len() - before);
    mesh.run_for(secs(3));
    let (frames, gaps) = heard(&mut mesh);
    assert_eq!((frames.len(), gaps), (2_000, vec![]));
}

#[test]
fn a_substream_that_overtakes_the_first_datagrams_of_a_flood_loses_none_of_them() {
    let (mut mesh, here, _) = call();
    let before = mesh.datagrams.len();
    mesh.blocked.insert((0, 1));
    for n in 0..200u8 {
        mesh.send(0, here, &[n]).unwrap();
    }
    let overtaken: Vec<_> = mesh.datagrams[before..].iter().map(|(.., bytes)| bytes.clone()).collect();
    assert!(overtaken.len() > 50, "{} datagrams", overtaken.len());
    assert_eq!(heard(&mut mesh), (vec![], vec![]));
    mesh.blocked.clear();
    overtaken.into_iter().for_each(|datagram| mesh.inject(1, udp(0), datagram));
    mesh.run_for(secs(1));
    assert_eq!(heard(&mut mesh), ((0..200).collect(), vec![]));
}

#[test]
fn a_connection_that_is_stuck_while_datagrams_come_is_replaced_and_the_call_goes_on_there() {
    let (mut mesh, here, there) = call();
    mesh.run_for(secs(6));
    mesh.silence(0);
    talk(&mut mesh, here, 0, 250);
    assert_eq!(mesh.links(0, 1), [0], "pongs come every five seconds");
    for _ in 0..150 {
        mesh.send(0, here, &[0; 100]).unwrap();
        mesh.run_for(millis(20));
    }
    assert_eq!(mesh.links(0, 1), [0, 1]);
    // The stuck connection ends in silence, and nobody is declared dead.
    mesh.run_for(secs(60));
    assert_eq!(mesh.links(0, 1), [1]);
    for n in 0..2 {
        let stats = mesh.nodes[n].stats();
        assert_eq!((stats.ping_timeouts, stats.streams_resumed, stats.peers_connected), (0, 1, 1));
    }
    assert_eq!(mesh.events(0), []);
    let (frames, gaps) = heard(&mut mesh);
    assert_eq!((frames.len(), gaps), (400, vec![]));
    assert_eq!(path(&mesh, 1, there), AudioPath::Datagrams);
}
