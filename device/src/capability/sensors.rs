//! What does a device feel, and which networks does it reach?

use serde::{Deserialize, Serialize};

/// A sensor. In JSON its field `type` says which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[allow(missing_docs, reason = "the names of the fields carry their units")]
pub enum SensorCapability {
    /// One or several microphones.
    Microphone { present: bool, array_size: u8, sampling_rate_khz: u32, max_spl_db: u8 },
    /// A camera.
    Camera { present: bool, resolution_mp: u8, fov_degrees: u16, features: Vec<String> },
    /// A thermometer.
    Temperature { present: bool, accuracy_celsius: f32, current_value: Option<f32> },
    /// Acceleration and rotation.
    Imu { present: bool, axes: u8, update_rate_hz: u32 },
    /// Distances by laser.
    Lidar { present: bool, points_per_second: u32, max_range_m: u8 },
    /// Whether something is near.
    Proximity { present: bool, max_range_cm: u16, accuracy_cm: f32 },
    /// How light it is.
    AmbientLight { present: bool, max_lux: u32, current_value: Option<f32> },
    /// Air pressure.
    Pressure { present: bool, range_hpa: (f32, f32), accuracy_hpa: f32 },
    /// Humidity of the air.
    Humidity { present: bool, accuracy_pct: f32, current_value: Option<f32> },
}

/// A network that a device reaches. In JSON its field `type` says which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[allow(missing_docs, reason = "the names of the fields carry their units")]
pub enum ConnectivityCapability {
    /// Wi-Fi, with `standards` as `802.11ax` and `bands` as `2.4`.
    Wifi { present: bool, standards: Vec<String>, bands: Vec<String>, mimo_streams: u8, rssi_dbm: Option<i8> },
    /// Bluetooth.
    Bluetooth { present: bool, version: String, features: Vec<String>, rssi_dbm: Option<i8> },
    /// A cable.
    Ethernet { present: bool, speed_mbps: u32, full_duplex: bool },
    /// A telephone network, with `technology` as `lte`.
    Cellular { present: bool, technology: String, signal_strength_dbm: Option<i8>, carrier: String },
    /// Ultra-wideband.
    Uwb { present: bool, ranging_supported: bool, max_range_m: u8 },
    /// Zigbee.
    Zigbee { present: bool, protocol_version: String, network_role: String },
    /// Thread.
    Thread { present: bool, network_role: String },
}
