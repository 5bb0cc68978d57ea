//! A home as AVI Core runs one: a core, a microphone in the hall, a loudspeaker in the kitchen.
//!
//! ```console
//! $ cargo run -p avi-device --example home
//! ```
//!
//! The hall asks a question, the core answers it where the loudspeaker is, the kitchen calls the hall, and leaves; then the
//! core answers by itself. All are in this process, on loopback; devices of their own find each other by mDNS.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use avi_device::capability::{CapabilityBuilder, ExtendedCapability, SensorCapability};
use avi_device::device::{AviDevice, AviDeviceConfig, AviDeviceType, DeviceOptions};
use avi_device::{
    DeviceCapabilities, DeviceQuery, PeerId, StreamCloseReason, StreamContext, StreamHandler, StreamHandlerFactory,
    StreamId, async_trait,
};
use avi_p2p::AviP2pConfig;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long one step may take.
const WITHIN: Duration = Duration::from_secs(20);
const SPEAKER: &str = "avi.dialogue.speaker";

#[tokio::main]
async fn main() -> Done<()> {
    play().await
}

/// The whole play.
///
/// # Errors
/// Whatever fails, and what does not happen in time.
pub async fn play() -> Done<()> {
    // Whatever anybody says or hears.
    let (says, mut said) = unbounded_channel();

    let core = start("core", AviDeviceType::CORE, DeviceCapabilities::default(), &[]).await?;
    answer_questions(&core).await?;
    forget_who_leaves(&core, &says).await;
    speak("core", &core, &says).await?;

    let microphone =
        SensorCapability::Microphone { present: true, array_size: 2, sampling_rate_khz: 16, max_spl_db: 110 };
    let hall = CapabilityBuilder::new().sensor("microphone", microphone).build();
    let hall = start("hall", AviDeviceType::NODE, hall, &[&core]).await?;
    let kitchen = CapabilityBuilder::new().extended("loudspeaker", ExtendedCapability::Boolean(true)).build();
    let kitchen = start("kitchen", AviDeviceType::NODE, kitchen, &[&core, &hall]).await?;
    speak("kitchen", &kitchen, &says).await?;

    println!("— The hall looks for the core, and for a loudspeaker.");
    let core_id = core.get_id().await.to_string();
    until("the hall knows the core", async || hall.get_core_id().await.is_ok_and(|id| id == core_id)).await?;
    let kitchen_id = kitchen.get_id().await.to_string();
    let loudspeakers = || DeviceQuery::all().extended("loudspeaker", |_| true);
    until("the kitchen is found", async || {
        hall.execute_query(loudspeakers()).await.is_ok_and(|found| found == [kitchen_id.clone()])
    })
    .await?;
    println!("the core is {core_id}\nthe kitchen is {kitchen_id}");

    println!("— A question, and its answer where the loudspeaker is.");
    kitchen.update_ctx(SPEAKER, json!(kitchen_id)).await?;
    until("the core knows", async || core.get_ctx(SPEAKER).await.is_ok_and(|id| id == kitchen_id)).await?;
    hall.publish("intent/execute/text", b"what time is it?".to_vec()).await?;
    hear(&mut said, "kitchen speaks: you asked: what time is it?").await?;

    println!("— The kitchen calls the hall.");
    call(&kitchen, &hall, &says, &mut said).await?;

    println!("— The kitchen leaves: the core answers by itself.");
    kitchen.shutdown().await?;
    hear(&mut said, "core forgets the loudspeaker").await?;
    until("the kitchen is no longer found", async || {
        hall.execute_query(loudspeakers()).await.is_ok_and(|found| found.is_empty())
    })
    .await?;
    hall.publish("intent/execute/text", b"is anybody there?".to_vec()).await?;
    hear(&mut said, "core speaks: you asked: is anybody there?").await?;

    hall.shutdown().await?;
    core.shutdown().await?;
    println!("— All have left.");
    Ok(())
}

/// A device on loopback that is connected to `peers` when this returns.
async fn start(
    name: &str,
    device_type: AviDeviceType,
    capabilities: DeviceCapabilities,
    peers: &[&AviDevice],
) -> Done<AviDevice> {
    let mut p2p =
        AviP2pConfig { listen_ips: vec![Ipv4Addr::LOCALHOST.into()], enable_mdns: false, ..AviP2pConfig::default() };
    for peer in peers {
        p2p.bootstrap_peers.extend(peer.handle().listen_addresses().await?);
    }
    let config = AviDeviceConfig { node_name: name.to_owned(), device_type, can_gateway_embedded: false, capabilities };
    let device = AviDevice::with_options(config, DeviceOptions { p2p, ..DeviceOptions::default() }).await?;
    device.start_event_loop();
    for peer in peers {
        let id = peer.get_id().await;
        until("it is connected", async || device.get_peers().await.is_ok_and(|peers| peers.contains(&id))).await?;
    }
    Ok(device)
}

