//! How does a peer behave that keeps no rule? libp2p connections whose every byte a test can choose.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use futures::future::poll_fn;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p_core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p_core::upgrade::{OutboundConnectionUpgrade, UpgradeInfo};
use libp2p_identity::Keypair;
use tokio::sync::{mpsc, oneshot, watch};

pub const AUDIO: &str = "/avi/audio/2.0.0";
pub const PUBSUB: &str = "/meshsub/1.1.0";
const PING: &str = "/ipfs/ping/1.0.0";
const MULTISTREAM: &str = "/multistream/1.0.0";

/// How long anything may take. Generous: machines are shared.
const WITHIN: Duration = Duration::from_secs(30);

pub type Tcp = smol::Async<std::net::TcpStream>;
/// A connection behind its handshake, where the multiplexer's frames are due.
pub type Secured = libp2p_noise::Output<Tcp>;

pub async fn tcp(from: Ipv4Addr, to: SocketAddr) -> io::Result<Tcp> {
    connect(tokio::net::TcpSocket::new_v4()?, from, to).await
}

/// A connection over which the other end can send next to nothing that is not read.
pub async fn narrow_tcp(from: Ipv4Addr, to: SocketAddr) -> io::Result<Tcp> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    connect(socket, from, to).await
}

async fn connect(socket: tokio::net::TcpSocket, from: Ipv4Addr, to: SocketAddr) -> io::Result<Tcp> {
    if from != Ipv4Addr::LOCALHOST {
        socket.bind(SocketAddr::from((from, 0)))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    smol::Async::new(stream.into_std()?)
}

/// The handshake of a rule-abiding node.
pub async fn secure(mut tcp: Tcp, key: &Keypair) -> io::Result<Secured> {
    propose(&mut tcp, "/noise").await?;
    let noise = libp2p_noise::Config::new(key).map_err(io::Error::other)?;
    let (_, mut secured) = noise.upgrade_outbound(tcp, "/noise").await.map_err(io::Error::other)?;
    propose(&mut secured, "/yamux/1.0.0").await?;
    Ok(secured)
}

/// A line of multistream-select.
pub fn line(text: &str) -> Vec<u8> {
    let mut line = uvarint(text.len() as u64 + 1);
    line.extend_from_slice(text.as_bytes());
    line.push(b'\n');
    line
}

/// What a dialler says first.
pub fn proposal(protocol: &str) -> Vec<u8> {
    [line(MULTISTREAM), line(protocol)].concat()
}

pub fn uvarint(value: u64) -> Vec<u8> {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    unsigned_varint::encode::u64(value, &mut buffer).to_vec()
}

async fn read_line(io: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut len = [0];
    io.read_exact(&mut len).await?;
    let mut text = vec![0; usize::from(len[0])];
    io.read_exact(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// Agrees on a protocol.
///
/// # Errors
/// The connection's, or that the other end does not speak it.
pub async fn propose(io: &mut (impl AsyncRead + AsyncWrite + Unpin), protocol: &str) -> io::Result<()> {
    io.write_all(&proposal(protocol)).await?;
    io.flush().await?;
    for expected in [MULTISTREAM, protocol] {
        let answer = read_line(io).await?;
        if answer != expected {
            return Err(io::Error::other(format!("{answer:?} instead of {expected:?}")));
        }
    }
    Ok(())
}

/// Everything that the other end still says, once it has ended.
pub async fn read_to_the_end(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while let Ok(read @ 1..) = io.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..read]);
        }
    };
    tokio::time::timeout(WITHIN, reading).await.expect("the other end ends it");
    all
}

/// A connection of a node that answers pings, takes pub/sub and says no to all else.
pub struct Peer {
    requests: mpsc::UnboundedSender<oneshot::Sender<SubstreamBox>>,
    ended: watch::Receiver<bool>,
}

