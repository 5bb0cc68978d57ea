//! Do nodes come to the same context, whatever the network does between them?

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::context::{Author, ContextOptions, ContextWrite, Entry, Hlc, Op, Path, Request, Response, Signer, Wall};

/// 2026-01-01.
pub(super) const STARTED_AT: u64 = 1_767_225_600_000;
const TOPIC: &str = "/avi/context/1";

/// An engine with the key `n`, and its id.
pub(super) fn started(n: u16, config: &AviP2pConfig, file: Option<Bytes>) -> Result<(PeerId, Engine), AviP2pError> {
    started_at(n, config, file, STARTED_AT)
}

fn started_at(
    n: u16,
    config: &AviP2pConfig,
    file: Option<Bytes>,
    unix_millis: u64,
) -> Result<(PeerId, Engine), AviP2pError> {
    let secret = [n as u8; 32];
    let key = ed25519_dalek::SigningKey::from_bytes(&secret).verifying_key().to_bytes();
    let id = Author(key).peer_id();
    let mut engine = Engine::new(config, id.clone(), [n as u8; 32]);
    engine.start_context(ContextStart { secret: Some(secret.into()), file, unix_millis })?;
    Ok((id, engine))
}

fn with_context() -> AviP2pConfig {
    AviP2pConfig { context: Some(ContextOptions::default()), ..config() }
}

fn mesh(nodes: usize) -> Mesh {
    Mesh::new((0..nodes).map(|_| with_context()).collect())
}

fn set(mesh: &mut Mesh, n: usize, path: &str, value: Value) -> Result<(), AviP2pError> {
    mesh.ask(n, |id| Command::WriteContext { id, write: ContextWrite::Set { path: path.to_owned(), value } })
}

fn remove(mesh: &mut Mesh, n: usize, path: &str) {
    mesh.ask(n, |id| Command::WriteContext { id, write: ContextWrite::Remove { path: path.to_owned() } }).unwrap();
}

fn whole(mesh: &Mesh, n: usize) -> Value {
    mesh.nodes[n].engine().context_value("").unwrap().unwrap_or(json!({}))
}

fn assert_all(mesh: &Mesh, expected: &Value) {
    (0..mesh.nodes.len()).for_each(|n| assert_eq!(whole(mesh, n), *expected, "node {n}"));
}

fn changes(mesh: &mut Mesh, n: usize) -> Vec<(String, Option<Value>)> {
    let changed = |event| match event {
        AviEvent::ContextChanged { path, value, .. } => Some((path, value)),
        _ => None,
    };
    mesh.events(n).into_iter().filter_map(changed).collect()
}

#[test]
fn a_write_reaches_a_neighbour_at_once_and_both_are_told() {
    let mut mesh = mesh(2);
    mesh.connect(0, 1);
    set(&mut mesh, 0, "a", json!({ "x": 1, "y": {} })).unwrap();
    assert_all(&mesh, &json!({ "a": { "x": 1, "y": {} } }));
    let told = vec![("a.x".to_owned(), Some(json!(1))), ("a.y".to_owned(), Some(json!({})))];
    assert_eq!((changes(&mut mesh, 0), changes(&mut mesh, 1)), (told.clone(), told));
    remove(&mut mesh, 1, "a");
    let told = vec![("a".to_owned(), None)];
    assert_eq!((changes(&mut mesh, 0), changes(&mut mesh, 1)), (told.clone(), told));
    // What changes nothing is not told.
    remove(&mut mesh, 1, "a");
    assert_eq!(changes(&mut mesh, 0), []);
}

#[test]
fn nodes_that_were_apart_come_to_the_same_when_they_meet_and_pass_it_on() {
    let mut mesh = mesh(4);
    mesh.connect(0, 1);
    mesh.connect(2, 3);
    set(&mut mesh, 0, "here", json!(1)).unwrap();
    set(&mut mesh, 1, "both", json!("early")).unwrap();
    mesh.run_for(secs(1));
    set(&mut mesh, 3, "there", json!(2)).unwrap();
    set(&mut mesh, 3, "both", json!("late")).unwrap();
    mesh.connect(1, 2);
    // An exchange, and what it has brought told to the neighbours.
    mesh.run_for(secs(2));
    assert_all(&mesh, &json!({ "here": 1, "there": 2, "both": "late" }));
}

