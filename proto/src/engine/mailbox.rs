//! The bounded queue of events between the node and an application that may read slowly, or never.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::config::Limits;
use crate::event::{AviEvent, DiscoverySource};
use crate::id::{PeerId, StreamId};
use crate::situation::{Situation, reached};

/// Events in order, within the bounds of [`Limits`].
///
/// A data event (`Message` and `PublishExpired`; `AudioData` and `AudioGap`) beyond a bound evicts the oldest events of
/// its class. They are counted, and reported by `Lagged` before the next data event. Lifecycle events are coalesced: an
/// unread event that no longer holds is removed.
#[derive(Debug)]
pub struct Mailbox {
    events: BTreeMap<u64, AviEvent>,
    next: u64,
    messages: DataClass,
    audio: DataClass,
    #[cfg(feature = "context")]
    context: DataClass,
    /// The queued change of each path of the context.
    #[cfg(feature = "context")]
    changes: BTreeMap<String, u64>,
    /// The dropped changes that were not told.
    #[cfg(feature = "context")]
    lost_changes: u64,
    /// The queued lifecycle events, by their subject.
    subjects: BTreeMap<Subject, VecDeque<u64>>,
    lifecycle: BTreeSet<u64>,
    max_lifecycle: usize,
    lagged: Lag,
    dropped: Lag,
}

/// The number of dropped events, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// `Message` and `PublishExpired` events.
    pub messages: u64,
    /// Audio frames.
    pub audio_frames: u64,
    /// Lifecycle events.
    pub lifecycle: u64,
}

#[derive(Debug)]
struct DataClass {
    waiting: VecDeque<u64>,
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Node,
    ListenAddresses,
    Discovered(PeerId),
    Connection(PeerId),
    Name(PeerId),
    Slow(PeerId),
    Bootstrap(String),
    Duplicate(String),
    DuplicatePeer(PeerId),
    Accepts,
    Discovery(DiscoverySource),
    Stream(StreamId),
    Rate(StreamId),
    #[cfg(feature = "context")]
    ContextFile,
}

enum Class {
    Message(usize),
    Audio(usize),
    #[cfg(feature = "context")]
    Context(String, usize),
    Lifecycle(Subject),
    Lagged,
}

fn class(event: &AviEvent) -> Class {
    match event {
        AviEvent::Message { data, .. } | AviEvent::PublishExpired { data, .. } => Class::Message(data.len()),
        AviEvent::AudioData { data, .. } => Class::Audio(data.len()),
        AviEvent::AudioGap { .. } => Class::Audio(0),
        AviEvent::Started { .. } | AviEvent::NodeFailed { .. } => Class::Lifecycle(Subject::Node),
        AviEvent::ListenAddressesChanged { .. } => Class::Lifecycle(Subject::ListenAddresses),
        AviEvent::PeerDiscovered { peer_id } => Class::Lifecycle(Subject::Discovered(peer_id.clone())),
        AviEvent::PeerConnected { peer_id, .. } | AviEvent::PeerDisconnected { peer_id } => {
            Class::Lifecycle(Subject::Connection(peer_id.clone()))
        }
        AviEvent::PeerIdentified { peer_id, .. } => Class::Lifecycle(Subject::Name(peer_id.clone())),
        AviEvent::PeerSlow { peer_id, .. } => Class::Lifecycle(Subject::Slow(peer_id.clone())),
        AviEvent::BootstrapFailed { address, .. } => Class::Lifecycle(Subject::Bootstrap(address.clone())),
        AviEvent::AcceptFailed { .. } => Class::Lifecycle(Subject::Accepts),
        AviEvent::DuplicateIdentity { address } => Class::Lifecycle(Subject::Duplicate(address.clone())),
        AviEvent::PeerDuplicated { peer_id, .. } => Class::Lifecycle(Subject::DuplicatePeer(peer_id.clone())),
        AviEvent::DiscoveryUnavailable { source, .. } => Class::Lifecycle(Subject::Discovery(*source)),
        AviEvent::AudioStreamRequested { stream_id, .. }
        | AviEvent::AudioStreamAccepted { stream_id, .. }
        | AviEvent::AudioStreamClosed { stream_id, .. } => Class::Lifecycle(Subject::Stream(*stream_id)),
        AviEvent::AudioRate { stream_id, .. } => Class::Lifecycle(Subject::Rate(*stream_id)),
        #[cfg(feature = "context")]
        AviEvent::ContextChanged { path, value, .. } => Class::Context(path.clone(), path.len() + size(value.as_ref())),
        #[cfg(feature = "context")]
        AviEvent::ContextNotSaved { .. } => Class::Lifecycle(Subject::ContextFile),
        #[cfg(feature = "context")]
        AviEvent::ContextLagged { .. } => Class::Lagged,
        AviEvent::Lagged { .. } => Class::Lagged,
    }
}

