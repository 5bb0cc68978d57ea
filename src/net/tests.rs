use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use libp2p_core::Multiaddr;
use tokio::time::Interval;

use super::*;
use crate::config::{AviP2pConfig, Identity, NetworkKey};
use crate::error::AviP2pError;
use crate::id::{StreamId, Topic};
use crate::metrics::Metrics;
use crate::network::{self as transport, Network};
use avi_p2p_proto::engine::{
    Command, CommandId, ConnectionId, DialFailure, Direction, Engine, Input, Output, PublishId, PublishOutcome,
    Refusal, SubstreamId, Time, ip_of,
};

mod credit;
mod gossip;
mod interfaces;
#[path = "../../tests/common/memory.rs"]
mod memory;
mod routing;

fn poll_event(net: &mut Net, cx: &mut Context<'_>) -> Poll<NetEvent> {
    net.wake.attend(cx.waker());
    let event = net.next_event();
    net.wake.sum_up(|| net.is_due());
    if event.is_none() && !net.wake.rest(|| false) {
        cx.waker().wake_by_ref();
    }
    event.map_or(Poll::Pending, Poll::Ready)
}

/// Several nets, polled together, and their events that no test has taken yet.
#[derive(Default)]
struct World {
    nets: Vec<Net>,
    said: Vec<VecDeque<NetEvent>>,
    /// GossipSub's heartbeats, once a second: without an engine nobody decides when they may pause.
    heartbeats: Option<Interval>,
}

impl World {
    async fn with(networks: &[Network], change: impl Fn(usize, &mut AviP2pConfig)) -> Self {
        let mut world = Self::default();
        for (index, network) in networks.iter().enumerate() {
            let mut config = config();
            change(index, &mut config);
            world.add(&config, network).await.unwrap();
        }
        world
    }

    async fn add(&mut self, config: &AviP2pConfig, network: &Network) -> Result<(), AviP2pError> {
        let spawn = |task| drop(tokio::spawn(task));
        let mut net = Net::start(config, network, &Metrics::default(), Arc::default(), spawn).await?;
        let mut engine = Engine::new(config, net.local_peer_id().clone(), [0; 32]);
        while let Some(output) = engine.poll_output() {
            if let Output::Net(admit @ NetAction::Admit { .. }) = output {
                net.act(admit);
            }
        }
        self.nets.push(net);
        self.said.push(VecDeque::new());
        Ok(())
    }

    /// Waits for an event of one net, while the others are polled too.
    async fn wait<T>(&mut self, at: usize, mut wanted: impl FnMut(&NetEvent) -> Option<T>) -> T {
        for index in 0..self.said[at].len() {
            if let Some(value) = wanted(&self.said[at][index]) {
                self.said[at].remove(index);
                return value;
            }
        }
        let heartbeats = self.heartbeats.get_or_insert_with(|| tokio::time::interval(Duration::from_millis(1050)));
        let found = poll_fn(|cx| {
            while heartbeats.poll_tick(cx).is_ready() {
                self.nets.iter_mut().for_each(|net| net.act(NetAction::Heartbeat));
            }
            loop {
                let mut moved = false;
                for (index, net) in self.nets.iter_mut().enumerate() {
                    let Poll::Ready(event) = poll_event(net, cx) else { continue };
                    moved = true;
                    if index == at
                        && let Some(value) = wanted(&event)
                    {
                        return Poll::Ready(value);
                    }
                    self.said[index].push_back(event);
                }
                if !moved {
                    return Poll::Pending;
                }
            }
        });
        match tokio::time::timeout(Duration::from_secs(20), found).await {
            Ok(value) => value,
            Err(_) => panic!("no such event at {at}; the events were {:#?}", self.said),
        }
    }

    async fn address(&mut self, at: usize) -> String {
        self.wait(at, |event| match event {
            NetEvent::Listening { addresses } => addresses.first().cloned(),
            _ => None,
        })
        .await
    }

    fn dial(&mut self, at: usize, dial: u64, peer: Option<PeerId>, address: String) {
        self.nets[at].act(NetAction::Dial { dial: DialId(dial), peer, addresses: vec![address] });
    }

    async fn connected(&mut self, at: usize) -> (ConnectionId, PeerId, Direction) {
        self.wait(at, |event| match event {
            NetEvent::Connected { connection, peer, direction, .. } => Some((*connection, peer.clone(), *direction)),
            _ => None,
        })
        .await
    }

