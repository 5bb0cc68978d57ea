//! Audio streams between two nodes that keep the protocol.

use super::*;

fn described() -> StreamOptions {
    let media = Media { codec: "opus".to_owned(), sample_rate_hz: 48_000, channels: 2, frame_duration_us: 20_000 };
    StreamOptions { media: Some(media), label: Some("kitchen".to_owned()), ..StreamOptions::default() }
}

fn short_of_streams(max_audio_streams: usize) -> AviP2pConfig {
    AviP2pConfig { max_audio_streams, ..config() }
}

fn rejected(reason: &str) -> StreamCloseReason {
    StreamCloseReason::Rejected(reason.to_owned())
}

#[test]
fn a_call_goes_from_request_to_close_at_any_cut_of_its_bytes() {
    for cut in [0, 1, 2, 3, 7, 64] {
        let mut mesh = Mesh::pair(config(), config());
        mesh.cuts = vec![cut];
        let (a, b) = (mesh.id(0), mesh.id(1));
        let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
        assert_eq!(mesh.events(0), []);
        let there = mesh.offer(1);
        assert_eq!(mesh.accept(1, there), Ok(()));
        assert_eq!(mesh.events(0), [accepted(&b, here)]);

        for n in 0..50u8 {
            assert_eq!(mesh.send(0, here, &[n, 1, 2, 3]), Ok(()));
            assert_eq!(mesh.send(1, there, &[n; 300]), Ok(()));
            mesh.run_for(millis(20));
        }
        let to_b: Vec<_> = (0..50).map(|n| audio(&a, there, &[n, 1, 2, 3])).collect();
        let to_a: Vec<_> = (0..50).map(|n| audio(&b, here, &[n; 300])).collect();
        assert_eq!((mesh.events(1), mesh.events(0)), (to_b, to_a));

        assert_eq!(mesh.close(0, here), Ok(()));
        assert_eq!(mesh.events(0), [closed(&b, here, StreamCloseReason::LocalClose)]);
        assert_eq!(mesh.events(1), [closed(&a, there, StreamCloseReason::RemoteClose)]);
        for n in 0..2 {
            assert_eq!(mesh.nodes[n].contract.substreams(), 0, "node {n} leaks a substream");
            assert_eq!(mesh.nodes[n].stats().streams_now, 0);
            assert_eq!(mesh.nodes[n].deadline(), None, "node {n} has nothing to wait for");
        }
    }
}

#[test]
fn the_end_that_accepted_may_close_too() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.send(1, there, b"last words").unwrap();
    mesh.close(1, there).unwrap();
    let (a, b) = (mesh.id(0), mesh.id(1));
    assert_eq!(mesh.events(0), [audio(&b, here, b"last words"), closed(&b, here, StreamCloseReason::RemoteClose)]);
    assert_eq!(mesh.events(1), [closed(&a, there, StreamCloseReason::LocalClose)]);
}

#[test]
fn two_ends_that_close_at_once_both_say_local_close() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.nodes[0].command(|id| Command::CloseStream { id, stream: here });
    mesh.close(1, there).unwrap();
    let (a, b) = (mesh.id(0), mesh.id(1));
    assert_eq!(mesh.events(0), [closed(&b, here, StreamCloseReason::LocalClose)]);
    assert_eq!(mesh.events(1), [closed(&a, there, StreamCloseReason::LocalClose)]);
    assert_eq!((mesh.nodes[0].contract.substreams(), mesh.nodes[1].contract.substreams()), (0, 0));
}

#[test]
fn media_and_label_reach_the_other_end() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(described());
    for (n, stream) in [(0, here), (1, there)] {
        let stats = mesh.audio_stats(n, stream);
        assert_eq!((stats.media, stats.label), (described().media, described().label));
        assert!(stats.accepted);
        assert_eq!(stats.peer_id, mesh.id(1 - n));
    }
}

