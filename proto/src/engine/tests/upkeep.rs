//! Permanent work: silent peers, mDNS records, retries, and pauses of GossipSub's heartbeat.

use std::collections::BTreeSet;

use super::*;
use crate::engine::{PING_INTERVAL, PING_TIMEOUT};

/// The silence after which the network is asked, every two seconds.
const LOOK_AFTER: Duration = Duration::from_secs(8);
/// The longest silence of a peer that is there.
const SILENT_AFTER: Duration = Duration::from_secs(14);
/// How long an mDNS record is valid.
const LIFETIME: Duration = Duration::from_secs(360);

fn disconnect(connection: u64) -> NetAction {
    NetAction::Disconnect { connection: ConnectionId(connection) }
}

fn abort(connection: u64) -> NetAction {
    NetAction::Abort { connection: ConnectionId(connection) }
}

/// A node whose peers do not answer pings by themselves, with `peer(2)` on `ConnectionId(1)`.
fn silent() -> Node {
    let mut node = Node::with_peer(1, 2, config());
    node.has_pongs = false;
    node
}

fn pong(node: &mut Node, connection: u64) {
    node.net(NetEvent::Pong { connection: ConnectionId(connection), peer: peer(2), rtt: millis(1) });
}

fn check(connection: u64) -> NetAction {
    NetAction::CheckAlive { connection: ConnectionId(connection) }
}

fn progress(node: &mut Node, connection: u64, silent_for: Duration) {
    node.net(NetEvent::Progress { connection: ConnectionId(connection), silent_for });
}

#[test]
fn a_connection_without_pongs_is_asked_about_and_ends_at_once_if_nothing_moved_on_it() {
    let mut node = silent();
    node.connected(2, 3, Direction::Inbound);
    node.wait(secs(4));
    pong(&mut node, 1);
    node.wait(LOOK_AFTER - secs(4) - millis(1));
    assert_eq!(node.take_actions(), []);
    node.wait(millis(1));
    assert_eq!(node.take_actions(), [check(2)]);
    progress(&mut node, 2, SILENT_AFTER);
    assert_eq!((node.take_actions(), node.stats().ping_timeouts), (vec![disconnect(2), abort(2)], 1));
    node.disconnected(2, 3);
    node.wait(secs(4) - millis(1));
    assert_eq!(node.take_actions(), []);
    node.wait(millis(1));
    assert_eq!(node.take_actions(), [check(1)]);
    progress(&mut node, 1, Duration::MAX);
    assert_eq!((node.take_actions(), node.stats().ping_timeouts), (vec![disconnect(1), abort(1)], 2));
    // It is being closed: neither a sign of life nor more silence changes that.
    pong(&mut node, 1);
    progress(&mut node, 1, Duration::ZERO);
    node.disconnected(1, 2);
    node.wait(secs(60));
    assert_eq!((node.take_actions(), node.stats().ping_timeouts), (vec![], 2));
}

#[test]
fn whoever_sends_or_takes_bytes_is_alive_though_no_pong_comes() {
    let mut node = silent();
    for _ in 0..100 {
        node.wait(LOOK_AFTER);
        assert_eq!(node.take_actions(), [check(1)]);
        progress(&mut node, 1, Duration::ZERO);
    }
    // Eight seconds after the last byte, not after the last question, and then every two seconds.
    node.wait(LOOK_AFTER);
    assert_eq!(node.take_actions(), [check(1)]);
    progress(&mut node, 1, secs(4));
    for (silent_for, next) in [(4, 4), (8, 2), (10, 2), (12, 2)] {
        progress(&mut node, 1, secs(silent_for));
        node.wait(secs(next) - millis(1));
        assert_eq!(node.take_actions(), []);
        node.wait(millis(1));
        assert_eq!(node.take_actions(), [check(1)]);
    }
    progress(&mut node, 1, SILENT_AFTER);
    assert_eq!(node.take_actions(), [disconnect(1), abort(1)]);
    node.disconnected(1, 2);
    assert_eq!(node.stats().ping_timeouts, 1);
}

#[test]
fn one_lost_ping_ends_nothing() {
    let mut node = silent();
    for _ in 0..10 {
        for at in [LOOK_AFTER, LOOK_AFTER + secs(2), LOOK_AFTER + secs(4)] {
            let last = node.now;
            node.wait(if at == LOOK_AFTER { at } else { secs(2) });
            assert_eq!(node.take_actions(), [check(1)], "{last:?}");
            progress(&mut node, 1, at);
        }
        node.wait(PING_INTERVAL + PING_TIMEOUT + PING_INTERVAL - LOOK_AFTER - secs(4) + millis(900));
        pong(&mut node, 1);
        progress(&mut node, 1, Duration::ZERO);
        node.take_actions();
    }
    assert_eq!(node.stats().ping_timeouts, 0);
}

