//! What does a reader of recordings look at? Questions that need no running node.

use super::Engine;
use super::io::{ConnectionId, SubstreamId};
use crate::id::{PeerId, StreamId};
use crate::stats::Stats;

/// Where a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) peer: PeerId,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) substream: Option<SubstreamId>,
    /// What its peer's datagrams begin with.
    pub(crate) session: Option<[u8; 8]>,
}

impl Engine {
    /// What was counted, also after the shutdown has begun.
    pub(crate) fn counters(&self) -> &Stats {
        &self.out.stats
    }

    /// Where the streams are.
    pub(crate) fn places(&self) -> impl Iterator<Item = (StreamId, Place)> {
        self.streams.streams.values().map(|stream| {
            let (peer, connection, substream) = (stream.peer.clone(), stream.connection, stream.substream);
            let session = stream.datagrams.session();
            (stream.id, Place { peer, connection, substream, session })
        })
    }

    /// The connections and their peers.
    pub(crate) fn links(&self) -> impl Iterator<Item = (ConnectionId, &PeerId)> {
        let peers = self.peers.peers.iter();
        peers.flat_map(|(id, peer)| peer.connections().map(move |connection| (connection, id)))
    }
}