#[test]
fn options_out_of_range_are_refused_before_anything_is_opened() {
    let mut mesh = Mesh::pair(config(), config());
    let breaks: [fn(&mut StreamOptions); 5] = [
        |options| options.label = Some("x".repeat(257)),
        |options| options.media.as_mut().unwrap().codec.clear(),
        |options| options.media.as_mut().unwrap().codec = "x".repeat(33),
        |options| options.media.as_mut().unwrap().sample_rate_hz = 0,
        |options| options.media.as_mut().unwrap().channels = 0,
    ];
    for break_it in breaks {
        let mut options = described();
        break_it(&mut options);
        assert!(matches!(mesh.request(0, 1, options), Err(AviP2pError::InvalidOptions { .. })));
    }
    assert_eq!((mesh.nodes[0].stats().streams_requested, mesh.events(1)), (0, vec![]));
}

#[test]
fn a_rejection_reaches_the_asking_end_with_its_reason() {
    let mut mesh = Mesh::pair(config(), config());
    let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
    let there = mesh.offer(1);
    mesh.ask(1, |id| Command::RejectStream { id, stream: there, reason: "not now".to_owned() }).unwrap();
    let (a, b) = (mesh.id(0), mesh.id(1));
    assert_eq!(mesh.events(1), [closed(&a, there, StreamCloseReason::LocalClose)]);
    assert_eq!(mesh.events(0), [closed(&b, here, rejected("not now"))]);
    assert_eq!((mesh.nodes[0].contract.substreams(), mesh.nodes[1].contract.substreams()), (0, 0));
}

#[test]
fn a_request_that_is_withdrawn_closes_the_offer() {
    let mut mesh = Mesh::pair(config(), config());
    let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
    let there = mesh.offer(1);
    mesh.close(0, here).unwrap();
    let (a, b) = (mesh.id(0), mesh.id(1));
    assert_eq!(mesh.events(0), [closed(&b, here, StreamCloseReason::LocalClose)]);
    assert_eq!(mesh.events(1), [closed(&a, there, StreamCloseReason::RemoteClose)]);
}

#[test]
fn a_request_that_is_withdrawn_before_its_substream_opens_is_never_heard_of() {
    let mut mesh = Mesh::pair(config(), config());
    let peer = mesh.id(1);
    let here = mesh.nodes[0].request(&peer, StreamOptions::default()).unwrap();
    mesh.close(0, here).unwrap();
    assert_eq!(mesh.events(0), [closed(&peer, here, StreamCloseReason::LocalClose)]);
    mesh.run_for(secs(60));
    assert_eq!(mesh.events(1), []);
    assert_eq!((mesh.nodes[0].contract.substreams(), mesh.nodes[1].contract.substreams()), (0, 0));
}

#[test]
fn a_request_without_an_answer_times_out_at_both_ends() {
    let mut mesh = Mesh::pair(config(), config());
    let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
    let there = mesh.offer(1);
    mesh.run_for(millis(29_999));
    assert_eq!((mesh.events(0), mesh.events(1)), (vec![], vec![]));
    mesh.run_for(millis(1));
    let (a, b) = (mesh.id(0), mesh.id(1));
    assert_eq!(mesh.events(0), [closed(&b, here, StreamCloseReason::Timeout)]);
    assert_eq!(mesh.events(1), [closed(&a, there, StreamCloseReason::Timeout)]);
    assert_eq!(mesh.accept(1, there), Err(AviP2pError::StreamNotFound(there)));
}

#[test]
fn a_request_whose_substream_never_opens_times_out() {
    let mut node = Node::with_peer(1, 2, config());
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    node.wait(secs(30));
    assert_eq!(node.take_events(), [closed(&peer(2), stream, StreamCloseReason::Timeout)]);
    // A substream that opens after all is dropped.
    node.net(NetEvent::SubstreamOpened { stream, substream: SubstreamId(1) });
    assert_eq!(node.contract.substreams(), 0);
}

#[test]
fn an_offer_times_out_though_the_asking_end_says_nothing() {
    let mut node = Node::with_peer(1, 2, config());
    let substream = node.offered(1, 2);
    node.received(substream, &[crate::wire::Frame::Open(Default::default())]);
    let [AviEvent::AudioStreamRequested { stream_id, .. }] = node.take_events()[..] else { panic!() };
    node.wait(secs(30));
    assert_eq!(node.take_events(), [], "the requesting end closes first");
    node.wait(secs(5));
    assert_eq!(node.take_events(), [closed(&peer(2), stream_id, StreamCloseReason::Timeout)]);
    let timeout = crate::wire::Frame::Reject { code: crate::wire::Code::Timeout, reason: String::new() };
    assert_eq!(node.written(substream), [timeout]);
    node.wait(secs(5));
    assert_eq!(node.contract.substreams(), 0, "CLOSE has its time, and no more");
}

