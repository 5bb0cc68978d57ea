//! Do devices share what they write, and find each other by what they can do?

mod common;

use avi_device::capability::{CapabilityBuilder, ExtendedCapability, SensorCapability};
use avi_device::device::{AviDevice, AviDeviceType};
use avi_device::{DeviceCapabilities, DeviceError, DeviceQuery};
use common::{config, connected, node, options, start, start_with, until};
use serde_json::{Value, json};

fn microphone() -> DeviceCapabilities {
    let microphone =
        SensorCapability::Microphone { present: true, array_size: 2, sampling_rate_khz: 16, max_spl_db: 110 };
    CapabilityBuilder::new().sensor("microphone", microphone).build()
}

fn loudspeaker() -> DeviceCapabilities {
    CapabilityBuilder::new().extended("volume", ExtendedCapability::Number(0.5)).build()
}

/// Waits until a device has this at a path.
async fn has(device: &AviDevice, path: &str, expected: &Value) {
    until("the value has arrived", async || device.get_ctx(path).await.is_ok_and(|value| value == *expected)).await;
}

async fn has_not(device: &AviDevice, path: &str) {
    until("the value has gone", async || !device.has_ctx(path).await.unwrap()).await;
}

fn microphones() -> DeviceQuery {
    DeviceQuery::all().sensor("microphone", |sensor| matches!(sensor, SensorCapability::Microphone { .. }))
}

