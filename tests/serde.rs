//! Can a configuration be read from a file, whose errors say where and what was expected? Do secrets stay unwritten?

#[path = "../examples/config_file.rs"]
#[allow(dead_code)]
mod config_file;

use std::fmt::Debug;
use std::time::Duration;

use avi_p2p::{
    Address, AviEvent, AviP2pConfig, DiscoverySource, Identity, Interfaces, Limits, NetworkKey, PeerId, Stats,
    StreamCloseReason, StreamId,
};
use serde_json::json;

const PEER: &str = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";

fn read(text: &str) -> Result<AviP2pConfig, String> {
    config_file::read("kitchen.toml", text)
}

#[test]
fn the_file_of_the_examples_is_a_configuration() {
    let config = read(include_str!("../examples/config.toml")).unwrap();
    let expected = AviP2pConfig {
        node_name: "kitchen".to_owned(),
        listen_port: 9000,
        listen_ips: vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()],
        interfaces: Interfaces::Except(vec!["docker*".to_owned(), "tun0".to_owned()]),
        identity: Identity::File("kitchen.key".into()),
        bootstrap_peers: vec!["/ip4/198.51.100.1/tcp/9000".to_owned(), format!("/dns4/hub.local/tcp/9000/p2p/{PEER}")],
        publish_hold: Duration::from_secs(30),
        audio_queue: Duration::from_millis(150),
        limits: Limits { max_topics: 64, held_messages: 1000, ..Limits::default() },
        ..AviP2pConfig::default()
    };
    assert_eq!(config, expected);
    assert_eq!(read("").unwrap(), AviP2pConfig::default());
}

#[test]
fn every_form_of_a_field_is_read() {
    let text = format!(
        "interfaces = 'all'\nidentity = 'generated'\nnetwork_key = '{0}'\nallowed_peers = []\npublish_hold = 2\n\
         accept_timeout = '1.5 min'\naudio_queue = 0.25\npaired_peers = ['{PEER}']\n",
        "0a".repeat(32)
    );
    let config = read(&text).unwrap();
    assert_eq!(config.network_key, Some(NetworkKey::from_bytes([10; 32])));
    assert_eq!(config.allowed_peers, Some(Vec::new()));
    assert_eq!((config.publish_hold, config.accept_timeout), (Duration::from_secs(2), Duration::from_secs(90)));
    assert_eq!((config.audio_queue, config.paired_peers), (Duration::from_millis(250), vec![PeerId::new(PEER)]));
    let secret = format!("identity = {{ bytes = '{}' }}\ninterfaces = {{ only = ['wlan0'] }}", "0a".repeat(32));
    assert_eq!(read(&secret).unwrap().identity, Identity::Bytes([10; 32]));
}

#[test]
fn an_error_in_the_file_has_its_line_and_says_what_was_expected() {
    for (text, line, parts) in [
        ("node_name = 'x'\nlisten_prot = 9000\n", 2, ["unknown field `listen_prot`", "`listen_port`"]),
        ("listen_port = 99999", 1, ["99999", "u16"]),
        ("\n[limits]\nmax_topcis = 1", 3, ["unknown field `max_topcis`", "`max_topics`"]),
        ("\n[limits]\n\nmax_topics = 0", 4, ["limits.max_topics = 0", "expected 1 to 10000"]),
        (
            "bootstrap_peers = [\n  '/ip4/198.51.100.1/tcp/9000',\n  '/ip4/198.51.100.1/tcp/99999',\n]",
            3,
            ["bootstrap_peers[1]", "expected a port of 1 to 65535, not \"99999\""],
        ),
        ("audio_queue = '200 apples'", 1, ["200 apples", "\"200 ms\""]),
        ("audio_queue = '5 ms'", 1, ["audio_queue = 5 ms", "expected 10 ms to 60 s"]),
        ("\npublish_hold = -1", 2, ["-1", "a number of seconds"]),
        ("paired_peers = ['12D3KooWtypo']", 1, ["not a peer id", "12D3KooWtypo"]),
        ("interfaces = 'some'", 1, ["unknown variant `some`", "`all`, `only`, `except`"]),
        ("listen_ips = []", 1, ["listen_ips.len() = 0", "expected 1 to 16"]),
        ("\nnode_name = ", 2, ["", ""]),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(&format!("kitchen.toml:{line}: ")), "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn a_secret_is_neither_written_nor_shown_by_an_error() {
    let digits = "0a".repeat(31);
    for text in [format!("network_key = '{digits}'"), format!("identity = {{ bytes = '{digits}' }}")] {
        let error = read(&text).unwrap_err();
        assert!(error.contains("64 hexadecimal digits") && !error.contains("0a0a"), "{error}");
    }
    let key = Some(NetworkKey::from_bytes([10; 32]));
    for config in [
        AviP2pConfig { network_key: key, ..Default::default() },
        AviP2pConfig { identity: Identity::Bytes([10; 32]), ..Default::default() },
    ] {
        assert!(serde_json::to_string(&config).unwrap_err().to_string().contains("not written"));
        assert!(toml::to_string(&config).is_err());
    }
}

fn assert_reads_back<T>(value: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
{
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
}

#[test]
fn what_is_written_reads_back() {
    assert_reads_back(&AviP2pConfig { identity: Identity::File("node.key".into()), ..Default::default() });
    let written = toml::to_string(&AviP2pConfig::default()).unwrap();
    assert_eq!(read(&written).unwrap(), AviP2pConfig::default());
    assert_reads_back(&Limits::small());
    assert_reads_back(&Stats::default());
    assert_reads_back(&"/dns4/hub.local/tcp/9000".parse::<Address>().unwrap());
    let (peer_id, stream_id) = (PeerId::new(PEER), StreamId(7));
    assert_reads_back(&peer_id);
    assert_reads_back(&AviEvent::Message { from: peer_id.clone(), topic: "t".to_owned(), data: vec![0, 255] });
    assert_reads_back(&AviEvent::AudioStreamClosed {
        peer_id,
        stream_id,
        reason: StreamCloseReason::Rejected("busy".to_owned()),
    });
    for nanos in [0, 1, 999_999_999, 86_400_000_000_001] {
        let (address, reason) = ("/ip4/192.0.2.1/tcp/1".to_owned(), String::new());
        assert_reads_back(&AviEvent::BootstrapFailed { address, reason, retry_in: Duration::from_nanos(nanos) });
    }
}

#[test]
fn events_are_written_under_the_names_of_their_documentation() {
    let event = AviEvent::BootstrapFailed {
        address: "/ip4/192.0.2.1/tcp/1".to_owned(),
        reason: "refused".to_owned(),
        retry_in: Duration::from_millis(1500),
    };
    let written = json!({"BootstrapFailed": {"address": "/ip4/192.0.2.1/tcp/1", "reason": "refused", "retry_in": 1.5}});
    assert_eq!(serde_json::to_value(event).unwrap(), written);
    assert_eq!(serde_json::to_value(StreamId(7)).unwrap(), json!(7));
    assert_eq!(serde_json::to_value(DiscoverySource::Mdns).unwrap(), json!("Mdns"));
    assert!(serde_json::from_value::<PeerId>(json!("alice")).is_err());
}