#[test]
fn an_offer_that_times_out_where_it_was_made_is_a_timeout_for_the_asking_end_too() {
    let impatient = AviP2pConfig { accept_timeout: secs(1), ..config() };
    let mut mesh = Mesh::pair(config(), impatient);
    let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
    mesh.run_for(secs(6));
    let b = mesh.id(1);
    assert_eq!(mesh.events(0), [closed(&b, here, StreamCloseReason::Timeout)]);
}

#[test]
fn an_accepted_stream_does_not_time_out() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    assert_eq!((mesh.nodes[0].deadline(), mesh.nodes[1].deadline()), (None, None));
    mesh.run_for(secs(3600));
    mesh.send(0, here, b"still there?").unwrap();
    let a = mesh.id(0);
    assert_eq!(mesh.events(1), [audio(&a, there, b"still there?")]);
}

#[test]
fn max_audio_streams_bounds_what_this_node_asks_for() {
    let mut mesh = Mesh::pair(short_of_streams(2), config());
    let first = mesh.request(0, 1, StreamOptions::default()).unwrap();
    mesh.request(0, 1, StreamOptions::default()).unwrap();
    let limit = AviP2pError::LimitReached { limit: "max_audio_streams", max: 2 };
    assert_eq!(mesh.request(0, 1, StreamOptions::default()), Err(limit));
    mesh.close(0, first).unwrap();
    mesh.request(0, 1, StreamOptions::default()).unwrap();
    assert_eq!(mesh.nodes[0].stats().streams_now, 2);
    let a = mesh.id(0);
    let closed = closed(&a, StreamId(1), StreamCloseReason::RemoteClose);
    let requested = |stream| requested(&a, StreamId(stream));
    assert_eq!(mesh.events(1), [requested(1), requested(2), closed, requested(3)]);
}

#[test]
fn max_audio_streams_bounds_what_this_node_is_offered() {
    let mut mesh = Mesh::pair(config(), short_of_streams(1));
    let (here, there) = mesh.call(StreamOptions::default());
    let beyond = mesh.request(0, 1, StreamOptions::default()).unwrap();
    let b = mesh.id(1);
    assert_eq!(mesh.events(0), [closed(&b, beyond, rejected("max_audio_streams is reached at the other end"))]);
    assert_eq!(mesh.events(1), []);
    assert_eq!(mesh.nodes[1].stats().streams_refused, 1);
    mesh.close(0, here).unwrap();
    let a = mesh.id(0);
    assert_eq!(mesh.events(1), [closed(&a, there, StreamCloseReason::RemoteClose)]);
    mesh.request(0, 1, StreamOptions::default()).unwrap();
    mesh.offer(1);
}

#[test]
fn unanswered_offers_of_one_peer_take_half_of_the_streams_at_most() {
    let mut mesh = Mesh::new(vec![config(), short_of_streams(5), config()]);
    mesh.connect(0, 1);
    mesh.connect(2, 1);
    (0..3).for_each(|n| drop(mesh.events(n)));
    let asked: Vec<_> = (0..4).map(|_| mesh.request(0, 1, StreamOptions::default()).unwrap()).collect();
    let (a, b, c) = (mesh.id(0), mesh.id(1), mesh.id(2));
    let half = "half of max_audio_streams at the other end waits to be answered, the most that one peer may ask for";
    assert_eq!(mesh.events(0), [closed(&b, asked[3], rejected(half))]);
    let offers = [1, 2, 3].map(StreamId);
    assert_eq!(mesh.events(1), offers.map(|stream| requested(&a, stream)));
    // Other peers have room, and so does the same peer once an offer of it is answered.
    mesh.request(2, 1, StreamOptions::default()).unwrap();
    assert_eq!(mesh.events(1), [requested(&c, StreamId(5))]);
    mesh.accept(1, offers[0]).unwrap();
    mesh.request(0, 1, StreamOptions::default()).unwrap();
    assert_eq!(mesh.events(1), [requested(&a, StreamId(6))]);
    assert_eq!(mesh.nodes[1].stats().streams_refused, 1);
}

