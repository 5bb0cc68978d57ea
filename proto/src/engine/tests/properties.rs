//! Does the contract hold under any operations on nodes, in any order?

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::wire::{Code, Frame};

/// An operation on two nodes; `n` is the node, `pick` one of its streams.
#[derive(Clone, Debug)]
enum Op {
    Subscribe { n: usize, topic: u8 },
    Unsubscribe { n: usize, topic: u8 },
    Publish { n: usize, topic: u8, times: u8 },
    Outcome(Option<PublishOutcome>),
    Request { n: usize, refuse: bool },
    Accept { n: usize, pick: usize },
    Reject { n: usize, pick: usize },
    Send { n: usize, pick: usize, times: u8, filler: usize },
    Close { n: usize, pick: usize },
    Ask { n: usize, pick: usize },
    Discover { n: usize },
    Discovered { n: usize },
    Connect { from: usize },
    CutLinks,
    SilenceLinks,
    LoseLinks { n: usize },
    Unplug { n: usize, unplugged: bool },
    BreakSubstreams,
    Congest { n: usize },
    Relieve { n: usize },
    Cuts(Vec<usize>),
    Wait { millis: u64 },
    Shutdown { n: usize },
}

fn any_outcome() -> impl Strategy<Value = PublishOutcome> {
    use PublishOutcome::{Congested, NoSubscribers, Refused, Sent};
    prop_oneof![Just(Sent), Just(NoSubscribers), Just(Congested), Just(Refused("the message cannot be signed"))]
}

fn any_op() -> impl Strategy<Value = Op> {
    let (n, topic, pick) = (|| 0..2usize, || 0..3u8, any::<usize>);
    prop_oneof![
        2 => (n(), topic()).prop_map(|(n, topic)| Op::Subscribe { n, topic }),
        1 => (n(), topic()).prop_map(|(n, topic)| Op::Unsubscribe { n, topic }),
        3 => (n(), topic(), 1..4u8).prop_map(|(n, topic, times)| Op::Publish { n, topic, times }),
        1 => option::of(any_outcome()).prop_map(Op::Outcome),
        4 => (n(), any::<bool>()).prop_map(|(n, refuse)| Op::Request { n, refuse }),
        4 => (n(), pick()).prop_map(|(n, pick)| Op::Accept { n, pick }),
        1 => (n(), pick()).prop_map(|(n, pick)| Op::Reject { n, pick }),
        8 => (n(), pick(), 1..20u8, 0..300usize)
            .prop_map(|(n, pick, times, filler)| Op::Send { n, pick, times, filler }),
        2 => (n(), pick()).prop_map(|(n, pick)| Op::Close { n, pick }),
        1 => (n(), pick()).prop_map(|(n, pick)| Op::Ask { n, pick }),
        1 => n().prop_map(|n| Op::Discover { n }),
        1 => n().prop_map(|n| Op::Discovered { n }),
        3 => n().prop_map(|from| Op::Connect { from }),
        2 => Just(Op::CutLinks),
        1 => Just(Op::SilenceLinks),
        1 => n().prop_map(|n| Op::LoseLinks { n }),
        2 => (n(), any::<bool>()).prop_map(|(n, unplugged)| Op::Unplug { n, unplugged }),
        1 => Just(Op::BreakSubstreams),
        2 => n().prop_map(|n| Op::Congest { n }),
        3 => n().prop_map(|n| Op::Relieve { n }),
        1 => vec(0..40usize, 1..5).prop_map(Op::Cuts),
        5 => prop_oneof![0..50u64, 0..1500u64, 0..40_000u64].prop_map(|millis| Op::Wait { millis }),
    ]
}

/// Random operations, near the end perhaps a shutdown.
fn any_ops() -> impl Strategy<Value = Vec<Op>> {
    let end = option::of((0..2usize).prop_map(|n| Op::Shutdown { n }));
    (vec(any_op(), 0..60), end, vec(any_op(), 0..10)).prop_map(|(mut ops, end, after)| {
        // Starts with a call; otherwise most operations would have no stream to work on.
        let call = [Op::Connect { from: 0 }, Op::Request { n: 0, refuse: false }, Op::Accept { n: 1, pick: 0 }];
        ops.splice(0..0, call);
        ops.extend(end);
        ops.extend(after);
        ops
    })
}

/// Two nodes, and the events of their applications.
struct Run {
    mesh: Mesh,
    streams: [Vec<StreamId>; 2],
    /// Frames taken from the application.
    given: BTreeMap<(usize, StreamId), u64>,
    /// Frames received or missed at the other end, and the stream that sent them.
    heard: BTreeMap<(usize, StreamId), (u64, Option<StreamId>)>,
    published: u64,
    messages: [BTreeSet<Vec<u8>>; 2],
}