    /// Connects the first two nets.
    async fn connect(&mut self) -> (ConnectionId, ConnectionId) {
        let (address, peer) = (self.address(1).await, self.nets[1].local.clone());
        self.dial(0, 1, Some(peer.clone()), address);
        let (here, named, direction) = self.connected(0).await;
        assert_eq!((named, direction), (peer, Direction::Outbound(DialId(1))));
        let (there, named, direction) = self.connected(1).await;
        assert_eq!((&named, direction), (&self.nets[0].local, Direction::Inbound));
        (here, there)
    }

    async fn failure(&mut self, at: usize, wanted: u64) -> DialFailure {
        self.wait(at, |event| match event {
            NetEvent::DialFailed { dial, failure } if *dial == DialId(wanted) => Some(failure.clone()),
            _ => None,
        })
        .await
    }

    async fn says(&mut self, at: usize, event: NetEvent) {
        self.wait(at, |said| (*said == event).then_some(())).await;
    }

    /// Opens an audio substream from the first to the second net.
    async fn open(&mut self, connection: ConnectionId) -> (SubstreamId, SubstreamId) {
        self.nets[0].act(NetAction::OpenSubstream { stream: StreamId(7), connection });
        let here = self
            .wait(0, |event| match event {
                NetEvent::SubstreamOpened { stream: StreamId(7), substream } => Some(*substream),
                _ => None,
            })
            .await;
        let there = self
            .wait(1, |event| match event {
                NetEvent::SubstreamOffered { substream, .. } => Some(*substream),
                _ => None,
            })
            .await;
        (here, there)
    }

    async fn receive(&mut self, at: usize, from: SubstreamId, length: usize) -> Vec<u8> {
        let mut received = Vec::new();
        while received.len() < length {
            let bytes = self
                .wait(at, |event| match event {
                    NetEvent::Received { substream, bytes } if *substream == from => Some(bytes.clone()),
                    NetEvent::Finished { .. } | NetEvent::Broken { .. } => panic!("{event:?}"),
                    _ => None,
                })
                .await;
            received.extend_from_slice(&bytes);
        }
        received
    }

    async fn subscribed(&mut self, at: usize, wanted: &str) {
        self.wait(at, |event| match event {
            NetEvent::PeerSubscribed { topic, .. } if topic == wanted => Some(()),
            _ => None,
        })
        .await;
    }
}

fn config() -> AviP2pConfig {
    AviP2pConfig { listen_ips: vec![Ipv4Addr::LOCALHOST.into()], enable_mdns: false, ..Default::default() }
}

