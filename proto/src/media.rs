//! The content of an audio stream: how the requesting end describes it, and how an application reads it.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::AviP2pError;

/// The longest codec name, in bytes.
pub const MAX_CODEC_BYTES: usize = 32;
/// The longest label, in bytes.
pub const MAX_LABEL_BYTES: usize = 256;

/// Describes the audio of a stream. The library carries it to the other end and does not interpret it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Media {
    /// Name of the codec, as `opus` or `pcm_s16le`; 1 to [`MAX_CODEC_BYTES`] bytes.
    pub codec: String,
    /// Samples a second, at least 1.
    pub sample_rate_hz: u32,
    /// Channels, at least 1.
    pub channels: u8,
    /// Duration of one frame in microseconds, at least 1; 20 ms is 20,000.
    pub frame_duration_us: u32,
}

/// What to do when an audio stream's send queue is full, which means that the path is congested. The default is
/// [`DropOldest`](Self::DropOldest).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum OnCongestion {
    /// Drop the oldest frame. The receiver sees a gap, and latency stays bounded.
    #[default]
    DropOldest,
    /// Refuse the newest frame with [`AviP2pError::Congested`].
    Refuse,
}

/// How to open an audio stream.
///
/// ```
/// # use avi_p2p_proto::media as avi_p2p;
/// use avi_p2p::{Media, StreamOptions};
/// let options = StreamOptions {
///     media: Some(Media { codec: "opus".into(), sample_rate_hz: 48_000, channels: 1, frame_duration_us: 20_000 }),
///     label: Some("kitchen microphone".into()),
///     ..StreamOptions::default()
/// };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct StreamOptions {
    /// Describes the audio to the other end.
    pub media: Option<Media>,
    /// Names the stream to the other end, in at most [`MAX_LABEL_BYTES`] bytes.
    pub label: Option<String>,
    /// What this end does when the path is congested; by default [`OnCongestion::DropOldest`]. It applies only to
    /// streams that this end requests. For a stream that it accepts, an end always drops the oldest.
    pub on_congestion: OnCongestion,
}

/// A received frame of audio.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AudioFrame {
    /// Its number in the stream. The sender counts from 0, and counts frames that it drops.
    pub sequence: u64,
    /// When the sender's application gave it, on the sender's clock: the time since the stream's first frame.
    pub timestamp: Duration,
    /// When it arrived, on this node's clock: the time since the node started.
    pub arrival: Duration,
    /// The number of frames between the one that was read before and this one: lost, dropped, or removed from the
    /// playout. Those after a stream's last frame are told nowhere.
    pub missing: u64,
    /// The frame, as it was sent.
    pub data: Vec<u8>,
}

impl AudioFrame {
    #[doc(hidden)]
    pub fn new(sequence: u64, timestamp_us: u64, arrival: Duration, missing: u64, data: Vec<u8>) -> Self {
        Self { sequence, timestamp: Duration::from_micros(timestamp_us), arrival, missing, data }
    }
}

impl Debug for AudioFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sequence, timestamp, arrival, missing, data } = self;
        let size = data.len();
        write!(f, "frame {sequence} of {size} bytes at {timestamp:?}, came at {arrival:?}, {missing} missing before")
    }
}

/// How an application reads the audio of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Playout {
    /// Each frame as soon as it arrives.
    Raw,
    /// One frame for each frame duration, at the pace of this node's clock, through a jitter buffer.
    Paced(PlayoutOptions),
}

impl Default for Playout {
    /// Paced, with the default options.
    fn default() -> Self {
        Self::Paced(PlayoutOptions::default())
    }
}

impl Playout {
    #[doc(hidden)]
    pub fn validate(&self) -> Result<(), AviP2pError> {
        match self {
            Self::Raw => Ok(()),
            Self::Paced(options) => options.validate(),
        }
    }
}

/// What a jitter buffer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayoutOptions {
    /// The least delay, above that of the fastest recent frame; 0 to `max_delay`, default 10 ms. It covers the lateness
    /// of timers and threads.
    pub min_delay: Duration,
    /// The greatest delay, above that of the fastest recent frame; up to 10 s, default 500 ms. Frames that come later
    /// than that are never played.
    pub max_delay: Duration,
    /// The duration of a frame, 1 ms to 1 s. By default that of the stream's [`Media`], and if there is none, what
    /// timestamps tell: 20 ms until ten frames have come.
    pub frame_duration: Option<Duration>,
}

impl Default for PlayoutOptions {
    fn default() -> Self {
        Self { min_delay: Duration::from_millis(10), max_delay: Duration::from_millis(500), frame_duration: None }
    }
}

impl PlayoutOptions {
    #[doc(hidden)]
    pub fn validate(&self) -> Result<(), AviP2pError> {
        let check = |field, value: Duration, range: RangeInclusive<Duration>| match range.contains(&value) {
            true => Ok(()),
            false => Err(AviP2pError::InvalidOptions {
                field,
                value: format!("{value:?}"),
                expected: format!("{:?} to {:?}", range.start(), range.end()),
            }),
        };
        check("max_delay", self.max_delay, Duration::ZERO..=Duration::from_secs(10))?;
        check("min_delay", self.min_delay, Duration::ZERO..=self.max_delay)?;
        let duration = self.frame_duration.unwrap_or(Duration::from_secs(1));
        check("frame_duration", duration, Duration::from_millis(1)..=Duration::from_secs(1))
    }
}

/// What an application reads from a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioItem {
    /// A frame to play.
    Frame(AudioFrame),
    /// A frame is missing or late: fill its time, as the codec does it. Only [`Playout::Paced`] has these.
    Conceal,
}

impl StreamOptions {
    #[doc(hidden)]
    pub fn validate(&self) -> Result<(), AviP2pError> {
        let check = |field, ok: bool, value: String, expected: String| match ok {
            true => Ok(()),
            false => Err(AviP2pError::InvalidOptions { field, value, expected }),
        };
        if let Some(media) = &self.media {
            let len = media.codec.len();
            let codec = (1..=MAX_CODEC_BYTES).contains(&len);
            check("media.codec", codec, format!("{len} bytes"), format!("1 to {MAX_CODEC_BYTES} bytes"))?;
            for (field, value) in [
                ("media.sample_rate_hz", media.sample_rate_hz),
                ("media.channels", media.channels.into()),
                ("media.frame_duration_us", media.frame_duration_us),
            ] {
                check(field, value > 0, value.to_string(), "at least 1".to_owned())?;
            }
        }
        let len = self.label.as_ref().map_or(0, String::len);
        let label = len <= MAX_LABEL_BYTES;
        check("label", label, format!("{len} bytes"), format!("at most {MAX_LABEL_BYTES} bytes"))
    }
}
