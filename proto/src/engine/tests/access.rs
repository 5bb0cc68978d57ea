//! Which peers may connect, which are kept, and which are blocked.

use super::*;
use crate::wire::{Code, Frame};

fn ids(numbers: impl IntoIterator<Item = u16>) -> Vec<PeerId> {
    numbers.into_iter().map(peer).collect()
}

fn block(n: u16, is_blocked: bool) -> impl FnOnce(CommandId) -> Command {
    move |id| Command::SetBlocked { id, peer: peer(n), is_blocked }
}

fn allow(n: u16, is_allowed: bool) -> impl FnOnce(CommandId) -> Command {
    move |id| Command::SetAllowed { id, peer: peer(n), is_allowed }
}

/// The policy's decision on `peer(n)` after its handshake.
fn verdict(node: &Node, n: u16) -> Result<(), Refusal> {
    node.admission.as_ref().unwrap().established(&peer(n), 0, 0)
}

/// Takes all actions, and returns the disconnects among them.
fn cuts(node: &mut Node) -> Vec<NetAction> {
    let is_cut = |action: &NetAction| matches!(action, NetAction::Disconnect { .. });
    node.take_actions().into_iter().filter(is_cut).collect()
}

fn cut(connection: u64) -> NetAction {
    NetAction::Disconnect { connection: ConnectionId(connection) }
}

#[test]
fn a_blocked_peer_is_neither_let_in_nor_dialled_nor_told_of() {
    let mut node = Node::new(1, AviP2pConfig { blocked_peers: ids([2]), ..config() });
    assert_eq!((verdict(&node, 2), verdict(&node, 3)), (Err(Refusal::KeptOut), Ok(())));
    node.discovered(2);
    assert_eq!((node.take_dials(), node.take_events()), (vec![], vec![]));
    node.net(NetEvent::InboundRefused(Refusal::KeptOut));
    assert_eq!(node.stats().peers_refused, 1);
}

#[test]
fn blocking_a_connected_peer_ends_its_connections_and_what_it_writes_is_not_delivered() {
    let mut node = Node::with_peer(1, 2, config());
    node.connected(2, 3, Direction::Inbound);
    node.identified(2, &[&address(2)]);
    node.ask(|id| Command::Subscribe { id, topic: "t".into() }).unwrap();
    node.take_events();
    node.take_actions();
    assert_eq!(node.ask(block(2, true)), Ok(()));
    assert_eq!(node.take_actions(), [cut(1)]);
    node.disconnected(1, 2);
    assert_eq!(node.take_events(), [AviEvent::PeerDisconnected { peer_id: peer(2) }]);
    let forwarded = NetEvent::Message { from: peer(2), topic: "t".into(), data: Bytes::from_static(b"x") };
    node.net(forwarded.clone());
    node.wait(secs(3600));
    assert_eq!((node.take_events(), node.take_dials()), (vec![], vec![]));
    assert_eq!(node.stats().messages_refused, 1);
    assert_eq!(node.ask(block(2, false)), Ok(()));
    assert_eq!(verdict(&node, 2), Ok(()));
    assert_eq!(node.take_events(), [AviEvent::PeerDiscovered { peer_id: peer(2) }]);
    assert_eq!(node.take_dials().len(), 1, "it is dialled at once");
    node.net(forwarded);
    assert_eq!(node.take_events().len(), 1);
}

#[test]
fn with_a_list_of_allowed_peers_nobody_else_comes_in() {
    let mut node = Node::new(1, AviP2pConfig { allowed_peers: Some(ids([2])), paired_peers: ids([4]), ..config() });
    let verdicts = |node: &Node| [2, 3, 4].map(|n| verdict(node, n).is_ok());
    assert_eq!(verdicts(&node), [true, false, true]);
    (2..5).for_each(|n| node.discovered(n));
    assert_eq!(node.take_dials().len(), 2);
    node.take_events();
    assert_eq!(node.ask(allow(3, true)), Ok(()));
    assert_eq!(verdicts(&node), [true, true, true]);
    assert_eq!(node.take_events(), [AviEvent::PeerDiscovered { peer_id: peer(3) }], "it was heard of before");
    assert_eq!(node.take_dials().len(), 1);
    node.connected(1, 3, Direction::Inbound);
    node.take_actions();
    assert_eq!(node.ask(allow(3, false)), Ok(()));
    assert_eq!(node.take_actions(), [cut(1)]);
}

