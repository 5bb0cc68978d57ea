//! How is an audio substream negotiated? Opens and accepts substreams; `substreams` moves their bytes.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p_core::transport::PortUse;
use libp2p_core::upgrade::ReadyUpgrade;
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::FromSwarm;
use libp2p_swarm::handler::ConnectionEvent;
use libp2p_swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, NetworkBehaviour, NotifyHandler, Stream,
    StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

use crate::id::StreamId;
use crate::net::audio::reason;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/avi/audio/2.0.0");
/// Longer than an outage that the connection survives.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// The result of a negotiation.
#[derive(Debug)]
pub(in crate::net) enum Negotiated {
    /// The peer opened it.
    Inbound(Stream),
    /// This node asked for it.
    Outbound(StreamId, Result<Stream, String>),
}

/// A negotiated substream, its peer and its connection.
#[derive(Debug)]
pub(in crate::net) struct Event {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) negotiated: Negotiated,
}

/// Passes requests to connections, and substreams back.
pub(in crate::net) struct Behaviour {
    max_waiting: usize,
    queue: VecDeque<ToSwarm<Event, StreamId>>,
}

impl Behaviour {
    /// `max_waiting` bounds the negotiated substreams that wait in a connection.
    pub(in crate::net) fn new(max_waiting: usize) -> Self {
        Self { max_waiting, queue: VecDeque::new() }
    }

    /// Requests a substream. There is no answer if the connection ends first.
    pub(super) fn open(&mut self, peer: PeerId, connection: ConnectionId, stream: StreamId) {
        let handler = NotifyHandler::One(connection);
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: stream });
    }

    fn handler(&self) -> Handler {
        Handler { max_waiting: self.max_waiting, negotiated: VecDeque::new(), requests: VecDeque::new() }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        negotiated: THandlerOutEvent<Self>,
    ) {
        self.queue.push_back(ToSwarm::GenerateEvent(Event { peer, connection, negotiated }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The part of a connection that negotiates audio substreams.
pub(in crate::net) struct Handler {
    max_waiting: usize,
    negotiated: VecDeque<Negotiated>,
    requests: VecDeque<StreamId>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = StreamId;
    type ToBehaviour = Negotiated;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = StreamId;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    /// The engine ends connections. They never end because they are idle.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, StreamId, Negotiated>> {
        if let Some(negotiated) = self.negotiated.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(negotiated));
        }
        let Some(stream) = self.requests.pop_front() else { return Poll::Pending };
        let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), stream).with_timeout(OPEN_TIMEOUT);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, stream: StreamId) {
        self.requests.push_back(stream);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), StreamId>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(inbound) if self.negotiated.len() < self.max_waiting => {
                self.negotiated.push_back(Negotiated::Inbound(inbound.protocol));
            }
            ConnectionEvent::FullyNegotiatedInbound(_) => tracing::debug!("too many audio substreams at once: reset"),
            ConnectionEvent::FullyNegotiatedOutbound(outbound) => {
                self.negotiated.push_back(Negotiated::Outbound(outbound.info, Ok(outbound.protocol)));
            }
            ConnectionEvent::DialUpgradeError(failed) => {
                let reason = match failed.error {
                    StreamUpgradeError::Timeout => format!("no answer within {OPEN_TIMEOUT:?}"),
                    StreamUpgradeError::NegotiationFailed => format!("the peer does not speak {PROTOCOL}"),
                    StreamUpgradeError::Io(error) => reason(&error),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.negotiated.push_back(Negotiated::Outbound(failed.info, Err(reason)));
            }
            _ => {}
        }
    }
}
