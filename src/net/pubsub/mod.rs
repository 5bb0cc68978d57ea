//! How do messages get from node to node? GossipSub, within the node's bounds, and a watch for peers that break its
//! rules.

mod gossip;
mod mesh;
mod returns;
mod single;
mod subscriptions;
mod watched;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use libp2p_gossipsub::{self as gossipsub, MessageAcceptance, PublishError, TopicHash};
use libp2p_identity::PeerId as LibPeerId;

use self::gossip::Upstream;
pub(super) use self::gossip::behaviour;
#[cfg(test)]
pub(super) use self::gossip::foreign as foreign_behaviour;
use self::mesh::Mesh;
use self::returns::Returns;
pub(super) use self::watched::Heard;
use self::watched::Watched;
use crate::config::AviP2pConfig;
use crate::id::Topic;
use crate::net::connections::{Connection, Connections};
use crate::net::translate;
use avi_p2p_proto::engine::{NetEvent, PublishId, PublishOutcome};

/// GossipSub as part of the node's behaviour.
pub(super) type Behaviour = Watched<Upstream>;

/// The pub/sub of a node.
pub(super) struct PubSub {
    local: LibPeerId,
    mesh: Mesh,
    returns: Returns,
    paired: BTreeSet<LibPeerId>,
    max_message_bytes: usize,
    max_topics: usize,
    max_topic_bytes: usize,
}

impl PubSub {
    pub(super) fn new(config: &AviP2pConfig, local: LibPeerId) -> Self {
        Self {
            local,
            mesh: Mesh::default(),
            returns: Returns::default(),
            paired: config.paired_peers.iter().filter_map(translate::libp2p_peer_id).collect(),
            max_message_bytes: config.limits.max_message_bytes,
            max_topics: config.limits.max_topics,
            max_topic_bytes: config.limits.max_topic_bytes,
        }
    }

    // Actions of the engine.

    pub(super) fn subscribe(&mut self, topic: &Topic, behaviour: &mut Behaviour) {
        behaviour.subscribe(topic.as_str(), self.max_topics);
        for peer in self.returns.on_joined_here(&TopicHash::from_raw(topic.as_str())) {
            behaviour.upstream().add_explicit_peer(&peer);
        }
    }

    pub(super) fn unsubscribe(&mut self, topic: &Topic, behaviour: &mut Behaviour) {
        let hash = TopicHash::from_raw(topic.as_str());
        for peer in behaviour.upstream().mesh_peers(&hash) {
            self.returns.on_left(*peer, &hash);
        }
        behaviour.unsubscribe(topic.as_str());
    }

    /// Puts a message into the queues of the connections.
    pub(super) fn publish(
        &self,
        publish: PublishId,
        topic: &Topic,
        data: Bytes,
        behaviour: &mut Behaviour,
        events: &mut VecDeque<NetEvent>,
    ) {
        let result = behaviour.upstream().publish(TopicHash::from_raw(topic.as_str()), data);
        events.push_back(NetEvent::Published { publish, outcome: publish_outcome(result) });
    }

    /// Sends nothing more on a connection than it has taken, if there is another to the peer.
    pub(super) fn retire(&self, connection: &Connection, behaviour: &mut Behaviour) {
        behaviour.retire(&connection.peer, connection.in_swarm);
    }

    /// Asks when all that was published for a connection so far is written.
    pub(super) fn flush(&self, connection: &Connection, behaviour: &mut Behaviour) {
        behaviour.flush(connection.peer, connection.in_swarm);
    }

    /// Runs GossipSub's heartbeat, which is due once a second, at the next poll of the behaviour.
    pub(super) fn beat(&mut self, behaviour: &mut Behaviour) {
        let ended = self.returns.count_beat();
        self.end_favours(&ended, behaviour);
        behaviour.beat();
    }

    // Events of the swarm.

    pub(super) fn on_connected(&self, peer: &LibPeerId, behaviour: &mut Behaviour) {
        if self.paired.contains(peer) {
            // Only while it is connected: upstream would dial it, and the engine decides about dials.
            behaviour.upstream().add_explicit_peer(peer);
        }
    }

