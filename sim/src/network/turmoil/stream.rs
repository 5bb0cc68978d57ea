//! How does a node listen and dial on turmoil's TCP?

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use avi_p2p::PeerId;
use avi_p2p::transport::{BoxByteStream, Listener, Transport};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};
use futures::stream::BoxStream;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use super::{Line, LineId, Turmoil};
use crate::network::{Host, PORT};
use crate::scenario::PartitionMode;

pub(super) struct HostTransport {
    pub(super) network: Turmoil,
    pub(super) host: Host,
}

impl Transport for HostTransport {
    fn neighbours(&self) -> BoxStream<'static, (PeerId, SocketAddr)> {
        self.network.lock().lan.listen_in()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (network, host) = (self.network.clone(), self.host);
        async move {
            if address.ip() != host.ip() {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let port = if address.port() == 0 { PORT } else { address.port() };
            // turmoil binds no other address.
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
            let accepting = accept(Arc::new(listener));
            Ok(Box::new(HostListener { network, host, port, accepting }) as Box<dyn Listener>)
        }
        .boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxByteStream>> {
        let (network, host) = (self.network.clone(), self.host);
        async move {
            let there = Host::of(address.ip()).ok_or(io::ErrorKind::HostUnreachable)?;
            match TcpStream::connect(address).await {
                Ok(tcp) => Ok(Box::pin(Stream::new(network, host, there, tcp)) as BoxByteStream),
                // The request was lost, but turmoil reports a refusal. A real stack tries for minutes; the dialler
                // gives up before that.
                Err(_) if network.loses(host, there) => std::future::pending().await,
                Err(error) => Err(error),
            }
        }
        .boxed()
    }
}

impl Turmoil {
    fn loses(&self, from: Host, to: Host) -> bool {
        self.lock().wires.fate(from, to) == Some(PartitionMode::Reset)
    }
}

type Accepted = (Arc<TcpListener>, io::Result<(TcpStream, SocketAddr)>);

fn accept(listener: Arc<TcpListener>) -> BoxFuture<'static, Accepted> {
    async move {
        let accepted = listener.accept().await;
        (listener, accepted)
    }
    .boxed()
}

struct HostListener {
    network: Turmoil,
    host: Host,
    port: u16,
    accepting: BoxFuture<'static, Accepted>,
}

impl Listener for HostListener {
    fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.host.ip(), self.port)
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxByteStream, SocketAddr)>> {
        let (listener, accepted) = std::task::ready!(self.accepting.as_mut().poll(cx));
        self.accepting = accept(listener);
        let (tcp, from) = accepted?;
        let there = Host::of(from.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Poll::Ready(Ok((Box::pin(Stream::new(self.network.clone(), self.host, there, tcp)), from)))
    }
}

/// One end of a connection.
struct Stream {
    network: Turmoil,
    here: Host,
    there: Host,
    line: LineId,
    tcp: TcpStream,
    is_closed: bool,
}

impl Stream {
    fn new(network: Turmoil, here: Host, there: Host, tcp: TcpStream) -> Self {
        let mut state = network.lock();
        state.note(1, here, there, 0);
        state.next_line += 1;
        let line = LineId(state.next_line);
        state.lines.insert(line, Line { here, there, is_reset: false, reader: None, writer: None });
        drop(state);
        Self { network, here, there, line, tcp, is_closed: false }
    }

    /// Checks both directions, after a partition that resets.
    fn check(&self) -> io::Result<()> {
        match self.network.lock().lines.get(&self.line) {
            Some(line) if !line.is_reset => Ok(()),
            _ => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let mut filled = ReadBuf::new(buffer);
        let polled = Pin::new(&mut self.tcp).poll_read(cx, &mut filled);
        let mut state = self.network.lock();
        match polled {
            Poll::Ready(Ok(())) => {
                state.note(2, self.there, self.here, filled.filled().len());
                Poll::Ready(Ok(filled.filled().len()))
            }
            Poll::Ready(Err(error)) => {
                state.note(3, self.there, self.here, 0);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                if let Some(line) = state.lines.get_mut(&self.line) {
                    line.reader = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let polled = Pin::new(&mut self.tcp).poll_write(cx, buffer);
        let mut state = self.network.lock();
        match &polled {
            Poll::Ready(Ok(len)) => state.hosts[self.here.0 as usize].bytes_sent += *len as u64,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if let Some(line) = state.lines.get_mut(&self.line) {
                    line.writer = Some(cx.waker().clone());
                }
            }
        }
        drop(state);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // turmoil treats a second close as an error.
        if std::mem::replace(&mut self.is_closed, true) {
            return Poll::Ready(Ok(()));
        }
        self.check()?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.network.lock().lines.remove(&self.line);
    }
}
