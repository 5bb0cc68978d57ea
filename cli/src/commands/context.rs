//! What does the shared context have, and how does it change?

use std::time::{Duration, Instant};

use avi_p2p::AviEvent;
use serde_json::Value;

use crate::args::Context;
use crate::exit::Failure;
use crate::line::Line;
use crate::session::Session;

/// Once the context was compared with a peer, and nothing has come for so long, it is what the peers have.
const QUIET: Duration = Duration::from_secs(1);
/// The end of a comparison is no event: it is looked for so often.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) async fn run(session: &mut Session, action: &Context) -> Result<(), Failure> {
    match action {
        Context::Get { path, wait } => get(session, path, *wait).await,
        Context::Set { path, value, replace, wait } => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
            learn(session, *wait).await?;
            let context = session.handle.context();
            match replace {
                true => context.replace(path, value).await?,
                false => context.set(path, value).await?,
            }
            written(session, path, *wait).await
        }
        Context::Remove { path, wait } => {
            learn(session, *wait).await?;
            session.handle.context().remove(path).await?;
            written(session, path, *wait).await
        }
        Context::Watch { path } => watch(session, path).await,
    }
}

async fn get(session: &mut Session, path: &str, wait: Duration) -> Result<(), Failure> {
    let has_heard = learn(session, wait).await?;
    match session.handle.context().get(path).await? {
        Some(value) => session.out.say(&Line::Context { path: path.to_owned(), value }),
        None if has_heard => Err(Failure::Finding(format!("the context has nothing at {path:?}"))),
        None => Err(Failure::Finding(format!("no node with a context answered within {} s", wait.as_secs_f64()))),
    }
}

/// Waits until this node has what its peers have. Whether it has compared with one.
async fn learn(session: &mut Session, wait: Duration) -> Result<bool, Failure> {
    session.out.progress("comparing with other nodes");
    let deadline = Instant::now() + wait;
    let mut last_news = Instant::now();
    let mut compared = 0;
    loop {
        let stats = session.handle.stats().await?;
        let begun = stats.context_exchanges + stats.context_answers;
        let now = Instant::now();
        if begun != compared {
            (compared, last_news) = (begun, now);
        }
        let has_compared = begun > stats.context_exchanges_failed;
        if now >= deadline || has_compared && now >= last_news + QUIET {
            return Ok(has_compared);
        }
        let event = session.next(Some(deadline.min(now + LOOK))).await?;
        if let Some(AviEvent::ContextChanged { .. } | AviEvent::PeerConnected { .. }) = event {
            last_news = Instant::now();
        }
    }
}

/// A write goes out at once, and the end of the node waits until it has arrived.
async fn written(session: &mut Session, path: &str, wait: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + wait;
    let peers = loop {
        let stats = session.handle.stats().await?;
        let has_compared = stats.context_exchanges + stats.context_answers > stats.context_exchanges_failed;
        let now = Instant::now();
        if now >= deadline || has_compared && stats.peers_connected > 0 {
            break if has_compared { stats.peers_connected } else { 0 };
        }
        session.next(Some(deadline.min(now + LOOK))).await?;
    };
    if peers == 0 {
        let text = format!("no node with a context is connected: what was written at {path:?} is with this node alone");
        return Err(Failure::Finding(text));
    }
    session.out.say(&Line::ContextWritten { path: path.to_owned(), peers })
}

async fn watch(session: &mut Session, path: &str) -> Result<(), Failure> {
    // An invalid path is told now, and not by silence.
    session.handle.context().get(path).await?;
    loop {
        match session.next(None).await? {
            Some(AviEvent::Started { local_peer_id, listen_addresses }) => {
                let peer_id = local_peer_id.to_string();
                session.out.say(&Line::Started { peer_id, addresses: listen_addresses })?;
            }
            Some(AviEvent::ContextChanged { author, path: changed, value }) if concerns(path, &changed) => {
                let author = author.to_string();
                session.out.say(&Line::ContextChanged { author, path: changed, value })?;
            }
            Some(AviEvent::ContextLagged { changes }) => {
                session.out.progress(&format!("{changes} changes were too fast to be shown"));
            }
            _ => {}
        }
    }
}

/// Whether a change at one path changes what is at another: one is the other, or above it.
fn concerns(watched: &str, changed: &str) -> bool {
    let is_above = |above: &str, below: &str| {
        above.is_empty() || below.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    is_above(watched, changed) || is_above(changed, watched)
}

#[cfg(test)]
mod tests {
    use super::concerns;

    #[test]
    fn a_change_concerns_paths_above_and_below_it() {
        for (watched, changed) in [("", "a.b"), ("a", "a.b"), ("a.b", "a"), ("a.b", "a.b"), ("a.b", "")] {
            assert!(concerns(watched, changed), "{watched} {changed}");
        }
        for (watched, changed) in [("a", "ab"), ("a.b", "a.c"), ("ab", "a")] {
            assert!(!concerns(watched, changed), "{watched} {changed}");
        }
    }
}
