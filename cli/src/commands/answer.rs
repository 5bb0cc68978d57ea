//! Who calls, and how do their calls go?

use std::collections::BTreeMap;
use std::time::Instant;

use avi_p2p::{AviEvent, PeerId, Playout, StreamCloseReason, StreamId};
use smol::Task;

use super::call::{FIGURES, ended};
use crate::args::Answer;
use crate::exit::Failure;
use crate::line::{Figures, Line};
use crate::session::Session;
use crate::sound::{Kept, listen};

/// A call that has been answered.
struct Call {
    began: Instant,
    listener: Task<Result<(), Failure>>,
}

/// One file is of one call.
pub(crate) fn check(args: &Answer) -> Result<(), Failure> {
    match args.record.is_some() && args.calls != Some(1) {
        true => Err(Failure::Usage("--record takes one call: add --calls 1".to_owned())),
        false => Ok(()),
    }
}

pub(crate) async fn run(session: &mut Session, args: &Answer) -> Result<(), Failure> {
    let mut calls = BTreeMap::new();
    let outcome = answer(session, args, &mut calls).await;
    for (stream, call) in calls {
        // It ends with the node, and what was heard of it is kept.
        ended(session, stream, &StreamCloseReason::LocalClose, call.began).await?;
        session.handle.close_audio_stream(stream).await?;
        call.listener.await?;
    }
    outcome
}

async fn answer(session: &mut Session, args: &Answer, calls: &mut BTreeMap<StreamId, Call>) -> Result<(), Failure> {
    let (mut accepted, mut over) = (0, 0);
    let mut next_figures = Instant::now() + FIGURES;
    while args.calls.is_none_or(|wanted| over < wanted) {
        if Instant::now() >= next_figures {
            figures(session, calls).await?;
            next_figures += FIGURES;
        }
        let until = if calls.is_empty() { None } else { Some(next_figures) };
        match session.next(until).await? {
            Some(AviEvent::Started { local_peer_id, listen_addresses }) => {
                let peer_id = local_peer_id.to_string();
                session.out.say(&Line::Answering { peer_id, addresses: listen_addresses })?;
            }
            Some(AviEvent::AudioStreamRequested { from, stream_id }) => {
                if args.calls.is_some_and(|wanted| accepted >= wanted) {
                    session.handle.reject_audio_stream(stream_id, "it takes no more calls").await?;
                    continue;
                }
                if calls.is_empty() {
                    next_figures = Instant::now() + FIGURES;
                }
                accepted += 1;
                calls.insert(stream_id, take(session, args, from, stream_id).await?);
            }
            Some(AviEvent::AudioStreamClosed { stream_id, reason, .. }) => {
                if let Some(call) = calls.remove(&stream_id) {
                    over += 1;
                    call.listener.await?;
                    ended(session, stream_id, &reason, call.began).await?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

async fn take(session: &Session, args: &Answer, from: PeerId, stream: StreamId) -> Result<Call, Failure> {
    let stats = session.handle.audio_stats(stream).await?;
    let kept = match &args.record {
        Some(path) => Some(Kept::create(path, stats.media.as_ref())?),
        None => None,
    };
    let reader = session.handle.audio_reader(stream, Playout::default()).await?;
    session.handle.accept_audio_stream(stream).await?;
    let echo = args.echo.then(|| (session.handle.clone(), stream));
    let listener = smol::spawn(listen(reader, kept, echo));
    let name = session.name_of(&from).await;
    session.out.say(&Line::CallBegan { peer_id: from.to_string(), name, label: stats.label })?;
    Ok(Call { began: Instant::now(), listener })
}

async fn figures(session: &Session, calls: &BTreeMap<StreamId, Call>) -> Result<(), Failure> {
    for stream in calls.keys() {
        let stats = session.handle.audio_stats(*stream).await?;
        session.out.say(&Line::CallFigures(Figures::new(&stats)))?;
    }
    Ok(())
}
