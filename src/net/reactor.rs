//! Where does tokio run that no application has brought? On a thread that is started with it.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};

/// Starts a thread that gets a tokio runtime of one thread.
pub(crate) fn start(name: &str, run: impl FnOnce(Runtime) + Send + 'static) -> io::Result<(Handle, JoinHandle<()>)> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    let mut waiting = Waiting(Some(runtime));
    let run = move || {
        if let Some(runtime) = waiting.0.take() {
            run(runtime);
        }
    };
    Ok((handle, std::thread::Builder::new().name(name.to_owned()).spawn(run)?))
}

/// A runtime without a thread. Without one it ends where nobody may wait for its end.
struct Waiting(Option<Runtime>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}
