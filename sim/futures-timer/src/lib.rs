//! The API of the crate `futures-timer` on tokio's clock.
//!
//! The libraries below avi-p2p take their timers from `futures-timer`, which sleeps in its own thread and in real time.
//! This replacement makes those timers part of the simulation. A [`Delay`] must be created inside a tokio runtime.

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

/// The number of delays that have fired on this thread. It proves that the timers of the stack run.
pub fn fired() -> u64 {
    FIRED.get()
}

/// Adds the delays that fired on another thread, whose work this one goes on with.
pub fn carry_over(fired: u64) {
    FIRED.set(FIRED.get() + fired);
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

    /// Restarts the delay: it resolves `duration` from now.
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
