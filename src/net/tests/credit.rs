//! What a connection carries beside audio is limited to what was granted, and audio is not.

use super::*;

/// Two nets, connected, that both subscribe to the topic.
async fn subscribed() -> (World, ConnectionId, String) {
    let network = in_memory();
    let mut world = World::with(&[network.clone(), network], |_, _| {}).await;
    let address = world.address(1).await;
    world.dial(0, 1, Some(world.nets[1].local.clone()), address.clone());
    let ((connection, ..), _) = (world.connected(0).await, world.connected(1).await);
    for at in [0, 1] {
        world.nets[at].act(NetAction::Subscribe { topic: topic() });
    }
    for at in [0, 1] {
        world.subscribed(at, topic().as_str()).await;
    }
    (world, connection, address)
}

fn grant(world: &mut World, bytes: Option<u32>) -> PeerId {
    let peer = world.nets[1].local.clone();
    world.nets[0].act(NetAction::Grant { peer: peer.clone(), bytes });
    peer
}

fn publish(world: &mut World, data: Vec<u8>) {
    let data = Bytes::from(data);
    world.nets[0].act(NetAction::Publish { publish: PublishId(1), topic: topic(), data });
}

async fn message(world: &mut World) -> usize {
    world
        .wait(1, |event| match event {
            NetEvent::Message { data, .. } => Some(data.len()),
            _ => None,
        })
        .await
}

#[test]
fn a_message_waits_for_credit_and_audio_passes_it() {
    run(async {
        let (mut world, connection, _) = subscribed().await;
        let peer = grant(&mut world, Some(1));
        publish(&mut world, vec![7; 40_000]);
        world.says(0, NetEvent::CreditUsed { peer }).await;
        let (here, there) = world.open(connection).await;
        world.nets[0].act(NetAction::Write { substream: here, bytes: Bytes::from(vec![9; 100_000]) });
        assert_eq!(world.receive(1, there, 100_000).await.len(), 100_000);
        world.nets[1].act(NetAction::Write { substream: there, bytes: Bytes::from(vec![9; 100_000]) });
        assert_eq!(world.receive(0, here, 100_000).await.len(), 100_000);
        let is_message = |event: &NetEvent| matches!(event, NetEvent::Message { .. });
        assert!(!world.said[1].iter().any(is_message), "the message did not wait for credit");
        grant(&mut world, None);
        assert_eq!(message(&mut world).await, 40_000);
    });
}

#[test]
fn a_message_passes_with_as_many_grants_as_it_needs() {
    run(async {
        let (mut world, ..) = subscribed().await;
        let peer = grant(&mut world, Some(1000));
        publish(&mut world, vec![7; 40_000]);
        let mut grants = 1;
        while grants < 40 {
            world.says(0, NetEvent::CreditUsed { peer: peer.clone() }).await;
            grant(&mut world, Some(1000));
            grants += 1;
        }
        assert!(!world.said[1].iter().any(|event| matches!(event, NetEvent::Message { .. })), "40 kB in {grants} kB");
        world.says(0, NetEvent::CreditUsed { peer }).await;
        grant(&mut world, Some(10_000));
        assert_eq!(message(&mut world).await, 40_000);
    });
}

#[test]
fn a_limit_ends_with_the_connection() {
    run(async {
        let (mut world, connection, address) = subscribed().await;
        let peer = grant(&mut world, Some(1));
        world.nets[0].act(NetAction::Disconnect { connection });
        world.says(0, NetEvent::Disconnected { connection, peer: peer.clone() }).await;
        world.dial(0, 2, Some(peer), address);
        for at in [0, 1] {
            world.connected(at).await;
            world.subscribed(at, topic().as_str()).await;
        }
        publish(&mut world, vec![7; 40_000]);
        assert_eq!(message(&mut world).await, 40_000);
    });
}
