//! A node to play with. Run it in two terminals: they find each other by mDNS.
//!
//! ```text
//! cargo run --example simple_node [-- --name NAME] [--port PORT] [--bootstrap /ip4/…/tcp/…]…
//! ```

use std::io::BufRead;
use std::process::ExitCode;

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pHandle};
use tokio::sync::mpsc;

const USAGE: &str = "simple_node [--name NAME] [--port PORT] [--bootstrap /ip4/…/tcp/…]…";
const HELP: &str = "sub TOPIC | unsub TOPIC | pub TOPIC TEXT | peers | stats | quit";

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_writer(std::io::stderr).init();
    if std::env::args().skip(1).any(|argument| argument == "--help" || argument == "-h") {
        println!("usage: {USAGE}\nThen, a line each: {HELP}");
        return ExitCode::SUCCESS;
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simple_node: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (node, mut events) = AviP2p::start(config(std::env::args().skip(1))?).await?;
    let handle = node.handle();
    let mut lines = read_lines();
    println!("{HELP}");
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => show(event),
                None => break,
            },
            line = lines.recv() => match line.as_deref().map(str::trim) {
                None | Some("quit") => break,
                Some("") => {}
                Some(line) => {
                    if let Err(error) = command(&handle, line).await {
                        println!("! {error}");
                    }
                }
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    node.shutdown().await?;
    Ok(())
}

fn config(mut arguments: impl Iterator<Item = String>) -> Result<AviP2pConfig, String> {
    let mut config = AviP2pConfig::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--name" => config.node_name = value()?,
            "--port" => config.listen_port = value()?.parse().map_err(|error| format!("--port: {error}"))?,
            "--bootstrap" => config.bootstrap_peers.push(value()?),
            other => return Err(format!("unknown argument {other}; usage: {USAGE}")),
        }
    }
    Ok(config)
}

/// Standard input blocks, so that it has a thread of its own.
fn read_lines() -> mpsc::Receiver<String> {
    let (lines, reader) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    reader
}

async fn command(handle: &AviP2pHandle, line: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "sub" => handle.subscribe(rest).await?,
        "unsub" => handle.unsubscribe(rest).await?,
        "pub" => {
            let (topic, text) = rest.split_once(' ').ok_or("pub TOPIC TEXT")?;
            handle.publish(topic, text.as_bytes().to_vec()).await?;
        }
        "peers" => {
            for peer in handle.connected_peers().await? {
                let info = handle.peer_info(&peer).await?;
                let name = info.name.unwrap_or_default();
                println!("{peer} {name} rtt {:?} topics {:?} at {:?}", info.rtt, info.topics, info.addresses);
            }
        }
        "stats" => println!("{:#?}", handle.stats().await?),
        _ => println!("{HELP}"),
    }
    Ok(())
}

fn show(event: AviEvent) {
    match event {
        AviEvent::Started { local_peer_id, listen_addresses } => println!("* {local_peer_id} at {listen_addresses:?}"),
        AviEvent::Message { from, topic, data } => println!("[{topic}] {from}: {}", String::from_utf8_lossy(&data)),
        AviEvent::PeerConnected { peer_id, address } => println!("+ {peer_id} at {address}"),
        AviEvent::PeerDisconnected { peer_id } => println!("- {peer_id}"),
        AviEvent::BootstrapFailed { address, reason, retry_in } => {
            println!("! {address}: {reason}; again in {retry_in:.1?}");
        }
        other => println!("* {other:?}"),
    }
}
