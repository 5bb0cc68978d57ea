//! Is what nodes do over real sockets recorded, and does it replay exactly?

#[path = "common/by_hand.rs"]
mod by_hand;
mod common;
#[allow(dead_code, reason = "other tests cut it")]
#[path = "common/memory.rs"]
mod memory;

use std::path::{Path, PathBuf};
use std::time::Duration;

use avi_p2p::recording::{RecordingError, Replay, Step, StepInput, Subject, why};
use avi_p2p::{
    AviEvent, AviP2p, AviP2pConfig, AviP2pError, Content, ContextOptions, Identity, NetworkKey, RecorderOptions,
    engine, transport,
};
use by_hand::{ByHand, at_once};
use common::{Node, WITHIN, call, config};

/// A frame that nothing else looks like.
const AUDIO: [u8; 160] = {
    let (mut audio, mut n) = ([0; 160], 0);
    while n < 160 {
        audio[n] = (n as u8).wrapping_mul(89) ^ 0x5b;
        n += 1;
    }
    audio
};

/// A folder of its own, removed with its files.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("avi-recorder-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("flight.rec")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn recorded(recorder: RecorderOptions) -> AviP2pConfig {
    AviP2pConfig { recorder: Some(recorder), context: Some(ContextOptions::default()), ..config() }
}

fn in_file(path: &Path, bytes: usize) -> AviP2pConfig {
    recorded(RecorderOptions { file: Some(path.to_owned()), bytes, ..RecorderOptions::default() })
}

