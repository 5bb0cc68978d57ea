//! Does audio flow both ways, and end when either end says so?

use super::*;

fn extended() -> Bench {
    let mut bench = Bench::new(plain_config());
    bench.frame(at(1), &Uplink::HelloExtended { device_id: 7 });
    bench
}

fn start(bench: &mut Bench, local_stream_id: u8, request: u64, stream: u64) {
    let frame = Uplink::StreamStart { local_stream_id, target_peer_id: "12D3KooWCore", reason: "question" };
    let open = Output::OpenStream { request, peer: "12D3KooWCore".to_owned(), reason: "question".to_owned() };
    assert_eq!(bench.frame(at(1), &frame), [open]);
    bench.engine.handle_stream_opened(bench.time(), request, Some(stream));
    assert_eq!(bench.outputs(), []);
}

fn told(bench: &mut Bench) -> Vec<Vec<u8>> {
    let outputs = bench.outputs();
    assert!(outputs.iter().all(|output| matches!(output, Output::Send { .. })), "{outputs:?}");
    datagrams(&outputs, at(1))
}

#[test]
fn audio_goes_up_and_down() {
    let mut bench = extended();
    start(&mut bench, 5, 0, 70);
    bench.engine.handle_stream_accepted(bench.time(), 70);
    assert_eq!(told(&mut bench), [Downlink::StreamAccepted { local_stream_id: 5 }.encode()]);
    let outputs = bench.frame(at(1), &Uplink::StreamData { local_stream_id: 5, data: &[1, 2] });
    assert_eq!(outputs, [Output::SendAudio { stream: 70, data: vec![1, 2] }]);
    bench.engine.handle_audio(bench.time(), 70, &[3, 4]);
    assert_eq!(told(&mut bench), [Downlink::StreamData { local_stream_id: 5, data: &[3, 4] }.encode()]);
    bench.engine.handle_stream_closed(bench.time(), 70);
    assert_eq!(told(&mut bench), [Downlink::StreamClosed { local_stream_id: 5 }.encode()]);
    assert_eq!(bench.engine.stats().streams, 0);
    let outputs = bench.frame(at(1), &Uplink::StreamData { local_stream_id: 5, data: &[1, 2] });
    assert_eq!(datagrams(&outputs, at(1)), [error(ErrorCode::BadStream)]);
}

#[test]
fn what_was_said_before_the_other_end_accepted_is_heard_up_to_a_bound() {
    let mut bench = extended();
    start(&mut bench, 5, 0, 70);
    for n in 0..70 {
        assert_eq!(bench.frame(at(1), &Uplink::StreamData { local_stream_id: 5, data: &[n] }), []);
    }
    bench.engine.handle_stream_accepted(bench.time(), 70);
    let outputs = bench.outputs();
    let heard = outputs.iter().filter_map(|output| match output {
        Output::SendAudio { stream: 70, data } => Some(data[0]),
        _ => None,
    });
    assert_eq!(heard.collect::<Vec<_>>(), (6..70).collect::<Vec<_>>(), "the newest 64, in order");
    assert_eq!(bench.engine.stats().audio_dropped, 6);
}

#[test]
fn a_long_frame_comes_in_parts_between_samples_and_nothing_is_lost() {
    let mut bench = extended();
    start(&mut bench, 5, 0, 70);
    bench.engine.handle_stream_accepted(bench.time(), 70);
    told(&mut bench);
    let frame: Vec<u8> = (0..4096_u32).map(|n| (n % 251) as u8).collect();
    bench.engine.handle_audio(bench.time(), 70, &frame);
    let mut heard = Vec::<u8>::new();
    for datagram in told(&mut bench) {
        assert!(datagram.len() <= 1024);
        let Some(Downlink::StreamData { local_stream_id: 5, data }) = Downlink::decode(&datagram) else {
            panic!("{datagram:?}")
        };
        assert_eq!(data.len() % 4, 0);
        heard.extend(data);
    }
    assert_eq!(heard, frame);
}

