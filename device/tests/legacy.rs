//! Do devices share the context with a node of AVI 0.5? It is played here: what it publishes is what 0.5 does.

mod common;

use avi_device::DeviceCapabilities;
use avi_device::device::{AviDevice, AviDeviceType};
use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, EventReceiver, PeerId};
use common::{WITHIN, addresses, config, node, options, start_with, subscribed, until};
use serde_json::{Value, json};

const TOPIC: &str = "avi-context-updates";

/// A node of AVI 0.5: its context, all of which it publishes.
struct Old {
    node: AviP2p,
    events: EventReceiver,
    id: PeerId,
    clock: Value,
}

impl Old {
    async fn connected_to(device: &AviDevice) -> Self {
        let p2p = AviP2pConfig { bootstrap_peers: addresses(device).await, ..options(&[]).await.p2p };
        let (node, events) = AviP2p::start(p2p).await.unwrap();
        let id = node.local_peer_id().clone();
        node.handle().subscribe(TOPIC).await.unwrap();
        subscribed(device, &id, TOPIC).await;
        Self { node, events, id, clock: json!({}) }
    }

    async fn publishes(&mut self, data: Value) {
        let count = self.clock[self.id.as_str()].as_u64().unwrap_or_default();
        self.clock[self.id.as_str()] = json!(count + 1);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        self.publishes_as(json!({
            "device_id": self.id.as_str(), "timestamp": since.as_secs(), "vector_clock": self.clock, "data": data
        }))
        .await;
    }

    async fn publishes_as(&self, snapshot: Value) {
        self.node.handle().publish(TOPIC, serde_json::to_vec(&snapshot).unwrap()).await.unwrap();
    }

    /// Takes over what is published until it is so.
    async fn hears(&mut self, is_so: impl Fn(&Value) -> bool) -> Value {
        let heard = tokio::time::timeout(WITHIN, async {
            loop {
                let Some(AviEvent::Message { topic, data, .. }) = self.events.recv().await else { continue };
                assert_eq!(topic, TOPIC);
                let snapshot: Value = serde_json::from_slice(&data).unwrap();
                if let Some(counts) = snapshot["vector_clock"].as_object() {
                    for (node, count) in counts {
                        self.clock[node] = count.clone();
                    }
                }
                if is_so(&snapshot["data"]) {
                    return snapshot;
                }
            }
        });
        heard.await.expect("it is published in time")
    }
}

async fn bridge() -> AviDevice {
    let mut options = options(&[]).await;
    options.legacy_context = true;
    start_with(config("bridge", AviDeviceType::NODE, DeviceCapabilities::default()), options, &[]).await
}

#[tokio::test]
async fn a_0_5_node_and_devices_share_the_context_both_ways() {
    let bridge = bridge().await;
    // It has no adapter: what it knows of the 0.5 node, it knows from the shared context.
    let device = node("device", &[&bridge]).await;
    device.update_ctx("avi.user.name", json!("Ana")).await.unwrap();
    let mut old = Old::connected_to(&bridge).await;

    let snapshot = old.hears(|data| data["avi"]["user"]["name"] == "Ana").await;
    assert_eq!(snapshot["device_id"], bridge.get_id().await.as_str());
    assert!(snapshot["timestamp"].is_u64() && snapshot["vector_clock"][bridge.get_id().await.as_str()].is_u64());

    let mut data = snapshot["data"].clone();
    data["avi"]["device"]["caps"][old.id.as_str()] = json!({ "sensors": {} , "audio": null });
    data["avi"]["user"]["name"] = json!("Bea");
    old.publishes(data.clone()).await;
    until("the change has arrived", async || device.get_ctx("avi.user.name").await.unwrap() == "Bea").await;
    let caps = format!("avi.device.caps.{}", old.id);
    until("its capabilities are known", async || device.has_ctx(&caps).await.unwrap()).await;

    device.delete_ctx("avi.user").await.unwrap();
    let snapshot = old.hears(|data| data["avi"]["user"].is_null()).await;
    assert!(snapshot["data"]["avi"].get("user").is_none(), "a deletion is one there, too");
    assert_eq!(bridge.stats().legacy_snapshots, 1);
}

#[tokio::test]
async fn what_is_no_context_of_its_author_is_refused_and_counted() {
    let bridge = bridge().await;
    bridge.update_ctx("avi.user.name", json!("Ana")).await.unwrap();
    let mut old = Old::connected_to(&bridge).await;
    old.node.handle().publish(TOPIC, "no context").await.unwrap();
    let other = bridge.get_id().await;
    old.publishes_as(json!({ "device_id": other.as_str(), "timestamp": 1, "vector_clock": {}, "data": {} })).await;
    old.publishes(json!({})).await;
    old.publishes(json!({ "a..b": 1, "light": true })).await;
    until("the light is on", async || bridge.get_ctx("light").await.is_ok_and(|light| light == true)).await;
    assert_eq!(bridge.get_ctx("avi.user.name").await.unwrap(), "Ana");
    let stats = bridge.stats();
    assert_eq!((stats.legacy_snapshots, stats.legacy_snapshots_refused), (2, 2));
    assert_eq!((stats.legacy_values, stats.legacy_values_refused), (1, 1));
}

#[tokio::test]
async fn two_adapters_and_a_0_5_node_come_to_rest() {
    let first = bridge().await;
    let mut options = options(&[&first]).await;
    options.legacy_context = true;
    let config = config("second", AviDeviceType::NODE, DeviceCapabilities::default());
    let second = start_with(config, options, &[&first]).await;
    let mut old = Old::connected_to(&first).await;
    old.publishes(json!({ "light": 1 })).await;
    for device in [&first, &second] {
        until("the light is known", async || device.get_ctx("light").await.is_ok_and(|light| light == 1)).await;
    }
    second.update_ctx("light", json!(2)).await.unwrap();
    old.hears(|data| data["light"] == 2).await;
    let (one, other) = (first.stats().legacy_publishes, second.stats().legacy_publishes);
    // Longer than changes are collected.
    let quiet = tokio::time::timeout(std::time::Duration::from_secs(3), old.hears(|data| data["light"] != 2)).await;
    assert!(quiet.is_err(), "nothing else is published");
    let more = first.stats().legacy_publishes + second.stats().legacy_publishes - one - other;
    assert!(more <= 2, "{more} publications without a change");
}