/// About how many bytes a value takes.
#[cfg(feature = "context")]
fn size(value: Option<&serde_json::Value>) -> usize {
    use serde_json::Value;
    const OF_ANY: usize = size_of::<Value>();
    OF_ANY
        + match value {
            Some(Value::String(text)) => text.len(),
            Some(Value::Array(values)) => values.iter().map(|value| size(Some(value))).sum(),
            Some(Value::Object(map)) => map.iter().map(|(key, value)| OF_ANY + key.len() + size(Some(value))).sum(),
            _ => 0,
        }
}

impl DataClass {
    fn new(max_events: usize, max_bytes: usize) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, max_events, max_bytes }
    }

    fn is_over(&self) -> bool {
        // One event is always kept, so that an event larger than the bound still reaches the application.
        self.waiting.len() > 1 && (self.waiting.len() > self.max_events || self.bytes > self.max_bytes)
    }
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new(limits: &Limits) -> Self {
        Self {
            events: BTreeMap::new(),
            next: 0,
            messages: DataClass::new(limits.event_messages, limits.event_message_bytes),
            audio: DataClass::new(limits.event_audio_frames, limits.event_audio_bytes),
            #[cfg(feature = "context")]
            context: DataClass::new(limits.event_messages, limits.event_message_bytes),
            #[cfg(feature = "context")]
            changes: BTreeMap::new(),
            #[cfg(feature = "context")]
            lost_changes: 0,
            subjects: BTreeMap::new(),
            lifecycle: BTreeSet::new(),
            max_lifecycle: limits.event_lifecycle,
            lagged: Lag::default(),
            dropped: Lag::default(),
        }
    }

    /// Adds an event, and evicts older ones if there is no room.
    pub fn push(&mut self, event: AviEvent) {
        match class(&event) {
            Class::Message(bytes) => {
                let at = self.insert(event);
                self.messages.waiting.push_back(at);
                self.messages.bytes += bytes;
                while self.messages.is_over() {
                    self.drop_message();
                }
            }
            Class::Audio(bytes) => {
                let at = self.insert(event);
                self.audio.waiting.push_back(at);
                self.audio.bytes += bytes;
                while self.audio.is_over() {
                    self.drop_audio();
                }
            }
            #[cfg(feature = "context")]
            Class::Context(path, bytes) => self.push_change(path, bytes, event),
            Class::Lifecycle(subject) => self.push_lifecycle(subject, event),
            Class::Lagged => {}
        }
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<AviEvent> {
        let next_is_data = match self.events.first_key_value() {
            Some((at, _)) => !self.lifecycle.contains(at),
            None => true,
        };
        if self.lagged != Lag::default() && (next_is_data || self.lagged.lifecycle > 0) {
            let Lag { messages, audio_frames, lifecycle } = std::mem::take(&mut self.lagged);
            return Some(AviEvent::Lagged { messages, audio_frames, lifecycle });
        }
        #[cfg(feature = "context")]
        if self.lost_changes > 0
            && matches!(self.events.first_key_value(), None | Some((_, AviEvent::ContextChanged { .. })))
        {
            return Some(AviEvent::ContextLagged { changes: std::mem::take(&mut self.lost_changes) });
        }
        let (at, event) = self.events.pop_first()?;
        match class(&event) {
            Class::Message(bytes) => {
                self.messages.waiting.pop_front();
                self.messages.bytes -= bytes;
            }
            Class::Audio(bytes) => {
                self.audio.waiting.pop_front();
                self.audio.bytes -= bytes;
            }
            #[cfg(feature = "context")]
            Class::Context(path, bytes) => {
                self.changes.remove(&path);
                self.context.waiting.pop_front();
                self.context.bytes -= bytes;
            }
            Class::Lifecycle(subject) => self.forget(&subject, at),
            Class::Lagged => {}
        }
        Some(event)
    }

    /// The number of events dropped since the start.
    pub fn dropped(&self) -> Lag {
        self.dropped
    }

    /// The number of queued events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether the mailbox is empty.
    pub fn is_empty(&self) -> bool {
        #[cfg(feature = "context")]
        if self.lost_changes > 0 {
            return false;
        }
        self.events.is_empty() && self.lagged == Lag::default()
    }

    fn insert(&mut self, event: AviEvent) -> u64 {
        let at = self.next;
        self.next += 1;
        self.events.insert(at, event);
        at
    }

    /// Adds a change of the context, in place of an unread one of the same path.
    #[cfg(feature = "context")]
    fn push_change(&mut self, path: String, bytes: usize, event: AviEvent) {
        if let Some(before) = self.changes.get(&path).copied() {
            self.context.waiting.retain(|at| *at != before);
            self.take_change(before);
        }
        let at = self.insert(event);
        self.changes.insert(path, at);
        self.context.waiting.push_back(at);
        self.context.bytes += bytes;
        while self.context.is_over() {
            if let Some(oldest) = self.context.waiting.pop_front() {
                self.take_change(oldest);
                self.lost_changes += 1;
            }
        }
    }

    #[cfg(feature = "context")]
    fn take_change(&mut self, at: u64) {
        if let Some(Class::Context(path, bytes)) = self.events.remove(&at).as_ref().map(class) {
            self.changes.remove(&path);
            self.context.bytes -= bytes;
        }
    }

    fn push_lifecycle(&mut self, subject: Subject, mut event: AviEvent) {
        let last = self.subjects.get(&subject).and_then(|waiting| waiting.back()).copied();
        #[cfg(feature = "context")]
        if let (Subject::ContextFile, Some(at)) = (&subject, last) {
            self.take_back(&subject, at);
        }
        let last_event = last.and_then(|at| self.events.get(&at));
        if let (Some(at), Some(last_event)) = (last, last_event) {
            use AviEvent::*;
            match (last_event, &mut event) {
                (PeerSlow { dropped: before, .. }, PeerSlow { dropped, .. }) => {
                    *dropped = dropped.saturating_add(*before);
                    self.take_back(&subject, at);
                }
                // The application has not read of the connection, and need not.
                (PeerConnected { .. }, PeerDisconnected { peer_id }) => {
                    let name = Subject::Name(peer_id.clone());
                    self.take_back(&subject, at);
                    let unread = self.subjects.get(&name).and_then(|waiting| waiting.back()).copied();
                    return unread.into_iter().for_each(|at| self.take_back(&name, at));
                }
                (AudioStreamRequested { .. }, AudioStreamClosed { .. }) => return self.take_back(&subject, at),
                (PeerDiscovered { .. }, PeerDiscovered { .. }) => return,
                (
                    BootstrapFailed { .. }
                    | ListenAddressesChanged { .. }
                    | DiscoveryUnavailable { .. }
                    | AudioRate { .. }
                    | AcceptFailed { .. }
                    | PeerIdentified { .. },
                    _,
                ) => self.take_back(&subject, at),
                _ => {}
            }
        }
        let at = self.insert(event);
        self.subjects.entry(subject).or_default().push_back(at);
        self.lifecycle.insert(at);
        if self.lifecycle.len() > self.max_lifecycle {
            self.drop_lifecycle();
        }
    }

    fn take_back(&mut self, subject: &Subject, at: u64) {
        self.events.remove(&at);
        self.forget(subject, at);
    }

    fn forget(&mut self, subject: &Subject, at: u64) {
        self.lifecycle.remove(&at);
        if let Some(waiting) = self.subjects.get_mut(subject) {
            waiting.retain(|other| *other != at);
            if waiting.is_empty() {
                self.subjects.remove(subject);
            }
        }
    }

    fn drop_message(&mut self) {
        let Some(at) = self.messages.waiting.pop_front() else { return };
        if let Some(Class::Message(bytes)) = self.events.remove(&at).as_ref().map(class) {
            self.messages.bytes -= bytes;
        }
        reached(Situation::ReaderLaggedMessages);
        self.lagged.messages += 1;
        self.dropped.messages += 1;
    }

    fn drop_audio(&mut self) {
        let Some(at) = self.audio.waiting.pop_front() else { return };
        let frames = match self.events.remove(&at) {
            Some(AviEvent::AudioData { data, .. }) => {
                self.audio.bytes -= data.len();
                1
            }
            Some(AviEvent::AudioGap { missing, .. }) => missing,
            _ => 0,
        };
        reached(Situation::ReaderLaggedAudio);
        self.lagged.audio_frames = self.lagged.audio_frames.saturating_add(frames);
        self.dropped.audio_frames = self.dropped.audio_frames.saturating_add(frames);
    }

    fn drop_lifecycle(&mut self) {
        let Some(at) = self.lifecycle.first().copied() else { return };
        if let Some(Class::Lifecycle(subject)) = self.events.get(&at).map(class) {
            self.take_back(&subject, at);
        }
        self.lagged.lifecycle += 1;
        self.dropped.lifecycle += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StreamCloseReason;

    fn mailbox() -> Mailbox {
        let limits = Limits {
            event_messages: 3,
            event_message_bytes: 1024,
            event_audio_frames: 2,
            event_lifecycle: 16,
            ..Limits::default()
        };
        Mailbox::new(&limits)
    }

    fn peer(n: u64) -> PeerId {
        PeerId::new(&format!("peer-{n}"))
    }

    fn message(n: u8) -> AviEvent {
        AviEvent::Message { from: peer(0), topic: "t".into(), data: vec![n] }
    }

    fn connected(n: u64) -> AviEvent {
        AviEvent::PeerConnected { peer_id: peer(n), address: String::new() }
    }

    fn disconnected(n: u64) -> AviEvent {
        AviEvent::PeerDisconnected { peer_id: peer(n) }
    }

    fn drain(mailbox: &mut Mailbox) -> Vec<AviEvent> {
        std::iter::from_fn(|| mailbox.pop()).collect()
    }

    #[test]
    fn data_beyond_the_bound_pushes_out_the_oldest_and_is_reported_before_the_next() {
        let mut mailbox = mailbox();
        mailbox.push(connected(1));
        (0..5).for_each(|n| mailbox.push(message(n)));
        let lagged = AviEvent::Lagged { messages: 2, audio_frames: 0, lifecycle: 0 };
        assert_eq!(drain(&mut mailbox), [connected(1), lagged, message(2), message(3), message(4)]);
        assert_eq!(mailbox.dropped(), Lag { messages: 2, ..Lag::default() });
        assert!(mailbox.is_empty());
    }

    #[test]
    fn bytes_are_bounded_too_but_one_event_is_always_kept() {
        let mut mailbox = mailbox();
        let large = AviEvent::Message { from: peer(0), topic: "t".into(), data: vec![0; 2000] };
        mailbox.push(message(0));
        mailbox.push(large.clone());
        assert_eq!(mailbox.len(), 1);
        mailbox.pop();
        assert_eq!(mailbox.pop(), Some(large));
    }

    #[test]
    fn dropped_gaps_count_as_the_frames_they_stood_for() {
        let mut mailbox = mailbox();
        let gap = AviEvent::AudioGap { from: peer(0), stream_id: StreamId(1), missing: 10 };
        let audio = AviEvent::AudioData { from: peer(0), stream_id: StreamId(1), data: vec![1] };
        mailbox.push(gap);
        (0..3).for_each(|_| mailbox.push(audio.clone()));
        assert_eq!(mailbox.pop(), Some(AviEvent::Lagged { messages: 0, audio_frames: 11, lifecycle: 0 }));
        assert_eq!(drain(&mut mailbox), [audio.clone(), audio]);
    }

    #[test]
    fn a_peer_that_flaps_costs_at_most_two_events() {
        let mut mailbox = mailbox();
        mailbox.push(disconnected(1));
        for _ in 0..1000 {
            mailbox.push(connected(1));
            mailbox.push(disconnected(1));
        }
        mailbox.push(connected(1));
        assert_eq!(drain(&mut mailbox), [disconnected(1), connected(1)]);
        for _ in 0..1000 {
            mailbox.push(connected(2));
            mailbox.push(disconnected(2));
        }
        assert!(mailbox.is_empty());
    }

    #[test]
    fn of_the_names_of_a_peer_the_last_is_read_unless_its_connection_was_never_told() {
        let mut mailbox = mailbox();
        let named = |n: u64, name: &str| AviEvent::PeerIdentified { peer_id: peer(n), name: name.to_owned() };
        mailbox.push(connected(1));
        (0..1000).for_each(|n| mailbox.push(named(1, &n.to_string())));
        mailbox.push(named(2, "other"));
        assert_eq!(drain(&mut mailbox), [connected(1), named(1, "999"), named(2, "other")]);
        for _ in 0..1000 {
            mailbox.push(disconnected(1));
            mailbox.push(connected(1));
            mailbox.push(named(1, "kitchen"));
        }
        assert_eq!(drain(&mut mailbox), [disconnected(1), connected(1), named(1, "kitchen")]);
        mailbox.push(connected(2));
        mailbox.push(named(2, "gone"));
        mailbox.push(disconnected(2));
        assert!(mailbox.is_empty());
    }

    #[test]
    fn a_request_that_ended_unread_is_taken_back() {
        let mut mailbox = mailbox();
        let reason = StreamCloseReason::Timeout;
        mailbox.push(AviEvent::AudioStreamRequested { from: peer(1), stream_id: StreamId(1) });
        mailbox.push(AviEvent::AudioStreamClosed { peer_id: peer(1), stream_id: StreamId(1), reason: reason.clone() });
        assert!(mailbox.is_empty());
        let closed = AviEvent::AudioStreamClosed { peer_id: peer(1), stream_id: StreamId(2), reason };
        mailbox.push(closed.clone());
        assert_eq!(drain(&mut mailbox), [closed]);
    }

    #[test]
    fn of_the_rates_of_a_stream_the_last_is_read() {
        let mut mailbox = mailbox();
        let rate = |stream: u64, bits: u64| AviEvent::AudioRate {
            peer_id: peer(1),
            stream_id: StreamId(stream),
            bits_per_second: Some(bits),
        };
        (0..1000).for_each(|n| mailbox.push(rate(n % 2, n)));
        assert_eq!(drain(&mut mailbox), [rate(0, 998), rate(1, 999)]);
    }

    #[cfg(feature = "context")]
    #[test]
    fn of_the_changes_of_a_path_the_last_is_read_and_what_is_dropped_is_told() {
        let mut mailbox = mailbox();
        let changed = |path: u64, value: &str| AviEvent::ContextChanged {
            author: peer(1),
            path: path.to_string(),
            value: Some(value.into()),
        };
        (0..1000).for_each(|n| mailbox.push(changed(n % 2, &n.to_string())));
        assert_eq!(drain(&mut mailbox), [changed(0, "998"), changed(1, "999")]);
        (0..5).for_each(|n| mailbox.push(changed(n, "x")));
        mailbox.push(connected(1));
        let lagged = AviEvent::ContextLagged { changes: 2 };
        assert_eq!(
            drain(&mut mailbox),
            [lagged.clone(), changed(2, "x"), changed(3, "x"), changed(4, "x"), connected(1)]
        );
        // Their bytes are bounded too: what is larger by itself is kept alone.
        mailbox.push(changed(0, "x"));
        mailbox.push(changed(1, &"x".repeat(2000)));
        assert_eq!(drain(&mut mailbox), [AviEvent::ContextLagged { changes: 1 }, changed(1, &"x".repeat(2000))]);
        assert!(mailbox.is_empty());
    }

    #[test]
    fn lifecycle_events_have_a_last_bound_that_is_counted() {
        let mut mailbox = mailbox();
        (0..20).for_each(|n| mailbox.push(connected(n)));
        assert_eq!(mailbox.len(), 16);
        assert_eq!(mailbox.pop(), Some(AviEvent::Lagged { messages: 0, audio_frames: 0, lifecycle: 4 }));
        assert_eq!(mailbox.pop(), Some(connected(4)));
    }
}
