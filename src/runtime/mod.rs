//! What drives a node? Its task, on a thread of its own or of the application's; and a caller, while it handles its own
//! input.

mod events;
mod node;
mod readers;
#[cfg(feature = "recorder")]
mod recorder;
#[cfg(feature = "context")]
mod saver;
mod smol;
mod tasks;
mod tokio;

use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;

use crate::network::Network;

pub(crate) use self::events::EventQueue;
pub(crate) use self::node::Shared;
pub(crate) use self::readers::{Next, ReaderQueue};
pub(crate) use self::smol::Smol;
pub(crate) use self::tokio::Tokio;

/// What differs between production and simulation: the clock, the network.
pub trait Platform: Send + Sync + 'static {
    /// Monotonic time since any fixed moment.
    fn now(&self) -> Duration;

    /// Wall time in milliseconds since 1970, as the system has it. It may jump.
    #[cfg_attr(
        not(any(feature = "context", feature = "recorder")),
        allow(dead_code, reason = "the context and the recorder want it")
    )]
    fn unix_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until [`Platform::now`] has reached that moment; never shorter.
    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()>;

    /// The network that the node listens on and dials over.
    fn network(&self) -> Network;

    /// Does a piece of the node's work on the calling thread, with what the network's sockets need there: calls `work`
    /// once before it returns. With [`Network::Tcp`] it has to enter tokio's reactor.
    fn enter(&self, work: &mut dyn FnMut()) {
        work();
    }
}
