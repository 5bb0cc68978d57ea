//! Nodes whose tasks are polled by hand, over memory in place of a network: what happens on which thread is seen.
//!
//! The including module has `common`, `memory` and the crate's `transport` module in scope.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake};
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pError, EventReceiver, Platform, StreamId, StreamOptions};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};

use super::common::{WITHIN, config};
use super::memory::Memory;
use super::transport::{BoxByteStream, DatagramSocket, Listener, Network, Transport};

/// What happens when somebody is about to do the node's work, after that many other times; once.
type Inside = Arc<Mutex<Option<(usize, Box<dyn FnOnce() + Send>)>>>;

/// What the streams of a node do.
#[derive(Default)]
pub struct Wire {
    written: AtomicUsize,
    /// Bytes of datagrams that were sent.
    sent: AtomicUsize,
    /// The next read panics, or the next write.
    pub read_panics: AtomicBool,
    pub write_panics: AtomicBool,
}

/// The platform of a node: real time, memory, and what its owner wants to happen.
struct Platforms {
    network: Watched,
    epoch: Instant,
    inside: Inside,
}

impl Platforms {
    fn new(network: &Memory, wire: &Arc<Wire>, inside: &Inside) -> Self {
        let network = Watched { network: network.clone(), wire: wire.clone() };
        Self { network, epoch: Instant::now(), inside: inside.clone() }
    }
}

impl Platform for Platforms {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        smol::Timer::at(self.epoch + moment).map(drop).boxed()
    }

    fn network(&self) -> Network {
        Network::Custom(Arc::new(self.network.clone()))
    }

    fn enter(&self, work: &mut dyn FnMut()) {
        let mut inside = self.inside.lock().unwrap();
        let now = match &mut *inside {
            Some((0, _)) => inside.take(),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        drop(inside);
        if let Some((_, first)) = now {
            first();
        }
        work();
    }
}

/// A node, and its task.
pub struct ByHand {
    pub node: AviP2p,
    pub events: EventReceiver,
    pub address: String,
    pub wire: Arc<Wire>,
    task: Option<BoxFuture<'static, ()>>,
    woken: Arc<Woken>,
    inside: Inside,
    heard: Vec<AviEvent>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl ByHand {
    pub fn start(config: AviP2pConfig) -> Self {
        Self::start_on(&Memory::default(), config)
    }

    /// The start of a node whose task is given away.
    pub fn starting(
        config: AviP2pConfig,
        spawn: impl FnOnce(BoxFuture<'static, ()>),
    ) -> impl Future<Output = Result<(AviP2p, EventReceiver), AviP2pError>> {
        AviP2p::start_on(config, Platforms::new(&Memory::default(), &Arc::default(), &Arc::default()), spawn)
    }

    pub fn start_on(network: &Memory, config: AviP2pConfig) -> Self {
        let (inside, wire) = (Inside::default(), Arc::<Wire>::default());
        let platform = Platforms::new(network, &wire, &inside);
        let (give, take) = mpsc::channel();
        let mut starting = Box::pin(AviP2p::start_on(config, platform, move |task| give.send(task).unwrap()));
        assert!(starting.as_mut().now_or_never().is_none());
        let mut task = Some(take.try_recv().expect("it was spawned"));
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let (node, mut events) = until(|| {
            poll(&mut task, &woken);
            starting.as_mut().now_or_never()
        })
        .unwrap();
        let address = until(|| {
            poll(&mut task, &woken);
            match events.try_recv().ok()? {
                AviEvent::Started { listen_addresses, .. } => listen_addresses.first().cloned(),
                other => panic!("{other:?} before Started"),
            }
        });
        let mut node = Self { node, events, address, wire, task, woken, inside, heard: Vec::new() };
        node.settle();
        node
    }

    /// Has this happen when somebody is about to do the node's work the next time.
    pub fn next_work(&mut self, work: impl FnOnce() + Send + 'static) {
        *self.inside.lock().unwrap() = Some((0, Box::new(work)));
    }

    /// Whether the node's task was woken since it was polled last.
    pub fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }

    /// Bytes that were written to the network so far.
    pub fn written(&self) -> usize {
        self.wire.written.load(Ordering::SeqCst)
    }

    /// Bytes that were sent in datagrams so far.
    pub fn sent(&self) -> usize {
        self.wire.sent.load(Ordering::SeqCst)
    }

    /// Polls the node's task until it sleeps, and keeps what it tells. Returns whether it was woken.
    pub fn settle(&mut self) -> bool {
        let was_woken = self.is_woken();
        poll(&mut self.task, &self.woken);
        while let Ok(event) = self.events.try_recv() {
            self.heard.push(event);
        }
        was_woken
    }

    /// Takes the task away, to poll it elsewhere.
    pub fn take_task(&mut self) -> BoxFuture<'static, ()> {
        self.task.take().expect("the node runs")
    }

    /// Whether the node's task has ended.
    pub fn has_ended(&self) -> bool {
        self.task.is_none()
    }

    /// Takes the events of a kind.
    pub fn take(&mut self, is_wanted: impl Fn(&AviEvent) -> bool) -> Vec<AviEvent> {
        self.heard.extract_if(.., |event| is_wanted(event)).collect()
    }

