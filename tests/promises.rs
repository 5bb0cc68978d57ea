//! The promises of the README, each by its name, over real sockets. The first, *zero leakage*, is `zero_leakage.rs`.

mod common;

use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2pConfig, AviP2pError, Limits, OnCongestion, PeerId, StreamCloseReason, StreamId};
use avi_p2p::{Media, Published, StreamOptions};
use common::{Node, WITHIN, call, config};

#[tokio::test]
async fn promise_2_every_operation_fails_fast_with_a_typed_error() {
    let limits = Limits { max_topics: 1, max_message_bytes: 100, max_audio_frame_bytes: 100, ..Limits::default() };
    let mut callee = Node::start(config()).await;
    let configured = AviP2pConfig { max_audio_streams: 2, limits, ..config() };
    let mut caller = Node::connected_to(configured, &mut [&mut callee]).await;
    let handle = caller.handle.clone();

    use AviP2pError::*;
    let text = |result: Result<(), AviP2pError>| result.unwrap_err().to_string();
    assert!(matches!(handle.subscribe("").await, Err(InvalidTopic(_))));
    assert!(matches!(handle.publish("", vec![1]).await, Err(InvalidTopic(_))));
    assert!(text(handle.publish(&"x".repeat(257), vec![1]).await).contains("257"));
    assert_eq!(handle.unsubscribe("a").await, Err(NotSubscribed("a".into())));
    assert_eq!(handle.subscribe("a").await, Ok(()));
    assert_eq!(handle.subscribe("a").await, Ok(()));
    assert_eq!(handle.subscribe("b").await, Err(LimitReached { limit: "limits.max_topics", max: 1 }));
    let large = text(handle.publish("a", vec![0; 101]).await);
    assert!(large.contains("101") && large.contains("limits.max_message_bytes = 100"), "{large}");

    let stranger: PeerId = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV".parse().unwrap();
    assert_eq!(handle.request_stream(stranger.clone()).await, Err(PeerNotFound(stranger.clone())));
    assert!(text(handle.request_stream(stranger.clone()).await.map(drop)).contains(stranger.as_str()));
    assert!(text(handle.request_stream(caller.id.clone()).await.map(drop)).contains("this node itself"));
    handle.block_peer(&stranger).await.unwrap();
    assert!(text(handle.request_stream(stranger.clone()).await.map(drop)).contains("blocked_peers"));
    assert_eq!(handle.request_stream(PeerId::new("alice")).await, Err(InvalidPeerId("alice".into())));
    assert!(matches!(handle.peer_info(&stranger).await, Err(PeerNotFound(_))));
    for unknown in [
        handle.accept_audio_stream(StreamId(9)).await,
        handle.reject_audio_stream(StreamId(9), "no").await,
        handle.send_audio(StreamId(9), vec![1]).await,
        handle.close_audio_stream(StreamId(9)).await,
        handle.audio_stats(StreamId(9)).await.map(drop),
    ] {
        assert_eq!(unknown, Err(StreamNotFound(StreamId(9))));
    }

    let requested = handle.request_stream(callee.id.clone()).await.unwrap();
    assert_eq!(handle.send_audio(requested, vec![1]).await, Err(StreamNotAccepted(requested)));
    assert!(matches!(handle.accept_audio_stream(requested).await, Err(StreamState { .. })));
    callee.accept().await;
    caller.wait("accepted", |event| matches!(event, AviEvent::AudioStreamAccepted { .. }).then_some(())).await;
    assert_eq!(handle.send_audio(requested, vec![]).await, Err(EmptyPayload("an audio frame")));
    let large = text(handle.send_audio(requested, vec![0; 101]).await);
    assert!(large.contains("101") && large.contains("limits.max_audio_frame_bytes = 100"), "{large}");
    handle.request_stream(callee.id.clone()).await.unwrap();
    let third = handle.request_stream(callee.id.clone()).await;
    assert_eq!(third, Err(LimitReached { limit: "max_audio_streams", max: 2 }));

    assert_eq!(handle.discover_peers().await, Err(Disabled("enable_kad")));
    assert_eq!(handle.find_more_peers().await, Err(Disabled("enable_kad")));
    caller.node.shutdown().await.unwrap();
    assert_eq!(handle.subscribe("c").await, Err(ChannelClosed));
    assert_eq!(handle.connected_peers().await, Err(ChannelClosed));
}

