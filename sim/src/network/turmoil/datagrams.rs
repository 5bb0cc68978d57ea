//! How does a node send datagrams on turmoil's UDP?

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use avi_p2p::transport::DatagramSocket;
use futures::FutureExt;
use futures::future::BoxFuture;
use turmoil::net::UdpSocket;

use super::Turmoil;
use crate::network::events::datagrams::DATAGRAM_BYTES;
use crate::network::{Home, Host};

/// A socket of a machine.
pub(super) struct Socket {
    network: Turmoil,
    machine: Host,
    /// How often the machine had lost power before.
    outages: u32,
    address: SocketAddr,
    udp: Arc<UdpSocket>,
    /// Waits until there is a datagram.
    readable: Option<BoxFuture<'static, io::Result<()>>>,
}

impl Socket {
    pub(super) async fn bind(network: Turmoil, machine: Host, address: SocketAddr) -> io::Result<Self> {
        // turmoil binds no other address.
        let udp = Arc::new(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?);
        let outages = network.lock().machines[machine.0 as usize].outages;
        Ok(Self { network, machine, outages, address, udp, readable: None })
    }

    /// Whether the machine has had power all the time.
    fn is_on(&self) -> bool {
        let state = self.network.lock();
        let machine = &state.machines[self.machine.0 as usize];
        machine.is_on && machine.outages == self.outages
    }

    fn note(&self, kind: u64, from: SocketAddr, to: SocketAddr, len: usize) {
        if let (Some(from), Some(to)) = (Home::at(from.ip()), Home::at(to.ip())) {
            self.network.lock().note(kind, from, to, len);
        }
    }
}

impl DatagramSocket for Socket {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn try_send_to(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        if datagram.len() > DATAGRAM_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("more than {DATAGRAM_BYTES} bytes")));
        }
        self.network.ends(self.machine, to).ok_or(io::ErrorKind::HostUnreachable)?;
        self.udp.try_send_to(datagram, to)?;
        self.network.lock().machines[self.machine.0 as usize].bytes_sent += datagram.len() as u64;
        Ok(())
    }

    fn poll_recv_from(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            if let Some(readable) = &mut self.readable {
                std::task::ready!(readable.poll_unpin(cx))?;
                self.readable = None;
            }
            match self.udp.try_recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let udp = self.udp.clone();
                    self.readable = Some(async move { udp.readable().await }.boxed());
                }
                // It has come to a machine without power.
                Ok(_) if !self.is_on() => {}
                Ok((len, from)) => {
                    self.note(4, from, self.address, len);
                    return Poll::Ready(Ok((len, from)));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
