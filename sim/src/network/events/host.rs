//! What does a host of the event-driven network own? Its transport, its listener, its ends of connections.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use avi_p2p::PeerId;
use avi_p2p::transport::{BoxByteStream, DatagramSocket, Listener, Transport};
use bytes::{Buf, Bytes};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};
use futures::stream::BoxStream;

use super::{Backlog, Events, Pipe, PipeId, WINDOW_BYTES, What, datagrams};
use crate::network::{FIRST_EPHEMERAL, Host};

pub(super) struct HostTransport {
    pub(super) events: Events,
    pub(super) host: Host,
}

impl Transport for HostTransport {
    fn neighbours(&self) -> BoxStream<'static, (PeerId, SocketAddr)> {
        self.events.lock().lan.listen_in()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (events, host) = (self.events.clone(), self.host);
        async move {
            let mut state = events.lock();
            let address = state.homes.listening(host, address).ok_or(io::ErrorKind::AddrNotAvailable)?;
            let listeners = &mut state.hosts.get_mut(host.0 as usize).ok_or(io::ErrorKind::AddrNotAvailable)?.listeners;
            if listeners.contains_key(&address.port()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            listeners.insert(address.port(), Backlog::default());
            drop(state);
            Ok(Box::new(HostListener { events, host, address }) as Box<dyn Listener>)
        }
        .boxed()
    }

    fn bind_datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn DatagramSocket>>> {
        let (events, host) = (self.events.clone(), self.host);
        async move {
            let address = events.lock().homes.listening(host, address).ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(Box::new(events.bind(host, address.port())?) as Box<dyn DatagramSocket>)
        }
        .boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxByteStream>> {
        let (answer, connected) = oneshot::channel();
        let mut state = self.events.lock();
        let Some(to) = state.homes.machine(address).filter(|to| (to.0 as usize) < state.hosts.len()) else {
            return futures::future::ready(Err(io::ErrorKind::HostUnreachable.into())).boxed();
        };
        let home = state.homes.home(self.host);
        let first = &mut state.hosts[home.0 as usize];
        let from = SocketAddr::new(home.ip(), first.next_port);
        first.next_port = first.next_port.checked_add(1).unwrap_or(FIRST_EPHEMERAL);
        if state.is_perfect(self.host, to) {
            state.send(self.host, to, None, 0, What::Connect { from, to: address, answer });
        } else {
            state.dial(from, address, (self.host, to), answer);
        }
        drop(state);
        async move {
            match connected.await {
                Ok(result) => result,
                // The request was lost. A real stack tries for minutes; the dialler gives up before that.
                Err(_) => std::future::pending().await,
            }
        }
        .boxed()
    }
}

impl DatagramSocket for datagrams::DatagramSocket {
    fn local_addr(&self) -> SocketAddr {
        datagrams::DatagramSocket::local_addr(self)
    }

    fn try_send_to(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.send_to(datagram, to)
    }

    fn poll_recv_from(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let (from, payload) = std::task::ready!(self.poll_recv(cx));
        let len = payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&payload[..len]);
        Poll::Ready(Ok((len, from)))
    }
}

struct HostListener {
    events: Events,
    host: Host,
    address: SocketAddr,
}

impl Listener for HostListener {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxByteStream, SocketAddr)>> {
        let mut state = self.events.lock();
        let backlog = state.hosts[self.host.0 as usize].listeners.get_mut(&self.address.port());
        // The host has lost power, and with it this node.
        let Some(backlog) = backlog else { return Poll::Pending };
        match backlog.waiting.pop_front() {
            Some((stream, from)) => Poll::Ready(Ok((stream, from))),
            None => {
                backlog.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for HostListener {
    fn drop(&mut self) {
        let backlog = self.events.lock().hosts[self.host.0 as usize].listeners.remove(&self.address.port());
        drop(backlog);
    }
}

/// One end of a connection.
pub(super) struct Duplex {
    pub(super) events: Events,
    pub(super) read: PipeId,
    pub(super) write: PipeId,
}

impl AsyncRead for Duplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.events.lock();
        let Some(pipe) = state.pipes.get_mut(&self.read) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if let Some(bytes) = pipe.unread.front_mut() {
            let len = bytes.len().min(buffer.len());
            bytes.copy_to_slice(&mut buffer[..len]);
            if bytes.is_empty() {
                pipe.unread.pop_front();
            }
            pipe.outstanding_bytes = pipe.outstanding_bytes.saturating_sub(len);
            let writer = pipe.writer.take();
            drop(state);
            writer.into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(len));
        }
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.ended {
            return Poll::Ready(Ok(0));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.events.lock();
        let Some(pipe) = state.pipes.get_mut(&self.write) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if pipe.reset || pipe.is_finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = buffer.len().min(WINDOW_BYTES.saturating_sub(pipe.outstanding_bytes));
        if len == 0 && !buffer.is_empty() {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.outstanding_bytes += len;
        let (from, to) = (pipe.from, pipe.to);
        let bytes = Bytes::copy_from_slice(&buffer[..len]);
        state.send(from, to, Some(self.write), len, What::Data { pipe: self.write, bytes });
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.events.lock();
        if let Some(pipe) = state.pipes.get_mut(&self.write)
            && !std::mem::replace(&mut pipe.is_finished, true)
        {
            let (from, to) = (pipe.from, pipe.to);
            state.send(from, to, Some(self.write), 0, What::End { pipe: self.write });
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        let mut state = self.events.lock();
        let is_forgotten = |id| state.pipes.get(&id).is_some_and(|pipe: &Pipe| pipe.is_forgotten);
        match (is_forgotten(self.read), is_forgotten(self.write)) {
            // The other end continues to write, and does not know that nobody reads.
            (true, false) => return,
            (_, true) => {
                state.pipes.remove(&self.write);
                return drop(state.pipes.remove(&self.read));
            }
            (false, false) => {}
        }
        let read = state.pipes.remove(&self.read);
        let write = state.pipes.get(&self.write);
        // Without a proper close, or with unread data, the other end sees a reset after the data sent before.
        let unread = read.is_some_and(|pipe| !pipe.unread.is_empty());
        if let Some((from, to)) = write.filter(|pipe| unread || !pipe.is_finished).map(|pipe| (pipe.from, pipe.to)) {
            state.send(from, to, Some(self.write), 0, What::Reset { pipe: self.write });
        }
    }
}
