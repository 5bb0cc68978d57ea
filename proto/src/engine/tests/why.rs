//! Does an explanation name the true cause?

use super::*;
use crate::recording::{Subject, why};

fn told(node: &Node, subject: Subject) -> String {
    let (explanation, error) = why(node.recording(), subject).expect("a recording");
    assert_eq!(error, None);
    let places: Vec<_> = explanation.causes.iter().map(|cause| (cause.number, cause.time)).collect();
    assert!(places.is_sorted() && places.is_sorted_by_key(|place| place.1), "{explanation}");
    explanation.to_string()
}

fn last_of(node: &Node, subject: Subject) -> String {
    told(node, subject).lines().last().unwrap_or_default().to_owned()
}

/// The last line has these words, in this order.
fn assert_told(node: &Node, subject: Subject, words: &[&str]) {
    let (all, last) = (told(node, subject.clone()), last_of(node, subject));
    let mut rest = &last[..];
    for word in words {
        match rest.split_once(word) {
            Some((_, after)) => rest = after,
            None => panic!("{word:?} is missing at the end of\n{all}"),
        }
    }
}

#[test]
fn whoever_closes_a_stream_is_named() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, there) = mesh.call(StreamOptions::default());
    mesh.run_for(millis(31));
    mesh.close(0, here).unwrap();
    assert_told(&mesh.nodes[0], Subject::Stream(here), &["at 0.031 s", "closed: the application closes it"]);
    assert_told(
        &mesh.nodes[1],
        Subject::Stream(there),
        &["at 0.031 s", "closed: the other end closes it, by a CLOSE frame"],
    );
    let all = told(&mesh.nodes[0], Subject::Stream(here));
    assert!(all.contains("the application asks") && all.contains("the other end accepts it"), "{all}");
}

#[test]
fn a_request_without_an_answer_is_closed_by_the_time() {
    let mut mesh = Mesh::pair(AviP2pConfig { accept_timeout: secs(3), ..config() }, config());
    let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
    mesh.run_for(secs(4));
    assert_told(&mesh.nodes[0], Subject::Stream(here), &["at 3.000 s", "no answer has come within accept_timeout"]);
}

#[test]
fn a_rejection_is_told_with_its_reason() {
    let mut mesh = Mesh::pair(config(), config());
    let here = mesh.request(0, 1, StreamOptions::default()).unwrap();
    let stream = mesh.offer(1);
    mesh.ask::<()>(1, |id| Command::RejectStream { id, stream, reason: "asleep".to_owned() }).unwrap();
    assert_told(&mesh.nodes[0], Subject::Stream(here), &["the other end rejects it: asleep"]);
    assert_told(&mesh.nodes[1], Subject::Stream(stream), &["the application rejects it"]);
}

#[test]
fn a_stream_that_loses_its_connection_for_good_is_told_with_how_that_ended() {
    let mut mesh = Mesh::pair(config(), config());
    let (here, _) = mesh.call(StreamOptions::default());
    let link = mesh.links(0, 1)[0];
    mesh.unplug(1, true);
    mesh.cut_link(link);
    mesh.run_for(secs(20));
    let words =
        ["no other to the peer came in time", "its connection 0 has ended: the other end or the network ended it"];
    assert_told(&mesh.nodes[0], Subject::Stream(here), &words[..1]);
    assert!(told(&mesh.nodes[0], Subject::Stream(here)).contains(words[1]));
}

#[test]
fn frames_that_a_congested_path_costs_are_told_with_their_number() {
    let config = AviP2pConfig { audio_queue: millis(100), ..config() };
    let mut mesh = Mesh::pair(config.clone(), config);
    let (here, _) = mesh.call(StreamOptions::default());
    mesh.congest(0);
    for _ in 0..50 {
        mesh.send(0, here, &[7; 100]).unwrap();
        mesh.run_for(millis(20));
    }
    mesh.relieve(0);
    mesh.run_for(secs(1));
    let dropped = mesh.audio_stats(0, here).frames_dropped;
    assert!(dropped > 20);
    let all = told(&mesh.nodes[0], Subject::Stream(here));
    let counted: u64 = all.lines().filter(|line| line.contains("dropped by this end")).map(number_of_frames).sum();
    assert_eq!(counted, dropped, "{all}");
    assert!(all.contains("the path is congested"), "{all}");
}

