//! What does a node say of one path? An entry: its bytes, its signature, and what it covers.
//!
//! | Field | Bytes |
//! |---|---|
//! | author's Ed25519 key | 32 |
//! | hybrid logical clock | 8, big-endian: 48 bits of milliseconds since 1970, 16 of a counter |
//! | path | varint length, UTF-8 |
//! | operation | 1: 0 removed, 1 object, 2 value |
//! | JSON, of a value alone | varint length, UTF-8 |
//! | signature of the domain and all of the above | 64 |

#[cfg(feature = "recorder")]
use std::cell::RefCell;
#[cfg(feature = "recorder")]
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::path::{MAX_PATH_BYTES, Path};
use super::stamp::{Author, Hlc, Stamp};
use crate::wire::{Reader, WireError};

/// The longest JSON text of one value in bytes. All nodes have the same value.
pub const MAX_VALUE_BYTES: usize = 16 * 1024;
/// The longest entry: its fields with the longest path and value.
pub(crate) const MAX_ENTRY_BYTES: usize = 32 + 8 + 2 + MAX_PATH_BYTES + 1 + 3 + MAX_VALUE_BYTES + SIGNATURE_BYTES;

const SIGNATURE_BYTES: usize = 64;
/// Keeps a signature from meaning anything elsewhere.
const DOMAIN: &[u8] = b"avi-p2p context entry 1\0";

/// What identifies an entry: the first half of the SHA-256 of what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct EntryId(pub(crate) u128);

/// What an entry does. Of two with the same stamp, the greater one counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Op {
    /// Nothing older is at the path or below it.
    Removed,
    /// There is an object at the path, whatever is below it. It covers nothing but an older entry of this kind.
    Object,
    /// The value is at the path, and nothing older below it. JSON, and never an object.
    Value(#[cfg_attr(feature = "recorder", serde(with = "crate::recording::runs"))] Bytes),
}

/// A signed entry.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Entry {
    pub(crate) path: Path,
    pub(crate) stamp: Stamp,
    pub(crate) op: Op,
    pub(crate) id: EntryId,
    /// The length of the path of the peer that the path belongs to.
    pub(crate) owned_from: Option<usize>,
    #[cfg_attr(feature = "recorder", serde(with = "crate::recording::array"))]
    signature: [u8; SIGNATURE_BYTES],
    len: usize,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.stamp, &self.op) == (&other.path, &other.stamp, &other.op)
    }
}

impl Entry {
    fn new(path: Path, stamp: Stamp, op: Op, signed: &[u8], signature: [u8; SIGNATURE_BYTES]) -> Self {
        let hash: [u8; 32] = Sha256::digest(signed).into();
        let (half, _) = hash.split_at(16);
        let id = EntryId(half.iter().fold(0, |id, byte| id << 8 | u128::from(*byte)));
        let owned_from = path.owned_from();
        Self { path, stamp, op, id, owned_from, signature, len: signed.len() + SIGNATURE_BYTES }
    }

