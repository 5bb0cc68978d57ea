//! Is a recording the truth, whole or damaged, and does it tell nothing that it must not?

use std::net::SocketAddr;

use super::*;
use crate::recording::{Content, Memory, Recorded, RecorderOptions, RecordingError, Replay, Start, StepInput, Store};

/// What is nowhere else in a recording.
const AUDIO: [u8; 24] = *b"the audio of this call..";
const TEXT: &[u8] = b"what nobody else must read";

fn start(content: Content, bytes: usize) -> Start {
    let options = RecorderOptions { content, bytes, ..RecorderOptions::default() };
    let segment_bytes = options.segment_bytes();
    Start { options, store: Box::<Memory>::default(), hash_key: [0x5a; 16], unix_millis: 0, segment_bytes }
}

fn udp(n: usize) -> SocketAddr {
    format!("192.0.2.{}:9000", n + 1).parse().unwrap()
}

/// Two nodes that talk by messages, by a substream and by datagrams, and a call that ends.
fn conversation() -> Mesh {
    let mut mesh = Mesh::pair(config(), config());
    mesh.subscribe(1, "kitchen").unwrap();
    mesh.publish(0, "kitchen", TEXT).unwrap();
    for has_datagrams in [false, true] {
        if has_datagrams {
            (0..2).for_each(|n| mesh.has_datagrams(n, udp(n)));
        }
        mesh.cuts = vec![5, 0, 90];
        (0..2).for_each(|n| drop(mesh.events(n)));
        let (here, there) = mesh.call(StreamOptions::default());
        for _ in 0..20 {
            mesh.send(0, here, &AUDIO).unwrap();
            mesh.send(1, there, &AUDIO).unwrap();
            mesh.run_for(millis(20));
        }
        mesh.close(0, here).unwrap();
        mesh.run_for(millis(100));
    }
    mesh
}

/// The inputs of a node's recording once more, recorded with other options.
fn recorded_again(recording: Vec<u8>, start: Start) -> Vec<u8> {
    let replay = Replay::new(recording.clone()).unwrap();
    let engine = Replay::new(recording).unwrap().into_engine();
    let mut recorded = Recorded::new(engine, Some(start));
    for step in replay {
        let step = step.unwrap();
        match step.input {
            StepInput::Input(input) => recorded.handle(step.time, input),
            StepInput::Timeout => recorded.handle_timeout(step.time),
            StepInput::Began(_) | StepInput::End(_) => continue,
        }
        while recorded.poll_output().is_some() {}
    }
    recorded.recording().unwrap()
}

fn steps(recording: &[u8]) -> usize {
    Replay::new(recording.to_vec()).unwrap().map(Result::unwrap).count()
}

fn contains(recording: &[u8], part: &[u8]) -> bool {
    recording.windows(part.len()).any(|some| some == part)
}

#[test]
fn a_recording_has_no_payload_no_key_and_no_secret() {
    let mesh = conversation();
    let mut keys = 0;
    for node in &mesh.nodes {
        let recording = node.recording();
        assert!(!contains(&recording, &AUDIO[..8]) && !contains(&recording, &TEXT[..8]), "a payload");
        // The bytes of an audio frame are not there in part either: two in a row could be chance.
        for part in AUDIO.windows(4).chain(TEXT.windows(4)) {
            assert!(!contains(&recording, part), "{:?}", String::from_utf8_lossy(part));
        }
        for (_, output) in &node.trace {
            if let Output::Net(NetAction::Write { bytes, .. }) = output {
                keys += mesh.nodes.iter().filter(|node| has_key(bytes, &node.recording())).count();
            }
        }
        let seed = [node.id.as_str().len() as u8; 8];
        assert!(!contains(&recording, &seed));
    }
    assert_eq!(keys, 0, "the key of a call");
    let invitations = mesh.nodes.iter().flat_map(|node| &node.trace).filter(|(_, output)| is_invitation(output));
    assert!(invitations.count() >= 2, "nobody was invited: the test sees no key");
}

fn keys_in(bytes: &Bytes) -> Vec<[u8; 32]> {
    let (mut decoder, mut bytes, mut keys) = (crate::wire::Decoder::new(100_000), bytes.clone(), Vec::new());
    while let Ok(Some(frame)) = decoder.decode(&mut bytes) {
        if let crate::wire::Frame::Media(invitation) = frame {
            keys.push(*invitation.key.as_bytes());
        }
    }
    keys
}

fn is_invitation(output: &Output) -> bool {
    matches!(output, Output::Net(NetAction::Write { bytes, .. }) if !keys_in(bytes).is_empty())
}

fn has_key(written: &Bytes, recording: &[u8]) -> bool {
    keys_in(written).iter().any(|key| key.windows(6).any(|part| contains(recording, part)))
}

