//! The device layer of AVI: what [AVI Core](https://github.com/Apoll011/AviCore) calls, on [`avi_p2p`].
#![cfg_attr(not(test), deny(clippy::expect_used, clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]
#![forbid(unsafe_code)]

mod call;
pub mod capability;
pub mod device;
mod error;
#[cfg(feature = "gateway")]
pub mod gateway;
mod legacy;
pub mod query;
mod queue;
mod stats;
pub mod stream;
mod streams;
mod topics;
mod worker;

pub use async_trait::async_trait;
pub use avi_p2p::{PeerId, StreamCloseReason, StreamId};

pub use capability::DeviceCapabilities;
pub use error::DeviceError;
pub use query::DeviceQuery;
pub use stats::DeviceStats;
pub use stream::{StreamContext, StreamHandler, StreamHandlerFactory};

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
