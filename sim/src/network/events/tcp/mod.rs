//! What does TCP make of a link that delays and loses packets? One end of a connection, as a pure state machine.
//!
//! It follows Linux with its defaults: CUBIC (RFC 9438) with an initial window of ten segments (RFC 6928), selective
//! acknowledgements, RACK and tail loss probes (RFC 8985), retransmission timeouts of 200 ms to 120 s with backoff (RFC
//! 6298), delayed acknowledgements of at most 40 ms, `TCP_NODELAY`, and a send buffer that grows with the congestion
//! window. Not modelled: HyStart, proportional rate reduction (RFC 6937), the undoing of a timeout that came too early,
//! window scaling, and urgent data. Sequence numbers count segments, not bytes.

mod congestion;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

use self::receiver::Receiver;
use self::sender::Sender;

/// Most bytes of data in a segment: Ethernet's 1,500 less the headers of IPv4 and of TCP with timestamps.
pub(super) const SEGMENT_BYTES: usize = 1448;
/// IPv4, and TCP with timestamps.
const HEADER_BYTES: usize = 52;
/// What a receiver holds for an application that does not read.
const WINDOW_BYTES: usize = super::WINDOW_BYTES;

/// A packet of a connection.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) data: Option<Data>,
    pub(super) ack: Ack,
}

/// The data of a segment.
#[derive(Clone, Debug)]
pub(super) struct Data {
    number: u64,
    bytes: Bytes,
    /// Whether it is the last one.
    is_last: bool,
}

/// What the sender of a packet has received.
#[derive(Clone, Debug, Default)]
pub(super) struct Ack {
    /// All segments before this one have arrived.
    next: u64,
    /// Ranges of later segments that have arrived, the newest first, at most three.
    ahead: Vec<(u64, u64)>,
    /// The bytes that it still takes.
    window: usize,
}

impl Packet {
    /// The bytes of the whole packet.
    pub(super) fn len(&self) -> usize {
        HEADER_BYTES + self.data.as_ref().map_or(0, |data| data.bytes.len())
    }

    pub(super) fn has_bytes(&self) -> bool {
        self.data.as_ref().is_some_and(|data| !data.bytes.is_empty())
    }

    /// The acknowledgement of a last packet without data, which a system gives after the application has gone.
    pub(super) fn farewell(&self) -> Option<Packet> {
        let data = self.data.as_ref().filter(|data| data.is_last && data.bytes.is_empty())?;
        Some(Self { data: None, ack: Ack { next: data.number + 1, ahead: Vec::new(), window: WINDOW_BYTES } })
    }
}

/// What a read finds.
pub(super) enum Read {
    Bytes(usize),
    End,
    Nothing,
}

/// One end of a connection.
pub(super) struct Endpoint {
    sender: Sender,
    receiver: Receiver,
}

impl Endpoint {
    pub(super) fn new() -> Self {
        Self { sender: Sender::new(), receiver: Receiver::default() }
    }

    /// Takes what fits into the send buffer; 0: nothing does until [`Endpoint::is_writable`].
    pub(super) fn write(&mut self, buffer: &[u8]) -> usize {
        self.sender.write(buffer)
    }

    pub(super) fn is_writable(&self) -> bool {
        self.sender.is_writable()
    }

    /// No more is written.
    pub(super) fn close(&mut self) {
        self.sender.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Read {
        self.receiver.read(buffer)
    }

    /// Whether a read finds anything.
    pub(super) fn is_readable(&self) -> bool {
        self.receiver.is_readable()
    }

    pub(super) fn has_unread(&self) -> bool {
        self.receiver.has_unread()
    }

    /// A packet of the other end has arrived.
    pub(super) fn on_packet(&mut self, now: Duration, packet: Packet) {
        self.sender.on_ack(now, &packet.ack);
        if let Some(data) = packet.data {
            self.receiver.on_data(now, data);
        }
    }

    /// Does what is due.
    pub(super) fn on_timer(&mut self, now: Duration) {
        self.sender.on_timer(now);
        self.receiver.on_timer(now);
    }

    pub(super) fn next_timer(&self) -> Option<Duration> {
        [self.sender.next_timer(), self.receiver.next_timer()].into_iter().flatten().min()
    }

    /// The next packet to send now.
    pub(super) fn poll_packet(&mut self, now: Duration) -> Option<Packet> {
        let data = self.sender.poll_data(now);
        if data.is_none() && !self.receiver.owes_ack() {
            return None;
        }
        Some(Packet { data, ack: self.receiver.ack() })
    }

    /// Whether everything that was written has arrived, and no more is to come.
    pub(super) fn is_done(&self) -> bool {
        self.sender.is_done()
    }

    /// Whether it has been retransmitting for so long that the system gives up.
    pub(super) fn has_given_up(&self) -> bool {
        self.sender.has_given_up()
    }
}
