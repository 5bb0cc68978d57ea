//! Collects the outputs of the engine's parts.

use std::collections::VecDeque;

use super::command::{CommandId, Reply};
use super::io::{NetAction, Output};
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::id::{PeerId, StreamId};
use crate::media::AudioFrame;
use crate::stats::Stats;

/// Outputs in order, and the counters.
#[derive(Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Outbox {
    #[cfg_attr(feature = "recorder", serde(skip))]
    outputs: VecDeque<Output>,
    pub(crate) stats: Stats,
}

impl Outbox {
    pub(crate) fn reply(&mut self, reply: Reply) {
        self.outputs.push_back(Output::Reply(reply));
    }

    pub(crate) fn done(&mut self, id: CommandId, result: Result<(), AviP2pError>) {
        self.reply(Reply::Done { id, result });
    }

    pub(crate) fn event(&mut self, event: AviEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(crate) fn audio(&mut self, from: PeerId, stream_id: StreamId, frame: AudioFrame) {
        self.outputs.push_back(Output::Audio { from, stream_id, frame });
    }

    pub(crate) fn net(&mut self, action: NetAction) {
        self.outputs.push_back(Output::Net(action));
    }

    #[cfg(feature = "context")]
    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn stopped(&mut self) {
        self.outputs.push_back(Output::Stopped);
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
