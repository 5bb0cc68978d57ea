//! Which interfaces does the node use, and which addresses do they have now?

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use if_addrs::{IfAddr, Interface};
use if_watch::tokio::IfWatcher;
use tokio::runtime::Handle;

use avi_p2p_proto::config::invalid;

use crate::config::{AviP2pConfig, Interfaces};
use crate::error::AviP2pError;
use crate::wake::{Flag, Wake};

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Address {
    ip: IpAddr,
    prefix_bits: u8,
    interface: String,
    is_up: bool,
}

impl Address {
    fn read(interface: Interface) -> Self {
        let prefix_bits = match &interface.addr {
            IfAddr::V4(address) => address.prefixlen,
            IfAddr::V6(address) => address.prefixlen,
        };
        let (ip, is_up) = (interface.ip(), interface.is_oper_up());
        Self { ip, prefix_bits, interface: interface.name, is_up }
    }

    fn has_in_subnet(&self, other: IpAddr) -> bool {
        match (self.ip, other) {
            (IpAddr::V4(ip), IpAddr::V4(other)) => {
                let differing = u32::from(ip) ^ u32::from(other);
                differing.leading_zeros() >= self.prefix_bits.into()
            }
            (IpAddr::V6(ip), IpAddr::V6(other)) => {
                let differing = u128::from(ip) ^ u128::from(other);
                differing.leading_zeros() >= self.prefix_bits.into()
            }
            _ => false,
        }
    }
}

/// The addresses of this machine when they were last read, and which of them the configuration allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::net) struct Addresses {
    allowed: Interfaces,
    all: Vec<Address>,
}

impl Addresses {
    pub(super) fn read(allowed: Interfaces) -> io::Result<Self> {
        let mut all: Vec<_> = if_addrs::get_if_addrs()?.into_iter().map(Address::read).collect();
        all.sort_unstable();
        Ok(Self { allowed, all })
    }

    /// Reads the addresses again. Returns whether they have changed.
    pub(in crate::net) fn refresh(&mut self) -> bool {
        match Self::read(self.allowed.clone()) {
            Ok(now) => std::mem::replace(&mut self.all, now.all) != self.all,
            Err(error) => {
                tracing::warn!(%error, "cannot read the addresses of the interfaces");
                false
            }
        }
    }

    /// Warns of names in the configuration that match no interface: they may be wrong.
    pub(in crate::net) fn warn_of_unmatched(&self) {
        let names = self.all.iter().map(|address| address.interface.as_str()).collect();
        for name in self.allowed.unmatched(&names) {
            tracing::warn!(name, interfaces = ?names, "no interface of this name has an address now: check `interfaces`");
        }
    }

    fn used(&self) -> impl Iterator<Item = &Address> {
        self.all.iter().filter(|address| self.allowed.allows(&address.interface))
    }

    /// The allowed addresses to listen on, of the wildcard's family. A link-local IPv6 address is never among them:
    /// without the name of its link it means nothing.
    pub(super) fn behind(&self, wildcard: IpAddr) -> impl Iterator<Item = IpAddr> {
        let same_family = move |ip: &IpAddr| ip.is_ipv4() == wildcard.is_ipv4();
        self.used().map(|address| address.ip).filter(same_family).filter(|ip| !is_bound_to_link(*ip))
    }

    /// The addresses on which mDNS should work.
    pub(in crate::net) fn of_mdns(&self) -> impl Iterator<Item = IpAddr> {
        let near = self.used().filter(|address| address.is_up && address.ip.is_ipv4());
        near.map(|address| address.ip).filter(|ip| !ip.is_loopback())
    }

    /// Whether this is an address of an interface that is used.
    pub(in crate::net) fn is_used(&self, ip: IpAddr) -> bool {
        self.allowed == Interfaces::All || self.used().any(|address| address.ip == ip)
    }

    /// Whether an address is on a local link: reachable without a router, through an interface that is used.
    pub(in crate::net) fn is_on_link(&self, ip: IpAddr) -> bool {
        let is_plain = !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !is_bound_to_link(ip);
        is_plain && self.used().any(|address| address.is_up && address.has_in_subnet(ip))
    }

    /// Checks that the node may listen on every entry of `listen_ips` that is not a wildcard.
    ///
    /// # Errors
    /// [`AviP2pError::InvalidConfig`] with the first entry whose interface is not allowed.
    pub(in crate::net) fn check_listen_ips(&self, config: &AviP2pConfig) -> Result<(), AviP2pError> {
        for (index, &ip) in config.listen_ips.iter().enumerate() {
            // The whole of 127.0.0.0/8 belongs to this machine.
            let is_of = |address: &&Address| address.ip == ip || ip.is_loopback() && address.has_in_subnet(ip);
            if let Some(address) = self.all.iter().find(is_of)
                && !self.used().any(|address| is_of(&address))
            {
                let expected =
                    format!("an address of an allowed interface; {} is not in `interfaces`", address.interface);
                return Err(invalid(format!("listen_ips[{index}]"), ip.to_string(), expected));
            }
        }
        Ok(())
    }
}

