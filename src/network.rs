//! What must the network below a node provide? Reliable byte streams between socket addresses. A program may replace it.

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

    /// The other nodes on this network and their addresses, as mDNS reports them on a real network. Called if
    /// `enable_mdns` is set. They are hints: the node trusts none of them before a handshake. The default yields none.
    fn neighbours(&self) -> BoxStream<'static, (PeerId, SocketAddr)> {
        stream::pending().boxed()
    }
}

/// Accepts connections on one address. Dropping it frees the address.
pub trait Listener: Send + Unpin + 'static {
    /// The address, with the port that was chosen.
    fn local_addr(&self) -> SocketAddr;

    /// Polls for the next connection and the address that it comes from. An error ends the listener.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxByteStream, SocketAddr)>>;
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

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "Tcp",
            Self::System(_) => "System(..)",
            Self::Custom(_) => "Custom(..)",
        })
    }
}
