//! Which listeners replace a wildcard if not all interfaces are used?

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use libp2p_core::transport::{ListenerId, TransportError};
use libp2p_swarm::{NetworkBehaviour, Swarm};

use crate::config::AviP2pConfig;
use crate::net::listening::interfaces::Addresses;
use crate::net::translate;

/// The listeners that replace wildcards if not all interfaces are used.
pub(super) struct Followed {
    wildcards: Vec<IpAddr>,
    /// 0 until the first listener has a port. All listeners then use that port.
    port: u16,
    listeners: BTreeMap<IpAddr, ListenerId>,
}

impl Followed {
    pub(super) fn new(config: &AviP2pConfig) -> Self {
        let wildcards = config.listen_ips.iter().copied().filter(IpAddr::is_unspecified).collect();
        Self { wildcards, port: config.listen_port, listeners: BTreeMap::new() }
    }

    /// The first listener that has no port yet.
    pub(super) fn first(&self) -> Option<(ListenerId, SocketAddr)> {
        let first = self.listeners.first_key_value().filter(|_| self.port == 0);
        first.map(|(ip, id)| (*id, SocketAddr::new(*ip, 0)))
    }

    /// The addresses that the wildcards stand for.
    pub(super) fn wanted(&self, addresses: &Addresses) -> Vec<IpAddr> {
        self.wildcards.iter().flat_map(|&wildcard| addresses.behind(wildcard)).collect()
    }

    /// Takes the port of a listener. Returns whether it is now the port of all listeners.
    pub(super) fn learn_port(&mut self, listener: ListenerId, port: u16) -> bool {
        let is_news = self.port == 0 && self.listeners.values().any(|followed| *followed == listener);
        if is_news {
            self.port = port;
        }
        is_news
    }

    /// Removes a listener that has ended. Returns whether it was one of these.
    pub(super) fn forget(&mut self, listener: ListenerId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|_, followed| *followed != listener);
        self.listeners.len() < before
    }

    /// Listens on exactly the addresses that the wildcards stand for. Returns the failures.
    pub(super) fn follow<B: NetworkBehaviour>(
        &mut self,
        addresses: &Addresses,
        swarm: &mut Swarm<B>,
    ) -> Vec<(SocketAddr, io::Error)> {
        let wanted = self.wanted(addresses);
        for (_, listener) in self.listeners.extract_if(.., |ip, _| !wanted.contains(ip)) {
            swarm.remove_listener(listener);
        }
        let mut failures = Vec::new();
        for ip in wanted {
            if self.listeners.contains_key(&ip) || self.first().is_some() {
                continue;
            }
            let socket = SocketAddr::new(ip, self.port);
            match probe(socket).and_then(|()| bind(swarm, socket)) {
                Ok(listener) => drop(self.listeners.insert(ip, listener)),
                Err(error) => failures.push((socket, error)),
            }
        }
        failures
    }
}

pub(in crate::net) fn bind<B: NetworkBehaviour>(swarm: &mut Swarm<B>, socket: SocketAddr) -> io::Result<ListenerId> {
    swarm.listen_on(translate::address(socket)).map_err(|error| match error {
        TransportError::Other(error) => error,
        TransportError::MultiaddrNotSupported(_) => io::Error::other(error.to_string()),
    })
}

/// Checks that a port is free. libp2p binds with `SO_REUSEPORT`, so a second node on the same port would start, and the
/// two would share the incoming connections. A bind without that option fails if the port is taken.
pub(in crate::net) fn probe(socket: SocketAddr) -> io::Result<()> {
    if socket.port() == 0 { Ok(()) } else { TcpListener::bind(socket).map(drop) }
}
