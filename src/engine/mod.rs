//! engine
mod time;
pub use time::Time;