#[test]
fn a_message_that_was_lost_is_found_within_a_round() {
    let mut mesh = mesh(2);
    mesh.connect(0, 1);
    mesh.run_for(secs(10));
    mesh.publish_outcome = Some(PublishOutcome::Congested);
    set(&mut mesh, 0, "a", json!(1)).unwrap();
    assert_eq!(whole(&mesh, 1), json!({}));
    mesh.publish_outcome = None;
    mesh.run_for(secs(40));
    assert_all(&mesh, &json!({ "a": 1 }));
}

#[test]
fn of_two_that_meet_the_one_with_the_lower_id_asks() {
    let mut mesh = mesh(2);
    set(&mut mesh, 0, "a", json!(1)).unwrap();
    mesh.connect(0, 1);
    mesh.run_for(secs(8));
    let exchanges = |n: usize| mesh.nodes[n].engine().stats().unwrap().context_exchanges;
    let (lower, higher) = if mesh.id(0) < mesh.id(1) { (0, 1) } else { (1, 0) };
    assert_eq!((exchanges(lower), exchanges(higher)), (1, 0));
    assert_all(&mesh, &json!({ "a": 1 }));
}

#[test]
fn the_topic_of_the_context_is_none_of_the_applications() {
    let mut mesh = mesh(2);
    mesh.connect(0, 1);
    assert!(matches!(mesh.subscribe(0, TOPIC), Err(AviP2pError::InvalidTopic(_))));
    assert!(matches!(mesh.publish(0, TOPIC, b"x"), Err(AviP2pError::InvalidTopic(_))));
    assert_eq!(mesh.nodes[0].engine().peer_info(mesh.now, &mesh.id(1)).unwrap().topics, [""; 0]);
    set(&mut mesh, 0, "a", json!(1)).unwrap();
    let is_message = |event: &AviEvent| matches!(event, AviEvent::Message { .. });
    assert!(!mesh.events(1).iter().any(is_message));
    assert_eq!(mesh.nodes[0].engine().stats().unwrap().messages_published, 0);
}

#[test]
fn a_node_without_a_context_takes_no_part() {
    let mut mesh = Mesh::new(vec![with_context(), config()]);
    mesh.connect(0, 1);
    set(&mut mesh, 0, "a", json!(1)).unwrap();
    mesh.run_for(secs(120));
    assert_eq!(mesh.nodes[1].engine().context_value("a"), Err(AviP2pError::Disabled("context")));
    assert_eq!(set(&mut mesh, 1, "a", json!(1)), Err(AviP2pError::Disabled("context")));
    assert_eq!(mesh.nodes[0].engine().stats().unwrap().context_exchanges, 0);
    assert_eq!(mesh.nodes[1].engine().stats().unwrap().context_answers, 0);
}

#[test]
fn who_publishes_what_another_has_written_or_no_entries_at_all_is_counted() {
    let mut mesh = mesh(2);
    mesh.connect(0, 1);
    set(&mut mesh, 0, "a", json!(1)).unwrap();
    let published = mesh.nodes[0].trace.iter().rev().find_map(|(_, output)| match output {
        Output::Net(NetAction::Publish { data, .. }) => Some(data.clone()),
        _ => None,
    });
    let data = published.unwrap();
    let message = |n: u16, data: Bytes| NetEvent::Message { from: peer(n), topic: TOPIC.to_owned(), data };
    mesh.nodes[1].net(message(77, data.clone()));
    mesh.nodes[1].net(message(78, data.slice(1..)));
    assert_eq!(mesh.nodes[1].engine().stats().unwrap().context_refused_invalid, 2);
}

