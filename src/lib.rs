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
//! - [`AudioReader`] yields the audio of one stream, as it comes or at its pace.
//! - [`AviP2pConfig`] says how a node is set up, [`Limits`] what it may use.
//!
//! # What later versions may add
//!
//! An enum or a struct that a node hands out, such as an event, an error, an end or a statistic, is `#[non_exhaustive]`, and
//! so is an enum that an application passes in: match with `_` and `..`. What an application writes as a literal
//! ([`AviP2pConfig`], [`Limits`], `ContextOptions`, `RecorderOptions`, [`StreamOptions`], [`PlayoutOptions`]) is not: end it with `..Default::default()`, and a
//! field more changes nothing. [`Media`], [`AudioItem`] and [`PeerDirection`] are complete.
//!
//! # Features
//!
//! - `context`, on by default: [`AviP2pHandle::context`], a map of JSON values that all nodes agree on.
//! - `metrics`: `AviP2pHandle::metrics`, the figures of the node and of libp2p as Prometheus text.
//! - `recorder`, on by default: `AviP2pConfig::recorder`, a flight recorder whose recordings can be replayed.
//! - `serde`: [`AviP2pConfig`] from a file; ids, [`AviEvent`], [`Stats`] and its like in an application's own messages.
//!   Secrets are read, and never written.
//! - `unstable`: opens the pure core and the platform seam to simulators and benchmarks. Exempt from semver.
#![cfg_attr(not(test), deny(clippy::expect_used, clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]

#[cfg(feature = "context")]
mod context;
mod lock;
mod metrics;
mod net;
#[cfg_attr(not(feature = "unstable"), allow(dead_code, reason = "only `unstable` opens it to other networks"))]
mod network;
mod node;
mod reader;
mod runtime;
mod temporary;
mod udp;
mod wake;

#[cfg(all(feature = "recorder", feature = "unstable"))]
pub use avi_p2p_proto::recording;
use avi_p2p_proto::{address, error, event, id, media, publish, stats};
#[cfg(feature = "unstable")]
pub use avi_p2p_proto::{audio, engine, path, situation, wire};

/// How a node is set up.
pub mod config {
    pub use avi_p2p_proto::config::{AviP2pConfig, Identity, Interfaces, Limits, NetworkKey};
    #[cfg(feature = "context")]
    pub use avi_p2p_proto::context::ContextOptions;
    #[cfg(feature = "recorder")]
    pub use avi_p2p_proto::recording::{Content, RecorderOptions};
}

/// The network below a node, as a program may replace it.
#[cfg(feature = "unstable")]
pub mod transport {
    pub use crate::network::{BoxByteStream, ByteStream, DatagramSocket, Listener, Network, Transport};
}

pub use address::{Address, Host};
#[cfg(feature = "context")]
pub use avi_p2p_proto::context::{MAX_DEPTH, MAX_PATH_BYTES, MAX_VALUE_BYTES};
#[cfg(feature = "context")]
pub use config::ContextOptions;
pub use config::{AviP2pConfig, Identity, Interfaces, Limits, NetworkKey};
#[cfg(feature = "recorder")]
pub use config::{Content, RecorderOptions};
#[cfg(feature = "context")]
pub use context::Context;
pub use error::{AviP2pError, StreamCloseReason};
pub use event::{AviEvent, DiscoverySource};
pub use id::{PeerId, StreamId};
pub use media::{
    AudioFrame, AudioItem, MAX_CODEC_BYTES, MAX_LABEL_BYTES, Media, OnCongestion, Playout, PlayoutOptions,
    StreamOptions,
};
pub use node::{AviP2p, AviP2pHandle, EventReceiver};
pub use publish::Published;
pub use reader::AudioReader;
#[cfg(feature = "unstable")]
pub use runtime::Platform;
pub use stats::{AudioPath, AudioStats, PeerDirection, PeerInfo, PlayoutStats, RemoteAudioReport, Stats};

/// Events and the ids in them, under the path that they had in AVI 0.1.
pub mod events {
    pub use crate::error::StreamCloseReason;
    pub use crate::event::{AviEvent, DiscoverySource};
    pub use crate::id::{PeerId, StreamId};
}

/// Compiles the README's programs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the page on the shared context.
#[cfg(all(doctest, feature = "context"))]
#[doc = include_str!("../docs/context.md")]
struct ContextPage;

/// Compiles the page on the recorder.
#[cfg(all(doctest, feature = "recorder"))]
#[doc = include_str!("../docs/recorder.md")]
struct RecorderPage;

/// Compiles the page on private meshes.
#[cfg(doctest)]
#[doc = include_str!("../docs/private-mesh.md")]
struct PrivateMesh;
