//! Does a jitter buffer handle any frames and ticks at any times? Compared with what was given to it.

use std::collections::BTreeMap;
use std::time::Duration;

use avi_p2p_proto::audio::{JitterBuffer, MAX_CONCEALED, Tick};
use avi_p2p_proto::engine::Time;
use avi_p2p_proto::media::{AudioFrame, PlayoutOptions};

use super::script::Script;

/// Added to the timestamps and sequences that the second buffer gets. Only differences matter, so both must agree.
const OFFSET: u64 = 1 << 40;

/// Any frames, ticks and ends: order, counters and bounds hold.
pub fn playout(data: &[u8]) {
    let mut script = Script::new(data);
    let mut player = Player::new(&mut script);
    while !script.is_over() {
        player.now = player.now + script.duration().min(Duration::from_secs(1 << 30));
        match script.byte() {
            ..0xa0 => player.push(&mut script),
            0xa0..0xfa => while player.tick() {},
            _ => player.end(),
        }
        player.check();
    }
    player.play_out();
}

struct Player {
    buffer: JitterBuffer,
    other: JitterBuffer,
    max_frames: usize,
    max_bytes: usize,
    max_delay: Duration,
    now: Time,
    next_sequence: u64,
    last_us: u64,
    /// Frames that may still be played.
    given: BTreeMap<u64, Vec<u8>>,
    accepted: u64,
    played: u64,
    concealed: u64,
    concealed_in_a_row: u32,
    has_ended: bool,
}

impl Player {
    fn new(script: &mut Script) -> Self {
        let limit = Duration::from_secs(10);
        let (min_delay, max_delay) = (script.duration().min(limit), script.duration().min(limit));
        let options = PlayoutOptions { min_delay, max_delay, frame_duration: None };
        let duration = script.flag().then(|| script.duration());
        let (max_frames, max_bytes) = (1 + script.below(64), 16 << script.below(10));
        let buffer = || JitterBuffer::new(&options, duration, max_frames, max_bytes);
        Self {
            buffer: buffer(),
            other: buffer(),
            max_frames,
            max_bytes,
            max_delay: max_delay.max(min_delay),
            now: Time::ZERO,
            next_sequence: 0,
            last_us: 0,
            given: BTreeMap::new(),
            accepted: 0,
            played: 0,
            concealed: 0,
            concealed_in_a_row: 0,
            has_ended: false,
        }
    }

    fn push(&mut self, script: &mut Script) {
        let sequence = match script.byte() {
            usual @ ..0xe0 => self.next_sequence.saturating_add(u64::from(usual / 32)),
            0xe0..0xf0 => self.next_sequence.saturating_sub(1),
            _ => script.number(),
        };
        let timestamp_us = match script.byte() {
            0 => self.last_us,
            step @ 1..0xe0 => self.last_us.saturating_add(u64::from(step) * 1000),
            0xe0..0xf0 => self.now.as_micros(),
            _ => script.number(),
        };
        // Limited so that the second buffer's numbers do not overflow.
        let (sequence, timestamp_us) = (sequence.min(u64::MAX - OFFSET), timestamp_us.min(u64::MAX - OFFSET));
        if self.has_ended {
            return;
        }
        let data = vec![sequence as u8; script.byte().into()];
        let frame =
            |offset: u64| AudioFrame::new(sequence + offset, timestamp_us + offset, self.now.0, 0, data.clone());
        let removed = self.buffer.push(frame(0));
        assert_eq!(self.other.push(frame(OFFSET)), removed, "the sender may count from anywhere");
        if sequence >= self.next_sequence {
            self.accepted += 1;
            self.given.insert(sequence, data);
            self.next_sequence = sequence.saturating_add(1);
            self.last_us = timestamp_us;
        }
    }

    /// Whether there was something to play or to conceal.
    fn tick(&mut self) -> bool {
        let is_due = self.buffer.next_tick().is_some_and(|tick| tick <= self.now);
        let (tick, other) = (self.buffer.tick(self.now), self.other.tick(self.now));
        match (tick, other) {
            (Tick::Play(frame), Tick::Play(other)) => {
                assert_eq!(frame.sequence + OFFSET, other.sequence, "the sender may count from anywhere");
                let data = self.given.remove(&frame.sequence).expect("a frame that was given, once");
                assert_eq!(frame.data, data);
                // Those before it are not played any more.
                self.given = self.given.split_off(&frame.sequence);
                self.played += 1;
                self.concealed_in_a_row = 0;
            }
            (Tick::Conceal, Tick::Conceal) => {
                self.concealed += 1;
                self.concealed_in_a_row += 1;
                assert!(self.concealed_in_a_row <= MAX_CONCEALED, "a pause is not concealed");
            }
            (Tick::Wait, Tick::Wait) => {
                let next = self.buffer.next_tick();
                assert!(next.is_none_or(|next| next > self.now), "{next:?} at {:?}: a busy loop", self.now);
                return false;
            }
            (tick, other) => panic!("{tick:?}, and {other:?} from the same frames"),
        }
        assert!(is_due, "something to play before its time");
        true
    }

    fn end(&mut self) {
        self.has_ended = true;
        self.buffer.end();
        self.other.end();
    }

    fn check(&self) {
        let stats = self.buffer.stats();
        assert_eq!((stats.played, stats.concealed), (self.played, self.concealed));
        let (frames, bytes) = (self.buffer.waiting_frames(), self.buffer.waiting_bytes());
        let gone = stats.played + stats.late + stats.removed;
        assert_eq!(gone + frames as u64, self.accepted, "each frame is accounted for: {stats:?}");
        assert!(
            frames <= self.max_frames && (frames <= 1 || bytes <= self.max_bytes),
            "{frames} frames, {bytes} bytes"
        );
        assert!(stats.target_delay <= self.max_delay, "{stats:?}");
        assert_eq!(self.buffer.is_over(), self.has_ended && frames == 0);
        assert!(frames == 0 || self.buffer.next_tick().is_some(), "what waits is played at some time");
    }

    /// Everything that waits is played in a bounded number of steps.
    fn play_out(&mut self) {
        self.end();
        let most = (self.buffer.waiting_frames() + 1) * (MAX_CONCEALED as usize + 2);
        for _ in 0..most {
            let Some(next) = self.buffer.next_tick() else { break };
            self.now = self.now.max(next);
            self.tick();
            self.check();
        }
        assert!(self.buffer.is_over() && self.buffer.next_tick().is_none(), "it never ends");
    }
}
