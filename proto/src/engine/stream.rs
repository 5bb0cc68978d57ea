//! One audio stream: its lifecycle, what it may send now, and what a frame from the other end means.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::datagrams::{Datagrams, Ending};
use super::io::{ConnectionId, NetAction, SubstreamId};
use super::outbox::Outbox;
use super::resume::Resumption;
use super::time::Time;
use crate::audio::{AudioReceiver, Batch, Flight, Path, SendQueue};
use crate::config::AviP2pConfig;
use crate::error::StreamCloseReason;
use crate::event::AviEvent;
use crate::id::{PeerId, StreamId};
use crate::media::{AudioFrame, OnCongestion};
use crate::path::{self, Arrival, Order, Via};
use crate::situation::{Situation, reached};
use crate::stats::{AudioStats, RemoteAudioReport};
use crate::wire::{
    Ack, Code, DATA_OVERHEAD_BYTES, Decoder, Frame, Invitation, MAX_PREFIX_BYTES, Open, Token, WireError,
};

/// Audio bytes per write. Larger writes gain nothing: Yamux splits at 16 KiB.
const BATCH_BYTES: usize = 16 * 1024;
/// An end that takes nothing off the substream gets no more answers there.
const MAX_PENDING_BYTES: usize = 1024;
/// `AudioRate` is reported when the rate differs by a quarter from the reported one, at most once in this time.
const RATE_EVERY: Duration = Duration::from_secs(1);
/// How often a request may move to another connection.
const MAX_MOVES: u32 = 3;
/// A call without audio for this long is silent.
const PAUSE: Duration = Duration::from_secs(2);

/// The phase of a stream. "Over" means that the stream is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Phase {
    /// The peer of a request is being dialled. Next: `Opening`, over.
    Reaching,
    /// The substream of a request is being opened. Next: `Requested`, `Lost`, over.
    Opening,
    /// OPEN was sent, and the answer is pending. Next: `Open`, `Lost`, `Closing`, over.
    Requested,
    /// A peer opened a substream, but OPEN has not come. The application does not know it. Next: `Offered`, `Closing`,
    /// over.
    Unnamed,
    /// The application must accept or reject. Next: `Open`, `Lost`, `Closing`, over.
    Offered,
    /// Audio flows. Next: `Lost`, `Parted`, `Closing`, over.
    Open,
    /// The substream ended without CLOSE. The stream waits for the news whether the connection ended too. Next:
    /// `Opening` for a request that is tried again, `Parted`, `Open` if the other end goes on first, over.
    Lost {
        /// How it ended.
        reason: String,
        /// Whether it was a request without an answer.
        unanswered: bool,
        /// Whether the stream was accepted.
        accepted: bool,
    },
    /// The connection of an accepted stream has ended, or is retired. The stream waits for another one. Next: `Resuming` at
    /// the end that requested it, `Open` at the other, `Leaving`, over.
    Parted,
    /// A substream on another connection is being opened, or RESUME was sent there, and the answer is pending. Next:
    /// `Open`, `Lost`, `Parted`, `Closing`, `Leaving`, over.
    Resuming,
    /// The application knows that the stream is over. Queued data is still sent, received data is discarded. Next:
    /// `Leaving`, over.
    Closing,
    /// The application knows that the stream is over, and the other end may not, since the connection ended before CLOSE
    /// arrived. The stream waits for another one, to say it there. Next: `Closing`, over.
    Leaving,
}

impl Phase {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Reaching | Self::Opening | Self::Requested => "requested",
            Self::Unnamed | Self::Offered => "offered",
            Self::Open => "open",
            Self::Lost { .. } | Self::Parted | Self::Resuming => "lost",
            Self::Closing | Self::Leaving => "closed",
        }
    }
}

