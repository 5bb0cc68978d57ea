//! What did an engine do, and does this one do the same?

use std::time::Duration;

use bytes::Bytes;

use super::digest::Digest;
use super::error::{Divergence, RecordingError};
use super::format::{Answer, Began, Event, Head, Kind, Part, Record, part, put_value, value};
use crate::engine::{Engine, Input, Output, Time};

/// Replays a recording, one step after another, in an engine as the one that was recorded. Ends after an error.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use avi_p2p_proto::recording::Replay;
/// let mut replay = Replay::new(std::fs::read("flight.rec")?)?;
/// while let Some(step) = replay.next() {
///     let step = step?;
///     println!("{} at {:?}: {}", step.number, step.time.0, step.input);
///     println!("{:?}, {} streams", step.outputs, replay.engine().stats()?.streams_now);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Replay {
    bytes: Bytes,
    at: usize,
    head: Head,
    engine: Engine,
    /// The number of the next record.
    number: u64,
    now: Time,
    wall: u64,
    /// The segment that has begun, until it is told.
    began: Option<usize>,
    is_over: bool,
}

/// One step of a replay.
#[derive(Debug)]
pub struct Step {
    /// Its number: records are counted from the start of the node. A segment has the number of its first record.
    pub number: u64,
    /// The engine's time.
    pub time: Time,
    /// Wall time in milliseconds since 1970, if the engine was told it before this input.
    pub wall_millis: Option<u64>,
    /// Where it begins in the recording.
    pub offset: usize,
    /// What went in.
    pub input: StepInput,
    /// A keyed hash of the payloads that went in, the same for the same payloads in one run of a node.
    pub payload: Option<u64>,
    /// What came out.
    pub outputs: Vec<Output>,
    /// Whether the recorded engine has answered. If not, it has panicked at this input, which this engine has not been
    /// given: [`Replay::into_engine`] lets a debugger do that.
    pub is_answered: bool,
}

/// What went into the engine. Payloads that were redacted are zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one at a time")]
pub enum StepInput {
    /// A segment begins. No input: the engine has the state of the recording.
    Began(Head),
    /// A command, or an event of the network.
    Input(Input),
    /// [`Engine::handle_timeout`].
    Timeout,
    /// Nothing more was recorded, and why.
    End(String),
}

impl std::fmt::Display for StepInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Began(head) => match head.began {
                Began::Start => write!(f, "the node starts"),
                Began::Full => write!(f, "the recording goes on"),
                Began::Gap => write!(f, "the recording goes on after a gap"),
            },
            Self::Input(Input::Command(command)) => write!(f, "{command:?}"),
            Self::Input(Input::Net(event)) => write!(f, "{event:?}"),
            Self::Timeout => write!(f, "timeout"),
            Self::End(why) => write!(f, "the recording ends: {why}"),
        }
    }
}

impl Replay {
    /// The replay of a recording, before its first step. Of recordings one after another, as of a file and the one
    /// before it, the older comes first.
    ///
    /// # Errors
    /// [`RecordingError`] if it is no recording of this version, or its first segment is damaged.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, RecordingError> {
        let bytes = bytes.into();
        let (head, state, at) = segment(&bytes, 0)?;
        let engine = engine(&head, state.0, state.1)?;
        let (number, now) = (head.first, head.time);
        Ok(Self { bytes, at, head, engine, number, now, wall: 0, began: Some(0), is_over: false })
    }

    /// What the last segment says of itself.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The engine, after the last step.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, after the last step. It has no secret: what it seals is not sealed.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    /// The time of the last step.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Whether this version of the engine has made the recording. Another may do something else, and rightly so.
    pub fn is_same_version(&self) -> bool {
        is_same_version(&self.head)
    }

    fn step(&mut self) -> Result<Option<Step>, RecordingError> {
        if let Some(offset) = self.began.take() {
            return Ok(Some(self.bare(offset, StepInput::Began(self.head.clone()))));
        }
        let offset = self.at;
        match part(&self.bytes, offset)? {
            None => Ok(None),
            Some((Part::Begin, _)) => {
                self.begin(offset)?;
                self.step()
            }
            Some((Part::Item { kind: Kind::Record, body }, next)) => {
                let record = value(body, offset, "a record")?;
                self.at = next;
                self.replay(offset, record).map(Some)
            }
            Some((Part::Item { kind: Kind::End, body }, next)) => {
                let why = String::from_utf8_lossy(body).into_owned();
                self.at = next;
                Ok(Some(self.bare(offset, StepInput::End(why))))
            }
            Some((Part::Item { .. }, _)) => {
                Err(RecordingError::Damaged { offset, expected: "a record or a segment".to_owned() })
            }
        }
    }

    fn bare(&self, offset: usize, input: StepInput) -> Step {
        let (number, time) = (self.number, self.now);
        Step { number, time, wall_millis: None, offset, input, payload: None, outputs: Vec::new(), is_answered: true }
    }

    /// Goes on with the next segment. If it follows the last one, its state is that of the engine.
    fn begin(&mut self, offset: usize) -> Result<(), RecordingError> {
        let bytes = self.bytes.clone();
        let (head, (state, state_at), next) = segment(&bytes, offset)?;
        let follows = head.began == Began::Full
            && (&head.local, head.unix_millis) == (&self.head.local, self.head.unix_millis)
            && head.first == self.number;
        if follows && is_same_version(&head) {
            let mut own = Vec::new();
            let written = put_value(&self.engine, &mut own);
            if written.is_err() || own != state {
                let recorded = engine(&head, state, state_at)?;
                let difference = difference(&recorded, &self.engine);
                return Err(RecordingError::StateDiverged { offset: state_at, number: head.first, difference });
            }
        } else {
            self.engine = engine(&head, state, state_at)?;
        }
        (self.number, self.now, self.wall) = (head.first, head.time, 0);
        (self.head, self.at, self.began) = (head, next, Some(offset));
        Ok(())
    }

    fn replay(&mut self, offset: usize, record: Record) -> Result<Step, RecordingError> {
        let Record { elapsed_ns, wall, event, taken, payload, answer } = record;
        let damaged = || RecordingError::Damaged { offset, expected: "a time that can be".to_owned() };
        self.now = later(self.now, elapsed_ns).ok_or_else(damaged)?;
        let (number, time) = (self.number, self.now);
        let wall_millis = wall.map(|elapsed| self.wall.wrapping_add(elapsed.cast_unsigned()));
        if let Some(wall) = wall_millis {
            self.wall = wall;
            #[cfg(feature = "context")]
            self.engine.set_wall_time(time, wall);
        }
        let input = match event {
            Event::Input(input) => StepInput::Input(input),
            Event::Timeout => StepInput::Timeout,
        };
        self.number += 1;
        let Some(expected) = answer else {
            let outputs = Vec::new();
            return Ok(Step { number, time, wall_millis, offset, input, payload, outputs, is_answered: false });
        };
        self.engine.supply(taken.unwrap_or_default());
        match &input {
            StepInput::Input(input) => self.engine.handle(time, input.clone()),
            _ => self.engine.handle_timeout(time),
        }
        let outputs: Vec<Output> = std::iter::from_fn(|| self.engine.poll_output()).collect();
        let found = answer_of(&outputs);
        if found != expected {
            let (input, outputs) = (input.to_string(), format!("{outputs:?}"));
            let divergence = Divergence { offset, number, time, input, expected, found, outputs };
            return Err(RecordingError::Diverged(Box::new(divergence)));
        }
        Ok(Step { number, time, wall_millis, offset, input, payload, outputs, is_answered: true })
    }
}