impl Peer {
    pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        let secured = secure(tcp(from, to).await?, &Keypair::generate_ed25519()).await?;
        let yamux = libp2p_yamux::Config::default();
        let info = yamux.protocol_info().next().unwrap();
        let muxer = StreamMuxerBox::new(yamux.upgrade_outbound(secured, info).await?);
        let (requests, wanted) = mpsc::unbounded_channel();
        let (ending, ended) = watch::channel(false);
        tokio::spawn(async move {
            drive(muxer, wanted).await;
            let _ = ending.send(true);
        });
        Ok(Self { requests, ended })
    }

    /// A substream without a word on it yet.
    pub async fn open_silent(&self) -> io::Result<SubstreamBox> {
        let (sender, opened) = oneshot::channel();
        let _ = self.requests.send(sender);
        opened.await.map_err(|_| io::ErrorKind::NotConnected.into())
    }

    pub async fn open(&self, protocol: &str) -> io::Result<SubstreamBox> {
        let mut substream = self.open_silent().await?;
        propose(&mut substream, protocol).await?;
        Ok(substream)
    }

    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }
}

/// Moves a connection until it ends, or its [`Peer`] is dropped.
async fn drive(mut muxer: StreamMuxerBox, mut wanted: mpsc::UnboundedReceiver<oneshot::Sender<SubstreamBox>>) {
    let mut waiting = VecDeque::new();
    poll_fn(|cx| {
        loop {
            match wanted.poll_recv(cx) {
                Poll::Ready(Some(request)) => {
                    waiting.push_back(request);
                    continue;
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            match muxer.poll_inbound_unpin(cx) {
                Poll::Ready(Ok(substream)) => {
                    tokio::spawn(answer(substream));
                    continue;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if !waiting.is_empty() {
                match muxer.poll_outbound_unpin(cx) {
                    Poll::Ready(Ok(substream)) => {
                        let _ = waiting.pop_front().map(|request: oneshot::Sender<_>| request.send(substream));
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            match muxer.poll_unpin(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// Serves a substream that the other end opened.
async fn answer(mut substream: SubstreamBox) -> io::Result<()> {
    read_line(&mut substream).await?;
    substream.write_all(&line(MULTISTREAM)).await?;
    let protocol = loop {
        substream.flush().await?;
        let protocol = read_line(&mut substream).await?;
        if protocol == PING || protocol == PUBSUB {
            break protocol;
        }
        substream.write_all(&line("na")).await?;
    };
    substream.write_all(&line(&protocol)).await?;
    substream.flush().await?;
    let mut bytes = [0; 32];
    loop {
        let read = substream.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        if protocol == PING {
            substream.write_all(&bytes[..read]).await?;
            substream.flush().await?;
        }
    }
}

/// Yamux by hand, for frames that no library would write.
pub mod yamux {
    use std::io;

    use futures::io::{AsyncReadExt, AsyncWriteExt};

    use super::Secured;

    pub const DATA: u8 = 0;
    pub const WINDOW_UPDATE: u8 = 1;
    pub const SYN: u16 = 1;
    pub const ACK: u16 = 2;

    pub fn header(kind: u8, flags: u16, stream: u32, value: u32) -> Vec<u8> {
        let mut header = vec![0, kind];
        header.extend_from_slice(&flags.to_be_bytes());
        header.extend_from_slice(&stream.to_be_bytes());
        header.extend_from_slice(&value.to_be_bytes());
        header
    }

    pub fn data(flags: u16, stream: u32, body: &[u8]) -> Vec<u8> {
        let mut frame = header(DATA, flags, stream, body.len() as u32);
        frame.extend_from_slice(body);
        frame
    }

    pub async fn write(io: &mut Secured, bytes: &[u8]) -> io::Result<()> {
        io.write_all(bytes).await?;
        io.flush().await
    }

    /// The stream and the body of the next frame.
    pub async fn read(io: &mut Secured) -> io::Result<(u32, Vec<u8>)> {
        let mut header = [0; 12];
        io.read_exact(&mut header).await?;
        let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        let mut body = vec![0; if header[1] == DATA { word(8) as usize } else { 0 }];
        io.read_exact(&mut body).await?;
        Ok((word(4), body))
    }
}
