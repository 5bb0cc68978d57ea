//! Does a reader get the audio of its stream, as it comes or at its pace? Over real sockets.

mod common;

use std::time::{Duration, Instant};

use avi_p2p::{
    AudioFrame, AudioItem, AudioReader, AviEvent, AviP2p, AviP2pConfig, AviP2pError, Limits, Media, Playout,
    PlayoutOptions, StreamId, StreamOptions,
};
use common::{Node, WITHIN, config};

const FRAME: Duration = Duration::from_millis(20);

/// A call from the second node to the first: its name at either end, and the first node's reader.
async fn call_with(
    callee: &mut Node,
    caller: &mut Node,
    playout: Playout,
) -> Result<(StreamId, StreamId, AudioReader), AviP2pError> {
    let media = Media { codec: "pcm_s16le".into(), sample_rate_hz: 16_000, channels: 1, frame_duration_us: 20_000 };
    let options = StreamOptions { media: Some(media), ..StreamOptions::default() };
    let near = caller.handle.request_stream_with(callee.id.clone(), options).await?;
    let far = callee.wait_request().await;
    let reader = callee.handle.audio_reader(far, playout).await?;
    callee.handle.accept_audio_stream(far).await?;
    let accepted = |event: &AviEvent| matches!(event, AviEvent::AudioStreamAccepted { .. }).then_some(());
    caller.wait("AudioStreamAccepted", accepted).await;
    Ok((near, far, reader))
}

async fn two(limits: Limits) -> (Node, Node) {
    let mut first = Node::start(AviP2pConfig { limits, ..config() }).await;
    let second = Node::connected_to(config(), &mut [&mut first]).await;
    (first, second)
}

async fn next(reader: &mut AudioReader) -> Option<AudioItem> {
    tokio::time::timeout(WITHIN, reader.recv()).await.expect("an item comes in time")
}

