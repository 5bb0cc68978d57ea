//! Who has a session?

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::config::GatewayConfig;
use super::rate::{Rates, network_of};
use super::secure::{OVERHEAD_BYTES, Transport};
use super::{ErrorCode, MAX_DATAGRAM_BYTES};

/// The values of a name in the shared context, and at most those of a sensor.
pub(super) const NAME_VALUES: usize = 2;
pub(super) const SENSOR_VALUES: usize = 4;

/// What one device has.
#[derive(Debug)]
pub(super) struct Session {
    /// The device's number. Boards with the original protocol may share one.
    pub(super) id: u64,
    pub(super) address: SocketAddr,
    pub(super) mode: Mode,
    /// When it began, or began anew.
    pub(super) since: Duration,
    /// When the device was last heard.
    pub(super) heard: Duration,
    /// Topics, and whether the device was told of a message that is too long.
    pub(super) subscriptions: BTreeMap<String, bool>,
    pub(super) streams: BTreeMap<u8, Stream>,
    pub(super) sensors: BTreeMap<String, Sensor>,
    pub(super) rates: Rates,
    /// What the shared context says of it, once it has it.
    pub(super) named: Option<serde_json::Value>,
    /// When it was last told that it sends too fast.
    pub(super) told_rate: Option<Duration>,
}

/// How a device speaks.
#[derive(Debug)]
pub(super) enum Mode {
    /// Without a key. Only one that is `extended` gets more than the original protocol has.
    Plain { extended: bool },
    /// With the keys of a session.
    Secure(Box<Transport>),
}

/// A stream between a device and a node of the mesh.
#[derive(Debug)]
pub(super) struct Stream {
    /// The peer and the reason that the device gave: the same again is the same request, repeated.
    pub(super) asked: Option<(String, String)>,
    pub(super) state: StreamState,
    /// What the device sent before anybody accepted.
    pub(super) held: VecDeque<Vec<u8>>,
}

/// Next state in the order of the list, or the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamState {
    /// The node was asked to open it.
    Opening { request: u64 },
    /// The other end was asked.
    Requested { stream: u64 },
    /// The device was asked.
    Offered { stream: u64 },
    /// Audio flows.
    Open { stream: u64 },
}

impl StreamState {
    /// The node's number for it.
    pub(super) fn stream(self) -> Option<u64> {
        match self {
            Self::Opening { .. } => None,
            Self::Requested { stream } | Self::Offered { stream } | Self::Open { stream } => Some(stream),
        }
    }
}

/// When a sensor's value may be written next, the one that the shared context has, and a later one that waits.
#[derive(Debug)]
pub(super) struct Sensor {
    pub(super) next_write: Duration,
    pub(super) written: Option<serde_json::Value>,
    pub(super) waiting: Option<serde_json::Value>,
}

impl Sensor {
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.waiting.is_some() && self.next_write <= now
    }
}

impl Session {
    pub(super) fn new(id: u64, address: SocketAddr, mode: Mode, rates: Rates, now: Duration) -> Self {
        Self {
            id,
            address,
            mode,
            since: now,
            heard: now,
            subscriptions: BTreeMap::new(),
            streams: BTreeMap::new(),
            sensors: BTreeMap::new(),
            rates,
            named: None,
            told_rate: None,
        }
    }

    /// Where it comes from, if it has no key.
    pub(super) fn plain_from(&self) -> Option<IpAddr> {
        self.is_plain().then_some(self.address.ip())
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self.mode, Mode::Plain { .. })
    }

    /// How many values the shared context has of it.
    pub(super) fn context_values(&self) -> usize {
        let written = self.sensors.values().filter(|sensor| sensor.written.is_some()).count();
        usize::from(self.named.is_some()) * NAME_VALUES + written * SENSOR_VALUES
    }

    /// Whether the device reads frames that the original protocol does not have.
    pub(super) fn is_extended(&self) -> bool {
        !matches!(self.mode, Mode::Plain { extended: false })
    }

    /// The longest frame for the device, in bytes.
    pub(super) fn max_frame_bytes(&self) -> usize {
        match self.mode {
            Mode::Plain { .. } => MAX_DATAGRAM_BYTES,
            Mode::Secure(_) => MAX_DATAGRAM_BYTES - OVERHEAD_BYTES,
        }
    }

    /// When it ends, if nothing more is heard.
    pub(super) fn ends_at(&self, config: &GatewayConfig) -> Duration {
        match self.mode {
            Mode::Plain { extended: false } => self.heard.saturating_add(config.original_idle),
            Mode::Plain { extended: true } => self.heard.saturating_add(config.idle),
            Mode::Secure(_) => self.heard.saturating_add(config.idle).min(self.since.saturating_add(config.key_age)),
        }
    }

    /// Whether the device may be told of its rate again: once a second.
    pub(super) fn may_tell_rate(&mut self, now: Duration) -> bool {
        let may = self.told_rate.is_none_or(|told| now.saturating_sub(told) >= Duration::from_secs(1));
        if may {
            self.told_rate = Some(now);
        }
        may
    }
}

