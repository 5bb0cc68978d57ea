//! How does sound become frames, and frames sound again? Opus (RFC 6716) with in-band FEC: each frame may also have a coarse
//! copy of the one before, which is played if that one is lost.

use avi_p2p::{AudioItem, Media};
use rusty_opus::{Application, OpusDecoder, OpusEncoder};

use crate::Outcome;
use crate::wav::{from_i16, to_i16};

/// Samples a second: wideband, where all of the voice is in Opus's SILK layer, and so in the FEC too.
pub const RATE_HZ: u32 = 16_000;
/// Samples of a frame: 20 ms.
pub const FRAME: usize = 320;
/// Opus packets a second.
const FRAMES_A_SECOND: u64 = 50;
/// The recommended rate for wideband speech (RFC 6716 §2.1.1), and as much as FEC takes of it.
const BITRATE: u64 = 24_000;
/// The least that Opus codes.
const LEAST_BITRATE: u64 = 6_000;
/// What the library puts before most frames.
const HEADER_BITS: u64 = 8 * 8;
/// The encoder spends bits on FEC only if it is told of losses; the first come before the first report.
const LEAST_LOSS_PERCENT: u64 = 5;
const MOST_LOSS_PERCENT: u64 = 30;
/// The longest Opus packet of one frame (RFC 6716 §3.4).
const MAX_PACKET_BYTES: usize = 1275;

pub fn media() -> Media {
    Media { codec: "opus".to_owned(), sample_rate_hz: RATE_HZ, channels: 1, frame_duration_us: 20_000 }
}

/// Whether this program can play it. Opus decodes to any rate and to one channel, whatever was encoded.
pub fn can_play(media: Option<&Media>) -> bool {
    media.is_some_and(|media| {
        media.codec == "opus" && media.frame_duration_us == crate::codec::media().frame_duration_us
    })
}

/// Encodes what is said.
pub struct Voice {
    encoder: OpusEncoder,
    packet: Vec<u8>,
    /// Of the last report: the frames that the other end knew of, and those of them that it did not get.
    reported: (u64, u64),
}

impl Voice {
    pub fn new() -> Outcome<Self> {
        let mut encoder = OpusEncoder::new(RATE_HZ as i32, 1, Application::Voip)?;
        encoder.bitrate_bps = BITRATE as i32;
        encoder.use_inband_fec = true;
        encoder.packet_loss_perc = LEAST_LOSS_PERCENT as i32;
        Ok(Self { encoder, packet: vec![0; MAX_PACKET_BYTES], reported: (0, 0) })
    }

    pub fn encode(&mut self, samples: &[i16; FRAME]) -> Outcome<Vec<u8>> {
        let samples = samples.map(from_i16);
        let bytes = self.encoder.encode(&samples, FRAME, &mut self.packet)?;
        Ok(self.packet[..bytes].to_vec())
    }

    /// Follows what the path takes, in bits a second with the headers of frames. The bitrate that it takes now.
    pub fn follow_rate(&mut self, bits_per_second: Option<u64>) -> u64 {
        let payload = bits_per_second.map(|bits| bits.saturating_sub(HEADER_BITS * FRAMES_A_SECOND));
        let bitrate = payload.unwrap_or(BITRATE).clamp(LEAST_BITRATE, BITRATE);
        self.encoder.bitrate_bps = bitrate as i32;
        bitrate
    }

    /// Follows what the other end reports: frames that it knew of since the call began, and those that never arrived.
    pub fn follow_loss(&mut self, frames: u64, lost: u64) {
        let (frames_before, lost_before) = std::mem::replace(&mut self.reported, (frames, lost));
        if let Some(since @ 1..) = frames.checked_sub(frames_before) {
            let percent = lost.saturating_sub(lost_before).saturating_mul(100).div_ceil(since);
            self.encoder.packet_loss_perc = percent.clamp(LEAST_LOSS_PERCENT, MOST_LOSS_PERCENT) as i32;
        }
    }
}

