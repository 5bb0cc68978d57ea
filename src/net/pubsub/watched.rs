//! What does upstream not report about pub/sub? That a peer has reset its substream, after which upstream waits in
//! silence; that it has written all that it had; that the meshes may have changed; and that its heartbeat will have
//! something to do.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libp2p_core::transport::PortUse;
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_gossipsub::TopicHash;
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::FromSwarm;
use libp2p_swarm::handler::ConnectionEvent;
use libp2p_swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, NetworkBehaviour, NotifyHandler,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

use super::single::{Inbound, Protocol, Single};
use super::subscriptions::Subscriptions;
use crate::net::connections::{Closing, Credit};

/// The most pub/sub substreams that a peer may open on one connection. It needs one, but it opens another when its end has
/// waited too long for an answer. After five, upstream would ignore the peer for as long as the connection lasts.
const MAX_SUBSTREAMS: u32 = 3;
/// After this many substream requests, upstream gives up the connection's pub/sub permanently, without any report.
const MAX_REQUESTS: u32 = 5;

/// An event of a peer's pub/sub.
#[derive(Debug)]
pub(in crate::net) enum Heard<T> {
    /// An event of upstream, or for upstream.
    Upstream(T),
    /// A peer opened another substream after its last one had ended.
    Restarted,
    /// Upstream has given up the connection, or is about to.
    GivenUp {
        /// The connection without pub/sub.
        connection: ConnectionId,
    },
    /// Upstream uses another connection to the peer, and has forgotten its subscriptions.
    Renewed(PeerId),
    /// The peer has opened its first pub/sub substream on a connection.
    Opened {
        /// The connection.
        connection: ConnectionId,
    },
    /// Upstream has written all that it had for the connection when that was asked.
    Written {
        /// The connection.
        connection: ConnectionId,
    },
    /// The ordered heartbeat is over: the meshes may have changed.
    Beat,
}

/// Wraps upstream's behaviour, counts its substreams, and watches whether it is active.
pub(in crate::net) struct Watched<B: NetworkBehaviour> {
    pub(super) single: Single<B>,
    /// Topics whose messages are scored.
    pub(super) scored: BTreeSet<TopicHash>,
    is_beat_ordered: bool,
    activity: Activity,
    restarts: u64,
    given_up: VecDeque<ConnectionId>,
    opened: VecDeque<ConnectionId>,
    /// The connections whose handlers are to be asked, and those that have answered.
    asked: VecDeque<(PeerId, ConnectionId)>,
    written: VecDeque<ConnectionId>,
    closing: Arc<Closing>,
    pub(super) subscriptions: Subscriptions,
}

/// Whether anything has happened since the last ordered heartbeat that the next heartbeats must handle. None → New →
/// Told → None.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    None,
    New,
    Told,
}

