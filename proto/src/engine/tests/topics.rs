//! Pub/sub: subscriptions, messages, messages held for a first subscriber.

use super::*;

const HOLD: Duration = Duration::from_secs(10);

/// A node whose publishes go to `peer(2)`, which subscribes to "t".
fn with_subscriber() -> Node {
    let mut node = Node::with_peer(1, 2, config());
    subscribed(&mut node, "t");
    node
}

fn subscribed(node: &mut Node, topic: &str) {
    node.net(NetEvent::PeerSubscribed { peer: peer(2), topic: topic.to_owned() });
}

/// The messages given to the network since the last call.
fn handed_over(node: &mut Node) -> Vec<(PublishId, Vec<u8>)> {
    let publish = |action| match action {
        NetAction::Publish { publish, data, .. } => Some((publish, data.to_vec())),
        _ => None,
    };
    node.take_actions().into_iter().filter_map(publish).collect()
}

fn subscribe(topic: &str) -> impl FnOnce(CommandId) -> Command {
    move |id| Command::Subscribe { id, topic: topic.to_owned() }
}

fn unsubscribe(topic: &str) -> impl FnOnce(CommandId) -> Command {
    move |id| Command::Unsubscribe { id, topic: topic.to_owned() }
}

#[test]
fn a_message_reaches_the_subscribers_and_nobody_else() {
    let mut mesh = Mesh::new(vec![config(), config(), config()]);
    mesh.connect(0, 1);
    mesh.connect(0, 2);
    mesh.subscribe(1, "t").unwrap();
    mesh.subscribe(0, "t").unwrap();
    (0..3).for_each(|n| drop(mesh.events(n)));
    assert_eq!(mesh.publish(0, "t", b"hello"), Ok(()));
    let a = mesh.id(0);
    assert_eq!(mesh.events(1), [message(&a, "t", b"hello")]);
    assert_eq!((mesh.events(0), mesh.events(2)), (vec![], vec![]));
    assert_eq!((mesh.nodes[0].stats().messages_published, mesh.nodes[1].stats().messages_received), (1, 1));
}

#[test]
fn an_early_publish_is_held_and_reaches_the_first_subscriber_in_order() {
    let mut mesh = Mesh::new(vec![config(), config()]);
    for n in 0..3u8 {
        assert_eq!(mesh.publish(0, "t", &[n]), Ok(()));
        mesh.run_for(secs(1));
    }
    assert_eq!(mesh.publish(0, "other", b"x"), Ok(()));
    assert_eq!(mesh.nodes[0].stats().messages_held_now, 4);
    mesh.connect(0, 1);
    mesh.events(1);
    mesh.subscribe(1, "t").unwrap();
    let a = mesh.id(0);
    assert_eq!(mesh.events(1), [message(&a, "t", &[0]), message(&a, "t", &[1]), message(&a, "t", &[2])]);
    let stats = mesh.nodes[0].stats();
    assert_eq!((stats.messages_held, stats.messages_held_now, stats.messages_published), (4, 1, 3));
    mesh.events(0);
    mesh.run_for(HOLD);
    assert_eq!(mesh.events(0), [expired("other", b"x")]);
}

#[test]
fn a_held_message_reaches_a_peer_that_comes_with_its_subscription() {
    let mut mesh = Mesh::new(vec![config(), config()]);
    mesh.subscribe(1, "t").unwrap();
    mesh.publish(0, "t", b"hello").unwrap();
    mesh.connect(1, 0);
    let a = mesh.id(0);
    assert_eq!(mesh.events(1).last(), Some(&message(&a, "t", b"hello")));
}

#[test]
fn a_held_message_expires_when_nobody_subscribes_in_time() {
    let mut node = Node::new(1, config());
    let first = node.publish("t", b"1");
    assert_eq!(node.reply(first), Some(Ok(Published::Held)));
    node.wait(secs(4));
    node.publish("t", b"2");
    node.wait(HOLD - secs(4) - millis(1));
    assert_eq!(node.take_events(), []);
    node.wait(millis(1));
    assert_eq!(node.take_events(), [expired("t", b"1")]);
    node.wait(secs(4));
    assert_eq!(node.take_events(), [expired("t", b"2")]);
    let stats = node.stats();
    assert_eq!((stats.messages_held, stats.messages_held_now, stats.messages_expired), (2, 0, 2));
    assert_eq!(node.deadline(), None);
}