impl Run {
    fn new() -> Self {
        let mut config =
            AviP2pConfig { enable_kad: true, max_audio_streams: 3, max_peers: 1, accept_timeout: secs(3), ..config() };
        config.limits.audio_queue_bytes = 2048;
        config.limits.held_messages = 3;
        config.limits.max_topics = 2;
        Self {
            mesh: Mesh::new(vec![config.clone(), config]),
            streams: Default::default(),
            given: BTreeMap::new(),
            heard: BTreeMap::new(),
            published: 0,
            messages: Default::default(),
        }
    }

    fn apply(&mut self, op: Op) {
        let topic = |topic: u8| format!("t{topic}");
        match op {
            Op::Subscribe { n, topic: t } => drop(self.mesh.subscribe(n, &topic(t))),
            Op::Unsubscribe { n, topic: t } => {
                let _ = self.mesh.ask(n, |id| Command::Unsubscribe { id, topic: topic(t) });
            }
            Op::Publish { n, topic: t, times } => {
                for _ in 0..times {
                    self.published += 1;
                    self.mesh.publish(n, &topic(t), &self.published.to_be_bytes()).ok();
                }
            }
            Op::Outcome(outcome) => self.mesh.publish_outcome = outcome,
            Op::Request { n, refuse } => {
                let on_congestion = if refuse { OnCongestion::Refuse } else { OnCongestion::DropOldest };
                let options = StreamOptions { on_congestion, ..StreamOptions::default() };
                let stream = self.mesh.request(n, 1 - n, options);
                self.streams[n].extend(stream);
            }
            Op::Accept { n, pick } => self.on_stream(n, pick, |id, stream| Command::AcceptStream { id, stream }),
            Op::Reject { n, pick } => {
                self.on_stream(n, pick, |id, stream| Command::RejectStream { id, stream, reason: String::new() });
            }
            Op::Send { n, pick, times, filler } => (0..times).for_each(|_| self.send(n, pick, filler)),
            Op::Close { n, pick } => self.on_stream(n, pick, |id, stream| Command::CloseStream { id, stream }),
            Op::Ask { n, pick } => {
                let asked = self.pick(n, pick).map(|stream| self.mesh.nodes[n].engine().audio_stats(stream));
                asked.into_iter().for_each(drop);
            }
            Op::Discover { n } => drop(self.mesh.command(n, |id| Command::FindMorePeers { id })),
            Op::Discovered { n } => {
                self.mesh.nodes[n].discovered(2 - n as u16);
                self.mesh.settle();
            }
            Op::Connect { .. } if (0..2).any(|n| self.mesh.nodes[n].contract.is_stopping()) => {}
            Op::Connect { from } => self.mesh.connect(from, 1 - from),
            Op::CutLinks => self.mesh.links(0, 1).into_iter().for_each(|link| self.mesh.cut_link(link)),
            Op::SilenceLinks => self.mesh.links(0, 1).into_iter().for_each(|link| self.mesh.silence(link)),
            Op::LoseLinks { n } => self.mesh.links(0, 1).into_iter().for_each(|link| self.mesh.lose_link(link, n)),
            Op::Unplug { n, unplugged } => self.mesh.unplug(n, unplugged),
            Op::BreakSubstreams => self.mesh.break_substreams(),
            Op::Congest { n } => self.mesh.congest(n),
            Op::Relieve { n } => self.mesh.relieve(n),
            Op::Cuts(cuts) => self.mesh.cuts = cuts,
            Op::Wait { millis: wait } => self.mesh.run_for(millis(wait)),
            Op::Shutdown { n } => drop(self.mesh.command(n, |id| Command::Shutdown { id })),
        }
        self.listen();
    }

    fn pick(&self, n: usize, pick: usize) -> Option<StreamId> {
        let streams = &self.streams[n];
        // Usually one of the latest: the others have ended.
        streams.iter().rev().nth(pick % streams.len().clamp(1, 4)).copied()
    }

    fn on_stream(&mut self, n: usize, pick: usize, command: impl Fn(CommandId, StreamId) -> Command) {
        if let Some(stream) = self.pick(n, pick) {
            let _ = self.mesh.ask(n, |id| command(id, stream));
        }
    }

    /// Every frame contains its stream and its number.
    fn send(&mut self, n: usize, pick: usize, filler: usize) {
        let Some(stream) = self.pick(n, pick) else { return };
        let given = self.given.entry((n, stream)).or_default();
        let mut frame = [stream.0.to_be_bytes(), given.to_be_bytes()].concat();
        frame.resize(16 + filler, 0);
        *given += u64::from(self.mesh.send(n, stream, &frame).is_ok());
    }