#[test]
fn a_peer_that_passes_on_a_forged_entry_or_noise_is_not_heard_for_a_minute() {
    let mut mesh = mesh(3);
    mesh.connect(0, 1);
    mesh.run_for(secs(1));
    set(&mut mesh, 0, "a", json!(1)).unwrap();
    let peer = mesh.id(0);
    let ask = |n: u64, request: Vec<u8>| NetEvent::ContextAsked {
        ask: AskId(1000 + n),
        peer: peer.clone(),
        request: request.into(),
    };
    mesh.nodes[1].net(ask(0, b"noise".to_vec()));
    let answers = |mesh: &mut Mesh| {
        let actions: Vec<_> = mesh.nodes[1].actions.drain(..).collect();
        actions.into_iter().find_map(|action| match action {
            NetAction::AnswerContext { response, .. } => Some(response),
            _ => None,
        })
    };
    assert_eq!(answers(&mut mesh), Some(None), "the substream ends");
    mesh.nodes[1].net(ask(1, [&[1], &[0; 16][..]].concat()));
    assert_eq!(answers(&mut mesh), Some(Some(Bytes::from_static(&[5]))), "busy");
    // To leave the topic and come back changes nothing.
    mesh.nodes[1].net(NetEvent::PeerUnsubscribed { peer: peer.clone(), topic: TOPIC.to_owned() });
    mesh.nodes[1].net(NetEvent::PeerSubscribed { peer: peer.clone(), topic: TOPIC.to_owned() });
    mesh.nodes[1].net(ask(3, [&[1], &[0; 16][..]].concat()));
    assert_eq!(answers(&mut mesh), Some(Some(Bytes::from_static(&[5]))), "busy still");
    // Nor does to hang up.
    mesh.cut_link(0);
    mesh.connect(0, 1);
    mesh.nodes[1].actions.clear();
    mesh.nodes[1].net(ask(4, [&[1], &[0; 16][..]].concat()));
    assert_eq!(answers(&mut mesh), Some(Some(Bytes::from_static(&[5]))), "busy still");
    mesh.nodes[1].wait(secs(61));
    mesh.nodes[1].actions.clear();
    mesh.nodes[1].net(ask(2, [&[1], &[0; 16][..]].concat()));
    assert_eq!(answers(&mut mesh).unwrap().unwrap()[0], 2, "its buckets");
}

#[test]
fn what_a_blocked_peer_has_written_is_not_taken_from_others_either() {
    let mut mesh = mesh(3);
    set(&mut mesh, 0, "a", json!(1)).unwrap();
    mesh.connect(0, 1);
    mesh.run_for(secs(6));
    let blocked = mesh.id(0);
    mesh.ask(2, |id| Command::SetBlocked { id, peer: blocked, is_blocked: true }).unwrap();
    mesh.connect(1, 2);
    mesh.run_for(secs(6));
    assert_eq!((whole(&mesh, 1), whole(&mesh, 2)), (json!({ "a": 1 }), json!({})));
    assert!(mesh.nodes[2].engine().stats().unwrap().context_refused_blocked > 0);
}

#[test]
fn what_is_not_allowed_to_connect_does_not_come_by_others_either() {
    let ids: Vec<_> = (1..=3u8).map(|n| Signer::new(&[n; 32]).author.peer_id()).collect();
    let closed = AviP2pConfig { allowed_peers: Some(vec![ids[1].clone()]), ..with_context() };
    let mut mesh = Mesh::new(vec![with_context(), with_context(), closed]);
    mesh.connect(0, 1);
    mesh.connect(1, 2);
    mesh.run_for(secs(1));
    set(&mut mesh, 0, "a", json!(1)).unwrap();
    set(&mut mesh, 1, "b", json!(2)).unwrap();
    mesh.run_for(secs(60));
    assert_eq!((whole(&mesh, 1), whole(&mesh, 2)), (json!({ "a": 1, "b": 2 }), json!({ "b": 2 })));
    assert!(mesh.nodes[2].engine().stats().unwrap().context_refused_blocked > 0);
    // As soon as it is, it does.
    mesh.ask(2, |id| Command::SetAllowed { id, peer: ids[0].clone(), is_allowed: true }).unwrap();
    mesh.run_for(secs(60));
    assert_eq!(whole(&mesh, 2), whole(&mesh, 1));
}

/// Entries of this author, or of as many invented ones as there are paths.
fn signed(author: Option<u16>, paths: impl IntoIterator<Item = String>) -> Vec<Arc<Entry>> {
    let sign = |(n, path): (u16, String)| {
        let mut secret = [0; 32];
        secret[..2].copy_from_slice(&author.unwrap_or(1000 + n).to_be_bytes());
        Signer::new(&secret).sign(Path::parse(&path).unwrap(), Hlc::at(Wall(STARTED_AT)), Op::Value("1".into()))
    };
    (0..).zip(paths).map(sign).collect()
}

