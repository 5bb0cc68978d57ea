//! The quick start of the README. Run it in two terminals of one network, and they greet each other; Ctrl-C ends it.
#![allow(clippy::single_match)] // As the README has it: the first of many arms.

use std::process::ExitCode;

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    // 1. Configure
    let config = AviP2pConfig::default();

    // 2. Start
    let (node, mut event_rx) = AviP2p::start(config).await?;
    let handle = node.handle();

    // 3. Subscribe
    handle.subscribe("lobby").await?;

    // 4. Event loop
    tokio::spawn(async move {
        while let Some(event) = event_rx.recv().await {
            match event {
                AviEvent::Message { from, topic, data } => {
                    println!("Msg from {from} on {topic}: {}", String::from_utf8_lossy(&data));
                }
                _ => {}
            }
        }
    });

    // 5. Publish
    handle.publish("lobby", b"Hello AVI!".to_vec()).await?;

    // Keep alive...
    tokio::signal::ctrl_c().await?;
    node.shutdown().await?;
    Ok(())
}
