//! The networking layer of AVI: an encrypted peer-to-peer mesh with pub/sub and real-time audio.
#![allow(dead_code, unused_imports)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod config;
mod error;
mod event;
mod id;
mod media;
mod stats;

pub mod audio;
pub mod engine;
#[cfg(feature = "runtime")]
pub mod transport;
pub mod wire;

pub use config::{AviP2pConfig, Identity, Limits};
pub use error::{AviP2pError, StreamCloseReason};
pub use event::{AviEvent, DiscoverySource};
pub use id::{PeerId, StreamId, Topic};
pub use media::{MAX_CODEC_BYTES, MAX_LABEL_BYTES, Media, OnCongestion, StreamOptions};
pub use stats::{AudioStats, PeerInfo, RemoteAudioReport, Stats};
