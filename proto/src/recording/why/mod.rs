//! Why did a stream end, lose frames, or a peer go, or a message not arrive? What led to it, in plain words, from the
//! inputs and the answers of the engine.

mod ledger;
mod message;
mod peer;
mod runs;
mod stream;

use std::fmt;

use bytes::Bytes;

use self::ledger::Ledger;
use self::message::MessageStory;
use self::peer::PeerStory;
use self::stream::StreamStory;
use super::error::RecordingError;
use super::replay::{Replay, Step};
use crate::engine::{Engine, Time};
use crate::id::{PeerId, StreamId};

/// The most causes of an explanation. Those in the middle of a longer one are left out.
const MAX_CAUSES: usize = 1000;

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A stream, by this node's id.
    Stream(StreamId),
    /// A peer.
    Peer(PeerId),
    /// A message that this node published: the number of the record in which the application gave it.
    Message(u64),
}

/// One thing that happened, and why it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The record.
    pub number: u64,
    /// Its time.
    pub time: Time,
    /// What happened, as a sentence without its time.
    pub text: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:.3} s (record {}): {}", self.time.0.as_secs_f64(), self.number, self.text)
    }
}

/// What led to the present state of a [`Subject`], the oldest first. `Display` writes a line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// What happened.
    pub causes: Vec<Cause>,
    /// How many were left out in the middle.
    pub left_out: u64,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.causes.is_empty() {
            return writeln!(f, "nothing in this recording is about it");
        }
        for (index, cause) in self.causes.iter().enumerate() {
            if self.left_out > 0 && index == MAX_CAUSES / 2 {
                writeln!(f, "… {} more", self.left_out)?;
            }
            writeln!(f, "{cause}")?;
        }
        Ok(())
    }
}

impl Explanation {
    fn add(&mut self, step: &Step, text: impl Into<String>) {
        self.add_at(step.number, step.time, text);
    }

    /// Adds a cause where its record is.
    fn add_at(&mut self, number: u64, time: Time, text: impl Into<String>) {
        let at = self.causes.partition_point(|cause| cause.number <= number);
        self.causes.insert(at, Cause { number, time, text: text.into() });
        if self.causes.len() > MAX_CAUSES {
            self.causes.remove(MAX_CAUSES / 2);
            self.left_out += 1;
        }
    }
}

/// Explains while a recording is replayed: give it each [`Step`], and the engine after it.
#[derive(Debug)]
pub struct Why {
    ledger: Ledger,
    story: Story,
    told: Explanation,
}

#[derive(Debug)]
enum Story {
    Stream(Box<StreamStory>),
    Peer(PeerStory),
    Message(MessageStory),
}

impl Why {
    /// Explains this.
    pub fn new(subject: Subject) -> Self {
        let story = match subject {
            Subject::Stream(id) => Story::Stream(Box::new(StreamStory::new(id))),
            Subject::Peer(id) => Story::Peer(PeerStory::new(id)),
            Subject::Message(number) => Story::Message(MessageStory::new(number)),
        };
        Self { ledger: Ledger::default(), story, told: Explanation::default() }
    }

    /// Takes a step, and the engine after it.
    pub fn on_step(&mut self, step: &Step, engine: &Engine) {
        let steps = self.ledger.on_step(step, engine);
        match &mut self.story {
            Story::Stream(story) => story.on_step(step, engine, &self.ledger, &steps, &mut self.told),
            Story::Peer(story) => story.on_step(step, &self.ledger, &steps, &mut self.told),
            Story::Message(story) => story.on_step(step, &mut self.told),
        }
        self.ledger.settle(step, engine);
    }

    /// What led to it, as far as the steps went.
    pub fn finish(mut self) -> Explanation {
        match &mut self.story {
            Story::Stream(story) => story.finish(&mut self.told),
            Story::Peer(story) => story.finish(&mut self.told),
            Story::Message(_) => {}
        }
        self.told
    }
}

/// Explains what a recording has about a subject. If it ends within a record, or diverges, the error is the second
/// part: what is before it is explained.
///
/// # Errors
/// [`RecordingError`] if it cannot be replayed at all.
pub fn why(
    recording: impl Into<Bytes>,
    subject: Subject,
) -> Result<(Explanation, Option<RecordingError>), RecordingError> {
    let (mut replay, mut why) = (Replay::new(recording)?, Why::new(subject));
    while let Some(step) = replay.next() {
        match step {
            Ok(step) => why.on_step(&step, replay.engine()),
            Err(error) => return Ok((why.finish(), Some(error))),
        }
    }
    Ok((why.finish(), None))
}

/// `s` for more than one.
fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
