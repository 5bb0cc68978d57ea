//! A program as it was written against AVI 0.1: does it still compile, and work?

use std::time::Duration;

use avi_p2p::config::AviP2pConfig;
use avi_p2p::events::{AviEvent, PeerId, StreamId};
use avi_p2p::{AviP2p, AviP2pError, AviP2pHandle, EventReceiver, StreamCloseReason};
use tokio::sync::mpsc;

/// What a 0.1 application did with each event, without `..` in any pattern.
fn describe(event: AviEvent) -> String {
    match event {
        AviEvent::Started { local_peer_id, listen_addresses } => {
            format!("started {local_peer_id} {listen_addresses:?}")
        }
        AviEvent::PeerDiscovered { peer_id } => format!("discovered {peer_id}"),
        AviEvent::PeerConnected { peer_id, address } => format!("connected {peer_id} {address}"),
        AviEvent::PeerDisconnected { peer_id } => format!("disconnected {peer_id}"),
        AviEvent::Message { from, topic, data } => format!("message {from} {topic} {data:?}"),
        AviEvent::AudioStreamRequested { from, stream_id } => format!("requested {from} {stream_id}"),
        AviEvent::AudioStreamAccepted { peer_id, stream_id } => format!("accepted {peer_id} {stream_id}"),
        AviEvent::AudioData { from, stream_id, data } => format!("audio {from} {stream_id} {}", data.len()),
        AviEvent::AudioStreamClosed { peer_id, stream_id, reason } => match reason {
            StreamCloseReason::LocalClose => format!("closed {peer_id} {stream_id} here"),
            StreamCloseReason::RemoteClose => format!("closed {peer_id} {stream_id} there"),
            StreamCloseReason::Error(why) => format!("closed {peer_id} {stream_id}: {why}"),
            _ => format!("closed {peer_id} {stream_id}"),
        },
        _ => String::new(),
    }
}

#[allow(deprecated, reason = "0.1 applications name what nothing returns any more")]
fn explain(error: AviP2pError) -> String {
    match error {
        AviP2pError::NotStarted => "not started".to_string(),
        AviP2pError::PeerNotFound(peer) => format!("no peer {peer}"),
        AviP2pError::StreamNotFound(stream) => format!("no stream {stream}"),
        AviP2pError::InvalidTopic(topic) => format!("bad topic {topic}"),
        AviP2pError::NetworkError(why) => why,
        AviP2pError::AlreadySubscribed(topic) => format!("already on {topic}"),
        AviP2pError::NotSubscribed(topic) => format!("not on {topic}"),
        AviP2pError::ChannelClosed => "closed".to_string(),
        AviP2pError::Io(why) | AviP2pError::Serialization(why) => why,
        other => other.to_string(),
    }
}

async fn every_call(handle: &AviP2pHandle, peer: PeerId, stream: StreamId) -> Vec<Result<(), AviP2pError>> {
    vec![
        handle.subscribe("kitchen").await,
        handle.publish("kitchen", b"hello".to_vec()).await,
        handle.unsubscribe("kitchen").await,
        handle.request_audio_stream(peer).await.map(|_: StreamId| ()),
        handle.accept_audio_stream(stream).await,
        handle.reject_audio_stream(stream, "busy").await,
        handle.send_audio(stream, vec![0; 160]).await,
        handle.close_audio_stream(stream).await,
        handle.connected_peers().await.map(|_: Vec<PeerId>| ()),
    ]
}

/// How 0.1 applications read without waiting, and stopped to read.
fn drain(events: &mut EventReceiver) -> Vec<AviEvent> {
    let mut read = Vec::new();
    loop {
        match events.try_recv() {
            Ok(event) => read.push(event),
            Err(mpsc::error::TryRecvError::Empty) => return read,
            Err(mpsc::error::TryRecvError::Disconnected) => panic!("the node has stopped"),
        }
    }
}

