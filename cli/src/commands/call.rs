//! How does a call to a peer go?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2pConfig, AviP2pError, PeerId, Playout, StreamCloseReason, StreamId, StreamOptions};
use smol::Task;

use crate::args::Call;
use crate::config;
use crate::exit::Failure;
use crate::line::{Figures, Line};
use crate::session::Session;
use crate::sound::{Kept, Sound, listen};
use crate::who::{self, Who};

/// Of a tone.
const SECONDS: Duration = Duration::from_secs(5);
/// Figures are shown so often.
pub(crate) const FIGURES: Duration = Duration::from_secs(1);
/// The other end reports once a second: so long its last report is waited for.
const LAST_REPORT: Duration = Duration::from_millis(1_500);
/// Reports are no events: they are looked for so often.
const LOOK: Duration = Duration::from_millis(50);
/// After a pause of the machine, older frames are not made up for.
const LATE: Duration = Duration::from_millis(200);
const LABEL: &str = "avi call";

/// Whether figures are shown while a call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Once a second.
    Figures,
    /// Not.
    Nothing,
}

/// What is known before the node starts.
pub(crate) struct Prepared {
    who: Who,
    sound: Sound,
    lasts: Option<Duration>,
}

/// Checks what can be checked, and lets the node connect to the peer if its address is given.
pub(crate) fn prepare(args: &Call, config: &mut AviP2pConfig) -> Result<Prepared, Failure> {
    let who = reach(&args.peer, config)?;
    let sound = match &args.wav {
        Some(path) => Sound::file(path)?,
        None => Sound::tone(args.tone),
    };
    let lasts = args.seconds.or(if sound.lasts.is_none() { Some(SECONDS) } else { None });
    Ok(Prepared { who, sound, lasts })
}

/// Whom the text means, and a way there if it is an address.
pub(crate) fn reach(text: &str, config: &mut AviP2pConfig) -> Result<Who, Failure> {
    let who = Who::parse(text)?;
    if text.starts_with('/') {
        config::connect(config, text)?;
    }
    Ok(who)
}

pub(crate) async fn run(session: &mut Session, args: &Call, call: Prepared) -> Result<(), Failure> {
    let Prepared { who, mut sound, lasts } = call;
    let peer = who::find(session, &who, args.wait).await?.peer_id;
    let stream = request(session, &peer, &sound).await?;
    let listener = hear(session, stream, args.record.as_ref(), &sound).await?;
    accepted(session, stream).await?;
    let name = session.name_of(&peer).await;
    session.out.say(&Line::CallBegan { peer_id: peer.to_string(), name, label: None })?;
    let began = Instant::now();
    let played = play(session, stream, &mut sound, lasts, Show::Figures).await;
    let reason = match &played {
        Ok(Some(reason)) => reason.clone(),
        Ok(None) | Err(_) => hang_up(session, stream).await?,
    };
    ended(session, stream, &reason, began).await?;
    // The reader ends with the stream.
    listener.await?;
    played?;
    judge(&reason)
}

/// Asks for a stream with the frames of the sound.
pub(crate) async fn request(session: &Session, peer: &PeerId, sound: &Sound) -> Result<StreamId, Failure> {
    let options =
        StreamOptions { media: Some(sound.media.clone()), label: Some(LABEL.to_owned()), ..StreamOptions::default() };
    Ok(session.handle.request_stream_with(peer.clone(), options).await?)
}

async fn hear(
    session: &Session,
    stream: StreamId,
    path: Option<&PathBuf>,
    sound: &Sound,
) -> Result<Task<Result<(), Failure>>, Failure> {
    let kept = path.map(|path| Kept::create(path, Some(&sound.media))).transpose()?;
    let reader = session.handle.audio_reader(stream, Playout::default()).await?;
    Ok(smol::spawn(listen(reader, kept, None)))
}

