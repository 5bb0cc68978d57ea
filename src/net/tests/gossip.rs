//! Peers that break the rules of pub/sub, against a whole node.

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p_core::muxing::{StreamMuxerBox, StreamMuxerExt as _};
use libp2p_core::transport::{Boxed, DialOpts, PortUse};
use libp2p_core::upgrade::Version;
use libp2p_core::{Endpoint, Transport as _};
use libp2p_gossipsub::{self as gossipsub, IdentTopic, MessageAuthenticity, MessageId, ValidationMode};
use libp2p_identity::Keypair;
use libp2p_swarm::{Config, NetworkBehaviour, Swarm};

use std::collections::VecDeque;

use super::*;
use crate::event::AviEvent;
use crate::stats::Stats;
use crate::{AviP2p, AviP2pHandle, EventReceiver};
use avi_p2p_proto::config::MAX_MESSAGE_BYTES;

const WITHIN: Duration = Duration::from_secs(20);

/// A node that keeps the rules, its address, and a friend whose messages it receives.
struct Victim {
    _node: AviP2p,
    _friend: AviP2p,
    handle: AviP2pHandle,
    friend: AviP2pHandle,
    events: EventReceiver,
    address: Multiaddr,
}

impl Victim {
    async fn start() -> Self {
        let (node, mut events) = AviP2p::start(config()).await.unwrap();
        let Some(AviEvent::Started { listen_addresses, .. }) = events.recv().await else { panic!() };
        let address = listen_addresses[0].clone();
        let (friend, _) =
            AviP2p::start(AviP2pConfig { bootstrap_peers: vec![address.clone()], ..config() }).await.unwrap();
        let (handle, address) = (node.handle(), address.parse().unwrap());
        handle.subscribe("t").await.unwrap();
        let mut victim = Self { friend: friend.handle(), _node: node, _friend: friend, handle, events, address };
        victim.hears_its_friend().await;
        victim
    }

    async fn hears_its_friend(&mut self) {
        self.friend.publish("t", b"friend".to_vec()).await.unwrap();
        let heard = tokio::time::timeout(WITHIN, async {
            loop {
                if let Some(AviEvent::Message { data, .. }) = self.events.recv().await {
                    assert_eq!(data, b"friend", "a message of another peer was received");
                    return;
                }
            }
        });
        heard.await.expect("no message of the friend was received");
    }

    async fn stats(&self, is_so: impl Fn(&Stats) -> bool) {
        let deadline = tokio::time::Instant::now() + WITHIN;
        loop {
            let stats = self.handle.stats().await.unwrap();
            if is_so(&stats) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{stats:?}");
            tokio::task::yield_now().await;
        }
    }
}

fn secured(key: &Keypair) -> Boxed<(libp2p_identity::PeerId, StreamMuxerBox)> {
    libp2p_tcp::tokio::Transport::new(libp2p_tcp::Config::new())
        .upgrade(Version::V1Lazy)
        .authenticate(libp2p_noise::Config::new(key).unwrap())
        .multiplex(libp2p_yamux::Config::default())
        .boxed()
}

/// The protocols that a node of AVI expects, and GossipSub to break its rules with.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
struct Program {
    gossipsub: gossipsub::Behaviour,
    ping: libp2p_ping::Behaviour,
}

/// A program that speaks GossipSub with this configuration, connected to the victim and subscribed to its topic.
async fn intruder(
    address: &Multiaddr,
    authenticity: MessageAuthenticity,
    mut config: gossipsub::ConfigBuilder,
) -> Swarm<Program> {
    let key = Keypair::generate_ed25519();
    let transport = secured(&key);
    config.message_id_fn(|message| MessageId::new(&message.data));
    let config = config.validation_mode(ValidationMode::None).flood_publish(true).build().unwrap();
    let gossipsub = gossipsub::Behaviour::new(authenticity, config).unwrap();
    let behaviour = Program { gossipsub, ping: Default::default() };
    let keep = Config::with_executor(|task| drop(tokio::spawn(task))).with_idle_connection_timeout(WITHIN);
    let mut swarm = Swarm::new(transport, behaviour, key.public().to_peer_id(), keep);
    swarm.dial(address.clone()).unwrap();
    let aware = async {
        while !matches!(
            swarm.select_next_some().await,
            SwarmEvent::Behaviour(ProgramEvent::Gossipsub(gossipsub::Event::Subscribed { .. }))
        ) {}
    };
    tokio::time::timeout(WITHIN, aware).await.expect("it did not learn the topic");
    swarm
}

