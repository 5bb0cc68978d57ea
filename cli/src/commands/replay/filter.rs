//! Which steps are shown? Those that concern a peer, or a stream; without one, those that are out of the ordinary.

use avi_p2p::{PeerId, StreamId};
use avi_p2p_proto::recording::{Mentions, Replay, Step};

use super::steps;

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) all: bool,
    pub(super) peer: Option<PeerId>,
    pub(super) stream: Option<StreamId>,
    pub(super) mentions: Mentions,
}

impl Filter {
    /// Whether something was asked for.
    pub(super) fn is_narrow(&self) -> bool {
        self.all || self.peer.is_some() || self.stream.is_some()
    }

    /// Takes a step, with the engine after it. Whether it is shown.
    pub(super) fn shows(&mut self, replay: &Replay, step: &Step) -> bool {
        self.mentions.on_step(step, replay.engine());
        if self.peer.is_none() && self.stream.is_none() {
            return self.all || steps::is_notable(step);
        }
        let is_of_peer = self.peer.as_ref().is_none_or(|peer| self.mentions.peers().contains(peer));
        let is_of_stream = self.stream.as_ref().is_none_or(|stream| self.mentions.streams().contains(stream));
        is_of_peer && is_of_stream
    }
}
