//! How does a stream use its two paths? Audio goes by datagrams while they arrive, and by the substream otherwise. Each
//! direction decides for itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::io::NetAction;
use super::outbox::Outbox;
use super::stream::{Step, Stream};
use super::streams::{Streams, Timer};
use super::time::Time;
use crate::audio::Path;
use crate::id::StreamId;
use crate::path::{
    AudioFrame, Frames, Key, MAX_PLAINTEXT_BYTES, OVERHEAD_BYTES, OpenError, Opener, REORDER_WITHIN, Redundancy, Route,
    Sealer, Secrets, SessionId, Via, frames,
};
use crate::situation::{Situation, reached};
use crate::stats::AudioPath;
use crate::wire::{Ack, Frame, Invitation};

/// A stream with more frames than this, for longer than a burst, is no call: the substream carries it at less cost, and
/// is fair to others.
const FRAME_EVERY: Duration = Duration::from_millis(2);
const BURST_FRAMES: u32 = 64;
/// For how long such a stream keeps to the substream.
const RUSH_FOR: Duration = Duration::from_secs(2);
/// A peer that sends datagrams sends one in this time: ACKs or audio, or the PROBE of a path that is not used.
const HEARD_WITHIN: Duration = Duration::from_secs(6);
/// The most invitations of a stream: one for each change of the peer's port or connection.
const MAX_INVITATIONS: u32 = 1_000;

/// The datagrams of one stream.
#[derive(Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Datagrams {
    inbound: Option<Inbound>,
    outbound: Option<Outbound>,
    /// What came while this node had no socket.
    unused: Option<Invitation>,
    invitations: u32,
    pace: Pace,
    changes: u64,
}

/// The session in which the other end sends.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Inbound {
    id: SessionId,
    key: Key,
    opener: Opener,
    /// When the last authentic datagram came.
    heard_at: Option<Time>,
}

/// The session in which this end sends.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Outbound {
    id: SessionId,
    port: u16,
    sealer: Sealer,
    route: Route,
    redundancy: Redundancy,
    was_up: bool,
}

/// Whether frames come so fast that they are no call. A token bucket.
#[derive(Debug, Default)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Pace {
    /// When the bucket will be full again.
    full_at: Time,
    rushes_until: Time,
}

impl Pace {
    fn is_rush(&self, now: Time) -> bool {
        now < self.rushes_until
    }

    fn on_frame(&mut self, now: Time) {
        let empty_at = now + FRAME_EVERY * BURST_FRAMES;
        self.full_at = self.full_at.max(now) + FRAME_EVERY;
        if self.full_at > empty_at {
            (self.full_at, self.rushes_until) = (empty_at, now + RUSH_FOR);
        }
    }
}

impl Datagrams {
    /// The address that takes audio now.
    fn address(&self, now: Time) -> Option<SocketAddr> {
        self.outbound.as_ref().and_then(|outbound| outbound.route.address()).filter(|_| !self.pace.is_rush(now))
    }

    /// What the other end's datagrams begin with.
    #[cfg(feature = "recorder")]
    pub(super) fn session(&self) -> Option<[u8; 8]> {
        self.inbound.as_ref().map(|inbound| *inbound.id.as_bytes())
    }

    pub(super) fn is_up(&self) -> bool {
        self.outbound.as_ref().is_some_and(|outbound| outbound.route.is_up())
    }

    /// Whether authentic datagrams come from the peer.
    pub(super) fn is_heard(&self, now: Time) -> bool {
        let heard_at = self.inbound.as_ref().and_then(|inbound| inbound.heard_at);
        heard_at.is_some_and(|at| now - at <= HEARD_WITHIN)
    }

    pub(super) fn on_given(&mut self, now: Time) {
        self.pace.on_frame(now);
    }

    /// The path of the audio that this end sends, and how often it changed.
    pub(super) fn path(&self) -> (AudioPath, u64) {
        (if self.is_up() { AudioPath::Datagrams } else { AudioPath::Substream }, self.changes)
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.outbound.as_ref()?.route.stats().rtt
    }