/// The core answers on the device that speaks, or by itself.
async fn answer_questions(core: &AviDevice) -> Done<()> {
    let device = core.clone();
    let handler = move |_from, _topic, data: Vec<u8>| {
        let core = device.clone();
        async move {
            let speaker = match core.get_ctx(SPEAKER).await {
                Ok(id) => id.as_str().unwrap_or_default().to_owned(),
                Err(_) => core.get_id().await.to_string(),
            };
            let answer = format!("you asked: {}", String::from_utf8_lossy(&data));
            if let Err(error) = core.publish(&format!("speak/{speaker}/text"), answer.into_bytes()).await {
                eprintln!("the core cannot answer: {error}");
            }
        }
    };
    Ok(core.subscribe_async("intent/execute/text", handler).await?)
}

/// The core removes what a device that has gone has said of itself.
async fn forget_who_leaves(core: &AviDevice, says: &UnboundedSender<String>) {
    let says = says.clone();
    core.on_peer_disconnected(move |core, peer| {
        let says = says.clone();
        async move {
            let forget = async {
                core.delete_ctx(&format!("avi.device.caps.{peer}")).await?;
                if core.get_ctx(SPEAKER).await.is_ok_and(|speaker| speaker == peer) {
                    core.delete_ctx(SPEAKER).await?;
                    // The play may be over.
                    let _ = says.send("core forgets the loudspeaker".to_owned());
                }
                Ok::<_, avi_device::DeviceError>(())
            };
            if let Err(error) = forget.await {
                eprintln!("{peer} is not forgotten: {error}");
            }
        }
    })
    .await;
}

/// A device speaks what is sent to its id.
async fn speak(name: &'static str, device: &AviDevice, says: &UnboundedSender<String>) -> Done<()> {
    let says = says.clone();
    let topic = format!("speak/{}/text", device.get_id().await);
    let handler = move |_, _, data: Vec<u8>| {
        let _ = says.send(format!("{name} speaks: {}", String::from_utf8_lossy(&data)));
    };
    Ok(device.subscribe(&topic, handler).await?)
}

async fn call(
    kitchen: &AviDevice,
    hall: &AviDevice,
    says: &UnboundedSender<String>,
    said: &mut UnboundedReceiver<String>,
) -> Done<()> {
    for (name, device) in [("kitchen", kitchen), ("hall", hall)] {
        let factory = Intercom { name, says: says.clone() };
        device.register_stream_handler("intercom".to_owned(), factory).await;
    }
    let stream = kitchen.request_stream(hall.get_id().await, "intercom".to_owned()).await?;
    for expected in ["kitchen is connected", "hall is connected"] {
        hear_any(said, &["kitchen is connected", "hall is connected"], expected).await?;
    }
    for word in ["dinner", "is", "ready"] {
        kitchen.send_stream_data(stream, word.into()).await?;
        hear(said, &format!("hall hears: {word}")).await?;
    }
    kitchen.close_stream(stream).await?;
    for expected in ["kitchen has hung up", "hall has hung up"] {
        hear_any(said, &["kitchen has hung up", "hall has hung up"], expected).await?;
    }
    Ok(())
}

/// Both ends of a call.
struct Intercom {
    name: &'static str,
    says: UnboundedSender<String>,
}

#[async_trait]
impl StreamHandlerFactory for Intercom {
    async fn create_handler(&self) -> Box<dyn StreamHandler> {
        Box::new(Self { name: self.name, says: self.says.clone() })
    }
}

#[async_trait]
impl StreamHandler for Intercom {
    async fn on_accepted(&mut self, _ctx: &StreamContext) {
        let _ = self.says.send(format!("{} is connected", self.name));
    }

    async fn on_rejected(&mut self, _peer: PeerId, _stream: StreamId, reason: String) {
        let _ = self.says.send(format!("{} was rejected: {reason}", self.name));
    }

    async fn on_data(&mut self, _ctx: &StreamContext, data: Vec<u8>) {
        let _ = self.says.send(format!("{} hears: {}", self.name, String::from_utf8_lossy(&data)));
    }

    async fn on_closed(&mut self, _peer: PeerId, _stream: StreamId, _reason: StreamCloseReason) {
        let _ = self.says.send(format!("{} has hung up", self.name));
    }
}

/// Waits for what is said next.
async fn hear(said: &mut UnboundedReceiver<String>, expected: &str) -> Done<()> {
    hear_any(said, &[expected], expected).await
}

/// As `hear`, for things that have no order among each other.
async fn hear_any(said: &mut UnboundedReceiver<String>, any: &[&str], waits_for: &str) -> Done<()> {
    let heard = timeout(WITHIN, said.recv()).await.map_err(|_| format!("nobody said: {waits_for}"))?;
    match heard {
        Some(heard) if any.contains(&heard.as_str()) => {
            println!("{heard}");
            Ok(())
        }
        other => Err(format!("expected {any:?}, heard {other:?}").into()),
    }
}

/// Asks again and again until it is so: what devices share needs a moment to arrive.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) -> Done<()> {
    let asked = timeout(WITHIN, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    Ok(asked.await.map_err(|_| format!("it was not so in time that {what}"))?)
}
