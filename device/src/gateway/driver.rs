//! Who carries out what the gateway's engine decides? One task: it moves datagrams and time, and decides nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Weak;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use avi_p2p::{AudioItem, AviP2pError, AviP2pHandle, PeerId, Playout, StreamId, StreamOptions};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::engine::{GatewayEngine, GatewayStats, MAX_DATAGRAM_BYTES, Output, Time};
use super::link::Told;
use crate::device::Inner;

/// One longer than a datagram may be is told from one that is as long.
const BUFFER_BYTES: usize = 2 * MAX_DATAGRAM_BYTES;
/// Frames of all streams that may wait for the task. Those beyond wait in the node, which drops the oldest.
const MAX_FRAMES: usize = 64;
/// The pause after the socket failed to read.
const PAUSE: Duration = Duration::from_millis(100);

/// What the application asks of a gateway.
#[derive(Debug)]
pub(super) enum Ask {
    Stats(oneshot::Sender<GatewayStats>),
    Shutdown(oneshot::Sender<()>),
}

/// A frame of a stream, or its end.
type Heard = (StreamId, Option<Vec<u8>>);

/// The task of a gateway.
pub(super) struct Driver {
    engine: GatewayEngine,
    socket: UdpSocket,
    node: AviP2pHandle,
    device: Weak<Inner>,
    told: mpsc::Receiver<Told>,
    asks: mpsc::Receiver<Ask>,
    heard: mpsc::Receiver<Heard>,
    hears: mpsc::Sender<Heard>,
    readers: JoinSet<()>,
    started: Instant,
}

/// What a turn begins with.
enum Event {
    Datagram(io::Result<(usize, SocketAddr)>),
    Told(Option<Told>),
    Heard(Option<Heard>),
    Asked(Option<Ask>),
    Deadline,
}

impl Driver {
    pub(super) fn new(
        engine: GatewayEngine,
        socket: UdpSocket,
        node: AviP2pHandle,
        device: Weak<Inner>,
        told: mpsc::Receiver<Told>,
        asks: mpsc::Receiver<Ask>,
    ) -> Self {
        let (hears, heard) = mpsc::channel(MAX_FRAMES);
        let (readers, started) = (JoinSet::new(), Instant::now());
        Self { engine, socket, node, device, told, asks, heard, hears, readers, started }
    }

    /// Runs until the application ends it, or the device ends.
    pub(super) async fn run(mut self) {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut answer = None;
        loop {
            self.carry_out().await;
            match self.next(&mut buffer).await {
                Event::Datagram(Ok((len, from))) => {
                    // A truncated datagram is as long as the buffer: longer than one may be.
                    self.engine.handle_datagram(self.time(), from, &buffer[..len]);
                }
                Event::Datagram(Err(error)) => {
                    tracing::debug!(%error, "the gateway's socket failed to read");
                    tokio::time::sleep(PAUSE).await;
                }
                Event::Told(Some(told)) => self.handle_told(told).await,
                Event::Heard(Some((stream, Some(data)))) => self.engine.handle_audio(self.time(), stream.0, &data),
                Event::Heard(Some((stream, None))) => self.engine.handle_stream_closed(self.time(), stream.0),
                Event::Asked(Some(Ask::Stats(to))) => drop(to.send(self.stats())),
                Event::Asked(Some(Ask::Shutdown(done))) => {
                    answer = Some(done);
                    break;
                }
                Event::Deadline => self.engine.handle_deadline(self.time()),
                // The device or the application's handle is gone.
                Event::Told(None) | Event::Asked(None) | Event::Heard(None) => break,
            }
            while self.readers.try_join_next().is_some() {}
        }
        self.engine.shutdown(self.time());
        self.carry_out().await;
        // The port is free when the caller hears of the end.
        drop(self);
        if let Some(answer) = answer {
            // Who asked may have given up.
            let _ = answer.send(());
        }
    }

