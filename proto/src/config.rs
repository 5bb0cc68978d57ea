//! The configuration of a node, its limits, and their validation.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::address::Address;
#[cfg(feature = "context")]
use crate::context::ContextOptions;
use crate::error::AviP2pError;
use crate::id::PeerId;
#[cfg(feature = "recorder")]
use crate::recording::RecorderOptions;

/// The configuration of a node. `AviP2p::start` checks every field.
///
/// ```
/// # use avi_p2p_proto::config as avi_p2p;
/// use avi_p2p::AviP2pConfig;
/// let config = AviP2pConfig {
///     node_name: "kitchen".to_string(),
///     listen_port: 9000,
///     bootstrap_peers: vec!["/ip4/198.51.100.1/tcp/9000".to_string()],
///     ..Default::default()
/// };
/// # assert_eq!(config.max_peers, 50);
/// ```
///
/// With the feature `serde` it can be read from a file, as `examples/config.toml`: every field may be missing, an unknown
/// one is an error, a time is a number of seconds or a text as `"200 ms"`, and secrets are hexadecimal digits. A
/// configuration with a secret, in [`network_key`](Self::network_key) or [`Identity::Bytes`], is not written: that is an
/// error, so that no log shows it by mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct AviP2pConfig {
    /// The name that other nodes see; 1 to 64 bytes, no control characters. Default `avi-node`.
    pub node_name: String,
    /// The TCP port to listen on; 0, the default, lets the system choose.
    pub listen_port: u16,
    /// Nodes to stay connected to, as `/ip4/198.51.100.1/tcp/9000`, `/ip6/2001:db8::1/tcp/9000` or
    /// `/dns4/hub.local/tcp/9000`: the forms of an [`Address`]. A name is resolved again for every dial. If an entry ends
    /// with `/p2p/<peer id>`, the node at that address must have this id. At most 64 entries. A node redials them without
    /// end. The `listen_addresses` in a node's [`AviEvent::Started`](crate::event::AviEvent::Started) are valid entries
    /// for other nodes. Default: none.
    pub bootstrap_peers: Vec<String>,
    /// Whether to find nodes on the local network by mDNS. Default true.
    pub enable_mdns: bool,
    /// Whether to find nodes through other nodes by Kademlia. Default true.
    pub enable_kad: bool,
    /// Whether audio may also go as datagrams, over UDP. The node then has a UDP socket for each address that it listens
    /// on, at the number of its TCP port; if another program has that UDP port, at another one, which is logged as a
    /// warning of `tracing`. Without datagrams, and to peers that have none, audio goes over the TCP connection. Default
    /// true.
    pub enable_datagrams: bool,
    /// The most peers connected at a time, in both directions together; 1 to 10,000, default 50. A node dials discovered
    /// peers only up to half of it, so that others can connect, and at least a quarter of it, even if others have dialled
    /// this node.
    ///
    /// Take 6 or more, and let each node know two others that are up, by `bootstrap_peers` or mDNS; or 8 or more, if it
    /// knows one. With fewer places, nodes stay apart now and then. When a hundred start at once and each knows one
    /// other, the same takes 16; with 8, some are apart until they dial their bootstrap peer again, after about 20 s.
    /// Those who know one full node alone wait until it has made places: all of its peers may change every three seconds.
    pub max_peers: usize,
    /// The most audio streams at a time, in both directions together; 0 to 10,000, default 10. Unanswered requests of
    /// one peer may take half of it, rounded up. Further requests of that peer are rejected, so that one peer cannot
    /// use all the streams.
    pub max_audio_streams: usize,
    /// The IP addresses to listen on, 1 to 16; default `0.0.0.0`, every IPv4 interface.
    pub listen_ips: Vec<IpAddr>,
    /// The network interfaces to listen on and to find others through. Default: all of them.
    pub interfaces: Interfaces,
    /// The key from which the peer id is derived. Default: a new one at every start.
    pub identity: Identity,
    /// The key of a private mesh. A node without the key, or with another one, cannot connect to this one. Default:
    /// none.
    pub network_key: Option<NetworkKey>,
    /// The peers that may connect, besides `paired_peers`; at most 10,000. `None`, the default: every peer that is not
    /// blocked. `Some` of an empty list: only the paired ones. `AviP2pHandle::allow_peer` adds to it.
    pub allowed_peers: Option<Vec<PeerId>>,
    /// The peers that may not connect; at most 10,000. Their messages are not delivered either, whichever peer forwards
    /// them. Blocking overrides pairing and allowing, but a configuration that lists a blocked peer as paired or
    /// allowed is refused. Default: none. `AviP2pHandle::block_peer` adds to it.
    pub blocked_peers: Vec<PeerId>,
    /// Devices that belong together, at most 64. A node redials them without end once their addresses are known, never
    /// disconnects them to make room, and sends them every message directly, whatever GossipSub's mesh is. They may
    /// connect whether `allowed_peers` names them or not, even after `disallow_peer`; only `blocked_peers` excludes
    /// them. Both ends should name each other. Default: none.
    pub paired_peers: Vec<PeerId>,
    /// Whether a message that `publish` took is also delivered to this node's own application, once, if it subscribes to
    /// the topic. Default false.
    pub deliver_own: bool,
    /// How long a message on a topic without subscribers is held, up to 1 hour. Default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub publish_hold: Duration,
    /// How long a requested audio stream may stay unanswered; 100 ms to 1 hour, default 30 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub accept_timeout: Duration,
    /// How long audio may wait before a congested path; 10 ms to 1 minute, default 200 ms. While frames also wait in
    /// queues on the path, it is less, at least 20 ms. A received frame counts as late if it is slower than the fastest
    /// by more than this.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub audio_queue: Duration,
    /// The context that the nodes of a mesh share: `AviP2pHandle::context`. `None`, the default: this node takes no part.
    #[cfg(feature = "context")]
    pub context: Option<ContextOptions>,
    /// The flight recorder, whose recordings can be replayed. `None`, the default: nothing is recorded.
    #[cfg(feature = "recorder")]
    pub recorder: Option<RecorderOptions>,
    /// Bounds on the memory that peers or the application can use: [`Limits::default`], or another profile.
    pub limits: Limits,
}

