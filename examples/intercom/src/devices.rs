//! How do samples get from the microphone, and to the loudspeaker? The callbacks of the sound library must not wait: each
//! shares only a ring buffer without locks with the call. Sound cards have rates and clocks of their own.

use std::sync::Arc;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{Device, FromSample, Sample, SampleFormat, SizedSample, Stream, StreamConfig, SupportedStreamConfig};
use rtrb::{Consumer, Producer, RingBuffer};
use tokio::sync::Notify;

use crate::Outcome;
use crate::codec::{FRAME, RATE_HZ};
use crate::resample::Resampler;
use crate::wav::{from_i16, to_i16};

/// Frames that a ring holds. What more the microphone gives is dropped.
const RING_FRAMES: usize = 8;
/// Frames that wait before the loudspeaker begins, after silence: one plays while a concealed one waits for its copy.
const AHEAD_FRAMES: usize = 2;
/// Beyond these the loudspeaker is slower than the call, and skips to [`AHEAD_FRAMES`].
const MOST_FRAMES: usize = 5;

/// Calls a function for the type of the device's samples.
macro_rules! by_format {
    ($format:expr, $build:ident, $($argument:expr),+) => {
        match $format {
            SampleFormat::I16 => $build::<i16>($($argument),+),
            SampleFormat::I32 => $build::<i32>($($argument),+),
            SampleFormat::U8 => $build::<u8>($($argument),+),
            SampleFormat::U16 => $build::<u16>($($argument),+),
            SampleFormat::F32 => $build::<f32>($($argument),+),
            other => return Err(format!("samples of {other} are not supported").into()),
        }
    };
}
pub struct Microphone {
    ring: Consumer<f32>,
    filled: Arc<Notify>,
    resampler: Resampler,
    samples: Vec<f32>,
    _stream: Stream,
}

impl Microphone {
    pub fn open() -> Outcome<Self> {
        let device = cpal::default_host().default_input_device().ok_or("this machine has no microphone")?;
        let config = device.default_input_config().map_err(|error| format!("the microphone: {error}"))?;
        let rate_hz = config.sample_rate();
        let (producer, ring) = RingBuffer::new(RING_FRAMES * frame_at(rate_hz));
        let filled = Arc::new(Notify::new());
        let stream = by_format!(config.sample_format(), record, &device, &config, producer, filled.clone())
            .map_err(|error| format!("the microphone: {error}"))?;
        stream.play().map_err(|error| format!("the microphone: {error}"))?;
        Ok(Self { ring, filled, resampler: Resampler::new(rate_hz, RATE_HZ), samples: Vec::new(), _stream: stream })
    }

    pub async fn frame(&mut self) -> [i16; FRAME] {
        while self.samples.len() < FRAME {
            let waiting = self.ring.slots();
            match self.ring.read_chunk(waiting) {
                Ok(chunk) if waiting > 0 => {
                    let fresh: Vec<f32> = chunk.into_iter().collect();
                    self.resampler.push(&fresh, &mut self.samples);
                }
                _ => self.filled.notified().await,
            }
        }
        let mut frame = self.samples.drain(..FRAME);
        std::array::from_fn(|_| frame.next().map_or(0, to_i16))
    }
}

pub struct Loudspeaker {
    ring: Producer<f32>,
    resampler: Resampler,
    _stream: Stream,
}

impl Loudspeaker {
    pub fn open() -> Outcome<Self> {
        let device = cpal::default_host().default_output_device().ok_or("this machine has no loudspeaker")?;
        let config = device.default_output_config().map_err(|error| format!("the loudspeaker: {error}"))?;
        let rate_hz = config.sample_rate();
        let (ring, consumer) = RingBuffer::new(RING_FRAMES * frame_at(rate_hz));
        let stream = by_format!(config.sample_format(), play, &device, &config, consumer)
            .map_err(|error| format!("the loudspeaker: {error}"))?;
        stream.play().map_err(|error| format!("the loudspeaker: {error}"))?;
        Ok(Self { ring, resampler: Resampler::new(RATE_HZ, rate_hz), _stream: stream })
    }

    pub fn play(&mut self, samples: &[i16]) {
        let samples: Vec<f32> = samples.iter().copied().map(from_i16).collect();
        let mut out = Vec::new();
        self.resampler.push(&samples, &mut out);
        // A full ring is one that nobody plays from: the device is gone.
        let room = self.ring.slots().min(out.len());
        if let Ok(chunk) = self.ring.write_chunk_uninit(room) {
            chunk.fill_from_iter(out);
        }
    }
}

fn frame_at(rate_hz: u32) -> usize {
    FRAME * rate_hz as usize / RATE_HZ as usize
}

/// The first channel goes to the ring.
fn record<T>(
    device: &Device,
    config: &SupportedStreamConfig,
    mut ring: Producer<f32>,
    filled: Arc<Notify>,
) -> Result<Stream, cpal::Error>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let channels = usize::from(config.channels()).max(1);
    let take = move |samples: &[T], _: &_| {
        for sample in samples.iter().step_by(channels) {
            // Full: the call does not keep up, and old sound is worth less than no delay.
            let _ = ring.push(f32::from_sample(*sample));
        }
        filled.notify_one();
    };
    device.build_input_stream(StreamConfig::from(*config), take, complain, None)
}

/// What is in the ring goes to all channels.
fn play<T>(device: &Device, config: &SupportedStreamConfig, mut ring: Consumer<f32>) -> Result<Stream, cpal::Error>
where
    T: SizedSample + FromSample<f32>,
{
    let channels = usize::from(config.channels()).max(1);
    let frame = frame_at(config.sample_rate());
    let mut is_playing = false;
    let fill = move |samples: &mut [T], _: &_| {
        let waiting = ring.slots();
        // A device may ask for more at a time than what waits ahead, but not for more than fits.
        let ahead = (AHEAD_FRAMES * frame).max(samples.len() / channels).min(MOST_FRAMES * frame);
        is_playing = is_playing && waiting > 0 || waiting >= ahead;
        if waiting > MOST_FRAMES * frame + ahead {
            for _ in ahead..waiting {
                let _ = ring.pop();
            }
        }
        for all in samples.chunks_mut(channels) {
            let sample = if is_playing { ring.pop().unwrap_or(0.0) } else { 0.0 };
            all.fill(T::from_sample(sample));
        }
    };
    device.build_output_stream(StreamConfig::from(*config), fill, complain, None)
}

fn complain(error: cpal::Error) {
    eprintln!("intercom: the sound device: {error}");
}
