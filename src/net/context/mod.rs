//! How do nodes compare the shared context? By requests and responses, each on a substream of its own.

mod codec;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use libp2p_request_response::{self as request_response, Message, OutboundRequestId, ProtocolSupport, ResponseChannel};
use libp2p_swarm::StreamProtocol;

use self::codec::Codec;
use crate::id::PeerId;
use crate::net::connections::Connections;
use crate::net::translate;
use avi_p2p_proto::engine::{AskId, ExchangeId, NetEvent};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/avi/context/1");
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of one connection at a time, in both directions together. Each has a frame in memory.
const MAX_AT_A_TIME: usize = 8;
/// Requests of all peers that wait for the engine. It answers each at once.
const MAX_ASKED: usize = 256;

pub(super) type Behaviour = request_response::Behaviour<Codec>;
pub(super) type Event = request_response::Event<Bytes, Bytes>;

pub(super) fn behaviour() -> Behaviour {
    let config =
        request_response::Config::default().with_request_timeout(TIMEOUT).with_max_concurrent_streams(MAX_AT_A_TIME);
    Behaviour::new([(PROTOCOL, ProtocolSupport::Full)], config)
}

/// The requests of a node, and those of others.
#[derive(Default)]
pub(super) struct Exchanges {
    asking: BTreeMap<OutboundRequestId, ExchangeId>,
    asked: BTreeMap<AskId, ResponseChannel<Bytes>>,
    last_asked: u64,
}

impl Exchanges {
    // Actions of the engine.

    pub(super) fn ask(
        &mut self,
        exchange: ExchangeId,
        peer: &PeerId,
        request: Bytes,
        behaviour: Option<&mut Behaviour>,
        events: &mut VecDeque<NetEvent>,
    ) {
        // Upstream would dial a peer that is not connected, and the engine decides about dials.
        let connected = translate::libp2p_peer_id(peer).zip(behaviour);
        match connected.filter(|(peer, behaviour)| behaviour.is_connected(peer)) {
            Some((peer, behaviour)) => {
                self.asking.insert(behaviour.send_request(&peer, request), exchange);
            }
            None => events.push_back(NetEvent::ContextAnswered { exchange, result: Err("not connected".to_owned()) }),
        }
    }

    /// Without a response, the substream ends.
    pub(super) fn answer(&mut self, ask: AskId, response: Option<Bytes>, behaviour: Option<&mut Behaviour>) {
        let channel = self.asked.remove(&ask);
        if let (Some(channel), Some(response), Some(behaviour)) = (channel, response, behaviour) {
            // The peer may have gone meanwhile.
            let _ = behaviour.send_response(channel, response);
        }
    }

    // Events of the swarm.

    pub(super) fn on_event(&mut self, event: Event, connections: &Connections, events: &mut VecDeque<NetEvent>) {
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                if self.asked.len() >= MAX_ASKED {
                    self.asked.retain(|_, channel| channel.is_open());
                }
                if self.asked.len() >= MAX_ASKED {
                    return;
                }
                self.last_asked += 1;
                let ask = AskId(self.last_asked);
                self.asked.insert(ask, channel);
                events.push_back(NetEvent::ContextAsked { ask, peer: connections.name(&peer), request });
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                self.on_answered(request_id, Ok(response), events);
            }
            Event::OutboundFailure { request_id, error, .. } => {
                self.on_answered(request_id, Err(error.to_string()), events);
            }
            Event::InboundFailure { peer, error, .. } => tracing::debug!(%peer, %error, "an answer was not sent"),
            Event::ResponseSent { .. } => {}
        }
    }

    fn on_answered(&mut self, id: OutboundRequestId, result: Result<Bytes, String>, events: &mut VecDeque<NetEvent>) {
        let exchange = self.asking.remove(&id);
        events.extend(exchange.map(|exchange| NetEvent::ContextAnswered { exchange, result }));
    }
}
