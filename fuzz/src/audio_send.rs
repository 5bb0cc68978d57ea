//! Which frames does a send queue drop, keep and refuse? Compared with a list.

use std::collections::VecDeque;
use std::time::Duration;

use avi_p2p_proto::audio::{Congested, SendQueue};
use avi_p2p_proto::engine::Time;
use avi_p2p_proto::media::OnCongestion;
use avi_p2p_proto::wire::{DATA_OVERHEAD_BYTES, Decoder, Frame};
use bytes::{Bytes, BytesMut};

use super::script::Script;

/// Any frames and batches at any times: order, counters and both bounds hold.
pub fn audio_send(data: &[u8]) {
    let mut script = Script::new(data);
    let on_congestion = script.pick(&[OnCongestion::DropOldest, OnCongestion::Refuse]);
    let (max_age, max_bytes) = (script.duration(), script.number().min(1 << 16) as usize);
    let mut queue = SendQueue::new(max_age, max_bytes, on_congestion);
    let mut model = Model { on_congestion, max_age, max_bytes, ..Model::default() };
    let mut now = Time::ZERO;
    while !script.is_over() {
        now = now + script.duration();
        match script.below(5) {
            0 | 1 => {
                let len = script.number().min(1 << 17) as usize;
                let payload = Bytes::from(vec![model.given as u8; len.max(1)]);
                let result = queue.push(now, payload.clone());
                assert_eq!(result, model.push(now, payload));
            }
            2 => {
                let batch_bytes = script.number().min(1 << 18) as usize;
                take_batch(&mut queue, &mut model, now, batch_bytes);
            }
            3 => {
                model.max_age = script.duration();
                queue.set_max_age(model.max_age);
            }
            _ => {
                assert_eq!(queue.discard(), model.frames.len() as u64);
                model.dropped += model.frames.len() as u64;
                model.frames.clear();
            }
        }
        model.check(&queue);
    }
    take_batch(&mut queue, &mut model, now, usize::MAX);
    model.check(&queue);
    assert!(queue.is_empty(), "one batch without a bound takes all");
    assert_eq!(model.taken + model.dropped, model.given, "each frame was taken or dropped");
}

fn take_batch(queue: &mut SendQueue, model: &mut Model, now: Time, batch_bytes: usize) {
    let mut out = BytesMut::new();
    let batch = queue.take_batch(now, batch_bytes, &mut out);
    let taken = batch.map_or(0, |batch| batch.frames);
    let mut bytes = out.freeze();
    let len = bytes.len();
    let mut decoder = Decoder::new((1 << 17) + DATA_OVERHEAD_BYTES);
    model.drop_old(now);
    assert_eq!(batch.map_or(0, |batch| batch.bytes), len as u64);
    let (mut sequences, mut times) = (None, None);
    for _ in 0..taken {
        assert!(len - bytes.len() < batch_bytes, "the batch was full");
        let frame = decoder.decode(&mut bytes).expect("a queue writes frames").expect("as many as it says");
        let Frame::Data { sequence, timestamp_us, payload } = frame else { panic!("{frame:?}") };
        let (number, at, given) = model.frames.pop_front().expect("a frame that was given");
        assert_eq!((sequence, &payload), (number, &given), "in order");
        let since_first = Time(at - model.first_at.expect("a first frame"));
        assert_eq!(timestamp_us, since_first.as_micros());
        model.taken += 1;
        sequences = Some((sequences.map_or(sequence, |(first, _)| first), sequence));
        times = Some((times.map_or(at, |(first, _)| first), at));
    }
    assert_eq!(batch.map(|batch| batch.sequences), sequences);
    assert_eq!(batch.map(|batch| batch.given), times);
    assert!(bytes.is_empty(), "bytes of no frame");
    assert!(len >= batch_bytes || model.frames.is_empty(), "the batch had room for one more");
}

#[derive(Default)]
struct Model {
    on_congestion: OnCongestion,
    max_age: Duration,
    max_bytes: usize,
    frames: VecDeque<(u64, Time, Bytes)>,
    first_at: Option<Time>,
    given: u64,
    taken: u64,
    dropped: u64,
}

impl Model {
    fn queued_bytes(&self) -> usize {
        self.frames.iter().map(|(_, _, payload)| payload.len()).sum()
    }

    fn is_stuck(&self, now: Time) -> bool {
        self.frames.front().is_some_and(|(_, at, _)| now - *at > self.max_age)
    }

    fn has_no_room(&self, len: usize) -> bool {
        !self.frames.is_empty() && self.queued_bytes() + len > self.max_bytes
    }

    fn push(&mut self, now: Time, payload: Bytes) -> Result<(), Congested> {
        while self.is_stuck(now) || self.has_no_room(payload.len()) {
            if self.on_congestion == OnCongestion::Refuse {
                return Err(Congested);
            }
            self.frames.pop_front();
            self.dropped += 1;
        }
        self.first_at.get_or_insert(now);
        self.frames.push_back((self.given, now, payload));
        self.given += 1;
        Ok(())
    }

    /// A queue that drops frames sends none that is too old.
    fn drop_old(&mut self, now: Time) {
        while self.on_congestion == OnCongestion::DropOldest && self.is_stuck(now) {
            self.frames.pop_front();
            self.dropped += 1;
        }
    }

    fn check(&self, queue: &SendQueue) {
        assert_eq!(queue.next_sequence(), self.given, "frames given");
        assert_eq!(queue.dropped(), self.dropped, "frames dropped");
        assert_eq!(queue.queued_bytes(), self.queued_bytes(), "bytes that wait");
        assert_eq!(queue.is_empty(), self.frames.is_empty());
        assert!(self.frames.len() <= 1 || queue.queued_bytes() <= self.max_bytes, "more bytes wait than may");
    }
}