    /// Reads one entry. The signature is not verified.
    pub(crate) fn read(reader: &mut Reader) -> Result<Self, WireError> {
        let author = Author(reader.array("entry.author")?);
        let hlc = Hlc(reader.u64("entry.clock")?);
        let path = reader.text("entry.path", MAX_PATH_BYTES)?;
        let path = Path::parse(&path).map_err(|_| WireError::Invalid { field: "entry.path" })?;
        let op = match reader.u8("entry.operation")? {
            0 => Op::Removed,
            1 => Op::Object,
            2 => Op::Value(reader.bytes("entry.value", MAX_VALUE_BYTES)?),
            other => return Err(WireError::OutOfRange { field: "entry.operation", value: other.into() }),
        };
        if let Op::Value(json) = &op
            && (path.is_root() || !is_leaf(json))
        {
            return Err(WireError::Invalid { field: "entry.value" });
        }
        let signature = reader.array("entry.signature")?;
        let stamp = Stamp { hlc, author };
        let signed = signed_part(&path, &stamp, &op);
        Ok(Self::new(path, stamp, op, &signed, signature))
    }

    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        into.extend(signed_part(&self.path, &self.stamp, &self.op));
        into.extend(self.signature);
    }

    /// Its length when it is written.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether the author has signed it.
    pub(crate) fn is_authentic(&self) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.stamp.author.0) else { return false };
        let signed = signed_part(&self.path, &self.stamp, &self.op);
        key.verify_strict(&[DOMAIN, &signed].concat(), &Signature::from_bytes(&self.signature)).is_ok()
    }

    /// Whether it shows something.
    pub(crate) fn is_visible(&self) -> bool {
        self.op != Op::Removed
    }

    /// The peer that the path belongs to.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.path.owner(self.owned_from)
    }

    /// Whether `older` is not part of a state that has this entry. The relation is transitive: so what is left of a set of
    /// entries does not depend on the order in which they came.
    pub(crate) fn covers(&self, older: &Self) -> bool {
        match (&self.op, &older.op) {
            (Op::Object, Op::Object) => self.path == older.path && self.stamp > older.stamp,
            (Op::Object, _) => false,
            (_, Op::Object) => self.reaches(older) && self.stamp > older.stamp,
            _ if self.path == older.path => (self.stamp, &self.op) > (older.stamp, &older.op),
            _ => self.reaches(older) && self.stamp > older.stamp,
        }
    }

    /// Whether the other path is this one or below it, and this one is not above the peer's own that the other belongs to.
    pub(crate) fn reaches(&self, other: &Self) -> bool {
        let (above, below) = (self.path.as_str(), other.path.as_str());
        let is_below = match below.strip_prefix(above) {
            Some(rest) => rest.is_empty() || above.is_empty() || rest.starts_with('.'),
            None => false,
        };
        is_below && other.owned_from.is_none_or(|owned| above.len() >= owned)
    }
}

/// Whether the text is JSON that a value may have: not an object, whose keys are paths of their own.
pub(crate) fn is_leaf(json: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(json).is_ok_and(|value| !value.is_object())
}

fn signed_part(path: &Path, stamp: &Stamp, op: &Op) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + path.as_str().len());
    bytes.extend(stamp.author.0);
    bytes.extend(stamp.hlc.0.to_be_bytes());
    put_slice(&mut bytes, path.as_str().as_bytes());
    match op {
        Op::Removed => bytes.push(0),
        Op::Object => bytes.push(1),
        Op::Value(json) => {
            bytes.push(2);
            put_slice(&mut bytes, json);
        }
    }
    bytes
}

/// Writes bytes after their length as a varint.
fn put_slice(into: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(into, bytes.len());
    into.extend(bytes);
}

/// Writes a number as a varint.
pub(crate) fn put_uvarint(into: &mut Vec<u8>, value: usize) {
    into.extend(unsigned_varint::encode::u64(value as u64, &mut unsigned_varint::encode::u64_buffer()));
}

/// The key that signs this node's own entries. It is zeroized when dropped, and never printed.
pub(crate) struct Signer {
    key: Signing,
    pub(crate) author: Author,
    /// The signatures since [`Signer::take_signatures`], of a signer that is recorded.
    #[cfg(feature = "recorder")]
    given: Option<RefCell<Vec<[u8; SIGNATURE_BYTES]>>>,
}

/// Where signatures come from.
enum Signing {
    Key(SigningKey),
    /// A recording, which has what the key has signed and not the key.
    #[cfg(feature = "recorder")]
    Recorded(RefCell<VecDeque<[u8; SIGNATURE_BYTES]>>),
}

impl Signer {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(secret);
        let author = Author(key.verifying_key().to_bytes());
        Self {
            key: Signing::Key(key),
            author,
            #[cfg(feature = "recorder")]
            given: None,
        }
    }

    /// Signs an entry of this node.
    pub(crate) fn sign(&self, path: Path, hlc: Hlc, op: Op) -> Arc<Entry> {
        let stamp = Stamp { hlc, author: self.author };
        let signed = signed_part(&path, &stamp, &op);
        let signature = match &self.key {
            Signing::Key(key) => key.sign(&[DOMAIN, &signed].concat()).to_bytes(),
            // Without one the recording does not fit the engine, which the replay finds.
            #[cfg(feature = "recorder")]
            Signing::Recorded(signatures) => signatures.borrow_mut().pop_front().unwrap_or([0; SIGNATURE_BYTES]),
        };
        #[cfg(feature = "recorder")]
        self.given.iter().for_each(|given| given.borrow_mut().push(signature));
        Arc::new(Entry::new(path, stamp, op, &signed, signature))
    }
}

