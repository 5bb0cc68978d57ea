//! What is said on topics?

use std::fmt::Write as _;

use avi_p2p::{AviEvent, PeerId};

use crate::args::Sub;
use crate::exit::Failure;
use crate::line::Line;
use crate::session::Session;

pub(crate) async fn run(session: &mut Session, args: &Sub) -> Result<(), Failure> {
    for topic in &args.topics {
        session.handle.subscribe(topic).await?;
    }
    let mut rest = args.count;
    while rest != Some(0) {
        match session.next(None).await? {
            Some(AviEvent::Started { local_peer_id, listen_addresses }) => {
                let peer_id = local_peer_id.to_string();
                session.out.say(&Line::Started { peer_id, addresses: listen_addresses })?;
                session.out.say(&Line::Subscribed { topics: args.topics.clone() })?;
            }
            Some(AviEvent::Message { from, topic, data }) => {
                let line = message(session, from, topic, data).await;
                session.out.say(&line)?;
                rest = rest.map(|rest| rest - 1);
            }
            Some(AviEvent::Lagged { messages, .. }) if messages > 0 => session.out.say(&Line::Lost { messages })?,
            _ => {}
        }
    }
    Ok(())
}

async fn message(session: &Session, from: PeerId, topic: String, data: Vec<u8>) -> Line {
    let name = session.name_of(&from).await;
    let (text, hex) = match String::from_utf8(data) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(in_hex(error.as_bytes()))),
    };
    Line::Message { from: from.to_string(), name, topic, text, hex }
}

fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
