//! Real-time audio over a reliable channel: what a sender may drop, what a receiver measures, and when it plays.

mod playout;
mod recv;
mod send;

pub use playout::{JitterBuffer, MAX_CONCEALED, Tick};
pub use recv::{AudioReceiver, OutOfOrder};
pub use send::{Congested, SendQueue};
