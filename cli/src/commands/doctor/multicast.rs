//! Does multicast work on an interface? A query of mDNS is sent, heard by this machine, and answered by others.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::interfaces::Interface;
use super::{note, ok, port, problem};
use crate::line::Finding;

/// RFC 6762 §3.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
pub(super) const PORT: u16 = 5353;
/// A responder waits for up to 120 ms before it answers (RFC 6762 §6).
const WAIT: Duration = Duration::from_millis(800);
/// So many hosts that answer are counted.
const MAX_HOSTS: usize = 256;
/// The first bit of a message's flags: it is an answer.
const RESPONSE: u8 = 0x80;

/// What came back.
#[derive(Debug, Default)]
struct Heard {
    own: bool,
    others: BTreeSet<IpAddr>,
    /// Those whose answer has the id that was looked for.
    named: BTreeSet<IpAddr>,
}

/// Hosts that announce a node with this id. libp2p's mDNS takes its own id for itself, so that a node never hears of them.
pub(super) fn twins(interfaces: &[Interface], id: &str) -> BTreeSet<IpAddr> {
    let own: BTreeSet<_> = interfaces.iter().flat_map(|interface| interface.addresses.clone()).collect();
    let addresses = interfaces.iter().filter(|interface| interface.can_multicast()).filter_map(Interface::ipv4);
    let named = addresses.filter_map(|address| ask(&open(address).ok()?, address, Some(id)).ok());
    named.flat_map(|heard| heard.named).filter(|host| !own.contains(host)).collect()
}

pub(super) fn look(interface: &Interface) -> Finding {
    let name = &interface.name;
    let Some(address) = interface.ipv4() else { return ok("multicast", format!("{name} has no IPv4 address")) };
    let socket = match open(address) {
        Ok(socket) => socket,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return taken(),
        Err(error) => {
            let what = format!("{name}: UDP port {PORT} cannot be used: {error}");
            return problem("multicast", what, "look for rules of a firewall, or of a container");
        }
    };
    match ask(&socket, address, None) {
        Ok(Heard { own: false, .. }) => {
            let what = format!("{name}: what is sent to {GROUP}:{PORT} does not come back to this machine");
            problem("multicast", what, &format!("let the firewall pass UDP port {PORT} in and out"))
        }
        Ok(Heard { others, .. }) if others.is_empty() => note(
            "multicast",
            format!("{name}: an own query is heard; nobody else has answered"),
            "if nodes run there: does the access point isolate its clients, or a switch filter multicast (IGMP snooping)?",
        ),
        Ok(Heard { others, .. }) => {
            let others: Vec<_> = others.iter().map(IpAddr::to_string).collect();
            ok("multicast", format!("{name}: an own query is heard, and answered by {}", others.join(" ")))
        }
        Err(error) => {
            let what = format!("{name}: a query to {GROUP}:{PORT} cannot be sent: {error}");
            problem("multicast", what, &format!("`ip route add 224.0.0.0/4 dev {name}`, or look at the firewall"))
        }
    }
}

fn taken() -> Finding {
    let by = port::owner(port::Kind::Udp, PORT).map_or("another program".to_owned(), |owner| owner.to_string());
    let what = format!("UDP port {PORT}, that of mDNS, is held by {by}, which does not share it");
    problem("multicast", what, "stop that program, or have it share the port (SO_REUSEADDR and SO_REUSEPORT)")
}

/// A socket of its own on the port that all of mDNS shares.
fn open(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT).into())?;
    socket.join_multicast_v4(&GROUP, &address)?;
    socket.set_multicast_if_v4(&address)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(255)?;
    Ok(socket.into())
}

fn ask(socket: &UdpSocket, address: Ipv4Addr, id: Option<&str>) -> io::Result<Heard> {
    let name = id.map(|id| format!("/p2p/{id}"));
    let query = query(std::process::id() as u16);
    socket.send_to(&query, SocketAddrV4::new(GROUP, PORT))?;
    let deadline = Instant::now() + WAIT;
    let mut heard = Heard::default();
    let mut buffer = [0; 9_000];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(heard);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                let message = &buffer[..len];
                note_of(&mut heard, message, from, &query, address);
                // In a TXT record it is text, in one piece (libp2p's mDNS specification).
                if name.as_ref().is_some_and(|name| message.windows(name.len()).any(|text| text == name.as_bytes())) {
                    heard.named.insert(from.ip());
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            // An ICMP message of an earlier datagram; or a signal.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

fn note_of(heard: &mut Heard, message: &[u8], from: SocketAddr, query: &[u8], own: Ipv4Addr) {
    heard.own |= message == query;
    let is_answer = message.len() > 12 && message[2] & RESPONSE != 0;
    if is_answer && from.ip() != IpAddr::V4(own) && heard.others.len() < MAX_HOSTS {
        heard.others.insert(from.ip());
    }
}

/// A query for nodes of libp2p: `_p2p._udp.local`, PTR, IN (RFC 1035 §4.1). The id, which others ignore, tells it from
/// those of others.
fn query(id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in ["_p2p", "_udp", "local"] {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 12, 0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_queries_and_answers_of_others_are_told_apart() {
        let query = query(0x1234);
        let own = Ipv4Addr::new(192, 0, 2, 1);
        let mut heard = Heard::default();
        let mut hear = |message: &[u8], from: &str| {
            note_of(&mut heard, message, SocketAddr::new(from.parse().unwrap(), PORT), &query, own);
        };
        let mut answer = query.clone();
        answer[2] = RESPONSE;
        hear(&[0; 4], "192.0.2.9");
        hear(&answer, "192.0.2.1");
        hear(&answer, "192.0.2.2");
        hear(&super::query(1), "192.0.2.3");
        assert!(!heard.own);
        assert_eq!(heard.others.iter().map(IpAddr::to_string).collect::<Vec<_>>(), ["192.0.2.2"]);
        note_of(&mut heard, &query, SocketAddr::new(own.into(), PORT), &query, own);
        assert!(heard.own);
    }
}
