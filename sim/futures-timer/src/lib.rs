//! The API of the crate `futures-timer` on tokio's clock.
//!
//! The stack below avi-p2p takes its timers from `futures-timer`, which sleeps in a thread of its own and in real time.
//! In its place, this one makes those timers part of the simulation. A [`Delay`] must be made inside a tokio runtime.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

thread_local! {
    static FIRED: Cell<u64> = const { Cell::new(0) };
}

/// How many delays have come to their end on this thread: proof that the timers of the stack tick.
pub fn fired() -> u64 {
    FIRED.get()
}

/// Resolves once, after a duration.
pub struct Delay {
    sleep: Pin<Box<Sleep>>,
}

impl Delay {
    /// Resolves `duration` from now.
    pub fn new(duration: Duration) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(duration)) }
    }

    /// Begins anew: resolves `duration` from now.
    pub fn reset(&mut self, duration: Duration) {
        self.sleep.as_mut().reset(Instant::now() + duration);
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.sleep.as_mut().poll(cx);
        if polled.is_ready() {
            FIRED.set(FIRED.get() + 1);
        }
        polled
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay").finish_non_exhaustive()
    }
}
