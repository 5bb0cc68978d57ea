//! All audio streams of a node: which may exist, what happens to them, and their timeouts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::address::ip_of;
use super::io::{ConnectionId, NetAction, SubstreamId};
use super::outbox::Outbox;
use super::resume::RESUME_WITHIN;
use super::rng::Rng;
use super::stream::{Phase, Step, Stream};
use super::time::{Time, TimerTable};
use crate::audio::{ACK_AFTER, ACK_EVERY, REPORT_EVERY};
use crate::config::AviP2pConfig;
use crate::error::{AviP2pError, StreamCloseReason};
use crate::event::AviEvent;
use crate::id::{PeerId, StreamId};
use crate::media::{OnCongestion, StreamOptions};
use crate::path::{Secrets, SessionId};
use crate::situation::{Situation, reached};
use crate::stats::AudioStats;
use crate::wire::{Code, Frame, Open};

/// How long an opened substream may stay without OPEN or RESUME: longer than an outage that the connection survives.
const OPEN_WITHIN: Duration = Duration::from_secs(20);
/// How much longer the accepting end waits than the requesting one. The latter's timeout carries the reason.
const ANSWER_GRACE: Duration = Duration::from_secs(5);
/// How long the other end has to receive CLOSE.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long after its substreams the loss of a connection may be reported.
const VERDICT_WITHIN: Duration = Duration::from_millis(500);
/// How much longer it may take if the connection is being closed: its peer may not take what is pending.
const CLOSED_WITHIN: Duration = Duration::from_secs(3);
/// Streams beyond `max_audio_streams` that may be closing or waiting for OPEN.
const SPARE_STREAMS: usize = 16;
/// Ended streams whose figures are kept.
const ENDED_STREAMS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Timer {
    /// The phase has lasted too long.
    Phase,
    /// ACK is due.
    Ack,
    /// REPORT is due.
    Report,
    /// Audio that waits may leave.
    Flight,
    /// The path of datagrams must be looked at.
    Route,
    /// Received audio has waited long enough for what is before it.
    Order,
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Streams {
    config: AviP2pConfig,
    next: u64,
    /// The figures of the streams that ended last, the oldest first.
    ended: VecDeque<(StreamId, AudioStats)>,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    pub(super) by_substream: BTreeMap<SubstreamId, StreamId>,
    pub(super) timers: TimerTable<(StreamId, Timer)>,
    pub(super) tokens: Rng,
    pub(super) secrets: Secrets,
    /// The UDP port at which this node receives datagrams, if it does.
    pub(super) port: Option<u16>,
    pub(super) by_session: BTreeMap<SessionId, StreamId>,
    /// The IP addresses of the peers of connections.
    pub(super) remotes: BTreeMap<ConnectionId, IpAddr>,
    /// The connections that this node is closing.
    ending: BTreeSet<ConnectionId>,
    /// Whether a stream has released the connection that it [uses](Self::uses) or the peer that it [waits
    /// for](Self::waits_for).
    pub(super) has_released: bool,
    talks_to: Option<PeerId>,
    acked: Option<Acked>,
}

/// Audio that has arrived at the other end.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Acked {
    pub(crate) peer: PeerId,
    /// When it was sent.
    pub(crate) sent_at: Time,
    /// How long it waited in queues on its way.
    pub(crate) delay: Duration,
}