#[tokio::test]
async fn what_a_program_for_avi_0_1_expects_of_calls_and_receiver_holds() {
    let mut config = AviP2pConfig::new("compat");
    config.enable_mdns = false;
    config.listen_ips = vec![std::net::Ipv4Addr::LOCALHOST.into()];
    let (node, mut events) = AviP2p::start(config).await.unwrap();
    let handle = node.handle();
    assert!(matches!(events.recv().await, Some(AviEvent::Started { .. })));

    // Each handler of an application subscribes.
    handle.subscribe("lobby").await.unwrap();
    handle.subscribe("lobby").await.unwrap();
    let found: Result<(), AviP2pError> = handle.discover_peers().await;
    found.unwrap();
    assert_eq!(drain(&mut events), []);

    let reader = tokio::task::spawn_blocking(move || {
        assert_eq!(events.blocking_recv(), None, "the node has stopped");
        events.close();
        assert_eq!(events.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    });
    node.shutdown().await.unwrap();
    reader.await.unwrap();
}

#[tokio::test]
async fn a_program_for_avi_0_1_compiles_and_works() {
    let config = |name: &str, bootstrap_peers: Vec<String>| AviP2pConfig {
        node_name: name.to_string(),
        listen_port: 0,
        bootstrap_peers,
        enable_mdns: false,
        enable_kad: true,
        max_peers: 50,
        max_audio_streams: 10,
        ..Default::default()
    };
    let (first, mut first_events) = AviP2p::start(config("first", vec![])).await.unwrap();
    let address = match first_events.recv().await {
        Some(AviEvent::Started { local_peer_id, listen_addresses }) => {
            assert_eq!(&local_peer_id, first.local_peer_id());
            listen_addresses.into_iter().find(|address| address.contains("127.0.0.1")).unwrap()
        }
        other => panic!("{other:?}"),
    };
    let (second, mut second_events) = AviP2p::start(config("second", vec![address])).await.unwrap();
    let (one, two) = (first.handle(), second.handle());
    one.subscribe("lobby").await.unwrap();
    two.subscribe("lobby").await.unwrap();
    two.publish("lobby", b"Hello AVI!".to_vec()).await.unwrap();

    // Both ends in one `select!` over `recv()`, as applications did.
    let first_id = first.local_peer_id().clone();
    let (mut messages, mut audio, mut closed) = (0, 0, 0);
    let deadline = tokio::time::sleep(Duration::from_secs(30));
    tokio::pin!(deadline);
    while messages == 0 || audio < 3 || closed < 2 {
        tokio::select! {
            Some(event) = first_events.recv() => match event {
                AviEvent::Message { from, topic, data } => {
                    assert_eq!((&from, topic.as_str()), (second.local_peer_id(), "lobby"));
                    assert_eq!(data, b"Hello AVI!");
                    messages += 1;
                }
                AviEvent::AudioStreamRequested { from, stream_id } => {
                    assert_eq!(&from, second.local_peer_id());
                    one.accept_audio_stream(stream_id).await.unwrap();
                }
                AviEvent::AudioData { from: _, stream_id, data } => {
                    assert_eq!(data.len(), 160);
                    audio += 1;
                    if audio == 3 {
                        one.close_audio_stream(stream_id).await.unwrap();
                    }
                }
                AviEvent::AudioStreamClosed { peer_id: _, stream_id: _, reason } => {
                    assert!(matches!(reason, StreamCloseReason::LocalClose), "{reason:?}");
                    closed += 1;
                }
                other => drop(describe(other)),
            },
            Some(event) = second_events.recv() => match event {
                AviEvent::PeerConnected { peer_id, address: _ } => {
                    assert_eq!(peer_id, first_id);
                    two.request_audio_stream(peer_id).await.unwrap();
                }
                AviEvent::AudioStreamAccepted { peer_id: _, stream_id } => {
                    for _ in 0..3 {
                        two.send_audio(stream_id, vec![1; 160]).await.unwrap();
                    }
                }
                AviEvent::AudioStreamClosed { peer_id: _, stream_id: _, reason } => {
                    assert!(matches!(reason, StreamCloseReason::RemoteClose), "{reason:?}");
                    closed += 1;
                }
                other => drop(describe(other)),
            },
            () = &mut deadline => panic!("messages {messages}, audio {audio}, closed {closed}"),
        }
    }

    let stranger = PeerId::new("12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV");
    assert_eq!(stranger.as_str(), stranger.to_string());
    let results = every_call(&one, stranger, StreamId(77)).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 4, "{results:?}");
    assert!(results.into_iter().filter_map(Result::err).map(explain).all(|text| !text.is_empty()));

    second.shutdown().await.unwrap();
    first.shutdown().await.unwrap();
}
