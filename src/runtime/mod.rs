//! What drives a node? Its task, on a thread of its own or the application's, or whoever calls it while that sleeps:
//! takes a call, a network event or a deadline to the engine, and carries its answers out.

mod desk;
mod driver;
mod events;
mod tokio;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::BoxFuture;

use crate::config::AviP2pConfig;
use crate::engine::{Command, CommandId};
use crate::error::AviP2pError;
use crate::id::{PeerId, StreamId};
use crate::metrics::Metrics;
use crate::transport::Network;

pub(crate) use self::desk::Desk;
use self::events::CloseOnDrop;
pub(crate) use self::events::EventQueue;
pub(crate) use self::tokio::{Tokio, start_thread};

/// What differs between production and simulation: the clock, the network.
pub trait Platform: Send + Sync + 'static {
    /// Monotonic time since any fixed moment.
    fn now(&self) -> Duration;

    /// Waits until [`Platform::now`] has reached that moment; never shorter.
    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()>;

    /// The network that the node listens on and dials over.
    fn network(&self) -> Network;

    /// Does some of the node's work on the thread of whoever calls it, with what the network's sockets need there: calls
    /// `work` once before it returns. With [`Network::Tcp`] it has to enter tokio's reactor.
    fn enter(&self, work: &mut dyn FnMut()) {
        work();
    }

    /// With [`Network::Tcp`], whether tokio's reactor goes on when the node has ended.
    fn outlives_node(&self) -> bool {
        false
    }
}

/// A command and who waits for its reply.
pub(crate) struct Call {
    pub(crate) command: Command,
    pub(crate) caller: Caller,
}

/// Takes the result of a command whose reply carries a `T`.
pub(crate) type ReplyTo<T> = oneshot::Sender<Result<T, AviP2pError>>;

/// Who waits for a reply: one variant for each of [`Reply`](crate::engine::Reply).
pub(crate) enum Caller {
    Done(CommandId, ReplyTo<()>),
    Stream(CommandId<StreamId>, ReplyTo<StreamId>),
    Peers(CommandId<Vec<PeerId>>, ReplyTo<Vec<PeerId>>),
}

/// A place among the calls that wait. As long as one is taken, no call overtakes them.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    pub(crate) fn take(taken: &Arc<AtomicUsize>) -> Self {
        taken.fetch_add(1, Ordering::SeqCst);
        Self(taken.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the application has of a node that runs.
pub(crate) struct Started {
    pub(crate) local_peer_id: PeerId,
    pub(crate) desk: Arc<Desk>,
}

/// What the drive loop has of the application.
pub(crate) struct Outside {
    pub(crate) calls: async_channel::Receiver<(Call, Place)>,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) metrics: Metrics,
    pub(crate) started: oneshot::Sender<Result<Started, AviP2pError>>,
}

/// Starts a node and drives it until it has stopped.
pub(crate) async fn run(config: AviP2pConfig, platform: Arc<dyn Platform>, outside: Outside) {
    let Outside { calls, events, metrics, started } = outside;
    let events = CloseOnDrop(events);
    match Desk::open(&config, platform, calls, events, &metrics).await {
        Ok((desk, local_peer_id)) => {
            // If nobody waits for the start any more, the calls' channel is closed too, and the node sees that.
            let _ = started.send(Ok(Started { local_peer_id, desk: desk.clone() }));
            let desk = CloseDesk(desk);
            std::future::poll_fn(|cx| desk.0.poll(cx)).await;
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    }
}

/// Ends a node with its task, also when that is dropped in the middle.
struct CloseDesk(Arc<Desk>);

impl Drop for CloseDesk {
    fn drop(&mut self) {
        self.0.close();
    }
}