impl Streams {
    pub(crate) fn new(config: &AviP2pConfig, tokens: Rng, secrets: Secrets) -> Self {
        Self {
            config: config.without_secrets(),
            next: 1,
            streams: BTreeMap::new(),
            by_substream: BTreeMap::new(),
            timers: TimerTable::new(),
            ended: VecDeque::new(),
            tokens,
            secrets,
            port: None,
            by_session: BTreeMap::new(),
            remotes: BTreeMap::new(),
            ending: BTreeSet::new(),
            has_released: false,
            talks_to: None,
            acked: None,
        }
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// A connection is established.
    pub(crate) fn on_address(&mut self, connection: ConnectionId, address: &str) {
        if let Some(ip) = ip_of(address) {
            self.remotes.insert(connection, ip);
        }
    }

    /// The number of streams that the application may name: requested, offered, open.
    pub(crate) fn count(&self) -> usize {
        self.streams.values().filter(|stream| stream.is_alive()).count()
    }

    fn of_peer(&self, peer: &PeerId, phase: Phase) -> usize {
        self.streams.values().filter(|stream| stream.peer == *peer && stream.phase == phase).count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether a stream needs the connection: to its very end, since CLOSE is lost with the connection.
    pub(crate) fn uses(&self, connection: ConnectionId) -> bool {
        let here = |stream: &Stream| stream.connection == Some(connection);
        self.streams.values().any(|stream| here(stream) && stream.phase != Phase::Unnamed)
    }

    /// Whether any stream with this peer is not over.
    pub(crate) fn are_with(&self, peer: &PeerId) -> bool {
        self.streams.values().any(|stream| stream.peer == *peer && stream.is_alive())
    }

    /// Whether the peer's datagrams come.
    pub(crate) fn hears(&self, now: Time, peer: &PeerId) -> bool {
        self.streams.values().any(|stream| stream.peer == *peer && stream.datagrams.is_heard(now))
    }

    /// Whether this node has sent audio to the peer lately.
    pub(crate) fn speaks_to(&self, now: Time, peer: &PeerId) -> bool {
        self.streams.values().any(|stream| stream.peer == *peer && stream.speaks(now))
    }

    /// Takes the peer to whom audio begins to flow.
    pub(crate) fn take_talk(&mut self) -> Option<PeerId> {
        self.talks_to.take()
    }

    /// Takes the last acknowledgement of audio.
    pub(crate) fn take_acked(&mut self) -> Option<Acked> {
        self.acked.take()
    }

    /// Whether a stream waits for a connection to this peer.
    pub(crate) fn waits_for(&self, peer: &PeerId) -> bool {
        let waits = |phase: &Phase| matches!(phase, Phase::Reaching | Phase::Parted | Phase::Leaving);
        self.streams.values().any(|stream| stream.peer == *peer && waits(&stream.phase))
    }

    /// Whether a connection or a wanted peer was released since [`settle`](Self::settle).
    pub(crate) fn has_released(&self) -> bool {
        self.has_released
    }

    /// Marks the released connections and peers as handled.
    pub(crate) fn settle(&mut self) {
        self.has_released = false;
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    // Commands of the application.

    /// Requests a stream. Without a connection, it waits for one.
    pub(crate) fn request(
        &mut self,
        now: Time,
        peer: PeerId,
        connection: Option<ConnectionId>,
        options: StreamOptions,
        out: &mut Outbox,
    ) -> Result<StreamId, AviP2pError> {
        options.validate()?;
        let max = self.config.max_audio_streams;
        if self.count() >= max {
            return Err(AviP2pError::LimitReached { limit: "max_audio_streams", max });
        }
        let phase = if connection.is_some() { Phase::Opening } else { Phase::Reaching };
        let id = self.insert(peer, connection, phase, options.on_congestion);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.open = Open { media: options.media, label: options.label };
        }
        out.stats.streams_requested += 1;
        self.timers.set((id, Timer::Phase), now + self.config.accept_timeout);
        if let Some(connection) = connection {
            out.net(NetAction::OpenSubstream { stream: id, connection });
        }
        Ok(id)
    }

    pub(crate) fn accept(&mut self, now: Time, id: StreamId, out: &mut Outbox) -> Result<(), AviP2pError> {
        let stream = self.offered(id, "accepted")?;
        stream.queue_control(&Frame::Accept);
        stream.begin();
        self.timers.stop(&(id, Timer::Phase));
        self.invite(id, out);
        self.give_token(now, id, out);
        Ok(())
    }

    pub(crate) fn reject(
        &mut self,
        now: Time,
        id: StreamId,
        reason: String,
        out: &mut Outbox,
    ) -> Result<(), AviP2pError> {
        self.offered(id, "rejected")?;
        let farewell = Frame::Reject { code: Code::Application, reason };
        self.say_goodbye(now, id, farewell, Some(StreamCloseReason::LocalClose), out);
        Ok(())
    }

    pub(crate) fn send(&mut self, now: Time, id: StreamId, data: Bytes, out: &mut Outbox) -> Result<(), AviP2pError> {
        let max = self.config.limits.max_audio_frame_bytes;
        let Ok(stream) = self.alive(id) else { return Err(self.why_not_there(id)) };
        // A stream without a connection counts as congested.
        if !stream.is_accepted() {
            return Err(AviP2pError::StreamNotAccepted(id));
        }
        if data.is_empty() {
            return Err(AviP2pError::EmptyPayload("an audio frame"));
        }
        if data.len() > max {
            let limit = "limits.max_audio_frame_bytes";
            return Err(AviP2pError::PayloadTooLarge { len: data.len(), max, limit });
        }
        let talks_to = (!stream.speaks(now)).then(|| stream.peer.clone());
        stream.given_at = Some(now);
        let dropped = stream.send.dropped();
        if stream.send.push(now, data).is_err() {
            out.stats.audio_frames_refused += 1;
            return Err(AviP2pError::Congested("the stream's send queue is full"));
        }
        out.stats.audio_frames_dropped += stream.send.dropped() - dropped;
        stream.datagrams.on_given(now);
        self.pump(now, id, out);
        self.talks_to = talks_to;
        Ok(())
    }

    pub(crate) fn close(&mut self, now: Time, id: StreamId, out: &mut Outbox) -> Result<(), AviP2pError> {
        self.alive(id)?;
        self.end(now, id, Code::Application, StreamCloseReason::LocalClose, out);
        Ok(())
    }

    pub(crate) fn audio_stats(&self, id: StreamId) -> Result<AudioStats, AviP2pError> {
        let alive = self.streams.get(&id).filter(|stream| stream.is_alive());
        let ended = || self.ended.iter().find(|(ended, _)| *ended == id).map(|(_, figures)| figures.clone());
        alive.map(Stream::audio_stats).or_else(ended).ok_or(AviP2pError::StreamNotFound(id))
    }

    pub(crate) fn close_all(&mut self, now: Time, out: &mut Outbox) {
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            match self.streams.get(&id).map(|stream| &stream.phase) {
                Some(Phase::Closing) | None => {}
                Some(Phase::Parted | Phase::Leaving) => self.conclude(id, StreamCloseReason::LocalClose, out),
                Some(Phase::Unnamed) => self.forget(id, out),
                Some(_) => self.end(now, id, Code::Application, StreamCloseReason::LocalClose, out),
            }
        }
    }

    // Events of the network.

    /// Continues the streams that waited for the peer.
    pub(crate) fn on_connected(&mut self, peer: &PeerId, connection: ConnectionId, out: &mut Outbox) {
        let waiting = self.streams.values_mut();
        for stream in waiting.filter(|stream| stream.phase == Phase::Reaching && stream.peer == *peer) {
            stream.phase = Phase::Opening;
            stream.connection = Some(connection);
            self.has_released = true;
            out.net(NetAction::OpenSubstream { stream: stream.id, connection });
        }
        self.take_up_all(peer, connection, out);
    }

    /// Fails the requests that waited for the peer.
    pub(crate) fn on_unreachable(&mut self, peer: &PeerId, reason: &str, out: &mut Outbox) {
        let waiting = self.streams.values().filter(|stream| stream.phase == Phase::Reaching && stream.peer == *peer);
        for id in waiting.map(|stream| stream.id).collect::<Vec<_>>() {
            tracing::debug!(%peer, stream = %id, reason, "the peer of a request cannot be reached");
            self.conclude(id, StreamCloseReason::Unreachable, out);
        }
    }

    pub(crate) fn on_opened(&mut self, now: Time, id: StreamId, substream: SubstreamId, out: &mut Outbox) {
        match self.streams.get_mut(&id) {
            Some(stream) if stream.phase == Phase::Opening => {
                stream.phase = Phase::Requested;
                stream.substream = Some(substream);
                let open = Frame::Open(stream.open.clone());
                stream.queue_control(&open);
                self.by_substream.insert(substream, id);
                self.pump(now, id, out);
            }
            Some(stream) if stream.phase == Phase::Resuming && stream.substream.is_none() => {
                stream.substream = Some(substream);
                self.by_substream.insert(substream, id);
                self.ask_to_resume(now, id, out);
            }
            Some(stream) if stream.phase == Phase::Leaving && stream.substream.is_none() => {
                stream.substream = Some(substream);
                self.by_substream.insert(substream, id);
                self.ask_to_resume(now, id, out);
                self.hang_up(now, id, out);
            }
            // The stream was closed in the meantime.
            _ => out.net(NetAction::Reset { substream }),
        }
    }

    pub(crate) fn on_open_failed(&mut self, now: Time, id: StreamId, reason: String, out: &mut Outbox) {
        let is_opening = |stream: &Stream| match stream.phase {
            Phase::Opening => true,
            Phase::Resuming | Phase::Leaving => stream.substream.is_none(),
            _ => false,
        };
        if self.streams.get(&id).is_some_and(is_opening) {
            self.lose(now, id, reason, out);
        }
    }

    pub(crate) fn on_offered(
        &mut self,
        now: Time,
        substream: SubstreamId,
        peer: PeerId,
        connection: ConnectionId,
        out: &mut Outbox,
    ) {
        // At most as many as a peer may request at once.
        let silent = self.of_peer(&peer, Phase::Unnamed);
        if silent >= self.config.max_audio_streams.max(1)
            || self.streams.len() >= self.config.max_audio_streams + SPARE_STREAMS
        {
            out.stats.streams_refused += 1;
            return out.net(NetAction::Reset { substream });
        }
        let id = self.insert(peer, Some(connection), Phase::Unnamed, OnCongestion::default());
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.substream = Some(substream);
        }
        self.by_substream.insert(substream, id);
        self.timers.set((id, Timer::Phase), now + OPEN_WITHIN);
    }

