//! The only module that uses libp2p. It makes no decisions: it carries out the engine's actions and reports events.

mod audio;
mod connections;
#[cfg(feature = "context")]
mod context;
mod discovery;
mod listening;
mod media;
mod names;
mod pubsub;
mod reactor;
mod start;
mod swarm;
#[cfg(test)]
mod tests;
mod translate;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

use libp2p_identify as identify;
use libp2p_swarm::SwarmEvent;

use self::audio::Audio;
use self::connections::{Connections, Dial};
#[cfg(feature = "context")]
use self::context::Exchanges;
use self::discovery::{Discovery, Mdns};
use self::listening::{Addresses, Listening};
use self::media::Media;
use self::names::{Found, Names};
use self::pubsub::{Heard, PubSub};
use self::reactor::Reactor;
use self::swarm::{BehaviourEvent, Recorder, Swarm};
use crate::id::PeerId;
use crate::lock::Lock;
use crate::network;
use crate::wake::Wake;
use avi_p2p_proto::engine::{DialFailure, DialId, NetAction, NetEvent};

/// How many sources in a row are polled without an event. A task that wakes itself must not block the reactor.
const ROUNDS: usize = 16;
/// The swarm, the substreams and the datagrams.
const SOURCES: usize = 3;

/// The network of a node.
pub(crate) struct Net {
    swarm: Swarm,
    /// Whose turn is next.
    turns: usize,
    wake: Arc<Wake>,
    connections: Connections,
    names: Names,
    listening: Listening,
    discovery: Discovery,
    pubsub: PubSub,
    audio: Audio,
    media: Media,
    #[cfg(feature = "context")]
    context: Exchanges,
    /// The key that signs what this node writes into the shared context, until the engine has it.
    #[cfg(feature = "context")]
    secret: Option<zeroize::Zeroizing<[u8; 32]>>,
    recorder: Recorder,
    events: VecDeque<NetEvent>,
    local: PeerId,
    /// Keeps other nodes from the identity file.
    _identity_lock: Option<Lock>,
    /// Runs mDNS and the watch of the interfaces. Dropped last.
    _reactor: Option<Reactor>,
}

impl Net {
    /// This node's id.
    pub(crate) fn local_peer_id(&self) -> &PeerId {
        &self.local
    }

    /// The secret half of this node's Ed25519 key. It is given away once.
    #[cfg(feature = "context")]
    pub(crate) fn take_secret(&mut self) -> Option<zeroize::Zeroizing<[u8; 32]>> {
        self.secret.take()
    }

    /// The next event. Takes turns between the swarm, the substreams and the datagrams. After `None` there may still be [work
    /// pending](Self::is_due).
    pub(crate) fn next_event(&mut self) -> Option<NetEvent> {
        for _ in 0..ROUNDS {
            if let Some(event) = self.queued_event() {
                return Some(event);
            }
            if self.connections.report_used(&mut self.events)
                || self.discovery.poll(&self.connections, &mut self.events)
                || self.turn_listening()
                || self.turn_names()
            {
                continue;
            }
            self.turns = (self.turns + 1) % SOURCES;
            let has_more = (self.turns..self.turns + SOURCES).any(|turn| match turn % SOURCES {
                0 => self.turn_swarm(),
                1 => self.audio.poll(&mut self.events),
                _ => self.media.poll(&mut self.events),
            });
            if !has_more && self.events.is_empty() {
                return None;
            }
        }
        self.queued_event()
    }

    /// The next event that is already queued.
    pub(crate) fn queued_event(&mut self) -> Option<NetEvent> {
        self.events.pop_front()
    }

    /// Whether [`next_event`](Self::next_event) must be called before the task sleeps.
    pub(crate) fn is_due(&self) -> bool {
        !self.events.is_empty()
            || self.swarm.is_due()
            || self.audio.is_due()
            || self.media.is_due()
            || self.connections.is_due()
            || self.names.is_due()
            || self.discovery.is_due()
            || self.listening.is_due()
    }

    /// Handles a change of this machine's addresses. Returns false if there is none.
    fn turn_listening(&mut self) -> bool {
        let Some(addresses) = self.listening.poll_changed() else { return false };
        let addresses = addresses.clone();
        self.on_interfaces(addresses);
        self.listening.follow(&mut self.swarm.inner, &mut self.events);
        self.follow_media();
        true
    }

    fn retry_listeners(&mut self) {
        if let Some(addresses) = self.listening.look_for_change() {
            let addresses = addresses.clone();
            self.on_interfaces(addresses);
        }
        self.listening.follow(&mut self.swarm.inner, &mut self.events);
        self.follow_media();
    }

