//! The network below a node, as a program may replace it: reliable byte streams between socket addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};
use futures::stream::{self, BoxStream, StreamExt};

use crate::id::PeerId;

/// Both directions of a connection. Dropping it without closing it resets it.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// A [`ByteStream`] of any kind.
pub type BoxByteStream = Pin<Box<dyn ByteStream>>;

/// Makes and accepts connections. Encryption, multiplexing and identities are the node's, above it.
pub trait Transport: Send + Sync + 'static {
    /// Listens on an address. Port 0 lets the transport choose one.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] and the like make the node's start fail.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// Connects to an address.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxByteStream>>;

    /// Who else is on this network and where, as mDNS tells on a real one; asked if `enable_mdns` is set. Hints: the
    /// node believes none of them before a handshake. By default there are none.
    fn neighbours(&self) -> BoxStream<'static, (PeerId, SocketAddr)> {
        stream::pending().boxed()
    }
}

/// Accepts connections on one address; dropping it frees the address.
pub trait Listener: Send + Unpin + 'static {
    /// The address, with the port that was chosen.
    fn local_addr(&self) -> SocketAddr;

    /// The next connection and the address it comes from. An error ends the listener.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxByteStream, SocketAddr)>>;
}

/// Which network a node runs on.
#[derive(Clone)]
pub enum Network {
    /// The operating system's TCP on tokio, with mDNS. Needs a tokio reactor wherever the node's task is polled, and in
    /// [`Platform::enter`](crate::Platform::enter).
    Tcp,
    /// The operating system's TCP by a transport of its own, with mDNS. If the transport listens on a wildcard, the node
    /// tells the addresses of this machine in its place.
    System(Arc<dyn Transport>),
    /// Another one, whose [`Transport::neighbours`] stand for mDNS.
    Custom(Arc<dyn Transport>),
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