/// The result of a frame from the other end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Continue with the next frame.
    On,
    /// OPEN came: the caller must check whether there is room for the stream.
    Offer,
    /// The first audio since the last ACK or REPORT came.
    Heard {
        /// ACK is due.
        ack: bool,
        /// REPORT is due.
        report: bool,
    },
    /// Frames of this end were acknowledged, so that others may leave.
    Acknowledged,
    /// The other end invites this one to send datagrams.
    Invited(Invitation),
    /// Something was learnt about the path of datagrams.
    Routed,
    /// RESUMABLE came.
    Resumable,
    /// RESUME came on a new substream: the caller must find the stream.
    Resume { token: Token, next_sequence: u64 },
    /// The other end goes on.
    Resumed,
    /// The other end has closed or rejected the stream.
    Over(StreamCloseReason),
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) peer: PeerId,
    /// `None` while the stream waits for one.
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) substream: Option<SubstreamId>,
    pub(crate) phase: Phase,
    /// How often a request has been moved to another connection.
    moves: u32,
    /// Whether this end has hung up, and the other end must hear of it, on another connection if need be.
    pub(crate) hangs_up: bool,
    pub(crate) resumption: Resumption,
    pub(crate) open: Open,
    pub(crate) send: SendQueue,
    /// When the application last gave a frame.
    pub(crate) given_at: Option<Time>,
    pub(super) flight: Flight,
    pub(super) datagrams: Datagrams,
    pub(super) order: Order,
    /// The other end has closed the stream, and the last datagrams may still come.
    ending: Option<Ending>,
    max_wait: Duration,
    /// The rate last reported to the application, and when.
    told_rate: (Option<u64>, Time),
    /// The frame that closes this direction, sent after everything else.
    farewell: Option<Frame>,
    /// Encoded frames other than audio.
    #[cfg_attr(feature = "recorder", serde(with = "crate::recording::frames"))]
    control: BytesMut,
    /// Whether a write is pending.
    writing: bool,
    /// Whether the other end has closed its direction.
    pub(crate) is_deaf: bool,
    decoder: Decoder,
    pub(super) receiver: AudioReceiver,
    report_armed: bool,
    ack_armed: bool,
    /// Whether to acknowledge with the next write.
    ack_due: bool,
    /// The path that the last audio came on.
    pub(super) heard_via: Via,
    /// When ACK was due last, and the frames received until then.
    pub(crate) acked_at: Option<Time>,
    acked: u64,
    max_payload_bytes: usize,
    frames_sent: u64,
    remote: Option<RemoteAudioReport>,
}

impl Stream {
    pub(crate) fn new(
        id: StreamId,
        peer: PeerId,
        connection: Option<ConnectionId>,
        phase: Phase,
        on_congestion: OnCongestion,
        config: &AviP2pConfig,
    ) -> Self {
        let limits = &config.limits;
        let is_requester = phase != Phase::Unnamed;
        Self {
            id,
            peer,
            connection,
            substream: None,
            phase,
            moves: 0,
            hangs_up: false,
            resumption: Resumption::new(is_requester),
            open: Open::default(),
            send: SendQueue::new(config.audio_queue, limits.audio_queue_bytes, on_congestion),
            given_at: None,
            flight: Flight::new(Path::Ordered),
            datagrams: Datagrams::default(),
            order: Order::new(limits.audio_queue_bytes),
            ending: None,
            max_wait: config.audio_queue,
            told_rate: (None, Time::ZERO),
            farewell: None,
            control: BytesMut::new(),
            writing: false,
            is_deaf: false,
            decoder: Decoder::new(limits.max_audio_frame_bytes + DATA_OVERHEAD_BYTES),
            receiver: AudioReceiver::new(config.audio_queue),
            report_armed: false,
            ack_armed: false,
            ack_due: false,
            heard_via: Via::Substream,
            acked_at: None,
            acked: 0,
            max_payload_bytes: limits.max_audio_frame_bytes,
            frames_sent: 0,
            remote: None,
        }
    }

