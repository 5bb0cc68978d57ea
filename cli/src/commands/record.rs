//! What does a node decide while it runs? Its recording can be replayed.

use std::time::Instant;

use avi_p2p::{AviP2pConfig, Content};

use super::peers;
use crate::args::Record;
use crate::exit::Failure;
use crate::line::Line;
use crate::output::Output;
use crate::session::{Session, with_node};

pub(crate) async fn run(args: &Record, mut config: AviP2pConfig, out: Output) -> Result<(), Failure> {
    let recorder = config.recorder.get_or_insert_default();
    recorder.file = Some(args.file.clone());
    recorder.bytes = args.bytes.map_or(recorder.bytes, |bytes| bytes as usize);
    recorder.pseudonyms |= args.pseudonyms;
    if args.keep_content {
        recorder.content = Content::Kept;
    }
    let outcome = with_node(config, out, async |session| record(session, args).await).await;
    // The node has written all of it when it has ended.
    let bytes = std::fs::metadata(&args.file).map(|file| file.len());
    let path = args.file.display().to_string();
    match (&outcome, bytes) {
        (Ok(()) | Err(Failure::Interrupted(_)), Ok(bytes)) => out.say(&Line::Recorded { path, bytes })?,
        (Ok(()), Err(error)) => return Err(Failure::file(&args.file, error)),
        _ => {}
    }
    outcome
}

async fn record(session: &mut Session, args: &Record) -> Result<(), Failure> {
    for topic in &args.topic {
        session.handle.subscribe(topic).await?;
    }
    peers::watch(session, args.seconds.map(|time| Instant::now() + time)).await
}