/// A peer gives entries in an exchange.
fn give(mesh: &mut Mesh, n: usize, from: &PeerId, entries: Vec<Arc<Entry>>) {
    for (ask, entries) in (5000..).zip(entries.chunks(500)) {
        let (ask, request) = (AskId(ask), Request::Give(entries.to_vec()).encode());
        mesh.nodes[n].net(NetEvent::ContextAsked { ask, peer: from.clone(), request });
    }
    mesh.nodes[n].actions.clear();
}

#[test]
fn invented_authors_come_in_slowly_and_known_ones_at_once() {
    let mut mesh = mesh(2);
    mesh.connect(0, 1);
    mesh.run_for(secs(1));
    let from = mesh.id(0);
    let authors = |mesh: &Mesh| mesh.nodes[1].engine().stats().unwrap().context_authors;
    give(&mut mesh, 1, &from, signed(None, (0..200).map(|n| format!("k{n}"))));
    assert_eq!(authors(&mesh), 64);
    assert_eq!(mesh.nodes[1].engine().stats().unwrap().context_refused_busy, 136);
    // One that is known writes on, and one that is connected begins.
    give(&mut mesh, 1, &from, signed(Some(1000), (0..100).map(|n| format!("again{n}"))));
    assert_eq!(mesh.nodes[1].engine().stats().unwrap().context_entries, 164);
    set(&mut mesh, 0, "a", json!(1)).unwrap();
    assert_eq!(authors(&mesh), 65);
    mesh.nodes[1].wait(secs(61));
    give(&mut mesh, 1, &from, signed(None, (0..200).map(|n| format!("k{n}"))));
    assert_eq!(authors(&mesh), 65 + 12);
}

#[test]
fn what_is_beyond_the_bounds_is_looked_at_seldom_and_updates_still_come() {
    let mut mesh = mesh(2);
    mesh.connect(0, 1);
    mesh.run_for(secs(1));
    let from = mesh.id(0);
    let max = ContextOptions::default().max_entries_per_author;
    give(&mut mesh, 1, &from, signed(Some(7), (0..max + 1000).map(|n| format!("k{n}"))));
    let stats = mesh.nodes[1].engine().stats().unwrap();
    assert_eq!((stats.context_entries, stats.context_refused_full), (max as u64, 256));
    assert_eq!(stats.context_refused_busy, 1000 - 256);
    set(&mut mesh, 0, "k5", json!("new")).unwrap();
    assert_eq!(whole(&mesh, 1)["k5"], json!("new"));
}

#[test]
fn the_file_is_written_a_second_after_a_change_and_at_the_end() {
    let options = ContextOptions { file: Some("context".into()), ..ContextOptions::default() };
    let config = AviP2pConfig { context: Some(options), ..config() };
    let mut mesh = Mesh::new(vec![config.clone()]);
    for n in 0..10 {
        set(&mut mesh, 0, "a", json!(n)).unwrap();
    }
    mesh.run_for(secs(5));
    assert_eq!(mesh.nodes[0].saved.len(), 1);
    set(&mut mesh, 0, "b", json!(1)).unwrap();
    mesh.ask(0, |id| Command::Subscribe { id, topic: "t".to_owned() }).unwrap();
    let _ = mesh.command(0, |id: CommandId| Command::Shutdown { id });
    let (at, bytes) = mesh.nodes[0].saved.last().cloned().unwrap();
    assert_eq!(at, mesh.now, "at once");
    let (_, engine) = started(1, &config, Some(bytes)).unwrap();
    assert_eq!(engine.context_value(""), Ok(Some(json!({ "a": 9, "b": 1 }))));
}

#[test]
fn a_quiet_week_is_no_absence_and_an_absence_is_one() {
    const DAY: u64 = 24 * 3600;
    let options = ContextOptions { file: Some("context".into()), ..ContextOptions::default() };
    let config = AviP2pConfig { context: Some(options), ..config() };
    let mut mesh = Mesh::new(vec![config.clone(), with_context()]);
    mesh.connect(0, 1);
    set(&mut mesh, 1, "theirs", json!(1)).unwrap();
    set(&mut mesh, 0, "own", json!(1)).unwrap();
    mesh.cut_link(0);
    let node = &mut mesh.nodes[0];
    (0..8 * 24).for_each(|_| node.wait(secs(3600)));
    let days = |days: u64| STARTED_AT + days * DAY * 1000;
    let found = |file: &Bytes, at: u64| {
        let (_, engine) = started_at(1, &config, Some(file.clone()), at).unwrap();
        engine.context_value("").unwrap().unwrap()
    };
    // It crashes now.
    assert!(node.saved.len() >= 8, "{} times", node.saved.len());
    let (_, file) = node.saved.last().unwrap();
    assert_eq!(found(file, days(8)), json!({ "own": 1, "theirs": 1 }));
    assert_eq!(found(file, days(16)), json!({ "own": 1 }));
    // It is shut down half a day later, and nothing has changed.
    (0..12).for_each(|_| node.wait(secs(3600)));
    let saved = node.saved.len();
    node.command(|id: CommandId| Command::Shutdown { id });
    assert_eq!(node.saved.len(), saved + 1);
    assert_eq!(found(&node.saved[saved].1, days(15)), json!({ "own": 1, "theirs": 1 }));
}

