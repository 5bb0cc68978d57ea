//! How do two nodes compare what they have? Frames of the protocol `/avi/context/1`, and the messages of its topic.
//!
//! A request has one frame, and a response one. A message on the topic is entries alone.
//!
//! | Request | Byte | Then |
//! |---|---|---|
//! | root: the hash of all | 1 | 16 |
//! | have: the ids in these buckets | 2 | varint count of buckets, 1 each; ids, 16 each, to the end |
//! | give: entries that the other end lacks | 3 | entries to the end |
//!
//! | Response | Byte | Then |
//! |---|---|---|
//! | same: to a root that is equal | 1 | |
//! | buckets: to another root, the hash of each | 2 | 256 times 16 |
//! | differ: to have | 3 | 1: whether there is more; varint count of wanted ids, 16 each; entries to the end |
//! | taken: to give | 4 | |
//! | busy: asked too often | 5 | |

use std::sync::Arc;

use bytes::Bytes;

use super::digest::BUCKETS;
use super::entry::{Entry, EntryId, MAX_ENTRY_BYTES, put_uvarint};
use crate::wire::{Reader, WireError};

/// The longest frame. A longer exchange takes several rounds.
pub const MAX_FRAME_BYTES: usize = 128 * 1024;
/// What a frame has besides its ids and entries, at most.
const HEAD_BYTES: usize = 16 + BUCKETS;
/// The most ids in a frame: half of it, so that entries fit beside them.
pub(crate) const MAX_IDS: usize = MAX_FRAME_BYTES / 2 / 16;

/// What one node asks another one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Root(u128),
    Have { buckets: Vec<u8>, ids: Vec<EntryId> },
    Give(Vec<Arc<Entry>>),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Response {
    Same,
    Buckets(Box<[u128; BUCKETS]>),
    Differ { has_more: bool, wanted: Vec<EntryId>, entries: Vec<Arc<Entry>> },
    Taken,
    Busy,
}

impl Request {
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        match self {
            Self::Root(hash) => {
                bytes.push(1);
                bytes.extend(hash.to_be_bytes());
            }
            Self::Have { buckets, ids } => {
                bytes.push(2);
                put_uvarint(&mut bytes, buckets.len());
                bytes.extend(buckets);
                put_ids(&mut bytes, ids);
            }
            Self::Give(entries) => {
                bytes.push(3);
                entries.iter().for_each(|entry| entry.write(&mut bytes));
            }
        }
        bytes.into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let mut reader = bounded(bytes)?;
        match reader.u8("request.kind")? {
            1 => {
                let hash = hash(&mut reader, "root.hash")?;
                reader.finish("root").map(|()| Self::Root(hash))
            }
            2 => {
                let buckets = reader.bytes("have.buckets", BUCKETS)?.to_vec();
                let mut ids = Vec::new();
                while !reader.is_empty() {
                    ids.push(id(&mut reader, "have.id")?);
                }
                Ok(Self::Have { buckets, ids })
            }
            3 => entries(reader).map(Self::Give),
            kind => Err(WireError::UnknownKind { kind }),
        }
    }
}