#[test]
fn where_everyone_may_come_nobody_is_allowed_by_name() {
    let mut node = Node::new(1, config());
    assert_eq!(node.ask(allow(2, true)), Err(AviP2pError::Disabled("allowed_peers")));
    let bad = PeerId::new("nonsense");
    let blocked = node.ask(|id| Command::SetBlocked { id, peer: bad.clone(), is_blocked: true });
    assert_eq!(blocked, Err(AviP2pError::InvalidPeerId(bad.to_string())));
}

fn listening(node: &mut Node) -> Vec<AviEvent> {
    node.net(NetEvent::Listening { addresses: vec![address(1)] });
    node.take_events().split_off(1)
}

fn bootstrap_failed(entry: &str, reason: &str) -> AviEvent {
    let reason = format!("refused here: {reason}");
    AviEvent::BootstrapFailed { address: entry.to_owned(), reason, retry_in: secs(60) }
}

#[test]
fn a_bootstrap_entry_whose_peer_is_not_allowed_is_told_at_the_start_and_dialled_once_it_is() {
    let entry = format!("{}/p2p/{}", address(2), peer(2));
    let config = AviP2pConfig { bootstrap_peers: vec![entry.clone()], allowed_peers: Some(ids([3])), ..config() };
    let mut node = Node::new(1, config);
    assert_eq!((node.take_dials(), node.take_events()), (vec![], vec![]), "Started is the first event");
    let told = bootstrap_failed(&entry, "it is not in allowed_peers");
    assert_eq!(listening(&mut node), std::slice::from_ref(&told));
    node.wait(secs(59));
    assert_eq!(node.take_events(), []);
    node.wait(secs(1));
    assert_eq!(node.take_events(), [told], "it is told again while it lasts");
    node.ask(block(2, true)).unwrap();
    assert_eq!(node.take_events(), [bootstrap_failed(&entry, "it is in blocked_peers")]);
    node.ask(block(2, false)).unwrap();
    node.take_events();
    node.ask(allow(2, true)).unwrap();
    assert_eq!((node.take_dials().len(), node.take_events()), (1, vec![]));
}

#[test]
fn a_bootstrap_peer_that_is_blocked_while_it_is_connected_is_told_when_it_is_gone() {
    let mut node = Node::new(1, AviP2pConfig { bootstrap_peers: vec![address(2)], ..config() });
    listening(&mut node);
    let dial = node.take_dials()[0].0;
    node.connected(1, 2, Direction::Outbound(dial));
    node.ask(block(2, true)).unwrap();
    node.take_events();
    node.disconnected(1, 2);
    let told = bootstrap_failed(&address(2), "it is in blocked_peers");
    assert!(node.take_events().contains(&told));
    assert_eq!(node.take_dials(), []);
    node.ask(block(2, false)).unwrap();
    let dials = node.take_dials();
    assert_eq!((dials.len(), &dials[0].1), (1, &vec![address(2)]));
}

#[test]
fn a_bootstrap_peer_that_is_banned_is_told_and_dialled_when_the_ban_is_over() {
    let mut node = Node::new(1, AviP2pConfig { bootstrap_peers: vec![address(2)], ..config() });
    listening(&mut node);
    let dial = node.take_dials()[0].0;
    node.connected(1, 2, Direction::Outbound(dial));
    node.net(NetEvent::Misbehaved { peer: peer(2) });
    node.take_events();
    node.disconnected(1, 2);
    let reason = "it has broken the rules of pub/sub, and is kept out for five minutes";
    assert!(node.take_events().contains(&bootstrap_failed(&address(2), reason)));
    node.wait(secs(299));
    assert_eq!(node.take_dials(), []);
    node.wait(secs(1));
    assert_eq!(node.take_dials().len(), 1);
}

#[test]
fn a_peer_that_slipped_in_before_the_policy_changed_is_sent_away() {
    let mut node = Node::new(1, AviP2pConfig { blocked_peers: ids([2]), ..config() });
    node.connected(1, 2, Direction::Inbound);
    assert_eq!(node.take_actions(), [cut(1)]);
    node.disconnected(1, 2);
    assert_eq!(node.peer_info(2), None);
}

#[test]
fn a_peer_that_is_being_dialled_when_it_is_blocked_is_not_dialled_again() {
    let mut node = Node::new(1, config());
    node.discovered(2);
    let dial = node.take_dials()[0].0;
    node.ask(block(2, true)).unwrap();
    node.dial_failed(dial);
    node.wait(secs(3600));
    assert_eq!(node.take_dials(), vec![]);
}

