//! A node of this library, as an application uses it: through its public API alone, from tokio.

use std::marker::PhantomData;
use std::time::Duration;

use avi_p2p::{
    AviEvent, AviP2p, AviP2pConfig, AviP2pError, AviP2pHandle, EventReceiver, Limits, OnCongestion, PeerId,
    RecorderOptions, StreamId, StreamOptions,
};

use crate::ear::{Ear, Kind, Many};
use crate::process::{Outcome, attend};
use crate::side::{Call, MAX_CALLS, RETRY, Side, TOPIC, listen_ip};

/// How the node gets its thread and its sockets.
pub trait Way: Send + Sync + 'static {
    /// What its calls do when there is no room. Whatever is refused is sent again: nothing may be lost.
    const ON_CONGESTION: OnCongestion = OnCongestion::Refuse;

    /// Queues as deep as the plain program's, by libp2p's default, may be.
    fn limits() -> Limits {
        Limits { peer_queue_messages: 4096, ..Limits::default() }
    }

    /// Nothing is recorded, as usual.
    fn recorder() -> Option<RecorderOptions> {
        None
    }

    fn start(config: AviP2pConfig) -> impl Future<Output = Outcome<(AviP2p, EventReceiver)>> + Send;
}

/// The node has a thread of its own: what the library does unless told otherwise.
pub enum Own {}

impl Way for Own {
    async fn start(config: AviP2pConfig) -> Outcome<(AviP2p, EventReceiver)> {
        Ok(AviP2p::start(config).await?)
    }
}

/// The same, and what goes into its engine is recorded in memory.
#[allow(dead_code, reason = "another benchmark includes this file, and records nothing")]
pub enum Recorded {}

impl Way for Recorded {
    fn recorder() -> Option<RecorderOptions> {
        Some(RecorderOptions::default())
    }

    async fn start(config: AviP2pConfig) -> Outcome<(AviP2p, EventReceiver)> {
        Ok(AviP2p::start(config).await?)
    }
}

pub struct Ours<W> {
    way: PhantomData<W>,
    /// Its end would end the node.
    _node: AviP2p,
    handle: AviP2pHandle,
    /// `None` when a task reads them.
    events: Option<EventReceiver>,
    peers: Vec<PeerId>,
    address: String,
}

impl<W: Way> Ours<W> {
    async fn start(bootstrap_peers: Vec<String>) -> Outcome<Self> {
        let config = AviP2pConfig {
            listen_ips: vec![listen_ip()?.into()],
            // The plain program has no discovery either: a client and its servers are a star.
            enable_mdns: false,
            enable_kad: false,
            max_audio_streams: MAX_CALLS,
            bootstrap_peers,
            limits: W::limits(),
            recorder: W::recorder(),
            ..AviP2pConfig::default()
        };
        let (node, mut events) = W::start(config).await?;
        let address = loop {
            match events.recv().await.ok_or("the node has stopped")? {
                AviEvent::Started { listen_addresses, .. } => {
                    break listen_addresses.into_iter().next().ok_or("the node does not listen")?;
                }
                _ => continue,
            }
        };
        let handle = node.handle();
        Ok(Self { way: PhantomData, _node: node, handle, events: Some(events), peers: Vec::new(), address })
    }

    fn events(&mut self) -> Outcome<&mut EventReceiver> {
        Ok(self.events.as_mut().ok_or("a task reads the events")?)
    }
}

impl<W: Way> Side for Ours<W> {
    type Call = OurCall;

    async fn serve(ear: Ear, echo: bool) -> Outcome<Self> {
        let mut node = Self::start(Vec::new()).await?;
        node.handle.subscribe(TOPIC).await?;
        if let Some(events) = node.events.take() {
            attend(listen(node.handle.clone(), events, ear, echo));
        }
        Ok(node)
    }

