//! What happens at all times, without the application? Connections that are silent or do not close are ended, mDNS
//! hints expire, failed listeners and mDNS are retried, and GossipSub's heartbeats are ordered.

use std::time::Duration;

use super::Engine;
use super::heartbeat::{BEATS_AFTER_ALL, BEATS_AFTER_MESSAGE};
use super::io::{ConnectionId, NetAction, NetEvent};
use super::liveness::Due;
use super::records::Verdict;
use super::time::Time;
use crate::event::DiscoverySource;
use crate::id::PeerId;

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

    pub(super) fn on_silent(&mut self, now: Time, connection: ConnectionId) {
        tracing::debug!(?connection, "silent");
        self.out.stats.ping_timeouts += 1;
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
        | NetEvent::PeerUnsubscribed { .. }
        | NetEvent::GossipActive => Some(BEATS_AFTER_ALL),
        _ => None,
    }
}
