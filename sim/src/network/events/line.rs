//! What happens between two machines whose links lose and delay packets? Connections as TCP makes them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use avi_p2p::transport::BoxByteStream;
use futures::channel::oneshot;
use futures::io::{AsyncRead, AsyncWrite};

use super::tcp::{Endpoint, Packet, Read};
use super::{Aftermath, BACKLOG, Delivery, Events, State, What};
use crate::network::Host;

/// The headers of a packet without data.
const BARE_BYTES: usize = 60;
/// After this long, a dial is tried again (Linux), and so often; the time doubles.
const SYN_AFTER: Duration = Duration::from_secs(1);
const SYN_RETRIES: u32 = 6;

/// One end of a connection: the connection's number, and whether this end dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndId(pub(super) u64, pub(super) bool);

impl EndId {
    fn other(self) -> Self {
        Self(self.0, !self.1)
    }
}

/// The state of an end.
pub(super) struct End {
    pub(super) host: Host,
    pub(super) peer: Host,
    endpoint: Endpoint,
    phase: Phase,
    is_reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The next entry of the heap that is for this end's timers.
    timer: Option<Duration>,
    /// Without jitter of the links, packets of an end keep their order.
    last_at: Duration,
}

enum Phase {
    Dialling {
        from: SocketAddr,
        to: SocketAddr,
        tries: u32,
        again_at: Duration,
        answer: Answer,
    },
    Open,
    /// The application has dropped its end. What it wrote is still on its way.
    Lingering,
}

pub(super) type Answer = oneshot::Sender<io::Result<BoxByteStream>>;

/// What a packet says.
#[derive(Clone, Debug)]
pub(super) enum Says {
    Syn { from: SocketAddr, to: SocketAddr },
    SynAck,
    Segment(Packet),
    Reset,
}

impl Says {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Syn { .. } | Self::SynAck | Self::Reset => BARE_BYTES,
            Self::Segment(packet) => packet.len(),
        }
    }
}

impl End {
    fn new(host: Host, peer: Host, phase: Phase) -> Self {
        Self {
            host,
            peer,
            endpoint: Endpoint::new(),
            phase,
            is_reset: false,
            reader: None,
            writer: None,
            timer: None,
            last_at: Duration::ZERO,
        }
    }

    fn next_timer(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Dialling { again_at, .. } => Some(*again_at),
            _ if self.is_reset => None,
            _ => self.endpoint.next_timer(),
        }
    }

    fn reset(&mut self, aftermath: &mut Aftermath) {
        self.is_reset = true;
        aftermath.wakers.extend([self.reader.take(), self.writer.take()].into_iter().flatten());
    }
}

impl State {
    /// Begins a connection.
    pub(super) fn dial(&mut self, from: SocketAddr, to: SocketAddr, hosts: (Host, Host), answer: Answer) {
        self.next_connection += 1;
        let (id, (host, peer)) = (EndId(self.next_connection, true), hosts);
        let again_at = self.now() + SYN_AFTER;
        self.ends.insert(id, End::new(host, peer, Phase::Dialling { from, to, tries: 0, again_at, answer }));
        self.transmit(id, hosts, Says::Syn { from, to });
        self.flush(id);
    }

    /// Sends a packet over the sender's uplink, and then over whatever lies between the two machines. `id` is the
    /// sending end.
    fn transmit(&mut self, id: EndId, (from, to): (Host, Host), says: Says) {
        let (now, bytes) = (self.now(), says.len());
        let Some(sender) = self.hosts.get_mut(from.0 as usize) else { return };
        sender.bytes_sent += bytes as u64;
        let fate = self.access(from, to).map_or_else(|| super::straight(now), |link| link.up(now, bytes));
        let last_at = self.ends.get(&id).map_or(Duration::ZERO, |end| end.last_at);
        for at in [fate.at, fate.again].into_iter().flatten() {
            let at = (at + self.distance(from, to)).max(last_at);
            if let Some(end) = self.ends.get_mut(&id).filter(|_| fate.again.is_none()) {
                end.last_at = at;
            }
            let what = What::Packet { to: id.other(), says: Box::new(says.clone()), has_crossed: false };
            self.schedule(at, Delivery { from, to, what });
        }
    }

