//! What can a device do? It says so in the shared context, at `avi.device.caps.<its id>`.
//!
//! The JSON is that of AVI 0.5. A reader takes what it knows: a field of [`DeviceCapabilities`] that is missing has its
//! default, one that it does not know is left out.

mod builder;
mod hardware;
mod sensors;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::builder::CapabilityBuilder;
pub use self::hardware::{
    AudioCapability, AudioOutput, ComputeCapability, CpuInfo, DisplayCapability, GpuInfo, HealthCapability, NpuInfo,
    PowerCapability, PowerSource, RamInfo, StorageInfo,
};
pub use self::sensors::{ConnectivityCapability, SensorCapability};

/// What a device can do. [`CapabilityBuilder`] makes one; the default is a device that says nothing of itself.
///
/// ```
/// use avi_device::DeviceCapabilities;
/// use avi_device::capability::{CapabilityBuilder, ExtendedCapability};
///
/// let lamp = CapabilityBuilder::new().extended("dimmable", ExtendedCapability::Boolean(true)).build();
/// let json = serde_json::to_string(&lamp)?;
/// assert_eq!(serde_json::from_str::<DeviceCapabilities>(&json)?, lamp);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceCapabilities {
    /// What it computes with.
    pub compute: Option<ComputeCapability>,
    /// Its sensors, by name.
    pub sensors: BTreeMap<String, SensorCapability>,
    /// Its networks, by name.
    pub connectivity: BTreeMap<String, ConnectivityCapability>,
    /// Where its power comes from.
    pub power: Option<PowerCapability>,
    /// How it is.
    pub health: Option<HealthCapability>,
    /// What it shows on.
    pub display: Option<DisplayCapability>,
    /// What it plays on.
    pub audio: Option<AudioCapability>,
    /// What these types have no field for, by name.
    pub extended: BTreeMap<String, ExtendedCapability>,
}

/// A capability of the application's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExtendedCapability {
    /// Yes or no.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// Texts.
    List(Vec<String>),
    /// Anything with names.
    Object(BTreeMap<String, serde_json::Value>),
}

/// The longest name of a capability, in bytes: with `avi.device.caps.<id>` before it, it has room in a path.
const MAX_NAME_BYTES: usize = 128;

/// The first name in capabilities that cannot be a key of the shared context. What is in a list has none.
pub(crate) fn wrong_name(capabilities: &serde_json::Value) -> Option<&str> {
    capabilities.as_object()?.iter().find_map(|(name, below)| {
        let is_right =
            (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains('.') && !name.contains(char::is_control);
        if is_right { wrong_name(below) } else { Some(name.as_str()) }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_that_cannot_be_keys_are_found_at_any_depth() {
        let named = |name: &str| {
            let below = ExtendedCapability::Object(BTreeMap::from([(name.to_owned(), json!(1))]));
            [
                CapabilityBuilder::new().extended(name, ExtendedCapability::Boolean(true)).build(),
                CapabilityBuilder::new().extended("inner", below).build(),
            ]
        };
        for (name, is_wrong) in [("", true), ("a.b", true), ("a\n", true), (&"x".repeat(129), true), ("a b", false)] {
            for capabilities in named(name) {
                let capabilities = serde_json::to_value(capabilities).unwrap();
                assert_eq!(wrong_name(&capabilities), is_wrong.then_some(name));
            }
        }
    }

    #[test]
    fn the_json_of_a_0_5_device_is_read() {
        let json = json!({
            "compute": null,
            "sensors": {
                "microphone": {
                    "type": "Microphone", "present": true, "array_size": 2, "sampling_rate_khz": 44, "max_spl_db": 110
                },
            },
            "connectivity": {},
            "power": {
                "source": "battery", "battery_pct": 20, "estimated_runtime_mins": null, "charging": false,
                "max_power_draw_w": 5.0, "current_power_draw_w": 1.5
            },
            "health": null, "display": null, "audio": null,
            "extended": { "orientation": "landscape", "rooms": ["kitchen"], "volume": 0.5 }
        });
        let caps: DeviceCapabilities = serde_json::from_value(json.clone()).unwrap();
        assert!(matches!(caps.sensors["microphone"], SensorCapability::Microphone { array_size: 2, .. }));
        assert_eq!(caps.power.as_ref().unwrap().source, PowerSource::Battery);
        assert_eq!(caps.extended["rooms"], ExtendedCapability::List(vec!["kitchen".to_owned()]));
        assert_eq!(serde_json::to_value(caps).unwrap(), json);
    }

    #[test]
    fn what_is_missing_has_its_default_and_what_is_unknown_is_left_out() {
        let caps: DeviceCapabilities = serde_json::from_value(json!({ "wheels": 4 })).unwrap();
        assert_eq!(caps, DeviceCapabilities::default());
    }
}