    /// Has datagrams at the addresses of the listeners.
    fn follow_media(&mut self) {
        if let Some(port) = self.listening.port(&self.swarm.inner) {
            self.media.follow(&self.listening.ips(), port);
        }
    }

    /// Handles new addresses of this machine.
    fn on_interfaces(&mut self, addresses: Addresses) {
        self.events.push_back(NetEvent::InterfacesChanged);
        if let Some(mdns) = self.swarm.behaviour_mut().mdns.as_mut() {
            mdns.set_addresses(addresses);
        }
        self.swarm.set_due();
    }

    /// Translates one event of the swarm. Returns false if there is none.
    fn turn_swarm(&mut self) -> bool {
        let returned = self.pubsub.begin_poll(&mut self.swarm.behaviour_mut().gossipsub);
        let polled = self.swarm.poll();
        let behaviour = self.swarm.behaviour_mut();
        self.pubsub.end_poll(&returned, &mut behaviour.gossipsub);
        let has_heard = self.discovery.report_heard(behaviour.routing.as_mut(), &self.connections, &mut self.events)
            | self.pubsub.report_activity(&mut behaviour.gossipsub, &mut self.events);
        match polled {
            Poll::Ready(event) => self.on_swarm_event(event),
            Poll::Pending => return has_heard,
        }
        true
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        self.recorder.record(&event);
        let (swarm, events) = (&mut self.swarm.inner, &mut self.events);
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                if self.connections.on_established(connection_id, peer_id, &endpoint, events) {
                    self.pubsub.on_connected(&peer_id, &mut swarm.behaviour_mut().gossipsub);
                } else {
                    // Only the engine's dials may get this far.
                    swarm.close_connection(connection_id);
                }
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, num_established, .. } => {
                if let Some(connection) = self.connections.on_closed(connection_id, cause.as_ref(), events) {
                    self.audio.on_disconnected(connection.id);
                    if num_established == 0 {
                        self.pubsub.on_gone(&connection.peer, &mut swarm.behaviour_mut().gossipsub);
                    }
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                let failed = self.connections.on_dial_error(connection_id, peer_id, &error, events);
                failed.into_iter().for_each(|dial| self.attempt(dial));
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, peer_id, error, .. } => {
                self.connections.on_inbound_error(&send_back_addr, peer_id, &error, events);
            }
            SwarmEvent::IncomingConnection { .. } => self.connections.on_inbound(),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.listening.on_bound(listener_id, &address, swarm, events);
                self.listening.report_change(swarm, events);
                self.follow_media();
            }
            SwarmEvent::ExpiredListenAddr { .. } => self.listening.report_change(swarm, events),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                match reason {
                    Ok(()) => tracing::debug!(?addresses, "a listener has ended"),
                    Err(error) => tracing::warn!(?addresses, %error, "a listener has ended"),
                }
                self.listening.on_unbound(listener_id, events);
                self.listening.report_change(swarm, events);
            }
            // The peer has gone, or was refused by the system.
            SwarmEvent::ListenerError { error, .. } if network::is_of_peer(&error) => {
                tracing::debug!(%error, "a connection was not accepted");
            }
            SwarmEvent::ListenerError { error, .. } => {
                events.push_back(NetEvent::AcceptFailed { reason: translate::root_cause(&error) });
            }
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        let (behaviour, connections, events) =
            (self.swarm.inner.behaviour_mut(), &mut self.connections, &mut self.events);
        match event {
            BehaviourEvent::Gate(never) => match never {},
            BehaviourEvent::Audio(event) => self.audio.on_event(event, connections, events),
            BehaviourEvent::Gossipsub(Heard::Written { connection }) => {
                connections.on_written(connection, &mut behaviour.ping);
                self.swarm.set_due();
            }
            BehaviourEvent::Gossipsub(event) => {
                self.pubsub.on_event(event, &mut behaviour.gossipsub, connections, events);
            }
            BehaviourEvent::Routing(event) => {
                self.discovery.on_kad(event, behaviour.routing.as_mut(), connections, events);
            }
            BehaviourEvent::Mdns(event) => self.discovery.on_mdns(event, connections, events),
            BehaviourEvent::Identify(event) => {
                if let (identify::Event::Received { peer_id, info, .. }, Some(routing)) =
                    (&event, behaviour.routing.as_mut())
                {
                    routing.on_protocols(*peer_id, &info.protocols);
                }
                connections.on_identify(event, events);
            }
            #[cfg(feature = "context")]
            BehaviourEvent::Context(event) => self.context.on_event(event, connections, events),
            BehaviourEvent::Ping(event) => {
                connections.on_answer(event, events);
                self.swarm.set_due();
            }
        }
    }

    /// Carries out an action of the engine. Ids of things that have ended meanwhile are ignored.
    pub(crate) fn act(&mut self, action: NetAction) {
        let (behaviour, events) = (self.swarm.inner.behaviour_mut(), &mut self.events);
        match action {
            NetAction::Write { substream, bytes } => return self.audio.write(substream, bytes, events),
            NetAction::Finish { substream } => return self.audio.finish(substream),
            // It wakes the tasks of the connections: the swarm need not be polled.
            NetAction::Grant { peer, bytes } => return self.connections.grant(&peer, bytes),
            NetAction::Reset { substream } => return self.audio.reset(substream, events),
            NetAction::SendDatagram { to, bytes } => return self.media.send(to, &bytes, events),
            NetAction::ExpectDatagrams { id } => return self.media.expect(id),
            NetAction::ForgetDatagrams { id } => return self.media.forget(id),
            NetAction::Dial { dial, peer, addresses } => self.dial(dial, peer.as_ref(), &addresses),
            NetAction::Disconnect { connection } => self.connections.disconnect(connection, &mut self.swarm.inner),
            NetAction::Retire { connection } => {
                if let Some(connection) = self.connections.by_id(connection) {
                    self.pubsub.retire(connection, &mut behaviour.gossipsub);
                }
            }
            NetAction::Flush { connection } => {
                if let Some(connection) = self.connections.by_id(connection) {
                    self.pubsub.flush(connection, &mut behaviour.gossipsub);
                }
            }
            NetAction::CheckAlive { connection } => return self.connections.check_alive(connection, events),
            NetAction::Probe { connection } => self.connections.probe(connection, &mut behaviour.ping),
            NetAction::Abort { connection } => self.connections.abort(connection),
            NetAction::RetryListeners => self.retry_listeners(),
            NetAction::RetryDiscovery { .. } => behaviour.mdns.as_mut().into_iter().for_each(Mdns::check),
            NetAction::Heartbeat => self.pubsub.beat(&mut behaviour.gossipsub),
            NetAction::Admit { admission } => behaviour.gate.admit(admission),
            NetAction::DisconnectAll => {
                behaviour.gate.close();
                self.connections.disconnect_all(&mut self.swarm.inner);
            }
            NetAction::AddRoute { peer, addresses } => {
                discovery::add_route(&peer, &addresses, behaviour.routing.as_mut());
            }
            NetAction::Walk { target } => self.discovery.walk(target, behaviour.routing.as_mut(), events),
            NetAction::Subscribe { topic } => self.pubsub.subscribe(&topic, &mut behaviour.gossipsub),
            NetAction::Unsubscribe { topic } => self.pubsub.unsubscribe(&topic, &mut behaviour.gossipsub),
            NetAction::Publish { publish, topic, data } => {
                // The message goes to the queues of the connections: the swarm need not be polled.
                return self.pubsub.publish(publish, &topic, data, &mut behaviour.gossipsub, events);
            }
            #[cfg(feature = "context")]
            NetAction::AskContext { exchange, peer, request } => {
                self.context.ask(exchange, &peer, request, behaviour.context.as_mut(), events);
            }
            #[cfg(feature = "context")]
            NetAction::AnswerContext { ask, response } => {
                self.context.answer(ask, response, behaviour.context.as_mut());
            }
            NetAction::OpenSubstream { stream, connection } => {
                self.audio.open(stream, connection, &self.connections, &mut behaviour.audio, events);
            }
        }
        self.swarm.set_due();
    }

    fn dial(&mut self, dial: DialId, peer: Option<&PeerId>, addresses: &[String]) {
        if self.names.look_up(dial, peer, addresses) {
            return;
        }
        match Dial::new(dial, peer, addresses) {
            Ok(dial) => self.attempt(dial),
            Err(failure) => self.events.push_back(NetEvent::DialFailed { dial, failure }),
        }
    }

    /// Dials the host of a name that was looked up. Returns false if there is none.
    fn turn_names(&mut self) -> bool {
        let Some(Found { dial, peer, addresses }) = self.names.poll() else { return false };
        let found = addresses.map_err(DialFailure::Unreachable);
        match found.and_then(|addresses| Dial::new(dial, peer.as_ref(), &addresses)) {
            Ok(dial) => self.attempt(dial),
            Err(failure) => self.events.push_back(NetEvent::DialFailed { dial, failure }),
        }
        true
    }

    /// Makes the next attempt of a dial.
    fn attempt(&mut self, dial: Dial) {
        let mut next = Some(dial);
        while let Some(mut dial) = next {
            let Some(opts) = dial.next() else { return };
            if let Some(routing) = self.swarm.behaviour_mut().routing.as_mut() {
                routing.expect_dial(opts.connection_id());
            }
            next = self.connections.dial(dial, opts, &mut self.swarm.inner, &mut self.events);
        }
        self.swarm.set_due();
    }
}
