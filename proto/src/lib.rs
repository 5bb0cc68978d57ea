//! The pure core of `avi-p2p`: the decisions of a node, the queues of audio, and its wire format.
//!
//! Nothing here has a clock, randomness, I/O, threads or tasks. Time comes in as a value, randomness as a seed, the
//! network as data. [`engine`] says how to drive it. Applications use the crate `avi-p2p`, which does that with libp2p.
//! This crate is exempt from semver, except for the types that `avi-p2p` re-exports.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::expect_used, clippy::unwrap_used))]
// `clippy.toml` lists the parts of std that are not pure. Only tests may use them.
#![cfg_attr(not(test), forbid(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(test, allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types))]

pub mod address;
pub mod audio;
pub mod config;
#[cfg(feature = "context")]
pub mod context;
pub mod engine;
pub mod error;
pub mod event;
pub mod id;
pub mod media;
pub mod path;
pub mod publish;
#[cfg(feature = "recorder")]
pub mod recording;
#[cfg(feature = "serde")]
mod serial;
pub mod situation;
pub mod stats;
pub mod wire;

// The bodies of the fuzz targets name this crate from outside. The engine's tests use their model of a driver, and
// replay their corpora.
#[cfg(test)]
extern crate self as avi_p2p_proto;
#[cfg(test)]
#[path = "../fuzzing/lib.rs"]
mod fuzzing;