    /// A packet is at the end of its way, or before its last part, the receiver's downlink.
    pub(super) fn on_packet(
        &mut self,
        at: Duration,
        hosts: (Host, Host),
        to: EndId,
        says: Says,
        has_crossed: bool,
        aftermath: &mut Aftermath,
    ) {
        match self.access(hosts.1, hosts.0).filter(|_| !has_crossed) {
            None => self.hear(hosts, to, says, aftermath),
            Some(link) => {
                let fate = link.down(at, says.len());
                for at in [fate.at, fate.again].into_iter().flatten() {
                    let what = What::Packet { to, says: Box::new(says.clone()), has_crossed: true };
                    self.schedule(at, Delivery { from: hosts.0, to: hosts.1, what });
                }
            }
        }
    }

    fn hear(&mut self, (from, to): (Host, Host), id: EndId, says: Says, aftermath: &mut Aftermath) {
        let Some(end) = self.ends.get_mut(&id) else { return self.hear_for_nobody((from, to), id, says, aftermath) };
        match says {
            // The answer to it was lost.
            Says::Syn { .. } => self.transmit(id, (to, from), Says::SynAck),
            Says::SynAck => self.on_connected(id, aftermath),
            Says::Reset => match std::mem::replace(&mut end.phase, Phase::Open) {
                Phase::Dialling { answer, .. } => {
                    self.ends.remove(&id);
                    aftermath.refused.extend(answer.send(Err(io::ErrorKind::ConnectionRefused.into())).err());
                }
                Phase::Open => end.reset(aftermath),
                Phase::Lingering => drop(self.ends.remove(&id)),
            },
            Says::Segment(packet) => {
                self.on_connected(id, aftermath);
                self.on_segment(id, packet, aftermath);
            }
        }
    }

    fn on_segment(&mut self, id: EndId, packet: Packet, aftermath: &mut Aftermath) {
        let now = self.now();
        let Some(end) = self.ends.get_mut(&id).filter(|end| !end.is_reset) else { return };
        let is_lingering = matches!(end.phase, Phase::Lingering);
        if is_lingering && packet.has_bytes() {
            let hosts = (end.host, end.peer);
            self.ends.remove(&id);
            return self.transmit(id, hosts, Says::Reset);
        }
        end.endpoint.on_packet(now, packet);
        if end.endpoint.is_readable() {
            aftermath.wakers.extend(end.reader.take());
        }
        if end.endpoint.is_writable() {
            aftermath.wakers.extend(end.writer.take());
        }
        self.flush(id);
        if is_lingering && self.ends.get(&id).is_some_and(|end| end.endpoint.is_done()) {
            self.ends.remove(&id);
        }
    }

    fn hear_for_nobody(&mut self, (from, to): (Host, Host), id: EndId, says: Says, aftermath: &mut Aftermath) {
        let answer = match says {
            Says::Syn { from: dialler, to: listener } => self.on_syn((from, to), id, dialler, listener, aftermath),
            Says::Segment(packet) => match packet.farewell() {
                Some(ack) => Says::Segment(ack),
                None if packet.has_bytes() => Says::Reset,
                None => return,
            },
            // A dial that was given up.
            Says::SynAck => Says::Reset,
            Says::Reset => return,
        };
        self.transmit(id, (to, from), answer);
    }

    fn on_syn(
        &mut self,
        (from, to): (Host, Host),
        id: EndId,
        dialler: SocketAddr,
        listener: SocketAddr,
        aftermath: &mut Aftermath,
    ) -> Says {
        let backlog = self.hosts.get_mut(to.0 as usize).and_then(|host| host.listeners.get_mut(&listener.port()));
        match (backlog.filter(|backlog| backlog.waiting.len() < BACKLOG), self.me.upgrade()) {
            (Some(backlog), Some(state)) => {
                backlog.waiting.push_back((Box::pin(Line { events: Events { state }, id }), dialler));
                aftermath.wakers.extend(backlog.waker.take());
                self.ends.insert(id, End::new(to, from, Phase::Open));
                Says::SynAck
            }
            _ => Says::Reset,
        }
    }

    fn on_connected(&mut self, id: EndId, aftermath: &mut Aftermath) {
        let Some(end) = self.ends.get_mut(&id).filter(|end| matches!(end.phase, Phase::Dialling { .. })) else {
            return;
        };
        if let (Phase::Dialling { answer, .. }, Some(state)) =
            (std::mem::replace(&mut end.phase, Phase::Open), self.me.upgrade())
        {
            let line = Line { events: Events { state }, id };
            aftermath.refused.extend(answer.send(Ok(Box::pin(line))).err());
        }
    }

