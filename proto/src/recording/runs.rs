//! How are bytes written into a recording? As runs: some bytes, then so many zeros, again and again. What is redacted
//! is zeros, and takes a few bytes whatever its length.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::Visitor;
use serde::{Deserializer, Serializer};

/// The longest bytes of one field. Nothing that an engine takes or keeps is longer.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Shorter runs of zeros are not worth a run.
const WORTH: usize = 8;

static ZEROS: [u8; MAX_BYTES] = [0; MAX_BYTES];

/// So many zeros, which take no memory; `None` if they are more than [`MAX_BYTES`].
pub(super) fn zeros(len: usize) -> Option<Bytes> {
    ZEROS.get(..len).map(Bytes::from_static)
}

/// Appends the runs of `bytes`.
pub(super) fn put(bytes: &[u8], into: &mut Vec<u8>) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (literal, zeros) = next_run(rest);
        put_number(literal, into);
        into.extend_from_slice(&rest[..literal]);
        put_number(zeros, into);
        rest = &rest[literal + zeros..];
    }
}

/// How many bytes are before the next run of zeros, and how long that is.
fn next_run(bytes: &[u8]) -> (usize, usize) {
    let mut at = 0;
    while let Some(zero) = bytes[at..].iter().position(|&byte| byte == 0).map(|zero| at + zero) {
        let len = bytes[zero..].iter().position(|&byte| byte != 0).unwrap_or(bytes.len() - zero);
        if len >= WORTH || zero + len == bytes.len() {
            return (zero, len);
        }
        at = zero + len;
    }
    (bytes.len(), 0)
}

fn put_number(number: usize, into: &mut Vec<u8>) {
    into.extend_from_slice(unsigned_varint::encode::usize(number, &mut unsigned_varint::encode::usize_buffer()));
}

/// The bytes of runs; `None` if they are none, or too many.
fn take(mut runs: &[u8]) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    while !runs.is_empty() {
        let (literal, rest) = unsigned_varint::decode::usize(runs).ok()?;
        let (literal, rest) = rest.split_at_checked(literal)?;
        let (zeroed, rest) = unsigned_varint::decode::usize(rest).ok()?;
        let has_room = zeroed <= MAX_BYTES && bytes.len() + literal.len() + zeroed <= MAX_BYTES;
        if !has_room || (literal.is_empty() && zeroed == 0) {
            return None;
        }
        if bytes.is_empty() && literal.is_empty() && rest.is_empty() {
            return zeros(zeroed);
        }
        bytes.extend_from_slice(literal);
        bytes.put_bytes(0, zeroed);
        runs = rest;
    }
    Some(bytes.freeze())
}

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut runs = Vec::with_capacity(16);
    put(bytes, &mut runs);
    serializer.serialize_bytes(&runs)
}

pub(crate) fn deserialize<'de, T: From<Bytes>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_bytes(Runs).map(T::from)
}

struct Runs;

impl Visitor<'_> for Runs {
    type Value = Bytes;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("runs of bytes and zeros")
    }

    fn visit_bytes<E: serde::de::Error>(self, runs: &[u8]) -> Result<Bytes, E> {
        take(runs).ok_or_else(|| E::custom("runs of bytes that do not add up"))
    }
}

/// A result with bytes.
#[cfg(feature = "context")]
pub(crate) mod result {
    use serde::{Deserialize, Serialize};

    use super::{Bytes, Deserializer, Serializer};

    #[derive(Serialize)]
    struct Ref<'a>(#[serde(with = "super")] &'a [u8]);

    #[derive(Deserialize)]
    struct Own(#[serde(with = "super")] Bytes);

    pub(crate) fn serialize<S: Serializer>(bytes: &Result<Bytes, String>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| Ref(bytes)).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Result<Bytes, String>, D::Error> {
        Ok(Result::<Own, String>::deserialize(deserializer)?.map(|Own(bytes)| bytes))
    }
}

/// Bytes of which the length alone is kept.
pub(crate) mod lengths {
    use serde::{Deserialize as _, Serialize as _};

    use super::{Bytes, Deserializer, Serializer, zeros};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        bytes.len().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        zeros(usize::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("bytes of an impossible length"))
    }
}

/// An array of any length.
pub(crate) mod array {
    use super::{Deserializer, Serializer, Visitor};

    pub(crate) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        deserializer.deserialize_bytes(Array::<N>)
    }

    struct Array<const N: usize>;

    impl<const N: usize> Visitor<'_> for Array<N> {
        type Value = [u8; N];

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{N} bytes")
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
            bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
        }
    }
}

/// Text that the engine has not checked.
pub(crate) mod unchecked {
    use serde::Deserialize as _;

    use super::{Deserializer, Serializer};
    use crate::id::PeerId;

    pub(crate) fn serialize<S: Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(peer.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
        <&str>::deserialize(deserializer).map(PeerId::new)
    }
}

/// A reason of the network layer. It has few of them, and one that this version does not know is told as such.
pub(crate) mod refusal {
    use serde::Deserialize as _;

    use super::{Deserializer, Serializer};

    const KNOWN: [&str; 4] = [
        "the message is too large",
        "the message has been sent before",
        "the message cannot be signed",
        "the message cannot be encoded",
    ];

    pub(crate) fn serialize<S: Serializer>(reason: &&'static str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(reason)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
        let reason = <&str>::deserialize(deserializer)?;
        Ok(KNOWN.into_iter().find(|known| *known == reason).unwrap_or("a reason that this version does not know"))
    }
}

/// A JSON value, as its text.
#[cfg(feature = "context")]
pub(crate) mod json {
    use serde::Deserialize as _;
    use serde::ser::Error as _;
    use serde_json::Value;

    use super::{Deserializer, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(value).map_err(S::Error::custom)?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        serde_json::from_str(<&str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..20)
    }

    proptest! {
        #[test]
        fn runs_give_the_bytes_back(pieces in prop::collection::vec((some_bytes(), 0..40usize), 0..8)) {
            let bytes: Vec<u8> = pieces.into_iter().flat_map(|(some, zeros)| [some, vec![0; zeros]].concat()).collect();
            let mut runs = Vec::new();
            put(&bytes, &mut runs);
            prop_assert_eq!(take(&runs).unwrap(), bytes);
        }
    }

    #[test]
    fn zeros_take_a_few_bytes_and_no_memory() {
        let mut runs = Vec::new();
        put(&[0; 60_000], &mut runs);
        assert!(runs.len() <= 4, "{runs:?}");
        assert_eq!(take(&runs).unwrap().len(), 60_000);
    }

    #[test]
    fn runs_that_are_too_long_are_refused() {
        let mut runs = vec![0];
        put_number(MAX_BYTES + 1, &mut runs);
        assert_eq!(take(&runs), None);
        assert_eq!(take(&[0, 0]), None, "a run of nothing");
        assert_eq!(take(&[9, 1]), None, "fewer bytes than the run says");
    }
}
