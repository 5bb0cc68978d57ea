//! Which things happen over and over, for one reason? They are told as one, at the first of them.

use std::fmt;
use std::time::Duration;

use super::{Explanation, plural};
use crate::engine::Time;
use crate::recording::replay::Step;
use crate::stats::AudioPath;

/// What follows within this time is told together. Reports of the other end come once a second.
const TOGETHER: Duration = Duration::from_secs(3);
/// Changes of the path that follow within this time are told together: one that comes and goes is left and tried again.
const FLAPPING: Duration = Duration::from_secs(30);
/// The most that are not told yet.
const MAX_RUNS: usize = 64;

/// Why it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// There is no connection.
    Parted,
    /// Nothing has come from the other end since then.
    Silent(Time),
    /// The other end answers.
    Congested,
    /// The path is this one from now on.
    Path(AudioPath),
    /// In words.
    Other(&'static str),
}

/// Things of one kind that happen for one reason.
#[derive(Clone, Debug)]
pub(super) struct Run {
    noun: &'static str,
    done: &'static str,
    reason: Reason,
    count: u64,
    /// What was known of the path at the first of them.
    detail: String,
    number: u64,
    from: Time,
    to: Time,
}

/// Those that are not told yet, in the order in which they have begun.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Run>);

impl Run {
    /// So many of these.
    pub(super) fn new(noun: &'static str, done: &'static str, reason: Reason, count: u64) -> Self {
        Self { noun, done, reason, count, detail: String::new(), number: 0, from: Time::ZERO, to: Time::ZERO }
    }

    /// What is known of the path.
    pub(super) fn on_path(self, detail: String) -> Self {
        Self { detail, ..self }
    }

    /// Whether nothing more joins it.
    fn is_over(&self, now: Time) -> bool {
        let together = if let Reason::Path(_) = self.reason { FLAPPING } else { TOGETHER };
        now - self.to > together
    }

    /// Adds a later one, if its reason is the same.
    fn join(&mut self, later: &Run) -> bool {
        let reason = match (&self.reason, &later.reason) {
            // The other end was silent all the time.
            (Reason::Silent(_) | Reason::Congested, Reason::Silent(since)) if *since <= self.from => &later.reason,
            (Reason::Path(_), Reason::Path(_)) => &later.reason,
            (reason, later) if reason == later => reason,
            _ => return false,
        };
        (self.reason, self.count, self.to) = (reason.clone(), self.count.saturating_add(later.count), later.to);
        true
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { noun, done, reason, count, detail, .. } = self;
        write!(f, "{count} {noun}{} {done}", plural(*count))?;
        if self.to > self.from {
            write!(f, " until {:.3} s", self.to.0.as_secs_f64())?;
        }
        write!(f, ": ")?;
        match reason {
            Reason::Parted => write!(f, "there was no connection to the peer"),
            Reason::Silent(since) => {
                let since = since.0.as_secs_f64();
                write!(
                    f,
                    "nothing has come from the other end since {since:.3} s; the link is down, or the other end has stopped"
                )
            }
            Reason::Congested => write!(f, "the path is congested{detail}"),
            Reason::Path(path) => write!(f, "{}", carried(*path)),
            Reason::Other(why) => write!(f, "{why}"),
        }
    }
}

impl Runs {
    /// Adds what happens in a step. None is nothing.
    pub(super) fn add(&mut self, step: &Step, run: Run) {
        if run.count == 0 {
            return;
        }
        let run = Run { number: step.number, from: step.time, to: step.time, ..run };
        let is_like = |other: &&mut Run| (other.noun, other.done) == (run.noun, run.done);
        if !self.0.iter_mut().rev().find(is_like).is_some_and(|last| last.join(&run)) {
            self.0.push(run);
        }
    }

    /// Tells those that are over.
    pub(super) fn tell_old(&mut self, now: Time, told: &mut Explanation) {
        let is_full = self.0.len() >= MAX_RUNS;
        let over = self.0.extract_if(.., |run| is_full || run.is_over(now));
        over.for_each(|run| told.add_at(run.number, run.from, run.to_string()));
    }

    /// Tells all.
    pub(super) fn tell(&mut self, told: &mut Explanation) {
        self.0.drain(..).for_each(|run| told.add_at(run.number, run.from, run.to_string()));
    }
}

/// What carries the frames from now on.
pub(super) fn carried(path: AudioPath) -> &'static str {
    match path {
        AudioPath::Datagrams => "its frames leave as datagrams from then on",
        AudioPath::Substream => "its frames leave on its substream from then on",
    }
}