fn is_bound_to_link(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Watches the addresses of this machine.
pub(in crate::net) struct Watch {
    pub(in crate::net) addresses: Addresses,
    /// `None` after it has failed.
    watcher: Option<IfWatcher>,
    /// The runtime of the watcher.
    reactor: Handle,
    due: Arc<Flag>,
    waker: Waker,
}

impl Watch {
    pub(in crate::net) fn new(allowed: Interfaces, reactor: Handle, wake: Arc<Wake>) -> io::Result<Self> {
        let due = Flag::new(wake);
        let entered = reactor.enter();
        let watcher = Some(IfWatcher::new()?);
        drop(entered);
        Ok(Self { addresses: Addresses::read(allowed)?, watcher, reactor, waker: Waker::from(due.clone()), due })
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_set()
    }

    /// Whether the addresses have changed.
    pub(super) fn poll_changed(&mut self) -> bool {
        if !self.due.take() {
            return false;
        }
        let _entered = self.reactor.enter();
        let cx = &mut Context::from_waker(&self.waker);
        let mut has_news = false;
        while let Some(watcher) = &mut self.watcher
            && let Poll::Ready(news) = watcher.poll_if_event(cx)
        {
            has_news = true;
            if let Err(error) = news {
                tracing::warn!(%error, "the addresses of the interfaces are no longer watched");
                self.watcher = None;
            }
        }
        has_news && self.addresses.refresh()
    }
}

#[cfg(test)]
pub(in crate::net) mod tests {
    use super::*;

    /// Addresses as `ip/prefix interface`, or `ip/prefix interface down`.
    pub(in crate::net) fn addresses(allowed: Interfaces, texts: &[&str]) -> Addresses {
        let address = |text: &&str| {
            let words: Vec<_> = text.split(' ').collect();
            let (ip, prefix_bits) = words[0].split_once('/').unwrap();
            let (ip, prefix_bits) = (ip.parse().unwrap(), prefix_bits.parse().unwrap());
            Address { ip, prefix_bits, interface: words[1].to_owned(), is_up: words.len() == 2 }
        };
        Addresses { allowed, all: texts.iter().map(address).collect() }
    }

    fn home(allowed: Interfaces) -> Addresses {
        let all = [
            "127.0.0.1/8 lo",
            "192.0.2.7/24 eth0",
            "198.51.100.7/31 wlan0 down",
            "203.0.113.1/16 docker0",
            "::1/128 lo",
            "fd00::7/64 eth0",
            "fe80::7/64 eth0",
        ];
        addresses(allowed, &all)
    }

    fn except(names: &[&str]) -> Interfaces {
        Interfaces::Except(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn a_neighbour_is_in_the_subnet_of_an_interface_that_is_used_and_up() {
        for (ip, of_all, of_some) in [
            ("192.0.2.1", true, true),
            ("192.0.2.7", true, true),
            ("192.0.3.1", false, false),
            ("203.0.200.1", true, false),
            ("198.51.100.6", false, false),
            ("127.0.0.1", false, false),
            ("0.0.0.0", false, false),
            ("224.0.0.251", false, false),
            ("fd00::1", true, true),
            ("fd00:0:0:1::1", false, false),
            ("fe80::1", false, false),
            ("::1", false, false),
        ] {
            let ip = ip.parse().unwrap();
            assert_eq!(home(Interfaces::All).is_on_link(ip), of_all, "{ip}");
            assert_eq!(home(except(&["docker*"])).is_on_link(ip), of_some, "{ip}");
        }
        let anywhere = addresses(Interfaces::All, &["192.0.2.7/0 tun0"]);
        assert!(anywhere.is_on_link("203.0.113.1".parse().unwrap()));
    }

    #[test]
    fn a_wildcard_stands_for_the_addresses_of_the_interfaces_that_are_used() {
        let behind = |allowed, wildcard: &str| -> Vec<String> {
            home(allowed).behind(wildcard.parse().unwrap()).map(|ip| ip.to_string()).collect()
        };
        assert_eq!(behind(except(&["docker*"]), "0.0.0.0"), ["127.0.0.1", "192.0.2.7", "198.51.100.7"]);
        assert_eq!(behind(except(&["docker*", "lo"]), "::"), ["fd00::7"]);
        assert_eq!(behind(Interfaces::Only(vec!["lo".to_owned()]), "::"), ["::1"]);
        assert_eq!(behind(Interfaces::Only(vec!["tun0".to_owned()]), "0.0.0.0"), [""; 0]);
    }

    #[test]
    fn an_address_of_an_interface_that_is_not_allowed_is_named() {
        let check = |allowed, ips: &[&str]| {
            let listen_ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            home(allowed).check_listen_ips(&AviP2pConfig { listen_ips, ..Default::default() })
        };
        check(Interfaces::All, &["127.0.0.1", "203.0.113.1"]).unwrap();
        // An address that nobody has fails later, when it is bound.
        check(except(&["docker0"]), &["0.0.0.0", "192.0.2.7", "127.0.0.9", "198.51.100.200"]).unwrap();
        for (allowed, ip, interface) in [
            (except(&["docker0"]), "203.0.113.1", "docker0"),
            (except(&["lo"]), "127.0.0.9", "lo"),
            (Interfaces::Only(vec!["lo".to_owned()]), "fd00::7", "eth0"),
        ] {
            let text = check(allowed, &["::", ip]).unwrap_err().to_string();
            assert!(text.contains("listen_ips[1]") && text.contains(ip) && text.contains(interface), "{text}");
        }
    }
}
