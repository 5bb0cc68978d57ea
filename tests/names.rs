//! Does a node find its bootstrap peers by their hosts' names, with the resolver of the operating system?

mod common;

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, EventReceiver};
use common::{Node, config, wait};

async fn connects(events: &mut EventReceiver) {
    wait(events, "PeerConnected", |event| match event {
        AviEvent::BootstrapFailed { .. } => panic!("{event:?}"),
        event => matches!(event, AviEvent::PeerConnected { .. }).then_some(()),
    })
    .await;
}

async fn refused(events: &mut EventReceiver) -> String {
    wait(events, "BootstrapFailed", |event| match event {
        AviEvent::BootstrapFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    })
    .await
}

/// An entry for the node, under its host's name. The name may also have addresses at which nobody listens.
fn by_name(node: &Node) -> AviP2pConfig {
    let bootstrap_peers = vec![node.address.replace("/ip4/127.0.0.1/", "/dns/localhost/")];
    AviP2pConfig { bootstrap_peers, ..config() }
}

/// A name that exists nowhere (RFC 6761 §6.4).
fn by_no_name() -> AviP2pConfig {
    AviP2pConfig { bootstrap_peers: vec!["/dns4/hub.invalid/tcp/9000".to_owned()], ..config() }
}

#[tokio::test]
async fn a_node_on_its_own_thread_connects_by_name() {
    let hub = Node::start(config()).await;
    let mut node = Node::start(by_name(&hub)).await;
    connects(&mut node.events).await;
    let mut node = Node::start(by_no_name()).await;
    let reason = refused(&mut node.events).await;
    assert!(reason.starts_with("hub.invalid: "), "{reason}");
}

#[tokio::test]
async fn a_node_on_tokio_connects_by_name() {
    let hub = Node::start(config()).await;
    let (_node, mut events) = AviP2p::start_on_tokio(by_name(&hub)).await.unwrap();
    connects(&mut events).await;
    let (_node, mut events) = AviP2p::start_on_tokio(by_no_name()).await.unwrap();
    let reason = refused(&mut events).await;
    assert!(reason.starts_with("hub.invalid: "), "{reason}");
}
