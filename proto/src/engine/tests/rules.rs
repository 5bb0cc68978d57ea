//! What happens to peers that break the protocol of audio streams.

use bytes::Bytes;

use super::*;
use crate::wire::{Ack, Code, Frame, Open, Report};

const SUBSTREAM: SubstreamId = SubstreamId(1);

fn open() -> Frame {
    Frame::Open(Open::default())
}

fn data(sequence: u64, payload: &'static [u8]) -> Frame {
    Frame::Data { sequence, timestamp_us: 0, payload: Bytes::from_static(payload) }
}

fn close(next_sequence: u64) -> Frame {
    Frame::Close { code: Code::Application, next_sequence, reason: String::new() }
}

fn reject() -> Frame {
    Frame::Reject { code: Code::Application, reason: String::new() }
}

/// A node with an offer from `peer(2)`.
fn offered(config: AviP2pConfig) -> (Node, StreamId) {
    let mut node = Node::with_peer(1, 2, config);
    node.offered(SUBSTREAM.0, 2);
    node.received(SUBSTREAM, &[open()]);
    match node.take_events()[..] {
        [AviEvent::AudioStreamRequested { stream_id, .. }] => (node, stream_id),
        ref other => panic!("{other:?}"),
    }
}

/// A node with a pending request to `peer(2)`.
fn asking() -> (Node, StreamId) {
    let mut node = Node::with_peer(1, 2, config());
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    node.net(NetEvent::SubstreamOpened { stream, substream: SUBSTREAM });
    assert_eq!(node.written(SUBSTREAM), [open()]);
    (node, stream)
}

fn talking() -> (Node, StreamId) {
    let (mut node, stream) = offered(config());
    node.ask(|id| Command::AcceptStream { id, stream }).unwrap();
    assert_eq!(node.written(SUBSTREAM), [Frame::Accept, Frame::Ack(Ack::default())]);
    (node, stream)
}

/// Checks that the stream has ended for a broken rule, that this is counted, and that the substream is dropped.
#[track_caller]
fn assert_broken(node: &mut Node, stream: StreamId, text: &str) {
    match node.take_events().as_slice() {
        [AviEvent::AudioStreamClosed { stream_id, reason: StreamCloseReason::Protocol(why), .. }] => {
            assert_eq!(*stream_id, stream);
            assert!(why.contains(text), "{why:?} does not name {text:?}");
        }
        other => panic!("{other:?}"),
    }
    let stats = node.stats();
    assert_eq!((stats.protocol_errors, stats.streams_now), (1, 0));
    assert_eq!(node.contract.substreams(), 0);
    assert!(node.take_actions().contains(&NetAction::Reset { substream: SUBSTREAM }));
}

#[test]
fn data_before_acceptance_ends_an_offer() {
    let (mut node, stream) = offered(config());
    node.received(SUBSTREAM, &[data(0, b"early")]);
    assert_broken(&mut node, stream, "DATA");
}

#[test]
fn data_instead_of_an_answer_ends_a_request() {
    let (mut node, stream) = asking();
    node.received(SUBSTREAM, &[data(0, b"early"), Frame::Accept]);
    assert_broken(&mut node, stream, "DATA");
}

#[test]
fn acceptance_from_the_end_that_asked_ends_the_stream() {
    let (mut node, stream) = offered(config());
    node.received(SUBSTREAM, &[Frame::Accept, data(0, b"unasked")]);
    assert_broken(&mut node, stream, "ACCEPT");
}

#[test]
fn frames_that_may_come_once_end_the_stream_when_they_come_twice() {
    let (mut node, stream) = offered(config());
    node.received(SUBSTREAM, &[open()]);
    assert_broken(&mut node, stream, "OPEN");
    let (mut node, stream) = talking();
    node.received(SUBSTREAM, &[open()]);
    assert_broken(&mut node, stream, "OPEN");
    let (mut node, stream) = asking();
    node.received(SUBSTREAM, &[Frame::Accept]);
    assert_eq!(node.take_events(), [accepted(&peer(2), stream)]);
    node.received(SUBSTREAM, &[Frame::Accept]);
    assert_broken(&mut node, stream, "ACCEPT");
}

#[test]
fn frames_that_do_not_fit_the_state_end_the_stream() {
    let report = || Frame::Report(Report::default());
    let ack = || Frame::Ack(Ack::default());
    for frame in [open(), report(), ack(), close(0)] {
        let (mut node, stream) = asking();
        node.received(SUBSTREAM, std::slice::from_ref(&frame));
        assert_broken(&mut node, stream, frame.name());
    }
    for frame in [report(), ack(), reject()] {
        let (mut node, stream) = offered(config());
        node.received(SUBSTREAM, std::slice::from_ref(&frame));
        assert_broken(&mut node, stream, frame.name());
    }
    let (mut node, stream) = talking();
    node.received(SUBSTREAM, &[reject()]);
    assert_broken(&mut node, stream, "REJECT");
}

