//! Where does a recording go? In memory it is two segments, of which the older is dropped.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};

/// A chunk in memory. Only the last one is copied when the recording is read.
const CHUNK_BYTES: usize = 64 * 1024;

/// Takes the segments of a recorder. It never blocks.
pub trait Store: Debug + Send {
    /// A new segment begins, and the one before the last is not needed any more. Returns the bytes of the half of the ring that
    /// it is in, with it; `None` if it was not taken.
    fn begin(&mut self, segment: Vec<u8>) -> Option<usize>;

    /// Adds to the segment. Returns whether all of it was taken; if not, none was.
    fn append(&mut self, item: &[u8]) -> bool;

    /// Whether a segment would be taken now.
    fn has_room(&self) -> bool;

    /// All that there is, in pieces, if that can be had at once.
    fn pieces(&self) -> Option<Vec<Bytes>>;
}

/// A ring in memory.
#[derive(derive_more::Debug, Default)]
pub struct Memory {
    #[debug("{}", older.len())]
    older: Vec<Bytes>,
    #[debug("{}", newer.len())]
    newer: Vec<Bytes>,
    /// The end of the newer segment.
    #[debug("{} bytes", last.len())]
    last: BytesMut,
}

impl Store for Memory {
    fn begin(&mut self, segment: Vec<u8>) -> Option<usize> {
        let len = segment.len();
        let last = std::mem::take(&mut self.last).freeze();
        self.newer.push(last);
        self.older = std::mem::replace(&mut self.newer, vec![segment.into()]);
        Some(len)
    }

    fn append(&mut self, item: &[u8]) -> bool {
        if self.last.len() + item.len() > self.last.capacity() {
            let room = CHUNK_BYTES.max(item.len());
            let full = std::mem::replace(&mut self.last, BytesMut::with_capacity(room));
            self.newer.push(full.freeze());
        }
        self.last.extend_from_slice(item);
        true
    }

    fn has_room(&self) -> bool {
        true
    }

    fn pieces(&self) -> Option<Vec<Bytes>> {
        let last = Bytes::copy_from_slice(&self.last);
        Some(self.older.iter().chain(&self.newer).cloned().chain([last]).collect())
    }
}
