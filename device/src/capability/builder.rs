//! How does an application write capabilities down?

use super::{
    AudioCapability, ComputeCapability, ConnectivityCapability, DeviceCapabilities, DisplayCapability,
    ExtendedCapability, HealthCapability, PowerCapability, SensorCapability,
};

/// Makes [`DeviceCapabilities`], one at a time; the same twice replaces the first.
#[derive(Debug, Clone, Default)]
#[must_use = "call build"]
pub struct CapabilityBuilder(DeviceCapabilities);

impl CapabilityBuilder {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the device computes with.
    pub fn compute(mut self, compute: ComputeCapability) -> Self {
        self.0.compute = Some(compute);
        self
    }

    /// A sensor. Its name becomes a key of the shared context, and so has no dot.
    pub fn sensor(mut self, name: impl Into<String>, sensor: SensorCapability) -> Self {
        self.0.sensors.insert(name.into(), sensor);
        self
    }

    /// A network. Its name becomes a key of the shared context, and so has no dot.
    pub fn connectivity(mut self, name: impl Into<String>, network: ConnectivityCapability) -> Self {
        self.0.connectivity.insert(name.into(), network);
        self
    }

    /// Where the device's power comes from.
    pub fn power(mut self, power: PowerCapability) -> Self {
        self.0.power = Some(power);
        self
    }

    /// How the device is.
    pub fn health(mut self, health: HealthCapability) -> Self {
        self.0.health = Some(health);
        self
    }

    /// What the device shows on.
    pub fn display(mut self, display: DisplayCapability) -> Self {
        self.0.display = Some(display);
        self
    }

    /// What the device plays on.
    pub fn audio(mut self, audio: AudioCapability) -> Self {
        self.0.audio = Some(audio);
        self
    }

    /// A capability of the application's own. Its name becomes a key of the shared context, and so has no dot.
    pub fn extended(mut self, name: impl Into<String>, value: ExtendedCapability) -> Self {
        self.0.extended.insert(name.into(), value);
        self
    }

    /// The capabilities.
    #[must_use]
    pub fn build(self) -> DeviceCapabilities {
        self.0
    }
}
