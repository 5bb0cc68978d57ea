//! Who is called, which calls are answered, and what do keys do?

use std::io::BufRead;
use std::time::Duration;

use avi_p2p::{
    AudioReader, AviEvent, AviP2p, AviP2pConfig, AviP2pError, AviP2pHandle, Identity, PeerId, Playout,
    StreamCloseReason, StreamId, StreamOptions,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, interval};

use crate::call::{Call, Next};
use crate::codec::{can_play, media};
use crate::{Options, Outcome};

/// How often to look whether the name to call has come.
const LOOK: Duration = Duration::from_millis(200);
/// Lines that were typed and not yet read.
const LINES: usize = 16;

/// Calls, or waits for calls, until Ctrl-C or the end of the call.
pub async fn run(options: Options) -> Outcome {
    let config = AviP2pConfig {
        node_name: options.name.clone(),
        listen_port: options.port,
        bootstrap_peers: options.peers.clone(),
        listen_ips: match options.listen.is_empty() {
            true => AviP2pConfig::default().listen_ips,
            false => options.listen.clone(),
        },
        identity: options.identity.clone().map_or(Identity::Generated, Identity::File),
        ..AviP2pConfig::default()
    };
    let (node, mut events) = AviP2p::start(config).await?;
    let mut program = Program::new(node.handle(), options);
    let mut lines = typed();
    let mut look = interval(LOOK);
    let outcome = loop {
        let step = tokio::select! {
            event = events.recv() => match event {
                Some(event) => program.on_event(event).await,
                None => Err("the node has stopped".into()),
            },
            Some(line) = lines.recv() => program.on_line(line.trim()).await,
            next = program.state.next(&mut look) => program.on_next(next).await,
            _ = tokio::signal::ctrl_c() => Ok(true),
        };
        match step {
            Ok(false) => {}
            Ok(true) => break program.finish().await,
            Err(error) => break program.finish().await.and(Err(error)),
        }
    };
    node.shutdown().await?;
    outcome
}

/// What is typed, by lines. The thread ends with the program, because a read of a terminal cannot be given up.
fn typed() -> mpsc::Receiver<String> {
    let (to, lines) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| to.blocking_send(line))
    });
    lines
}

enum State {
    Idle,
    /// Nobody of that name or peer id is there yet.
    Looking {
        whom: String,
        until: Instant,
    },
    /// We call.
    Calling {
        stream: StreamId,
        reader: AudioReader,
    },
    /// We are called.
    Ringing {
        stream: StreamId,
    },
    Open(Box<Call>),
}

/// What a state waits for besides events and keys.
enum Waited {
    Look,
    Call(Next),
}

impl State {
    async fn next(&mut self, look: &mut Interval) -> Waited {
        match self {
            Self::Open(call) => Waited::Call(call.next().await),
            Self::Looking { .. } => {
                look.tick().await;
                Waited::Look
            }
            _ => std::future::pending().await,
        }
    }

    fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Idle | Self::Looking { .. } => None,
            Self::Calling { stream, .. } | Self::Ringing { stream } => Some(*stream),
            Self::Open(call) => Some(call.stream),
        }
    }
}

struct Program {
    handle: AviP2pHandle,
    options: Options,
    state: State,
}

/// Each step says whether the program is at its end.
impl Program {
    fn new(handle: AviP2pHandle, options: Options) -> Self {
        let until = Instant::now() + options.within;
        let state = options.call.clone().map_or(State::Idle, |whom| State::Looking { whom, until });
        Self { handle, options, state }
    }

    async fn on_event(&mut self, event: AviEvent) -> Outcome<bool> {
        match event {
            AviEvent::Started { local_peer_id, listen_addresses } => {
                println!("{} is {local_peer_id} at {}", self.options.name, listen_addresses.join(" "));
            }
            AviEvent::PeerConnected { peer_id, .. } => println!("{peer_id} is here"),
            AviEvent::BootstrapFailed { address, reason, retry_in } => {
                println!("{address}: {reason}; again in {retry_in:?}");
            }
            AviEvent::DiscoveryUnavailable { source, reason } => println!("no discovery by {source:?}: {reason}"),
            AviEvent::AudioStreamRequested { from, stream_id } => self.on_request(from, stream_id).await?,
            AviEvent::AudioStreamAccepted { stream_id, .. } => self.on_accepted(stream_id)?,
            AviEvent::AudioRate { stream_id, bits_per_second, .. } => {
                if let State::Open(call) = &mut self.state
                    && call.stream == stream_id
                {
                    println!("speaking at {} bit/s", call.follow_rate(bits_per_second));
                }
            }
            AviEvent::AudioStreamClosed { stream_id, reason, .. } if self.state.stream() == Some(stream_id) => {
                return self.on_closed(reason);
            }
            AviEvent::NodeFailed { reason } => return Err(format!("the node has failed: {reason}").into()),
            _ => {}
        }
        Ok(false)
    }

    async fn on_request(&mut self, from: PeerId, stream: StreamId) -> Outcome {
        // The caller may have hung up since: then there is nothing to answer.
        let Ok(stats) = self.handle.audio_stats(stream).await else { return Ok(()) };
        let refusal = match self.state {
            _ if !can_play(stats.media.as_ref()) => "this intercom plays Opus in frames of 20 ms only",
            State::Idle => {
                println!("{} calls ({from}): Enter answers, n declines", stats.label.as_deref().unwrap_or("somebody"));
                self.state = State::Ringing { stream };
                return if self.options.drop_in.contains(&from) { self.answer(stream).await } else { Ok(()) };
            }
            _ => "busy",
        };
        or_gone(self.handle.reject_audio_stream(stream, refusal).await)
    }

