//! What does an application read and write in the shared context?
//!
//! `avi.core` is the id of the core, `avi.device.caps.<id>` what a device can do.

use std::collections::BTreeMap;

use avi_p2p::PeerId;
use serde_json::{Map, Value};

use super::AviDevice;
use crate::capability::DeviceCapabilities;
use crate::error::DeviceError;
use crate::query::DeviceQuery;

pub(super) const CORE: &str = "avi.core";
pub(super) const CAPABILITIES: &str = "avi.device.caps";

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
