//! How is TCP a [`Transport`] on the reactor of the node's thread? `udp` has its datagrams.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite, IoSlice};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::reactor::{Reactor, Watched};
use super::udp::Udp;
use crate::network::{self, BoxByteStream, DatagramSocket, Listener, Transport};

/// Connections that the system holds until they are accepted; it may hold fewer.
const BACKLOG: i32 = 1024;
/// How long a listener waits after the system had no descriptor or memory for a connection.
const PAUSE: Duration = Duration::from_millis(100);
/// After so long without a segment, the system asks whether the peer is there; and it ends a connection on which nothing
/// was acknowledged for `GONE_AFTER`. The engine notices a silent peer sooner; these hold for a connection that it does not
/// watch, which closes or only delivers what it has taken.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const GONE_AFTER: Duration = Duration::from_secs(30);
/// The most threads that look up names. The system's resolver may take longer than a node waits for it.
const MAX_LOOKUPS: usize = 64;

/// The operating system's TCP, and its UDP for datagrams.
pub(super) struct Tcp {
    reactor: Arc<Reactor>,
    /// Held by each thread that looks up a name.
    lookups: Arc<()>,
}

impl Tcp {
    pub(super) fn new(reactor: Arc<Reactor>) -> Self {
        Self { reactor, lookups: Arc::default() }
    }
}

impl Transport for Tcp {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let reactor = self.reactor.clone();
        async move { Ok(Box::new(Accepting::bind(reactor, address)?) as Box<dyn Listener>) }.boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxByteStream>> {
        let reactor = self.reactor.clone();
        async move { Ok(Box::pin(dial(&reactor, address).await?) as BoxByteStream) }.boxed()
    }

    fn bind_datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn DatagramSocket>>> {
        let reactor = self.reactor.clone();
        async move { Ok(Box::new(Udp::bind(reactor, address)?) as Box<dyn DatagramSocket>) }.boxed()
    }

    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        resolve(name.to_owned(), self.lookups.clone()).boxed()
    }
}

/// Looks up a name with the system's resolver, which blocks its thread.
async fn resolve(name: String, lookup: Arc<()>) -> io::Result<Vec<IpAddr>> {
    if Arc::strong_count(&lookup) > MAX_LOOKUPS + 1 {
        return Err(io::Error::other("too many names are being looked up"));
    }
    let (answer, answered) = oneshot::channel();
    let look_up = move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        drop(lookup);
        // Nobody has to wait for it.
        let _ = answer.send(found.map(|found| found.map(|socket| socket.ip()).collect()));
    };
    thread::Builder::new().name("avi-p2p-names".to_owned()).spawn(look_up)?;
    answered.await.map_err(|_| io::Error::other("the system's resolver has failed"))?
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

async fn dial(reactor: &Arc<Reactor>, address: SocketAddr) -> io::Result<Stream> {
    let socket = socket(address)?;
    match socket.connect(&address.into()) {
        Err(error) if !is_under_way(&error) => return Err(error),
        _ => {}
    }
    let stream = Stream::new(reactor, TcpStream::from(socket))?;
    stream.0.connected().await?;
    if let Some(error) = stream.0.socket().take_error()? {
        return Err(error);
    }
    // Not before: the timeout would end an attempt to connect too.
    end_if_gone(stream.0.socket());
    Ok(stream)
}

/// Lets the system end a connection whose peer is gone, if it can.
fn end_if_gone(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    let set = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 3));
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let set = set.and_then(|()| socket.set_tcp_user_timeout(Some(GONE_AFTER)));
    if let Err(error) = set {
        tracing::debug!(%error, "the system does not watch a connection");
    }
}

/// A connection is being made.
fn is_under_way(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_in_progress = error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error());
    #[cfg(not(unix))]
    let is_in_progress = false;
    is_in_progress || error.kind() == io::ErrorKind::WouldBlock
}

/// A listening socket.
struct Accepting {
    listener: Watched<TcpListener>,
    address: SocketAddr,
    reactor: Arc<Reactor>,
    pause: Option<BoxFuture<'static, ()>>,
}

impl Accepting {
    fn bind(reactor: Arc<Reactor>, address: SocketAddr) -> io::Result<Self> {
        let socket = socket(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Allows to bind a port that has connections in TIME_WAIT.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        Ok(Self { listener: Watched::new(reactor.clone(), listener)?, address, reactor, pause: None })
    }
}

impl Listener for Accepting {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxByteStream, SocketAddr)>> {
        self.poll_accept_stream(cx).map_ok(|(stream, remote)| (Box::pin(stream) as BoxByteStream, remote))
    }
}

impl Accepting {
    fn poll_accept_stream(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.poll_unpin(cx));
                self.pause = None;
            }
            let accepted = std::task::ready!(self.listener.poll_read(cx, TcpListener::accept));
            let error = match accepted {
                Ok((stream, remote)) => match Stream::accepted(&self.reactor, stream) {
                    Ok(stream) => return Poll::Ready(Ok((stream, remote))),
                    // The socket of a peer that has gone already refuses its options.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => continue,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if network::is_of_peer(&error) {
                tracing::debug!(%error, "a connection was not accepted");
            } else {
                self.pause = Some(self.reactor.clone().sleep_until(Instant::now() + PAUSE).boxed());
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, error)));
            }
        }
    }
}

/// A connection.
struct Stream(Watched<TcpStream>);

impl Stream {
    fn new(reactor: &Arc<Reactor>, socket: TcpStream) -> io::Result<Self> {
        Ok(Self(Watched::new(reactor.clone(), socket)?))
    }

    fn accepted(reactor: &Arc<Reactor>, socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        end_if_gone(&socket);
        Self::new(reactor, socket)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, |mut socket| socket.read(buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, |mut socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, |mut socket| socket.write_vectored(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.socket().shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use futures::future::{join, poll_fn};

    use super::*;

    #[test]
    fn the_system_ends_connections_whose_peer_is_gone() {
        let reactor = Arc::new(Reactor::new().unwrap());
        let task = {
            let reactor = reactor.clone();
            async move {
                let mut listener = Accepting::bind(reactor.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
                let address = listener.local_addr();
                let (dialled, accepted) =
                    join(dial(&reactor, address), poll_fn(|cx| listener.poll_accept_stream(cx))).await;
                for stream in [dialled.unwrap(), accepted.unwrap().0] {
                    let socket = SockRef::from(stream.0.socket());
                    assert!(socket.keepalive().unwrap());
                    assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEP_ALIVE);
                    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(GONE_AFTER));
                }
            }
        };
        super::super::block_on(&reactor, task.boxed());
    }
}
