//! A call between two terminals.
//!
//! ```text
//! cargo run --release --example audio_call -- listen [--port PORT] [--out FILE.wav] [--calls N]
//! cargo run --release --example audio_call -- call ADDRESS [--wav FILE.wav] [--seconds N]
//! ```
//!
//! The first accepts calls and writes what it hears; the second sends a WAV file of 16-bit samples, or a tone, in real
//! time in frames of 20 ms.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pHandle, EventReceiver, Media, StreamId, StreamOptions};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const FRAME: Duration = Duration::from_millis(20);
const CODEC: &str = "pcm_s16le";
const USAGE: &str = "usage: audio_call listen [--port PORT] [--out FILE.wav] [--calls N] | \
                     audio_call call ADDRESS [--wav FILE.wav] [--seconds N]";

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_writer(std::io::stderr).init();
    if std::env::args().skip(1).any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("audio_call: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("listen") => listen(Options::parse(arguments)?).await,
        Some("call") => {
            let address = arguments.next().ok_or("call needs the address that the listener shows")?;
            place_call(address, Options::parse(arguments)?).await
        }
        _ => Err(USAGE.into()),
    }
}

struct Options {
    port: u16,
    out: String,
    calls: usize,
    wav: Option<String>,
    seconds: u32,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self { port: 0, out: "call.wav".to_owned(), calls: 1, wav: None, seconds: 5 };
        while let Some(argument) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
            let wrong = |error: std::num::ParseIntError| format!("{argument} {value}: {error}");
            match argument.as_str() {
                "--port" => options.port = value.parse().map_err(wrong)?,
                "--out" => options.out = value,
                "--calls" => options.calls = value.parse().map_err(wrong)?,
                "--wav" => options.wav = Some(value),
                "--seconds" => options.seconds = value.parse().map_err(wrong)?,
                other => return Err(format!("unknown argument {other}; {USAGE}").into()),
            }
        }
        Ok(options)
    }
}

