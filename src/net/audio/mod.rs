//! How is audio carried over substreams? Who opens them, how many there may be, and what is read and written.

mod negotiation;
mod ready;
mod substreams;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;

use self::negotiation::Negotiated;
pub(super) use self::negotiation::{Behaviour, Event};
use self::substreams::Substreams;
use crate::config::AviP2pConfig;
use crate::id::StreamId;
use crate::net::connections::Connections;
use crate::wake::Wake;
use avi_p2p_proto::engine::{ConnectionId, NetEvent, SubstreamId};

/// All versions of the audio protocol begin with this.
pub(super) const PROTOCOLS: &str = "/avi/audio/";
/// Yamux closes a connection that has more substreams than its limit. Its window accounting supports at most 4,096.
const MAX_YAMUX_STREAMS: usize = 4096;
/// Substreams reserved for all protocols but audio: Kademlia 64, identify 20, pub/sub and ping a few.
const OTHER_STREAMS: usize = 128;

/// The most audio substreams on a connection, per direction.
pub(super) fn max_audio_substreams(config: &AviP2pConfig) -> usize {
    (2 * config.max_audio_streams + 16).min((MAX_YAMUX_STREAMS - OTHER_STREAMS) / 2)
}

/// The most substreams on a connection. A peer can fill the 256 KiB window of each before any protocol reads from it:
/// with the multiplexer's default of 512, that is 128 MiB a peer.
pub(super) fn max_substreams(config: &AviP2pConfig) -> usize {
    2 * max_audio_substreams(config) + OTHER_STREAMS
}

/// The audio substreams of a node.
pub(super) struct Audio {
    substreams: Substreams,
    /// Substreams that are being negotiated.
    opening: BTreeMap<StreamId, ConnectionId>,
    /// The most substreams on one connection, per direction.
    max_substreams: usize,
}

impl Audio {
    /// `wake` is notified when a substream is ready.
    pub(super) fn new(config: &AviP2pConfig, wake: Arc<Wake>) -> Self {
        Self {
            substreams: Substreams::new(wake),
            opening: BTreeMap::new(),
            max_substreams: max_audio_substreams(config),
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.substreams.is_due()
    }

    /// Polls one ready substream. Returns false if none is ready.
    pub(super) fn poll(&mut self, events: &mut VecDeque<NetEvent>) -> bool {
        self.substreams.poll(events)
    }

    /// The number of open substreams on a connection.
    #[cfg(test)]
    pub(super) fn count(&self, connection: ConnectionId) -> usize {
        self.substreams.count(connection)
    }

    pub(super) fn open(
        &mut self,
        stream: StreamId,
        connection: ConnectionId,
        connections: &Connections,
        behaviour: &mut Behaviour,
        events: &mut VecDeque<NetEvent>,
    ) {
        self.opening.remove(&stream);
        self.forget_answers(stream, events);
        // Negotiations count too: a stalled connection does not finish them.
        let opening = self.opening.values().filter(|other| **other == connection).count();
        let failed = match connections.by_id(connection) {
            None => "the connection has ended",
            Some(_) if opening >= self.max_substreams => "the connection opens too many substreams already",
            Some(_) if self.substreams.count(connection) >= 2 * self.max_substreams => {
                "the connection has too many substreams"
            }
            Some(connection) => {
                self.opening.insert(stream, connection.id);
                return behaviour.open(connection.peer, connection.in_swarm, stream);
            }
        };
        events.push_back(NetEvent::SubstreamFailed { stream, reason: failed.to_owned() });
    }

    /// The engine has moved the stream to another connection before it was answered.
    fn forget_answers(&mut self, stream: StreamId, events: &mut VecDeque<NetEvent>) {
        events.retain(|event| match event {
            NetEvent::SubstreamOpened { stream: other, substream } if *other == stream => {
                self.substreams.reset(*substream);
                false
            }
            NetEvent::SubstreamFailed { stream: other, .. } => *other != stream,
            _ => true,
        });
    }

    pub(super) fn write(&mut self, substream: SubstreamId, bytes: Bytes, events: &mut VecDeque<NetEvent>) {
        self.substreams.write(substream, bytes, events);
    }

    pub(super) fn finish(&mut self, substream: SubstreamId) {
        self.substreams.finish(substream);
    }

    /// Drops a substream, and its events that the engine has not received yet.
    pub(super) fn reset(&mut self, substream: SubstreamId, events: &mut VecDeque<NetEvent>) {
        self.substreams.reset(substream);
        events.retain(|event| substream_of(event) != Some(substream));
    }

    /// The connection has ended.
    pub(super) fn on_disconnected(&mut self, connection: ConnectionId) {
        self.substreams.drop_connection(connection);
        self.opening.retain(|_, other| *other != connection);
    }

    pub(super) fn on_event(&mut self, event: Event, connections: &Connections, events: &mut VecDeque<NetEvent>) {
        // The connection has ended: it has no substreams, and the engine expects no answer.
        let Some(connection) = connections.in_swarm(event.connection) else { return };
        match event.negotiated {
            Negotiated::Inbound(_) if self.substreams.count(connection) >= self.max_substreams => {
                tracing::debug!(peer = %event.peer, "too many audio substreams: reset");
            }
            Negotiated::Inbound(io) => {
                let substream = self.substreams.add(connection, io);
                let peer = connections.name(&event.peer);
                events.push_back(NetEvent::SubstreamOffered { substream, peer, connection });
            }
            Negotiated::Outbound(stream, _) if self.opening.get(&stream) != Some(&connection) => {
                tracing::debug!(peer = %event.peer, "an audio substream of a connection that was left: reset");
            }
            Negotiated::Outbound(stream, Ok(io)) => {
                self.opening.remove(&stream);
                let substream = self.substreams.add(connection, io);
                events.push_back(NetEvent::SubstreamOpened { stream, substream });
            }
            Negotiated::Outbound(stream, Err(reason)) => {
                self.opening.remove(&stream);
                events.push_back(NetEvent::SubstreamFailed { stream, reason });
            }
        }
    }
}

/// Why a substream has failed, without the texts of the layers below, which name their own ids. Yamux has one error for
/// a substream that was reset and for one whose connection has ended; of the latter the engine hears.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WriteZero | ErrorKind::UnexpectedEof => "the other end reset it".to_owned(),
        kind => kind.to_string(),
    }
}

/// The substream that an event belongs to.
fn substream_of(event: &NetEvent) -> Option<SubstreamId> {
    match event {
        NetEvent::SubstreamOpened { substream, .. }
        | NetEvent::SubstreamOffered { substream, .. }
        | NetEvent::Received { substream, .. }
        | NetEvent::Writable { substream }
        | NetEvent::Finished { substream }
        | NetEvent::Broken { substream, .. } => Some(*substream),
        _ => None,
    }
}
