//! Who is there?

use std::time::{Duration, Instant};

use avi_p2p::AviEvent;

use crate::args::Peers;
use crate::exit::Failure;
use crate::line::{Line, Peer};
use crate::session::Session;

/// Names have no event of their own if they were known before: they are looked for so often.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) async fn run(session: &mut Session, args: &Peers) -> Result<(), Failure> {
    if args.watch {
        return watch(session, None).await;
    }
    let deadline = Instant::now() + args.wait;
    session.out.progress(&format!("looking for peers for {} s", args.wait.as_secs_f64()));
    let enough = args.count.unwrap_or(u32::MAX) as usize;
    let peers = loop {
        let peers = session.connected().await?;
        let is_complete = peers.len() >= enough && peers.iter().all(|peer| peer.name.is_some());
        let now = Instant::now();
        if is_complete || now >= deadline {
            break peers;
        }
        session.next(Some(deadline.min(now + LOOK))).await?;
    };
    for peer in &peers {
        session.out.say(&Line::Peer(Peer::from(peer)))?;
    }
    match args.count {
        Some(count) if peers.len() < count as usize => {
            Err(Failure::Finding(format!("{} of {count} peers are connected", peers.len())))
        }
        _ => {
            session.out.progress(&format!("{} peers are connected", peers.len()));
            Ok(())
        }
    }
}

/// Prints who comes and goes, until the deadline.
pub(crate) async fn watch(session: &mut Session, until: Option<Instant>) -> Result<(), Failure> {
    loop {
        let line = match session.next(until).await? {
            None => return Ok(()),
            Some(AviEvent::Started { local_peer_id, listen_addresses }) => {
                Line::Started { peer_id: local_peer_id.to_string(), addresses: listen_addresses }
            }
            Some(AviEvent::PeerConnected { peer_id, address }) => {
                Line::PeerConnected { peer_id: peer_id.to_string(), address }
            }
            Some(AviEvent::PeerIdentified { peer_id, name }) => Line::PeerNamed { peer_id: peer_id.to_string(), name },
            Some(AviEvent::PeerDisconnected { peer_id }) => Line::PeerDisconnected { peer_id: peer_id.to_string() },
            Some(_) => continue,
        };
        session.out.say(&line)?;
    }
}
