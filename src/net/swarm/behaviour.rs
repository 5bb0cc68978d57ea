//! Which protocols does a node speak, and within which bounds?

use std::time::Duration;

use libp2p_identify as identify;
use libp2p_identity::Keypair;
use libp2p_ping as ping;
use libp2p_swarm::NetworkBehaviour;
use libp2p_swarm::behaviour::toggle::Toggle;

use crate::config::AviP2pConfig;
use crate::error::AviP2pError;
use crate::metrics::Metrics;
use crate::net::gate::Gate;
use crate::net::liveness::{PING_INTERVAL, PING_TIMEOUT};
use crate::net::mdns::Mdns;
use crate::net::routing::Routing;
use crate::net::watched::Watched;
use crate::net::{audio, gossip};

/// What makes a libp2p node a node of this kind.
pub(super) const PROTOCOL_VERSION: &str = "/avi/1.0.0";
/// How long a walk may take.
pub(super) const WALK_TIMEOUT: Duration = Duration::from_secs(10);

/// Yamux ends a connection that has more substreams than it allows. 4,096 is the most that its window accounting takes.
const MAX_YAMUX_STREAMS: usize = 4096;
/// What all protocols but audio may use of them: Kademlia 64, identify 20, pub/sub and ping a few.
const OTHER_STREAMS: usize = 128;

/// All protocols. Routing comes first, whose dials end there; then the gate: what it refuses, no other sees.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub(super) struct Behaviour {
    pub(super) routing: Toggle<Routing>,
    pub(super) gate: Gate,
    pub(super) audio: audio::Behaviour,
    pub(super) gossipsub: Watched<gossip::Upstream>,
    pub(super) mdns: Toggle<Mdns>,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
}

impl Behaviour {
    pub(super) fn new(
        config: &AviP2pConfig,
        key: &Keypair,
        mdns: Option<Mdns>,
        metrics: &Metrics,
    ) -> Result<Self, AviP2pError> {
        let local = key.public().to_peer_id();
        Ok(Self {
            gate: Gate::default(),
            audio: audio::Behaviour::new(max_audio_substreams(config)),
            gossipsub: gossip::behaviour(config, key, metrics)?,
            routing: config.enable_kad.then(|| Routing::new(local)).into(),
            mdns: mdns.into(),
            identify: identify(config, key),
            ping: ping(),
        })
    }
}

/// The most audio substreams on a connection, per direction.
pub(super) fn max_audio_substreams(config: &AviP2pConfig) -> usize {
    (2 * config.max_audio_streams + 16).min((MAX_YAMUX_STREAMS - OTHER_STREAMS) / 2)
}

/// The most substreams on a connection. A peer can fill the 256 KiB window of each before any protocol reads from it:
/// with the multiplexer's default of 512, that is 128 MiB a peer.
pub(super) fn max_substreams(config: &AviP2pConfig) -> usize {
    2 * max_audio_substreams(config) + OTHER_STREAMS
}

fn identify(config: &AviP2pConfig, key: &Keypair) -> identify::Behaviour {
    let config = identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
        .with_agent_version(config.node_name.clone())
        .with_push_listen_addr_updates(true)
        // The engine remembers addresses.
        .with_cache_size(0);
    identify::Behaviour::new(config)
}

fn ping() -> ping::Behaviour {
    ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT))
}
