//! What does a device without a key get?

use super::*;

fn subscribe(bench: &mut Bench, from: SocketAddr, topic: &str) -> Vec<Output> {
    bench.frame(from, &Uplink::Subscribe { topic })
}

#[test]
fn one_devices_unsubscribe_touches_only_it() {
    let mut bench = Bench::new(plain_config());
    for host in [1, 2] {
        bench.hello(at(host), host.into());
        subscribe(&mut bench, at(host), "lamp");
    }
    let outputs = bench.frame(at(1), &Uplink::Unsubscribe { topic: "lamp" });
    assert_eq!(outputs.len(), 1, "only the answer: {outputs:?}");
    assert_eq!(bench.pass(seconds(60)), []);
    let outputs = bench.message("lamp", b"on");
    assert_eq!((datagrams(&outputs, at(1)).len(), datagrams(&outputs, at(2)).len()), (0, 1));
    bench.frame(at(2), &Uplink::Unsubscribe { topic: "lamp" });
    assert_eq!(bench.pass(seconds(60)), [Output::Unsubscribe { topic: "lamp".to_owned() }]);
}

#[test]
fn a_session_expires_with_its_subscriptions_and_its_name_in_the_context() {
    let mut bench = Bench::new(plain_config());
    let outputs = bench.frame(at(1), &Uplink::HelloExtended { device_id: 7 });
    let path = "avi.gateway.12D3KooWGateway.device.7".to_owned();
    let value = serde_json::json!({ "mode": "plain", "since": 1_700_000_000 });
    assert!(outputs.contains(&Output::SetContext { path: path.clone(), value }));
    subscribe(&mut bench, at(1), "lamp");
    bench.pass(seconds(80));
    let pong = bench.frame(at(1), &Uplink::Ping { token: 9 });
    assert!(answers(&pong, at(1), &Downlink::Pong { token: 9 }));
    assert_eq!(bench.pass(seconds(89)), [], "the ping keeps it");
    let outputs = bench.pass(seconds(20));
    assert_eq!(datagrams(&outputs, at(1)), [error(ErrorCode::SessionEnded)]);
    assert!(outputs.contains(&Output::RemoveContext { path }));
    assert!(outputs.contains(&Output::Unsubscribe { topic: "lamp".to_owned() }));
    let stats = bench.engine.stats();
    assert_eq!((stats.sessions, stats.topics, stats.sessions_expired), (0, 0, 1));
    let outputs = bench.frame(at(1), &Uplink::Ping { token: 9 });
    assert_eq!(datagrams(&outputs, at(1)), [error(ErrorCode::UnknownSession)]);
}

#[test]
fn an_extended_hello_from_a_new_address_moves_the_session() {
    let mut bench = Bench::new(plain_config());
    bench.frame(at(1), &Uplink::HelloExtended { device_id: 7 });
    subscribe(&mut bench, at(1), "lamp");
    bench.pass(seconds(5));
    assert!(answers(&bench.frame(at(2), &Uplink::HelloExtended { device_id: 7 }), at(2), &Downlink::Welcome));
    assert_eq!(bench.engine.stats().sessions, 1);
    assert_eq!(bench.message("lamp", b"on"), [], "the old address gets nothing more");
    let outputs = subscribe(&mut bench, at(2), "lamp");
    assert!(answers(&outputs, at(2), &Downlink::SubscribeAck { topic: "lamp" }));
    assert!(!outputs.contains(&Output::Subscribe { topic: "lamp".to_owned() }), "the mesh hears of no change");
    assert_eq!(datagrams(&bench.message("lamp", b"on"), at(2)).len(), 1);
}

