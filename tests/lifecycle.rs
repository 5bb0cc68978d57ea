//! Does a node leave anything behind? Alone in its process, because it counts threads and descriptors.
#![cfg(target_os = "linux")]

mod common;

use avi_p2p::{AviP2p, AviP2pConfig};

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).expect("procfs can be read").count()
}

#[test]
fn a_hundred_starts_and_stops_leave_no_thread_and_no_descriptor_behind() {
    let cycle = |n: usize| {
        smol::block_on(async {
            // Everything that holds threads or descriptors: mDNS, two ends of a connection, a wildcard listener.
            let (first, mut events) = AviP2p::start(AviP2pConfig::default()).await.unwrap();
            let Some(avi_p2p::AviEvent::Started { listen_addresses, .. }) = events.recv().await else { panic!() };
            let near = listen_addresses.into_iter().filter(|address| address.contains("127.0.0.1")).collect();
            let config = AviP2pConfig { bootstrap_peers: near, ..common::config() };
            let (second, mut events) = AviP2p::start(config).await.unwrap();
            while !matches!(events.recv().await, Some(avi_p2p::AviEvent::PeerConnected { .. })) {}
            // Either way of stopping.
            if n.is_multiple_of(2) {
                first.shutdown().await.unwrap();
                second.shutdown().await.unwrap();
            }
        });
    };
    // What is made once per process, as the timer's thread, is made by the first ones.
    (0..3).for_each(cycle);
    let before = (count("/proc/self/task"), count("/proc/self/fd"));
    (0..100).for_each(cycle);
    let after = (count("/proc/self/task"), count("/proc/self/fd"));
    assert_eq!(after, before, "(threads, descriptors)");
}
