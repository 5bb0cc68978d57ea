//! Does a node work on any executor, and as a task of tokio's?

mod common;

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::Thread;

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pError, EventReceiver, StreamCloseReason};
use common::Node;

type Started = Result<(AviP2p, EventReceiver), AviP2pError>;

/// The quick start, with a second node to say hello to. Names no runtime.
async fn quick_start<F: Future<Output = Started>>(start: impl Fn(AviP2pConfig) -> F) {
    let (first, mut first_events) = start(common::config()).await.unwrap();
    let at_once = first.handle().listen_addresses().await.unwrap();
    let Some(AviEvent::Started { listen_addresses, .. }) = first_events.recv().await else { panic!("no Started") };
    assert_eq!(at_once, listen_addresses);
    first.handle().subscribe("lobby").await.unwrap();
    first.handle().publish("lobby", b"Hello AVI!".to_vec()).await.unwrap();

    let config = AviP2pConfig { bootstrap_peers: listen_addresses, ..common::config() };
    let (second, mut second_events) = start(config).await.unwrap();
    second.handle().subscribe("lobby").await.unwrap();
    assert_eq!(message(&mut second_events).await, b"Hello AVI!");
    second.handle().publish("lobby", b"Hello too!".to_vec()).await.unwrap();
    assert_eq!(message(&mut first_events).await, b"Hello too!");

    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
    while second_events.recv().await.is_some() {}
}

async fn message(events: &mut EventReceiver) -> Vec<u8> {
    loop {
        if let AviEvent::Message { data, .. } = events.recv().await.expect("the node runs") {
            return data;
        }
    }
}

#[tokio::test]
async fn the_quick_start_works_on_tokio() {
    quick_start(AviP2p::start).await;
}

#[test]
fn the_quick_start_works_on_smol() {
    smol::block_on(smol::spawn(quick_start(AviP2p::start)));
}

#[test]
fn the_quick_start_works_on_a_bare_block_on() {
    block_on(quick_start(AviP2p::start));
}

#[tokio::test]
async fn the_quick_start_works_as_tasks_of_one_thread() {
    quick_start(AviP2p::start_on_tokio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quick_start_works_as_tasks_of_several_threads() {
    tokio::spawn(quick_start(AviP2p::start_on_tokio)).await.unwrap();
}

#[test]
fn a_node_on_tokio_needs_a_runtime() {
    let failed = smol::block_on(AviP2p::start_on_tokio(common::config())).err();
    assert!(matches!(&failed, Some(AviP2pError::Io(text)) if text.contains("runtime")), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_tokio_that_is_dropped_says_goodbye_and_frees_its_port() {
    let (first, mut events) = AviP2p::start_on_tokio(common::config()).await.unwrap();
    let Some(AviEvent::Started { listen_addresses, .. }) = events.recv().await else { panic!("no Started") };
    let config = AviP2pConfig { bootstrap_peers: listen_addresses.clone(), ..common::config() };
    let mut second = Node::start(config).await;
    let id = second.wait("PeerConnected", |event| match event {
        AviEvent::PeerConnected { peer_id, .. } => Some(peer_id.clone()),
        _ => None,
    });
    let id = id.await;
    let stream = second.handle.request_stream(id).await.unwrap();
    let offered = async {
        loop {
            if let AviEvent::AudioStreamRequested { stream_id, .. } = events.recv().await.expect("the node runs") {
                return stream_id;
            }
        }
    };
    first.handle().accept_audio_stream(offered.await).await.unwrap();
    second
        .wait("AudioStreamAccepted", |event| matches!(event, AviEvent::AudioStreamAccepted { .. }).then_some(()))
        .await;
    drop(first);
    let reason = second.wait("AudioStreamClosed", |event| match event {
        AviEvent::AudioStreamClosed { stream_id, reason, .. } if *stream_id == stream => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason.await, StreamCloseReason::RemoteClose);
    // It has ended when there are no more events.
    while events.recv().await.is_some() {}
    let port = listen_addresses[0].rsplit('/').next().and_then(|port| port.parse().ok()).unwrap();
    second.node.shutdown().await.unwrap();
    let again = AviP2p::start_on_tokio(AviP2pConfig { listen_port: port, ..common::config() }).await;
    again.expect("the port is free").0.shutdown().await.unwrap();
}

#[test]
fn a_node_ends_with_the_runtime_that_it_is_a_task_of() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (node, mut events) = runtime.block_on(AviP2p::start_on_tokio(common::config())).unwrap();
    assert_eq!(smol::block_on(node.handle().connected_peers()), Ok(Vec::new()), "from outside of it");
    drop(runtime);
    smol::block_on(async {
        while events.recv().await.is_some() {}
        assert_eq!(node.handle().connected_peers().await, Err(AviP2pError::ChannelClosed));
        assert_eq!(node.shutdown().await, Err(AviP2pError::ChannelClosed));
    });
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        std::thread::park();
    }
}
