//! A network in memory: reliable byte streams between socket addresses, in one process, without a reactor.
//!
//! The including module has the crate's `transport` module in scope.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::future::{BoxFuture, ready};
use futures::io::{AsyncRead, AsyncWrite};
use futures::{FutureExt, StreamExt};

use super::transport::{BoxStream, Listener, Transport};

/// How many bytes may be under way in a direction.
const PIPE_BYTES: usize = 256 * 1024;
/// The first port that is given to whoever leaves it open.
const FIRST_PORT: u16 = 40_000;

/// A network. Its clones are the same network.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Ports>>);

#[derive(Default)]
struct Ports {
    listening: BTreeMap<SocketAddr, UnboundedSender<(BoxStream, SocketAddr)>>,
    given: u16,
    cut: Arc<AtomicBool>,
}

impl Ports {
    fn give(&mut self) -> u16 {
        self.given += 1;
        FIRST_PORT + self.given
    }
}

impl Memory {
    /// No byte arrives any more, as if all cables were cut: nobody is told.
    pub fn cut(&self) {
        self.ports().cut.store(true, Ordering::SeqCst);
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        lock(&self.0)
    }

    fn try_listen(&self, mut address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let mut ports = self.ports();
        if address.port() == 0 {
            address.set_port(ports.give());
        }
        if ports.listening.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, accepted) = unbounded();
        ports.listening.insert(address, sender);
        Ok(Box::new(Bound { network: self.clone(), address, accepted }))
    }

    fn try_connect(&self, address: SocketAddr) -> io::Result<BoxStream> {
        let mut ports = self.ports();
        let from = SocketAddr::new(address.ip(), ports.give());
        let listener = ports.listening.get(&address).ok_or(io::ErrorKind::ConnectionRefused)?;
        let (here, there) = pair(&ports.cut);
        listener.unbounded_send((Box::pin(there), from)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Box::pin(here))
    }
}

impl Transport for Memory {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        ready(self.try_listen(address)).boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxStream>> {
        ready(self.try_connect(address)).boxed()
    }
}

struct Bound {
    network: Memory,
    address: SocketAddr,
    accepted: UnboundedReceiver<(BoxStream, SocketAddr)>,
}

impl Listener for Bound {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxStream, SocketAddr)>> {
        self.accepted.poll_next_unpin(cx).map(|accepted| accepted.ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.network.ports().listening.remove(&self.address);
    }
}

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    closed: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

/// One end of a connection.
struct End {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
    cut: Arc<AtomicBool>,
}

fn pair(cut: &Arc<AtomicBool>) -> (End, End) {
    let (one, other) = (Arc::<Mutex<Pipe>>::default(), Arc::<Mutex<Pipe>>::default());
    let here = End { incoming: one.clone(), outgoing: other.clone(), cut: cut.clone() };
    (here, End { incoming: other, outgoing: one, cut: cut.clone() })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.cut.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        let mut pipe = lock(&self.incoming);
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.bytes.is_empty() && !pipe.closed {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let read = io::Read::read(&mut pipe.bytes, buffer)?;
        pipe.wake();
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.outgoing);
        if pipe.reset || pipe.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = PIPE_BYTES - pipe.bytes.len();
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let written = room.min(bytes.len());
        pipe.bytes.extend(&bytes[..written]);
        pipe.wake();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.outgoing);
        pipe.closed = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut outgoing = lock(&self.outgoing);
        outgoing.reset |= !outgoing.closed;
        outgoing.wake();
        drop(outgoing);
        let mut incoming = lock(&self.incoming);
        incoming.reset = true;
        incoming.wake();
    }
}
