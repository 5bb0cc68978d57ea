//! What does an application read from a mailbox at any times? Nothing twice, nothing out of order, and all losses
//! counted.

use std::collections::{BTreeMap, BTreeSet};

use avi_p2p_proto::config::Limits;
use avi_p2p_proto::engine::{Lag, Mailbox};
use avi_p2p_proto::error::StreamCloseReason;
use avi_p2p_proto::event::{AviEvent, DiscoverySource};
use avi_p2p_proto::id::{PeerId, StreamId};

use super::script::Script;

/// Any events, read at any time: both bounds of each class hold, and `Lagged` counts correctly.
pub fn mailbox(data: &[u8]) {
    let mut script = Script::new(data);
    let limits = Limits {
        event_messages: 1 + script.below(8),
        event_message_bytes: 16 << script.below(5),
        event_audio_frames: 1 + script.below(8),
        event_audio_bytes: 16 << script.below(5),
        event_lifecycle: 1 + script.below(24),
        ..Limits::default()
    };
    let mut reader = Reader { mailbox: Mailbox::new(&limits), limits, ..Reader::default() };
    while !script.is_over() {
        if script.below(4) == 0 {
            reader.read();
        } else {
            reader.push(&mut script);
        }
        reader.check_bounds();
    }
    while reader.read() {}
    reader.check_accounts();
}

struct Reader {
    mailbox: Mailbox,
    limits: Limits,
    /// The sizes of the messages that may still be queued, and of the frames and gaps; the oldest first.
    messages: Vec<usize>,
    audio: Vec<(u64, usize)>,
    given: Lag,
    /// Events that were read, or reported as dropped.
    accounted: Lag,
    reported: Lag,
    connected: BTreeMap<u8, bool>,
    seen_connected: BTreeMap<PeerId, bool>,
    streams: BTreeMap<u64, bool>,
    seen_streams: BTreeMap<StreamId, bool>,
    closed: BTreeSet<StreamId>,
    next_stream: u64,
    slow: [u64; 2],
    rates: BTreeMap<StreamId, u64>,
    seen_rates: BTreeMap<StreamId, u64>,
}

impl Default for Reader {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            mailbox: Mailbox::new(&limits),
            limits,
            messages: Vec::new(),
            audio: Vec::new(),
            given: Lag::default(),
            accounted: Lag::default(),
            reported: Lag::default(),
            connected: BTreeMap::new(),
            seen_connected: BTreeMap::new(),
            streams: BTreeMap::new(),
            seen_streams: BTreeMap::new(),
            closed: BTreeSet::new(),
            next_stream: 0,
            slow: [0; 2],
            rates: BTreeMap::new(),
            seen_rates: BTreeMap::new(),
        }
    }
}

fn peer(n: u8) -> PeerId {
    PeerId::new(&format!("peer-{n}"))
}

