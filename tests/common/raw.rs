//! A peer that speaks Noise and Yamux, and above them whatever it likes.
#![allow(dead_code)]

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p_core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p_core::transport::{Boxed, DialOpts, PortUse};
use libp2p_core::upgrade::Version;
use libp2p_core::{Endpoint, Multiaddr, Transport};
use libp2p_identity::{Keypair, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub const AUDIO: &str = "/avi/audio/2.0.0";
pub const GOSSIP: &str = "/meshsub/1.1.0";

/// Its side of a connection, moved by a task of its own.
pub struct Raw {
    open: mpsc::UnboundedSender<oneshot::Sender<SubstreamBox>>,
    ended: JoinHandle<()>,
    is_frozen: Arc<AtomicBool>,
}

impl Raw {
    /// Connects and shakes hands as it should.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let address: Multiaddr = address.parse().expect("an address");
        let dial = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let mut transport = transport(&Keypair::generate_ed25519());
        let (_, muxer) = transport.dial(address, dial).map_err(io::Error::other)?.await?;
        let (open, requests) = mpsc::unbounded_channel();
        let is_frozen = Arc::<AtomicBool>::default();
        let ended = tokio::spawn(drive(muxer, requests, is_frozen.clone()));
        Ok(Self { open, ended, is_frozen })
    }

    /// Opens a substream and says which protocol it is for, without waiting for an answer.
    pub async fn substream(&self, protocol: &str) -> io::Result<SubstreamBox> {
        let (reply, substream) = oneshot::channel();
        self.open.send(reply).map_err(|_| io::ErrorKind::NotConnected)?;
        let mut substream = substream.await.map_err(|_| io::ErrorKind::NotConnected)?;
        substream.write_all(&multistream(&["/multistream/1.0.0", protocol])).await?;
        substream.flush().await?;
        Ok(substream)
    }

    /// Opens a substream and says these bytes on it.
    pub async fn say(&self, protocol: &str, bytes: &[u8]) -> io::Result<SubstreamBox> {
        let mut substream = self.substream(protocol).await?;
        substream.write_all(bytes).await?;
        substream.flush().await?;
        Ok(substream)
    }

    /// Waits until the other end has ended the connection.
    pub async fn ended(&mut self, within: Duration) {
        let ended = tokio::time::timeout(within, &mut self.ended).await;
        ended.expect("the connection is ended").expect("its task ends well");
    }

    /// Takes nothing any more that the other end sends, and lets the connection stand.
    pub fn freeze(&self) {
        self.is_frozen.store(true, Ordering::Relaxed);
    }
}

/// Everything that comes until the other end ends the substream, by a goodbye or a reset.
pub async fn read_to_end(mut substream: SubstreamBox, within: Duration) -> Vec<u8> {
    let mut all = Vec::new();
    let ended = tokio::time::timeout(within, substream.read_to_end(&mut all)).await;
    let _ = ended.expect("the substream is ended");
    all
}

/// Lines of multistream-select: each with its length before it.
pub fn multistream(lines: &[&str]) -> Vec<u8> {
    let line = |line: &&str| [&[line.len() as u8 + 1], line.as_bytes(), b"\n"].concat();
    lines.iter().flat_map(line).collect()
}

fn transport(key: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
    libp2p_tcp::tokio::Transport::new(libp2p_tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(libp2p_noise::Config::new(key).expect("a key"))
        .multiplex(libp2p_yamux::Config::default())
        .boxed()
}

/// Moves the connection until it has ended. What the other end opens is held and left alone.
async fn drive(
    mut muxer: StreamMuxerBox,
    mut requests: mpsc::UnboundedReceiver<oneshot::Sender<SubstreamBox>>,
    is_frozen: Arc<AtomicBool>,
) {
    let mut held = Vec::new();
    let mut waiting = None;
    poll_fn(|cx| {
        while !is_frozen.load(Ordering::Relaxed) {
            let mut moved = false;
            match muxer.poll_unpin(cx) {
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            match muxer.poll_inbound_unpin(cx) {
                Poll::Ready(Ok(substream)) => {
                    held.push(substream);
                    moved = true;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if waiting.is_none()
                && let Poll::Ready(Some(reply)) = requests.poll_recv(cx)
            {
                waiting = Some(reply);
            }
            if waiting.is_some() {
                match muxer.poll_outbound_unpin(cx) {
                    Poll::Ready(Ok(substream)) => {
                        let _ = waiting.take().map(|reply: oneshot::Sender<_>| reply.send(substream));
                        moved = true;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            if !moved {
                break;
            }
        }
        Poll::Pending
    })
    .await;
}
