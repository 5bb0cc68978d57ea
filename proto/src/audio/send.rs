//! The send queue of one stream: bounded in time and in bytes, so that latency stays bounded.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::engine::Time;
use crate::media::OnCongestion;
use crate::path::AudioFrame;
use crate::situation::{Situation, reached};
use crate::wire::{data_bytes, encode_data};

/// The queue is full, and the stream refuses new frames instead of dropping old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Congested;

/// Frames that wait until the substream takes them.
///
/// The queue is full when its oldest frame has waited for longer than `max_age` or its payloads reach `max_bytes`. Then either the
/// oldest frames are dropped, which leaves a hole in the sequence that the receiver reports as a gap, or the newest
/// frame is refused.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct SendQueue {
    frames: VecDeque<Queued>,
    queued_bytes: usize,
    max_age: Duration,
    max_bytes: usize,
    on_congestion: OnCongestion,
    next_sequence: u64,
    first_at: Option<Time>,
    dropped: u64,
}

/// The frames that left the queue together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Batch {
    /// Their number, at least 1.
    pub frames: u64,
    /// Their bytes, encoded.
    pub bytes: u64,
    /// The sequences of the first and the last of them; those in between may have holes.
    pub sequences: (u64, u64),
    /// When the application gave the first and the last of them.
    pub given: (Time, Time),
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Queued {
    sequence: u64,
    at: Time,
    #[cfg_attr(feature = "recorder", serde(with = "crate::recording::lengths"))]
    payload: Bytes,
}

impl SendQueue {
    /// An empty queue.
    pub fn new(max_age: Duration, max_bytes: usize, on_congestion: OnCongestion) -> Self {
        Self {
            frames: VecDeque::new(),
            queued_bytes: 0,
            max_age,
            max_bytes,
            on_congestion,
            next_sequence: 0,
            first_at: None,
            dropped: 0,
        }
    }

    /// Changes how long a frame may wait.
    pub fn set_max_age(&mut self, max_age: Duration) {
        self.max_age = max_age;
    }

    /// Adds a frame. A payload that alone exceeds `max_bytes` is still taken if the queue is empty.
    ///
    /// # Errors
    /// [`Congested`] with [`OnCongestion::Refuse`], if there is no room, or the oldest frame has waited for too long. The
    /// frame is not taken.
    pub fn push(&mut self, now: Time, payload: Bytes) -> Result<(), Congested> {
        match self.on_congestion {
            OnCongestion::DropOldest => {
                self.drop_old(now);
                while !self.frames.is_empty() && self.queued_bytes + payload.len() > self.max_bytes {
                    self.drop_front();
                }
            }
            OnCongestion::Refuse => {
                let stuck = self.frames.front().is_some_and(|oldest| now - oldest.at > self.max_age);
                let full = !self.frames.is_empty() && self.queued_bytes + payload.len() > self.max_bytes;
                if stuck || full {
                    return Err(Congested);
                }
            }
        }
        self.first_at.get_or_insert(now);
        self.queued_bytes += payload.len();
        self.frames.push_back(Queued { sequence: self.next_sequence, at: now, payload });
        self.next_sequence += 1;
        Ok(())
    }

    /// Moves encoded frames to the end of `out` until they have `batch_bytes` or more, or the queue is empty. Returns
    /// `None` if none was moved.
    pub fn take_batch(&mut self, now: Time, batch_bytes: usize, out: &mut BytesMut) -> Option<Batch> {
        if self.on_congestion == OnCongestion::DropOldest {
            self.drop_old(now);
        }
        let first_at = self.first_at.unwrap_or(now);
        let timestamp_us = |frame: &Queued| Time(frame.at - first_at).as_micros();
        // Reserves exactly the room needed: spare room would cost another allocation when the buffer is shared.
        let (mut taken, mut bytes) = (0usize, 0);
        for frame in &self.frames {
            if bytes >= batch_bytes {
                break;
            }
            bytes += data_bytes(frame.sequence, timestamp_us(frame), frame.payload.len());
            taken += 1;
        }
        let (first, last) = (self.frames.front()?, self.frames.get(taken.checked_sub(1)?)?);
        let batch = Batch {
            frames: taken as u64,
            bytes: bytes as u64,
            sequences: (first.sequence, last.sequence),
            given: (first.at, last.at),
        };
        out.reserve(bytes);
        for frame in self.frames.drain(..taken) {
            self.queued_bytes -= frame.payload.len();
            encode_data(frame.sequence, timestamp_us(&frame), &frame.payload, out);
        }
        Some(batch)
    }

