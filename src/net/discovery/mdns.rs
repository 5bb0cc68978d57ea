//! Which nodes are on this network? mDNS that announces only what the configuration allows, and accepts only addresses
//! that are possible.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p_core::transport::{ListenerId, PortUse};
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_mdns::{self as mdns, IPV4_MDNS_MULTICAST_ADDRESS};
use libp2p_swarm::behaviour::{ExpiredListenAddr, FromSwarm, NewListenAddr};
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;

use crate::net::listening::Addresses;
use crate::net::translate;

const PORT: u16 = 5353;
/// The most addresses of one batch that are examined.
const MAX_BATCH: usize = 256;
/// How long the state of the interfaces is taken as current. A cable that is pulled out changes no address and is not
/// reported.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// An event of mDNS.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::net) enum Event {
    /// A peer announced itself, perhaps again.
    Heard { peer: PeerId, addresses: Vec<SocketAddr> },
    /// The number of addresses that were dropped.
    Ignored(u64),
    /// mDNS does not work on this machine. Reported after every failed attempt.
    Unavailable(String),
    /// mDNS works again.
    Available,
}

/// Wraps libp2p's mDNS, which remembers addresses for as long as their sender asks, adds them to every dial, and
/// announces every address that the node listens on. This wrapper remembers nothing: it checks what it hears, and
/// passes it on.
pub(in crate::net) struct Mdns {
    local: PeerId,
    /// The runtime of upstream's tasks.
    reactor: Handle,
    /// `None` if it could not be created.
    upstream: Option<mdns::tokio::Behaviour>,
    addresses: Addresses,
    read_at: Instant,
    /// The addresses that are announced.
    announced: BTreeMap<Multiaddr, ListenerId>,
    failure: Option<String>,
    events: VecDeque<Event>,
}

impl Mdns {
    pub(in crate::net) fn new(local: PeerId, addresses: Addresses, reactor: Handle) -> Self {
        let mut new = Self {
            local,
            reactor,
            upstream: None,
            addresses,
            read_at: Instant::now(),
            announced: BTreeMap::new(),
            failure: None,
            events: VecDeque::new(),
        };
        new.check();
        new
    }

    /// Sets the addresses of this machine after a change.
    pub(in crate::net) fn set_addresses(&mut self, addresses: Addresses) {
        (self.addresses, self.read_at) = (addresses, Instant::now());
        self.check();
    }

    /// Checks whether mDNS works, and reports a failure or a recovery. Upstream tries an address once and only logs its
    /// failure, so the upstream behaviour is created again after a failure.
    pub(in crate::net) fn check(&mut self) {
        let reactor = self.reactor.clone();
        let _entered = reactor.enter();
        let mut result = probe(self.addresses.of_mdns());
        if self.upstream.is_none() || self.failure.is_some() && result.is_ok() {
            let renewed = self.renew().map_err(|error| error.to_string());
            result = result.and(renewed);
        }
        let failure = result.err();
        match &failure {
            Some(reason) => {
                if failure != self.failure {
                    tracing::warn!(reason, "no mDNS");
                }
                self.events.push_back(Event::Unavailable(reason.clone()));
            }
            None if self.failure.is_some() => self.events.push_back(Event::Available),
            None => {}
        }
        self.failure = failure;
    }

    fn renew(&mut self) -> io::Result<()> {
        if let Some(old) = &mut self.upstream {
            // Its tasks live on until they receive something. They must not announce anything any more.
            for (addr, listener_id) in &self.announced {
                let expired = ExpiredListenAddr { listener_id: *listener_id, addr };
                old.on_swarm_event(FromSwarm::ExpiredListenAddr(expired));
            }
        }
        let mut upstream = mdns::tokio::Behaviour::new(mdns::Config::default(), self.local)?;
        for (addr, listener_id) in &self.announced {
            let new = NewListenAddr { listener_id: *listener_id, addr };
            upstream.on_swarm_event(FromSwarm::NewListenAddr(new));
        }
        self.upstream = Some(upstream);
        Ok(())
    }

