//! What is played into a call, and what is kept of it? Frames of 16-bit samples; WAV files.

use std::f64::consts::TAU;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use avi_p2p::{AudioItem, AudioReader, AviP2pError, AviP2pHandle, Media, StreamId};

use crate::exit::Failure;

/// The codec of the frames here: little-endian samples of 16 bits, channels interleaved.
pub(crate) const CODEC: &str = "pcm_s16le";
/// A frame that fits into one datagram of a path that nobody has measured, so that a call need not take the substream.
const MAX_FRAME_BYTES: usize = 1_100;
/// The durations of frames, the longest first that fits.
const FRAME_MS: [u32; 5] = [20, 10, 5, 2, 1];
const TONE_RATE_HZ: u32 = 16_000;

/// The frames of a call.
pub(crate) struct Sound {
    pub(crate) media: Media,
    /// How long the sound is; `None` without an end.
    pub(crate) lasts: Option<Duration>,
    samples: Box<dyn Iterator<Item = Result<i16, hound::Error>>>,
    path: PathBuf,
}

impl Sound {
    /// A tone without an end, at a quarter of the full scale.
    pub(crate) fn tone(hz: u32) -> Self {
        let sample = move |n: u32| {
            let at = f64::from(n) / f64::from(TONE_RATE_HZ);
            Ok(((at * f64::from(hz) * TAU).sin() * 8_192.0) as i16)
        };
        // A whole number of periods in a second.
        let samples = Box::new((0..TONE_RATE_HZ).cycle().map(sample));
        Self { media: media(TONE_RATE_HZ, 1), lasts: None, samples, path: PathBuf::new() }
    }

    /// The samples of a file, read as they are played.
    pub(crate) fn file(path: &Path) -> Result<Self, Failure> {
        let wav = hound::WavReader::open(path).map_err(|error| Failure::file(path, error))?;
        let spec = wav.spec();
        if spec.bits_per_sample != 16 || spec.sample_format != hound::SampleFormat::Int {
            let found = format!("{} bits {:?}", spec.bits_per_sample, spec.sample_format);
            return Err(Failure::file(path, format!("expected 16-bit integer samples, found {found}")));
        }
        let channels = u8::try_from(spec.channels).ok().filter(|channels| (1..=2).contains(channels));
        let channels = channels
            .ok_or_else(|| Failure::file(path, format!("expected one or two channels, found {}", spec.channels)))?;
        if !(8_000..=192_000).contains(&spec.sample_rate) {
            let found = spec.sample_rate;
            return Err(Failure::file(path, format!("expected 8000 to 192000 samples a second, found {found}")));
        }
        let lasts = Duration::from_secs_f64(f64::from(wav.duration()) / f64::from(spec.sample_rate));
        let samples: hound::WavIntoSamples<BufReader<File>, i16> = wav.into_samples();
        Ok(Self {
            media: media(spec.sample_rate, channels),
            lasts: Some(lasts),
            samples: Box::new(samples),
            path: path.to_owned(),
        })
    }

    /// How long a frame is.
    pub(crate) fn frame_duration(&self) -> Duration {
        Duration::from_micros(self.media.frame_duration_us.into())
    }

    /// The bytes of the next frame; `None` after the last.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let samples = samples_of_frame(&self.media);
        let mut frame = Vec::with_capacity(2 * samples);
        for sample in self.samples.by_ref().take(samples) {
            frame.extend(sample.map_err(|error| Failure::file(&self.path, error))?.to_le_bytes());
        }
        Ok(Some(frame).filter(|frame| !frame.is_empty()))
    }
}

fn media(sample_rate_hz: u32, channels: u8) -> Media {
    let bytes = |ms: u32| (sample_rate_hz * ms / 1_000 * u32::from(channels) * 2) as usize;
    let ms = FRAME_MS.into_iter().find(|ms| bytes(*ms) <= MAX_FRAME_BYTES).unwrap_or(1);
    Media { codec: CODEC.to_owned(), sample_rate_hz, channels, frame_duration_us: ms * 1_000 }
}

/// Samples of all channels together.
fn samples_of_frame(media: &Media) -> usize {
    let each = u64::from(media.sample_rate_hz) * u64::from(media.frame_duration_us) / 1_000_000;
    (each * u64::from(media.channels)) as usize
}

/// A file that a call is written into.
pub(crate) struct Kept {
    wav: hound::WavWriter<BufWriter<File>>,
    path: PathBuf,
    silence: usize,
}

impl Kept {
    /// # Errors
    /// A file failure if the file cannot be made, or the call is not made of samples.
    pub(crate) fn create(path: &Path, media: Option<&Media>) -> Result<Self, Failure> {
        let media = media.filter(|media| media.codec == CODEC).ok_or_else(|| {
            let codec = media.map_or("nothing that the caller names", |media| media.codec.as_str());
            Failure::file(path, format!("a WAV file takes {CODEC}, and the call is {codec}"))
        })?;
        let spec = hound::WavSpec {
            channels: media.channels.into(),
            sample_rate: media.sample_rate_hz,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let wav = hound::WavWriter::create(path, spec).map_err(|error| Failure::file(path, error))?;
        Ok(Self { wav, path: path.to_owned(), silence: samples_of_frame(media).min(MAX_FRAME_BYTES) })
    }

    fn put(&mut self, item: &AudioItem) -> Result<(), Failure> {
        let failed = |path: &Path, error| Failure::file(path, error);
        match item {
            AudioItem::Frame(frame) => {
                for sample in frame.data.chunks_exact(2) {
                    let sample = i16::from_le_bytes([sample[0], sample[1]]);
                    self.wav.write_sample(sample).map_err(|error| failed(&self.path, error))?;
                }
            }
            AudioItem::Conceal => {
                for _ in 0..self.silence {
                    self.wav.write_sample(0i16).map_err(|error| failed(&self.path, error))?;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        let Self { wav, path, .. } = self;
        wav.finalize().map_err(|error| Failure::file(path, error))
    }
}

/// Reads a call at its pace until it ends: keeps it, and sends it back, as asked.
pub(crate) async fn listen(
    mut reader: AudioReader,
    mut kept: Option<Kept>,
    echo: Option<(AviP2pHandle, StreamId)>,
) -> Result<(), Failure> {
    while let Some(item) = reader.recv().await {
        if let Some(kept) = &mut kept {
            kept.put(&item)?;
        }
        if let (Some((handle, stream)), AudioItem::Frame(frame)) = (&echo, item) {
            match handle.send_audio(*stream, frame.data).await {
                // Its end is an event.
                Ok(()) | Err(AviP2pError::StreamEnded { .. } | AviP2pError::ChannelClosed) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    kept.map_or(Ok(()), Kept::finish)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_into_a_datagram_at_every_rate() {
        for rate in [8_000, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000] {
            for channels in [1, 2] {
                let media = media(rate, channels);
                assert!((1..=MAX_FRAME_BYTES / 2).contains(&samples_of_frame(&media)), "{media:?}");
            }
        }
        assert_eq!(media(16_000, 1).frame_duration_us, 20_000);
        assert_eq!(media(48_000, 2).frame_duration_us, 5_000);
    }

    #[test]
    fn a_tone_crosses_zero_twice_a_period_and_has_no_end() {
        let mut tone = Sound::tone(1_000);
        let mut samples = Vec::new();
        for _ in 0..100 {
            let frame = tone.next_frame().unwrap().unwrap();
            samples.extend(frame.chunks(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])));
        }
        let crossings = samples.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
        assert!((3_990..=4_000).contains(&crossings), "{crossings} in two seconds");
    }
}
