//! The only room of libp2p. It decides nothing: it carries out what the engine wants and reports what happens.

mod audio;
mod behaviour;
mod connections;
mod events;
mod gate;
mod gossip;
mod identity;
mod interfaces;
mod listeners;
mod liveness;
mod mdns;
mod mesh;
mod metrics;
mod muxer;
mod neighbours;
mod pulse;
pub(crate) mod reactor;
mod records;
mod routing;
mod start;
mod substreams;
mod tasks;
#[cfg(test)]
mod tests;
mod translate;
mod transport;
mod wake;
mod watched;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream as _;
use libp2p_core::Multiaddr;
use libp2p_gossipsub::TopicHash;
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{ConnectionId as LibConnectionId, Swarm, SwarmEvent};

use self::behaviour::{Behaviour, BehaviourEvent};
use self::connections::Connections;
use self::interfaces::Watch;
use self::listeners::Followed;
use self::liveness::Liveness;
use self::mesh::Mesh;
use self::metrics::Recorder;
use self::neighbours::Neighbours;
use self::pulse::BEATS_AFTER_MESSAGE;
use self::substreams::Substreams;
pub(crate) use self::tasks::Tasks;
use self::wake::Flag;
pub(crate) use self::wake::Task;
use crate::engine::{ConnectionId, DialFailure, DialId, NetAction, NetEvent, PublishId};
use crate::event::DiscoverySource;
use crate::id::{PeerId, StreamId, Topic};
use crate::transport::Network;

/// Sources that are looked at in a row without an event: a task that wakes itself must not keep the reactor waiting.
const ROUNDS: usize = 16;

/// The network of a node.
pub(crate) struct Net {
    swarm: Swarm<Behaviour>,
    /// A ready substream does not poll the swarm, whose poll costs more than a small frame.
    swarm_due: Arc<Flag>,
    swarm_waker: Waker,
    swarm_first: bool,
    tasks: Arc<Tasks>,
    task: Arc<Task>,
    substreams: Substreams,
    neighbours: Neighbours,
    /// Of the operating system's network, if anything depends on it.
    watch: Option<Watch>,
    followed: Option<Followed>,
    connections: Connections,
    liveness: Liveness,
    mesh: Mesh,
    recorder: Recorder,
    paired: BTreeSet<libp2p_identity::PeerId>,
    dials: BTreeMap<LibConnectionId, (DialId, Option<libp2p_identity::PeerId>)>,
    opening: BTreeMap<StreamId, ConnectionId>,
    walk_found: BTreeSet<libp2p_identity::PeerId>,
    /// What the engine knows; `None` before the start is complete.
    listening: Option<Vec<String>>,
    events: VecDeque<NetEvent>,
    local: PeerId,
    bounds: Bounds,
}

/// What a node's network is built on.
pub(crate) struct Around {
    pub(crate) network: Network,
    /// Whether the tokio reactor of this thread goes on when the node has ended.
    pub(crate) reactor_outlives_node: bool,
}

/// What the room itself holds peers to.
struct Bounds {
    message_bytes: usize,
    topics: usize,
    topic_bytes: usize,
    audio_substreams: usize,
}

impl Net {
    /// This node's id.
    pub(crate) fn local_peer_id(&self) -> &PeerId {
        &self.local
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections.count()
    }

