//! What does a command print? Every line has one form for machines and one for people.
//!
//! As JSON a line is an object with `line`, which names its kind, and the fields below. Fields are added, and neither
//! renamed nor removed. Times are in milliseconds (`_ms`) or seconds (`_s`).

mod human;

use std::time::Duration;

use avi_p2p::{AudioPath, AudioStats, PeerInfo};
use serde::Serialize;

/// A result.
#[derive(Debug, Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line {
    /// The node runs.
    Started { peer_id: String, addresses: Vec<String> },
    /// A peer, as it is known now.
    Peer(Peer),
    /// A peer has connected.
    PeerConnected { peer_id: String, address: String },
    /// A peer has said its name.
    PeerNamed { peer_id: String, name: String },
    /// The last connection of a peer has ended.
    PeerDisconnected { peer_id: String },
    /// The topics are subscribed to.
    Subscribed { topics: Vec<String> },
    /// A message: `text` if it is UTF-8, else `hex`.
    Message { from: String, name: Option<String>, topic: String, text: Option<String>, hex: Option<String> },
    /// Messages that were lost here, because they are printed too slowly.
    Lost { messages: u64 },
    /// A message was sent to the subscribers that are connected.
    Published { topic: String, bytes: usize, subscribers: Vec<Named> },
    /// Answers to calls are given from now on.
    Answering { peer_id: String, addresses: Vec<String> },
    /// A call has begun.
    CallBegan { peer_id: String, name: Option<String>, label: Option<String> },
    /// The figures of a call, once a second.
    CallFigures(Figures),
    /// A call has ended, with its figures.
    CallEnded {
        reason: String,
        seconds: f64,
        #[serde(flatten)]
        figures: Figures,
    },
    /// A value of the shared context.
    Context { path: String, value: serde_json::Value },
    /// A value of the shared context has been written, and is with so many peers.
    ContextWritten { path: String, peers: u64 },
    /// The shared context has changed; `null` if it has nothing there any more.
    ContextChanged { author: String, path: String, value: Option<serde_json::Value> },
    /// What `doctor` has found.
    Finding(Finding),
    /// A recording has ended.
    Recorded { path: String, bytes: u64 },
    /// A record that was replayed: what went into the node's engine, and what came out.
    Step { number: u64, time_s: f64, wall_ms: Option<u64>, input: String, outputs: Vec<String> },
    /// What led to something, the oldest first.
    Cause { number: u64, time_s: f64, text: String },
    /// A replay has ended.
    Replayed(Replayed),
}

/// How a replay has ended.
#[derive(Debug, Serialize)]
pub(crate) struct Replayed {
    pub(crate) steps: u64,
    /// When the node's time began, in UTC.
    pub(crate) began: String,
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
    /// Whether the engine has done the same as the one that was recorded.
    pub(crate) agrees: bool,
    /// Where, or why.
    pub(crate) end: String,
}

/// A peer and its name.
#[derive(Debug, Serialize)]
pub(crate) struct Named {
    pub(crate) peer_id: String,
    pub(crate) name: Option<String>,
}

/// What is known about a peer.
#[derive(Debug, Serialize)]
pub(crate) struct Peer {
    peer_id: String,
    name: Option<String>,
    connected: bool,
    /// Who dialled: `inbound` or `outbound`.
    direction: Option<&'static str>,
    source: String,
    rtt_ms: Option<f64>,
    connected_s: Option<f64>,
    addresses: Vec<String>,
    topics: Vec<String>,
}

/// The figures of a call: what this end knows, and what the other end reports of what this one sent.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    peer_id: String,
    /// `datagrams` or `substream`.
    path: &'static str,
    path_changes: u64,
    rtt_ms: Option<f64>,
    sent: u64,
    dropped: u64,
    repeated: u64,
    queue_ms: Option<f64>,
    rate_bits_per_second: Option<u64>,
    received: u64,
    lost: u64,
    late: u64,
    jitter_ms: f64,
    remote_lost: Option<u64>,
    remote_late: Option<u64>,
    remote_jitter_ms: Option<f64>,
    playout: Option<PlayoutFigures>,
}

/// The figures of the jitter buffer.
#[derive(Debug, Serialize)]
pub(crate) struct PlayoutFigures {
    target_delay_ms: f64,
    delay_ms: f64,
    played: u64,
    concealed: u64,
    late: u64,
    removed: u64,
}

/// What `doctor` has looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What was looked at, as `multicast`.
    pub(crate) check: &'static str,
    pub(crate) what: String,
    /// What to do; `null` if nothing.
    pub(crate) advice: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works, or cannot be known.
    Note,
    /// Something does not work.
    Problem,
}

pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl From<&PeerInfo> for Peer {
    fn from(info: &PeerInfo) -> Self {
        let direction = info.direction.map(|direction| match direction {
            avi_p2p::PeerDirection::Inbound => "inbound",
            avi_p2p::PeerDirection::Outbound => "outbound",
        });
        Self {
            peer_id: info.peer_id.to_string(),
            name: info.name.clone(),
            connected: info.connected,
            direction,
            source: format!("{:?}", info.source).to_lowercase(),
            rtt_ms: info.rtt.map(ms),
            connected_s: info.connected_for.map(|time| ms(time) / 1e3),
            addresses: info.addresses.clone(),
            topics: info.topics.clone(),
        }
    }
}

impl From<&PeerInfo> for Named {
    fn from(info: &PeerInfo) -> Self {
        Self { peer_id: info.peer_id.to_string(), name: info.name.clone() }
    }
}

impl Figures {
    pub(crate) fn new(stats: &AudioStats) -> Self {
        Self {
            peer_id: stats.peer_id.to_string(),
            path: match stats.path {
                AudioPath::Datagrams => "datagrams",
                _ => "substream",
            },
            path_changes: stats.path_changes,
            rtt_ms: stats.path_rtt.map(ms),
            sent: stats.frames_sent,
            dropped: stats.frames_dropped,
            repeated: stats.frames_repeated,
            queue_ms: stats.queue_delay.map(ms),
            rate_bits_per_second: stats.rate_bits_per_second,
            received: stats.frames_received,
            lost: stats.frames_lost,
            late: stats.frames_late,
            jitter_ms: ms(stats.jitter),
            remote_lost: stats.remote.map(|remote| remote.lost),
            remote_late: stats.remote.map(|remote| remote.late),
            remote_jitter_ms: stats.remote.map(|remote| ms(remote.jitter)),
            playout: stats.playout.map(|playout| PlayoutFigures {
                target_delay_ms: ms(playout.target_delay),
                delay_ms: ms(playout.delay),
                played: playout.played,
                concealed: playout.concealed,
                late: playout.late,
                removed: playout.removed,
            }),
        }
    }
}
