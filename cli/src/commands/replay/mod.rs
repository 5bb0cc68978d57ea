//! What happened in a node? Its recording is replayed, checked, and shown: as steps, or as a page.

mod filter;
mod names;
mod steps;
mod timeline;
mod words;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use avi_p2p::{PeerId, StreamId};
use avi_p2p_proto::recording::{Cause, Explanation, RecordingError, Replay, Step, Subject, Why};
use bytes::Bytes;

use self::filter::Filter;
use self::names::Names;
use self::timeline::Timeline;
use self::words::Words;
use crate::args;
use crate::exit::Failure;
use crate::line::{Line, Replayed};
use crate::output::Output;

/// A recording has at most 1 GiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;
/// The end of the year 9999, after which a date has more digits.
const MAX_UNIX_MILLIS: u64 = 253_402_300_799_000;
/// What is said if nothing is about the peer, stream or message that was asked for.
const NOTHING: &str = "nothing in this recording is about it";
/// Progress is said so often.
const PROGRESS: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &args::Replay, out: Output) -> Result<(), Failure> {
    let recording = Recording::read(&args.file, out)?;
    let peer = args.peer.as_ref().map(|text| recording.peer(text, args)).transpose()?;
    let subject = args.why.as_ref().map(|what| recording.meant(what, args)).transpose()?;
    let mut filter = Filter { all: args.all, peer, stream: args.stream.map(StreamId), ..Filter::default() };
    let mut why = subject.map(Why::new);
    let mut timeline = args.timeline.is_some().then(Timeline::default);
    let shows_steps = timeline.is_none() && why.is_none() || filter.is_narrow();
    let mut words = Words::new(args.pseudonyms);
    let mut visit = |replay: &Replay, step: &Step| {
        words.learn(replay, step);
        timeline.iter_mut().for_each(|timeline| timeline.add(replay, step, &words));
        why.iter_mut().for_each(|why| why.on_step(step, replay.engine()));
        match shows_steps && filter.shows(replay, step) {
            true => out.say(&steps::line(step, &words)),
            false => Ok(()),
        }
    };
    let end = recording.replay(args.until, out, &mut visit)?;
    if let (Some(path), Some(timeline)) = (&args.timeline, &timeline) {
        std::fs::write(path, timeline.page()).map_err(|error| Failure::file(path, error))?;
        out.progress(&format!("{} is written", path.display()));
    }
    let explained = why.map_or(Ok(()), |why| explain(&why.finish(), &words, out));
    if end.steps > 0 {
        out.say(&Line::Replayed(end.line(&words)))?;
    }
    end.judged(&args.file, &words).and(explained).and(filter.judged())
}

/// Prints what led to it.
fn explain(explanation: &Explanation, words: &Words, out: Output) -> Result<(), Failure> {
    for Cause { number, time, text } in &explanation.causes {
        out.say(&Line::Cause { number: *number, time_s: time.0.as_secs_f64(), text: words.say(text) })?;
    }
    if explanation.left_out > 0 {
        out.progress(&format!("{} causes in the middle are left out", explanation.left_out));
    }
    match explanation.causes.is_empty() {
        true => Err(Failure::Finding(NOTHING.to_owned())),
        false => Ok(()),
    }
}

/// The bytes of a recording: of the file, and of the half before it.
struct Recording {
    /// The older half comes first.
    whole: Bytes,
    /// Where the newer half begins.
    newer: usize,
}

/// How a replay has ended.
struct End {
    steps: u64,
    /// When the node's time began.
    began: SystemTime,
    from: Option<Duration>,
    to: Duration,
    /// Not at the end of the recording.
    is_cut: bool,
    error: Option<RecordingError>,
}