#[tokio::test]
async fn promise_2_a_call_that_ends_or_finds_nobody_says_why() {
    let mut callee = Node::start(AviP2pConfig { node_name: "callee".to_owned(), ..config() }).await;
    let mut caller = Node::connected_to(config(), &mut [&mut callee]).await;
    let handle = caller.handle.clone();
    let named = |event: &AviEvent| match event {
        AviEvent::PeerIdentified { peer_id, name } => Some((peer_id.clone(), name.clone())),
        _ => None,
    };
    assert_eq!(caller.wait("PeerIdentified", named).await, (callee.id.clone(), "callee".to_owned()));

    let (near, far) = call(&mut caller, &mut callee).await;
    callee.handle.close_audio_stream(far).await.unwrap();
    assert_eq!(caller.wait_closed(near).await, StreamCloseReason::RemoteClose);
    let late = handle.send_audio(near, vec![1]).await;
    let reason = StreamCloseReason::RemoteClose;
    assert_eq!(late, Err(AviP2pError::StreamEnded { stream_id: near, reason }));
    assert!(late.unwrap_err().to_string().contains("the other end closed it"));

    callee.node.shutdown().await.unwrap();
    caller.wait("gone", |event| matches!(event, AviEvent::PeerDisconnected { .. }).then_some(())).await;
    assert_eq!(handle.find_peers("callee").await, Ok(vec![callee.id.clone()]), "its name stays known");
    let unreached = handle.request_stream(callee.id.clone()).await.unwrap();
    assert_eq!(caller.wait_closed(unreached).await, StreamCloseReason::Unreachable);
}

#[tokio::test]
async fn a_publish_can_be_asked_what_became_of_it_and_heard_at_home() {
    let mut hearer = Node::start(config()).await;
    let speaker = AviP2pConfig { deliver_own: true, ..AviP2pConfig::new("speaker") };
    let speaker = AviP2pConfig { listen_ips: config().listen_ips, enable_mdns: false, enable_kad: false, ..speaker };
    let mut speaker = Node::connected_to(speaker, &mut [&mut hearer]).await;
    assert_eq!(speaker.handle.local_peer_id(), &speaker.id);
    assert_eq!(speaker.handle.listen_addresses().await, Ok(vec![speaker.address.clone()]));
    speaker.handle.subscribe("t").await.unwrap();
    assert_eq!(speaker.handle.publish_tracked("t", "held").await, Ok(Published::Held));
    hearer.handle.subscribe("t").await.unwrap();
    speaker.wait_subscriber_of(&hearer.id).await;
    assert_eq!(speaker.handle.publish_tracked("t", &b"sent"[..]).await, Ok(Published::Sent));
    speaker.handle.publish("t", b"last".to_vec()).await.unwrap();
    for data in [b"held", b"sent", b"last"] {
        assert_eq!(speaker.wait_message().await, (speaker.id.clone(), data.to_vec()));
        assert_eq!(hearer.wait_message().await, (speaker.id.clone(), data.to_vec()));
    }
}

