//! Where do the ids and keys of sessions come from, and who can see a key?

use std::fmt;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use zeroize::Zeroize as _;

/// Names a session in the clear, so that the receiver finds its key (as the connection id of RFC 9146).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 8]);

impl SessionId {
    /// Wraps the bytes of an id.
    pub fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The id of a datagram; `None` if it is shorter than an id. It is not proven until the datagram has been opened.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        datagram.first_chunk().copied().map(Self)
    }

    /// The bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// The key of a session. `Debug` does not print it, and its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// Wraps the bytes of a key.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Random ids, keys and tokens from a seed.
///
/// Each draw replaces the seed, so that whoever sees the memory later cannot compute what was drawn before. The first
/// seed must come from the operating system, and must not be kept elsewhere; in a simulation, it may be any.
#[derive(Debug)]
pub struct Secrets {
    seed: Key,
}

impl Secrets {
    /// The seed is used for nothing else.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed: Key(seed) }
    }

    /// A new id and a new key.
    pub fn session(&mut self) -> (SessionId, Key) {
        let mut rng = self.advance();
        let (mut id, mut key) = (SessionId([0; 8]), Key([0; 32]));
        rng.fill_bytes(&mut key.0);
        rng.fill_bytes(&mut id.0);
        (id, key)
    }

    /// A number that nobody can guess, for PROBE.
    pub fn token(&mut self) -> u64 {
        self.advance().next_u64()
    }

    fn advance(&mut self) -> ChaCha20Rng {
        let mut rng = ChaCha20Rng::from_seed(self.seed.0);
        rng.fill_bytes(&mut self.seed.0);
        rng
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_secrets_and_none_twice() {
        let draw = |seed| {
            let mut secrets = Secrets::new([seed; 32]);
            let sessions = [secrets.session(), secrets.session()].map(|(id, key)| (id, *key.as_bytes()));
            (sessions, secrets.token(), secrets.token())
        };
        let (sessions, first, second) = draw(1);
        assert_eq!(draw(1), (sessions, first, second));
        assert_ne!(sessions[0].0, sessions[1].0);
        assert_ne!(sessions[0].1, sessions[1].1);
        assert_ne!(first, second);
        let (others, other, _) = draw(2);
        assert!(other != first && others[0].0 != sessions[0].0 && others[0].1 != sessions[0].1);
    }

    #[test]
    fn a_draw_replaces_the_seed() {
        let mut secrets = Secrets::new([1; 32]);
        let mut seeds = vec![*secrets.seed.as_bytes()];
        for _ in 0..3 {
            secrets.session();
            seeds.push(*secrets.seed.as_bytes());
        }
        secrets.token();
        seeds.push(*secrets.seed.as_bytes());
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 5);
    }

    #[test]
    fn debug_prints_no_key() {
        let (_, key) = Secrets::new([7; 32]).session();
        assert_eq!(format!("{key:?} {:?}", Secrets::new([7; 32])), "Key(..) Secrets { seed: Key(..) }");
    }
}