/// All sessions, one a board, and how to find them. A session's key is the device's number, or another one for a further
/// board with the same number.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_device: BTreeMap<u64, Session>,
    /// Plain ones.
    by_address: BTreeMap<SocketAddr, u64>,
    /// Secure ones.
    by_number: BTreeMap<u32, u64>,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.by_device.len()
    }

    pub(super) fn get(&self, device: u64) -> Option<&Session> {
        self.by_device.get(&device)
    }

    pub(super) fn get_mut(&mut self, device: u64) -> Option<&mut Session> {
        self.by_device.get_mut(&device)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Session)> {
        self.by_device.iter().map(|(device, session)| (*device, session))
    }

    /// The session of a device, one that is told of streams first.
    pub(super) fn of(&self, id: u64) -> Option<u64> {
        let of_id = || self.iter().filter(|(_, session)| session.id == id);
        of_id().find(|(_, session)| session.is_extended()).or_else(|| of_id().next()).map(|(key, _)| key)
    }

    /// The key for a plain session of a device at this address: of the one that it has, or a new one. All boards with the
    /// original firmware have the same number: two addresses are two of them.
    pub(super) fn key_for(&self, config: &GatewayConfig, id: u64, from: SocketAddr, extended: bool) -> u64 {
        let of_id = || self.iter().filter(|(_, session)| session.id == id);
        let here = of_id().find(|(_, session)| session.address == from);
        let is_same = |session: &Session| {
            network_of(session.address.ip()) == network_of(from.ip()) || (extended && session.is_extended())
        };
        if let Some((key, _)) = here.or_else(|| of_id().find(|(_, session)| is_same(session))) {
            return key;
        }
        let is_free = |key: &u64| !self.by_device.contains_key(key);
        let others = (0..u64::MAX).rev().filter(|key| config.key_of(*key).is_none());
        [id].into_iter().chain(others).find(is_free).unwrap_or(id)
    }

    /// The device with a plain session at this address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<u64> {
        self.by_address.get(&address).copied()
    }

    /// The device with this secure session.
    pub(super) fn numbered(&self, number: u32) -> Option<u64> {
        self.by_number.get(&number).copied()
    }

    /// Adds one for a device that has none.
    pub(super) fn insert(&mut self, device: u64, session: Session) {
        self.remove(device);
        self.index(device, &session);
        self.by_device.insert(device, session);
    }

    pub(super) fn remove(&mut self, device: u64) -> Option<Session> {
        let session = self.by_device.remove(&device)?;
        self.unindex(&session);
        Some(session)
    }

    /// Gives a session another address or other keys.
    pub(super) fn replace(&mut self, device: u64, change: impl FnOnce(&mut Session)) {
        if let Some(mut session) = self.remove(device) {
            change(&mut session);
            self.insert(device, session);
        }
    }

    fn index(&mut self, device: u64, session: &Session) {
        match &session.mode {
            Mode::Plain { .. } => drop(self.by_address.insert(session.address, device)),
            Mode::Secure(transport) => drop(self.by_number.insert(transport.session, device)),
        }
    }

    fn unindex(&mut self, session: &Session) {
        match &session.mode {
            Mode::Plain { .. } => drop(self.by_address.remove(&session.address)),
            Mode::Secure(transport) => drop(self.by_number.remove(&transport.session)),
        }
    }

    /// Whether there is room for a plain session of this device at this address.
    pub(super) fn has_room(&self, config: &GatewayConfig, device: u64, ip: IpAddr) -> Result<(), ErrorCode> {
        let network = network_of(ip);
        let others = || self.by_address.iter().filter(|(_, other)| **other != device);
        let near = others().filter(|(address, _)| network_of(address.ip()) == network).count();
        if others().count() >= config.plain_sessions() || near >= config.limits.sessions_per_ip as usize {
            return Err(ErrorCode::TooManySessions);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.by_device.len(), self.by_address.len() + self.by_number.len());
        for (device, session) in self.iter() {
            match &session.mode {
                Mode::Plain { .. } => assert_eq!(self.at(session.address), Some(device)),
                Mode::Secure(transport) => assert_eq!(self.numbered(transport.session), Some(device)),
            }
        }
    }

    pub(super) fn devices(&self) -> BTreeSet<u64> {
        self.by_device.keys().copied().collect()
    }
}
