//! The content of an audio stream, as the requesting end describes it.

use crate::error::AviP2pError;

/// The longest codec name, in bytes.
pub const MAX_CODEC_BYTES: usize = 32;
/// The longest label, in bytes.
pub const MAX_LABEL_BYTES: usize = 256;

/// Describes the audio of a stream. The library carries it to the other end and does not interpret it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
pub struct StreamOptions {
    /// Describes the audio to the other end.
    pub media: Option<Media>,
    /// Names the stream to the other end, in at most [`MAX_LABEL_BYTES`] bytes.
    pub label: Option<String>,
    /// What this end does when the path is congested; by default [`OnCongestion::DropOldest`]. It applies only to
    /// streams that this end requests. For a stream that it accepts, an end always drops the oldest.
    pub on_congestion: OnCongestion,
}

impl StreamOptions {
    #[doc(hidden)]
    pub fn validate(&self) -> Result<(), AviP2pError> {
        let check = |field: &str, ok: bool, value: String, expected: String| match ok {
            true => Ok(()),
            false => Err(AviP2pError::InvalidConfig { field: field.to_owned(), value, expected }),
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