    /// Forgets a peer that has no connection any more.
    pub(super) fn on_gone(&mut self, peer: &LibPeerId, behaviour: &mut Behaviour) {
        behaviour.upstream().remove_explicit_peer(peer);
        behaviour.subscriptions.forget(peer);
        self.mesh.forget(peer);
        self.returns.forget(peer);
    }

    /// Reports to the engine, once between two heartbeats, that the next heartbeats will have something to do.
    pub(super) fn report_activity(&self, behaviour: &mut Behaviour, events: &mut VecDeque<NetEvent>) -> bool {
        let is_news = behaviour.take_activity();
        events.extend(is_news.then_some(NetEvent::GossipActive));
        let ignored = behaviour.subscriptions.take_ignored();
        events.extend((ignored > 0).then_some(NetEvent::SubscriptionsIgnored { count: ignored }));
        is_news || ignored > 0
    }

    pub(super) fn on_event(
        &mut self,
        event: Heard<gossipsub::Event>,
        behaviour: &mut Behaviour,
        connections: &Connections,
        events: &mut VecDeque<NetEvent>,
    ) {
        match event {
            Heard::Upstream(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_message(&propagation_source, &message_id, message, behaviour, connections, events);
            }
            Heard::Upstream(event) => {
                self.follow_return(&event, behaviour);
                events.extend(neighbour_event(event, connections));
            }
            // The swarm's turn, since it needs the pings.
            Heard::Written { .. } => {}
            Heard::Renewed(peer) => events.push_back(NetEvent::PeerRenewed { peer: connections.name(&peer) }),
            Heard::Beat => self.look_at_mesh(behaviour, connections, events),
            Heard::Opened { connection } => {
                let connection = connections.in_swarm(connection);
                events.extend(connection.map(|connection| NetEvent::PubSubOpened { connection }));
            }
            // The peer broke the protocol on its last substream, or its link stalled.
            Heard::Restarted => events.push_back(NetEvent::MessageRefused),
            Heard::GivenUp { connection } => {
                let connection = connections.in_swarm(connection);
                events.extend(connection.map(|connection| NetEvent::Deaf { connection }));
            }
        }
    }