    /// Drops the last owner at the n-th step of the task's next poll. Returns whether the task has ended then, without
    /// being woken by anything else.
    pub fn ends_if_dropped_at(self, step: usize) -> bool {
        let Self { node, mut task, woken, inside, .. } = self;
        at_once(node.handle().subscribe("work for the task")).unwrap();
        *inside.lock().unwrap() = Some((step, Box::new(move || drop(node))));
        poll(&mut task, &woken);
        task.is_none()
    }

    pub fn shut_down(self) -> Result<(), AviP2pError> {
        let Self { node, mut task, woken, .. } = self;
        let mut shutdown = Box::pin(node.shutdown());
        until(|| {
            let result = shutdown.as_mut().now_or_never();
            poll(&mut task, &woken);
            result
        })
    }
}

fn poll(task: &mut Option<BoxFuture<'static, ()>>, woken: &Arc<Woken>) {
    while woken.0.swap(false, Ordering::SeqCst) {
        let Some(running) = task else { return };
        if running.as_mut().poll(&mut Context::from_waker(&woken.clone().into())).is_ready() {
            *task = None;
        }
    }
}

/// What a call answers without waiting for the node's task. It may let other tasks of its executor have a turn.
pub fn at_once<T>(call: impl Future<Output = T>) -> T {
    let mut call = std::pin::pin!(call);
    call.as_mut().now_or_never().or_else(|| call.now_or_never()).expect("it waits for the node's task")
}

/// Tries until there is something.
pub fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::yield_now();
    }
}

/// Two nodes in a call, whose tasks sleep.
pub struct Pair {
    pub near: ByHand,
    pub far: ByHand,
    /// The near one's name of the stream.
    pub stream: StreamId,
}

impl Pair {
    /// The far one subscribes to "bulk".
    pub fn in_a_call(options: StreamOptions) -> Self {
        let network = Memory::default();
        let mut far = ByHand::start_on(&network, config());
        at_once(far.node.handle().subscribe("bulk")).unwrap();
        let bootstrap_peers = vec![far.address.clone()];
        let mut near = ByHand::start_on(&network, AviP2pConfig { bootstrap_peers, ..config() });
        let peer = far.node.local_peer_id().clone();
        let handle = near.node.handle();
        until(|| {
            near.settle();
            far.settle();
            let info = at_once(handle.peer_info(&peer)).ok()?;
            (info.connected && !info.topics.is_empty()).then_some(())
        });
        let stream = at_once(handle.request_stream_with(peer, options)).unwrap();
        until(|| {
            near.settle();
            far.settle();
            for event in far.take(|event| matches!(event, AviEvent::AudioStreamRequested { .. })) {
                let AviEvent::AudioStreamRequested { stream_id, .. } = event else { continue };
                at_once(far.node.handle().accept_audio_stream(stream_id)).unwrap();
            }
            near.take(|event| matches!(event, AviEvent::AudioStreamAccepted { .. })).pop()
        });
        let mut pair = Self { near, far, stream };
        pair.settle();
        pair
    }

    /// Polls both tasks until neither is woken.
    pub fn settle(&mut self) {
        while self.near.settle() | self.far.settle() {}
    }
}

/// Memory whose streams are watched.
#[derive(Clone)]
struct Watched {
    network: Memory,
    wire: Arc<Wire>,
}

impl Transport for Watched {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (listening, wire) = (self.network.listen(address), self.wire.clone());
        async move { Ok(Box::new(WatchedListener(listening.await?, wire)) as Box<dyn Listener>) }.boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxByteStream>> {
        let (connecting, wire) = (self.network.connect(address), self.wire.clone());
        async move { Ok(Box::pin(WatchedStream(connecting.await?, wire)) as BoxByteStream) }.boxed()
    }

    fn bind_datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn DatagramSocket>>> {
        let (binding, wire) = (self.network.bind_datagrams(address), self.wire.clone());
        async move { Ok(Box::new(WatchedSocket(binding.await?, wire)) as Box<dyn DatagramSocket>) }.boxed()
    }
}

struct WatchedSocket(Box<dyn DatagramSocket>, Arc<Wire>);

impl DatagramSocket for WatchedSocket {
    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    fn try_send_to(&mut self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        assert!(!self.1.write_panics.swap(false, Ordering::SeqCst), "a write panics, as told");
        self.0.try_send_to(datagram, to)?;
        self.1.sent.fetch_add(datagram.len(), Ordering::SeqCst);
        Ok(())
    }

    fn poll_recv_from(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.0.poll_recv_from(cx, buffer)
    }
}

struct WatchedListener(Box<dyn Listener>, Arc<Wire>);

impl Listener for WatchedListener {
    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxByteStream, SocketAddr)>> {
        let accepted = std::task::ready!(self.0.poll_accept(cx));
        let watched = |(stream, from)| (Box::pin(WatchedStream(stream, self.1.clone())) as BoxByteStream, from);
        Poll::Ready(accepted.map(watched))
    }
}

struct WatchedStream(BoxByteStream, Arc<Wire>);

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.0.as_mut().poll_read(cx, buffer);
        assert!(!read.is_ready() || !self.1.read_panics.swap(false, Ordering::SeqCst), "a read panics, as told");
        read
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        assert!(!self.1.write_panics.swap(false, Ordering::SeqCst), "a write panics, as told");
        let written = self.0.as_mut().poll_write(cx, bytes);
        if let Poll::Ready(Ok(bytes)) = written {
            self.1.written.fetch_add(bytes, Ordering::SeqCst);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_close(cx)
    }
}