    pub(super) fn copies(&self) -> u64 {
        self.outbound.as_ref().map_or(0, |outbound| outbound.redundancy.copies())
    }

    /// Handles ACK; `dropped` frames have a number and never left.
    pub(super) fn on_ack(&mut self, now: Time, ack: &Ack, dropped: u64) {
        if let Some(outbound) = self.outbound.as_mut().filter(|_| ack.received > 0) {
            outbound.route.on_ack(ack.highest_sequence);
            outbound.redundancy.on_ack(now, ack.highest_sequence, ack.received, dropped);
        }
    }

    pub(super) fn on_probed(&mut self, now: Time, token: u64, via: Via) {
        if let Some(outbound) = &mut self.outbound {
            outbound.route.on_probed(now, token, via);
        }
    }
}

impl Stream {
    /// Invites the other end to send datagrams to this port. Returns the session if it is a new one.
    fn invite(&mut self, port: u16, secrets: &mut Secrets) -> Option<SessionId> {
        let mut new = None;
        let inbound = self.datagrams.inbound.get_or_insert_with(|| {
            let (id, key) = secrets.session();
            new = Some(id);
            Inbound { id, opener: secrets.opener(id, &key), key, heard_at: None }
        });
        let (id, key) = (inbound.id, inbound.key.clone());
        self.queue_control(&Frame::Media(Invitation { port, id, key }));
        new
    }

    /// Handles the other end's invitation. `ip` is its address on the stream's connection.
    fn on_invited(
        &mut self,
        now: Time,
        invitation: &Invitation,
        ip: Option<IpAddr>,
        secrets: &Secrets,
    ) -> Result<(), String> {
        let Invitation { port, id, key } = invitation;
        let told = ip.map(|ip| SocketAddr::new(ip, *port));
        self.datagrams.invitations += 1;
        if self.datagrams.invitations > MAX_INVITATIONS {
            return Err("MEDIA came too often".to_owned());
        }
        match &mut self.datagrams.outbound {
            // The same session again: a second sealer would use its counters twice.
            Some(outbound) if outbound.id == *id => {
                outbound.port = *port;
                outbound.route.on_told(now, told);
            }
            Some(outbound) => {
                (outbound.id, outbound.port, outbound.sealer) = (*id, *port, secrets.sealer(*id, key));
                outbound.route.on_told(now, told);
            }
            outbound => {
                let (sealer, route) = (secrets.sealer(*id, key), Route::new(now, told));
                let redundancy = Redundancy::default();
                *outbound = Some(Outbound { id: *id, port: *port, sealer, route, redundancy, was_up: false });
            }
        }
        Ok(())
    }

    fn open_datagram(&mut self, now: Time, from: SocketAddr, datagram: Bytes) -> Result<Frames, OpenError> {
        let len = datagram.len();
        let inbound = self.datagrams.inbound.as_mut().ok_or(OpenError::OtherSession)?;
        let opened = inbound.opener.open(datagram)?;
        inbound.heard_at = Some(now);
        self.order.on_datagram(now);
        if let Some(outbound) = &mut self.datagrams.outbound {
            outbound.route.on_datagram(now, from, len, opened.is_newest);
        }
        Ok(frames(opened.plaintext))
    }

    /// Handles a frame of an authentic datagram.
    fn on_datagram_frame(
        &mut self,
        now: Time,
        from: SocketAddr,
        frame: Frame,
        out: &mut Outbox,
    ) -> Result<Step, String> {
        match frame {
            Frame::Data { sequence, timestamp_us, payload } => {
                self.on_audio(now, Via::Datagram, AudioFrame { sequence, timestamp_us, payload }, out)
            }
            Frame::Ack(ack) => {
                self.on_ack(now, &ack, out);
                Ok(Step::Acknowledged)
            }
            Frame::Probe { token } => {
                self.answer(from, token, out);
                Ok(Step::Routed)
            }
            Frame::Probed { token } => {
                self.datagrams.on_probed(now, token, Via::Datagram);
                Ok(Step::Routed)
            }
            _ => Ok(Step::On),
        }
    }

