//! What happens at all times, without the application? Connections that are silent or do not close are ended, mDNS
//! hints expire, failed listeners and mDNS are retried, and GossipSub's heartbeats are ordered.

use std::time::Duration;

use super::heartbeat::{BEATS_AFTER_ALL, BEATS_AFTER_LEAVING, BEATS_AFTER_MESSAGE};
use super::io::{ConnectionId, NetAction, NetEvent};
use super::keep::Duplicate;
use super::liveness::Due;
use super::records::Verdict;
use super::time::Time;
use super::{Engine, Phase};
use crate::event::DiscoverySource;
use crate::id::PeerId;
use crate::situation::{Situation, reached};

/// After this silence, the end with the higher id dials too: the other one may know no address.
const BOTH_DIAL_AFTER: Duration = Duration::from_secs(10);

impl Engine {
    /// Does the upkeep that is due.
    pub(super) fn keep_up(&mut self, now: Time) {
        let late = self.next_deadline().map_or(Duration::ZERO, |deadline| now - deadline);
        self.liveness.on_lateness(now, late);
        self.end_connections(now);
        self.expire_records(now);
        self.retries.handle_timeout(now, &mut self.out);
        self.heartbeat.handle_timeout(now, &mut self.out);
    }

    /// Schedules the heartbeats that an event needs.
    pub(super) fn want_heartbeats(&mut self, now: Time, event: &NetEvent) {
        if let Some(beats) = beats_after(event) {
            self.heartbeat.want(now, beats);
        }
    }

    /// Closes connections. Each has a short time to send pending data.
    pub(super) fn disconnect(&mut self, now: Time, connections: impl IntoIterator<Item = ConnectionId>) {
        for connection in connections {
            self.liveness.forget(connection);
            self.closing.begin(now, connection);
            self.streams.on_ending(now, connection);
            self.out.net(NetAction::Disconnect { connection });
        }
    }

    /// Ends connections whose peer does not hear this node: there is nobody to wait for.
    pub(super) fn abort(&mut self, now: Time, connections: impl IntoIterator<Item = ConnectionId>) {
        for connection in connections {
            self.disconnect(now, [connection]);
            self.out.net(NetAction::Abort { connection });
        }
    }

    /// Keeps one of several connections to a peer.
    pub(super) fn keep_one(&mut self, now: Time, peer: &PeerId) {
        let (streams, liveness) = (&self.streams, &self.liveness);
        let is_open = |connection| liveness.expects(connection);
        match self.peers.superfluous(now, peer, is_open, |connection| streams.depends_on(connection)) {
            None => {}
            Some(Duplicate::Probe(connections)) => {
                connections.into_iter().for_each(|connection| self.out.net(NetAction::Probe { connection }));
            }
            Some(Duplicate::Close(connection)) => {
                reached(Situation::DuplicateClosed);
                self.out.stats.duplicate_connections += 1;
                self.disconnect(now, [connection]);
            }
            Some(Duplicate::Retire { others, kept }) => {
                tracing::debug!(%peer, ?others, ?kept, "uses one connection");
                reached(Situation::ConnectionRetired);
                self.out.stats.duplicate_connections += others.len() as u64;
                let excess = self.peers.retire(now, peer, &others, self.out.stats.messages_published);
                for &connection in &others {
                    self.liveness.on_retired(connection);
                    self.streams.on_retired(now, connection, kept, &mut self.out);
                    self.out.net(NetAction::Retire { connection });
                }
                self.abort(now, excess);
                // The new one has no limit yet.
                self.bulk.end(peer, &mut self.out);
                if self.streams.speaks_to(now, peer) {
                    self.bulk.begin(now, peer, &mut self.out);
                }
            }
        }
    }

    pub(super) fn on_pong(&mut self, now: Time, connection: ConnectionId, peer: &PeerId, rtt: Duration) {
        self.on_alive(now, connection, peer, Some(rtt));
    }

    /// Handles an answer that comes regularly.
    fn on_alive(&mut self, now: Time, connection: ConnectionId, peer: &PeerId, rtt: Option<Duration>) {
        self.liveness.on_heard(now, connection);
        self.peers.on_pong(peer, connection, rtt, self.out.stats.messages_published);
        if self.peers.has_delivered(now, peer, connection) && self.liveness.expects(connection) {
            reached(Situation::RetiredDelivered);
            self.disconnect(now, [connection]);
        }
    }

    pub(super) fn on_answered(&mut self, now: Time, connection: ConnectionId, peer: &PeerId) {
        if self.peers.has_no_pings(peer) {
            self.on_alive(now, connection, peer, None);
        } else {
            self.liveness.on_heard(now, connection);
        }
        self.doubles.on_answered(connection, &mut self.out);
        if self.peers.on_answered(now, peer, connection) {
            self.keep_one(now, peer);
        }
    }

