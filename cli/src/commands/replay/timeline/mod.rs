//! What happened when? Peers, dials, streams, drops and queues over the time of a recording, of bounded size.

mod draw;
mod page;
mod rows;
mod series;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use avi_p2p::{AviEvent, PeerId, Stats, StreamId};
use avi_p2p_proto::engine::{Command, DialId, Direction, Input, NetAction, NetEvent, Output, Reply};
use avi_p2p_proto::recording::{Began, Replay, Step, StepInput};

use self::rows::{Dialled, PeerRow, Span, StreamRow};
use self::series::Series;
use super::steps;
use super::words::Words;

/// A page has at most so many rows of peers, and of streams; further ones are counted.
const MAX_ROWS: usize = 60;
/// And so many spans or marks in a row.
const MAX_IN_ROW: usize = 80;
/// And so many lines of what happened.
const MAX_HAPPENED: usize = 400;
/// The longest text of such a line, in characters.
const MAX_CHARS: usize = 240;

type Figure = fn(&Stats) -> u64;

/// Counters whose growth is a loss, and what each is called.
const LOSSES: [(&str, Figure); 10] = [
    ("audio dropped: the path was congested", |stats| stats.audio_frames_dropped),
    ("audio refused: the path was congested", |stats| stats.audio_frames_refused),
    ("audio missing: dropped or lost by the other end", |stats| stats.audio_frames_missing),
    ("datagrams dropped", |stats| stats.datagrams_dropped),
    ("messages dropped: a peer is slow", |stats| stats.slow_peer_drops),
    ("messages expired", |stats| stats.messages_expired),
    ("messages refused", |stats| stats.messages_refused),
    ("publishes refused", |stats| stats.publishes_refused),
    ("events dropped: the application is slow", |stats| {
        stats.events_dropped_messages + stats.events_dropped_audio_frames + stats.events_dropped_lifecycle
    }),
    ("connections refused", |stats| stats.inbound_refused + stats.outbound_refused),
];

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    title: String,
    from: Option<f64>,
    to: f64,
    steps: u64,
    gaps: Vec<f64>,
    peers: BTreeMap<String, PeerRow>,
    more_peers: u64,
    streams: BTreeMap<StreamId, StreamRow>,
    more_streams: u64,
    dialling: BTreeMap<DialId, String>,
    asked: BTreeMap<u64, String>,
    last: Option<Stats>,
    losses: BTreeMap<&'static str, (Series, u64)>,
    connected: Series,
    calls: Series,
    held: Series,
    queued: Series,
    happened: Vec<(f64, String)>,
    more_happened: u64,
}

impl Timeline {
    /// Notes a step; the engine is in the state after it.
    pub(super) fn add(&mut self, replay: &Replay, step: &Step, words: &Words) {
        let at = step.time.0.as_secs_f64();
        self.steps += 1;
        self.from.get_or_insert(at);
        self.to = self.to.max(at);
        match &step.input {
            StepInput::Began(_) => self.begin(replay, step, words),
            StepInput::Input(Input::Net(event)) => self.add_event(event, words),
            StepInput::Input(Input::Command(command)) => self.add_command(command, words),
            _ => {}
        }
        for output in &step.outputs {
            self.add_output(output, at, words);
        }
        self.measure(replay, at);
        if steps::is_notable(step) {
            self.happen(step, at, words);
        }
    }

    /// A segment: what is there already has no event in it.
    fn begin(&mut self, replay: &Replay, step: &Step, words: &Words) {
        let at = step.time.0.as_secs_f64();
        let StepInput::Began(head) = &step.input else { return };
        if self.title.is_empty() {
            self.title = format!("{}, recorded by version {}", words.say(head.local.as_str()), head.version);
        }
        if head.began == Began::Full && self.steps > 1 {
            return;
        }
        if head.began == Began::Gap {
            self.gaps.push(at);
        }
        self.close_all(at);
        self.last = None;
        for peer in replay.engine().connected_peers().unwrap_or_default() {
            let info = replay.engine().peer_info(step.time, &peer).ok();
            if let Some(row) = self.peer(&words.say(peer.as_str())) {
                row.name = info.and_then(|info| info.name).map(|name| words.say(&name));
                push(&mut row.connected, Span { from: at, until: None });
            }
        }
    }

    fn close_all(&mut self, at: f64) {
        for row in self.peers.values_mut() {
            row.connected.iter_mut().filter(|span| span.until.is_none()).for_each(|span| span.until = Some(at));
        }
    }

    fn add_event(&mut self, event: &NetEvent, words: &Words) {
        match event {
            NetEvent::Connected { direction: Direction::Outbound(dial), peer, .. } => {
                // A dial to an address has the row of the address.
                let row = self.dialling.remove(dial).unwrap_or_else(|| words.say(peer.as_str()));
                let last = self.peers.get_mut(&row).and_then(|row| row.dials.last_mut());
                last.into_iter().for_each(|dial| dial.answered = true);
            }
            NetEvent::DialFailed { dial, failure } => {
                let Some(row) = self.dialling.remove(dial) else { return };
                let last = self.peers.get_mut(&row).and_then(|row| row.dials.last_mut());
                last.into_iter().for_each(|dial| dial.failed = Some(cut(&words.say(&format!("{failure:?}")))));
            }
            NetEvent::Identified { peer, name, .. } => {
                if let Some(row) = self.peer(&words.say(peer.as_str())) {
                    row.name = Some(cut(&words.say(name)));
                }
            }
            _ => {}
        }
    }

