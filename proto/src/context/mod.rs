//! The shared context: a map from paths to JSON values, which is the same at all nodes that have heard the same.
//!
//! `path` names a place, `stamp` the time and author of a write, `entry` what is written and signed, and what it covers;
//! `store` keeps the entries that no other covers, `json` shows them; `replica` writes and takes; `digest`, `frames` and
//! `exchange` bring two nodes to the same state; `file` keeps it. `docs/context.md` has the model.

mod digest;
mod entry;
mod exchange;
mod file;
mod frames;
mod json;
mod options;
mod path;
mod replica;
mod stamp;
mod store;
#[cfg(test)]
mod tests;

pub use entry::MAX_VALUE_BYTES;
pub use options::ContextOptions;
pub use path::{MAX_DEPTH, MAX_PATH_BYTES};
pub use replica::ContextWrite;

#[cfg(test)]
pub(crate) use entry::Op;
#[cfg(any(test, feature = "recorder"))]
pub(crate) use entry::Signer;
pub(crate) use entry::{Entry, EntryId};
pub(crate) use exchange::{answer, ask, gifts, next_request};
pub use file::max_file_bytes;
pub(crate) use file::{read_file, write_file};
pub use frames::MAX_FRAME_BYTES;
pub(crate) use frames::{Request, Response, message, read_message};
pub(crate) use path::Path;
pub(crate) use replica::{Change, Corrected, Refused, Replica, Taken, topmost};
#[cfg(test)]
pub(crate) use stamp::Hlc;
pub(crate) use stamp::{Author, Wall};
