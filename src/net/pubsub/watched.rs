//! What does upstream not tell of pub/sub? That a peer has lost its substream, for which it waits in silence; and when the
//! meshes may have changed. Its timers are wound here too.

use std::collections::{BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker};

use libp2p_core::transport::PortUse;
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_gossipsub::TopicHash;
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::FromSwarm;
use libp2p_swarm::handler::ConnectionEvent;
use libp2p_swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, NetworkBehaviour,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

use crate::net::pubsub::pulse::Pulse;

/// Substreams that a peer may open for pub/sub on one connection. A peer that keeps the protocol needs one; after five,
/// upstream would ignore it for as long as the connection lasts.
const MAX_SUBSTREAMS: u32 = 3;
/// Substreams that upstream asks a peer for before it gives the connection's pub/sub up, for good and in silence.
const MAX_REQUESTS: u32 = 5;

/// What a peer says, or what it does.
#[derive(Debug)]
pub(in crate::net) enum Heard<T> {
    /// For upstream, or of it.
    Upstream(T),
    /// It opened another substream, since the last one was ended.
    Restarted {
        /// Who.
        peer: PeerId,
        /// Whether it has done so too often.
        is_too_often: bool,
    },
    /// The heart has beaten: the meshes may have changed.
    Beat,
}

/// Upstream's behaviour, an eye on its substreams, and a hand on its timers.
pub(in crate::net) struct Watched<B> {
    pub(super) upstream: B,
    /// Topics whose messages are scored.
    pub(super) scored: BTreeSet<TopicHash>,
    pulse: Pulse,
    restarts: VecDeque<(PeerId, bool)>,
    given_up: VecDeque<(PeerId, ConnectionId)>,
}

impl<B> Watched<B> {
    pub(super) fn new(upstream: B) -> Self {
        let (restarts, given_up) = (VecDeque::new(), VecDeque::new());
        Self { upstream, scored: BTreeSet::new(), pulse: Pulse::new(), restarts, given_up }
    }

    /// Tells the heart of what takes so many beats. Returns whether the behaviour is to be polled for that.
    pub(super) fn quicken_for(&mut self, beats: u32) -> bool {
        self.pulse.quicken_for(beats)
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Watched<B> {
    type ConnectionHandler = Handler<B::ConnectionHandler>;
    type ToSwarm = Heard<B::ToSwarm>;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.upstream.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.upstream.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

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

    fn on_swarm_event(&mut self, event: FromSwarm) {
        self.pulse.quicken();
        self.upstream.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.pulse.quicken();
        match event {
            FromHandler::Upstream(event) => self.upstream.on_connection_handler_event(peer, connection, event),
            FromHandler::Restarted { is_too_often } => self.restarts.push_back((peer, is_too_often)),
            FromHandler::GivenUp => self.given_up.push_back((peer, connection)),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer, is_too_often)) = self.restarts.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(Heard::Restarted { peer, is_too_often }));
        }
        if let Some((peer_id, connection)) = self.given_up.pop_front() {
            tracing::debug!(peer = %peer_id, "takes no pub/sub substream");
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) });
        }
        // Upstream winds its timers again without a poll of them, which alone sets their wakers: in a quiet mesh its
        // heartbeat would wait for whatever wakes it next. Nothing else but timers would ever wake it.
        self.pulse.poll(cx);
        let cx = &mut Context::from_waker(Waker::noop());
        let polled = match self.upstream.poll(cx) {
            // What a beat has come to is told by the next poll alone.
            Poll::Pending => self.upstream.poll(cx),
            polled => polled,
        };
        match polled {
            Poll::Ready(event) => {
                self.pulse.quicken();
                Poll::Ready(event.map_out(Heard::Upstream))
            }
            Poll::Pending if self.pulse.beat() => Poll::Ready(ToSwarm::GenerateEvent(Heard::Beat)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What a connection tells.
#[derive(Debug)]
pub(in crate::net) enum FromHandler<T> {
    Upstream(T),
    Restarted {
        is_too_often: bool,
    },
    /// Upstream will not use the connection any more.
    GivenUp,
}

/// Upstream's part of a connection, and a count of its substreams.
pub(in crate::net) struct Handler<H> {
    upstream: H,
    substreams: u32,
    /// Of those, how many have been told.
    told: u32,
    /// Substreams asked for, until the last has been told.
    requests: u32,
}

impl<H> Handler<H> {
    fn new(upstream: H) -> Self {
        Self { upstream, substreams: 0, told: 1, requests: 0 }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = FromHandler<H::ToBehaviour>;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        self.upstream.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.upstream.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        if self.told < self.substreams {
            self.told += 1;
            let is_too_often = self.told > MAX_SUBSTREAMS;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(FromHandler::Restarted { is_too_often }));
        }
        if self.requests == MAX_REQUESTS {
            self.requests += 1;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(FromHandler::GivenUp));
        }
        self.upstream.poll(cx).map(|event| event.map_custom(FromHandler::Upstream))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.upstream.poll_close(cx).map(|event| event.map(FromHandler::Upstream))
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.upstream.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        if matches!(event, ConnectionEvent::FullyNegotiatedInbound(_)) {
            self.substreams = self.substreams.saturating_add(1);
        }
        if event.is_outbound() {
            self.requests = self.requests.saturating_add(1);
        }
        self.upstream.on_connection_event(event);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;

    use futures::FutureExt;
    use futures_timer::Delay;
    use libp2p_swarm::dummy;

    use super::*;
    use crate::net::pubsub::pulse::{BEAT_EVERY, BEATS_AFTER_MESSAGE};

    /// Winds its timer as upstream does.
    struct Heart {
        timer: Delay,
        beats: usize,
    }

    impl NetworkBehaviour for Heart {
        type ConnectionHandler = dummy::ConnectionHandler;
        type ToSwarm = Infallible;

        fn handle_established_inbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: &Multiaddr,
        ) -> Result<THandler<Self>, ConnectionDenied> {
            Ok(dummy::ConnectionHandler)
        }

        fn handle_established_outbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: Endpoint,
            _: PortUse,
        ) -> Result<THandler<Self>, ConnectionDenied> {
            Ok(dummy::ConnectionHandler)
        }

        fn on_swarm_event(&mut self, _: FromSwarm) {}

        fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
            match event {}
        }

        fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
            if self.timer.poll_unpin(cx).is_ready() {
                self.beats += 1;
                self.timer.reset(BEAT_EVERY);
            }
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn the_heart_beats_for_a_message_though_nothing_else_wakes_it() {
        const BEATS: usize = 4;
        let mut watched = Watched::new(Heart { timer: Delay::new(BEAT_EVERY), beats: 0 });
        watched.quicken_for(BEATS_AFTER_MESSAGE);
        let mut told = 0;
        let beats = poll_fn(|cx| {
            while watched.poll(cx).is_ready() {
                told += 1;
            }
            if told == BEATS { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::time::timeout(20 * BEAT_EVERY, beats).await.expect("it wakes its task every second");
        // A machine that stalls may have the two timers part once.
        assert!(watched.upstream.beats >= BEATS - 1, "{} beats", watched.upstream.beats);
    }
}