    /// Asks all peers for a sign of life: the connections to some may be bound to an address that this machine has no more.
    pub(super) fn doubt_connections(&mut self, now: Time) {
        for connection in self.liveness.doubt_all(now) {
            self.out.net(NetAction::Probe { connection });
        }
    }

    /// Dials a peer again whose connection is stuck. After an outage, TCP waits for as long as the outage has lasted, and
    /// its next attempt may fall into the next outage. If the peer is gone, the dial fails. The end with the lower id dials
    /// first: two dials that cross cost a connection.
    pub(super) fn on_stuck(&mut self, now: Time, connection: ConnectionId, silent_for: Duration) {
        let user = self.peers.user_of(connection).filter(|_| self.phase == Phase::Running);
        let is_heard = user.is_some_and(|peer| self.streams.hears(now, peer));
        self.liveness.set_heard_elsewhere(connection, is_heard);
        // The end whose address has changed knows that, and the other one does not know where it is now.
        let dials =
            |peer: &PeerId| self.local < *peer || silent_for >= BOTH_DIAL_AFTER || self.liveness.is_doubted(connection);
        if let Some(peer) = user.filter(|peer| dials(peer)).cloned() {
            tracing::debug!(%peer, ?connection, "stuck");
            reached(Situation::ConnectionStuck);
            self.peers.replace(&peer, &mut self.out);
        }
    }

    /// Tells what may not have arrived of what was published into a connection that ends.
    pub(super) fn tell_lost(&mut self, peer: PeerId, connection: ConnectionId) {
        let published = self.out.stats.messages_published;
        let lost = self.peers.take_undelivered(&peer, connection, published);
        let lost = self.topics.count_for(&peer, published - lost.end, lost.end.saturating_sub(lost.start));
        if lost > 0 {
            reached(Situation::MessageMayBeLost);
            self.on_slow_peer(peer, lost);
        }
    }

    pub(super) fn on_silent(&mut self, now: Time, connection: ConnectionId) {
        tracing::debug!(?connection, "silent");
        // The peer of a retired connection has another one.
        if let Some(peer) = self.peers.user_of(connection).cloned() {
            reached(Situation::PeerSilent);
            self.out.stats.ping_timeouts += 1;
            self.tell_lost(peer, connection);
        }
        self.abort(now, [connection]);
    }

    /// Ends the connections that are silent, and aborts those that do not close in time.
    fn end_connections(&mut self, now: Time) {
        while let Some(due) = self.liveness.pop_due(now) {
            match due {
                Due::Ask(connection) => self.out.net(NetAction::CheckAlive { connection }),
                Due::Silent(connection) => self.on_silent(now, connection),
            }
        }
        while let Some(connection) = self.closing.pop_late(now) {
            tracing::debug!(?connection, "does not close");
            reached(Situation::CloseAborted);
            self.out.net(NetAction::Abort { connection });
        }
    }

    /// Handles an mDNS announcement of a peer, perhaps a repeated one.
    pub(super) fn on_announced(&mut self, now: Time, peer: PeerId, addresses: Vec<String>) {
        let (mut news, mut displaced) = (Vec::new(), Vec::new());
        for address in addresses {
            match self.records.hear(now, &peer, &address) {
                Verdict::News { instead_of } => {
                    displaced.extend(instead_of);
                    news.push(address);
                }
                Verdict::Known => {}
                Verdict::Full => self.out.stats.mdns_ignored += 1,
            }
        }
        self.peers.on_expired(&peer, &displaced);
        self.peers.on_discovered(peer, news, DiscoverySource::Mdns, &mut self.out);
    }

    /// Forgets the mDNS addresses that were not repeated in time.
    fn expire_records(&mut self, now: Time) {
        while let Some((peer, address)) = self.records.pop_expired(now) {
            reached(Situation::AddressExpired);
            self.peers.on_expired(&peer, &[address]);
        }
    }
}

/// How many heartbeats an event needs.
fn beats_after(event: &NetEvent) -> Option<u32> {
    match event {
        NetEvent::Published { .. } | NetEvent::Message { .. } | NetEvent::MessageRefused => Some(BEATS_AFTER_MESSAGE),
        NetEvent::Connected { .. }
        | NetEvent::Disconnected { .. }
        | NetEvent::PeerSubscribed { .. }
        | NetEvent::GossipActive => Some(BEATS_AFTER_ALL),
        NetEvent::PeerUnsubscribed { .. } => Some(BEATS_AFTER_LEAVING),
        _ => None,
    }
}
