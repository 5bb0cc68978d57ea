//! What are the addresses of a name now? Asked anew for every dial.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use futures_timer::Delay;

use crate::address::{Address, Host};
use crate::id::PeerId;
use crate::net::translate;
use crate::network::Network;
use crate::wake::{Flag, Wake};
use avi_p2p_proto::engine::DialId;

/// How long an answer may take. The system's own resolver asks a second time after 5 s.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most addresses of a name that are dialled.
const MAX_ADDRESSES: usize = 4;

/// The names that are being looked up. The engine bounds the number of dials, and so theirs.
pub(super) struct Names {
    network: Network,
    lookups: Vec<Lookup>,
    due: Arc<Flag>,
    waker: Waker,
}

struct Lookup {
    dial: DialId,
    peer: Option<PeerId>,
    answer: BoxFuture<'static, Result<Vec<String>, String>>,
}

/// What a dial may go on with.
pub(super) struct Found {
    pub(super) dial: DialId,
    pub(super) peer: Option<PeerId>,
    /// Addresses that can be dialled, or why there are none.
    pub(super) addresses: Result<Vec<String>, String>,
}

impl Names {
    pub(super) fn new(network: &Network, wake: Arc<Wake>) -> Self {
        let due = Flag::new(wake);
        Self { network: network.clone(), lookups: Vec::new(), waker: Waker::from(due.clone()), due }
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_set()
    }

    /// Looks up the host of a dial. Returns false if its address has no name.
    pub(super) fn look_up(&mut self, dial: DialId, peer: Option<&PeerId>, addresses: &[String]) -> bool {
        // Only an entry of `bootstrap_peers` may have a name, and it is dialled alone.
        let [text] = addresses else { return false };
        let Ok(address) = text.parse::<Address>() else { return false };
        let Some((name, wanted)) = name(address.host()) else { return false };
        let found = self.network.resolve(name);
        let (name, port) = (name.to_owned(), address.port());
        let answer = async move {
            let ips = match select(found, Delay::new(TIMEOUT)).await {
                Either::Left((Ok(ips), _)) => ips,
                Either::Left((Err(error), _)) => return Err(format!("{name}: {}", translate::root_cause(&error))),
                Either::Right(_) => return Err(format!("{name}: no answer from the resolver within {TIMEOUT:?}")),
            };
            dialable(ips.into_iter().filter(wanted), port).ok_or_else(|| format!("{name}: no such address"))
        };
        self.lookups.push(Lookup { dial, peer: peer.cloned(), answer: answer.boxed() });
        self.due.set();
        true
    }

    pub(super) fn poll(&mut self) -> Option<Found> {
        if !self.due.take() {
            return None;
        }
        let mut cx = Context::from_waker(&self.waker);
        for index in 0..self.lookups.len() {
            if let Poll::Ready(addresses) = self.lookups[index].answer.poll_unpin(&mut cx) {
                let Lookup { dial, peer, .. } = self.lookups.swap_remove(index);
                self.due.set();
                return Some(Found { dial, peer, addresses });
            }
        }
        None
    }
}

/// Which addresses of a name are wanted.
type Wanted = fn(&IpAddr) -> bool;

/// The name of a host, and which of its addresses are wanted.
fn name(host: &Host) -> Option<(&str, Wanted)> {
    Some(match host {
        Host::Dns(name) => (name, |_| true),
        Host::Dns4(name) => (name, IpAddr::is_ipv4),
        Host::Dns6(name) => (name, IpAddr::is_ipv6),
        _ => return None,
    })
}

/// The first addresses that can be dialled, each once; `None` if there are none. A link-local IPv6 address cannot: it
/// lacks its link.
fn dialable(ips: impl Iterator<Item = IpAddr>, port: u16) -> Option<Vec<String>> {
    let mut addresses = Vec::new();
    for ip in ips {
        let is_on_a_link = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let address = translate::dialable(&translate::address(SocketAddr::new(ip, port)));
        if let Some(address) = address.filter(|_| !is_on_a_link).map(|address| address.to_string())
            && addresses.len() < MAX_ADDRESSES
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    (!addresses.is_empty()).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_addresses_of_a_name_the_first_that_can_be_dialled_are_taken_once() {
        let ips = ["fe80::1", "2001:db8::1", "192.0.2.1", "0.0.0.0", "192.0.2.1", "::1", "192.0.2.2", "192.0.2.3"];
        let found = |host: Host| {
            let (_, wanted) = name(&host).unwrap();
            dialable(ips.iter().map(|ip| ip.parse().unwrap()).filter(wanted), 9)
        };
        let of = |ips: &[&str]| Some(ips.iter().map(|ip| format!("/{ip}/tcp/9")).collect::<Vec<_>>());
        let both = of(&["ip6/2001:db8::1", "ip4/192.0.2.1", "ip6/::1", "ip4/192.0.2.2"]);
        assert_eq!(found(Host::Dns("x".to_owned())), both);
        assert_eq!(found(Host::Dns4("x".to_owned())), of(&["ip4/192.0.2.1", "ip4/192.0.2.2", "ip4/192.0.2.3"]));
        assert_eq!(found(Host::Dns6("x".to_owned())), of(&["ip6/2001:db8::1", "ip6/::1"]));
        assert_eq!(dialable(std::iter::empty(), 9), None);
        assert!(name(&Host::Ip([127, 0, 0, 1].into())).is_none());
    }
}