#[test]
fn clocks_that_differ_by_minutes_change_nothing() {
    let mut mesh = mesh(3);
    for (n, skew_minutes) in [(0, -6i64), (1, 0), (2, 6)] {
        mesh.nodes[n].unix_millis = (STARTED_AT as i64 + skew_minutes * 60_000) as u64;
    }
    mesh.connect(0, 1);
    mesh.connect(1, 2);
    mesh.run_for(secs(1));
    for round in 0..6 {
        // Each has seen what the others wrote before: the last one stays.
        set(&mut mesh, round % 3, "x", json!(round)).unwrap();
        mesh.run_for(secs(40));
        assert_all(&mesh, &json!({ "x": round }));
    }
}

/// A node that has met a peer, whose exchanges are answered by hand, and the peer.
fn with_a_peer_that_takes_part() -> (Node, PeerId) {
    let mut node = Node::with_peer(1, 50, with_context());
    subscribes(&mut node);
    (node, peer(50))
}

fn subscribes(node: &mut Node) {
    node.net(NetEvent::PeerSubscribed { peer: peer(50), topic: TOPIC.to_owned() });
}

/// The exchange that a node has begun or gone on with, if it has.
fn asked(node: &mut Node) -> Option<ExchangeId> {
    let exchange = |action| match action {
        NetAction::AskContext { exchange, .. } => Some(exchange),
        _ => None,
    };
    node.take_actions().into_iter().filter_map(exchange).next_back()
}

fn answered(node: &mut Node, exchange: ExchangeId, response: Result<Response, &str>) {
    let result = response.map(|response| response.encode()).map_err(str::to_owned);
    node.net(NetEvent::ContextAnswered { exchange, result });
}

#[test]
fn a_reason_to_ask_during_an_exchange_is_not_lost() {
    let (mut node, _) = with_a_peer_that_takes_part();
    node.wait(secs(8));
    let first = asked(&mut node).unwrap();
    subscribes(&mut node);
    node.wait(secs(8));
    assert_eq!(asked(&mut node), None, "one at a time");
    answered(&mut node, first, Ok(Response::Same));
    assert!(asked(&mut node).is_some(), "at once");
}

#[test]
fn a_peer_that_asks_and_does_not_go_on_is_asked() {
    let (mut node, peer) = with_a_peer_that_takes_part();
    node.net(NetEvent::ContextAsked { ask: AskId(1), peer: peer.clone(), request: Request::Root(7).encode() });
    assert_eq!(asked(&mut node), None);
    node.wait(secs(12));
    let exchange = asked(&mut node).expect("before the next round");
    // It asks for all, and so hears of all: nothing is left to ask.
    answered(&mut node, exchange, Err("the connection broke"));
    let request = Request::Have { buckets: (0..=255).collect(), ids: Vec::new() }.encode();
    node.net(NetEvent::ContextAsked { ask: AskId(2), peer, request });
    node.wait(secs(5));
    assert_eq!(asked(&mut node), None);
}

#[test]
fn an_exchange_that_fails_is_tried_again_and_ever_more_seldom() {
    let (mut node, _) = with_a_peer_that_takes_part();
    node.wait(secs(8));
    for wait in [2, 4, 8, 16, 32, 60, 60] {
        let exchange = asked(&mut node).unwrap();
        answered(&mut node, exchange, Err("the connection broke"));
        node.wait(secs(wait) * 7 / 10);
        assert_eq!(asked(&mut node), None, "{wait} s");
        node.wait(secs(wait) * 6 / 10);
    }
    assert_eq!(node.stats().context_exchanges_failed, 7);
    let exchange = asked(&mut node).unwrap();
    answered(&mut node, exchange, Ok(Response::Same));
    node.wait(secs(40));
    let exchange = asked(&mut node).expect("its turn comes in the next round");
    answered(&mut node, exchange, Err("the connection broke"));
    node.wait(secs(3));
    assert!(asked(&mut node).is_some(), "it begins anew");
}

