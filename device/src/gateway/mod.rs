//! How do devices that are too small to be a node take part? Over UDP, through a gateway.

mod engine;

pub use engine::{
    DeviceKey, Downlink, Entropy, ErrorCode, GatewayConfig, GatewayEngine, GatewayError, GatewayLimits, GatewayStats,
    Incoming, MAX_DATAGRAM_BYTES, NOISE_PROTOCOL, NotConnected, Output, PressType, SensorValue, SmallDevice, Time,
    Uplink,
};
