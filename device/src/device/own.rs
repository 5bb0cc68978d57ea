//! What does a device say of itself in the shared context, and how does that stay there?

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use avi_p2p::PeerId;
use serde_json::{Map, Value};

use super::context::{CAPABILITIES, CORE};
use super::{AviDeviceType, Inner, lock};

/// How long a device waits before it writes its capabilities again, and a core that it is the core.
const RESTORE_AFTER: Duration = Duration::from_secs(1);
/// How long a core that has gone may stay away before another one takes its place.
const CORE_MAY_RETURN: Duration = Duration::from_secs(5);

impl Inner {
    fn capabilities_path(&self) -> String {
        format!("{CAPABILITIES}.{}", self.node.local_peer_id())
    }

    /// Writes what this device is and can do.
    pub(super) async fn announce(&self) {
        self.announce_capabilities().await;
        if self.is_core() {
            self.announce_core().await;
        }
    }

    fn is_core(&self) -> bool {
        self.config.device_type == AviDeviceType::CORE
    }

    async fn announce_core(&self) {
        if let Err(error) = self.node.context().set(CORE, self.node.local_peer_id().as_str()).await {
            tracing::error!(%error, "this core is not in the shared context");
        }
    }

    async fn announce_capabilities(&self) {
        let (context, path) = (self.node.context(), self.capabilities_path());
        if matches!(context.get(&path).await, Ok(Some(there)) if there == self.capabilities) {
            return;
        }
        if let Err(error) = context.replace(&path, self.capabilities.clone()).await {
            tracing::error!(%error, "what this device can do is not in the shared context");
        }
    }

    /// The shared context has changed. If that has removed what this device says of itself, it is written again, after a
    /// while: it may be told so often.
    pub(super) fn handle_change(self: &Arc<Self>, path: &str) {
        let own = self.capabilities_path();
        let concerns = |own: &str| is_at_or_above(path, own) || is_at_or_above(own, path);
        let is_own = concerns(&own) || (self.is_core() && concerns(CORE));
        if is_own && !self.restoring.swap(true, Ordering::Relaxed) {
            let inner = Arc::downgrade(self);
            self.runtime.spawn(async move {
                tokio::time::sleep(RESTORE_AFTER).await;
                let Some(inner) = inner.upgrade() else { return };
                inner.restoring.store(false, Ordering::Relaxed);
                if lock(&inner.owner).is_some() {
                    inner.restore().await;
                }
            });
        }
    }

    /// Writes what is missing. A value that is another one now stays: the application may have written it.
    async fn restore(&self) {
        let (context, path) = (self.node.context(), self.capabilities_path());
        match context.get(&path).await {
            Ok(None) => self.announce_capabilities().await,
            Ok(Some(there)) => {
                if let Some(part) = missing(&there, &self.capabilities)
                    && let Err(error) = context.set(&path, part).await
                {
                    tracing::error!(%error, "what this device can do is not in the shared context");
                }
            }
            Err(_) => {}
        }
        if self.is_core() && matches!(context.get(CORE).await, Ok(None)) {
            self.announce_core().await;
        }
    }

    /// A peer has gone. If it was the core and does not return, this one takes its place, if it is one.
    pub(super) fn handle_gone(self: &Arc<Self>, peer: &PeerId) {
        if !self.is_core() {
            return;
        }
        let (inner, peer) = (Arc::downgrade(self), peer.clone());
        self.runtime.spawn(async move {
            for wait in [Duration::ZERO, CORE_MAY_RETURN] {
                tokio::time::sleep(wait).await;
                let Some(inner) = inner.upgrade() else { return };
                let is_core =
                    matches!(inner.node.context().get(CORE).await, Ok(Some(Value::String(id))) if id == peer.as_str());
                let is_gone = inner.node.connected_peers().await.is_ok_and(|peers| !peers.contains(&peer));
                if !is_core || !is_gone || lock(&inner.owner).is_none() {
                    return;
                }
                if !wait.is_zero() {
                    inner.announce_core().await;
                }
            }
        });
    }

    /// Takes back what this device can do, and that it is the core.
    pub(super) async fn withdraw(&self) {
        let context = self.node.context();
        let is_core =
            matches!(context.get(CORE).await, Ok(Some(Value::String(id))) if id == self.node.local_peer_id().as_str());
        for path in [Some(self.capabilities_path()), is_core.then(|| CORE.to_owned())].into_iter().flatten() {
            if let Err(error) = context.remove(&path).await {
                tracing::warn!(%error, path, "a device that leaves stays in the shared context");
            }
        }
    }
}

/// Whether a path is another one, or above it.
fn is_at_or_above(path: &str, other: &str) -> bool {
    other.strip_prefix(path).is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('.'))
}

/// The part of `own` that `there` has no value for.
fn missing(there: &Value, own: &Value) -> Option<Value> {
    let Value::Object(own) = own else { return None };
    let Value::Object(there) = there else { return Some(Value::Object(own.clone())) };
    let part = own.iter().filter_map(|(key, own)| {
        let missing = there.get(key).map_or_else(|| Some(own.clone()), |there| missing(there, own));
        missing.map(|missing| (key.clone(), missing))
    });
    let part: Map<_, _> = part.collect();
    (!part.is_empty()).then_some(Value::Object(part))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_missing_is_restored() {
        let own = json!({ "a": { "b": 1, "c": 2 }, "d": [1], "e": {}, "f": null });
        assert_eq!(missing(&own, &own), None);
        let there = json!({ "a": { "b": 7 }, "d": 3, "f": 1, "g": 1 });
        assert_eq!(missing(&there, &own), Some(json!({ "a": { "c": 2 }, "e": {} })));
        assert_eq!(missing(&json!({ "a": "x", "d": 1, "e": {}, "f": 1 }), &own), Some(json!({ "a": own["a"] })));
        assert_eq!(missing(&json!("none"), &own), Some(own));
    }
}