/// Sends repeatedly until the victim disconnects it. Then dials again and is refused.
async fn sends_until_it_is_thrown_out(swarm: &mut Swarm<Program>, address: &Multiaddr, data: Vec<u8>) {
    let thrown_out = async {
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        let mut data = data;
        loop {
            tokio::select! {
                event = swarm.select_next_some() => {
                    if let SwarmEvent::ConnectionClosed { .. } = event {
                        return;
                    }
                }
                _ = pause.tick() => {
                    data[0] = data[0].wrapping_add(1);
                    drop(swarm.behaviour_mut().gossipsub.publish(IdentTopic::new("t"), data.clone()));
                }
            }
        }
    };
    tokio::time::timeout(WITHIN, thrown_out).await.expect("it was not disconnected");
    swarm.dial(address.clone()).unwrap();
    let in_vain = async {
        while !matches!(
            swarm.select_next_some().await,
            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. }
        ) {}
    };
    tokio::time::timeout(WITHIN, in_vain).await.expect("it was let in again");
}

#[tokio::test]
async fn who_claims_another_author_is_not_heard_and_thrown_out() {
    let mut victim = Victim::start().await;
    let other = Keypair::generate_ed25519().public().to_peer_id();
    let config = gossipsub::ConfigBuilder::default();
    let mut swarm = intruder(&victim.address, MessageAuthenticity::Author(other), config).await;
    sends_until_it_is_thrown_out(&mut swarm, &victim.address, b"forged".to_vec()).await;
    victim.stats(|stats| stats.peers_banned == 1 && stats.peers_refused >= 1).await;
    victim.hears_its_friend().await;
}

#[tokio::test]
async fn who_signs_nothing_is_not_heard_and_thrown_out() {
    let mut victim = Victim::start().await;
    let config = gossipsub::ConfigBuilder::default();
    let mut swarm = intruder(&victim.address, MessageAuthenticity::Anonymous, config).await;
    sends_until_it_is_thrown_out(&mut swarm, &victim.address, b"anonymous".to_vec()).await;
    victim.stats(|stats| stats.peers_banned == 1).await;
    victim.hears_its_friend().await;
}

#[tokio::test]
async fn what_is_too_long_is_refused_and_counted_and_its_sender_stays() {
    sends_what_is_too_long(AviP2pConfig::default().limits.max_message_bytes + 1).await;
    // A node with another configuration does this.
    sends_what_is_too_long(MAX_MESSAGE_BYTES).await;
}

async fn sends_what_is_too_long(bytes: usize) {
    let mut victim = Victim::start().await;
    victim.friend.subscribe("t").await.unwrap();
    let mut config = gossipsub::ConfigBuilder::default();
    config.max_transmit_size(2 * MAX_MESSAGE_BYTES);
    let authenticity = MessageAuthenticity::Signed(Keypair::generate_ed25519());
    let mut swarm = intruder(&victim.address, authenticity, config).await;
    for refused in 1..5 {
        let data = vec![refused; bytes];
        swarm.behaviour_mut().gossipsub.publish(IdentTopic::new("t"), data).unwrap();
        let serve = async {
            loop {
                swarm.select_next_some().await;
            }
        };
        tokio::select! {
            () = victim.stats(|stats| stats.messages_refused == u64::from(refused)) => {}
            () = serve => {}
        }
    }
    victim.stats(|stats| stats.peers_banned == 0 && stats.peers_connected == 2).await;
    victim.hears_its_friend().await;
    // A forwarded message would have arrived before the answer.
    victim.handle.publish("t", b"answer".to_vec()).await.unwrap();
    let deadline = tokio::time::Instant::now() + WITHIN;
    let mut stats = victim.friend.stats().await.unwrap();
    while stats.messages_received == 0 {
        assert!(tokio::time::Instant::now() < deadline, "{stats:?}");
        tokio::task::yield_now().await;
        stats = victim.friend.stats().await.unwrap();
    }
    assert_eq!((stats.messages_refused, stats.peers_banned), (0, 0));
}

