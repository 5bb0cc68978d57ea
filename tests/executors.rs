//! Does a node work on any executor?

mod common;

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::Thread;

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, EventReceiver};

/// The quick start, with a second node to say hello to. Names no runtime.
async fn quick_start() {
    let (first, mut first_events) = AviP2p::start(common::config()).await.unwrap();
    let Some(AviEvent::Started { listen_addresses, .. }) = first_events.recv().await else { panic!("no Started") };
    first.handle().subscribe("lobby").await.unwrap();
    first.handle().publish("lobby", b"Hello AVI!".to_vec()).await.unwrap();

    let config = AviP2pConfig { bootstrap_peers: listen_addresses, ..common::config() };
    let (second, mut second_events) = AviP2p::start(config).await.unwrap();
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
    quick_start().await;
}

#[test]
fn the_quick_start_works_on_smol() {
    smol::block_on(smol::spawn(quick_start()));
}

#[test]
fn the_quick_start_works_on_a_bare_block_on() {
    block_on(quick_start());
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