    async fn next(&mut self, buffer: &mut [u8]) -> Event {
        let deadline = self.engine.next_deadline().and_then(|deadline| self.started.checked_add(deadline));
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            datagram = self.socket.recv_from(buffer) => Event::Datagram(datagram),
            told = self.told.recv() => Event::Told(told),
            heard = self.heard.recv() => Event::Heard(heard),
            asked = self.asks.recv() => Event::Asked(asked),
            () = timer => Event::Deadline,
        }
    }

    fn time(&self) -> Time {
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Time { now: self.started.elapsed(), unix_s }
    }

    fn stats(&self) -> GatewayStats {
        let mut stats = self.engine.stats();
        stats.events_dropped = self.device.upgrade().map_or(0, |device| device.gateway.dropped());
        stats
    }

    async fn handle_told(&mut self, told: Told) {
        let time = self.time();
        match told {
            Told::Message { topic, data } => self.engine.handle_message(time, &topic, &data),
            Told::Accepted { stream } => self.engine.handle_stream_accepted(time, stream.0),
            Told::Offered { peer, stream, label } => {
                // Before anybody can accept it, so that no frame comes before.
                if self.read(stream).await.is_ok() {
                    self.engine.handle_stream_offered(time, stream.0, peer.as_str(), &label);
                }
            }
        }
    }

    /// Reads the audio of a stream in a task of its own.
    async fn read(&mut self, stream: StreamId) -> Result<(), AviP2pError> {
        let mut audio = self.node.audio_reader(stream, Playout::Raw).await?;
        let hears = self.hears.clone();
        self.readers.spawn(async move {
            while let Some(item) = audio.recv().await {
                let AudioItem::Frame(frame) = item else { continue };
                if hears.send((stream, Some(frame.data))).await.is_err() {
                    return;
                }
            }
            // The gateway may have ended.
            let _ = hears.send((stream, None)).await;
        });
        Ok(())
    }

    /// Does what the engine wants, until it wants nothing more.
    async fn carry_out(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send { to, datagram } => self.send(to, &datagram),
                Output::Subscribe { topic } => {
                    let is_held = self.subscribe(&topic).await;
                    self.engine.handle_subscribed(self.time(), &topic, is_held);
                }
                Output::Unsubscribe { topic } => {
                    if let Some(device) = self.device.upgrade() {
                        device.unsubscribe_for_gateway(&topic).await;
                    }
                }
                Output::Publish { device, topic, data } => {
                    if let Err(error) = self.node.publish(&topic, data).await {
                        tracing::debug!(device, topic, %error, "the mesh does not take a small device's message");
                        self.engine.handle_refused(self.time(), device);
                    }
                }
                Output::OpenStream { request, peer, reason } => {
                    let opened = self.open_stream(&peer, reason).await;
                    self.engine.handle_stream_opened(self.time(), request, opened);
                }
                Output::AcceptStream { stream } => log(self.node.accept_audio_stream(StreamId(stream)).await),
                Output::RejectStream { stream, reason } => {
                    log(self.node.reject_audio_stream(StreamId(stream), reason).await);
                }
                // The path drops what it cannot carry, and the other end sees the gap.
                Output::SendAudio { stream, data } => log(self.node.send_audio(StreamId(stream), data).await),
                Output::CloseStream { stream } => log(self.node.close_audio_stream(StreamId(stream)).await),
                Output::SetContext { path, value } => {
                    let written = self.node.context().set(&path, value).await;
                    self.written(&path, written);
                }
                Output::ReplaceContext { path, value } => {
                    let written = self.node.context().replace(&path, value).await;
                    self.written(&path, written);
                }
                Output::RemoveContext { path } => {
                    let written = self.node.context().remove(&path).await;
                    self.written(&path, written);
                }
            }
        }
    }

    /// A node without a context is no failure.
    fn written(&mut self, path: &str, written: Result<(), AviP2pError>) {
        if let Err(error) = written
            && !matches!(error, AviP2pError::Disabled(_))
        {
            tracing::warn!(path, %error, "the shared context does not take what a small device says");
            self.engine.handle_context_refused();
        }
    }

    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        if let Err(error) = self.socket.try_send_to(datagram, to) {
            tracing::debug!(%to, %error, "a datagram to a small device is lost");
            self.engine.handle_send_failed();
        }
    }

    async fn subscribe(&mut self, topic: &str) -> bool {
        let Some(device) = self.device.upgrade() else { return false };
        let subscribed = device.subscribe_for_gateway(topic).await;
        if let Err(error) = &subscribed {
            tracing::warn!(topic, %error, "the node does not subscribe for a small device");
        }
        subscribed.is_ok()
    }

    /// Asks a peer for a stream, and reads it from its beginning.
    async fn open_stream(&mut self, peer: &str, reason: String) -> Option<u64> {
        let options = StreamOptions { label: Some(reason), ..StreamOptions::default() };
        let opened = match self.node.request_stream_with(PeerId::new(peer), options).await {
            Ok(stream) => self.read(stream).await.map(|()| stream),
            Err(error) => Err(error),
        };
        if let Err(error) = &opened {
            tracing::info!(peer, %error, "a small device's stream cannot be opened");
        }
        opened.ok().map(|stream| stream.0)
    }
}

/// What fails on a stream that has just ended changes nothing: its end is told in any case.
fn log(done: Result<(), AviP2pError>) {
    if let Err(error) = done {
        tracing::debug!(%error, "a small device's stream");
    }
}
