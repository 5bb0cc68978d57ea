//! What must the network below a node provide? Reliable byte streams between socket addresses, and datagrams if it can. A
//! program may replace it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use futures::io::{AsyncRead, AsyncWrite};
use futures::stream::{self, BoxStream, StreamExt};

use crate::id::PeerId;

/// A connection, in both directions. Dropping it without closing it resets it.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// A [`ByteStream`] of any kind.
pub type BoxByteStream = Pin<Box<dyn ByteStream>>;

/// Dials and accepts connections. The node adds encryption, multiplexing and identities on top.
pub trait Transport: Send + Sync + 'static {
    /// Listens on an address. Port 0 lets the transport choose one.
    ///
    /// # Errors
    /// The node's start fails with this error, for example [`io::ErrorKind::AddrInUse`].
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// Connects to an address.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxByteStream>>;

    /// Binds a socket for datagrams to an address. Port 0 lets the transport choose one. The default says that this network
    /// has none: audio then goes over its byte streams.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if the network has no datagrams: the node does not ask again.
    /// [`io::ErrorKind::AddrInUse`]: the node asks for another port. After any other error it asks again later.
    fn bind_datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn DatagramSocket>>> {
        let _ = address;
        future::ready(Err(io::ErrorKind::Unsupported.into())).boxed()
    }

    /// The addresses of a host's name in `bootstrap_peers`, the best first. Asked for every dial. The default knows no
    /// names.
    ///
    /// # Errors
    /// Their text is the reason in [`AviEvent::BootstrapFailed`](crate::AviEvent::BootstrapFailed).
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let _ = name;
        future::ready(Err(io::Error::new(io::ErrorKind::Unsupported, "this network has no names"))).boxed()
    }

    /// The other nodes on this network and their addresses, as mDNS reports them on a real network. Called if
    /// `enable_mdns` is set. They are hints: the node trusts none of them before a handshake. The default yields none.
    fn neighbours(&self) -> BoxStream<'static, (PeerId, SocketAddr)> {
        stream::pending().boxed()
    }
}

/// Whether a connection could not be accepted because its peer has gone, or the system refuses it: no other is concerned.
pub(crate) fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, PermissionDenied};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | PermissionDenied)
}

/// Accepts connections on one address. Dropping it frees the address.
pub trait Listener: Send + Unpin + 'static {
    /// The address, with the port that was chosen.
    fn local_addr(&self) -> SocketAddr;

    /// Polls for the next connection and the address that it comes from.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`] if the system has no room for another connection now, such as a file descriptor: it
    /// is counted and told, and the listener goes on, with a pause of its own. Any other error ends the listener.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxByteStream, SocketAddr)>>;
}

/// Sends and receives datagrams, each of which may be lost, come twice, or overtake another. Dropping it frees the address.
pub trait DatagramSocket: Send + 'static {
    /// The address, with the port that was chosen.
    fn local_addr(&self) -> SocketAddr;

    /// Sends a datagram at once, without waiting.
    ///
    /// # Errors
    /// The datagram is not sent, for example with [`io::ErrorKind::WouldBlock`] if there is no room. The socket stays as
    /// it is.
    fn try_send_to(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()>;

    /// Polls for the next datagram: its length, and the address that it says it comes from. What does not fit into
    /// `buffer` is cut off.
    ///
    /// # Errors
    /// An error that concerns the way of an earlier datagram, such as [`io::ErrorKind::ConnectionRefused`], is ignored. Any
    /// other one ends the socket.
    fn poll_recv_from(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>>;
}

/// Which network a node runs on.
#[derive(Clone)]
pub enum Network {
    /// The operating system's TCP on tokio, with mDNS. It needs a tokio reactor wherever the node's task is polled, and
    /// in [`Platform::enter`](crate::Platform::enter).
    Tcp,
    /// The operating system's TCP through another transport, with mDNS. If the transport listens on a wildcard, the
    /// node reports the addresses of this machine in its place.
    System(Arc<dyn Transport>),
    /// Another network. Its [`Transport::neighbours`] replaces mDNS.
    Custom(Arc<dyn Transport>),
}

impl Network {
    /// The addresses of a host's name. On [`Network::Tcp`] it needs tokio's runtime when it is polled.
    pub(crate) fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        match self {
            Self::Tcp => {
                let name = name.to_owned();
                async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|socket| socket.ip()).collect()) }.boxed()
            }
            Self::System(transport) | Self::Custom(transport) => transport.resolve(name),
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "Tcp",
            Self::System(_) => "System(..)",
            Self::Custom(_) => "Custom(..)",
        })
    }
}
