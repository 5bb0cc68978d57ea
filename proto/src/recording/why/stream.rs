//! What became of a stream: asked for, accepted, moved, closed, and which frames it has lost.

use super::ledger::{Changes, Ledger};
use super::peer::failed;
use super::{Explanation, plural};
use crate::engine::{Command, Engine, Input, NetAction, NetEvent, Output, Place, Reply, Time};
use crate::error::{AviP2pError, StreamCloseReason};
use crate::event::AviEvent;
use crate::id::StreamId;
use crate::recording::replay::{Step, StepInput};
use crate::stats::{AudioPath, AudioStats};

/// Losses that follow each other within this time are told together.
const TOGETHER: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct StreamStory {
    id: StreamId,
    place: Option<Place>,
    figures: Option<AudioStats>,
    /// Losses that are not told yet.
    losses: Vec<Loss>,
    /// The last thing that the network did to it.
    trouble: Option<String>,
    has_ended: bool,
}

/// Frames that were lost for one reason.
#[derive(Debug)]
struct Loss {
    why: String,
    frames: u64,
    number: u64,
    from: Time,
    to: Time,
}

impl StreamStory {
    pub(super) fn new(id: StreamId) -> Self {
        Self { id, place: None, figures: None, losses: Vec::new(), trouble: None, has_ended: false }
    }

    pub(super) fn on_step(
        &mut self,
        step: &Step,
        engine: &Engine,
        ledger: &Ledger,
        changes: &Changes,
        told: &mut Explanation,
    ) {
        self.place = ledger.places.get(&self.id).cloned().or_else(|| self.place.take());
        self.on_trouble(step, changes, told);
        self.on_figures(step, engine);
        if self.losses.iter().any(|loss| step.time - loss.to > TOGETHER) {
            self.tell_losses(told);
        }
        for output in &step.outputs {
            self.on_output(step, output, told);
        }
    }

    pub(super) fn finish(&mut self, told: &mut Explanation) {
        self.tell_losses(told);
    }

    /// What happens to its connection and its substream.
    fn on_trouble(&mut self, step: &Step, changes: &Changes, told: &mut Explanation) {
        let Some(place) = &self.place else { return };
        let mut texts = Vec::new();
        for (connection, _, why) in &changes.closing {
            if Some(*connection) == place.connection {
                texts.push(format!("this node closes its connection {}: {why}", connection.0));
            }
        }
        if let Some((connection, _, why)) = &changes.ended
            && Some(*connection) == place.connection
        {
            texts.push(format!("its connection {} has ended: {why}", connection.0));
        }
        match &step.input {
            StepInput::Input(Input::Net(NetEvent::Broken { substream, reason }))
                if Some(*substream) == place.substream =>
            {
                texts.push(format!("its substream has failed: {reason}"));
            }
            StepInput::Input(Input::Net(NetEvent::Finished { substream }))
                if Some(*substream) == place.substream && !self.has_ended =>
            {
                texts.push("the other end has closed its direction of the substream".to_owned());
            }
            StepInput::Input(Input::Net(NetEvent::SubstreamFailed { stream, reason })) if *stream == self.id => {
                texts.push(format!("a substream for it could not be opened: {reason}"));
            }
            StepInput::Input(Input::Net(NetEvent::DialFailed { failure, .. }))
                if changes.dialled.as_ref() == Some(&place.peer) =>
            {
                texts.push(format!("a dial to its peer has failed: {}", failed(failure)));
            }
            _ => {}
        }
        for text in texts {
            self.trouble = Some(format!("{text} (at {:.3} s)", step.time.0.as_secs_f64()));
            told.add(step, text);
        }
    }

    /// Which frames were lost in this step.
    fn on_figures(&mut self, step: &Step, engine: &Engine) {
        let Ok(after) = engine.audio_stats(self.id) else { return };
        let before = self.figures.replace(after.clone());
        let Some(before) = before else { return };
        let waited = after
            .queue_delay
            .map_or_else(String::new, |delay| format!(", where frames wait for {} ms", delay.as_millis()));
        let rate =
            after.rate_bits_per_second.map_or_else(String::new, |rate| format!(" and takes {} kbit/s", rate / 1000));
        let dropped = match &step.input {
            _ if after.ended.is_some() => "the stream ended before they had left".to_owned(),
            StepInput::Input(Input::Command(Command::SendAudio { .. })) => {
                format!("the send queue was full, and the oldest give way: the path is congested{waited}{rate}")
            }
            _ => format!("they had waited for longer than audio_queue before a congested path{waited}{rate}"),
        };
        self.lose(step, after.frames_dropped.saturating_sub(before.frames_dropped), "dropped by this end", &dropped);
        let late =
            "they came later than audio_queue after the fastest: the path has grown longer, or its sender was stalled";
        self.lose(step, after.frames_late.saturating_sub(before.frames_late), "late", late);
        let lost = match after.path {
            AudioPath::Datagrams => {
                "the path lost their datagrams, or the other end dropped them before a congested path"
            }
            AudioPath::Substream => {
                "the other end dropped them before a congested path, or a connection ended meanwhile"
            }
        };
        self.lose(step, after.frames_lost.saturating_sub(before.frames_lost), "missing from the other end", lost);
    }

