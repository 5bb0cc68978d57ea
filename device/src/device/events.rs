//! What does a device do with the events of its node?

use std::sync::{Arc, Weak};

use avi_p2p::{AviEvent, EventReceiver, PeerId, StreamId};

use super::handlers::PeerEvent;
use super::{Inner, lock};
use crate::call::Change;
use crate::topics::Message;
use crate::worker::Worker;

/// Reads events until the node ends. It waits for no handler, and does not keep the device alive.
pub(super) async fn run(first: AviEvent, mut events: EventReceiver, device: Weak<Inner>) {
    let mut next = Some(first);
    while let Some(event) = next {
        let Some(inner) = device.upgrade() else { return };
        inner.handle_event(event).await;
        drop(inner);
        next = events.recv().await;
    }
    if let Some(inner) = device.upgrade() {
        inner.end();
    }
}

impl Inner {
    async fn handle_event(self: &Arc<Self>, event: AviEvent) {
        match event {
            AviEvent::Started { listen_addresses, .. } => self.handle_started(listen_addresses),
            AviEvent::ListenAddressesChanged { listen_addresses } => {
                if let Some(addresses) = &mut lock(&self.callbacks).addresses {
                    *addresses = listen_addresses;
                }
            }
            AviEvent::PeerDiscovered { peer_id } => self.tell_of_peer(PeerEvent::Discovered(peer_id)),
            AviEvent::PeerConnected { peer_id, address } => {
                if let Some(adapter) = &self.adapter {
                    adapter.publish_soon();
                }
                self.tell_of_peer(PeerEvent::Connected(peer_id, address));
            }
            AviEvent::PeerDisconnected { peer_id } => {
                self.handle_gone(&peer_id);
                self.tell_of_peer(PeerEvent::Disconnected(peer_id));
            }
            AviEvent::Message { from, topic, data } => {
                #[cfg(feature = "gateway")]
                self.gateway.message(&topic, &data);
                self.topics.deliver(Message { from, topic, data });
            }
            AviEvent::AudioStreamRequested { from, stream_id } => self.handle_offer(from, stream_id),
            AviEvent::AudioStreamAccepted { stream_id, .. } => {
                #[cfg(feature = "gateway")]
                self.gateway.accepted(stream_id);
                self.streams.changed(stream_id, Change::Accepted).await;
            }
            AviEvent::AudioData { stream_id, data, .. } => self.streams.changed(stream_id, Change::Frame(data)).await,
            AviEvent::AudioStreamClosed { stream_id, reason, .. } => {
                self.streams.changed(stream_id, Change::Closed(reason)).await;
            }
            AviEvent::ContextChanged { path, value, .. } => {
                if let Some(adapter) = &self.adapter {
                    adapter.handle_change(&path, value.is_none());
                }
                self.handle_change(&path);
            }
            AviEvent::ContextLagged { changes } => {
                self.counters.events_dropped.add(changes);
                if let Some(adapter) = &self.adapter {
                    adapter.publish_soon();
                }
                self.handle_change("");
            }
            other => self.log(&other),
        }
    }

    /// Handlers hear of the start once the shared context has this device.
    fn handle_started(self: &Arc<Self>, addresses: Vec<String>) {
        let inner = self.clone();
        self.runtime.spawn(async move {
            inner.announce().await;
            let mut callbacks = lock(&inner.callbacks);
            callbacks.addresses = Some(addresses.clone());
            inner.call(callbacks.started.as_ref(), addresses);
        });
    }

    fn handle_offer(self: &Arc<Self>, peer: PeerId, stream: StreamId) {
        let inner = Arc::downgrade(self);
        self.streams.offered(self.node.clone(), peer, stream, move |peer, stream, reason| {
            let Some(inner) = inner.upgrade() else { return false };
            #[cfg(feature = "gateway")]
            if inner.gateway.offered(&peer, stream, &reason) {
                return true;
            }
            let callbacks = lock(&inner.callbacks);
            let asked = callbacks.stream_requested.as_ref();
            inner.call(asked, (peer, stream, reason));
            asked.is_some()
        });
    }

    fn tell_of_peer(&self, event: PeerEvent) {
        let callbacks = lock(&self.callbacks);
        self.call(callbacks.peers.as_ref().filter(|_| callbacks.peer.has(&event)), event);
    }

    /// Gives an item to a handler, if there is one.
    fn call<T: Send + 'static>(&self, handler: Option<&Worker<T>>, item: T) {
        let dropped = handler.map_or(0, |handler| handler.push(item, 0));
        if dropped > 0 {
            self.counters.callbacks_dropped.add(dropped);
            tracing::warn!(dropped, "a handler of the device is slow: its oldest calls are dropped");
        }
    }

    fn log(&self, event: &AviEvent) {
        match event {
            AviEvent::Lagged { messages, audio_frames, lifecycle } => {
                self.counters.events_dropped.add(messages + audio_frames + lifecycle);
                tracing::warn!(messages, audio_frames, lifecycle, "the runtime of the device is too slow for its node");
            }
            AviEvent::NodeFailed { reason } => tracing::error!(reason, "the node has failed"),
            AviEvent::BootstrapFailed { .. }
            | AviEvent::AcceptFailed { .. }
            | AviEvent::DuplicateIdentity { .. }
            | AviEvent::ContextNotSaved { .. }
            | AviEvent::DiscoveryUnavailable { .. } => tracing::warn!(?event, "the node reports a problem"),
            other => tracing::debug!(event = ?other, "an event without a handler"),
        }
    }

    /// The node has ended: handlers do what waits, and end.
    fn end(&self) {
        #[cfg(feature = "gateway")]
        self.gateway.close();
        self.streams.end();
        self.topics.clear();
        *lock(&self.callbacks) = super::Callbacks::default();
    }
}
