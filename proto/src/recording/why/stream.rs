//! What became of a stream: asked for, accepted, moved, closed, and which frames it has lost.

use std::time::Duration;

use super::Explanation;
use super::ledger::{Changes, Ledger};
use super::peer::failed;
use super::runs::{Reason, Run, Runs, carried};
use crate::engine::{Command, Engine, Input, NetAction, NetEvent, Output, Place, Reply, Time};
use crate::error::{AviP2pError, StreamCloseReason};
use crate::event::AviEvent;
use crate::id::StreamId;
use crate::recording::replay::{Step, StepInput};
use crate::stats::{AudioPath, AudioStats, RemoteAudioReport};

/// An end that is there answers far sooner.
const SILENT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct StreamStory {
    id: StreamId,
    place: Option<Place>,
    figures: Option<AudioStats>,
    /// When something came from the other end last.
    answered: Time,
    /// Losses and changes of the path that are not told yet.
    runs: Runs,
    /// The last thing that the network did to it.
    trouble: Option<String>,
    has_ended: bool,
}

impl StreamStory {
    pub(super) fn new(id: StreamId) -> Self {
        let (answered, runs) = (Time::ZERO, Runs::default());
        Self { id, place: None, figures: None, answered, runs, trouble: None, has_ended: false }
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
        self.on_answer(step, ledger);
        self.on_figures(step, engine, told);
        self.runs.tell_old(step.time, told);
        for output in &step.outputs {
            self.on_output(step, output, told);
        }
    }

    pub(super) fn finish(&mut self, told: &mut Explanation) {
        self.runs.tell(told);
    }

    /// Whether something has come from the other end.
    fn on_answer(&mut self, step: &Step, ledger: &Ledger) {
        let Some(place) = &self.place else { return };
        let is_it = match &step.input {
            StepInput::Input(Input::Net(NetEvent::Received { substream, .. })) => Some(*substream) == place.substream,
            StepInput::Input(Input::Net(NetEvent::Datagram { bytes, .. })) => {
                place.session.is_some() && place.session.as_ref() == bytes.first_chunk()
            }
            _ => false,
        };
        let heard = place.connection.and_then(|connection| ledger.heard(connection));
        let answered = if is_it { Some(step.time) } else { heard };
        self.answered = answered.map_or(self.answered, |at| self.answered.max(at));
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
                if changes.dialled.as_ref().and_then(|dial| dial.peer.as_ref()) == Some(&place.peer) =>
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

    /// Which frames were lost in this step, and whether the path has changed.
    fn on_figures(&mut self, step: &Step, engine: &Engine, told: &mut Explanation) {
        let Ok(after) = engine.audio_stats(self.id) else { return };
        let before = self.figures.replace(after.clone());
        let Some(before) = before else { return };
        let changes = after.path_changes.saturating_sub(before.path_changes);
        match after.path_changes {
            _ if changes == 0 => {}
            // To datagrams, and back.
            ..=2 => told.add(step, carried(after.path)),
            _ => self.runs.add(step, Run::new("change", "of its path", Reason::Path(after.path), changes)),
        }
        let reason = match after.ended {
            Some(_) => Reason::Other("the stream ended before they had left"),
            None => self.why_nothing_leaves(step),
        };
        let dropped = after.frames_dropped.saturating_sub(before.frames_dropped);
        self.runs.add(step, Run::new("frame", "dropped by this end", reason, dropped).on_path(congestion(&after)));
        let late =
            "they came later than audio_queue after the fastest: the path has grown longer, or its sender was stalled";
        self.lose(step, "late", late, after.frames_late, before.frames_late);
        let lost = match after.path {
            AudioPath::Datagrams => {
                "the path lost their datagrams, or the other end dropped them before a congested path"
            }
            AudioPath::Substream => {
                "the other end dropped them before a congested path, or a connection ended meanwhile"
            }
        };
        self.lose(step, "missing from the other end", lost, after.frames_lost, before.frames_lost);
        let of = |remote: Option<RemoteAudioReport>| remote.map_or((0, 0), |report| (report.lost, report.late));
        let ((lost, late), (lost_before, late_before)) = (of(after.remote), of(before.remote));
        let why = "they never came to it, and those that this end dropped are among them";
        self.lose(step, "missing at the other end, as it reports", why, lost, lost_before);
        let why = "they came to it later than audio_queue after the fastest";
        self.lose(step, "late at the other end, as it reports", why, late, late_before);
    }

    fn lose(&mut self, step: &Step, done: &'static str, why: &'static str, after: u64, before: u64) {
        self.runs.add(step, Run::new("frame", done, Reason::Other(why), after.saturating_sub(before)));
    }

    /// Why frames wait for longer than they may.
    fn why_nothing_leaves(&self, step: &Step) -> Reason {
        match &self.place {
            // It has a substream as soon as it has a connection that carries frames.
            Some(place) if place.substream.is_none() => Reason::Parted,
            _ if step.time - self.answered >= SILENT => Reason::Silent(self.answered),
            _ => Reason::Congested,
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
                    let (done, reason) = ("refused, rather than to drop older ones", self.why_nothing_leaves(step));
                    return self.runs.add(step, Run::new("frame", done, reason, 1));
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
                self.runs.tell(told);
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

/// What is known of a congested path.
fn congestion(stats: &AudioStats) -> String {
    let delay = stats.queue_delay.map(|delay| delay.as_millis()).filter(|delay| *delay > 0);
    let delay = delay.map_or_else(String::new, |delay| format!(", frames wait in it for {delay} ms"));
    let rate = stats.rate_bits_per_second.map_or_else(String::new, |rate| format!(", it takes {} kbit/s", rate / 1000));
    delay + &rate
}
