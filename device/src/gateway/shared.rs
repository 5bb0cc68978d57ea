//! What do a device and its gateway share? A node, its subscriptions, and their end.

use std::sync::PoisonError;

use super::{Gateway, GatewayConfig};
use crate::device::{AviDevice, Inner};

impl AviDevice {
    /// The gateway of `can_gateway_embedded`. The device starts without it, as in AVI 0.5, if its port is taken.
    pub(crate) async fn start_embedded_gateway(&self) {
        match Gateway::start(self, GatewayConfig { plain: true, ..GatewayConfig::default() }).await {
            Ok(gateway) => *self.inner.embedded.lock().unwrap_or_else(PoisonError::into_inner) = Some(gateway),
            Err(error) => tracing::error!(%error, "can_gateway_embedded: small devices cannot join"),
        }
    }

    pub(crate) async fn end_embedded_gateway(&self) {
        let gateway = self.inner.embedded.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(gateway) = gateway {
            // It may have ended.
            let _ = gateway.shutdown().await;
        }
    }
}

impl Inner {
    /// Subscribes for small devices, beside the handlers of the topic.
    pub(super) async fn subscribe_for_gateway(&self, topic: &str) -> Result<(), avi_p2p::AviP2pError> {
        let _subscribing = self.subscribing.lock().await;
        self.gateway.hold(topic);
        let subscribed = self.node.subscribe(topic).await;
        if subscribed.is_err() {
            self.gateway.release(topic);
        }
        subscribed
    }

    /// Ends that. Handlers of the topic keep the node subscribed.
    pub(super) async fn unsubscribe_for_gateway(&self, topic: &str) {
        let _subscribing = self.subscribing.lock().await;
        if self.gateway.release(topic) && !self.topics.has(topic) {
            // The node may have ended.
            let _ = self.node.unsubscribe(topic).await;
        }
    }
}
