//! How does UDP carry datagrams on tokio? Beside libp2p's TCP, which has none.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::network::DatagramSocket;
use crate::udp;

/// A UDP socket. It must be made and polled in a tokio reactor.
pub(super) struct Udp {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Udp {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::from_std(udp::bind(address)?)?;
        Ok(Self { address: socket.local_addr()?, socket })
    }
}

impl DatagramSocket for Udp {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Asks the system itself: tokio refuses to send until its reactor has seen that the new socket is writable.
    fn try_send_to(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        SockRef::from(&self.socket).send_to(datagram, &to.into()).map(drop)
    }

    fn poll_recv_from(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut read = ReadBuf::new(buffer);
        let from = ready!(self.socket.poll_recv_from(cx, &mut read))?;
        Poll::Ready(Ok((read.filled().len(), from)))
    }
}