impl<B: NetworkBehaviour> Watched<B>
where
    Protocol<THandler<B>>: Clone,
{
    pub(super) fn new(upstream: B, subscriptions: Subscriptions, closing: Arc<Closing>) -> Self {
        Self {
            single: Single::new(upstream),
            scored: BTreeSet::new(),
            is_beat_ordered: false,
            activity: Activity::None,
            restarts: 0,
            given_up: VecDeque::new(),
            opened: VecDeque::new(),
            asked: VecDeque::new(),
            written: VecDeque::new(),
            closing,
            subscriptions,
        }
    }

    pub(super) fn upstream(&mut self) -> &mut B {
        &mut self.single.upstream
    }

    /// Uses another connection to the peer from now on, if there is one.
    pub(super) fn retire(&mut self, peer: &PeerId, connection: ConnectionId) {
        self.single.retire(peer, connection);
    }

    /// Asks when upstream has written all that it has for a connection.
    pub(super) fn flush(&mut self, peer: PeerId, connection: ConnectionId) {
        self.asked.push_back((peer, connection));
    }

    /// Orders a heartbeat: the next poll runs upstream's heartbeat, whose timer has fired by now.
    pub(super) fn beat(&mut self) {
        self.is_beat_ordered = true;
        self.activity = Activity::None;
    }

    /// Whether there was activity since the last ordered heartbeat. True once, until the next heartbeat.
    pub(super) fn take_activity(&mut self) -> bool {
        let is_new = self.activity == Activity::New;
        if is_new {
            self.activity = Activity::Told;
        }
        is_new
    }

    fn on_activity(&mut self) {
        if self.activity == Activity::None {
            self.activity = Activity::New;
        }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Watched<B>
where
    Protocol<THandler<B>>: Clone + Send,
    Inbound<THandler<B>>: Send,
{
    type ConnectionHandler = Handler<THandler<Single<B>>>;
    type ToSwarm = Heard<B::ToSwarm>;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.single.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.single.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = self.single.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(Handler::new(handler, self.closing.credit(&peer)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = self.single.handle_established_outbound_connection(connection, peer, address, role, port)?;
        Ok(Handler::new(handler, self.closing.credit(&peer)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        self.single.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.on_activity();
        match event {
            FromHandler::Upstream(event) => {
                self.subscriptions.speaks(Some(peer));
                self.single.on_connection_handler_event(peer, connection, event);
                self.subscriptions.speaks(None);
            }
            FromHandler::Opened => self.opened.push_back(connection),
            FromHandler::Written => self.written.push_back(connection),
            FromHandler::Restarted => self.restarts += 1,
            FromHandler::GivenUp => {
                tracing::debug!(%peer, "takes no pub/sub substream, or opens too many");
                self.given_up.push_back(connection);
            }
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(peer) = self.single.pop_renewed() {
            self.subscriptions.forget(&peer);
            return Poll::Ready(ToSwarm::GenerateEvent(Heard::Renewed(peer)));
        }
        if let Some((peer_id, connection)) = self.asked.pop_front() {
            let handler = NotifyHandler::One(connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event: ToHandler::Flush });
        }
        if let Some(connection) = self.opened.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(Heard::Opened { connection }));
        }
        if let Some(connection) = self.written.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(Heard::Written { connection }));
        }
        if self.restarts > 0 {
            self.restarts -= 1;
            return Poll::Ready(ToSwarm::GenerateEvent(Heard::Restarted));
        }
        if let Some(connection) = self.given_up.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(Heard::GivenUp { connection }));
        }
        // Upstream gets no waker. Only its timers would wake it, and they must not: in a quiet mesh it does its
        // heartbeat when something else polls the swarm. It resets its timers itself, and only a poll of a timer
        // registers a waker.
        let cx = &mut Context::from_waker(Waker::noop());
        let polled = match self.single.poll(cx) {
            // Only the next poll returns the events that a heartbeat has caused.
            Poll::Pending => self.single.poll(cx),
            polled => polled,
        };
        match polled {
            Poll::Ready(event) => {
                self.on_activity();
                Poll::Ready(event.map_out(Heard::Upstream).map_in(ToHandler::Upstream))
            }
            Poll::Pending if std::mem::take(&mut self.is_beat_ordered) => {
                Poll::Ready(ToSwarm::GenerateEvent(Heard::Beat))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// An event of a connection's handler.
#[derive(Debug)]
pub(in crate::net) enum FromHandler<T> {
    Upstream(T),
    /// The peer has opened its first substream.
    Opened,
    /// Upstream has written all that it had.
    Written,
    Restarted,
    /// Upstream has given up the connection, or is about to.
    GivenUp,
}

/// What a connection's handler is told.
#[derive(Debug)]
pub(in crate::net) enum ToHandler<T> {
    Upstream(T),
    /// Tell when upstream has written all that it has now.
    Flush,
}

/// Wraps upstream's handler of a connection, and counts its substreams.
pub(in crate::net) struct Handler<H> {
    upstream: H,
    substreams: u32,
    /// How many of them have been reported.
    told: u32,
    /// Substream requests, counted until the last one has been reported.
    requests: u32,
    /// Whether one of them has no answer: upstream has a queue, and writes none of it.
    is_opening: bool,
    is_flushing: bool,
    credit: Option<Arc<Credit>>,
}

impl<H> Handler<H> {
    fn new(upstream: H, credit: Option<Arc<Credit>>) -> Self {
        Self { upstream, substreams: 0, told: 0, requests: 0, is_opening: false, is_flushing: false, credit }
    }

    /// Whether upstream, which has nothing to do now, has written all that it had.
    fn has_written(&self) -> bool {
        !self.is_opening && self.credit.as_ref().is_none_or(|credit| !credit.is_blocked())
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = ToHandler<H::FromBehaviour>;
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
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(match self.told {
                1 => FromHandler::Opened,
                2..=MAX_SUBSTREAMS => FromHandler::Restarted,
                _ => FromHandler::GivenUp,
            }));
        }
        if self.requests == MAX_REQUESTS {
            self.requests += 1;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(FromHandler::GivenUp));
        }
        let polled = self.upstream.poll(cx);
        self.is_opening |= matches!(polled, Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { .. }));
        if polled.is_pending() && self.is_flushing && self.has_written() {
            self.is_flushing = false;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(FromHandler::Written));
        }
        polled.map(|event| event.map_custom(FromHandler::Upstream))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.upstream.poll_close(cx).map(|event| event.map(FromHandler::Upstream))
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {
            ToHandler::Upstream(event) => self.upstream.on_behaviour_event(event),
            ToHandler::Flush => self.is_flushing = true,
        }
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
            self.is_opening = false;
        }
        self.upstream.on_connection_event(event);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::FutureExt;
    use futures_timer::Delay;
    use libp2p_swarm::dummy;

    use super::*;
    use crate::config::Limits;
    use crate::net::pubsub::gossip::BEAT_EVERY;

    /// A behaviour that resets its timer as upstream does.
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

    /// Waits until futures-timer's thread has fired all timers of this duration.
    fn pass(time: std::time::Duration) {
        futures::executor::block_on(Delay::new(time));
    }

    fn poll(watched: &mut Watched<Heart>) -> Vec<&'static str> {
        let cx = &mut Context::from_waker(Waker::noop());
        let event = |event| match event {
            ToSwarm::GenerateEvent(Heard::Beat) => "beat",
            _ => "other",
        };
        std::iter::from_fn(|| match watched.poll(cx) {
            Poll::Ready(polled) => Some(event(polled)),
            Poll::Pending => None,
        })
        .collect()
    }

    #[test]
    fn a_heartbeat_that_is_ordered_is_carried_out_and_told_once() {
        let mut watched = Watched::new(
            Heart { timer: Delay::new(BEAT_EVERY), beats: 0 },
            Subscriptions::new(&Limits::default()),
            Closing::new(Arc::default()),
        );
        assert_eq!((poll(&mut watched), watched.single.upstream.beats), (vec![], 0));
        for beats in 1..3 {
            pass(BEAT_EVERY + std::time::Duration::from_millis(50));
            watched.beat();
            assert_eq!((poll(&mut watched), watched.single.upstream.beats), (vec!["beat"], beats));
            assert_eq!(poll(&mut watched), [""; 0]);
        }
        pass(BEAT_EVERY + std::time::Duration::from_millis(50));
        assert_eq!(
            (poll(&mut watched), watched.single.upstream.beats),
            (vec![], 3),
            "any other poll runs the heartbeat"
        );
    }

    #[test]
    fn activity_is_told_once_from_one_heartbeat_to_the_next() {
        let mut watched = Watched::new(
            Heart { timer: Delay::new(BEAT_EVERY), beats: 0 },
            Subscriptions::new(&Limits::default()),
            Closing::new(Arc::default()),
        );
        let happens = |watched: &mut Watched<Heart>| {
            watched.on_connection_handler_event(
                PeerId::random(),
                ConnectionId::new_unchecked(1),
                FromHandler::Restarted,
            );
        };
        assert!(!watched.take_activity());
        for _ in 0..2 {
            happens(&mut watched);
            assert!(watched.take_activity());
            happens(&mut watched);
            assert!(!watched.take_activity());
            watched.beat();
            assert!(!watched.take_activity());
        }
    }
}
