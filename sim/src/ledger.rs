//! The events of a run, and the invariants of single events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use avi_p2p::{AviEvent, AviP2pError, PeerId, Stats, StreamCloseReason, StreamId};
use sha2::{Digest, Sha256};

use crate::context::ContextRecord;
use crate::interpose;
use crate::mesh::Mesh;
use crate::network::Host;
use crate::report::Violation;

/// The number of a node's events that a violation shows.
const TAIL: usize = 24;
/// The first number in the data of hostile members.
const NOISE: u64 = u64::MAX;

/// The ledger, shared by all parts of a simulation.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    /// An empty ledger.
    pub fn new(rules: Rules) -> Self {
        let ledger = Ledger {
            rules,
            joins: BTreeMap::new(),
            noticed_ms: Vec::new(),
            digest: Sha256::new(),
            hosts: BTreeMap::new(),
            old: BTreeMap::new(),
            tails: BTreeMap::new(),
            ids: BTreeMap::new(),
            messages: BTreeMap::new(),
            streams: BTreeMap::new(),
            audio: AudioTally::default(),
            context: ContextRecord::default(),
            delivered: 0,
            out_of_order: 0,
            published: 0,
            expired: 0,
            latencies_ms: Vec::new(),
            violation: None,
            mesh: Mesh::default(),
        };
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Lock only for a moment, never across an await.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rules that a run must keep.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Nodes from this one on break the rules.
    pub honest: usize,
    /// Whether the network has no faults during the whole run.
    pub is_calm: bool,
    /// Nodes of another make.
    pub foreign: BTreeSet<Host>,
    /// Whether nobody has a reason to disconnect from a node of another make.
    pub keeps_foreign: bool,
    /// Whether no node gives a reason for a ban.
    pub bans_nobody: bool,
    /// As in the nodes' configuration.
    pub max_peers: usize,
    /// As in the nodes' configuration.
    pub max_audio_streams: usize,
    /// The number of peers that a node searches for by itself: half of `max_peers`, if there are that many.
    pub enough_peers: usize,
    /// The most time that a frame may take, if there is a bound.
    pub frame_within: Option<Duration>,
    /// How much older frames may become during a call, if there is a bound.
    pub frame_growth: Option<Duration>,
    /// Whether no node may be given up as silent.
    pub loses_nobody: bool,
    /// Whether every call must end with a goodbye.
    pub calls_survive: bool,
}

impl Rules {
    /// The most connections that a node may have beyond one a peer. Which of two crossing dials wins is a rule of AVI's:
    /// if the end that decides is a node of another make, both stay.
    pub(crate) fn doubles(&self) -> u64 {
        self.foreign.len() as u64
    }
}

/// An audio stream at one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamKey {
    /// The host of this end.
    pub host: Host,
    /// How often the host had started.
    pub generation: u32,
    /// The stream's id at this end.
    pub stream: StreamId,
}

/// The events of a run so far.
pub struct Ledger {
    pub(crate) rules: Rules,
    digest: Sha256,
    /// The nodes, each in the state of its newest process.
    pub(crate) hosts: BTreeMap<Host, HostRecord>,
    /// Older processes that still run, by how often their host had started.
    old: BTreeMap<(Host, u32), HostRecord>,
    /// The last events of each node.
    tails: BTreeMap<Host, VecDeque<(Duration, AviEvent)>>,
    ids: BTreeMap<PeerId, Host>,
    pub(crate) messages: BTreeMap<u64, Message>,
    pub(crate) streams: BTreeMap<StreamKey, Stream>,
    pub(crate) audio: AudioTally,
    pub(crate) context: ContextRecord,
    pub(crate) delivered: u64,
    pub(crate) out_of_order: u64,
    pub(crate) published: u64,
    pub(crate) expired: u64,
    pub(crate) latencies_ms: Vec<f64>,
    /// The late nodes.
    pub(crate) joins: BTreeMap<Host, Join>,
    /// The time from a crash until it was reported, at each connected peer.
    pub(crate) noticed_ms: Vec<f64>,
    pub(crate) violation: Option<Violation>,
    pub(crate) mesh: Mesh,
}