async fn listen(options: Options) -> Outcome {
    let config = AviP2pConfig { listen_port: options.port, node_name: "listener".into(), ..Default::default() };
    let (node, mut events) = AviP2p::start(config).await?;
    let handle = node.handle();
    for call in 0..options.calls {
        let stream = wait_for_call(&handle, &mut events).await?;
        let media = handle.audio_stats(stream).await?.media.ok_or("the caller did not say what the audio is")?;
        if media.codec != CODEC {
            return Err(format!("the caller sends {}, this program knows {CODEC} only", media.codec).into());
        }
        let file = if call == 0 { options.out.clone() } else { format!("{call}-{}", options.out) };
        let channels = u16::from(media.channels);
        let spec = hound::WavSpec {
            channels,
            sample_rate: media.sample_rate_hz,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = hound::WavWriter::create(&file, spec)?;
        let (frames, missing) = record(&handle, &mut events, stream, &mut wav, &media).await?;
        wav.finalize()?;
        println!("{frames} frames received, {missing} missing; written to {file}");
    }
    node.shutdown().await?;
    Ok(())
}

async fn wait_for_call(handle: &AviP2pHandle, events: &mut EventReceiver) -> Outcome<StreamId> {
    loop {
        match events.recv().await.ok_or("the node has stopped")? {
            AviEvent::Started { listen_addresses, .. } => {
                println!("waiting for calls at {}", listen_addresses.join(" "));
            }
            AviEvent::AudioStreamRequested { from, stream_id } => {
                println!("call from {from}");
                handle.accept_audio_stream(stream_id).await?;
                return Ok(stream_id);
            }
            _ => {}
        }
    }
}

/// Writes what comes until the call ends, with silence for what is missing.
/// Ctrl-C ends the recording too.
async fn record<W: std::io::Write + std::io::Seek>(
    handle: &AviP2pHandle,
    events: &mut EventReceiver,
    stream: StreamId,
    wav: &mut hound::WavWriter<W>,
    media: &Media,
) -> Outcome<(u64, u64)> {
    let frame_us = u64::from(media.frame_duration_us);
    let samples = u64::from(media.sample_rate_hz) * frame_us / 1_000_000 * u64::from(media.channels);
    let (mut frames, mut missing) = (0, 0);
    loop {
        let event = tokio::select! {
            event = events.recv() => event.ok_or("the node has stopped")?,
            _ = tokio::signal::ctrl_c() => return Ok((frames, missing)),
        };
        match event {
            AviEvent::AudioData { stream_id, data, .. } if stream_id == stream => {
                for sample in data.chunks_exact(2) {
                    wav.write_sample(i16::from_le_bytes([sample[0], sample[1]]))?;
                }
                frames += 1;
                // The call may have ended since; then there are no figures any more.
                if frames % 50 == 0
                    && let Ok(stats) = handle.audio_stats(stream).await
                {
                    println!("{frames} frames, {} lost, jitter {:?}", stats.frames_lost, stats.jitter);
                }
            }
            AviEvent::AudioGap { stream_id, missing: gap, .. } if stream_id == stream => {
                missing += gap;
                for _ in 0..samples * gap {
                    wav.write_sample(0i16)?;
                }
            }
            AviEvent::AudioStreamClosed { stream_id, reason, .. } if stream_id == stream => {
                println!("call ended: {reason:?}");
                return Ok((frames, missing));
            }
            _ => {}
        }
    }
}

struct Audio {
    samples: Vec<i16>,
    rate_hz: u32,
    channels: u8,
}

async fn place_call(address: String, options: Options) -> Outcome {
    let audio = match &options.wav {
        Some(file) => read_wav(file).map_err(|error| format!("{file}: {error}"))?,
        None => tone(options.seconds),
    };
    let config = AviP2pConfig {
        node_name: "caller".into(),
        bootstrap_peers: vec![address],
        enable_mdns: false,
        enable_kad: false,
        ..Default::default()
    };
    let (node, mut events) = AviP2p::start(config).await?;
    let handle = node.handle();
    let media = Media {
        codec: CODEC.into(),
        sample_rate_hz: audio.rate_hz,
        channels: audio.channels,
        frame_duration_us: FRAME.as_micros() as u32,
    };
    let stream = connect(&handle, &mut events, media).await?;
    send(&handle, &mut events, stream, &audio).await?;
    println!("{:#?}", handle.audio_stats(stream).await?);
    handle.close_audio_stream(stream).await?;
    node.shutdown().await?;
    Ok(())
}

async fn connect(handle: &AviP2pHandle, events: &mut EventReceiver, media: Media) -> Outcome<StreamId> {
    loop {
        match events.recv().await.ok_or("the node has stopped")? {
            AviEvent::BootstrapFailed { address, reason, retry_in } => {
                println!("{address}: {reason}; again in {retry_in:?}");
            }
            AviEvent::PeerConnected { peer_id, .. } => {
                println!("calling {peer_id}");
                let options = StreamOptions { media: Some(media.clone()), ..Default::default() };
                handle.request_stream_with(peer_id, options).await?;
            }
            AviEvent::AudioStreamAccepted { stream_id, .. } => return Ok(stream_id),
            AviEvent::AudioStreamClosed { reason, .. } => return Err(format!("no call: {reason:?}").into()),
            _ => {}
        }
    }
}

/// Sends the audio as a microphone would: a frame every 20 ms. The call may end before that, at either end.
async fn send(handle: &AviP2pHandle, events: &mut EventReceiver, stream: StreamId, audio: &Audio) -> Outcome {
    let frame = (audio.rate_hz as usize * FRAME.as_millis() as usize / 1000 * usize::from(audio.channels)).max(1);
    let mut frames = audio.samples.chunks(frame);
    let begun = Instant::now();
    let mut beat = tokio::time::interval(FRAME);
    loop {
        tokio::select! {
            _ = beat.tick() => match frames.next() {
                Some(samples) => {
                    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                    handle.send_audio(stream, bytes).await?;
                }
                None => break,
            },
            event = events.recv() => match event {
                Some(AviEvent::AudioStreamClosed { reason, .. }) => {
                    return Err(format!("the call ended after {:?}: {reason:?}", begun.elapsed()).into());
                }
                Some(_) => {}
                None => return Err("the node has stopped".into()),
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    println!("sent {} frames in {:?}", audio.samples.len().div_ceil(frame) - frames.len(), begun.elapsed());
    Ok(())
}

fn read_wav(file: &str) -> Outcome<Audio> {
    let mut wav = hound::WavReader::open(file)?;
    let spec = wav.spec();
    if spec.bits_per_sample != 16 || spec.sample_format != hound::SampleFormat::Int {
        return Err(format!(
            "expected 16-bit integer samples, found {} bits {:?}",
            spec.bits_per_sample, spec.sample_format
        )
        .into());
    }
    let samples = wav.samples().collect::<Result<_, _>>()?;
    Ok(Audio { samples, rate_hz: spec.sample_rate, channels: u8::try_from(spec.channels)? })
}

/// 440 Hz at 48 kHz, at a quarter of the full scale.
fn tone(seconds: u32) -> Audio {
    const RATE_HZ: u32 = 48_000;
    let sample = |n: u32| (f64::from(n) / f64::from(RATE_HZ) * 440.0 * std::f64::consts::TAU).sin() * 8192.0;
    Audio { samples: (0..RATE_HZ * seconds).map(|n| sample(n) as i16).collect(), rate_hz: RATE_HZ, channels: 1 }
}
