//! A simulated microcontroller at a gateway: once without a key, as AVI's firmware, and once with one.
//!
//! ```console
//! $ cargo run -p avi-device --features gateway --example small_device
//! ```
//!
//! Everything is in this process: a hub with the gateway, a core, and two small devices with a UDP socket each.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use avi_device::device::{AviDevice, AviDeviceConfig, DeviceOptions};
use avi_device::gateway::{
    DeviceKey, Downlink, Gateway, GatewayConfig, Incoming, MAX_DATAGRAM_BYTES, PressType, SensorValue, SmallDevice,
    Uplink,
};
use avi_device::{
    PeerId, StreamCloseReason, StreamContext, StreamHandler, StreamHandlerFactory, StreamId, async_trait,
};
use avi_p2p::AviP2pConfig;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long one step may take.
const WITHIN: Duration = Duration::from_secs(20);
/// A device sends again what was not answered.
const AGAIN: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Done<()> {
    play().await
}

/// The whole play.
///
/// # Errors
/// Whatever fails, and what does not happen in time.
pub async fn play() -> Done<()> {
    let (hub, core) = mesh().await?;
    let key = DeviceKey::new(7777, rand_bytes()?);
    let gateway = Gateway::start(
        &hub,
        GatewayConfig {
            listen_ip: Ipv4Addr::LOCALHOST.into(),
            udp_port: 0,
            plain: true,
            devices: vec![key.clone()],
            ..GatewayConfig::default()
        },
    )
    .await?;
    println!("the gateway listens on UDP {}", gateway.local_address());

    let (says, mut heard) = mpsc::unbounded_channel();
    for topic in ["device/5555/button", "device/7777/sensor/kitchen"] {
        let says = says.clone();
        let handler = move |_, topic, data: Vec<u8>| {
            // The play may be over.
            let _ = says.send(format!("{topic}: {}", String::from_utf8_lossy(&data)));
        };
        core.subscribe(topic, handler).await?;
    }
    core.register_stream_handler("question".to_owned(), Echo).await;

    plain(gateway.local_address(), &core, &mut heard).await?;
    secure(gateway.local_address(), &core, &key, &mut heard).await?;

    let stats = gateway.stats().await?;
    println!("the gateway had {} sessions, and passed on {} messages", stats.sessions_begun, stats.published);
    gateway.shutdown().await?;
    core.shutdown().await?;
    hub.shutdown().await?;
    Ok(())
}

/// A button without a key: every byte is that of the original protocol.
async fn plain(gateway: SocketAddr, core: &AviDevice, heard: &mut mpsc::UnboundedReceiver<String>) -> Done<()> {
    let mut lamp = Board::connect(gateway, SmallDevice::plain(5555, false)).await?;
    println!("5555 has a plain session");
    let topic = "device/led/control";
    lamp.ask(&Uplink::Subscribe { topic }, &Downlink::SubscribeAck { topic }).await?;
    // A datagram may be lost, and a press of the original protocol has no answer: this board presses once, on loopback.
    lamp.send(&Uplink::ButtonPress { button_id: 2, press_type: PressType::Double, custom_data: "PLAY" }).await?;
    println!("the core heard {}", next(heard).await?);
    core.publish(topic, b"3,255,0,0".to_vec()).await?;
    lamp.wait(|frame| matches!(frame, Downlink::Message { data: b"3,255,0,0", .. })).await?;
    println!("5555 got the colour of its lamp");
    lamp.send(&Uplink::Goodbye).await
}

/// A sensor with a microphone and a loudspeaker, with a key.
async fn secure(
    gateway: SocketAddr,
    core: &AviDevice,
    key: &DeviceKey,
    heard: &mut mpsc::UnboundedReceiver<String>,
) -> Done<()> {
    let mut board = Board::connect(gateway, SmallDevice::secure(key, rand_bytes()?, false)).await?;
    board.ask(&Uplink::Ping { token: 1 }, &Downlink::Pong { token: 1 }).await?;
    println!("7777 has a secure session");
    let data = SensorValue::Temperature(21.6);
    board.send(&Uplink::SensorUpdate { sensor_name: "kitchen", data, custom_data: "" }).await?;
    println!("the core heard {}", next(heard).await?);

    let core_id = core.get_id().await;
    let start = Uplink::StreamStart { local_stream_id: 1, target_peer_id: core_id.as_str(), reason: "question" };
    board.send(&start).await?;
    board.wait(|frame| *frame == Downlink::StreamAccepted { local_stream_id: 1 }).await?;
    board.send(&Uplink::StreamData { local_stream_id: 1, data: b"what time is it?" }).await?;
    let answer = Downlink::StreamData { local_stream_id: 1, data: b"WHAT TIME IS IT?" };
    board.wait(|frame| *frame == answer).await?;
    println!("7777 asked the core, and heard an answer");
    board.ask(&Uplink::StreamClose { local_stream_id: 1 }, &Downlink::StreamClosed { local_stream_id: 1 }).await?;
    board.send(&Uplink::Goodbye).await
}

