//! Are a node's figures text that Prometheus can read, and do they say what `stats` says?
#![cfg(feature = "metrics")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use avi_p2p::Stats;
use common::Node;

/// A family's kind, and the value of every sample by its full name.
#[derive(Default)]
struct Parsed {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

/// Reads OpenMetrics text, and panics at the first line that is none.
fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let (mut helped, mut family) = (BTreeSet::new(), String::new());
    let body = text.strip_suffix("# EOF\n").expect("the text ends with its end mark");
    for line in body.lines() {
        let parts: Vec<_> = line.splitn(4, ' ').collect();
        match parts[..] {
            ["#", "HELP", name, help] => {
                assert!(is_name(name) && !help.is_empty(), "{line}");
                assert!(helped.insert(name.to_owned()), "a family comes twice: {line}");
                family = name.to_owned();
            }
            ["#", "TYPE", name, kind] => {
                assert_eq!(name, family, "{line}");
                assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
                assert_eq!(parsed.kinds.insert(name.to_owned(), kind.to_owned()), None, "{line}");
            }
            ["#", "UNIT", name, unit] => assert!(name == family && name.ends_with(unit), "{line}"),
            _ => {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                let (base, labels) = name.split_once('{').unwrap_or((name, "}"));
                assert!(is_name(base) && are_labels(labels), "{line}");
                let suffix = base.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
                let suffixes: &[&str] = match parsed.kinds[&family].as_str() {
                    "counter" => &["_total"],
                    "histogram" => &["_sum", "_count", "_bucket"],
                    "info" => &["_info"],
                    _ => &[""],
                };
                assert!(suffixes.contains(&suffix), "{line}");
                assert_eq!(parsed.samples.insert(name.to_owned(), value), None, "a sample comes twice: {line}");
            }
        }
    }
    parsed
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase()) && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether this is `name="value",…}` without anything that would need to be escaped.
fn are_labels(labels: &str) -> bool {
    let Some(labels) = labels.strip_suffix('}') else { return false };
    labels.is_empty()
        || labels.split("\",").all(|label| {
            let Some((name, value)) = label.split_once("=\"") else { return false };
            is_name(name) && !value.trim_end_matches('"').contains(['"', '\\', '\n'])
        })
}

/// The fields of the counters, from their own text: none can be forgotten.
fn fields(stats: &Stats) -> Vec<(String, u64)> {
    let text = format!("{stats:?}");
    let fields = text.strip_prefix("Stats { ").and_then(|text| text.strip_suffix(" }")).expect("a plain struct");
    let field = |field: &str| {
        let (name, value) = field.split_once(": ").expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    fields.split(", ").map(field).collect()
}

#[tokio::test]
async fn the_figures_are_well_formed_and_say_what_the_stats_say() {
    let mut first = Node::start(common::config()).await;
    let mut config = common::config();
    config.enable_kad = true;
    let second = Node::connected_to(config, &mut [&mut first]).await;
    first.handle.subscribe("kitchen").await.unwrap();
    second.handle.publish("kitchen", b"lights".to_vec()).await.unwrap();
    assert_eq!(first.wait_message().await, (second.id.clone(), b"lights".to_vec()));

    for node in [&first, &second] {
        let mut tries = 0..1000;
        // Between the two, a ping may have come.
        let (parsed, stats) = loop {
            assert!(tries.next().is_some(), "the figures never stand still");
            let before = node.handle.stats().await.unwrap();
            let text = node.handle.metrics().await.unwrap();
            if node.handle.stats().await.unwrap() == before {
                break (parse(&text), before);
            }
        };
        let fields = fields(&stats);
        assert!(fields.len() >= 40, "{fields:?}");
        for (name, value) in &fields {
            let family = format!("avi_p2p_{name}");
            let is_counter = parsed.kinds.get(&family).unwrap_or_else(|| panic!("no {family}")) == "counter";
            let sample = if is_counter { format!("{family}_total") } else { family };
            assert_eq!(parsed.samples.get(&sample), Some(&(*value as f64)), "{sample}");
        }
        let gauges = fields.iter().filter(|(name, _)| parsed.kinds[&format!("avi_p2p_{name}")] == "gauge");
        let gauges: Vec<_> = gauges.map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            gauges,
            [
                "peers_connected",
                "peers_known",
                "mesh_peers",
                "retired_connections",
                "messages_held_now",
                "context_entries",
                "context_tombstones",
                "context_bytes",
                "context_authors",
                "streams_now"
            ]
        );
        for family in [
            "libp2p_swarm_connections_established",
            "libp2p_identify_received",
            "libp2p_ping_rtt",
            "libp2p_gossipsub_messages",
            "libp2p_gossipsub_heartbeat_duration",
            "libp2p_kad_query_result_get_closest_peers_ok",
        ] {
            let near: Vec<_> = parsed.kinds.keys().filter(|name| name.starts_with("libp2p_")).collect();
            assert!(parsed.kinds.keys().any(|name| name.starts_with(family)), "no {family} in {near:#?}");
        }
    }
    let parsed = parse(&first.handle.metrics().await.unwrap());
    assert_eq!(parsed.samples["avi_p2p_messages_received_total"], 1.0);
    assert_eq!(parsed.samples["libp2p_gossipsub_messages_total"], 1.0);
    let text = first.handle.metrics().await.unwrap();
    assert!(text.contains("# HELP avi_p2p_peers_connected Peers connected now.\n"), "{text}");

    let handle = first.handle.clone();
    first.node.shutdown().await.unwrap();
    assert_eq!(handle.metrics().await.unwrap_err(), avi_p2p::AviP2pError::ChannelClosed);
}
