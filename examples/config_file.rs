//! A node whose configuration is a file. Whatever is wrong in it is named with its line, and with what was expected.
//!
//! ```text
//! cargo run --features serde --example config_file [-- FILE]
//! ```

use std::process::ExitCode;

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pError};
use toml::de::{DeTable, DeValue};

const FILE: &str = "examples/config.toml";

#[tokio::main]
async fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_else(|| FILE.to_owned());
    match run(&path).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let (node, mut events) = AviP2p::start(read(path, &text)?).await?;
    println!("{} runs; Ctrl-C ends it", node.local_peer_id());
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(AviEvent::Message { from, topic, data }) => println!("{from} on {topic}: {} bytes", data.len()),
                Some(event) => println!("{event:?}"),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    node.shutdown().await?;
    Ok(())
}

/// The configuration in the text of a file; or an error as `kitchen.toml:7: …`. The library itself checks the ranges, and
/// names the field.
///
/// # Errors
/// One line that says where, and what was expected there.
pub fn read(path: &str, text: &str) -> Result<AviP2pConfig, String> {
    let config: AviP2pConfig = toml::from_str(text).map_err(|error| {
        // Not all of the error's own text: it shows the line, which may have a secret.
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        format!("{path}:{line}: {}", error.message())
    })?;
    match config.validate() {
        Ok(()) => Ok(config),
        Err(error) => match &error {
            AviP2pError::InvalidConfig { field, .. } => Err(format!("{path}:{}: {error}", line_of(text, field))),
            _ => Err(format!("{path}: {error}")),
        },
    }
}

/// The line of a field, named as `limits.max_topics` or `bootstrap_peers[1]`, or of the part of the name that is there.
fn line_of(text: &str, field: &str) -> usize {
    let Ok(table) = DeTable::parse(text) else { return 1 };
    let mut line = 1;
    let mut value = DeValue::Table(table.into_inner());
    for part in field.split(['.', '[']) {
        let next = match &value {
            DeValue::Table(table) => table.get(part),
            DeValue::Array(array) => part.trim_end_matches(']').parse().ok().and_then(|index: usize| array.get(index)),
            _ => None,
        };
        let Some(next) = next.cloned() else { break };
        line = line_at(text, next.span().start);
        value = next.into_inner();
    }
    line
}

fn line_at(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}