/// The steps of a recording, all of which replay.
fn steps(recording: Vec<u8>) -> Vec<Step> {
    let replay = Replay::new(recording).expect("a recording");
    replay.map(|step| step.unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// Two nodes exchange messages, values of the context, and audio both ways.
async fn talk(near: &mut Node, far: &mut Node) {
    near.handle.subscribe("lobby").await.unwrap();
    far.handle.subscribe("lobby").await.unwrap();
    near.wait_subscriber_of(&far.id).await;
    near.handle.publish("lobby", "a message that is nobody else's").await.unwrap();
    far.wait_message().await;
    near.handle.context().set("kitchen.light", near.id.as_str()).await.unwrap();
    far.wait("ContextChanged", |event| matches!(event, AviEvent::ContextChanged { .. }).then_some(())).await;
    let (here, there) = call(near, far).await;
    for _ in 0..30 {
        near.handle.send_audio(here, AUDIO.to_vec()).await.unwrap();
        far.handle.send_audio(there, AUDIO.to_vec()).await.unwrap();
        far.wait("AudioData", |event| matches!(event, AviEvent::AudioData { .. }).then_some(())).await;
        near.wait("AudioData", |event| matches!(event, AviEvent::AudioData { .. }).then_some(())).await;
    }
    near.handle.close_audio_stream(here).await.unwrap();
    far.wait_closed(there).await;
}

#[tokio::test]
async fn a_mesh_that_talks_and_calls_is_recorded_and_replays_exactly() {
    for content in [Content::Redacted, Content::Kept] {
        let options = RecorderOptions { content, ..RecorderOptions::default() };
        let mut first = Node::start(recorded(options.clone())).await;
        let mut second = Node::connected_to(recorded(options.clone()), &mut [&mut first]).await;
        let mut third = Node::connected_to(recorded(options), &mut [&mut first, &mut second]).await;
        talk(&mut first, &mut second).await;
        talk(&mut third, &mut first).await;
        let stats = first.handle.stats().await.unwrap();
        let mut replay = Replay::new(first.handle.recording().await.unwrap()).unwrap();
        let replayed = replay.by_ref().map(Result::unwrap).count();
        assert!(replayed > 100, "{replayed} steps");
        let engine = replay.engine().stats().unwrap();
        assert_eq!(engine.audio_frames_received, stats.audio_frames_received);
        assert_eq!(engine.messages_received, stats.messages_received);
        let handles = [first.handle.clone(), second.handle.clone(), third.handle.clone()];
        for node in [third, second, first] {
            node.node.shutdown().await.unwrap();
        }
        for handle in handles {
            let recording = handle.recording().await.expect("also after the node has ended");
            let has_audio = recording.windows(40).any(|part| part == &AUDIO[..40]);
            assert_eq!(has_audio, content == Content::Kept);
            let last = steps(recording).pop().unwrap();
            assert!(last.outputs.contains(&engine::Output::Stopped), "{last:?}");
        }
    }
}

#[tokio::test]
async fn a_recording_has_no_secret_of_the_node() {
    let secret = [0xc3, 0x5a, 7, 99, 201, 14, 33, 250].repeat(4);
    let key: [u8; 32] = std::array::from_fn(|n| (n as u8).wrapping_mul(37) ^ 0xa5);
    let options = RecorderOptions { content: Content::Kept, ..RecorderOptions::default() };
    let network_key = Some(NetworkKey::from_bytes(key));
    let config = AviP2pConfig {
        identity: Identity::Bytes(secret.clone().try_into().unwrap()),
        network_key,
        ..recorded(options)
    };
    let mut near = Node::start(config).await;
    let far = AviP2pConfig { network_key, ..recorded(RecorderOptions::default()) };
    let mut far = Node::connected_to(far, &mut [&mut near]).await;
    talk(&mut near, &mut far).await;
    let recording = near.handle.recording().await.unwrap();
    for part in secret.windows(6).chain(key.windows(6)) {
        assert!(!recording.windows(part.len()).any(|some| some == part));
    }
    steps(recording);
}

#[tokio::test]
async fn a_file_holds_the_last_segments_and_the_run_before_them() {
    let folder = Folder::new("file");
    let mut near = Node::start(in_file(&folder.file(), 256 * 1024)).await;
    let mut far = Node::connected_to(config(), &mut [&mut near]).await;
    far.handle.subscribe("lobby").await.unwrap();
    near.wait_subscriber_of(&far.id).await;
    let mut recorded = steps(near.handle.recording().await.unwrap());
    assert!(matches!(&recorded[0].input, StepInput::Began(head) if head.first == 0));
    // Until the first segment is gone.
    for round in 0.. {
        assert!(round < 200, "the ring never turns");
        for _ in 0..100 {
            near.handle.publish("lobby", vec![7; 64]).await.unwrap();
            far.wait_message().await;
        }
        recorded = steps(near.handle.recording().await.unwrap());
        if recorded[0].number > 0 {
            break;
        }
    }
    let last = recorded.last().unwrap().number;
    assert!(last - recorded[0].number > 500);
    near.node.shutdown().await.unwrap();
    let (newer, older) = (folder.file(), folder.0.join("flight.rec.1"));
    let len = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(len(&newer) + len(&older) < 300 * 1024, "{} and {} bytes", len(&newer), len(&older));
    let both = [std::fs::read(&older).unwrap(), std::fs::read(&newer).unwrap()].concat();
    assert!(steps(both).pop().unwrap().number > last);
    // The next run keeps the end of this one beside its own.
    let ended = std::fs::read(&newer).unwrap();
    let again = Node::start(in_file(&newer, 256 * 1024)).await;
    let recorded = steps(again.handle.recording().await.unwrap());
    assert!(matches!(&recorded[0].input, StepInput::Began(head) if head.first == 0), "of this run alone");
    assert_eq!(std::fs::read(&older).unwrap(), ended);
    again.node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_recording_stays_as_it_is() {
    let folder = Folder::new("foreign");
    std::fs::write(folder.file(), "a letter").unwrap();
    let error = AviP2p::start(in_file(&folder.file(), 1 << 20)).await.err();
    let Some(AviP2pError::RecorderFile { path, reason }) = error else { panic!("{error:?}") };
    assert_eq!((path, &reason[..]), (folder.file(), "is no recording, and stays as it is: name another file"));
    assert_eq!(std::fs::read(folder.file()).unwrap(), b"a letter");
    let error = AviP2p::start(in_file(&folder.0.join("none/flight.rec"), 1 << 20)).await.err();
    assert!(
        matches!(&error, Some(AviP2pError::RecorderFile { reason, .. }) if reason.contains("is missing")),
        "{error:?}"
    );
    let file = folder.0.join("another.rec");
    let node = Node::start(in_file(&file, 1 << 20)).await;
    let error = AviP2p::start(in_file(&file, 1 << 20)).await.err();
    assert!(
        matches!(&error, Some(AviP2pError::RecorderFile { reason, .. }) if reason.contains("another node uses it")),
        "{error:?}"
    );
    node.node.shutdown().await.unwrap();
    let error = AviP2p::start(in_file(&folder.file(), 1000)).await.err();
    assert!(matches!(&error, Some(AviP2pError::InvalidConfig { field, .. }) if field == "recorder.bytes"), "{error:?}");
}

#[tokio::test]
async fn without_a_recorder_there_is_no_recording() {
    let node = Node::start(config()).await;
    let error = node.handle.recording().await.unwrap_err();
    assert!(error.to_string().contains("`recorder: Some(RecorderOptions::default())`"), "{error}");
}

#[tokio::test]
async fn what_was_written_before_a_kill_is_replayed_up_to_the_last_whole_record() {
    let folder = Folder::new("kill");
    let mut callee = Node::start(config()).await;
    let mut killed = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_records_and_is_killed", "--ignored", "--nocapture"])
        .env("AVI_TEST_CALLEE", &callee.address)
        .env("AVI_TEST_FILE", folder.file())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let stream = callee.accept().await;
    for _ in 0..50 {
        callee.wait("AudioData", |event| matches!(event, AviEvent::AudioData { .. }).then_some(())).await;
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    callee.wait_closed(stream).await;
    let recording = std::fs::read(folder.file()).unwrap();
    let mut sent = 0;
    for step in Replay::new(recording.clone()).unwrap() {
        match step {
            Ok(step) => {
                let input = step.input;
                sent += usize::from(matches!(
                    input,
                    StepInput::Input(engine::Input::Command(engine::Command::SendAudio { .. }))
                ));
            }
            Err(RecordingError::Truncated { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    // The last tenth of a second may be missing.
    assert!(sent >= 30, "{sent} frames");
    let (explained, _) = why(recording, Subject::Stream(avi_p2p::StreamId(1))).unwrap();
    assert!(explained.to_string().contains("the other end accepts it"), "{explained}");
}

/// The other process of the test above.
#[tokio::test]
#[ignore = "run by another test, in a process of its own"]
async fn a_process_that_records_and_is_killed() {
    let Ok(callee) = std::env::var("AVI_TEST_CALLEE") else { return };
    let file = PathBuf::from(std::env::var_os("AVI_TEST_FILE").unwrap());
    let mut node = Node::start(AviP2pConfig { bootstrap_peers: vec![callee], ..in_file(&file, 1 << 20) }).await;
    let peer = node
        .wait("PeerConnected", |event| match event {
            AviEvent::PeerConnected { peer_id, .. } => Some(peer_id.clone()),
            _ => None,
        })
        .await;
    let stream = node.handle.request_stream(peer).await.unwrap();
    node.wait("accepted", |event| matches!(event, AviEvent::AudioStreamAccepted { .. }).then_some(())).await;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let ends = tokio::time::Instant::now() + WITHIN;
    while tokio::time::Instant::now() < ends {
        beat.tick().await;
        if node.handle.send_audio(stream, AUDIO.to_vec()).await.is_err() {
            return;
        }
    }
}

/// No file of this process may have more than 40 KiB: as with a disk that is full.
#[tokio::test]
async fn a_disk_that_is_full_keeps_what_was_recorded_before() {
    let folder = Folder::new("full");
    let limited = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 80; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_records_onto_a_full_disk", "--ignored", "--nocapture"])
        .env("AVI_TEST_FILE", folder.file())
        .output()
        .unwrap();
    assert!(limited.status.success(), "{}{}", String::from_utf8_lossy(&limited.stdout), folder.0.display());
}

/// The other process of the test above.
#[tokio::test]
#[ignore = "run by another test, in a process of its own"]
async fn a_process_that_records_onto_a_full_disk() {
    let Some(file) = std::env::var_os("AVI_TEST_FILE").map(PathBuf::from) else { return };
    let node = Node::start(in_file(&file, 1 << 20)).await;
    let begins = std::time::Instant::now();
    // The recorder tries again after a second, and again.
    while begins.elapsed() < Duration::from_millis(3500) {
        let _ = node.handle.publish("lobby", AUDIO.to_vec()).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(std::fs::metadata(&file).unwrap().len() > 35 * 1024);
    let recording = node.handle.recording().await.unwrap();
    assert!(recording.len() <= 40 * 1024, "{} bytes", recording.len());
    let steps = steps(recording);
    assert!(steps.len() > 100, "{} steps", steps.len());
    assert!(matches!(steps[0].input, StepInput::Began(_)) && steps[0].number == 0, "from the start: {:?}", steps[0]);
    assert!(!file.with_extension("rec.1").exists());
}

#[test]
fn the_recording_of_a_node_that_has_panicked_can_still_be_had() {
    let mut node = ByHand::start(recorded(RecorderOptions::default()));
    let handle = node.node.handle();
    at_once(handle.subscribe("lobby")).unwrap();
    node.next_work(|| panic!("as told"));
    assert_eq!(at_once(handle.subscribe("late")), Err(AviP2pError::ChannelClosed));
    node.settle();
    assert!(node.has_ended());
    let recorded = steps(at_once(handle.recording()).expect("the recording"));
    let is_subscribe = |step: &&Step| match &step.input {
        StepInput::Input(engine::Input::Command(engine::Command::Subscribe { topic, .. })) => topic == "lobby",
        _ => false,
    };
    assert_eq!(recorded.iter().filter(is_subscribe).count(), 1);
}
