//! Searches for peers through the known ones.

use super::*;

fn walking() -> AviP2pConfig {
    AviP2pConfig { enable_kad: true, ..config() }
}

fn walks(node: &mut Node) -> Vec<Option<[u8; 32]>> {
    let target = |action| match action {
        NetAction::Walk { target } => Some(target),
        _ => None,
    };
    node.take_actions().into_iter().filter_map(target).collect()
}

fn ended(node: &mut Node) {
    node.net(NetEvent::WalkEnded { result: Ok(vec![peer(7)]) });
}

#[test]
fn a_search_is_answered_when_the_walk_ends() {
    let mut node = Node::with_peer(1, 2, walking());
    let first = node.command(|id| Command::FindMorePeers { id });
    let second = node.command(|id| Command::FindMorePeers { id });
    assert_eq!(walks(&mut node), [None], "one walk serves both");
    assert_eq!((node.reply(first), node.reply(second)), (None, None));
    ended(&mut node);
    for id in [first, second] {
        assert_eq!(node.reply(id), Some(Ok(vec![peer(7)])));
    }
    let third = node.command(|id| Command::FindMorePeers { id });
    assert!(matches!(walks(&mut node)[..], [Some(_)]), "then anywhere");
    node.net(NetEvent::WalkEnded { result: Err("nobody to ask".to_owned()) });
    assert_eq!(node.reply(third), Some(Err(AviP2pError::NetworkError("nobody to ask".to_owned()))));
}

#[test]
fn a_search_that_nobody_waits_for_is_answered_at_once_and_walks_once() {
    let mut node = Node::with_peer(1, 2, walking());
    for _ in 0..300 {
        assert_eq!(node.ask(|id| Command::DiscoverPeers { id }), Ok(()));
    }
    assert_eq!(walks(&mut node), [None]);
    let waits = node.command(|id| Command::FindMorePeers { id });
    assert_eq!(walks(&mut node), [], "it waits for the same walk");
    ended(&mut node);
    assert_eq!(node.reply(waits), Some(Ok(vec![peer(7)])));
    assert_eq!(node.ask(|id| Command::DiscoverPeers { id }), Ok(()));
    assert_eq!(walks(&mut node).len(), 1);
}

#[test]
fn a_search_that_is_turned_off_says_so() {
    let mut node = Node::with_peer(1, 2, config());
    assert_eq!(node.ask(|id| Command::DiscoverPeers { id }), Err(AviP2pError::Disabled("enable_kad")));
    assert_eq!(node.ask(|id| Command::FindMorePeers { id }), Err(AviP2pError::Disabled("enable_kad")));
    node.identified(2, &[]);
    node.wait(secs(3600));
    assert_eq!(walks(&mut node), []);
}

#[test]
fn a_search_that_does_not_end_is_given_up_after_thirty_seconds() {
    let mut node = Node::with_peer(1, 2, walking());
    let id = node.command(|id| Command::FindMorePeers { id });
    node.wait(millis(29_999));
    assert_eq!(node.reply(id), None);
    node.wait(millis(1));
    let error = AviP2pError::Timeout { operation: "the search for peers", after: secs(30) };
    assert_eq!(node.reply(id), Some(Err(error)));
    // Its end may still be reported, and has no effect.
    ended(&mut node);
    let again = node.command(|id| Command::FindMorePeers { id });
    assert_eq!(node.reply(again), None);
}

#[test]
fn the_end_of_a_walk_that_nobody_began_does_nothing() {
    let mut node = Node::new(1, walking());
    ended(&mut node);
    assert_eq!(node.deadline(), None);
}