    pub(crate) fn on_received(&mut self, now: Time, substream: SubstreamId, mut bytes: Bytes, out: &mut Outbox) {
        let mut is_due = false;
        let Some(mut id) = self.by_substream.get(&substream).copied() else { return };
        while let Some(stream) = self.streams.get_mut(&id) {
            let awaited = stream.phase == Phase::Requested;
            let step = stream.on_bytes(now, &mut bytes, out);
            if awaited && stream.phase == Phase::Open {
                self.timers.stop(&(id, Timer::Phase));
                self.invite(id, out);
                is_due = true;
            }
            match step {
                Ok(Step::On) => {
                    self.follow_path(now, id, out);
                    if is_due {
                        self.pump(now, id, out);
                    }
                    return;
                }
                Ok(Step::Offer) => self.on_offer(now, id, out),
                Ok(Step::Acknowledged) => {
                    is_due = true;
                    self.on_acknowledged(id);
                }
                Ok(Step::Heard { ack, report }) => self.on_heard(now, id, ack, report),
                Ok(Step::Invited(invitation)) => {
                    if let Err(broken) = self.on_invited(now, id, &invitation) {
                        return self.on_broken_rule(id, broken, out);
                    }
                }
                Ok(Step::Routed) => is_due = true,
                Ok(Step::Resumable) => self.on_resumable(now, id, out),
                Ok(Step::Resume { token, next_sequence }) => {
                    id = self.on_resume(now, id, token, next_sequence, out).unwrap_or(id);
                }
                Ok(Step::Resumed) => self.on_resumed(now, id, out),
                Ok(Step::Over(reason)) => self.on_goodbye(now, id, reason, out),
                Err(broken) => return self.on_broken_rule(id, broken, out),
            }
        }
    }

