//! Can the node listen where it is to listen, and if not, who does?

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use avi_p2p::AviP2pConfig;
use socket2::{Domain, Socket, Type};

use super::{note, ok, problem};
use crate::line::Finding;

/// Which table of the kernel a socket is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Udp,
}

/// A process that has a socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owner {
    process: u32,
    name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.process, self.name)
    }
}

pub(super) fn look(config: &AviP2pConfig) -> Vec<Finding> {
    let port = config.listen_port;
    if port == 0 {
        return vec![ok("port", "listen_port is 0: the system chooses a free one")];
    }
    let mut findings = Vec::new();
    for ip in &config.listen_ips {
        let address = SocketAddr::new(*ip, port);
        findings.push(match listens(address) {
            Ok(()) => ok("port", format!("{address} is free")),
            Err(error) => refused(address, &error),
        });
        if config.enable_datagrams
            && let Err(error) = UdpSocket::bind(address)
            && error.kind() == io::ErrorKind::AddrInUse
        {
            let by = by(Kind::Udp, port);
            let what = format!("UDP port {port}, for audio, is in use by {by}: the node takes another one");
            findings.push(note("port", what, "a firewall that passes only this port cuts audio off"));
        }
    }
    findings
}

/// As the node does it: a port of a connection that has just ended is free.
fn listens(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    drop(TcpListener::from(socket));
    Ok(())
}

fn refused(address: SocketAddr, error: &io::Error) -> Finding {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let what = format!("{address} is in use by {}", by(Kind::Tcp, address.port()));
            problem("port", what, "stop it, or choose another listen_port; 0 lets the system choose")
        }
        io::ErrorKind::AddrNotAvailable => {
            let what = format!("{} in listen_ips is not an address of this machine", address.ip());
            problem("port", what, "listen on 0.0.0.0 or ::, and choose interfaces with `interfaces`")
        }
        io::ErrorKind::PermissionDenied => {
            problem("port", format!("{address}: {error}"), "ports below 1024 are the system's: choose a higher one")
        }
        _ => problem("port", format!("{address}: {error}"), "look at listen_ips and listen_port"),
    }
}

fn by(kind: Kind, port: u16) -> String {
    owner(kind, port).map_or("a program that cannot be known (try as root)".to_owned(), |owner| owner.to_string())
}

/// Who has a socket at this port; `None` if the system does not tell.
pub(super) fn owner(kind: Kind, port: u16) -> Option<Owner> {
    let tables = match kind {
        Kind::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Kind::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let read = |table: &str| std::fs::read_to_string(table).unwrap_or_default();
    let inodes: Vec<_> = tables.iter().flat_map(|table| inodes_at(&read(table), kind, port)).collect();
    let mut processes: Vec<u32> = std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    processes.sort_unstable();
    let process = processes.into_iter().find(|process| has_socket(*process, &inodes))?;
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some(Owner { process, name: name.trim().to_owned() })
}

/// The sockets in a table of proc(5) that listen at a port.
fn inodes_at(table: &str, kind: Kind, port: u16) -> Vec<String> {
    let listens = if kind == Kind::Tcp { "0A" } else { "07" };
    let one = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let at = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (at == port && *state == listens).then(|| format!("socket:[{inode}]"))
    };
    table.lines().skip(1).filter_map(one).collect()
}

fn has_socket(process: u32, inodes: &[String]) -> bool {
    let files = std::fs::read_dir(Path::new("/proc").join(process.to_string()).join("fd"));
    files.into_iter().flatten().flatten().any(|file| {
        let target = std::fs::read_link(file.path()).unwrap_or_default();
        inodes.iter().any(|inode| target.as_os_str() == inode.as_str())
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::line::Level;

    #[test]
    fn a_port_that_this_process_holds_is_told_with_its_number() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let listen_ips = vec![Ipv4Addr::LOCALHOST.into()];
        let config = AviP2pConfig { listen_port: port, listen_ips, ..AviP2pConfig::default() };
        let findings = look(&config);
        assert_eq!(findings[0].level, Level::Problem);
        #[cfg(target_os = "linux")]
        assert!(findings[0].what.contains(&format!("process {}", std::process::id())), "{findings:?}");
        drop(listener);
        assert_eq!(look(&config)[0].level, Level::Ok);
    }

    #[test]
    fn a_table_of_the_kernel_is_read_as_proc_has_it() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n   \
                     1: 0100007F:2328 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n";
        assert_eq!(inodes_at(table, Kind::Tcp, 9000), ["socket:[4711]"]);
        assert_eq!(inodes_at(table, Kind::Tcp, 9001), [""; 0]);
        assert_eq!(inodes_at("x\ny 1:zz\n\u{0}", Kind::Tcp, 1), [""; 0]);
    }
}