#[test]
fn a_network_that_does_not_answer_has_lost_the_connection() {
    let mut node = silent();
    node.wait(LOOK_AFTER);
    assert_eq!(node.take_actions(), [check(1)]);
    node.wait(secs(1) - millis(1));
    assert_eq!(node.take_actions(), []);
    node.wait(millis(1));
    assert_eq!(node.take_actions(), [disconnect(1), abort(1)]);
    // An answer to nothing changes nothing.
    let mut node = silent();
    progress(&mut node, 1, Duration::MAX);
    assert_eq!(node.take_actions(), []);
}

#[test]
fn a_pong_is_waited_for_anew_and_moves_no_timer() {
    let mut node = silent();
    let first = node.now + LOOK_AFTER;
    node.wait(secs(5));
    pong(&mut node, 1);
    assert_eq!(node.due(), Some(first), "it is kept");
    node.wait(secs(3));
    assert_eq!((node.take_actions(), node.due()), (vec![], Some(first + secs(5))));
}

#[test]
fn after_a_stall_of_this_node_its_peers_have_time_to_be_heard() {
    for (late, time_left) in [(millis(500), Duration::ZERO), (millis(501), secs(5)), (secs(30), secs(5))] {
        let mut node = silent();
        node.wait(secs(4));
        pong(&mut node, 1);
        // Its heartbeats are over by then.
        node.wait(secs(5));
        node.now = node.due().unwrap() + late;
        node.time_out();
        if time_left > Duration::ZERO {
            assert_eq!(node.take_actions(), [], "{late:?} late");
            node.wait(time_left);
        }
        assert_eq!(node.take_actions(), [check(1)], "{late:?} late");
    }
    // A peer with a later deadline keeps it.
    let mut node = silent();
    node.wait(secs(4));
    pong(&mut node, 1);
    node.wait(millis(6500));
    pong(&mut node, 1);
    node.now = node.due().unwrap() + secs(1);
    node.time_out();
    node.wait(millis(5500) - millis(1));
    assert_eq!(node.take_actions(), []);
    node.wait(millis(1));
    assert_eq!(node.take_actions(), [check(1)]);
}

#[test]
fn a_connection_that_does_not_end_when_it_is_told_to_is_aborted_two_seconds_later() {
    let mut node = Node::with_peer(1, 2, config());
    node.connected(2, 3, Direction::Inbound);
    for n in [2, 3] {
        node.net(NetEvent::Foreign { peer: peer(n) });
    }
    assert_eq!(node.take_actions(), [disconnect(1), disconnect(2)]);
    node.disconnected(2, 3);
    node.wait(secs(2) - millis(1));
    assert_eq!(node.take_actions(), []);
    // It is told to close again, which does not give it more time.
    node.net(NetEvent::Misbehaved { peer: peer(2) });
    assert_eq!(node.take_actions(), [disconnect(1)]);
    node.wait(millis(1));
    assert_eq!(node.take_actions(), [abort(1)]);
    node.disconnected(1, 2);
    node.wait(secs(60));
    assert_eq!(node.take_actions(), []);
}

#[test]
fn a_peer_that_takes_no_pub_sub_is_disconnected_once() {
    let mut node = Node::with_peer(1, 2, config());
    for _ in 0..2 {
        node.net(NetEvent::Deaf { connection: ConnectionId(1) });
    }
    node.net(NetEvent::Deaf { connection: ConnectionId(9) });
    assert_eq!(node.take_actions(), [disconnect(1)]);
    node.wait(secs(2));
    assert_eq!(node.take_actions(), [abort(1)]);
    node.disconnected(1, 2);
}

fn announced(node: &mut Node, n: u16, addresses: &[&str]) {
    let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
    node.net(NetEvent::Announced { peer: peer(n), addresses });
}

fn only_dial(node: &mut Node) -> (DialId, Vec<String>) {
    let mut dials = node.take_dials();
    assert_eq!(dials.len(), 1, "{dials:?}");
    dials.remove(0)
}

