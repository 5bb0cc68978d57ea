use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures::future;

use super::*;
use crate::network::{BoxByteStream, DatagramSocket, Listener, Transport};
use crate::runtime::{Platform, Smol};

const ID: DatagramId = *b"expected";
const PORT: u16 = 9000;
const STRANGER: &str = "192.0.2.9:5";

/// A room and its events.
struct Room {
    media: Media,
    wake: Arc<Wake>,
    events: VecDeque<NetEvent>,
}

impl Room {
    fn new(network: &Network) -> Self {
        Self::with(&AviP2pConfig::default(), network)
    }

    fn with(config: &AviP2pConfig, network: &Network) -> Self {
        let wake = Arc::<Wake>::default();
        let mut media = Media::new(config, network, wake.clone());
        media.expect(ID);
        Self { media, wake, events: VecDeque::new() }
    }

    /// A room at these addresses of a scripted network.
    fn at(script: &Script, ips: &[&str]) -> Self {
        let mut room = Self::new(&script.network());
        room.follow(ips);
        assert_eq!(room.turn(), [NetEvent::DatagramsOn { port: PORT }]);
        room
    }

    fn follow(&mut self, ips: &[&str]) {
        self.media.follow(&ips.iter().map(|ip| ip.parse().unwrap()).collect(), PORT);
    }

    /// What one turn tells.
    fn turn(&mut self) -> Vec<NetEvent> {
        self.media.poll(&mut self.events);
        self.events.drain(..).collect()
    }

    /// What sending tells.
    fn send(&mut self, to: &str) -> Vec<NetEvent> {
        self.media.send(to.parse().unwrap(), b"datagram", &mut self.events);
        self.events.drain(..).collect()
    }

