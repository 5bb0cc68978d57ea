//! Where a node listens that uses only some interfaces. Tests with more than loopback are in `tests/netns.rs`.

use std::net::Ipv6Addr;

use super::*;
use crate::config::Interfaces;

fn lo() -> Vec<String> {
    vec!["lo".to_owned()]
}

fn anywhere(interfaces: Interfaces) -> AviP2pConfig {
    let listen_ips = vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    AviP2pConfig { listen_ips, interfaces, ..config() }
}

async fn listening(world: &mut World, at: usize) -> Vec<String> {
    world
        .wait(at, |event| match event {
            NetEvent::Listening { addresses } => Some(addresses.clone()),
            _ => None,
        })
        .await
}

#[test]
fn a_wildcard_stands_for_the_addresses_of_one_interface_on_one_port_and_they_are_reached() {
    run(async {
        let mut world = World::default();
        world.add(&config(), &Network::Tcp).await.unwrap();
        world.add(&anywhere(Interfaces::Only(lo())), &Network::Tcp).await.unwrap();
        let addresses = listening(&mut world, 1).await;
        assert!(addresses.iter().all(|text| text.starts_with("/ip4/127.") || text.starts_with("/ip6/::1/")));
        let ports: BTreeSet<_> = addresses.iter().filter_map(|address| address.rsplit('/').next()).collect();
        assert_eq!(ports.len(), 1, "{addresses:?}");
        world.dial(0, 1, None, addresses[0].clone());
        world.connected(0).await;
    });
}

#[test]
fn a_node_starts_without_any_interface_and_says_that_it_listens_nowhere() {
    run(async {
        let mut world = World::default();
        let nowhere = anywhere(Interfaces::Only(vec!["none-such".to_owned()]));
        world.add(&nowhere, &Network::Tcp).await.unwrap();
        assert_eq!(listening(&mut world, 0).await, [""; 0]);
    });
}

#[test]
fn a_port_that_is_busy_on_an_interface_that_is_used_makes_the_start_fail() {
    run(async {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listen_port = taken.local_addr().unwrap().port();
        let config = AviP2pConfig { listen_port, ..anywhere(Interfaces::Only(lo())) };
        match World::default().add(&config, &Network::Tcp).await {
            Err(AviP2pError::ListenFailed { address, .. }) => assert_eq!(address, format!("127.0.0.1:{listen_port}")),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn an_address_of_an_interface_that_is_denied_makes_the_start_fail_unless_the_network_is_another() {
    run(async {
        let config = AviP2pConfig { interfaces: Interfaces::Except(lo()), ..config() };
        let text = World::default().add(&config, &Network::Tcp).await.unwrap_err().to_string();
        assert!(text.contains("listen_ips[0]") && text.contains("lo is not in `interfaces`"), "{text}");
        let mut world = World::default();
        world.add(&config, &in_memory()).await.unwrap();
        assert_eq!(listening(&mut world, 0).await.len(), 1);
        assert!(!world.nets[0].listening.watches() && !world.nets[0].listening.follows());
    });
}
