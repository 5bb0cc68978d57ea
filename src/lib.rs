//! The networking layer of AVI: an encrypted peer-to-peer mesh with pub/sub and real-time audio.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod config;
mod error;
mod event;
mod id;
mod media;
mod stats;

/// Real-time audio over a reliable channel.
#[cfg(any(feature = "unstable", not(feature = "runtime")))]
pub mod audio;
#[cfg(not(any(feature = "unstable", not(feature = "runtime"))))]
mod audio;
#[cfg(any(feature = "unstable", not(feature = "runtime")))]
pub mod engine;
#[cfg(not(any(feature = "unstable", not(feature = "runtime"))))]
mod engine;
#[cfg(any(feature = "unstable", not(feature = "runtime")))]
pub mod wire;
#[cfg(not(any(feature = "unstable", not(feature = "runtime"))))]
mod wire;

pub use config::{AviP2pConfig, Identity, Limits};
pub use error::{AviP2pError, StreamCloseReason};
pub use event::{AviEvent, DiscoverySource};
pub use id::{PeerId, StreamId, Topic};
pub use media::{MAX_CODEC_BYTES, MAX_LABEL_BYTES, Media, OnCongestion, StreamOptions};
pub use stats::{AudioStats, PeerInfo, RemoteAudioReport, Stats};
