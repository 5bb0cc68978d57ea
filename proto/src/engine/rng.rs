//! Randomness from a seed, for jitter and for walks. Not for secrets.

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and a mix a number.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let words = seed.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let mut rng = Self(0);
        for word in words {
            rng.0 ^= word;
            rng.0 = rng.next();
        }
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The duration, made longer or shorter by up to a quarter.
    pub(crate) fn jitter(&mut self, duration: std::time::Duration) -> std::time::Duration {
        duration.mul_f64(0.75 + 0.5 * (self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }

    pub(crate) fn key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        key.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = self.next().to_le_bytes());
        key
    }
}