    fn listen(&mut self) {
        for n in 0..2 {
            for event in self.mesh.events(n) {
                self.on_event(n, event);
            }
        }
    }

    fn on_event(&mut self, n: usize, event: AviEvent) {
        match event {
            AviEvent::AudioStreamRequested { stream_id, .. } => self.streams[n].push(stream_id),
            AviEvent::AudioGap { stream_id, missing, .. } => {
                self.heard.entry((n, stream_id)).or_default().0 += missing;
            }
            AviEvent::AudioData { stream_id, data, .. } => {
                let number = |at| u64::from_be_bytes(data[at..at + 8].try_into().unwrap());
                let (count, sender) = self.heard.entry((n, stream_id)).or_default();
                assert_eq!(number(8), *count, "in order, once, and what is missing is a gap");
                assert_eq!(*sender.get_or_insert(StreamId(number(0))), StreamId(number(0)), "streams do not mix");
                *count += 1;
            }
            AviEvent::AudioStreamClosed { stream_id, reason: StreamCloseReason::RemoteClose, .. } => {
                if let Some((count, Some(sender))) = self.heard.get(&(n, stream_id)) {
                    assert_eq!(*count, self.given[&(1 - n, *sender)], "what is missing at the end is a gap too");
                }
            }
            AviEvent::Message { data, .. } => assert!(self.messages[n].insert(data), "a message came twice"),
            _ => {}
        }
    }

    fn finish(mut self) -> Vec<Vec<(Time, Output)>> {
        for n in 0..2 {
            self.apply(Op::Relieve { n });
            self.apply(Op::Shutdown { n });
        }
        self.apply(Op::Wait { millis: 2000 });
        for node in &self.mesh.nodes {
            node.contract.assert_settled();
            assert_eq!(node.contract.substreams(), 0);
        }
        self.mesh.nodes.iter_mut().map(|node| std::mem::take(&mut node.trace)).collect()
    }
}

fn run(ops: &[Op]) -> Vec<Vec<(Time, Output)>> {
    let mut run = Run::new();
    ops.iter().for_each(|op| run.apply(op.clone()));
    run.finish()
}

/// An event of a lying or defective network. It may refer to anything; new ids are unused ones.
fn any_event() -> impl Strategy<Value = fn(&mut Liar, u64) -> NetEvent> {
    let events: [fn(&mut Liar, u64) -> NetEvent; 34] = [
        |liar, x| NetEvent::Connected {
            connection: ConnectionId(liar.fresh()),
            peer: near(x),
            address: address(2),
            direction: [Direction::Inbound, Direction::Outbound(DialId(u64::MAX)), Direction::Outbound(DialId(x % 9))]
                [x as usize % 3],
        },
        |_, x| NetEvent::Disconnected { connection: ConnectionId(x % 20), peer: near(x / 20) },
        |_, x| NetEvent::DialFailed { dial: DialId(x % 20), failure: DialFailure::Unreachable(String::new()) },
        |_, x| NetEvent::DialFailed { dial: DialId(x % 20), failure: DialFailure::Myself },
        |_, x| NetEvent::DialFailed { dial: DialId(x % 20), failure: DialFailure::Refused(Refusal::MaxPeers) },
        |_, _| NetEvent::InboundRefused(Refusal::MaxPeers),
        |_, x| NetEvent::Misbehaved { peer: near(x) },
        |_, x| NetEvent::MeshChanged { peers: (0..x % 4).map(near).collect() },
        |_, x| NetEvent::SlowPeer { peer: near(x), dropped: x },
        |_, x| NetEvent::Discovered {
            peer: near(x),
            addresses: vec![address((x % 8) as u16)],
            source: DiscoverySource::Kademlia,
        },
        |_, x| NetEvent::Announced { peer: near(x), addresses: vec![address((x % 8) as u16)] },
        |_, x| NetEvent::Pong { connection: ConnectionId(x % 20), peer: near(x / 20), rtt: millis(x) },
        |_, x| NetEvent::Answered { connection: ConnectionId(x % 20), peer: near(x / 20) },
        |_, x| NetEvent::Progress { connection: ConnectionId(x % 20), silent_for: millis(x) },
        |_, _| NetEvent::GossipActive,
        |_, x| NetEvent::CreditUsed { peer: near(x) },
        |_, _| NetEvent::InterfacesChanged,
        |_, _| NetEvent::ListenersMissing,
        |_, x| NetEvent::DiscoveryUnavailable { source: DiscoverySource::Mdns, reason: "x".repeat(x as usize % 3) },
        |_, _| NetEvent::DiscoveryAvailable { source: DiscoverySource::Mdns },
        |_, x| NetEvent::Identified {
            connection: ConnectionId(x % 20),
            peer: near(x),
            name: String::new(),
            addresses: vec![address(3)],
        },
        |_, x| NetEvent::Foreign { peer: near(x) },
        |_, _| NetEvent::WalkEnded { result: Err(String::new()) },
        |_, x| NetEvent::Deaf { connection: ConnectionId(x % 20) },
        |_, x| NetEvent::PeerSubscribed { peer: near(x), topic: "t".repeat(x as usize % 3) },
        |_, x| NetEvent::PeerUnsubscribed { peer: near(x), topic: "t".to_owned() },
        |_, x| NetEvent::Published { publish: PublishId(x % 9), outcome: PublishOutcome::NoSubscribers },
        |liar, x| NetEvent::SubstreamOpened { stream: StreamId(x % 9), substream: SubstreamId(liar.fresh()) },
        |_, x| NetEvent::SubstreamFailed { stream: StreamId(x % 9), reason: String::new() },
        |liar, x| NetEvent::SubstreamOffered {
            substream: SubstreamId(liar.fresh()),
            peer: near(x),
            connection: ConnectionId(x % 20),
        },
        |_, x| NetEvent::Received { substream: SubstreamId(x % 20), bytes: some_bytes(x / 20) },
        |_, x| NetEvent::Writable { substream: SubstreamId(x % 20) },
        |_, x| NetEvent::Finished { substream: SubstreamId(x % 20) },
        |_, x| NetEvent::Broken { substream: SubstreamId(x % 20), reason: String::new() },
    ];
    proptest::sample::select(events.to_vec())
}