    async fn answer(&mut self, stream: StreamId) -> Outcome {
        let reader = match self.handle.audio_reader(stream, Playout::default()).await {
            Ok(reader) => reader,
            // AudioStreamClosed says so too.
            Err(AviP2pError::StreamNotFound(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        or_gone(self.handle.accept_audio_stream(stream).await)?;
        self.open(stream, reader)
    }

    fn on_accepted(&mut self, accepted: StreamId) -> Outcome {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Calling { stream, reader } if stream == accepted => self.open(stream, reader),
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    fn open(&mut self, stream: StreamId, reader: AudioReader) -> Outcome {
        let is_speaking = self.options.speaks_at_once();
        println!("the call is open; {}", microphone(is_speaking));
        self.state = State::Open(Box::new(Call::new(stream, reader, &self.options.sound, is_speaking)?));
        Ok(())
    }

    fn on_closed(&mut self, reason: StreamCloseReason) -> Outcome<bool> {
        println!("the call is over: {reason:?}");
        match &mut self.state {
            // What has come is still played, and the reader then ends.
            State::Open(call) => {
                call.fall_silent();
                return Ok(false);
            }
            State::Calling { .. } => return Err(format!("no call: {reason:?}").into()),
            _ => self.state = State::Idle,
        }
        Ok(self.options.once)
    }

    async fn on_next(&mut self, next: Waited) -> Outcome<bool> {
        match (&mut self.state, next) {
            (State::Looking { whom, until }, Waited::Look) => {
                let (whom, is_late) = (whom.clone(), Instant::now() >= *until);
                self.look(&whom, is_late).await?;
            }
            (State::Open(call), Waited::Call(Next::Heard(Some(item)))) => call.hear(item)?,
            (State::Open(_), Waited::Call(Next::Heard(None))) => {
                self.finish().await?;
                return Ok(self.options.once || self.options.call.is_some());
            }
            (State::Open(call), Waited::Call(Next::Said(Some(frame)))) => {
                match call.say(&self.handle, &frame).await {
                    // It has ended in this moment, and its event comes.
                    Err(error) if is_gone(error.as_ref()) => call.fall_silent(),
                    other => other?,
                }
            }
            (State::Open(call), Waited::Call(Next::Said(None))) => {
                call.fall_silent();
                or_gone(self.handle.close_audio_stream(call.stream).await)?;
            }
            _ => {}
        }
        Ok(false)
    }

    /// Calls the peer if it is there, by its id or its name.
    async fn look(&mut self, whom: &str, is_late: bool) -> Outcome {
        let mut named = Vec::new();
        let mut seen = Vec::new();
        for peer in self.handle.connected_peers().await? {
            let name = self.handle.peer_info(&peer).await.ok().and_then(|info| info.name).unwrap_or_default();
            if name == whom || peer.as_str() == whom {
                named.push(peer.clone());
            }
            seen.push(format!("{name} ({peer})"));
        }
        match named.as_slice() {
            [peer] => self.place_call(peer.clone()).await,
            [_, _, ..] => Err(format!("several are named {whom}, call one by its id: {}", seen.join(", ")).into()),
            [] if is_late && seen.is_empty() => Err(format!("{whom} is not here, nor anybody else").into()),
            [] if is_late => Err(format!("{whom} is not here; here are {}", seen.join(", ")).into()),
            [] => Ok(()),
        }
    }

    async fn place_call(&mut self, peer: PeerId) -> Outcome {
        println!("calling {peer}");
        let label = Some(self.options.name.clone());
        let options = StreamOptions { media: Some(media()), label, ..StreamOptions::default() };
        let stream = self.handle.request_stream_with(peer, options).await?;
        let reader = self.handle.audio_reader(stream, Playout::default()).await?;
        self.state = State::Calling { stream, reader };
        Ok(())
    }

    async fn on_line(&mut self, line: &str) -> Outcome<bool> {
        match (&mut self.state, line) {
            (State::Ringing { stream }, "") => {
                let stream = *stream;
                self.answer(stream).await?;
            }
            (State::Ringing { stream }, "n") => or_gone(self.handle.reject_audio_stream(*stream, "declined").await)?,
            (State::Open(call), "") => println!("{}", microphone(call.toggle())),
            (State::Open(_) | State::Calling { .. }, "q") => {
                if let Some(stream) = self.state.stream() {
                    or_gone(self.handle.close_audio_stream(stream).await)?;
                }
            }
            (_, "q") => return Ok(true),
            _ => println!("Enter: answer, or the microphone on and off; n: decline; q: hang up, or end"),
        }
        Ok(false)
    }

    /// Ends the call, if there is one.
    async fn finish(&mut self) -> Outcome {
        let stream = self.state.stream();
        let state = std::mem::replace(&mut self.state, State::Idle);
        if let Some(stream) = stream {
            or_gone(self.handle.close_audio_stream(stream).await)?;
        }
        if let State::Open(call) = state {
            println!("{}", call.finish(&self.handle).await?);
        }
        Ok(())
    }
}

fn microphone(is_on: bool) -> &'static str {
    if is_on { "the microphone is on" } else { "the microphone is off, Enter turns it on" }
}

/// A call may end at the other end at any moment; its event says so.
fn or_gone(outcome: Result<(), AviP2pError>) -> Outcome {
    match outcome {
        Err(error) if !is_gone(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn is_gone(error: &(dyn std::error::Error + 'static)) -> bool {
    use AviP2pError::{StreamEnded, StreamNotAccepted, StreamNotFound, StreamState};
    let error = error.downcast_ref::<AviP2pError>();
    error.is_some_and(|error| {
        matches!(error, StreamEnded { .. } | StreamNotFound { .. } | StreamNotAccepted { .. } | StreamState { .. })
    })
}
