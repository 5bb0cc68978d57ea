//! What does a key prove, and what do loss, repetition and theft of datagrams do?

use super::super::{Incoming, SmallDevice};
use super::*;

fn secure_bench() -> Bench {
    Bench::new(GatewayConfig { devices: vec![key(7), key(8)], ..GatewayConfig::default() })
}

/// A device that has asked and been answered. Its first frame completes the handshake.
fn ask(bench: &mut Bench, from: SocketAddr, id: u64, ephemeral: u8, keep: bool) -> SmallDevice {
    let mut device = SmallDevice::secure(&key(id), [ephemeral; 32], keep);
    let outputs = bench.datagram(from, &device.hello());
    let [response] = &datagrams(&outputs, from)[..] else { panic!("{outputs:?}") };
    assert_eq!(device.receive(response), Incoming::Connected);
    device
}

fn send(bench: &mut Bench, from: SocketAddr, device: &mut SmallDevice, frame: &Uplink<'_>) -> Vec<Output> {
    let datagram = device.send(frame).expect("connected");
    bench.datagram(from, &datagram)
}

fn connect(bench: &mut Bench, from: SocketAddr, id: u64, ephemeral: u8) -> SmallDevice {
    let mut device = ask(bench, from, id, ephemeral, false);
    let outputs = send(bench, from, &mut device, &Uplink::Ping { token: 1 });
    assert_eq!(read(&mut device, &outputs, from), [Downlink::Pong { token: 1 }.encode()]);
    device
}

/// The frames for a device, opened.
fn read(device: &mut SmallDevice, outputs: &[Output], address: SocketAddr) -> Vec<Vec<u8>> {
    let frames = datagrams(outputs, address).into_iter().map(|datagram| match device.receive(&datagram) {
        Incoming::Frame(frame) => frame,
        other => panic!("{other:?}"),
    });
    frames.collect()
}

#[test]
fn a_device_with_the_key_does_all_that_a_plain_one_does() {
    let mut bench = secure_bench();
    let mut device = connect(&mut bench, at(1), 7, 1);
    assert_eq!(device.lifetime_s(), Some((90, 86_400)));
    let outputs = send(&mut bench, at(1), &mut device, &Uplink::Subscribe { topic: "lamp" });
    assert!(outputs.contains(&Output::Subscribe { topic: "lamp".to_owned() }));
    assert_eq!(read(&mut device, &outputs, at(1)), [Downlink::SubscribeAck { topic: "lamp" }.encode()]);
    let outputs = bench.message("lamp", b"on");
    assert!(!datagrams(&outputs, at(1))[0].windows(4).any(|bytes| bytes == b"lamp"), "it is not readable");
    assert_eq!(read(&mut device, &outputs, at(1)), [Downlink::Message { topic: "lamp", data: b"on" }.encode()]);
    let outputs = send(&mut bench, at(1), &mut device, &Uplink::Publish { topic: "lamp", data: b"off" });
    assert_eq!(outputs, [Output::Publish { device: 7, topic: "lamp".to_owned(), data: b"off".to_vec() }]);
}

#[test]
fn a_session_begins_only_when_the_device_has_proved_that_it_has_the_keys() {
    let mut bench = secure_bench();
    let mut device = ask(&mut bench, at(1), 7, 1, false);
    assert_eq!(bench.engine.stats().sessions, 0);
    bench.pass(seconds(10));
    let outputs = send(&mut bench, at(1), &mut device, &Uplink::Ping { token: 1 });
    let [notice] = &datagrams(&outputs, at(1))[..] else { panic!("{outputs:?}") };
    assert_eq!(device.receive(notice), Incoming::NoSession, "too late");
}

#[test]
fn a_wrong_key_and_an_unknown_device_get_no_answer() {
    let mut bench = secure_bench();
    let wrong = SmallDevice::secure(&DeviceKey::new(7, [99; 32]), [1; 32], false);
    assert_eq!(bench.datagram(at(1), &wrong.hello()), []);
    let unknown = SmallDevice::secure(&key(6), [1; 32], false);
    assert_eq!(bench.datagram(at(1), &unknown.hello()), []);
    // The key of one device does not open another's session.
    let mut hello = SmallDevice::secure(&key(8), [1; 32], false).hello();
    hello[1..9].copy_from_slice(&7_u64.to_le_bytes());
    assert_eq!(bench.datagram(at(1), &hello), []);
    assert_eq!(bench.engine.stats().handshakes_refused, 3);
}