/// Decodes what is heard, and fills what is missing.
pub struct Ear {
    decoder: OpusDecoder,
    /// A frame is to conceal. How, the next item tells.
    owes: bool,
    frame: [f32; FRAME],
    pub figures: Figures,
}

/// How the frames that were played came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub decoded: u64,
    /// Lost, and decoded from the copy in the next frame.
    pub recovered: u64,
    /// Made up by the decoder.
    pub concealed: u64,
    /// Arrived, and was no Opus.
    pub invalid: u64,
}

impl Ear {
    pub fn new() -> Outcome<Self> {
        let decoder = OpusDecoder::new(RATE_HZ as i32, 1)?;
        Ok(Self { decoder, owes: false, frame: [0.0; FRAME], figures: Figures::default() })
    }

    /// What to play now: nothing while a concealed frame waits for its copy, then two frames.
    pub fn hear(&mut self, item: AudioItem) -> Vec<i16> {
        let mut samples = Vec::with_capacity(2 * FRAME);
        match item {
            AudioItem::Conceal => {
                self.settle(&mut samples);
                self.owes = true;
            }
            AudioItem::Frame(frame) => {
                // Without a frame missing, the playout has only waited: the copy would be of what was played before.
                if frame.missing > 0 && self.owes && self.decode_copy(&frame.data, &mut samples) {
                    self.owes = false;
                    self.figures.recovered += 1;
                }
                self.settle(&mut samples);
                if self.decode(&frame.data, &mut samples) {
                    self.figures.decoded += 1;
                } else {
                    self.figures.invalid += 1;
                    self.owes = true;
                    self.settle(&mut samples);
                }
            }
        }
        samples
    }

    /// Conceals the frame that is owed, without a copy.
    fn settle(&mut self, samples: &mut Vec<i16>) {
        if std::mem::take(&mut self.owes) {
            self.figures.concealed += 1;
            if !self.decode(&[], samples) {
                samples.extend([0; FRAME]);
            }
        }
    }

    /// Decodes a packet, conceals for an empty one.
    fn decode(&mut self, packet: &[u8], samples: &mut Vec<i16>) -> bool {
        let decoded = self.decoder.decode(packet, FRAME, &mut self.frame);
        self.keep(decoded, samples)
    }

    /// Decodes the copy in a packet of the frame before it.
    fn decode_copy(&mut self, packet: &[u8], samples: &mut Vec<i16>) -> bool {
        let decoded = self.decoder.decode_fec(packet, FRAME, &mut self.frame);
        self.keep(decoded, samples)
    }

