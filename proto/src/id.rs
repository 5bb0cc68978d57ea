//! Ids and names: peers, audio streams, topics.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::AviP2pError;

/// The id of a node: the hash of its public key, in base58 text as libp2p writes it (`12D3KooW…`).
///
/// [`PeerId::new`] takes any text, as AVI 0.1 did. A call that needs a real peer id returns
/// [`AviP2pError::InvalidPeerId`] for text that cannot be one. Parse with [`FromStr`] to check early.
///
/// ```
/// # use avi_p2p_proto::id as avi_p2p;
/// use avi_p2p::PeerId;
/// let peer: PeerId = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV".parse()?;
/// assert_eq!(peer.as_str(), peer.to_string());
/// assert!("not a peer".parse::<PeerId>().is_err());
/// # Ok::<(), avi_p2p_proto::error::AviP2pError>(())
/// ```
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId(Arc<str>);

impl PeerId {
    /// Wraps the text form of a peer id without checking it.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that the text is base58 of a peer id's multihash (libp2p's peer-ids specification): the encoding of an
    /// Ed25519 or secp256k1 key itself, or the SHA-256 of a longer one.
    pub(crate) fn check(&self) -> Result<(), AviP2pError> {
        // The buffer bounds what base58 may decode to.
        let mut hash = [0u8; 64];
        let invalid = || AviP2pError::InvalidPeerId(self.as_str().chars().take(128).collect());
        let len = bs58::decode(self.as_str()).onto(&mut hash[..]).map_err(|_| invalid())?;
        match &hash[..len] {
            // An identity hash of protobuf's encoding: the type of the key, the length, and that many bytes.
            [0x00, 0x24, 0x08, 0x01, 0x12, 0x20, key @ ..] if key.len() == 32 => Ok(()),
            [0x00, 0x25, 0x08, 0x02, 0x12, 0x21, key @ ..] if key.len() == 33 => Ok(()),
            [0x12, 0x20, digest @ ..] if digest.len() == 32 => Ok(()),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for PeerId {
    type Err = AviP2pError;

    /// # Errors
    /// [`AviP2pError::InvalidPeerId`] with the text, cut to 128 characters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = Self::new(text);
        id.check().map(|()| id)
    }
}

/// How many characters of a topic an error shows.
const MAX_SHOWN_CHARS: usize = 32;

/// The id of an audio stream within one node. The other end has its own id for the same stream. Neither id is sent on
/// the wire.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A pub/sub topic: text of 1 to [`max_topic_bytes`](crate::config::Limits::max_topic_bytes) bytes, without control
/// characters.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks the text.
    ///
    /// # Errors
    /// [`AviP2pError::InvalidTopic`] with the text and what is wrong with it.
    pub fn new(text: &str, max_bytes: usize) -> Result<Self, AviP2pError> {
        let wrong = if text.is_empty() {
            "may not be empty".to_owned()
        } else if text.len() > max_bytes {
            format!("has {} bytes, limits.max_topic_bytes = {max_bytes}", text.len())
        } else if let Some(at) = text.chars().position(char::is_control) {
            format!("contains a control character at {at}")
        } else {
            return Ok(Self(text.into()));
        };
        let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
        let cut = if shown.len() < text.len() { "…" } else { "" };
        Err(AviP2pError::InvalidTopic(format!("{shown:?}{cut} {wrong}")))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(feature = "recorder")]
impl serde::Serialize for Topic {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(feature = "recorder")]
impl<'de> serde::Deserialize<'de> for Topic {
    /// As a recorder has written it: it was checked before.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_compare_as_text() {
        let peer = PeerId::new("alice");
        assert_eq!(peer.as_str(), "alice");
        assert_eq!(format!("{peer}"), "alice");
        assert_eq!(format!("{peer:>7}"), "  alice");
        assert_eq!(peer, PeerId::new("alice"));
        assert_eq!(StreamId(7).to_string(), "7");
    }

    #[test]
    fn a_peer_id_is_checked_when_parsed() {
        let long = "1".repeat(10_000);
        let identity = |head: &[u8], len: usize| {
            let hash = [head, &vec![7; len]].concat();
            bs58::encode(hash).into_string()
        };
        for bad in ["", "alice", "0OIl", "12D3KooW", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5", &long] {
            assert!(matches!(bad.parse::<PeerId>(), Err(AviP2pError::InvalidPeerId(_))), "{bad:.20}");
        }
        // Identity hashes of a correct length, without a key.
        for bad in [identity(&[0, 7], 7), identity(&[0, 36], 36), identity(&[0, 36, 8, 2, 18, 32], 32)] {
            assert!(bad.parse::<PeerId>().is_err(), "{bad}");
        }
        assert!("12D3KooWtypo".parse::<PeerId>().is_err(), "seven bytes of an identity hash");
        let secp256k1 = identity(&[0, 37, 8, 2, 18, 33], 33);
        for good in [
            "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV",
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
            &secp256k1,
        ] {
            assert!(good.parse::<PeerId>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_topic_error_names_the_text() {
        let text = Topic::new("", 8).unwrap_err().to_string();
        assert!(text.contains("\"\" may not be empty"), "{text}");
        let text = Topic::new("a\nb", 8).unwrap_err().to_string();
        assert!(text.contains("a\\nb") && text.contains("at 1"), "{text}");
        let text = Topic::new("123456789", 8).unwrap_err().to_string();
        assert!(text.contains("\"123456789\" has 9 bytes, limits.max_topic_bytes = 8"), "{text}");
        let text = Topic::new(&"x".repeat(33), 8).unwrap_err().to_string();
        assert!(text.contains(&format!("\"{}\"… has 33 bytes", "x".repeat(32))), "{text}");
        assert_eq!(Topic::new("12345678", 8).unwrap().as_str(), "12345678");
    }

    #[test]
    fn a_topic_error_is_short_whatever_the_topic() {
        for long in ["\u{7}".repeat(1024), "ü\u{7}".repeat(300), "x".repeat(100_000)] {
            let text = Topic::new(&long, 1024).unwrap_err().to_string();
            assert!(text.len() < 400, "{text}");
        }
    }
}