#[test]
fn a_device_waits_for_the_right_answer_whatever_comes_before() {
    let mut bench = secure_bench();
    let mut device = SmallDevice::secure(&key(7), [1; 32], false);
    let outputs = bench.datagram(at(1), &device.hello());
    let [response] = &datagrams(&outputs, at(1))[..] else { panic!("{outputs:?}") };
    for at_byte in 0..response.len() {
        let mut changed = response.clone();
        changed[at_byte] ^= 1;
        assert_eq!(device.receive(&changed), Incoming::Ignored, "byte {at_byte}");
    }
    for len in 0..response.len() {
        assert_eq!(device.receive(&response[..len]), Incoming::Ignored);
    }
    assert_eq!(device.receive(response), Incoming::Connected);
}

#[test]
fn an_answer_that_was_lost_is_sent_again() {
    let mut bench = secure_bench();
    let mut device = SmallDevice::secure(&key(7), [1; 32], false);
    let first = bench.datagram(at(1), &device.hello());
    let second = bench.datagram(at(1), &device.hello());
    assert_eq!(first, second);
    assert_eq!(device.receive(&datagrams(&second, at(1))[0]), Incoming::Connected);
    let outputs = send(&mut bench, at(1), &mut device, &Uplink::Ping { token: 3 });
    assert_eq!(read(&mut device, &outputs, at(1)), [Downlink::Pong { token: 3 }.encode()]);
}

#[test]
fn a_datagram_counts_once_whatever_order_datagrams_come_in() {
    let mut bench = secure_bench();
    let mut device = connect(&mut bench, at(1), 7, 1);
    let topics = ["0", "1", "2", "3", "4"];
    let sent: Vec<_> =
        topics.map(|topic| device.send(&Uplink::Publish { topic, data: b"" }).expect("connected")).to_vec();
    let mut published = Vec::new();
    for n in [3, 1, 3, 0, 4, 4, 2, 0, 1, 2] {
        for output in bench.datagram(at(1), &sent[n]) {
            let Output::Publish { topic, .. } = output else { panic!("{output:?}") };
            published.push(topic);
        }
    }
    assert_eq!(published, ["3", "1", "0", "4", "2"]);
    assert_eq!(bench.engine.stats().not_authentic, 5);
}

#[test]
fn a_changed_datagram_is_not_taken_and_ends_nothing() {
    let mut bench = secure_bench();
    let mut device = connect(&mut bench, at(1), 7, 1);
    let datagram = device.send(&Uplink::Publish { topic: "lamp", data: b"on" }).expect("connected");
    for at_byte in 5..datagram.len() {
        let mut changed = datagram.clone();
        changed[at_byte] ^= 0x10;
        assert_eq!(bench.datagram(at(1), &changed), [], "byte {at_byte}");
    }
    for len in 0..datagram.len() {
        let outputs = bench.datagram(at(1), &datagram[..len]);
        assert!(outputs.iter().all(|output| matches!(output, Output::Send { .. })), "{outputs:?}");
    }
    assert!(matches!(bench.datagram(at(1), &datagram)[..], [Output::Publish { .. }]));
}

#[test]
fn a_session_follows_its_device_and_not_who_repeats_its_datagrams() {
    let mut bench = secure_bench();
    let mut device = connect(&mut bench, at(1), 7, 1);
    let old = device.send(&Uplink::Ping { token: 1 }).expect("connected");
    let outputs = send(&mut bench, at(2), &mut device, &Uplink::Ping { token: 2 });
    assert_eq!(datagrams(&outputs, at(2)).len(), 1, "a new address");
    let outputs = bench.datagram(at(66), &old);
    assert_eq!((datagrams(&outputs, at(66)).len(), datagrams(&outputs, at(2)).len()), (0, 1), "an older datagram");
    assert_eq!(bench.datagram(at(66), &old), []);
}

#[test]
fn an_old_handshake_that_somebody_repeats_disturbs_nobody() {
    let mut bench = secure_bench();
    let hello = SmallDevice::secure(&key(7), [1; 32], false).hello();
    let mut device = connect(&mut bench, at(1), 7, 1);
    let outputs: Vec<_> = (60..90).flat_map(|host| bench.datagram(at(host), &hello)).collect();
    assert_eq!(outputs, [], "it has been seen");
    let outputs = send(&mut bench, at(1), &mut device, &Uplink::Ping { token: 3 });
    assert_eq!(read(&mut device, &outputs, at(1)), [Downlink::Pong { token: 3 }.encode()]);
    assert_eq!(bench.engine.stats().sessions, 1);
}

