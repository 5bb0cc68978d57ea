//! Five nodes in one process: they find each other from one address, everybody greets everybody, two hold a call.
//!
//! ```text
//! cargo run --release --example mesh_demo
//! ```
//!
//! Exits 0 only if everything that was sent has arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pHandle, EventReceiver, PeerId, StreamId};
use tokio::sync::mpsc;

const NODES: usize = 5;
const TOPIC: &str = "demo";
const FRAME: Duration = Duration::from_millis(20);
const FRAMES: usize = 250;
/// 20 ms of 16-bit mono at 16 kHz.
const SAMPLES: usize = 320;
/// The whole demo takes about 6 s; after this long something is wrong.
const DEADLINE: Duration = Duration::from_secs(18);

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

struct Node {
    node: AviP2p,
    handle: AviP2pHandle,
}

/// What the nodes report while they run.
enum Seen {
    Connected { at: usize, peer: PeerId },
    Message { at: usize, from: PeerId, after: Duration },
    Accepted,
    Frame { after: Duration },
    Gap { missing: u64 },
    Ended,
}

#[derive(Default)]
struct Tally {
    connected: BTreeSet<(usize, PeerId)>,
    messages: BTreeMap<(PeerId, usize), Duration>,
    is_accepted: bool,
    frames: Vec<Duration>,
    missing: u64,
    is_ended: bool,
}

