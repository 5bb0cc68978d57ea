//! Does a network key keep strangers out, and what do they see? Asked over real sockets.

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2pConfig, NetworkKey};
use common::{Node, WITHIN, call, config};
use futures::future::{join_all, join3};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A handshake has 10 s.
const DROPPED_WITHIN: Duration = Duration::from_secs(15);
const NONCE_BYTES: usize = 24;

fn private(key: u8) -> AviP2pConfig {
    AviP2pConfig { network_key: Some(NetworkKey::from_bytes([key; 32])), ..config() }
}

async fn two_members() -> (Node, Node) {
    let mut first = Node::start(private(1)).await;
    let second = Node::connected_to(private(1), &mut [&mut first]).await;
    first.handle.subscribe("kitchen").await.unwrap();
    second.wait_subscriber_of(&first.id).await;
    (first, second)
}

/// A message from the second to the first.
async fn say(first: &mut Node, second: &Node, data: &[u8]) {
    second.handle.publish("kitchen", data.to_vec()).await.unwrap();
    assert_eq!(first.wait_message().await, (second.id.clone(), data.to_vec()));
}

fn socket(node: &Node) -> SocketAddr {
    let port = node.address.rsplit('/').next().unwrap().parse().unwrap();
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Why the bootstrap peer could not be reached.
async fn failure(node: &mut Node) -> String {
    node.wait("BootstrapFailed", |event| match event {
        AviEvent::BootstrapFailed { reason, .. } => Some(reason.clone()),
        AviEvent::PeerConnected { .. } => panic!("{event:?}"),
        _ => None,
    })
    .await
}

async fn has_met_nobody(node: &Node) {
    assert_eq!(node.handle.connected_peers().await.unwrap(), []);
    assert_eq!(node.handle.stats().await.unwrap().connections_opened, 0);
}

/// No name of a protocol, of this node or of its topic is in there.
fn assert_unreadable(seen: &[u8], what: &str) {
    for plain in ["multistream", "noise", "yamux", "/avi", "gossip", "meshsub", "kitchen", "12D3", "avi-node"] {
        assert!(!seen.windows(plain.len()).any(|window| window == plain.as_bytes()), "{what} shows {plain}");
    }
}

#[tokio::test]
async fn nodes_with_the_key_talk_and_call_each_other() {
    let (mut first, mut second) = two_members().await;
    say(&mut first, &second, b"supper").await;
    say(&mut first, &second, &[7; 64 * 1024]).await;
    let (near, far) = call(&mut second, &mut first).await;
    for n in 0..100 {
        second.handle.send_audio(near, vec![n; 640]).await.unwrap();
        let frame = first.wait("AudioData", |event| match event {
            AviEvent::AudioData { stream_id, data, .. } if *stream_id == far => Some(data.clone()),
            _ => None,
        });
        assert_eq!(frame.await, [n; 640]);
    }
    second.handle.close_audio_stream(near).await.unwrap();
    first.wait_closed(far).await;
    first.node.shutdown().await.unwrap();
    second.node.shutdown().await.unwrap();
}

/// Noise looks like something else at every attempt, so there are some.
#[tokio::test]
async fn nodes_with_another_key_or_none_never_connect_in_either_direction() {
    let attempts = [(private(1), private(2)), (private(1), config()), (config(), private(1))];
    let attempts = attempts.iter().flat_map(|pair| std::iter::repeat_n(pair, 8));
    let reasons = join_all(attempts.map(|(here, there)| async {
        let there = Node::start(there.clone()).await;
        let bootstrap_peers = vec![there.address.clone()];
        let mut here = Node::start(AviP2pConfig { bootstrap_peers, ..here.clone() }).await;
        let reason = failure(&mut here).await;
        has_met_nobody(&here).await;
        has_met_nobody(&there).await;
        assert_eq!(here.handle.stats().await.unwrap().peers_known, 0);
        reason
    }));
    for reason in reasons.await {
        let is_useful = reason.contains("handshake") && reason.ends_with("no node of AVI, or have another network_key");
        assert!(is_useful, "{reason}");
    }
}

/// Reads until the node hangs up: what a stranger gets to see. What it says depends on what it has seen.
async fn hear_out(mut stream: TcpStream, opening: &[u8], mut answer: impl FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut seen = Vec::new();
    stream.write_all(opening).await.unwrap();
    let heard = timeout(DROPPED_WITHIN, async {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            seen.extend_from_slice(&bytes[..count]);
            // It may have hung up already.
            let _ = stream.write_all(&answer(&bytes[..count])).await;
        }
    });
    heard.await.expect("a stranger is dropped in time");
    seen
}

