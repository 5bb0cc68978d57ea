//! Hosts that break the rules below the library.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use avi_p2p::transport::Transport;
use futures::io::{AsyncReadExt, AsyncWriteExt};

use crate::random::Random;

/// Connects, and sends bytes that are no handshake.
pub async fn garbage(transport: Arc<dyn Transport>, targets: Vec<SocketAddr>, seed: u64) {
    let mut random = Random::new(seed);
    loop {
        let target = targets[random.below(targets.len())];
        if let Ok(mut stream) = transport.connect(target).await {
            let bytes: Vec<u8> = (0..random.below(4096)).map(|_| random.next() as u8).collect();
            let _ = stream.write_all(&bytes).await;
            let _ = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0; 256])).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Connects repeatedly without sending anything, and keeps the last connections open.
pub async fn dial_storm(transport: Arc<dyn Transport>, targets: Vec<SocketAddr>, seed: u64) {
    let mut random = Random::new(seed);
    let mut open = std::collections::VecDeque::new();
    loop {
        let target = targets[random.below(targets.len())];
        if let Ok(stream) = transport.connect(target).await {
            open.push_back(stream);
        }
        if open.len() > 100 {
            open.pop_front();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
