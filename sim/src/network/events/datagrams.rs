//! How do datagrams cross the network? Each alone: it may be lost, come twice, or overtake another.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::{Aftermath, Delivery, Events, State, What};
use crate::network::Host;

/// The most bytes in a datagram: Ethernet's 1,500 less the headers of IPv4 and UDP. Real stacks fragment larger ones,
/// and home routers often drop fragments.
pub const DATAGRAM_BYTES: usize = 1472;
/// IPv4 and UDP.
const HEADER_BYTES: usize = 28;
/// What waits for a reader at most, as by Linux's default; later ones are dropped.
const INBOX_BYTES: usize = 212_992;

/// What has arrived at a socket and was not read.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: VecDeque<(SocketAddr, Bytes)>,
    bytes: usize,
    waker: Option<Waker>,
}

/// A datagram socket of a simulated host.
pub struct DatagramSocket {
    events: Events,
    host: Host,
    local: SocketAddr,
}

impl Events {
    /// Binds a datagram socket of a host. Where hosts share the address of a home, each has the one port that its node
    /// listens on.
    ///
    /// # Errors
    /// `AddrInUse`, or `AddrNotAvailable` if there is no such host, or the port is another's.
    pub fn bind(&self, host: Host, port: u16) -> io::Result<DatagramSocket> {
        let mut state = self.lock();
        let local = SocketAddr::new(state.homes.home(host).ip(), port);
        if state.homes.machine(local) != Some(host) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let sockets = &mut state.hosts.get_mut(host.0 as usize).ok_or(io::ErrorKind::AddrNotAvailable)?.sockets;
        if sockets.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        sockets.insert(port, Inbox::default());
        Ok(DatagramSocket { events: self.clone(), host, local })
    }
}

