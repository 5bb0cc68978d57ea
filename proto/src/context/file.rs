//! How is the context kept in a file?
//!
//! | Field | Bytes |
//! |---|---|
//! | `avi context 1` and a line feed | 14 |
//! | when it was written, in milliseconds since 1970 | 8, big-endian |
//! | SHA-256 of the above and the entries | 32 |
//! | entries | to the end |

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::entry::Entry;
use super::frames::read_message;
use super::options::ContextOptions;
use super::replica::Replica;
use super::stamp::Wall;
use crate::wire::Reader;

const MAGIC: [u8; 14] = *b"avi context 1\n";
const HEAD_BYTES: usize = MAGIC.len() + 8 + 32;

/// All of a context as a file.
pub(crate) fn write_file(replica: &Replica, wall: Wall) -> Bytes {
    let mut entries = Vec::with_capacity(replica.store.bytes());
    replica.store.entries().for_each(|entry| entry.write(&mut entries));
    let written = replica.age(wall).0.to_be_bytes();
    [&MAGIC[..], &written, &checksum(written, &entries), &entries].concat().into()
}

/// Fills an empty replica from a file. Of a file that is older than the lifetime of tombstones, only this node's own entries
/// are taken: what others have removed meanwhile would come back. While the clock is not set, all are taken, and the rule is
/// applied [once it is](Replica::follow_clock). Returns when the file was written.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn read_file(
    replica: &mut Replica,
    options: &ContextOptions,
    wall: Wall,
    bytes: Bytes,
) -> Result<Wall, String> {
    let max = max_file_bytes(options);
    if bytes.len() > max {
        return Err(format!("{} bytes, expected at most {max}, as context.max_bytes says", bytes.len()));
    }
    let damaged = |what: &str| format!("damaged: {what}: restore it, or remove it to get the context from other nodes");
    let mut reader = Reader::new(bytes);
    let head = (reader.array(""), reader.u64(""), reader.array::<32>(""));
    let (Ok(magic), Ok(written), Ok(sum)) = head else { return Err(damaged("it ends too early")) };
    if magic != MAGIC {
        return Err(damaged("expected a file that begins with \"avi context 1\""));
    }
    let rest = reader.rest();
    if checksum(written.to_be_bytes(), &rest) != sum {
        return Err(damaged("the checksum does not fit"));
    }
    let entries = read_message(rest).map_err(|error| damaged(&error.to_string()))?;
    let is_recent = !wall.is_plausible() || Wall(written) >= wall.before(options.tombstone_lifetime);
    let own = replica.author();
    let taken = entries.iter().filter(|entry| is_recent || own == Some(entry.stamp.author));
    if let Some(forged) = taken.clone().find(|entry| !entry.is_authentic()) {
        return Err(damaged(&format!("an entry at {:?} has a wrong signature", forged.path)));
    }
    taken.for_each(|entry: &Arc<Entry>| replica.restore(entry.clone()));
    replica.read_at = (!wall.is_plausible()).then_some(Wall(written));
    replica.renew(wall);
    replica.expire(wall);
    Ok(Wall(written))
}

/// The longest file that a node writes.
pub fn max_file_bytes(options: &ContextOptions) -> usize {
    HEAD_BYTES + options.max_bytes
}

fn checksum(written: [u8; 8], entries: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(MAGIC).chain_update(written).chain_update(entries).finalize().into()
}