#[test]
fn requests_and_offers_share_one_limit() {
    let mut mesh = Mesh::pair(short_of_streams(1), short_of_streams(1));
    let (peer, other) = (mesh.id(1), mesh.id(0));
    mesh.nodes[0].request(&peer, StreamOptions::default()).unwrap();
    mesh.nodes[1].request(&other, StreamOptions::default()).unwrap();
    mesh.settle();
    for n in 0..2 {
        assert_eq!(mesh.nodes[n].stats().streams_refused, 1);
        assert!(matches!(mesh.events(n)[..], [AviEvent::AudioStreamClosed { .. }]));
    }
}

#[test]
fn no_audio_before_acceptance() {
    let mut mesh = Mesh::pair(config(), config());
    let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
    let there = mesh.offer(1);
    assert_eq!(mesh.send(0, here, b"early"), Err(AviP2pError::StreamNotAccepted(here)));
    assert_eq!(mesh.send(1, there, b"early"), Err(AviP2pError::StreamNotAccepted(there)));
    assert!(!mesh.audio_stats(0, here).accepted && !mesh.audio_stats(1, there).accepted);
    mesh.accept(1, there).unwrap();
    mesh.send(0, here, b"in time").unwrap();
    let a = mesh.id(0);
    assert_eq!(mesh.events(1), [audio(&a, there, b"in time")]);
}

#[test]
fn a_stream_that_is_unknown_or_closed_is_not_found() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    mesh.close(0, here).unwrap();
    for stream in [here, StreamId(99)] {
        let not_found = || Err(AviP2pError::StreamNotFound(stream));
        assert_eq!(mesh.accept(0, stream), not_found());
        let reject = |id| Command::RejectStream { id, stream, reason: String::new() };
        assert_eq!(mesh.ask(0, reject), not_found());
        assert_eq!(mesh.close(0, stream), not_found());
    }
    assert_eq!(mesh.send(0, StreamId(99), b"x"), Err(AviP2pError::StreamNotFound(StreamId(99))));
    assert_eq!(mesh.nodes[0].engine().audio_stats(StreamId(99)), Err(AviP2pError::StreamNotFound(StreamId(99))));
}

#[test]
fn the_figures_of_a_stream_and_why_it_ended_can_be_read_until_64_others_have_ended() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.congest(0);
    (0..5).for_each(|n| mesh.send(0, here, &[n]).unwrap());
    mesh.close(0, here).unwrap();
    let ended = mesh.audio_stats(0, here);
    assert_eq!((ended.frames_given, ended.frames_sent, ended.queued_bytes), (5, 1, 4));
    mesh.relieve(0);
    let ended = mesh.audio_stats(0, here);
    assert_eq!((ended.frames_sent, ended.accepted, ended.ended), (5, false, Some(StreamCloseReason::LocalClose)));
    let ended = mesh.audio_stats(1, there);
    assert_eq!((ended.frames_received, ended.ended), (5, Some(StreamCloseReason::RemoteClose)));
    mesh.events(0);
    mesh.events(1);
    for _ in 0..63 {
        let (next, _) = mesh.call(StreamOptions::default());
        mesh.close(0, next).unwrap();
        mesh.events(0);
        mesh.events(1);
    }
    assert_eq!(mesh.audio_stats(0, here).frames_given, 5);
    let (last, _) = mesh.call(StreamOptions::default());
    assert_eq!(mesh.audio_stats(0, last).ended, None);
    mesh.close(0, last).unwrap();
    assert_eq!(mesh.nodes[0].engine().audio_stats(here), Err(AviP2pError::StreamNotFound(here)));
    assert_eq!(mesh.send(0, here, b"x"), Err(AviP2pError::StreamNotFound(here)), "long forgotten");
}

#[test]
fn audio_for_a_call_that_has_ended_is_told_why_it_ended() {
    let mut mesh = Mesh::pair(config(), config());
    let ended = |stream_id, reason| Err(AviP2pError::StreamEnded { stream_id, reason });
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.close(0, here).unwrap();
    assert_eq!(mesh.send(0, here, b"x"), ended(here, StreamCloseReason::LocalClose));
    assert_eq!(mesh.send(1, there, b"x"), ended(there, StreamCloseReason::RemoteClose));
    mesh.events(1);
    let asked = mesh.request(0, 1, StreamOptions::default()).unwrap();
    let stream = mesh.offer(1);
    mesh.ask(1, |id| Command::RejectStream { id, stream, reason: "busy".to_owned() }).unwrap();
    assert_eq!(mesh.send(0, asked, b"x"), ended(asked, StreamCloseReason::Rejected("busy".to_owned())));
}