    /// Answers PROBE: on the substream, in case that the other direction is blocked, and where it came from.
    fn answer(&mut self, to: SocketAddr, token: u64, out: &mut Outbox) {
        let probed = Frame::Probed { token };
        self.queue_probed(token);
        if let Some(outbound) = &mut self.datagrams.outbound
            && outbound.route.may_answer(to)
        {
            let mut bytes = BytesMut::new();
            probed.encode(&mut bytes);
            send(&mut outbound.sealer, to, &bytes, out);
        }
    }

    /// Sends the audio and the acknowledgements that may leave by datagrams. What is too large for them stays.
    pub(super) fn send_datagrams(&mut self, now: Time, out: &mut Outbox) {
        let Some(to) = self.datagrams.address(now) else { return };
        while let Some(batch) = self.next_datagram(now, to, out) {
            self.on_sent(now, &batch, out);
        }
        if self.take_ack_for_datagram() {
            let mut bytes = BytesMut::new();
            Frame::Ack(self.receiver.ack()).encode(&mut bytes);
            if let Some(outbound) = &mut self.datagrams.outbound {
                let len = send(&mut outbound.sealer, to, &bytes, out);
                outbound.route.on_sent(now, None, len);
            }
        }
    }

    /// Whether ACK is to be sent now, by a datagram. What came on the substream is acknowledged there: the other end waits
    /// for that, and a datagram may be lost.
    fn take_ack_for_datagram(&mut self) -> bool {
        self.heard_via == Via::Datagram && self.take_ack_due()
    }

    fn next_datagram(&mut self, now: Time, to: SocketAddr, out: &mut Outbox) -> Option<crate::audio::Batch> {
        if self.send.is_empty() || self.flight.room(now) == 0 {
            return None;
        }
        let max_bytes = self.datagrams.outbound.as_ref()?.route.max_datagram_bytes() - OVERHEAD_BYTES;
        let (batch, frame) = self.take_frame(now, max_bytes, out)?;
        let ack = self.take_ack_for_datagram().then(|| Frame::Ack(self.receiver.ack()));
        let Outbound { sealer, route, redundancy, .. } = self.datagrams.outbound.as_mut()?;
        let sequence = frame.sequence;
        // On a limited path a copy would take the place of another frame.
        let room = if self.flight.rate_bits_per_second().is_some() { 0 } else { max_bytes };
        let (before, frame) = redundancy.pack(now, frame, room);
        let mut bytes = BytesMut::with_capacity(MAX_PLAINTEXT_BYTES.min(2 * frame.encoded_bytes() + 40));
        before.iter().for_each(|before| before.encode(&mut bytes));
        frame.encode(&mut bytes);
        let mut acked = BytesMut::new();
        ack.iter().for_each(|ack| ack.encode(&mut acked));
        if bytes.len() + acked.len() <= max_bytes {
            bytes.extend_from_slice(&acked);
        } else {
            let len = send(sealer, to, &acked, out);
            route.on_sent(now, None, len);
        }
        let len = send(sealer, to, &bytes, out);
        route.on_sent(now, Some(sequence), len);
        Some(batch)
    }

    /// Sends the PROBEs that are due. Returns the next time that the route must be looked at, and whether the path of
    /// the audio has changed.
    fn drain_route(&mut self, now: Time, secrets: &mut Secrets, out: &mut Outbox) -> Option<(Option<Time>, bool)> {
        let outbound = self.datagrams.outbound.as_mut()?;
        while let Some(probe) = outbound.route.poll_transmit(now, || secrets.token()) {
            let mut bytes = BytesMut::new();
            Frame::Probe { token: probe.token }.encode(&mut bytes);
            send(&mut outbound.sealer, probe.to, &bytes, out);
        }
        let (deadline, is_up) = (outbound.route.next_deadline(), outbound.route.is_up());
        let has_changed = std::mem::replace(&mut outbound.was_up, is_up) != is_up;
        if has_changed {
            tracing::debug!(stream = %self.id, is_up, "audio changes its path");
            reached(if is_up { Situation::CallToDatagrams } else { Situation::CallToSubstream });
            self.datagrams.changes += 1;
            self.flight.change_path(if is_up { Path::Lossy } else { Path::Ordered }, outbound.route.stats().rtt);
        }
        Some((deadline, has_changed))
    }
}

