//! When is a received frame played? An adaptive jitter buffer, as a state machine without a clock.
//!
//! A frame is played at its place on the sender's [timeline](timeline), plus a delay that is the same for all frames. The
//! delay is what the path's recent [delays](delays) ask for:
//!
//! - A frame that comes after its time is played at the next tick. So the delay grows at once, by what was concealed
//!   until then (as "expand" does in WebRTC's NetEq), and nothing that came is lost. Only a frame that comes later than
//!   the bound allows is never played.
//! - If the buffer holds more than it should, now and then a frame is removed: sooner if there is more to remove, and
//!   best a small one, which is silence to most codecs.
//! - After a hole or a pause the delay is the target: there it changes unheard (Ramjee, Kurose, Towsley, Schulzrinne,
//!   "Adaptive playout mechanisms for packetized audio applications in wide-area networks", 1994).
//!
//! Clocks that drift apart look like a path that slowly becomes slower or faster, and are followed as such.

mod delays;
#[cfg(test)]
mod tests;
mod timeline;

use std::collections::VecDeque;
use std::time::Duration;

use self::delays::Delays;
use self::timeline::{Before, Timeline};
use crate::engine::Time;
use crate::media::{AudioFrame, PlayoutOptions};
use crate::stats::PlayoutStats;

/// Ticks in a row that are concealed. After that there is silence: the sender pauses, or the path is out.
pub const MAX_CONCEALED: u32 = 5;
/// Before anything is known of the path, its frames may be this much later than the fastest.
const ASSUMED_FRAMES: i128 = 2;
/// A driver that is late by more than this loses the ticks that it has missed.
const MAX_BEHIND_US: i128 = 200_000;
/// A small frame may be removed this many ticks after the last one was.
const QUIET_SPACING: u32 = 2;

/// What to do at a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Play this frame.
    Play(AudioFrame),
    /// A frame is missing or late: fill its time.
    Conceal,
    /// There is nothing to play.
    Wait,
}

/// The jitter buffer of one stream. Feed it with [`push`](Self::push) and [`end`](Self::end), and call
/// [`tick`](Self::tick) at the time of [`next_tick`](Self::next_tick). All times are of the same clock.
#[derive(Debug)]
pub struct JitterBuffer {
    timeline: Timeline,
    delays: Delays,
    min_delay_us: i128,
    frames: VecDeque<Waiting>,
    bytes: usize,
    max_frames: usize,
    max_bytes: usize,
    /// How long after its place on the timeline the last frame was played.
    delay_us: Option<i128>,
    last_tick_us: Option<i128>,
    /// Whether each frame duration has a tick. Otherwise the next frame begins a new row of ticks.
    is_running: bool,
    concealed_in_a_row: u32,
    ticks_since_removal: u32,
    /// Sixteen times the mean size of a frame.
    mean_bytes_x16: usize,
    has_ended: bool,
    stats: PlayoutStats,
}

#[derive(Debug)]
struct Waiting {
    frame: AudioFrame,
    media_us: i128,
    arrival_delay_us: i128,
    before: Before,
}

impl JitterBuffer {
    /// An empty buffer of at most `max_frames` frames and `max_bytes` of payload. One frame may always wait.
    /// `frame_duration` is that of the media, if it is known; that of the options goes first.
    pub fn new(
        options: &PlayoutOptions,
        frame_duration: Option<Duration>,
        max_frames: usize,
        max_bytes: usize,
    ) -> Self {
        let duration = options.frame_duration.or(frame_duration);
        let timeline = Timeline::new(duration.map(|duration| Time(duration).as_micros()));
        let min_delay_us = micros(options.min_delay);
        let max_delay_us = micros(options.max_delay).max(min_delay_us);
        Self {
            delays: Delays::new(min_delay_us, max_delay_us, ASSUMED_FRAMES * timeline.duration_us()),
            timeline,
            min_delay_us,
            frames: VecDeque::new(),
            bytes: 0,
            max_frames,
            max_bytes,
            delay_us: None,
            last_tick_us: None,
            is_running: false,
            concealed_in_a_row: 0,
            ticks_since_removal: 0,
            mean_bytes_x16: 0,
            has_ended: false,
            stats: PlayoutStats::default(),
        }
    }

    /// Adds a frame that has just arrived. Returns how many frames were removed because they are too many. A frame that
    /// is not later in the sequence than the one before is ignored.
    pub fn push(&mut self, frame: AudioFrame) -> u64 {
        let (arrival_us, timestamp) = (micros(frame.arrival), Time(frame.timestamp).as_micros());
        let Some(place) = self.timeline.place(frame.sequence, timestamp, self.delays.usual_lag_us()) else { return 0 };
        let arrival_delay_us = arrival_us - place.media_us;
        if self.delays.record(arrival_us, arrival_delay_us, arrival_us - i128::from(timestamp), place.lag_us) {
            self.delay_us = None;
        }
        if arrival_delay_us > self.delays.ceiling_us() {
            self.stats.late += 1;
            return 0;
        }
        self.bytes += frame.data.len();
        self.frames.push_back(Waiting { frame, media_us: place.media_us, arrival_delay_us, before: place.before });
        let mut removed = 0;
        while self.frames.len() > 1 && (self.frames.len() > self.max_frames || self.bytes > self.max_bytes) {
            self.drop_front();
            removed += 1;
        }
        removed
    }

    /// No more frames come. Those that wait are played.
    pub fn end(&mut self) {
        self.has_ended = true;
    }

    /// Whether all is played, and no more comes.
    pub fn is_over(&self) -> bool {
        self.has_ended && self.frames.is_empty()
    }

    /// The number of frames that wait.
    pub fn waiting_frames(&self) -> usize {
        self.frames.len()
    }