#[test]
fn held_messages_are_bounded_in_number() {
    let mut node = Node::new(1, limited(|limits| limits.held_messages = 2));
    node.publish("t", b"1");
    node.publish("t", b"2");
    let third = node.publish("t", b"3");
    let limit = AviP2pError::LimitReached { limit: "limits.held_messages", max: 2 };
    assert_eq!(node.reply(third), Some(Err(limit)));
    let stats = node.stats();
    assert_eq!((stats.messages_held, stats.publishes_refused), (2, 1));
    node.wait(HOLD);
    let again = node.publish("t", b"4");
    assert_eq!(node.reply(again), Some(Ok(Published::Held)), "there must be room again");
}

#[test]
fn held_messages_are_bounded_in_bytes() {
    let mut node = Node::new(1, limited(|limits| limits.held_bytes = 10));
    node.publish("t", b"12345678");
    let beyond = node.publish("t", b"123");
    let limit = AviP2pError::LimitReached { limit: "limits.held_bytes", max: 10 };
    assert_eq!(node.reply(beyond), Some(Err(limit)));
    let within = node.publish("t", b"12");
    assert_eq!(node.reply(within), Some(Ok(Published::Held)));
    node.connected(1, 2, Direction::Inbound);
    subscribed(&mut node, "t");
    assert_eq!(handed_over(&mut node).len(), 2);
    let again = node.publish("u", b"1234567890");
    assert_eq!(node.reply(again), Some(Ok(Published::Held)), "sent messages take no room");
    node.wait(HOLD);
    let again = node.publish("u", b"1234567890");
    assert_eq!(node.reply(again), Some(Ok(Published::Held)), "expired messages take no room");
}

#[test]
fn a_node_that_holds_nothing_says_at_once_that_a_message_has_expired() {
    let mut node = Node::new(1, AviP2pConfig { publish_hold: Duration::ZERO, ..config() });
    let id = node.publish("t", b"x");
    assert_eq!(node.reply(id), Some(Ok(Published::Held)));
    node.wait(Duration::ZERO);
    assert_eq!(node.take_events(), [expired("t", b"x")]);
}

#[test]
fn a_publish_is_answered_by_what_became_of_it() {
    use AviP2pError::{Congested, NetworkError};
    let outcomes = [
        (PublishOutcome::Sent, Ok(Published::Sent)),
        (PublishOutcome::Congested, Err(Congested("the queues to all subscribers are full"))),
        (PublishOutcome::Refused("the message is too large"), Err(NetworkError("the message is too large".to_owned()))),
    ];
    for (outcome, expected) in outcomes {
        let mut node = with_subscriber();
        let id = node.publish("t", b"x");
        assert_eq!(node.reply(id), None, "the network has not answered");
        let [(publish, _)] = handed_over(&mut node)[..] else { panic!() };
        node.net(NetEvent::Published { publish, outcome });
        assert_eq!(node.reply(id), Some(expected.clone()));
        let stats = node.stats();
        assert_eq!(
            (stats.messages_published, stats.publishes_refused),
            match expected {
                Ok(_) => (1, 0),
                Err(_) => (0, 1),
            }
        );
        node.net(NetEvent::Published { publish, outcome });
        assert_eq!(node.stats(), stats, "a second answer changes nothing");
    }
}

#[test]
fn a_message_whose_subscribers_have_just_gone_is_held() {
    let mut node = with_subscriber();
    let id = node.publish("t", b"x");
    let [(publish, _)] = handed_over(&mut node)[..] else { panic!() };
    node.disconnected(1, 2);
    node.net(NetEvent::Published { publish, outcome: PublishOutcome::NoSubscribers });
    assert_eq!(node.reply(id), Some(Ok(Published::Held)));
    assert_eq!(node.stats().messages_held, 1);
    node.take_events();
    node.wait(HOLD);
    assert_eq!(node.take_events(), [expired("t", b"x")]);
}

#[test]
fn a_message_that_finds_neither_subscriber_nor_room_is_refused_and_not_counted_as_held() {
    let mut node = Node::with_peer(1, 2, limited(|limits| limits.held_messages = 0));
    subscribed(&mut node, "t");
    let id = node.publish("t", b"x");
    let [(publish, _)] = handed_over(&mut node)[..] else { panic!() };
    node.net(NetEvent::Published { publish, outcome: PublishOutcome::NoSubscribers });
    let limit = AviP2pError::LimitReached { limit: "limits.held_messages", max: 0 };
    assert_eq!(node.reply(id), Some(Err(limit)));
    let stats = node.stats();
    assert_eq!((stats.messages_held, stats.messages_held_now, stats.publishes_refused), (0, 0, 1));
}

#[test]
fn a_held_message_whose_path_is_congested_when_it_is_released_expires() {
    for outcome in [PublishOutcome::Congested, PublishOutcome::Refused("the message cannot be signed")] {
        let mut node = Node::with_peer(1, 2, config());
        node.publish("t", b"x");
        subscribed(&mut node, "t");
        let [(publish, _)] = handed_over(&mut node)[..] else { panic!() };
        node.net(NetEvent::Published { publish, outcome });
        assert_eq!(node.take_events(), [expired("t", b"x")]);
    }
}

