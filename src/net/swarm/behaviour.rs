//! Which protocols does a node use?

use std::sync::Arc;

use libp2p_identify as identify;
use libp2p_identity::Keypair;
use libp2p_swarm::NetworkBehaviour;
use libp2p_swarm::behaviour::toggle::Toggle;

use crate::config::AviP2pConfig;
use crate::error::AviP2pError;
use crate::metrics::Metrics;
use crate::net::connections::{Closing, Gate, Ping, identify_behaviour};
#[cfg(feature = "context")]
use crate::net::context;
use crate::net::discovery::{Mdns, Routing};
use crate::net::{audio, pubsub};

/// All protocols. Routing comes first, because it ends upstream's own dials. The gate is second: no later protocol sees
/// a connection that it refuses.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub(in crate::net) struct Behaviour {
    pub(in crate::net) routing: Toggle<Routing>,
    pub(in crate::net) gate: Gate,
    pub(in crate::net) audio: audio::Behaviour,
    pub(in crate::net) gossipsub: pubsub::Behaviour,
    pub(in crate::net) mdns: Toggle<Mdns>,
    pub(in crate::net) identify: identify::Behaviour,
    pub(in crate::net) ping: Ping,
    #[cfg(feature = "context")]
    pub(in crate::net) context: Toggle<context::Behaviour>,
}

impl Behaviour {
    pub(in crate::net) fn new(
        config: &AviP2pConfig,
        key: &Keypair,
        mdns: Option<Mdns>,
        metrics: &Metrics,
        closing: Arc<Closing>,
    ) -> Result<Self, AviP2pError> {
        let local = key.public().to_peer_id();
        Ok(Self {
            gate: Gate::default(),
            audio: audio::Behaviour::new(audio::max_audio_substreams(config)),
            gossipsub: pubsub::behaviour(config, key, metrics, closing)?,
            routing: config.enable_kad.then(|| Routing::new(local)).into(),
            mdns: mdns.into(),
            identify: identify_behaviour(config, key),
            ping: Ping::default(),
            #[cfg(feature = "context")]
            context: config.context.as_ref().map(|_| context::behaviour()).into(),
        })
    }
}
