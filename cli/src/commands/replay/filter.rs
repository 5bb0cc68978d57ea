//! Which steps are shown? Those that concern a peer, or a stream; without one, those that are out of the ordinary.

use avi_p2p::{PeerId, StreamId};
use avi_p2p_proto::recording::{Mentions, Replay, Step};

use super::{NOTHING, steps};
use crate::exit::Failure;

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) all: bool,
    pub(super) peer: Option<PeerId>,
    pub(super) stream: Option<StreamId>,
    pub(super) mentions: Mentions,
    /// How many steps concern the peer or the stream.
    pub(super) found: u64,
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
        let is_found = is_of_peer && is_of_stream;
        self.found += u64::from(is_found);
        is_found
    }

    /// Whether something was found, if a peer or a stream was asked for.
    pub(super) fn judged(&self) -> Result<(), Failure> {
        match self.found == 0 && (self.peer.is_some() || self.stream.is_some()) {
            true => Err(Failure::Finding(NOTHING.to_owned())),
            false => Ok(()),
        }
    }
}
