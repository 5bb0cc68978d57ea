//! Which peers a node finds through others. Finding a peer does not dial it.

use super::*;

/// Three nodes, `0 – 1 – 2`, that know where their neighbours listen.
async fn line(network: &Network) -> (World, Vec<PeerId>, Vec<String>) {
    let three = [network.clone(), network.clone(), network.clone()];
    let mut world = World::with(&three, |_, _| {}).await;
    let peers: Vec<_> = world.nets.iter().map(|net| net.local.clone()).collect();
    let addresses = vec![world.address(0).await, world.address(1).await, world.address(2).await];
    for at in [0, 2] {
        world.dial(at, 1, None, addresses[1].clone());
        world.connected(at).await;
        world.connected(1).await;
    }
    // Routes are of peers that answer queries, which identify says.
    for at in [0, 1, 1, 2] {
        world.wait(at, |event| matches!(event, NetEvent::Identified { .. }).then_some(())).await;
    }
    for (at, route) in [(0, 1), (1, 2), (1, 0), (2, 1)] {
        let (peer, addresses) = (peers[route].clone(), vec![addresses[route].clone()]);
        world.nets[at].act(NetAction::AddRoute { peer, addresses });
    }
    (world, peers, addresses)
}

async fn walk(world: &mut World, at: usize, target: Option<[u8; 32]>) -> Vec<PeerId> {
    world.nets[at].act(NetAction::Walk { target });
    let ended = |event: &NetEvent| match event {
        NetEvent::WalkEnded { result } => Some(result.clone().unwrap()),
        _ => None,
    };
    let mut found = world.wait(at, ended).await;
    found.sort();
    found
}

#[test]
fn a_walk_finds_the_peers_of_peers_and_dials_nobody() {
    over_both(|network| async move {
        let (mut world, peers, addresses) = line(&network).await;
        for (at, far, target) in [(0, 2, None), (2, 0, None), (0, 2, Some([7; 32]))] {
            let mut others = vec![peers[1].clone(), peers[far].clone()];
            others.sort();
            assert_eq!(walk(&mut world, at, target).await, others);
            let named = |event: &NetEvent| match event {
                NetEvent::Discovered { peer, addresses, .. } if *peer == peers[far] => Some(addresses.clone()),
                _ => None,
            };
            assert_eq!(world.wait(at, named).await, vec![addresses[far].clone()]);
        }
        // A round trip later, both ends would have seen a dial of Kademlia's own.
        world.said.iter_mut().for_each(|said| said.retain(|event| !matches!(event, NetEvent::Pong { .. })));
        for at in [0, 2] {
            world.wait(at, |event| matches!(event, NetEvent::Pong { .. }).then_some(())).await;
        }
        let of_dials = |event: &&NetEvent| {
            use NetEvent::{Connected, DialFailed, InboundFailed, InboundRefused};
            matches!(event, Connected { .. } | DialFailed { .. } | InboundFailed | InboundRefused(_))
        };
        assert_eq!(world.said.iter().flatten().find(of_dials), None);
        // The engine may dial a peer that the walk found.
        world.dial(0, 2, Some(peers[2].clone()), addresses[2].clone());
        assert_eq!(world.connected(0).await.1, peers[2]);
    });
}

#[test]
fn a_walk_without_kademlia_or_peers_ends() {
    over_both(|network| async move {
        let mut world = World::with(&[network.clone(), network], |at, config| config.enable_kad = at == 0).await;
        world.nets[0].act(NetAction::Walk { target: Some([7; 32]) });
        world.says(0, NetEvent::WalkEnded { result: Ok(Vec::new()) }).await;
        world.nets[1].act(NetAction::Walk { target: None });
        world.says(1, NetEvent::WalkEnded { result: Err("Kademlia is turned off".to_owned()) }).await;
    });
}
