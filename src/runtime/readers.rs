//! Who reads the audio of a stream? Its own reader, if it has one; otherwise the reader of events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::config::Limits;
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::id::StreamId;
use crate::media::{AudioFrame, AudioItem, Playout};
use crate::stats::PlayoutStats;
use avi_p2p_proto::audio::{JitterBuffer, Tick};
use avi_p2p_proto::engine::Time;

/// The readers that were dropped, and whose figures are kept: as many as the engine keeps of streams that have ended.
const KEPT_FIGURES: usize = 64;

/// The readers of a node's streams, as the node has them.
pub(super) struct Readers {
    queues: BTreeMap<StreamId, Arc<ReaderQueue>>,
    /// Those of streams that have ended. They play what they have, and their figures can still be read.
    ended: VecDeque<(StreamId, Arc<ReaderQueue>)>,
    max_frames: usize,
    max_bytes: usize,
    /// Frames dropped because their reader was slow.
    dropped: u64,
}

impl Readers {
    pub(super) fn new(limits: &Limits) -> Self {
        let (max_frames, max_bytes) = (limits.event_audio_frames, limits.event_audio_bytes);
        Self { queues: BTreeMap::new(), ended: VecDeque::new(), max_frames, max_bytes, dropped: 0 }
    }

    /// Makes the reader of a stream that has none. `frame_duration` is that of the stream's media.
    pub(super) fn open(
        &mut self,
        stream_id: StreamId,
        playout: Playout,
        frame_duration: Option<Duration>,
    ) -> Result<Arc<ReaderQueue>, AviP2pError> {
        if self.get(stream_id).is_some() {
            return Err(AviP2pError::StreamState { stream_id, action: "read", state: "read already" });
        }
        let source = match playout {
            Playout::Paced(options) => {
                let buffer = JitterBuffer::new(&options, frame_duration, self.max_frames, self.max_bytes);
                Source::Paced(Box::new(buffer))
            }
            _ => Source::Raw(Fifo { frames: VecDeque::new(), bytes: 0, has_ended: false }),
        };
        let state = State { source, last_sequence: None, reader: None, is_closed: false, figures: None };
        let queue = Arc::new(ReaderQueue { state: Mutex::new(state) });
        self.queues.insert(stream_id, queue.clone());
        Ok(queue)
    }

    /// Hands a frame to the stream's reader, and adds the reader to those to wake. Returns the frame if there is none.
    pub(super) fn push(
        &mut self,
        stream_id: StreamId,
        frame: AudioFrame,
        wake: &mut Vec<Waker>,
    ) -> Result<(), AudioFrame> {
        let Some(queue) = self.queues.get(&stream_id) else { return Err(frame) };
        let mut state = queue.lock();
        if state.is_closed {
            drop(state);
            self.queues.remove(&stream_id);
            return Err(frame);
        }
        self.dropped += state.push(frame, self.max_frames, self.max_bytes, wake);
        Ok(())
    }

    /// Whether an event is for a reader alone. The end of a stream is for its reader too.
    pub(super) fn take(&mut self, event: &AviEvent, wake: &mut Vec<Waker>) -> bool {
        match event {
            AviEvent::AudioGap { stream_id, .. } => self.get(*stream_id).is_some(),
            AviEvent::AudioStreamClosed { stream_id, .. } => {
                if let Some(queue) = self.queues.remove(stream_id) {
                    wake.extend(queue.lock().end());
                    self.ended.push_back((*stream_id, queue));
                    self.forget_oldest();
                }
                false
            }
            _ => false,
        }
    }

    /// The number of frames that slow readers have lost.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The figures of a stream's jitter buffer.
    pub(super) fn playout_stats(&self, stream_id: StreamId) -> Option<PlayoutStats> {
        let ended = || self.ended.iter().rev().find(|(id, _)| *id == stream_id).map(|(_, queue)| queue);
        self.queues.get(&stream_id).or_else(ended)?.playout_stats()
    }

    /// Only readers that nobody has any more are forgotten.
    fn forget_oldest(&mut self) {
        let is_unused = |(_, queue): &(StreamId, Arc<ReaderQueue>)| Arc::strong_count(queue) == 1;
        let mut more = self.ended.iter().filter(|ended| is_unused(ended)).count().saturating_sub(KEPT_FIGURES);
        self.ended.retain(|ended| {
            let is_kept = more == 0 || !is_unused(ended);
            more -= usize::from(!is_kept);
            is_kept
        });
    }

    fn get(&self, stream_id: StreamId) -> Option<&Arc<ReaderQueue>> {
        self.queues.get(&stream_id).filter(|queue| !queue.lock().is_closed)
    }
}