    /// Notes what the last acknowledgement says about the path to the peer.
    pub(super) fn on_acknowledged(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some((sent_at, delay)) = stream.take_acked() {
            self.acked = Some(Acked { peer: stream.peer.clone(), sent_at, delay });
        }
    }

    /// Sets the timers of ACK and REPORT.
    pub(super) fn on_heard(&mut self, now: Time, id: StreamId, ack: bool, report: bool) {
        if report {
            self.timers.set((id, Timer::Report), now + REPORT_EVERY);
        }
        if let Some(stream) = self.streams.get(&id).filter(|_| ack) {
            let next = stream.acked_at.map_or(now, |at| at + ACK_EVERY);
            self.timers.set((id, Timer::Ack), next.max(now + ACK_AFTER));
        }
    }

    pub(crate) fn on_writable(&mut self, now: Time, substream: SubstreamId, out: &mut Outbox) {
        if let Some(stream) = self.by_substream.get(&substream).and_then(|id| self.streams.get_mut(id)) {
            stream.on_writable();
            let id = stream.id;
            self.pump(now, id, out);
            self.remove_if_over(id, out);
        }
    }

    /// Handles the end of the other end's data.
    pub(crate) fn on_finished(&mut self, now: Time, substream: SubstreamId, out: &mut Outbox) {
        let Some(id) = self.by_substream.get(&substream).copied() else { return };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.phase == Phase::Open && stream.is_ending() {
            stream.is_deaf = true;
            return;
        }
        if stream.phase != Phase::Closing {
            out.net(NetAction::Reset { substream });
            return self.lose(now, id, "the substream ended without CLOSE".to_owned(), out);
        }
        stream.is_deaf = true;
        self.remove_if_over(id, out);
    }