#[test]
fn a_released_message_that_finds_nobody_after_all_keeps_its_time() {
    let mut node = Node::with_peer(1, 2, config());
    node.publish("t", b"x");
    node.wait(secs(9));
    subscribed(&mut node, "t");
    let [(publish, _)] = handed_over(&mut node)[..] else { panic!() };
    node.net(NetEvent::Published { publish, outcome: PublishOutcome::NoSubscribers });
    node.wait(secs(1));
    assert_eq!(node.take_events(), [expired("t", b"x")]);
    assert_eq!(node.stats().messages_held, 1, "held once");
}

#[test]
fn a_message_that_is_held_again_expires_before_younger_ones() {
    let mut node = Node::with_peer(1, 2, config());
    node.publish("t", b"old");
    subscribed(&mut node, "t");
    let [(publish, _)] = handed_over(&mut node)[..] else { panic!() };
    node.wait(secs(6));
    node.publish("u", b"young");
    node.net(NetEvent::Published { publish, outcome: PublishOutcome::NoSubscribers });
    node.wait(secs(4));
    assert_eq!(node.take_events(), [expired("t", b"old")]);
    node.wait(secs(6));
    assert_eq!(node.take_events(), [expired("u", b"young")]);
}

#[test]
fn a_released_message_whose_time_is_over_before_the_network_answers_expires_once() {
    let mut node = Node::with_peer(1, 2, config());
    node.publish("t", b"x");
    subscribed(&mut node, "t");
    let [(publish, _)] = handed_over(&mut node)[..] else { panic!() };
    node.wait(secs(20));
    node.net(NetEvent::Published { publish, outcome: PublishOutcome::NoSubscribers });
    node.wait(Duration::ZERO);
    assert_eq!(node.take_events(), [expired("t", b"x")]);
    assert_eq!(node.stats().messages_held_now, 0);
}

#[test]
fn topics_are_checked() {
    let mut node = Node::new(1, limited(|limits| limits.max_topic_bytes = 8));
    for bad in ["", "123456789", "a\nb"] {
        assert!(matches!(node.ask(subscribe(bad)), Err(AviP2pError::InvalidTopic(_))), "{bad:?}");
        assert!(matches!(node.ask(unsubscribe(bad)), Err(AviP2pError::InvalidTopic(_))), "{bad:?}");
        let id = node.publish(bad, b"x");
        assert!(matches!(node.reply(id), Some(Err(AviP2pError::InvalidTopic(_)))), "{bad:?}");
    }
    assert_eq!((node.take_actions(), node.stats().publishes_refused), (vec![], 3));
}

#[test]
fn own_messages_are_delivered_once_if_they_were_taken_and_the_topic_is_subscribed_to() {
    let mut node = Node::with_peer(1, 2, AviP2pConfig { deliver_own: true, ..config() });
    let own = |node: &Node, data: &[u8]| super::message(&node.id, "t", data);
    node.publish("t", b"before");
    assert_eq!(node.take_events(), [], "it does not subscribe");
    node.ask(subscribe("t")).unwrap();
    node.publish("t", b"held");
    assert_eq!(node.take_events(), [own(&node, b"held")]);
    subscribed(&mut node, "t");
    for (publish, _) in handed_over(&mut node) {
        node.net(NetEvent::Published { publish, outcome: PublishOutcome::Sent });
    }
    assert_eq!(node.take_events(), [], "it was delivered before");

    let outcomes = [
        (PublishOutcome::Sent, vec![own(&node, b"x")]),
        (PublishOutcome::NoSubscribers, vec![own(&node, b"x")]),
        (PublishOutcome::Congested, vec![]),
        (PublishOutcome::Refused("the message cannot be signed"), vec![]),
    ];
    for (outcome, expected) in outcomes {
        node.publish("t", b"x");
        assert_eq!(node.take_events(), [], "the network has not answered");
        let [(publish, _)] = handed_over(&mut node)[..] else { panic!() };
        node.net(NetEvent::Published { publish, outcome });
        assert_eq!(node.take_events(), expected, "{outcome:?}");
    }
    assert_eq!(node.stats().messages_received, 0);
}

#[test]
fn own_messages_are_not_delivered_unless_the_configuration_says_so() {
    let mut node = Node::with_peer(1, 2, config());
    node.ask(subscribe("t")).unwrap();
    node.publish("t", b"x");
    assert_eq!(node.take_events(), []);
}

