//! Audio on a path that takes bytes slowly, or not at all.

use super::*;

/// What a receiver got: the first bytes of the frames, and the gaps.
fn heard(events: &[AviEvent]) -> (Vec<u8>, Vec<u64>) {
    let (mut frames, mut gaps) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            AviEvent::AudioData { data, .. } => frames.push(data[0]),
            AviEvent::AudioGap { missing, .. } => gaps.push(*missing),
            _ => {}
        }
    }
    (frames, gaps)
}

fn send_for_a_second(mesh: &mut Mesh, stream: StreamId) {
    for n in 0..50u8 {
        mesh.send(0, stream, &[n]).unwrap();
        mesh.run_for(millis(20));
    }
}

#[test]
fn a_congested_path_drops_the_oldest_which_both_ends_count_and_the_receiver_hears_as_a_gap() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.congest(0);
    send_for_a_second(&mut mesh, here);
    assert_eq!(heard(&mesh.events(1)), (vec![], vec![]));
    mesh.relieve(0);
    mesh.send(0, here, &[50]).unwrap();
    mesh.run_for(millis(100));

    // Frame 0 was being written; of the others, those of the last 200 ms are left when it is acknowledged.
    let expected: Vec<u8> = [0].into_iter().chain(41..=50).collect();
    assert_eq!(heard(&mesh.events(1)), (expected, vec![40]));
    let stats = mesh.audio_stats(0, here);
    assert_eq!((stats.frames_given, stats.frames_sent, stats.frames_dropped, stats.queued_bytes), (51, 11, 40, 0));
    let stats = mesh.audio_stats(1, there);
    assert_eq!((stats.frames_received, stats.frames_lost), (11, 40));
    assert_eq!(mesh.nodes[0].stats().audio_frames_dropped, 40);
    assert_eq!(mesh.nodes[1].stats().audio_frames_missing, 40);
    mesh.run_for(secs(2));
    assert_eq!(mesh.audio_stats(0, here).remote.unwrap().lost, 40);
}

#[test]
fn what_waits_is_bounded_in_bytes_too() {
    let mut mesh = Mesh::pair(limited(|limits| limits.audio_queue_bytes = 10_000), config());
    let (here, _) = mesh.call(StreamOptions::default());
    mesh.congest(0);
    for n in 0..30u8 {
        mesh.send(0, here, &[n; 1000]).unwrap();
        assert!(mesh.audio_stats(0, here).queued_bytes <= 10_000);
    }
    mesh.relieve(0);
    let expected: Vec<u8> = [0].into_iter().chain(20..30).collect();
    assert_eq!(heard(&mesh.events(1)), (expected, vec![19]));
}

#[test]
fn frames_dropped_at_the_very_end_are_heard_as_a_gap_before_the_close() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.congest(0);
    (0..5).for_each(|n| mesh.send(0, here, &[n]).unwrap());
    mesh.close(0, here).unwrap();
    mesh.run_for(millis(201));
    mesh.relieve(0);
    let a = mesh.id(0);
    let expected = [audio(&a, there, &[0]), gap(&a, there, 4), closed(&a, there, StreamCloseReason::RemoteClose)];
    assert_eq!(mesh.events(1), expected);
    assert_eq!(mesh.nodes[0].stats().audio_frames_dropped, 4);
    assert_eq!(mesh.nodes[1].stats().audio_frames_missing, 4);
}

#[test]
fn what_waits_when_a_stream_is_closed_still_arrives() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.congest(0);
    (0..5).for_each(|n| mesh.send(0, here, &[n]).unwrap());
    mesh.close(0, here).unwrap();
    mesh.run_for(millis(100));
    mesh.relieve(0);
    let events = mesh.events(1);
    assert_eq!(heard(&events), (vec![0, 1, 2, 3, 4], vec![]));
    let a = mesh.id(0);
    assert_eq!(events.last(), Some(&closed(&a, there, StreamCloseReason::RemoteClose)));
}

#[test]
fn the_goodbye_leaves_after_the_audio_also_if_that_takes_several_writes() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.congest(0);
    (0..100).for_each(|n| mesh.send(0, here, &[n; 1000]).unwrap());
    mesh.close(0, here).unwrap();
    mesh.relieve(0);
    let events = mesh.events(1);
    assert_eq!(heard(&events), ((0..100).collect(), vec![]));
    let a = mesh.id(0);
    assert_eq!(events.last(), Some(&closed(&a, there, StreamCloseReason::RemoteClose)));
}