#[test]
fn boards_with_one_number_at_two_addresses_have_two_sessions_and_one_name() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    subscribe(&mut bench, at(1), "lamp");
    assert!(answers(&bench.hello(at(2), 7), at(2), &Downlink::Welcome));
    subscribe(&mut bench, at(2), "lamp");
    let outputs = bench.message("lamp", b"on");
    assert_eq!((datagrams(&outputs, at(1)).len(), datagrams(&outputs, at(2)).len()), (1, 1));
    let sensor = |sensor_name| Uplink::SensorUpdate {
        sensor_name,
        data: super::super::SensorValue::Battery(1),
        custom_data: "",
    };
    let path = "avi.gateway.12D3KooWGateway.device.7".to_owned();
    for (host, name) in [(1, "kitchen"), (2, "hall")] {
        let outputs = bench.frame(at(host), &sensor(name));
        assert!(matches!(&outputs[..], [Output::Publish { topic, .. }, Output::SetContext { path: written, .. }]
            if *topic == format!("device/7/sensor/{name}") && *written == format!("{path}.sensor.{name}")));
    }
    // A board that starts anew has its own session again, also with another port.
    bench.pass(seconds(5));
    let again = SocketAddr::from(([192, 168, 1, 1], 4001));
    assert!(answers(&bench.hello(again, 7), again, &Downlink::Welcome));
    assert_eq!(bench.engine.stats().sessions, 2);
    // The name goes with the last of them.
    assert!(!bench.frame(at(2), &Uplink::Goodbye).contains(&Output::RemoveContext { path: path.clone() }));
    assert!(bench.frame(again, &Uplink::Goodbye).contains(&Output::RemoveContext { path }));
    assert_eq!(bench.engine.context_values, 0);
}

#[test]
fn a_hello_that_the_network_repeats_ends_no_subscription() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    subscribe(&mut bench, at(1), "lamp");
    assert!(answers(&bench.hello(at(1), 7), at(1), &Downlink::Welcome));
    assert_eq!(datagrams(&bench.message("lamp", b"on"), at(1)).len(), 1);
    bench.pass(seconds(3));
    bench.hello(at(1), 7);
    assert_eq!(bench.message("lamp", b"on"), [], "a device that starts anew subscribes anew");
}

#[test]
fn another_device_at_an_address_ends_the_session_of_the_first() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    bench.hello(at(1), 8);
    assert_eq!(bench.engine.sessions.devices().into_iter().collect::<Vec<_>>(), [8]);
}

#[test]
fn a_message_too_long_for_a_datagram_is_told_once_and_counted_each_time() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    subscribe(&mut bench, at(1), "lamp");
    let fits = vec![1; 1024 - 1 - 5 - 2];
    let outputs = bench.message("lamp", &fits);
    assert_eq!(datagrams(&outputs, at(1))[0].len(), 1024);
    let longer = vec![1; fits.len() + 1];
    assert_eq!(datagrams(&bench.message("lamp", &longer), at(1)), [error(ErrorCode::Oversize)]);
    assert_eq!(bench.message("lamp", &longer), []);
    assert_eq!(bench.engine.stats().oversize, 2);
    assert_eq!(datagrams(&bench.message("lamp", b"on"), at(1)).len(), 1);
}

#[test]
fn a_datagram_too_long_is_told_to_the_device_that_sent_it() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    let data = vec![1; 1200];
    let outputs = bench.frame(at(1), &Uplink::Publish { topic: "lamp", data: &data });
    assert_eq!(outputs, [Output::Send { to: at(1), datagram: error(ErrorCode::Oversize) }]);
}

#[test]
fn a_subscription_that_the_node_refuses_is_told_and_forgotten() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    bench.engine.handle_datagram(bench.time(), at(1), &Uplink::Subscribe { topic: "lamp" }.encode());
    assert_eq!(bench.engine.poll_output(), Some(Output::Subscribe { topic: "lamp".to_owned() }));
    bench.engine.handle_subscribed(bench.time(), "lamp", false);
    assert_eq!(datagrams(&bench.outputs(), at(1)), [error(ErrorCode::Congested)]);
    assert_eq!(bench.engine.stats().topics, 0);
    let outputs = subscribe(&mut bench, at(1), "lamp");
    assert!(outputs.contains(&Output::Subscribe { topic: "lamp".to_owned() }), "it may be asked again");
}