/// A microcontroller: a socket, and the protocol.
struct Board {
    socket: UdpSocket,
    device: SmallDevice,
}

impl Board {
    async fn connect(gateway: SocketAddr, device: SmallDevice) -> Done<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(gateway).await?;
        let mut board = Self { socket, device };
        let hello = board.device.hello();
        timeout(WITHIN, async {
            while !board.device.is_connected() {
                board.socket.send(&hello).await?;
                // Whatever comes before the answer is not for this board.
                if let Ok(datagram) = timeout(AGAIN, board.datagram()).await {
                    board.device.receive(&datagram?);
                }
            }
            Ok(board)
        })
        .await?
    }

    async fn datagram(&self) -> Done<Vec<u8>> {
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        let len = self.socket.recv(&mut buffer).await?;
        buffer.truncate(len);
        Ok(buffer)
    }

    async fn send(&mut self, frame: &Uplink<'_>) -> Done<()> {
        let datagram = self.device.send(frame)?;
        self.socket.send(&datagram).await?;
        Ok(())
    }

    /// Sends a frame until its answer comes.
    async fn ask(&mut self, question: &Uplink<'_>, answer: &Downlink<'_>) -> Done<()> {
        timeout(WITHIN, async {
            loop {
                self.send(question).await?;
                if let Ok(came) = timeout(AGAIN, self.wait(|frame| frame == answer)).await {
                    return came;
                }
            }
        })
        .await?
    }

    /// Waits for a frame.
    async fn wait(&mut self, is_it: impl Fn(&Downlink<'_>) -> bool) -> Done<()> {
        timeout(WITHIN, async {
            loop {
                let datagram = self.datagram().await?;
                if let Incoming::Frame(frame) = self.device.receive(&datagram)
                    && let Some(frame) = Downlink::decode(&frame)
                    && is_it(&frame)
                {
                    return Ok(());
                }
            }
        })
        .await?
    }
}

/// The core says everything again, louder.
struct Echo;

#[async_trait]
impl StreamHandlerFactory for Echo {
    async fn create_handler(&self) -> Box<dyn StreamHandler> {
        Box::new(Echo)
    }
}

#[async_trait]
impl StreamHandler for Echo {
    async fn on_accepted(&mut self, _: &StreamContext) {}

    async fn on_rejected(&mut self, _: PeerId, _: StreamId, _: String) {}

    async fn on_data(&mut self, ctx: &StreamContext, data: Vec<u8>) {
        if let Err(error) = ctx.send(data.to_ascii_uppercase()).await {
            println!("the core cannot answer: {error}");
        }
    }

    async fn on_closed(&mut self, _: PeerId, _: StreamId, _: StreamCloseReason) {}
}

/// A hub and a core, connected.
async fn mesh() -> Done<(AviDevice, AviDevice)> {
    let hub = node("hub", Vec::new()).await?;
    let core = node("core", hub.handle().listen_addresses().await?).await?;
    let hub_id = hub.get_id().await;
    timeout(WITHIN, async {
        while !core.get_peers().await?.contains(&hub_id) || hub.get_peers().await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    })
    .await??;
    Ok((hub, core))
}

async fn node(name: &str, bootstrap_peers: Vec<String>) -> Done<AviDevice> {
    let p2p = AviP2pConfig {
        bootstrap_peers,
        listen_ips: vec![Ipv4Addr::LOCALHOST.into()],
        enable_mdns: false,
        ..AviP2pConfig::default()
    };
    let config = AviDeviceConfig { node_name: name.to_owned(), ..AviDeviceConfig::default() };
    let device = AviDevice::with_options(config, DeviceOptions { p2p, ..DeviceOptions::default() }).await?;
    device.start_event_loop();
    Ok(device)
}

async fn next(heard: &mut mpsc::UnboundedReceiver<String>) -> Done<String> {
    timeout(WITHIN, heard.recv()).await?.ok_or_else(|| "the core hears nothing more".into())
}

fn rand_bytes() -> Done<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
