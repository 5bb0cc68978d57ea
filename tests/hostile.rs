//! Peers that break the rules, over real sockets. For each: the victim's other peers notice nothing, its memory and
//! descriptors stay within a bound, and the offender is ended and counted.
//!
//! One attack at a time, since memory and descriptors are those of the process.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/raw.rs"]
mod raw;
#[path = "common/steady.rs"]
mod steady;

use std::net::SocketAddr;
use std::time::Duration;

use futures::AsyncWriteExt as _;
use raw::{AUDIO, GOSSIP, Raw, multistream, read_to_end};
use steady::Steady;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Mutex, MutexGuard};

/// A handshake may take 10 s, and a peer may be silent for 10 s.
const ENDED_WITHIN: Duration = Duration::from_secs(25);

const OPEN: [u8; 4] = [3, 0x01, 1, 0];
const ACCEPT: [u8; 2] = [1, 0x02];
const DATA: [u8; 6] = [5, 0x04, 0, 0, 7, 7];
const CLOSE: [u8; 5] = [4, 0x05, 0, 0, 0];

async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

fn socket(address: &str) -> SocketAddr {
    let mut parts = address.split('/').skip(2);
    let (ip, port) = (parts.next().unwrap(), parts.nth(1).unwrap());
    SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap())
}

/// Waits until the other end hangs up.
async fn hung_up(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let hung_up = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    tokio::time::timeout(ENDED_WITHIN, hung_up).await.expect("the victim hangs up");
}

#[tokio::test]
async fn who_says_nothing_or_a_byte_a_second_or_nonsense_is_hung_up_on() {
    let _turn = alone().await;
    let victim = Steady::start(|_| {}).await;
    let to = socket(&victim.address);
    let mut silent = TcpStream::connect(to).await.unwrap();
    let mut nonsense = TcpStream::connect(to).await.unwrap();
    nonsense.write_all(&[0xff; 100_000]).await.unwrap();
    let slow = tokio::spawn(async move {
        let mut stream = TcpStream::connect(to).await.unwrap();
        for byte in multistream(&["/multistream/1.0.0", "/noise"]) {
            let mut buffer = [0; 64];
            if stream.write_all(&[byte]).await.is_err() {
                return;
            }
            let heard = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut buffer)).await;
            if matches!(heard, Ok(Ok(0) | Err(_))) {
                return;
            }
        }
        panic!("it may go on for ever");
    });
    hung_up(&mut nonsense).await;
    hung_up(&mut silent).await;
    slow.await.unwrap();
    victim.stats("all three are counted", |stats| stats.inbound_failed >= 3).await;
    victim.assert_unharmed(16).await;
}

#[tokio::test]
async fn half_a_handshake_a_thousand_times_costs_nothing_that_lasts() {
    let _turn = alone().await;
    let victim = Steady::start(|_| {}).await;
    let to = socket(&victim.address);
    let half = [&multistream(&["/multistream/1.0.0", "/noise"])[..], &[0, 32], &[7; 32]].concat();
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let _ = stream.write_all(&half).await;
    }
    let all = |stats: &avi_p2p::Stats| stats.inbound_failed + stats.inbound_refused >= 1000;
    victim.stats("all are counted", all).await;
    victim.assert_unharmed(16).await;
}