#[test]
fn frames_that_a_stream_refuses_are_told_as_refused() {
    let config = AviP2pConfig { audio_queue: millis(100), ..config() };
    let mut mesh = Mesh::pair(config.clone(), config);
    let (here, _) = mesh.call(StreamOptions { on_congestion: OnCongestion::Refuse, ..StreamOptions::default() });
    mesh.congest(0);
    let mut refused = 0;
    for _ in 0..40 {
        refused += usize::from(mesh.send(0, here, &[7; 100]).is_err());
        mesh.run_for(millis(20));
    }
    let all = told(&mesh.nodes[0], Subject::Stream(here));
    let line = all.lines().find(|line| line.contains("refused, rather than to drop older ones")).expect(&all);
    assert!(refused > 1 && line.contains("the path is congested"), "{all}");
    assert_eq!(number_of_frames(line), refused as u64, "{all}");
}

/// Speaks for so long, a frame every 20 ms.
fn talk(mesh: &mut Mesh, stream: StreamId, duration: Duration) {
    for n in 0..duration.as_millis() / 20 {
        let _ = mesh.send(0, stream, &[n as u8; 100]);
        mesh.run_for(millis(20));
    }
}

#[test]
fn frames_that_have_no_way_out_are_told_by_what_was_wrong_then() {
    let config = AviP2pConfig { audio_queue: millis(100), ..config() };
    let mut mesh = Mesh::pair(config.clone(), config);
    let (here, _) = mesh.call(StreamOptions::default());
    talk(&mut mesh, here, millis(500));
    // Nothing passes, and the other end cannot be dialled: the link is down.
    let link = mesh.links(0, 1)[0];
    mesh.unplug(1, true);
    mesh.silence(link);
    talk(&mut mesh, here, secs(18));
    mesh.unplug(1, false);
    talk(&mut mesh, here, secs(8));
    mesh.congest(0);
    talk(&mut mesh, here, millis(500));
    mesh.relieve(0);
    mesh.run_for(secs(4));

    let all = told(&mesh.nodes[0], Subject::Stream(here));
    let dropped: Vec<_> = all.lines().filter(|line| line.contains("dropped by this end")).collect();
    let reasons =
        ["nothing has come from the other end since 0.500 s", "there was no connection to the peer", "congested"];
    assert_eq!(dropped.len(), reasons.len(), "{all}");
    assert!(dropped.iter().zip(reasons).all(|(line, reason)| line.contains(reason)), "{all}");
    let counted: u64 = dropped.iter().map(|line| number_of_frames(line)).sum();
    assert_eq!(counted, mesh.audio_stats(0, here).frames_dropped, "{all}");
    // Among those of the connection that ended in between.
    let at = |part: &str| all.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part} in {all}"));
    assert!(
        at(reasons[0]) < at("its connection 0 has ended") && at("its connection 0 has ended") <= at(reasons[1]),
        "{all}"
    );
}

#[test]
fn a_path_that_changes_and_what_the_other_end_misses_are_told() {
    let mut mesh = Mesh::pair(config(), config());
    let udp = |n: usize| format!("192.0.2.{}:9000", n + 1).parse().unwrap();
    (0..2).for_each(|n| mesh.has_datagrams(n, udp(n)));
    let (here, _) = mesh.call(StreamOptions::default());
    for _ in 0..3 {
        talk(&mut mesh, here, secs(1));
        mesh.blocked.insert((0, 1));
        talk(&mut mesh, here, secs(2));
        mesh.blocked.clear();
        talk(&mut mesh, here, secs(12));
    }
    let stats = mesh.audio_stats(0, here);
    assert_eq!((stats.path_changes, stats.frames_dropped), (7, 0));
    let all = told(&mesh.nodes[0], Subject::Stream(here));
    let changes: Vec<_> = all.lines().filter(|line| line.contains("from then on")).collect();
    // A path that comes and goes is one line after the first change and the first return.
    let paths =
        ["): its frames leave as datagrams", "): its frames leave on its substream", "5 changes of its path until"];
    assert!(changes.len() == 3 && changes.iter().zip(paths).all(|(line, path)| line.contains(path)), "{all}");
    assert!(changes[2].ends_with("its frames leave as datagrams from then on"), "{all}");
    let lost = stats.remote.map_or(0, |report| report.lost);
    let reported: Vec<_> = all.lines().filter(|line| line.contains("missing at the other end")).collect();
    assert_eq!(reported.iter().map(|line| number_of_frames(line)).sum::<u64>(), lost, "{all}");
    assert!(lost > 0 && reported.len() <= 3, "{all}");
}