fn give_some_command(node: &mut Node, x: u64) {
    let (stream, topic, peer) = (StreamId(x / 11 % 9), "t".to_owned(), near(x / 11));
    let command = |id: CommandId| match x % 11 {
        1 => Command::AcceptStream { id, stream },
        2 => Command::RejectStream { id, stream, reason: String::new() },
        3 | 4 => Command::SendAudio { id, stream, data: Bytes::from_static(b"audio") },
        5 => Command::CloseStream { id, stream },
        6 => Command::Publish { id: CommandId::new(id.number()), topic, data: Bytes::from_static(b"x") },
        8 => Command::SetBlocked { id, peer, is_blocked: (x / 99).is_multiple_of(2) },
        9 => Command::SetAllowed { id, peer, is_allowed: (x / 99).is_multiple_of(2) },
        _ => Command::Subscribe { id, topic },
    };
    match x % 11 {
        0 => drop(node.command(|id| Command::RequestStream { id, peer: near(x / 11), options: Default::default() })),
        7 => drop(node.command(|id| Command::FindMorePeers { id })),
        _ => drop(node.command(command)),
    }
}

fn some_bytes(x: u64) -> Bytes {
    let frame = match x % 10 {
        0 | 1 => Frame::Open(Default::default()),
        2 | 3 => Frame::Accept,
        4 => Frame::Reject { code: Code::Limit, reason: String::new() },
        5 => Frame::Data { sequence: x, timestamp_us: x, payload: Bytes::from_static(b"x") },
        6 => Frame::Resumable { token: [x as u8; 16] },
        7 => Frame::Resume { token: [x as u8; 16], next_sequence: x },
        8 => Frame::Close { code: Code::Timeout, next_sequence: x, reason: String::new() },
        _ => return Bytes::copy_from_slice(&x.to_be_bytes()),
    };
    let mut bytes = bytes::BytesMut::new();
    frame.encode(&mut bytes);
    bytes.freeze()
}

fn near(x: u64) -> PeerId {
    peer((x % 4) as u16)
}

#[derive(Default)]
struct Liar {
    next: u64,
}

impl Liar {
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_nodes_keep_the_contract_whatever_happens_and_the_same_happens_again(ops in any_ops()) {
        prop_assert_eq!(run(&ops), run(&ops));
    }

    #[test]
    fn no_order_of_events_makes_a_node_panic_or_break_the_contract(
        inputs in vec((option::of(any_event()), any::<u64>(), 0..2000u64), 0..150)
    ) {
        let mut node = Node::new(1, AviP2pConfig { enable_kad: true, max_audio_streams: 4, ..config() });
        let mut liar = Liar::default();
        for (event, x, wait) in inputs {
            match event {
                Some(event) => node.net(event(&mut liar, x)),
                None => give_some_command(&mut node, x),
            }
            if x % 3 == 0 {
                node.wait(millis(wait));
            }
        }
    }
}