#[test]
fn what_mdns_repeats_is_told_once_and_dialled_as_long_as_it_is_repeated() {
    let mut node = Node::new(1, config());
    announced(&mut node, 2, &["/a"]);
    assert_eq!(node.take_events(), [AviEvent::PeerDiscovered { peer_id: peer(2) }]);
    let (dial, addresses) = only_dial(&mut node);
    assert_eq!(addresses, ["/a"]);
    node.dial_failed(dial);
    for _ in 0..3 {
        node.wait(LIFETIME - secs(1));
        announced(&mut node, 2, &["/a"]);
        for (dial, _) in node.take_dials() {
            node.dial_failed(dial);
        }
        assert_eq!(node.peer_info(2).unwrap().addresses, ["/a"]);
    }
    assert_eq!(node.take_events(), []);
    while node.peer_info(2).is_some() {
        node.step();
        node.take_dials().into_iter().for_each(|(dial, _)| node.dial_failed(dial));
    }
    assert_eq!((node.now, node.deadline()), (Time::ZERO + 3 * (LIFETIME - secs(1)) + LIFETIME, None));
}

#[test]
fn a_hint_that_expires_is_not_dialled_again_but_where_the_peer_was_reached_is() {
    let mut node = Node::new(1, config());
    announced(&mut node, 2, &["/a", "/b"]);
    let (dial, _) = only_dial(&mut node);
    node.connected(1, 2, Direction::Outbound(dial));
    // A connected peer reports its own addresses.
    node.wait(LIFETIME);
    assert_eq!(node.peer_info(2).unwrap().addresses, [address(2), "/b".to_owned(), "/a".to_owned()]);
    announced(&mut node, 2, &["/a", "/b"]);
    node.disconnected(1, 2);
    while node.deadline().is_some_and(|deadline| deadline <= Time::ZERO + 2 * LIFETIME) {
        node.step();
        node.take_dials().into_iter().for_each(|(dial, _)| node.dial_failed(dial));
    }
    assert_eq!(node.peer_info(2).unwrap().addresses, [address(2)], "it was reached at this address");
}

#[test]
fn whoever_mdns_forgets_while_it_waits_or_is_dialled_is_forgotten() {
    for failure in [DialFailure::Unreachable(String::new()), DialFailure::Refused(Refusal::MaxPeers)] {
        let mut node = Node::new(1, config());
        announced(&mut node, 2, &["/a"]);
        let (dial, _) = only_dial(&mut node);
        node.net(NetEvent::DialFailed { dial, failure: failure.clone() });
        let (dial, _) = loop {
            node.step();
            if let Some(dial) = node.take_dials().pop() {
                break dial;
            }
        };
        // The dial in progress has its address.
        node.wait(LIFETIME);
        assert!(node.peer_info(2).is_some());
        node.net(NetEvent::DialFailed { dial, failure });
        while node.deadline().is_some() {
            node.step();
        }
        assert_eq!((node.take_dials(), node.peer_info(2)), (vec![], None));
    }
}

#[test]
fn a_peer_that_moves_is_believed_and_addresses_without_room_are_counted() {
    let mut node = Node::new(
        1,
        limited(|limits| {
            limits.known_peers = 1;
            limits.addresses_per_peer = 2;
        }),
    );
    announced(&mut node, 2, &["/a", "/b"]);
    node.wait(millis(1));
    announced(&mut node, 2, &["/c"]);
    let known = node.peer_info(2).unwrap().addresses;
    assert!(known.len() == 2 && known.contains(&"/c".to_owned()), "{known:?}");
    announced(&mut node, 3, &["/d", "/e"]);
    assert_eq!((node.peer_info(3), node.stats().mdns_ignored), (None, 2));
}

#[test]
fn mdns_that_fails_is_tried_again_every_thirty_seconds_and_told_once_until_it_works() {
    let mut node = Node::new(1, config());
    let (source, reason) = (DiscoverySource::Mdns, "no interface".to_owned());
    let retry = NetAction::RetryDiscovery { source };
    let failed = NetEvent::DiscoveryUnavailable { source, reason: reason.clone() };
    let told = AviEvent::DiscoveryUnavailable { source, reason };
    for _ in 0..2 {
        node.net(failed.clone());
        assert_eq!(node.take_events(), std::slice::from_ref(&told));
        for _ in 0..3 {
            node.wait(secs(30) - millis(1));
            assert_eq!(node.take_actions(), []);
            node.wait(millis(1));
            assert_eq!(node.take_actions(), std::slice::from_ref(&retry));
            node.net(failed.clone());
        }
        assert_eq!(node.take_events(), []);
        node.net(NetEvent::DiscoveryAvailable { source });
        node.wait(secs(3600));
        assert_eq!((node.take_actions(), node.take_events()), (vec![], vec![]));
    }
}

