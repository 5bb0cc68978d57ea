//! The networking layer of AVI: an encrypted peer-to-peer mesh for voice assistants and smart-home devices, with
//! pub/sub and real-time audio, and without a server.
//!
//! ```no_run
//! use avi_p2p::{AviEvent, AviP2p, AviP2pConfig};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (node, mut events) = AviP2p::start(AviP2pConfig::default()).await?;
//! let handle = node.handle();
//! handle.subscribe("lobby").await?;
//! handle.publish("lobby", b"Hello AVI!".to_vec()).await?;
//! while let Some(event) = events.recv().await {
//!     if let AviEvent::Message { from, topic, data } = event {
//!         println!("{from} on {topic}: {data:?}");
//!     }
//! }
//! node.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`AviP2p`] is a node. It has a thread of its own, or is a task of tokio's; its futures work on any executor.
//! - [`AviP2pHandle`] is for calls; every one returns a typed `Result`.
//! - [`EventReceiver`] yields [`AviEvent`]s. Reading them slowly delays nobody.
//! - [`AviP2pConfig`] says how a node is set up, [`Limits`] what it may use.
//!
//! # Features
//!
//! - `runtime` (default): the node. Without it the crate is its pure core alone: the `engine`, `audio` and `wire`
//!   modules, with neither libp2p nor a runtime in their tree.
//! - `metrics`: `AviP2pHandle::metrics`, the figures of the node and of libp2p as Prometheus text.
//! - `unstable`: opens the pure core and the platform seam to simulators, fuzzers and benchmarks. Exempt from semver.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(feature = "runtime"), allow(rustdoc::broken_intra_doc_links))]

pub mod config;
mod error;
mod event;
mod id;
mod media;
#[cfg(feature = "runtime")]
mod metrics;
mod stats;

// What only `unstable` opens has callers there alone.
#[cfg(any(feature = "unstable", not(feature = "runtime")))]
pub mod audio;
#[cfg(not(any(feature = "unstable", not(feature = "runtime"))))]
#[allow(dead_code, unused_imports)]
mod audio;
#[cfg(any(feature = "unstable", not(feature = "runtime")))]
pub mod engine;
#[cfg(not(any(feature = "unstable", not(feature = "runtime"))))]
#[allow(dead_code, unused_imports)]
mod engine;
#[cfg(any(feature = "unstable", not(feature = "runtime")))]
pub mod wire;
#[cfg(not(any(feature = "unstable", not(feature = "runtime"))))]
#[allow(dead_code, unused_imports)]
mod wire;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(feature = "runtime")]
mod net;
#[cfg(feature = "runtime")]
mod node;
#[cfg(feature = "runtime")]
mod runtime;
#[cfg(all(feature = "runtime", feature = "unstable"))]
pub mod transport;
#[cfg(all(feature = "runtime", not(feature = "unstable")))]
#[allow(dead_code)]
mod transport;

pub use config::{AviP2pConfig, Identity, Interfaces, Limits, NetworkKey};
pub use error::{AviP2pError, StreamCloseReason};
pub use event::{AviEvent, DiscoverySource};
pub use id::{PeerId, StreamId};
pub use media::{MAX_CODEC_BYTES, MAX_LABEL_BYTES, Media, OnCongestion, StreamOptions};
pub use stats::{AudioStats, PeerDirection, PeerInfo, RemoteAudioReport, Stats};

#[cfg(feature = "runtime")]
pub use node::{AviP2p, AviP2pHandle, EventReceiver};
#[cfg(all(feature = "runtime", feature = "unstable"))]
pub use runtime::Platform;

/// Events and the ids in them, under the path that they had in AVI 0.1.
pub mod events {
    pub use crate::error::StreamCloseReason;
    pub use crate::event::{AviEvent, DiscoverySource};
    pub use crate::id::{PeerId, StreamId};
}

/// Compiles the README's programs.
#[cfg(all(doctest, feature = "runtime"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the page on private meshes.
#[cfg(all(doctest, feature = "runtime"))]
#[doc = include_str!("../docs/private-mesh.md")]
struct PrivateMesh;