    /// Takes the next frame; `None` if there is none, or if it is longer than `max_bytes`, encoded.
    pub fn take_frame(&mut self, now: Time, max_bytes: usize) -> Option<(Batch, AudioFrame)> {
        if self.on_congestion == OnCongestion::DropOldest {
            self.drop_old(now);
        }
        let first_at = self.first_at.unwrap_or(now);
        let Queued { sequence, at, payload } = self.frames.front()?;
        let frame = AudioFrame {
            sequence: *sequence,
            timestamp_us: Time(*at - first_at).as_micros(),
            payload: payload.clone(),
        };
        let (bytes, at) = (frame.encoded_bytes(), *at);
        if bytes > max_bytes {
            return None;
        }
        self.queued_bytes -= frame.payload.len();
        self.frames.pop_front();
        let (sequences, given) = ((frame.sequence, frame.sequence), (at, at));
        Some((Batch { frames: 1, bytes: bytes as u64, sequences, given }, frame))
    }

    /// Drops the frames that are too old to be sent after a pause. Returns the sequence of the next frame to be sent.
    pub fn resume(&mut self, now: Time) -> u64 {
        self.drop_old(now);
        self.frames.front().map_or(self.next_sequence, |frame| frame.sequence)
    }

    /// Drops all queued frames. Returns their number.
    pub fn discard(&mut self) -> u64 {
        let frames = self.frames.len() as u64;
        self.frames.clear();
        self.queued_bytes = 0;
        self.dropped += frames;
        frames
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The payload bytes in the queue.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// The sequence of the next frame, which is also the number of frames taken from the application.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The number of frames dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn drop_old(&mut self, now: Time) {
        while self.frames.front().is_some_and(|oldest| now - oldest.at > self.max_age) {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            reached(Situation::FrameDropped);
            self.queued_bytes -= frame.payload.len();
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Decoder, Frame};

    fn queue(on_congestion: OnCongestion) -> SendQueue {
        SendQueue::new(Duration::from_millis(200), 1000, on_congestion)
    }

    fn drain(queue: &mut SendQueue, now: Time) -> Vec<(u64, u64)> {
        let mut out = BytesMut::new();
        queue.take_batch(now, usize::MAX, &mut out);
        let (mut decoder, mut bytes) = (Decoder::new(1 << 16), out.freeze());
        let mut frames = Vec::new();
        while let Some(frame) = decoder.decode(&mut bytes).unwrap() {
            let Frame::Data { sequence, timestamp_us, .. } = frame else { panic!("{frame:?}") };
            frames.push((sequence, timestamp_us));
        }
        frames
    }

    #[test]
    fn a_full_queue_drops_the_oldest_frame_and_leaves_a_hole() {
        let mut queue = queue(OnCongestion::DropOldest);
        for n in 0..5 {
            queue.push(Time::from_millis(n), Bytes::from(vec![0; 300])).unwrap();
        }
        assert_eq!((queue.dropped(), queue.queued_bytes()), (2, 900));
        assert_eq!(drain(&mut queue, Time::from_millis(5)), [(2, 2000), (3, 3000), (4, 4000)]);
        assert_eq!((queue.queued_bytes(), queue.next_sequence()), (0, 5));
    }

    #[test]
    fn a_frame_older_than_the_queues_time_is_not_sent() {
        let mut queue = queue(OnCongestion::DropOldest);
        queue.push(Time::from_millis(0), Bytes::from_static(b"old")).unwrap();
        queue.push(Time::from_millis(150), Bytes::from_static(b"new")).unwrap();
        assert_eq!(drain(&mut queue, Time::from_millis(201)), [(1, 150_000)]);
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn a_queue_that_refuses_keeps_what_it_took() {
        let mut queue = queue(OnCongestion::Refuse);
        for _ in 0..3 {
            queue.push(Time::ZERO, Bytes::from(vec![0; 300])).unwrap();
        }
        assert_eq!(queue.push(Time::ZERO, Bytes::from(vec![0; 300])), Err(Congested));
        assert_eq!(queue.push(Time::from_millis(201), Bytes::from_static(b"x")), Err(Congested));
        assert_eq!(drain(&mut queue, Time::from_millis(900)).len(), 3);
        assert_eq!((queue.dropped(), queue.next_sequence()), (0, 3));
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut queue = queue(OnCongestion::DropOldest);
        for _ in 0..4 {
            queue.push(Time::ZERO, Bytes::from(vec![0; 200])).unwrap();
        }
        let mut out = BytesMut::new();
        let batch = queue.take_batch(Time::from_millis(30), 300, &mut out).unwrap();
        let expected = Batch { frames: 2, bytes: 410, sequences: (0, 1), given: (Time::ZERO, Time::ZERO) };
        assert_eq!((batch, out.len(), queue.queued_bytes()), (expected, 410, 400));
        assert_eq!(queue.take_batch(Time::ZERO, 0, &mut out), None);
    }

    #[test]
    fn how_long_a_frame_may_wait_can_change() {
        let mut queue = queue(OnCongestion::DropOldest);
        for n in 0..10 {
            queue.push(Time::from_millis(20 * n), Bytes::from_static(b"x")).unwrap();
        }
        queue.set_max_age(Duration::from_millis(40));
        let taken: Vec<u64> = drain(&mut queue, Time::from_millis(181)).iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!((taken, queue.dropped()), (vec![8, 9], 8));
    }
}
