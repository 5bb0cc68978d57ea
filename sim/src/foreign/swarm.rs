//! What is a node of another make made of? rust-libp2p's own parts with their own defaults, but for what a mesh of AVI
//! asks for.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use avi_p2p::transport::Transport;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::Boxed;
use libp2p_core::upgrade::Version;
use libp2p_gossipsub::{self as gossipsub, MessageAuthenticity};
use libp2p_identity::{Keypair, PeerId};
use libp2p_kad::store::MemoryStore;
use libp2p_swarm::behaviour::toggle::Toggle;
use libp2p_swarm::{Config, NetworkBehaviour, StreamProtocol, Swarm};
use {
    libp2p_identify as identify, libp2p_kad as kad, libp2p_noise as noise, libp2p_ping as ping, libp2p_yamux as yamux,
};

use super::Make;
use super::wire::Wire;
use crate::platform::Tasks;
use crate::scenario::Lack;

/// What AVI's nodes say and speak.
const AVI_VERSION: &str = "/avi/1.0.0";
const AVI_KAD: StreamProtocol = StreamProtocol::new("/avi/kad/1.0.0");
/// What a node without AVI's name says.
const OTHER_VERSION: &str = "/other/1.0.0";
const OTHER_AGENT: &str = "other/0.1.0";

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// It keeps connections on which nothing is asked for. Upstream's default would close them after ten seconds.
const IDLE_TIMEOUT: Duration = Duration::from_secs(86_400);
/// Room for the largest message of a scenario. Upstream's default has none for its framing.
const MAX_TRANSMIT_BYTES: usize = 128 * 1024;

/// Its protocols.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub(super) struct Behaviour {
    pub(super) gossipsub: gossipsub::Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: Toggle<ping::Behaviour>,
    pub(super) kad: Toggle<kad::Behaviour<MemoryStore>>,
}

/// A swarm on a simulated network, whose connections are tasks of the node.
///
/// # Errors
/// What libp2p does not take.
pub(super) fn build(make: &Make, transport: Arc<dyn Transport>, tasks: Tasks) -> Result<Swarm<Behaviour>, String> {
    let local = make.key.public().to_peer_id();
    let transport = secured(Wire::new(transport), &make.key).map_err(text)?;
    let config = Config::with_executor(move |task| tasks.spawn(task)).with_idle_connection_timeout(IDLE_TIMEOUT);
    Ok(Swarm::new(transport, behaviour(make, local).map_err(text)?, local, config))
}

fn secured(wire: Wire, key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let upgraded = libp2p_core::Transport::upgrade(wire, Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(yamux::Config::default())
        .timeout(HANDSHAKE_TIMEOUT);
    let boxed = libp2p_core::Transport::map(upgraded, |(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(libp2p_core::Transport::boxed(boxed))
}

fn behaviour(make: &Make, local: PeerId) -> Result<Behaviour, Box<dyn Error + Send + Sync>> {
    let has = |lack| !make.lacks.contains(&lack);
    let gossip = gossipsub::ConfigBuilder::default().max_transmit_size(MAX_TRANSMIT_BYTES).build()?;
    let (version, agent) = match has(Lack::Name) {
        true => (AVI_VERSION, "a node of another make"),
        false => (OTHER_VERSION, OTHER_AGENT),
    };
    let identify = identify::Config::new(version.to_owned(), make.key.public()).with_agent_version(agent.to_owned());
    Ok(Behaviour {
        gossipsub: gossipsub::Behaviour::new(MessageAuthenticity::Signed(make.key.clone()), gossip)?,
        identify: identify::Behaviour::new(identify),
        ping: has(Lack::Ping).then(ping::Behaviour::default).into(),
        kad: has(Lack::Kad).then(|| kademlia(local)).into(),
    })
}

fn kademlia(local: PeerId) -> kad::Behaviour<MemoryStore> {
    let mut kad = kad::Behaviour::with_config(local, MemoryStore::new(local), kad::Config::new(AVI_KAD));
    kad.set_mode(Some(kad::Mode::Server));
    kad
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
