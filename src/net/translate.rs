//! How are libp2p's addresses, ids and errors expressed in AVI's terms?

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;

use avi_p2p_proto::config::invalid;

use crate::config::AviP2pConfig;
use crate::error::AviP2pError;
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

/// Checks that every entry of `bootstrap_peers` can be dialled.
///
/// # Errors
/// [`AviP2pError::InvalidConfig`] with the first entry that cannot.
pub(super) fn check_bootstrap_peers(config: &AviP2pConfig) -> Result<(), AviP2pError> {
    for (index, text) in config.bootstrap_peers.iter().enumerate() {
        if parse_dialable(text).is_none() {
            let shown: String = text.chars().take(128).collect();
            let is_name = text.starts_with("/dns");
            let what = if is_name { "an IP address, not a name" } else { "an IP address and a TCP port" };
            let expected = format!("{what}, as /ip4/198.51.100.1/tcp/9000, with or without /p2p/<peer id>");
            return Err(invalid(format!("bootstrap_peers[{index}]"), format!("{shown:?}"), expected));
        }
    }
    Ok(())
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
    use proptest::collection::vec;
    use proptest::prelude::*;

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
    fn a_bad_bootstrap_peer_is_named() {
        let config = |peers: &[&str]| AviP2pConfig {
            bootstrap_peers: peers.iter().map(|&peer| peer.to_owned()).collect(),
            ..Default::default()
        };
        let with_peer = format!("/ip4/192.0.2.1/tcp/9000/p2p/{PEER}");
        check_bootstrap_peers(&config(&["/ip6/::1/tcp/1", &with_peer])).unwrap();
        let long = "x".repeat(100_000);
        for bad in ["", "nonsense", "/ip4/192.0.2.1/tcp/0", "/ip4/0.0.0.0/tcp/1", "/dns4/example.org/tcp/1", &long] {
            let text = check_bootstrap_peers(&config(&["/ip6/::1/tcp/1", bad])).unwrap_err().to_string();
            assert!(text.contains("bootstrap_peers[1]") && text.contains("198.51.100.1"), "{text}");
            assert!(text.len() < 400, "{}", text.len());
            assert_eq!(text.contains("not a name"), bad.starts_with("/dns"), "{text}");
        }
    }

    #[test]
    fn a_name_is_cut_and_cleaned() {
        assert_eq!(name("kit\nchen\u{7f}"), "kitchen");
        assert_eq!(name(&"ü".repeat(100)), "ü".repeat(32));
        assert_eq!(name(&format!("x{}", "ü".repeat(100))).len(), 63);
    }

    /// Any text, and parts of addresses in any order.
    fn any_address() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("ip4/192.0.2.1".to_owned()),
            Just("ip6/::1".to_owned()),
            Just(format!("p2p/{PEER}")),
            any::<u32>().prop_map(|port| format!("tcp/{port}")),
            "[a-z0-9]{1,8}",
            "\\PC{0,8}",
            Just("p2p-circuit".to_owned()),
        ];
        let joined = vec(part, 0..6).prop_map(|parts| parts.iter().map(|part| format!("/{part}")).collect());
        prop_oneof![".*", joined, (0..3000usize).prop_map(|len| "/ip4".repeat(len))]
    }

    proptest! {
        #[test]
        fn any_text_in_bootstrap_peers_can_be_dialled_or_is_named(text in any_address()) {
            let config = AviP2pConfig { bootstrap_peers: vec![text.clone()], ..Default::default() };
            match check_bootstrap_peers(&config) {
                Ok(()) => {
                    let dialled = parse_dialable(&text).map(|address| address.to_string()).unwrap_or_default();
                    prop_assert!(!dialled.contains("p2p") && dialled.contains("/tcp/"), "{dialled}");
                    prop_assert_eq!(parse_dialable(&dialled).map(|again| again.to_string()), Some(dialled));
                }
                Err(error) => {
                    let shown = error.to_string();
                    prop_assert!(shown.contains("bootstrap_peers[0]") && shown.len() < 2000, "{shown}");
                }
            }
        }
    }
}
