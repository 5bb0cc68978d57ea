//! How does an application read the audio of one stream?

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;

use crate::media::AudioItem;
use crate::runtime::{Next, Platform, ReaderQueue};
use crate::stats::PlayoutStats;
use avi_p2p_proto::engine::Time;

/// The audio that comes in on one stream, from [`AviP2pHandle::audio_reader`](crate::AviP2pHandle::audio_reader). Also a
/// [`Stream`](https://docs.rs/futures/0.3/futures/stream/trait.Stream.html) of the crate `futures`.
///
/// Reading slowly, or never, delays nobody: at most `limits.event_audio_frames` frames and `limits.event_audio_bytes` of
/// them wait, for each reader, and the oldest are dropped first. [`Stats`](crate::Stats) counts those in
/// `events_dropped_audio_frames`, and the next frame's `missing` has them. Dropping the reader drops what waits; later
/// frames are events again.
#[must_use = "dropping it makes the audio events again"]
pub struct AudioReader {
    queue: Arc<ReaderQueue>,
    platform: Arc<dyn Platform>,
    /// The platform's time when the node's began.
    epoch: Duration,
    timer: Option<(Time, BoxFuture<'static, ()>)>,
}

impl AudioReader {
    pub(crate) fn new(queue: Arc<ReaderQueue>, platform: Arc<dyn Platform>, epoch: Duration) -> Self {
        Self { queue, platform, epoch, timer: None }
    }

    /// The next frame, or what stands for it. `None` once the stream has ended and everything is read or played. A paced
    /// reader also ends, with what it has not played yet, when the node stops, because its clock stops with the node.
    ///
    /// With [`Playout::Paced`](crate::Playout::Paced) it returns once for each frame duration, and waits while there is
    /// nothing to play: before the first frame, and after five items to conceal in a row. An application that asks late
    /// gets what it has missed at once; what is older than 0.2 s is dropped. Nothing is lost if the future is dropped, as
    /// in `select!`.
    pub async fn recv(&mut self) -> Option<AudioItem> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The figures of the jitter buffer, also after the stream has ended; `None` if the reader is not paced.
    pub fn playout_stats(&self) -> Option<PlayoutStats> {
        self.queue.playout_stats()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<AudioItem>> {
        loop {
            let now = Time(self.platform.now().saturating_sub(self.epoch));
            let at = match self.queue.poll(now, cx) {
                Next::Item(item) => return Poll::Ready(Some(item)),
                Next::Over => return Poll::Ready(None),
                Next::Wait => return Poll::Pending,
                Next::Until(at) => at,
            };
            let (_, timer) = match &mut self.timer {
                Some(timer) if timer.0 == at => timer,
                timer => timer.insert((at, self.platform.sleep_until(self.epoch.saturating_add(at.0)))),
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}

impl Stream for AudioReader {
    type Item = AudioItem;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AudioItem>> {
        self.get_mut().poll(cx)
    }
}

impl Drop for AudioReader {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

impl fmt::Debug for AudioReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AudioReader").finish_non_exhaustive()
    }
}
