//! What may a gateway do, and for whom?

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroize;

/// How a gateway works. By default it admits nobody: allow plain sessions, or give devices keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// The address to listen on. Default `0.0.0.0`: all of IPv4.
    pub listen_ip: IpAddr,
    /// The UDP port; 0 lets the system choose. Default 8888.
    pub udp_port: u16,
    /// Whether devices may have sessions without a key, as the original protocol does. Then everybody on the network
    /// can read what they send, send in their name, and take their messages. Default false.
    pub plain: bool,
    /// Whether plain sessions may come from addresses that are not private. Default false: an address that is not
    /// proven could be somebody's whom the answers hit.
    pub plain_from_anywhere: bool,
    /// The devices that have keys. None of them may have a plain session. Default: none.
    pub devices: Vec<DeviceKey>,
    /// After how much silence a session ends, whose device can send `Ping`; 1 s to 18 hours, default 90 s.
    pub idle: Duration,
    /// After how much silence a plain session ends that began with the original `Hello`; 1 s to a year. Default seven
    /// days: the original firmware says `Hello` once, and from then on sends nothing until a button is pressed.
    pub original_idle: Duration,
    /// How long the keys of a secure session last; 1 minute to 30 days, default one day. A device makes new ones
    /// before.
    pub key_age: Duration,
    /// What devices may use.
    pub limits: GatewayLimits,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen_ip: Ipv4Addr::UNSPECIFIED.into(),
            udp_port: 8888,
            plain: false,
            plain_from_anywhere: false,
            devices: Vec::new(),
            idle: Duration::from_secs(90),
            original_idle: Duration::from_secs(7 * 24 * 3600),
            key_age: Duration::from_secs(24 * 3600),
            limits: GatewayLimits::default(),
        }
    }
}

/// What devices may use. Whatever is beyond is refused with an [`ErrorCode`](super::ErrorCode), and counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Sessions, 1 to 4,096, default 64. Each device with a key has a place of its own among them.
    pub sessions: u32,
    /// Plain sessions from one address; of IPv6, from one /64. 1 to 4,096, default 16.
    pub sessions_per_ip: u32,
    /// Subscriptions of one device, 0 to 1,024, default 32.
    pub subscriptions: u32,
    /// Topics that all devices together subscribe to, 0 to 1,024, default 256. The node has a limit of its own.
    pub topics: u32,
    /// Streams of one device at a time, 0 to 128, default 4.
    pub streams: u32,
    /// Sensors of one device in a session, 0 to 1,024, default 64.
    pub sensors: u32,
    /// Datagrams a second from one device, 1 to 100,000, and as many at once. Default 500: stereo of CD quality, in
    /// datagrams of 512 bytes.
    pub datagrams_per_second: u32,
    /// Messages, buttons, values of sensors, and new subscriptions and streams a second from one device, 1 to 10,000,
    /// and twice as many at once. Default 50.
    pub messages_per_second: u32,
    /// Writes a second to the shared context for all devices together, 1 to 10,000, and twice as many at once. Default
    /// 20. What is more waits; of a sensor the last value.
    pub context_writes_per_second: u32,
    /// Values that the shared context has of all devices together, 16 to 4,096, default 512: two of a device, and four of
    /// a sensor. Sensors beyond are published, and written once there is room. The node's context has a bound for each
    /// author, by default 1,024: leave it half of that for what was removed.
    pub context_values: u32,
    /// Bytes a second to one device, 1,024 to 2^30, and as many at once. Default 256 KiB.
    pub downlink_bytes_per_second: u32,
    /// Datagrams a second from one address that has no session, 1 to 10,000, and twice as many at once. Default 10.
    pub unknown_per_second: u32,
    /// Handshakes a second of all devices together, 1 to 10,000, and twice as many at once. Default 20: one takes about
    /// a tenth of a millisecond.
    pub handshakes_per_second: u32,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            sessions: 64,
            sessions_per_ip: 16,
            subscriptions: 32,
            topics: 256,
            streams: 4,
            sensors: 64,
            datagrams_per_second: 500,
            messages_per_second: 50,
            context_writes_per_second: 20,
            context_values: 512,
            downlink_bytes_per_second: 256 * 1024,
            unknown_per_second: 10,
            handshakes_per_second: 20,
        }
    }
}

/// The key that a device and its gateway share. `Debug` does not print it, and its memory is cleared.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceKey {
    /// The device's number.
    pub device_id: u64,
    key: [u8; 32],
}

impl DeviceKey {
    /// A key of 32 random bytes. It is this device's alone: whoever has it can be the device, and the gateway.
    #[must_use]
    pub fn new(device_id: u64, key: [u8; 32]) -> Self {
        Self { device_id, key }
    }

    /// A key of 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`GatewayError::InvalidConfig`] if they are not that. The text is not repeated.
    pub fn from_hex(device_id: u64, digits: &str) -> Result<Self, GatewayError> {
        let invalid = || GatewayError::InvalidConfig {
            field: "devices",
            value: format!("a key of {} bytes of text for device {device_id}", digits.len()),
            expected: "64 hexadecimal digits".to_owned(),
        };
        if digits.len() != 64 {
            return Err(invalid());
        }
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(invalid()) };
            *byte = high << 4 | low;
        }
        Ok(Self { device_id, key })
    }

    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl Drop for DeviceKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceKey").field("device_id", &self.device_id).finish_non_exhaustive()
    }
}