#[derive(Default)]
pub(crate) struct HostRecord {
    /// The time since which it is up, if it is up.
    pub(crate) up_since: Option<Duration>,
    pub(crate) has_lagged: bool,
    pub(crate) stats: Stats,
    pub(crate) peers: Vec<PeerId>,
    /// Its peers, and the time since which each is connected.
    pub(crate) connected: BTreeMap<PeerId, Duration>,
    /// When its host lost power, if it has.
    crashed_at: Option<Duration>,
    /// The time since which it has had at least one peer, if it has.
    pub(crate) connected_since: Option<Duration>,
    /// The time since which it is subscribed to all topics, if it is.
    pub(crate) subscribed_since: Option<Duration>,
    /// The time since which it has had more connections than peers at every sample, if it has.
    pub(crate) doubled_since: Option<Duration>,
    /// The newest message received of each author.
    newest: BTreeMap<Host, u64>,
    /// How often its host had started.
    generation: u32,
}

/// The progress of a late node.
#[derive(Default)]
pub(crate) struct Join {
    at: Duration,
    /// How long it took to have enough peers.
    pub(crate) peered_after: Option<Duration>,
    /// All peers that it has discovered or connected to.
    pub(crate) heard: BTreeSet<PeerId>,
    /// The number of peers that each search has found.
    pub(crate) found: Vec<f64>,
}

pub(crate) struct Message {
    pub(crate) author: Host,
    pub(crate) at: Duration,
    pub(crate) was_refused: bool,
    bytes: usize,
    /// The receivers, and how often each receiver's host had started.
    delivered: BTreeSet<(Host, u32)>,
}

impl Message {
    /// Whether any process of a node has received it.
    pub(crate) fn has_reached(&self, host: Host) -> bool {
        self.delivered.range((host, 0)..=(host, u32::MAX)).next().is_some()
    }
}

#[derive(Default)]
pub(crate) struct Stream {
    /// The number of the call, at the calling end.
    pub(crate) call: Option<u64>,
    next_frame: u64,
    pub(crate) is_closed: bool,
    /// How old each frame was that arrived.
    ages: Vec<Duration>,
}

#[derive(Default)]
pub(crate) struct AudioTally {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) missing: u64,
    pub(crate) latencies_ms: Vec<f64>,
}

impl Ledger {
    /// Records a broken promise. Only the first one counts.
    pub fn violate(&mut self, invariant: &str, host: Host, detail: String) {
        if self.violation.is_some() {
            return;
        }
        let tail = self.tails.get(&host).into_iter().flatten();
        let tail = tail.map(|(at, event)| format!("{:>12.6} node {} {event:?}", at.as_secs_f64(), host.0));
        self.violation = Some(Violation {
            invariant: invariant.to_owned(),
            at: interpose::now().as_secs_f64(),
            detail: format!("node {}: {detail}", host.0),
            tail: tail.collect(),
        });
    }

    fn expect(&mut self, is_so: bool, invariant: &str, host: Host, about: &impl std::fmt::Display) {
        if !is_so {
            self.violate(invariant, host, about.to_string());
        }
    }

    /// Adds numbers to the trace.
    pub fn trace(&mut self, parts: &[u64]) {
        parts.iter().for_each(|part| self.digest.update(part.to_le_bytes()));
    }

    /// The digest of the trace.
    pub fn digest(&self) -> String {
        self.digest_with(&[])
    }

