//! Does any configuration give a value or an error that names the field, and never a panic?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use avi_p2p_proto::config::{AviP2pConfig, Interfaces, Limits, NetworkKey};
use avi_p2p_proto::error::AviP2pError;
use avi_p2p_proto::id::PeerId;
use avi_p2p_proto::media::{MAX_CODEC_BYTES, MAX_LABEL_BYTES, Media, OnCongestion, StreamOptions};

use super::script::Script;

/// The longest error about a text of any length.
const MAX_ERROR_BYTES: usize = 2048;

/// Any text and any numbers in every place of the configuration.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    peer_id(&text);
    network_key(&text);
    let mut script = Script::new(data);
    options(&mut script);
    let config = any_config(&mut script);
    match config.validate() {
        Ok(()) => assert_in_range(&config),
        Err(error) => assert_names_a_field(&error),
    }
    let name = script.text(64);
    let matches = |patterns: &[String]| Interfaces::Only(patterns.to_vec()).allows(&name);
    match &config.interfaces {
        Interfaces::All => assert!(config.interfaces.allows(&name)),
        Interfaces::Only(names) => {
            assert_eq!(config.interfaces.allows(&name), names.iter().any(|one| covers(one, &name)));
        }
        Interfaces::Except(names) => assert_eq!(config.interfaces.allows(&name), !matches(names)),
    }
}

fn covers(pattern: &str, name: &str) -> bool {
    let Some(beginning) = pattern.strip_suffix('*') else { return pattern == name };
    name.get(..beginning.len()) == Some(beginning)
}

fn peer_id(text: &str) {
    match text.parse::<PeerId>() {
        Ok(peer) => {
            assert_eq!(peer.as_str(), text);
            assert_eq!(peer.to_string().parse(), Ok(peer));
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text:?}");
        }
        Err(error) => assert!(error.to_string().len() <= MAX_ERROR_BYTES, "{error}"),
    }
}

fn network_key(text: &str) {
    match text.parse::<NetworkKey>() {
        Ok(key) => {
            let hex = text.split_whitespace().last().and_then(|line| line.get(line.len().checked_sub(64)?..));
            let shown: String = key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex.map(str::to_ascii_lowercase), Some(shown.clone()));
            assert_eq!(shown.parse(), Ok(key));
            assert!(!format!("{key:?}").contains(&shown), "a secret is shown");
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.contains("network_key") && shown.len() <= MAX_ERROR_BYTES, "{shown}");
            assert!(!text.contains("secret") || !shown.contains("secret"), "a secret is shown");
        }
    }
}

fn options(script: &mut Script) {
    let media = script.flag().then(|| Media {
        codec: script.text(2 * MAX_CODEC_BYTES),
        sample_rate_hz: script.number() as u32,
        channels: script.byte(),
        frame_duration_us: script.number() as u32,
    });
    let label = script.flag().then(|| script.text(2 * MAX_LABEL_BYTES));
    let options = StreamOptions { media, label, on_congestion: OnCongestion::DropOldest };
    match options.validate() {
        Ok(()) => {
            let Some(media) = &options.media else { return };
            assert!((1..=MAX_CODEC_BYTES).contains(&media.codec.len()), "{media:?}");
            assert!(media.sample_rate_hz > 0 && media.channels > 0 && media.frame_duration_us > 0, "{media:?}");
            assert!(options.label.is_none_or(|label| label.len() <= MAX_LABEL_BYTES));
        }
        Err(error) => assert_names_a_field(&error),
    }
}

/// The default configuration with one or several fields changed.
fn any_config(script: &mut Script) -> AviP2pConfig {
    let mut config = AviP2pConfig::default();
    let changes = script.below(8);
    for _ in 0..changes {
        change(script, &mut config);
    }
    config
}

fn change(script: &mut Script, config: &mut AviP2pConfig) {
    let number = |script: &mut Script| script.number() as usize;
    let time = |script: &mut Script| Duration::new(script.number(), script.number() as u32 % 1_000_000_000);
    match script.below(17) {
        0 => config.node_name = script.text(100),
        1 => config.listen_port = script.number() as u16,
        2 => config.bootstrap_peers = texts(script),
        3 => config.max_peers = number(script),
        4 => config.max_audio_streams = number(script),
        5 => {
            let ip = if script.flag() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::UNSPECIFIED.into() };
            config.listen_ips = vec![ip; script.below(20)];
        }
        6 => config.interfaces = Interfaces::Only(texts(script)),
        7 => config.interfaces = Interfaces::Except(texts(script)),
        8 => config.allowed_peers = Some(peers(script)),
        9 => config.blocked_peers = peers(script),
        10 => config.paired_peers = peers(script),
        11 => config.publish_hold = time(script),
        12 => config.accept_timeout = time(script),
        13 => config.audio_queue = time(script),
        14 => {
            (config.enable_mdns, config.enable_kad) = (script.flag(), script.flag());
            config.enable_datagrams = script.flag();
        }
        15 => {
            // Very many entries: the number in front says how many, and the peers are repeated.
            let (times, peer) = (script.number().min(11_000) as usize, peers(script));
            config.blocked_peers = peer.into_iter().cycle().take(times).collect();
        }
        _ => change_limit(script, &mut config.limits),
    }
}