async fn next_frame(reader: &mut AudioReader) -> AudioFrame {
    match next(reader).await {
        Some(AudioItem::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

/// The next event of the stream's audio, if one comes before that of its end.
async fn audio_event(node: &mut Node) -> Option<Vec<u8>> {
    node.wait("audio or the end", |event| match event {
        AviEvent::AudioData { data, .. } => Some(Some(data.clone())),
        AviEvent::AudioGap { .. } => panic!("{event:?}"),
        AviEvent::AudioStreamClosed { .. } => Some(None),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_paced_reader_gets_bursts_at_the_pace_of_the_audio_until_the_end() {
    let (mut callee, mut caller) = two(Limits::default()).await;
    let (near, far, mut reader) = call_with(&mut callee, &mut caller, Playout::default()).await.unwrap();
    // A second of audio, in bursts of ten frames.
    let began = Instant::now();
    let sender = tokio::spawn(async move {
        let mut bursts = tokio::time::interval(10 * FRAME);
        for n in 0..50 {
            if n % 10 == 0 {
                bursts.tick().await;
            }
            caller.handle.send_audio(near, vec![n; 640]).await.unwrap();
        }
        caller.handle.close_audio_stream(near).await.unwrap();
        caller
    });
    let mut frames = vec![next_frame(&mut reader).await];
    let mut items = 1u32;
    while let Some(item) = next(&mut reader).await {
        // Never early; how late it may be depends on the machine.
        assert!(began.elapsed() >= FRAME * items, "{items} items after {:?}", began.elapsed());
        items += 1;
        if items == 5 {
            let stats = callee.handle.audio_stats(far).await.unwrap().playout.expect("the reader is paced");
            assert!((1..=5).contains(&stats.played), "{stats:?}");
        }
        frames.extend(match item {
            AudioItem::Frame(frame) => Some(frame),
            AudioItem::Conceal => None,
        });
    }
    let stats = reader.playout_stats().unwrap();
    assert_eq!(stats.played, frames.len() as u64);
    assert_eq!(stats.played + stats.late + stats.removed, 50, "{stats:?}");
    assert!(frames.is_sorted_by(|one, two| one.sequence < two.sequence));
    assert!(frames.iter().all(|frame| frame.data == vec![frame.sequence as u8; 640]));
    assert_eq!(audio_event(&mut callee).await, None, "no audio among the events");
    drop(reader);
    assert_eq!(callee.handle.audio_stats(far).await.unwrap().playout, Some(stats), "after the end of both");
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn a_raw_reader_gets_each_frame_with_sequence_and_timestamp() {
    let (mut callee, mut caller) = two(Limits::default()).await;
    let (near, far, mut reader) = call_with(&mut callee, &mut caller, Playout::Raw).await.unwrap();
    let began = Instant::now();
    for n in 0..5u8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        caller.handle.send_audio(near, vec![n]).await.unwrap();
    }
    let mut before = None;
    for n in 0..5 {
        let frame = next_frame(&mut reader).await;
        assert_eq!((frame.sequence, frame.missing, frame.data.as_slice()), (u64::from(n), 0, [n].as_slice()));
        assert!(frame.timestamp >= Duration::from_millis(5) * n.into() && frame.timestamp <= began.elapsed());
        assert_eq!(frame.timestamp.is_zero(), n == 0, "the first frame is the beginning");
        let arrival = before.replace(frame.arrival);
        assert!(arrival.is_none_or(|before| before <= frame.arrival));
    }
    assert_eq!(callee.handle.audio_stats(far).await.unwrap().playout, None);
    let again = callee.handle.audio_reader(far, Playout::Raw).await.unwrap_err();
    assert!(matches!(again, AviP2pError::StreamState { .. }), "{again}");
    caller.handle.close_audio_stream(near).await.unwrap();
    assert_eq!(next(&mut reader).await, None);
    assert_eq!(next(&mut reader).await, None, "and so it stays");
}

#[tokio::test]
async fn a_slow_reader_loses_the_oldest_frames_and_is_told() {
    let limits = Limits { event_audio_frames: 10, ..Limits::default() };
    let (mut callee, mut caller) = two(limits).await;
    let (near, _, mut reader) = call_with(&mut callee, &mut caller, Playout::Raw).await.unwrap();
    assert_eq!(
        {
            send(&caller, near, 0..1).await;
            next_frame(&mut reader).await.sequence
        },
        0
    );
    send(&caller, near, 1..101).await;
    caller.handle.close_audio_stream(near).await.unwrap();
    assert_eq!(audio_event(&mut callee).await, None, "all has come");
    let frame = next_frame(&mut reader).await;
    assert_eq!((frame.sequence, frame.missing, frame.data), (91, 90, vec![91]));
    for n in 92..101 {
        let frame = next_frame(&mut reader).await;
        assert_eq!((frame.sequence, frame.missing), (n, 0));
    }
    assert_eq!(next(&mut reader).await, None);
    assert_eq!(callee.handle.stats().await.unwrap().events_dropped_audio_frames, 90);
}

async fn send(caller: &Node, stream: StreamId, frames: std::ops::Range<u8>) {
    for n in frames {
        caller.handle.send_audio(stream, vec![n]).await.unwrap();
    }
}

#[tokio::test]
async fn frames_after_a_reader_was_dropped_are_events_again() {
    let (mut callee, mut caller) = two(Limits::default()).await;
    let (near, far, mut reader) = call_with(&mut callee, &mut caller, Playout::Raw).await.unwrap();
    send(&caller, near, 0..1).await;
    next_frame(&mut reader).await;
    drop(reader);
    send(&caller, near, 1..2).await;
    assert_eq!(audio_event(&mut callee).await, Some(vec![1]));
    let mut reader = callee.handle.audio_reader(far, Playout::Raw).await.unwrap();
    send(&caller, near, 2..3).await;
    assert_eq!(next_frame(&mut reader).await.sequence, 2);
    caller.handle.close_audio_stream(near).await.unwrap();
    assert_eq!(audio_event(&mut callee).await, None);
    let unknown = callee.handle.audio_reader(far, Playout::Raw).await.unwrap_err();
    assert!(matches!(unknown, AviP2pError::StreamNotFound(_)), "{unknown}");
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    let node = Node::start(config()).await;
    let second = Duration::from_secs(1);
    for options in [
        PlayoutOptions { max_delay: 11 * second, ..PlayoutOptions::default() },
        PlayoutOptions { min_delay: second, ..PlayoutOptions::default() },
        PlayoutOptions { frame_duration: Some(2 * second), ..PlayoutOptions::default() },
    ] {
        let error = node.handle.audio_reader(StreamId(1), Playout::Paced(options)).await.unwrap_err();
        assert!(matches!(error, AviP2pError::InvalidOptions { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_node_that_has_nothing_else_to_do_keeps_the_pace() {
    let (mut callee, mut caller) = two(Limits::default()).await;
    let (near, _, mut reader) = call_with(&mut callee, &mut caller, Playout::default()).await.unwrap();
    send(&caller, near, 0..100).await;
    caller.handle.close_audio_stream(near).await.unwrap();
    while next(&mut reader).await.is_some() {}
    // A reader that is late by more than 0.2 s loses frames. That may happen on a busy machine, but not all the time.
    let stats = reader.playout_stats().unwrap();
    assert!(stats.played >= 50, "{stats:?}");
}

#[tokio::test]
async fn a_paced_reader_that_has_more_to_play_ends_with_the_node() {
    let (mut callee, mut caller) = two(Limits::default()).await;
    let (near, _, mut reader) = call_with(&mut callee, &mut caller, Playout::default()).await.unwrap();
    // More than a minute of audio: without the node's clock it would wait for ever.
    for n in 0..4000u32 {
        caller.handle.send_audio(near, n.to_be_bytes().to_vec()).await.unwrap();
    }
    next_frame(&mut reader).await;
    let (rest, stopped) = tokio::join!(
        tokio::time::timeout(WITHIN, async { while reader.recv().await.is_some() {} }),
        callee.node.shutdown()
    );
    rest.expect("it ends");
    stopped.unwrap();
    assert!(reader.playout_stats().unwrap().buffered > Duration::from_secs(1));
}

/// The reader is on an executor that is not the node's, and its clock is the node's.
#[test]
fn a_paced_reader_of_a_node_on_tokio_may_be_anywhere_and_ends_with_the_node() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut reader, near, caller, callee) = runtime.block_on(async {
        let (node, events) = AviP2p::start_on_tokio(config()).await.unwrap();
        let (handle, id) = (node.handle(), node.local_peer_id().clone());
        let mut callee = Node { node, handle, events, id, address: String::new() };
        callee.address = callee
            .wait("Started", |event| match event {
                AviEvent::Started { listen_addresses, .. } => listen_addresses.first().cloned(),
                _ => None,
            })
            .await;
        let mut caller = Node::connected_to(config(), &mut [&mut callee]).await;
        let (near, _, reader) = call_with(&mut callee, &mut caller, Playout::default()).await.unwrap();
        (reader, near, caller, callee)
    });
    smol::block_on(async {
        send(&caller, near, 0..10).await;
        for n in 0..10 {
            let Some(AudioItem::Frame(frame)) = reader.recv().await else { panic!("no frame {n}") };
            assert_eq!(frame.sequence, n);
        }
        let concealed = smol::stream::StreamExt::take(&mut reader, 5);
        let concealed: Vec<_> = smol::stream::StreamExt::collect(concealed).await;
        assert_eq!(concealed, [const { AudioItem::Conceal }; 5]);
        // The sender pauses: nothing comes, until the node has stopped.
        let ended = smol::unblock(move || runtime.block_on(callee.node.shutdown()));
        let (item, ended) = futures::join!(reader.recv(), ended);
        assert_eq!(item, None);
        ended.unwrap();
    });
}