#[test]
fn what_is_traced_of_a_message_is_its_length() {
    let data = Bytes::from(vec![201; 640]);
    let mut node = with_subscriber();
    let command = Command::Publish { id: CommandId::new(1), topic: "t".to_owned(), data: data.clone() };
    let event = NetEvent::Message { from: peer(2), topic: "t".to_owned(), data: data.clone() };
    node.publish("t", &data);
    for text in [format!("{command:?}"), format!("{event:?}"), format!("{:?}", node.take_actions())] {
        assert!(text.contains("640 bytes") && !text.contains("201") && !text.contains("xc9"), "{text}");
    }
}

#[test]
fn an_oversize_message_is_refused() {
    let mut node = Node::new(1, limited(|limits| limits.max_message_bytes = 10));
    let id = node.publish("t", &[0; 11]);
    let error = AviP2pError::PayloadTooLarge { len: 11, max: 10, limit: "limits.max_message_bytes" };
    assert_eq!(node.reply(id), Some(Err(error)));
    let id = node.publish("t", &[0; 10]);
    assert_eq!(node.reply(id), Some(Ok(Published::Held)));
}

#[test]
fn subscribing_twice_is_subscribing_once_and_unsubscribing_from_nothing_is_an_error() {
    let mut node = Node::new(1, config());
    assert_eq!(node.ask(unsubscribe("t")), Err(AviP2pError::NotSubscribed("t".to_owned())));
    assert_eq!(node.ask(subscribe("t")), Ok(()));
    assert_eq!(node.ask(subscribe("t")), Ok(()), "once more");
    assert_eq!(node.ask(unsubscribe("t")), Ok(()));
    assert_eq!(node.ask(unsubscribe("t")), Err(AviP2pError::NotSubscribed("t".to_owned())));
    let topic = || crate::id::Topic::new("t", 8).unwrap();
    let actions = [NetAction::Subscribe { topic: topic() }, NetAction::Unsubscribe { topic: topic() }];
    assert_eq!(node.take_actions(), actions);
}

#[test]
fn subscriptions_of_this_node_are_bounded() {
    let mut node = Node::new(1, limited(|limits| limits.max_topics = 2));
    node.ask(subscribe("1")).unwrap();
    node.ask(subscribe("2")).unwrap();
    let limit = AviP2pError::LimitReached { limit: "limits.max_topics", max: 2 };
    assert_eq!(node.ask(subscribe("3")), Err(limit));
    node.ask(unsubscribe("1")).unwrap();
    assert_eq!(node.ask(subscribe("3")), Ok(()));
}

#[test]
fn subscriptions_of_a_peer_are_bounded() {
    let mut node = Node::with_peer(1, 2, limited(|limits| limits.max_topics = 3));
    (0..10).for_each(|n| subscribed(&mut node, &format!("t{n}")));
    subscribed(&mut node, "t0");
    subscribed(&mut node, &"x".repeat(257));
    assert_eq!(node.peer_info(2).unwrap().topics, ["t0", "t1", "t2"]);
    assert_eq!(node.stats().subscriptions_ignored, 8);
    node.net(NetEvent::PeerUnsubscribed { peer: peer(2), topic: "t0".to_owned() });
    subscribed(&mut node, "t9");
    assert_eq!(node.peer_info(2).unwrap().topics, ["t1", "t2", "t9"]);
}

#[test]
fn a_peer_that_is_not_connected_subscribes_to_nothing() {
    let mut node = Node::new(1, config());
    node.publish("t", b"x");
    subscribed(&mut node, "t");
    assert_eq!((node.take_actions(), node.stats().messages_held_now), (vec![], 1));
}

#[test]
fn when_the_last_subscriber_leaves_messages_are_held_again() {
    let mut node = with_subscriber();
    node.net(NetEvent::PeerUnsubscribed { peer: peer(2), topic: "t".to_owned() });
    node.publish("t", b"1");
    subscribed(&mut node, "t");
    assert_eq!(handed_over(&mut node).len(), 1);
    node.disconnected(1, 2);
    node.publish("t", b"2");
    assert_eq!(node.stats().messages_held_now, 1);
}

#[test]
fn a_message_on_a_topic_not_subscribed_to_is_refused() {
    let mut node = Node::with_peer(1, 2, config());
    let message = || NetEvent::Message { from: peer(3), topic: "t".to_owned(), data: bytes::Bytes::from_static(b"x") };
    node.net(message());
    assert_eq!((node.take_events(), node.stats().messages_refused), (vec![], 1));
    node.ask(subscribe("t")).unwrap();
    node.net(message());
    assert_eq!(node.take_events(), [super::message(&peer(3), "t", b"x")]);
    node.ask(unsubscribe("t")).unwrap();
    node.net(message());
    assert_eq!((node.take_events(), node.stats().messages_refused), (vec![], 2));
}
