//! Does a gateway serve small devices over real sockets?
#![cfg(feature = "gateway")]

mod common;
#[allow(dead_code, reason = "its `main` is for those who run it")]
#[path = "../examples/small_device.rs"]
mod small_device;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use avi_device::device::AviDevice;
use avi_device::gateway::{Downlink, ErrorCode, Gateway, GatewayConfig, GatewayError, SensorValue, Uplink};
use common::{in_time, next, node, subscribed};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

fn plain() -> GatewayConfig {
    GatewayConfig { listen_ip: Ipv4Addr::LOCALHOST.into(), udp_port: 0, plain: true, ..GatewayConfig::default() }
}

async fn board(gateway: &Gateway) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    socket.connect(gateway.local_address()).await.expect("loopback");
    socket
}

async fn ask(board: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    board.send(datagram).await.expect("it is sent");
    answer(board).await
}

async fn answer(board: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let len = in_time("answer", board.recv(&mut buffer)).await.expect("a datagram");
    buffer.truncate(len);
    buffer
}

/// A board with a plain session that subscribes to a topic.
async fn subscriber(gateway: &Gateway, device_id: u64, topic: &str) -> UdpSocket {
    let board = board(gateway).await;
    assert_eq!(ask(&board, &Uplink::HelloExtended { device_id }.encode()).await, Downlink::Welcome.encode());
    assert_eq!(ask(&board, &Uplink::Subscribe { topic }.encode()).await, Downlink::SubscribeAck { topic }.encode());
    board
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_device_uses_both_modes() {
    small_device::play().await.expect("the play comes to its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_devices_and_handlers_of_their_gateways_device_share_a_topic() {
    let hub = node("hub", &[]).await;
    let gateway = Gateway::start(&hub, plain()).await.expect("it starts");
    let (says, mut heard) = mpsc::unbounded_channel();
    let handler = move |_, _, data: Vec<u8>| drop(says.send(data));
    hub.subscribe("lamp", handler).await.expect("subscribed");
    let (one, other) = (subscriber(&gateway, 1, "lamp").await, subscriber(&gateway, 2, "lamp").await);

    // One small device publishes: the handler, the other, and it itself hear it.
    one.send(&Uplink::Publish { topic: "lamp", data: b"on" }.encode()).await.expect("it is sent");
    let message = Downlink::Message { topic: "lamp", data: b"on" }.encode();
    assert_eq!(answer(&other).await, message);
    assert_eq!(answer(&one).await, message);
    assert_eq!(next("message", &mut heard).await, b"on");

    // The handler goes, and small devices still hear.
    hub.unsubscribe("lamp").await.expect("unsubscribed");
    assert!(in_time("end", heard.recv()).await.is_none(), "the handler is gone");
    hub.publish("lamp", b"off".to_vec()).await.expect("published");
    assert_eq!(answer(&other).await, Downlink::Message { topic: "lamp", data: b"off" }.encode());

    // Small devices go, and a handler still hears.
    let (says, mut heard) = mpsc::unbounded_channel();
    hub.subscribe("lamp", move |_, _, data: Vec<u8>| drop(says.send(data))).await.expect("subscribed");
    gateway.shutdown().await.expect("it ends");
    hub.publish("lamp", b"dim".to_vec()).await.expect("published");
    assert_eq!(next("message", &mut heard).await, b"dim");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_the_mesh_calls_a_small_device_and_is_heard() {
    let hub = node("hub", &[]).await;
    let gateway = Gateway::start(&hub, plain()).await.expect("it starts");
    let board = subscriber(&gateway, 7, "lamp").await;
    let core = node("core", &[&hub]).await;
    let (says, mut heard) = mpsc::unbounded_channel();
    let reason = "device/7/speak";
    core.register_stream_handler(reason.to_owned(), calls::Factory(says)).await;
    let stream = core.request_stream(hub.get_id().await, reason.to_owned()).await.expect("requested");
    let core_id = core.get_id().await;
    let offer = Downlink::StreamOffer { local_stream_id: 128, peer_id: core_id.as_str(), reason: "speak" };
    assert_eq!(answer(&board).await, offer.encode());
    board.send(&Uplink::StreamAccept { local_stream_id: 128 }.encode()).await.expect("it is sent");
    assert_eq!(next("call", &mut heard).await, "accepted");
    core.send_stream_data(stream, b"dinner is ready".to_vec()).await.expect("sent");
    let audio = Downlink::StreamData { local_stream_id: 128, data: b"dinner is ready" };
    assert_eq!(answer(&board).await, audio.encode());
    board.send(&Uplink::StreamData { local_stream_id: 128, data: b"coming" }.encode()).await.expect("it is sent");
    assert_eq!(next("call", &mut heard).await, "coming");
    core.close_stream(stream).await.expect("closed");
    assert_eq!(answer(&board).await, Downlink::StreamClosed { local_stream_id: 128 }.encode());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_to_nobody_is_told() {
    let hub = node("hub", &[]).await;
    let gateway = Gateway::start(&hub, plain()).await.expect("it starts");
    let board = subscriber(&gateway, 7, "lamp").await;
    let start = Uplink::StreamStart { local_stream_id: 1, target_peer_id: "nobody", reason: "" };
    let error = Downlink::Error { reason: ErrorCode::UnknownTarget as u8 };
    assert_eq!(ask(&board, &start.encode()).await, error.encode());
    assert_eq!(answer(&board).await, Downlink::StreamClosed { local_stream_id: 1 }.encode());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_a_node_refuses_ends() {
    let hub = node("hub", &[]).await;
    let gateway = Gateway::start(&hub, plain()).await.expect("it starts");
    let board = subscriber(&gateway, 7, "lamp").await;
    // It has no handler for this reason.
    let core = node("core", &[&hub]).await;
    let core_id = core.get_id().await;
    let start = Uplink::StreamStart { local_stream_id: 1, target_peer_id: core_id.as_str(), reason: "dance" };
    assert_eq!(ask(&board, &start.encode()).await, Downlink::StreamClosed { local_stream_id: 1 }.encode());
    assert_eq!(gateway.stats().await.expect("it runs").streams, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_longer_than_a_datagram_may_be_is_told() {
    let hub = node("hub", &[]).await;
    let gateway = Gateway::start(&hub, plain()).await.expect("it starts");
    let board = subscriber(&gateway, 7, "lamp").await;
    let oversize = Downlink::Error { reason: ErrorCode::Oversize as u8 }.encode();
    for len in [1024, 5000] {
        assert_eq!(ask(&board, &Uplink::Publish { topic: "lamp", data: &vec![1; len] }.encode()).await, oversize);
    }
    hub.publish("lamp", vec![1; 5000]).await.expect("published");
    assert_eq!(answer(&board).await, oversize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_in_time_by_the_clock_of_the_machine() {
    let hub = node("hub", &[]).await;
    let core = node("core", &[&hub]).await;
    let config = GatewayConfig { idle: Duration::from_secs(1), ..plain() };
    let gateway = Gateway::start(&hub, config).await.expect("it starts");
    let board = subscriber(&gateway, 7, "lamp").await;
    subscribed(&core, &hub.get_id().await, "lamp").await;
    assert_eq!(answer(&board).await, Downlink::Error { reason: ErrorCode::SessionEnded as u8 }.encode());
    let stats = gateway.stats().await.expect("it runs");
    assert_eq!((stats.sessions, stats.sessions_expired), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_nodes_find_a_small_device_and_its_sensors_in_the_context() {
    let hub = with_context("hub", &[]).await;
    let core = with_context("core", &[&hub]).await;
    let gateway = Gateway::start(&hub, plain()).await.expect("it starts");
    let board = subscriber(&gateway, 7, "lamp").await;
    let data = SensorValue::Humidity(46.5);
    let update = Uplink::SensorUpdate { sensor_name: "kitchen.wall", data, custom_data: "" };
    board.send(&update.encode()).await.expect("it is sent");
    let path = format!("avi.gateway.{}.device.7", hub.get_id().await);
    let context = core.handle().context();
    common::until("the core finds the sensor", async || {
        let found = context.get(&path).await.expect("it has a context").unwrap_or_default();
        found["mode"] == "plain" && found["sensor"]["kitchen_wall"]["value"] == 46.5
    })
    .await;
    board.send(&Uplink::Goodbye.encode()).await.expect("it is sent");
    common::until("the device is gone", async || context.get(&path).await.expect("it has a context").is_none()).await;
    assert_eq!(gateway.stats().await.expect("it runs").context_refused, 0);
}

async fn with_context(name: &str, peers: &[&AviDevice]) -> AviDevice {
    let mut options = common::options(peers).await;
    options.p2p.context = Some(avi_p2p::ContextOptions::default());
    let config = common::config(name, avi_device::device::AviDeviceType::NODE, Default::default());
    common::start_with(config, options, peers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_cannot_start_says_why() {
    let hub = node("hub", &[]).await;
    assert_eq!(Gateway::start(&hub, GatewayConfig::default()).await.expect_err("nobody"), GatewayError::AdmitsNobody);
    let gateway = Gateway::start(&hub, plain()).await.expect("it starts");
    let port = gateway.local_address().port();
    let taken = Gateway::start(&hub, GatewayConfig { udp_port: port, ..plain() }).await.expect_err("taken");
    assert!(matches!(taken, GatewayError::Bind { .. }), "{taken}");
    assert_eq!(Gateway::start(&hub, plain()).await.expect_err("one a device"), GatewayError::AlreadyRuns);
    gateway.shutdown().await.expect("it ends");
    Gateway::start(&hub, GatewayConfig { udp_port: port, ..plain() })
        .await
        .expect("the port is free, and so is the place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_ends_with_its_device_and_with_its_handle() {
    let hub = node("hub", &[]).await;
    let gateway = Gateway::start(&hub, plain()).await.expect("it starts");
    let board = subscriber(&gateway, 7, "lamp").await;
    drop(gateway);
    let ended = Downlink::Error { reason: ErrorCode::SessionEnded as u8 }.encode();
    assert_eq!(answer(&board).await, ended);

    let gateway = restarted(&hub).await;
    let board = subscriber(&gateway, 7, "lamp").await;
    hub.shutdown().await.expect("it ends");
    assert_eq!(answer(&board).await, ended);
    common::until("the gateway has ended", async || gateway.stats().await == Err(GatewayError::Ended)).await;
}

/// The one before has a moment to end.
async fn restarted(hub: &AviDevice) -> Gateway {
    let mut gateway = None;
    common::until("there is a place for a gateway", async || {
        gateway = Gateway::start(hub, plain()).await.ok();
        gateway.is_some()
    })
    .await;
    gateway.expect("it has started")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_flag_starts_a_gateway_on_the_original_port() {
    // Whoever else has the port: the device starts in any case.
    let mut config = common::config("hub", avi_device::device::AviDeviceType::NODE, Default::default());
    config.can_gateway_embedded = true;
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 8888)).await;
    let is_free = probe.is_ok();
    drop(probe);
    let hub = common::start(config, &[]).await;
    if is_free {
        let board = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        board.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 8888))).await.expect("loopback");
        assert_eq!(ask(&board, &Uplink::Hello { device_id: 5 }.encode()).await, Downlink::Welcome.encode());
        hub.shutdown().await.expect("it ends");
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 8888)).await.expect("the gateway has ended with its device");
    }
}

mod calls {
    //! A handler that says what it hears.

    use avi_device::{
        PeerId, StreamCloseReason, StreamContext, StreamHandler, StreamHandlerFactory, StreamId, async_trait,
    };
    use tokio::sync::mpsc::UnboundedSender;

    pub struct Factory(pub UnboundedSender<String>);

    struct Handler(UnboundedSender<String>);

    #[async_trait]
    impl StreamHandlerFactory for Factory {
        async fn create_handler(&self) -> Box<dyn StreamHandler> {
            Box::new(Handler(self.0.clone()))
        }
    }

    #[async_trait]
    impl StreamHandler for Handler {
        async fn on_accepted(&mut self, _: &StreamContext) {
            let _ = self.0.send("accepted".to_owned());
        }

        async fn on_rejected(&mut self, _: PeerId, _: StreamId, reason: String) {
            let _ = self.0.send(reason);
        }

        async fn on_data(&mut self, _: &StreamContext, data: Vec<u8>) {
            let _ = self.0.send(String::from_utf8_lossy(&data).into_owned());
        }

        async fn on_closed(&mut self, _: PeerId, _: StreamId, _: StreamCloseReason) {}
    }
}
