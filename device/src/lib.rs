//! What does an application of the device layer see?
#![forbid(unsafe_code)]

#[cfg(feature = "gateway")]
pub mod gateway;

pub use avi_p2p::PeerId;
