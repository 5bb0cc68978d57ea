//! What can somebody do who sends what he likes?

use super::super::{GatewayLimits, PressType, SensorValue};
use super::*;

fn total_bytes(outputs: &[Output]) -> usize {
    let bytes = outputs.iter().map(|output| match output {
        Output::Send { datagram, .. } => datagram.len(),
        _ => 0,
    });
    bytes.sum()
}

#[test]
fn a_gateway_for_keys_alone_gives_no_plain_session_and_no_device_with_a_key_one() {
    let mut bench = Bench::new(GatewayConfig { devices: vec![key(9)], ..GatewayConfig::default() });
    assert_eq!(datagrams(&bench.hello(at(1), 7), at(1)), [error(ErrorCode::NotAllowed)]);
    let mut bench = Bench::new(GatewayConfig { devices: vec![key(9)], ..plain_config() });
    assert_eq!(datagrams(&bench.hello(at(1), 9), at(1)), [error(ErrorCode::NotAllowed)]);
    assert_eq!(bench.engine.stats().sessions, 0);
    assert!(answers(&bench.hello(at(1), 7), at(1), &Downlink::Welcome), "others may");
}

#[test]
fn an_address_that_is_not_private_gets_no_plain_session_and_no_answer() {
    let far = SocketAddr::from(([203, 0, 113, 9], 4000));
    let mut bench = Bench::new(plain_config());
    assert_eq!(bench.hello(far, 7), []);
    assert_eq!(bench.engine.stats().plain_refused, 1);
    let mut bench = Bench::new(GatewayConfig { plain_from_anywhere: true, ..plain_config() });
    assert!(answers(&bench.hello(far, 7), far, &Downlink::Welcome));
}

#[test]
fn no_answer_to_a_stranger_is_longer_than_the_question() {
    let limits = GatewayLimits { unknown_per_second: 10_000, ..GatewayLimits::default() };
    let config = GatewayConfig { devices: vec![key(9)], limits, ..plain_config() };
    let mut bench = Bench::new(config);
    for len in [0, 1, 2, 3, 12, 13, 14, 29, 58, 59, 60, 1024, 1025, 2000] {
        for first in 0..=255 {
            let mut datagram = vec![first; len];
            if len > 9 {
                datagram[1..9].copy_from_slice(&9_u64.to_le_bytes());
            }
            // From a new address each time: none has a session.
            let from = SocketAddr::from(([10, 0, first, u8::try_from(len % 256).expect("small")], 1));
            let outputs = bench.datagram(from, &datagram);
            assert!(total_bytes(&outputs) <= len, "{len} bytes of {first}: {outputs:?}");
        }
    }
}

#[test]
fn a_flood_from_one_address_costs_others_nothing() {
    let mut bench = Bench::new(plain_config());
    let outputs: Vec<_> = (0..10_000_u64).flat_map(|_| bench.datagram(at(66), &[0xff; 100])).collect();
    assert!(outputs.len() <= 20, "{}", outputs.len());
    assert!(bench.engine.stats().unknown_limited >= 9_980);
    assert!(answers(&bench.hello(at(1), 7), at(1), &Downlink::Welcome));
}

#[test]
fn sessions_are_bounded_in_all_and_for_each_address() {
    let limits =
        GatewayLimits { sessions: 20, sessions_per_ip: 5, unknown_per_second: 1000, ..GatewayLimits::default() };
    let mut bench = Bench::new(GatewayConfig { devices: vec![key(9)], limits, ..plain_config() });
    for port in 1..10_u16 {
        let from = SocketAddr::from(([192, 168, 1, 66], port));
        let outputs = bench.hello(from, 1000 + u64::from(port));
        let expected = if port <= 5 { vec![0] } else { error(ErrorCode::TooManySessions) };
        assert_eq!(datagrams(&outputs, from), [expected]);
    }
    for host in 1..40 {
        bench.hello(at(host), 2000 + u64::from(host));
    }
    assert_eq!(bench.engine.stats().sessions, 19, "a place is kept for the device with a key");
    let again = SocketAddr::from(([192, 168, 1, 66], 1));
    bench.pass(seconds(5));
    assert!(answers(&bench.hello(again, 1001), again, &Downlink::Welcome), "who has a session keeps it");
}

