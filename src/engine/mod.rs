//! engine
mod time;
pub use time::Time;
#[allow(unused_imports)]
pub(crate) use time::TimerTable;
