//! An engine that is recorded, if that is wanted.

use std::collections::VecDeque;
use std::ops::Deref;

use bytes::Bytes;

use super::format::Began;
use super::recorder::{Recorder, Start};
use crate::engine::{Engine, Input, Output, Time};

/// An engine and its recorder. It is driven as the engine is; questions go to the engine itself.
#[derive(Debug)]
pub struct Recorded {
    engine: Engine,
    /// The outputs of the engine's start, which are before the first record.
    first: VecDeque<Output>,
    recorder: Option<Box<Recorder>>,
}

impl Recorded {
    /// An engine that has had no input, with its context if it has one. It is recorded from its start if `start` says
    /// how.
    pub fn new(mut engine: Engine, start: Option<Start>) -> Self {
        let mut first = VecDeque::new();
        let recorder = start.map(|start| {
            first = std::iter::from_fn(|| engine.poll_output()).collect();
            engine.keep_drawn();
            let mut recorder = Box::new(Recorder::new(start));
            recorder.begin_segment(&engine, Began::Start);
            recorder
        });
        Self { engine, first, recorder }
    }

    /// [`Engine::handle`].
    #[inline]
    pub fn handle(&mut self, now: Time, input: Input) {
        if let Some(recorder) = &mut self.recorder {
            recorder.begin(&mut self.engine, now, Some(&input));
        }
        self.engine.handle(now, input);
    }

    /// [`Engine::handle_timeout`].
    #[inline]
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(recorder) = &mut self.recorder {
            recorder.begin(&mut self.engine, now, None);
        }
        self.engine.handle_timeout(now);
    }

    /// [`Engine::set_wall_time`]. An engine that is recorded is told it with its next input, as of then.
    #[cfg(feature = "context")]
    pub fn set_wall_time(&mut self, now: Time, unix_millis: u64) {
        match &mut self.recorder {
            Some(recorder) => recorder.set_wall_time(unix_millis),
            None => self.engine.set_wall_time(now, unix_millis),
        }
    }

    /// [`Engine::reseed`]. What is recorded from then on cannot be replayed.
    pub fn reseed(&mut self, seed: [u8; 32]) {
        self.engine.reseed(seed);
    }

    /// [`Engine::poll_output`].
    #[inline]
    pub fn poll_output(&mut self) -> Option<Output> {
        if !self.first.is_empty() {
            return self.first.pop_front();
        }
        let output = self.engine.poll_output();
        if let Some(recorder) = &mut self.recorder {
            recorder.on_output(&mut self.engine, output.as_ref());
        }
        output
    }

    /// Ends the recording with the input that the engine has panicked at.
    pub fn fail(&mut self) {
        self.recorder.iter_mut().for_each(|recorder| recorder.fail());
    }

    /// The recording in pieces, if there is a recorder and its store has it at hand.
    pub fn pieces(&self) -> Option<Vec<Bytes>> {
        self.recorder.as_ref().and_then(|recorder| recorder.store().pieces())
    }

    /// The recording, if there is a recorder and its store has it at hand.
    pub fn recording(&self) -> Option<Vec<u8>> {
        self.pieces().map(|pieces| pieces.concat())
    }
}

impl Deref for Recorded {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}
