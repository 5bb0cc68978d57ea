//! engine
mod io;
mod mailbox;
mod outbox;
mod rng;
mod time;
pub use io::*;
pub use mailbox::{Lag, Mailbox};
pub use time::Time;
pub(crate) use time::TimerTable;
