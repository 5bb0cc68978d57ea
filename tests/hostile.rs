//! What can a peer do to a node that keeps no rule? Ends itself, and nothing else: the node's other peers notice nothing,
//! memory and file descriptors stay bounded, and the offence is counted.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/gossip.rs"]
mod gossip;
#[path = "common/heap.rs"]
mod heap;
#[path = "common/raw.rs"]
mod raw;
#[path = "common/siege.rs"]
mod siege;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures::{StreamExt, stream};
use libp2p_core::muxing::SubstreamBox;
use libp2p_identity::Keypair;

use gossip::Message;
use raw::{AUDIO, PUBSUB, Peer, read_to_the_end, uvarint, yamux};
use siege::{Bounds, ECHO, MAX_PEERS, POUR, POURED_BYTES, Siege};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// `limits.pending_inbound_per_ip`.
const PENDING_PER_IP: usize = 16;
/// What one peer, or some handshakes, may cost.
const FEW: Bounds = Bounds { memory_mib: 16.0, sockets: 48 };

#[tokio::test]
#[ignore = "run by the others, in a process of its own"]
async fn the_node_under_attack() {
    siege::be_the_node().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_a_byte_a_second_is_hung_up_on() {
    let siege = Siege::lay().await;
    let mut waiting = Vec::new();
    for n in 0..PENDING_PER_IP {
        let mut tcp = raw::tcp(HERE, siege.victim.socket).await.unwrap();
        waiting.push(tokio::spawn(async move {
            if n % 2 == 0 {
                return drop(read_to_the_end(&mut tcp).await);
            }
            // Ten of them are too few to agree on anything.
            for byte in raw::proposal("/noise").chunks(1) {
                if tcp.write_all(byte).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            panic!("it was let to finish");
        }));
    }
    for waits in waiting {
        waits.await.unwrap();
    }
    siege.victim.stat_until("inbound_failed", |failed| failed == PENDING_PER_IP as u64).await;
    siege.ends_well(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_handshake_a_thousand_times_leaves_nothing() {
    const TIMES: u64 = 1000;
    let siege = Siege::lay().await;
    let socket = siege.victim.socket;
    let half = |n: u64| async move {
        let mut tcp = raw::tcp(HERE, socket).await?;
        match n % 3 {
            0 => tcp.write_all(&raw::proposal("/noise")[..20]).await,
            // An ephemeral key, and no more.
            1 => {
                raw::propose(&mut tcp, "/noise").await?;
                tcp.write_all(&[&[0, 32][..], &[9; 32]].concat()).await?;
                tcp.read_exact(&mut [0; 2]).await
            }
            _ => {
                raw::propose(&mut tcp, "/noise").await?;
                tcp.write_all(&[&[0, 200][..], &[n as u8; 200]].concat()).await
            }
        }
    };
    stream::iter(0..TIMES).map(half).buffer_unordered(8).collect::<Vec<_>>().await;
    let seen = siege.victim.stats_until(["inbound_failed", "inbound_refused"], |seen| seen >= TIMES).await;
    assert_eq!(seen, TIMES);
    siege.ends_well(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_the_connection_that_brings_it() {
    let siege = Siege::lay().await;
    let victim = &siege.victim;
    let garbage: Vec<u8> = (0..4096u32).map(|n| (n * 37 % 251) as u8 | 0x80).collect();

    // In place of the first agreement; and of Noise.
    let mut tcp = raw::tcp(HERE, victim.socket).await.unwrap();
    let _ = tcp.write_all(&garbage).await;
    read_to_the_end(&mut tcp).await;
    let mut tcp = raw::tcp(HERE, victim.socket).await.unwrap();
    raw::propose(&mut tcp, "/noise").await.unwrap();
    let _ = tcp.write_all(&garbage).await;
    read_to_the_end(&mut tcp).await;
    victim.stat_until("inbound_failed", |failed| failed == 2).await;

    // Behind the handshake: no frame of Yamux; one that names a stream which only the node may open; one of 4 GiB; and
    // more bytes than a window has.
    let too_much = [yamux::header(yamux::DATA, yamux::SYN, 1, 300_000), vec![0; 300_000]].concat();
    let frames = [
        garbage.clone(),
        yamux::header(yamux::DATA, yamux::SYN, 2, 0),
        yamux::header(yamux::DATA, yamux::SYN, 1, u32::MAX),
        too_much,
    ];
    for (ended, frame) in (1..).zip(frames) {
        let tcp = raw::tcp(HERE, victim.socket).await.unwrap();
        let mut secured = raw::secure(tcp, &Keypair::generate_ed25519()).await.unwrap();
        let _ = yamux::write(&mut secured, &frame).await;
        read_to_the_end(&mut secured).await;
        victim.stat_until("connections_closed", |closed| closed == ended).await;
    }
    siege.ends_well(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_a_substream_ends_that_substream() {
    let siege = Siege::lay().await;
    let peer = Peer::connect(HERE, siege.victim.socket).await.unwrap();
    for garbage in [&[0xff; 64][..], b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/9.9.9\n", &[0; 64]] {
        let mut substream = peer.open_silent().await.unwrap();
        let _ = write(&mut substream, garbage).await;
        read_to_the_end(&mut substream).await;
    }
    let unknown = peer.open("/no/such/protocol/1.0.0").await.map(drop);
    assert!(unknown.is_err());
    // The connection itself is as good as before.
    peer.open(AUDIO).await.unwrap();
    drop(peer);
    siege.ends_well(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_that_breaks_the_protocol_ends_its_own_stream_and_is_counted() {
    let siege = Siege::lay().await;
    let peer = Peer::connect(HERE, siege.victim.socket).await.unwrap();
    let accept = || frame(&[0x02]);
    let reject = || frame(&[0x03, 0, 0]);
    let close = |next: u8| frame(&[0x05, 0, next, 0]);
    let data = |sequence: u8| frame(&[0x04, sequence, 0, 1, 2, 3]);
    let offences: [(&str, Vec<Vec<u8>>); 16] = [
        ("a length of 2^63", vec![uvarint(1 << 63)]),
        ("a length of 2^63 in a call", vec![open(ECHO), uvarint(1 << 63)]),
        ("a length beyond 64 bits", vec![vec![0xff; 16]]),
        ("a frame of no bytes", vec![vec![0]]),
        ("garbage", vec![vec![0xd7; 64]]),
        ("an unknown kind that may not be skipped", vec![open("?"), frame(&[0xff])]),
        ("OPEN of another version", vec![frame(&[0x01, 9, 0])]),
        ("OPEN with bytes left over", vec![frame(&[0x01, 1, 0, 0])]),
        ("OPEN twice", vec![open("?"), open("?")]),
        ("OPEN in a call", vec![open(ECHO), open(ECHO)]),
        ("DATA before OPEN", vec![data(0)]),
        ("DATA before ACCEPT", vec![open("?"), data(0)]),
        ("ACCEPT from the end that asks", vec![open("?"), accept()]),
        ("REJECT from the end that asks", vec![open("?"), reject()]),
        ("CLOSE before OPEN", vec![close(0)]),
        ("DATA that goes back", vec![open(ECHO), data(1), data(0)]),
    ];
    for (count, (offence, frames)) in (1..).zip(offences) {
        let mut substream = peer.open(AUDIO).await.unwrap();
        for (n, bytes) in frames.iter().enumerate() {
            let _ = write(&mut substream, bytes).await;
            if n == 0 && *bytes == open(ECHO) {
                let mut accepted = [0; 2];
                substream.read_exact(&mut accepted).await.unwrap();
                assert_eq!(accepted[..], accept());
            }
        }
        read_to_the_end(&mut substream).await;
        let errors = siege.victim.stat_until("protocol_errors", |errors| errors >= count).await;
        assert_eq!(errors, count, "{offence}");
    }
    assert!(!peer.has_ended());
    drop(peer);
    siege.ends_well(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_datagrams_that_nobody_expects_is_counted_and_dropped() {
    const FLOOD: u64 = 100_000;
    const BURST: usize = 50;
    let siege = Siege::lay().await;
    let udp = UdpSocket::bind((HERE, 0)).unwrap();
    let to = siege.victim.socket;
    let sizes = [0, 1, 7, 8, 9, 160, 1200, 1452, 1453, 9000];
    let (stop, flood) = (Arc::new(AtomicBool::new(false)), Arc::new(vec![0xa5; 9000]));
    let stopped = stop.clone();
    let flooding = tokio::spawn(async move {
        // Fifty thousand a second.
        let mut beat = tokio::time::interval(Duration::from_millis(1));
        while !stopped.load(Ordering::SeqCst) {
            beat.tick().await;
            for n in 0..BURST {
                // What the system's buffer cannot hold is lost, as in a real flood.
                let _ = udp.send_to(&flood[..sizes[n % sizes.len()]], to);
            }
        }
    });
    siege.victim.stat_until("datagrams_ignored", |ignored| ignored >= FLOOD).await;
    stop.store(true, Ordering::SeqCst);
    flooding.await.unwrap();
    siege.ends_well(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_third_peer_says_on_its_own_streams_touches_no_other_stream() {
    let siege = Siege::lay().await;
    let peer = Peer::connect(HERE, siege.victim.socket).await.unwrap();
    // There is no name on the wire that it could get wrong; so it says all that could end or fill a call, often.
    for n in 0..50u8 {
        let mut substream = call(&peer, ECHO).await;
        // A payload that looks like a frame of the others.
        let mut payload = vec![n % 2; 160];
        payload[1..9].copy_from_slice(&u64::from(n).to_be_bytes());
        let data = frame(&[&[0x04, 0, 0][..], &payload].concat());
        write(&mut substream, &data).await.unwrap();
        let back = read_data(&mut substream).await;
        assert_eq!(back[3..], payload, "its own bytes come back, and to it alone");
        write(&mut substream, &frame(&[0x05, 0, 1, 0])).await.unwrap();
        read_to_the_end(&mut substream).await;
        substream.close().await.unwrap();
    }
    siege.victim.stat_until("streams_now", |streams| streams == 2).await;
    assert_eq!(siege.victim.stat("protocol_errors").await, 0);
    drop(peer);
    siege.ends_well(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_stream_requests_are_refused_and_counted() {
    const REQUESTS: u64 = 10_000;
    let siege = Siege::lay().await;
    let peer = Peer::connect(HERE, siege.victim.socket).await.unwrap();
    let request = |_| async {
        let mut substream = peer.open(AUDIO).await.unwrap();
        let _ = write(&mut substream, &open("?")).await;
        let mut answer = [0; 2];
        let _ = substream.read_exact(&mut answer).await;
        (answer[1], substream)
    };
    // Five offers stay unanswered, which is half of max_audio_streams; the others are ended one by one.
    let mut offers = stream::iter(0..REQUESTS).map(request).buffer_unordered(100);
    let refused = async {
        let mut refused = 0;
        while refused < REQUESTS - 5 {
            let (kind, substream) = offers.next().await.unwrap();
            assert!(kind == 0x03 || kind == 0, "neither REJECT nor a reset: {kind}");
            drop(substream);
            refused += 1;
        }
    };
    tokio::time::timeout(common::WITHIN, refused).await.expect("every request is answered");
    siege.victim.stat_until("streams_refused", |refused| refused == REQUESTS - 5).await;
    assert_eq!(siege.victim.stat("streams_offered").await, 5 + 2, "those of the peers included");
    drop(offers);
    drop(peer);
    siege.victim.stat_until("streams_now", |streams| streams == 2).await;
    siege.ends_well(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_subscriptions_are_not_remembered() {
    let siege = Siege::lay().await;
    let topic = |n: u32| format!("topic-{n:05}");

    // Each in a message of its own; `max_topics` are remembered.
    let peer = Peer::connect(HERE, siege.victim.socket).await.unwrap();
    let mut substream = peer.open(PUBSUB).await.unwrap();
    for n in 0..10_000 {
        write(&mut substream, &gossip::subscribe([topic(n)])).await.unwrap();
    }
    let before = siege.victim.stat_until("subscriptions_ignored", |ignored| ignored == 10_000 - 256).await;

    // All in one.
    let crowd = Peer::connect(HERE, siege.victim.socket).await.unwrap();
    let mut all = crowd.open(PUBSUB).await.unwrap();
    write(&mut all, &gossip::subscribe((0..10_000).map(topic))).await.unwrap();
    siege.victim.stat_until("subscriptions_ignored", |ignored| ignored == before + 10_000 - 256).await;

    // More than one message may have.
    let mut other = Peer::connect(HERE, siege.victim.socket).await.unwrap();
    let before = siege.victim.stat("subscriptions_ignored").await;
    let mut oversize = other.open(PUBSUB).await.unwrap();
    let _ = write(&mut oversize, &gossip::subscribe((0..40_000).map(topic))).await;
    read_to_the_end(&mut oversize).await;
    assert_eq!(siege.victim.stat("subscriptions_ignored").await, before);
    gossip_offender_gains_nothing(&siege, &mut other).await;
    drop(crowd);
    drop((peer, other));
    siege.ends_well(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_that_is_malformed_oversize_or_forged_is_not_delivered() {
    const TOPIC: &str = "quiet";
    let siege = Siege::lay().await;
    let victim = &siege.victim;
    let mine = Keypair::generate_ed25519();
    let sound = |n: u64| Message::signed(&mine, n, TOPIC, b"lies");
    let another = Keypair::generate_ed25519().public().to_peer_id().to_bytes();
    let offences: [(&str, Vec<u8>); 12] = [
        ("no signature", gossip::publish(&[Message { signature: vec![], ..sound(1) }])),
        ("a signature of zeros", gossip::publish(&[Message { signature: vec![0; 64], ..sound(2) }])),
        ("other data than was signed", gossip::publish(&[Message { data: b"more lies".to_vec(), ..sound(3) }])),
        ("a topic that was not signed", gossip::publish(&[Message::signed(&mine, 4, "other", b"lies").on(TOPIC)])),
        ("another author", gossip::publish(&[Message { from: another.clone(), ..sound(5) }.sign(&mine)])),
        ("another author, with the own key", {
            let key = mine.public().encode_protobuf();
            gossip::publish(&[Message { key, ..Message { from: another, ..sound(6) }.sign(&mine) }])
        }),
        ("no author", gossip::publish(&[Message { from: vec![], ..sound(7) }.sign(&mine)])),
        ("an author that is no peer id", gossip::publish(&[Message { from: vec![7; 9], ..sound(8) }.sign(&mine)])),
        ("no sequence number", gossip::publish(&[Message { sequence: vec![], ..sound(9) }.sign(&mine)])),
        ("a short sequence number", gossip::publish(&[Message { sequence: vec![1; 3], ..sound(10) }.sign(&mine)])),
        ("a topic that nobody here wants", gossip::publish(&[Message::signed(&mine, 11, "elsewhere", b"lies")])),
        ("an oversize payload", gossip::publish(&[Message::signed(&mine, 12, TOPIC, &vec![1; 64 * 1024 + 1])])),
    ];
    for (offence, rpc) in offences {
        let mut peer = Peer::connect(HERE, victim.socket).await.unwrap();
        let mut substream = peer.open(PUBSUB).await.unwrap();
        write(&mut substream, &gossip::subscribe([TOPIC.to_owned()])).await.unwrap();
        let _ = write(&mut substream, &rpc).await;
        gossip_offender_gains_nothing(&siege, &mut peer).await;
        assert_eq!(victim.heard(TOPIC).await, 0, "{offence}");
    }
    // The oversize payload alone. It may be counted after the answer to a substream that was opened later.
    victim.stat_until("messages_refused", |refused| refused == 1).await;

    // No RPC at all, or longer than any may be: its substream ends.
    let oversize = |length: u64| [uvarint(length), vec![0; 1_200_000]].concat();
    let no_rpcs = [
        gossip::framed(vec![0xff; 300]),
        gossip::framed(vec![0x12, 0x7f, 0x0a]),
        oversize(1_200_000),
        oversize(1 << 31),
        oversize(1 << 63),
    ];
    for no_rpc in no_rpcs {
        let mut peer = Peer::connect(HERE, victim.socket).await.unwrap();
        let mut substream = peer.open(PUBSUB).await.unwrap();
        let _ = write(&mut substream, &no_rpc).await;
        read_to_the_end(&mut substream).await;
        gossip_offender_gains_nothing(&siege, &mut peer).await;
    }

    // Whoever does it again is thrown out, and kept out.
    let peer = Peer::connect(HERE, victim.socket).await.unwrap();
    let mut substream = peer.open(PUBSUB).await.unwrap();
    for n in 20..24 {
        let forged = Message { from: Keypair::generate_ed25519().public().to_peer_id().to_bytes(), ..sound(n) };
        let _ = write(&mut substream, &gossip::publish(&[forged.sign(&mine)])).await;
    }
    victim.stat_until("peers_banned", |banned| banned == 1).await;
    read_to_the_end(&mut substream).await;
    drop(peer);

    // The same message, once without a fault and a hundred times the same.
    let peer = Peer::connect(HERE, victim.socket).await.unwrap();
    let mut substream = peer.open(PUBSUB).await.unwrap();
    for _ in 0..100 {
        write(&mut substream, &gossip::publish(&[sound(100)])).await.unwrap();
    }
    write(&mut substream, &gossip::publish(&[sound(101)])).await.unwrap();
    let deadline = tokio::time::Instant::now() + common::WITHIN;
    while victim.heard(TOPIC).await < 2 {
        assert!(tokio::time::Instant::now() < deadline, "what keeps the rules is delivered");
    }
    assert_eq!(victim.heard(TOPIC).await, 2);
    drop(peer);
    siege.ends_well(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_storm_from_one_address_keeps_nobody_else_out() {
    const DIALS: u64 = 5_000;
    let siege = Siege::lay().await;
    let socket = siege.victim.socket;
    let mut silent = Vec::new();
    for _ in 0..PENDING_PER_IP {
        silent.push(raw::tcp(HERE, socket).await.unwrap());
    }
    let dial = move |_| async move {
        let Ok(mut tcp) = raw::tcp(HERE, socket).await else { return };
        assert_eq!(read_to_the_end(&mut tcp).await, b"", "refused without a word");
    };
    let storm = tokio::spawn(async move {
        stream::iter(0..DIALS).map(dial).buffer_unordered(64).collect::<Vec<_>>().await;
    });
    // Meanwhile newcomers from elsewhere come in and call.
    for n in 2..12 {
        let newcomer = Peer::connect(Ipv4Addr::new(127, 0, 0, n), socket).await.expect("an honest newcomer is let in");
        let mut substream = call(&newcomer, ECHO).await;
        let data = frame(&[0x04, 0, 0, n]);
        write(&mut substream, &data).await.unwrap();
        substream.read_exact(&mut vec![0; data.len()]).await.unwrap();
    }
    storm.await.unwrap();
    drop(silent);
    let all = DIALS + PENDING_PER_IP as u64;
    let ended = siege.victim.stats_until(["inbound_refused", "inbound_failed"], |ended| ended >= all).await;
    assert_eq!(ended, all);
    // All of them, unless a busy machine took so long that the silent ones had their time.
    let refused = siege.victim.stat("inbound_refused").await;
    assert!(refused > DIALS / 2, "{refused}");
    siege.ends_well(Bounds { sockets: 128, ..FEW }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_storm_by_many_identities_never_exceeds_max_peers() {
    const IDENTITIES: u64 = 300;
    let siege = Siege::lay().await;
    let socket = siege.victim.socket;
    let dial = move |n: u64| async move { Peer::connect(Ipv4Addr::new(127, 0, 1, (n % 20) as u8 + 1), socket).await };
    let storm = tokio::spawn(stream::iter(0..IDENTITIES).map(dial).buffer_unordered(16).collect::<Vec<_>>());
    while !storm.is_finished() {
        let peers = siege.victim.stat("peers_connected").await;
        assert!(peers <= MAX_PEERS as u64, "{peers}");
    }
    let peers: Vec<_> = storm.await.unwrap().into_iter().flatten().collect();
    let alive = || peers.iter().filter(|peer| !peer.has_ended()).count();
    let deadline = tokio::time::Instant::now() + common::WITHIN;
    while alive() > MAX_PEERS - 2 {
        assert!(tokio::time::Instant::now() < deadline, "{} of them believe that they are in", alive());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kept = IDENTITIES - MAX_PEERS as u64;
    let ended = ["inbound_refused", "inbound_failed", "peers_pruned"];
    siege.victim.stats_until(ended, |ended| ended >= kept).await;
    drop(peers);
    siege.ends_well(Bounds { sockets: 96, ..FEW }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_is_dropped_and_delays_nobody() {
    let siege = Siege::lay().await;
    let victim = &siege.victim;
    let tcp = raw::narrow_tcp(HERE, victim.socket).await.unwrap();
    let mut deaf = raw::secure(tcp, &Keypair::generate_ed25519()).await.unwrap();
    // It subscribes and calls, with windows that no node fills, and takes the node's pub/sub: its last word.
    let window = |stream| yamux::header(yamux::WINDOW_UPDATE, 0, stream, 1 << 30);
    let subscribes = [raw::proposal(PUBSUB), gossip::subscribe(["flood".to_owned()])].concat();
    let calls = [raw::proposal(AUDIO), open(POUR)].concat();
    let speech = [yamux::data(yamux::SYN, 1, &subscribes), yamux::data(yamux::SYN, 3, &calls), window(3)].concat();
    yamux::write(&mut deaf, &speech).await.unwrap();
    let stream = take_pubsub(&mut deaf).await;
    yamux::write(&mut deaf, &window(stream)).await.unwrap();

    // Until it has read the subscription, the victim holds what it publishes.
    let mut held = u64::MAX;
    while held != victim.stat("messages_held").await {
        held = victim.stat("messages_held").await;
        assert_eq!(victim.ask("publish flood 1 16").await, "published");
    }
    let published = victim.ask("publish flood 1000 16000").await;
    assert_eq!(published, "published");
    victim.stat_until("ping_timeouts", |timeouts| timeouts == 1).await;
    victim.stat_until("connections_closed", |closed| closed == 1).await;
    assert!(victim.stat("slow_peer_drops").await > 0);
    assert!(victim.stat("audio_frames_dropped").await > 0);
    let rest = read_to_the_end(&mut deaf).await;
    assert!(rest.len() > POURED_BYTES, "what had left the node is there, and then the end");
    // 512 messages of `peer_queue_messages`, the stream's `audio_queue_bytes`, what gossip keeps to repair losses.
    siege.ends_well(Bounds { memory_mib: 64.0, ..FEW }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_refuses_pings_is_parted_with() {
    let siege = Siege::lay().await;
    let tcp = raw::tcp(HERE, siege.victim.socket).await.unwrap();
    let mut evasive = raw::secure(tcp, &Keypair::generate_ed25519()).await.unwrap();
    let greeting = raw::line("/multistream/1.0.0");
    let evade = async {
        while let Ok((stream, body)) = yamux::read(&mut evasive).await {
            let greets = if body.starts_with(&greeting) { &greeting[..] } else { &[] };
            if !body.is_empty() {
                let no = [greets, &raw::line("na")].concat();
                let _ = yamux::write(&mut evasive, &yamux::data(yamux::ACK, stream, &no)).await;
            }
        }
    };
    tokio::time::timeout(common::WITHIN, evade).await.expect("the node ends the connection");
    assert_eq!(siege.victim.stat_until("connections_closed", |closed| closed > 0).await, 1);
    assert_eq!(siege.victim.stat("foreign_peers").await, 1);
    siege.ends_well(FEW).await;
}

/// A frame on the stream of that number.
type Frame = fn(u32) -> Vec<u8>;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_substreams_ends_with_its_connection() {
    let siege = Siege::lay().await;
    let socket = siege.victim.socket;
    // Opened, and never used; opened for a protocol, and left alone; with a window's worth of garbage on each; and with
    // the same on those only that the node does not get to, for all the silent ones before them.
    let floods: [(u32, Frame); 4] = [
        (100_000, |stream| yamux::header(yamux::WINDOW_UPDATE, yamux::SYN, stream, 0)),
        (50_000, |stream| yamux::data(yamux::SYN, stream, &raw::proposal(AUDIO))),
        (1_000, |stream| yamux::data(yamux::SYN, stream, &[1; 250_000])),
        (1_000, |stream| yamux::data(yamux::SYN, stream, &vec![1; if stream < 260 { 0 } else { 250_000 }])),
    ];
    let mut flooding = Vec::new();
    for (count, frame) in floods {
        for reads in [true, false] {
            let secured = raw::secure(raw::tcp(HERE, socket).await.unwrap(), &Keypair::generate_ed25519()).await;
            let (mut reader, mut writer) = secured.unwrap().split();
            let write = async move {
                for stream in 0..count {
                    if writer.write_all(&frame(2 * stream + 1)).await.is_err() {
                        return;
                    }
                }
                let _ = writer.flush().await;
            };
            flooding.push(tokio::spawn(async move {
                if reads {
                    futures::join!(write, read_to_the_end(&mut reader));
                } else {
                    write.await;
                    read_to_the_end(&mut reader).await;
                }
            }));
        }
    }
    for flood in flooding {
        tokio::time::timeout(2 * common::WITHIN, flood).await.expect("a flood ends").unwrap();
    }
    siege.victim.stat_until("connections_closed", |closed| closed == 8).await;
    // Windows of 256 KiB that nobody reads from, at most 200 on each of the last two connections.
    siege.ends_well(Bounds { memory_mib: 64.0, ..FEW }).await;
}

/// What an offence in pub/sub comes to: the peer is parted with, or can do no more than any other.
async fn gossip_offender_gains_nothing(siege: &Siege, peer: &mut Peer) {
    let is_served = peer.open(AUDIO).await.is_ok();
    assert!(is_served || siege.victim.stat("connections_closed").await > 0);
}

/// Reads what the node opens until it proposes pub/sub as it is here, takes that, and returns its stream. Newer versions
/// of pub/sub are declined; all else is left without an answer.
async fn take_pubsub(io: &mut raw::Secured) -> u32 {
    let greeting = raw::line("/multistream/1.0.0");
    let mut greeted = BTreeSet::new();
    loop {
        let (stream, body) = yamux::read(io).await.unwrap();
        let proposal = body.strip_prefix(&greeting[..]).unwrap_or(&body);
        if proposal == raw::line(PUBSUB) {
            yamux::write(io, &yamux::data(0, stream, proposal)).await.unwrap();
            return stream;
        }
        if proposal.get(1..9) == Some(b"/meshsub") {
            let greets = if greeted.insert(stream) { &greeting[..] } else { &[] };
            let no = [greets, &raw::line("na")].concat();
            yamux::write(io, &yamux::data(yamux::ACK, stream, &no)).await.unwrap();
        }
    }
}

/// A frame of audio: what follows its length.
fn frame(bytes: &[u8]) -> Vec<u8> {
    [uvarint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// OPEN with a label.
fn open(label: &str) -> Vec<u8> {
    frame(&[&[0x01, 1, 0b10, label.len() as u8][..], label.as_bytes()].concat())
}

/// A call that the node has accepted.
async fn call(peer: &Peer, label: &str) -> SubstreamBox {
    let mut substream = peer.open(AUDIO).await.unwrap();
    write(&mut substream, &open(label)).await.unwrap();
    let mut accepted = [0; 2];
    substream.read_exact(&mut accepted).await.unwrap();
    assert_eq!(accepted, [1, 0x02]);
    substream
}

/// The next frame with audio, without its length.
async fn read_data(substream: &mut SubstreamBox) -> Vec<u8> {
    loop {
        let mut len = [0; 2];
        substream.read_exact(&mut len[..1]).await.unwrap();
        if len[0] & 0x80 != 0 {
            substream.read_exact(&mut len[1..]).await.unwrap();
        }
        let mut frame = vec![0; usize::from(len[0] & 0x7f) + (usize::from(len[1]) << 7)];
        substream.read_exact(&mut frame).await.unwrap();
        if frame[0] == 0x04 {
            return frame;
        }
    }
}

async fn write(substream: &mut SubstreamBox, bytes: &[u8]) -> std::io::Result<()> {
    substream.write_all(bytes).await?;
    substream.flush().await
}
