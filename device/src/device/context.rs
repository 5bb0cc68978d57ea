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
/// How long a device waits before it writes its capabilities again.
const RESTORE_AFTER: Duration = Duration::from_secs(1);

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
    /// have stay, and values that are there already are not written again. So an application can read all, change a part
    /// and write all, and overwrites nothing that others write meanwhile.
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

    /// Removes everything from the shared context, for all devices. Each that runs writes its capabilities again.
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
        let id = self.node.local_peer_id().as_str();
        if self.config.device_type == AviDeviceType::CORE
            && let Err(error) = self.node.context().set(CORE, id).await
        {
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

    /// Another device has changed the shared context. If it has taken this one for gone, this one writes its capabilities
    /// again, after a while: it may be told so often.
    pub(super) fn handle_change(self: &Arc<Self>, path: &str) {
        let own = self.capabilities_path();
        let is_above =
            own.strip_prefix(path).is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('.'));
        let is_below = path.strip_prefix(&own).is_some_and(|rest| rest.starts_with('.'));
        if (is_above || is_below) && !self.restoring.swap(true, Ordering::Relaxed) {
            let inner = Arc::downgrade(self);
            self.runtime.spawn(async move {
                tokio::time::sleep(RESTORE_AFTER).await;
                let Some(inner) = inner.upgrade() else { return };
                inner.restoring.store(false, Ordering::Relaxed);
                let is_gone = matches!(inner.node.context().get(&inner.capabilities_path()).await, Ok(None));
                if is_gone && lock(&inner.owner).is_some() {
                    inner.announce_capabilities().await;
                }
            });
        }
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