    fn lose(&mut self, step: &Step, frames: u64, what: &str, why: &str) {
        if frames == 0 {
            return;
        }
        // The figures of the path change from step to step: the first ones are told.
        let kind = format!("{what}: ");
        match self.losses.iter_mut().find(|loss| loss.why.starts_with(&kind)) {
            Some(loss) => (loss.frames, loss.to) = (loss.frames + frames, step.time),
            None => self.losses.push(Loss {
                why: format!("{kind}{why}"),
                frames,
                number: step.number,
                from: step.time,
                to: step.time,
            }),
        }
    }

    fn tell_losses(&mut self, told: &mut Explanation) {
        for Loss { why, frames, number, from, to } in std::mem::take(&mut self.losses) {
            let until = if to > from { format!(", until {:.3} s", to.0.as_secs_f64()) } else { String::new() };
            told.add_at(number, from, format!("{frames} frame{} {why}{until}", plural(frames)));
        }
    }

    fn on_output(&mut self, step: &Step, output: &Output, told: &mut Explanation) {
        let text = match output {
            Output::Reply(Reply::Stream { result: Ok(stream), .. }) if *stream == self.id => match &step.input {
                StepInput::Input(Input::Command(Command::RequestStream { peer, .. })) => {
                    format!("the application asks {peer} for it")
                }
                _ => return,
            },
            Output::Reply(Reply::Done { result: Err(error), .. }) => match (&step.input, error) {
                (StepInput::Input(Input::Command(Command::SendAudio { stream, .. })), AviP2pError::Congested(_))
                    if *stream == self.id =>
                {
                    return self.lose(
                        step,
                        1,
                        "refused",
                        "the send queue was full, and the stream refuses rather than drops",
                    );
                }
                _ => return,
            },
            Output::Event(AviEvent::AudioStreamRequested { from, stream_id }) if *stream_id == self.id => {
                format!("{from} asks for it")
            }
            Output::Event(AviEvent::AudioStreamAccepted { stream_id, .. }) if *stream_id == self.id => {
                "the other end accepts it".to_owned()
            }
            Output::Net(NetAction::OpenSubstream { stream, connection }) if *stream == self.id => {
                format!("a substream for it is opened on connection {}", connection.0)
            }
            Output::Reply(Reply::Done { result: Ok(()), .. }) => match &step.input {
                StepInput::Input(Input::Command(Command::AcceptStream { stream, .. })) if *stream == self.id => {
                    "the application accepts it".to_owned()
                }
                _ => return,
            },
            Output::Event(AviEvent::AudioStreamClosed { stream_id, reason, .. }) if *stream_id == self.id => {
                self.has_ended = true;
                self.tell_losses(told);
                format!("it is closed: {}", self.closed(step, reason))
            }
            _ => return,
        };
        told.add(step, text);
    }

    /// Why it was closed, by the reason that the application is told and by what went in.
    fn closed(&self, step: &Step, reason: &StreamCloseReason) -> String {
        let trouble = self.trouble.as_ref().map_or(String::new(), |trouble| format!(", after {trouble}"));
        let input = match &step.input {
            StepInput::Input(input) => Some(input),
            _ => None,
        };
        match (reason, input) {
            (StreamCloseReason::LocalClose, Some(Input::Command(Command::Shutdown { .. }))) => {
                "the application shuts the node down".to_owned()
            }
            (StreamCloseReason::LocalClose, Some(Input::Command(Command::RejectStream { .. }))) => {
                "the application rejects it".to_owned()
            }
            (StreamCloseReason::LocalClose, _) => "the application closes it".to_owned(),
            (StreamCloseReason::RemoteClose, Some(Input::Net(NetEvent::Received { .. }))) => {
                "the other end closes it, by a CLOSE frame".to_owned()
            }
            (StreamCloseReason::RemoteClose, _) => {
                "the other end has closed it, by a CLOSE frame, and its last frames have come or are given up"
                    .to_owned()
            }
            (StreamCloseReason::Timeout, Some(Input::Net(NetEvent::Received { .. }))) => {
                "the other end says that it has waited for an answer for too long".to_owned()
            }
            (StreamCloseReason::Timeout, _) => "no answer has come within accept_timeout".to_owned(),
            (
                StreamCloseReason::Unreachable,
                Some(Input::Command(Command::SetBlocked { .. } | Command::SetAllowed { .. })),
            ) => "its peer may not connect any more".to_owned(),
            (StreamCloseReason::Unreachable, _) => format!("its peer could not be reached{trouble}"),
            (StreamCloseReason::PeerDisconnected, Some(Input::Net(NetEvent::Misbehaved { .. }))) => {
                "its peer breaks the rules of pub/sub, and is banned".to_owned()
            }
            (StreamCloseReason::PeerDisconnected, Some(Input::Command(_))) => {
                "its peer may not connect any more".to_owned()
            }
            (StreamCloseReason::PeerDisconnected, None) => {
                format!("it has lost its connection, and no other to the peer came in time{trouble}")
            }
            (StreamCloseReason::PeerDisconnected, _) => format!("it has lost its connection{trouble}"),
            (StreamCloseReason::Error(why), _) => {
                format!("its substream failed while the peer stayed connected: {why}")
            }
            (StreamCloseReason::Rejected(why), _) if why.is_empty() => "the other end rejects it".to_owned(),
            (StreamCloseReason::Rejected(why), _) => format!("the other end rejects it: {why}"),
            (StreamCloseReason::Protocol(why), _) => format!("the other end breaks the protocol: {why}"),
        }
    }
}
