//! What does an event of the swarm mean to the engine?

use std::net::SocketAddr;

use bytes::Bytes;
use libp2p_core::{ConnectedPoint, Multiaddr};
use libp2p_gossipsub::{self as gossipsub, MessageAcceptance};
use libp2p_identify as identify;
use libp2p_identity::PeerId as LibPeerId;
use libp2p_kad::{self as kad, GetClosestPeersError, GetClosestPeersOk, QueryResult};
use libp2p_ping as ping;
use libp2p_swarm::{ConnectionId as LibConnectionId, DialError, ListenError, SwarmEvent};

use crate::engine::{Direction, NetEvent, SubstreamId};
use crate::event::DiscoverySource;
use crate::id::PeerId;
use crate::net::audio::{self, Negotiated};
use crate::net::behaviour::{BehaviourEvent, PROTOCOL_VERSION, WALK_TIMEOUT};
use crate::net::pulse::BEATS_AFTER_MESSAGE;
use crate::net::watched::Heard;
use crate::net::{Net, mdns, translate};

impl Net {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        self.recorder.record(&event);
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(connection_id, peer_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, num_established, .. } => {
                if let Some(connection) = self.connections.remove(connection_id) {
                    let peer = translate::peer_id(&connection.peer);
                    tracing::debug!(%peer, ?cause, "disconnected");
                    if num_established == 0 {
                        self.swarm.behaviour_mut().gossipsub.upstream.remove_explicit_peer(&connection.peer);
                        self.mesh.forget(&connection.peer);
                    }
                    self.substreams.drop_connection(connection.id);
                    self.liveness.forget(connection.id);
                    self.opening.retain(|_, other| *other != connection.id);
                    self.events.push_back(NetEvent::Disconnected { connection: connection.id, peer });
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_error(connection_id, &error)
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "inbound connection failed");
                self.events.push_back(match error {
                    ListenError::Denied { cause } => NetEvent::InboundRefused(translate::refusal(&cause)),
                    _ => NetEvent::InboundFailed,
                });
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.on_bound(listener_id, &address);
                self.on_listening();
            }
            SwarmEvent::ExpiredListenAddr { .. } => self.on_listening(),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                match reason {
                    Ok(()) => tracing::debug!(?addresses, "a listener has ended"),
                    Err(error) => tracing::warn!(?addresses, %error, "a listener has ended"),
                }
                self.on_unbound(listener_id);
                self.on_listening();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener has a problem"),
            _ => {}
        }
    }

    fn on_listening(&mut self) {
        if self.listening.is_some() {
            self.report_listening();
        }
    }

    fn on_established(&mut self, in_swarm: LibConnectionId, peer: LibPeerId, endpoint: &ConnectedPoint) {
        let direction = match endpoint {
            ConnectedPoint::Dialer { .. } => match self.dials.remove(&in_swarm) {
                Some((dial, _)) => Direction::Outbound(dial),
                None => {
                    // No dial but the engine's gets this far.
                    self.swarm.close_connection(in_swarm);
                    return;
                }
            },
            ConnectedPoint::Listener { .. } => Direction::Inbound,
        };
        let connection = self.connections.add(in_swarm, peer);
        if self.paired.contains(&peer) {
            // Only while it is connected: upstream would dial it, and dials are the engine's.
            self.swarm.behaviour_mut().gossipsub.upstream.add_explicit_peer(&peer);
        }
        self.liveness.heard(connection);
        let peer = self.connections.name(&peer);
        let address = translate::text(endpoint.get_remote_address());
        tracing::debug!(%peer, address, ?direction, "connected");
        self.events.push_back(NetEvent::Connected { connection, peer, address, direction });
    }

    fn on_dial_error(&mut self, in_swarm: LibConnectionId, error: &DialError) {
        let failure = translate::dial_failure(error);
        tracing::debug!(?failure, "dial failed");
        // No dial but the engine's gets this far.
        if let Some((dial, _)) = self.dials.remove(&in_swarm) {
            self.events.push_back(NetEvent::DialFailed { dial, failure });
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gate(never) => match never {},
            BehaviourEvent::Audio(event) => self.on_audio(event),
            BehaviourEvent::Gossipsub(Heard::Upstream(event)) => self.on_gossipsub(event),
            BehaviourEvent::Gossipsub(Heard::Beat) => self.look_at_mesh(),
            BehaviourEvent::Gossipsub(Heard::Restarted { peer, is_too_often }) => self.on_restart(&peer, is_too_often),
            BehaviourEvent::Routing(event) => self.on_kad(event),
            BehaviourEvent::Mdns(event) => self.on_mdns(event),
            BehaviourEvent::Identify(event) => self.on_identify(event),
            BehaviourEvent::Ping(event) => self.on_ping(event),
        }
    }

    fn on_audio(&mut self, event: audio::Event) {
        // A connection that has ended has no substreams, and the engine expects no answer.
        let Some(connection) = self.connections.in_swarm(event.connection) else { return };
        match event.negotiated {
            Negotiated::Inbound(_) if self.substreams.count(connection) >= self.bounds.audio_substreams => {
                tracing::debug!(peer = %event.peer, "too many audio substreams: reset");
            }
            Negotiated::Inbound(io) => {
                let substream = self.substreams.add(connection, io);
                let peer = self.connections.name(&event.peer);
                self.events.push_back(NetEvent::SubstreamOffered { substream, peer, connection });
            }
            Negotiated::Outbound(stream, Ok(io)) => {
                self.opening.remove(&stream);
                let substream = self.substreams.add(connection, io);
                self.events.push_back(NetEvent::SubstreamOpened { stream, substream });
            }
            Negotiated::Outbound(stream, Err(reason)) => {
                self.opening.remove(&stream);
                self.events.push_back(NetEvent::SubstreamFailed { stream, reason });
            }
        }
    }

    fn on_gossipsub(&mut self, event: gossipsub::Event) {
        let event = match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                return self.on_message(&propagation_source, &message_id, message);
            }
            gossipsub::Event::Subscribed { peer_id, topic } => {
                NetEvent::PeerSubscribed { peer: self.connections.name(&peer_id), topic: topic.into_string() }
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                NetEvent::PeerUnsubscribed { peer: self.connections.name(&peer_id), topic: topic.into_string() }
            }
            gossipsub::Event::SlowPeer { peer_id, failed_messages } => {
                let dropped = failed_messages.priority + failed_messages.non_priority;
                NetEvent::SlowPeer { peer: self.connections.name(&peer_id), dropped: dropped as u64 }
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                return tracing::debug!(peer = %peer_id, "a peer without pub/sub");
            }
        };
        self.events.push_back(event);
    }

    /// What the peer sent on the last substream broke the protocol.
    fn on_restart(&mut self, peer: &LibPeerId, is_too_often: bool) {
        match is_too_often {
            true => self.on_misbehaved(*peer),
            false => self.events.push_back(NetEvent::MessageRefused),
        }
    }

    fn on_misbehaved(&mut self, peer: LibPeerId) {
        if self.mesh.is_news(peer) {
            self.events.push_back(NetEvent::Misbehaved { peer: self.connections.name(&peer) });
        }
    }

    /// Tells who is in the meshes, if that is news, and who is not listened to any more.
    fn look_at_mesh(&mut self) {
        let gossipsub = &self.swarm.behaviour().gossipsub;
        let graylisted: Vec<_> = self.connections.peers().filter(|peer| gossipsub.is_graylisted(peer)).collect();
        graylisted.into_iter().for_each(|peer| self.on_misbehaved(peer));
        let gossipsub = &self.swarm.behaviour().gossipsub;
        if let Some(peers) = self.mesh.look(gossipsub.mesh().collect()) {
            let peers = peers.iter().map(|peer| self.connections.name(peer)).collect();
            self.events.push_back(NetEvent::MeshChanged { peers });
        }
    }

    /// Lets a message go on to others, or not: those who forward what is beyond the bounds are ended as its author is.
    fn on_message(&mut self, forwarder: &LibPeerId, id: &gossipsub::MessageId, message: gossipsub::Message) {
        // A neighbour's echo of what this node wrote before it was restarted is nobody's fault.
        let is_own = message.source.as_ref() == Some(self.swarm.local_peer_id());
        let event = (!is_own).then(|| self.message(message));
        let is_accepted = matches!(event, Some(NetEvent::Message { .. }));
        // Never a rejection: it would fall on whoever forwards another message under the same id, which is its author's
        // to choose.
        let verdict = if is_accepted { MessageAcceptance::Accept } else { MessageAcceptance::Ignore };
        if !is_own && !is_accepted && self.mesh.is_too_often(*forwarder) {
            self.on_misbehaved(*forwarder);
        }
        let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
        // It is false for a message that is too old to be forwarded.
        let _ = gossipsub.upstream.report_message_validation_result(id, forwarder, verdict);
        if gossipsub.quicken_for(BEATS_AFTER_MESSAGE) {
            self.swarm_due.set();
        }
        self.events.extend(event);
    }

    fn message(&self, message: gossipsub::Message) -> NetEvent {
        let fits =
            message.data.len() <= self.bounds.message_bytes && message.topic.as_str().len() <= self.bounds.topic_bytes;
        match message.source {
            Some(author) if fits => NetEvent::Message {
                from: self.connections.name(&author),
                topic: message.topic.into_string(),
                data: Bytes::from(message.data),
            },
            _ => NetEvent::MessageRefused,
        }
    }

    fn on_kad(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result: QueryResult::GetClosestPeers(result), step, .. } = event
        else {
            return;
        };
        let routing = self.swarm.behaviour_mut().routing.as_mut();
        if !routing.is_some_and(|routing| routing.is_walk(id, step.last)) {
            return;
        }
        let (found, timed_out) = match result {
            Ok(GetClosestPeersOk { peers, .. }) => (peers, false),
            Err(GetClosestPeersError::Timeout { peers, .. }) => (peers, true),
        };
        let local = *self.swarm.local_peer_id();
        for peer in found.into_iter().filter(|peer| peer.peer_id != local) {
            self.walk_found.insert(peer.peer_id);
            self.discovered(peer.peer_id, &peer.addrs, DiscoverySource::Kademlia);
        }
        if step.last {
            let peers: Vec<_> = self.walk_found.iter().map(|peer| self.connections.name(peer)).collect();
            let result = match timed_out && peers.is_empty() {
                true => Err(format!("no answer within {WALK_TIMEOUT:?}")),
                false => Ok(peers),
            };
            self.events.push_back(NetEvent::WalkEnded { result });
        }
    }

    fn on_mdns(&mut self, event: mdns::Event) {
        let texts =
            |addresses: Vec<SocketAddr>| addresses.into_iter().map(|socket| translate::address(socket).to_string());
        let event = match event {
            mdns::Event::Found { peer, addresses } => NetEvent::Discovered {
                peer: self.connections.name(&peer),
                addresses: texts(addresses).collect(),
                source: DiscoverySource::Mdns,
            },
            mdns::Event::Expired { peer, addresses } => {
                NetEvent::Expired { peer: self.connections.name(&peer), addresses: texts(addresses).collect() }
            }
            mdns::Event::Ignored(addresses) => NetEvent::MdnsIgnored { addresses },
            mdns::Event::Unavailable(reason) => {
                NetEvent::DiscoveryUnavailable { source: DiscoverySource::Mdns, reason }
            }
        };
        self.events.push_back(event);
    }

    pub(super) fn on_neighbour(&mut self, peer: PeerId, address: SocketAddr) {
        if let Some(peer) = translate::libp2p_peer_id(&peer) {
            self.discovered(peer, &[translate::address(address)], DiscoverySource::Mdns);
        }
    }

    pub(super) fn discovered(&mut self, peer: LibPeerId, addresses: &[Multiaddr], source: DiscoverySource) {
        let addresses = translate::hints(addresses);
        if !addresses.is_empty() {
            let peer = self.connections.name(&peer);
            self.events.push_back(NetEvent::Discovered { peer, addresses, source });
        }
    }

    fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received { peer_id, info, .. } if info.protocol_version != PROTOCOL_VERSION => {
                tracing::debug!(peer = %peer_id, version = info.protocol_version, "not a node of AVI");
                self.events.push_back(NetEvent::Foreign { peer: self.connections.name(&peer_id) });
            }
            identify::Event::Received { peer_id, info, .. } => self.events.push_back(NetEvent::Identified {
                peer: self.connections.name(&peer_id),
                name: translate::name(&info.agent_version),
                addresses: translate::hints(&info.listen_addrs),
            }),
            identify::Event::Error { peer_id, error, .. } => tracing::debug!(peer = %peer_id, %error, "not identified"),
            identify::Event::Sent { .. } | identify::Event::Pushed { .. } => {}
        }
    }

    fn on_ping(&mut self, event: ping::Event) {
        let Some(connection) = self.connections.in_swarm(event.connection) else { return };
        match event.result {
            Ok(rtt) => {
                self.liveness.heard(connection);
                self.events.push_back(NetEvent::Pong { peer: self.connections.name(&event.peer), rtt });
            }
            // Nobody would notice when it is gone; and every node of AVI answers.
            Err(ping::Failure::Unsupported) => {
                tracing::debug!(peer = %event.peer, "without pings, not a node of AVI");
                self.events.push_back(NetEvent::Foreign { peer: self.connections.name(&event.peer) });
            }
            // Silence is what counts.
            Err(error) => tracing::debug!(peer = %event.peer, %error, "ping failed"),
        }
    }
}

/// The substream that an event is about.
pub(super) fn substream_of(event: &NetEvent) -> Option<SubstreamId> {
    match event {
        NetEvent::SubstreamOpened { substream, .. }
        | NetEvent::SubstreamOffered { substream, .. }
        | NetEvent::Received { substream, .. }
        | NetEvent::Writable { substream }
        | NetEvent::Finished { substream }
        | NetEvent::Broken { substream, .. } => Some(*substream),
        _ => None,
    }
}
