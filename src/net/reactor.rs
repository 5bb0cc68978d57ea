//! Where does tokio run for mDNS and for the watch of the interfaces, which support no other reactor? On its own
//! thread.

use std::convert::Infallible;
use std::thread::{Builder, JoinHandle};

use futures::channel::oneshot;
use tokio::runtime::{self, Handle, Runtime};

use crate::error::AviP2pError;

/// A thread that runs tokio until this is dropped. It then also ends the tasks that libp2p's mDNS never ends.
pub(super) struct Reactor {
    handle: Handle,
    /// When it is dropped, the thread ends.
    owner: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Reactor {
    /// # Errors
    /// [`AviP2pError::Io`] if the system refuses a thread or a reactor.
    pub(super) fn start() -> Result<Self, AviP2pError> {
        let failed = |error| AviP2pError::Io(format!("cannot start the thread of mDNS: {error}"));
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(failed)?;
        let (handle, mut waiting) = (runtime.handle().clone(), Waiting(Some(runtime)));
        let (owner, ended) = oneshot::channel();
        let run = move || {
            if let Some(runtime) = waiting.0.take() {
                let _ = runtime.block_on(ended);
            }
        };
        let thread = Builder::new().name("avi-p2p-mdns".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { handle, owner: Some(owner), thread: Some(thread) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.owner = None;
        if let Some(thread) = self.thread.take() {
            // The thread only drops what it holds. A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

/// A runtime whose thread has not started yet. If the thread never starts, the runtime is shut down in the background,
/// because dropping it here may not block.
struct Waiting(Option<Runtime>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}