fn in_memory() -> Network {
    Network::Custom(Arc::new(memory::Memory::default()))
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Runs a test over both networks, unless it needs one of them.
fn over_both<F: Future<Output = ()>>(test: impl Fn(Network) -> F) {
    run(test(Network::Tcp));
    run(test(in_memory()));
}

fn topic() -> Topic {
    Topic::new("kitchen", 64).unwrap()
}

#[test]
fn a_datagram_goes_to_the_ip_of_a_connection_before_the_action_ends() {
    over_both(|network| async move {
        let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
        let port = world
            .wait(1, |event| match event {
                NetEvent::DatagramsOn { port } => Some(*port),
                _ => None,
            })
            .await;
        let address = world.address(1).await;
        let to = SocketAddr::new(ip_of(&address).unwrap(), port);
        assert!(address.ends_with(&format!("/tcp/{port}")), "{address}: the same number");
        world.nets[1].act(NetAction::ExpectDatagrams { id: *b"expected" });
        world.nets[0].act(NetAction::SendDatagram { to, bytes: Bytes::from_static(b"strangers") });
        world.nets[0].act(NetAction::SendDatagram { to, bytes: Bytes::from_static(b"expected: hello") });
        let heard = world
            .wait(1, |event| match event {
                NetEvent::Datagram { bytes, .. } => Some(bytes.clone()),
                _ => None,
            })
            .await;
        assert_eq!(heard, "expected: hello");
        world.says(1, NetEvent::DatagramsIgnored { count: 1 }).await;
    });
}

#[test]
fn a_message_arrives_with_its_author() {
    over_both(|network| async move {
        let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
        world.connect().await;
        world.nets[0].act(NetAction::Publish { publish: PublishId(1), topic: topic(), data: Bytes::from_static(b"1") });
        world.says(0, NetEvent::Published { publish: PublishId(1), outcome: PublishOutcome::NoSubscribers }).await;
        world.nets[1].act(NetAction::Subscribe { topic: topic() });
        world.subscribed(0, "kitchen").await;
        let data = Bytes::from(vec![7; 64 * 1024]);
        for publish in [2, 3, 4].map(PublishId) {
            world.nets[0].act(NetAction::Publish { publish, topic: topic(), data: data.clone() });
            world.says(0, NetEvent::Published { publish, outcome: PublishOutcome::Sent }).await;
        }
        let from = world.nets[0].local.clone();
        for _ in 0..3 {
            let message = NetEvent::Message { from: from.clone(), topic: "kitchen".to_owned(), data: data.clone() };
            world.says(1, message).await;
        }
    });
}

#[test]
fn full_size_messages_and_all_subscriptions_pass() {
    over_both(|network| async move {
        let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
        for number in 0..256 {
            let topic = Topic::new(&format!("{number:0256}"), 256).unwrap();
            world.nets[1].act(NetAction::Subscribe { topic });
        }
        world.connect().await;
        for number in 0..256 {
            world.subscribed(0, &format!("{number:0256}")).await;
        }
        let topic = Topic::new(&format!("{:0256}", 0), 256).unwrap();
        let data = Bytes::from(vec![7; 64 * 1024]);
        for publish in (1..=50).map(PublishId) {
            world.nets[0].act(NetAction::Publish { publish, topic: topic.clone(), data: data.clone() });
        }
        for _ in 0..50 {
            world.wait(1, |event| matches!(event, NetEvent::Message { .. }).then_some(())).await;
        }
    });
}

#[test]
fn an_audio_substream_carries_bytes_both_ways_until_both_ends_finish() {
    over_both(|network| async move {
        let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
        let (connection, _) = world.connect().await;
        let (here, there) = world.open(connection).await;
        for length in [1, 1000, 16 * 1024 + 1, 1024 * 1024] {
            let sent: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            world.nets[0].act(NetAction::Write { substream: here, bytes: sent.clone().into() });
            let received = world.receive(1, there, length).await;
            world.says(0, NetEvent::Writable { substream: here }).await;
            assert!(received == sent, "{length}");
            world.nets[1].act(NetAction::Write { substream: there, bytes: received.into() });
            assert!(world.receive(0, here, length).await == sent, "{length}");
            world.says(1, NetEvent::Writable { substream: there }).await;
        }
        world.nets[0].act(NetAction::Write { substream: here, bytes: Bytes::from_static(b"bye") });
        world.nets[0].act(NetAction::Finish { substream: here });
        assert_eq!(world.receive(1, there, 3).await, b"bye");
        world.says(1, NetEvent::Finished { substream: there }).await;
        world.nets[1].act(NetAction::Write { substream: there, bytes: Bytes::from_static(b"ok") });
        world.nets[1].act(NetAction::Finish { substream: there });
        assert_eq!(world.receive(0, here, 2).await, b"ok");
        world.says(0, NetEvent::Finished { substream: here }).await;
        let (again, _) = world.open(connection).await;
        assert_eq!(again, SubstreamId(here.0 + 1));
        assert_eq!(world.nets[0].audio.count(connection), 1);
    });
}

#[test]
fn a_reset_is_seen_as_broken_after_what_was_sent_before() {
    over_both(|network| async move {
        let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
        let (connection, _) = world.connect().await;
        let (here, there) = world.open(connection).await;
        world.nets[0].act(NetAction::Write { substream: here, bytes: Bytes::from_static(b"last words") });
        world.says(0, NetEvent::Writable { substream: here }).await;
        world.nets[0].act(NetAction::Reset { substream: here });
        assert_eq!(world.receive(1, there, 10).await, b"last words");
        let broken = |event: &NetEvent| match event {
            NetEvent::Broken { substream, .. } => Some(*substream),
            NetEvent::Finished { .. } => panic!("{event:?}"),
            _ => None,
        };
        assert_eq!(world.wait(1, broken).await, there);
    });
}

#[test]
fn a_failed_dial_says_why() {
    run(async {
        let mut world = World::with(&[Network::Tcp, Network::Tcp, Network::Tcp], |_, _| {}).await;
        let (own, other) = (world.address(0).await, world.address(1).await);
        let third = world.nets[2].local.clone();
        let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let closed = format!("/ip4/127.0.0.1/tcp/{}", unused.port());
        world.dial(0, 1, None, closed.clone());
        let DialFailure::Unreachable(reason) = world.failure(0, 1).await else { panic!() };
        assert_eq!(reason, "Connection refused (os error 111)");
        world.dial(0, 2, None, own);
        assert_eq!(world.failure(0, 2).await, DialFailure::Myself);
        world.dial(0, 3, Some(third.clone()), other.clone());
        let answered = DialFailure::WrongPeer { address: other.clone(), obtained: world.nets[1].local.clone() };
        assert_eq!(world.failure(0, 3).await, answered);
        world.dial(0, 4, None, "/dnsaddr/example.org".to_owned());
        assert_eq!(world.failure(0, 4).await, DialFailure::Unreachable("no usable address".to_owned()));
        world.dial(0, 5, Some(PeerId::new("nobody")), other);
        assert_eq!(world.failure(0, 5).await, DialFailure::Unreachable("not a peer id".to_owned()));
    });
}

#[test]
fn another_node_with_the_same_identity_is_not_this_node_itself() {
    run(async {
        let same = |_: usize, config: &mut AviP2pConfig| config.identity = Identity::Bytes([7; 32]);
        let mut world = World::with(&[Network::Tcp, Network::Tcp], same).await;
        let other = world.address(1).await;
        world.dial(0, 1, None, other.clone());
        let failure = world.failure(0, 1).await;
        let obtained = world.nets[0].local.clone();
        assert_eq!(failure, DialFailure::WrongPeer { address: other, obtained });
    });
}

#[test]
fn a_node_that_reaches_itself_at_an_address_that_it_does_not_know_takes_nobody_else_for_it() {
    run(async {
        let everywhere = |_: usize, config: &mut AviP2pConfig| config.listen_ips = vec![Ipv4Addr::UNSPECIFIED.into()];
        let mut world = World::with(&[Network::Tcp], everywhere).await;
        let port: u16 = world.address(0).await.rsplit('/').next().unwrap().parse().unwrap();
        // All of 127.0.0.0/8 leads back to this machine, and no interface has this address.
        world.dial(0, 1, None, format!("/ip4/127.0.0.2/tcp/{port}"));
        assert_eq!(world.failure(0, 1).await, DialFailure::Myself);
    });
}

#[test]
fn a_busy_port_makes_the_start_fail() {
    let check = |result: Result<(), AviP2pError>, port: u16, text: &str| match result {
        Err(AviP2pError::ListenFailed { address, reason }) => {
            assert_eq!(address, format!("127.0.0.1:{port}"));
            assert!(reason.contains(text), "{reason}");
        }
        other => panic!("{other:?}"),
    };
    run(async move {
        let mut world = World::with(&[Network::Tcp], |_, _| {}).await;
        let port: u16 = world.address(0).await.rsplit('/').next().unwrap().parse().unwrap();
        // Another node, and a program of another kind.
        let config = |listen_port| AviP2pConfig { listen_port, ..config() };
        check(world.add(&config(port), &Network::Tcp).await, port, "in use (os error 98)");
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        check(world.add(&config(port), &Network::Tcp).await, port, "in use (os error 98)");
        let network = in_memory();
        world.add(&config(9), &network).await.unwrap();
        check(world.add(&config(9), &network).await, 9, "in use");
    });
}

#[test]
fn a_full_node_refuses_before_the_handshake() {
    over_both(|network| async move {
        let three = [network.clone(), network.clone(), network];
        let mut world = World::with(&three, |index, config| config.max_peers = if index == 1 { 1 } else { 50 }).await;
        let address = world.address(1).await;
        world.dial(0, 1, None, address.clone());
        world.connected(1).await;
        world.dial(2, 2, None, address);
        world.says(1, NetEvent::InboundRefused(Refusal::MaxPeers)).await;
        let DialFailure::HungUp(reason) = world.failure(2, 2).await else { panic!() };
        assert!(
            reason.ends_with("closed in the handshake; it may be full, no node of AVI, or have another network_key"),
            "{reason}"
        );
        assert!(!world.said[2].iter().any(|event| matches!(event, NetEvent::Connected { .. })));
        let address = world.address(2).await;
        world.dial(1, 3, None, address);
        assert_eq!(world.failure(1, 3).await, DialFailure::Refused(Refusal::MaxPeers));
    });
}

#[test]
fn peers_tell_their_names_and_answer_pings() {
    over_both(|network| async move {
        let mut world = World::with(&[network.clone(), network], |at, config| {
            config.node_name = format!("node {at}");
            config.identity = Identity::Bytes([at as u8 + 1; 32]);
        })
        .await;
        let listening = world.address(1).await;
        world.dial(0, 1, None, listening.clone());
        let identified = |event: &NetEvent| match event {
            NetEvent::Identified { name, addresses, .. } => Some((name.clone(), addresses.clone())),
            _ => None,
        };
        assert_eq!(world.wait(0, identified).await, ("node 1".to_owned(), vec![listening]));
        world.wait(0, |event| matches!(event, NetEvent::Pong { .. }).then_some(())).await;
    });
}

#[test]
fn a_peer_is_foreign_without_pub_sub_and_not_because_of_its_name() {
    over_both(|network| async move {
        for has_pub_sub in [true, false] {
            let key = [9; 32];
            let mut world = World::with(&[network.clone(), network.clone()], |at, config| {
                config.identity = if at == 1 { Identity::Bytes(key) } else { Identity::Generated };
            })
            .await;
            let key = libp2p_identity::Keypair::ed25519_from_bytes(key).unwrap();
            let other = libp2p_identify::Config::new("/other/1.0.0".to_owned(), key.public());
            let behaviour = world.nets[1].swarm.behaviour_mut();
            behaviour.identify = libp2p_identify::Behaviour::new(other);
            if !has_pub_sub {
                behaviour.gossipsub = super::pubsub::foreign_behaviour(&key);
            }
            world.connect().await;
            let peer = world.nets[1].local.clone();
            let is_identified = |event: &NetEvent| matches!(event, NetEvent::Identified { .. }).then_some(());
            world.wait(0, is_identified).await;
            if !has_pub_sub {
                world.says(0, NetEvent::Foreign { peer }).await;
            }
            world.wait(0, |event| matches!(event, NetEvent::Pong { .. }).then_some(())).await;
            assert!(!world.said[0].iter().any(|event| matches!(event, NetEvent::Foreign { .. })), "told once");
        }
    });
}

#[test]
fn a_peer_answers_each_probe() {
    over_both(|network| async move {
        let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
        let (here, _) = world.connect().await;
        for _ in 0..3 {
            world.said[0].clear();
            world.nets[0].act(NetAction::Probe { connection: here });
            world.wait(0, |event| matches!(event, NetEvent::Answered { .. }).then_some(())).await;
        }
    });
}

#[test]
fn disconnect_all_ends_every_connection_and_refuses_new_ones() {
    over_both(|network| async move {
        let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
        let address = world.address(0).await;
        let (here, there) = world.connect().await;
        let (substream, _) = world.open(here).await;
        world.nets[0].act(NetAction::DisconnectAll);
        let ended = |event: &NetEvent| match event {
            NetEvent::Disconnected { connection, .. } => Some(*connection),
            _ => None,
        };
        assert_eq!(world.wait(0, ended).await, here);
        assert_eq!(world.wait(1, ended).await, there);
        world.nets[0].act(NetAction::Write { substream, bytes: Bytes::from_static(b"late") });
        world.nets[0].act(NetAction::OpenSubstream { stream: StreamId(8), connection: here });
        let reason = "the connection has ended".to_owned();
        world.says(0, NetEvent::SubstreamFailed { stream: StreamId(8), reason }).await;
        world.dial(1, 2, None, address);
        world.says(0, NetEvent::InboundRefused(Refusal::ShuttingDown)).await;
        world.failure(1, 2).await;
    });
}

#[test]
fn a_network_key_keeps_others_out_of_any_network() {
    over_both(|network| async move {
        let keys = [Some(1), Some(1), Some(2), None];
        let networks = keys.map(|_| network.clone());
        let with_key = |at: usize, config: &mut AviP2pConfig| {
            config.network_key = keys[at].map(|key| NetworkKey::from_bytes([key; 32]));
        };
        let mut world = World::with(&networks, with_key).await;
        let members = world.address(1).await;
        world.dial(2, 2, None, members.clone());
        world.dial(3, 3, None, members.clone());
        world.dial(0, 1, None, members);
        world.connected(0).await;
        for stranger in [2, 3] {
            let failure = world.failure(stranger, stranger as u64).await;
            let (DialFailure::Unreachable(reason) | DialFailure::HungUp(reason)) = failure else { panic!() };
            assert!(reason.ends_with("or have another network_key"), "{reason}");
            world.says(1, NetEvent::InboundFailed).await;
        }
    });
}

#[test]
fn a_node_on_every_interface_with_mdns_says_where_it_listens() {
    run(async {
        let mut world = World::with(&[Network::Tcp], |_, config| {
            config.enable_mdns = true;
            config.listen_ips = vec![Ipv4Addr::UNSPECIFIED.into()];
        })
        .await;
        let first = poll_fn(|cx| poll_event(&mut world.nets[0], cx)).await;
        let NetEvent::Listening { addresses } = first else { panic!("{first:?}") };
        assert!(addresses.iter().any(|address| address.starts_with("/ip4/127.0.0.1/tcp/")), "{addresses:?}");
        assert!(addresses.is_sorted() && !addresses.iter().any(|address| address.contains("0.0.0.0")));
    });
}

#[test]
fn a_connection_to_a_peer_that_reads_no_more_ends_all_the_same() {
    run(async {
        let memory = memory::Memory::default();
        let network = Network::Custom(Arc::new(memory.clone()));
        let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
        let (connection, _) = world.connect().await;
        let streams = [world.open(connection).await.0, world.open(connection).await.0];
        memory.cut();
        for substream in streams {
            world.nets[0].act(NetAction::Write { substream, bytes: vec![7; 1024 * 1024].into() });
        }
        // The connection is congested by then.
        let _ = tokio::time::timeout(Duration::from_millis(200), world.wait(0, |_| None::<()>)).await;
        let peer = world.nets[1].local.clone();
        world.nets[0].act(NetAction::Disconnect { connection });
        let ended = NetEvent::Disconnected { connection, peer };
        let by_itself = tokio::time::timeout(Duration::from_secs(1), world.says(0, ended.clone())).await;
        assert!(by_itself.is_err(), "without an abort it waits for the peer");
        world.nets[0].act(NetAction::Abort { connection });
        tokio::time::timeout(Duration::from_secs(1), world.says(0, ended)).await.unwrap();
    });
}

#[test]
fn a_silent_power_failure_is_noticed_within_seconds() {
    run(async {
        let memory = memory::Memory::default();
        let network = Network::Custom(Arc::new(memory.clone()));
        let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
        let (connection, _) = world.connect().await;
        world.wait(0, |event| matches!(event, NetEvent::Pong { .. }).then_some(())).await;
        let (start, peer) = (tokio::time::Instant::now(), world.nets[1].local.clone());
        let mut engine = Engine::new(&config(), world.nets[0].local.clone(), [0; 32]);
        let connected = NetEvent::Connected { connection, peer, address: String::new(), direction: Direction::Inbound };
        engine.handle(Time::ZERO, Input::Net(connected));
        memory.cut();
        let (mut outputs, mut answers) = (Vec::new(), Vec::new());
        while start.elapsed() < Duration::from_secs(15) {
            let hears = world.wait(0, |event| {
                engine.handle(Time(start.elapsed()), Input::Net(event.clone()));
                if let NetEvent::Progress { silent_for, .. } = event {
                    answers.push(*silent_for);
                }
                None::<()>
            });
            let _ = tokio::time::timeout(Duration::from_millis(100), hears).await;
            world.said[0].clear();
            engine.handle_timeout(Time(start.elapsed()));
            while let Some(output) = engine.poll_output() {
                if let Output::Net(action @ NetAction::CheckAlive { .. }) = &output {
                    world.nets[0].act(action.clone());
                }
                outputs.push(output);
            }
        }
        let silent = Duration::from_secs(14);
        assert!(matches!(answers[..], [.., last] if silent <= last && last < 2 * silent), "{answers:?}");
        assert!(outputs.contains(&Output::Net(NetAction::Disconnect { connection })), "{outputs:?}");
    });
}
