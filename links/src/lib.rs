//! What does the access link of a machine in a home do to packets?
//!
//! One model, two carriers: the simulator asks it about simulated packets, the emulator of the tests about real ones.
//! It is a pure state machine: it has no clock, and its randomness comes from a seed.
//!
//! A path between two machines crosses the uplink of the sender, then the downlink of the receiver:
//!
//! ```
//! use std::time::Duration;
//! use avi_links::{Link, Profile};
//!
//! let wifi = Profile::load("wifi")?;
//! let (mut sender, mut receiver) = (Link::new(&wifi, 1), Link::new(&wifi, 2));
//! let fate = sender.up(Duration::ZERO, 700);
//! if let Some(at) = fate.at {
//!     let fate = receiver.down(at, 700);
//!     println!("it arrives at {:?}", fate.at);
//! }
//! # Ok::<_, avi_links::ProfileError>(())
//! ```
#![forbid(unsafe_code)]

mod lane;
mod profile;
mod radio;

use std::time::Duration;

use self::lane::Queue;
use self::radio::Air;

pub use self::profile::{BUILTIN, Burst, Doze, Lane, Outage, Profile, ProfileError, Radio};

/// The access link of one machine: its state in both directions.
#[derive(Clone, Debug)]
pub struct Link {
    up: Queue,
    down: Queue,
    air: Air,
}

/// What happens to a packet on one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When it comes out; `None` if it is lost.
    pub at: Option<Duration>,
    /// When a duplicate of it comes out, if there is one.
    pub again: Option<Duration>,
}

impl Link {
    /// The link of a machine; equal seeds give equal fates.
    pub fn new(profile: &Profile, seed: u64) -> Self {
        let mut seeds = fastrand::Rng::with_seed(seed);
        Self {
            up: Queue::new(&profile.up, seeds.u64(..)),
            down: Queue::new(&profile.down, seeds.u64(..)),
            air: Air::new(&profile.radio, seeds.u64(..)),
        }
    }

    /// Takes all draws from another seed from now on, those of outages and bursts that have not begun among them.
    pub fn reseed(&mut self, now: Duration, seed: u64) {
        let mut seeds = fastrand::Rng::with_seed(seed);
        self.up.reseed(now, seeds.u64(..));
        self.down.reseed(now, seeds.u64(..));
        self.air.reseed(now, seeds.u64(..));
    }

    /// A packet of this machine enters the uplink. `bytes` counts its headers too. `now` counts from any fixed start,
    /// and never decreases from one packet of a direction to the next.
    pub fn up(&mut self, now: Duration, bytes: usize) -> Fate {
        let Some(at) = self.up.enter(now, bytes) else { return Fate::default() };
        if self.air.is_out(at) {
            return Fate::default();
        }
        self.up.leave(at)
    }

    /// A packet for this machine enters the downlink, as in [`Link::up`].
    pub fn down(&mut self, now: Duration, bytes: usize) -> Fate {
        let Some(at) = self.down.enter(now, bytes) else { return Fate::default() };
        let at = self.air.awake_at(at);
        if self.air.is_out(at) {
            return Fate::default();
        }
        self.down.leave(at)
    }
}

#[cfg(test)]
mod tests;
