//! Does the original firmware work? Its packets, byte for byte, and what it gets.

use serde_json::{Value, json};

use super::*;

/// The firmware's device id, 0x0123456789ABCDEF, as a varint.
const ID: [u8; 9] = [0xef, 0x9b, 0xaf, 0xcd, 0xf8, 0xac, 0xd1, 0x91, 0x01];
const DEVICE: u64 = 0x0123_4567_89ab_cdef;

fn packet(variant: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![variant];
    packet.extend(parts.concat());
    packet
}

/// A text or bytes shorter than 128 bytes, behind their length.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).expect("short")];
    bytes.extend(text.as_bytes());
    bytes
}

fn published(outputs: &[Output], name: &str) -> Value {
    let data = outputs.iter().find_map(|output| match output {
        Output::Publish { topic, data, .. } if topic == name => Some(data),
        _ => None,
    });
    serde_json::from_slice(data.unwrap_or_else(|| panic!("nothing on {name}: {outputs:?}"))).expect("JSON")
}

#[test]
fn the_firmware_says_hello_subscribes_and_gets_messages_in_its_own_bytes() {
    let mut bench = Bench::new(plain_config());
    let outputs = bench.datagram(at(5), &packet(0, &[&ID]));
    assert_eq!(datagrams(&outputs, at(5)), [vec![0]], "Welcome");
    for topic in ["device/led/control", "device/led/animation", "device/led/clear", "device/audio/data"] {
        let outputs = bench.datagram(at(5), &packet(1, &[&text(topic)]));
        assert!(outputs.contains(&Output::Subscribe { topic: topic.to_owned() }));
        assert_eq!(datagrams(&outputs, at(5)), [packet(3, &[&text(topic)])], "SubscribeAck");
    }
    let outputs = bench.message("device/led/control", b"3,255,0,0");
    let expected = packet(2, &[&text("device/led/control"), &text("3,255,0,0")]);
    assert_eq!(datagrams(&outputs, at(5)), [expected], "Message");
    let outputs = bench.datagram(at(5), &packet(2, &[&text("device/led/clear")]));
    assert_eq!(datagrams(&outputs, at(5)), [packet(4, &[&text("device/led/clear")])], "UnsubscribeAck");
}

#[test]
fn buttons_and_sensors_keep_their_topics_and_shapes() {
    let mut bench = Bench::new(plain_config());
    bench.datagram(at(5), &packet(0, &[&ID]));
    let custom = r#"{"button":2,"name":"PLAY"}"#;
    let outputs = bench.datagram(at(5), &packet(7, &[&[2, 1], &text(custom)]));
    let expected = json!({ "button_id": 2, "type": "Double", "data": custom, "ts": 1_700_000_000 });
    assert_eq!(published(&outputs, &format!("device/{DEVICE}/button")), expected);

    let values: [(&[u8], Value, &str); 5] = [
        (&[0, 0xcd, 0xcc, 0xac, 0x41], json!(21.6), "C"),
        (&[1, 0, 0, 0x38, 0x42], json!(46.0), "%"),
        (&[2, 85], json!(85), ""),
        (&[3, 1], json!(true), ""),
        (&[4, 0xf1, 0xc0, 0x01], json!(-12_345), ""),
    ];
    for (bytes, value, unit) in values {
        let outputs = bench.datagram(at(5), &packet(8, &[&text("kitchen"), bytes, &text("x")]));
        let data = json!({ "value": value, "unit": unit, "custom": "x" });
        let expected = json!({ "name": "kitchen", "data": data, "ts": 1_700_000_000 });
        assert_eq!(published(&outputs, &format!("device/{DEVICE}/sensor/kitchen")), expected);
    }
}

#[test]
fn its_messages_and_audio_go_to_the_mesh() {
    let mut bench = Bench::new(plain_config());
    bench.datagram(at(5), &packet(0, &[&ID]));
    let outputs = bench.datagram(at(5), &packet(3, &[&text("device/status"), &text("{\"online\":true}")]));
    let data = br#"{"online":true}"#.to_vec();
    assert_eq!(outputs, [Output::Publish { device: DEVICE, topic: "device/status".to_owned(), data }]);

    let outputs = bench.datagram(at(5), &packet(4, &[&[1], &text("12D3KooWServer"), &text("voice_command")]));
    let open = Output::OpenStream { request: 0, peer: "12D3KooWServer".to_owned(), reason: "voice_command".to_owned() };
    assert_eq!(outputs, [open]);
    // It does not wait for an answer, and gets none: there is none that it could read.
    let mut audio = packet(5, &[&[1, 0x80, 0x04]]);
    audio.extend([7; 512]);
    assert_eq!(bench.datagram(at(5), &audio), []);
    bench.engine.handle_stream_opened(bench.time(), 0, Some(77));
    bench.engine.handle_stream_accepted(bench.time(), 77);
    assert_eq!(bench.outputs(), [Output::SendAudio { stream: 77, data: vec![7; 512] }]);
    assert_eq!(bench.datagram(at(5), &audio), [Output::SendAudio { stream: 77, data: vec![7; 512] }]);
    bench.engine.handle_audio(bench.time(), 77, &[1; 100]);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.engine.stats().not_asked_for, 1);
    assert_eq!(bench.datagram(at(5), &packet(6, &[&[1]])), [Output::CloseStream { stream: 77 }]);
    assert_eq!(bench.engine.stats().streams, 0);
}

#[test]
fn it_says_hello_once_and_is_served_for_days_without_another_word() {
    let mut bench = Bench::new(plain_config());
    bench.datagram(at(5), &packet(0, &[&ID]));
    bench.datagram(at(5), &packet(1, &[&text("device/led/control")]));
    bench.pass(seconds(6 * 24 * 3600));
    assert_eq!(datagrams(&bench.message("device/led/control", b"1,2,3,4"), at(5)).len(), 1);
    // A button keeps it for another week.
    bench.datagram(at(5), &packet(7, &[&[2, 0, 0]]));
    bench.pass(seconds(6 * 24 * 3600));
    assert_eq!(datagrams(&bench.message("device/led/control", b"1,2,3,4"), at(5)).len(), 1);
    bench.pass(seconds(2 * 24 * 3600));
    assert_eq!(bench.message("device/led/control", b"1,2,3,4"), []);
}

#[test]
fn no_frame_of_the_original_protocol_has_changed() {
    let frames: [(Downlink<'_>, Vec<u8>); 5] = [
        (Downlink::Welcome, vec![0]),
        (Downlink::Error { reason: 200 }, vec![1, 200]),
        (Downlink::Message { topic: "t", data: &[0xff, 0] }, vec![2, 1, b't', 2, 0xff, 0]),
        (Downlink::SubscribeAck { topic: "t" }, vec![3, 1, b't']),
        (Downlink::UnsubscribeAck { topic: "" }, vec![4, 0]),
    ];
    for (frame, bytes) in frames {
        assert_eq!(frame.encode(), bytes);
        assert!(frame.is_original());
        assert_eq!(Downlink::decode(&bytes), Some(frame));
    }
    assert!(!Downlink::Pong { token: 0 }.is_original());
}
