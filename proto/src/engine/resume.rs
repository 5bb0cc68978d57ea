//! How does a call outlive its connection? An accepted stream that loses it waits for another one to the same peer, and
//! goes on there.
//!
//! The end that requested the stream opens a new substream with RESUME and the token of the other end, which answers
//! with RESUME too. Either tells where it goes on, so that what was lost in between is told as a gap. Audio that is given
//! meanwhile becomes too old in the send queue, and is dropped there.

use std::time::Duration;

use super::io::{ConnectionId, NetAction};
use super::outbox::Outbox;
use super::stream::{Phase, Stream};
use super::streams::{Streams, Timer};
use super::time::Time;
use crate::error::StreamCloseReason;
use crate::id::{PeerId, StreamId};
use crate::situation::{Situation, reached};
use crate::wire::{Code, Frame, Token};

/// How long a stream waits for a new connection: long enough for a dial that TCP repeats after 1, 3 and 7 s.
pub(super) const RESUME_WITHIN: Duration = Duration::from_secs(15);
/// How many connections in a row are dialled at once when one is lost. Later dials keep the usual pauses: a peer may
/// accept connections only to close them.
const AT_ONCE: u32 = 2;
/// A connection that has lasted for this long ends the row.
const SETTLED: Duration = Duration::from_secs(5);

/// What an end needs to go on with a stream on another connection.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Resumption {
    /// Whether this end requested the stream.
    is_requester: bool,
    /// The token that this end gave last.
    given: Option<Token>,
    /// The one before, until the other end has shown that it knows the newer one.
    former: Option<Token>,
    /// The token that the other end gave last.
    held: Option<Token>,
    /// Whether the other end has given one on this substream.
    is_held_here: bool,
    /// When the stream is given up, once it has lost its connection.
    until: Option<Time>,
    /// When it last went on.
    resumed_at: Option<Time>,
    /// The connections tried in a row.
    attempts: u32,
}

impl Resumption {
    pub(crate) fn new(is_requester: bool) -> Self {
        Self {
            is_requester,
            given: None,
            former: None,
            held: None,
            is_held_here: false,
            until: None,
            resumed_at: None,
            attempts: 0,
        }
    }

    /// Handles RESUMABLE of the other end.
    pub(crate) fn on_given(&mut self, token: Token) -> Result<(), String> {
        if std::mem::replace(&mut self.is_held_here, true) {
            return Err("RESUMABLE came twice on a substream".to_owned());
        }
        (self.held, self.former) = (Some(token), None);
        Ok(())
    }

    /// Checks the answer to RESUME.
    pub(crate) fn check(&self, token: Token) -> Result<(), String> {
        if self.held == Some(token) { Ok(()) } else { Err("RESUME.token is not the one that was sent".to_owned()) }
    }

    /// Whether both ends can go on.
    pub(crate) fn is_agreed(&self) -> bool {
        self.given.is_some() && self.held.is_some()
    }

    fn matches(&self, token: Token) -> bool {
        self.given == Some(token) || self.former == Some(token)
    }

    fn give(&mut self, token: Token) {
        self.former = self.given.replace(token);
    }

    pub(crate) fn on_new_substream(&mut self) {
        self.is_held_here = false;
    }

    fn on_resumed(&mut self, now: Time) {
        (self.until, self.resumed_at) = (None, Some(now));
    }

    /// Returns when the stream is given up.
    fn on_parted(&mut self, now: Time) -> Time {
        if self.resumed_at.take().is_none_or(|at| now - at >= SETTLED) && self.until.is_none() {
            self.attempts = 0;
        }
        *self.until.get_or_insert(now + RESUME_WITHIN)
    }
}

impl Streams {
    /// Whether an accepted stream needs this connection, and would not go on over another one.
    pub(crate) fn depends_on(&self, connection: ConnectionId) -> bool {
        let mut here = self.streams.values().filter(|stream| stream.connection == Some(connection));
        here.any(|stream| stream.is_alive() && stream.is_accepted() && !stream.is_resumable())
    }

    /// Whether the peer shall be dialled without a pause.
    pub(crate) fn redials_at_once(&self, peer: &PeerId) -> bool {
        let mut parted = self.streams.values().filter(|stream| stream.phase == Phase::Parted && stream.peer == *peer);
        parted.any(|stream| stream.resumption.is_requester && stream.resumption.attempts < AT_ONCE)
    }

    /// Gives the other end a token.
    pub(super) fn give_token(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        let token = self.tokens.token();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.resumption.give(token);
        stream.queue_control(&Frame::Resumable { token });
        self.pump(now, id, out);
    }

    /// Handles RESUMABLE: the end that requested the stream answers it.
    pub(super) fn on_resumable(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        if self.streams.get(&id).is_some_and(|stream| stream.resumption.is_requester) {
            self.give_token(now, id, out);
        }
    }

    /// Parts a stream from its connection, which has ended. `other` is another connection to the same peer.
    pub(super) fn part(&mut self, now: Time, id: StreamId, other: Option<ConnectionId>, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let until = stream.resumption.on_parted(now);
        if until <= now {
            return self.conclude(id, StreamCloseReason::PeerDisconnected, out);
        }
        tracing::debug!(peer = %stream.peer, stream = %id, "audio stream waits for a new connection");
        reached(Situation::CallParted);
        stream.phase = Phase::Parted;
        if let Some(substream) = stream.detach() {
            self.by_substream.remove(&substream);
        }
        self.has_released = true;
        self.timers.set((id, Timer::Phase), until);
        if let Some(connection) = other {
            self.take_up(id, connection, out);
        }
    }

