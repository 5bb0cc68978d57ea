//! Who may come in, and calls to peers that are not connected yet, over real sockets.

mod common;

use avi_p2p::{AviEvent, AviP2pConfig, AviP2pError, Identity, PeerDirection, PeerId};
use common::{Node, config};

async fn gone(node: &mut Node, peer: &PeerId) {
    node.wait("PeerDisconnected", |event| match event {
        AviEvent::PeerDisconnected { peer_id } => (peer_id == peer).then_some(()),
        _ => None,
    })
    .await;
}

async fn back(node: &mut Node, peer: &PeerId) {
    node.wait("PeerConnected", |event| match event {
        AviEvent::PeerConnected { peer_id, .. } => (peer_id == peer).then_some(()),
        _ => None,
    })
    .await;
}

async fn refused(node: &mut Node) -> String {
    node.wait("BootstrapFailed", |event| match event {
        AviEvent::BootstrapFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_blocked_peer_is_sent_away_and_stays_out_until_it_is_unblocked() {
    let mut home = Node::start(config()).await;
    let mut guest = Node::connected_to(config(), &mut [&mut home]).await;
    assert_eq!(guest.handle.peer_info(&home.id).await.unwrap().direction, Some(PeerDirection::Outbound));
    assert_eq!(home.handle.peer_info(&guest.id).await.unwrap().direction, Some(PeerDirection::Inbound));
    home.handle.block_peer(&guest.id).await.unwrap();
    gone(&mut guest, &home.id).await;
    refused(&mut guest).await;
    let stats = home.handle.stats().await.unwrap();
    assert!(stats.peers_refused >= 2 && stats.peers_connected == 0, "{stats:?}");
    home.handle.unblock_peer(&guest.id).await.unwrap();
    back(&mut guest, &home.id).await;
}

#[tokio::test]
async fn only_allowed_peers_come_in_and_the_list_can_grow() {
    let secret = |n| Identity::Bytes([n; 32]);
    let friend = Node::start(AviP2pConfig { identity: secret(7), ..config() }).await;
    let friend_id = friend.id.clone();
    friend.node.shutdown().await.unwrap();
    let allowed_peers = Some(vec![friend_id.clone()]);
    let mut home = Node::start(AviP2pConfig { allowed_peers, ..config() }).await;
    let bootstrap_peers = vec![home.address.clone()];
    let mut stranger = Node::start(AviP2pConfig { bootstrap_peers: bootstrap_peers.clone(), ..config() }).await;
    refused(&mut stranger).await;
    let _friend = Node::connected_to(AviP2pConfig { identity: secret(7), ..config() }, &mut [&mut home]).await;
    assert_eq!(home.handle.connected_peers().await.unwrap(), [friend_id]);
    home.handle.allow_peer(&stranger.id).await.unwrap();
    back(&mut stranger, &home.id).await;
    home.handle.disallow_peer(&stranger.id).await.unwrap();
    gone(&mut stranger, &home.id).await;
    let open = stranger.handle.allow_peer(&home.id).await;
    assert_eq!(open, Err(AviP2pError::Disabled("allowed_peers")));
    assert!(open.unwrap_err().to_string().contains("`allowed_peers: Some(vec![])`"));
}

#[tokio::test]
async fn a_dialler_that_may_not_talk_to_who_answers_says_so() {
    let mut home = Node::start(config()).await;
    let blocked_peers = vec![home.id.clone()];
    let bootstrap_peers = vec![home.address.clone()];
    let mut guest = Node::start(AviP2pConfig { blocked_peers, bootstrap_peers, ..config() }).await;
    let reason = refused(&mut guest).await;
    assert!(reason.contains("the peer is not allowed, is blocked"), "{reason}");
    assert!(guest.handle.stats().await.unwrap().peers_refused >= 1);
    home.node.shutdown().await.unwrap();
    let _ = home.events.try_recv();
}

#[tokio::test]
async fn a_full_node_calls_a_peer_that_it_has_only_heard_of() {
    let with_kad = || AviP2pConfig { enable_kad: true, ..config() };
    let mut hub = Node::start(with_kad()).await;
    let mut callee = Node::connected_to(with_kad(), &mut [&mut hub]).await;
    let mut caller = Node::connected_to(AviP2pConfig { max_peers: 2, ..with_kad() }, &mut [&mut hub]).await;
    let idle = Node::connected_to(config(), &mut [&mut caller]).await;
    let deadline = tokio::time::Instant::now() + common::WITHIN;
    while !caller.handle.find_more_peers().await.unwrap_or_default().contains(&callee.id) {
        assert!(tokio::time::Instant::now() < deadline, "the callee is not found");
    }
    assert_eq!(caller.handle.stats().await.unwrap().peers_connected, 2, "there is no room");
    let (near, _) = common::call(&mut caller, &mut callee).await;
    let stats = caller.handle.stats().await.unwrap();
    assert_eq!((stats.peers_displaced, stats.peers_connected), (1, 2));
    let connected = caller.handle.connected_peers().await.unwrap();
    assert!(connected.contains(&hub.id) && !connected.contains(&idle.id), "the bootstrap peer stays");
    caller.handle.close_audio_stream(near).await.unwrap();
}