#[test]
fn the_context_gets_a_sensors_last_value_and_not_more_than_one_a_second() {
    let mut bench = Bench::new(plain_config());
    bench.hello(at(1), 7);
    let mut written = Vec::new();
    for value in 0..30 {
        let data = super::super::SensorValue::Raw(value);
        bench.frame(at(1), &Uplink::SensorUpdate { sensor_name: "a.b", data, custom_data: "" }).into_iter().for_each(
            |output| match output {
                Output::SetContext { path, value } => written.push((path, value["value"].clone())),
                other => assert!(matches!(other, Output::Publish { .. }), "{other:?}"),
            },
        );
    }
    let path = "avi.gateway.12D3KooWGateway.device.7.sensor.a_b".to_owned();
    assert_eq!(written, [(path.clone(), serde_json::json!(0))]);
    let outputs = bench.pass(seconds(5));
    let [Output::SetContext { path: later, value }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((later, &value["value"]), (&path, &serde_json::json!(29)));
}

#[test]
fn the_context_is_not_flooded_and_comes_to_what_is() {
    let limits = super::super::GatewayLimits { context_values: 2048, ..Default::default() };
    let mut bench = Bench::new(GatewayConfig { limits, ..plain_config() });
    let address = |n: u64| SocketAddr::from(([10, 1, u8::try_from(n % 100).expect("small"), 1], 4000));
    let mut written = Vec::new();
    let is_write = |output: &Output| matches!(output, Output::SetContext { .. } | Output::RemoveContext { .. });
    // Sixty devices come with eight sensors each, and every second one goes.
    for n in 0..60 {
        written.extend(bench.hello(address(n), n));
        for sensor_name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let data = super::super::SensorValue::Battery(1);
            written.extend(bench.frame(address(n), &Uplink::SensorUpdate { sensor_name, data, custom_data: "" }));
        }
    }
    for n in (0..60).step_by(2) {
        written.extend(bench.frame(address(n), &Uplink::Goodbye));
    }
    written.retain(is_write);
    assert_eq!(written.len(), 40, "twice context_writes_per_second");
    for second in 1..60 {
        written.extend(bench.pass(seconds(1)).into_iter().filter(is_write));
        assert!(written.len() <= 40 + 20 * second, "{} after {second} s", written.len());
    }
    let mut context = std::collections::BTreeSet::new();
    for output in written {
        match output {
            Output::SetContext { path, .. } => drop(context.insert(path)),
            Output::RemoveContext { path } => {
                context.retain(|kept: &String| !format!("{kept}.").starts_with(&format!("{path}.")));
            }
            _ => {}
        }
    }
    assert_eq!(context.len(), 30 * 9, "thirty devices and their sensors");
    assert!(!context.iter().any(|path| path.contains("device.58")), "{context:?}");
}

#[test]
fn a_goodbye_and_a_shutdown_leave_nothing_behind() {
    let mut bench = Bench::new(plain_config());
    for host in [1, 2] {
        bench.hello(at(host), host.into());
        subscribe(&mut bench, at(host), "lamp");
    }
    let outputs = bench.frame(at(1), &Uplink::Goodbye);
    assert!(outputs.contains(&Output::RemoveContext { path: "avi.gateway.12D3KooWGateway.device.1".to_owned() }));
    bench.engine.shutdown(bench.time());
    let outputs = bench.outputs();
    assert!(outputs.contains(&Output::Unsubscribe { topic: "lamp".to_owned() }), "{outputs:?}");
    assert!(outputs.contains(&Output::RemoveContext { path: "avi.gateway.12D3KooWGateway.device.2".to_owned() }));
    assert_eq!((bench.engine.stats().sessions, bench.engine.next_deadline()), (0, None));
}