#[test]
fn the_lists_are_bounded() {
    let mut node = Node::new(1, AviP2pConfig { blocked_peers: ids(2..10_002), ..config() });
    let limit = AviP2pError::LimitReached { limit: "blocked_peers", max: 10_000 };
    assert_eq!(node.ask(block(1, true)), Err(limit));
    assert_eq!(node.ask(block(2, true)), Ok(()), "it is on the list already");
}

#[test]
fn a_peer_that_breaks_the_rules_is_kept_out_for_five_minutes() {
    let mut node = Node::with_peer(1, 2, config());
    node.take_actions();
    node.net(NetEvent::Misbehaved { peer: peer(2) });
    assert_eq!(node.take_actions(), [cut(1)]);
    node.disconnected(1, 2);
    assert_eq!((verdict(&node, 2), node.stats().peers_banned), (Err(Refusal::KeptOut), 1));
    node.discovered(2);
    node.wait(secs(299));
    assert_eq!((node.take_dials(), verdict(&node, 2)), (vec![], Err(Refusal::KeptOut)));
    node.wait(secs(1));
    assert_eq!(verdict(&node, 2), Ok(()));
    assert_eq!(node.take_dials().len(), 1);
}

#[test]
fn of_those_kept_out_the_oldest_make_room() {
    let mut node = Node::new(1, config());
    for n in 2..2000 {
        node.net(NetEvent::Misbehaved { peer: peer(n) });
        node.wait(millis(1));
    }
    let kept_out = (2..2000).filter(|n| verdict(&node, *n).is_err()).collect::<Vec<_>>();
    assert_eq!(kept_out, (976..2000).collect::<Vec<_>>());
}

#[test]
fn a_paired_peer_is_dialled_for_ever_and_never_parted_with() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 8, paired_peers: ids([2]), ..config() });
    assert_eq!(node.peer_info(2).unwrap().source, DiscoverySource::Paired);
    assert_eq!(node.take_dials(), [], "its address is unknown");
    node.discovered(2);
    assert_eq!(node.take_events(), [AviEvent::PeerDiscovered { peer_id: peer(2) }]);
    for _ in 0..40 {
        let dial = node.take_dials()[0].0;
        node.dial_failed(dial);
        assert!(node.step() <= secs(25));
    }
    let dial = node.take_dials()[0].0;
    node.connected(1, 2, Direction::Outbound(dial));
    (3..10).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.take_actions();
    node.wait(secs(3));
    for n in 10..100u16 {
        node.net(NetEvent::InboundRefused(Refusal::MaxPeers));
        let parted = cuts(&mut node);
        let [NetAction::Disconnect { connection }] = parted[..] else { panic!("{parted:?}") };
        assert_ne!(connection, ConnectionId(1));
        node.disconnected(connection.0, connection.0 as u16);
        node.connected(n.into(), n, Direction::Inbound);
        node.wait(secs(3));
    }
}

#[test]
fn whoever_is_in_no_gossip_mesh_is_parted_with_first() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 8, ..config() });
    (2..10).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.net(NetEvent::MeshChanged { peers: ids((2..10).filter(|n| *n != 7)).into_iter().collect() });
    assert_eq!(node.stats().mesh_peers, 7);
    node.net(NetEvent::InboundRefused(Refusal::MaxPeers));
    node.take_actions();
    node.wait(secs(3));
    assert_eq!(cuts(&mut node), [cut(7)]);
    node.disconnected(7, 7);
    node.connected(20, 20, Direction::Inbound);
    node.net(NetEvent::MeshChanged { peers: ids(2..30).into_iter().collect() });
    assert_eq!(cuts(&mut node), []);
    node.wait(millis(500));
    assert_eq!(cuts(&mut node).len(), 1, "a full node must make room");
}

#[test]
fn a_storm_of_newcomers_neither_drives_out_everyone_nor_those_whom_the_node_has_chosen() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 8, ..config() });
    (2..5).for_each(|n| node.discovered(n));
    for (dial, addresses) in node.take_dials() {
        let n = (2..5).find(|n| addresses == [address(*n)]).unwrap();
        node.connected(n.into(), n, Direction::Outbound(dial));
    }
    (5..10).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.take_actions();
    node.wait(secs(3));
    let mut parted = Vec::new();
    for _ in 0..1000 {
        node.net(NetEvent::InboundRefused(Refusal::MaxPeers));
        for action in cuts(&mut node) {
            let NetAction::Disconnect { connection } = action else { panic!("{action:?}") };
            node.disconnected(connection.0, connection.0 as u16);
            node.connected(100 + connection.0, 100 + connection.0 as u16, Direction::Inbound);
            parted.push(connection.0);
        }
        node.wait(millis(1));
    }
    parted.sort_unstable();
    assert_eq!(parted.len(), 2, "one in half a second");
    assert!(parted.iter().all(|n| (5..10).contains(n)), "{parted:?}");
}

