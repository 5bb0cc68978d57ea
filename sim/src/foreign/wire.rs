//! How does libp2p reach a simulated network? One listener, and dials of plain addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use avi_p2p::transport::{BoxByteStream, Listener, Transport};
use futures::FutureExt;
use futures::future::{self, BoxFuture, Ready};
use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};

/// A socket address as libp2p writes it.
pub(super) fn multiaddr(socket: SocketAddr) -> Multiaddr {
    Multiaddr::empty().with(socket.ip().into()).with(Protocol::Tcp(socket.port()))
}

/// The socket address of `/ip4|ip6/…/tcp/…`, whatever follows.
pub(super) fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut protocols = address.iter();
    let ip: IpAddr = match protocols.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Tcp(port) = protocols.next()? else { return None };
    Some(SocketAddr::new(ip, port))
}

/// A machine's transport, for libp2p.
pub(super) struct Wire {
    transport: Arc<dyn Transport>,
    listener: Option<(ListenerId, State)>,
}

/// Binding → Bound.
enum State {
    Binding(BoxFuture<'static, io::Result<Box<dyn Listener>>>),
    Bound(Box<dyn Listener>),
}

type Event = TransportEvent<Ready<io::Result<BoxByteStream>>, io::Error>;

impl Wire {
    pub(super) fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, listener: None }
    }
}

impl State {
    fn poll(&mut self, listener_id: ListenerId, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        match self {
            Self::Binding(binding) => binding.poll_unpin(cx).map_ok(|listener| {
                let listen_addr = multiaddr(listener.local_addr());
                *self = Self::Bound(listener);
                TransportEvent::NewAddress { listener_id, listen_addr }
            }),
            Self::Bound(listener) => listener.poll_accept(cx).map_ok(|(stream, remote)| TransportEvent::Incoming {
                listener_id,
                upgrade: future::ready(Ok(stream)),
                local_addr: multiaddr(listener.local_addr()),
                send_back_addr: multiaddr(remote),
            }),
        }
    }
}

impl libp2p_core::Transport for Wire {
    type Output = BoxByteStream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<BoxByteStream>>;
    type Dial = BoxFuture<'static, io::Result<BoxByteStream>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let (Some(socket), None) = (socket(&address), &self.listener) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        self.listener = Some((id, State::Binding(self.transport.listen(socket))));
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listener.take_if(|(own, _)| *own == id).is_some()
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        match socket(&address) {
            Some(socket) => Ok(self.transport.connect(socket)),
            None => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        // The swarm polls again after every dial and every listener, so nothing need wake it.
        let Some((id, state)) = &mut self.listener else { return Poll::Pending };
        let id = *id;
        state.poll(id, cx).map(|event| {
            event.unwrap_or_else(|error| {
                self.listener = None;
                TransportEvent::ListenerClosed { listener_id: id, reason: Err(error) }
            })
        })
    }
}