impl DatagramSocket {
    /// Its address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends a datagram. That it was sent says nothing about its arrival.
    ///
    /// # Errors
    /// `InvalidInput` for more than [`DATAGRAM_BYTES`], `HostUnreachable` for an address that no host has.
    pub fn send_to(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        if payload.len() > DATAGRAM_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("more than {DATAGRAM_BYTES} bytes")));
        }
        let mut state = self.events.lock();
        let count = state.hosts.len();
        let there = state.homes.machine(to).filter(|host| (host.0 as usize) < count);
        let there = there.ok_or(io::ErrorKind::HostUnreachable)?;
        let (now, bytes) = (state.now(), payload.len() + HEADER_BYTES);
        let sender = &mut state.hosts[self.host.0 as usize];
        sender.bytes_sent += bytes as u64;
        let fate = state.access(self.host, there).map_or_else(|| super::straight(now), |link| link.up(now, bytes));
        for at in [fate.at, fate.again].into_iter().flatten() {
            let at = at + state.distance(self.host, there);
            let payload = Bytes::copy_from_slice(payload);
            let what = What::Datagram { from: self.local, to, payload, has_crossed: false };
            state.schedule(at, Delivery { from: self.host, to: there, what });
        }
        Ok(())
    }

    /// The next datagram that has arrived, and its sender.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<(SocketAddr, Bytes)> {
        let mut state = self.events.lock();
        // The host has lost power, and with it this socket.
        let Some(inbox) = state.hosts[self.host.0 as usize].sockets.get_mut(&self.local.port()) else {
            return Poll::Pending;
        };
        match inbox.waiting.pop_front() {
            Some((from, payload)) => {
                inbox.bytes -= payload.len();
                Poll::Ready((from, payload))
            }
            None => {
                inbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for DatagramSocket {
    fn drop(&mut self) {
        let inbox = self.events.lock().hosts[self.host.0 as usize].sockets.remove(&self.local.port());
        drop(inbox);
    }
}

impl State {
    /// A datagram is at its socket, or before its last part, the receiver's downlink.
    pub(super) fn on_datagram(
        &mut self,
        at: Duration,
        hosts: (Host, Host),
        ends: (SocketAddr, SocketAddr),
        payload: Bytes,
        has_crossed: bool,
        aftermath: &mut Aftermath,
    ) {
        if let Some(link) = self.access(hosts.1, hosts.0).filter(|_| !has_crossed) {
            let fate = link.down(at, payload.len() + HEADER_BYTES);
            for at in [fate.at, fate.again].into_iter().flatten() {
                let what = What::Datagram { from: ends.0, to: ends.1, payload: payload.clone(), has_crossed: true };
                self.schedule(at, Delivery { from: hosts.0, to: hosts.1, what });
            }
            return;
        }
        let inbox = self.hosts.get_mut(hosts.1.0 as usize).and_then(|host| host.sockets.get_mut(&ends.1.port()));
        if let Some(inbox) = inbox.filter(|inbox| inbox.bytes + payload.len() <= INBOX_BYTES) {
            inbox.bytes += payload.len();
            inbox.waiting.push_back((ends.0, payload));
            aftermath.wakers.extend(inbox.waker.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use avi_links::{Lane, Profile};
    use futures::future::poll_fn;
    use futures::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::network::{Homes, Network};
    use crate::scenario::Link;

    const NEAR: Link =
        Link { latency_min_ms: 0.0, latency_max_ms: 0.0, jitter_ms: 0.0, uplink_kbit: 0, profiles: Vec::new() };

    /// Runs this with a network of two hosts, in virtual time.
    fn simulate<F: Future>(profile: Option<Profile>, what: impl FnOnce(Events) -> F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let profiles: Vec<_> = profile.into_iter().collect();
        runtime.block_on(async {
            let network = Events::new(2, Homes::new(0), &NEAR, &profiles, 1);
            tokio::spawn(network.clone().pump());
            what(network).await
        })
    }

    fn pair(network: &Events) -> (DatagramSocket, DatagramSocket) {
        (network.bind(Host(0), 5000).unwrap(), network.bind(Host(1), 5000).unwrap())
    }

    /// Sends numbered datagrams, one every 20 ms, and returns the numbers that arrive, in their order.
    async fn numbers(network: Events, count: u32) -> Vec<u32> {
        let (here, there) = pair(&network);
        let mut arrived = Vec::new();
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        for number in 0..count {
            beat.tick().await;
            here.send_to(&number.to_be_bytes(), there.local_addr()).unwrap();
            while let Poll::Ready((_, payload)) = there.poll_recv(&mut Context::from_waker(Waker::noop())) {
                arrived.push(u32::from_be_bytes(payload[..].try_into().unwrap()));
            }
        }
        arrived
    }

    #[test]
    fn a_datagram_arrives_as_it_was_sent_and_says_from_whom() {
        simulate(None, |network| async move {
            let (here, there) = pair(&network);
            here.send_to(b"hello", there.local_addr()).unwrap();
            let (from, payload) = poll_fn(|cx| there.poll_recv(cx)).await;
            assert_eq!((from, &payload[..]), (here.local_addr(), &b"hello"[..]));
        });
    }

    #[test]
    fn datagrams_are_lost_come_twice_and_overtake_each_other() {
        let lane =
            Lane { latency_ms: 50.0, jitter_ms: 40.0, loss: 0.1, duplicate: 0.05, reorder: true, ..Lane::default() };
        let arrived = simulate(Some(Profile { up: lane, ..Profile::default() }), |network| numbers(network, 2000));
        let mut different = arrived.clone();
        different.sort();
        different.dedup();
        let (lost, doubled) = (2000 - different.len(), arrived.len() - different.len());
        assert!((150..=260).contains(&lost), "{lost}");
        assert!((60..=130).contains(&doubled), "{doubled}");
        assert!(arrived.windows(2).filter(|pair| pair[1] < pair[0]).count() > 100);
    }

    #[test]
    fn a_datagram_has_a_largest_size_and_needs_a_host() {
        simulate(None, |network| async move {
            let (here, there) = pair(&network);
            assert!(here.send_to(&[0; DATAGRAM_BYTES], there.local_addr()).is_ok());
            let refused = here.send_to(&[0; DATAGRAM_BYTES + 1], there.local_addr()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
            let nowhere = "10.0.0.9:5000".parse().unwrap();
            assert_eq!(here.send_to(b"x", nowhere).unwrap_err().kind(), io::ErrorKind::HostUnreachable);
            assert_eq!(network.bind(Host(0), 5000).map(drop).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        });
    }

    #[test]
    fn who_does_not_read_loses_what_his_inbox_cannot_hold() {
        simulate(None, |network| async move {
            let (here, there) = pair(&network);
            for _ in 0..1000 {
                here.send_to(&[0; 1000], there.local_addr()).unwrap();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let waiting = std::iter::from_fn(|| match there.poll_recv(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(datagram) => Some(datagram),
                Poll::Pending => None,
            });
            assert_eq!(waiting.count(), INBOX_BYTES / 1000);
        });
    }

    #[test]
    fn datagrams_wait_in_the_same_queue_as_the_bytes_of_connections() {
        let thin = Lane { rate_kbit: 256, queue_bytes: 8000, ..Lane::default() };
        let took = |is_busy| {
            simulate(Some(Profile { up: thin.clone(), ..Profile::default() }), move |network| async move {
                let mut listener = network.transport(Host(1)).listen(Homes::new(0).socket(Host(1))).await.unwrap();
                let mut dialled = network.transport(Host(0)).connect(Homes::new(0).socket(Host(1))).await.unwrap();
                let (mut accepted, _) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
                tokio::spawn(async move {
                    let mut sink = [0; 4096];
                    while accepted.read(&mut sink).await.is_ok_and(|len| len > 0) {}
                });
                if is_busy {
                    dialled.write_all(&[0; 60_000]).await.unwrap();
                }
                let (here, there) = pair(&network);
                tokio::time::sleep(Duration::from_millis(500)).await;
                // Of several, at least one finds a place in the queue.
                let began = tokio::time::Instant::now();
                for _ in 0..10 {
                    here.send_to(&[0; 100], there.local_addr()).unwrap();
                }
                poll_fn(|cx| there.poll_recv(cx)).await;
                began.elapsed()
            })
        };
        assert!(took(false) <= Duration::from_millis(10), "{:?}", took(false));
        assert!(took(true) >= Duration::from_millis(100), "{:?}", took(true));
    }

    #[test]
    fn a_host_without_power_gets_nothing_and_its_socket_is_gone() {
        simulate(None, |network| async move {
            let (here, there) = pair(&network);
            network.power(Host(1), false);
            here.send_to(b"lost", there.local_addr()).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            network.power(Host(1), true);
            drop(there);
            let again = network.bind(Host(1), 5000).unwrap();
            assert!(again.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending());
        });
    }
}
