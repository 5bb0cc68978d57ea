//! How are other nodes found? By mDNS, by the routing tables of neighbours, and by a pluggable network.

mod mdns;
mod neighbours;
mod routing;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId as LibPeerId;
use libp2p_kad::{self as kad, GetClosestPeersError, GetClosestPeersOk, QueryResult};

pub(super) use self::mdns::{Event as MdnsEvent, Mdns};
use self::neighbours::Neighbours;
pub(super) use self::routing::Routing;
use self::routing::WALK_TIMEOUT;
use crate::config::AviP2pConfig;
use crate::event::DiscoverySource;
use crate::id::PeerId;
use crate::net::connections::Connections;
use crate::net::translate;
use crate::network::Network;
use crate::wake::Wake;
use avi_p2p_proto::engine::NetEvent;

/// The sources of discovery.
pub(super) struct Discovery {
    local: LibPeerId,
    neighbours: Neighbours,
    /// Peers found by the current walk.
    found: BTreeSet<LibPeerId>,
}

impl Discovery {
    pub(super) fn new(config: &AviP2pConfig, local: LibPeerId, network: &Network, wake: Arc<Wake>) -> Self {
        let neighbours = Neighbours::new(network, config.enable_mdns, wake);
        Self { local, neighbours, found: BTreeSet::new() }
    }

    pub(super) fn is_due(&self) -> bool {
        self.neighbours.is_due()
    }

    /// Takes one hint of a pluggable network. Returns false if there is none.
    pub(super) fn poll(&mut self, connections: &Connections, events: &mut VecDeque<NetEvent>) -> bool {
        let Some((peer, address)) = self.neighbours.poll_next() else { return false };
        if let Some(peer) = translate::libp2p_peer_id(&peer) {
            let addresses = [translate::address(address)];
            events.extend(discovered(peer, &addresses, DiscoverySource::Mdns, connections));
        }
        true
    }

    // Actions of the engine.

    pub(super) fn walk(
        &mut self,
        target: Option<[u8; 32]>,
        routing: Option<&mut Routing>,
        events: &mut VecDeque<NetEvent>,
    ) {
        let failed = match routing.map(|routing| routing.walk(self.local, target)) {
            None => "Kademlia is turned off",
            Some(false) => "a walk is under way",
            Some(true) => return self.found.clear(),
        };
        events.push_back(NetEvent::WalkEnded { result: Err(failed.to_owned()) });
    }

    // Events of the swarm.

    /// Reports the peers that a walk has found, before its end is reported.
    pub(super) fn report_heard(
        &mut self,
        mut routing: Option<&mut Routing>,
        connections: &Connections,
        events: &mut VecDeque<NetEvent>,
    ) -> bool {
        let mut any = false;
        while let Some((peer, addresses)) = routing.as_mut().and_then(|routing| routing.take_heard()) {
            self.found.insert(peer);
            events.extend(discovered(peer, &addresses, DiscoverySource::Kademlia, connections));
            any = true;
        }
        any
    }

    pub(super) fn on_kad(
        &mut self,
        event: kad::Event,
        routing: Option<&mut Routing>,
        connections: &Connections,
        events: &mut VecDeque<NetEvent>,
    ) {
        let kad::Event::OutboundQueryProgressed { id, result: QueryResult::GetClosestPeers(result), step, .. } = event
        else {
            return;
        };
        if !routing.is_some_and(|routing| routing.is_walk(id, step.last)) {
            return;
        }
        let (found, timed_out) = match result {
            Ok(GetClosestPeersOk { peers, .. }) => (peers, false),
            Err(GetClosestPeersError::Timeout { peers, .. }) => (peers, true),
        };
        for peer in found.into_iter().filter(|peer| peer.peer_id != self.local) {
            self.found.insert(peer.peer_id);
            events.extend(discovered(peer.peer_id, &peer.addrs, DiscoverySource::Kademlia, connections));
        }
        if step.last {
            let peers: Vec<_> = self.found.iter().map(|peer| connections.name(peer)).collect();
            let result = match timed_out && peers.is_empty() {
                true => Err(format!("no answer within {WALK_TIMEOUT:?}")),
                false => Ok(peers),
            };
            events.push_back(NetEvent::WalkEnded { result });
        }
    }

    pub(super) fn on_mdns(&self, event: MdnsEvent, connections: &Connections, events: &mut VecDeque<NetEvent>) {
        let texts =
            |addresses: Vec<SocketAddr>| addresses.into_iter().map(|socket| translate::address(socket).to_string());
        events.push_back(match event {
            MdnsEvent::Heard { peer, addresses } => {
                NetEvent::Announced { peer: connections.name(&peer), addresses: texts(addresses).collect() }
            }
            MdnsEvent::Available => NetEvent::DiscoveryAvailable { source: DiscoverySource::Mdns },
            MdnsEvent::Ignored(addresses) => NetEvent::MdnsIgnored { addresses },
            MdnsEvent::Unavailable(reason) => NetEvent::DiscoveryUnavailable { source: DiscoverySource::Mdns, reason },
        });
    }
}

/// Makes the addresses of a connected peer available to other peers.
pub(super) fn add_route(peer: &PeerId, addresses: &[String], routing: Option<&mut Routing>) {
    if let (Some(peer), Some(routing)) = (translate::libp2p_peer_id(peer), routing) {
        routing.set_route(peer, addresses.iter().filter_map(|text| translate::parse_dialable(text)));
    }
}

fn discovered(
    peer: LibPeerId,
    addresses: &[Multiaddr],
    source: DiscoverySource,
    connections: &Connections,
) -> Option<NetEvent> {
    let addresses = translate::hints(addresses);
    (!addresses.is_empty()).then(|| NetEvent::Discovered { peer: connections.name(&peer), addresses, source })
}