#[tokio::test]
async fn a_storm_of_dials_from_one_address_does_not_keep_out_another() {
    let _turn = alone().await;
    let victim = Steady::start(|_| {}).await;
    let to = socket(&victim.address);
    let mut storm = Vec::new();
    for _ in 0..200 {
        storm.push(TcpStream::connect(to).await.unwrap());
    }
    victim.stats("most are refused", |stats| stats.inbound_refused >= 200 - 16).await;
    // From another address a handshake begins meanwhile.
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(to).await.unwrap();
    other.write_all(&multistream(&["/multistream/1.0.0", "/noise"])).await.unwrap();
    let mut answer = [0; 20];
    tokio::time::timeout(ENDED_WITHIN, other.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(answer[1..], *b"/multistream/1.0.0\n");
    drop(other);
    for stream in &mut storm {
        hung_up(stream).await;
    }
    drop(storm);
    victim.assert_unharmed(16).await;
}

#[tokio::test]
async fn a_storm_of_identities_leaves_the_victim_its_peers_and_its_limit() {
    let _turn = alone().await;
    let victim = Steady::start(|config| config.max_peers = 8).await;
    let mut storm = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        match Raw::connect(&victim.address).await {
            Ok(raw) => storm.push(raw),
            Err(_) => refused += 1,
        }
        let connected = victim.handle.stats().await.unwrap().peers_connected;
        assert!(connected <= 8, "{connected} peers");
    }
    assert!(refused >= 50, "{refused} refused");
    victim.stats("they are counted", |stats| stats.inbound_refused >= 50).await;
    for raw in &mut storm {
        // None of them answers pings.
        raw.ended(ENDED_WITHIN).await;
    }
    victim.stats("only its peers are left", |stats| stats.peers_connected == 2).await;
    victim.assert_unharmed(16).await;
}

#[tokio::test]
async fn audio_that_breaks_the_protocol_ends_its_own_stream_alone() {
    let _turn = alone().await;
    let victim = Steady::start(|_| {}).await;
    let raw = Raw::connect(&victim.address).await.unwrap();
    let length_of_2_63 = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    let offences: [(&str, Vec<u8>); 9] = [
        ("a length of 2^63", length_of_2_63.to_vec()),
        ("a length that is no varint", vec![0xff; 11]),
        ("a length of nothing", vec![0]),
        ("OPEN twice", [OPEN, OPEN].concat()),
        ("DATA before ACCEPT", [&OPEN[..], &DATA].concat()),
        ("ACCEPT from the end that asks", [&OPEN[..], &ACCEPT].concat()),
        ("CLOSE of what it never opened", CLOSE.to_vec()),
        ("DATA of what it never opened", DATA.to_vec()),
        ("a critical kind that nobody knows", vec![1, 0xff]),
    ];
    for (count, (what, bytes)) in (1..).zip(offences) {
        let substream = raw.say(AUDIO, &bytes).await.unwrap();
        let said = read_to_end(substream, ENDED_WITHIN).await;
        assert!(said.len() <= multistream(&["/multistream/1.0.0", AUDIO]).len(), "{what}: answered with {said:?}");
        let stats = victim.stats(what, |stats| stats.protocol_errors >= count).await;
        assert_eq!(stats.protocol_errors, count, "{what}");
    }
    victim.assert_unharmed(16).await;
}

#[tokio::test]
async fn ten_thousand_requests_for_streams_are_answered_by_few_offers_and_many_refusals() {
    let _turn = alone().await;
    let victim = Steady::start(|_| {}).await;
    let mut asked = 0;
    for _ in 0..1000 {
        if asked >= 10_000 {
            break;
        }
        let Ok(raw) = Raw::connect(&victim.address).await else { continue };
        while asked < 10_000 && raw.say(AUDIO, &OPEN).await.is_ok() {
            asked += 1;
        }
    }
    assert_eq!(asked, 10_000);
    let stats = victim.stats("they are refused", |stats| stats.streams_refused >= 100).await;
    assert!(stats.streams_now <= 10, "{} streams", stats.streams_now);
    victim.assert_unharmed(64).await;
}

#[tokio::test]
async fn substreams_without_end_end_the_connection() {
    let _turn = alone().await;
    let victim = Steady::start(|_| {}).await;
    let mut raw = Raw::connect(&victim.address).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..10_000 {
        match raw.substream("/nobody/knows/this").await {
            Ok(substream) => open.push(substream),
            Err(_) => break,
        }
    }
    assert!(open.len() < 10_000, "the victim takes them all");
    raw.ended(ENDED_WITHIN).await;
    drop(open);
    victim.stats("it is gone", |stats| stats.peers_connected == 2).await;
    victim.assert_unharmed(32).await;
}