    /// The payload bytes that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// When [`tick`](Self::tick) is to be called. `None` while there is nothing to play.
    pub fn next_tick(&self) -> Option<Time> {
        self.next_tick_us().map(|us| Time(duration(us)))
    }

    /// Says what to play now. Before [`next_tick`](Self::next_tick) it says `Wait`, and nothing changes. A driver that is
    /// late gets the ticks that it has missed, one at a call; if it is later than 0.2 s, it loses them.
    pub fn tick(&mut self, now: Time) -> Tick {
        let now_us = micros(now.0);
        while let Some(next_us) = self.next_tick_us().filter(|us| *us <= now_us) {
            let is_missed = now_us - next_us > MAX_BEHIND_US;
            match self.step(next_us) {
                Tick::Play(_) if is_missed => self.stats.removed += 1,
                Tick::Play(frame) => {
                    self.stats.played += 1;
                    self.concealed_in_a_row = 0;
                    return Tick::Play(frame);
                }
                Tick::Conceal if is_missed => {}
                Tick::Conceal => {
                    self.stats.concealed += 1;
                    return Tick::Conceal;
                }
                // The sender pauses, or a frame begins a new row of ticks.
                Tick::Wait => {}
            }
        }
        Tick::Wait
    }

    /// The figures up to now.
    pub fn stats(&self) -> PlayoutStats {
        let above_floor = |delay_us: i128| duration((delay_us - self.delays.floor_us()).max(0));
        PlayoutStats {
            target_delay: duration(self.delays.spread_us()),
            delay: self.delay_us.map_or(Duration::ZERO, above_floor),
            buffered: duration(self.frames.len() as i128 * self.timeline.duration_us()),
            ..self.stats
        }
    }

    fn next_tick_us(&self) -> Option<i128> {
        let after_last_us = self.last_tick_us.map(|us| us + self.timeline.duration_us());
        if self.is_running {
            return after_last_us;
        }
        self.frames.front().map(|front| self.due_us(front).max(after_last_us.unwrap_or_default()))
    }

    /// When a frame at the front is to be played.
    fn due_us(&self, front: &Waiting) -> i128 {
        let target_us = self.delays.target_us();
        let delay_us = match (front.before, self.delay_us) {
            (Before::Frame, Some(delay_us)) => delay_us,
            _ => target_us,
        };
        // The first frame after an underrun waits a little, or the next one would be late again.
        let least_us = if self.is_running { delay_us } else { front.arrival_delay_us + self.min_delay_us };
        front.media_us + delay_us.max(least_us).min(self.delays.ceiling_us())
    }

    fn step(&mut self, now_us: i128) -> Tick {
        self.last_tick_us = Some(now_us);
        self.ticks_since_removal = self.ticks_since_removal.saturating_add(1);
        self.drop_too_old(now_us);
        if self.is_due(now_us) {
            self.shorten(now_us);
            return self.play(now_us);
        }
        let may_conceal = self.is_running && !self.is_over() && self.concealed_in_a_row < MAX_CONCEALED;
        self.is_running = may_conceal;
        if !may_conceal {
            return Tick::Wait;
        }
        self.concealed_in_a_row += 1;
        Tick::Conceal
    }

    fn is_due(&self, now_us: i128) -> bool {
        self.frames.front().is_some_and(|front| self.due_us(front) <= now_us)
    }

    fn play(&mut self, now_us: i128) -> Tick {
        let Some(Waiting { frame, media_us, before, .. }) = self.pop_front() else { return Tick::Wait };
        let delay_us = now_us - media_us;
        let before_us = self.delay_us.replace(delay_us).filter(|_| before != Before::Pause);
        let grown_us = before_us.map_or(0, |before_us| delay_us - before_us).max(0);
        let duration_us = self.timeline.duration_us();
        self.stats.inserted += u64::try_from((grown_us + duration_us / 2) / duration_us).unwrap_or(u64::MAX);
        self.is_running = true;
        self.mean_bytes_x16 = self.mean_bytes_x16 - self.mean_bytes_x16 / 16 + frame.data.len();
        Tick::Play(frame)
    }

    /// Removes the front if the frame behind it may be played now, and the last removal is long enough ago.
    fn shorten(&mut self, now_us: i128) {
        let Some(second) = self.frames.get(1) else { return };
        let excess_us = now_us - second.media_us - self.delays.target_us();
        if excess_us < 0 {
            return;
        }
        let spacing = match excess_us / self.timeline.duration_us() {
            0..5 => 10,
            5..10 => 5,
            _ => 3,
        };
        let spacing = if self.is_front_quiet() { QUIET_SPACING } else { spacing };
        if self.ticks_since_removal >= spacing {
            self.ticks_since_removal = 0;
            self.drop_front();
        }
    }

    /// Whether the front is far smaller than usual.
    fn is_front_quiet(&self) -> bool {
        self.frames.front().is_some_and(|front| front.frame.data.len() * 32 < self.mean_bytes_x16)
    }

    /// Removes frames whose delay would exceed the bound, because the path has become faster.
    fn drop_too_old(&mut self, now_us: i128) {
        let oldest_us = now_us - self.delays.ceiling_us() - self.timeline.duration_us();
        while self.frames.front().is_some_and(|front| front.media_us < oldest_us) {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        self.stats.removed += u64::from(self.pop_front().is_some());
    }

    fn pop_front(&mut self) -> Option<Waiting> {
        let front = self.frames.pop_front()?;
        self.bytes -= front.frame.data.len();
        Some(front)
    }
}

/// Microseconds that have room for any arithmetic with others.
fn micros(duration: Duration) -> i128 {
    Time(duration).as_micros().into()
}

fn duration(us: i128) -> Duration {
    Duration::from_micros(u64::try_from(us.max(0)).unwrap_or(u64::MAX))
}