    fn add_command(&mut self, command: &Command, words: &Words) {
        if let Command::RequestStream { id, peer, .. } = command
            && self.asked.len() < MAX_ROWS
        {
            self.asked.insert(id.number(), words.say(peer.as_str()));
        }
    }

    fn add_output(&mut self, output: &Output, at: f64, words: &Words) {
        match output {
            Output::Net(NetAction::Dial { dial, peer, addresses }) => {
                let key = peer.as_ref().map_or_else(|| addresses.join(" "), PeerId::to_string);
                let key = words.say(&key);
                if let Some(row) = self.peer(&key) {
                    push(&mut row.dials, Dialled { at, failed: None, answered: false });
                    self.dialling.insert(*dial, key);
                }
            }
            Output::Reply(Reply::Stream { id, result }) => {
                let peer = self.asked.remove(&id.number());
                if let Ok(stream) = result {
                    self.stream(*stream, at).into_iter().for_each(|row| row.peer.clone_from(&peer));
                }
            }
            Output::Audio { stream_id, from, frame } => {
                if let Some(row) = self.stream(*stream_id, at) {
                    row.peer.get_or_insert_with(|| words.say(from.as_str()));
                    row.accepted.get_or_insert(at);
                    if frame.missing > 0 {
                        push(&mut row.dropped, (at, frame.missing));
                    }
                }
            }
            Output::Event(event) => self.add_told(event, at, words),
            _ => {}
        }
    }

    fn add_told(&mut self, event: &AviEvent, at: f64, words: &Words) {
        match event {
            AviEvent::PeerConnected { peer_id, .. } => {
                if let Some(row) = self.peer(&words.say(peer_id.as_str())) {
                    push(&mut row.connected, Span { from: at, until: None });
                }
            }
            AviEvent::PeerDisconnected { peer_id } => {
                let spans = self.peer(&words.say(peer_id.as_str())).map(|row| &mut row.connected);
                let open = spans.into_iter().flatten().filter(|span| span.until.is_none());
                open.for_each(|span| span.until = Some(at));
            }
            AviEvent::AudioStreamRequested { from, stream_id } => {
                self.stream(*stream_id, at).into_iter().for_each(|row| row.peer = Some(words.say(from.as_str())));
            }
            AviEvent::AudioStreamAccepted { peer_id, stream_id } => {
                if let Some(row) = self.stream(*stream_id, at) {
                    row.peer = Some(words.say(peer_id.as_str()));
                    row.accepted.get_or_insert(at);
                }
            }
            AviEvent::AudioStreamClosed { peer_id, stream_id, reason } => {
                if let Some(row) = self.stream(*stream_id, at) {
                    row.peer = Some(words.say(peer_id.as_str()));
                    row.ended = Some((at, cut(&words.say(&reason.to_string()))));
                }
            }
            _ => {}
        }
    }

    /// What the engine says of itself.
    fn measure(&mut self, replay: &Replay, at: f64) {
        let Ok(stats) = replay.engine().stats() else { return };
        self.connected.most(at, stats.peers_connected as f64);
        self.calls.most(at, stats.streams_now as f64);
        self.held.most(at, stats.messages_held_now as f64);
        let open = self.streams.iter().filter(|(_, row)| row.ended.is_none()).map(|(stream, _)| *stream);
        let queued = |stream| replay.engine().audio_stats(stream).map_or(0, |stats| stats.queued_bytes);
        self.queued.most(at, open.map(queued).sum::<usize>() as f64);
        if let Some(last) = &self.last {
            for (name, figure) in LOSSES {
                let lost = figure(&stats).saturating_sub(figure(last));
                if lost > 0 {
                    let (series, total) = self.losses.entry(name).or_default();
                    series.plus(at, lost as f64);
                    *total += lost;
                }
            }
        }
        self.last = Some(stats);
    }

    fn happen(&mut self, step: &Step, at: f64, words: &Words) {
        if self.happened.len() >= MAX_HAPPENED {
            self.more_happened += 1;
            return;
        }
        let events = step.outputs.iter().filter_map(|output| match output {
            Output::Event(event) if !matches!(event, AviEvent::Message { .. }) => Some(format!("{event:?}")),
            _ => None,
        });
        let told: Vec<_> = events.collect();
        let text = if told.is_empty() { step.input.to_string() } else { told.join("; ") };
        self.happened.push((at, cut(&words.say(&text))));
    }

    fn peer(&mut self, key: &str) -> Option<&mut PeerRow> {
        if !self.peers.contains_key(key) {
            if self.peers.len() >= MAX_ROWS {
                self.more_peers += 1;
                return None;
            }
            self.peers.insert(key.to_owned(), PeerRow::default());
        }
        self.peers.get_mut(key)
    }

    /// The row of a stream. One that is not known has begun before the recording.
    fn stream(&mut self, stream: StreamId, at: f64) -> Option<&mut StreamRow> {
        if !self.streams.contains_key(&stream) {
            if self.streams.len() >= MAX_ROWS {
                self.more_streams += 1;
                return None;
            }
            let row = StreamRow { peer: None, requested: at, accepted: None, ended: None, dropped: Vec::new() };
            self.streams.insert(stream, row);
        }
        self.streams.get_mut(&stream)
    }

    /// The page that shows it.
    pub(super) fn page(&self) -> String {
        page::render(self)
    }
}

fn push<T>(row: &mut Vec<T>, item: T) {
    if row.len() < MAX_IN_ROW {
        row.push(item);
    }
}

/// Text that fits into a line.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
