//! What do the links let through at best? Frames and messages as datagrams, sent once, to two sockets.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;

use crate::ear::{Ear, Kind};
use crate::process::{Outcome, attend};
use crate::side::{Call, Side, listen_ip};

const MAX_DATAGRAM_BYTES: usize = 65_536;

pub struct Udp {
    /// Of the sockets that hear frames and messages, with `/` between them.
    address: String,
    frames: Arc<UdpSocket>,
    messages: Arc<UdpSocket>,
}

impl Udp {
    async fn start() -> Outcome<Self> {
        let bind = || async { Outcome::Ok(Arc::new(UdpSocket::bind((listen_ip()?, 0)).await?)) };
        let (frames, messages) = (bind().await?, bind().await?);
        let address = format!("{}/{}", frames.local_addr()?, messages.local_addr()?);
        Ok(Self { address, frames, messages })
    }
}

async fn hear(socket: Arc<UdpSocket>, ear: Ear, kind: Kind) -> Outcome {
    let mut ear = ear.one(kind);
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let bytes = socket.recv(&mut datagram).await?;
        ear.hear(&datagram[..bytes]);
    }
}

impl Side for Udp {
    type Call = UdpCall;

    async fn serve(ear: Ear, _echo: bool) -> Outcome<Self> {
        let node = Self::start().await?;
        attend(hear(node.frames.clone(), ear.clone(), Kind::Frame));
        attend(hear(node.messages.clone(), ear, Kind::Message));
        Ok(node)
    }

    async fn connect(addresses: Vec<String>) -> Outcome<Self> {
        let node = Self::start().await?;
        let address = addresses.first().ok_or("no address")?;
        let (frames, messages) = address.split_once('/').ok_or_else(|| format!("{address}: no two sockets"))?;
        node.frames.connect(frames.parse::<SocketAddr>()?).await?;
        node.messages.connect(messages.parse::<SocketAddr>()?).await?;
        Ok(node)
    }

    async fn greet(address: String, data: Vec<u8>) -> Outcome<Self> {
        let node = Self::connect(vec![address]).await?;
        node.publish(data).await?;
        Ok(node)
    }

    fn address(&self) -> &str {
        &self.address
    }

    async fn call(&mut self) -> Outcome<UdpCall> {
        Ok(UdpCall(self.frames.clone()))
    }

    async fn echo(&mut self, _call: &mut UdpCall, _frame: Vec<u8>) -> Outcome<Vec<u8>> {
        // Nobody sends it back.
        pending().await
    }

    async fn publish(&self, data: Vec<u8>) -> Outcome {
        self.messages.send(&data).await?;
        Ok(())
    }
}

pub struct UdpCall(Arc<UdpSocket>);

impl Call for UdpCall {
    async fn send(&mut self, frame: Vec<u8>) -> Outcome {
        self.0.send(&frame).await?;
        Ok(())
    }
}