/// Where a node's key comes from.
#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Identity {
    /// A new key, and so a new peer id, at every start.
    #[default]
    Generated,
    /// The 32 secret bytes of an Ed25519 key: the same peer id at every start. Any 32 random bytes will do: generate
    /// them once and keep them secret. No two nodes may have the same.
    Bytes(#[cfg_attr(feature = "serde", serde(with = "crate::serial::secret"))] [u8; 32]),
    /// A file with the key: the same peer id at every start. The first start creates it, with mode 0600. If it is
    /// damaged, belongs to another user, is readable for others or is used by another running node, the start fails.
    /// The node locks it until it ends.
    File(PathBuf),
}

impl Identity {
    fn validate(&self) -> Result<(), AviP2pError> {
        match self {
            Self::File(path) if path.as_os_str().is_empty() => {
                Err(invalid("identity", format!("{self:?}"), "the path of a file".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Identity {
    /// Never shows the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generated => f.write_str("Generated"),
            Self::Bytes(_) => f.write_str("Bytes(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Which network interfaces a node uses, by name as `ip link` shows it: `wlan0`, or `docker*` for every name with that
/// prefix; a `*` elsewhere is an error. At most 64 names. A name that matches no interface with an address at the start
/// is logged as a warning of `tracing`: the interface may come later.
///
/// Unless all interfaces are used, `0.0.0.0` and `::` in `listen_ips` stand for the addresses of the used ones, also
/// when these change, and an address of another interface makes the start fail. mDNS announces only these addresses,
/// and accepts only addresses of their subnets. On other interfaces mDNS still sends queries, and answers without an
/// address. The system's routing chooses the interface of an outgoing connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Interfaces {
    /// All interfaces.
    #[default]
    All,
    /// Only these interfaces.
    Only(Vec<String>),
    /// All interfaces but these, for example those of a VPN or of containers.
    Except(Vec<String>),
}

impl Interfaces {
    /// Whether an interface with this name is used.
    pub fn allows(&self, name: &str) -> bool {
        let named = |patterns: &[String]| patterns.iter().any(|pattern| is_named(pattern, name));
        match self {
            Self::All => true,
            Self::Only(patterns) => named(patterns),
            Self::Except(patterns) => !named(patterns),
        }
    }

    fn validate(&self) -> Result<(), AviP2pError> {
        let patterns = match self {
            Self::All => return Ok(()),
            Self::Only(patterns) => {
                in_range("interfaces.len()", patterns.len(), 1..=MAX_INTERFACES)?;
                patterns
            }
            Self::Except(patterns) => {
                in_range("interfaces.len()", patterns.len(), 0..=MAX_INTERFACES)?;
                patterns
            }
        };
        let is_bad = |name: &String| {
            let beginning = name.strip_suffix('*').unwrap_or(name);
            name.is_empty() || name.len() > MAX_INTERFACE_BYTES || beginning.contains('*')
        };
        match patterns.iter().enumerate().find(|(_, name)| is_bad(name)) {
            Some((index, name)) => {
                let shown: String = name.chars().take(80).collect();
                let expected =
                    format!("names of 1 to {MAX_INTERFACE_BYTES} bytes, as eth0 or docker*, with `*` at the end alone");
                Err(invalid(format!("interfaces[{index}]"), format!("{shown:?}"), expected))
            }
            None => Ok(()),
        }
    }

    /// The names that match none of these interfaces.
    #[doc(hidden)]
    pub fn unmatched(&self, interfaces: &BTreeSet<&str>) -> Vec<&str> {
        let (Self::Only(patterns) | Self::Except(patterns)) = self else { return Vec::new() };
        let fits_none = |pattern: &&str| !interfaces.iter().any(|name| is_named(pattern, name));
        patterns.iter().map(String::as_str).filter(fits_none).collect()
    }
}

fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

const MAX_INTERFACES: usize = 64;
const MAX_INTERFACE_BYTES: usize = 64;
/// The most entries of `allowed_peers`, and of `blocked_peers`.
pub(crate) const MAX_LISTED_PEERS: usize = 10_000;
const MAX_PAIRED_PEERS: usize = 64;

/// The secret that the nodes of a private mesh share: 32 random bytes.
///
/// As text it is 64 hexadecimal digits, or the content of the file that other libp2p programs call `swarm.key`, which
/// has these digits in its third line.
///
/// ```
/// # use avi_p2p_proto::config as avi_p2p;
/// use avi_p2p::NetworkKey;
/// let key: NetworkKey = "00".repeat(32).parse()?;
/// assert_eq!(key, NetworkKey::from_bytes([0; 32]));
/// # Ok::<(), avi_p2p_proto::error::AviP2pError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NetworkKey([u8; 32]);

impl NetworkKey {
    /// Makes a key from its 32 bytes. Every node of the mesh needs them, and nobody else may know them.
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The bytes of the key. Keep them secret.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl FromStr for NetworkKey {
    type Err = AviP2pError;

    /// # Errors
    /// [`AviP2pError::InvalidConfig`], which does not show the text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = match text.trim().strip_prefix("/key/swarm/psk/1.0.0/") {
            Some(rest) => rest.trim_start().strip_prefix("/base16/").unwrap_or_default().trim_start(),
            None => text.trim(),
        };
        from_hex(digits).map(Self).ok_or_else(|| {
            let expected = "64 hexadecimal digits, or a file of /key/swarm/psk/1.0.0/, /base16/ and those";
            invalid("network_key", format!("(a text of {} bytes)", text.len()), expected.to_owned())
        })
    }
}

/// 32 bytes from 64 hexadecimal digits.
pub(crate) fn from_hex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Debug for NetworkKey {
    /// Never shows the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkKey(..)")
    }
}

/// The longest message that any node may allow.
#[doc(hidden)]
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $default:expr, $range:expr;)*) => {
        /// Bounds on memory and work that a peer or the application can cause. What exceeds one is a typed outcome:
        /// an error, an event, or a counter in [`Stats`](crate::stats::Stats).
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
        pub struct Limits {
            $($(#[$doc])* pub $name: usize,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            fn validate(&self) -> Result<(), AviP2pError> {
                $(in_range(concat!("limits.", stringify!($name)), self.$name, $range)?;)*
                Ok(())
            }
        }
    };
}

limits! {
    /// Longest pub/sub message in bytes; 1 to 1 MiB, default 64 KiB. All nodes of a mesh must have the same value. A
    /// longer message is refused and counted ([`Stats::messages_refused`](crate::stats::Stats::messages_refused)). A
    /// peer that sends a second one, as its author or not, is banned for five minutes.
    max_message_bytes: 64 * 1024, 1..=MAX_MESSAGE_BYTES;
    /// Longest topic in bytes; 1 to 1,024, default 256.
    max_topic_bytes: 256, 1..=1024;
    /// Topics this node may subscribe to, and topics that are remembered per peer; 1 to 10,000, default 256.
    max_topics: 256, 1..=10_000;
    /// Longest audio frame in bytes; 1 to 1 MiB, default 64 KiB. Both ends of a call need the same value.
    max_audio_frame_bytes: 64 * 1024, 1..=1024 * 1024;
    /// Audio that may wait for a congested path, in bytes per stream; 1 KiB to 64 MiB, default 1 MiB.
    audio_queue_bytes: 1024 * 1024, 1024..=64 * 1024 * 1024;
    /// Messages held for a first subscriber; 0 to 100,000, default 256.
    held_messages: 256, 0..=100_000;
    /// Bytes of messages held for a first subscriber; 0 to 1 GiB, default 1 MiB.
    held_bytes: 1024 * 1024, 0..=1024 * 1024 * 1024;
    /// Messages that wait for the application; 1 to 1,000,000, default 1,024.
    event_messages: 1024, 1..=1_000_000;
    /// Bytes of messages that wait for the application; 1 KiB to 1 GiB, default 8 MiB.
    event_message_bytes: 8 * 1024 * 1024, 1024..=1024 * 1024 * 1024;
    /// Audio frames that wait for the application, and as many in each audio reader; 1 to 1,000,000, default 8,192.
    event_audio_frames: 8192, 1..=1_000_000;
    /// Bytes of audio that wait for the application, and as many in each audio reader; 1 KiB to 1 GiB, default 16 MiB.
    event_audio_bytes: 16 * 1024 * 1024, 1024..=1024 * 1024 * 1024;
    /// Lifecycle events that wait for the application, after coalescing; 16 to 1,000,000, default 4,096.
    event_lifecycle: 4096, 16..=1_000_000;
    /// Calls of `find_more_peers` that wait for the end of a search; 1 to 100,000, default 256.
    pending_commands: 256, 1..=100_000;
    /// Peers that are remembered, connected or not; 16 to 100,000, default 1,024.
    known_peers: 1024, 16..=100_000;
    /// Addresses that are remembered per peer from what others say; 1 to 64, default 8. An address at which this node
    /// has reached the peer is remembered in addition.
    addresses_per_peer: 8, 1..=64;
    /// Dials at a time; 1 to 1,000, default 8.
    concurrent_dials: 8, 1..=1000;
    /// Pub/sub messages that wait for a slow peer; 8 to 4,096, default 512. In the worst case each has
    /// `max_message_bytes`.
    peer_queue_messages: 512, 8..=4096;
    /// Inbound connections in their handshake at a time; 1 to 10,000, default 32.
    pending_inbound: 32, 1..=10_000;
    /// The same for connections from one IPv4 address, or from one IPv6 network of 64 bits; 1 to 10,000, default 16.
    pending_inbound_per_ip: 16, 1..=10_000;
}

/// Profiles. They differ in what a node keeps, not in what it says: `max_message_bytes`, `max_topic_bytes` and
/// `max_audio_frame_bytes` are the same in all, so nodes of different profiles make one mesh.
///
/// The most memory in MiB that is bounded, in the worst case. Of the last two lines, it is used only for a peer that
/// receives too slowly, and for a call whose path is congested or whose reader is not read.
///
/// | | `small` | `default` | `large` |
/// |---|---|---|---|
/// | a node: held messages and unread events | 4 | 25 | 272 |
/// | and for each peer (`peer_queue_messages`) | 4 | 32 | 128 |
/// | and for each audio stream (`audio_queue_bytes`, a reader) | 2.25 | 17 | 132 |
impl Limits {
    /// For a device of little memory, as a microphone with 64 MiB.
    pub fn small() -> Self {
        Self {
            max_topics: 64,
            audio_queue_bytes: 256 * 1024,
            held_messages: 64,
            held_bytes: 256 * 1024,
            event_messages: 256,
            event_message_bytes: 7 * 256 * 1024,
            event_audio_frames: 1024,
            event_audio_bytes: 2 * 1024 * 1024,
            event_lifecycle: 512,
            pending_commands: 64,
            known_peers: 128,
            addresses_per_peer: 4,
            concurrent_dials: 4,
            peer_queue_messages: 64,
            pending_inbound: 8,
            pending_inbound_per_ip: 4,
            ..Self::default()
        }
    }

    /// For a hub or a server, with hundreds of peers and bursts of messages.
    pub fn large() -> Self {
        Self {
            max_topics: 4096,
            audio_queue_bytes: 4 * 1024 * 1024,
            held_messages: 4096,
            held_bytes: 16 * 1024 * 1024,
            event_messages: 16_384,
            event_message_bytes: 128 * 1024 * 1024,
            event_audio_frames: 65_536,
            event_audio_bytes: 128 * 1024 * 1024,
            event_lifecycle: 65_536,
            pending_commands: 1024,
            known_peers: 16_384,
            addresses_per_peer: 16,
            concurrent_dials: 32,
            peer_queue_messages: 2048,
            pending_inbound: 256,
            pending_inbound_per_ip: 64,
            ..Self::default()
        }
    }
}

impl Default for AviP2pConfig {
    fn default() -> Self {
        Self {
            node_name: "avi-node".to_owned(),
            listen_port: 0,
            bootstrap_peers: Vec::new(),
            enable_mdns: true,
            enable_kad: true,
            enable_datagrams: true,
            max_peers: 50,
            max_audio_streams: 10,
            listen_ips: vec![Ipv4Addr::UNSPECIFIED.into()],
            interfaces: Interfaces::All,
            identity: Identity::Generated,
            network_key: None,
            allowed_peers: None,
            blocked_peers: Vec::new(),
            paired_peers: Vec::new(),
            deliver_own: false,
            publish_hold: Duration::from_secs(10),
            accept_timeout: Duration::from_secs(30),
            audio_queue: Duration::from_millis(200),
            #[cfg(feature = "context")]
            context: None,
            #[cfg(feature = "recorder")]
            recorder: None,
            limits: Limits::default(),
        }
    }
}

impl AviP2pConfig {
    /// What the engine keeps: it has no use for keys.
    pub(crate) fn without_secrets(&self) -> Self {
        Self {
            identity: Identity::default(),
            network_key: None,
            #[cfg(feature = "recorder")]
            recorder: None,
            ..self.clone()
        }
    }

    /// The default configuration, with this [`node_name`](Self::node_name).
    ///
    /// ```
    /// # use avi_p2p_proto::config as avi_p2p;
    /// use avi_p2p::AviP2pConfig;
    /// let config = AviP2pConfig { listen_port: 9000, ..AviP2pConfig::new("kitchen") };
    /// # assert_eq!(config.node_name, "kitchen");
    /// ```
    #[must_use]
    pub fn new(node_name: impl Into<String>) -> Self {
        Self { node_name: node_name.into(), ..Self::default() }
    }

    /// Checks every field without looking at this machine. The start checks the rest: whether
    /// [`listen_ips`](Self::listen_ips) are addresses of this machine and of interfaces that
    /// [`interfaces`](Self::interfaces) allows, and whether the file of [`identity`](Self::identity) can be used.
    ///
    /// # Errors
    /// [`AviP2pError::InvalidConfig`] with the first field that is out of range, its value, and what was expected.
    pub fn validate(&self) -> Result<(), AviP2pError> {
        let name = &self.node_name;
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            let expected = "1 to 64 bytes without control characters";
            let shown: String = name.chars().take(80).collect();
            return Err(invalid("node_name", format!("{shown:?}"), expected.to_owned()));
        }
        in_range("bootstrap_peers.len()", self.bootstrap_peers.len(), 0..=64)?;
        for (index, text) in self.bootstrap_peers.iter().enumerate() {
            if let Err(expected) = Address::parse(text) {
                let shown: String = text.chars().take(128).collect();
                return Err(invalid(format!("bootstrap_peers[{index}]"), format!("{shown:?}"), expected));
            }
        }
        in_range("max_peers", self.max_peers, 1..=10_000)?;
        in_range("max_audio_streams", self.max_audio_streams, 0..=10_000)?;
        in_range("listen_ips.len()", self.listen_ips.len(), 1..=16)?;
        self.interfaces.validate()?;
        self.identity.validate()?;
        self.validate_peers()?;
        let hour = Duration::from_secs(3600);
        lasts("publish_hold", self.publish_hold, Duration::ZERO..=hour)?;
        lasts("accept_timeout", self.accept_timeout, Duration::from_millis(100)..=hour)?;
        lasts("audio_queue", self.audio_queue, Duration::from_millis(10)..=Duration::from_secs(60))?;
        #[cfg(feature = "context")]
        self.context.as_ref().map_or(Ok(()), ContextOptions::validate)?;
        #[cfg(feature = "recorder")]
        self.recorder.as_ref().map_or(Ok(()), RecorderOptions::validate)?;
        self.limits.validate()
    }

    fn validate_peers(&self) -> Result<(), AviP2pError> {
        let allowed = self.allowed_peers.as_deref().unwrap_or_default();
        for (field, peers, max) in [
            ("allowed_peers", allowed, MAX_LISTED_PEERS),
            ("blocked_peers", &self.blocked_peers, MAX_LISTED_PEERS),
            ("paired_peers", &self.paired_peers, MAX_PAIRED_PEERS),
        ] {
            in_range(&format!("{field}.len()"), peers.len(), 0..=max)?;
            if let Some((index, peer)) = peers.iter().enumerate().find(|(_, peer)| peer.check().is_err()) {
                let shown: String = peer.as_str().chars().take(80).collect();
                return Err(invalid(
                    format!("{field}[{index}]"),
                    format!("{shown:?}"),
                    "a peer id, as 12D3KooW…".into(),
                ));
            }
        }
        let blocked: BTreeSet<_> = self.blocked_peers.iter().collect();
        for (field, peers) in [("allowed_peers", allowed), ("paired_peers", &self.paired_peers)] {
            if let Some(index) = peers.iter().position(|peer| blocked.contains(peer)) {
                let expected = "a peer that is not in blocked_peers".to_owned();
                return Err(invalid(format!("{field}[{index}]"), peers[index].to_string(), expected));
            }
        }
        Ok(())
    }
}

#[doc(hidden)]
pub fn invalid(field: impl Into<String>, value: String, expected: String) -> AviP2pError {
    AviP2pError::InvalidConfig { field: field.into(), value, expected }
}

pub(crate) fn in_range(field: &str, value: usize, range: RangeInclusive<usize>) -> Result<(), AviP2pError> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(invalid(field, value.to_string(), format!("{} to {}", range.start(), range.end()))),
    }
}

