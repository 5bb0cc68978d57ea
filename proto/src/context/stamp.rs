//! When was something written, and by whom? A hybrid logical clock, and the proven author.

use std::fmt;
use std::time::Duration;

use crate::id::PeerId;

/// 2025-01-01. A clock before it was never set: the board has no battery for it.
const PLAUSIBLE_FROM: Wall = Wall(1_735_689_600_000);
/// What the base58 text of an Ed25519 peer id stands for, before the 32 bytes of the key: an identity hash of 36 bytes, of
/// protobuf's encoding of the key's type and of its length (libp2p's peer-ids specification).
const ED25519_ID: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Wall time in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Wall(pub(crate) u64);

impl Wall {
    /// Whether the clock can have been set.
    pub(crate) fn is_plausible(self) -> bool {
        self >= PLAUSIBLE_FROM
    }

    pub(crate) fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A hybrid logical clock (Kulkarni et al., 2014): 48 bits of milliseconds since 1970, and a counter of 16 bits for writes
/// that the milliseconds alone would not put in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Hlc(pub(crate) u64);

impl Hlc {
    pub(crate) fn at(wall: Wall) -> Self {
        Self(wall.0.min((1 << 48) - 1) << 16)
    }

    pub(crate) fn wall(self) -> Wall {
        Wall(self.0 >> 16)
    }

    /// The next one. After 65,536 within a millisecond it is in the next one.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// An author: an Ed25519 key. Its peer id has the key in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Author(pub(crate) [u8; 32]);

impl Author {
    /// `None` if the peer's key is not an Ed25519 key.
    pub(crate) fn of(peer: &PeerId) -> Option<Self> {
        let mut hash = [0u8; 64];
        let len = bs58::decode(peer.as_str()).onto(&mut hash[..]).ok()?;
        hash[..len].strip_prefix(&ED25519_ID)?.try_into().ok().map(Self)
    }

    pub(crate) fn peer_id(&self) -> PeerId {
        PeerId::new(&bs58::encode([&ED25519_ID[..], &self.0].concat()).into_string())
    }
}

impl fmt::Debug for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer_id().fmt(f)
    }
}

/// The time of a write, and its author: all writes are in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Stamp {
    pub(crate) hlc: Hlc,
    pub(crate) author: Author,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_of_an_ed25519_key_and_its_author_are_the_same() {
        let peer = PeerId::new("12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV");
        assert_eq!(Author::of(&peer).unwrap().peer_id(), peer);
        assert_eq!(Author::of(&PeerId::new("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")), None);
        assert_eq!(Author::of(&PeerId::new("alice")), None);
    }

    #[test]
    fn a_stamp_that_follows_is_later_also_within_a_millisecond() {
        let first = Hlc::at(Wall(1000));
        assert!(first.next() > first && first.next() < Hlc::at(Wall(1001)));
        assert_eq!(Hlc(first.0 + 0xffff).next(), Hlc::at(Wall(1001)));
    }
}