#[test]
fn callers_who_wait_for_a_search_are_bounded() {
    let mut config = walking();
    config.limits.pending_commands = 2;
    let mut node = Node::with_peer(1, 2, config);
    let waiting = [node.command(|id| Command::FindMorePeers { id }), node.command(|id| Command::FindMorePeers { id })];
    let limit = AviP2pError::LimitReached { limit: "limits.pending_commands", max: 2 };
    assert_eq!(node.ask(|id| Command::FindMorePeers { id }), Err(limit));
    ended(&mut node);
    assert!(waiting.into_iter().all(|id| node.reply(id).is_some_and(|reply| reply.is_ok())));
}

#[test]
fn new_peers_start_one_walk_and_walks_become_rare() {
    let mut node = Node::new(1, walking());
    for n in 2..6 {
        node.connected(n.into(), n, Direction::Inbound);
        node.identified(n, &[]);
        node.identified(n, &[]);
    }
    node.wait(millis(299));
    assert_eq!(walks(&mut node), []);
    node.wait(millis(1));
    assert_eq!(walks(&mut node), [None]);
    let mut pause = secs(5);
    for _ in 0..10 {
        ended(&mut node);
        let waited = node.step();
        assert!(waited >= pause.mul_f64(0.75) && waited <= pause.mul_f64(1.25), "{waited:?} is not about {pause:?}");
        assert_eq!(walks(&mut node).len(), 1);
        pause = (pause * 2).min(secs(300));
    }
}

#[test]
fn a_peer_that_comes_during_a_walk_gets_its_own_soon_after() {
    let mut node = Node::with_peer(1, 2, walking());
    // By now the regular pause is 80 s.
    for _ in 0..5 {
        node.command(|id| Command::FindMorePeers { id });
        ended(&mut node);
    }
    node.command(|id| Command::FindMorePeers { id });
    node.identified(2, &[]);
    node.wait(secs(10));
    assert_eq!(walks(&mut node).len(), 6, "one at a time");
    ended(&mut node);
    node.wait(millis(4999));
    assert_eq!(walks(&mut node), []);
    node.wait(millis(1));
    assert_eq!(walks(&mut node).len(), 1);
}

#[test]
fn a_node_with_enough_peers_asks_each_bootstrap_peer_before_that_may_hang_up() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 3, bootstrap_peers: vec![address(3)], ..walking() });
    let bootstrap = node.take_dials()[0].0;
    node.dial_failed(bootstrap);
    node.discovered(2);
    let dial = node.take_dials()[0].0;
    node.connected(2, 2, Direction::Outbound(dial));
    node.identified(2, &[]);
    node.wait(secs(20));
    let actions = node.take_actions();
    let [NetAction::Dial { dial, .. }] = actions[..] else { panic!("it has enough peers: {actions:?}") };
    node.connected(3, 3, Direction::Outbound(dial));
    node.identified(3, &[]);
    node.wait(millis(300));
    assert_eq!(walks(&mut node), [None]);
}

#[test]
fn peers_that_come_and_go_do_not_cause_a_walk_each() {
    for (config, most) in [(walking(), 11), (AviP2pConfig { bootstrap_peers: vec![address(2)], ..walking() }, 34)] {
        let mut node = Node::new(1, config);
        let mut count = 0;
        for n in 0..100 {
            match node.take_dials()[..] {
                [(dial, _)] => node.connected(n, 2, Direction::Outbound(dial)),
                _ => node.connected(n, 2, Direction::Inbound),
            }
            node.identified(2, &[]);
            node.wait(millis(500));
            node.disconnected(n, 2);
            let begun = walks(&mut node).len();
            count += begun;
            (0..begun).for_each(|_| ended(&mut node));
        }
        assert!((2..=most).contains(&count), "{count} walks in 50 s");
    }
}

#[test]
fn nodes_find_each_other_and_the_walks_go_on() {
    let mut mesh = Mesh::new(vec![walking(), walking()]);
    mesh.connect(0, 1);
    let id = mesh.id(1);
    assert_eq!(mesh.ask(0, |id| Command::FindMorePeers { id }), Ok(vec![id]));
    mesh.run_for(secs(3600));
}