#[tokio::test]
async fn what_one_device_writes_all_read() {
    let core = node("core", &[]).await;
    let first = node("first", &[&core]).await;
    let second = node("second", &[&core]).await;
    first.update_ctx("avi.user", json!({ "name": "Ana", "languages": ["pt", "en"] })).await.unwrap();
    for device in [&core, &first, &second] {
        has(device, "avi.user.name", &json!("Ana")).await;
        has(device, "avi.user", &json!({ "name": "Ana", "languages": ["pt", "en"] })).await;
    }
    second.update_ctx("avi.user.name", json!("Bea")).await.unwrap();
    second.update_ctx("avi.user", json!({ "age": 7 })).await.unwrap();
    for device in [&core, &first, &second] {
        has(device, "avi.user", &json!({ "name": "Bea", "age": 7, "languages": ["pt", "en"] })).await;
    }
    core.replace_ctx("avi.user", json!({ "name": "Caio" })).await.unwrap();
    core.delete_ctx("avi.device").await.unwrap();
    for device in [&core, &first, &second] {
        has(device, "avi.user", &json!({ "name": "Caio" })).await;
    }
    second.clear_ctx().await.unwrap();
    for device in [&core, &first, &second] {
        has_not(device, "avi.user").await;
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_by_its_path() {
    let core = node("core", &[]).await;
    assert!(!core.has_ctx("avi.user").await.unwrap());
    let error = core.get_ctx("avi.user").await.unwrap_err();
    assert_eq!(error, DeviceError::NotFound { path: "avi.user".to_owned() });
    core.delete_ctx("avi.user").await.expect("to remove nothing is no error");
    let error = core.update_ctx("avi..user", json!(1)).await.unwrap_err();
    assert!(error.to_string().contains("avi..user"), "{error}");
    assert!(core.get_ctx("").await.unwrap().is_object());
}

#[tokio::test]
async fn who_writes_a_part_overwrites_only_that_and_who_writes_all_what_he_has_read() {
    let core = node("core", &[]).await;
    let satellite = node("satellite", &[&core]).await;
    core.update_ctx("avi", json!({ "dialogue": { "speaker": "x" }, "user": { "name": "Ana" } })).await.unwrap();
    has(&satellite, "avi.user.name", &json!("Ana")).await;
    let mut read = satellite.get_ctx("avi").await.unwrap();
    core.update_ctx("avi.user.name", json!("Bea")).await.unwrap();
    has(&satellite, "avi.user.name", &json!("Bea")).await;
    satellite.update_ctx("avi", json!({ "dialogue": { "speaker": "y" } })).await.unwrap();
    has(&core, "avi.dialogue.speaker", &json!("y")).await;
    assert_eq!(core.get_ctx("avi.user.name").await.unwrap(), json!("Bea"));
    read["dialogue"]["speaker"] = json!("z");
    satellite.update_ctx("avi", read).await.unwrap();
    has(&core, "avi.dialogue.speaker", &json!("z")).await;
    has(&core, "avi.user.name", &json!("Ana")).await;
}

#[tokio::test]
async fn three_devices_find_each_other_by_what_they_can_do() {
    let core = start(config("core", AviDeviceType::CORE, DeviceCapabilities::default()), &[]).await;
    let ear = start(config("ear", AviDeviceType::NODE, microphone()), &[&core]).await;
    let mouth = start(config("mouth", AviDeviceType::NODE, loudspeaker()), &[&core]).await;
    let (ear_id, mouth_id) = (ear.get_id().await.to_string(), mouth.get_id().await.to_string());
    for device in [&core, &ear, &mouth] {
        until("the ear is found", async || device.execute_query(microphones()).await.unwrap() == [ear_id.clone()])
            .await;
        let loud = || DeviceQuery::new().extended("volume", |volume| *volume == ExtendedCapability::Number(0.5));
        until("the mouth is found", async || device.execute_query(loud()).await.unwrap() == [mouth_id.clone()]).await;
        until("all are found", async || device.execute_query(DeviceQuery::any()).await.unwrap().len() == 3).await;
    }
}

#[tokio::test]
async fn a_device_whose_capabilities_cannot_be_read_hides_no_other() {
    let core = start(config("core", AviDeviceType::CORE, microphone()), &[]).await;
    let path = "avi.device.caps.12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";
    core.update_ctx(path, json!({ "sensors": 7 })).await.unwrap();
    let id = core.get_id().await.to_string();
    until("the core is found", async || core.execute_query(microphones()).await.unwrap() == [id.clone()]).await;
    assert!(core.stats().capabilities_unreadable > 0);
    core.replace_ctx("avi.device", json!({ "caps": "none" })).await.unwrap();
    assert_eq!(core.execute_query(DeviceQuery::any()).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn every_device_knows_the_core() {
    let satellite = node("satellite", &[]).await;
    assert!(matches!(satellite.get_core_id().await, Err(DeviceError::NotFound { .. })));
    let core = start(config("core", AviDeviceType::CORE, DeviceCapabilities::default()), &[&satellite]).await;
    let id = core.get_id().await.to_string();
    until("the core is known", async || satellite.get_core_id().await.is_ok_and(|core| core == id)).await;
    let next = start(config("next", AviDeviceType::CORE, DeviceCapabilities::default()), &[&satellite]).await;
    let id = next.get_id().await.to_string();
    for device in [&satellite, &core, &next] {
        until("the last one counts", async || device.get_core_id().await.is_ok_and(|core| core == id)).await;
    }
}

#[tokio::test]
async fn a_core_id_that_is_none_is_an_error() {
    let device = node("device", &[]).await;
    for wrong in [json!(7), json!("nobody"), json!({ "id": 1 }), json!(null), json!("x".repeat(1000))] {
        device.replace_ctx("avi.core", wrong).await.unwrap();
        let error = device.get_core_id().await.unwrap_err();
        assert!(matches!(error, DeviceError::InvalidCoreId { .. }), "{error}");
        assert!(error.to_string().len() < 300, "{error}");
    }
}

#[tokio::test]
async fn a_device_that_leaves_is_no_longer_found() {
    let core = start(config("core", AviDeviceType::CORE, DeviceCapabilities::default()), &[]).await;
    let ear = start(config("ear", AviDeviceType::NODE, microphone()), &[&core]).await;
    until("the ear is found", async || core.execute_query(microphones()).await.unwrap().len() == 1).await;
    ear.shutdown().await.unwrap();
    until("it is not found", async || core.execute_query(microphones()).await.unwrap().is_empty()).await;
    assert!(ear.get_peers().await.is_err() && ear.shutdown().await.is_err());
}

#[tokio::test]
async fn a_device_that_was_taken_for_gone_says_again_what_it_can_do() {
    let core = start(config("core", AviDeviceType::CORE, DeviceCapabilities::default()), &[]).await;
    let ear = start(config("ear", AviDeviceType::NODE, microphone()), &[&core]).await;
    let path = format!("avi.device.caps.{}", ear.get_id().await);
    until("the ear is found", async || core.has_ctx(&path).await.unwrap()).await;
    let there = core.get_ctx(&path).await.unwrap();
    core.delete_ctx(&path).await.unwrap();
    assert!(!core.has_ctx(&path).await.unwrap());
    has(&core, &path, &there).await;
    core.clear_ctx().await.unwrap();
    has(&core, &path, &there).await;
}

#[tokio::test]
async fn who_clears_the_context_says_again_what_it_is_and_can_do() {
    let core = start(config("core", AviDeviceType::CORE, microphone()), &[]).await;
    let id = core.get_id().await.to_string();
    let path = format!("avi.device.caps.{id}");
    until("it is the core", async || core.get_core_id().await.is_ok_and(|core| core == id)).await;
    let there = core.get_ctx(&path).await.unwrap();
    core.clear_ctx().await.unwrap();
    assert!(!core.has_ctx("avi.core").await.unwrap() && !core.has_ctx(&path).await.unwrap());
    has(&core, &path, &there).await;
    has(&core, "avi.core", &json!(id)).await;
    // Also of what only a part is left.
    core.delete_ctx(&format!("{path}.sensors.microphone")).await.unwrap();
    has(&core, &path, &there).await;
    core.replace_ctx("avi", json!({ "device": { "caps": "none" } })).await.unwrap();
    has(&core, &path, &there).await;
}

#[tokio::test]
async fn what_an_application_says_of_its_device_stays() {
    let ear = start(config("ear", AviDeviceType::NODE, microphone()), &[]).await;
    let path = format!("avi.device.caps.{}", ear.get_id().await);
    until("the ear is known", async || ear.has_ctx(&path).await.unwrap()).await;
    ear.update_ctx(&format!("{path}.extended.volume"), json!(0.5)).await.unwrap();
    ear.update_ctx(&format!("{path}.sensors.microphone.array_size"), json!(4)).await.unwrap();
    ear.delete_ctx(&format!("{path}.sensors.microphone.max_spl_db")).await.unwrap();
    has(&ear, &format!("{path}.sensors.microphone.max_spl_db"), &json!(110)).await;
    assert_eq!(ear.get_ctx(&format!("{path}.sensors.microphone.array_size")).await.unwrap(), 4);
    assert_eq!(ear.get_ctx(&format!("{path}.extended.volume")).await.unwrap(), 0.5);
}

#[tokio::test]
async fn of_two_cores_the_one_that_is_left_takes_over() {
    for leaves in [true, false] {
        let core = start(config("core", AviDeviceType::CORE, DeviceCapabilities::default()), &[]).await;
        let satellite = node("satellite", &[&core]).await;
        let next = start(config("next", AviDeviceType::CORE, DeviceCapabilities::default()), &[&core]).await;
        let (id, id_of_next) = (core.get_id().await.to_string(), next.get_id().await.to_string());
        has(&core, "avi.core", &json!(id_of_next)).await;
        if leaves {
            next.shutdown().await.unwrap();
        }
        drop(next);
        has(&satellite, "avi.core", &json!(id)).await;
    }
}

#[tokio::test]
async fn the_core_removes_a_device_that_fails() {
    let core = start(config("core", AviDeviceType::CORE, DeviceCapabilities::default()), &[]).await;
    core.on_peer_disconnected(|core, peer| async move {
        core.delete_ctx(&format!("avi.device.caps.{peer}")).await.expect("any device may write anywhere");
    })
    .await;
    let ear = start(config("ear", AviDeviceType::NODE, microphone()), &[&core]).await;
    until("the ear is found", async || core.execute_query(microphones()).await.unwrap().len() == 1).await;
    // Dropped, it takes nothing back.
    drop(ear);
    until("it is not found", async || core.execute_query(microphones()).await.unwrap().is_empty()).await;
}

#[tokio::test]
async fn with_ownership_only_a_device_itself_says_what_it_can_do() {
    let owned = async |name, peers: &[&AviDevice]| {
        let mut options = options(peers).await;
        options.p2p.context = Some(avi_p2p::ContextOptions::default());
        start_with(config(name, AviDeviceType::CORE, microphone()), options, peers).await
    };
    let core = owned("core", &[]).await;
    let ear = owned("ear", &[&core]).await;
    let path = format!("avi.device.caps.{}", ear.get_id().await);
    until("the ear is found", async || core.has_ctx(&path).await.unwrap()).await;
    let error = core.update_ctx(&path, json!({ "wheels": 4 })).await.unwrap_err();
    assert!(error.to_string().contains("belongs to"), "{error}");
    // What is read and not changed is not written.
    let all = core.get_ctx("avi").await.unwrap();
    core.update_ctx("avi", all).await.unwrap();
}

#[tokio::test]
async fn the_context_is_kept_across_a_restart() {
    let dir = std::env::temp_dir().join(format!("avi-device-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&dir).unwrap();
    let kept = async || {
        let mut options = options(&[]).await;
        let file = Some(dir.join("context"));
        options.p2p.context = Some(avi_p2p::ContextOptions { file, ownership: false, ..Default::default() });
        options.p2p.identity = avi_p2p::Identity::File(dir.join("key"));
        start_with(config("core", AviDeviceType::CORE, microphone()), options, &[]).await
    };
    let core = kept().await;
    let id = core.get_id().await;
    core.update_ctx("avi.user.name", json!("Ana")).await.unwrap();
    core.shutdown().await.unwrap();
    let core = kept().await;
    assert_eq!(core.get_id().await, id);
    assert_eq!(core.get_ctx("avi.user.name").await.unwrap(), json!("Ana"));
    until("it is found again", async || core.execute_query(microphones()).await.unwrap().len() == 1).await;
    let satellite = node("satellite", &[&core]).await;
    connected(&core, &satellite).await;
    has(&satellite, "avi.user.name", &json!("Ana")).await;
    std::fs::remove_dir_all(dir).unwrap();
}
