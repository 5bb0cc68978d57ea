//! How do devices that are too small to be a node take part? Over UDP, through a gateway.
//!
//! A microcontroller subscribes, publishes, reports buttons and sensors, and talks and listens, in datagrams of at most
//! 1,024 bytes. The gateway does that at the mesh in its name. A *plain* session speaks the original protocol of AVI's
//! firmware: nothing is secret, and nobody is proven. A *secure* one has a key for each device. The page
//! [`docs/gateway.md`](https://github.com/apoll011/avi-p2p/blob/main/device/docs/gateway.md) has every byte.
//!
//! ```no_run
//! # async fn example(device: avi_device::device::AviDevice) -> Result<(), Box<dyn std::error::Error>> {
//! use avi_device::gateway::{Gateway, GatewayConfig, DeviceKey};
//!
//! let key = DeviceKey::from_hex(5555, &std::fs::read_to_string("lamp.key")?)?;
//! let gateway = Gateway::start(&device, GatewayConfig { devices: vec![key], ..Default::default() }).await?;
//! println!("small devices may come to {}", gateway.local_address());
//! # Ok(())
//! # }
//! ```

mod driver;
mod engine;
#[cfg(test)]
mod fuzz;
mod link;
mod shared;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

pub use engine::{
    DeviceKey, Downlink, Entropy, ErrorCode, GatewayConfig, GatewayEngine, GatewayError, GatewayLimits, GatewayStats,
    Incoming, MAX_DATAGRAM_BYTES, NOISE_PROTOCOL, NotConnected, Output, PressType, SensorValue, SmallDevice, Time,
    Uplink, is_for_small_device,
};
pub(crate) use link::Link;

use driver::{Ask, Driver};

use crate::device::AviDevice;

/// Questions of the application that may wait.
const MAX_ASKS: usize = 16;

/// A gateway that runs. It ends when it is dropped; [`shutdown`](Self::shutdown) also waits for that.
pub struct Gateway {
    address: SocketAddr,
    asks: mpsc::Sender<Ask>,
}

impl Gateway {
    /// Starts a gateway at a device's node. Small devices are at `avi.gateway.<peer id>.device.<device id>` in the
    /// shared context, if the node has one. The device's event loop must run: it tells the gateway of messages and
    /// streams.
    ///
    /// # Errors
    /// As [`GatewayConfig::validate`]; [`GatewayError::Bind`]; [`GatewayError::Entropy`];
    /// [`GatewayError::AlreadyRuns`].
    pub async fn start(device: &AviDevice, config: GatewayConfig) -> Result<Self, GatewayError> {
        config.validate()?;
        // What a later failure means: no handshake, and a warning.
        random().map_err(|error| GatewayError::Entropy(error.to_string()))?;
        let entropy: Entropy =
            Box::new(|| random().inspect_err(|error| tracing::error!(%error, "the system gives no randomness")).ok());
        let (ip, port) = (config.listen_ip, config.udp_port);
        let bind = |error: std::io::Error| GatewayError::Bind { ip, port, reason: error.to_string() };
        let socket = UdpSocket::bind((ip, port)).await.map_err(bind)?;
        socket.writable().await.map_err(bind)?;
        let address = socket.local_addr().map_err(bind)?;
        let (inner, node) = (&device.inner, device.handle());
        let engine = GatewayEngine::new(config, node.local_peer_id().as_str(), entropy)?;
        let told = inner.gateway.open().ok_or(GatewayError::AlreadyRuns)?;
        let (asks, asked) = mpsc::channel(MAX_ASKS);
        tokio::spawn(Driver::new(engine, socket, node, Arc::downgrade(inner), told, asked).run());
        tracing::info!(%address, "a gateway for small devices runs");
        Ok(Self { address, asks })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Its figures.
    ///
    /// # Errors
    /// [`GatewayError::Ended`] if the device has ended.
    pub async fn stats(&self) -> Result<GatewayStats, GatewayError> {
        self.ask(Ask::Stats).await
    }

    /// Ends every session, and tells the devices.
    ///
    /// # Errors
    /// [`GatewayError::Ended`] if the device has ended before.
    pub async fn shutdown(self) -> Result<(), GatewayError> {
        self.ask(Ask::Shutdown).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, GatewayError> {
        let (sender, receiver) = oneshot::channel();
        self.asks.send(ask(sender)).await.map_err(|_| GatewayError::Ended)?;
        receiver.await.map_err(|_| GatewayError::Ended)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("address", &self.address).finish_non_exhaustive()
    }
}

/// 32 bytes that nobody can guess.
fn random() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map(|()| bytes)
}