impl Drop for Readers {
    /// The node has ended.
    fn drop(&mut self) {
        let ended = self.ended.iter().map(|(_, queue)| queue);
        for queue in ended.chain(self.queues.values()) {
            let reader = queue.lock().close();
            reader.into_iter().for_each(Waker::wake);
        }
    }
}

/// What a node and the reader of one stream share. Neither ever waits for the other.
pub(crate) struct ReaderQueue {
    state: Mutex<State>,
}

struct State {
    source: Source,
    /// The last frame that was read.
    last_sequence: Option<u64>,
    reader: Option<Waker>,
    /// Whether the reader was dropped, or the node has ended.
    is_closed: bool,
    /// What the jitter buffer said at last, if the reader was dropped.
    figures: Option<PlayoutStats>,
}

enum Source {
    Raw(Fifo),
    Paced(Box<JitterBuffer>),
}

/// Frames as they came.
struct Fifo {
    frames: VecDeque<AudioFrame>,
    bytes: usize,
    has_ended: bool,
}

/// What a reader can do now.
pub(crate) enum Next {
    Item(AudioItem),
    /// Wait until this time. If there is something earlier, it is woken.
    Until(Time),
    /// Wait until it is woken.
    Wait,
    Over,
}

impl ReaderQueue {
    pub(crate) fn poll(&self, now: Time, cx: &mut Context<'_>) -> Next {
        let mut state = self.lock();
        let next = state.next(now);
        state.reader = match next {
            Next::Wait | Next::Until(_) => Some(cx.waker().clone()),
            Next::Item(_) | Next::Over => None,
        };
        next
    }

    pub(crate) fn playout_stats(&self) -> Option<PlayoutStats> {
        self.lock().playout_stats()
    }

    /// Nobody will read any more.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        let reader = state.close();
        state.figures = state.playout_stats();
        // What waits is no longer needed.
        state.source = Source::Raw(Fifo { frames: VecDeque::new(), bytes: 0, has_ended: true });
        drop(state);
        drop(reader);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the number of frames dropped for it.
    fn push(&mut self, frame: AudioFrame, max_frames: usize, max_bytes: usize, wake: &mut Vec<Waker>) -> u64 {
        match &mut self.source {
            Source::Raw(fifo) => {
                wake.extend(self.reader.take());
                fifo.push(frame, max_frames, max_bytes)
            }
            Source::Paced(buffer) => {
                let before = buffer.next_tick();
                let dropped = buffer.push(frame);
                // A reader that has a tick to wait for sleeps on.
                if buffer.next_tick() != before {
                    wake.extend(self.reader.take());
                }
                dropped
            }
        }
    }

    fn end(&mut self) -> Option<Waker> {
        match &mut self.source {
            Source::Raw(fifo) => fifo.has_ended = true,
            Source::Paced(buffer) => buffer.end(),
        }
        self.reader.take()
    }

    fn playout_stats(&self) -> Option<PlayoutStats> {
        match &self.source {
            Source::Paced(buffer) => Some(buffer.stats()),
            Source::Raw(_) => self.figures,
        }
    }

    fn close(&mut self) -> Option<Waker> {
        self.is_closed = true;
        self.reader.take()
    }

    fn next(&mut self, now: Time) -> Next {
        let mut frame = match &mut self.source {
            Source::Raw(fifo) => match fifo.pop() {
                Some(frame) => frame,
                None if fifo.has_ended || self.is_closed => return Next::Over,
                None => return Next::Wait,
            },
            Source::Paced(_) if self.is_closed => return Next::Over,
            Source::Paced(buffer) => match (buffer.tick(now), buffer.next_tick()) {
                (Tick::Play(frame), _) => frame,
                (Tick::Conceal, _) => return Next::Item(AudioItem::Conceal),
                (Tick::Wait, _) if buffer.is_over() => return Next::Over,
                (Tick::Wait, Some(at)) => return Next::Until(at),
                (Tick::Wait, None) => return Next::Wait,
            },
        };
        if let Some(last) = self.last_sequence {
            frame.missing = frame.sequence.saturating_sub(last).saturating_sub(1);
        }
        self.last_sequence = Some(frame.sequence);
        Next::Item(AudioItem::Frame(frame))
    }
}

impl Fifo {
    /// Adds a frame, and drops the oldest ones if there is no room. Returns their number.
    fn push(&mut self, frame: AudioFrame, max_frames: usize, max_bytes: usize) -> u64 {
        self.bytes += frame.data.len();
        self.frames.push_back(frame);
        let mut dropped = 0;
        while self.frames.len() > 1 && (self.frames.len() > max_frames || self.bytes > max_bytes) {
            self.pop();
            dropped += 1;
        }
        dropped
    }

    fn pop(&mut self) -> Option<AudioFrame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.data.len();
        Some(frame)
    }
}