impl Reader {
    fn push(&mut self, script: &mut Script) {
        let (kind, n) = (script.below(12), script.byte() % 4);
        let (peer_id, topic) = (peer(n), "t".to_owned());
        let event = match kind {
            0 | 1 => {
                let data = self.message(script);
                AviEvent::Message { from: peer_id, topic, data }
            }
            2 => AviEvent::PublishExpired { topic, data: self.message(script) },
            3 | 4 => {
                let data = numbered(self.given.audio_frames, script);
                self.given.audio_frames += 1;
                self.audio.push((1, data.len()));
                AviEvent::AudioData { from: peer_id, stream_id: StreamId(n.into()), data }
            }
            5 => {
                let missing = 1 + script.number() % 1000;
                self.given.audio_frames += missing;
                self.audio.push((missing, 0));
                AviEvent::AudioGap { from: peer_id, stream_id: StreamId(n.into()), missing }
            }
            6 | 7 => {
                let is_connected = self.connected.entry(n).or_default();
                *is_connected = !*is_connected;
                match is_connected {
                    true => AviEvent::PeerConnected { peer_id, address: String::new() },
                    false => AviEvent::PeerDisconnected { peer_id },
                }
            }
            8 => {
                let dropped = script.number() % 1000;
                self.slow[0] += dropped;
                AviEvent::PeerSlow { peer_id, dropped }
            }
            9 => match script.below(6) {
                0 => AviEvent::PeerDiscovered { peer_id },
                1 => AviEvent::ListenAddressesChanged { listen_addresses: vec![n.to_string()] },
                2 => {
                    let (stream_id, rate) = (StreamId(n.into()), self.given.messages);
                    self.rates.insert(stream_id, rate);
                    AviEvent::AudioRate { peer_id, stream_id, bits_per_second: Some(rate) }
                }
                3 => AviEvent::DiscoveryUnavailable { source: DiscoverySource::Mdns, reason: n.to_string() },
                4 => AviEvent::PeerIdentified { peer_id, name: script.byte().to_string() },
                _ => AviEvent::Lagged { messages: 7, audio_frames: 7, lifecycle: 7 },
            },
            10 => {
                self.next_stream += 1;
                let (stream_id, is_request) = (StreamId(self.next_stream), script.flag());
                self.streams.insert(stream_id.0, is_request);
                match is_request {
                    true => AviEvent::AudioStreamRequested { from: peer_id, stream_id },
                    false => AviEvent::AudioStreamAccepted { peer_id, stream_id },
                }
            }
            _ => {
                let Some((stream, _)) = self.streams.pop_first() else { return };
                let reason = StreamCloseReason::RemoteClose;
                AviEvent::AudioStreamClosed { peer_id, stream_id: StreamId(stream), reason }
            }
        };
        self.mailbox.push(event);
    }

    fn message(&mut self, script: &mut Script) -> Vec<u8> {
        let data = numbered(self.given.messages, script);
        self.given.messages += 1;
        self.messages.push(data.len());
        data
    }

    /// Reads one event, if there is one.
    fn read(&mut self) -> bool {
        let waiting = self.mailbox.len();
        assert_eq!(self.mailbox.is_empty(), waiting == 0 && self.reported == self.mailbox.dropped());
        let was_empty = self.mailbox.is_empty();
        let event = self.mailbox.pop();
        assert_eq!(event.is_none(), was_empty, "{event:?}");
        let Some(event) = event else { return false };
        match event {
            AviEvent::Message { data, .. } | AviEvent::PublishExpired { data, .. } => {
                assert_eq!(number(&data), self.accounted.messages, "what is missing before a message was reported");
                self.accounted.messages += 1;
            }
            AviEvent::AudioData { data, .. } => {
                assert_eq!(number(&data), self.accounted.audio_frames, "what is missing before audio was reported");
                self.accounted.audio_frames += 1;
            }
            AviEvent::AudioGap { missing, .. } => self.accounted.audio_frames += missing,
            AviEvent::Lagged { messages, audio_frames, lifecycle } => {
                let lag = Lag { messages, audio_frames, lifecycle };
                assert_ne!(lag, Lag::default(), "nothing is reported");
                self.accounted = sum(self.accounted, lag);
                self.reported = sum(self.reported, lag);
            }
            event => self.on_lifecycle(&event),
        }
        true
    }

