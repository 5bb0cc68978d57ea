//! Where does a node listen, while the addresses of its machine change?

mod here;
mod interfaces;
mod listeners;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};

use libp2p_core::Multiaddr;
use libp2p_core::transport::ListenerId;
use libp2p_swarm::{NetworkBehaviour, Swarm};

pub(super) use self::here::Here;
#[cfg(test)]
pub(super) use self::interfaces::tests::addresses as test_addresses;
pub(super) use self::interfaces::{Addresses, Watch};
use self::listeners::Followed;
pub(super) use self::listeners::{bind, probe};
use crate::config::AviP2pConfig;
use crate::net::translate;
use avi_p2p_proto::engine::NetEvent;

/// The listeners of a node.
pub(super) struct Listening {
    /// Watches the operating system's addresses, if anything depends on them.
    watch: Option<Watch>,
    /// The addresses that the transport reports in place of a wildcard.
    here: Option<Here>,
    /// The configured port, and the addresses whose listeners stay.
    port: u16,
    fixed: BTreeSet<IpAddr>,
    /// The listeners that replace wildcards; `None` if all interfaces are used.
    followed: Option<Followed>,
    /// The addresses that the engine knows; `None` until the start is complete.
    told: Option<Vec<String>>,
}

impl Listening {
    /// With `follows`, the listeners that replace wildcards follow the interfaces that are used.
    pub(super) fn new(config: &AviP2pConfig, watch: Option<Watch>, here: Option<Here>, follows: bool) -> Self {
        let fixed = config.listen_ips.iter().copied().filter(|ip| !follows || !ip.is_unspecified()).collect();
        let followed = follows.then(|| Followed::new(config));
        Self { watch, here, port: config.listen_port, fixed, followed, told: None }
    }

    /// The addresses whose listeners stay, in order.
    pub(super) fn fixed(&self) -> impl Iterator<Item = IpAddr> {
        self.fixed.iter().copied()
    }

    /// All addresses to listen on now.
    pub(super) fn ips(&self) -> BTreeSet<IpAddr> {
        let followed = self.followed.as_ref().zip(self.watch.as_ref());
        let wanted = followed.map(|(followed, watch)| followed.wanted(&watch.addresses)).unwrap_or_default();
        self.fixed().chain(wanted).collect()
    }

    /// The port of the listeners; `None` if there was none to choose one so far.
    pub(super) fn port<B: NetworkBehaviour>(&self, swarm: &Swarm<B>) -> Option<u16> {
        let chosen = || swarm.listeners().filter_map(translate::parts).map(|(socket, _)| socket.port()).next();
        if self.port == 0 { chosen() } else { Some(self.port) }
    }

    #[cfg(test)]
    pub(super) fn follows(&self) -> bool {
        self.followed.is_some()
    }

    #[cfg(test)]
    pub(super) fn watches(&self) -> bool {
        self.watch.is_some()
    }

    pub(super) fn is_due(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::is_due)
    }

    /// The addresses of this machine, if the watch has reported a change.
    pub(super) fn poll_changed(&mut self) -> Option<&Addresses> {
        let watch = self.watch.as_mut()?;
        if !watch.poll_changed() {
            return None;
        }
        self.here.iter().for_each(|here| here.set(watch.addresses.clone()));
        Some(&watch.addresses)
    }

    /// The addresses of this machine, if they have changed. Reads them without waiting for the watch to report.
    pub(super) fn look_for_change(&mut self) -> Option<&Addresses> {
        let watch = self.watch.as_mut()?;
        if !watch.addresses.refresh() {
            return None;
        }
        self.here.iter().for_each(|here| here.set(watch.addresses.clone()));
        Some(&watch.addresses)
    }

    /// The first listener that replaces a wildcard and has no port yet.
    pub(super) fn first(&self) -> Option<(ListenerId, SocketAddr)> {
        self.followed.as_ref().and_then(Followed::first)
    }

    /// Listens on exactly the addresses that the wildcards stand for. Returns the failures; the engine orders the
    /// retry.
    pub(super) fn follow<B: NetworkBehaviour>(
        &mut self,
        swarm: &mut Swarm<B>,
        events: &mut VecDeque<NetEvent>,
    ) -> Vec<(SocketAddr, io::Error)> {
        let (Some(watch), Some(followed)) = (&mut self.watch, &mut self.followed) else { return Vec::new() };
        let failures = followed.follow(&watch.addresses, swarm);
        for (socket, error) in &failures {
            match error.kind() {
                // The system is still checking whether another host has the address.
                io::ErrorKind::AddrNotAvailable => tracing::debug!(%socket, %error, "cannot listen there yet"),
                _ => tracing::warn!(%socket, %error, "cannot listen there"),
            }
        }
        if !failures.is_empty() {
            events.push_back(NetEvent::ListenersMissing);
        }
        failures
    }

    // Events of the swarm.

    pub(super) fn on_bound<B: NetworkBehaviour>(
        &mut self,
        listener: ListenerId,
        address: &Multiaddr,
        swarm: &mut Swarm<B>,
        events: &mut VecDeque<NetEvent>,
    ) {
        let socket = translate::parts(address).map(|(socket, _)| socket);
        if let (Some(followed), Some(socket)) = (&mut self.followed, socket)
            && followed.learn_port(listener, socket.port())
        {
            self.follow(swarm, events);
        }
    }

    pub(super) fn on_unbound(&mut self, listener: ListenerId, events: &mut VecDeque<NetEvent>) {
        if let Some(followed) = &mut self.followed
            && followed.forget(listener)
        {
            events.push_back(NetEvent::ListenersMissing);
        }
    }

    /// Reports the listen addresses to the engine, if they have changed.
    pub(super) fn report<B: NetworkBehaviour>(&mut self, swarm: &Swarm<B>, events: &mut VecDeque<NetEvent>) {
        let mut addresses: Vec<_> = swarm.listeners().map(translate::text).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if self.told.as_ref() != Some(&addresses) {
            tracing::info!(?addresses, "listening");
            self.told = Some(addresses.clone());
            events.push_back(NetEvent::Listening { addresses });
        }
    }

    /// As `report`, but only after the start is complete.
    pub(super) fn report_change<B: NetworkBehaviour>(&mut self, swarm: &Swarm<B>, events: &mut VecDeque<NetEvent>) {
        if self.told.is_some() {
            self.report(swarm, events);
        }
    }
}
