//! Does an engine behave like a simple model: a set, a few lists and a table? One peer, and a network that answers at
//! once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::{Ack, Code, Frame};

const MAX_STREAMS: usize = 3;
const MAX_TOPICS: usize = 2;
const HELD: usize = 3;
const HELD_BYTES: usize = 40;
const PEER: u16 = 2;

#[derive(Clone, Debug)]
enum Op {
    Subscribe(u8),
    Unsubscribe(u8),
    Publish { topic: u8, bytes: usize },
    Outcome(PublishOutcome),
    PeerSubscribes(u8),
    PeerUnsubscribes(u8),
    Message(u8),
    Comes,
    Goes,
    Request,
    Offer,
    Accept(usize),
    Reject(usize),
    Close(usize),
    Send(usize),
    PeerAccepts(usize),
    PeerRejects(usize),
    PeerSends { pick: usize, skips: u64 },
    PeerCloses { pick: usize, skips: u64 },
    Wait(u64),
}

fn any_op() -> impl Strategy<Value = Op> {
    use PublishOutcome::{Congested, NoSubscribers, Refused, Sent};
    let (topic, pick, skips) = (|| 0..3u8, || 0..6usize, || prop_oneof![2 => Just(0u64), 1 => 0..5u64]);
    let refused = Refused("the message cannot be signed");
    let outcome = prop_oneof![3 => Just(Sent), 2 => Just(NoSubscribers), 1 => Just(Congested), 1 => Just(refused)];
    prop_oneof![
        1 => topic().prop_map(Op::Subscribe),
        1 => topic().prop_map(Op::Unsubscribe),
        4 => (topic(), 0..24usize).prop_map(|(topic, bytes)| Op::Publish { topic, bytes }),
        4 => outcome.prop_map(Op::Outcome),
        2 => topic().prop_map(Op::PeerSubscribes),
        1 => topic().prop_map(Op::PeerUnsubscribes),
        1 => topic().prop_map(Op::Message),
        2 => Just(Op::Comes),
        1 => Just(Op::Goes),
        3 => Just(Op::Request),
        3 => Just(Op::Offer),
        4 => pick().prop_map(Op::Accept),
        1 => pick().prop_map(Op::Reject),
        1 => pick().prop_map(Op::Close),
        2 => pick().prop_map(Op::Send),
        3 => pick().prop_map(Op::PeerAccepts),
        1 => pick().prop_map(Op::PeerRejects),
        4 => (pick(), skips()).prop_map(|(pick, skips)| Op::PeerSends { pick, skips }),
        1 => (pick(), skips()).prop_map(|(pick, skips)| Op::PeerCloses { pick, skips }),
        3 => prop_oneof![0..100u64, 0..6000u64, 0..20_000u64].prop_map(Op::Wait),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Requested,
    Offered,
    Open,
}

/// A row of the table of streams.
#[derive(Clone, Copy, Debug)]
struct Row {
    phase: Phase,
    substream: SubstreamId,
    /// The time at which it ends if nobody answers.
    expires: Option<Time>,
    next_sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    expires: Time,
    topic: String,
    data: Vec<u8>,
}

/// A publish given to the network: the pending command, or the time at which the held message would have expired.
struct Pending {
    publish: PublishId,
    origin: Result<CommandId<Published>, Time>,
    topic: String,
    data: Vec<u8>,
}

struct Run {
    node: Node,
    connection: Option<u64>,
    next: u64,
    subscribed: BTreeSet<String>,
    subscribers: BTreeSet<String>,
    held: Vec<Held>,
    pending: VecDeque<Pending>,
    table: BTreeMap<StreamId, Row>,
    expected: Vec<AviEvent>,
}

impl Run {
    fn new() -> Self {
        let mut config = limited(|limits| {
            limits.max_topics = MAX_TOPICS;
            limits.held_messages = HELD;
            limits.held_bytes = HELD_BYTES;
        });
        config.max_audio_streams = MAX_STREAMS;
        config.accept_timeout = secs(3);
        Self {
            node: Node::new(1, config),
            connection: None,
            next: 0,
            subscribed: BTreeSet::new(),
            subscribers: BTreeSet::new(),
            held: Vec::new(),
            pending: VecDeque::new(),
            table: BTreeMap::new(),
            expected: Vec::new(),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Subscribe(_) | Op::Unsubscribe(_) | Op::Message(_) => self.on_subscription(op),
            Op::Publish { topic, bytes } => self.publish(topic, bytes),
            Op::Outcome(outcome) => self.answer(outcome),
            Op::PeerSubscribes(_) | Op::PeerUnsubscribes(_) | Op::Comes | Op::Goes => self.on_peer(op),
            Op::Request => self.request(),
            Op::Offer => self.offer(),
            Op::Wait(wait) => {
                self.node.wait(millis(wait));
                self.expire();
            }
            Op::Accept(pick) | Op::Reject(pick) | Op::Close(pick) | Op::Send(pick) => {
                // One in six is an id that does not exist.
                let stream = self.table.keys().nth(pick).copied().unwrap_or(StreamId(99));
                self.on_call(stream, op);
            }
            Op::PeerAccepts(pick)
            | Op::PeerRejects(pick)
            | Op::PeerSends { pick, .. }
            | Op::PeerCloses { pick, .. } => {
                if let Some((stream, row)) = self.table.iter().nth(pick).map(|(stream, row)| (*stream, *row)) {
                    self.on_peers_frame(stream, row, op);
                }
            }
        }
        self.check();
    }

    /// Compares the engine's events with the model's. At one time they may come in any order.
    fn check(&mut self) {
        let sorted = |mut events: Vec<AviEvent>| {
            // What was on its way when a connection ended is another model's.
            events.retain(|event| !matches!(event, AviEvent::PeerSlow { .. }));
            events.sort_by_key(|event| (format!("{event:?}"), payload(event).to_vec()));
            events
        };
        assert_eq!(sorted(self.node.take_events()), sorted(std::mem::take(&mut self.expected)));
        let stats = self.node.stats();
        assert_eq!((stats.streams_now, stats.messages_held_now), (self.table.len() as u64, self.held.len() as u64));
    }

    // Pub/sub.

    fn on_subscription(&mut self, op: Op) {
        match op {
            Op::Subscribe(n) => {
                let topic = topic(n);
                let expected = if self.subscribed.contains(&topic) {
                    Ok(())
                } else if self.subscribed.len() == MAX_TOPICS {
                    Err(AviP2pError::LimitReached { limit: "limits.max_topics", max: MAX_TOPICS })
                } else {
                    self.subscribed.insert(topic.clone());
                    Ok(())
                };
                assert_eq!(self.node.ask(|id| Command::Subscribe { id, topic }), expected);
            }
            Op::Unsubscribe(n) => {
                let topic = topic(n);
                let expected = match self.subscribed.remove(&topic) {
                    true => Ok(()),
                    false => Err(AviP2pError::NotSubscribed(topic.clone())),
                };
                assert_eq!(self.node.ask(|id| Command::Unsubscribe { id, topic }), expected);
            }
            Op::Message(n) => {
                let (from, topic, data) = (peer(PEER), topic(n), Bytes::from_static(b"m"));
                if self.subscribed.contains(&topic) {
                    self.expected.push(message(&from, &topic, b"m"));
                }
                self.node.net(NetEvent::Message { from, topic, data });
            }
            _ => {}
        }
    }

    fn publish(&mut self, n: u8, bytes: usize) {
        let (topic, data) = (topic(n), self.numbered(bytes));
        let command = self.node.publish(&topic, &data);
        if self.subscribers.contains(&topic) {
            return self.hand_over(Ok(command), topic, data);
        }
        let expected = self.hold(self.node.now + secs(10), topic, data);
        assert_eq!(self.node.reply(command), Some(expected.map(|()| Published::Held)));
    }

    fn hold(&mut self, expires: Time, topic: String, data: Vec<u8>) -> Result<(), AviP2pError> {
        let bytes: usize = self.held.iter().map(|held| held.data.len()).sum();
        if self.held.len() == HELD {
            return Err(AviP2pError::LimitReached { limit: "limits.held_messages", max: HELD });
        }
        if bytes + data.len() > HELD_BYTES {
            return Err(AviP2pError::LimitReached { limit: "limits.held_bytes", max: HELD_BYTES });
        }
        self.held.push(Held { expires, topic, data });
        self.held.sort_by_key(|held| held.expires);
        self.expire();
        Ok(())
    }

    /// The engine must have given this publish to the network next.
    fn hand_over(&mut self, origin: Result<CommandId<Published>, Time>, topic: String, data: Vec<u8>) {
        let at = self.node.actions.iter().position(|action| matches!(action, NetAction::Publish { .. }));
        let Some(NetAction::Publish { publish, topic: to, data: given }) =
            at.and_then(|at| self.node.actions.remove(at))
        else {
            panic!("{data:?} is not published");
        };
        assert_eq!((to.as_str(), &given[..]), (topic.as_str(), &data[..]));
        self.pending.push_back(Pending { publish, origin, topic, data });
    }

    fn answer(&mut self, outcome: PublishOutcome) {
        let Some(Pending { publish, origin, topic, data }) = self.pending.pop_front() else { return };
        self.node.net(NetEvent::Published { publish, outcome });
        let expires = origin.err().unwrap_or(self.node.now + secs(10));
        let result = match outcome {
            PublishOutcome::Sent => Ok(()),
            PublishOutcome::NoSubscribers => self.hold(expires, topic.clone(), data.clone()),
            PublishOutcome::Congested => Err(AviP2pError::Congested("the queues to all subscribers are full")),
            PublishOutcome::Refused(why) => Err(AviP2pError::NetworkError(why.to_owned())),
        };
        match origin {
            Ok(command) => {
                let published = if outcome == PublishOutcome::Sent { Published::Sent } else { Published::Held };
                assert_eq!(self.node.reply(command), Some(result.map(|()| published)));
            }
            Err(_) if result.is_err() => self.expected.push(expired(&topic, &data)),
            Err(_) => {}
        }
    }

    fn on_peer(&mut self, op: Op) {
        let is_here = self.connection.is_some();
        match op {
            Op::PeerSubscribes(n) if is_here => {
                self.node.net(NetEvent::PeerSubscribed { peer: peer(PEER), topic: topic(n) });
                if self.subscribers.len() == MAX_TOPICS && !self.subscribers.contains(&topic(n)) {
                    // The limit of remembered subscriptions per peer.
                    return;
                }
                self.subscribers.insert(topic(n));
                let (released, kept) =
                    std::mem::take(&mut self.held).into_iter().partition(|held| held.topic == topic(n));
                self.held = kept;
                let released: Vec<Held> = released;
                released.into_iter().for_each(|held| self.hand_over(Err(held.expires), held.topic, held.data));
            }
            Op::PeerUnsubscribes(n) if is_here => {
                self.node.net(NetEvent::PeerUnsubscribed { peer: peer(PEER), topic: topic(n) });
                self.subscribers.remove(&topic(n));
            }
            Op::Comes if !is_here => {
                let connection = self.fresh();
                self.connection = Some(connection);
                self.node.connected(connection, PEER, Direction::Inbound);
                self.expected.push(AviEvent::PeerConnected { peer_id: peer(PEER), address: address(PEER) });
            }
            Op::Goes => {
                let Some(connection) = self.connection.take() else { return };
                self.node.disconnected(connection, PEER);
                self.subscribers.clear();
                for stream in std::mem::take(&mut self.table).into_keys() {
                    self.expected.push(closed(&peer(PEER), stream, StreamCloseReason::PeerDisconnected));
                }
                self.expected.push(AviEvent::PeerDisconnected { peer_id: peer(PEER) });
            }
            _ => {}
        }
    }

    // Streams.

    fn request(&mut self) {
        let result = self.node.request(&peer(PEER), StreamOptions::default());
        let Some(_) = self.connection else {
            return assert_eq!(result, Err(AviP2pError::PeerNotFound(peer(PEER))));
        };
        if self.table.len() == MAX_STREAMS {
            let limit = AviP2pError::LimitReached { limit: "max_audio_streams", max: MAX_STREAMS };
            return assert_eq!(result, Err(limit));
        }
        let stream = result.unwrap();
        let substream = SubstreamId(self.fresh());
        self.node.net(NetEvent::SubstreamOpened { stream, substream });
        assert_eq!(self.node.written(substream), [Frame::Open(Default::default())]);
        self.insert(stream, Phase::Requested, substream, secs(3));
    }

    fn offer(&mut self) {
        let Some(connection) = self.connection else { return };
        let substream = SubstreamId(self.fresh());
        let peer = peer(PEER);
        self.node.net(NetEvent::SubstreamOffered { substream, peer, connection: ConnectionId(connection) });
        self.node.received(substream, &[Frame::Open(Default::default())]);
        let offered = self.table.values().filter(|row| row.phase == Phase::Offered).count();
        if self.table.len() == MAX_STREAMS || offered == MAX_STREAMS.div_ceil(2) {
            assert!(matches!(self.node.written(substream)[..], [Frame::Reject { code: Code::Limit, .. }]));
            return self.node.net(NetEvent::Finished { substream });
        }
        let stream = self.node.events().iter().find_map(|event| match event {
            AviEvent::AudioStreamRequested { stream_id, .. } => Some(*stream_id),
            _ => None,
        });
        let stream = stream.expect("a request must be reported");
        self.expected.push(requested(&self::peer(PEER), stream));
        self.insert(stream, Phase::Offered, substream, secs(8));
    }

    fn on_call(&mut self, stream: StreamId, op: Op) {
        let phase = self.table.get(&stream).map(|row| row.phase);
        let missing = Err(AviP2pError::StreamNotFound(stream));
        let wrong = |action| {
            let state = if phase == Some(Phase::Open) { "open" } else { "requested" };
            Err(AviP2pError::StreamState { stream_id: stream, action, state })
        };
        let expected = match (&op, phase) {
            (_, None) => missing,
            (Op::Accept(_) | Op::Reject(_), Some(Phase::Offered)) | (Op::Send(_), Some(Phase::Open)) => Ok(()),
            (Op::Accept(_), Some(_)) => wrong("accepted"),
            (Op::Reject(_), Some(_)) => wrong("rejected"),
            (Op::Send(_), Some(_)) => Err(AviP2pError::StreamNotAccepted(stream)),
            (_, Some(_)) => Ok(()),
        };
        let is_accept = matches!(op, Op::Accept(_));
        let is_end = !is_accept && !matches!(op, Op::Send(_));
        let result = self.node.ask(|id| match op {
            Op::Accept(_) => Command::AcceptStream { id, stream },
            Op::Reject(_) => Command::RejectStream { id, stream, reason: String::new() },
            Op::Send(_) => Command::SendAudio { id, stream, data: Bytes::from_static(b"a") },
            _ => Command::CloseStream { id, stream },
        });
        assert_eq!(result, expected);
        if expected.is_err() {
        } else if is_end {
            self.end(stream, StreamCloseReason::LocalClose);
        } else if let Some(row) = self.table.get_mut(&stream).filter(|_| is_accept) {
            (row.phase, row.expires) = (Phase::Open, None);
            assert_eq!(self.node.written(row.substream), [Frame::Accept, Frame::Ack(Ack::default())]);
        }
        if let Some(row) = self.table.get(&stream) {
            self.node.written(row.substream);
        }
    }

    fn on_peers_frame(&mut self, stream: StreamId, row: Row, op: Op) {
        let (from, code) = (peer(PEER), Code::Application);
        let reason = String::new();
        match (op, row.phase) {
            (Op::PeerAccepts(_), Phase::Requested) => {
                self.node.received(row.substream, &[Frame::Accept]);
                self.expected.push(accepted(&from, stream));
                self.table.insert(stream, Row { phase: Phase::Open, expires: None, ..row });
            }
            (Op::PeerRejects(_), Phase::Requested) => {
                self.node.received(row.substream, &[Frame::Reject { code, reason: "busy".to_owned() }]);
                self.end(stream, StreamCloseReason::Rejected("busy".to_owned()));
            }
            (Op::PeerSends { skips, .. }, Phase::Open) => {
                let sequence = row.next_sequence + skips;
                let payload = Bytes::from_static(b"a");
                self.node.received(row.substream, &[Frame::Data { sequence, timestamp_us: 0, payload }]);
                self.expected.extend((skips > 0).then(|| gap(&from, stream, skips)));
                self.expected.push(audio(&from, stream, b"a"));
                self.table.insert(stream, Row { next_sequence: sequence + 1, ..row });
            }
            (Op::PeerCloses { skips, .. }, phase @ (Phase::Open | Phase::Offered)) => {
                let next_sequence = row.next_sequence + skips;
                self.node.received(row.substream, &[Frame::Close { code, next_sequence, reason }]);
                let is_missed = phase == Phase::Open && skips > 0;
                self.expected.extend(is_missed.then(|| gap(&from, stream, skips)));
                self.end(stream, StreamCloseReason::RemoteClose);
            }
            _ => {}
        }
    }

    fn insert(&mut self, stream: StreamId, phase: Phase, substream: SubstreamId, within: Duration) {
        let row = Row { phase, substream, expires: Some(self.node.now + within), next_sequence: 0 };
        assert!(self.table.insert(stream, row).is_none(), "{stream:?} twice");
    }

    /// Ends the stream; the other end takes all bytes, and closes its direction.
    fn end(&mut self, stream: StreamId, reason: StreamCloseReason) {
        self.expected.push(closed(&peer(PEER), stream, reason));
        if let Some(Row { substream, .. }) = self.table.remove(&stream) {
            self.node.written(substream);
            self.node.net(NetEvent::Finished { substream });
        }
    }

    // Both.

    fn expire(&mut self) {
        let now = self.node.now;
        while self.held.first().is_some_and(|held| held.expires <= now) {
            let Held { topic, data, .. } = self.held.remove(0);
            self.expected.push(expired(&topic, &data));
        }
        let over: Vec<_> = self.table.iter().filter(|(_, row)| row.expires.is_some_and(|at| at <= now)).collect();
        for stream in over.into_iter().map(|(stream, _)| *stream).collect::<Vec<_>>() {
            self.end(stream, StreamCloseReason::Timeout);
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A payload that no other message has.
    fn numbered(&mut self, bytes: usize) -> Vec<u8> {
        let mut data = self.fresh().to_be_bytes().to_vec();
        data.resize(8 + bytes, 0);
        data
    }
}

fn payload(event: &AviEvent) -> &[u8] {
    match event {
        AviEvent::Message { data, .. } | AviEvent::PublishExpired { data, .. } | AviEvent::AudioData { data, .. } => {
            data
        }
        _ => &[],
    }
}

fn topic(n: u8) -> String {
    format!("t{n}")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_engine_does_what_a_set_a_few_lists_and_a_table_would_do(ops in vec(any_op(), 0..120)) {
        let mut run = Run::new();
        run.apply(Op::Comes);
        ops.into_iter().for_each(|op| run.apply(op));
    }
}
