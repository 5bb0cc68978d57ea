//! What the tests share: nodes on loopback, and waiting for an event with a deadline.
#![allow(dead_code)]

use std::net::Ipv4Addr;
use std::time::Duration;

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pHandle, EventReceiver, PeerId, StreamId};

/// How long a test waits for an event before it fails. Generous: machines are shared.
pub const WITHIN: Duration = Duration::from_secs(30);

/// A node on loopback that finds nobody by itself.
pub fn config() -> AviP2pConfig {
    AviP2pConfig {
        listen_ips: vec![Ipv4Addr::LOCALHOST.into()],
        enable_mdns: false,
        enable_kad: false,
        ..AviP2pConfig::default()
    }
}

pub struct Node {
    pub node: AviP2p,
    pub handle: AviP2pHandle,
    pub events: EventReceiver,
    pub id: PeerId,
    pub address: String,
}

impl Node {
    pub async fn start(config: AviP2pConfig) -> Self {
        let (node, mut events) = AviP2p::start(config).await.expect("the node starts");
        let handle = node.handle();
        let id = node.local_peer_id().clone();
        let address = wait(&mut events, "Started", |event| match event {
            AviEvent::Started { listen_addresses, .. } => listen_addresses.first().cloned(),
            _ => None,
        })
        .await;
        Self { node, handle, events, id, address }
    }

    /// A node that connects to `peers`, and is connected when this returns.
    pub async fn connected_to(mut config: AviP2pConfig, peers: &mut [&mut Node]) -> Self {
        config.bootstrap_peers.extend(peers.iter().map(|peer| peer.address.clone()));
        let mut node = Self::start(config).await;
        let id = node.id.clone();
        for _ in 0..peers.len() {
            node.wait("PeerConnected", |event| matches!(event, AviEvent::PeerConnected { .. }).then_some(())).await;
        }
        for peer in peers {
            peer.wait("PeerConnected", |event| match event {
                AviEvent::PeerConnected { peer_id, .. } => (*peer_id == id).then_some(()),
                _ => None,
            })
            .await;
        }
        node
    }

    /// Reads events until `pick` takes one; those before it are thrown away.
    pub async fn wait<T>(&mut self, what: &str, pick: impl FnMut(&AviEvent) -> Option<T>) -> T {
        wait(&mut self.events, what, pick).await
    }

    pub async fn wait_message(&mut self) -> (PeerId, Vec<u8>) {
        self.wait("Message", |event| match event {
            AviEvent::Message { from, data, .. } => Some((from.clone(), data.clone())),
            _ => None,
        })
        .await
    }

    /// Waits until this node knows that `peer` subscribes to something.
    pub async fn wait_subscriber_of(&self, peer: &PeerId) {
        let deadline = tokio::time::Instant::now() + WITHIN;
        while self.handle.peer_info(peer).await.expect("a connected peer is known").topics.is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "{peer} did not subscribe");
            tokio::task::yield_now().await;
        }
    }

    /// Answers the next request for a stream.
    pub async fn accept(&mut self) -> StreamId {
        let stream = self.wait_request().await;
        self.handle.accept_audio_stream(stream).await.expect("an offered stream can be accepted");
        stream
    }

    pub async fn wait_request(&mut self) -> StreamId {
        self.wait("AudioStreamRequested", |event| match event {
            AviEvent::AudioStreamRequested { stream_id, .. } => Some(*stream_id),
            _ => None,
        })
        .await
    }

    pub async fn wait_closed(&mut self, stream: StreamId) -> avi_p2p::StreamCloseReason {
        self.wait("AudioStreamClosed", |event| match event {
            AviEvent::AudioStreamClosed { stream_id, reason, .. } if *stream_id == stream => Some(reason.clone()),
            _ => None,
        })
        .await
    }
}

/// Opens a call from `caller` to `callee`: the stream's name at either end.
pub async fn call(caller: &mut Node, callee: &mut Node) -> (StreamId, StreamId) {
    let near = caller.handle.request_stream(callee.id.clone()).await.expect("a connected peer can be asked");
    let far = callee.accept().await;
    caller
        .wait("AudioStreamAccepted", |event| match event {
            AviEvent::AudioStreamAccepted { stream_id, .. } => (*stream_id == near).then_some(()),
            _ => None,
        })
        .await;
    (near, far)
}

pub async fn wait<T>(events: &mut EventReceiver, what: &str, mut pick: impl FnMut(&AviEvent) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(WITHIN, async {
        loop {
            let event = events.recv().await.unwrap_or_else(|| panic!("the node stopped before {what}"));
            if let Some(found) = pick(&event) {
                return found;
            }
            if seen.len() < 32 {
                seen.push(event);
            }
        }
    });
    match found.await {
        Ok(found) => found,
        Err(_) => panic!("no {what} within {WITHIN:?}; before: {seen:#?}"),
    }
}
