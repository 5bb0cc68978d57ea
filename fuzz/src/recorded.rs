//! Does a recording replay? Of an engine of any test.

use avi_p2p_proto::engine::Engine;
use avi_p2p_proto::recording::{Recorded, RecorderOptions, Replay, Start, StepInput, Store};
use bytes::Bytes;

/// Keeps every segment.
#[derive(Debug, Default)]
struct All(Vec<u8>);

impl Store for All {
    fn begin(&mut self, segment: Vec<u8>) -> Option<usize> {
        let len = segment.len();
        self.0.extend(segment);
        Some(len)
    }

    fn append(&mut self, item: &[u8]) -> bool {
        self.0.extend(item);
        true
    }

    fn has_room(&self) -> bool {
        true
    }

    fn pieces(&self) -> Option<Vec<Bytes>> {
        Some(vec![self.0.clone().into()])
    }
}

/// An engine that is recorded in segments so short that tests have several.
pub(crate) fn recorded(engine: Engine) -> Recorded {
    let options = RecorderOptions { bytes: 256 << 20, ..RecorderOptions::default() };
    let (store, segment_bytes) = (Box::<All>::default(), 12 * 1024);
    Recorded::new(engine, Some(Start { options, store, hash_key: [5; 16], unix_millis: 0, segment_bytes }))
}

/// Replays all of it: each record has the same outputs, and each segment the same state. Returns the number of records
/// and of segments.
pub(crate) fn assert_replays(recorded: &Recorded) -> (usize, usize) {
    let bytes = recorded.recording().expect("it is recorded");
    let (mut records, mut segments) = (0, 0);
    for step in Replay::new(bytes).expect("a recording") {
        match step.expect("the same as before").input {
            StepInput::Began(_) => segments += 1,
            StepInput::End(why) => panic!("{why}"),
            _ => records += 1,
        }
    }
    (records, segments)
}