impl Iterator for Replay {
    type Item = Result<Step, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let step = self.step().transpose();
        self.is_over = !matches!(step, Some(Ok(_)));
        step
    }
}

fn answer_of(outputs: &[Output]) -> Answer {
    let mut digest = Digest::new();
    outputs.iter().for_each(|output| digest.add(output));
    digest.answer()
}

fn later(time: Time, elapsed_ns: u128) -> Option<Time> {
    let seconds = u64::try_from(elapsed_ns / 1_000_000_000).ok()?;
    let below = u32::try_from(elapsed_ns % 1_000_000_000).ok()?;
    time.0.checked_add(Duration::new(seconds, below)).map(Time)
}

fn is_same_version(head: &Head) -> bool {
    head.version == env!("CARGO_PKG_VERSION") && head.has_context == cfg!(feature = "context")
}

/// The first line in which two engines differ, and the one above it.
fn difference(recorded: &Engine, own: &Engine) -> String {
    let (recorded, own) = (format!("{recorded:#?}"), format!("{own:#?}"));
    let mut lines = recorded.lines().zip(own.lines());
    let mut above = "";
    let found = lines.find(|(recorded, own)| {
        let is_same = recorded == own;
        if is_same {
            above = recorded.trim();
        }
        !is_same
    });
    match found {
        Some((recorded, own)) => {
            format!("after `{above}`, `{}` was recorded, and here is `{}`", recorded.trim(), own.trim())
        }
        None => "it is in what is not printed".to_owned(),
    }
}

/// The segment at `at`: its head, its state and where that is, and where its first record is.
#[allow(clippy::type_complexity, reason = "three things that are found together")]
fn segment(bytes: &[u8], at: usize) -> Result<(Head, (&[u8], usize), usize), RecordingError> {
    let expected = |expected: &str, offset| RecordingError::Damaged { offset, expected: expected.to_owned() };
    let truncated = |expected| RecordingError::Truncated { offset: bytes.len(), began: at, expected };
    let head_at = match part(bytes, at)? {
        Some((Part::Begin, next)) => next,
        Some(_) => return Err(RecordingError::Foreign { offset: at }),
        None => return Err(truncated("a segment")),
    };
    let (head, state_at): (Head, _) = match part(bytes, head_at)? {
        Some((Part::Item { kind: Kind::Head, body }, next)) => (value(body, head_at, "a head")?, next),
        Some(_) => return Err(expected("a head", head_at)),
        None => return Err(truncated("a head")),
    };
    match part(bytes, state_at)? {
        Some((Part::Item { kind: Kind::State, body }, next)) => Ok((head, (body, state_at), next)),
        Some(_) => Err(expected("the state of an engine", state_at)),
        None => Err(truncated("the state of an engine")),
    }
}

/// The engine with a state that was found at `offset`.
fn engine(head: &Head, state: &[u8], offset: usize) -> Result<Engine, RecordingError> {
    let context_differs = head.has_context != cfg!(feature = "context");
    let read = value(state, offset, "the state of an engine").map_err(|error| match is_same_version(head) {
        true => error,
        false => RecordingError::Version { offset, found: head.version.clone(), context_differs },
    });
    let mut engine: Engine = read?;
    engine.complete();
    Ok(engine)
}