fn number_of_frames(line: &str) -> u64 {
    let (_, text) = line.split_once("): ").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn frames_that_never_came_are_told_where_they_are_missed() {
    let mut mesh = Mesh::pair(config(), config());
    let udp = |n: usize| format!("192.0.2.{}:9000", n + 1).parse().unwrap();
    (0..2).for_each(|n| mesh.has_datagrams(n, udp(n)));
    let (here, there) = mesh.call(StreamOptions::default());
    for n in 0..40u8 {
        mesh.lost_of = (n == 20).then_some((1, 1));
        mesh.send(0, here, &[n; 700]).unwrap();
        mesh.run_for(millis(20));
    }
    mesh.run_for(secs(1));
    let lost = mesh.audio_stats(1, there).frames_lost;
    assert!(lost > 0);
    let all = told(&mesh.nodes[1], Subject::Stream(there));
    assert!(
        all.contains(&format!("{lost} frame")) && all.contains("missing from the other end: the path lost"),
        "{all}"
    );
}

#[test]
fn a_peer_that_was_blocked_is_told_as_blocked() {
    let mut node = Node::with_peer(1, 2, config());
    node.wait(secs(1));
    node.ask::<()>(|id| Command::SetBlocked { id, peer: peer(2), is_blocked: true }).unwrap();
    node.disconnected(1, 2);
    let all = told(&node, Subject::Peer(peer(2)));
    assert!(all.contains("closes connection 1: the application has blocked the peer"), "{all}");
    assert_told(&node, Subject::Peer(peer(2)), &["the peer is disconnected"]);
    assert!(
        all.contains("has ended: this node had closed it at 1.000 s: the application has blocked the peer"),
        "{all}"
    );
}

#[test]
fn a_peer_that_is_kept_out_is_told_by_refused_dials_and_connections() {
    let entry = format!("{}/p2p/{}", address(3), peer(3));
    let (bootstrap_peers, blocked_peers) = (vec![address(2), entry.clone()], vec![peer(2), peer(3)]);
    let mut node = Node::new(1, AviP2pConfig { bootstrap_peers, blocked_peers, ..config() });
    node.net(NetEvent::Listening { addresses: vec![address(1)] });
    let (dial, _) = node.take_dials().remove(0);
    node.net(NetEvent::DialFailed { dial, failure: DialFailure::Refused(Refusal::KeptOut) });
    (0..3).for_each(|_| node.net(NetEvent::InboundRefused(Refusal::KeptOut)));
    let all = told(&node, Subject::Peer(peer(2)));
    let dialled =
        format!("a dial to {} has failed: this node's policy refused it: the peer is not allowed", address(2));
    assert!(all.contains(&dialled) && all.contains("the record does not say who is there"), "{all}");
    assert!(all.contains("3 inbound connections refused after their handshake: the peer is not allowed"), "{all}");
    let all = told(&node, Subject::Peer(peer(3)));
    let failed =
        format!("the application is told that {entry} cannot be reached: refused here: it is in blocked_peers");
    assert!(all.contains(&failed), "{all}");
    // Whoever may connect was not refused.
    let all = told(&Node::with_peer(1, 2, config()), Subject::Peer(peer(2)));
    assert!(!all.contains("refused"), "{all}");
}

#[test]
fn a_peer_that_hangs_up_after_the_handshake_is_told_as_full_or_unwilling() {
    let mut node = Node::new(1, AviP2pConfig { bootstrap_peers: vec![address(2)], ..config() });
    node.net(NetEvent::Listening { addresses: vec![address(1)] });
    let (dial, _) = node.take_dials().remove(0);
    node.connected(1, 2, Direction::Outbound(dial));
    node.disconnected(1, 2);
    let all = told(&node, Subject::Peer(peer(2)));
    let ended =
        "connection 1 has ended: the other end hung up after the handshake, or the network ended it: it may be full";
    assert!(all.contains(ended) && all.contains("cannot be reached: it hung up after the handshake"), "{all}");
    // One that has said its name was willing.
    let mut node = Node::with_peer(1, 2, config());
    node.identified_on(1, 2, &[]);
    node.disconnected(1, 2);
    assert!(told(&node, Subject::Peer(peer(2))).contains("has ended: the other end or the network ended it"));
}

#[test]
fn a_peer_that_is_silent_is_told_with_how_long() {
    let mut node = Node::with_peer(1, 2, config());
    node.has_pongs = false;
    node.wait(secs(20));
    let all = told(&node, Subject::Peer(peer(2)));
    assert!(all.contains("the peer was silent for 9.0 s") && all.contains("no ping was answered"), "{all}");
}

#[test]
fn a_peer_that_breaks_rules_or_speaks_nothing_common_is_told_so() {
    let mut node = Node::with_peer(1, 2, config());
    node.net(NetEvent::Misbehaved { peer: peer(2) });
    let all = told(&node, Subject::Peer(peer(2)));
    assert!(all.contains("closes connection 1: the peer breaks the rules of pub/sub, and is banned"), "{all}");
    let mut node = Node::with_peer(1, 2, config());
    node.net(NetEvent::Foreign { peer: peer(2) });
    let all = told(&node, Subject::Peer(peer(2)));
    assert!(all.contains("closes connection 1: the peer speaks none of this node's pub/sub protocols"), "{all}");
}

#[test]
fn a_peer_that_makes_room_is_told_with_the_limit() {
    let mut node = Node::new(1, AviP2pConfig { max_peers: 6, ..config() });
    node.net(NetEvent::Listening { addresses: vec![address(1)] });
    (2..8u16).for_each(|n| node.connected(n.into(), n, Direction::Inbound));
    node.wait(secs(10));
    node.net(NetEvent::InboundRefused(Refusal::MaxPeers));
    let spared = node.take_actions().into_iter().find_map(|action| match action {
        NetAction::Disconnect { connection } => Some(connection.0),
        _ => None,
    });
    let spared = spared.expect("somebody makes room");
    let all = told(&node, Subject::Peer(peer(u16::try_from(spared).unwrap())));
    assert!(all.contains("to make room for a newcomer, since max_peers is reached"), "{all}");
}

#[test]
fn a_second_connection_and_a_second_identity_are_told() {
    let mut mesh = Mesh::pair(config(), config());
    mesh.connect(0, 1);
    mesh.connect(1, 0);
    mesh.run_for(secs(1));
    let ends: Vec<_> = (0..2).map(|n| told(&mesh.nodes[n], Subject::Peer(mesh.id(1 - n)))).collect();
    assert!(ends.iter().any(|all| all.contains("there is another connection to the same peer")), "{ends:#?}");
}

#[test]
fn a_message_that_expires_is_told_with_why_it_was_held() {
    let mut node = Node::with_peer(1, 2, AviP2pConfig { publish_hold: secs(5), ..config() });
    node.publish("t", b"nobody");
    let number = number_of_publish(&node);
    node.wait(secs(6));
    let all = told(&node, Subject::Message(number));
    assert!(all.contains("no connected peer subscribes to it: the message is held"), "{all}");
    assert_told(&node, Subject::Message(number), &["at 5.000 s", "nobody has subscribed within publish_hold"]);
}

#[test]
fn a_message_that_is_held_and_sent_is_told_with_whom_it_waited_for() {
    let mut mesh = Mesh::pair(config(), config());
    mesh.publish(0, "t", b"wait").unwrap();
    let number = number_of_publish(&mesh.nodes[0]);
    mesh.run_for(secs(2));
    mesh.subscribe(1, "t").unwrap();
    let all = told(&mesh.nodes[0], Subject::Message(number));
    assert!(all.contains("at 2.000 s") && all.contains("subscribes to \"t\": the message"), "{all}");
    assert_told(&mesh.nodes[0], Subject::Message(number), &["it is in the queues of neighbours"]);
    // Dropped later because the peer is slow: it may be the one.
    let slow = NetEvent::SlowPeer { peer: mesh.id(1), dropped: 3 };
    mesh.nodes[0].net(slow);
    assert_told(&mesh.nodes[0], Subject::Message(number), &["3 messages to", "this one may be among them"]);
}

fn number_of_publish(node: &Node) -> u64 {
    use crate::recording::{Replay, StepInput};
    let steps = Replay::new(node.recording()).unwrap().map(Result::unwrap);
    let is_publish = |input: &StepInput| matches!(input, StepInput::Input(Input::Command(Command::Publish { .. })));
    steps.filter(|step| is_publish(&step.input)).last().unwrap().number
}

#[test]
fn what_is_not_in_a_recording_is_told_as_such() {
    let node = Node::new(1, config());
    assert_eq!(told(&node, Subject::Stream(StreamId(9))), "nothing in this recording is about it\n");
}

#[test]
fn names_that_only_the_state_or_an_output_has_are_hidden() {
    use crate::recording::{Pseudonyms, Replay};
    let mut mesh = Mesh::pair(config(), config());
    mesh.call(StreamOptions { label: Some("cellar".to_owned()), ..StreamOptions::default() });
    let (other, mut names) = (mesh.id(1), Pseudonyms::new());
    names.learn_state(mesh.now, mesh.nodes[0].engine());
    let shown = names.hide(&format!("{other} avi-node cellar"));
    assert_eq!(shown, "peer-1 name-1 label-1");

    let mut step = Replay::new(mesh.nodes[0].recording()).unwrap().nth(1).unwrap().unwrap();
    step.outputs = vec![
        Output::Net(NetAction::Dial { dial: DialId(1), peer: Some(peer(7)), addresses: vec![address(7)] }),
        Output::Event(AviEvent::PeerDiscovered { peer_id: peer(8) }),
    ];
    let mut names = Pseudonyms::new();
    names.learn(&step);
    let shown = names.hide(&format!("{:?}", step.outputs));
    for name in [peer(7).as_str(), peer(8).as_str(), "192.0.2."] {
        assert!(!shown.contains(name), "{shown}");
    }
}
