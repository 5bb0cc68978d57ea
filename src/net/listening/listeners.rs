//! On which addresses does the node listen, while those of its interfaces come and go?

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use libp2p_core::Multiaddr;
use libp2p_core::transport::{ListenerId, TransportError};

use crate::config::AviP2pConfig;
use crate::net::interfaces::Addresses;
use crate::net::{Net, translate};

/// The listeners that stand in for wildcards where not every interface is used.
pub(super) struct Followed {
    wildcards: Vec<IpAddr>,
    /// 0 until the first listener has got one, which is then for all.
    port: u16,
    listeners: BTreeMap<IpAddr, ListenerId>,
}

impl Followed {
    pub(super) fn new(config: &AviP2pConfig) -> Self {
        let wildcards = config.listen_ips.iter().copied().filter(IpAddr::is_unspecified).collect();
        Self { wildcards, port: config.listen_port, listeners: BTreeMap::new() }
    }

    /// The first listener that has not got its port yet.
    pub(super) fn first(&self) -> Option<(ListenerId, SocketAddr)> {
        let first = self.listeners.first_key_value().filter(|_| self.port == 0);
        first.map(|(ip, id)| (*id, SocketAddr::new(*ip, 0)))
    }

    fn wanted(&self, addresses: &Addresses) -> Vec<IpAddr> {
        self.wildcards.iter().flat_map(|&wildcard| addresses.behind(wildcard)).collect()
    }
}

impl Net {
    /// The addresses of this machine may have changed.
    pub(super) fn on_interfaces(&mut self) {
        let Some(watch) = &self.watch else { return };
        let mdns = self.swarm.behaviour_mut().mdns.as_mut();
        mdns.into_iter().for_each(|mdns| mdns.set_addresses(watch.addresses.clone()));
        self.swarm_due.set();
        self.follow_or_retry();
    }

    pub(super) fn on_bound(&mut self, listener: ListenerId, address: &Multiaddr) {
        if let Some(followed) = &mut self.followed
            && let Some((socket, _)) = translate::parts(address)
            && followed.port == 0
            && followed.listeners.values().any(|followed| *followed == listener)
        {
            followed.port = socket.port();
            self.follow_or_retry();
        }
    }

    pub(super) fn on_unbound(&mut self, listener: ListenerId) {
        if let Some(followed) = &mut self.followed {
            let before = followed.listeners.len();
            followed.listeners.retain(|_, followed| *followed != listener);
            if followed.listeners.len() < before {
                self.watch.iter_mut().for_each(|watch| watch.retry());
            }
        }
    }

    /// Listens on the addresses that the wildcards stand for, and on no others. Returns what failed, and will be tried
    /// again.
    pub(super) fn follow_or_retry(&mut self) -> Vec<(SocketAddr, io::Error)> {
        let failures = self.follow();
        for (socket, error) in &failures {
            match error.kind() {
                // While the system checks that nobody else has the address.
                io::ErrorKind::AddrNotAvailable => tracing::debug!(%socket, %error, "cannot listen there yet"),
                _ => tracing::warn!(%socket, %error, "cannot listen there"),
            }
        }
        if !failures.is_empty() {
            self.watch.iter_mut().for_each(|watch| watch.retry());
        }
        failures
    }

    fn follow(&mut self) -> Vec<(SocketAddr, io::Error)> {
        let (Some(watch), Some(followed)) = (&self.watch, &mut self.followed) else { return Vec::new() };
        let wanted = followed.wanted(&watch.addresses);
        for (_, listener) in followed.listeners.extract_if(.., |ip, _| !wanted.contains(ip)) {
            self.swarm.remove_listener(listener);
        }
        let mut failures = Vec::new();
        for ip in wanted {
            let Some(followed) = &mut self.followed else { break };
            if followed.listeners.contains_key(&ip) || followed.first().is_some() {
                continue;
            }
            let socket = SocketAddr::new(ip, followed.port);
            match probe(socket).and_then(|()| self.bind(socket)) {
                Ok(listener) => drop(self.followed.as_mut().map(|followed| followed.listeners.insert(ip, listener))),
                Err(error) => failures.push((socket, error)),
            }
        }
        self.swarm_due.set();
        failures
    }

    pub(super) fn bind(&mut self, socket: SocketAddr) -> io::Result<ListenerId> {
        self.swarm.listen_on(translate::address(socket)).map_err(|error| match error {
            TransportError::Other(error) => error,
            TransportError::MultiaddrNotSupported(_) => io::Error::other(error.to_string()),
        })
    }
}

/// libp2p binds with `SO_REUSEPORT`, so that a second node on the same port would start, and the two would share the
/// connections between them. A bind without that option finds the port taken.
pub(super) fn probe(socket: SocketAddr) -> io::Result<()> {
    if socket.port() == 0 { Ok(()) } else { TcpListener::bind(socket).map(drop) }
}