#[test]
fn listeners_that_are_missing_are_tried_again_less_and_less_often_until_the_interfaces_change() {
    let mut node = Node::new(1, config());
    let waits = |node: &mut Node, seconds: &[u64]| {
        for &seconds in seconds {
            node.net(NetEvent::ListenersMissing);
            node.net(NetEvent::ListenersMissing);
            assert_eq!(node.step(), secs(seconds));
            assert_eq!(node.take_actions(), [NetAction::RetryListeners]);
        }
    };
    waits(&mut node, &[1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(node.deadline(), None, "all are there");
    node.net(NetEvent::InterfacesChanged);
    waits(&mut node, &[1, 2]);
    // After a change of addresses, the retries start again.
    node.net(NetEvent::ListenersMissing);
    node.net(NetEvent::InterfacesChanged);
    assert_eq!(node.deadline(), None);
}

/// Counts the heartbeats that follow, and checks that they are a little more than a second apart.
fn heartbeats(node: &mut Node) -> usize {
    let mut before = node.now;
    node.heartbeats.clear();
    node.wait(secs(60));
    for &beat in &node.heartbeats {
        assert!((millis(1020)..=millis(1050)).contains(&(beat - before)), "{:?}", node.heartbeats);
        before = beat;
    }
    node.heartbeats.len()
}

#[test]
fn gossip_rests_when_nothing_has_happened_for_a_while_until_something_does() {
    let mut node = Node::new(1, config());
    assert_eq!(heartbeats(&mut node), 0, "nothing has happened");
    node.connected(1, 2, Direction::Inbound);
    assert_eq!(heartbeats(&mut node), 2, "whatever pings do");
    for (event, beats) in [
        (NetEvent::GossipActive, 2),
        (NetEvent::PeerSubscribed { peer: peer(2), topic: "t".to_owned() }, 2),
        (NetEvent::Message { from: peer(2), topic: "t".to_owned(), data: Bytes::new() }, 5),
        (NetEvent::MessageRefused, 5),
        (NetEvent::MeshChanged { peers: BTreeSet::new() }, 0),
    ] {
        node.net(event.clone());
        assert_eq!(heartbeats(&mut node), beats, "{event:?}");
    }
    node.ask(|id| Command::Subscribe { id, topic: "t".to_owned() }).unwrap();
    assert_eq!(heartbeats(&mut node), 2);
    node.ask(|id| Command::Unsubscribe { id, topic: "t".to_owned() }).unwrap();
    node.net(NetEvent::GossipActive);
    node.net(NetEvent::MessageRefused);
    assert_eq!(heartbeats(&mut node), 14, "whatever else happens");
    node.heartbeats.clear();
    node.net(NetEvent::MessageRefused);
    node.wait(secs(1));
    node.net(NetEvent::GossipActive);
    assert_eq!(node.heartbeats, []);
    assert_eq!(node.due().map(|due| due - node.now), Some(millis(50)), "the first is not put off");
    node.wait(secs(60));
    assert_eq!(node.heartbeats.len(), 5);
}

#[test]
fn connections_that_cannot_be_accepted_are_counted_and_told_once_for_each_spell() {
    let mut node = Node::new(1, config());
    let mut told = Vec::new();
    for pause in [millis(0), millis(100), secs(9), secs(11)] {
        node.wait(pause);
        node.net(NetEvent::AcceptFailed { reason: "too many open files".to_owned() });
        let events = node.take_events();
        told.push(events == [AviEvent::AcceptFailed { reason: "too many open files".to_owned() }]);
        assert!(events.is_empty() || told[told.len() - 1], "{events:?}");
    }
    assert_eq!((told, node.stats().accepts_failed), (vec![true, false, false, true], 4));
}

#[test]
fn a_connection_that_does_not_answer_after_a_change_of_addresses_is_replaced_within_seconds() {
    // Either end, since the other one does not know of the change.
    for (local, other) in [(1, 2), (2, 1)] {
        let mut node = Node::with_peer(local, other, config());
        node.has_pongs = false;
        node.connected(2, 9, Direction::Inbound);
        node.discovered(other);
        node.wait(secs(6));
        node.take_actions();
        node.net(NetEvent::InterfacesChanged);
        let probe = |connection| NetAction::Probe { connection: ConnectionId(connection) };
        assert_eq!(node.take_actions(), [probe(1), probe(2)]);
        node.net(NetEvent::Answered { connection: ConnectionId(2), peer: peer(9) });
        node.wait(secs(2) - millis(1));
        assert_eq!(node.take_actions(), []);
        node.wait(millis(1));
        assert_eq!(node.take_actions(), [check(1)]);
        node.net(NetEvent::Progress { connection: ConnectionId(1), silent_for: secs(4) });
        assert_eq!(node.take_dials().len(), 1);
    }
}
