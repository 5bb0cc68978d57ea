//! A network in memory: reliable byte streams and datagrams between socket addresses, in one process, without a reactor.
//!
//! The including module has the crate's `transport` module in scope.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::future::{BoxFuture, ready};
use futures::io::{AsyncRead, AsyncWrite};
use futures::{FutureExt, StreamExt};

use super::transport::{BoxByteStream, DatagramSocket, Listener, Transport};

/// How many bytes may be under way in a direction.
const PIPE_BYTES: usize = 256 * 1024;
/// How many datagrams wait for a reader.
const INBOX: usize = 256;
/// The first port that is given to whoever leaves it open.
const FIRST_PORT: u16 = 40_000;

/// A network. Its clones are the same network.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Ports>>);

#[derive(Default)]
struct Ports {
    listening: BTreeMap<SocketAddr, UnboundedSender<(BoxByteStream, SocketAddr)>>,
    sockets: BTreeMap<SocketAddr, Inbox>,
    given: u16,
    cut: Arc<AtomicBool>,
    /// The dialling ends' view of what is connected.
    dialled: Vec<(Arc<AtomicBool>, Arc<Mutex<Pipe>>)>,
    names: BTreeMap<String, Vec<IpAddr>>,
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

    /// Every connection fails for the end that dialled it, and for no other: the accepting end is not told.
    #[allow(dead_code)] // Not every test that includes this needs it.
    pub fn lose_dialled_ends(&self) {
        for (lost, incoming) in self.ports().dialled.drain(..) {
            lost.store(true, Ordering::SeqCst);
            lock(&incoming).wake();
        }
    }

    /// Gives a host's name these addresses, in place of those that it had.
    #[allow(dead_code)] // Not every test that includes this needs it.
    pub fn set_name(&self, name: &str, ips: &[IpAddr]) {
        self.ports().names.insert(name.to_owned(), ips.to_vec());
    }

    fn try_bind(&self, mut address: SocketAddr) -> io::Result<Box<dyn DatagramSocket>> {
        let mut ports = self.ports();
        if address.port() == 0 {
            address.set_port(ports.give());
        }
        if ports.sockets.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        ports.sockets.insert(address, Inbox::default());
        Ok(Box::new(Datagrams { network: self.clone(), address }))
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

    fn try_connect(&self, address: SocketAddr) -> io::Result<BoxByteStream> {
        let mut ports = self.ports();
        let from = SocketAddr::new(address.ip(), ports.give());
        let listener = ports.listening.get(&address).ok_or(io::ErrorKind::ConnectionRefused)?;
        let (here, there) = pair(&ports.cut);
        let dialled = (here.lost.clone(), here.incoming.clone());
        listener.unbounded_send((Box::pin(there), from)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        ports.dialled.push(dialled);
        Ok(Box::pin(here))
    }
}

impl Transport for Memory {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        ready(self.try_listen(address)).boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxByteStream>> {
        ready(self.try_connect(address)).boxed()
    }

    fn bind_datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn DatagramSocket>>> {
        ready(self.try_bind(address)).boxed()
    }

    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let found = self.ports().names.get(name).cloned();
        ready(found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))).boxed()
    }
}

struct Bound {
    network: Memory,
    address: SocketAddr,
    accepted: UnboundedReceiver<(BoxByteStream, SocketAddr)>,
}

impl Listener for Bound {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxByteStream, SocketAddr)>> {
        self.accepted.poll_next_unpin(cx).map(|accepted| accepted.ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.network.ports().listening.remove(&self.address);
    }
}

/// Datagrams that were not read yet; those beyond [`INBOX`] are lost.
#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<(Vec<u8>, SocketAddr)>,
    reader: Option<Waker>,
}

struct Datagrams {
    network: Memory,
    address: SocketAddr,
}

impl DatagramSocket for Datagrams {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn try_send_to(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let mut ports = self.network.ports();
        let is_cut = ports.cut.load(Ordering::SeqCst);
        let inbox = ports.sockets.get_mut(&to).filter(|inbox| !is_cut && inbox.datagrams.len() < INBOX);
        let reader = inbox.and_then(|inbox| {
            inbox.datagrams.push_back((datagram.to_vec(), self.address));
            inbox.reader.take()
        });
        drop(ports);
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_recv_from(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut ports = self.network.ports();
        let inbox = ports.sockets.get_mut(&self.address).ok_or(io::ErrorKind::NotConnected)?;
        let Some((datagram, from)) = inbox.datagrams.pop_front() else {
            inbox.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let read = datagram.len().min(buffer.len());
        buffer[..read].copy_from_slice(&datagram[..read]);
        Poll::Ready(Ok((read, from)))
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.network.ports().sockets.remove(&self.address);
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
    /// This end has lost the connection, and the other does not know.
    lost: Arc<AtomicBool>,
}

fn pair(cut: &Arc<AtomicBool>) -> (End, End) {
    let (one, other) = (Arc::<Mutex<Pipe>>::default(), Arc::<Mutex<Pipe>>::default());
    let end = |incoming: &Arc<_>, outgoing: &Arc<_>| End {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        cut: cut.clone(),
        lost: Arc::default(),
    };
    (end(&one, &other), end(&other, &one))
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
        if pipe.reset || self.lost.load(Ordering::SeqCst) {
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
        if pipe.reset || pipe.closed || self.lost.load(Ordering::SeqCst) {
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
        if !self.lost.load(Ordering::SeqCst) {
            let mut pipe = lock(&self.outgoing);
            pipe.closed = true;
            pipe.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.lost.load(Ordering::SeqCst) {
            return;
        }
        let mut outgoing = lock(&self.outgoing);
        outgoing.reset |= !outgoing.closed;
        outgoing.wake();
        drop(outgoing);
        let mut incoming = lock(&self.incoming);
        incoming.reset = true;
        incoming.wake();
    }
}
