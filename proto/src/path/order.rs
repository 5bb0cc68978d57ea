//! Which frame is due? Frames of two paths come out of order and twice; they leave in order, each once.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::AudioFrame;
use super::window::Window;
use crate::engine::Time;
use crate::situation::{Situation, reached};

/// How long a frame waits for those before it. With 30 ± 20 ms of delay, a frame may be overtaken by those that were
/// sent up to 40 ms after it: one or two of 20 ms.
pub const REORDER_WITHIN: Duration = Duration::from_millis(40);
/// For how long after a datagram a hole on the substream may still be filled by another. A path that nothing else uses is
/// probed every five seconds.
const MIXED_FOR: Duration = Duration::from_secs(6);
/// The most frames that wait: what two reads of a substream bring at most of frames of 64 bytes, which may overtake the
/// datagrams before them.
const MAX_WAITING: usize = 512;

/// The path that a frame came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum Via {
    /// The substream, which keeps its order.
    Substream,
    /// A datagram.
    Datagram,
}

/// What becomes of a frame that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is due now. [`Order::pop`] may have more that are.
    Due(AudioFrame),
    /// It waits for a frame before it.
    Waits,
    /// It came before, or is far too old to say. A copy is no loss.
    Duplicate,
    /// Its place was given up.
    Late,
}

/// Puts the frames of one stream in order.
///
/// In order and without holes, it passes each frame on and keeps nothing. A frame behind a hole waits for at most
/// [`REORDER_WITHIN`], if datagrams are in use. Then the hole is given up. The same happens if more frames wait than
/// the bounds allow.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Order {
    /// The lowest sequence that may still leave.
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
    max_bytes: usize,
    /// The sequences that have left.
    left: Window,
    last_datagram: Option<Time>,
    duplicates: u64,
    late: u64,
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Waiting {
    since: Time,
    timestamp_us: u64,
    #[cfg_attr(feature = "recorder", serde(with = "crate::recording::lengths"))]
    payload: Bytes,
}

impl Order {
    /// `max_bytes` bounds the payloads of the frames that wait. One frame may wait whatever its size.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            next: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            max_bytes,
            left: Window::default(),
            last_datagram: None,
            duplicates: 0,
            late: 0,
        }
    }

    /// An authentic datagram has come, with a frame or without. What follows on the substream may overtake others.
    pub fn on_datagram(&mut self, now: Time) {
        self.last_datagram = Some(now);
    }

    /// Takes a frame that has come. Afterwards, [`pop`](Self::pop) until `None`.
    pub fn push(&mut self, now: Time, via: Via, frame: AudioFrame) -> Arrival {
        if via == Via::Datagram {
            self.on_datagram(now);
        }
        let sequence = frame.sequence;
        if sequence < self.next {
            return self.refuse(sequence);
        }
        if self.waiting.contains_key(&sequence) {
            reached(Situation::FrameTwice);
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        let is_final = via == Via::Substream && !self.is_mixed(now);
        if self.waiting.is_empty() && (sequence == self.next || is_final) {
            self.leave(sequence);
            return Arrival::Due(frame);
        }
        // A frame of the substream may be a part of a far larger buffer.
        let payload = match via {
            Via::Substream => Bytes::copy_from_slice(&frame.payload),
            Via::Datagram => frame.payload,
        };
        self.waiting_bytes += payload.len();
        self.waiting.insert(sequence, Waiting { since: now, timestamp_us: frame.timestamp_us, payload });
        reached(Situation::FrameReordered);
        Arrival::Waits
    }

    /// The next frame that is due, with the time at which it came.
    pub fn pop(&mut self, now: Time) -> Option<(Time, AudioFrame)> {
        let first = *self.waiting.first_key_value()?.0;
        let is_full =
            self.waiting.len() > MAX_WAITING || (self.waiting_bytes > self.max_bytes && self.waiting.len() > 1);
        // Whoever lets a later frame leave lets all before it leave too.
        let is_due =
            first == self.next || is_full || self.waiting.values().any(|frame| frame.since + REORDER_WITHIN <= now);
        if is_due { self.pop_first() } else { None }
    }

    /// The next frame, whether there is a hole before it or not: for the end of a stream.
    pub fn pop_first(&mut self) -> Option<(Time, AudioFrame)> {
        let (sequence, Waiting { since, timestamp_us, payload }) = self.waiting.pop_first()?;
        self.waiting_bytes -= payload.len();
        self.leave(sequence);
        Some((since, AudioFrame { sequence, timestamp_us, payload }))
    }

    /// The frames before this one are given up: it is the next to leave. None may wait.
    pub fn skip_to(&mut self, sequence: u64) {
        self.next = self.next.max(sequence);
    }

    /// When [`pop`](Self::pop) has a frame, if none comes before.
    pub fn next_deadline(&self) -> Option<Time> {
        self.waiting.values().map(|frame| frame.since + REORDER_WITHIN).min()
    }

    /// Whether frames may come by datagrams: one has come, in the last seconds. Without, a hole on the substream is final.
    pub fn is_mixed(&self, now: Time) -> bool {
        self.last_datagram.is_some_and(|at| now - at < MIXED_FOR)
    }

    /// Whether a datagram ever came. On the substream alone, a frame out of order breaks the protocol.
    pub fn has_seen_datagrams(&self) -> bool {
        self.last_datagram.is_some()
    }

    /// The lowest sequence that may still leave.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Frames that came again.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Frames whose place had been given up when they came.
    pub fn late(&self) -> u64 {
        self.late
    }

    fn leave(&mut self, sequence: u64) {
        self.left.insert(sequence);
        // The last number has no successor: `AudioReceiver` refuses it.
        self.next = sequence.saturating_add(1);
    }

    fn refuse(&mut self, sequence: u64) -> Arrival {
        if self.left.has_seen(sequence) {
            reached(Situation::FrameTwice);
            self.duplicates += 1;
            Arrival::Duplicate
        } else {
            reached(Situation::FrameLate);
            self.late += 1;
            // The next copy of it is a duplicate.
            self.left.insert(sequence);
            Arrival::Late
        }
    }
}

#[cfg(test)]
#[path = "tests/order.rs"]
mod tests;