    /// The digest of the trace, with these numbers at its end.
    pub fn digest_with(&self, parts: &[u64]) -> String {
        let mut digest = self.digest.clone();
        parts.iter().for_each(|part| digest.update(part.to_le_bytes()));
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a peer keeps the rules.
    pub fn is_honest(&self, peer: &PeerId) -> bool {
        self.ids.get(peer).is_some_and(|host| (host.0 as usize) < self.rules.honest)
    }

    /// Whether a peer is a node of another make.
    pub fn is_foreign(&self, peer: &PeerId) -> bool {
        self.ids.get(peer).is_some_and(|host| self.rules.foreign.contains(host))
    }

    /// The host with this peer id.
    pub fn host_of(&self, peer: &PeerId) -> Option<Host> {
        self.ids.get(peer).copied()
    }

    /// Records that a node listens.
    pub fn on_start(&mut self, host: Host, generation: u32, peer: PeerId) {
        self.trace(&[1, nanos(), host.0.into(), generation.into()]);
        if self.ids.insert(peer, host).is_some_and(|other| other != host) {
            self.violate("a peer id belongs to one node", host, String::new());
        }
        let record = HostRecord { up_since: Some(interpose::now()), generation, ..HostRecord::default() };
        self.mesh.on_up(host);
        let before = self.hosts.insert(host, record).filter(|before| before.up_since.is_some());
        self.old.extend(before.map(|before| ((host, before.generation), before)));
    }

    /// The state of one process of a node.
    /// How often a node has started.
    pub fn generation(&self, host: Host) -> u32 {
        self.hosts.get(&host).map_or(0, |record| record.generation)
    }

    fn record(&mut self, host: Host, generation: u32) -> &mut HostRecord {
        match self.old.contains_key(&(host, generation)) {
            true => self.old.entry((host, generation)).or_default(),
            false => self.hosts.entry(host).or_default(),
        }
    }

    /// Records that a node's application has subscribed to all topics, or leaves them.
    pub fn on_subscribed(&mut self, host: Host, generation: u32, is_subscribed: bool) {
        self.record(host, generation).subscribed_since = is_subscribed.then(interpose::now);
    }

    /// Records that a late node is about to start.
    pub fn on_join(&mut self, host: Host) {
        self.joins.entry(host).or_insert_with(|| Join { at: interpose::now(), ..Join::default() });
    }

    /// Records that a host has lost power.
    pub fn on_crash(&mut self, host: Host, generation: u32) {
        self.on_down(host, generation, true);
        self.record(host, generation).crashed_at = Some(interpose::now());
    }

    /// Records that a node has shut down.
    pub fn on_leave(&mut self, host: Host, generation: u32) {
        self.on_down(host, generation, false);
    }

    fn on_down(&mut self, host: Host, generation: u32, has_crashed: bool) {
        self.trace(&[2, nanos(), host.0.into()]);
        if self.old.remove(&(host, generation)).is_some() {
            return;
        }
        let record = self.hosts.entry(host).or_default();
        record.up_since = None;
        record.peers.clear();
        self.mesh.on_down(host, has_crashed);
    }

    /// Makes the bytes of a message, which its readers check.
    pub fn compose(&mut self, author: Host, topic: usize, message: u64, bytes: usize) -> Vec<u8> {
        self.trace(&[3, nanos(), author.0.into(), topic as u64, message]);
        let at = interpose::now();
        self.published += 1;
        self.messages.insert(message, Message { author, at, was_refused: false, bytes, delivered: BTreeSet::new() });
        stamped(message, at, bytes)
    }

    /// Records that the library refused a message.
    pub fn on_refused(&mut self, message: u64, error: &dyn std::fmt::Display) {
        let text = error.to_string();
        self.digest.update(text.as_bytes());
        self.published -= 1;
        if let Some(message) = self.messages.get_mut(&message) {
            message.was_refused = true;
        }
    }

    /// Makes the bytes of an audio frame.
    pub fn compose_frame(&mut self, key: StreamKey, frame: u64, bytes: usize) -> Vec<u8> {
        self.trace(&[4, nanos(), key.host.0.into(), key.stream.0, frame]);
        stamped(frame, interpose::now(), bytes)
    }

    /// Records that the library took a frame.
    pub fn on_frame_sent(&mut self, _: StreamKey) {
        self.audio.sent += 1;
    }

    /// Records that a node requested a stream from another.
    pub fn on_call(&mut self, key: StreamKey, call: u64) {
        self.trace(&[5, nanos(), key.host.0.into(), key.stream.0, call]);
        self.streams.entry(key).or_default().call = Some(call);
    }

    /// Records that a call could not begin.
    pub fn on_call_failed(&mut self) {
        self.audio.failed += 1;
    }

    /// Records the state of a node.
    pub fn on_sample(&mut self, host: Host, generation: u32, stats: &Stats, peers: Vec<PeerId>) {
        self.trace(&[6, nanos(), host.0.into(), stats.connections_opened, stats.dials, peers.len() as u64]);
        if !self.rules.foreign.contains(&host) {
            self.check_stats(host, stats, &peers);
        }
        let doubles = self.rules.doubles();
        if self.is_newest(host, generation) {
            let peers = peers.iter().filter_map(|peer| self.host_of(peer)).map(|host| host.0).collect();
            self.mesh.set_peers(host, &peers);
        }
        let record = self.record(host, generation);
        if record.up_since.is_some() {
            (record.stats, record.peers) = (stats.clone(), peers);
        }
        let open = stats.connections_opened.saturating_sub(stats.connections_closed);
        let since = record.doubled_since.unwrap_or_else(interpose::now);
        let single = stats.peers_connected + stats.retired_connections;
        record.doubled_since = (open > single + doubles).then_some(since);
    }

    fn check_stats(&mut self, host: Host, stats: &Stats, peers: &[PeerId]) {
        let Rules { max_peers, max_audio_streams, bans_nobody, .. } = self.rules;
        if peers.len() > max_peers || stats.peers_connected > max_peers as u64 {
            let detail = format!("{} peers, max_peers = {max_peers}", peers.len());
            self.violate("max_peers holds", host, detail);
        }
        if stats.streams_now > max_audio_streams as u64 {
            let detail = format!("{} streams, max_audio_streams = {max_audio_streams}", stats.streams_now);
            self.violate("max_audio_streams holds", host, detail);
        }
        if self.rules.loses_nobody && bans_nobody && stats.ping_timeouts > 0 {
            let detail = format!("{} peers", stats.ping_timeouts);
            self.violate("who is there is not declared dead", host, detail);
        }
        if bans_nobody && stats.peers_banned > 0 {
            let detail = format!("{} bans", stats.peers_banned);
            self.violate("nobody who keeps the rules is banned", host, detail);
        }
    }

    /// Records an event that a node reported to its application.
    pub fn on_event(&mut self, host: Host, generation: u32, event: &AviEvent) {
        self.trace_event(host, event);
        let tail = self.tails.entry(host).or_default();
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back((interpose::now(), event.clone()));
        self.draw(host, generation, event);
        if host.0 as usize >= self.rules.honest {
            // Events of hostile members are not checked.
            return;
        }
        let key = |stream| StreamKey { host, generation, stream };
        let record = self.record(host, generation);
        match event {
            AviEvent::Message { from, data, .. } => self.on_message(host, generation, from, data),
            AviEvent::PublishExpired { .. } => self.expired += 1,
            AviEvent::PeerDiscovered { peer_id } => self.on_heard(host, peer_id),
            AviEvent::PeerConnected { peer_id, .. } => {
                let is_due = record.connected.insert(peer_id.clone(), interpose::now()).is_none() || record.has_lagged;
                record.connected_since.get_or_insert_with(interpose::now);
                self.on_heard(host, peer_id);
                self.expect(is_due, "PeerConnected comes once", host, peer_id);
            }
            AviEvent::PeerDisconnected { peer_id } => {
                let since = record.connected.remove(peer_id);
                let is_due = since.is_some() || record.has_lagged;
                if record.connected.is_empty() {
                    record.connected_since = None;
                }
                self.on_parted(peer_id, since);
                let is_kept =
                    self.rules.keeps_foreign && (self.rules.foreign.contains(&host) || self.is_foreign(peer_id));
                self.expect(!is_kept, "a node of another make stays connected", host, peer_id);
                self.expect(is_due, "PeerDisconnected follows PeerConnected", host, peer_id);
            }
            AviEvent::AudioStreamRequested { stream_id, .. } => {
                let is_new = self.streams.insert(key(*stream_id), Stream::default()).is_none();
                self.expect(is_new, "a stream's name is never used again", host, stream_id);
            }
            AviEvent::AudioStreamAccepted { stream_id, .. } => {
                self.audio.calls += 1;
                self.on_stream(key(*stream_id), event);
            }
            AviEvent::AudioData { stream_id, data, .. } => self.on_frame(key(*stream_id), data),
            AviEvent::AudioGap { stream_id, missing, .. } => {
                self.audio.missing += missing;
                if let Some(stream) = self.on_stream(key(*stream_id), event) {
                    stream.next_frame += missing;
                }
            }
            AviEvent::AudioStreamClosed { peer_id, stream_id, reason } => {
                self.on_close(host, peer_id, reason);
                if let Some(stream) = self.on_stream(key(*stream_id), event) {
                    stream.is_closed = true;
                    let ages = std::mem::take(&mut stream.ages);
                    self.check_growth(host, &ages);
                }
            }
            AviEvent::Lagged { audio_frames, .. } => {
                record.has_lagged = true;
                self.audio.missing += audio_frames;
            }
            _ => {}
        }
    }

    /// Whether this is the newest process of a node, and up.
    fn is_newest(&self, host: Host, generation: u32) -> bool {
        self.hosts.get(&host).is_some_and(|record| record.generation == generation && record.up_since.is_some())
    }

    /// Records what an event says about the mesh.
    fn draw(&mut self, host: Host, generation: u32, event: &AviEvent) {
        if !self.is_newest(host, generation) {
            return;
        }
        let key = |stream| StreamKey { host, generation, stream };
        match event {
            AviEvent::PeerConnected { peer_id, .. } | AviEvent::PeerDisconnected { peer_id } => {
                let is_up = matches!(event, AviEvent::PeerConnected { .. });
                self.host_of(peer_id).into_iter().for_each(|peer| self.mesh.on_peer(host, peer, is_up));
            }
            AviEvent::AudioStreamAccepted { stream_id, peer_id } => {
                self.host_of(peer_id).into_iter().for_each(|peer| self.mesh.on_call(key(*stream_id), peer));
            }
            AviEvent::AudioStreamClosed { stream_id, .. } => self.mesh.on_call_over(key(*stream_id)),
            _ => {}
        }
    }

    fn on_heard(&mut self, host: Host, peer: &PeerId) {
        let Some(join) = self.joins.get_mut(&host) else { return };
        join.heard.insert(peer.clone());
        let peers = self.hosts.get(&host).map_or(0, |record| record.connected.len());
        if peers >= self.rules.enough_peers {
            join.peered_after.get_or_insert(interpose::now().saturating_sub(join.at));
        }
    }

    /// Measures the time from a crash until a peer reports the disconnect.
    fn on_parted(&mut self, peer: &PeerId, since: Option<Duration>) {
        let record = self.ids.get(peer).and_then(|host| self.hosts.get(host));
        if let (Some(crashed_at), Some(since)) = (record.and_then(|record| record.crashed_at), since)
            && since <= crashed_at
        {
            self.noticed_ms.push(interpose::now().saturating_sub(crashed_at).as_secs_f64() * 1000.0);
        }
    }

    /// Records the end of a search for peers.
    pub fn on_discovery(&mut self, host: Host, found: &Result<Vec<PeerId>, AviP2pError>) {
        let count = found.as_ref().map_or(0, Vec::len);
        self.trace(&[8, nanos(), host.0.into(), count as u64]);
        match found {
            Ok(found) if !found.is_empty() => {
                let join = self.joins.entry(host).or_default();
                join.found.push(count as f64);
                join.heard.extend(found.iter().cloned());
            }
            Ok(_) => self.violate("who looks for peers finds some", host, "none".to_owned()),
            Err(error) => self.violate("who looks for peers finds some", host, error.to_string()),
        }
    }

    /// Checks the reason of a stream's end. Honest nodes always keep the protocol; in a calm network they also close
    /// streams.
    fn on_close(&mut self, host: Host, peer: &PeerId, reason: &StreamCloseReason) {
        let is_wrong = match reason {
            StreamCloseReason::Protocol(_) => true,
            StreamCloseReason::Error(_) | StreamCloseReason::Unreachable | StreamCloseReason::PeerDisconnected => {
                self.rules.is_calm || self.rules.calls_survive
            }
            _ => false,
        };
        if is_wrong && self.is_honest(peer) {
            self.violate("a call between honest nodes ends with a goodbye", host, format!("{reason:?}"));
        }
    }

    fn trace_event(&mut self, host: Host, event: &AviEvent) {
        self.trace(&[7, nanos(), host.0.into()]);
        match event {
            // `Debug` leaves payloads out.
            AviEvent::Message { data, .. }
            | AviEvent::AudioData { data, .. }
            | AviEvent::PublishExpired { data, .. } => self.digest.update(data),
            other => self.digest.update(format!("{other:?}").as_bytes()),
        }
    }

    fn on_message(&mut self, host: Host, generation: u32, from: &PeerId, data: &[u8]) {
        let Some((name, at)) = read_stamp(data) else {
            return self.violate("a message arrives as it was sent", host, format!("{} bytes", data.len()));
        };
        if name == NOISE {
            return;
        }
        let author = self.ids.get(from).copied();
        let Some(message) = self.messages.get_mut(&name) else {
            return self.violate("a message was sent by somebody", host, format!("message {name}"));
        };
        if author != Some(message.author) {
            let detail = format!("message {name} of node {} comes from {from}", message.author.0);
            return self.violate("`from` is the author", host, detail);
        }
        if message.author == host {
            return self.violate("nobody hears its own messages", host, format!("message {name}"));
        }
        if data.len() != message.bytes || data[16..].iter().any(|byte| *byte != name as u8) {
            return self.violate("a message arrives as it was sent", host, format!("message {name}"));
        }
        if !message.delivered.insert((host, generation)) {
            return self.violate("a message is delivered once", host, format!("message {name}"));
        }
        self.delivered += 1;
        self.latencies_ms.push((interpose::now().saturating_sub(at)).as_secs_f64() * 1000.0);
        let author = message.author;
        let newest = self.record(host, generation).newest.entry(author).or_default();
        let is_late = *newest > name;
        *newest = name.max(*newest);
        self.out_of_order += u64::from(is_late);
    }

    fn on_frame(&mut self, key: StreamKey, data: &[u8]) {
        let Some((frame, at)) = read_stamp(data) else {
            return self.violate("a frame arrives as it was sent", key.host, format!("{} bytes", data.len()));
        };
        self.audio.received += 1;
        let age = interpose::now().saturating_sub(at);
        self.audio.latencies_ms.push(age.as_secs_f64() * 1000.0);
        if self.rules.frame_within.is_some_and(|most| age > most) {
            let detail = format!("stream {}: frame {frame} is {age:?} old", key.stream);
            self.violate("a frame is young, or does not come", key.host, detail);
        }
        let has_lagged = self.hosts.get(&key.host).is_some_and(|record| record.has_lagged);
        let Some(stream) = self.on_stream(key, &"AudioData") else { return };
        stream.ages.push(age);
        let expected = std::mem::replace(&mut stream.next_frame, frame + 1);
        // After `Lagged`, it is unknown which streams lost frames.
        if frame < expected || frame > expected && !has_lagged {
            let detail = format!("stream {}: frame {frame} after {expected} was due", key.stream);
            self.violate("frames come in order, once, and gaps are reported", key.host, detail);
        }
    }

    /// Compares the median age of frames in the last third of a call with that in the first third.
    fn check_growth(&mut self, host: Host, ages: &[Duration]) {
        let Some(most) = self.rules.frame_growth.filter(|_| ages.len() >= 30) else { return };
        let median = |part: &[Duration]| {
            let mut part = part.to_vec();
            part.sort();
            part[part.len() / 2]
        };
        let third = ages.len() / 3;
        let (first, last) = (median(&ages[..third]), median(&ages[ages.len() - third..]));
        if last > first + most {
            let detail = format!("from {first:?} in the first third of a call to {last:?} in its last");
            self.violate("the age of frames does not grow", host, detail);
        }
    }

    /// Returns a stream that exists and has not ended.
    fn on_stream(&mut self, key: StreamKey, event: &impl std::fmt::Debug) -> Option<&mut Stream> {
        let has_lagged = self.record(key.host, key.generation).has_lagged;
        let is_open = self.streams.get(&key).is_some_and(|stream| !stream.is_closed);
        if !is_open && !has_lagged {
            self.violate("a stream's events end with its close", key.host, format!("{event:?}"));
        }
        self.streams.get_mut(&key)
    }
}

fn nanos() -> u64 {
    interpose::now().as_nanos() as u64
}

/// Bytes that contain a number and the time of sending.
fn stamped(name: u64, at: Duration, bytes: usize) -> Vec<u8> {
    let mut data = name.to_be_bytes().to_vec();
    data.extend_from_slice(&(at.as_nanos() as u64).to_be_bytes());
    data.resize(bytes.max(16), name as u8);
    data
}

fn read_stamp(data: &[u8]) -> Option<(u64, Duration)> {
    let (name, rest) = data.split_first_chunk()?;
    let at = rest.first_chunk()?;
    Some((u64::from_be_bytes(*name), Duration::from_nanos(u64::from_be_bytes(*at))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_is_a_broken_promise_where_everyone_keeps_the_rules() {
        let mut stats = Stats::default();
        stats.peers_banned = 1;
        let rules = Rules {
            honest: 2,
            is_calm: true,
            foreign: BTreeSet::new(),
            keeps_foreign: false,
            bans_nobody: true,
            max_peers: 8,
            max_audio_streams: 1,
            enough_peers: 1,
            frame_within: None,
            frame_growth: None,
            loses_nobody: true,
            calls_survive: false,
        };
        for (bans_nobody, broken) in [(true, Some("nobody who keeps the rules is banned")), (false, None)] {
            let ledger = Shared::new(Rules { bans_nobody, ..rules.clone() });
            ledger.lock().on_sample(Host(1), 1, &stats, Vec::new());
            let seen = ledger.lock().violation.as_ref().map(|violation| violation.invariant.clone());
            assert_eq!(seen.as_deref(), broken);
        }
    }
}