pub(crate) fn lasts(field: &str, value: Duration, range: RangeInclusive<Duration>) -> Result<(), AviP2pError> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(invalid(field, shown(value), format!("{} to {}", shown(*range.start()), shown(*range.end())))),
    }
}

/// Formats a duration as `0 s`, `1.5 s` or `99 ms`.
fn shown(time: Duration) -> String {
    if time.is_zero() {
        return "0 s".to_owned();
    }
    let text = format!("{time:?}");
    let unit = text.find(|c: char| c.is_alphabetic() || c == 'µ').unwrap_or(text.len());
    format!("{} {}", &text[..unit], &text[unit..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";

    type Break = fn(&mut AviP2pConfig);

    #[test]
    fn a_field_out_of_range_is_named_with_its_value() {
        let cases: [(&str, &str, Break); 22] = [
            ("node_name", "\"\"", |c| c.node_name.clear()),
            ("node_name", "xxx", |c| c.node_name = "x".repeat(65)),
            ("node_name", "\\n", |c| c.node_name = "a\nb".into()),
            ("bootstrap_peers", "65", |c| c.bootstrap_peers = vec![String::new(); 65]),
            ("bootstrap_peers[1]", "expected a port of 1 to 65535, not \"99999\"", |c| {
                c.bootstrap_peers = ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/99999"].map(str::to_owned).to_vec();
            }),
            ("max_peers", "0", |c| c.max_peers = 0),
            ("max_peers", "10001", |c| c.max_peers = 10_001),
            ("max_audio_streams", "10001", |c| c.max_audio_streams = 10_001),
            ("listen_ips", "0", |c| c.listen_ips.clear()),
            ("interfaces", "0", |c| c.interfaces = Interfaces::Only(Vec::new())),
            ("interfaces[0]", "\"\"", |c| c.interfaces = Interfaces::Except(vec![String::new()])),
            ("interfaces[1]", "\"*th0\"", |c| c.interfaces = Interfaces::Only(vec!["eth0".into(), "*th0".into()])),
            ("interfaces[0]", "\"en**\"", |c| c.interfaces = Interfaces::Except(vec!["en**".into()])),
            ("identity", "File(\"\")", |c| c.identity = Identity::File(PathBuf::new())),
            ("allowed_peers[0]", "\"x\"", |c| c.allowed_peers = Some(vec![PeerId::new("x")])),
            ("blocked_peers[0]", "\"y\"", |c| c.blocked_peers = vec![PeerId::new("y")]),
            ("paired_peers", "65", |c| c.paired_peers = vec![PeerId::new(PEER); 65]),
            ("paired_peers[0]", PEER, |c| {
                c.paired_peers = vec![PeerId::new(PEER)];
                c.blocked_peers = vec![PeerId::new(PEER)];
            }),
            ("publish_hold", "3601 s: expected 0 s to 3600 s", |c| c.publish_hold = Duration::from_secs(3601)),
            ("accept_timeout", "99 ms: expected 100 ms", |c| c.accept_timeout = Duration::from_millis(99)),
            ("audio_queue", "60.5 s: expected 10 ms", |c| c.audio_queue = Duration::from_millis(60_500)),
            ("limits.max_message_bytes", "0", |c| c.limits.max_message_bytes = 0),
        ];
        for (field, value, break_it) in cases {
            let mut config = AviP2pConfig::default();
            config.validate().unwrap();
            break_it(&mut config);
            let text = config.validate().unwrap_err().to_string();
            assert!(text.contains(field) && text.contains(value), "{field}: {text}");
        }
    }

    #[test]
    fn profiles_are_valid_grow_in_everything_and_bound_the_memory_that_they_say() {
        let profiles = [Limits::small(), Limits::default(), Limits::large()];
        let mib = |bytes: usize| bytes as f64 / (1024.0 * 1024.0);
        let bounds = profiles.clone().map(|limits| {
            limits.validate().unwrap();
            (
                mib(limits.held_bytes + limits.event_message_bytes + limits.event_audio_bytes),
                mib(limits.peer_queue_messages * limits.max_message_bytes),
                mib(limits.audio_queue_bytes + limits.event_audio_bytes),
            )
        });
        assert_eq!(bounds, [(4.0, 4.0, 2.25), (25.0, 32.0, 17.0), (272.0, 128.0, 132.0)]);
        for pair in profiles.windows(2) {
            let shared =
                |limits: &Limits| (limits.max_message_bytes, limits.max_topic_bytes, limits.max_audio_frame_bytes);
            assert_eq!(shared(&pair[0]), shared(&pair[1]), "they are one mesh");
        }
    }

    #[test]
    fn interfaces_are_named_in_full_or_by_their_beginning() {
        let names = || vec!["eth0".to_owned(), "docker*".to_owned()];
        for (name, is_named) in [("eth0", true), ("eth01", false), ("docker0", true), ("docker", true), ("dock", false)]
        {
            assert_eq!(Interfaces::Only(names()).allows(name), is_named, "{name}");
            assert_eq!(Interfaces::Except(names()).allows(name), !is_named, "{name}");
            assert!(Interfaces::All.allows(name));
        }
        Interfaces::Only(vec!["*".to_owned()]).validate().unwrap();
    }

    #[test]
    fn names_that_fit_no_interface_are_told() {
        let names = || ["lo", "wlan1", "eth*", "docker*"].map(str::to_owned).to_vec();
        let here = BTreeSet::from(["lo", "eth0", "wlan0"]);
        assert_eq!(Interfaces::Only(names()).unmatched(&here), ["wlan1", "docker*"]);
        assert_eq!(Interfaces::Except(names()).unmatched(&here), ["wlan1", "docker*"]);
        assert_eq!(Interfaces::All.unmatched(&here), [""; 0]);
    }

    #[test]
    fn a_network_key_is_hexadecimal_or_a_swarm_key_file() {
        let digits = "0a".repeat(32);
        let key = NetworkKey::from_bytes([10; 32]);
        for text in [digits.clone(), format!(" {digits}\n"), format!("/key/swarm/psk/1.0.0/\n/base16/\n{digits}\n")] {
            assert_eq!(text.parse::<NetworkKey>().unwrap(), key, "{text}");
        }
        let secret = format!("{}é", "0a".repeat(31));
        for bad in ["", "0a", &secret, &format!("+{}", &digits[1..]), &format!("/key/swarm/psk/1.0.0/ {digits}")] {
            let text = bad.parse::<NetworkKey>().unwrap_err().to_string();
            assert!(text.contains("network_key") && !text.contains("0a0a"), "{text}");
        }
    }

    #[test]
    fn the_secret_is_never_shown() {
        let config = AviP2pConfig { identity: Identity::Bytes([77; 32]), ..Default::default() };
        assert_eq!(format!("{:?}", config.identity), "Bytes(..)");
        assert!(format!("{config:?}").contains("identity: Bytes(..)"));
        assert_eq!(format!("{:?}", NetworkKey::from_bytes([77; 32])), "NetworkKey(..)");
    }
}
