//! Where do the ids and keys of sessions come from, and who can see a key?

use std::fmt;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use zeroize::Zeroize as _;

use super::session::{Opener, Sealer};

/// Names a session in the clear, so that the receiver finds its key (as the connection id of RFC 9146).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
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
    source: Source,
    /// What was drawn since [`Secrets::take`], of secrets that are recorded.
    #[cfg(feature = "recorder")]
    drawn: Option<Drawn>,
}

#[derive(Debug)]
enum Source {
    Seed(Key),
    /// A recording, which has what was drawn but for the keys: sessions are not sealed.
    #[cfg(feature = "recorder")]
    Recorded(Drawn),
}

/// What an engine has drawn for one input, and what it could read. No key.
#[cfg(feature = "recorder")]
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Drawn {
    /// The ids of sessions.
    pub(crate) sessions: std::collections::VecDeque<[u8; 8]>,
    /// The tokens of PROBE.
    pub(crate) tokens: std::collections::VecDeque<u64>,
    /// The frames of the datagram that came; `None` if it was not authentic.
    #[serde(skip)]
    pub(crate) opened: Option<bytes::Bytes>,
}

impl Secrets {
    /// The seed is used for nothing else.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            source: Source::Seed(Key(seed)),
            #[cfg(feature = "recorder")]
            drawn: None,
        }
    }

    /// A new id and a new key.
    pub fn session(&mut self) -> (SessionId, Key) {
        let (mut id, mut key) = (SessionId([0; 8]), Key([0; 32]));
        match &mut self.source {
            Source::Seed(seed) => {
                let mut rng = advance(seed);
                rng.fill_bytes(&mut key.0);
                rng.fill_bytes(&mut id.0);
            }
            #[cfg(feature = "recorder")]
            Source::Recorded(drawn) => id.0 = drawn.sessions.pop_front().unwrap_or_default(),
        }
        #[cfg(feature = "recorder")]
        self.drawn.iter_mut().for_each(|drawn| drawn.sessions.push_back(id.0));
        (id, key)
    }

    /// A number that nobody can guess, for PROBE.
    pub fn token(&mut self) -> u64 {
        let token = match &mut self.source {
            Source::Seed(seed) => advance(seed).next_u64(),
            #[cfg(feature = "recorder")]
            Source::Recorded(drawn) => drawn.tokens.pop_front().unwrap_or_default(),
        };
        #[cfg(feature = "recorder")]
        self.drawn.iter_mut().for_each(|drawn| drawn.tokens.push_back(token));
        token
    }

    /// The sending end of a session that the other end invited to.
    pub fn sealer(&self, id: SessionId, key: &Key) -> Sealer {
        match &self.source {
            Source::Seed(_) => Sealer::new(id, key),
            #[cfg(feature = "recorder")]
            Source::Recorded(_) => Sealer::recorded(id),
        }
    }

    /// The receiving end of a session that it invited to.
    pub fn opener(&self, id: SessionId, key: &Key) -> Opener {
        match &self.source {
            Source::Seed(_) => Opener::new(id, key),
            #[cfg(feature = "recorder")]
            Source::Recorded(_) => Opener::recorded(id),
        }
    }
}

fn advance(seed: &mut Key) -> ChaCha20Rng {
    let mut rng = ChaCha20Rng::from_seed(seed.0);
    rng.fill_bytes(&mut seed.0);
    rng
}

/// What is drawn in and out of a recording.
#[cfg(feature = "recorder")]
impl Secrets {
    /// Keeps what is drawn from now on, for [`Secrets::take`].
    pub(crate) fn keep(&mut self) {
        self.drawn.get_or_insert_default();
    }

    /// Takes what was drawn.
    pub(crate) fn take(&mut self) -> Drawn {
        self.drawn.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A datagram could be read.
    pub(crate) fn on_opened(&mut self, frames: &bytes::Bytes) {
        self.drawn.iter_mut().for_each(|drawn| drawn.opened = Some(frames.clone()));
    }

    /// What is drawn next.
    pub(crate) fn supply(&mut self, next: Drawn) {
        if let Source::Recorded(drawn) = &mut self.source {
            *drawn = next;
        }
    }
}

// A recording has no seed and no key.

#[cfg(feature = "recorder")]
impl serde::Serialize for Secrets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

#[cfg(feature = "recorder")]
impl<'de> serde::Deserialize<'de> for Secrets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self { source: Source::Recorded(Drawn::default()), drawn: None })
    }
}

#[cfg(feature = "recorder")]
impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

#[cfg(feature = "recorder")]
impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self([0; 32]))
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

    fn seed(secrets: &Secrets) -> [u8; 32] {
        match &secrets.source {
            Source::Seed(seed) => *seed.as_bytes(),
            #[cfg(feature = "recorder")]
            Source::Recorded(_) => unreachable!("these have a seed"),
        }
    }

    #[test]
    fn a_draw_replaces_the_seed() {
        let mut secrets = Secrets::new([1; 32]);
        let mut seeds = vec![seed(&secrets)];
        for _ in 0..3 {
            secrets.session();
            seeds.push(seed(&secrets));
        }
        secrets.token();
        seeds.push(seed(&secrets));
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 5);
    }

    #[test]
    fn debug_prints_no_key() {
        let (_, key) = Secrets::new([7; 32]).session();
        let text = format!("{key:?} {:?}", Secrets::new([7; 32]));
        assert!(text.starts_with("Key(..) Secrets { source: Seed(Key(..))"), "{text}");
    }
}