#[cfg(feature = "context")]
#[test]
fn a_recording_has_no_signing_key_and_the_whole_context() {
    let config = AviP2pConfig { context: Some(crate::context::ContextOptions::default()), ..config() };
    let mut node = Node::new(1, config);
    let write = ContextWrite::Set { path: "a".to_owned(), value: "a value of the context".into() };
    assert_eq!(node.ask(|id| Command::WriteContext { id, write }), Ok(()));
    node.wait(secs(40));
    let recording = node.recording();
    // The secret of node 1 in these tests is 32 times the byte 1; the seed of its engine too.
    assert!(!contains(&recording, &[1; 16]) && contains(&recording, b"a value of the context"));
}

#[test]
fn equal_payloads_have_equal_hashes_and_other_keys_give_others() {
    let recording = conversation().nodes[0].recording();
    let given = |recording: &[u8]| -> Vec<u64> {
        let sent = Replay::new(recording.to_vec())
            .unwrap()
            .map(Result::unwrap)
            .filter(|step| matches!(step.input, StepInput::Input(Input::Command(Command::SendAudio { .. }))));
        sent.map(|step| step.payload.unwrap()).collect()
    };
    let hashes = given(&recording);
    assert!(hashes.len() == 40 && hashes.iter().all(|hash| *hash == hashes[0]));
    let other = recorded_again(recording, Start { hash_key: [1; 16], ..start(Content::Redacted, 1 << 22) });
    assert_ne!(given(&other)[0], hashes[0]);
}

#[test]
fn what_was_kept_is_there_and_still_no_key() {
    let mut node = Node::with_peer(1, 2, config());
    let mut kept =
        Recorded::new(Engine::new(&node.config, node.id.clone(), [1; 32]), Some(start(Content::Kept, 1 << 20)));
    for input in [
        Input::Command(Command::Subscribe { id: CommandId::new(1), topic: "t".to_owned() }),
        Input::Net(NetEvent::Message { from: peer(2), topic: "t".to_owned(), data: Bytes::from_static(TEXT) }),
    ] {
        kept.handle(Time::ZERO, input);
        while kept.poll_output().is_some() {}
    }
    let recording = kept.recording().unwrap();
    assert!(contains(&recording, TEXT));
    let last = Replay::new(recording).unwrap().map(Result::unwrap).last().unwrap();
    let StepInput::Input(Input::Net(NetEvent::Message { data, .. })) = last.input else { panic!("{last:?}") };
    assert_eq!(data, TEXT);
    node.wait(secs(1));
}

#[test]
fn a_ring_is_bounded_and_replays_from_its_snapshot() {
    let mut node = Node::with_peer(1, 2, config());
    let mut recorded =
        Recorded::new(Engine::new(&node.config, node.id.clone(), [1; 32]), Some(start(Content::Redacted, 64 * 1024)));
    let mut most = 0;
    for n in 0..20_000u64 {
        let input = match n % 3 {
            0 => Input::Net(NetEvent::MessageRefused),
            1 => Input::Net(NetEvent::Discovered {
                peer: peer((n % 40) as u16),
                addresses: vec![address((n % 50) as u16)],
                source: DiscoverySource::Kademlia,
            }),
            _ => Input::Command(Command::Publish {
                id: CommandId::new(n),
                topic: "t".to_owned(),
                data: Bytes::from(vec![7; 50]),
            }),
        };
        recorded.handle(Time::from_millis(n), input);
        while recorded.poll_output().is_some() {}
        most = most.max(recorded.recording().unwrap().len());
    }
    // A segment ends after the record that has filled it.
    assert!((32 * 1024..66 * 1024).contains(&most), "{most} bytes");
    let mut replay = Replay::new(recorded.recording().unwrap()).unwrap();
    let first = replay.next().unwrap().unwrap();
    assert!(first.number > 10_000, "the first records are gone: {first:?}");
    let last = replay.by_ref().map(Result::unwrap).last().unwrap();
    assert_eq!(last.number, 19_999);
    assert_eq!(replay.engine().stats(), recorded.stats());
    node.wait(secs(1));
}

#[test]
fn a_recording_that_is_cut_anywhere_is_told_as_such_after_the_last_whole_record() {
    let recording = recorded_again(conversation().nodes[0].recording(), start(Content::Redacted, 1 << 22));
    let whole = steps(&recording);
    let mut ends = 0;
    for len in 0..recording.len() {
        let cut = Bytes::copy_from_slice(&recording[..len]);
        let (read, error) = match Replay::new(cut) {
            Err(error) => (0, Some(error)),
            Ok(replay) => replay.fold((0, None), |(read, _), step| match step {
                Ok(_) => (read + 1, None),
                Err(error) => (read, Some(error)),
            }),
        };
        assert!(read < whole);
        match error {
            // Between two records.
            None => ends += 1,
            Some(RecordingError::Truncated { offset, began, .. }) => assert!(began <= offset && offset <= len),
            Some(other) => panic!("cut at {len}: {other}"),
        }
    }
    assert_eq!(ends, whole - 1, "a recording may end after each record");
}