impl Recording {
    fn read(path: &Path, out: Output) -> Result<Self, Failure> {
        let newer = Bytes::from(bytes_of(path)?);
        let before = Self::before(path);
        let older = if before.exists() { Bytes::from(bytes_of(&before)?) } else { Bytes::new() };
        if older.is_empty() {
            return Ok(Self { whole: newer, newer: 0 });
        }
        if !is_of_one_run(&older, &newer) {
            out.progress(&format!("{} is left out: it is of another run, or cannot be read", before.display()));
            return Ok(Self { whole: newer, newer: 0 });
        }
        out.progress(&format!("{} is read first", before.display()));
        Ok(Self { whole: [&older[..], &newer].concat().into(), newer: older.len() })
    }

    /// Where a node that writes into a file leaves the half before it.
    fn before(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".1");
        name.into()
    }

    /// The peer that the text means: any whole id, also that of a peer which the recording does not name, since what was
    /// refused may have been its. What is wrong with the recording is told when it is shown.
    fn peer(&self, text: &str, args: &args::Replay) -> Result<PeerId, Failure> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let mut names = Names::new(Words::new(args.pseudonyms));
        self.replay(args.until, Output::silent(), &mut |replay, step| {
            names.add(replay, step);
            Ok(())
        })?;
        names.peer(text)
    }

    fn meant(&self, what: &args::Subject, args: &args::Replay) -> Result<Subject, Failure> {
        Ok(match what {
            args::Subject::Stream(stream) => Subject::Stream(StreamId(*stream)),
            args::Subject::Peer(text) => Subject::Peer(self.peer(text, args)?),
            args::Subject::Message(number) => Subject::Message(*number),
        })
    }

    /// Gives each step to `visit`, until a time of the engine.
    fn replay(
        &self,
        until: Option<Duration>,
        out: Output,
        visit: &mut dyn FnMut(&Replay, &Step) -> Result<(), Failure>,
    ) -> Result<End, Failure> {
        let mut end =
            End { steps: 0, began: SystemTime::UNIX_EPOCH, from: None, to: Duration::ZERO, is_cut: false, error: None };
        let offset = one(self.whole.clone(), until, out, visit, &mut end)?;
        // The older half may be of another version, or damaged: the newer one stands by itself.
        if let Some(error) = &end.error
            && offset < self.newer
            && !matches!(error, RecordingError::Diverged(_))
        {
            out.progress(&format!("the older half: {error}; the newer one follows"));
            end.error = None;
            one(self.whole.slice(self.newer..), until, out, visit, &mut end)?;
        }
        Ok(end)
    }
}

/// Whether a recording goes on with another. A node keeps that of its last run in the place of its older half.
fn is_of_one_run(older: &Bytes, newer: &Bytes) -> bool {
    let of = |bytes: &Bytes| {
        let replay = Replay::new(bytes.clone())?;
        Ok::<_, RecordingError>((replay.head().local.clone(), replay.head().unix_millis))
    };
    matches!((of(older), of(newer)), (Ok(older), Ok(newer)) if older == newer)
}

/// Replays bytes. Returns where it has ended in them.
fn one(
    bytes: Bytes,
    until: Option<Duration>,
    out: Output,
    visit: &mut dyn FnMut(&Replay, &Step) -> Result<(), Failure>,
    end: &mut End,
) -> Result<usize, Failure> {
    let mut replay = match Replay::new(bytes) {
        Ok(replay) => replay,
        Err(error) => {
            end.error = Some(error);
            return Ok(0);
        }
    };
    end.began = SystemTime::UNIX_EPOCH + Duration::from_millis(replay.head().unix_millis.min(MAX_UNIX_MILLIS));
    if !replay.is_same_version() {
        out.progress(&format!("recorded by version {}: this one may do something else", replay.head().version));
    }
    let (mut offset, mut next_progress) = (0, Instant::now() + PROGRESS);
    while let Some(step) = guarded(|| replay.next()).map_err(|panic| panicked(end.steps, &panic))? {
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                end.error = Some(error);
                return Ok(offset);
            }
        };
        if until.is_some_and(|until| step.time.0 > until) {
            end.is_cut = true;
            break;
        }
        end.from.get_or_insert(step.time.0);
        (end.steps, end.to, offset) = (end.steps + 1, step.time.0, step.offset);
        visit(&replay, &step)?;
        if Instant::now() >= next_progress {
            out.progress(&format!("{} steps, {:.0} s", end.steps, end.to.as_secs_f64()));
            next_progress += PROGRESS;
        }
    }
    Ok(usize::MAX)
}

