//! How is a device set up?

use avi_p2p::AviP2pConfig;

use crate::capability::DeviceCapabilities;

/// What a device is in its mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AviDeviceType {
    /// The device that answers. It says so in the shared context, at `avi.core`; the one that started last counts.
    CORE = 0,
    /// Any other.
    #[default]
    NODE = 1,
}

/// What a device says of itself. All else is in [`DeviceOptions`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AviDeviceConfig {
    /// The name that other devices see; 1 to 64 bytes, no control characters.
    pub node_name: String,
    /// What it is in its mesh.
    pub device_type: AviDeviceType,
    /// Whether it is the gateway for devices that are too small to be a node, as in AVI 0.5: on UDP port 8888, without
    /// keys, for anybody in a private network. Needs the feature `gateway`; without it, or if the port is taken, that is
    /// logged. `gateway::Gateway::start` offers keys, and all else.
    pub can_gateway_embedded: bool,
    /// What it can do. Other devices find it in the shared context, at `avi.device.caps.<its id>`.
    pub capabilities: DeviceCapabilities,
}

/// How a device takes part in its mesh, for [`AviDevice::with_options`](super::AviDevice::with_options).
///
/// ```
/// use avi_device::device::DeviceOptions;
/// use avi_p2p::{AviP2pConfig, Identity};
///
/// let options = DeviceOptions {
///     p2p: AviP2pConfig { identity: Identity::File("avi.key".into()), ..Default::default() },
///     ..Default::default()
/// };
/// # assert!(!options.legacy_context);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceOptions {
    /// The node. The device itself sets `node_name`, to that of [`AviDeviceConfig`], and `deliver_own`, to true. If
    /// `context` is `None`, it has a shared context that keeps no file and has no ownership; all devices of a mesh should
    /// have the same ownership. With it, nobody removes what a device that is gone has said of itself.
    pub p2p: AviP2pConfig,
    /// Whether to share the context with nodes of AVI 0.5, which publish all of theirs on the topic
    /// `avi-context-updates`. `max_message_bytes` must be enough for all of it. With ownership, what 0.5 nodes say of
    /// themselves is not taken. Default false.
    pub legacy_context: bool,
}