/// Seals and sends frames. Returns the bytes of the datagram.
fn send(sealer: &mut Sealer, to: SocketAddr, frames: &[u8], out: &mut Outbox) -> usize {
    match sealer.seal(frames.len(), |datagram| datagram.extend_from_slice(frames)) {
        Ok(bytes) => {
            let len = bytes.len();
            out.net(NetAction::SendDatagram { to, bytes });
            len
        }
        // All counters are used, or the frames are too long: like a lost datagram.
        Err(error) => {
            tracing::debug!(%error, "a datagram is not sent");
            0
        }
    }
}

impl Streams {
    /// This node receives datagrams at another port, or no more.
    pub(crate) fn on_port(&mut self, now: Time, port: Option<u16>, out: &mut Outbox) {
        if std::mem::replace(&mut self.port, port) == port || port.is_none() {
            return;
        }
        let open = self.streams.values().filter(|stream| stream.is_accepted() && stream.substream.is_some());
        for id in open.map(|stream| stream.id).collect::<Vec<_>>() {
            self.invite(id, out);
            let unused = self.streams.get_mut(&id).and_then(|stream| stream.datagrams.unused.take());
            if let Some(Err(broken)) = unused.map(|invitation| self.on_invited(now, id, &invitation)) {
                self.on_broken_rule(id, broken, out);
                continue;
            }
            self.follow_path(now, id, out);
            self.pump(now, id, out);
        }
    }

    /// Invites the other end of an accepted stream to send datagrams, with the next write.
    pub(super) fn invite(&mut self, id: StreamId, out: &mut Outbox) {
        let Some((port, stream)) = self.port.zip(self.streams.get_mut(&id)) else { return };
        if let Some(session) = stream.invite(port, &mut self.secrets) {
            self.by_session.insert(session, id);
            out.net(NetAction::ExpectDatagrams { id: *session.as_bytes() });
        }
    }