    /// Removes a stream once both ends have closed their direction.
    fn remove_if_over(&mut self, id: StreamId, out: &mut Outbox) {
        if self.streams.get(&id).is_some_and(|stream| stream.is_deaf && stream.has_said_all()) {
            self.remove(id, out);
        }
    }

    pub(crate) fn on_broken(&mut self, now: Time, substream: SubstreamId, reason: String, out: &mut Outbox) {
        let Some(id) = self.by_substream.get(&substream).copied() else { return };
        self.lose(now, id, reason, out);
    }

    /// This node closes a connection: its substreams break before it has ended.
    pub(crate) fn on_ending(&mut self, now: Time, connection: ConnectionId) {
        self.ending.insert(connection);
        let here = self.streams.values().filter(|stream| stream.connection == Some(connection));
        for stream in here.filter(|stream| matches!(stream.phase, Phase::Lost { .. })) {
            self.timers.set((stream.id, Timer::Phase), now + CLOSED_WITHIN);
        }
    }

    /// Handles the end of a connection. `other` is another connection to the same peer. `may_resume` says whether
    /// accepted streams may wait for a new one.
    pub(crate) fn on_disconnected(
        &mut self,
        now: Time,
        connection: ConnectionId,
        other: Option<ConnectionId>,
        may_resume: bool,
        out: &mut Outbox,
    ) {
        self.ending.remove(&connection);
        self.remotes.remove(&connection);
        for id in self.on_connection(connection) {
            self.leave(now, id, other, may_resume, out);
        }
    }

    /// Moves the streams that this end has requested to a newer connection. The other end does so with its own.
    pub(crate) fn on_retired(&mut self, now: Time, connection: ConnectionId, newest: ConnectionId, out: &mut Outbox) {
        for id in self.on_connection(connection) {
            let Some(stream) = self.streams.get(&id).filter(|stream| stream.moves_itself()) else { continue };
            // What was sent on it may still arrive. It ends with its connection.
            let is_unanswered = stream.can_move();
            if let Some(substream) = stream.substream.filter(|_| is_unanswered) {
                out.net(NetAction::Reset { substream });
            }
            self.leave(now, id, Some(newest), true, out);
        }
    }

