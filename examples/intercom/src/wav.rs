//! How do WAV files stand in for a microphone and a loudspeaker?

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::Outcome;
use crate::codec::{FRAME, RATE_HZ};
use crate::resample::Resampler;

const BITS: u16 = 16;

/// 16-bit samples of any rate; of several channels the first.
pub fn read(file: &Path) -> Outcome<Vec<i16>> {
    let failed = |error: hound::Error| format!("{}: {error}", file.display());
    let wav = WavReader::open(file).map_err(failed)?;
    let spec = wav.spec();
    if spec.bits_per_sample != BITS || spec.sample_format != SampleFormat::Int {
        let found = format!("{} bits, {:?}", spec.bits_per_sample, spec.sample_format);
        return Err(format!("{}: expected samples of 16 bits, integers; found {found}", file.display()).into());
    }
    let samples = wav.into_samples::<i16>().step_by(spec.channels.into());
    let samples: Vec<f32> = samples.map(|sample| Ok(from_i16(sample?))).collect::<Result<_, _>>().map_err(failed)?;
    let mut out = Vec::new();
    let mut resampler = Resampler::new(spec.sample_rate, RATE_HZ);
    resampler.push(&samples, &mut out);
    resampler.push(&[0.0; FRAME], &mut out);
    Ok(out.into_iter().map(to_i16).collect())
}

pub fn from_i16(sample: i16) -> f32 {
    f32::from(sample) / 32_768.0
}

pub fn to_i16(sample: f32) -> i16 {
    (sample * 32_768.0) as i16
}

/// Speaks a file, a frame every 20 ms.
pub struct Speaking {
    samples: std::vec::IntoIter<i16>,
    beat: Interval,
}

impl Speaking {
    pub fn new(samples: Vec<i16>) -> Self {
        let mut beat = interval(Duration::from_millis(20));
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        Self { samples: samples.into_iter(), beat }
    }

    /// `None` once all is said.
    pub async fn frame(&mut self) -> Option<[i16; FRAME]> {
        self.beat.tick().await;
        let first = self.samples.next()?;
        let rest = self.samples.by_ref();
        Some(std::array::from_fn(|n| if n == 0 { first } else { rest.next().unwrap_or(0) }))
    }
}

pub type Writer = WavWriter<BufWriter<File>>;

pub fn create(file: &Path) -> Outcome<Writer> {
    let spec = WavSpec { channels: 1, sample_rate: RATE_HZ, bits_per_sample: BITS, sample_format: SampleFormat::Int };
    Ok(WavWriter::create(file, spec).map_err(|error| format!("{}: {error}", file.display()))?)
}