    /// The tasks of its connections.
    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }

    /// What happened next. Fair between the swarm and the substreams. If there is nothing, more may be
    /// [due](Self::is_due) nevertheless.
    pub(crate) fn next_event(&mut self) -> Option<NetEvent> {
        for _ in 0..ROUNDS {
            if let Some(event) = self.queued_event() {
                return Some(event);
            }
            if let Some(connection) = self.liveness.poll_silent() {
                tracing::debug!(?connection, "no pong");
                return Some(NetEvent::PingTimeout { connection });
            }
            if let Some((peer, address)) = self.neighbours.poll_next() {
                self.on_neighbour(peer, address);
                continue;
            }
            if self.watch.as_mut().is_some_and(Watch::poll_due) {
                self.on_interfaces();
                continue;
            }
            let has_moved = self.tasks.poll();
            self.swarm_first = !self.swarm_first;
            let has_more = match self.swarm_first {
                true => self.turn_swarm() || self.substreams.poll(&mut self.events),
                false => self.substreams.poll(&mut self.events) || self.turn_swarm(),
            };
            if !has_moved && !has_more && self.events.is_empty() {
                return None;
            }
        }
        self.queued_event()
    }

    /// What has happened already.
    pub(crate) fn queued_event(&mut self) -> Option<NetEvent> {
        self.events.pop_front()
    }

    /// Lets connections write what was given to them.
    pub(crate) fn move_bytes(&mut self) {
        self.tasks.poll();
    }

    /// Whether [`next_event`](Self::next_event) is to be called before the task sleeps.
    pub(crate) fn is_due(&self) -> bool {
        !self.events.is_empty()
            || self.swarm_due.is_set()
            || self.tasks.is_due()
            || self.substreams.is_due()
            || self.liveness.is_due()
            || self.neighbours.is_due()
            || self.watch.as_ref().is_some_and(Watch::is_due)
    }

    /// Translates one event of the swarm. False when there is none.
    fn turn_swarm(&mut self) -> bool {
        let Poll::Ready(event) = self.poll_swarm() else { return self.report_heard() };
        self.report_heard();
        self.on_swarm_event(event);
        true
    }

    fn poll_swarm(&mut self) -> Poll<SwarmEvent<BehaviourEvent>> {
        if !self.swarm_due.take() {
            return Poll::Pending;
        }
        let cx = &mut Context::from_waker(&self.swarm_waker);
        match Pin::new(&mut self.swarm).poll_next(cx) {
            Poll::Ready(Some(event)) => {
                self.swarm_due.set();
                Poll::Ready(event)
            }
            // A swarm never ends.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// What a walk has heard of comes before its end.
    fn report_heard(&mut self) -> bool {
        let mut any = false;
        while let Some((peer, addresses)) =
            self.swarm.behaviour_mut().routing.as_mut().and_then(|routing| routing.take_heard())
        {
            self.walk_found.insert(peer);
            self.discovered(peer, &addresses, DiscoverySource::Kademlia);
            any = true;
        }
        any
    }

    /// Carries out what the engine wants. Names of what has ended meanwhile are ignored.
    pub(crate) fn act(&mut self, action: NetAction) {
        match action {
            NetAction::Write { substream, bytes } => {
                return self.substreams.write(substream, bytes, &mut self.events);
            }
            NetAction::Finish { substream } => return self.substreams.finish(substream),
            NetAction::Reset { substream } => return self.reset(substream),
            NetAction::Dial { dial, peer, addresses } => self.dial(dial, peer, &addresses),
            NetAction::Disconnect { connection } => self.disconnect(connection),
            NetAction::Admit { admission } => self.swarm.behaviour_mut().gate.admit(admission),
            NetAction::DisconnectAll => self.disconnect_all(),
            NetAction::AddRoute { peer, addresses } => self.add_route(&peer, &addresses),
            NetAction::Walk { target } => self.walk(target),
            NetAction::Subscribe { topic } => {
                self.swarm.behaviour_mut().gossipsub.subscribe(topic.as_str(), self.bounds.topics);
            }
            NetAction::Unsubscribe { topic } => {
                self.swarm.behaviour_mut().gossipsub.unsubscribe(topic.as_str());
            }
            // It goes to the connections' own queues.
            NetAction::Publish { publish, topic, data } => return self.publish(publish, &topic, data),
            NetAction::OpenSubstream { stream, connection } => self.open_substream(stream, connection),
        }
        self.swarm_due.set();
    }

    fn dial(&mut self, dial: DialId, peer: Option<PeerId>, addresses: &[String]) {
        let opts = match dial_opts(peer.as_ref(), addresses) {
            Ok(opts) => opts,
            Err(reason) => {
                let failure = DialFailure::Unreachable(reason.to_owned());
                return self.events.push_back(NetEvent::DialFailed { dial, failure });
            }
        };
        let (connection, peer) = (opts.connection_id(), opts.get_peer_id());
        if let Some(routing) = self.swarm.behaviour_mut().routing.as_mut() {
            routing.expect_dial(connection);
        }
        match self.swarm.dial(opts) {
            Ok(()) => drop(self.dials.insert(connection, (dial, peer))),
            Err(error) => {
                let failure = translate::dial_failure(&error);
                self.events.push_back(NetEvent::DialFailed { dial, failure });
            }
        }
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        if let Some(connection) = self.connections.by_id(connection) {
            self.swarm.close_connection(connection.in_swarm);
        }
    }

    fn disconnect_all(&mut self) {
        self.swarm.behaviour_mut().gate.close();
        let dialled = self.dials.values().filter_map(|&(_, peer)| peer);
        let peers: Vec<_> = self.connections.peers().chain(dialled).collect();
        for peer in peers {
            // An error says that there is no connection, only a dial; that ends too.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    fn add_route(&mut self, peer: &PeerId, addresses: &[String]) {
        let Some(peer) = translate::libp2p_peer_id(peer) else { return };
        if let Some(routing) = self.swarm.behaviour_mut().routing.as_mut() {
            routing.set_route(peer, addresses.iter().filter_map(|text| translate::parse_dialable(text)));
        }
    }

    fn walk(&mut self, target: Option<[u8; 32]>) {
        let local = *self.swarm.local_peer_id();
        let begun = self.swarm.behaviour_mut().routing.as_mut().map(|routing| routing.walk(local, target));
        let failed = match begun {
            None => "Kademlia is turned off",
            Some(false) => "a walk is under way",
            Some(true) => return self.walk_found.clear(),
        };
        self.events.push_back(NetEvent::WalkEnded { result: Err(failed.to_owned()) });
    }

    fn publish(&mut self, publish: PublishId, topic: &Topic, data: Bytes) {
        let topic = TopicHash::from_raw(topic.as_str());
        let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
        let result = gossipsub.upstream.publish(topic, data);
        if gossipsub.quicken_for(BEATS_AFTER_MESSAGE) {
            self.swarm_due.set();
        }
        let outcome = translate::publish_outcome(result);
        self.events.push_back(NetEvent::Published { publish, outcome });
    }

    fn open_substream(&mut self, stream: StreamId, connection: ConnectionId) {
        let failed = match self.connections.by_id(connection) {
            None => "the connection has ended",
            Some(_) if self.opening(connection) >= self.bounds.audio_substreams => {
                "the connection opens too many substreams already"
            }
            Some(_) if self.substreams.count(connection) >= 2 * self.bounds.audio_substreams => {
                "the connection has too many substreams"
            }
            Some(connection) => {
                self.opening.insert(stream, connection.id);
                return self.swarm.behaviour_mut().audio.open(connection.peer, connection.in_swarm, stream);
            }
        };
        self.events.push_back(NetEvent::SubstreamFailed { stream, reason: failed.to_owned() });
    }

    /// Substreams that are being negotiated, which a stalled connection does not.
    fn opening(&self, connection: ConnectionId) -> usize {
        self.opening.values().filter(|other| **other == connection).count()
    }

    fn reset(&mut self, substream: crate::engine::SubstreamId) {
        self.substreams.reset(substream);
        self.events.retain(|event| events::substream_of(event) != Some(substream));
    }
}

fn dial_opts(peer: Option<&PeerId>, addresses: &[String]) -> Result<DialOpts, &'static str> {
    let mut usable: Vec<Multiaddr> = addresses.iter().filter_map(|text| translate::parse_dialable(text)).collect();
    if usable.is_empty() {
        return Err("no usable address");
    }
    // From a new port always: two nodes that dial each other from their listening ports make one TCP connection with
    // two diallers, whose handshake fails.
    Ok(match peer {
        Some(peer) => DialOpts::peer_id(translate::libp2p_peer_id(peer).ok_or("not a peer id")?)
            .condition(PeerCondition::Always)
            .allocate_new_port()
            .addresses(usable)
            .build(),
        None => DialOpts::unknown_peer_id().address(usable.swap_remove(0)).allocate_new_port().build(),
    })
}
