//! How are libp2p's addresses, ids and errors expressed in AVI's terms?

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;

use crate::id::PeerId;

/// The longest address that is passed on. A plain IP address and port is shorter.
const MAX_ADDRESS_BYTES: usize = 128;
/// The most addresses of one peer in one hint.
const MAX_HINTS: usize = 32;
const MAX_NAME_BYTES: usize = 64;

pub(super) fn peer_id(peer: &libp2p_identity::PeerId) -> PeerId {
    PeerId::new(&peer.to_base58())
}

/// Returns `None` for text that is not a peer id.
pub(super) fn libp2p_peer_id(peer: &PeerId) -> Option<libp2p_identity::PeerId> {
    peer.as_str().parse().ok()
}

/// The IP address and port of `/ip4|ip6/…/tcp/…`, and the peer id if `/p2p/…` follows. `None` for any other form.
pub(super) fn parts(address: &Multiaddr) -> Option<(SocketAddr, Option<libp2p_identity::PeerId>)> {
    let mut protocols = address.iter();
    let ip: IpAddr = match protocols.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Tcp(port) = protocols.next()? else { return None };
    let peer = match protocols.next() {
        None => None,
        Some(Protocol::P2p(peer)) => Some(peer),
        Some(_) => return None,
    };
    protocols.next().is_none().then_some((SocketAddr::new(ip, port), peer))
}

pub(super) fn address(socket: SocketAddr) -> Multiaddr {
    Multiaddr::empty().with(socket.ip().into()).with(Protocol::Tcp(socket.port()))
}

/// The text of an address, without the peer id.
pub(super) fn text(address: &Multiaddr) -> String {
    let plain: Multiaddr = address.iter().filter(|protocol| !matches!(protocol, Protocol::P2p(_))).collect();
    plain.to_string()
}

/// An address that can be dialled, without its peer id.
pub(super) fn dialable(address: &Multiaddr) -> Option<Multiaddr> {
    let (socket, _) = parts(address)?;
    let possible = socket.port() != 0 && !socket.ip().is_unspecified() && !socket.ip().is_multicast();
    possible.then(|| self::address(socket))
}

/// As [`dialable`], from text.
pub(super) fn parse_dialable(text: &str) -> Option<Multiaddr> {
    if text.len() > MAX_ADDRESS_BYTES {
        return None;
    }
    dialable(&text.parse().ok()?)
}

/// The addresses that can be dialled among those that a peer, or another source, claims for it. Each appears once.
pub(super) fn hints<'a>(addresses: impl IntoIterator<Item = &'a Multiaddr>) -> Vec<String> {
    let mut hints = Vec::new();
    for hint in addresses.into_iter().filter_map(dialable).map(|address| address.to_string()) {
        if hints.len() < MAX_HINTS && !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    hints
}

/// The name that a peer gives itself, made safe to display.
pub(super) fn name(agent: &str) -> String {
    cut(agent.chars().filter(|c| !c.is_control()).collect(), MAX_NAME_BYTES)
}

pub(super) fn cut(mut text: String, max_bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(max_bytes));
    text
}

/// The innermost error. For a socket it is the operating system's error.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

/// The error, its cause, and so on.
pub(super) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // An io::Error that wraps another error returns that error's source as its own source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";

    #[test]
    fn only_plain_tcp_addresses_are_dialled() {
        for (text, dialled) in [
            ("/ip4/192.0.2.1/tcp/9000".to_owned(), Some("/ip4/192.0.2.1/tcp/9000")),
            (format!("/ip6/2001:db8::1/tcp/9000/p2p/{PEER}"), Some("/ip6/2001:db8::1/tcp/9000")),
            ("/ip4/0.0.0.0/tcp/9000".to_owned(), None),
            ("/ip4/192.0.2.1/tcp/0".to_owned(), None),
            ("/ip4/192.0.2.1/udp/9000".to_owned(), None),
            ("/ip4/224.0.0.1/tcp/9000".to_owned(), None),
            ("/dns4/example.org/tcp/9000".to_owned(), None),
            ("/ip4/192.0.2.1/tcp/9000/ws".to_owned(), None),
            (format!("/ip4/192.0.2.1/tcp/9000/p2p/{PEER}/p2p-circuit/p2p/{PEER}"), None),
            ("192.0.2.1:9000".to_owned(), None),
        ] {
            assert_eq!(parse_dialable(&text).map(|address| address.to_string()).as_deref(), dialled, "{text}");
        }
    }

    #[test]
    fn a_name_is_cut_and_cleaned() {
        assert_eq!(name("kit\nchen\u{7f}"), "kitchen");
        assert_eq!(name(&"ü".repeat(100)), "ü".repeat(32));
        assert_eq!(name(&format!("x{}", "ü".repeat(100))).len(), 63);
    }
}