    /// Waits for the next event.
    async fn next(&mut self) -> NetEvent {
        poll_fn(|cx| {
            self.wake.attend(cx.waker());
            loop {
                if let Some(event) = self.events.pop_front() {
                    return Poll::Ready(event);
                }
                if self.media.poll(&mut self.events) {
                    continue;
                }
                self.wake.sum_up(|| self.media.is_due());
                if self.wake.rest(|| false) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Binds to loopback, and returns the address.
    async fn bind(&mut self) -> SocketAddr {
        let ip = IpAddr::from([127, 0, 0, 1]);
        self.media.follow(&BTreeSet::from([ip]), 0);
        match self.next().await {
            NetEvent::DatagramsOn { port } => SocketAddr::new(ip, port),
            event => panic!("{event:?}"),
        }
    }
}

/// A network whose sockets do what a test wants.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Acts>>);

#[derive(Default)]
struct Acts {
    /// Answers to the next binds; without one, a bind succeeds.
    binds: VecDeque<ErrorKind>,
    bound: Vec<SocketAddr>,
    closed: Vec<SocketAddr>,
    sent: Vec<(IpAddr, SocketAddr)>,
    /// Why nothing can be sent.
    refuses: Option<ErrorKind>,
    /// What each socket reads next. The last entry is repeated if it is endless.
    incoming: BTreeMap<IpAddr, VecDeque<io::Result<Vec<u8>>>>,
    is_endless: bool,
    reads: Vec<IpAddr>,
}

impl Script {
    fn network(&self) -> Network {
        Network::Custom(Arc::new(self.clone()))
    }

    fn acts(&self) -> MutexGuard<'_, Acts> {
        self.0.lock().unwrap()
    }

    fn arrives(&self, at: &str, what: io::Result<&[u8]>) {
        let what = what.map(<[u8]>::to_vec);
        self.acts().incoming.entry(at.parse().unwrap()).or_default().push_back(what);
    }
}

impl Transport for Script {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        future::ready(Err(ErrorKind::Unsupported.into())).boxed()
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<BoxByteStream>> {
        future::ready(Err(ErrorKind::Unsupported.into())).boxed()
    }

    fn bind_datagrams(&self, mut address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn DatagramSocket>>> {
        let mut acts = self.acts();
        let bound = match acts.binds.pop_front() {
            Some(error) => Err(error.into()),
            None => {
                if address.port() == 0 {
                    address.set_port(PORT + 1);
                }
                acts.bound.push(address);
                Ok(Box::new(Scripted { script: self.clone(), address }) as Box<dyn DatagramSocket>)
            }
        };
        future::ready(bound).boxed()
    }
}

struct Scripted {
    script: Script,
    address: SocketAddr,
}

impl DatagramSocket for Scripted {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn try_send_to(&mut self, _: &[u8], to: SocketAddr) -> io::Result<()> {
        let mut acts = self.script.acts();
        acts.sent.push((self.address.ip(), to));
        acts.refuses.map_or(Ok(()), |error| Err(error.into()))
    }

    fn poll_recv_from(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut acts = self.script.acts();
        let is_endless = acts.is_endless;
        let Some(incoming) = acts.incoming.get_mut(&self.address.ip()) else { return Poll::Pending };
        if is_endless && let Some(Ok(last)) = incoming.back() {
            let again = last.clone();
            incoming.push_back(Ok(again));
        }
        let Some(read) = incoming.pop_front() else { return Poll::Pending };
        acts.reads.push(self.address.ip());
        Poll::Ready(read.map(|datagram| {
            let len = datagram.len().min(buffer.len());
            buffer[..len].copy_from_slice(&datagram[..len]);
            (len, STRANGER.parse().unwrap())
        }))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.script.acts().closed.push(self.address);
    }
}

#[test]
fn datagrams_cross_between_smol_and_tokio() {
    let smol = Smol::new().unwrap();
    let (network, platform_spawn) = (smol.network(), smol.spawner());
    let (bound, there) = futures::channel::oneshot::channel();
    let echo = async move {
        let mut room = Room::new(&network);
        let _ = bound.send(room.bind().await);
        while let NetEvent::Datagram { from, bytes } = room.next().await {
            room.media.send(from, &bytes, &mut room.events);
            if bytes.ends_with(b"end") {
                break;
            }
        }
    };
    platform_spawn(echo.boxed()).unwrap();
    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let there = there.await.unwrap();
        let mut room = Room::new(&Network::Tcp);
        room.bind().await;
        let large = [&ID[..], &[7; MAX_DATAGRAM_BYTES - 8]].concat();
        let said = [&b"expected 1"[..], b"expected", &large, b"expected end"];
        for said in said {
            room.media.send(there, said, &mut room.events);
            let heard = ::tokio::time::timeout(Duration::from_secs(20), room.next()).await.expect("it comes back");
            assert_eq!(heard, NetEvent::Datagram { from: there, bytes: Bytes::copy_from_slice(said) });
        }
    });
}

#[test]
fn only_what_is_expected_reaches_the_engine() {
    let script = Script::default();
    let mut room = Room::at(&script, &["10.0.0.1"]);
    let (fits, too_long) =
        ([&ID[..], &[1; MAX_DATAGRAM_BYTES - 8]].concat(), [&ID[..], &[1; MAX_DATAGRAM_BYTES]].concat());
    for datagram in [&b""[..], b"expecte", b"somebody else", b"expected", &too_long, &fits] {
        script.arrives("10.0.0.1", Ok(datagram));
    }
    room.media.due.set();
    let heard =
        |bytes: &[u8]| NetEvent::Datagram { from: STRANGER.parse().unwrap(), bytes: Bytes::copy_from_slice(bytes) };
    assert_eq!(room.turn(), [heard(b"expected"), heard(&fits), NetEvent::DatagramsIgnored { count: 4 }]);

    room.media.forget(ID);
    script.arrives("10.0.0.1", Ok(b"expected"));
    room.media.due.set();
    assert_eq!(room.turn(), [NetEvent::DatagramsIgnored { count: 1 }]);
    assert_eq!(room.turn(), [], "nothing is told twice");
}

#[test]
fn a_flood_is_read_in_turns_and_every_socket_has_its_own() {
    let script = Script::default();
    let mut room = Room::at(&script, &["10.0.0.1", "10.0.0.2"]);
    script.acts().is_endless = true;
    script.arrives("10.0.0.1", Ok(b"garbage"));
    script.arrives("10.0.0.2", Ok(b"garbage"));
    room.media.due.set();
    for _ in 0..4 {
        assert_eq!(room.turn(), [NetEvent::DatagramsIgnored { count: READS as u64 }]);
        assert!(room.media.is_due(), "there is more");
    }
    let reads = std::mem::take(&mut script.acts().reads);
    let of = |ip: &str| reads.iter().filter(|read| **read == ip.parse::<IpAddr>().unwrap()).count();
    assert_eq!((of("10.0.0.1"), of("10.0.0.2")), (2 * READS, 2 * READS));

    script.acts().incoming.clear();
    assert_eq!(room.turn(), []);
    assert!(!room.media.is_due(), "an idle socket is not polled");
}

#[test]
fn what_cannot_be_sent_at_once_is_dropped_and_told() {
    let script = Script::default();
    let mut room = Room::new(&script.network());
    let dropped = |to: &str| NetEvent::DatagramDropped { to: to.parse().unwrap() };
    assert_eq!(room.send("10.0.0.9:7"), [dropped("10.0.0.9:7")], "not bound yet");
    room.follow(&["10.0.0.1"]);
    room.turn();
    assert_eq!(room.send("10.0.0.9:7"), []);
    assert_eq!(room.send("[2001:db8::1]:7"), [dropped("[2001:db8::1]:7")], "no socket of this family");
    for error in [ErrorKind::WouldBlock, ErrorKind::NetworkUnreachable, ErrorKind::PermissionDenied, ErrorKind::Other] {
        script.acts().refuses = Some(error);
        assert_eq!(room.send("10.0.0.9:7"), [dropped("10.0.0.9:7")]);
    }
    script.acts().refuses = None;
    assert_eq!(room.send("10.0.0.9:7"), [], "the socket works on");
}

#[test]
fn a_datagram_is_sent_from_the_nearest_address() {
    let script = Script::default();
    let mut room = Room::at(&script, &["127.0.0.1", "10.0.0.1", "192.168.1.5", "::1", "2001:db8::5"]);
    for (to, from) in [
        ("127.0.0.1:7", "127.0.0.1"),
        ("10.9.9.9:7", "10.0.0.1"),
        ("80.1.2.3:7", "10.0.0.1"),
        ("192.168.1.77:7", "192.168.1.5"),
        ("[::1]:7", "::1"),
        ("[2001:db8:1::1]:7", "2001:db8::5"),
    ] {
        assert_eq!(room.send(to), []);
        assert_eq!(script.acts().sent.pop(), Some((from.parse().unwrap(), to.parse().unwrap())));
    }
}

#[test]
fn news_of_the_network_end_no_socket() {
    use ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    let script = Script::default();
    let mut room = Room::at(&script, &["10.0.0.1"]);
    for error in [ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable] {
        script.arrives("10.0.0.1", Err(error.into()));
    }
    script.arrives("10.0.0.1", Ok(b"expected"));
    room.media.due.set();
    assert!(matches!(room.turn()[..], [NetEvent::Datagram { .. }]));
}

#[test]
fn a_socket_that_fails_is_bound_again_when_the_engine_says_so() {
    let script = Script::default();
    let mut room = Room::at(&script, &["10.0.0.1"]);
    script.arrives("10.0.0.1", Err(ErrorKind::NotConnected.into()));
    room.media.due.set();
    let told = room.turn();
    assert!(matches!(told[..], [NetEvent::DatagramsOff { .. }, NetEvent::ListenersMissing]), "{told:?}");
    assert_eq!(script.acts().closed.len(), 1);

    script.acts().binds.push_back(ErrorKind::PermissionDenied);
    room.follow(&["10.0.0.1"]);
    assert_eq!(room.turn(), [NetEvent::ListenersMissing], "it is off already");
    room.follow(&["10.0.0.1"]);
    assert_eq!(room.turn(), [NetEvent::DatagramsOn { port: PORT }]);
}

#[test]
fn a_port_that_is_taken_at_one_address_is_taken_at_none() {
    let script = Script::default();
    let mut room = Room::new(&script.network());
    // The transport is asked in this order.
    script.acts().binds = VecDeque::from([ErrorKind::AddrInUse]);
    room.follow(&["10.0.0.1", "10.0.0.2"]);
    assert_eq!(room.turn(), [NetEvent::DatagramsOn { port: PORT + 1 }]);
    let (first, second) = (SocketAddr::from(([10, 0, 0, 1], PORT + 1)), SocketAddr::from(([10, 0, 0, 2], PORT + 1)));
    let acts = script.acts();
    assert_eq!(acts.bound[1..], [first, second]);
    assert_eq!(acts.closed, [SocketAddr::from(([10, 0, 0, 2], PORT))]);
}

#[test]
fn sockets_follow_the_addresses_and_keep_their_port() {
    let script = Script::default();
    let mut room = Room::at(&script, &["10.0.0.1", "10.0.0.2"]);
    room.follow(&["10.0.0.2", "10.0.0.3"]);
    assert_eq!(room.turn(), []);
    let at = |last: u8| SocketAddr::from(([10, 0, 0, last], PORT));
    assert_eq!(script.acts().bound, [at(1), at(2), at(3)]);
    assert_eq!(script.acts().closed, [at(1)]);

    // A new address that the system still checks.
    script.acts().binds.push_back(ErrorKind::AddrNotAvailable);
    room.follow(&["10.0.0.3", "10.0.0.4"]);
    assert_eq!(room.turn(), [NetEvent::ListenersMissing]);
    room.follow(&["10.0.0.3", "10.0.0.4"]);
    assert_eq!(room.turn(), []);
    assert_eq!(script.acts().bound.last(), Some(&at(4)));

    room.follow(&[]);
    assert!(matches!(room.turn()[..], [NetEvent::DatagramsOff { .. }]));
    room.follow(&["10.0.0.9"]);
    assert_eq!(room.turn(), [NetEvent::DatagramsOn { port: PORT }]);
}

#[test]
fn without_datagrams_nothing_is_bound_and_nobody_is_told() {
    let script = Script::default();
    let mut room = Room::with(&AviP2pConfig { enable_datagrams: false, ..Default::default() }, &script.network());
    room.follow(&["10.0.0.1"]);
    assert_eq!(room.turn(), []);
    assert_eq!(script.acts().bound, []);

    // A network that has none is asked once.
    script.acts().binds.push_back(ErrorKind::Unsupported);
    let mut room = Room::new(&script.network());
    for _ in 0..2 {
        room.follow(&["10.0.0.1"]);
        assert_eq!(room.turn(), []);
        assert!(!room.media.is_due());
    }
    assert_eq!(script.acts().bound, []);
}

#[test]
fn who_is_not_there_costs_no_socket() {
    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut room = Room::new(&Network::Tcp);
        let here = room.bind().await;
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let friend = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..10 {
            room.media.send(gone, b"anybody?", &mut room.events);
        }
        friend.send_to(b"expected", here).unwrap();
        let heard = ::tokio::time::timeout(Duration::from_secs(20), room.next()).await.expect("it is heard");
        assert_eq!(
            heard,
            NetEvent::Datagram { from: friend.local_addr().unwrap(), bytes: Bytes::from_static(b"expected") }
        );
    });
}