#[test]
fn a_substream_that_begins_with_anything_but_open_is_dropped_and_the_application_never_hears_of_it() {
    for frame in [Frame::Accept, reject(), data(0, b"x"), close(0), Frame::Ack(Ack::default())] {
        let mut node = Node::with_peer(1, 2, config());
        node.offered(SUBSTREAM.0, 2);
        node.received(SUBSTREAM, &[frame]);
        assert_eq!(node.take_events(), []);
        assert_eq!((node.stats().protocol_errors, node.contract.substreams()), (1, 0));
    }
}

#[test]
fn a_substream_without_open_is_dropped_after_twenty_seconds() {
    let mut node = Node::with_peer(1, 2, config());
    node.offered(SUBSTREAM.0, 2);
    assert_eq!((node.stats().streams_now, node.contract.substreams()), (0, 1));
    node.wait(secs(20));
    assert_eq!((node.stats().protocol_errors, node.contract.substreams()), (1, 0));
    assert_eq!(node.take_events(), []);
}

#[test]
fn unknown_kinds_are_skipped_below_0x80_and_end_the_stream_from_there_on() {
    let (mut node, stream) = talking();
    node.net(NetEvent::Received { substream: SUBSTREAM, bytes: Bytes::from_static(&[3, 0x7f, 1, 2]) });
    node.received(SUBSTREAM, &[data(0, b"on")]);
    assert_eq!(node.take_events(), [audio(&peer(2), stream, b"on")]);
    assert_eq!(node.stats().frames_skipped, 1);
    node.net(NetEvent::Received { substream: SUBSTREAM, bytes: Bytes::from_static(&[3, 0x80, 1, 2]) });
    assert_broken(&mut node, stream, "kind");
}

#[test]
fn a_payload_beyond_the_limit_ends_the_stream() {
    let (mut node, stream) = offered(limited(|limits| limits.max_audio_frame_bytes = 10));
    node.ask(|id| Command::AcceptStream { id, stream }).unwrap();
    node.received(SUBSTREAM, &[data(0, &[0; 10])]);
    assert_eq!(node.take_events(), [audio(&peer(2), stream, &[0; 10])]);
    node.received(SUBSTREAM, &[data(1, &[0; 11])]);
    assert_broken(&mut node, stream, "DATA.payload of 11 bytes exceeds limits.max_audio_frame_bytes = 10");
}

#[test]
fn a_length_beyond_the_limit_ends_the_stream_before_its_bytes_come() {
    let (mut node, stream) = talking();
    node.net(NetEvent::Received { substream: SUBSTREAM, bytes: Bytes::from_static(&[0xff, 0xff, 0xff, 0x7f]) });
    assert_broken(&mut node, stream, "exceeds limits.max_audio_frame_bytes = 65536");
}

#[test]
fn a_frame_twice_or_out_of_order_ends_the_stream() {
    let (mut node, stream) = talking();
    node.received(SUBSTREAM, &[data(5, b"a")]);
    assert_eq!(node.take_events(), [gap(&peer(2), stream, 5), audio(&peer(2), stream, b"a")]);
    node.received(SUBSTREAM, &[data(5, b"a")]);
    assert_broken(&mut node, stream, "DATA.sequence = 5");
}

#[test]
fn a_close_that_takes_frames_back_ends_the_stream() {
    let (mut node, stream) = talking();
    node.received(SUBSTREAM, &[data(0, b"a"), data(1, b"b")]);
    node.take_events();
    node.received(SUBSTREAM, &[close(1)]);
    assert_broken(&mut node, stream, "CLOSE");
}

#[test]
fn what_follows_a_goodbye_is_thrown_away() {
    let (mut node, stream) = talking();
    node.received(SUBSTREAM, &[close(0), data(0, b"late"), Frame::Accept]);
    assert_eq!(node.take_events(), [closed(&peer(2), stream, StreamCloseReason::RemoteClose)]);
    node.received(SUBSTREAM, &[data(1, b"later"), open()]);
    assert_eq!((node.take_events(), node.stats().protocol_errors), (vec![], 0));
    node.net(NetEvent::Finished { substream: SUBSTREAM });
    assert_eq!(node.contract.substreams(), 0);
}

#[test]
fn substreams_that_are_opened_and_left_silent_are_bounded() {
    let config = AviP2pConfig { max_audio_streams: 2, ..config() };
    let mut node = Node::with_peer(1, 2, config);
    for n in 0..100 {
        node.offered(n, 2);
    }
    assert_eq!((node.contract.substreams(), node.stats().streams_refused), (2, 98), "of one peer");
    for n in 3..14 {
        node.connected(n.into(), n, Direction::Inbound);
        (0..4).for_each(|at| _ = node.offered(100 + u64::from(4 * n + at), n));
    }
    assert_eq!(node.contract.substreams(), 18, "of all");
    // They are not offered yet, and do not count against the streams of the application.
    assert!(node.request(&peer(2), StreamOptions::default()).is_ok());
}

#[test]
fn bytes_of_an_unknown_substream_do_nothing() {
    let (mut node, stream) = talking();
    node.net(NetEvent::Received { substream: SubstreamId(77), bytes: Bytes::from_static(b"\x05\x04\x00\x00hi") });
    node.net(NetEvent::Finished { substream: SubstreamId(78) });
    node.take_actions();
    node.received(SUBSTREAM, &[data(0, b"mine")]);
    assert_eq!(node.take_events(), [audio(&peer(2), stream, b"mine")]);
}
