//! A voice call between two machines: Opus over avi-p2p. `README.md` says how to use it.

mod call;
mod codec;
#[cfg(feature = "devices")]
mod devices;
mod options;
mod program;
mod resample;
mod sound;
pub mod wav;

pub use codec::{FRAME, RATE_HZ};
pub use options::{Options, USAGE};
pub use program::run;

/// Errors are for people here: text that says what to do.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;
