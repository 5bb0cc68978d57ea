//! How is a UDP socket for audio made? The same for either runtime.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// What the system is asked to keep until the node reads it. It may keep less.
const RECEIVE_BYTES: usize = 1024 * 1024;
/// Expedited forwarding, the class of telephony (RFC 4594 §4.1), where the field also has two bits of ECN (RFC 2474 §3).
const TRAFFIC_CLASS: u32 = 46 << 2;

/// Binds a socket that does not block.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BYTES).and_then(|()| prefer(&socket, address)) {
        // They only make it better.
        tracing::debug!(%error, "the system refuses options of a socket");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Asks the network to forward its datagrams first.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd"))]
fn prefer(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_tclass_v6(TRAFFIC_CLASS) } else { socket.set_tos_v4(TRAFFIC_CLASS) }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd")))]
fn prefer(_: &Socket, _: SocketAddr) -> io::Result<()> {
    let _ = TRAFFIC_CLASS;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn a_port_belongs_to_one_socket_of_a_family() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // A wildcard of the other family does not take it.
        match bind((Ipv6Addr::UNSPECIFIED, address.port()).into()) {
            Ok(_) => {}
            // Another process may have the port there; or the machine has no IPv6.
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::InvalidInput, "{error}"),
        }
        drop(first);
        bind(address).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn datagrams_of_audio_are_marked_as_telephony() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(SockRef::from(&socket).tos_v4().unwrap(), 0xb8);
        if let Ok(socket) = bind("[::1]:0".parse().unwrap()) {
            assert_eq!(SockRef::from(&socket).tclass_v6().unwrap(), 0xb8);
        }
    }
}
