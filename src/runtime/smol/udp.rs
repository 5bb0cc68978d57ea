//! How does UDP carry datagrams on the reactor of the node's thread?

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::reactor::{Reactor, Watched};
use crate::network::DatagramSocket;
use crate::udp;

/// A UDP socket.
pub(super) struct Udp {
    socket: Watched<UdpSocket>,
    address: SocketAddr,
}

impl Udp {
    pub(super) fn bind(reactor: Arc<Reactor>, address: SocketAddr) -> io::Result<Self> {
        let socket = udp::bind(address)?;
        let address = socket.local_addr()?;
        Ok(Self { socket: Watched::new(reactor, socket)?, address })
    }
}

impl DatagramSocket for Udp {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn try_send_to(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.socket().send_to(datagram, to).map(drop)
    }

    fn poll_recv_from(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.socket.poll_read(cx, |socket| socket.recv_from(buffer))
    }
}