#[tokio::test]
async fn a_stranger_learns_nothing_is_dropped_in_time_and_disturbs_nobody() {
    let (mut first, second) = two_members().await;
    let opened = first.handle.stats().await.unwrap().connections_opened;
    let openings: [&[u8]; 8] = [
        b"",
        b"",
        &[7; NONCE_BYTES / 2],
        &[7; NONCE_BYTES],
        &[7; 4096],
        &[0; NONCE_BYTES + 1],
        b"\x13/multistream/1.0.0\n",
        b"\x13/multistream/1.0.0\n\x07/noise\n\x13/multistream/1.0.0\n\x07/noise\n",
    ];
    let address = socket(&first);
    let mute = openings.iter().map(|opening| async {
        let stream = TcpStream::connect(address).await.unwrap();
        hear_out(stream, opening, |_| Vec::new()).await
    });
    let echo = async {
        let stream = TcpStream::connect(address).await.unwrap();
        hear_out(stream, b"", |heard| heard.to_vec()).await
    };
    let garbage = async {
        let stream = TcpStream::connect(address).await.unwrap();
        hear_out(stream, b"", |_| vec![0xa5; 4096]).await
    };
    let strangers = join3(join_all(mute), echo, garbage);
    let (seen, said) = meanwhile(strangers, &mut first, &second).await;
    let seen: Vec<_> = seen.0.into_iter().chain([seen.1, seen.2]).collect();
    for seen in &seen {
        assert_eq!(seen.len(), NONCE_BYTES, "more than a nonce: {seen:?}");
        assert_unreadable(seen, "a nonce");
    }
    let nonces: BTreeSet<_> = seen.iter().collect();
    assert_eq!(nonces.len(), seen.len(), "a nonce came twice");
    assert!(said >= 10, "the members exchanged {said} messages meanwhile");

    wait_failed(&first, seen.len() as u64).await;
    assert_eq!(first.handle.stats().await.unwrap().connections_opened, opened);
    assert_eq!(first.handle.connected_peers().await.unwrap(), std::slice::from_ref(&second.id));
}

/// A stranger may know that it is dropped before the node has counted it.
async fn wait_failed(node: &Node, wanted: u64) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let failed = node.handle.stats().await.unwrap().inbound_failed;
        if failed == wanted {
            return;
        }
        assert!(failed < wanted && Instant::now() < deadline, "{failed} of {wanted} are counted");
        tokio::task::yield_now().await;
    }
}

/// The members exchange messages until the other work is done; how many.
async fn meanwhile<T>(work: impl Future<Output = T>, first: &mut Node, second: &Node) -> (T, usize) {
    let mut work = std::pin::pin!(work);
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    for said in 0.. {
        tokio::select! {
            done = &mut work => return (done, said),
            _ = pause.tick() => say(first, second, &said.to_be_bytes()).await,
        }
    }
    unreachable!("the work ends in time")
}

#[tokio::test]
async fn a_stranger_whom_a_member_dials_sees_a_nonce_and_noise() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let bootstrap_peers = vec![format!("/ip4/127.0.0.1/tcp/{port}")];
    let mut member = Node::start(AviP2pConfig { bootstrap_peers, ..private(1) }).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut nonce = [0; NONCE_BYTES];
    stream.read_exact(&mut nonce).await.unwrap();
    let silence = timeout(Duration::from_millis(200), stream.read_u8()).await;
    assert!(silence.is_err(), "nothing follows before the stranger's nonce: {silence:?}");
    let seen = hear_out(stream, &[7; NONCE_BYTES], |_| Vec::new()).await;
    assert!(!seen.is_empty());
    assert_unreadable(&seen, "what follows");
    let reason = failure(&mut member).await;
    assert!(reason.contains("another network_key"), "{reason}");
}

/// Passes one connection on, and keeps what the dialler says and what the listener answers, until both are done.
async fn overhear(listener: TcpListener, to: SocketAddr) -> (Vec<u8>, Vec<u8>) {
    let (mut near, _) = listener.accept().await.unwrap();
    let mut far = TcpStream::connect(to).await.unwrap();
    let (mut said, mut answered) = (Vec::new(), Vec::new());
    let (mut ours, mut theirs) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            count = near.read(&mut ours) => match count {
                Ok(count @ 1..) => {
                    said.extend_from_slice(&ours[..count]);
                    far.write_all(&ours[..count]).await.unwrap();
                }
                _ => return (said, answered),
            },
            count = far.read(&mut theirs) => match count {
                Ok(count @ 1..) => {
                    answered.extend_from_slice(&theirs[..count]);
                    near.write_all(&theirs[..count]).await.unwrap();
                }
                _ => return (said, answered),
            },
        }
    }
}

#[tokio::test]
async fn who_taps_the_wire_reads_nothing_and_gets_in_by_no_repetition() {
    let mut first = Node::start(private(1)).await;
    first.handle.subscribe("kitchen").await.unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let overheard = tokio::spawn(overhear(listener, socket(&first)));
    let bootstrap_peers = vec![format!("/ip4/127.0.0.1/tcp/{port}")];
    let second = Node::start(AviP2pConfig { bootstrap_peers, ..private(1) }).await;
    say(&mut first, &second, b"kitchen").await;
    second.node.shutdown().await.unwrap();
    let (said, answered) = timeout(DROPPED_WITHIN, overheard).await.unwrap().unwrap();
    assert!(said.len() > 500 && answered.len() > 500, "{} and {} bytes", said.len(), answered.len());
    assert_unreadable(&said, "what the dialler says");
    assert_unreadable(&answered, "what the listener says");

    // The beginning, whole and cut off, as the dialler said it then.
    let opened = first.handle.stats().await.unwrap().connections_opened;
    let repetitions = [said.len(), said.len() / 2, 100].map(|length| {
        let (said, address) = (&said[..length], socket(&first));
        async move { hear_out(TcpStream::connect(address).await.unwrap(), said, |_| Vec::new()).await }
    });
    for again in join_all(repetitions).await {
        assert!(again.len() >= NONCE_BYTES);
        assert_ne!(again[..NONCE_BYTES], answered[..NONCE_BYTES]);
        assert_unreadable(&again, "the answer to a repetition");
    }
    wait_failed(&first, 3).await;
    assert_eq!(first.handle.stats().await.unwrap().connections_opened, opened);
}
