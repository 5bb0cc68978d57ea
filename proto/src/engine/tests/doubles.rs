//! Two nodes with one identity.

use std::time::Duration;

use super::node::{Node, config};
use super::{address, peer};
use crate::engine::{ConnectionId, DialFailure, DialId, Direction, NetAction, NetEvent};
use crate::event::AviEvent;

const MOVED: &str = "/ip4/10.0.0.77/tcp/9002";
const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/9002";

#[test]
fn a_node_with_this_ones_identity_that_dials_is_told_once_for_each_host() {
    let mut node = Node::new(1, config());
    for dialled_from in ["/ip4/10.0.0.9/tcp/50123", "/ip4/10.0.0.9/tcp/50124", "/ip6/fd00::1/tcp/2"] {
        node.net(NetEvent::Doubled { address: dialled_from.to_owned() });
    }
    let told = |host: &str| AviEvent::DuplicateIdentity { address: host.to_owned() };
    assert_eq!(node.take_events(), [told("/ip4/10.0.0.9"), told("/ip6/fd00::1")]);
    assert_eq!(node.stats().inbound_failed, 3);
    let answers_too = DialFailure::WrongPeer { address: address(3), obtained: peer(1) };
    node.net(NetEvent::DialFailed { dial: DialId(99), failure: answers_too });
    assert_eq!(node.take_events(), [told(&address(3))]);
}

#[test]
fn a_node_that_dials_itself_through_a_router_takes_itself_for_no_other() {
    let dialled = || NetEvent::Doubled { address: "/ip4/10.0.0.1/tcp/50123".to_owned() };
    let mut node = Node::new(1, config());
    node.discovered(2);
    let dial = node.take_dials()[0].0;
    node.net(dialled());
    node.net(NetEvent::DialFailed { dial, failure: DialFailure::Myself });
    node.net(dialled());
    assert_eq!(node.take_events(), [AviEvent::PeerDiscovered { peer_id: peer(2) }]);
    node.wait(Duration::from_secs(10));
    node.net(dialled());
    assert_eq!(node.take_events(), [AviEvent::DuplicateIdentity { address: "/ip4/10.0.0.1".to_owned() }]);
}

/// A node with a peer that has two connections: the first one says that it is at `old`, the other at `new`.
fn with_two(old: &[&str], new: &[&str]) -> Node {
    let mut node = Node::with_peer(1, 2, config());
    node.identified_on(1, 2, old);
    node.wait(Duration::from_secs(20));
    node.connected(2, 2, Direction::Inbound);
    node.take_actions();
    node.take_events();
    node.identified_on(2, 2, new);
    node
}

fn is_probed(node: &mut Node) -> bool {
    node.take_actions().contains(&NetAction::Probe { connection: ConnectionId(1) })
}

fn answers(node: &mut Node) -> Vec<AviEvent> {
    node.net(NetEvent::Answered { connection: ConnectionId(1), peer: peer(2) });
    node.take_events().into_iter().filter(|event| matches!(event, AviEvent::PeerDuplicated { .. })).collect()
}

#[test]
fn two_nodes_with_the_identity_of_one_peer_are_told_once() {
    let here = address(2);
    let mut node = with_two(&[&here, LOOPBACK], &[MOVED, LOOPBACK]);
    assert!(is_probed(&mut node));
    let told = AviEvent::PeerDuplicated { peer_id: peer(2), addresses: [here.clone(), MOVED.to_owned()] };
    assert_eq!(answers(&mut node), [told]);
    node.connected(3, 2, Direction::Inbound);
    node.identified_on(3, 2, &[&here]);
    assert_eq!(answers(&mut node), []);
}

#[test]
fn a_peer_that_has_moved_or_has_two_interfaces_is_no_double() {
    let here = address(2);
    assert!(!is_probed(&mut with_two(&[&here], &[&here, MOVED])), "two interfaces");
    assert!(!is_probed(&mut with_two(&[LOOPBACK], &[LOOPBACK])), "a second connection");
    assert!(!is_probed(&mut with_two(&[], &[&here])), "it hides where it is");
    let mut follows = with_two(&[&here], &[MOVED]);
    follows.identified_on(1, 2, &[MOVED]);
    assert_eq!(answers(&mut follows), [], "the older connection leads to the same place");
    let mut moved = with_two(&[&here], &[MOVED]);
    assert!(is_probed(&mut moved), "it may have moved");
    moved.disconnected(1, 2);
    assert_eq!(answers(&mut moved), [], "it has");
}
