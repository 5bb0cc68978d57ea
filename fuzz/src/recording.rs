//! What must hold for bytes that are, or were, a recording?

use avi_p2p_proto::config::AviP2pConfig;
use avi_p2p_proto::engine::{
    Command, CommandId, ConnectionId, Direction, Engine, Input, NetEvent, PublishOutcome, SubstreamId, Time,
};
use avi_p2p_proto::id::StreamId;
use avi_p2p_proto::media::StreamOptions;
use avi_p2p_proto::path::{Key, SessionId};
use avi_p2p_proto::recording::{Pseudonyms, RecordingError, Replay, Subject, Why, reseal};
use avi_p2p_proto::wire::{Frame, Invitation};
use bytes::{Bytes, BytesMut};

use super::recorded::recorded;
use super::script::Script;
use super::{address, peer};

/// The most changes of one input.
const CHANGES: usize = 16;

/// Any bytes, or a recording that was changed anywhere and whose checksums were made right again but for that of the
/// state: an error says where, or it replays. There must be no panic, and no memory beyond that of its bytes.
pub fn recording(data: &[u8]) {
    let mut script = Script::new(data);
    let bytes = match script.byte() {
        0..0x40 => data.get(1..).unwrap_or_default().to_vec(),
        _ => changed(&mut script),
    };
    let len = bytes.len();
    let subject = match script.byte() % 3 {
        0 => Subject::Stream(StreamId(script.number() % 3)),
        1 => Subject::Peer(peer(2)),
        _ => Subject::Message(script.number() % 32),
    };
    match Replay::new(bytes) {
        Ok(replay) => read(replay, subject, len),
        Err(error) => assert_is_within(&error, len),
    }
}

fn read(mut replay: Replay, subject: Subject, len: usize) {
    let (mut why, mut names, mut offset) = (Why::new(subject), Pseudonyms::new(), None);
    while let Some(step) = replay.next() {
        match step {
            Ok(step) => {
                assert!(offset <= Some(step.offset) && step.offset < len, "steps are in order");
                offset = Some(step.offset);
                why.on_step(&step, replay.engine());
                names.learn(&step);
                names.hide(&step.input.to_string());
            }
            Err(error) => {
                assert_is_within(&error, len);
                assert!(replay.next().is_none(), "an error is the end");
            }
        }
    }
    let _ = why.finish().to_string();
}

fn assert_is_within(error: &RecordingError, len: usize) {
    let offset = match error {
        RecordingError::Truncated { offset, began, .. } => {
            assert!(began <= offset);
            *offset
        }
        RecordingError::Foreign { offset }
        | RecordingError::Format { offset, .. }
        | RecordingError::Version { offset, .. }
        | RecordingError::Damaged { offset, .. }
        | RecordingError::StateDiverged { offset, .. } => *offset,
        RecordingError::Diverged(divergence) => divergence.offset,
        #[allow(unreachable_patterns, reason = "from outside of the core there may be others")]
        other => panic!("{other}"),
    };
    assert!(offset <= len, "{error}");
    assert!(!error.to_string().is_empty());
}

/// A short recording of all kinds of inputs, changed as the script says.
fn changed(script: &mut Script) -> Vec<u8> {
    let mut bytes = whole();
    for _ in 0..CHANGES {
        if script.is_over() {
            break;
        }
        let offsets = records(&bytes);
        let Some(&(begin, end)) = offsets.get(any(script, offsets.len().max(1))) else { break };
        match script.byte() % 6 {
            // A byte of a record, whose checksum is right again.
            0..=2 => {
                let at = begin + any(script, end - begin);
                bytes[at] = script.byte();
                reseal(&mut bytes, begin);
            }
            3 => {
                let record = bytes[begin..end].to_vec();
                bytes.splice(end..end, record);
            }
            4 => drop(bytes.drain(begin..end)),
            // Any byte, with the checksum that it had.
            _ => {
                let at = any(script, bytes.len());
                bytes[at] ^= script.byte() | 1;
            }
        }
    }
    if script.flag() {
        bytes.truncate(any(script, bytes.len() + 1));
    }
    bytes
}

/// A number below `bound`.
fn any(script: &mut Script, bound: usize) -> usize {
    (script.number() % bound as u64) as usize
}

/// Where the records begin and end.
fn records(bytes: &[u8]) -> Vec<(usize, usize)> {
    let offsets: Vec<_> = match Replay::new(bytes.to_vec()) {
        Ok(replay) => replay.map_while(Result::ok).map(|step| step.offset).skip(1).collect(),
        Err(_) => Vec::new(),
    };
    offsets.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

fn frames(frames: &[Frame]) -> Bytes {
    let mut bytes = BytesMut::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes.freeze()
}

/// A short recording of a message, a call and a lost connection.
pub(crate) fn whole() -> Vec<u8> {
    let config = AviP2pConfig { enable_mdns: false, enable_kad: false, ..AviP2pConfig::default() };
    let mut engine = recorded(Engine::new(&config, peer(1), [7; 32]));
    let (connection, substream, stream) = (ConnectionId(1), SubstreamId(0), StreamId(1));
    let data = |sequence| Frame::Data { sequence, timestamp_us: 0, payload: Bytes::from_static(&[3; 40]) };
    let media = Invitation { port: 9, id: SessionId::new([3; 8]), key: Key::new([4; 32]) };
    let received = |frames| Input::Net(NetEvent::Received { substream, bytes: frames });
    let inputs = [
        Input::Net(NetEvent::Listening { addresses: vec![address(1)] }),
        Input::Net(NetEvent::Connected {
            connection,
            peer: peer(2),
            address: address(2),
            direction: Direction::Inbound,
        }),
        Input::Net(NetEvent::PeerSubscribed { peer: peer(2), topic: "t".to_owned() }),
        Input::Command(Command::Subscribe { id: CommandId::new(1), topic: "t".to_owned() }),
        Input::Command(Command::Publish {
            id: CommandId::new(2),
            topic: "t".to_owned(),
            data: Bytes::from_static(b"x"),
        }),
        Input::Net(NetEvent::Published { publish: avi_p2p_proto::engine::PublishId(1), outcome: PublishOutcome::Sent }),
        Input::Command(Command::Publish {
            id: CommandId::new(3),
            topic: "u".to_owned(),
            data: Bytes::from_static(b"y"),
        }),
        Input::Net(NetEvent::DatagramsOn { port: 9 }),
        Input::Command(Command::RequestStream {
            id: CommandId::new(4),
            peer: peer(2),
            options: StreamOptions::default(),
        }),
        Input::Net(NetEvent::SubstreamOpened { stream, substream }),
        Input::Net(NetEvent::Writable { substream }),
        received(frames(&[Frame::Accept, Frame::Media(media)])),
        Input::Command(Command::SendAudio { id: CommandId::new(5), stream, data: Bytes::from_static(&[5; 60]) }),
        Input::Net(NetEvent::Writable { substream }),
        received(frames(&[data(0), data(2)])),
        Input::Net(NetEvent::Message { from: peer(2), topic: "t".to_owned(), data: Bytes::from_static(b"z") }),
        Input::Net(NetEvent::Disconnected { connection, peer: peer(2) }),
    ];
    for (n, input) in inputs.into_iter().enumerate() {
        engine.handle(Time::from_millis(10 * n as u64), input);
        while engine.poll_output().is_some() {}
    }
    for seconds in [1, 12, 40] {
        engine.handle_timeout(Time::from_millis(1000 * seconds));
        while engine.poll_output().is_some() {}
    }
    engine.recording().expect("it is recorded")
}
