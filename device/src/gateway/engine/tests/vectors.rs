//! Does an implementation in another language get the same bytes? Fixed keys give those in `device/docs`.

use super::super::{Incoming, SmallDevice};
use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A session with fixed keys, as bytes.
fn session() -> serde_json::Value {
    let device_id = 0x0123_4567_89ab_cdef;
    let psk: [u8; 32] = std::array::from_fn(|n| u8::try_from(n).expect("small"));
    let device_ephemeral: [u8; 32] = std::array::from_fn(|n| 0x40 + u8::try_from(n).expect("small"));
    let gateway_ephemeral: [u8; 32] = std::array::from_fn(|n| 0x80 + u8::try_from(n).expect("small"));
    let key = DeviceKey::new(device_id, psk);
    // The gateway draws its ephemeral key, then the session's number.
    let mut draws = [gateway_ephemeral, [0x11; 32]].into_iter();
    let entropy = Box::new(move || draws.next());
    let config = GatewayConfig { devices: vec![key.clone()], ..GatewayConfig::default() };
    let engine = GatewayEngine::new(config, "12D3KooWGateway", entropy).expect("valid");
    let mut bench = Bench { engine, now: seconds(1) };

    let mut device = SmallDevice::secure(&key, device_ephemeral, false);
    let init = device.hello();
    let response = datagrams(&bench.datagram(at(1), &init), at(1)).remove(0);
    assert_eq!(device.receive(&response), Incoming::Connected);
    let mut datagrams_of = Vec::new();
    for frame in [Uplink::Ping { token: 300 }, Uplink::Subscribe { topic: "device/led/control" }] {
        let datagram = device.send(&frame).expect("connected");
        datagrams_of.push(vector("device", datagrams_of.len() / 2, &frame.encode(), &datagram));
        let answer = datagrams(&bench.datagram(at(1), &datagram), at(1)).remove(0);
        let Incoming::Frame(plain) = device.receive(&answer) else { panic!("{answer:?}") };
        datagrams_of.push(vector("gateway", datagrams_of.len() / 2, &plain, &answer));
    }
    let prologue = [b"avi-gateway/1".as_slice(), &device_id.to_le_bytes()].concat();
    serde_json::json!({
        "protocol": super::super::NOISE_PROTOCOL,
        "device_id": format!("{device_id:016x}"),
        "psk": hex(&psk),
        "prologue": hex(&prologue),
        "device_ephemeral_private": hex(&device_ephemeral),
        "gateway_ephemeral_private": hex(&gateway_ephemeral),
        "init_payload": "0100",
        "init": hex(&init),
        "response_payload": "111111115a0080510100",
        "response": hex(&response),
        "datagrams": datagrams_of,
    })
}

fn vector(from: &str, counter: usize, frame: &[u8], datagram: &[u8]) -> serde_json::Value {
    serde_json::json!({ "from": from, "counter": counter, "frame": hex(frame), "datagram": hex(datagram) })
}

#[test]
fn the_published_vectors_are_what_the_gateway_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/gateway-vectors.json");
    let published: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("the vectors")).expect("JSON");
    let session = session();
    assert_eq!(published, session, "it gave:\n{session:#}");
}
