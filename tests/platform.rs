//! Does the whole stack run on another executor, clock and network? Here on smol's, in memory, without sockets.

mod common;
#[path = "common/memory.rs"]
mod memory;

use std::sync::Arc;
use std::time::{Duration, Instant};

use avi_p2p::transport::{self, Network};
use avi_p2p::{
    AudioItem, AviEvent, AviP2p, AviP2pConfig, AviP2pError, AviP2pHandle, EventReceiver, Platform, Playout,
    StreamCloseReason,
};
use futures::future::BoxFuture;
use memory::Memory;

struct InMemory {
    network: Memory,
    epoch: Instant,
}

impl Platform for InMemory {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        let timer = smol::Timer::at(self.epoch + moment);
        Box::pin(async move {
            timer.await;
        })
    }

    fn network(&self) -> Network {
        Network::Custom(Arc::new(self.network.clone()))
    }
}

async fn start(network: &Memory, config: AviP2pConfig) -> Result<(AviP2p, EventReceiver, Vec<String>), AviP2pError> {
    let platform = InMemory { network: network.clone(), epoch: Instant::now() };
    let (node, mut events) = AviP2p::start_on(config, platform, |task| smol::spawn(task).detach()).await?;
    let addresses = next(&mut events, |event| match event {
        AviEvent::Started { listen_addresses, .. } => Some(listen_addresses),
        _ => None,
    })
    .await;
    Ok((node, events, addresses))
}

async fn next<T>(events: &mut EventReceiver, mut pick: impl FnMut(AviEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = events.recv().await.expect("the node runs");
            if let Some(found) = pick(event) {
                return Some(found);
            }
        }
    };
    let deadline = async {
        smol::Timer::after(common::WITHIN).await;
        None
    };
    smol::future::or(found, deadline).await.expect("the event comes in time")
}

