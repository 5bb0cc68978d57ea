//! Which devices can do something?

use std::collections::BTreeMap;
use std::fmt;

use crate::capability::{
    AudioCapability, ComputeCapability, ConnectivityCapability, DeviceCapabilities, DisplayCapability,
    ExtendedCapability, HealthCapability, PowerCapability, SensorCapability,
};

/// A question about the capabilities of devices, for
/// [`AviDevice::execute_query`](crate::device::AviDevice::execute_query). Without a filter every device matches.
///
/// ```
/// use avi_device::DeviceQuery;
///
/// // With a microphone, and a battery that is not low.
/// let satellites = DeviceQuery::all()
///     .sensor("microphone", |_| true)
///     .power(|power| power.battery_pct.is_none_or(|percent| percent > 20));
/// # let _ = satellites;
/// ```
#[must_use = "ask it with execute_query"]
pub struct DeviceQuery {
    filters: Vec<CapabilityFilter>,
    mode: CombineMode,
}

/// Whether all filters of a query must match, or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CombineMode {
    /// All of them.
    All,
    /// At least one.
    Any,
}

/// One condition of a query.
#[must_use = "add it to a query"]
pub struct CapabilityFilter(Box<dyn Fn(&DeviceCapabilities) -> bool + Send + Sync>);

impl CapabilityFilter {
    /// A condition on all that a device says of itself.
    pub fn new(condition: impl Fn(&DeviceCapabilities) -> bool + Send + Sync + 'static) -> Self {
        Self(Box::new(condition))
    }

    /// Whether these capabilities meet the condition.
    #[must_use]
    pub fn matches(&self, capabilities: &DeviceCapabilities) -> bool {
        (self.0)(capabilities)
    }
}

/// A method for each capability that a device has or has not.
macro_rules! on_field {
    ($($(#[$doc:meta])* $field:ident: $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $field(self, condition: impl Fn(&$type) -> bool + Send + Sync + 'static) -> Self {
            self.filter(CapabilityFilter::new(move |device| device.$field.as_ref().is_some_and(&condition)))
        })*
    };
}

/// A method for each capability that has a name.
macro_rules! on_name {
    ($($(#[$doc:meta])* $method:ident, $field:ident: $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $method(
            self,
            name: impl Into<String>,
            condition: impl Fn(&$type) -> bool + Send + Sync + 'static,
        ) -> Self {
            let name = name.into();
            self.filter(CapabilityFilter::new(move |device| device.$field.get(&name).is_some_and(&condition)))
        })*
    };
}

impl DeviceQuery {
    /// All filters must match.
    pub fn new() -> Self {
        Self::all()
    }

    /// All filters must match.
    pub fn all() -> Self {
        Self { filters: Vec::new(), mode: CombineMode::All }
    }

    /// At least one filter must match.
    pub fn any() -> Self {
        Self { filters: Vec::new(), mode: CombineMode::Any }
    }

    /// Adds a condition.
    pub fn filter(mut self, filter: CapabilityFilter) -> Self {
        self.filters.push(filter);
        self
    }

    on_field! {
        /// Devices that say what they compute with.
        compute: ComputeCapability;
        /// Devices that say how they are.
        health: HealthCapability;
        /// Devices that say where their power comes from.
        power: PowerCapability;
        /// Devices with a display.
        display: DisplayCapability;
        /// Devices that play audio.
        audio: AudioCapability;
    }

    on_name! {
        /// Devices with a sensor of this name.
        sensor, sensors: SensorCapability;
        /// Devices with a network of this name.
        connectivity, connectivity: ConnectivityCapability;
        /// Devices with a capability of the application's own of this name.
        extended, extended: ExtendedCapability;
    }

    /// The ids of the devices that match, in their order.
    #[must_use]
    pub fn execute(&self, devices: &BTreeMap<String, DeviceCapabilities>) -> Vec<String> {
        devices.iter().filter(|(_, device)| self.matches(device)).map(|(id, _)| id.clone()).collect()
    }

    /// Whether a device with these capabilities matches.
    #[must_use]
    pub fn matches(&self, device: &DeviceCapabilities) -> bool {
        match self.mode {
            _ if self.filters.is_empty() => true,
            CombineMode::All => self.filters.iter().all(|filter| filter.matches(device)),
            CombineMode::Any => self.filters.iter().any(|filter| filter.matches(device)),
        }
    }
}

impl Default for DeviceQuery {
    fn default() -> Self {
        Self::all()
    }
}

impl fmt::Debug for DeviceQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filters, mode } = self;
        f.debug_struct("DeviceQuery").field("filters", &filters.len()).field("mode", mode).finish()
    }
}

impl fmt::Debug for CapabilityFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapabilityFilter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{CapabilityBuilder, PowerSource};

    fn power(battery_pct: Option<u8>) -> PowerCapability {
        let source = PowerSource::Battery;
        let (charging, max_power_draw_w, current_power_draw_w) = (false, 5.0, 1.0);
        let estimated_runtime_mins = None;
        PowerCapability {
            source,
            battery_pct,
            estimated_runtime_mins,
            charging,
            max_power_draw_w,
            current_power_draw_w,
        }
    }

    fn devices() -> BTreeMap<String, DeviceCapabilities> {
        let microphone =
            SensorCapability::Microphone { present: true, array_size: 2, sampling_rate_khz: 16, max_spl_db: 110 };
        let kitchen = CapabilityBuilder::new().sensor("microphone", microphone).power(power(Some(15)));
        let hall = CapabilityBuilder::new().power(power(Some(80)));
        let lamp = CapabilityBuilder::new().extended("dimmable", ExtendedCapability::Boolean(true));
        let named = [("kitchen", kitchen), ("hall", hall), ("lamp", lamp)];
        named.into_iter().map(|(id, caps)| (id.to_owned(), caps.build())).collect()
    }

    #[test]
    fn all_filters_must_match_or_any() {
        let low = |power: &PowerCapability| power.battery_pct.is_some_and(|percent| percent < 30);
        let devices = devices();
        assert_eq!(DeviceQuery::all().sensor("microphone", |_| true).power(low).execute(&devices), ["kitchen"]);
        assert_eq!(DeviceQuery::all().extended("dimmable", |_| true).power(low).execute(&devices), [""; 0]);
        let any = DeviceQuery::any().extended("dimmable", |_| true).power(|_| true);
        assert_eq!(any.execute(&devices), ["hall", "kitchen", "lamp"]);
    }

    #[test]
    fn a_query_without_filters_matches_every_device() {
        assert_eq!(DeviceQuery::any().execute(&devices()).len(), 3);
        assert_eq!(DeviceQuery::new().execute(&devices()).len(), 3);
    }

    #[test]
    fn a_device_that_does_not_say_it_does_not_match() {
        assert_eq!(DeviceQuery::new().display(|_| true).execute(&devices()), [""; 0]);
        assert_eq!(DeviceQuery::new().sensor("camera", |_| true).execute(&devices()), [""; 0]);
    }
}
