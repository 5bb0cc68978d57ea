//! Does an engine keep its contract under any operations, in any order, at any time?

mod network;
mod world;

use std::time::Duration;

use avi_p2p_proto::config::{AviP2pConfig, Limits};
use avi_p2p_proto::engine::Command;
use avi_p2p_proto::id::{PeerId, StreamId};
use avi_p2p_proto::media::{Media, OnCongestion, StreamOptions};
use bytes::Bytes;
use world::World;

use super::script::Script;

/// The longest wait. It passes every deadline on its way, of which there are some hundreds in an hour.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// A valid peer id. A greater number gives a greater id.
pub(crate) fn peer(n: u16) -> PeerId {
    let mut hash = vec![0x00, 36, 0x08, 0x01, 0x12, 0x20];
    hash.extend(n.to_be_bytes());
    hash.resize(38, 0);
    PeerId::new(&bs58::encode(hash).into_string())
}

/// The address of `peer(n)`.
pub(crate) fn address(n: u16) -> String {
    format!("/ip4/192.0.2.{}/tcp/{}", n % 256, 9000 + n)
}

/// Any commands, network events and times, consistent or absurd. There must be no panic, one reply per command, one end
/// per stream, no deadline in the past and no busy loop. A second run must give the same outputs, with any number of
/// wake-ups.
pub fn engine_ops(data: &[u8]) {
    let (once, again) = (run(data, false), run(data, true));
    for (one, other) in once.iter().zip(&again) {
        assert_eq!(one, other, "the same inputs, and early timeouts, gave something else");
    }
    assert_eq!(once.len(), again.len(), "the same inputs, and early timeouts, gave more or less");
}

fn run(data: &[u8], is_woken_early: bool) -> world::Trace {
    let mut script = Script::new(data);
    let config = any_config(&mut script);
    config.validate().expect("a configuration within its limits");
    let mut world = World::new(&config, is_woken_early);
    if script.byte() >= 0xe0 {
        world.reuse_ids();
    }
    while !script.is_over() {
        step(&mut world, &mut script);
    }
    world.finish()
}

/// Limits so low that they are reached.
fn any_config(script: &mut Script) -> AviP2pConfig {
    let flags = script.byte();
    let has = |bit: u8| flags & (1 << bit) != 0;
    let peers = |numbers: &[u16]| numbers.iter().map(|n| peer(*n)).collect::<Vec<_>>();
    let with_id = format!("{}/p2p/{}", address(4), peer(4));
    AviP2pConfig {
        enable_mdns: false,
        enable_kad: has(0),
        bootstrap_peers: if has(1) { vec![address(3), with_id, address(1)] } else { Vec::new() },
        allowed_peers: has(2).then(|| peers(&[0, 2, 3, 4])),
        blocked_peers: if has(3) { peers(&[5]) } else { Vec::new() },
        paired_peers: if has(4) { peers(&[2, 6]) } else { Vec::new() },
        publish_hold: if has(5) { Duration::ZERO } else { Duration::from_secs(10) },
        max_peers: 1 + script.below(6),
        max_audio_streams: script.below(5),
        audio_queue: Duration::from_millis(20 << script.below(5)),
        accept_timeout: Duration::from_millis(100 << script.below(8)),
        limits: Limits {
            max_message_bytes: 64,
            max_topic_bytes: 4,
            max_topics: 1 + script.below(3),
            max_audio_frame_bytes: 1 + script.below(256),
            audio_queue_bytes: 1024,
            held_messages: script.below(4),
            held_bytes: 16 * script.below(8),
            pending_commands: 1 + script.below(3),
            known_peers: 16,
            addresses_per_peer: 1 + script.below(3),
            concurrent_dials: 1 + script.below(4),
            ..Limits::default()
        },
        ..AviP2pConfig::default()
    }
}