    /// A neighbour that leaves a topic and comes back gets its messages at once, though it may not be in the mesh until the
    /// backoff is over.
    fn follow_return(&mut self, event: &gossipsub::Event, behaviour: &mut Behaviour) {
        match event {
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                behaviour.subscriptions.on_unsubscribed(peer_id, topic);
                // A peer can leave any number of other topics.
                if behaviour.upstream().topics().any(|here| here == topic) {
                    self.returns.on_left(*peer_id, topic);
                }
            }
            gossipsub::Event::Subscribed { peer_id, topic } => {
                behaviour.subscriptions.on_subscribed(peer_id, topic);
                if self.returns.on_joined(peer_id, topic) {
                    behaviour.upstream().add_explicit_peer(peer_id);
                }
            }
            _ => {}
        }
    }

    /// Lets GossipSub graft those who have returned while the swarm is polled. Returns them, for [`Self::end_poll`].
    pub(super) fn begin_poll(&self, behaviour: &mut Behaviour) -> BTreeSet<LibPeerId> {
        let interrupted = self.returns.favoured();
        self.end_favours(&interrupted, behaviour);
        interrupted
    }

    pub(super) fn end_poll(&mut self, interrupted: &BTreeSet<LibPeerId>, behaviour: &mut Behaviour) {
        if interrupted.is_empty() {
            return;
        }
        let upstream = behaviour.upstream();
        let is_in_mesh = |peer: &LibPeerId, topic: &TopicHash| upstream.mesh_peers(topic).any(|other| other == peer);
        for peer in self.returns.resume(interrupted, is_in_mesh) {
            upstream.add_explicit_peer(&peer);
        }
    }

    fn end_favours(&self, peers: &BTreeSet<LibPeerId>, behaviour: &mut Behaviour) {
        for peer in peers.difference(&self.paired) {
            behaviour.upstream().remove_explicit_peer(peer);
        }
    }

    fn on_misbehaved(&mut self, peer: LibPeerId, connections: &Connections, events: &mut VecDeque<NetEvent>) {
        if self.mesh.is_news(peer) {
            events.push_back(NetEvent::Misbehaved { peer: connections.name(&peer) });
        }
    }

    /// Reports the members of the meshes if they have changed, and the peers that are graylisted.
    fn look_at_mesh(&mut self, behaviour: &Behaviour, connections: &Connections, events: &mut VecDeque<NetEvent>) {
        for peer in connections.peers().filter(|peer| behaviour.is_graylisted(peer)) {
            self.on_misbehaved(peer, connections, events);
        }
        if let Some(peers) = self.mesh.look(behaviour.mesh().collect()) {
            let peers = peers.iter().map(|peer| connections.name(peer)).collect();
            events.push_back(NetEvent::MeshChanged { peers });
        }
    }

    /// Decides whether a message is forwarded. One beyond this node's bounds is not: an honest peer may be configured with
    /// others.
    fn on_message(
        &mut self,
        forwarder: &LibPeerId,
        id: &gossipsub::MessageId,
        message: gossipsub::Message,
        behaviour: &mut Behaviour,
        connections: &Connections,
        events: &mut VecDeque<NetEvent>,
    ) {
        // A neighbour may send back what this node wrote before a restart. That is no fault.
        let is_own = message.source == Some(self.local);
        let event = (!is_own).then(|| self.message(message, connections));
        let is_accepted = matches!(event, Some(NetEvent::Message { .. }));
        // Never reject: the penalty would fall on peers that forward another message with the same id, and the author
        // chooses the ids.
        let verdict = if is_accepted { MessageAcceptance::Accept } else { MessageAcceptance::Ignore };
        // It is false for a message that is too old to be forwarded.
        let _ = behaviour.upstream().report_message_validation_result(id, forwarder, verdict);
        events.extend(event);
    }

    fn message(&self, message: gossipsub::Message, connections: &Connections) -> NetEvent {
        let fits = message.data.len() <= self.max_message_bytes && message.topic.as_str().len() <= self.max_topic_bytes;
        match message.source {
            Some(author) if fits => NetEvent::Message {
                from: connections.name(&author),
                topic: message.topic.into_string(),
                data: Bytes::from(message.data),
            },
            _ => NetEvent::MessageRefused,
        }
    }
}

/// Translates an event of GossipSub about a neighbour.
fn neighbour_event(event: gossipsub::Event, connections: &Connections) -> Option<NetEvent> {
    Some(match event {
        gossipsub::Event::Subscribed { peer_id, topic } => {
            NetEvent::PeerSubscribed { peer: connections.name(&peer_id), topic: topic.into_string() }
        }
        gossipsub::Event::Unsubscribed { peer_id, topic } => {
            NetEvent::PeerUnsubscribed { peer: connections.name(&peer_id), topic: topic.into_string() }
        }
        gossipsub::Event::SlowPeer { peer_id, failed_messages } => {
            let dropped = failed_messages.priority + failed_messages.non_priority;
            NetEvent::SlowPeer { peer: connections.name(&peer_id), dropped: dropped as u64 }
        }
        gossipsub::Event::GossipsubNotSupported { peer_id } => NetEvent::Foreign { peer: connections.name(&peer_id) },
        gossipsub::Event::Message { .. } => return None,
    })
}

/// Translates the result of a publish.
fn publish_outcome<T>(result: Result<T, PublishError>) -> PublishOutcome {
    match result {
        Ok(_) => PublishOutcome::Sent,
        Err(PublishError::NoPeersSubscribedToTopic) => PublishOutcome::NoSubscribers,
        Err(PublishError::AllQueuesFull(_)) => PublishOutcome::Congested,
        Err(PublishError::MessageTooLarge) => PublishOutcome::Refused("the message is too large"),
        // Nothing is sent then. It cannot happen: the sequence number rises with each message.
        Err(PublishError::Duplicate) => PublishOutcome::Refused("the message has been sent before"),
        Err(PublishError::SigningError(_)) => PublishOutcome::Refused("the message cannot be signed"),
        Err(PublishError::TransformFailed(_)) => PublishOutcome::Refused("the message cannot be encoded"),
    }
}
