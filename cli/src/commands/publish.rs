//! Does a message get to somebody?

use std::io::{IsTerminal, Read};
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2pConfig, PeerInfo, Published};

use crate::args::Pub;
use crate::exit::Failure;
use crate::line::{Line, Named};
use crate::output::Output;
use crate::session::Session;

/// A subscription of a peer has no event: it is looked for so often.
const LOOK: Duration = Duration::from_millis(50);

/// A message that finds nobody, because the last subscriber has just left, comes back within `--wait`.
pub(crate) fn config(mut config: AviP2pConfig, args: &Pub) -> AviP2pConfig {
    config.publish_hold = args.wait.min(Duration::from_secs(3600));
    config
}

/// The message, from the command line or standard input.
pub(crate) fn payload(args: &Pub, config: &AviP2pConfig, out: Output) -> Result<Vec<u8>, Failure> {
    let max = config.limits.max_message_bytes;
    let data = match args.text.as_deref() {
        Some(text) if text != "-" => text.as_bytes().to_vec(),
        _ => {
            let mut data = Vec::new();
            let stdin = std::io::stdin().lock();
            if stdin.is_terminal() {
                out.progress("type the message, and end it with Ctrl-D");
            }
            stdin.take(max as u64 + 1).read_to_end(&mut data).map_err(|error| Failure::file("/dev/stdin", error))?;
            data
        }
    };
    match data.len() > max {
        true => Err(Failure::Usage(format!("the message is longer than limits.max_message_bytes = {max}"))),
        false => Ok(data),
    }
}

pub(crate) async fn run(session: &mut Session, args: &Pub, data: Vec<u8>) -> Result<(), Failure> {
    let (topic, bytes, enough) = (&args.topic, data.len(), args.subscribers as usize);
    let deadline = Instant::now() + args.wait;
    session.out.progress(&format!("waiting for {enough} subscribers of {topic}"));
    let subscribers = loop {
        let peers = session.connected().await?;
        let subscribers: Vec<PeerInfo> = peers.into_iter().filter(|peer| peer.topics.contains(topic)).collect();
        let now = Instant::now();
        if subscribers.len() >= enough || now >= deadline {
            break subscribers;
        }
        session.next(Some(deadline.min(now + LOOK))).await?;
    };
    if subscribers.is_empty() {
        let seconds = args.wait.as_secs_f64();
        return Err(Failure::Finding(format!("nobody subscribes to {topic}: not sent after {seconds} s")));
    }
    if session.handle.publish_tracked(topic, data).await? == Published::Held {
        sent_after_all(session, args).await?;
    }
    let named = subscribers.iter().map(Named::from).collect();
    session.out.say(&Line::Published { topic: topic.clone(), bytes, subscribers: named })?;
    match subscribers.len() < enough {
        true => Err(Failure::Finding(format!("{} of {enough} subscribers were there", subscribers.len()))),
        false => Ok(()),
    }
}

/// Waits for what becomes of a message that is held, since the subscribers have just left.
async fn sent_after_all(session: &mut Session, args: &Pub) -> Result<(), Failure> {
    while session.handle.stats().await?.messages_held_now > 0 {
        if let Some(AviEvent::PublishExpired { topic, .. }) = session.next(Some(Instant::now() + LOOK)).await? {
            let seconds = args.wait.as_secs_f64();
            return Err(Failure::Finding(format!("the subscribers of {topic} have left: not sent within {seconds} s")));
        }
    }
    Ok(())
}