#[test]
fn when_both_ends_have_closed_what_waits_leaves_or_is_given_up_after_a_while() {
    for relieved in [true, false] {
        let mut mesh = Mesh::pair(config(), config());
        let (here, there) = mesh.call(StreamOptions::default());
        mesh.congest(0);
        (0..5).for_each(|n| mesh.send(0, here, &[n]).unwrap());
        mesh.close(0, here).unwrap();
        mesh.close(1, there).unwrap();
        mesh.run_for(millis(14_999));
        let left = |mesh: &Mesh| [0, 1].map(|n| mesh.nodes[n].contract.substreams());
        assert_eq!(left(&mesh), [1, 1], "the last write is still pending");
        match relieved {
            true => mesh.relieve(0),
            false => mesh.run_for(millis(1)),
        }
        assert_eq!(left(&mesh), [0, 0]);
        mesh.run_for(secs(10));
        for n in 0..2 {
            assert!(matches!(mesh.events(n)[..], [AviEvent::AudioStreamClosed { .. }]));
        }
    }
}

#[test]
fn reports_do_not_pile_up_on_a_congested_path() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.send(1, there, b"on its way").unwrap();
    mesh.congest(1);
    for n in 0..60 {
        mesh.send(0, here, &[n]).unwrap();
        mesh.run_for(secs(1));
    }
    mesh.nodes[1].trace.clear();
    mesh.relieve(1);
    let write = |(_, output): &(Time, Output)| match output {
        Output::Net(NetAction::Write { bytes, .. }) => bytes.len(),
        _ => 0,
    };
    let written: usize = mesh.nodes[1].trace.iter().map(write).sum();
    assert!((1..40).contains(&written), "{written} bytes: more than one REPORT");
}

#[test]
fn a_close_on_a_path_that_never_clears_is_given_up_after_a_while() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.congest(0);
    mesh.send(0, here, b"lost").unwrap();
    mesh.close(0, here).unwrap();
    mesh.run_for(secs(15));
    assert_eq!(mesh.nodes[0].contract.substreams(), 0);
    mesh.run_for(millis(500));
    let a = mesh.id(0);
    assert_eq!(mesh.events(1), [closed(&a, there, StreamCloseReason::Error("reset".to_owned()))]);
}

#[test]
fn a_stream_that_refuses_says_congested_and_leaves_no_gap() {
    let mut mesh = Mesh::pair(config(), config());
    let options = StreamOptions { on_congestion: OnCongestion::Refuse, ..StreamOptions::default() };
    let (here, _) = mesh.call(options);
    mesh.congest(0);
    let mut taken = Vec::new();
    for n in 0..50u8 {
        match mesh.send(0, here, &[n]) {
            Ok(_) => taken.push(n),
            Err(error) => assert_eq!(error, AviP2pError::Congested("the stream's send queue is full")),
        }
        mesh.run_for(millis(20));
    }
    assert!((10..=13).contains(&taken.len()), "about 200 ms of audio: {taken:?}");
    assert_eq!(mesh.nodes[0].stats().audio_frames_refused, 50 - taken.len() as u64);
    mesh.relieve(0);
    mesh.run_for(millis(10));
    mesh.send(0, here, &[99]).unwrap();
    taken.push(99);
    mesh.run_for(millis(100));
    assert_eq!(heard(&mesh.events(1)), (taken, vec![]));
    assert_eq!(mesh.audio_stats(0, here).frames_dropped, 0);
}

#[test]
fn one_congested_direction_delays_neither_the_other_nor_pub_sub() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.subscribe(1, "t").unwrap();
    mesh.congest(0);
    mesh.send(0, here, b"stuck").unwrap();
    mesh.send(1, there, b"through").unwrap();
    mesh.publish(0, "t", b"through").unwrap();
    let (a, b) = (mesh.id(0), mesh.id(1));
    assert_eq!(mesh.events(0), [audio(&b, here, b"through")]);
    assert_eq!(mesh.events(1), [message(&a, "t", b"through")]);
}

#[test]
fn a_goodbye_from_the_other_end_counts_what_still_waits_as_dropped() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.congest(0);
    (0..5).for_each(|n| mesh.send(0, here, &[n]).unwrap());
    mesh.close(1, there).unwrap();
    let b = mesh.id(1);
    assert_eq!(mesh.events(0), [closed(&b, here, StreamCloseReason::RemoteClose)]);
    assert_eq!(mesh.nodes[0].stats().audio_frames_dropped, 4);
}

#[test]
fn every_frame_given_is_sent_or_counted_as_dropped_however_the_stream_ends() {
    let ends: [fn(&mut Mesh, StreamId); 4] = [
        |mesh, _| mesh.cut_link(0),
        |mesh, _| mesh.break_substreams(),
        |mesh, here| mesh.close(0, here).unwrap(),
        |mesh, here| {
            mesh.close(0, here).unwrap();
            mesh.cut_link(0);
        },
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let mut mesh = Mesh::pair(config(), config());
        let (here, _) = mesh.call(StreamOptions { on_congestion: OnCongestion::Refuse, ..StreamOptions::default() });
        mesh.congest(0);
        (0..5).for_each(|n| mesh.send(0, here, &[n]).unwrap());
        end(&mut mesh, here);
        mesh.run_for(secs(20));
        let stats = mesh.nodes[0].stats();
        assert_eq!(stats.audio_frames_sent + stats.audio_frames_dropped, 5, "case {n}");
    }
}