#[test]
fn what_a_device_may_hold_is_bounded_and_told() {
    let limits = GatewayLimits { subscriptions: 3, topics: 5, sensors: 2, streams: 1, ..GatewayLimits::default() };
    let mut bench = Bench::new(GatewayConfig { limits, ..plain_config() });
    bench.hello(at(1), 1);
    bench.hello(at(2), 2);
    let topics = ["a", "b", "c", "d", "e"];
    for topic in &topics[..3] {
        assert_eq!(bench.frame(at(1), &Uplink::Subscribe { topic }).len(), 2);
    }
    let refused = [Output::Send { to: at(1), datagram: error(ErrorCode::TooManySubscriptions) }];
    assert_eq!(bench.frame(at(1), &Uplink::Subscribe { topic: "d" }), refused);
    assert_eq!(bench.frame(at(1), &Uplink::Subscribe { topic: "a" }).len(), 1, "one that it has is no other");
    bench.frame(at(2), &Uplink::Subscribe { topic: "d" });
    bench.frame(at(2), &Uplink::Subscribe { topic: "e" });
    let outputs = bench.frame(at(2), &Uplink::Subscribe { topic: "f" });
    assert_eq!(datagrams(&outputs, at(2)), [error(ErrorCode::TooManySubscriptions)], "five in all");
    // A topic that is only kept for a while makes room.
    bench.frame(at(1), &Uplink::Unsubscribe { topic: "b" });
    let outputs = bench.frame(at(2), &Uplink::Subscribe { topic: "f" });
    assert!(outputs.contains(&Output::Unsubscribe { topic: "b".to_owned() }), "{outputs:?}");

    let sensor = |sensor_name| Uplink::SensorUpdate { sensor_name, data: SensorValue::Battery(1), custom_data: "" };
    bench.frame(at(1), &sensor("x"));
    bench.frame(at(1), &sensor("y"));
    assert_eq!(datagrams(&bench.frame(at(1), &sensor("z")), at(1)), [error(ErrorCode::TooManySensors)]);
    let start = |local_stream_id| Uplink::StreamStart { local_stream_id, target_peer_id: "p", reason: "" };
    bench.frame(at(1), &start(1));
    assert_eq!(bench.frame(at(1), &start(1)), [], "the same, repeated");
    let other = Uplink::StreamStart { local_stream_id: 1, target_peer_id: "q", reason: "" };
    assert_eq!(datagrams(&bench.frame(at(1), &other), at(1)), [error(ErrorCode::BadStream)]);
    assert_eq!(datagrams(&bench.frame(at(1), &start(2)), at(1)), [error(ErrorCode::TooManyStreams)]);
}

#[test]
fn a_device_that_sends_too_fast_is_cut_and_told_once_a_second() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    let press = Uplink::ButtonPress { button_id: 0, press_type: PressType::Long, custom_data: "" };
    let outputs: Vec<_> = (0..1000).flat_map(|_| bench.frame(at(1), &press)).collect();
    let published = outputs.iter().filter(|output| matches!(output, Output::Publish { .. })).count();
    assert_eq!(published, 100, "twice messages_per_second");
    assert_eq!(datagrams(&outputs, at(1)), [error(ErrorCode::Rate)]);
    assert_eq!(bench.engine.stats().rate_limited, 900);
    bench.pass(seconds(1));
    assert!(matches!(bench.frame(at(1), &press)[..], [Output::Publish { .. }]));
}

#[test]
fn a_flood_from_the_mesh_does_not_become_a_flood_to_a_device() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    bench.frame(at(1), &Uplink::Subscribe { topic: "lamp" });
    let outputs: Vec<_> = (0..1000).flat_map(|_| bench.message("lamp", &[0; 1000])).collect();
    assert!(total_bytes(&outputs) <= 256 * 1024, "{}", total_bytes(&outputs));
    assert!(bench.engine.stats().downlink_limited > 700);
}

#[test]
fn names_that_could_mean_something_else_are_refused() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    let long = "x".repeat(201);
    for topic in ["", "a\nb", "/avi/context/1", "avi-context-updates", "device/8/button", "device/8/sensor/x", &long] {
        let outputs = bench.frame(at(1), &Uplink::Publish { topic, data: b"x" });
        assert_eq!(outputs, [Output::Send { to: at(1), datagram: error(ErrorCode::BadName) }], "{topic:?}");
    }
    for topic in ["device/7/button", "device/8/command", "device/button/event", "device/008"] {
        let outputs = bench.frame(at(1), &Uplink::Publish { topic, data: b"x" });
        assert!(matches!(outputs[..], [Output::Publish { .. }]), "{topic:?}");
    }
    for topic in ["", "\0", "/avi/context/1", "avi-context-updates"] {
        let outputs = bench.frame(at(1), &Uplink::Subscribe { topic });
        assert_eq!(outputs, [Output::Send { to: at(1), datagram: error(ErrorCode::BadName) }], "{topic:?}");
    }
    let long = "x".repeat(65);
    for (sensor_name, value) in [("", 1.0), ("a\u{7f}", 1.0), (&long, 1.0), ("a", f32::NAN), ("a", f32::INFINITY)] {
        let data = SensorValue::Temperature(value);
        let outputs = bench.frame(at(1), &Uplink::SensorUpdate { sensor_name, data, custom_data: "" });
        assert_eq!(outputs, [Output::Send { to: at(1), datagram: error(ErrorCode::BadName) }], "{sensor_name:?}");
    }
}

#[test]
fn what_is_no_frame_is_told_and_ends_nothing() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    let bad: [&[u8]; 8] = [
        &[],
        &[13],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
        &[1, 5, b'a'],
        &[1, 2, 0xff, 0xfe],
        &[3, 1, b'a', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[7, 0, 3, 0],
        &[6, 1, 0],
    ];
    for datagram in bad {
        let outputs = bench.datagram(at(1), datagram);
        assert_eq!(datagrams(&outputs, at(1)), [error(ErrorCode::BadFrame)], "{datagram:?}");
    }
    assert_eq!(bench.engine.stats().bad_frames, 8);
    assert!(matches!(bench.frame(at(1), &Uplink::Publish { topic: "a", data: b"" })[..], [Output::Publish { .. }]));
}
