//! Does the peer of a connection answer? It is pinged every few seconds, and probed when the engine asks. The engine says
//! after which silence a connection ends; a lost ping only opens a new substream.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures_timer::Delay;
use libp2p_core::transport::PortUse;
use libp2p_core::upgrade::ReadyUpgrade;
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_ping::{Behaviour as Pings, Config, Failure, PROTOCOL_NAME};
use libp2p_swarm::behaviour::FromSwarm;
use libp2p_swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedOutbound};
use libp2p_swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, NetworkBehaviour, NotifyHandler,
    StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

use avi_p2p_proto::engine::{PING_INTERVAL, PING_TIMEOUT};

/// A protocol that nobody speaks: multistream-select's refusal is the answer. Unlike a ping, it opens no substream that
/// would replace the peer's own.
const PROBE: StreamProtocol = StreamProtocol::new("/avi/probe/1.0.0");

/// What a connection's peer has answered, or why a ping has failed.
#[derive(Debug)]
pub(in crate::net) struct Event {
    pub(in crate::net) connection: ConnectionId,
    pub(in crate::net) peer: PeerId,
    pub(in crate::net) result: Result<Answer, Failure>,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::net) enum Answer {
    /// A ping, after so long.
    Pong(Duration),
    /// All probes so far, so many for one request at most; or a ping, by saying that it supports none.
    Probed { times: u32 },
}

/// Pings and probes all peers.
pub(in crate::net) struct Behaviour {
    upstream: Pings,
    events: VecDeque<ToSwarm<Event, Probe>>,
}

impl Default for Behaviour {
    fn default() -> Self {
        let config = Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
        Self { upstream: Pings::new(config), events: VecDeque::new() }
    }
}

/// What a connection's handler is told: probe the peer, so many times one after the other.
#[derive(Debug)]
pub(in crate::net) struct Probe(u32);

impl Behaviour {
    /// Probes a peer, so many times one after the other: [`Answer::Probed`] follows the last answer, unless the connection ends
    /// first.
    pub(super) fn probe(&mut self, peer_id: PeerId, connection: ConnectionId, times: u32) {
        let handler = NotifyHandler::One(connection);
        self.events.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: Probe(times) });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.upstream.handle_established_inbound_connection(connection, peer, local, remote).map(Handler::new)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.upstream.handle_established_outbound_connection(connection, peer, address, role, port).map(Handler::new)
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.events.push_back(ToSwarm::GenerateEvent(Event { connection, peer, result: event }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Pings and probes the peer of a connection.
pub(in crate::net) struct Handler {
    upstream: THandler<Pings>,
    /// Runs while the peer supports no pings, until it is asked again.
    unsupported: Option<Delay>,
    probing: Probing,
    /// To be told: all probes are answered, so many for one request at most.
    answered: Option<u32>,
}

/// The probes of a connection.
#[derive(Default)]
struct Probing {
    /// How many substreams are still to be opened, and whether one is not answered yet.
    wanted: u32,
    is_asked: bool,
    /// How many were wanted.
    times: u32,
    has_failed: bool,
    /// How many are wanted after these, whose answers may have been sent before.
    again: u32,
}

impl Probing {
    fn is_idle(&self) -> bool {
        self.wanted == 0 && !self.is_asked
    }

    fn want(&mut self, times: u32) {
        if self.is_idle() {
            (self.wanted, self.times) = (times, times);
        } else {
            self.again = self.again.max(times);
        }
    }

    /// Whether to open another substream.
    fn ask(&mut self) -> bool {
        let asks = self.wanted > 0 && !self.is_asked;
        if asks {
            self.wanted -= 1;
            self.is_asked = true;
        }
        asks
    }

    /// Handles the end of a substream. Returns how many were wanted if all are answered.
    fn on_ended(&mut self, is_answer: bool) -> Option<u32> {
        self.is_asked = false;
        self.has_failed |= !is_answer;
        if !self.is_idle() {
            return None;
        }
        let has_failed = std::mem::take(&mut self.has_failed);
        match std::mem::take(&mut self.again) {
            0 => (!has_failed).then_some(self.times),
            again => {
                self.want(again.max(self.times));
                None
            }
        }
    }
}

/// Whose substream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Asks {
    Ping,
    Probe,
}

impl Handler {
    fn new(upstream: THandler<Pings>) -> Self {
        Self { upstream, unsupported: None, probing: Probing::default(), answered: None }
    }

    fn on_probed(&mut self, is_answer: bool) {
        self.answered = self.probing.on_ended(is_answer).or(self.answered);
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Probe;
    type ToBehaviour = Result<Answer, Failure>;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Asks;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        self.upstream.listen_protocol()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Asks, Self::ToBehaviour>> {
        let ask = |protocol, asks| {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(protocol), asks);
            Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
        };
        if let Some(times) = self.answered.take() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Ok(Answer::Probed { times })));
        }
        if self.probing.ask() {
            return ask(PROBE, Asks::Probe);
        }
        if self.unsupported.as_mut().is_some_and(|delay| delay.poll_unpin(cx).is_ready()) {
            self.unsupported = None;
            return ask(PROTOCOL_NAME, Asks::Ping);
        }
        let polled = self.upstream.poll(cx);
        polled.map(|event| event.map_outbound_open_info(|()| Asks::Ping).map_custom(|pong| pong.map(Answer::Pong)))
    }

    fn on_behaviour_event(&mut self, Probe(times): Probe) {
        self.probing.want(times);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Asks>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(opened) => {
                self.upstream.on_connection_event(ConnectionEvent::FullyNegotiatedInbound(opened));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { info: Asks::Probe, .. }) => {
                self.on_probed(true);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: Asks::Probe, error }) => {
                self.on_probed(matches!(error, StreamUpgradeError::NegotiationFailed));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                let opened = FullyNegotiatedOutbound { protocol, info: () };
                self.upstream.on_connection_event(ConnectionEvent::FullyNegotiatedOutbound(opened));
            }
            // Upstream would never ask again, and would answer no pings either.
            ConnectionEvent::DialUpgradeError(DialUpgradeError {
                error: StreamUpgradeError::NegotiationFailed,
                ..
            }) => {
                self.unsupported = Some(Delay::new(PING_INTERVAL));
                if self.probing.is_idle() {
                    self.answered = self.answered.or(Some(0));
                }
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                let failed = DialUpgradeError { error, info: () };
                self.upstream.on_connection_event(ConnectionEvent::DialUpgradeError(failed));
            }
            _ => {}
        }
    }
}