    async fn connect(addresses: Vec<String>) -> Outcome<Self> {
        let wanted = addresses.len();
        let mut node = Self::start(addresses).await?;
        while node.peers.len() < wanted {
            if let AviEvent::PeerConnected { peer_id, .. } =
                node.events()?.recv().await.ok_or("the node has stopped")?
            {
                node.peers.push(peer_id);
            }
        }
        for peer in &node.peers {
            while node.handle.peer_info(peer).await?.topics.is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        Ok(node)
    }

    async fn greet(address: String, data: Vec<u8>) -> Outcome<Self> {
        let node = Self::start(vec![address]).await?;
        node.publish(data).await?;
        Ok(node)
    }

    fn address(&self) -> &str {
        &self.address
    }

    async fn call(&mut self) -> Outcome<OurCall> {
        let peer = self.peers.first().ok_or("nobody is connected")?.clone();
        let options = StreamOptions { on_congestion: W::ON_CONGESTION, ..StreamOptions::default() };
        let stream = self.handle.request_stream_with(peer, options).await?;
        loop {
            match self.events()?.recv().await.ok_or("the node has stopped")? {
                AviEvent::AudioStreamAccepted { stream_id, .. } if stream_id == stream => break,
                AviEvent::AudioStreamClosed { reason, .. } => return Err(format!("no call: {reason:?}").into()),
                _ => {}
            }
        }
        Ok(OurCall { handle: self.handle.clone(), stream })
    }

    async fn echo(&mut self, call: &mut OurCall, frame: Vec<u8>) -> Outcome<Vec<u8>> {
        call.send(frame).await?;
        loop {
            match self.events()?.recv().await.ok_or("the node has stopped")? {
                AviEvent::AudioData { data, .. } => return Ok(data),
                _ => continue,
            }
        }
    }

    async fn publish(&self, data: Vec<u8>) -> Outcome {
        loop {
            match self.handle.publish(TOPIC, data.clone()).await {
                Err(AviP2pError::Congested(_)) => tokio::time::sleep(RETRY).await,
                other => return Ok(other?),
            }
        }
    }

    async fn dropped(&mut self) -> Outcome<Option<u64>> {
        let stats = self.handle.stats().await?;
        let mut told = 0;
        while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, self.events()?.recv()).await {
            if let AviEvent::PeerSlow { dropped, .. } = event {
                told += dropped;
            }
        }
        if told < stats.slow_peer_drops {
            return Err(format!("{} messages dropped, {told} told", stats.slow_peer_drops).into());
        }
        // What no queue had room for was dropped from each, and published again.
        let again = stats.publishes_refused * self.peers.len() as u64;
        Ok(Some(stats.slow_peer_drops.saturating_sub(again)))
    }
}

async fn listen(handle: AviP2pHandle, mut events: EventReceiver, ear: Ear, echo: bool) -> Outcome {
    let (mut calls, mut authors) = (Many::new(ear.clone(), Kind::Frame), Many::new(ear.clone(), Kind::Message));
    while let Some(event) = events.recv().await {
        match event {
            AviEvent::AudioStreamRequested { stream_id, .. } => handle.accept_audio_stream(stream_id).await?,
            AviEvent::AudioData { stream_id, data, .. } => {
                calls.hear(stream_id, &data);
                if echo {
                    handle.send_audio(stream_id, data).await?;
                }
            }
            AviEvent::Message { from, data, .. } => authors.hear(from, &data),
            AviEvent::Lagged { messages, audio_frames, .. } => {
                ear.miss(messages);
                eprintln!("the receiving application lost {audio_frames} frames and {messages} messages");
            }
            _ => {}
        }
    }
    Ok(())
}

pub struct OurCall {
    handle: AviP2pHandle,
    stream: StreamId,
}

impl Call for OurCall {
    async fn send(&mut self, frame: Vec<u8>) -> Outcome {
        loop {
            match self.handle.send_audio(self.stream, frame.clone()).await {
                Err(AviP2pError::Congested(_)) => tokio::time::sleep(RETRY).await,
                other => return Ok(other?),
            }
        }
    }
}