    /// Whether the application may still use its id.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Unnamed | Phase::Closing | Phase::Leaving)
    }

    /// Whether audio was sent lately.
    pub(crate) fn speaks(&self, now: Time) -> bool {
        self.is_accepted() && self.given_at.is_some_and(|at| now - at < PAUSE)
    }

    /// Whether this is an unanswered request that can be tried again.
    pub(crate) fn can_move(&self) -> bool {
        self.moves < MAX_MOVES && self.is_unanswered()
    }

    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Requested | Phase::Lost { unanswered: true, .. })
    }

    /// Starts the request again on another connection.
    pub(crate) fn move_to(&mut self, connection: ConnectionId) {
        self.detach();
        self.moves += 1;
        self.connection = Some(connection);
        self.phase = Phase::Opening;
    }

    /// Whether it was accepted and is not over.
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Lost { accepted: true, .. } | Phase::Parted | Phase::Resuming)
    }

    /// Leaves connection and substream, with all that was pending there. Returns the substream.
    pub(crate) fn detach(&mut self) -> Option<SubstreamId> {
        self.connection = None;
        self.control.clear();
        self.writing = false;
        (self.report_armed, self.ack_armed, self.ack_due) = (false, false, false);
        if !self.datagrams.is_up() {
            self.flight.change_path(Path::Ordered, None);
        }
        self.decoder = Decoder::new(self.max_payload_bytes + DATA_OVERHEAD_BYTES);
        self.resumption.on_new_substream();
        self.substream.take()
    }

    /// Goes on on another substream, which has been read with `decoder` so far.
    pub(crate) fn attach(&mut self, connection: ConnectionId, substream: SubstreamId, decoder: Decoder) {
        self.phase = Phase::Open;
        self.connection = Some(connection);
        self.substream = Some(substream);
        self.decoder = decoder;
    }

    pub(crate) fn into_parts(self) -> Option<(ConnectionId, SubstreamId, Decoder)> {
        Some((self.connection?, self.substream?, self.decoder))
    }

    /// The other end goes on with this frame. What is missing before it was lost with the old connection.
    pub(crate) fn skip_to(&mut self, next_sequence: u64, out: &mut Outbox) {
        // Otherwise frames before it may still come by datagrams.
        if !self.order.has_seen_datagrams()
            && let Ok(missing) = self.receiver.on_end(next_sequence)
        {
            // The first datagrams may be on their way.
            self.order.skip_to(next_sequence);
            self.tell_last_gap(missing, out);
        }
    }

    pub(crate) fn queue_control(&mut self, frame: &Frame) {
        frame.encode(&mut self.control);
    }

    /// Closes this direction with `frame`, after the queued audio.
    pub(crate) fn part_with(&mut self, frame: Frame) {
        self.phase = Phase::Closing;
        self.farewell = Some(frame);
    }

    /// Discards the queued audio, and waits for a connection on which to close this direction.
    pub(crate) fn leave(&mut self, out: &mut Outbox) {
        (self.phase, self.hangs_up, self.farewell) = (Phase::Leaving, true, None);
        out.stats.audio_frames_dropped += self.send.discard();
    }

    /// Discards the queued audio, because the other end has gone and would not receive it.
    pub(crate) fn fall_silent(&mut self, out: &mut Outbox) {
        self.phase = Phase::Closing;
        self.control.clear();
        self.ack_due = false;
        out.stats.audio_frames_dropped += self.send.discard();
        if let Some(substream) = self.substream {
            out.net(NetAction::Finish { substream });
        }
    }

    /// Whether it is closed, and the last bytes of this direction have been taken.
    pub(crate) fn has_said_all(&self) -> bool {
        self.phase == Phase::Closing && self.farewell.is_none() && !self.writing
    }

    /// The CLOSE frame of a stream that is open or may become so.
    pub(crate) fn close_frame(&self, code: Code) -> Frame {
        Frame::Close { code, next_sequence: self.send.next_sequence(), reason: String::new() }
    }

    pub(crate) fn on_writable(&mut self) {
        self.writing = false;
    }

    /// Writes the data that is due, one write at a time. Returns when more may leave without any other event.
    pub(crate) fn pump(&mut self, now: Time, out: &mut Outbox) -> Option<Time> {
        if self.is_accepted() {
            self.send_datagrams(now, out);
        }
        self.write(now, out);
        let is_stuck = self.writing || (self.substream.is_none() && !self.datagrams.is_up());
        if is_stuck || self.send.is_empty() { None } else { self.flight.opens_at(now) }
    }

    fn write(&mut self, now: Time, out: &mut Outbox) {
        let Some(substream) = self.substream else { return };
        if self.writing || matches!(self.phase, Phase::Lost { .. }) {
            return;
        }
        let mut bytes = std::mem::take(&mut self.control);
        if self.take_ack_due() {
            Frame::Ack(self.receiver.ack()).encode(&mut bytes);
        }
        if !self.send.is_empty() {
            self.take_off(now, &mut bytes, out);
        }
        let farewell = if self.send.is_empty() { self.farewell.take() } else { None };
        if let Some(frame) = &farewell {
            frame.encode(&mut bytes);
        }
        if !bytes.is_empty() {
            self.writing = true;
            out.net(NetAction::Write { substream, bytes: bytes.freeze() });
        }
        if farewell.is_some() {
            out.net(NetAction::Finish { substream });
        }
    }

    /// Answers a PROBE on the substream, unless the other end takes nothing off it.
    pub(super) fn queue_probed(&mut self, token: u64) {
        if self.substream.is_some() && self.control.len() < MAX_PENDING_BYTES {
            self.queue_control(&Frame::Probed { token });
        }
    }

    /// Whether ACK is to be sent now.
    pub(super) fn take_ack_due(&mut self) -> bool {
        let is_due = std::mem::take(&mut self.ack_due);
        if is_due {
            self.acked = self.receiver.arrived();
        }
        is_due
    }

    /// Moves the audio that may leave now to `bytes`.
    fn take_off(&mut self, now: Time, bytes: &mut BytesMut, out: &mut Outbox) {
        // Nobody waits for the acknowledgements of what is left when a stream closes.
        let room = if self.phase == Phase::Closing { usize::MAX } else { self.flight.room_in_order(now) };
        let dropped = self.send.dropped();
        self.send.set_max_age(self.flight.max_wait(self.max_wait));
        if let Some(batch) = self.send.take_batch(now, room.min(BATCH_BYTES), bytes) {
            self.on_sent(now, &batch, out);
        }
        out.stats.audio_frames_dropped += self.send.dropped() - dropped;
    }

    /// Takes the next frame, if it is not longer than `max_bytes`.
    pub(super) fn take_frame(
        &mut self,
        now: Time,
        max_bytes: usize,
        out: &mut Outbox,
    ) -> Option<(Batch, path::AudioFrame)> {
        let dropped = self.send.dropped();
        self.send.set_max_age(self.flight.max_wait(self.max_wait));
        let taken = self.send.take_frame(now, max_bytes);
        out.stats.audio_frames_dropped += self.send.dropped() - dropped;
        taken
    }

    pub(super) fn on_sent(&mut self, now: Time, batch: &Batch, out: &mut Outbox) {
        self.frames_sent += batch.frames;
        out.stats.audio_frames_sent += batch.frames;
        self.flight.on_sent(now, batch, self.send.is_empty());
    }

    /// Decodes bytes of the other end, up to the first frame that changes the stream's phase.
    ///
    /// The error says which rule of the protocol was broken.
    pub(crate) fn on_bytes(&mut self, now: Time, bytes: &mut Bytes, out: &mut Outbox) -> Result<Step, String> {
        while self.phase != Phase::Closing {
            let skipped = self.decoder.skipped();
            let frame = self.decoder.decode(bytes);
            out.stats.frames_skipped += self.decoder.skipped() - skipped;
            let Some(frame) = frame.map_err(|error| self.explain(&error))? else { return Ok(Step::On) };
            match self.on_frame(now, frame, out)? {
                Step::On => {}
                step => return Ok(step),
            }
        }
        bytes.clear();
        Ok(Step::On)
    }

    fn explain(&self, error: &WireError) -> String {
        match error {
            WireError::FrameTooLarge { len, .. } => {
                let max = self.max_payload_bytes;
                format!("a frame of {len} bytes, header included, exceeds limits.max_audio_frame_bytes = {max}")
            }
            error => error.to_string(),
        }
    }

    fn on_frame(&mut self, now: Time, frame: Frame, out: &mut Outbox) -> Result<Step, String> {
        match (&self.phase, frame) {
            (Phase::Open, Frame::Data { sequence, timestamp_us, payload }) => {
                return self.on_audio(now, Via::Substream, path::AudioFrame { sequence, timestamp_us, payload }, out);
            }
            (Phase::Open, Frame::Ack(ack)) => {
                self.on_ack(now, &ack, out);
                return Ok(Step::Acknowledged);
            }
            (Phase::Open, Frame::Report(report)) => {
                self.flight.on_report(now, report.highest_sequence);
                self.tell_rate(now, out);
                self.remote = Some(RemoteAudioReport {
                    highest_sequence: report.highest_sequence,
                    lost: report.lost,
                    late: report.late,
                    jitter: Duration::from_micros(report.jitter_us),
                });
                return Ok(Step::Acknowledged);
            }
            (Phase::Open, Frame::Media(invitation)) => return Ok(Step::Invited(invitation)),
            (Phase::Open, Frame::Probe { token }) => {
                self.queue_probed(token);
                return Ok(Step::Routed);
            }
            (Phase::Open, Frame::Probed { token }) => {
                self.datagrams.on_probed(now, token, Via::Substream);
                return Ok(Step::Routed);
            }
            (Phase::Open, Frame::Close { .. }) if self.ending.is_some() => return Err("CLOSE came again".to_owned()),
            (Phase::Open, Frame::Close { code, next_sequence, .. }) => {
                self.ending = Some(Ending::new(now, next_sequence, close_reason(code)));
                // CLOSE may overtake datagrams, also all of a short call.
                return match self.datagrams.is_heard(now) && self.order.next_sequence() < next_sequence {
                    true => Ok(Step::Routed),
                    false => self.end(out),
                };
            }
            (Phase::Open, Frame::Resumable { token }) => {
                self.resumption.on_given(token)?;
                return Ok(Step::Resumable);
            }
            (Phase::Unnamed, Frame::Resume { token, next_sequence }) => {
                return Ok(Step::Resume { token, next_sequence });
            }
            (Phase::Resuming, Frame::Resume { token, next_sequence }) => {
                self.resumption.check(token)?;
                self.phase = Phase::Open;
                self.skip_to(next_sequence, out);
                return Ok(Step::Resumed);
            }
            (Phase::Resuming, Frame::Reject { .. }) => return Ok(Step::Over(StreamCloseReason::PeerDisconnected)),
            (Phase::Offered, Frame::Close { code, .. }) => return Ok(Step::Over(close_reason(code))),
            (Phase::Unnamed, Frame::Open(open)) => {
                self.open = open;
                return Ok(Step::Offer);
            }
            (Phase::Requested, Frame::Accept) => {
                self.begin();
                out.event(AviEvent::AudioStreamAccepted { peer_id: self.peer.clone(), stream_id: self.id });
            }
            (Phase::Requested, Frame::Reject { code, reason }) => {
                return Ok(Step::Over(match code {
                    Code::Timeout => StreamCloseReason::Timeout,
                    _ => StreamCloseReason::Rejected(reason),
                }));
            }
            (phase, frame) => return Err(format!("{} on a stream that is {}", frame.name(), phase.name())),
        }
        Ok(Step::On)
    }

    /// Handles ACK, on any path.
    pub(super) fn on_ack(&mut self, now: Time, ack: &Ack, out: &mut Outbox) {
        self.flight.on_ack(now, ack);
        self.datagrams.on_ack(now, ack, self.send.dropped());
        self.tell_rate(now, out);
    }

    /// Handles a frame of audio, on any path.
    pub(super) fn on_audio(
        &mut self,
        now: Time,
        via: Via,
        frame: path::AudioFrame,
        out: &mut Outbox,
    ) -> Result<Step, String> {
        self.heard_via = via;
        let sequence = frame.sequence;
        let arrived = self.receiver.arrived();
        // Where datagrams work, what was stuck on the substream is not worth waiting for.
        let is_overdue = self.order.has_seen_datagrams() && self.receiver.is_overdue(now, frame.timestamp_us);
        if is_overdue && via == Via::Substream {
            self.receiver.on_stuck(now, sequence, frame.timestamp_us);
            return Ok(self.heard());
        }
        match self.order.push(now, via, frame) {
            Arrival::Due(frame) => self.on_data(now, frame, out)?,
            Arrival::Waits => {}
            // A substream alone keeps the order.
            Arrival::Duplicate | Arrival::Late if !self.order.has_seen_datagrams() => {
                self.receiver.on_data(now, sequence, 0).map_err(|error| error.to_string())?;
            }
            Arrival::Duplicate | Arrival::Late => {}
        }
        let step = self.release(now, out)?;
        Ok(match step {
            Step::On if self.receiver.arrived() > arrived => self.heard(),
            step => step,
        })
    }

    /// Delivers the frames that have waited long enough for those before them, and ends the stream if the other end has
    /// closed it.
    pub(super) fn release(&mut self, now: Time, out: &mut Outbox) -> Result<Step, String> {
        let arrived = self.receiver.arrived();
        while let Some((came_at, frame)) = self.order.pop(now) {
            self.on_data(came_at, frame, out)?;
        }
        let next = self.order.next_sequence();
        if self.ending.as_ref().is_some_and(|ending| ending.at <= now || ending.next_sequence <= next) {
            return self.end(out);
        }
        Ok(if self.receiver.arrived() > arrived { self.heard() } else { Step::On })
    }

    /// Ends the direction of the other end.
    fn end(&mut self, out: &mut Outbox) -> Result<Step, String> {
        while let Some((came_at, frame)) = self.order.pop_first() {
            self.on_data(came_at, frame, out)?;
        }
        let Some(Ending { next_sequence, reason, .. }) = self.ending.take() else { return Ok(Step::On) };
        let missing = self.receiver.on_end(next_sequence).map_err(|error| format!("CLOSE: {error}"))?;
        self.tell_last_gap(missing, out);
        Ok(Step::Over(reason))
    }

    /// Whether the other end has closed the stream, and its last frames are awaited.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Nobody hears the frames that still wait.
    pub(super) fn forget_order(&mut self) {
        while self.order.pop_first().is_some() {}
        self.ending = None;
    }

    /// When frames that wait are due.
    pub(super) fn order_deadline(&self) -> Option<Time> {
        let ending = self.ending.as_ref().map(|ending| ending.at);
        [self.order.next_deadline(), ending].into_iter().flatten().min()
    }

    /// Audio was delivered: says which reports are due.
    fn heard(&mut self) -> Step {
        if self.ack_armed && self.report_armed {
            return Step::On;
        }
        let ack = !std::mem::replace(&mut self.ack_armed, true);
        let report = !std::mem::replace(&mut self.report_armed, true);
        Step::Heard { ack, report }
    }

    fn on_data(&mut self, now: Time, frame: path::AudioFrame, out: &mut Outbox) -> Result<(), String> {
        let path::AudioFrame { sequence, timestamp_us, payload } = frame;
        if payload.len() > self.max_payload_bytes {
            let max = self.max_payload_bytes;
            return Err(format!(
                "DATA.payload of {} bytes exceeds limits.max_audio_frame_bytes = {max}",
                payload.len()
            ));
        }
        let missing = self.receiver.on_data(now, sequence, timestamp_us).map_err(|error| error.to_string())?;
        out.stats.audio_frames_missing = out.stats.audio_frames_missing.saturating_add(missing);
        out.stats.audio_frames_received += 1;
        let frame = AudioFrame::new(sequence, timestamp_us, now.0, missing, own(payload));
        out.audio(self.peer.clone(), self.id, frame);
        Ok(())
    }

    /// Reports to the application how much the path takes, if that has changed much.
    fn tell_rate(&mut self, now: Time, out: &mut Outbox) {
        let (told, at) = self.told_rate;
        let rate = self.flight.rate_bits_per_second();
        let has_changed = match (told, rate) {
            (Some(told), Some(rate)) => told.abs_diff(rate) > told / 4,
            (told, rate) => told != rate,
        };
        if has_changed && (told.is_none() || now - at >= RATE_EVERY) {
            reached(Situation::RateTold);
            self.told_rate = (rate, now);
            let (peer_id, stream_id) = (self.peer.clone(), self.id);
            out.event(AviEvent::AudioRate { peer_id, stream_id, bits_per_second: rate });
        }
    }

    /// Reports the frames that are missing after the last one. Those before a frame come with it.
    fn tell_last_gap(&self, missing: u64, out: &mut Outbox) {
        if missing > 0 {
            out.stats.audio_frames_missing = out.stats.audio_frames_missing.saturating_add(missing);
            out.event(AviEvent::AudioGap { from: self.peer.clone(), stream_id: self.id, missing });
        }
    }

    /// When the audio that was acknowledged last was sent, and how long it waited in queues. Once for each acknowledgement.
    pub(crate) fn take_acked(&mut self) -> Option<(Time, Duration)> {
        self.flight.take_acked()
    }

    /// Opens the stream, and says that this end acknowledges audio.
    pub(crate) fn begin(&mut self) {
        self.phase = Phase::Open;
        self.queue_control(&Frame::Ack(Ack::default()));
    }

    /// Acknowledges what has arrived with the next write.
    pub(crate) fn acknowledge(&mut self, now: Time) {
        self.ack_armed = false;
        self.ack_due |= self.is_accepted() && self.receiver.arrived() > self.acked;
        self.acked_at = Some(now);
    }

    /// Queues a REPORT, unless the last one is still pending.
    pub(crate) fn report(&mut self) {
        self.report_armed = false;
        if self.control.is_empty() && self.phase == Phase::Open {
            let report = Frame::Report(self.receiver.report());
            self.queue_control(&report);
        }
    }

    pub(crate) fn audio_stats(&self) -> AudioStats {
        let seen = self.receiver.report();
        let (path, path_changes) = self.datagrams.path();
        AudioStats {
            peer_id: self.peer.clone(),
            accepted: self.is_accepted(),
            media: self.open.media.clone(),
            label: self.open.label.clone(),
            frames_given: self.send.next_sequence(),
            frames_sent: self.frames_sent,
            frames_dropped: self.send.dropped(),
            queued_bytes: self.send.queued_bytes(),
            frames_received: self.receiver.received(),
            frames_lost: seen.lost,
            frames_late: seen.late,
            jitter: Duration::from_micros(seen.jitter_us),
            in_flight_bytes: self.flight.in_flight_bytes(),
            queue_delay: self.flight.queue_delay(),
            rate_bits_per_second: self.flight.rate_bits_per_second(),
            path,
            path_changes,
            path_rtt: self.datagrams.rtt(),
            frames_repeated: self.datagrams.copies(),
            remote: self.remote,
            ended: None,
            playout: None,
        }
    }
}

/// Copies audio out of its buffer, which may be far larger and would otherwise be kept until the application reads.
fn own(payload: Bytes) -> Vec<u8> {
    let mut data = Vec::from(payload);
    if data.capacity() - data.len() > DATA_OVERHEAD_BYTES + MAX_PREFIX_BYTES {
        data.shrink_to_fit();
    }
    data
}

fn close_reason(code: Code) -> StreamCloseReason {
    match code {
        Code::Timeout => StreamCloseReason::Timeout,
        _ => StreamCloseReason::RemoteClose,
    }
}
