//! Do datagrams cross both networks in the same way?

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::mpsc;

use avi_p2p::transport::DatagramSocket;

use super::events::Events;
use super::turmoil::Turmoil;
use super::*;
use crate::interpose;

const LINK: Link =
    Link { latency_min_ms: 5.0, latency_max_ms: 5.0, jitter_ms: 0.0, uplink_kbit: 0, profiles: Vec::new() };

type Socket = Box<dyn DatagramSocket>;

/// Binds where a machine's node listens.
async fn bind(network: &impl Network, homes: Homes, host: Host) -> io::Result<Socket> {
    network.transport(host).bind_datagrams(homes.socket(host)).await
}

async fn read(socket: &mut Socket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 64];
    let (len, from) = poll_fn(|cx| socket.poll_recv_from(cx, &mut buffer)).await.unwrap();
    (buffer[..len].to_vec(), from)
}

/// Sends back whatever comes.
async fn echo(network: impl Network, homes: Homes, host: Host) {
    let mut socket = bind(&network, homes, host).await.unwrap();
    loop {
        let (datagram, from) = read(&mut socket).await;
        socket.try_send_to(&datagram, from).unwrap();
    }
}

/// Sends to the others, which are so many, and hears of them.
async fn talk(network: impl Network, homes: Homes, others: u32) {
    let me = Host(0);
    let mut socket = bind(&network, homes, me).await.unwrap();
    assert_eq!(socket.local_addr(), homes.socket(me));
    assert_eq!(bind(&network, homes, me).await.err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
    for other in (1..=others).map(Host) {
        let there = homes.socket(other);
        socket.try_send_to(b"hello", there).unwrap();
        assert_eq!(read(&mut socket).await, (b"hello".to_vec(), there), "{other:?}");
    }
    let nowhere = socket.try_send_to(b"hello", "192.0.2.1:4001".parse().unwrap()).unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::HostUnreachable);
    let too_large = socket.try_send_to(&[0; events::datagrams::DATAGRAM_BYTES + 1], homes.socket(Host(1))).unwrap_err();
    assert_eq!(too_large.kind(), ErrorKind::InvalidInput);
    // Freed, it can be bound again.
    drop(socket);
    bind(&network, homes, me).await.unwrap();
}

/// Three machines: of two homes, and each of its own.
fn all_homes() -> [Homes; 2] {
    [Homes::new(2), Homes::new(0)]
}

#[test]
fn datagrams_cross_the_events() {
    for homes in all_homes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let network = Events::new(3, homes, &LINK, &[], 1);
            tokio::spawn(network.clone().pump());
            for host in [Host(1), Host(2)] {
                tokio::spawn(echo(network.clone(), homes, host));
            }
            tokio::task::yield_now().await;
            talk(network, homes, 2).await;
        });
    }
}

#[test]
fn datagrams_cross_turmoil() {
    for homes in all_homes() {
        // A simulation has a thread of its own.
        std::thread::spawn(move || simulate(homes)).join().unwrap();
    }
}

fn simulate(homes: Homes) {
    interpose::begin(1);
    let (network, mut simulation) = Turmoil::new(3, homes, &LINK, Duration::from_secs(10), 1);
    for host in [Host(1), Host(2)] {
        let there = network.clone();
        network.launch(host, Box::new(move || drop(tokio::spawn(echo(there, homes, host)))));
    }
    simulation.step().unwrap();
    let (done, is_done) = mpsc::channel();
    let here = network.clone();
    let talking = async move {
        talk(here, homes, 2).await;
        done.send(()).unwrap();
    };
    network.launch(Host(0), Box::new(move || drop(tokio::spawn(talking))));
    while is_done.try_recv().is_err() {
        assert!(simulation.elapsed() < Duration::from_secs(5), "the datagrams do not come back");
        simulation.step().unwrap();
    }
    assert_eq!(network.bytes_sent(), [10, 5, 5]);
}
