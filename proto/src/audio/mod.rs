//! Real-time audio over a reliable channel: what a sender may drop, and what a receiver measures.

mod recv;
mod send;

pub use recv::{AudioReceiver, OutOfOrder};
pub use send::{Congested, SendQueue};