/// GossipSub's RPC of subscriptions, with its length before it.
fn subscriptions(topics: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut rpc = Vec::new();
    for topic in topics {
        let name = format!("topic-{topic:05}");
        // SubOpts { subscribe: true, topicid: name }
        rpc.extend([0x0a, name.len() as u8 + 4, 0x08, 0x01, 0x12, name.len() as u8]);
        rpc.extend(name.as_bytes());
    }
    with_length(rpc)
}

fn with_length(rpc: Vec<u8>) -> Vec<u8> {
    let mut prefixed = Vec::new();
    let mut rest = rpc.len();
    while rest >= 0x80 {
        prefixed.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    prefixed.push(rest as u8);
    [prefixed, rpc].concat()
}

#[tokio::test]
async fn ten_thousand_subscriptions_are_remembered_up_to_the_limit() {
    let _turn = alone().await;
    let victim = Steady::start(|_| {}).await;
    let raw = Raw::connect(&victim.address).await.unwrap();
    let mut substream = raw.substream(GOSSIP).await.unwrap();
    for first in (0..10_000).step_by(100) {
        if substream.write_all(&subscriptions(first..first + 100)).await.is_err() {
            break;
        }
    }
    let _ = substream.flush().await;
    victim.stats("those beyond the limit are counted", |stats| stats.subscriptions_ignored >= 1).await;
    for peer in victim.handle.connected_peers().await.unwrap() {
        let topics = victim.handle.peer_info(&peer).await.unwrap().topics.len();
        assert!(topics <= 256, "{topics} topics of one peer");
    }
    // All in one message is more than a message may have.
    let mut other = Raw::connect(&victim.address).await.unwrap();
    for _ in 0..10 {
        let Ok(substream) = other.say(GOSSIP, &subscriptions(0..10_000)).await else { break };
        read_to_end(substream, ENDED_WITHIN).await;
    }
    other.ended(ENDED_WITHIN).await;
    victim.stats("who insists is thrown out", |stats| stats.peers_banned == 1).await;
    victim.assert_unharmed(16).await;
}

#[tokio::test]
async fn a_peer_that_never_reads_costs_a_bounded_queue_and_is_ended() {
    let _turn = alone().await;
    let victim = Steady::start(|_| {}).await;
    let raw = Raw::connect(&victim.address).await.unwrap();
    let mut substream = raw.substream(GOSSIP).await.unwrap();
    let topic = b"unread";
    let rpc = [&[0x0a, 10, 0x08, 0x01, 0x12, 6][..], topic].concat();
    substream.write_all(&with_length(rpc)).await.unwrap();
    substream.flush().await.unwrap();
    let deadline = tokio::time::Instant::now() + ENDED_WITHIN;
    let reaches_it = async |victim: &Steady| {
        for peer in victim.handle.connected_peers().await.unwrap() {
            if victim.handle.peer_info(&peer).await.unwrap().topics.iter().any(|topic| topic == "unread") {
                return true;
            }
        }
        false
    };
    while !reaches_it(&victim).await {
        assert!(tokio::time::Instant::now() < deadline, "it subscribes");
        tokio::task::yield_now().await;
    }
    raw.freeze();
    let mut refused = 0;
    for _ in 0..1000 {
        let sent = victim.handle.publish("unread", vec![0; 60_000]).await;
        refused += u64::from(sent.is_err());
        tokio::task::yield_now().await;
    }
    let stats = victim.handle.stats().await.unwrap();
    assert!(refused + stats.slow_peer_drops > 0, "1000 messages of 60 kB wait for it: {stats:?}");
    victim.stats("it is ended", |stats| stats.ping_timeouts >= 1 && stats.peers_connected == 2).await;
    drop(substream);
    // Its queue had 512 messages, and GossipSub remembers all of them for five seconds; the allocator keeps the memory.
    victim.assert_unharmed(128).await;
}