impl Response {
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        match self {
            Self::Same => bytes.push(1),
            Self::Buckets(hashes) => {
                bytes.push(2);
                hashes.iter().for_each(|hash| bytes.extend(hash.to_be_bytes()));
            }
            Self::Differ { has_more, wanted, entries } => {
                bytes.extend([3, u8::from(*has_more)]);
                put_uvarint(&mut bytes, wanted.len());
                put_ids(&mut bytes, wanted);
                entries.iter().for_each(|entry| entry.write(&mut bytes));
            }
            Self::Taken => bytes.push(4),
            Self::Busy => bytes.push(5),
        }
        bytes.into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let mut reader = bounded(bytes)?;
        let response = match reader.u8("response.kind")? {
            1 => Self::Same,
            2 => {
                let mut hashes = Box::new([0; BUCKETS]);
                for hash in hashes.iter_mut() {
                    *hash = self::hash(&mut reader, "buckets.hash")?;
                }
                Self::Buckets(hashes)
            }
            3 => {
                let has_more = match reader.u8("differ.more")? {
                    flag @ (0 | 1) => flag == 1,
                    other => return Err(WireError::OutOfRange { field: "differ.more", value: other.into() }),
                };
                let count = reader.uvarint("differ.wanted")?;
                if count > MAX_IDS as u64 {
                    return Err(WireError::OutOfRange { field: "differ.wanted", value: count });
                }
                let wanted = (0..count).map(|_| id(&mut reader, "differ.id")).collect::<Result<_, _>>()?;
                return entries(reader).map(|entries| Self::Differ { has_more, wanted, entries });
            }
            4 => Self::Taken,
            5 => Self::Busy,
            kind => return Err(WireError::UnknownKind { kind }),
        };
        reader.finish("response").map(|()| response)
    }
}

fn bounded(bytes: Bytes) -> Result<Reader, WireError> {
    match bytes.len() {
        0 => Err(WireError::Empty),
        len if len > MAX_FRAME_BYTES => Err(WireError::FrameTooLarge { len: len as u64, max: MAX_FRAME_BYTES }),
        _ => Ok(Reader::new(bytes)),
    }
}

fn hash(reader: &mut Reader, field: &'static str) -> Result<u128, WireError> {
    reader.array(field).map(u128::from_be_bytes)
}

fn id(reader: &mut Reader, field: &'static str) -> Result<EntryId, WireError> {
    reader.array(field).map(|id| EntryId(u128::from_be_bytes(id)))
}

fn put_ids(bytes: &mut Vec<u8>, ids: &[EntryId]) {
    ids.iter().for_each(|id| bytes.extend(id.0.to_be_bytes()));
}

fn entries(mut reader: Reader) -> Result<Vec<Arc<Entry>>, WireError> {
    let mut entries = Vec::new();
    while !reader.is_empty() {
        entries.push(Arc::new(Entry::read(&mut reader)?));
    }
    Ok(entries)
}

/// Takes entries from the front that fit into a frame with so many ids.
pub(crate) fn fitting(entries: &mut Vec<Arc<Entry>>, ids: usize) -> Vec<Arc<Entry>> {
    let room = MAX_FRAME_BYTES - HEAD_BYTES - 16 * ids.min(MAX_IDS);
    let rest = entries.split_off(within(entries, room));
    std::mem::replace(entries, rest)
}

/// How many entries from the front have at most so many bytes.
fn within(entries: &[Arc<Entry>], room: usize) -> usize {
    let mut used = 0;
    let fits = |entry: &&Arc<Entry>| {
        used += entry.len();
        used <= room
    };
    entries.iter().take_while(fits).count()
}

/// The next message of entries for the topic, of at most so many bytes. An entry that is longer by itself is left out: it
/// goes by exchanges alone.
pub(crate) fn message(entries: &mut Vec<Arc<Entry>>, max_bytes: usize) -> Option<Bytes> {
    entries.retain(|entry| entry.len() <= max_bytes);
    let rest = entries.split_off(within(entries, max_bytes));
    let taken = std::mem::replace(entries, rest);
    let mut bytes = Vec::with_capacity(taken.iter().map(|entry| entry.len()).sum());
    taken.iter().for_each(|entry| entry.write(&mut bytes));
    (!bytes.is_empty()).then(|| bytes.into())
}

/// The entries of a message.
pub(crate) fn read_message(bytes: Bytes) -> Result<Vec<Arc<Entry>>, WireError> {
    entries(Reader::new(bytes))
}

const _: () = assert!(MAX_FRAME_BYTES - HEAD_BYTES - 16 * MAX_IDS > MAX_ENTRY_BYTES, "an entry fits beside all ids");