fn change_limit(script: &mut Script, limits: &mut Limits) {
    let limit = match script.below(19) {
        0 => &mut limits.max_message_bytes,
        1 => &mut limits.max_topic_bytes,
        2 => &mut limits.max_topics,
        3 => &mut limits.max_audio_frame_bytes,
        4 => &mut limits.audio_queue_bytes,
        5 => &mut limits.held_messages,
        6 => &mut limits.held_bytes,
        7 => &mut limits.event_messages,
        8 => &mut limits.event_message_bytes,
        9 => &mut limits.event_audio_frames,
        10 => &mut limits.event_audio_bytes,
        11 => &mut limits.event_lifecycle,
        12 => &mut limits.pending_commands,
        13 => &mut limits.known_peers,
        14 => &mut limits.addresses_per_peer,
        15 => &mut limits.concurrent_dials,
        16 => &mut limits.peer_queue_messages,
        17 => &mut limits.pending_inbound,
        _ => &mut limits.pending_inbound_per_ip,
    };
    *limit = script.number() as usize;
}

fn texts(script: &mut Script) -> Vec<String> {
    let (count, text) = (script.below(80), script.text(200));
    // The last entry may differ from the others.
    let mut texts = vec![text; count];
    texts.extend(script.flag().then(|| script.text(200)));
    texts
}

fn peers(script: &mut Script) -> Vec<PeerId> {
    texts(script).iter().map(|text| PeerId::new(text)).collect()
}

/// Checks the ranges in the documentation of each field.
fn assert_in_range(config: &AviP2pConfig) {
    let AviP2pConfig { node_name, limits, .. } = config;
    assert!((1..=64).contains(&node_name.len()) && !node_name.chars().any(char::is_control), "{node_name:?}");
    assert!(config.bootstrap_peers.len() <= 64 && config.paired_peers.len() <= 64);
    assert!((1..=10_000).contains(&config.max_peers) && config.max_audio_streams <= 10_000);
    assert!((1..=16).contains(&config.listen_ips.len()));
    assert!(config.blocked_peers.len() <= 10_000);
    assert!(config.allowed_peers.as_ref().is_none_or(|peers| peers.len() <= 10_000));
    let listed = [Some(&config.blocked_peers), config.allowed_peers.as_ref(), Some(&config.paired_peers)];
    let mut listed = listed.into_iter().flatten().flatten();
    assert!(listed.all(|peer| peer.as_str().parse::<PeerId>().is_ok()), "a peer that cannot be one");
    let hour = Duration::from_secs(3600);
    assert!(config.publish_hold <= hour && (Duration::from_millis(100)..=hour).contains(&config.accept_timeout));
    assert!((Duration::from_millis(10)..=Duration::from_secs(60)).contains(&config.audio_queue));
    const MIB: usize = 1024 * 1024;
    for (value, range) in [
        (limits.max_message_bytes, 1..=MIB),
        (limits.max_topic_bytes, 1..=1024),
        (limits.max_topics, 1..=10_000),
        (limits.max_audio_frame_bytes, 1..=MIB),
        (limits.audio_queue_bytes, 1024..=64 * MIB),
        (limits.held_messages, 0..=100_000),
        (limits.held_bytes, 0..=1024 * MIB),
        (limits.event_messages, 1..=1_000_000),
        (limits.event_message_bytes, 1024..=1024 * MIB),
        (limits.event_audio_frames, 1..=1_000_000),
        (limits.event_audio_bytes, 1024..=1024 * MIB),
        (limits.event_lifecycle, 16..=1_000_000),
        (limits.pending_commands, 1..=100_000),
        (limits.known_peers, 16..=100_000),
        (limits.addresses_per_peer, 1..=64),
        (limits.concurrent_dials, 1..=1000),
        (limits.peer_queue_messages, 8..=4096),
        (limits.pending_inbound, 1..=10_000),
        (limits.pending_inbound_per_ip, 1..=10_000),
    ] {
        assert!(range.contains(&value), "{value} of {range:?}");
    }
    if let Interfaces::Only(names) | Interfaces::Except(names) = &config.interfaces {
        assert!(names.len() <= 64 && names.iter().all(|name| (1..=64).contains(&name.len())), "{names:?}");
        assert!(names.iter().all(|name| !name.strip_suffix('*').unwrap_or(name).contains('*')), "{names:?}");
    }
}

fn assert_names_a_field(error: &AviP2pError) {
    assert!(matches!(error, AviP2pError::InvalidConfig { .. }), "{error:?}");
    let AviP2pError::InvalidConfig { field, .. } = error else { return };
    let text = error.to_string();
    assert!(!field.is_empty() && text.contains(field.as_str()), "{text}");
    assert!(text.len() <= MAX_ERROR_BYTES, "an error of {} bytes", text.len());
}
