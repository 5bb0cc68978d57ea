//! What has arrived, in order, and when is it acknowledged?

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::{Ack, Data, Read, SEGMENT_BYTES, WINDOW_BYTES};

/// Linux acknowledges at once at the begin of a connection, and later every second segment or after this time.
const DELAYED_ACK: Duration = Duration::from_millis(40);
const QUICK_ACKS: u32 = 16;

/// The receiving half of an end.
#[derive(Default)]
pub(super) struct Receiver {
    /// The number of the next segment that is in order.
    next: u64,
    /// Segments beyond a gap.
    ahead: BTreeMap<u64, (Bytes, bool)>,
    ahead_bytes: usize,
    /// The range of `ahead` that changed last is told first.
    newest: u64,
    unread: VecDeque<Bytes>,
    unread_bytes: usize,
    has_ended: bool,
    /// Segments since the last acknowledgement.
    unacked: u32,
    acked_quickly: u32,
    ack_at: Option<Duration>,
    owes_ack: bool,
    /// The window that was told last.
    told_window: usize,
}

impl Receiver {
    pub(super) fn on_data(&mut self, now: Duration, data: Data) {
        if data.number < self.next || self.ahead.contains_key(&data.number) {
            // It came twice: the acknowledgement was lost, or the sender was impatient.
            self.owes_ack = true;
            return;
        }
        if self.window() == 0 && !data.bytes.is_empty() {
            self.owes_ack = true;
            return;
        }
        let is_in_order = data.number == self.next;
        let closes_gap = is_in_order && !self.ahead.is_empty();
        self.newest = data.number;
        self.ahead_bytes += data.bytes.len();
        self.ahead.insert(data.number, (data.bytes, data.is_last));
        while let Some((bytes, is_last)) = self.ahead.remove(&self.next) {
            self.next += 1;
            self.ahead_bytes -= bytes.len();
            self.unread_bytes += bytes.len();
            self.has_ended |= is_last;
            if !bytes.is_empty() {
                self.unread.push_back(bytes);
            }
        }
        self.unacked += 1;
        let is_quick = self.acked_quickly < QUICK_ACKS;
        self.acked_quickly += u32::from(is_quick);
        if !is_in_order || closes_gap || is_quick || self.unacked >= 2 || self.has_ended {
            self.owes_ack = true;
        } else {
            self.ack_at.get_or_insert(now + DELAYED_ACK);
        }
    }

    pub(super) fn on_timer(&mut self, now: Duration) {
        self.owes_ack |= self.ack_at.is_some_and(|at| at <= now);
    }

    pub(super) fn next_timer(&self) -> Option<Duration> {
        self.ack_at.filter(|_| !self.owes_ack)
    }

    pub(super) fn owes_ack(&self) -> bool {
        self.owes_ack
    }

    /// The acknowledgement that goes with the next packet.
    pub(super) fn ack(&mut self) -> Ack {
        (self.owes_ack, self.ack_at, self.unacked) = (false, None, 0);
        self.told_window = self.window();
        Ack { next: self.next, ahead: self.ranges(), window: self.told_window }
    }

    fn window(&self) -> usize {
        WINDOW_BYTES.saturating_sub(self.unread_bytes + self.ahead_bytes)
    }

    fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in self.ahead.keys() {
            match ranges.last_mut() {
                Some((_, end)) if end == number => *end += 1,
                _ => ranges.push((*number, number + 1)),
            }
        }
        if let Some(at) = ranges.iter().position(|(from, end)| (*from..*end).contains(&self.newest)) {
            ranges[..=at].rotate_right(1);
        }
        ranges.truncate(3);
        ranges
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Read {
        let mut len = 0;
        while let Some(bytes) = self.unread.front_mut() {
            let part = bytes.len().min(buffer.len() - len);
            bytes.copy_to_slice(&mut buffer[len..len + part]);
            len += part;
            if !bytes.is_empty() {
                break;
            }
            self.unread.pop_front();
        }
        self.unread_bytes -= len;
        // A sender that may not send is told that it may again.
        self.owes_ack |= self.told_window < 2 * SEGMENT_BYTES && self.window() >= 2 * SEGMENT_BYTES && len > 0;
        match len {
            0 if self.has_ended => Read::End,
            0 => Read::Nothing,
            _ => Read::Bytes(len),
        }
    }

    pub(super) fn is_readable(&self) -> bool {
        self.has_unread() || self.has_ended
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }
}