/// Signatures in and out of a recording.
#[cfg(feature = "recorder")]
impl Signer {
    /// Keeps the signatures from now on, for [`Signer::take_signatures`].
    pub(crate) fn keep_signatures(&mut self) {
        self.given.get_or_insert_default();
    }

    pub(crate) fn take_signatures(&mut self) -> Vec<[u8; SIGNATURE_BYTES]> {
        self.given.as_mut().map(|given| given.take()).unwrap_or_default()
    }

    /// The signatures that are given next.
    pub(crate) fn supply(&mut self, signatures: Vec<[u8; SIGNATURE_BYTES]>) {
        if let Signing::Recorded(next) = &mut self.key {
            *next.get_mut() = signatures.into();
        }
    }
}

#[cfg(feature = "recorder")]
impl serde::Serialize for Signer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.author.serialize(serializer)
    }
}

#[cfg(feature = "recorder")]
impl<'de> serde::Deserialize<'de> for Signer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let author = serde::Deserialize::deserialize(deserializer)?;
        Ok(Self { key: Signing::Recorded(RefCell::default()), author, given: None })
    }
}

impl std::fmt::Debug for Signer {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("author", &self.author).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::context::stamp::Wall;

    /// An entry without a signature, for what does not look at it.
    pub(crate) fn unsigned(path: &str, at: u64, author: [u8; 32], op: Op) -> Arc<Entry> {
        let (path, stamp) = (Path::parse(path).unwrap(), Stamp { hlc: Hlc(at), author: Author(author) });
        let signed = signed_part(&path, &stamp, &op);
        Arc::new(Entry::new(path, stamp, op, &signed, [0; 64]))
    }

    fn read(bytes: Vec<u8>) -> Result<Entry, WireError> {
        let mut reader = Reader::new(bytes.into());
        Entry::read(&mut reader).and_then(|entry| reader.finish("entry").map(|()| entry))
    }

    fn written(entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        bytes
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_and_a_changed_bit_is_noticed() {
        let signer = Signer::new(&[7; 32]);
        for op in [Op::Removed, Op::Object, Op::Value("[1,2]".into())] {
            let entry = signer.sign(Path::parse("a.b").unwrap(), Hlc::at(Wall(5000)), op);
            let bytes = written(&entry);
            assert_eq!(bytes.len(), entry.len());
            let again = read(bytes.clone()).unwrap();
            assert!(again == *entry && again.id == entry.id && again.is_authentic());
            for bit in 0..8 * bytes.len() {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(!read(changed).is_ok_and(|entry| entry.is_authentic()), "bit {bit}");
            }
            (0..bytes.len()).for_each(|len| assert!(read(bytes[..len].to_vec()).is_err(), "{len} bytes"));
        }
    }

    #[test]
    fn a_value_is_json_and_never_an_object_nor_the_root() {
        for (path, json) in [("a", "{}"), ("a", "{\"b\":1}"), ("a", ""), ("a", "1 2"), ("a", "1e999"), ("", "1")] {
            let entry = unsigned(path, 1, [1; 32], Op::Value(json.into()));
            assert!(read(written(&entry)).is_err(), "{path} {json}");
        }
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        assert!(read(written(&unsigned("a", 1, [1; 32], Op::Value(deep.into())))).is_err());
    }

    #[test]
    fn the_longest_entry_has_the_longest_length() {
        let path = "x".repeat(MAX_PATH_BYTES);
        let json = format!("\"{}\"", "x".repeat(MAX_VALUE_BYTES - 2));
        assert_eq!(unsigned(&path, 1, [1; 32], Op::Value(json.into())).len(), MAX_ENTRY_BYTES);
    }
}
