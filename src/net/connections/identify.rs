//! What does a connected peer say about itself?

use libp2p_identify as identify;
use libp2p_identity::Keypair;

use crate::config::AviP2pConfig;
use crate::net::connections::table::Table;
use crate::net::translate;
use avi_p2p_proto::engine::NetEvent;

/// What a node of AVI says that it speaks. Peers of other makes say something else.
const PROTOCOL_VERSION: &str = "/avi/1.0.0";

pub(in crate::net) fn behaviour(config: &AviP2pConfig, key: &Keypair) -> identify::Behaviour {
    let config = identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
        .with_agent_version(config.node_name.clone())
        .with_push_listen_addr_updates(true)
        // The engine remembers addresses.
        .with_cache_size(0);
    identify::Behaviour::new(config)
}

/// Translates an event of identify for the engine.
pub(super) fn event(event: identify::Event, table: &Table) -> Option<NetEvent> {
    match event {
        identify::Event::Received { connection_id, peer_id, info } => Some(NetEvent::Identified {
            connection: table.in_swarm(connection_id)?,
            peer: table.name(&peer_id),
            name: translate::name(&info.agent_version),
            addresses: translate::hints(&info.listen_addrs),
        }),
        identify::Event::Error { peer_id, error, .. } => {
            tracing::debug!(peer = %peer_id, %error, "not identified");
            None
        }
        identify::Event::Sent { .. } | identify::Event::Pushed { .. } => None,
    }
}