#[test]
fn handshakes_recorded_long_ago_do_not_keep_a_device_out() {
    let mut bench = secure_bench();
    let recorded: Vec<_> = (100..140).map(|n| SmallDevice::secure(&key(7), [n; 32], false).hello()).collect();
    let mut answered = 0;
    for (n, hello) in recorded.iter().enumerate() {
        answered += bench.datagram(at(60 + u8::try_from(n).expect("small")), hello).len();
        bench.pass(Duration::from_millis(60));
    }
    assert_eq!(answered, 40, "each was new to this gateway");
    assert!(bench.engine.pending.len() <= 4);
    connect(&mut bench, at(1), 7, 1);
}

#[test]
fn who_has_not_got_the_key_cannot_use_up_the_handshakes() {
    let mut bench = secure_bench();
    for n in 0..200 {
        let wrong = SmallDevice::secure(&DeviceKey::new(7, [99; 32]), [n; 32], false);
        assert_eq!(bench.datagram(at(n), &wrong.hello()), []);
    }
    connect(&mut bench, at(201), 7, 1);
}

#[test]
fn new_keys_keep_what_the_device_asks_to_keep() {
    for keep in [true, false] {
        let mut bench = secure_bench();
        let mut old = connect(&mut bench, at(1), 7, 1);
        send(&mut bench, at(1), &mut old, &Uplink::Subscribe { topic: "lamp" });
        let mut new = ask(&mut bench, at(1), 7, 2, keep);
        // Until the new keys are proved, the old ones hold.
        let outputs = bench.message("lamp", b"on");
        assert_eq!(read(&mut old, &outputs, at(1)).len(), 1);
        send(&mut bench, at(1), &mut new, &Uplink::Ping { token: 1 });
        let outputs = bench.message("lamp", b"on");
        assert_eq!(read(&mut new, &outputs, at(1)).len(), usize::from(keep));
        let outputs = send(&mut bench, at(1), &mut old, &Uplink::Ping { token: 1 });
        assert_eq!(old.receive(&datagrams(&outputs, at(1))[0]), Incoming::NoSession, "the old keys are gone");
    }
}

#[test]
fn keys_end_by_age_however_much_is_sent() {
    let mut bench =
        Bench::new(GatewayConfig { devices: vec![key(7)], key_age: seconds(300), ..GatewayConfig::default() });
    let mut device = connect(&mut bench, at(1), 7, 1);
    for _ in 0..5 {
        assert_eq!(bench.pass(seconds(59)), []);
        send(&mut bench, at(1), &mut device, &Uplink::Ping { token: 1 });
    }
    let outputs = bench.pass(seconds(10));
    assert_eq!(read(&mut device, &outputs, at(1)), [error(ErrorCode::SessionEnded)]);
    assert_eq!(bench.engine.stats().sessions, 0);
}

#[test]
fn the_longest_frame_fits_and_a_longer_one_is_told() {
    let mut bench = secure_bench();
    let mut device = connect(&mut bench, at(1), 7, 1);
    send(&mut bench, at(1), &mut device, &Uplink::Subscribe { topic: "lamp" });
    let fits = vec![1; 1024 - 29 - 1 - 5 - 2];
    let outputs = bench.message("lamp", &fits);
    assert_eq!(datagrams(&outputs, at(1))[0].len(), 1024);
    let outputs = bench.message("lamp", &vec![1; fits.len() + 1]);
    assert_eq!(read(&mut device, &outputs, at(1)), [error(ErrorCode::Oversize)]);
    let outputs = send(&mut bench, at(1), &mut device, &Uplink::Publish { topic: "lamp", data: &[1; 1000] });
    assert_eq!(read(&mut device, &outputs, at(1)), [error(ErrorCode::Oversize)]);
}

#[test]
fn a_plain_frame_from_a_secure_devices_address_is_a_strangers() {
    let mut bench = secure_bench();
    connect(&mut bench, at(1), 7, 1);
    let outputs = bench.frame(at(1), &Uplink::Publish { topic: "lamp", data: b"on" });
    assert_eq!(outputs, [Output::Send { to: at(1), datagram: error(ErrorCode::UnknownSession) }]);
}