    /// Takes up the streams that waited for this connection.
    pub(super) fn take_up_all(&mut self, peer: &PeerId, connection: ConnectionId, out: &mut Outbox) {
        let waits = |stream: &&Stream| stream.connection.is_none() && stream.peer == *peer;
        let parted = self.streams.values().filter(waits);
        let parted = parted.filter(|stream| matches!(stream.phase, Phase::Parted | Phase::Leaving));
        for id in parted.map(|stream| stream.id).collect::<Vec<_>>() {
            self.take_up(id, connection, out);
        }
    }

    pub(super) fn take_up(&mut self, id: StreamId, connection: ConnectionId, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.resumption.is_requester) else { return };
        stream.resumption.attempts += 1;
        if stream.phase == Phase::Parted {
            stream.phase = Phase::Resuming;
        }
        stream.connection = Some(connection);
        self.has_released = true;
        out.net(NetAction::OpenSubstream { stream: id, connection });
    }

    /// Asks the other end to go on, on the substream that was just opened.
    pub(super) fn ask_to_resume(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(token) = stream.resumption.held {
            stream.queue_resume(now, token, out);
            self.pump(now, id, out);
        }
    }

    /// Handles the other end's consent.
    pub(super) fn on_resumed(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        tracing::debug!(peer = %stream.peer, stream = %id, "audio stream goes on");
        reached(Situation::CallResumed);
        out.stats.streams_resumed += 1;
        stream.resumption.on_resumed(now);
        self.timers.stop(&(id, Timer::Phase));
        self.on_moved(now, id, out);
        self.follow_path(now, id, out);
        self.pump(now, id, out);
    }

    /// Handles RESUME on the new substream of `offer`. Returns the stream that has moved there. It may still believe in
    /// its old connection.
    pub(super) fn on_resume(
        &mut self,
        now: Time,
        offer: StreamId,
        token: Token,
        next_sequence: u64,
        out: &mut Outbox,
    ) -> Option<StreamId> {
        let peer = &self.streams.get(&offer)?.peer;
        let mut of_peer = self.streams.values().filter(|stream| stream.peer == *peer);
        let goes_on = |stream: &&Stream| stream.is_accepted() || stream.hangs_up;
        let found = of_peer.find(|stream| goes_on(stream) && stream.resumption.matches(token));
        let Some(id) = found.map(|stream| stream.id) else {
            let farewell = Frame::Reject { code: Code::Application, reason: "the stream has ended".to_owned() };
            self.say_goodbye(now, offer, farewell, None, out);
            return None;
        };
        let (connection, substream, decoder) = self.streams.remove(&offer)?.into_parts()?;
        self.timers.stop(&(offer, Timer::Phase));
        let stream = self.streams.get_mut(&id)?;
        if let Some(old) = stream.detach() {
            self.by_substream.remove(&old);
            out.net(NetAction::Reset { substream: old });
        }
        let hangs_up = stream.hangs_up;
        stream.attach(connection, substream, decoder);
        self.by_substream.insert(substream, id);
        self.has_released = true;
        if hangs_up {
            stream.queue_resume(now, token, out);
            self.hang_up(now, id, out);
            return Some(id);
        }
        stream.skip_to(next_sequence, out);
        stream.queue_resume(now, token, out);
        self.on_resumed(now, id, out);
        self.give_token(now, id, out);
        Some(id)
    }

    /// Ends the streams of a peer that may not connect any more.
    pub(crate) fn on_kept_out(&mut self, now: Time, peer: &PeerId, out: &mut Outbox) {
        let of_peer = self.streams.values().filter(|stream| stream.peer == *peer);
        for (id, phase) in of_peer.map(|stream| (stream.id, stream.phase.clone())).collect::<Vec<_>>() {
            let reason = StreamCloseReason::PeerDisconnected;
            match phase {
                Phase::Parted | Phase::Leaving => self.conclude(id, reason, out),
                Phase::Open | Phase::Resuming | Phase::Lost { accepted: true, .. } => {
                    self.end(now, id, Code::Application, reason, out);
                }
                _ => {}
            }
        }
    }
}

impl Stream {
    /// Whether this end moves the stream to a newer connection.
    pub(crate) fn moves_itself(&self) -> bool {
        let goes_on = self.is_resumable() || self.hangs_up;
        self.can_move() || self.resumption.is_requester && goes_on
    }

    /// Whether the stream outlives its connection.
    pub(crate) fn is_resumable(&self) -> bool {
        self.is_accepted() && self.resumption.is_agreed()
    }

    /// Queues RESUME. What is too old by now is dropped before.
    fn queue_resume(&mut self, now: Time, token: Token, out: &mut Outbox) {
        let dropped = self.send.dropped();
        let next_sequence = self.send.resume(now);
        out.stats.audio_frames_dropped += self.send.dropped() - dropped;
        self.queue_control(&Frame::Resume { token, next_sequence });
    }
}
