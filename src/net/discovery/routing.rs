//! How are more nodes found through known ones? Kademlia that queries connected peers, and leaves every dial to the
//! engine.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p_core::transport::PortUse;
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p_kad::{self as kad, BucketInserts, Caching, Mode, QueryId, StoreInserts};
use libp2p_swarm::behaviour::FromSwarm;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, NetworkBehaviour, NotifyHandler, StreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};

use thiserror::Error;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/avi/kad/1.0.0");
/// The time limit of a walk.
pub(super) const WALK_TIMEOUT: Duration = Duration::from_secs(10);
/// Peers per bucket. There are 256 buckets, and upstream allocates all of them at once. The table holds only connected
/// peers, and answers with 20.
const BUCKET_PEERS: NonZeroUsize = NonZeroUsize::new(8).unwrap();
/// The most peers that a walk has heard of and that are not taken yet.
const MAX_HEARD: usize = 1024;

/// The error that ends a dial that upstream begins by itself.
#[derive(Debug, Error)]
#[error("dials are the engine's")]
struct NotOrdered;

/// Wraps libp2p's Kademlia, which dials every peer that it wants to query, and starts queries by itself whenever there
/// is a new peer. This wrapper queries only connected peers, when the engine orders a walk, and reports the others: the
/// engine decides whether to dial them.
pub(in crate::net) struct Routing {
    kad: kad::Behaviour<MemoryStore>,
    walk: Option<QueryId>,
    /// The dial that the engine has just ordered.
    engine_dial: Option<ConnectionId>,
    heard: VecDeque<(PeerId, Vec<Multiaddr>)>,
    /// The connected peers that answer queries.
    speakers: BTreeSet<PeerId>,
}

impl Routing {
    pub(in crate::net) fn new(local: PeerId) -> Self {
        let mut config = kad::Config::new(PROTOCOL);
        config
            .set_query_timeout(WALK_TIMEOUT)
            .set_kbucket_size(BUCKET_PEERS)
            .set_kbucket_inserts(BucketInserts::Manual)
            .set_periodic_bootstrap_interval(None)
            .set_record_filtering(StoreInserts::FilterBoth)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_publication_interval(None)
            .set_caching(Caching::Disabled);
        let store =
            MemoryStoreConfig { max_records: 1, max_value_bytes: 64, max_providers_per_key: 1, max_provided_keys: 1 };
        let mut kad = kad::Behaviour::with_config(local, MemoryStore::with_config(local, store), config);
        // Upstream answers others only after an external address has been confirmed.
        kad.set_mode(Some(Mode::Server));
        Self { kad, walk: None, engine_dial: None, heard: VecDeque::new(), speakers: BTreeSet::new() }
    }

    /// The dial with this id is the engine's, and allowed.
    pub(in crate::net) fn expect_dial(&mut self, connection: ConnectionId) {
        self.engine_dial = Some(connection);
    }

    /// A connected peer speaks these protocols.
    pub(in crate::net) fn on_protocols(&mut self, peer: PeerId, protocols: &[StreamProtocol]) {
        if protocols.contains(&PROTOCOL) {
            self.speakers.insert(peer);
        } else {
            self.remove(&peer);
        }
    }

    fn remove(&mut self, peer: &PeerId) {
        self.speakers.remove(peer);
        self.kad.remove_peer(peer);
    }

    /// Sets the addresses of this peer that other peers are told. They replace the earlier ones. Nobody could ask a peer
    /// that does not answer queries.
    pub(super) fn set_route(&mut self, peer: PeerId, addresses: impl Iterator<Item = Multiaddr>) {
        if !self.speakers.contains(&peer) {
            return;
        }
        let mut addresses = addresses.peekable();
        if addresses.peek().is_some() {
            self.kad.remove_peer(&peer);
        }
        for address in addresses {
            self.kad.add_address(&peer, address);
        }
    }

    /// Starts a walk towards a key; `None` means this node's own. Returns false if a walk is running.
    pub(super) fn walk(&mut self, local: PeerId, target: Option<[u8; 32]>) -> bool {
        if self.walk.is_some() {
            return false;
        }
        self.walk = Some(match target {
            Some(key) => self.kad.get_closest_peers(key.to_vec()),
            None => self.kad.get_closest_peers(local),
        });
        true
    }

    /// Whether an answer belongs to the current walk. The last answer ends the walk.
    pub(super) fn is_walk(&mut self, query: QueryId, is_last: bool) -> bool {
        let is_walk = self.walk == Some(query);
        if is_walk && is_last {
            self.walk = None;
        }
        is_walk
    }

    /// Takes a peer that the walk would have queried if it were connected.
    pub(super) fn take_heard(&mut self) -> Option<(PeerId, Vec<Multiaddr>)> {
        self.heard.pop_front()
    }

    /// Ends the queries that upstream has started by itself.
    fn end_other_queries(&mut self) {
        for mut query in self.kad.iter_queries_mut() {
            if Some(query.id()) != self.walk {
                query.finish();
            }
        }
    }
}

impl NetworkBehaviour for Routing {
    type ConnectionHandler = <kad::Behaviour<MemoryStore> as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.engine_dial.take() == Some(connection) {
            return Ok(Vec::new());
        }
        let known = self.kad.handle_pending_outbound_connection(connection, peer, addresses, role)?;
        if let Some(peer) = peer
            && self.heard.len() < MAX_HEARD
        {
            self.heard.push_back((peer, known));
        }
        Err(ConnectionDenied::new(NotOrdered))
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        let gone = match &event {
            FromSwarm::ConnectionClosed(closed) if closed.remaining_established == 0 => Some(closed.peer_id),
            _ => None,
        };
        // Upstream uses a new address of this node only to start a bootstrap of its own.
        if !matches!(event, FromSwarm::NewListenAddr(_)) {
            self.kad.on_swarm_event(event);
        }
        // Newcomers hear of those who are there.
        gone.inspect(|peer| self.remove(peer));
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.kad.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            let polled = self.kad.poll(cx);
            self.end_other_queries();
            match polled {
                // A request to any connection of the peer. Answers go to the connection that asked.
                Poll::Ready(ToSwarm::NotifyHandler { handler: NotifyHandler::Any, .. }) if self.walk.is_none() => {}
                polled => return polled,
            }
        }
    }
}
