//! Does the engine keep its promises? The network that drives it is a data structure.

mod access;
mod bulk;
mod calls;
mod congestion;
mod connections;
#[cfg(feature = "context")]
mod context;
mod datagrams;
mod dials;
mod doubles;
mod flight;
mod losses;
mod mesh;
mod model;
mod node;
mod pair;
mod properties;
#[cfg(feature = "recorder")]
mod recording;
mod resume;
mod rules;
mod shutdown;
mod topics;
mod upkeep;
mod walks;
mod wanted;
#[cfg(feature = "recorder")]
mod why;

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::config::Limits;
use crate::error::StreamCloseReason;
use crate::event::DiscoverySource;
use crate::fuzzing::Contract;
use crate::id::StreamId;
use crate::media::{Media, OnCongestion, StreamOptions};
use crate::publish::Published;
use crate::stats::AudioStats;
use node::{Node, Value, address, config, limited, peer};
use pair::Mesh;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A node with the default configuration has said its name.
fn named(peer_id: &PeerId) -> AviEvent {
    AviEvent::PeerIdentified { peer_id: peer_id.clone(), name: "avi-node".to_owned() }
}

fn requested(from: &PeerId, stream_id: StreamId) -> AviEvent {
    AviEvent::AudioStreamRequested { from: from.clone(), stream_id }
}

fn accepted(peer_id: &PeerId, stream_id: StreamId) -> AviEvent {
    AviEvent::AudioStreamAccepted { peer_id: peer_id.clone(), stream_id }
}

fn closed(peer_id: &PeerId, stream_id: StreamId, reason: StreamCloseReason) -> AviEvent {
    AviEvent::AudioStreamClosed { peer_id: peer_id.clone(), stream_id, reason }
}

fn audio(from: &PeerId, stream_id: StreamId, data: &[u8]) -> AviEvent {
    AviEvent::AudioData { from: from.clone(), stream_id, data: data.to_vec() }
}

fn gap(from: &PeerId, stream_id: StreamId, missing: u64) -> AviEvent {
    AviEvent::AudioGap { from: from.clone(), stream_id, missing }
}

fn message(from: &PeerId, topic: &str, data: &[u8]) -> AviEvent {
    AviEvent::Message { from: from.clone(), topic: topic.to_owned(), data: data.to_vec() }
}

fn expired(topic: &str, data: &[u8]) -> AviEvent {
    AviEvent::PublishExpired { topic: topic.to_owned(), data: data.to_vec() }
}
