//! How is a place in the context named? By segments with dots between them, as `avi.device.caps`.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::id::PeerId;

/// The longest path in bytes. All nodes have the same value: a path is either valid everywhere or nowhere.
pub const MAX_PATH_BYTES: usize = 256;
/// The most segments of a path.
pub const MAX_DEPTH: usize = 16;
/// A peer id has between 46 and 53 characters.
const PEER_ID_CHARS: std::ops::RangeInclusive<usize> = 46..=53;

/// A checked path: at most [`MAX_DEPTH`] segments and [`MAX_PATH_BYTES`] bytes. The empty path is the root.
///
/// Paths are ordered as text. All paths below `a` begin with `a.`, so they are one range in an ordered map.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Arc<str>);

impl Path {
    /// Checks the text. The error says what a path must be.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self(text.into()));
        }
        if text.len() > MAX_PATH_BYTES {
            return Err("at most 256 bytes");
        }
        if text.split('.').count() > MAX_DEPTH {
            return Err("at most 16 segments");
        }
        if text.split('.').any(str::is_empty) {
            return Err("segments that are not empty, with a dot between each two");
        }
        if text.contains(char::is_control) {
            return Err("text without control characters");
        }
        Ok(Self(text.into()))
    }

    /// The whole.
    pub(crate) fn root() -> Self {
        Self("".into())
    }

    /// The path of a key of the object at this path.
    pub(crate) fn child(&self, key: &str) -> Result<Self, &'static str> {
        if key.is_empty() || key.contains('.') {
            return Err("keys that are not empty and have no dot: a dot separates the segments of a path");
        }
        match self.is_root() {
            true => Self::parse(key),
            false => Self::parse(&format!("{}.{key}", self.0)),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// This path and its ancestors up to the root, the longest first.
    pub(crate) fn lineage(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |path| match path.rfind('.') {
            Some(dot) => Some(&path[..dot]),
            None if path.is_empty() => None,
            None => Some(""),
        })
    }

    /// The length of the path of the peer that this path belongs to: the first segment that is a peer id ends it.
    pub(crate) fn owned_from(&self) -> Option<usize> {
        let mut end = 0;
        for segment in self.0.split('.') {
            end += segment.len();
            if PEER_ID_CHARS.contains(&segment.len()) && PeerId::new(segment).check().is_ok() {
                return Some(end);
            }
            end += 1;
        }
        None
    }

    /// The peer that this path belongs to, if the path of it ends at `owned_from`.
    pub(crate) fn owner(&self, owned_from: Option<usize>) -> Option<&str> {
        let owned = self.0.get(..owned_from?)?;
        owned.rsplit('.').next()
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(feature = "recorder")]
impl serde::Serialize for Path {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(feature = "recorder")]
impl<'de> serde::Deserialize<'de> for Path {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(<&str>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";

    #[test]
    fn a_path_is_segments_with_dots_between_them() {
        for good in ["", "a", "avi.device.caps", "küche.licht an", &["a"; 16].join(".")] {
            assert!(Path::parse(good).is_ok(), "{good}");
        }
        for bad in [".", "a.", ".a", "a..b", "a\nb", &"x".repeat(257), &["a"; 17].join(".")] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
        assert!(Path::parse("a").and_then(|a| a.child("b.c")).is_err());
    }

    #[test]
    fn a_lineage_ends_at_the_root() {
        let path = Path::parse("a.b.c").unwrap();
        assert_eq!(path.lineage().collect::<Vec<_>>(), ["a.b.c", "a.b", "a", ""]);
        assert_eq!(Path::parse("").unwrap().lineage().collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn the_first_peer_id_in_a_path_owns_what_is_below_it() {
        let path = Path::parse(&format!("avi.{PEER}.{PEER}.x")).unwrap();
        assert_eq!(path.owned_from(), Some(4 + PEER.len()));
        assert_eq!(path.owner(path.owned_from()), Some(PEER));
        assert_eq!(Path::parse(&format!("avi.{}", "1".repeat(52))).unwrap().owned_from(), None);
    }
}
