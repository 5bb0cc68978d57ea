//! How do datagrams cross the network? Each alone: it may be lost, come twice, or overtake another.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::{Aftermath, Delivery, Events, State, What};
use crate::network::Host;

/// The most bytes in a datagram: Ethernet's 1,500 less the headers of IPv4 and UDP. Real stacks fragment larger ones,
/// and home routers often drop fragments.
pub const DATAGRAM_BYTES: usize = 1472;
/// IPv4 and UDP.
const HEADER_BYTES: usize = 28;
/// What waits for a reader at most, as by Linux's default; later ones are dropped.
const INBOX_BYTES: usize = 212_992;

/// What has arrived at a socket and was not read.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: VecDeque<(SocketAddr, Bytes)>,
    bytes: usize,
    waker: Option<Waker>,
}

/// A datagram socket of a simulated host.
pub struct DatagramSocket {
    events: Events,
    host: Host,
    local: SocketAddr,
}

impl Events {
    /// Binds a datagram socket of a host.
    ///
    /// # Errors
    /// `AddrInUse`, or `AddrNotAvailable` if there is no such host.
    pub fn bind(&self, host: Host, port: u16) -> io::Result<DatagramSocket> {
        let mut state = self.lock();
        let sockets = &mut state.hosts.get_mut(host.0 as usize).ok_or(io::ErrorKind::AddrNotAvailable)?.sockets;
        if sockets.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        sockets.insert(port, Inbox::default());
        Ok(DatagramSocket { events: self.clone(), host, local: SocketAddr::new(host.ip(), port) })
    }
}

impl DatagramSocket {
    /// Its address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends a datagram. That it was sent says nothing about its arrival.
    ///
    /// # Errors
    /// `InvalidInput` for more than [`DATAGRAM_BYTES`], `HostUnreachable` for an address that no host has.
    pub fn send_to(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        if payload.len() > DATAGRAM_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("more than {DATAGRAM_BYTES} bytes")));
        }
        let mut state = self.events.lock();
        let count = state.hosts.len();
        let there = Host::of(to.ip()).filter(|host| (host.0 as usize) < count).ok_or(io::ErrorKind::HostUnreachable)?;
        let (now, bytes) = (state.now(), payload.len() + HEADER_BYTES);
        let sender = &mut state.hosts[self.host.0 as usize];
        sender.bytes_sent += bytes as u64;
        let fate = sender.access.as_mut().map_or_else(|| super::straight(now), |link| link.up(now, bytes));
        for at in [fate.at, fate.again].into_iter().flatten() {
            let at = at + state.distance(self.host, there);
            let payload = Bytes::copy_from_slice(payload);
            let what = What::Datagram { from: self.local, to, payload, has_crossed: false };
            state.schedule(at, Delivery { from: self.host, to: there, what });
        }
        Ok(())
    }

    /// The next datagram that has arrived, and its sender.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<(SocketAddr, Bytes)> {
        let mut state = self.events.lock();
        // The host has lost power, and with it this socket.
        let Some(inbox) = state.hosts[self.host.0 as usize].sockets.get_mut(&self.local.port()) else {
            return Poll::Pending;
        };
        match inbox.waiting.pop_front() {
            Some((from, payload)) => {
                inbox.bytes -= payload.len();
                Poll::Ready((from, payload))
            }
            None => {
                inbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for DatagramSocket {
    fn drop(&mut self) {
        let inbox = self.events.lock().hosts[self.host.0 as usize].sockets.remove(&self.local.port());
        drop(inbox);
    }
}

impl State {
    /// A datagram is at its socket, or before its last part, the receiver's downlink.
    pub(super) fn on_datagram(
        &mut self,
        at: Duration,
        hosts: (Host, Host),
        ends: (SocketAddr, SocketAddr),
        payload: Bytes,
        has_crossed: bool,
        aftermath: &mut Aftermath,
    ) {
        let Some(host) = self.hosts.get_mut(hosts.1.0 as usize) else { return };
        if let Some(link) = host.access.as_mut().filter(|_| !has_crossed) {
            let fate = link.down(at, payload.len() + HEADER_BYTES);
            for at in [fate.at, fate.again].into_iter().flatten() {
                let what = What::Datagram { from: ends.0, to: ends.1, payload: payload.clone(), has_crossed: true };
                self.schedule(at, Delivery { from: hosts.0, to: hosts.1, what });
            }
            return;
        }
        let inbox = host.sockets.get_mut(&ends.1.port());
        if let Some(inbox) = inbox.filter(|inbox| inbox.bytes + payload.len() <= INBOX_BYTES) {
            inbox.bytes += payload.len();
            inbox.waiting.push_back((ends.0, payload));
            aftermath.wakers.extend(inbox.waker.take());
        }
    }
}