    pub(super) fn on_timer(&mut self, id: EndId, at: Duration, aftermath: &mut Aftermath) {
        let now = self.now();
        let Some(end) = self.ends.get_mut(&id).filter(|end| end.timer == Some(at)) else { return };
        end.timer = None;
        let hosts = (end.host, end.peer);
        match &mut end.phase {
            Phase::Dialling { answer, tries, .. } if answer.is_canceled() || *tries == SYN_RETRIES => {
                // The dialler's own patience ends before that of the system.
                if answer.is_canceled() {
                    self.ends.remove(&id);
                } else {
                    end.phase = Phase::Open;
                    end.reset(aftermath);
                }
                return;
            }
            Phase::Dialling { from, to, tries, again_at, .. } => {
                *tries += 1;
                *again_at = now + SYN_AFTER * 2u32.pow(*tries);
                let says = Says::Syn { from: *from, to: *to };
                self.transmit(id, hosts, says);
            }
            Phase::Open | Phase::Lingering => {
                end.endpoint.on_timer(now);
                if end.endpoint.has_given_up() {
                    end.reset(aftermath);
                }
                if end.is_reset && matches!(end.phase, Phase::Lingering) {
                    self.ends.remove(&id);
                }
            }
        }
        self.flush(id);
    }

    /// Sends what an end may send now, and sets its timer.
    fn flush(&mut self, id: EndId) {
        let now = self.now();
        while let Some(end) = self.ends.get_mut(&id).filter(|end| !end.is_reset) {
            let hosts = (end.host, end.peer);
            let packet = if matches!(end.phase, Phase::Dialling { .. }) { None } else { end.endpoint.poll_packet(now) };
            let Some(packet) = packet else { break };
            self.transmit(id, hosts, Says::Segment(packet));
        }
        let Some(end) = self.ends.get_mut(&id) else { return };
        if let Some(next) = end.next_timer().filter(|next| end.timer.is_none_or(|timer| *next < timer)) {
            // An earlier entry finds that nothing is due, and sets the timer again.
            end.timer = Some(next);
            let host = end.host;
            self.schedule(next, Delivery { from: host, to: host, what: What::Timer { end: id, at: next } });
        }
    }

    /// A machine has lost power: its connections are gone, and nobody is told.
    pub(super) fn forget_ends(&mut self, host: Host) {
        self.ends.retain(|_, end| end.host != host);
    }

    /// Breaks the connections between two groups.
    pub(super) fn break_ends(&mut self, is_across: impl Fn(Host, Host) -> bool, aftermath: &mut Aftermath) {
        for end in self.ends.values_mut().filter(|end| is_across(end.host, end.peer) || is_across(end.peer, end.host)) {
            end.reset(aftermath);
        }
    }
}

/// An application's end of a connection.
pub(super) struct Line {
    events: Events,
    id: EndId,
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.events.lock();
        let Some(end) = state.ends.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        match end.endpoint.read(buffer) {
            Read::Bytes(len) => {
                state.flush(self.id);
                Poll::Ready(Ok(len))
            }
            Read::Nothing | Read::End if end.is_reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Read::End => Poll::Ready(Ok(0)),
            Read::Nothing => {
                end.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.events.lock();
        let Some(end) = state.ends.get_mut(&self.id).filter(|end| !end.is_reset) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if end.endpoint.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = end.endpoint.write(buffer);
        if len == 0 && !buffer.is_empty() {
            end.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.flush(self.id);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.events.lock();
        if let Some(end) = state.ends.get_mut(&self.id) {
            end.endpoint.close();
            state.flush(self.id);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.events.lock();
        let Some(end) = state.ends.get_mut(&self.id) else { return };
        let (hosts, is_reset) = ((end.host, end.peer), end.is_reset);
        // Like Linux: unread data means a reset. Otherwise what was written still goes out, and then the end.
        if end.endpoint.has_unread() && !is_reset {
            state.transmit(self.id, hosts, Says::Reset);
        }
        let Some(end) = state.ends.get_mut(&self.id) else { return };
        if is_reset || end.endpoint.has_unread() {
            state.ends.remove(&self.id);
            return;
        }
        end.endpoint.close();
        end.phase = Phase::Lingering;
        state.flush(self.id);
        if state.ends.get(&self.id).is_some_and(|end| end.endpoint.is_done()) {
            state.ends.remove(&self.id);
        }
    }
}