#[test]
fn two_nodes_talk_over_a_transport_of_ours() {
    smol::block_on(async {
        let network = Memory::default();
        let config = AviP2pConfig { listen_port: 7000, ..common::config() };
        let (first, mut first_events, addresses) = start(&network, config.clone()).await.unwrap();
        assert_eq!(addresses, ["/ip4/127.0.0.1/tcp/7000"]);
        assert!(std::net::TcpStream::connect("127.0.0.1:7000").is_err(), "no socket of the system is in use");
        let busy = start(&network, config).await.err();
        assert!(
            matches!(&busy, Some(AviP2pError::ListenFailed { address, .. }) if address == "127.0.0.1:7000"),
            "{busy:?}"
        );

        let config = AviP2pConfig { bootstrap_peers: addresses, ..common::config() };
        let (second, mut second_events, _) = start(&network, config).await.unwrap();
        let (one, two) = (first.handle(), second.handle());
        one.subscribe("lobby").await.unwrap();
        two.publish("lobby", b"hello".to_vec()).await.unwrap();
        let (from, data) = next(&mut first_events, |event| match event {
            AviEvent::Message { from, data, .. } => Some((from, data)),
            _ => None,
        })
        .await;
        assert_eq!((&from, data.as_slice()), (second.local_peer_id(), b"hello".as_slice()));

        let near = two.request_stream(first.local_peer_id().clone()).await.unwrap();
        let far = next(&mut first_events, |event| match event {
            AviEvent::AudioStreamRequested { stream_id, .. } => Some(stream_id),
            _ => None,
        })
        .await;
        one.accept_audio_stream(far).await.unwrap();
        next(&mut second_events, |event| matches!(event, AviEvent::AudioStreamAccepted { .. }).then_some(())).await;
        for n in 0..50 {
            two.send_audio(near, vec![n; 160]).await.unwrap();
        }
        for n in 0..50 {
            let data = next(&mut first_events, |event| match event {
                AviEvent::AudioData { data, .. } => Some(data),
                AviEvent::AudioGap { .. } => panic!("{event:?}"),
                _ => None,
            })
            .await;
            assert_eq!(data, [n; 160]);
        }
        second.shutdown().await.unwrap();
        let reason = next(&mut first_events, |event| match event {
            AviEvent::AudioStreamClosed { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
        assert_eq!(reason, StreamCloseReason::RemoteClose);
        first.shutdown().await.unwrap();
    });
}

fn bootstrap_failure(event: AviEvent) -> Option<String> {
    match event {
        AviEvent::BootstrapFailed { reason, .. } => Some(reason),
        AviEvent::PeerConnected { .. } => panic!("{event:?}"),
        _ => None,
    }
}

#[test]
fn a_name_is_resolved_again_at_every_try_and_all_its_addresses_are_tried() {
    smol::block_on(async {
        let network = Memory::default();
        let config = AviP2pConfig { listen_port: 7000, ..common::config() };
        let (hub, _hub_events, _) = start(&network, config).await.unwrap();
        let by_name = vec!["/dns/hub.local/tcp/7000".to_owned()];
        let config = AviP2pConfig { bootstrap_peers: by_name.clone(), ..common::config() };
        let (node, mut events, _) = start(&network, config).await.unwrap();
        assert_eq!(next(&mut events, bootstrap_failure).await, "hub.local: no such name");
        let ips = ["192.0.2.1", "2001:db8::1", "127.0.0.1"].map(|ip| ip.parse().unwrap());
        network.set_name("hub.local", &ips[..2]);
        let reason = next(&mut events, bootstrap_failure).await;
        for ip in ["/ip4/192.0.2.1/tcp/7000: ", "; /ip6/2001:db8::1/tcp/7000: "] {
            assert!(reason.contains(ip), "{reason}");
        }
        network.set_name("hub.local", &ips);
        let address = next(&mut events, |event| match event {
            AviEvent::PeerConnected { peer_id, address } => Some((peer_id, address)),
            _ => None,
        })
        .await;
        assert_eq!(address, (hub.local_peer_id().clone(), "/ip4/127.0.0.1/tcp/7000".to_owned()));
        // With a peer id, the addresses are tried at once.
        let pinned = vec![format!("/dns4/hub.local/tcp/7000/p2p/{}", hub.local_peer_id())];
        let config = AviP2pConfig { bootstrap_peers: pinned, ..common::config() };
        let (other, mut events, _) = start(&network, config).await.unwrap();
        next(&mut events, |event| match event {
            AviEvent::BootstrapFailed { .. } => panic!("{event:?}"),
            event => matches!(event, AviEvent::PeerConnected { .. }).then_some(()),
        })
        .await;
        drop((hub, node, other));
    });
}

#[test]
fn audio_is_paced_by_the_clock_of_the_platform() {
    smol::block_on(async {
        let network = Memory::default();
        let (callee, mut callee_events, addresses) = start(&network, common::config()).await.unwrap();
        let config = AviP2pConfig { bootstrap_peers: addresses, ..common::config() };
        let (caller, mut events, _) = start(&network, config).await.unwrap();
        next(&mut events, |event| matches!(event, AviEvent::PeerConnected { .. }).then_some(())).await;
        let near = caller.handle().request_stream(callee.local_peer_id().clone()).await.unwrap();
        let far = next(&mut callee_events, |event| match event {
            AviEvent::AudioStreamRequested { stream_id, .. } => Some(stream_id),
            _ => None,
        })
        .await;
        let mut reader = callee.handle().audio_reader(far, Playout::default()).await.unwrap();
        callee.handle().accept_audio_stream(far).await.unwrap();
        next(&mut events, |event| matches!(event, AviEvent::AudioStreamAccepted { .. }).then_some(())).await;
        let began = Instant::now();
        for n in 0..10 {
            caller.handle().send_audio(near, vec![n; 160]).await.unwrap();
        }
        caller.handle().close_audio_stream(near).await.unwrap();
        for n in 0..10 {
            let item = reader.recv().await;
            let Some(AudioItem::Frame(frame)) = item else {
                panic!("no frame {n}: {item:?}, {:?}", reader.playout_stats())
            };
            assert_eq!(frame.data, [n; 160]);
            assert!(began.elapsed() >= Duration::from_millis(20) * n.into(), "20 ms are assumed without a media");
        }
        assert_eq!(reader.recv().await, None);
        drop((caller, callee));
    });
}

#[test]
fn a_silent_loss_of_the_network_is_noticed_by_ping() {
    smol::block_on(async {
        let network = Memory::default();
        let (first, mut first_events, addresses) = start(&network, common::config()).await.unwrap();
        let config = AviP2pConfig { bootstrap_peers: addresses, ..common::config() };
        let (second, _events, _) = start(&network, config).await.unwrap();
        next(&mut first_events, |event| matches!(event, AviEvent::PeerConnected { .. }).then_some(())).await;
        network.cut();
        next(&mut first_events, |event| matches!(event, AviEvent::PeerDisconnected { .. }).then_some(())).await;
        // Both ends notice at about the same time. Whoever is first ends the connection, which the other may see then.
        let mut timeouts = 0;
        for node in [&first, &second] {
            timeouts += node.handle().stats().await.unwrap().ping_timeouts;
        }
        assert!((1..=2).contains(&timeouts), "{timeouts}");
        drop((first, second));
    });
}

#[test]
fn after_a_connection_that_only_one_end_has_lost_messages_flow_in_both_directions() {
    smol::block_on(async {
        let network = Memory::default();
        let (first, mut first_events, addresses) = start(&network, common::config()).await.unwrap();
        let config = AviP2pConfig { bootstrap_peers: addresses, ..common::config() };
        let (second, mut second_events, _) = start(&network, config).await.unwrap();
        let (one, two) = (first.handle(), second.handle());
        one.subscribe("lobby").await.unwrap();
        two.subscribe("lobby").await.unwrap();
        flows(&one, &mut second_events, b"there").await;
        flows(&two, &mut first_events, b"back").await;
        // A younger one could be a simultaneous dial.
        smol::Timer::after(Duration::from_millis(5100)).await;

        network.lose_dialled_ends();
        next(&mut second_events, |event| matches!(event, AviEvent::PeerDisconnected { .. }).then_some(())).await;
        next(&mut second_events, |event| matches!(event, AviEvent::PeerConnected { .. }).then_some(())).await;
        flows(&one, &mut second_events, b"there again").await;
        flows(&two, &mut first_events, b"back again").await;
        let stats = one.stats().await.unwrap();
        assert_eq!((stats.ping_timeouts, stats.duplicate_connections), (0, 1), "{stats:?}");
        drop((first, second));
    });
}

/// A message passes, if need be the second or third: the first may meet a connection that is about to end.
async fn flows(from: &AviP2pHandle, to: &mut EventReceiver, text: &[u8]) {
    let sending = async {
        loop {
            from.publish("lobby", text.to_vec()).await.unwrap();
            smol::Timer::after(Duration::from_millis(300)).await;
        }
    };
    let hearing = next(to, |event| match event {
        AviEvent::Message { data, .. } => (data == text).then_some(()),
        _ => None,
    });
    smol::future::or(hearing, sending).await;
}
