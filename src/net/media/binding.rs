//! Which port do the sockets for datagrams get? That of the listeners, or one that is free at all addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{self, BoxFuture};

use super::tokio::Udp;
use crate::network::{DatagramSocket, Network};

pub(super) type Socket = Box<dyn DatagramSocket>;

/// Binds a socket of the network.
pub(super) type Bind = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<Socket>> + Send + Sync>;

/// An address, and what came of binding a socket to it.
pub(super) struct Bound {
    pub(super) ip: IpAddr,
    pub(super) socket: io::Result<Socket>,
}

/// How a network binds a socket.
pub(super) fn of(network: &Network) -> Bind {
    match network {
        // In the future, because only there is tokio's reactor sure to be entered.
        Network::Tcp => Arc::new(|address| {
            future::lazy(move |_| Udp::bind(address).map(|socket| Box::new(socket) as Socket)).boxed()
        }),
        Network::System(transport) | Network::Custom(transport) => {
            let transport = transport.clone();
            Arc::new(move |address| transport.bind_datagrams(address))
        }
    }
}

/// Binds sockets at this port; if that is taken at one address, at another port.
pub(super) async fn first(bind: Bind, ips: Vec<IpAddr>, port: u16) -> Vec<Bound> {
    let bound = at(bind.clone(), ips.clone(), port).await;
    if port == 0 || !bound.iter().any(is_taken) {
        return bound;
    }
    // Frees the others: all have one port.
    drop(bound);
    let bound = at(bind, ips, 0).await;
    let chosen = bound.iter().find_map(|bound| bound.socket.as_ref().ok()).map(|socket| socket.local_addr().port());
    tracing::warn!(taken = port, ?chosen, "another program has the UDP port: datagrams use another one");
    bound
}

/// Binds sockets at one port. If it is 0, the first socket chooses it.
pub(super) async fn at(bind: Bind, ips: Vec<IpAddr>, mut port: u16) -> Vec<Bound> {
    let mut all = Vec::new();
    for ip in ips {
        let socket = bind(SocketAddr::new(ip, port)).await;
        if let Ok(socket) = &socket {
            port = socket.local_addr().port();
        }
        all.push(Bound { ip, socket });
    }
    all
}

fn is_taken(bound: &Bound) -> bool {
    bound.socket.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}