    fn on_connection(&self, connection: ConnectionId) -> Vec<StreamId> {
        let here = self.streams.values().filter(|stream| stream.connection == Some(connection));
        here.map(|stream| stream.id).collect()
    }

    /// Takes a stream from a connection that has ended, or is not used any more.
    fn leave(&mut self, now: Time, id: StreamId, other: Option<ConnectionId>, may_resume: bool, out: &mut Outbox) {
        match (self.streams.get_mut(&id), other) {
            (Some(stream), Some(other)) if stream.can_move() => {
                if let Some(substream) = stream.substream {
                    self.by_substream.remove(&substream);
                }
                reached(Situation::CallMoved);
                stream.move_to(other);
                self.has_released = true;
                self.timers.set((id, Timer::Phase), now + self.config.accept_timeout);
                out.net(NetAction::OpenSubstream { stream: id, connection: other });
            }
            (Some(stream), _) if may_resume && stream.is_resumable() => self.part(now, id, other, out),
            (Some(stream), _) if may_resume && stream.hangs_up => {
                if let Some(substream) = stream.detach() {
                    self.by_substream.remove(&substream);
                }
                self.hang_up_later(now, id, out);
                if let Some(connection) = other {
                    self.take_up(id, connection, out);
                }
            }
            _ => self.conclude(id, StreamCloseReason::PeerDisconnected, out),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Time, out: &mut Outbox) {
        while let Some((id, timer)) = self.timers.pop_due(now) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            match (timer, stream.phase.clone()) {
                (Timer::Report, _) => {
                    stream.report();
                    self.pump(now, id, out);
                }
                (Timer::Ack, _) => {
                    stream.acknowledge(now);
                    self.pump(now, id, out);
                }
                (Timer::Flight, _) => self.pump(now, id, out),
                (Timer::Route, _) => self.on_route_due(now, id, out),
                (Timer::Order, _) => self.on_order_due(now, id, out),
                (Timer::Phase, Phase::Reaching) => self.conclude(id, StreamCloseReason::Unreachable, out),
                (Timer::Phase, Phase::Opening | Phase::Requested | Phase::Offered) => {
                    reached(Situation::CallUnanswered);
                    self.end(now, id, Code::Timeout, StreamCloseReason::Timeout, out);
                }
                (Timer::Phase, Phase::Unnamed) => self.on_broken_rule(id, "no OPEN in time".to_owned(), out),
                (Timer::Phase, Phase::Lost { reason, .. }) => {
                    let is_ending = stream.connection.is_some_and(|connection| self.ending.contains(&connection));
                    let error = StreamCloseReason::Error(reason);
                    self.conclude(id, if is_ending { StreamCloseReason::PeerDisconnected } else { error }, out);
                }
                (Timer::Phase, Phase::Parted | Phase::Resuming) => {
                    reached(Situation::CallGivenUp);
                    self.end(now, id, Code::Timeout, StreamCloseReason::PeerDisconnected, out);
                }
                (Timer::Phase, Phase::Closing | Phase::Leaving) => self.forget(id, out),
                (Timer::Phase, Phase::Open) => {}
            }
        }
    }

    // Consequences of both.

    pub(super) fn pump(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        if let Some(at) = self.streams.get_mut(&id).and_then(|stream| stream.pump(now, out)) {
            self.timers.set((id, Timer::Flight), at);
        }
        self.watch_route(id);
    }

    fn insert(
        &mut self,
        peer: PeerId,
        connection: Option<ConnectionId>,
        phase: Phase,
        on_congestion: OnCongestion,
    ) -> StreamId {
        let id = StreamId(self.next);
        self.next += 1;
        self.streams.insert(id, Stream::new(id, peer, connection, phase, on_congestion, &self.config));
        id
    }

    fn alive(&mut self, id: StreamId) -> Result<&mut Stream, AviP2pError> {
        self.streams.get_mut(&id).filter(|stream| stream.is_alive()).ok_or(AviP2pError::StreamNotFound(id))
    }

