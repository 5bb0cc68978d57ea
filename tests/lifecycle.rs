//! Does a node leave anything behind? Alone in its process, because it counts threads and descriptors.
#![cfg(target_os = "linux")]

mod common;

use std::pin::Pin;
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

/// Threads and descriptors. The system may list a thread for a moment after it was joined.
fn settles_at(before: (usize, usize)) {
    let deadline = Instant::now() + common::WITHIN;
    let count = || (count("/proc/self/task"), count("/proc/self/fd"));
    while count() != before && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(count(), before, "(threads, descriptors)");
}

#[test]
fn a_hundred_starts_and_stops_leave_no_thread_and_no_descriptor_behind() {
    let cycle = |n: usize| {
        // Either way of stopping.
        smol::block_on(cycle(|config| Box::pin(AviP2p::start(config)), n.is_multiple_of(2)));
    };
    // What is made once per process, as the timer's thread, is made by the first ones.
    (0..3).for_each(cycle);
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
