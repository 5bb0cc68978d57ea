//! How does sound get from one sample rate to another? Interpolation by a windowed sinc (Smith, "Digital Audio Resampling",
//! CCRMA, 2002), as it comes: what does not fill the filter yet waits for the next samples.

use std::f64::consts::PI;

/// Zero crossings of the sinc on either side.
const CROSSINGS: usize = 16;
/// Values of the filter between two crossings; the nearest one is taken.
const PHASES: usize = 512;
/// The part of the band that passes. The rest is the filter's slope.
const PASSED: f64 = 0.92;

/// Samples of one channel, -1 to 1.
pub struct Resampler {
    /// How far one output sample is from the next, in input samples.
    step: f64,
    /// The filter's scale in time: below 1 it also removes what the lower rate cannot carry.
    band: f64,
    filter: Vec<f32>,
    waiting: Vec<f32>,
    /// Where the next output sample is in `waiting`.
    position: f64,
}

impl Resampler {
    /// Rates in samples a second, above 0.
    pub fn new(from_hz: u32, to_hz: u32) -> Self {
        let step = f64::from(from_hz) / f64::from(to_hz);
        let band = (1.0 / step).min(1.0) * PASSED;
        let filter = (0..=CROSSINGS * PHASES).map(|n| value(n as f64 / PHASES as f64)).collect();
        let reach = (CROSSINGS as f64 / band).ceil();
        // Silence before the first sample.
        Self { step, band, filter, waiting: vec![0.0; reach as usize], position: reach }
    }

    /// Takes samples, and appends those that are ready.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        if self.step == 1.0 {
            out.extend_from_slice(samples);
            return;
        }
        self.waiting.extend_from_slice(samples);
        let reach = CROSSINGS as f64 / self.band;
        while self.position + reach < self.waiting.len() as f64 {
            out.push(self.interpolate(reach));
            self.position += self.step;
        }
        let done = (self.position - reach).floor().clamp(0.0, self.waiting.len() as f64);
        self.waiting.drain(..done as usize);
        self.position -= done;
    }

    fn interpolate(&self, reach: f64) -> f32 {
        let first = (self.position - reach).ceil().max(0.0) as usize;
        let last = (self.position + reach).floor() as usize;
        let taps = self.waiting[first..=last].iter().enumerate();
        let weighted = taps.map(|(n, sample)| {
            let distance = ((first + n) as f64 - self.position).abs() * self.band;
            sample * self.filter[((distance * PHASES as f64).round() as usize).min(CROSSINGS * PHASES)]
        });
        weighted.sum::<f32>() * self.band as f32
    }
}

/// The sinc in Hann's window, at so many crossings from its middle.
fn value(at: f64) -> f32 {
    let sinc = if at == 0.0 { 1.0 } else { (PI * at).sin() / (PI * at) };
    (sinc * (PI * at / (2.0 * CROSSINGS as f64)).cos().powi(2)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, rate_hz: u32, samples: usize) -> Vec<f32> {
        (0..samples).map(|n| (n as f64 * hz * 2.0 * PI / f64::from(rate_hz)).sin() as f32).collect()
    }

    fn resampled(from_hz: u32, to_hz: u32, hz: f64) -> Vec<f32> {
        let mut resampler = Resampler::new(from_hz, to_hz);
        let mut out = Vec::new();
        // In pieces of odd lengths, as devices give them.
        for piece in tone(hz, from_hz, from_hz as usize).chunks(441) {
            resampler.push(piece, &mut out);
        }
        out
    }

    #[test]
    fn a_tone_stays_the_same_tone_at_any_rate() {
        for (from_hz, to_hz) in
            [(22_050, 16_000), (48_000, 16_000), (44_100, 16_000), (16_000, 48_000), (16_000, 44_100)]
        {
            let out = resampled(from_hz, to_hz, 1000.0);
            let expected = tone(1000.0, to_hz, out.len());
            assert!(to_hz as usize - out.len() < 100, "{from_hz} to {to_hz}: {} samples", out.len());
            let worst = out.iter().zip(&expected).skip(200).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 0.005, "{from_hz} to {to_hz}: {worst}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_removed() {
        let out = resampled(48_000, 16_000, 10_000.0);
        let loudest = out.iter().skip(200).fold(0.0f32, |most, sample| most.max(sample.abs()));
        assert!(loudest < 0.01, "{loudest}");
    }
}