fn step(world: &mut World, script: &mut Script) {
    match script.byte() {
        0..0x08 => world.wait(script.duration().min(MAX_WAIT)),
        0x08..0x0c => world.oversleep(script.duration()),
        0x0c..0x10 => world.time_out(),
        0x10..0x18 => world.answer(|action, network| network.as_asked(action)),
        0x18..0x20 => {
            let how = script.byte();
            world.answer(|action, network| network.otherwise(action, how));
        }
        0x20..0x28 => world.answer_all(),
        0x28..0x70 => any_call(world, script),
        0x70..0x78 => {
            let (stream, len) = (any_stream(world, script), 1 + script.below(64));
            let data = Bytes::from(vec![0xaa; len]);
            for _ in 0..=script.below(32) {
                let id = world.next_id();
                world.command(Command::SendAudio { id, stream, data: data.clone() });
            }
        }
        // Seldom, because little can happen after it.
        0x78 => {
            let id = world.next_id();
            world.command(Command::Shutdown { id });
        }
        0x79..0xf0 => {
            let event = network::likely(world, script);
            event.into_iter().for_each(|event| world.net(event));
        }
        0xf0.. => {
            let event = network::absurd(world, script);
            world.net(event);
        }
    }
}

/// A command, or a query, which changes nothing.
fn any_call(world: &mut World, script: &mut Script) {
    let command = match script.below(20) {
        0 | 1 => Command::Subscribe { id: world.next_id(), topic: any_topic(script) },
        2 => Command::Unsubscribe { id: world.next_id(), topic: any_topic(script) },
        3..=5 => {
            let (topic, data) = (any_topic(script), vec![0x55; script.byte().into()]);
            Command::Publish { id: world.next_id(), topic, data: data.into() }
        }
        6..=8 => {
            let (peer, options) = (any_peer_said(script), any_options(script));
            Command::RequestStream { id: world.next_id(), peer, options }
        }
        9..=11 => Command::AcceptStream { id: world.next_id(), stream: any_stream(world, script) },
        12 => {
            let (stream, reason) = (any_stream(world, script), script.text(600));
            Command::RejectStream { id: world.next_id(), stream, reason }
        }
        13 => {
            let (stream, data) = (any_stream(world, script), vec![0xaa; script.number().min(1000) as usize]);
            Command::SendAudio { id: world.next_id(), stream, data: data.into() }
        }
        14 => Command::CloseStream { id: world.next_id(), stream: any_stream(world, script) },
        15 => Command::SetAllowed { id: world.next_id(), peer: any_peer_said(script), is_allowed: script.flag() },
        16 => Command::SetBlocked { id: world.next_id(), peer: any_peer_said(script), is_blocked: script.flag() },
        17 if script.flag() => Command::DiscoverPeers { id: world.next_id() },
        17 => Command::FindMorePeers { id: world.next_id() },
        18 => {
            let stream = any_stream(world, script);
            return world.ask(|engine, _| drop(engine.audio_stats(stream)));
        }
        _ => match script.below(3) {
            0 => return world.ask(|engine, _| drop(engine.connected_peers())),
            1 => {
                let peer = any_peer_said(script);
                return world.ask(|engine, now| drop(engine.peer_info(now, &peer)));
            }
            _ => return world.ask(|engine, _| drop(engine.stats())),
        },
    };
    world.command(command);
}

/// One of eight peers or this node itself. The network has proven it.
fn any_peer(script: &mut Script) -> PeerId {
    peer(u16::from(script.byte() % 9))
}

/// What an application calls a peer: seldom an invalid id.
fn any_peer_said(script: &mut Script) -> PeerId {
    match script.byte() {
        n @ ..0xf0 => peer(u16::from(n % 9)),
        _ => PeerId::new(&script.text(80)),
    }
}

/// Usually one of the latest streams.
fn any_stream(world: &World, script: &mut Script) -> StreamId {
    match script.byte() {
        n @ ..0xf0 => world.streams.iter().rev().nth(usize::from(n) % 4).copied().unwrap_or(StreamId(n.into())),
        _ => StreamId(script.number()),
    }
}

fn any_topic(script: &mut Script) -> String {
    match script.byte() {
        n @ ..0xf0 => format!("t{}", n % 4),
        _ => script.text(8),
    }
}

fn any_options(script: &mut Script) -> StreamOptions {
    let flags = script.byte();
    let media = (flags & 1 == 1).then(|| Media {
        codec: "opus".to_owned(),
        sample_rate_hz: 48_000,
        channels: script.byte(),
        frame_duration_us: 20_000,
    });
    let label = (flags & 2 == 2).then(|| script.text(300));
    let on_congestion = if flags & 4 == 4 { OnCongestion::Refuse } else { OnCongestion::DropOldest };
    StreamOptions { media, label, on_congestion }
}