    /// Checks only while nothing was dropped: after `Lagged` the application may have missed events.
    fn on_lifecycle(&mut self, event: &AviEvent) {
        if let AviEvent::PeerSlow { dropped, .. } = event {
            self.slow[1] += dropped;
        }
        if self.mailbox.dropped().lifecycle > 0 {
            return;
        }
        match event {
            AviEvent::PeerConnected { peer_id, .. } => {
                assert_ne!(self.seen_connected.insert(peer_id.clone(), true), Some(true), "connected twice");
            }
            AviEvent::PeerDisconnected { peer_id } => {
                assert_eq!(self.seen_connected.insert(peer_id.clone(), false), Some(true), "was not connected");
            }
            AviEvent::AudioStreamRequested { stream_id, .. } | AviEvent::AudioStreamAccepted { stream_id, .. } => {
                assert_eq!(self.seen_streams.insert(*stream_id, true), None, "told twice");
            }
            AviEvent::AudioRate { stream_id, bits_per_second, .. } => {
                self.seen_rates.insert(*stream_id, bits_per_second.unwrap_or_default());
            }
            AviEvent::AudioStreamClosed { stream_id, .. } => {
                assert!(self.seen_streams.contains_key(stream_id), "the application never heard of it");
                assert!(self.closed.insert(*stream_id), "closed twice");
            }
            _ => {}
        }
    }

    fn check_bounds(&mut self) {
        let Limits { event_messages, event_message_bytes, event_audio_frames, event_audio_bytes, .. } = self.limits;
        // Events that were read or dropped are no longer queued. The oldest were dropped first.
        let dropped = self.mailbox.dropped();
        let gone = self.accounted.messages - self.reported.messages + dropped.messages;
        let waiting = &self.messages[gone as usize..];
        let bytes: usize = waiting.iter().sum();
        assert!(waiting.len() <= event_messages, "{} messages wait", waiting.len());
        assert!(waiting.len() <= 1 || bytes <= event_message_bytes, "{bytes} bytes of messages wait");
        let mut gone = self.accounted.audio_frames - self.reported.audio_frames + dropped.audio_frames;
        let gone_events = self.audio.iter().take_while(|(frames, _)| {
            let is_gone = gone >= *frames;
            gone = gone.saturating_sub(*frames);
            is_gone
        });
        let audio = &self.audio[gone_events.count()..];
        let audio_bytes: usize = audio.iter().map(|(_, bytes)| bytes).sum();
        assert!(audio.len() <= event_audio_frames, "{} events of audio wait", audio.len());
        assert!(audio.len() <= 1 || audio_bytes <= event_audio_bytes, "{audio_bytes} bytes of audio wait");
        let lifecycle = self.mailbox.len() - waiting.len() - audio.len();
        assert!(lifecycle <= self.limits.event_lifecycle, "{lifecycle} lifecycle events wait");
    }

    fn check_accounts(&self) {
        let dropped = self.mailbox.dropped();
        assert_eq!(self.reported, dropped, "all that was dropped was reported");
        assert_eq!(self.accounted.messages, self.given.messages, "messages were read or reported");
        assert_eq!(self.accounted.audio_frames, self.given.audio_frames, "audio frames were read or reported");
        assert_eq!(self.mailbox.len(), 0);
        if dropped.lifecycle > 0 {
            return;
        }
        assert_eq!(self.slow[0], self.slow[1], "what slow peers cost adds up");
        assert_eq!(self.seen_rates, self.rates, "the application knows each last rate");
        for (n, is_connected) in &self.connected {
            let seen = self.seen_connected.get(&peer(*n)).copied().unwrap_or_default();
            assert_eq!(seen, *is_connected, "the application knows who is connected");
        }
        for stream in self.seen_streams.keys() {
            let is_open = self.streams.contains_key(&stream.0);
            assert_ne!(is_open, self.closed.contains(stream), "the application knows which streams are over");
        }
    }
}

fn sum(one: Lag, other: Lag) -> Lag {
    Lag {
        messages: one.messages + other.messages,
        audio_frames: one.audio_frames + other.audio_frames,
        lifecycle: one.lifecycle + other.lifecycle,
    }
}

/// A payload that contains its number.
fn numbered(number: u64, script: &mut Script) -> Vec<u8> {
    let mut data = number.to_be_bytes().to_vec();
    data.resize(8 + script.below(256), 0);
    data
}

fn number(data: &[u8]) -> u64 {
    u64::from_be_bytes(data[..8].try_into().expect("eight bytes"))
}