/// Why a gateway does not start, or has ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A field of the configuration is out of range.
    #[error("invalid configuration of the gateway: {field} = {value}: expected {expected}")]
    InvalidConfig {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The values that it may have.
        expected: String,
    },
    /// The configuration admits no device.
    #[error("the gateway admits nobody: give `devices` keys, or set `plain = true` on a network that you trust")]
    AdmitsNobody,
    /// The UDP port cannot be had.
    #[error("cannot listen on UDP {ip} port {port} (listen_ip, udp_port): {reason}")]
    Bind {
        /// The address.
        ip: IpAddr,
        /// The port.
        port: u16,
        /// The operating system's error.
        reason: String,
    },
    /// The operating system gives no random numbers: without them there are no keys.
    #[error("the system gives no random numbers: {0}")]
    Entropy(String),
    /// The device has a gateway already.
    #[error("the device has a gateway already: end that one first")]
    AlreadyRuns,
    /// The gateway has ended.
    #[error("the gateway has ended: start another")]
    Ended,
}

impl GatewayConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`GatewayError::InvalidConfig`] names the first that is out of range; [`GatewayError::AdmitsNobody`].
    pub fn validate(&self) -> Result<(), GatewayError> {
        if !self.plain && self.devices.is_empty() {
            return Err(GatewayError::AdmitsNobody);
        }
        let seconds = Duration::from_secs;
        within("idle", self.idle, seconds(1), seconds(18 * 3600))?;
        within("original_idle", self.original_idle, seconds(1), seconds(366 * 24 * 3600))?;
        within("key_age", self.key_age, seconds(60), seconds(30 * 24 * 3600))?;
        self.limits.validate()?;
        let mut ids: Vec<u64> = self.devices.iter().map(|device| device.device_id).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(GatewayError::InvalidConfig {
                field: "devices",
                value: format!("device {} twice", pair[0]),
                expected: "one key for a device".to_owned(),
            });
        }
        within("devices", ids.len(), 0, usize::try_from(self.limits.sessions).unwrap_or(usize::MAX))
    }

    pub(super) fn key_of(&self, device_id: u64) -> Option<&DeviceKey> {
        self.devices.iter().find(|device| device.device_id == device_id)
    }

    /// How many plain sessions there may be.
    pub(super) fn plain_sessions(&self) -> usize {
        (self.limits.sessions as usize).saturating_sub(self.devices.len())
    }
}

impl GatewayLimits {
    fn validate(&self) -> Result<(), GatewayError> {
        within("limits.sessions", self.sessions, 1, 4096)?;
        within("limits.sessions_per_ip", self.sessions_per_ip, 1, 4096)?;
        within("limits.subscriptions", self.subscriptions, 0, 1024)?;
        within("limits.topics", self.topics, 0, 1024)?;
        within("limits.streams", self.streams, 0, 128)?;
        within("limits.sensors", self.sensors, 0, 1024)?;
        within("limits.datagrams_per_second", self.datagrams_per_second, 1, 100_000)?;
        within("limits.messages_per_second", self.messages_per_second, 1, 10_000)?;
        within("limits.context_writes_per_second", self.context_writes_per_second, 1, 10_000)?;
        within("limits.context_values", self.context_values, 16, 4096)?;
        within("limits.downlink_bytes_per_second", self.downlink_bytes_per_second, 1024, 1 << 30)?;
        within("limits.unknown_per_second", self.unknown_per_second, 1, 10_000)?;
        within("limits.handshakes_per_second", self.handshakes_per_second, 1, 10_000)
    }
}

fn within<T: PartialOrd + fmt::Debug>(field: &'static str, value: T, least: T, most: T) -> Result<(), GatewayError> {
    if least <= value && value <= most {
        return Ok(());
    }
    let expected = format!("{least:?} to {most:?}");
    Err(GatewayError::InvalidConfig { field, value: format!("{value:?}"), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_nobody_configured_admits_nobody() {
        assert_eq!(GatewayConfig::default().validate(), Err(GatewayError::AdmitsNobody));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let config = GatewayConfig { plain: true, idle: Duration::ZERO, ..GatewayConfig::default() };
        let text = config.validate().expect_err("too short").to_string();
        assert_eq!(text, "invalid configuration of the gateway: idle = 0ns: expected 1s to 64800s");
        let twice = vec![DeviceKey::new(7, [1; 32]), DeviceKey::new(7, [2; 32])];
        let config = GatewayConfig { devices: twice, ..GatewayConfig::default() };
        assert!(config.validate().expect_err("two keys").to_string().contains("device 7 twice"));
    }

    #[test]
    fn a_key_is_read_from_digits_and_never_printed() {
        let digits = "00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100";
        let key = DeviceKey::from_hex(5, digits).expect("64 digits");
        assert_eq!(key.key()[..3], [0, 0x11, 0x22]);
        assert_eq!(key.key()[16], 0xff);
        assert_eq!(format!("{key:?}"), "DeviceKey { device_id: 5, .. }");
        for wrong in [&digits[1..], &format!("g{}", &digits[1..]), &format!("+{}", &digits[1..]), ""] {
            let error = DeviceKey::from_hex(5, wrong).expect_err("no key").to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
