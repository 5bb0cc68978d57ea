//! How much of the speech can still be understood? The core of STOI, the short-time objective intelligibility measure (Taal
//! et al., "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech", IEEE TASL 19(7), 2011):
//! the correlation of envelopes in third-octave bands, over 0.4 s of active speech. The paper has 10 kHz and frames of 25.6
//! ms; these are 25 ms at 16 kHz.
#![allow(dead_code)]

use std::f64::consts::PI;
use std::ops::Range;

pub const RATE_HZ: usize = 16_000;
const FRAME: usize = 400;
const HOP: usize = FRAME / 2;
const TRANSFORM: usize = 512;
const BANDS: usize = 15;
const LOWEST_HZ: f64 = 150.0;
/// Frames that one correlation spans.
const SEGMENT: usize = 30;
/// Below the loudest frame, in decibels, a frame is not speech.
const SILENCE_DB: f64 = 40.0;
/// How far below the speech the error may be counted, in decibels.
const CLIP_DB: f64 = 15.0;

/// A pure 1 for the same sound; about 0 for sounds that have nothing to do with each other. Both must be aligned.
pub fn intelligibility(original: &[f64], heard: &[f64]) -> f64 {
    let frames = original.len().min(heard.len()).saturating_sub(FRAME) / HOP;
    let energy = |at: usize| original[at * HOP..at * HOP + FRAME].iter().map(|x| x * x).sum::<f64>();
    let loudest = (0..frames).map(energy).fold(0.0, f64::max);
    let active = (0..frames).filter(|&at| energy(at) > loudest / 10f64.powf(SILENCE_DB / 10.0));
    let (clean, other): (Vec<_>, Vec<_>) = active.map(|at| (bands(original, at), bands(heard, at))).unzip();
    let segments = clean.windows(SEGMENT).zip(other.windows(SEGMENT));
    let correlations: Vec<f64> = segments
        .flat_map(|(clean, other)| (0..BANDS).map(move |band| envelope_correlation(clean, other, band)))
        .collect();
    assert!(!correlations.is_empty(), "too little speech to measure");
    correlations.iter().sum::<f64>() / correlations.len() as f64
}

fn envelope_correlation(clean: &[[f64; BANDS]], other: &[[f64; BANDS]], band: usize) -> f64 {
    let x: Vec<f64> = clean.iter().map(|frame| frame[band]).collect();
    let mut y: Vec<f64> = other.iter().map(|frame| frame[band]).collect();
    let gain = norm(&x) / norm(&y).max(f64::MIN_POSITIVE);
    for (y, x) in y.iter_mut().zip(&x) {
        *y = (*y * gain).min(x * (1.0 + 10f64.powf(CLIP_DB / 20.0)));
    }
    let centred = |v: &[f64]| v.iter().map(|a| a - v.iter().sum::<f64>() / v.len() as f64).collect::<Vec<f64>>();
    let (x, y) = (centred(&x), centred(&y));
    dot(&x, &y) / (norm(&x) * norm(&y)).max(f64::MIN_POSITIVE)
}

/// The magnitudes of one frame in third-octave bands.
fn bands(sound: &[f64], frame: usize) -> [f64; BANDS] {
    let mut spectrum = vec![(0.0, 0.0); TRANSFORM];
    for (n, sample) in sound[frame * HOP..frame * HOP + FRAME].iter().enumerate() {
        spectrum[n].0 = sample * (PI * (n as f64 + 0.5) / FRAME as f64).sin().powi(2);
    }
    transform(&mut spectrum, false);
    let bin = |hz: f64| (hz * TRANSFORM as f64 / RATE_HZ as f64).round() as usize;
    std::array::from_fn(|band| {
        let centre = LOWEST_HZ * 2f64.powf(band as f64 / 3.0);
        let bins = bin(centre / 2f64.powf(1.0 / 6.0))..bin(centre * 2f64.powf(1.0 / 6.0));
        spectrum[bins].iter().map(|(re, im)| re * re + im * im).sum::<f64>().sqrt()
    })
}

/// What was heard, cut and shifted so that it lies on the original: as a whole by the maximum of the cross-correlation, and
/// then each second of it by up to 0.1 s, because a jitter buffer changes its delay within a call. PESQ (ITU-T P.862)
/// aligns utterance by utterance too.
pub fn aligned(original: &[f64], heard: &[f64]) -> Vec<f64> {
    const REACH: isize = RATE_HZ as isize / 10;
    let whole = lag(original, heard);
    let at = |n: isize| usize::try_from(n).ok().and_then(|n| heard.get(n)).copied().unwrap_or(0.0);
    let part = |part: Range<usize>, lag: isize| part.map(move |n| at(n as isize + lag));
    let mut result = Vec::with_capacity(original.len());
    for start in (0..original.len()).step_by(RATE_HZ) {
        let second = start..original.len().min(start + RATE_HZ);
        let likeness = |lag: isize| part(second.clone(), lag).zip(&original[second.clone()]).map(|(y, x)| x * y).sum();
        let best = (whole - REACH..=whole + REACH).map(|lag| (lag, likeness(lag)));
        let (best, _) =
            best.fold((whole, likeness(whole)), |most: (isize, f64), one| if one.1 > most.1 { one } else { most });
        result.extend(part(second, best));
    }
    result
}

/// By how many samples `heard` comes later.
fn lag(original: &[f64], heard: &[f64]) -> isize {
    let size = (original.len() + heard.len()).next_power_of_two();
    let spectrum = |sound: &[f64]| {
        let mut values: Vec<_> = sound.iter().map(|&sample| (sample, 0.0)).collect();
        values.resize(size, (0.0, 0.0));
        transform(&mut values, false);
        values
    };
    let products = spectrum(original).into_iter().zip(spectrum(heard));
    let mut product: Vec<_> = products.map(|((a, b), (c, d))| (a * c + b * d, a * d - b * c)).collect();
    transform(&mut product, true);
    let most = (0..size).max_by(|&a, &b| product[a].0.total_cmp(&product[b].0)).unwrap_or(0) as isize;
    if most > size as isize / 2 { most - size as isize } else { most }
}

/// The discrete Fourier transform of a power of two of complex values, without a scale (Cooley and Tukey, 1965).
fn transform(values: &mut [(f64, f64)], inverse: bool) {
    let size = values.len();
    if size < 2 {
        return;
    }
    let bits = size.trailing_zeros();
    for n in 0..size {
        let mirrored = n.reverse_bits() >> (usize::BITS - bits);
        if n < mirrored {
            values.swap(n, mirrored);
        }
    }
    let mut half = 1;
    while half < size {
        let step = if inverse { PI } else { -PI } / half as f64;
        for k in 0..half {
            let (sin, cos) = (step * k as f64).sin_cos();
            for even in (k..size).step_by(2 * half) {
                let (re, im) = values[even + half];
                let odd = (re * cos - im * sin, re * sin + im * cos);
                let (re, im) = values[even];
                values[even] = (re + odd.0, im + odd.1);
                values[even + half] = (re - odd.0, im - odd.1);
            }
        }
        half *= 2;
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}