#[test]
fn a_node_can_call_a_device() {
    let mut bench = extended();
    assert!(!bench.engine.handle_stream_offered(bench.time(), 70, "12D3KooWCore", "kitchen"), "another's");
    assert!(bench.engine.handle_stream_offered(bench.time(), 70, "12D3KooWCore", "device/7/speak"));
    let offer = Downlink::StreamOffer { local_stream_id: 128, peer_id: "12D3KooWCore", reason: "speak" };
    assert_eq!(told(&mut bench), [offer.encode()]);
    let accept = Uplink::StreamAccept { local_stream_id: 128 };
    assert_eq!(bench.frame(at(1), &accept), [Output::AcceptStream { stream: 70 }]);
    assert_eq!(bench.frame(at(1), &accept), [], "the same, repeated");
    bench.engine.handle_audio(bench.time(), 70, &[1; 4]);
    assert_eq!(told(&mut bench), [Downlink::StreamData { local_stream_id: 128, data: &[1; 4] }.encode()]);
    assert!(bench.engine.handle_stream_offered(bench.time(), 71, "12D3KooWCore", "device/7/speak"));
    bench.outputs();
    let outputs = bench.frame(at(1), &Uplink::StreamClose { local_stream_id: 129 });
    assert!(outputs.contains(&Output::RejectStream { stream: 71, reason: "the device declined" }));
}

#[test]
fn a_call_to_a_device_that_cannot_take_it_is_rejected_with_a_reason() {
    let mut bench = extended();
    bench.hello(at(2), 8);
    for (label, expected) in [
        ("device/99/speak", "there is no such device at this gateway"),
        ("device/8/speak", "the device's protocol has no audio for it"),
        (&*format!("device/7/{}", "x".repeat(1100)), "the device cannot be told"),
    ] {
        assert!(bench.engine.handle_stream_offered(bench.time(), 70, "12D3KooWCore", label));
        assert_eq!(bench.outputs(), [Output::RejectStream { stream: 70, reason: expected }]);
    }
    for stream in 0..5 {
        bench.engine.handle_stream_offered(bench.time(), stream, "12D3KooWCore", "device/7/speak");
    }
    let rejected = Output::RejectStream { stream: 4, reason: "the device has all the streams that it may have" };
    assert_eq!(bench.outputs().last(), Some(&rejected));
}

#[test]
fn a_stream_that_cannot_be_opened_is_told() {
    let mut bench = extended();
    bench.frame(at(1), &Uplink::StreamStart { local_stream_id: 5, target_peer_id: "nobody", reason: "" });
    bench.engine.handle_stream_opened(bench.time(), 0, None);
    let closed = Downlink::StreamClosed { local_stream_id: 5 }.encode();
    assert_eq!(told(&mut bench), [error(ErrorCode::UnknownTarget), closed]);
}

#[test]
fn a_stream_closed_while_it_is_opened_does_not_stay_open() {
    let mut bench = extended();
    let frame = Uplink::StreamStart { local_stream_id: 5, target_peer_id: "12D3KooWCore", reason: "" };
    bench.frame(at(1), &frame);
    bench.frame(at(1), &Uplink::StreamClose { local_stream_id: 5 });
    // The same number again: the first answer is not taken for the second's.
    bench.frame(at(1), &frame);
    bench.engine.handle_stream_opened(bench.time(), 0, Some(70));
    assert_eq!(bench.outputs(), [Output::CloseStream { stream: 70 }]);
    bench.engine.handle_stream_opened(bench.time(), 1, Some(71));
    bench.engine.handle_stream_accepted(bench.time(), 71);
    assert_eq!(told(&mut bench), [Downlink::StreamAccepted { local_stream_id: 5 }.encode()]);
}

#[test]
fn a_request_whose_answer_was_lost_may_be_repeated() {
    let mut bench = extended();
    start(&mut bench, 5, 0, 70);
    let again = Uplink::StreamStart { local_stream_id: 5, target_peer_id: "12D3KooWCore", reason: "question" };
    assert_eq!(bench.frame(at(1), &again), [], "nobody has answered yet");
    bench.engine.handle_stream_accepted(bench.time(), 70);
    let accepted = Downlink::StreamAccepted { local_stream_id: 5 };
    assert_eq!(told(&mut bench), [accepted.encode()]);
    assert!(answers(&bench.frame(at(1), &again), at(1), &accepted));
    let close = Uplink::StreamClose { local_stream_id: 5 };
    assert!(bench.frame(at(1), &close).contains(&Output::CloseStream { stream: 70 }));
    let outputs = bench.frame(at(1), &close);
    assert_eq!(outputs, [Output::Send { to: at(1), datagram: Downlink::StreamClosed { local_stream_id: 5 }.encode() }]);
}

#[test]
fn the_streams_of_a_session_end_with_it() {
    let mut bench = extended();
    start(&mut bench, 5, 0, 70);
    let outputs = bench.pass(seconds(100));
    assert!(outputs.contains(&Output::CloseStream { stream: 70 }), "{outputs:?}");
    bench.engine.handle_stream_closed(bench.time(), 70);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.engine.stats().streams, 0);
}
