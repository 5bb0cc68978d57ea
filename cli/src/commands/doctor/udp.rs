//! May this machine send datagrams? To itself through each interface, and to the addresses of peers.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::interfaces::Interface;
use super::{ok, problem};
use crate::line::Finding;

const WAIT: Duration = Duration::from_millis(500);
const ADVICE: &str = "look at the firewall and the routes (`nft list ruleset`, `ip rule`): audio goes over TCP without \
                      UDP, and waits there behind what is lost";

/// From and to each address of the interface.
pub(super) fn look(interface: &Interface) -> Vec<Finding> {
    let is_scoped = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let addresses = interface.addresses.iter().filter(|ip| !is_scoped(ip));
    addresses
        .map(|ip| match to_itself(*ip) {
            Ok(()) => ok("udp", format!("{ip} on {} sends and receives", interface.name)),
            Err(error) => {
                problem("udp", format!("{ip} on {} gets nothing from itself: {error}", interface.name), ADVICE)
            }
        })
        .collect()
}

fn to_itself(ip: IpAddr) -> io::Result<()> {
    let socket = UdpSocket::bind((ip, 0))?;
    let address = socket.local_addr()?;
    socket.set_read_timeout(Some(WAIT))?;
    let sent = std::process::id().to_be_bytes();
    socket.send_to(&sent, address)?;
    let mut buffer = [0; 16];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        if from == address && buffer[..len] == sent {
            return Ok(());
        }
    }
}

/// Whether this machine lets a datagram go to a peer. One byte, which the peer counts and ignores.
pub(super) fn to_peer(peer: SocketAddr) -> io::Result<()> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    socket.send(&[0]).map(drop)
}

/// What that says of a peer.
pub(super) fn towards(who: &str, peer: SocketAddr, sent: io::Result<()>) -> Option<Finding> {
    sent.err()
        .map(|error| problem("udp", format!("this machine sends no datagram to {who} at {peer}: {error}"), ADVICE))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn loopback_takes_datagrams_and_an_address_of_others_cannot_be_tried() {
        to_itself(Ipv4Addr::LOCALHOST.into()).unwrap();
        // RFC 5737: nobody's.
        assert!(to_itself(Ipv4Addr::new(192, 0, 2, 77).into()).is_err());
        to_peer((Ipv4Addr::LOCALHOST, 9).into()).unwrap();
    }
}