#[test]
fn accepting_twice_or_from_the_wrong_end_does_not_fit_the_state() {
    let mut mesh = Mesh::pair(config(), config());
    let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
    let state = |stream_id, action, state| Err(AviP2pError::StreamState { stream_id, action, state });
    assert_eq!(mesh.accept(0, here), state(here, "accepted", "requested"));
    let there = mesh.offer(1);
    mesh.accept(1, there).unwrap();
    assert_eq!(mesh.accept(1, there), state(there, "accepted", "open"));
    let reject = |id| Command::RejectStream { id, stream: there, reason: String::new() };
    assert_eq!(mesh.ask(1, reject), state(there, "rejected", "open"));
    mesh.send(0, here, b"unharmed").unwrap();
    assert_eq!(mesh.audio_stats(1, there).frames_received, 1);
}

#[test]
fn empty_and_oversize_frames_are_refused() {
    let mut mesh = Mesh::pair(limited(|limits| limits.max_audio_frame_bytes = 100), config());
    let (here, _) = mesh.call(StreamOptions::default());
    assert_eq!(mesh.send(0, here, b""), Err(AviP2pError::EmptyPayload("an audio frame")));
    let limit = "limits.max_audio_frame_bytes";
    assert_eq!(mesh.send(0, here, &[0; 101]), Err(AviP2pError::PayloadTooLarge { len: 101, max: 100, limit }));
    assert_eq!(mesh.send(0, here, &[0; 100]), Ok(()));
}

#[test]
fn a_stream_can_be_asked_only_of_a_connected_peer() {
    let mut mesh = Mesh::pair(config(), config());
    let stranger = peer(99);
    let options = StreamOptions::default();
    assert_eq!(mesh.nodes[0].request(&stranger, options.clone()), Err(AviP2pError::PeerNotFound(stranger)));
    let nobody = PeerId::new("alice");
    assert_eq!(mesh.nodes[0].request(&nobody, options), Err(AviP2pError::InvalidPeerId("alice".to_owned())));
}

#[test]
fn reports_reach_the_senders_audio_stats_about_once_a_second() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    for n in 0..100u8 {
        mesh.send(0, here, &[n]).unwrap();
        mesh.run_for(millis(20));
    }
    let seen = mesh.audio_stats(1, there);
    assert_eq!((seen.frames_received, seen.frames_lost, seen.frames_late), (100, 0, 0));
    let sent = mesh.audio_stats(0, here);
    assert_eq!((sent.frames_given, sent.frames_sent, sent.frames_dropped), (100, 100, 0));
    let remote = sent.remote.expect("no report");
    assert!((49..100).contains(&remote.highest_sequence) && remote.lost == 0, "{remote:?}");
    assert_eq!(seen.remote, None, "nothing was sent the other way");
    // Two seconds later everything has been reported, and without audio there is nothing more to report.
    mesh.run_for(secs(2));
    assert_eq!(mesh.audio_stats(0, here).remote.unwrap().highest_sequence, 99);
    assert_eq!(mesh.nodes[1].deadline(), None);
}

#[test]
fn streams_of_the_same_two_nodes_do_not_mix() {
    let mut mesh = Mesh::pair(config(), config());
    let (first, first_there) = mesh.call(StreamOptions::default());
    let (second, second_there) = mesh.call(StreamOptions::default());
    mesh.send(0, second, b"2").unwrap();
    mesh.send(0, first, b"1").unwrap();
    mesh.close(0, first).unwrap();
    mesh.send(0, second, b"3").unwrap();
    let a = mesh.id(0);
    let expected = [
        audio(&a, second_there, b"2"),
        audio(&a, first_there, b"1"),
        closed(&a, first_there, StreamCloseReason::RemoteClose),
        audio(&a, second_there, b"3"),
    ];
    assert_eq!(mesh.events(1), expected);
}