    fn may_announce(&self, address: &Multiaddr) -> bool {
        translate::parts(address).is_some_and(|(socket, _)| {
            let ip = socket.ip();
            !ip.is_loopback() && !ip.is_unspecified() && self.addresses.is_used(ip)
        })
    }

    fn on_heard(&mut self, now: Instant, heard: Vec<(PeerId, Multiaddr)>) {
        if now.duration_since(self.read_at) >= FRESH_FOR {
            self.read_at = now;
            self.addresses.refresh();
        }
        if let Some(upstream) = &mut self.upstream {
            #[allow(deprecated)] // Nothing else removes a record.
            heard.iter().for_each(|(peer, _)| upstream.expire_node(peer));
        }
        let mut near = BTreeMap::<_, Vec<_>>::new();
        let mut ignored = heard.len().saturating_sub(MAX_BATCH);
        for (peer, address) in heard.into_iter().take(MAX_BATCH) {
            match neighbour(&address).filter(|socket| self.addresses.is_on_link(socket.ip())) {
                Some(socket) => near.entry(peer).or_default().push(socket),
                None => ignored += 1,
            }
        }
        self.events.extend(near.into_iter().map(|(peer, addresses)| Event::Heard { peer, addresses }));
        if ignored > 0 {
            tracing::debug!(ignored, "addresses heard by mDNS are not used");
            self.events.push_back(Event::Ignored(ignored as u64));
        }
    }
}

/// The address at which a node could be dialled.
fn neighbour(address: &Multiaddr) -> Option<SocketAddr> {
    translate::parts(&translate::dialable(address)?).map(|(socket, _)| socket)
}

/// Tries on each of these addresses what upstream does.
fn probe(ips: impl Iterator<Item = IpAddr>) -> Result<(), String> {
    for ip in ips {
        if let IpAddr::V4(ip) = ip {
            join(ip).map_err(|error| format!("UDP port {PORT} cannot be shared on {ip}: {error}"))?;
        }
    }
    Ok(())
}

fn join(ip: Ipv4Addr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
    socket.join_multicast_v4(&IPV4_MDNS_MULTICAST_ADDRESS, &ip)
}

