//! How does a node listen and dial on turmoil's TCP?

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use avi_p2p::PeerId;
use avi_p2p::transport::{BoxByteStream, DatagramSocket, Listener, Transport};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};
use futures::stream::BoxStream;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use super::datagrams::Socket;
use super::{Line, LineId, Turmoil};
use crate::network::{Home, Host};

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
            let homes = network.lock().homes;
            let address = homes.listening(host, address).ok_or(io::ErrorKind::AddrNotAvailable)?;
            // turmoil binds no other address.
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?;
            let accepting = accept(Arc::new(listener));
            Ok(Box::new(HostListener { network, host, address, accepting }) as Box<dyn Listener>)
        }
        .boxed()
    }

    fn bind_datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn DatagramSocket>>> {
        let (network, host) = (self.network.clone(), self.host);
        async move {
            let homes = network.lock().homes;
            let address = homes.listening(host, address).ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(Box::new(Socket::bind(network, host, address).await?) as Box<dyn DatagramSocket>)
        }
        .boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxByteStream>> {
        let (network, host) = (self.network.clone(), self.host);
        async move {
            let (here, to) = network.ends(host, address).ok_or(io::ErrorKind::HostUnreachable)?;
            match TcpStream::connect(address).await {
                Ok(tcp) => Ok(Box::pin(Stream::new(network, host, address, tcp)?) as BoxByteStream),
                // The request was lost, but turmoil reports a refusal. A real stack tries for minutes; the dialler
                // gives up before that.
                Err(_) if network.lock().is_silent(here, to) => std::future::pending().await,
                Err(error) => Err(error),
            }
        }
        .boxed()
    }
}

impl Turmoil {
    /// The home of a machine that dials or sends, and the machine that it means.
    pub(super) fn ends(&self, from: Host, to: SocketAddr) -> Option<(Home, Host)> {
        let state = self.lock();
        let to = state.homes.machine(to).filter(|to| (to.0 as usize) < state.machines.len())?;
        Some((state.homes.home(from), to))
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
    address: SocketAddr,
    accepting: BoxFuture<'static, Accepted>,
}

impl Listener for HostListener {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxByteStream, SocketAddr)>> {
        let (listener, accepted) = std::task::ready!(self.accepting.as_mut().poll(cx));
        self.accepting = accept(listener);
        let (tcp, from) = accepted?;
        Poll::Ready(Ok((Box::pin(Stream::new(self.network.clone(), self.host, from, tcp)?), from)))
    }
}

/// One end of a connection.
struct Stream {
    network: Turmoil,
    machine: Host,
    /// How often the machine had lost power before.
    outages: u32,
    here: Home,
    there: Home,
    line: LineId,
    /// `None` only while it is dropped.
    tcp: Option<TcpStream>,
    is_closed: bool,
}

impl Stream {
    fn new(network: Turmoil, machine: Host, other: SocketAddr, tcp: TcpStream) -> io::Result<Self> {
        let there = Home::at(other.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut state = network.lock();
        let here = state.homes.home(machine);
        let outages = state.machines[machine.0 as usize].outages;
        state.note(1, here, there, 0);
        state.next_line += 1;
        let line = LineId(state.next_line);
        state.lines.insert(line, Line { here, there, is_reset: false, reader: None, writer: None });
        drop(state);
        Ok(Self { network, machine, outages, here, there, line, tcp: Some(tcp), is_closed: false })
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.tcp.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
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
        let polled = self.tcp()?.poll_read(cx, &mut filled);
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
        let polled = self.tcp()?.poll_write(cx, buffer);
        let mut state = self.network.lock();
        match &polled {
            Poll::Ready(Ok(len)) => state.machines[self.machine.0 as usize].bytes_sent += *len as u64,
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
        self.tcp()?.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // turmoil treats a second close as an error.
        if std::mem::replace(&mut self.is_closed, true) {
            return Poll::Ready(Ok(()));
        }
        self.check()?;
        self.tcp()?.poll_shutdown(cx)
    }
}

impl Drop for Stream {
    /// Tells the other end, unless this machine has lost power.
    fn drop(&mut self) {
        let mut state = self.network.lock();
        state.lines.remove(&self.line);
        if state.machines[self.machine.0 as usize].outages != self.outages {
            state.left.extend(self.tcp.take().map(|tcp| (self.machine, tcp)));
        }
    }
}
