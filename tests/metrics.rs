//! The figures of a node as Prometheus reads them.
#![cfg(feature = "metrics")]

mod common;

use std::collections::BTreeMap;

use common::{Node, config};

/// The samples of a text, by their name with labels, after a check that every line is well-formed.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let mut samples = BTreeMap::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next());
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind) && !name.is_empty() && rest.is_some(), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{line}");
        assert_eq!(samples.insert(name, value.parse().expect(line)), None, "{name} twice");
    }
    samples
}

#[tokio::test]
async fn the_figures_are_those_of_the_stats_and_libp2ps_own_come_with_them() {
    let mut home = Node::start(config()).await;
    home.handle.subscribe("lobby").await.unwrap();
    let guest = Node::connected_to(config(), &mut [&mut home]).await;
    guest.handle.publish("lobby", b"hello".to_vec()).await.unwrap();
    home.wait_message().await;
    let text = home.handle.metrics().await.unwrap();
    let samples = samples(&text);
    for (name, value) in [
        ("avi_p2p_messages_received_total", 1.0),
        ("avi_p2p_peers_connected", 1.0),
        ("avi_p2p_connections_opened_total", 1.0),
        ("avi_p2p_peers_banned_total", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name} in\n{text}");
    }
    assert!(text.contains("# HELP avi_p2p_dials_failed Dials that failed.\n"), "{text}");
    for family in ["libp2p_swarm_connections_established", "libp2p_gossipsub_", "gossipsub_topic_msg_recv"] {
        assert!(samples.keys().any(|name| name.starts_with(family)), "no {family} in\n{text}");
    }
    let own = samples.keys().filter(|name| name.starts_with("avi_p2p_")).count();
    let stats = format!("{:?}", home.handle.stats().await.unwrap());
    assert_eq!(own, stats.matches(": ").count(), "every figure is there");
}
