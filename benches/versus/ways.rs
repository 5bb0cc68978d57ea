//! Which other ways are there from a node to its sockets? The same library, on other reactors and executors.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use avi_p2p::transport::{BoxByteStream, Listener, Network, Transport};
use avi_p2p::{AviP2p, AviP2pConfig, EventReceiver, Platform};
use futures::FutureExt;
use futures::future::BoxFuture;
use smol::{Async, LocalExecutor, Timer};
use tokio::runtime::{Builder, Handle};

use crate::ours::Way;
use crate::process::Outcome;

type Started = Outcome<(AviP2p, EventReceiver)>;

/// A task of the application's runtime.
pub enum OnTokio {}

impl Way for OnTokio {
    async fn start(config: AviP2pConfig) -> Started {
        Ok(AviP2p::start_on_tokio(config).await?)
    }
}

/// A thread with smol's executor inside a tokio runtime, and libp2p's TCP.
pub enum SmolTokio {}

impl Way for SmolTokio {
    async fn start(config: AviP2pConfig) -> Started {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let platform = OverTokio { reactor: runtime.handle().clone(), epoch: Instant::now() };
        let run = move |task: BoxFuture<'static, ()>| {
            let executor = LocalExecutor::new();
            let task = executor.spawn(task);
            // Sockets wake a task that has used up tokio's budget, and the executor would poll it again within the same
            // budget.
            runtime.block_on(tokio::task::unconstrained(executor.run(task)));
        };
        Ok(AviP2p::start_on(config, platform, |task| on_a_thread(move || run(task))).await?)
    }
}

struct OverTokio {
    reactor: Handle,
    epoch: Instant,
}

impl Platform for OverTokio {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until((self.epoch + moment).into()))
    }

    fn network(&self) -> Network {
        Network::Tcp
    }

    fn enter(&self, work: &mut dyn FnMut()) {
        let _reactor = self.reactor.enter();
        // As in the library: a socket that finds the budget of the caller's task used up does not wake the node's.
        tokio::task::unconstrained(async { work() }).now_or_never().unwrap_or_default();
    }
}

/// A thread that waits for smol's reactor, with its sockets.
pub enum SmolAsyncIo {}

impl Way for SmolAsyncIo {
    async fn start(config: AviP2pConfig) -> Started {
        let platform = OverAsyncIo { epoch: Instant::now() };
        Ok(AviP2p::start_on(config, platform, |task| on_a_thread(|| smol::block_on(task))).await?)
    }
}

struct OverAsyncIo {
    epoch: Instant,
}

impl Platform for OverAsyncIo {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        Timer::at(self.epoch + moment).map(drop).boxed()
    }

    fn network(&self) -> Network {
        Network::Custom(Arc::new(Tcp))
    }
}

struct Tcp;

impl Transport for Tcp {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let listening = async move {
            let socket = Async::<TcpListener>::bind(address)?;
            let address = socket.get_ref().local_addr()?;
            Ok(Box::new(Listening { socket, address }) as Box<dyn Listener>)
        };
        listening.boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxByteStream>> {
        let connecting = async move {
            let socket = Async::<TcpStream>::connect(address).await?;
            socket.get_ref().set_nodelay(true)?;
            Ok(Box::pin(socket) as BoxByteStream)
        };
        connecting.boxed()
    }
}

struct Listening {
    socket: Async<TcpListener>,
    address: SocketAddr,
}

impl Listener for Listening {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxByteStream, SocketAddr)>> {
        loop {
            match self.socket.get_ref().accept() {
                Ok((socket, address)) => {
                    socket.set_nodelay(true)?;
                    return Poll::Ready(Ok((Box::pin(Async::new(socket)?), address)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.socket.poll_readable(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn on_a_thread(work: impl FnOnce() + Send + 'static) {
    // If there is no thread, the task is dropped, and the start of the node returns an error.
    drop(std::thread::Builder::new().name("avi-p2p".to_owned()).spawn(work));
}