impl NetworkBehaviour for Mdns {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::NewListenAddr(new) if self.may_announce(new.addr) => {
                self.announced.insert(new.addr.clone(), new.listener_id);
            }
            FromSwarm::ExpiredListenAddr(expired) => {
                self.announced.remove(expired.addr);
            }
            _ => return,
        }
        self.upstream.iter_mut().for_each(|upstream| upstream.on_swarm_event(event));
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let reactor = self.reactor.clone();
        let _entered = reactor.enter();
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            match self.upstream.as_mut().map(|upstream| upstream.poll(cx)) {
                Some(Poll::Ready(ToSwarm::GenerateEvent(mdns::Event::Discovered(heard)))) => {
                    self.on_heard(Instant::now(), heard);
                }
                // Ignores the records that upstream expires, and the addresses that it reports.
                Some(Poll::Ready(_)) => {}
                Some(Poll::Pending) | None => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::config::Interfaces;
    use crate::net::listening::test_addresses as addresses;

    fn mdns(allowed: Interfaces) -> Mdns {
        // No address here both is up and has mDNS, so no socket is needed.
        let addresses = addresses(allowed, &["fd00::7/64 eth0", "fd01::7/64 tun0"]);
        Mdns::new(PeerId::random(), addresses, Handle::current())
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    /// The events for these addresses, with unchanged interfaces.
    fn hear(mdns: &mut Mdns, heard: &[(PeerId, &str)]) -> Vec<Event> {
        let heard = heard.iter().map(|(peer, address)| (*peer, address.parse().unwrap())).collect();
        mdns.on_heard(mdns.read_at, heard);
        mdns.events.drain(..).collect()
    }

    #[test]
    fn only_plain_addresses_of_neighbours_are_told_and_the_others_counted() {
        run(async {
            let (one, two) = (PeerId::random(), PeerId::random());
            let mut mdns = mdns(Interfaces::Except(vec!["tun*".to_owned()]));
            let with_id = format!("/ip6/fd00::1/tcp/9000/p2p/{one}");
            let heard = [
                (one, with_id.as_str()),
                (one, "/ip6/fd00::1/udp/9000/quic-v1"),
                (one, "/ip6/fd00::1/tcp/0"),
                (one, "/ip6/::1/tcp/9000"),
                (one, "/ip6/fe80::1/tcp/9000"),
                (one, "/ip6/fd01::1/tcp/9000"),
                (one, "/ip4/192.0.2.1/tcp/9000"),
                (one, "/ip6/fd00::2/tcp/9000"),
                (two, "/ip6/fd01::2/tcp/9000"),
            ];
            let addresses = ["[fd00::1]:9000", "[fd00::2]:9000"].map(|text| text.parse().unwrap()).to_vec();
            assert_eq!(hear(&mut mdns, &heard), [Event::Heard { peer: one, addresses }, Event::Ignored(7)]);
        });
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        run(async {
            let mut mdns = mdns(Interfaces::All);
            let texts: Vec<_> = (1..1000).map(|port| format!("/ip6/fd00::1/tcp/{port}")).collect();
            let flood: Vec<_> = texts.iter().map(|text| (PeerId::random(), text.as_str())).collect();
            let events = hear(&mut mdns, &flood);
            assert_eq!((events.len(), events.last()), (MAX_BATCH + 1, Some(&Event::Ignored(999 - MAX_BATCH as u64))));
        });
    }

    #[test]
    fn a_failure_is_told_at_every_try_and_so_is_its_end() {
        run(async {
            let mut mdns = mdns(Interfaces::All);
            assert_eq!(mdns.failure, None);
            // Nobody has this address, so no interface can join there.
            let broken = addresses(Interfaces::All, &["192.0.2.77/24 eth0"]);
            let mended = addresses(Interfaces::All, &[]);
            for _ in 0..2 {
                mdns.set_addresses(broken.clone());
                mdns.check();
                for _ in 0..2 {
                    let Some(Event::Unavailable(reason)) = mdns.events.pop_front() else { panic!("not reported") };
                    assert!(reason.contains("5353") && reason.contains("192.0.2.77"), "{reason}");
                }
                mdns.set_addresses(mended.clone());
                mdns.check();
                assert_eq!((mdns.events.pop_front(), mdns.events.pop_front()), (Some(Event::Available), None));
                assert_eq!(mdns.failure, None);
            }
        });
    }

    #[test]
    fn only_addresses_of_interfaces_that_are_used_are_announced_and_never_loopback() {
        run(async {
            let mut mdns = mdns(Interfaces::Except(vec!["tun0".to_owned()]));
            let listener_id = ListenerId::next();
            for text in ["/ip6/fd00::7/tcp/1", "/ip6/fd01::7/tcp/1", "/ip6/::1/tcp/1", "/ip4/127.0.0.1/tcp/1"] {
                let addr = &text.parse().unwrap();
                mdns.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }));
            }
            let announced: Vec<_> = mdns.announced.keys().map(Multiaddr::to_string).collect();
            assert_eq!(announced, ["/ip6/fd00::7/tcp/1"]);
            let addr = &announced[0].parse().unwrap();
            mdns.on_swarm_event(FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr }));
            assert!(mdns.announced.is_empty());
        });
    }

    #[test]
    fn which_addresses_are_dialled_is_not_its_business() {
        run(async {
            let (mut mdns, peer) = (mdns(Interfaces::All), PeerId::random());
            hear(&mut mdns, &[(peer, "/ip6/fd00::1/tcp/1")]);
            let connection = ConnectionId::new_unchecked(1);
            let more = mdns.handle_pending_outbound_connection(connection, Some(peer), &[], Endpoint::Dialer);
            assert_eq!(more.unwrap(), []);
            poll_fn(|cx| {
                assert!(mdns.poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        });
    }
}
