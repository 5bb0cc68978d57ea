//! Where do datagrams to a peer go? To the IP address of its connection.

use std::net::{IpAddr, Ipv6Addr};

/// The IP address in the text of a connection's address, `/ip4/…` or `/ip6/…`, whatever follows.
///
/// `None` if no datagram can be sent to it: for another form; for a wildcard or a multicast address; and for a link-local
/// IPv6 address, whose text does not name its link. An IPv4 address within an IPv6 one is given as itself.
pub fn ip_of(address: &str) -> Option<IpAddr> {
    let mut parts = address.strip_prefix('/')?.split('/');
    let ip = match (parts.next()?, parts.next()?) {
        ("ip4", ip) => IpAddr::V4(ip.parse().ok()?),
        ("ip6", ip) => ip.parse::<Ipv6Addr>().ok()?.to_canonical(),
        _ => return None,
    };
    let is_on_a_link = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    (!ip.is_unspecified() && !ip.is_multicast() && !is_on_a_link).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ip_of_a_connection_is_that_of_its_address() {
        for (address, ip) in [
            ("/ip4/192.0.2.1/tcp/9000", Some("192.0.2.1")),
            ("/ip4/127.0.0.1/tcp/9000/p2p/x", Some("127.0.0.1")),
            ("/ip4/169.254.3.4/tcp/1", Some("169.254.3.4")),
            ("/ip6/2001:db8::1/tcp/9000", Some("2001:db8::1")),
            ("/ip6/::1/tcp/9000", Some("::1")),
            ("/ip6/fd00::7/tcp/9000", Some("fd00::7")),
            ("/ip6/::ffff:192.0.2.1/tcp/9000", Some("192.0.2.1")),
            // libp2p leaves the link away, or puts it in front.
            ("/ip6/fe80::1/tcp/9000", None),
            ("/ip6zone/eth0/ip6/fe80::1/tcp/9000", None),
            ("/ip6/fe80::1%eth0/tcp/9000", None),
            ("/ip4/0.0.0.0/tcp/9000", None),
            ("/ip6/::/tcp/9000", None),
            ("/ip4/224.0.0.251/tcp/9000", None),
            ("/ip6/ff02::1/tcp/9000", None),
            ("/ip4/2001:db8::1/tcp/9000", None),
            ("/ip6/192.0.2.1/tcp/9000", None),
            ("/dns4/example.org/tcp/9000", None),
            ("192.0.2.1:9000", None),
            ("/ip4", None),
            ("/ip4/", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(ip_of(address), ip.map(|ip| ip.parse().unwrap()), "{address}");
        }
    }
}
