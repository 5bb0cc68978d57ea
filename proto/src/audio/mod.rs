//! Real-time audio over a reliable channel: what a sender may drop, what a receiver measures, and when it plays.

mod flight;
mod playout;
mod recv;
mod send;
mod window;

pub(crate) use flight::{ACK_AFTER, ACK_EVERY, REPORT_EVERY};
pub use flight::{Flight, Path};
pub use playout::{JitterBuffer, MAX_CONCEALED, Tick};
pub use recv::{AudioReceiver, OutOfOrder};
pub use send::{Batch, Congested, SendQueue};
