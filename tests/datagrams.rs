//! At which UDP port does a node receive datagrams, and what if that is taken?
#![cfg(target_os = "linux")]

mod common;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pError, EventReceiver};

type Starting = Pin<Box<dyn Future<Output = Result<(AviP2p, EventReceiver), AviP2pError>>>>;

/// Either way to run a node.
const STARTS: [fn(AviP2pConfig) -> Starting; 2] =
    [|config| Box::pin(AviP2p::start(config)), |config| Box::pin(AviP2p::start_on_tokio(config))];

/// Starts a node on loopback, and returns its port.
async fn start(start: fn(AviP2pConfig) -> Starting, config: AviP2pConfig) -> (AviP2p, EventReceiver, u16) {
    let (node, mut events) = start(config).await.unwrap();
    let Some(AviEvent::Started { listen_addresses, .. }) = events.recv().await else { panic!("it has started") };
    let port = listen_addresses[0].rsplit('/').next().unwrap().parse().unwrap();
    (node, events, port)
}

fn is_udp_taken(port: u16) -> bool {
    match UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::AddrInUse => true,
        Err(error) => panic!("{error}"),
    }
}

/// The UDP ports of this process on loopback.
fn udp_ports() -> Vec<u16> {
    let inodes: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/udp").unwrap();
    let ours = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_ours = inodes.contains(&format!("socket:[{}]", fields.get(9)?));
        let (_, port) = fields.get(1)?.split_once(':')?;
        is_ours.then(|| u16::from_str_radix(port, 16).ok()).flatten()
    });
    ours.collect()
}

/// One after the other: they count the sockets of this process.
#[tokio::test]
async fn a_node_has_the_udp_port_of_its_tcp_port_another_one_or_none() {
    for run in STARTS {
        let (node, _events, port) = start(run, common::config()).await;
        assert_eq!(udp_ports(), [port]);
        assert!(is_udp_taken(port));
        node.shutdown().await.unwrap();
        assert!(!is_udp_taken(port), "it is free again");

        // Another program has the UDP port, and not the TCP port.
        let other = free_in_both();
        let port = other.local_addr().unwrap().port();
        let config = AviP2pConfig { listen_port: port, ..common::config() };
        let (node, _events, tcp) = start(run, config.clone()).await;
        assert_eq!(tcp, port);
        let mut ports = udp_ports();
        ports.retain(|udp| *udp != port);
        assert_eq!(ports.len(), 1, "{ports:?}");
        node.shutdown().await.unwrap();
        drop(other);

        let config = AviP2pConfig { enable_datagrams: false, ..config };
        let (node, _events, port) = start(run, config).await;
        assert_eq!(udp_ports(), [0u16; 0]);
        assert!(!is_udp_taken(port));
        node.shutdown().await.unwrap();
    }
}

/// A UDP socket at a port whose TCP port is free too.
fn free_in_both() -> UdpSocket {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address: SocketAddr = udp.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return udp;
        }
    }
}
