//! What does an application read and write in the shared context, and what does the device itself?
//!
//! `avi.core` is the id of the core, `avi.device.caps.<id>` what a device can do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use avi_p2p::PeerId;
use serde_json::{Map, Value};

use super::{AviDevice, AviDeviceType, Inner, lock};
use crate::capability::DeviceCapabilities;
use crate::error::DeviceError;
use crate::query::DeviceQuery;

const CORE: &str = "avi.core";
const CAPABILITIES: &str = "avi.device.caps";
/// How long a device waits before it writes its capabilities again, and a core that it is the core.
const RESTORE_AFTER: Duration = Duration::from_secs(1);
/// How long a core that has gone may stay away before another one takes its place.
const CORE_MAY_RETURN: Duration = Duration::from_secs(5);

impl AviDevice {
    /// What is in the shared context at a path, as `avi.dialogue.speaker`; the empty path is the whole.
    ///
    /// # Errors
    /// [`NotFound`](DeviceError::NotFound) if nothing is there; as [`avi_p2p::Context`].
    pub async fn get_ctx(&self, path: &str) -> Result<Value, DeviceError> {
        let context = self.inner.node.context();
        match path {
            "" => Ok(context.snapshot().await?),
            path => context.get(path).await?.ok_or_else(|| DeviceError::NotFound { path: path.to_owned() }),
        }
    }

    /// Whether the shared context has anything at a path.
    ///
    /// # Errors
    /// As [`avi_p2p::Context`].
    pub async fn has_ctx(&self, path: &str) -> Result<bool, DeviceError> {
        Ok(self.inner.node.context().get(path).await?.is_some())
    }

    /// Puts a value into the shared context of all devices. An object is merged into what is there: keys that it does not
    /// have stay, and values that are there already are not written again. Values that others have changed since they were
    /// read here are written back as they were read: write only the part that you change, as
    /// `update_ctx("avi.dialogue.speaker", …)`.
    ///
    /// # Errors
    /// As [`avi_p2p::Context::set`].
    pub async fn update_ctx(&self, path: &str, value: Value) -> Result<(), DeviceError> {
        let context = self.inner.node.context();
        let value = match &value {
            Value::Object(new) if !new.is_empty() => match context.get(path).await? {
                Some(Value::Object(there)) => match changed(&there, new) {
                    Some(value) => value,
                    None => return Ok(()),
                },
                _ => value,
            },
            _ => value,
        };
        Ok(context.set(path, value).await?)
    }

    /// Puts a value into the shared context, in place of all that is there.
    ///
    /// # Errors
    /// As [`avi_p2p::Context::replace`].
    pub async fn replace_ctx(&self, path: &str, value: Value) -> Result<(), DeviceError> {
        Ok(self.inner.node.context().replace(path, value).await?)
    }

    /// Removes what is in the shared context at a path and below it, for all devices. To remove nothing is no error.
    ///
    /// # Errors
    /// As [`avi_p2p::Context::remove`].
    pub async fn delete_ctx(&self, path: &str) -> Result<(), DeviceError> {
        let context = self.inner.node.context();
        match context.get(path).await? {
            Some(_) => Ok(context.remove(path).await?),
            // A tombstone for nothing would only take space.
            None => Ok(()),
        }
    }

    /// Removes everything from the shared context, for all devices. Each that runs writes its capabilities again within
    /// about a second, this one too, and a core that it is the core.
    ///
    /// # Errors
    /// As [`avi_p2p::Context::remove`].
    pub async fn clear_ctx(&self) -> Result<(), DeviceError> {
        Ok(self.inner.node.context().remove("").await?)
    }

    /// The ids of the devices whose capabilities match, in their order.
    ///
    /// # Errors
    /// As [`avi_p2p::Context`].
    pub async fn execute_query(&self, query: DeviceQuery) -> Result<Vec<String>, DeviceError> {
        let Some(Value::Object(devices)) = self.inner.node.context().get(CAPABILITIES).await? else {
            return Ok(Vec::new());
        };
        let mut readable = BTreeMap::new();
        for (id, said) in devices {
            match serde_json::from_value::<DeviceCapabilities>(said) {
                Ok(capabilities) => {
                    readable.insert(id, capabilities);
                }
                Err(error) => {
                    self.inner.counters.capabilities_unreadable.add(1);
                    tracing::debug!(device = id, %error, "what a device says of itself cannot be read");
                }
            }
        }
        Ok(query.execute(&readable))
    }

    /// The id of the core.
    ///
    /// # Errors
    /// [`NotFound`](DeviceError::NotFound) if there is none yet; [`InvalidCoreId`](DeviceError::InvalidCoreId) if the
    /// shared context has something else there.
    pub async fn get_core_id(&self) -> Result<String, DeviceError> {
        let value = self.get_ctx(CORE).await?;
        match value.as_str().and_then(|id| id.parse::<PeerId>().ok()) {
            Some(id) => Ok(id.to_string()),
            None => Err(DeviceError::InvalidCoreId { value: value.to_string().chars().take(128).collect() }),
        }
    }
}

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

/// The part of `new` that is not in `there`.
fn changed(there: &Map<String, Value>, new: &Map<String, Value>) -> Option<Value> {
    let mut part = Map::new();
    for (key, value) in new {
        let changed = match (there.get(key), value) {
            (Some(Value::Object(there)), Value::Object(new)) => changed(there, new),
            (Some(there), value) if there == value => None,
            (_, value) => Some(value.clone()),
        };
        if let Some(value) = changed {
            part.insert(key.clone(), value);
        }
    }
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

    #[test]
    fn only_what_differs_is_written() {
        let there = json!({ "a": { "b": 1, "c": 2 }, "d": [1], "e": {} });
        let case = |new: Value| match (&there, &new) {
            (Value::Object(there), Value::Object(new)) => changed(there, new),
            _ => unreachable!("both are objects"),
        };
        assert_eq!(case(there.clone()), None);
        assert_eq!(case(json!({ "a": { "b": 1 }, "e": {} })), None, "keys that are missing are not removed");
        assert_eq!(case(json!({ "a": { "b": 3, "c": 2 } })), Some(json!({ "a": { "b": 3 } })));
        assert_eq!(case(json!({ "d": [1, 2], "f": null })), Some(json!({ "d": [1, 2], "f": null })));
    }
}