    fn why_not_there(&self, stream_id: StreamId) -> AviP2pError {
        let ended = self.ended.iter().find(|(ended, _)| *ended == stream_id);
        match ended.and_then(|(_, figures)| figures.ended.clone()) {
            Some(reason) => AviP2pError::StreamEnded { stream_id, reason },
            None => AviP2pError::StreamNotFound(stream_id),
        }
    }

    fn offered(&mut self, stream_id: StreamId, action: &'static str) -> Result<&mut Stream, AviP2pError> {
        let stream = self.alive(stream_id)?;
        match stream.phase {
            Phase::Offered => Ok(stream),
            _ => Err(AviP2pError::StreamState { stream_id, action, state: stream.phase.name() }),
        }
    }

    fn on_offer(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        let max = self.config.max_audio_streams;
        let Some(peer) = self.streams.get(&id).map(|stream| stream.peer.clone()) else { return };
        let refusal = if self.count() >= max {
            Some("max_audio_streams is reached at the other end")
        } else if self.of_peer(&peer, Phase::Offered) >= max.div_ceil(2) {
            // One peer cannot use all streams with offers that are not answered.
            Some("half of max_audio_streams at the other end waits to be answered, the most that one peer may ask for")
        } else {
            None
        };
        if let Some(reason) = refusal {
            reached(Situation::CallRefused);
            out.stats.streams_refused += 1;
            let farewell = Frame::Reject { code: Code::Limit, reason: reason.to_owned() };
            return self.say_goodbye(now, id, farewell, None, out);
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.phase = Phase::Offered;
        out.stats.streams_offered += 1;
        out.event(AviEvent::AudioStreamRequested { from: stream.peer.clone(), stream_id: id });
        self.timers.set((id, Timer::Phase), now + self.config.accept_timeout + ANSWER_GRACE);
    }

    pub(super) fn on_goodbye(&mut self, now: Time, id: StreamId, reason: StreamCloseReason, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.hangs_up = false;
        stream.fall_silent(out);
        self.has_released = true;
        self.tell_closed(id, reason, out);
        self.stop_audio(id, out);
        self.timers.set((id, Timer::Phase), now + CLOSE_WITHIN);
        self.remove_if_over(id, out);
    }

    pub(super) fn on_broken_rule(&mut self, id: StreamId, broken: String, out: &mut Outbox) {
        reached(Situation::ProtocolBroken);
        out.stats.protocol_errors += 1;
        if let Some(stream) = self.streams.get(&id) {
            tracing::debug!(peer = %stream.peer, stream = %id, broken, "audio stream breaks the protocol");
            if stream.is_alive() {
                self.tell_closed(id, StreamCloseReason::Protocol(broken), out);
            }
        }
        self.forget(id, out);
    }

    /// Ends a stream for the application or a timeout.
    pub(super) fn end(&mut self, now: Time, id: StreamId, code: Code, reason: StreamCloseReason, out: &mut Outbox) {
        let Some(stream) = self.streams.get(&id) else { return };
        let farewell = match stream.phase {
            Phase::Parted | Phase::Resuming if stream.substream.is_none() && code == Code::Application => {
                self.tell_closed(id, reason, out);
                return self.hang_up_later(now, id, out);
            }
            Phase::Reaching | Phase::Opening | Phase::Lost { .. } | Phase::Parted => {
                return self.conclude(id, reason, out);
            }
            Phase::Resuming if stream.substream.is_none() => return self.conclude(id, reason, out),
            Phase::Offered => Frame::Reject { code, reason: String::new() },
            _ => stream.close_frame(code),
        };
        self.say_goodbye(now, id, farewell, Some(reason), out);
    }

    /// Says goodbye on the connection that a stream has waited for.
    pub(super) fn hang_up(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        let Some(stream) = self.streams.get(&id) else { return };
        let farewell = stream.close_frame(Code::Application);
        self.say_goodbye(now, id, farewell, None, out);
    }

    /// Waits for a connection on which to say goodbye.
    fn hang_up_later(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        self.stop_audio(id, out);
        if self.streams.len() >= self.config.max_audio_streams + SPARE_STREAMS {
            return self.remove(id, out);
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let is_waiting = stream.phase == Phase::Leaving;
        reached(Situation::GoodbyeDelayed);
        stream.leave(out);
        if !is_waiting {
            self.timers.set((id, Timer::Phase), now + RESUME_WITHIN);
        }
        self.has_released = true;
    }

    pub(super) fn say_goodbye(
        &mut self,
        now: Time,
        id: StreamId,
        farewell: Frame,
        reason: Option<StreamCloseReason>,
        out: &mut Outbox,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.hangs_up |= stream.is_resumable();
        let within = if stream.hangs_up { RESUME_WITHIN } else { CLOSE_WITHIN };
        stream.part_with(farewell);
        self.pump(now, id, out);
        self.has_released = true;
        if let Some(reason) = reason {
            self.tell_closed(id, reason, out);
        }
        self.stop_audio(id, out);
        self.timers.set((id, Timer::Phase), now + within);
    }

    fn lose(&mut self, now: Time, id: StreamId, reason: String, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !stream.is_alive() {
            return self.remove(id, out);
        }
        if let Some(substream) = stream.substream.take() {
            self.by_substream.remove(&substream);
        }
        let (unanswered, accepted) = (stream.is_unanswered(), stream.is_accepted());
        stream.phase = Phase::Lost { reason, unanswered, accepted };
        let is_ending = stream.connection.is_some_and(|connection| self.ending.contains(&connection));
        let within = if is_ending { CLOSED_WITHIN } else { VERDICT_WITHIN };
        self.timers.set((id, Timer::Phase), now + within);
    }

    /// Ends a stream that has nothing left on the network.
    pub(super) fn conclude(&mut self, id: StreamId, reason: StreamCloseReason, out: &mut Outbox) {
        if self.streams.get(&id).is_some_and(Stream::is_alive) {
            self.tell_closed(id, reason, out);
        }
        self.remove(id, out);
    }

    fn tell_closed(&mut self, id: StreamId, reason: StreamCloseReason, out: &mut Outbox) {
        if let Some(stream) = self.streams.get(&id) {
            tracing::debug!(peer = %stream.peer, stream = %id, ?reason, "audio stream closed");
            if self.ended.len() == ENDED_STREAMS {
                self.ended.pop_front();
            }
            let figures = AudioStats { accepted: false, ended: Some(reason.clone()), ..stream.audio_stats() };
            self.ended.push_back((id, figures));
            out.event(AviEvent::AudioStreamClosed { peer_id: stream.peer.clone(), stream_id: id, reason });
        }
    }

    /// Drops a stream and its substream.
    fn forget(&mut self, id: StreamId, out: &mut Outbox) {
        if let Some(substream) = self.streams.get(&id).and_then(|stream| stream.substream) {
            out.net(NetAction::Reset { substream });
        }
        self.remove(id, out);
    }

    fn remove(&mut self, id: StreamId, out: &mut Outbox) {
        self.stop_audio(id, out);
        if let Some(mut stream) = self.streams.remove(&id) {
            self.has_released = true;
            out.stats.audio_frames_dropped += stream.send.discard();
            // Audio may have left since the application was told.
            if let Some((_, figures)) = self.ended.iter_mut().find(|(ended, _)| *ended == id) {
                *figures = AudioStats { accepted: false, ended: figures.ended.take(), ..stream.audio_stats() };
            }
            if let Some(substream) = stream.substream {
                self.by_substream.remove(&substream);
            }
        }
        self.timers.stop(&(id, Timer::Phase));
    }

    /// Stops the timers of audio, and forgets how it is sealed: none flows any more.
    fn stop_audio(&mut self, id: StreamId, out: &mut Outbox) {
        for timer in [Timer::Ack, Timer::Report, Timer::Flight, Timer::Route, Timer::Order] {
            self.timers.stop(&(id, timer));
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.forget_order();
        }
        self.end_sessions(id, out);
    }
}