#[test]
fn a_byte_that_was_changed_is_found_where_it_is() {
    let recording = recorded_again(conversation().nodes[0].recording(), start(Content::Redacted, 1 << 22));
    let mut number = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..2000 {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        let (at, bit) = (number as usize % recording.len(), 1 << (number >> 61));
        let mut damaged = recording.clone();
        damaged[at] ^= bit;
        let error = match Replay::new(damaged) {
            Err(error) => Some(error),
            Ok(replay) => replay.filter_map(Result::err).last(),
        };
        let text = error.as_ref().map(ToString::to_string);
        match error {
            Some(
                RecordingError::Damaged { offset, .. }
                | RecordingError::Foreign { offset }
                | RecordingError::Format { offset, .. },
            ) => assert!(offset <= at, "{at}: {text:?}"),
            // The length of the last whole item.
            Some(RecordingError::Truncated { began, .. }) => assert!(began <= at, "{at}: {text:?}"),
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn other_bytes_are_no_recording_and_other_formats_are_told() {
    let error = |bytes: &[u8]| Replay::new(bytes.to_vec()).unwrap_err().to_string();
    assert_eq!(error(b"RIFF1234WAVE"), "not a recording: byte 0 is not of `avi-rec`, with which one begins");
    assert!(error(b"avi-rec\x09").starts_with("byte 7: a recording of format 9, and this version reads format 1"));
    assert!(error(b"").starts_with("the recording ends at byte 0"));
    assert!(error(b"avi").contains("ends at byte 3"));
}

#[test]
fn a_difference_is_found_at_its_record() {
    let recording = conversation().nodes[0].recording();
    let mut changed = recorded_again(recording, start(Content::Redacted, 1 << 22));
    // A record is replaced by one with another answer, and a checksum that is right.
    let (number, offset) = Replay::new(changed.clone())
        .unwrap()
        .map(Result::unwrap)
        .filter(|step| matches!(step.input, StepInput::Input(Input::Command(Command::SendAudio { .. }))))
        .map(|step| (step.number, step.offset))
        .nth(25)
        .unwrap();
    crate::recording::plant(&mut changed, offset);
    let error = Replay::new(changed).unwrap().filter_map(Result::err).last().unwrap();
    let RecordingError::Diverged(divergence) = &error else { panic!("{error}") };
    assert_eq!((divergence.number, divergence.offset), (number, offset));
    let text = error.to_string();
    assert!(text.contains(&format!("record {number}, SendAudio")), "{text}");
}

/// Takes nothing for a while.
#[derive(Debug, Default)]
struct Slow {
    memory: Memory,
    items: usize,
}

impl Store for Slow {
    fn begin(&mut self, segment: Vec<u8>) -> Option<usize> {
        self.memory.begin(segment)
    }

    fn append(&mut self, item: &[u8]) -> bool {
        self.items += 1;
        self.items != 5 && self.memory.append(item)
    }

    fn has_room(&self) -> bool {
        true
    }

    fn pieces(&self) -> Option<Vec<Bytes>> {
        self.memory.pieces()
    }
}

#[test]
fn after_a_gap_the_recording_goes_on_with_the_state_of_the_engine() {
    let node = Node::new(1, config());
    let start = Start { store: Box::<Slow>::default(), ..start(Content::Redacted, 1 << 20) };
    let mut recorded = Recorded::new(Engine::new(&node.config, node.id.clone(), [1; 32]), Some(start));
    for n in 0..40u64 {
        let now = Time::from_millis(100 * n);
        match n {
            // The last one that is not recorded, and the first one that is.
            13 => {
                let from = "192.0.2.9:9000".parse().unwrap();
                recorded.handle(now, Input::Net(NetEvent::Datagram { from, bytes: vec![7; 39].into() }));
            }
            14 => recorded.handle_timeout(now),
            _ => recorded.handle(now, Input::Net(NetEvent::InboundFailed)),
        }
        while recorded.poll_output().is_some() {}
    }
    let mut replay = Replay::new(recorded.recording().unwrap()).unwrap();
    let numbers: Vec<_> = replay.by_ref().map(|step| step.unwrap().number).collect();
    // The fifth is refused, and a second later recording begins again.
    assert_eq!(numbers[..6], [0, 0, 1, 2, 3, 14], "{numbers:?}");
    assert_eq!(numbers.last(), Some(&39));
    assert_eq!(replay.engine().stats().unwrap().inbound_failed, 38);
}

#[test]
fn a_state_that_does_not_fit_ends_the_recording_with_what_to_do() {
    let node = Node::new(1, config());
    let mut recorded =
        Recorded::new(Engine::new(&node.config, node.id.clone(), [1; 32]), Some(start(Content::Redacted, 1024)));
    recorded.handle(Time::ZERO, Input::Net(NetEvent::InboundFailed));
    while recorded.poll_output().is_some() {}
    let recording = recorded.recording().unwrap();
    assert!(contains(&recording, b"a quarter of recorder.bytes is 256: raise it"));
}

#[test]
fn the_input_at_which_an_engine_panics_is_the_last_record() {
    let node = Node::new(1, config());
    let mut recorded =
        Recorded::new(Engine::new(&node.config, node.id.clone(), [1; 32]), Some(start(Content::Redacted, 1 << 20)));
    recorded.handle(Time::ZERO, Input::Net(NetEvent::InboundFailed));
    while recorded.poll_output().is_some() {}
    recorded.handle(Time::from_millis(7), Input::Net(NetEvent::Datagram { from: udp(3), bytes: vec![9; 60].into() }));
    // As if the engine had not come back.
    recorded.fail();
    let last = Replay::new(recorded.recording().unwrap()).unwrap().map(Result::unwrap).last().unwrap();
    assert!(!last.is_answered && last.time == Time::from_millis(7));
    let StepInput::Input(Input::Net(NetEvent::Datagram { bytes, .. })) = last.input else { panic!() };
    assert_eq!((bytes.len(), bytes[0]), (60, 9));
}

#[test]
fn pseudonyms_hide_every_name_and_keep_one_word_for_each() {
    let mesh = conversation();
    let recording = mesh.nodes[0].recording();
    let (mut names, mut shown) = (crate::recording::Pseudonyms::new(), String::new());
    for step in Replay::new(recording).unwrap() {
        let step = step.unwrap();
        names.learn(&step);
        shown += &names.hide(&format!("{} {:?}\n", step.input, step.outputs));
    }
    for name in [mesh.id(0).as_str(), mesh.id(1).as_str(), "kitchen", "192.0.2.", "avi-node"] {
        assert!(!shown.contains(name), "{name}");
    }
    for word in ["peer-2", "topic-1", "host-1", "name-1"] {
        assert!(shown.contains(word), "{word}");
    }
}

#[test]
fn a_step_is_found_by_its_peer_and_by_its_stream() {
    use crate::recording::Mentions;
    let mesh = conversation();
    let (mut replay, mut mentions) = (Replay::new(mesh.nodes[0].recording()).unwrap(), Mentions::default());
    let (mut datagrams, mut frames, mut of_peer) = (0, 0, 0);
    while let Some(step) = replay.next() {
        let step = step.unwrap();
        mentions.on_step(&step, replay.engine());
        of_peer += usize::from(mentions.peers().contains(&mesh.id(1)));
        let has = |stream| mentions.streams().contains(&StreamId(stream));
        match &step.input {
            StepInput::Input(Input::Net(NetEvent::Datagram { .. })) => {
                assert!(has(2) && !has(1), "{step:?}");
                datagrams += 1;
            }
            StepInput::Input(Input::Command(Command::SendAudio { stream, .. })) => {
                assert!(has(stream.0) && mentions.peers().contains(&mesh.id(1)));
                frames += 1;
            }
            StepInput::Input(Input::Net(NetEvent::Received { .. })) => {
                assert_eq!(mentions.streams().len(), 1, "{step:?}");
            }
            _ => {}
        }
    }
    assert!(datagrams > 20 && frames == 40 && of_peer > 100, "{datagrams} {frames} {of_peer}");
}

/// `AVI_RECORDING_ACCEPT=1 cargo test -p avi-p2p-proto golden` writes it anew: after a change of the format, which needs
/// another number, of what the engine keeps, or of the version.
#[test]
fn the_golden_recording_is_still_written_and_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/tests/golden.rec");
    let recording = crate::fuzzing::whole();
    if std::env::var_os("AVI_RECORDING_ACCEPT").is_some() {
        std::fs::write(path, &recording).unwrap();
    }
    let golden = std::fs::read(path).unwrap();
    assert!(golden.len() < 8 * 1024 && steps(&golden) > 15, "{} bytes", golden.len());
    let same = golden.iter().zip(&recording).take_while(|(one, other)| one == other).count();
    assert_eq!(
        (same, golden.len()),
        (golden.len(), recording.len()),
        "byte {same} is another: see this test's comment"
    );
}
