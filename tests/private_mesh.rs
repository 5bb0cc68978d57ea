//! A mesh with a network key: its members talk, and a stranger learns nothing.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2pConfig, AviP2pHandle, NetworkKey, Stats};
use common::{Node, config};

/// From the first byte of a handshake to its last.
const HANDSHAKE: Duration = Duration::from_secs(10);
const NONCE_BYTES: usize = 24;

fn with_key(byte: u8) -> AviP2pConfig {
    AviP2pConfig { network_key: Some(NetworkKey::from_bytes([byte; 32])), ..config() }
}

fn socket(address: &str) -> SocketAddr {
    let mut parts = address.split('/').skip(2);
    let (ip, port) = (parts.next().unwrap(), parts.nth(1).unwrap());
    SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap())
}

async fn bootstrap_failed(node: &mut Node) -> String {
    node.wait("BootstrapFailed", |event| match event {
        AviEvent::BootstrapFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    })
    .await
}

/// Waits for figures that say so.
async fn stats(handle: &AviP2pHandle, what: &str, is_so: impl Fn(&Stats) -> bool) {
    let deadline = Instant::now() + common::WITHIN;
    loop {
        let stats = handle.stats().await.unwrap();
        if is_so(&stats) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {stats:?}");
        tokio::task::yield_now().await;
    }
}

/// Everything that the node says until it hangs up, to somebody who says `bytes` and then nothing.
fn all_that_is_said(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(HANDSHAKE + Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return said,
            Ok(read) => said.extend(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return said,
            Err(error) => panic!("the node does not hang up: {error}"),
        }
    }
}

#[tokio::test]
async fn members_talk_and_nobody_else_comes_in() {
    let mut home = Node::start(with_key(1)).await;
    home.handle.subscribe("lobby").await.unwrap();
    let mut member = Node::connected_to(with_key(1), &mut [&mut home]).await;
    member.handle.publish("lobby", b"inside".to_vec()).await.unwrap();
    assert_eq!(home.wait_message().await, (member.id.clone(), b"inside".to_vec()));
    let (near, _) = common::call(&mut member, &mut home).await;
    member.handle.send_audio(near, vec![1; 640]).await.unwrap();
    let frame = |event: &AviEvent| match event {
        AviEvent::AudioData { data, .. } => Some(data.len()),
        _ => None,
    };
    assert_eq!(home.wait("AudioData", frame).await, 640);

    for stranger in [with_key(2), config()] {
        // In either direction.
        let bootstrap_peers = vec![home.address.clone()];
        let mut stranger = Node::start(AviP2pConfig { bootstrap_peers, ..stranger }).await;
        let reason = bootstrap_failed(&mut stranger).await;
        assert!(reason.contains("network_key"), "{reason}");
        let bootstrap_peers = vec![stranger.address.clone()];
        let mut seeker = Node::start(AviP2pConfig { bootstrap_peers, ..with_key(1) }).await;
        bootstrap_failed(&mut seeker).await;
        assert_eq!(stranger.handle.stats().await.unwrap().connections_opened, 0);
        assert_eq!(seeker.handle.stats().await.unwrap().connections_opened, 0);
    }
    stats(&home.handle, "the strangers are counted", |stats| stats.inbound_failed >= 2).await;
    assert_eq!(home.handle.connected_peers().await.unwrap(), std::slice::from_ref(&member.id));
}

#[tokio::test]
async fn a_stranger_reads_random_bytes_alone_and_is_dropped_in_time() {
    let mut home = Node::start(with_key(1)).await;
    home.handle.subscribe("lobby").await.unwrap();
    let member = Node::connected_to(with_key(1), &mut [&mut home]).await;
    let address = socket(&home.address);
    let multistream = [&[19][..], b"/multistream/1.0.0\n"].concat();
    let attempts = [
        Vec::new(),
        vec![7; NONCE_BYTES / 2],
        vec![7; NONCE_BYTES],
        vec![7; 10_000],
        [vec![7; NONCE_BYTES], multistream.clone()].concat(),
        multistream,
    ];
    let count = attempts.len();
    let strangers = attempts.map(|bytes| tokio::task::spawn_blocking(move || all_that_is_said(address, &bytes)));
    let mut nonces = Vec::new();
    for stranger in strangers {
        // The members talk meanwhile.
        member.handle.publish("lobby", b"inside".to_vec()).await.unwrap();
        home.wait_message().await;
        let said = stranger.await.unwrap();
        for word in ["multistream", "noise", "yamux", "avi"] {
            assert!(!said.windows(word.len()).any(|window| window == word.as_bytes()), "{word} in clear");
        }
        assert!(said.len() >= NONCE_BYTES, "{} bytes", said.len());
        nonces.push(said[..NONCE_BYTES].to_vec());
    }
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), count, "they differ");
    stats(&home.handle, "every stranger is counted", |stats| stats.inbound_failed >= count as u64).await;
    assert_eq!(home.handle.connected_peers().await.unwrap(), [member.id]);
}