const USAGE: &str = "usage: mesh_demo";

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--help" | "-h") => {
            println!("{USAGE}\nFive nodes in this process find each other, exchange messages and hold a call.");
            return std::process::ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("mesh_demo: unknown argument {other}; {USAGE}");
            return std::process::ExitCode::FAILURE;
        }
    }
    match tokio::time::timeout(DEADLINE, demo()).await {
        Ok(Ok(true)) => std::process::ExitCode::SUCCESS,
        Ok(Ok(false)) => std::process::ExitCode::FAILURE,
        Ok(Err(error)) => {
            eprintln!("mesh_demo: {error}");
            std::process::ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("mesh_demo: not complete within {DEADLINE:?}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn demo() -> Outcome<bool> {
    let epoch = Instant::now();
    let (reports, mut seen) = mpsc::channel(1024);
    let nodes = start(epoch, &reports).await?;
    let ids: Vec<_> = nodes.iter().map(|node| node.node.local_peer_id().clone()).collect();
    let mut tally = Tally::default();

    println!("-- discovery: every node knows the address of node 0 alone");
    tally.until(&mut seen, &ids, |tally| tally.connected.len() == NODES * (NODES - 1)).await?;
    println!("   a full mesh after {:.2?}", epoch.elapsed());
    until_subscribed(&nodes, &ids).await?;

    println!("-- messages: one from every node to every node");
    for node in &nodes {
        node.handle.publish(TOPIC, stamp(epoch, 64)).await?;
    }
    tally.until(&mut seen, &ids, |tally| tally.messages.len() == NODES * (NODES - 1)).await?;

    println!("-- a call from node 1 to node 4: a tone of {:?}", FRAME * FRAMES as u32);
    let stream = nodes[1].handle.request_audio_stream(ids[4].clone()).await?;
    tally.until(&mut seen, &ids, |tally| tally.is_accepted).await?;
    let caller = nodes[1].handle.clone();
    let sending = tokio::spawn(async move { send_tone(&caller, stream, epoch).await });
    tally.until(&mut seen, &ids, |tally| tally.is_ended).await?;
    sending.await??;

    let is_complete = tally.print(&ids);
    for Node { node, .. } in nodes {
        node.shutdown().await?;
    }
    println!("{} after {:.2?}", if is_complete { "everything arrived" } else { "something was lost" }, epoch.elapsed());
    Ok(is_complete)
}

async fn start(epoch: Instant, reports: &mpsc::Sender<Seen>) -> Outcome<Vec<Node>> {
    let mut nodes = Vec::new();
    let mut bootstrap_peers = Vec::new();
    for at in 0..NODES {
        let config = AviP2pConfig {
            node_name: format!("node-{at}"),
            listen_ips: vec![Ipv4Addr::LOCALHOST.into()],
            enable_mdns: false,
            bootstrap_peers: bootstrap_peers.clone(),
            ..Default::default()
        };
        let (node, mut events) = AviP2p::start(config).await?;
        if let Some(AviEvent::Started { local_peer_id, listen_addresses }) = events.recv().await {
            println!("   node {at} is {local_peer_id} at {}", listen_addresses.join(" "));
            if at == 0 {
                bootstrap_peers = listen_addresses;
            }
        }
        let handle = node.handle();
        handle.subscribe(TOPIC).await?;
        tokio::spawn(watch(at, epoch, handle.clone(), events, reports.clone()));
        nodes.push(Node { node, handle });
    }
    Ok(nodes)
}

/// Reports what node `at` sees.
async fn watch(
    at: usize,
    epoch: Instant,
    handle: AviP2pHandle,
    mut events: EventReceiver,
    reports: mpsc::Sender<Seen>,
) {
    while let Some(event) = events.recv().await {
        let seen = match event {
            AviEvent::PeerConnected { peer_id, .. } => Seen::Connected { at, peer: peer_id },
            AviEvent::Message { from, data, .. } => Seen::Message { at, from, after: age(epoch, &data) },
            AviEvent::AudioStreamRequested { stream_id, .. } => {
                if let Err(error) = handle.accept_audio_stream(stream_id).await {
                    println!("   node {at} cannot accept: {error}");
                }
                continue;
            }
            AviEvent::AudioStreamAccepted { .. } => Seen::Accepted,
            AviEvent::AudioData { data, .. } => Seen::Frame { after: age(epoch, &data) },
            AviEvent::AudioGap { missing, .. } => Seen::Gap { missing },
            AviEvent::AudioStreamClosed { reason: avi_p2p::StreamCloseReason::RemoteClose, .. } => Seen::Ended,
            _ => continue,
        };
        if reports.send(seen).await.is_err() {
            return;
        }
    }
}

/// Gossip reaches everybody at once when everybody knows who listens.
async fn until_subscribed(nodes: &[Node], ids: &[PeerId]) -> Outcome {
    for node in nodes {
        for id in ids.iter().filter(|id| *id != node.node.local_peer_id()) {
            while node.handle.peer_info(id).await?.topics.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    Ok(())
}

async fn send_tone(caller: &AviP2pHandle, stream: StreamId, epoch: Instant) -> Result<(), avi_p2p::AviP2pError> {
    let mut beat = tokio::time::interval(FRAME);
    for n in 0..FRAMES {
        beat.tick().await;
        let mut frame = stamp(epoch, 16);
        for sample in n * SAMPLES..(n + 1) * SAMPLES {
            let level = (sample as f32 / 16_000.0 * 440.0 * std::f32::consts::TAU).sin() * 8192.0;
            frame.extend_from_slice(&(level as i16).to_le_bytes());
        }
        caller.send_audio(stream, frame).await?;
    }
    caller.close_audio_stream(stream).await
}

/// `len` bytes that begin with the time.
fn stamp(epoch: Instant, len: usize) -> Vec<u8> {
    let mut data = (epoch.elapsed().as_nanos() as u64).to_be_bytes().to_vec();
    data.resize(len, 0);
    data
}

fn age(epoch: Instant, data: &[u8]) -> Duration {
    let sent = data.first_chunk().map_or(0, |stamp| u64::from_be_bytes(*stamp));
    epoch.elapsed().saturating_sub(Duration::from_nanos(sent))
}

impl Tally {
    async fn until(
        &mut self,
        seen: &mut mpsc::Receiver<Seen>,
        ids: &[PeerId],
        is_done: impl Fn(&Self) -> bool,
    ) -> Outcome {
        while !is_done(self) {
            let seen = seen.recv().await.ok_or("every node has stopped")?;
            self.add(seen, ids);
        }
        Ok(())
    }

    fn add(&mut self, seen: Seen, ids: &[PeerId]) {
        let name =
            |peer: &PeerId| ids.iter().position(|id| id == peer).map_or("a stranger".into(), |n| format!("node {n}"));
        match seen {
            Seen::Connected { at, peer } => {
                println!("   node {at} is connected to {}", name(&peer));
                self.connected.insert((at, peer));
            }
            Seen::Message { at, from, after } => {
                println!("   node {at} has a message of {} after {after:.2?}", name(&from));
                self.messages.insert((from, at), after);
            }
            Seen::Accepted => self.is_accepted = true,
            Seen::Frame { after } => {
                self.frames.push(after);
                if self.frames.len().is_multiple_of(50) {
                    println!("   {} frames heard, the last after {after:.2?}", self.frames.len());
                }
            }
            Seen::Gap { missing } => self.missing += missing,
            Seen::Ended => self.is_ended = true,
        }
    }

    /// The table. Returns whether everything arrived.
    fn print(&self, ids: &[PeerId]) -> bool {
        println!("\n{:<22} {:>5} {:>9} {:>5} {:>10} {:>10}", "", "sent", "delivered", "lost", "p50", "max");
        for (n, id) in ids.iter().enumerate() {
            let latencies = self.messages.iter().filter(|((from, _), _)| from == id).map(|(_, after)| *after).collect();
            row(&format!("messages of node {n}"), NODES - 1, latencies);
        }
        row("audio, node 1 to 4", FRAMES, self.frames.clone());
        println!();
        self.messages.len() == NODES * (NODES - 1) && self.frames.len() == FRAMES && self.missing == 0
    }
}

fn row(what: &str, sent: usize, mut latencies: Vec<Duration>) {
    latencies.sort();
    let delivered = latencies.len();
    let p50 = latencies.get(delivered / 2).copied().unwrap_or_default();
    let max = latencies.last().copied().unwrap_or_default();
    println!("{what:<22} {sent:>5} {delivered:>9} {:>5} {p50:>10.2?} {max:>10.2?}", sent.saturating_sub(delivered));
}