/// Waits for the answer.
pub(crate) async fn accepted(session: &mut Session, stream: StreamId) -> Result<(), Failure> {
    session.out.progress("calling");
    loop {
        match session.next(None).await? {
            Some(AviEvent::AudioStreamAccepted { stream_id, .. }) if stream_id == stream => return Ok(()),
            Some(AviEvent::AudioStreamClosed { stream_id, reason, .. }) if stream_id == stream => {
                return Err(Failure::Finding(format!("the call was not answered: {reason}")));
            }
            _ => {}
        }
    }
}

/// Plays the sound to its end, or for so long. Why the call has ended, if it was not this end.
pub(crate) async fn play(
    session: &mut Session,
    stream: StreamId,
    sound: &mut Sound,
    lasts: Option<Duration>,
    show: Show,
) -> Result<Option<StreamCloseReason>, Failure> {
    let (began, duration) = (Instant::now(), sound.frame_duration());
    let end = lasts.map(|lasts| began + lasts);
    let (mut next_frame, mut next_figures) = (began, began + FIGURES);
    loop {
        let now = Instant::now();
        if end.is_some_and(|end| now >= end) {
            break;
        }
        if now >= next_frame {
            let Some(frame) = sound.next_frame()? else { break };
            match session.handle.send_audio(stream, frame).await {
                Ok(()) | Err(AviP2pError::Congested(_)) => {}
                Err(AviP2pError::StreamEnded { reason, .. }) => return Ok(Some(reason)),
                Err(error) => return Err(error.into()),
            }
            next_frame = (next_frame + duration).max(now.checked_sub(LATE).unwrap_or(now));
        }
        if now >= next_figures && show == Show::Figures {
            let stats = session.handle.audio_stats(stream).await?;
            session.out.say(&Line::CallFigures(Figures::new(&stats)))?;
        }
        if now >= next_figures {
            next_figures += FIGURES;
        }
        let event = session.next(Some(next_frame.min(next_figures))).await?;
        if let Some(reason) = end_of(event, stream) {
            return Ok(Some(reason));
        }
    }
    reported(session, stream).await
}

/// Waits until the other end has reported on the last frame, for a moment at most.
async fn reported(session: &mut Session, stream: StreamId) -> Result<Option<StreamCloseReason>, Failure> {
    let deadline = Instant::now() + LAST_REPORT;
    loop {
        let stats = session.handle.audio_stats(stream).await?;
        let last = stats.frames_given.saturating_sub(1);
        let now = Instant::now();
        if now >= deadline || stats.remote.is_some_and(|remote| remote.highest_sequence >= last) {
            return Ok(None);
        }
        let event = session.next(Some(deadline.min(now + LOOK))).await?;
        if let Some(reason) = end_of(event, stream) {
            return Ok(Some(reason));
        }
    }
}

fn end_of(event: Option<AviEvent>, stream: StreamId) -> Option<StreamCloseReason> {
    match event {
        Some(AviEvent::AudioStreamClosed { stream_id, reason, .. }) if stream_id == stream => Some(reason),
        _ => None,
    }
}

async fn hang_up(session: &Session, stream: StreamId) -> Result<StreamCloseReason, Failure> {
    match session.handle.close_audio_stream(stream).await {
        // The other end may have been first.
        Ok(()) | Err(AviP2pError::StreamNotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let stats = session.handle.audio_stats(stream).await?;
    Ok(stats.ended.unwrap_or(StreamCloseReason::LocalClose))
}

/// Shows the last figures.
pub(crate) async fn ended(
    session: &Session,
    stream: StreamId,
    reason: &StreamCloseReason,
    began: Instant,
) -> Result<(), Failure> {
    let stats = session.handle.audio_stats(stream).await?;
    let seconds = (began.elapsed().as_secs_f64() * 1e3).round() / 1e3;
    session.out.say(&Line::CallEnded { reason: reason.to_string(), seconds, figures: Figures::new(&stats) })
}

/// A call that an end has ended was a good one.
fn judge(reason: &StreamCloseReason) -> Result<(), Failure> {
    match reason {
        StreamCloseReason::LocalClose | StreamCloseReason::RemoteClose => Ok(()),
        other => Err(Failure::Finding(format!("the call ended early: {other}"))),
    }
}