#[test]
fn handshakes_under_way_are_bounded_in_all_and_per_address() {
    let config = limited(|limits| (limits.pending_inbound, limits.pending_inbound_per_ip) = (3, 2));
    let node = Node::new(1, config);
    let admission = node.admission.clone().unwrap();
    let inbound = |peers, pending, pending_from_ip| admission.inbound(Count { peers, pending, pending_from_ip });
    assert_eq!(inbound(49, 2, 1), Ok(()));
    assert_eq!(inbound(50, 0, 0), Err(Refusal::MaxPeers));
    assert_eq!(inbound(0, 3, 0), Err(Refusal::PendingInbound));
    assert_eq!(inbound(0, 2, 2), Err(Refusal::PendingInboundPerIp));
    assert_eq!((admission.outbound(50, 0), admission.outbound(50, 1)), (Err(Refusal::MaxPeers), Ok(())));
    let established = |peers, connections| admission.established(&peer(2), peers, connections);
    assert_eq!((established(50, 0), established(50, 2)), (Err(Refusal::MaxPeers), Ok(())));
    assert_eq!(established(1, 4), Err(Refusal::ConnectionsPerPeer));
}

#[test]
fn a_paired_peer_is_learned_and_kept_though_as_many_peers_are_known_as_may_be() {
    let base = limited(|limits| limits.known_peers = 16);
    let mut node = Node::new(1, AviP2pConfig { paired_peers: ids([2]), ..base });
    (3..60).for_each(|n| node.discovered(n));
    node.discovered(2);
    assert_eq!(node.peer_info(2).unwrap().addresses, [address(2)]);
    node.connected(1, 2, Direction::Inbound);
    node.connected(2, 99, Direction::Inbound);
    node.disconnected(1, 2);
    assert_eq!(node.peer_info(2).unwrap().addresses, [address(2)]);
}

#[test]
fn a_full_node_makes_room_for_a_paired_peer_and_for_a_bootstrap_peer() {
    let paired_peers = ids([2]);
    let mut node = Node::new(1, AviP2pConfig { max_peers: 4, paired_peers, ..config() });
    for n in 10..14 {
        node.connected(n.into(), n, Direction::Inbound);
        node.wait(millis(1));
    }
    node.take_actions();
    node.discovered(2);
    assert_eq!(node.take_actions(), [cut(13)], "the newest");
    let mut node = Node::new(1, AviP2pConfig { max_peers: 2, bootstrap_peers: vec![address(2)], ..config() });
    let dial = node.take_dials()[0].0;
    (10..12).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.take_actions();
    node.dial_failed(dial);
    node.wait(secs(10));
    let is_parting = |action: &NetAction| matches!(action, NetAction::Disconnect { .. });
    assert_eq!(node.take_actions().into_iter().filter(is_parting).count(), 1);
}

#[test]
fn a_full_node_makes_room_for_a_paired_peer_as_soon_as_a_call_ends_by_either_end() {
    for ends_here in [true, false] {
        let paired_peers = ids([2]);
        let mut node = Node::with_peer(1, 3, AviP2pConfig { max_peers: 1, paired_peers, ..config() });
        let substream = node.offered(1, 3);
        node.received(substream, &[Frame::Open(Default::default())]);
        let [AviEvent::AudioStreamRequested { stream_id: stream, .. }] = node.take_events()[..] else { panic!() };
        node.ask(|id| Command::AcceptStream { id, stream }).unwrap();
        node.written(substream);
        node.discovered(2);
        assert!(!node.take_actions().contains(&cut(1)), "the only idle peer is in a call");
        if ends_here {
            node.ask(|id| Command::CloseStream { id, stream }).unwrap();
        } else {
            let (code, reason) = (Code::Application, String::new());
            node.received(substream, &[Frame::Close { code, next_sequence: 0, reason }]);
        }
        assert!(!node.actions.contains(&cut(1)), "the other end must hear of the end of the call");
        node.written(substream);
        node.net(NetEvent::Finished { substream });
        assert!(node.take_actions().contains(&cut(1)), "ends here: {ends_here}");
    }
}
