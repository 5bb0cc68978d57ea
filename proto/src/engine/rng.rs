//! Random numbers from a seed, for jitter, walks, and tokens that mean something only to the peer they are given to. Not
//! for secrets.

use std::time::Duration;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};

/// ChaCha8, which gives the same numbers on every machine.
#[derive(Debug)]
pub(crate) struct Rng(ChaCha8Rng);

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// The duration, made longer or shorter by up to a quarter.
    pub(crate) fn jitter(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(0.75 + 0.5 * (self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }

    pub(crate) fn token(&mut self) -> [u8; 16] {
        let mut token = [0; 16];
        self.0.fill_bytes(&mut token);
        token
    }

    pub(crate) fn key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        self.0.fill_bytes(&mut key);
        key
    }
}

/// Its state: what it will give is no secret.
#[cfg(feature = "recorder")]
impl serde::Serialize for Rng {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0.get_seed(), self.0.get_word_pos()).serialize(serializer)
    }
}

#[cfg(feature = "recorder")]
impl<'de> serde::Deserialize<'de> for Rng {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (seed, position) = serde::Deserialize::deserialize(deserializer)?;
        let mut rng = ChaCha8Rng::from_seed(seed);
        rng.set_word_pos(position);
        Ok(Self(rng))
    }
}