#[tokio::test]
async fn promise_2_a_start_that_cannot_work_says_which_field_is_wrong() {
    let fails = async |config: AviP2pConfig, words: &[&str]| {
        let text = avi_p2p::AviP2p::start(config).await.expect_err("the start fails").to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    for bad in
        ["", "garbage", "/ip4/1.2.3.4", "/ip4/300.1.1.1/tcp/1", "/ip4/1.2.3.4/tcp/0", "/ip4/1.2.3.4/udp/9/quic-v1"]
    {
        let bootstrap_peers = vec!["/ip4/127.0.0.1/tcp/9".to_owned(), bad.to_owned()];
        fails(AviP2pConfig { bootstrap_peers, ..config() }, &["bootstrap_peers[1]", bad, "/ip4/198.51.100.1/tcp/9000"])
            .await;
    }
    let pinned = vec!["/ip4/127.0.0.1/tcp/9/p2p/alice".to_owned()];
    fails(AviP2pConfig { bootstrap_peers: pinned, ..config() }, &["bootstrap_peers[0]", "alice"]).await;
    fails(AviP2pConfig { max_peers: 0, ..config() }, &["max_peers", "0"]).await;
    fails(
        AviP2pConfig { listen_ips: vec!["203.0.113.7".parse().unwrap()], ..config() },
        &["203.0.113.7", "listen_ips"],
    )
    .await;

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let busy = AviP2pConfig { listen_port: port, ..config() };
    fails(busy, &[&format!("127.0.0.1:{port}"), "listen_port", "in use"]).await;
}

#[tokio::test]
async fn promise_2_an_unreachable_bootstrap_peer_comes_as_an_event() {
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", refused.port());
    let mut node = Node::start(AviP2pConfig { bootstrap_peers: vec![address.clone()], ..config() }).await;
    let mut waits = Vec::new();
    for _ in 0..2 {
        let (reason, retry_in) = node
            .wait("BootstrapFailed", |event| match event {
                AviEvent::BootstrapFailed { address: failed, reason, retry_in } if *failed == address => {
                    Some((reason.clone(), *retry_in))
                }
                _ => None,
            })
            .await;
        assert!(reason.to_lowercase().contains("refused"), "{reason}");
        waits.push(retry_in);
    }
    assert!(waits[1] > waits[0], "{waits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_3_a_slow_consumer_never_stalls_the_network() {
    let limits = Limits { event_messages: 50, event_audio_frames: 50, ..Limits::default() };
    let mut slow = Node::start(AviP2pConfig { limits, ..config() }).await;
    let mut sender = Node::connected_to(config(), &mut [&mut slow]).await;
    let mut other = Node::connected_to(config(), &mut [&mut slow, &mut sender]).await;
    for node in [&slow, &other] {
        node.handle.subscribe("t").await.unwrap();
        sender.wait_subscriber_of(&node.id).await;
    }
    let (near, _) = call(&mut sender, &mut slow).await;

    // `slow` reads nothing from here on.
    const SENT: usize = 2000;
    for n in 0..SENT {
        sender.handle.publish("t", vec![n as u8; 200]).await.unwrap();
        sender.handle.send_audio(near, vec![n as u8; 200]).await.unwrap();
        let (from, data) = other.wait_message().await;
        assert_eq!((from, data[0]), (sender.id.clone(), n as u8), "another peer notices");
    }
    let answered = Instant::now();
    assert_eq!(slow.handle.connected_peers().await.unwrap().len(), 2);
    assert!(answered.elapsed() < WITHIN);
    let stats = loop {
        let stats = slow.handle.stats().await.unwrap();
        if stats.messages_received == SENT as u64 && stats.audio_frames_received == SENT as u64 {
            break stats;
        }
        assert!(answered.elapsed() < WITHIN, "{stats:?}");
        tokio::task::yield_now().await;
    };
    assert_eq!(stats.events_dropped_messages, (SENT - 50) as u64);
    assert_eq!(stats.events_dropped_audio_frames, (SENT - 50) as u64);

    // It is told what it missed before it gets what is left.
    let (mut messages, mut frames) = (0, 0);
    let lagged = slow
        .wait("Lagged", |event| match event {
            AviEvent::Lagged { messages, audio_frames, lifecycle } => Some((*messages, *audio_frames, *lifecycle)),
            AviEvent::Message { .. } | AviEvent::AudioData { .. } => panic!("data before Lagged: {event:?}"),
            _ => None,
        })
        .await;
    assert_eq!(lagged, ((SENT - 50) as u64, (SENT - 50) as u64, 0));
    while let Ok(event) = slow.events.try_recv() {
        messages += usize::from(matches!(event, AviEvent::Message { .. }));
        frames += usize::from(matches!(event, AviEvent::AudioData { .. }));
    }
    assert_eq!((messages, frames), (50, 50));
}

#[tokio::test]
async fn promise_4_what_the_application_can_grow_is_bounded() {
    let limits = Limits { held_messages: 3, held_bytes: 100, max_topics: 4, ..Limits::default() };
    let node = Node::start(AviP2pConfig { limits, ..config() }).await;
    for _ in 0..3 {
        node.handle.publish("t", vec![0; 10]).await.unwrap();
    }
    let full = node.handle.publish("t", vec![0; 10]).await;
    assert_eq!(full, Err(AviP2pError::LimitReached { limit: "limits.held_messages", max: 3 }));
    for n in 0..4 {
        node.handle.subscribe(&format!("topic-{n}")).await.unwrap();
    }
    let full = node.handle.subscribe("one-more").await;
    assert_eq!(full, Err(AviP2pError::LimitReached { limit: "limits.max_topics", max: 4 }));
    let stats = node.handle.stats().await.unwrap();
    assert_eq!((stats.messages_held_now, stats.publishes_refused), (3, 1));
}

#[tokio::test]
async fn promise_4_and_9_what_peers_can_grow_is_bounded() {
    let mut callee = Node::start(AviP2pConfig { max_peers: 2, max_audio_streams: 1, ..config() }).await;
    let mut first = Node::connected_to(config(), &mut [&mut callee]).await;
    let mut second = Node::connected_to(config(), &mut [&mut callee]).await;
    let bootstrap_peers = vec![callee.address.clone()];
    let mut third = Node::start(AviP2pConfig { bootstrap_peers, ..config() }).await;
    third.wait("BootstrapFailed", |event| matches!(event, AviEvent::BootstrapFailed { .. }).then_some(())).await;
    assert_eq!(callee.handle.connected_peers().await.unwrap().len(), 2);

    call(&mut first, &mut callee).await;
    let refused = second.handle.request_stream(callee.id.clone()).await.unwrap();
    let reason = second.wait_closed(refused).await;
    assert!(matches!(&reason, StreamCloseReason::Rejected(why) if why.contains("max_audio_streams")), "{reason:?}");
    let stats = callee.handle.stats().await.unwrap();
    assert_eq!((stats.streams_now, stats.streams_refused), (1, 1));
    assert!(stats.inbound_refused >= 1, "{stats:?}");
}

#[tokio::test]
async fn promise_5_a_stream_is_its_two_ends_alone() {
    let mut callee = Node::start(config()).await;
    let mut caller = Node::connected_to(config(), &mut [&mut callee]).await;
    let third = Node::connected_to(config(), &mut [&mut callee, &mut caller]).await;

    // No audio flows before acceptance.
    let near = caller.handle.request_stream(callee.id.clone()).await.unwrap();
    let far = callee.wait_request().await;
    assert_eq!(caller.handle.send_audio(near, vec![1]).await, Err(AviP2pError::StreamNotAccepted(near)));
    assert_eq!(callee.handle.send_audio(far, vec![1]).await, Err(AviP2pError::StreamNotAccepted(far)));
    callee.handle.accept_audio_stream(far).await.unwrap();
    caller.wait("accepted", |event| matches!(event, AviEvent::AudioStreamAccepted { .. }).then_some(())).await;

    // The numbers of a stream mean nothing anywhere else: not at the third peer, not on the wire.
    for stolen in (0..20).map(StreamId) {
        assert_eq!(third.handle.send_audio(stolen, vec![9]).await, Err(AviP2pError::StreamNotFound(stolen)));
        assert_eq!(third.handle.close_audio_stream(stolen).await, Err(AviP2pError::StreamNotFound(stolen)));
        assert_eq!(third.handle.accept_audio_stream(stolen).await, Err(AviP2pError::StreamNotFound(stolen)));
    }
    let own = third.handle.request_stream(callee.id.clone()).await.unwrap();
    let offered = callee.wait_request().await;
    assert_ne!(offered, far);
    third.handle.close_audio_stream(own).await.unwrap();
    assert_eq!(callee.wait_closed(offered).await, StreamCloseReason::RemoteClose);

    caller.handle.send_audio(near, vec![7]).await.unwrap();
    let (from, data) = callee
        .wait("AudioData", |event| match event {
            AviEvent::AudioData { from, stream_id, data } if *stream_id == far => Some((from.clone(), data.clone())),
            _ => None,
        })
        .await;
    assert_eq!((from, data), (caller.id.clone(), vec![7]));
}

#[tokio::test]
async fn promise_6_from_is_the_author_of_a_message() {
    let mut middle = Node::start(config()).await;
    let author = Node::connected_to(config(), &mut [&mut middle]).await;
    let mut reader = Node::connected_to(config(), &mut [&mut middle]).await;
    for node in [&author, &middle, &reader] {
        node.handle.subscribe("t").await.unwrap();
    }
    middle.wait_subscriber_of(&author.id).await;
    middle.wait_subscriber_of(&reader.id).await;
    author.wait_subscriber_of(&middle.id).await;
    author.handle.publish("t", b"from afar".to_vec()).await.unwrap();
    assert_eq!(reader.handle.connected_peers().await.unwrap(), [middle.id.clone()], "they are no neighbours");
    assert_eq!(reader.wait_message().await, (author.id.clone(), b"from afar".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_frames_arrive_in_order_and_a_missing_one_is_a_gap() {
    const FRAMES: u32 = 100_000;
    let mut callee = Node::start(config()).await;
    let mut caller = Node::connected_to(config(), &mut [&mut callee]).await;
    let (near, far) = call(&mut caller, &mut callee).await;
    let sender = caller.handle.clone();
    let sending = tokio::spawn(async move {
        for n in 0..FRAMES {
            let mut frame = vec![0; 1024];
            frame[..4].copy_from_slice(&n.to_be_bytes());
            sender.send_audio(near, frame).await.unwrap();
        }
        sender.audio_stats(near).await.unwrap().frames_dropped + {
            sender.close_audio_stream(near).await.unwrap();
            0
        }
    });
    let (mut next, mut received, mut missing) = (0, 0u64, 0u64);
    callee
        .wait("AudioStreamClosed", |event| match event {
            AviEvent::AudioData { stream_id, data, .. } if *stream_id == far => {
                let n = u32::from_be_bytes(data[..4].try_into().unwrap());
                assert_eq!(n, next, "in order, once, and no hole without a gap");
                (next, received) = (n + 1, received + 1);
                None
            }
            AviEvent::AudioGap { missing: gap, .. } => {
                next += *gap as u32;
                missing += gap;
                None
            }
            AviEvent::Lagged { audio_frames, .. } => {
                next += *audio_frames as u32;
                missing += audio_frames;
                None
            }
            AviEvent::AudioStreamClosed { reason, .. } => {
                assert_eq!(*reason, StreamCloseReason::RemoteClose);
                Some(())
            }
            _ => None,
        })
        .await;
    let dropped = sending.await.unwrap();
    assert_eq!(received + missing, u64::from(FRAMES));
    assert!(missing >= dropped, "{missing} missing, {dropped} dropped by the sender");
}

#[tokio::test]
async fn promise_7_a_stream_may_refuse_frames_instead_of_dropping_them() {
    let mut callee = Node::start(config()).await;
    let mut caller = Node::connected_to(config(), &mut [&mut callee]).await;
    let media = Media { codec: "opus".into(), sample_rate_hz: 48_000, channels: 2, frame_duration_us: 20_000 };
    let options =
        StreamOptions { media: Some(media.clone()), label: Some("hall".into()), on_congestion: OnCongestion::Refuse };
    let near = caller.handle.request_stream_with(callee.id.clone(), options).await.unwrap();
    let far = callee.accept().await;
    caller.wait("accepted", |event| matches!(event, AviEvent::AudioStreamAccepted { .. }).then_some(())).await;
    let stats = callee.handle.audio_stats(far).await.unwrap();
    assert_eq!((stats.media, stats.label), (Some(media), Some("hall".to_owned())));
    let mut taken = 0u64;
    for _ in 0..2000 {
        match caller.handle.send_audio(near, vec![0; 60_000]).await {
            Ok(()) => taken += 1,
            Err(error) => assert!(matches!(error, AviP2pError::Congested(_)), "{error}"),
        }
    }
    caller.handle.close_audio_stream(near).await.unwrap();
    let mut received = 0u64;
    callee
        .wait("AudioStreamClosed", |event| match event {
            AviEvent::AudioData { .. } => {
                received += 1;
                None
            }
            AviEvent::AudioGap { .. } => panic!("what was taken is sent: {event:?}"),
            AviEvent::Lagged { audio_frames, .. } => {
                received += audio_frames;
                None
            }
            AviEvent::AudioStreamClosed { .. } => Some(()),
            _ => None,
        })
        .await;
    assert_eq!(received, taken);
}

#[tokio::test]
async fn promise_8_early_publishes_are_not_lost() {
    let mut first = Node::start(config()).await;
    for n in 0..10 {
        first.handle.publish("lobby", vec![n]).await.unwrap();
    }
    let mut second = Node::connected_to(config(), &mut [&mut first]).await;
    second.handle.subscribe("lobby").await.unwrap();
    for n in 0..10 {
        assert_eq!(second.wait_message().await, (first.id.clone(), vec![n]));
    }
}

#[tokio::test]
async fn promise_8_a_publish_without_subscribers_comes_back() {
    let publish_hold = Duration::from_millis(50);
    let mut node = Node::start(AviP2pConfig { publish_hold, ..config() }).await;
    node.handle.publish("nobody", b"hello".to_vec()).await.unwrap();
    let expired = node
        .wait("PublishExpired", |event| match event {
            AviEvent::PublishExpired { topic, data } => Some((topic.clone(), data.clone())),
            _ => None,
        })
        .await;
    assert_eq!(expired, ("nobody".to_owned(), b"hello".to_vec()));
}

#[tokio::test]
async fn promise_11_a_clean_end_is_seen_as_remote_close_and_frees_the_port() {
    let mut callee = Node::start(config()).await;
    let mut caller = Node::connected_to(config(), &mut [&mut callee]).await;
    let (_, far) = call(&mut caller, &mut callee).await;
    let (peer, port) = (caller.id.clone(), port_of(&caller.address));
    caller.node.shutdown().await.unwrap();
    std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free once shutdown has returned");
    assert_eq!(callee.wait_closed(far).await, StreamCloseReason::RemoteClose);
    callee
        .wait("PeerDisconnected", |event| match event {
            AviEvent::PeerDisconnected { peer_id } => (*peer_id == peer).then_some(()),
            _ => None,
        })
        .await;
    while let Some(event) = caller.events.recv().await {
        assert!(!matches!(event, AviEvent::AudioData { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_11_every_call_returns_though_the_node_is_shut_down_meanwhile() {
    for pending_commands in [1, 256] {
        let limits = Limits { pending_commands, ..Limits::default() };
        let node = Node::start(AviP2pConfig { enable_kad: true, limits, ..config() }).await;
        let handle = &node.handle;
        let call = |n: usize| {
            let handle = handle.clone();
            tokio::spawn(async move {
                match n % 4 {
                    0 => handle.connected_peers().await.map(drop),
                    1 => handle.publish("t", vec![1]).await,
                    2 => handle.find_more_peers().await.map(drop),
                    _ => handle.stats().await.map(drop),
                }
            })
        };
        let mut calls: Vec<_> = (0..150).map(call).collect();
        let shutdown = tokio::spawn(node.node.shutdown());
        calls.extend((150..300).map(call));
        let all = async {
            for call in calls {
                let result = call.await.unwrap();
                let limit = AviP2pError::LimitReached { limit: "limits.pending_commands", max: pending_commands };
                assert!(
                    matches!(&result, Ok(()) | Err(AviP2pError::ChannelClosed)) || result == Err(limit),
                    "{result:?}"
                );
            }
            shutdown.await.unwrap().unwrap();
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.expect("every call returns");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_11_dropping_the_last_owner_ends_as_cleanly() {
    let mut callee = Node::start(config()).await;
    let mut caller = Node::connected_to(config(), &mut [&mut callee]).await;
    let (_, far) = call(&mut caller, &mut callee).await;
    let port = port_of(&caller.address);
    let Node { node, handle, mut events, .. } = caller;
    drop(node);
    assert_eq!(handle.connected_peers().await.unwrap().len(), 1, "a handle keeps the node running");
    drop(handle);
    // The node says goodbye in its own time, and has ended when there are no more events.
    while events.recv().await.is_some() {}
    std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free once the node has ended");
    assert_eq!(callee.wait_closed(far).await, StreamCloseReason::RemoteClose);
}

#[tokio::test]
async fn promise_11_a_crash_is_seen_as_a_lost_peer() {
    let mut callee = Node::start(config()).await;
    let mut crashing = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_calls_and_is_killed", "--ignored", "--nocapture"])
        .env("AVI_TEST_CALLEE", &callee.address)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let stream = callee.accept().await;
    callee.wait("AudioData", |event| matches!(event, AviEvent::AudioData { .. }).then_some(())).await;
    crashing.kill().unwrap();
    crashing.wait().unwrap();
    assert_eq!(callee.wait_closed(stream).await, StreamCloseReason::PeerDisconnected);
}

/// The other process of `promise_11_a_crash_is_seen_as_a_lost_peer`.
#[tokio::test]
#[ignore = "run by another test, in a process of its own"]
async fn a_process_that_calls_and_is_killed() {
    let Ok(callee) = std::env::var("AVI_TEST_CALLEE") else { return };
    let mut node = Node::start(AviP2pConfig { bootstrap_peers: vec![callee], ..config() }).await;
    let peer = node
        .wait("PeerConnected", |event| match event {
            AviEvent::PeerConnected { peer_id, .. } => Some(peer_id.clone()),
            _ => None,
        })
        .await;
    let stream = node.handle.request_stream(peer).await.unwrap();
    node.wait("accepted", |event| matches!(event, AviEvent::AudioStreamAccepted { .. }).then_some(())).await;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1500 {
        beat.tick().await;
        if node.handle.send_audio(stream, vec![0; 160]).await.is_err() {
            return;
        }
    }
}

fn port_of(address: &str) -> u16 {
    address.rsplit('/').next().and_then(|port| port.parse().ok()).expect("an address ends with its port")
}
