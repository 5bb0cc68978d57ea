//! How does a device speak to a gateway? The other side of the protocol, without a socket: for devices in Rust,
//! simulated ones, and tests.

use std::fmt;

use super::secure::{self, Initiator, Transport};
use super::{DeviceKey, Downlink, Uplink};

/// A device's side of one session. It makes datagrams, and reads them.
#[derive(Debug)]
pub struct SmallDevice(State);

#[derive(Debug)]
enum State {
    Plain {
        device_id: u64,
        extended: bool,
        is_welcome: bool,
    },
    /// The handshake, until its answer has come, with the datagram that asked.
    Asking {
        initiator: Option<Initiator>,
        init: Vec<u8>,
    },
    Secure {
        transport: Box<Transport>,
        idle_s: u16,
        age_s: u32,
    },
}

/// What a datagram from the gateway says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The session has begun. A secure one begins for the gateway with the device's first frame: send `Ping` at once.
    Connected,
    /// A frame: give it to [`Downlink::decode`].
    Frame(Vec<u8>),
    /// The gateway does not know the session, or somebody says so. Begin another beside this one, and keep this one
    /// until that is connected.
    NoSession,
    /// Not for this session, not authentic, or here before.
    Ignored,
}

/// A frame cannot be sent before the session has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotConnected;

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session has not begun: send `hello` until `Incoming::Connected`")
    }
}

impl std::error::Error for NotConnected {}

impl SmallDevice {
    /// A session without a key. Only an `extended` one gets audio and pongs.
    #[must_use]
    pub fn plain(device_id: u64, extended: bool) -> Self {
        Self(State::Plain { device_id, extended, is_welcome: false })
    }

    /// A session with the device's key. `ephemeral` is 32 bytes that nobody can guess, used once. With `keep` it goes
    /// on where the device's last one is, with its subscriptions and streams.
    ///
    /// # Panics
    /// Never: what could be invalid about the handshake is constant.
    #[must_use]
    #[allow(clippy::expect_used, reason = "name and lengths are constants: every session of the tests proves them")]
    pub fn secure(key: &DeviceKey, ephemeral: [u8; 32], keep: bool) -> Self {
        let (initiator, init) = Initiator::new(key, keep, ephemeral).expect("valid parameters");
        Self(State::Asking { initiator: Some(initiator), init })
    }

    /// The datagram that begins the session. Send it again until the answer comes.
    #[must_use]
    pub fn hello(&self) -> Vec<u8> {
        match &self.0 {
            State::Plain { device_id, extended: false, .. } => Uplink::Hello { device_id: *device_id }.encode(),
            State::Plain { device_id, extended: true, .. } => Uplink::HelloExtended { device_id: *device_id }.encode(),
            State::Asking { init, .. } => init.clone(),
            State::Secure { .. } => Vec::new(),
        }
    }

    /// Whether the session has begun.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.0, State::Secure { .. } | State::Plain { is_welcome: true, .. })
    }

    /// Seconds of silence after which a secure session ends, and seconds that its keys last.
    #[must_use]
    pub fn lifetime_s(&self) -> Option<(u16, u32)> {
        match self.0 {
            State::Secure { idle_s, age_s, .. } => Some((idle_s, age_s)),
            _ => None,
        }
    }

    /// A datagram with a frame in it.
    ///
    /// # Errors
    /// [`NotConnected`].
    pub fn send(&mut self, frame: &Uplink<'_>) -> Result<Vec<u8>, NotConnected> {
        let bytes = frame.encode();
        match &mut self.0 {
            State::Plain { is_welcome: true, .. } => Ok(bytes),
            State::Secure { transport, .. } => transport.seal(&bytes).ok_or(NotConnected),
            State::Plain { .. } | State::Asking { .. } => Err(NotConnected),
        }
    }

    /// Reads a datagram from the gateway.
    pub fn receive(&mut self, datagram: &[u8]) -> Incoming {
        match &mut self.0 {
            State::Plain { is_welcome, .. } => match Downlink::decode(datagram) {
                Some(Downlink::Welcome) if !*is_welcome => {
                    *is_welcome = true;
                    Incoming::Connected
                }
                Some(_) => Incoming::Frame(datagram.to_vec()),
                None => Incoming::Ignored,
            },
            State::Asking { initiator, .. } => {
                let grant = initiator.as_mut().and_then(|initiator| initiator.read(datagram));
                let session = grant.and_then(|grant| Some((initiator.take()?.into_transport(grant)?, grant)));
                let Some((transport, grant)) = session else { return Incoming::Ignored };
                let transport = Box::new(transport);
                self.0 = State::Secure { transport, idle_s: grant.idle_s, age_s: grant.age_s };
                Incoming::Connected
            }
            State::Secure { transport, .. } if datagram == secure::no_session(transport.session) => Incoming::NoSession,
            State::Secure { transport, .. } => {
                transport.open(datagram).map_or(Incoming::Ignored, |opened| Incoming::Frame(opened.frame))
            }
        }
    }
}