#[test]
fn an_exchange_that_takes_too_long_ends_and_its_answers_count_for_nothing() {
    let (mut node, _) = with_a_peer_that_takes_part();
    node.wait(secs(8));
    let first = asked(&mut node).unwrap();
    // It gives one hash after the other, none of which is right.
    node.wait(secs(50));
    answered(&mut node, first, Ok(Response::Buckets(Box::new([7; 256]))));
    let second = asked(&mut node).unwrap();
    node.wait(secs(12));
    assert_eq!(node.stats().context_exchanges_failed, 1);
    assert!(asked(&mut node).is_some(), "another one");
    let late = Response::Differ { has_more: false, wanted: Vec::new(), entries: signed(Some(7), ["x".to_owned()]) };
    answered(&mut node, second, Ok(late));
    assert_eq!(node.engine().context_value("x"), Ok(None));
}

#[test]
fn a_peer_that_wants_the_same_again_and_again_gets_it_twice() {
    let (mut node, _) = with_a_peer_that_takes_part();
    let write = ContextWrite::Set { path: "x".to_owned(), value: json!(1) };
    node.ask(|id| Command::WriteContext { id, write: write.clone() }).unwrap();
    node.wait(secs(8));
    let mut rounds = 0;
    while let Some(exchange) = asked(&mut node) {
        rounds += 1;
        answered(&mut node, exchange, Ok(Response::Buckets(Box::new([7; 256]))));
        let ids = node.trace.iter().rev().find_map(|(_, output)| match output {
            Output::Net(NetAction::AskContext { request, .. }) => Request::decode(request.clone()).ok(),
            _ => None,
        });
        let Some(Request::Have { ids, .. }) = ids else { panic!("{ids:?}") };
        let exchange = asked(&mut node).unwrap();
        answered(&mut node, exchange, Ok(Response::Differ { has_more: true, wanted: ids, entries: Vec::new() }));
        let exchange = asked(&mut node).unwrap();
        answered(&mut node, exchange, Ok(Response::Taken));
    }
    assert_eq!(rounds, 2);
}

#[test]
fn what_changes_again_and_again_right_after_much_was_told_is_told_together() {
    let mut mesh = mesh(1);
    let many: serde_json::Map<_, _> = (0..500).map(|n| (format!("k{n}"), json!(n))).collect();
    let write = |value| ContextWrite::Replace { path: "a".to_owned(), value };
    mesh.ask(0, |id| Command::WriteContext { id, write: write(many.clone().into()) }).unwrap();
    assert!(!changes(&mut mesh, 0).is_empty(), "the first at once");
    for n in 0..100 {
        let many: serde_json::Map<_, _> = many.keys().map(|key| (key.clone(), json!([n]))).collect();
        mesh.ask(0, |id| Command::WriteContext { id, write: write(many.into()) }).unwrap();
    }
    assert_eq!(changes(&mut mesh, 0), []);
    mesh.run_for(millis(100));
    let told = changes(&mut mesh, 0);
    assert!(told.len() == 1 && told[0].0 == "a", "{}", told.len());
    assert_eq!(told[0].1.as_ref().unwrap()["k7"], json!([99]));
    // What is small is told at once again.
    set(&mut mesh, 0, "b", json!(1)).unwrap();
    assert_eq!(changes(&mut mesh, 0).len(), 1);
}

#[test]
fn an_entry_that_is_too_long_for_a_message_comes_by_an_exchange_at_once() {
    let mut small = with_context();
    small.limits.max_message_bytes = 1024;
    let mut mesh = Mesh::new(vec![small.clone(), small]);
    mesh.connect(0, 1);
    mesh.run_for(secs(8));
    set(&mut mesh, 0, "long", json!("x".repeat(5000))).unwrap();
    mesh.run_for(secs(1));
    assert_eq!(whole(&mesh, 1), whole(&mesh, 0));
}
