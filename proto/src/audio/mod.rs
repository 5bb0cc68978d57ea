//! Real-time audio over a reliable channel: what a sender may drop, and what a receiver measures.

mod flight;
mod recv;
mod send;
mod window;

pub(crate) use flight::{ACK_AFTER, ACK_EVERY, REPORT_EVERY};
pub use flight::{Flight, Path};
pub use recv::{AudioReceiver, OutOfOrder};
pub use send::{Batch, Congested, SendQueue};