/// Speaks GossipSub to the victim on one substream after another, each with these bytes, until it is disconnected.
async fn sends_raw_until_it_is_thrown_out(address: &Multiaddr, bytes: Vec<u8>) {
    let mut transport = secured(&Keypair::generate_ed25519());
    let dial = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let (_, muxer) = transport.dial(address.clone(), dial).unwrap().await.unwrap();
    let muxer = std::cell::RefCell::new(muxer);
    let hello = [&[19][..], b"/multistream/1.0.0\n", &[15], b"/meshsub/1.1.0\n"].concat();
    let speak = async {
        for _ in 0..100 {
            let mut stream = poll_fn(|cx| muxer.borrow_mut().poll_outbound_unpin(cx)).await?;
            stream.write_all(&[&hello[..], &bytes].concat()).await?;
            // The answer, then its end.
            stream.read_to_end(&mut Vec::new()).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let drive = poll_fn(|cx| {
        loop {
            match muxer.borrow_mut().poll_unpin(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let accept = poll_fn(|cx| {
        // Ignores the substreams that the victim opens.
        while let Poll::Ready(Ok(stream)) = muxer.borrow_mut().poll_inbound_unpin(cx) {
            std::mem::forget(stream);
        }
        Poll::<()>::Pending
    });
    let thrown_out = async {
        tokio::select! {
            spoken = speak => assert!(spoken.is_err(), "the victim did not end it"),
            () = drive => {}
            () = accept => {}
        }
    };
    tokio::time::timeout(WITHIN, thrown_out).await.expect("it was not disconnected");
}

#[tokio::test]
async fn who_sends_what_is_no_message_or_too_much_is_counted_and_loses_its_connection() {
    let too_large = [&[0xff, 0xff, 0xff, 0x7f][..], &[0; 1_200_000]].concat();
    let malformed = vec![4, 0xff, 0xff, 0xff, 0xff];
    for bytes in [too_large, malformed] {
        let mut victim = Victim::start().await;
        sends_raw_until_it_is_thrown_out(&victim.address, bytes).await;
        // A peer that keeps the rules opens as many substreams if its link stalls.
        victim.stats(|stats| stats.messages_refused == 2 && stats.peers_banned == 0).await;
        victim.hears_its_friend().await;
    }
}

fn with_length(content: &[u8]) -> Vec<u8> {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    [unsigned_varint::encode::usize(content.len(), &mut buffer), content].concat()
}

/// A protobuf field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2], &with_length(content)[..]].concat()
}

/// A GossipSub message with this control message.
fn control(content: &[u8]) -> Vec<u8> {
    with_length(&field(3, content))
}

#[tokio::test]
async fn who_floods_with_grafts_that_it_may_not_send_is_thrown_out() {
    let mut victim = Victim::start().await;
    let topic = field(1, b"t");
    // It leaves the mesh, with a backoff of a minute, and joins again at once.
    let prune = control(&field(4, &topic));
    let grafts = control(&field(3, &topic).repeat(10_000));
    sends_raw_until_it_is_thrown_out(&victim.address, [prune, grafts].concat()).await;
    victim.stats(|stats| stats.peers_banned == 1).await;
    victim.hears_its_friend().await;
}

#[tokio::test]
async fn who_ends_every_substream_is_not_kept_as_a_deaf_neighbour() {
    let mut victim = Victim::start().await;
    let mut transport = secured(&Keypair::generate_ed25519());
    let dial = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let (_, muxer) = transport.dial(victim.address.clone(), dial).unwrap().await.unwrap();
    let muxer = std::cell::RefCell::new(muxer);
    let multistream = |protocol: &str| [&[19][..], b"/multistream/1.0.0\n", &with_length(protocol.as_bytes())].concat();
    let subscription = [&[1 << 3, 1][..], &field(2, b"t")].concat();
    let hello = [multistream("/meshsub/1.1.0\n"), with_length(&field(1, &subscription))].concat();
    let speak = async {
        let mut own = poll_fn(|cx| muxer.borrow_mut().poll_outbound_unpin(cx)).await.unwrap();
        own.write_all(&hello).await.unwrap();
        loop {
            let Ok(mut stream) = poll_fn(|cx| muxer.borrow_mut().poll_inbound_unpin(cx)).await else { return };
            // Accepts the victim's pub/sub substream, whatever it asked for, and drops it at once.
            let _ = stream.write_all(&multistream("/meshsub/1.3.0\n")).await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    };
    let drive = poll_fn(|cx| {
        loop {
            match muxer.borrow_mut().poll_unpin(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let publish = async {
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        loop {
            pause.tick().await;
            // An error is fine: nobody receives it.
            let _ = victim.handle.publish("t", b"lost".to_vec()).await;
        }
    };
    let ended = async {
        tokio::select! {
            () = speak => {}
            () = drive => {}
            () = publish => {}
        }
    };
    // Sooner than unanswered pings would end it.
    tokio::time::timeout(Duration::from_secs(8), ended).await.expect("its connection did not end");
    victim.stats(|stats| stats.connections_closed == 1).await;
    victim.stats(|stats| stats.ping_timeouts == 0 && stats.peers_banned == 0).await;
    victim.hears_its_friend().await;
}

#[test]
fn who_is_in_a_mesh_is_told_when_it_changes() {
    over_both(|network| async move {
        let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
        world.nets[0].act(NetAction::Subscribe { topic: topic() });
        world.nets[1].act(NetAction::Subscribe { topic: topic() });
        let (connection, _) = world.connect().await;
        let ids = [world.nets[0].local.clone(), world.nets[1].local.clone()];
        for (at, other) in [(0, &ids[1]), (1, &ids[0])] {
            world.says(at, NetEvent::MeshChanged { peers: BTreeSet::from([other.clone()]) }).await;
        }
        world.nets[0].act(NetAction::Disconnect { connection });
        for at in [0, 1] {
            world.says(at, NetEvent::MeshChanged { peers: BTreeSet::new() }).await;
        }
    });
}

#[test]
fn paired_peers_hear_everything_and_are_in_no_mesh() {
    over_both(|network| async move {
        let keys = [[1; 32], [2; 32]];
        let ids = keys.map(|key| Keypair::ed25519_from_bytes(key).unwrap().public().to_peer_id());
        let mut world = World::with(&[network.clone(), network], |at, config| {
            config.identity = Identity::Bytes(keys[at]);
            config.paired_peers = vec![translate::peer_id(&ids[1 - at])];
        })
        .await;
        world.nets[0].act(NetAction::Subscribe { topic: topic() });
        world.nets[1].act(NetAction::Subscribe { topic: topic() });
        world.connect().await;
        world.subscribed(0, "kitchen").await;
        world.subscribed(1, "kitchen").await;
        let data = Bytes::from_static(b"1");
        world.nets[0].act(NetAction::Publish { publish: PublishId(1), topic: topic(), data: data.clone() });
        let from = world.nets[0].local.clone();
        world.says(1, NetEvent::Message { from, topic: "kitchen".to_owned(), data }).await;
        for net in &world.nets {
            assert_eq!(net.swarm.inner.behaviour().gossipsub.mesh().next(), None);
        }
    });
}

#[test]
fn a_peer_that_reads_no_more_is_slow_and_no_rule_breaker() {
    run(async {
        let memory = memory::Memory::default();
        let network = Network::Custom(Arc::new(memory.clone()));
        let mut world =
            World::with(&[network.clone(), network], |_, config| config.limits.peer_queue_messages = 8).await;
        world.connect().await;
        world.nets[1].act(NetAction::Subscribe { topic: topic() });
        world.subscribed(0, "kitchen").await;
        memory.cut();
        let data = Bytes::from(vec![7; 64 * 1024]);
        for publish in (0..100).map(PublishId) {
            world.nets[0].act(NetAction::Publish { publish, topic: topic(), data: data.clone() });
        }
        let slow = |event: &NetEvent| match event {
            NetEvent::SlowPeer { peer, dropped } => Some((peer.clone(), *dropped)),
            _ => None,
        };
        let (peer, dropped) = world.wait(0, slow).await;
        assert_eq!(peer, world.nets[1].local);
        assert!((1..=100).contains(&dropped), "{dropped}");
        let full = NetEvent::Published { publish: PublishId(99), outcome: PublishOutcome::Congested };
        world.says(0, full).await;
        // The scores have been checked again by then.
        let _ = tokio::time::timeout(Duration::from_secs(3), world.wait(0, |_| None::<()>)).await;
        assert!(!world.said[0].iter().any(|event| matches!(event, NetEvent::Misbehaved { .. })));
    });
}

#[test]
fn in_a_quiet_mesh_nobody_is_woken_for_heartbeats_and_a_message_brings_five() {
    run(async {
        let mut world = World::with(&[Network::Tcp, Network::Tcp], |_, _| {}).await;
        let start = tokio::time::Instant::now();
        let ids: Vec<_> = world.nets.iter().map(|net| net.local.clone()).collect();
        let mut engines: Vec<_> = ids.iter().map(|id| Engine::new(&config(), id.clone(), [0; 32])).collect();
        let address = world.address(1).await;
        for engine in &mut engines {
            let command = Command::Subscribe { id: CommandId::new(1), topic: "kitchen".to_owned() };
            engine.handle(Time::ZERO, Input::Command(command));
        }
        world.dial(0, 1, Some(ids[1].clone()), address);
        // When heartbeats were ordered, and when pongs arrived, at both nodes.
        let (mut beats, mut pongs) = ([vec![], vec![]], [vec![], vec![]]);
        let mut messages = 1;
        let mut drive = async |until: Duration, publish: bool| {
            if publish {
                messages += 1;
                let id = CommandId::new(messages);
                let command = Command::Publish { id, topic: "kitchen".to_owned(), data: Bytes::from_static(b"1") };
                engines[0].handle(Time(start.elapsed()), Input::Command(command));
            }
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while start.elapsed() < until {
                for (at, engine) in engines.iter_mut().enumerate() {
                    while let Poll::Ready(event) = poll_fn(|cx| Poll::Ready(poll_event(&mut world.nets[at], cx))).await
                    {
                        if let NetEvent::Pong { .. } = event {
                            pongs[at].push(start.elapsed());
                        }
                        engine.handle(Time(start.elapsed()), Input::Net(event));
                    }
                    engine.handle_timeout(Time(start.elapsed()));
                    while let Some(output) = engine.poll_output() {
                        let Output::Net(action) = output else { continue };
                        if action == NetAction::Heartbeat {
                            beats[at].push(start.elapsed());
                        }
                        world.nets[at].act(action);
                    }
                }
                tick.tick().await;
            }
        };
        drive(Duration::from_secs(16), false).await;
        drive(Duration::from_secs(25), true).await;
        let of =
            |all: &[Duration], from: u64, to: u64| all.iter().filter(|at| (from..to).contains(&at.as_secs())).count();
        for at in [0, 1] {
            // Connected, grafted, and both told each other.
            assert!(of(&beats[at], 0, 8) >= 2, "{beats:?}");
            assert_eq!(of(&beats[at], 8, 16), 0, "{beats:?}");
            assert!(of(&pongs[at], 8, 16) >= 1, "{pongs:?}");
            assert!((5..=7).contains(&of(&beats[at], 16, 25)), "{beats:?}");
        }
    });
}

/// Both nets subscribe, and have two connections. Returns the older and the newer one at each.
async fn twice_connected(network: Network) -> (World, [[ConnectionId; 2]; 2]) {
    let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
    world.nets[0].act(NetAction::Subscribe { topic: topic() });
    world.nets[1].act(NetAction::Subscribe { topic: topic() });
    let (address, peer) = (world.address(1).await, world.nets[1].local.clone());
    world.dial(0, 1, Some(peer.clone()), address.clone());
    let older = (world.connected(0).await.0, world.connected(1).await.0);
    world.subscribed(0, "kitchen").await;
    world.subscribed(1, "kitchen").await;
    world.said.iter_mut().for_each(VecDeque::clear);
    world.dial(0, 2, Some(peer), address);
    let newer = (world.connected(0).await.0, world.connected(1).await.0);
    world.said.iter_mut().for_each(VecDeque::clear);
    (world, [[older.0, newer.0], [older.1, newer.1]])
}

/// A message from one of the first two nets reaches the other.
async fn is_heard(world: &mut World, at: usize, publish: u64) {
    let data = Bytes::from(vec![publish as u8]);
    world.nets[at].act(NetAction::Publish { publish: PublishId(publish), topic: topic(), data: data.clone() });
    let from = world.nets[at].local.clone();
    world.says(1 - at, NetEvent::Message { from, topic: "kitchen".to_owned(), data }).await;
}

#[test]
fn when_the_older_of_two_connections_is_retired_or_ends_pub_sub_begins_anew_on_the_newer_one() {
    over_both(|network| async move {
        for ends in [true, false] {
            let (mut world, connections) = twice_connected(network.clone()).await;
            is_heard(&mut world, 0, 1).await;
            is_heard(&mut world, 1, 2).await;
            world.said.iter_mut().for_each(VecDeque::clear);
            for (net, [older, _]) in world.nets.iter_mut().zip(connections) {
                net.act(match ends {
                    true => NetAction::Disconnect { connection: older },
                    false => NetAction::Retire { connection: older },
                });
            }
            for at in [0, 1] {
                let peer = world.nets[1 - at].local.clone();
                world.says(at, NetEvent::PeerRenewed { peer }).await;
                world.subscribed(at, "kitchen").await;
            }
            is_heard(&mut world, 0, 3).await;
            is_heard(&mut world, 1, 4).await;
            if !ends {
                world.nets[0].act(NetAction::Disconnect { connection: connections[0][0] });
            }
            for (at, [connection, _]) in connections.into_iter().enumerate() {
                let peer = world.nets[1 - at].local.clone();
                world.says(at, NetEvent::Disconnected { connection, peer }).await;
            }
            is_heard(&mut world, 0, 5).await;
            is_heard(&mut world, 1, 6).await;
            // It began anew once.
            let renewed = |said: &VecDeque<NetEvent>| {
                said.iter().filter(|event| matches!(event, NetEvent::PeerRenewed { .. })).count()
            };
            assert_eq!(world.said.iter().map(renewed).collect::<Vec<_>>(), [0, 0], "once");
        }
    });
}

#[test]
fn what_an_end_that_uses_another_connection_says_waits_for_the_one_that_stays() {
    over_both(|network| async move {
        // One end has lost the older connection, the other believes in it.
        let (mut world, connections) = twice_connected(network.clone()).await;
        world.nets[0].act(NetAction::Retire { connection: connections[0][0] });
        let peer = world.nets[1].local.clone();
        world.says(0, NetEvent::PeerRenewed { peer }).await;
        let data = Bytes::from_static(b"early");
        // It has not heard of subscriptions on the newer one.
        world.nets[0].act(NetAction::Publish { publish: PublishId(1), topic: topic(), data });
        let nobody = NetEvent::Published { publish: PublishId(1), outcome: PublishOutcome::NoSubscribers };
        world.says(0, nobody).await;
        world.nets[1].act(NetAction::Retire { connection: connections[1][0] });
        for at in [0, 1] {
            world.subscribed(at, "kitchen").await;
        }
        is_heard(&mut world, 0, 2).await;
        is_heard(&mut world, 1, 3).await;
    });
}