/// A recording is somebody's file: an engine whose state was made up may panic.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words").to_owned()
    })
}

fn panicked(steps: u64, panic: &str) -> Failure {
    Failure::Finding(format!("the engine has panicked after {steps} records: {panic}"))
}

impl End {
    fn line(&self, words: &Words) -> Replayed {
        let end = match &self.error {
            None if self.is_cut => "stopped where it was asked to".to_owned(),
            None => "at its end".to_owned(),
            Some(error) => words.say(&error.to_string()),
        };
        Replayed {
            steps: self.steps,
            began: humantime::format_rfc3339_seconds(self.began).to_string(),
            from_s: self.from.unwrap_or_default().as_secs_f64(),
            to_s: self.to.as_secs_f64(),
            agrees: !self.has_diverged(),
            end,
        }
    }

    fn has_diverged(&self) -> bool {
        matches!(self.error, Some(RecordingError::Diverged(_) | RecordingError::StateDiverged { .. }))
    }

    fn judged(self, path: &Path, words: &Words) -> Result<(), Failure> {
        let has_diverged = self.has_diverged();
        match self.error {
            // As after a power failure: what is before it is whole.
            None | Some(RecordingError::Truncated { .. }) if self.steps > 0 => Ok(()),
            None => Ok(()),
            Some(error) if has_diverged => Err(Failure::Finding(words.say(&error.to_string()))),
            Some(error) => Err(Failure::file(path, error)),
        }
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| Failure::file(path, error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Failure::file(path, error))?;
    match bytes.len() as u64 > MAX_FILE_BYTES {
        true => Err(Failure::file(path, format!("longer than {MAX_FILE_BYTES} bytes, which no recording is"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use avi_p2p_proto::engine::Time;
    use avi_p2p_proto::recording::{Answer, Divergence};

    use super::*;

    #[test]
    fn a_panic_of_the_engine_is_told_with_its_place() {
        let error = guarded(|| panic!("at {}", 7)).map_err(|panic| panicked(3, &panic).to_string());
        assert_eq!(error, Err::<(), _>("the engine has panicked after 3 records: at 7".to_owned()));
        assert_eq!(guarded(|| 7), Ok(7));
    }

    #[test]
    fn a_replay_that_differs_is_a_finding_and_a_recording_that_ends_early_is_none() {
        let began = SystemTime::UNIX_EPOCH;
        let of = |steps, error| End { steps, began, from: None, to: Duration::ZERO, is_cut: false, error };
        let code = |end: End| end.judged(Path::new("flight.rec"), &Words::default()).map_err(|failure| failure.code());
        let (expected, found) = (Answer { outputs: 1, digest: 1 }, Answer { outputs: 1, digest: 2 });
        let (input, outputs) = ("timeout".to_owned(), "[]".to_owned());
        let differs = Divergence { offset: 9, number: 7, time: Time::ZERO, input, expected, found, outputs };
        let differs = of(7, Some(RecordingError::Diverged(Box::new(differs))));
        let line = differs.line(&Words::default());
        assert!(!line.agrees && line.end.contains("record 7, timeout"), "{line:?}");
        assert_eq!(code(differs), Err(1));
        let truncated = |steps| of(steps, Some(RecordingError::Truncated { offset: 9, began: 8, expected: "more" }));
        assert_eq!((code(truncated(1)), code(truncated(0))), (Ok(()), Err(3)));
        assert_eq!(code(of(1, Some(RecordingError::Foreign { offset: 0 }))), Err(3));
        assert_eq!(code(of(0, None)), Ok(()));
    }
}