    pub(super) fn on_invited(&mut self, now: Time, id: StreamId, invitation: &Invitation) -> Result<(), String> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if self.port.is_none() {
            stream.datagrams.unused = Some(invitation.clone());
            return Ok(());
        }
        stream.datagrams.unused = None;
        let ip = stream.connection.and_then(|connection| self.remotes.get(&connection)).copied();
        stream.on_invited(now, invitation, ip, &self.secrets)
    }

    /// Handles a datagram. It says nothing about the connection to its peer, which may be dead nevertheless.
    pub(crate) fn on_datagram(&mut self, now: Time, from: SocketAddr, datagram: Bytes, out: &mut Outbox) {
        let Some(&id) = SessionId::of(&datagram).and_then(|session| self.by_session.get(&session)) else {
            out.stats.datagrams_ignored = out.stats.datagrams_ignored.saturating_add(1);
            return;
        };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let mut frames = match stream.open_datagram(now, from, datagram) {
            Ok(frames) => frames,
            Err(error) => {
                tracing::trace!(%from, %error, "a datagram is ignored");
                out.stats.datagrams_ignored = out.stats.datagrams_ignored.saturating_add(1);
                return;
            }
        };
        #[cfg(feature = "recorder")]
        self.secrets.on_opened(frames.rest());
        out.stats.datagrams_received += 1;
        let mut has_answered = false;
        for frame in frames.by_ref() {
            let Some(stream) = self.streams.get_mut(&id) else { break };
            // One answer is no larger than what came.
            if matches!(frame, Ok(Frame::Probe { .. })) && std::mem::replace(&mut has_answered, true) {
                continue;
            }
            let frame = frame.map_err(|error| error.to_string());
            let step = frame.and_then(|frame| stream.on_datagram_frame(now, from, frame, out));
            match step {
                Ok(Step::Acknowledged) => self.on_acknowledged(id),
                Ok(Step::Heard { ack, report }) => self.on_heard(now, id, ack, report),
                Ok(Step::Over(reason)) => {
                    self.on_goodbye(now, id, reason, out);
                    break;
                }
                Ok(_) => {}
                Err(broken) => {
                    self.on_broken_rule(id, broken, out);
                    break;
                }
            }
        }
        out.stats.frames_skipped += frames.skipped();
        self.follow_path(now, id, out);
        self.pump(now, id, out);
    }

    /// A datagram could not leave this machine.
    pub(crate) fn on_datagram_dropped(&mut self, now: Time, to: SocketAddr, out: &mut Outbox) {
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            let outbound = self.streams.get_mut(&id).and_then(|stream| stream.datagrams.outbound.as_mut());
            if let Some(outbound) = outbound.filter(|outbound| outbound.route.address() == Some(to)) {
                outbound.route.on_dropped(now);
                self.follow_path(now, id, out);
            }
        }
    }

    /// The addresses of this machine have changed.
    pub(crate) fn on_interfaces_changed(&mut self, now: Time, out: &mut Outbox) {
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            if let Some(outbound) = self.streams.get_mut(&id).and_then(|stream| stream.datagrams.outbound.as_mut()) {
                outbound.route.on_interfaces_changed(now);
                self.follow_path(now, id, out);
            }
        }
    }

    /// The stream is on another connection: its peer may be at another address.
    pub(super) fn on_moved(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        self.invite(id, out);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let ip = stream.connection.and_then(|connection| self.remotes.get(&connection)).copied();
        if let Some(outbound) = &mut stream.datagrams.outbound {
            let port = outbound.port;
            outbound.route.on_told(now, ip.map(|ip| SocketAddr::new(ip, port)));
        }
    }

    pub(super) fn on_route_due(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        let outbound = self.streams.get_mut(&id).and_then(|stream| stream.datagrams.outbound.as_mut());
        if let Some(outbound) = outbound {
            outbound.route.handle_timeout(now);
        }
        self.follow_path(now, id, out);
    }

    /// The frames that waited for others are due.
    pub(super) fn on_order_due(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match stream.release(now, out) {
            Ok(Step::Heard { ack, report }) => self.on_heard(now, id, ack, report),
            Ok(Step::Over(reason)) => self.on_goodbye(now, id, reason, out),
            Ok(_) => {}
            Err(broken) => return self.on_broken_rule(id, broken, out),
        }
        self.follow_path(now, id, out);
        self.pump(now, id, out);
    }

    /// Carries out what the route of a stream has decided, and sets its timers.
    pub(super) fn follow_path(&mut self, now: Time, id: StreamId, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let order_at = stream.order_deadline().filter(|_| stream.is_accepted());
        let route = if stream.is_accepted() { stream.drain_route(now, &mut self.secrets, out) } else { None };
        let (route_at, has_changed) = route.unwrap_or_default();
        for (timer, at) in [(Timer::Route, route_at), (Timer::Order, order_at)] {
            match at {
                Some(at) => self.timers.set((id, timer), at),
                None => self.timers.stop(&(id, timer)),
            }
        }
        if has_changed {
            self.pump(now, id, out);
        }
    }

    /// Sets the timer of a route that has sent something.
    pub(super) fn watch_route(&mut self, id: StreamId) {
        let outbound = self.streams.get(&id).and_then(|stream| stream.datagrams.outbound.as_ref());
        if let Some(at) = outbound.and_then(|outbound| outbound.route.next_deadline()) {
            self.timers.set((id, Timer::Route), at);
        }
    }

    /// Forgets the sessions of a stream that is over, with their keys.
    pub(super) fn end_sessions(&mut self, id: StreamId, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(inbound) = stream.datagrams.inbound.take() {
            self.by_session.remove(&inbound.id);
            out.net(NetAction::ForgetDatagrams { id: *inbound.id.as_bytes() });
        }
    }
}

/// The last frame of a direction, which waits for datagrams that are still on their way.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Ending {
    pub(super) next_sequence: u64,
    pub(super) reason: crate::error::StreamCloseReason,
    pub(super) at: Time,
}

impl Ending {
    pub(super) fn new(now: Time, next_sequence: u64, reason: crate::error::StreamCloseReason) -> Self {
        Self { next_sequence, reason, at: now + REORDER_WITHIN }
    }
}