    fn keep<E>(&mut self, decoded: Result<usize, E>, samples: &mut Vec<i16>) -> bool {
        let is_frame = matches!(decoded, Ok(FRAME));
        if is_frame {
            samples.extend(self.frame.map(to_i16));
        }
        is_frame
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;
    use std::time::Duration;

    use avi_p2p::AudioFrame;

    use super::*;

    /// Syllables: a pitch that glides, with its harmonics, and pauses. Without pauses the encoder hears a noise.
    fn spoken() -> Vec<[i16; FRAME]> {
        let mut phase = 0.0;
        let mut sample = |n: usize| {
            phase += TAU * (150.0 + 60.0 * (n as f64 / 1500.0).sin()) / f64::from(RATE_HZ);
            let harmonics = (1..20).map(|k| (phase * f64::from(k)).sin() / f64::from(k)).sum::<f64>();
            let is_pause = n / FRAME % 15 >= 10;
            (if is_pause { 2.0 } else { 4000.0 } * harmonics) as i16
        };
        (0..100).map(|frame| std::array::from_fn(|n| sample(frame * FRAME + n))).collect()
    }

    fn items(is_missing: impl Fn(usize) -> bool) -> Vec<AudioItem> {
        let mut voice = Voice::new().unwrap();
        let mut missing = 0;
        let packets = spoken().into_iter().map(|frame| voice.encode(&frame).unwrap());
        let item = |(n, packet): (usize, Vec<u8>)| match is_missing(n) {
            true => {
                missing += 1;
                AudioItem::Conceal
            }
            false => {
                let missing = std::mem::take(&mut missing);
                AudioItem::Frame(AudioFrame::new(n as u64, 20_000 * n as u64, Duration::ZERO, missing, packet))
            }
        };
        packets.collect::<Vec<_>>().into_iter().enumerate().map(item).collect()
    }

    fn heard(items: impl IntoIterator<Item = AudioItem>) -> (Vec<i16>, Figures) {
        let mut ear = Ear::new().unwrap();
        let samples = items.into_iter().flat_map(|item| ear.hear(item)).collect();
        (samples, ear.figures)
    }

    /// Of one frame, against the same frame of a call that loses nothing; in decibels.
    fn likeness(samples: &[i16], whole: &[i16], frame: usize) -> f64 {
        let energy = |value: f64| value * value;
        let range = frame * FRAME..(frame + 1) * FRAME;
        let signal: f64 = whole[range.clone()].iter().map(|&x| energy(x.into())).sum();
        let error =
            whole[range.clone()].iter().zip(&samples[range]).map(|(&x, &y)| energy(f64::from(x) - f64::from(y)));
        10.0 * (signal / error.sum::<f64>().max(1.0)).log10()
    }

    #[test]
    fn a_lost_frame_is_decoded_from_its_copy_in_the_next_one() {
        let (whole, figures) = heard(items(|_| false));
        assert_eq!(figures, Figures { decoded: 100, ..Figures::default() });
        let (samples, figures) = heard(items(|n| n == 50));
        assert_eq!(figures, Figures { decoded: 99, recovered: 1, ..Figures::default() });
        assert_eq!(samples.len(), whole.len());
        // Of two lost in a row, the first has no copy.
        let (both, figures) = heard(items(|n| n == 49 || n == 50));
        assert_eq!(figures, Figures { decoded: 98, recovered: 1, concealed: 1, ..Figures::default() });
        assert_eq!(both.len(), whole.len());
        // The copy is worth more than what a decoder makes up after a change of pitch.
        let without = items(|n| n == 50).into_iter().map(|item| match item {
            AudioItem::Frame(frame) => {
                AudioItem::Frame(AudioFrame::new(frame.sequence, 0, Duration::ZERO, 0, frame.data))
            }
            other => other,
        });
        let (made_up, figures) = heard(without);
        assert_eq!(figures.concealed, 1);
        let (copy, made_up) = (likeness(&samples, &whole, 50), likeness(&made_up, &whole, 50));
        assert!(copy > made_up + 3.0, "{copy} dB and {made_up} dB");
    }

    #[test]
    fn a_playout_that_only_waited_is_not_answered_with_a_copy() {
        let mut all = items(|_| false);
        all.insert(50, AudioItem::Conceal);
        let (samples, figures) = heard(all);
        assert_eq!(figures, Figures { decoded: 100, concealed: 1, ..Figures::default() });
        assert_eq!(samples.len(), 101 * FRAME);
    }

    #[test]
    fn what_is_no_opus_is_filled_in() {
        let junk = AudioItem::Frame(AudioFrame::new(0, 0, Duration::ZERO, 0, vec![0xff; 3]));
        let (samples, figures) = heard([junk]);
        assert_eq!((samples.len(), figures.invalid, figures.concealed), (FRAME, 1, 1));
    }

    #[test]
    fn the_encoder_follows_the_path() {
        let bytes = |bits_per_second| {
            let mut voice = Voice::new().unwrap();
            voice.follow_rate(bits_per_second);
            spoken().iter().map(|frame| voice.encode(frame).unwrap().len()).sum::<usize>()
        };
        // Two seconds.
        assert!(bytes(None) <= 24_000 / 8 * 2 * 11 / 10);
        assert!(bytes(Some(16_000)) * 8 / 2 + 8 * 8 * 50 <= 16_000 * 11 / 10, "{} bytes", bytes(Some(16_000)));
        assert_eq!(Voice::new().unwrap().follow_rate(Some(100)), LEAST_BITRATE);
    }
}
