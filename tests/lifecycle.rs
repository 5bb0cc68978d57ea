//! Does a node leave anything behind? Alone in its process, because it counts threads and descriptors.
#![cfg(target_os = "linux")]

mod common;

use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pError, EventReceiver};
use tokio::runtime::{Builder, Runtime};

type Starting = Pin<Box<dyn Future<Output = Result<(AviP2p, EventReceiver), AviP2pError>>>>;
type Start = fn(AviP2pConfig) -> Starting;

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).expect("procfs can be read").count()
}

/// Everything that holds threads or descriptors: mDNS, two ends of a connection, a wildcard listener.
async fn cycle(start: Start, is_shut_down: bool) {
    let (first, mut events) = start(AviP2pConfig::default()).await.unwrap();
    let Some(AviEvent::Started { listen_addresses, .. }) = events.recv().await else { panic!() };
    let near = listen_addresses.into_iter().filter(|address| address.contains("127.0.0.1")).collect();
    let config = AviP2pConfig { bootstrap_peers: near, ..common::config() };
    let (second, mut events) = start(config).await.unwrap();
    while !matches!(events.recv().await, Some(AviEvent::PeerConnected { .. })) {}
    if is_shut_down {
        first.shutdown().await.unwrap();
        second.shutdown().await.unwrap();
    }
}

/// Waits until no thread of a node is left: one that is dropped says its goodbyes in its own time.
fn wait_for_ends() {
    let deadline = Instant::now() + common::WITHIN;
    let is_of_a_node = |thread: std::io::Result<std::fs::DirEntry>| {
        let name = thread.and_then(|thread| std::fs::read_to_string(thread.path().join("comm")));
        name.is_ok_and(|name| name.starts_with("avi-p2p"))
    };
    while std::fs::read_dir("/proc/self/task").expect("procfs can be read").any(is_of_a_node) {
        assert!(Instant::now() < deadline, "a node's thread lives on");
        std::thread::yield_now();
    }
}

/// Threads and descriptors, once the nodes have ended: no more than before. They may be fewer, because a thread that has
/// just begun and has no name yet looks like none of a node's.
fn settles_at(before: (usize, usize)) {
    wait_for_ends();
    let deadline = Instant::now() + common::WITHIN;
    let now = || (count("/proc/self/task"), count("/proc/self/fd"));
    let is_back = |(threads, descriptors)| threads <= before.0 && descriptors <= before.1;
    while !is_back(now()) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(is_back(now()), "(threads, descriptors): {:?}, before {before:?}", now());
}

/// A start that is cancelled, and a shutdown that is.
async fn give_up_half_way() {
    let mut starting = Box::pin(AviP2p::start(common::config()));
    // It may be quick.
    if let Poll::Ready(started) = futures::poll!(&mut starting) {
        let mut shutdown = Box::pin(started.unwrap().0.shutdown());
        let _ = futures::poll!(&mut shutdown);
        return;
    }
    drop(starting);
    let (node, _) = AviP2p::start(common::config()).await.unwrap();
    let mut shutdown = Box::pin(node.shutdown());
    let _ = futures::poll!(&mut shutdown);
}

#[test]
fn a_hundred_starts_and_stops_leave_no_thread_and_no_descriptor_behind() {
    let cycle = |n: usize| {
        // Either way of stopping.
        smol::block_on(cycle(|config| Box::pin(AviP2p::start(config)), n.is_multiple_of(2)));
        smol::block_on(give_up_half_way());
    };
    // What is made once per process, as the timer's thread, is made by the first ones.
    (0..3).for_each(cycle);
    wait_for_ends();
    let before = (count("/proc/self/task"), count("/proc/self/fd"));
    (0..100).for_each(cycle);
    settles_at(before);

    on_tokio(&Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    on_tokio(&Builder::new_current_thread().enable_all().build().unwrap());
}

/// The same for tasks of a runtime, none of which may be left either.
fn on_tokio(runtime: &Runtime) {
    let cycle = |n: usize| {
        runtime.block_on(async {
            let tasks = runtime.metrics().num_alive_tasks();
            cycle(|config| Box::pin(AviP2p::start_on_tokio(config)), n.is_multiple_of(2)).await;
            // Nodes that are dropped say their goodbyes as long as the runtime runs. Nothing tells of their end.
            let deadline = Instant::now() + common::WITHIN;
            while runtime.metrics().num_alive_tasks() > tasks {
                assert!(Instant::now() < deadline, "a task lives on");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    };
    (0..3).for_each(cycle);
    let before = (count("/proc/self/task"), count("/proc/self/fd"));
    (0..20).for_each(cycle);
    settles_at(before);
}
