//! A network of engines as a data structure: links, substreams, subscriptions, virtual time.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use super::*;

/// Nodes `0..`, where node `n` is `peer(n + 1)`, and the network between them.
///
/// Everything happens at once; only [`Mesh::run_for`] takes time. A link is `ConnectionId(2 * link)` at the node that
/// dialled, and one more at the other. Substreams are numbered in the same way, from the node that opened them.
pub(super) struct Mesh {
    pub(super) nodes: Vec<Node>,
    pub(super) now: Time,
    /// The sizes of the pieces in which bytes arrive, used in turn; 0 means all available bytes.
    pub(super) cuts: Vec<usize>,
    next_cut: usize,
    /// The result of the next publishes, in place of the real one.
    pub(super) publish_outcome: Option<PublishOutcome>,
    /// The directions in which datagrams get lost.
    pub(super) blocked: BTreeSet<(usize, usize)>,
    /// How many of so many datagrams get lost: the first of each.
    pub(super) lost_of: Option<(usize, usize)>,
    /// All datagrams that were sent: from whom, to which address.
    pub(super) datagrams: Vec<(usize, SocketAddr, Bytes)>,
    /// The requests of the context that are not answered yet: who asked whom, in which exchange.
    #[cfg(feature = "context")]
    asked: Vec<(usize, usize, ExchangeId)>,
    queue: VecDeque<(usize, NetEvent)>,
    ports: Vec<Port>,
    links: Vec<Link>,
    pipes: Vec<Pipe>,
}

/// A node's side of the network.
#[derive(Debug, Default)]
struct Port {
    topics: BTreeSet<String>,
    congested: bool,
    /// Whether nobody reaches it.
    unplugged: bool,
    /// Where its datagrams come from; `None` without datagrams.
    udp: Option<SocketAddr>,
    expected: BTreeSet<DatagramId>,
}

#[derive(Debug)]
struct Link {
    nodes: [usize; 2],
    /// Which of the two ends has it.
    open: [bool; 2],
    /// Since when nothing passes. An end that loses it then is not missed by the other.
    silent_since: Option<Time>,
}

impl Link {
    fn has(&self, n: usize) -> bool {
        (0..2).any(|end| self.nodes[end] == n && self.open[end])
    }

    fn carries(&self) -> bool {
        self.open == [true; 2] && self.silent_since.is_none()
    }
}

#[derive(Debug)]
struct Pipe {
    link: usize,
    nodes: [usize; 2],
    ends: [End; 2],
}

#[derive(Debug, Default)]
struct End {
    /// Bytes written and not sent yet; `None` is the end of the bytes.
    backlog: VecDeque<Option<Bytes>>,
    finished: bool,
    heard_finish: bool,
    /// Reset or broken: no event follows.
    gone: bool,
}

impl End {
    /// Whether the network has released it, after a clean end or not.
    fn is_over(&self) -> bool {
        self.gone || (self.finished && self.heard_finish)
    }
}

impl Mesh {
    /// Nodes without connections.
    pub(super) fn new(configs: Vec<AviP2pConfig>) -> Self {
        let ports = configs.iter().map(|_| Port::default()).collect();
        let nodes = (1..).zip(configs).map(|(n, config)| Node::new(n, config)).collect();
        let mut mesh = Self {
            nodes,
            now: Time::ZERO,
            cuts: vec![0],
            next_cut: 0,
            publish_outcome: None,
            blocked: BTreeSet::new(),
            lost_of: None,
            datagrams: Vec::new(),
            #[cfg(feature = "context")]
            asked: Vec::new(),
            queue: VecDeque::new(),
            ports,
            links: Vec::new(),
            pipes: Vec::new(),
        };
        mesh.settle();
        mesh
    }

    /// Two connected nodes that have reported the connection.
    pub(super) fn pair(a: AviP2pConfig, b: AviP2pConfig) -> Self {
        let mut mesh = Self::new(vec![a, b]);
        mesh.connect(0, 1);
        mesh.events(0);
        mesh.events(1);
        mesh
    }

    /// Starts one more node.
    pub(super) fn start(&mut self, config: AviP2pConfig) {
        self.ports.push(Port::default());
        self.nodes.push(Node::new(self.nodes.len() as u16 + 1, config));
        self.advance_to(self.now);
    }

    pub(super) fn id(&self, n: usize) -> PeerId {
        self.nodes[n].id.clone()
    }

    // What the tests do.

    pub(super) fn connect(&mut self, from: usize, to: usize) {
        self.link(from, to, DialId(u64::MAX));
        self.settle();
    }

    /// The links between two nodes.
    pub(super) fn links(&self, a: usize, b: usize) -> Vec<usize> {
        let between = |link: &Link| link.open == [true; 2] && (link.nodes == [a, b] || link.nodes == [b, a]);
        (0..self.links.len()).filter(|link| between(&self.links[*link])).collect()
    }

    pub(super) fn cut_link(&mut self, link: usize) {
        self.close_link(link);
        self.settle();
    }

    /// From now on a node has datagrams at this address. Where it is dialled does not change.
    pub(super) fn has_datagrams(&mut self, n: usize, at: SocketAddr) {
        self.ports[n].udp = Some(at);
        self.queue.push_back((n, NetEvent::DatagramsOn { port: at.port() }));
        self.settle();
    }

    /// A datagram arrives at a node.
    pub(super) fn inject(&mut self, n: usize, from: SocketAddr, bytes: Bytes) {
        self.queue.push_back((n, NetEvent::Datagram { from, bytes }));
        self.settle();
    }

    fn carry_datagram(&mut self, n: usize, to: SocketAddr, bytes: Bytes) {
        self.datagrams.push((n, to, bytes.clone()));
        let Some(from) = self.ports[n].udp else { panic!("a datagram without a socket") };
        let is_lost = self.lost_of.is_some_and(|(lost, of)| self.datagrams.len() % of < lost);
        let Some(other) = self.ports.iter().position(|port| port.udp == Some(to)) else { return };
        let is_expected = bytes.first_chunk().is_some_and(|id| self.ports[other].expected.contains(id));
        if !is_lost && is_expected && !self.blocked.contains(&(n, other)) {
            self.queue.push_back((other, NetEvent::Datagram { from, bytes }));
        }
    }

    /// From now on nothing passes on a link.
    pub(super) fn silence(&mut self, link: usize) {
        self.links[link].silent_since = Some(self.now);
        for (end, n) in self.links[link].nodes.into_iter().enumerate() {
            self.nodes[n].mute.insert(ConnectionId(2 * link as u64 + end as u64));
        }
    }

    /// Only this node learns that a link is lost.
    pub(super) fn lose_link(&mut self, link: usize, n: usize) {
        self.silence(link);
        self.close_ends(link, |node| node == n);
        self.settle();
    }

    /// No dial from or to this node succeeds.
    pub(super) fn unplug(&mut self, n: usize, unplugged: bool) {
        self.ports[n].unplugged = unplugged;
    }

    /// Breaks every substream, and no link.
    pub(super) fn break_substreams(&mut self) {
        for pipe in 0..self.pipes.len() {
            self.break_pipe(pipe);
        }
        self.settle();
    }

    /// Stops sending what the node writes, until it is relieved.
    pub(super) fn congest(&mut self, n: usize) {
        self.ports[n].congested = true;
    }

    pub(super) fn relieve(&mut self, n: usize) {
        self.ports[n].congested = false;
        for pipe in 0..self.pipes.len() {
            for end in 0..2 {
                self.flush(pipe, end);
            }
        }
        self.settle();
    }

    /// Sends a command. Returns its reply if there is one before time advances.
    pub(super) fn command<T: Value>(
        &mut self,
        n: usize,
        command: impl FnOnce(CommandId<T>) -> Command,
    ) -> Option<Result<T, AviP2pError>> {
        let id = self.nodes[n].command(command);
        self.settle();
        self.nodes[n].reply(id)
    }

    pub(super) fn ask<T: Value>(
        &mut self,
        n: usize,
        command: impl FnOnce(CommandId<T>) -> Command,
    ) -> Result<T, AviP2pError> {
        self.command(n, command).expect("no reply")
    }

    pub(super) fn request(&mut self, from: usize, to: usize, options: StreamOptions) -> Result<StreamId, AviP2pError> {
        let peer = self.id(to);
        let stream = self.nodes[from].request(&peer, options);
        self.settle();
        stream
    }

    pub(super) fn accept(&mut self, n: usize, stream: StreamId) -> Result<(), AviP2pError> {
        self.ask(n, |id| Command::AcceptStream { id, stream })
    }

    pub(super) fn close(&mut self, n: usize, stream: StreamId) -> Result<(), AviP2pError> {
        self.ask(n, |id| Command::CloseStream { id, stream })
    }

    pub(super) fn send(&mut self, n: usize, stream: StreamId, data: &[u8]) -> Result<(), AviP2pError> {
        self.ask(n, |id| Command::SendAudio { id, stream, data: Bytes::copy_from_slice(data) })
    }

    pub(super) fn subscribe(&mut self, n: usize, topic: &str) -> Result<(), AviP2pError> {
        self.ask(n, |id| Command::Subscribe { id, topic: topic.to_owned() })
    }

    pub(super) fn publish(&mut self, n: usize, topic: &str, data: &[u8]) -> Result<(), AviP2pError> {
        let data = Bytes::copy_from_slice(data);
        self.ask(n, |id| Command::Publish { id, topic: topic.to_owned(), data }).map(|_: Published| ())
    }

    /// The only stream that a node was offered.
    pub(super) fn offer(&mut self, n: usize) -> StreamId {
        match self.events(n).as_slice() {
            [AviEvent::AudioStreamRequested { stream_id, .. }] => *stream_id,
            other => panic!("{other:?}"),
        }
    }

    /// An accepted stream from node 0 to node 1: its ids at both ends.
    pub(super) fn call(&mut self, options: StreamOptions) -> (StreamId, StreamId) {
        let here = self.request(0, 1, options).unwrap();
        let there = self.offer(1);
        self.accept(1, there).unwrap();
        assert_eq!(self.events(0), [accepted(&self.id(1), here)]);
        (here, there)
    }

    pub(super) fn events(&mut self, n: usize) -> Vec<AviEvent> {
        self.nodes[n].take_events()
    }

    pub(super) fn audio_stats(&self, n: usize, stream: StreamId) -> AudioStats {
        self.nodes[n].engine().audio_stats(stream).expect("the stream has ended")
    }

    // Time.

    /// Advances to the next deadline of any node, if it is not later than `until`.
    pub(super) fn step(&mut self, until: Time) -> bool {
        let deadline = self.nodes.iter().filter_map(Node::due).min();
        let Some(deadline) = deadline.filter(|deadline| *deadline <= until) else { return false };
        self.advance_to(deadline);
        true
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut steps = 0;
        while self.step(until) {
            steps += 1;
            assert!(steps < 100_000, "a livelock");
        }
        self.advance_to(until);
    }

    fn advance_to(&mut self, time: Time) {
        self.now = time;
        for node in &mut self.nodes {
            node.advance_to(time);
        }
        self.settle();
    }

    /// Carries out all actions and delivers all bytes, until nothing is left to do at this time.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            for n in 0..self.nodes.len() {
                while let Some(action) = self.nodes[n].actions.pop_front() {
                    self.carry_out(n, action);
                }
            }
            match self.queue.pop_front() {
                Some((n, event)) => self.deliver(n, event),
                None => return,
            }
        }
        panic!("a livelock at {:?}", self.now);
    }

    // What the network does.

    fn carry_out(&mut self, n: usize, action: NetAction) {
        match action {
            NetAction::Dial { dial, peer, addresses } => self.dial(n, dial, peer, &addresses),
            NetAction::Disconnect { connection } | NetAction::Abort { connection } => {
                let (link, end) = ((connection.0 / 2) as usize, (connection.0 % 2) as usize);
                let n = self.links[link].nodes[end];
                self.end_link(link, n);
            }
            NetAction::Retire { connection } => {
                let nodes = self.links[(connection.0 / 2) as usize].nodes;
                let other = nodes[usize::from(nodes[0] == n)];
                self.queue.push_back((n, NetEvent::PeerRenewed { peer: self.id(other) }));
                for (from, to) in [(n, other), (other, n)] {
                    for topic in self.ports[from].topics.clone() {
                        self.tell_subscription(from, to, &topic);
                    }
                }
            }
            NetAction::CheckAlive { connection } => {
                let silent_since = self.links[(connection.0 / 2) as usize].silent_since;
                let silent_for = silent_since.map_or(Duration::ZERO, |since| self.now - since);
                self.queue.push_back((n, NetEvent::Progress { connection, silent_for }));
            }
            NetAction::Flush { connection } => {
                if self.links[(connection.0 / 2) as usize].silent_since.is_none() {
                    self.queue.push_back((n, NetEvent::Flushed { connection }));
                }
            }
            NetAction::Probe { connection } => {
                let Link { nodes, silent_since, .. } = &self.links[(connection.0 / 2) as usize];
                if silent_since.is_none() {
                    let peer = self.id(nodes[1 - (connection.0 % 2) as usize]);
                    self.queue.push_back((n, NetEvent::Answered { connection, peer }));
                }
            }
            NetAction::Admit { .. }
            | NetAction::Heartbeat
            | NetAction::Grant { .. }
            | NetAction::RetryListeners
            | NetAction::RetryDiscovery { .. } => {}
            NetAction::SendDatagram { to, bytes } => self.carry_datagram(n, to, bytes),
            NetAction::ExpectDatagrams { id } => drop(self.ports[n].expected.insert(id)),
            NetAction::ForgetDatagrams { id } => drop(self.ports[n].expected.remove(&id)),
            NetAction::DisconnectAll => {
                for link in 0..self.links.len() {
                    if self.links[link].nodes.contains(&n) {
                        self.end_link(link, n);
                    }
                }
            }
            NetAction::AddRoute { .. } => {}
            NetAction::Walk { .. } => {
                let near = self.neighbours(n);
                let far: BTreeSet<_> = near.iter().flat_map(|other| self.neighbours(*other)).collect();
                for other in far.into_iter().filter(|other| *other != n) {
                    let (addresses, source) = (vec![address(other as u16 + 1)], DiscoverySource::Kademlia);
                    self.queue.push_back((n, NetEvent::Discovered { peer: self.id(other), addresses, source }));
                }
                let found = near.into_iter().map(|other| self.id(other)).collect();
                self.queue.push_back((n, NetEvent::WalkEnded { result: Ok(found) }));
            }
            NetAction::Subscribe { topic } => {
                assert!(self.ports[n].topics.insert(topic.to_string()));
                for other in self.neighbours(n) {
                    self.tell_subscription(n, other, topic.as_str());
                }
            }
            NetAction::Unsubscribe { topic } => {
                assert!(self.ports[n].topics.remove(topic.as_str()));
                for other in self.neighbours(n) {
                    let event = NetEvent::PeerUnsubscribed { peer: self.id(n), topic: topic.to_string() };
                    self.queue.push_back((other, event));
                }
            }
            #[cfg(feature = "context")]
            NetAction::AskContext { exchange, peer, request } => {
                let other = self.neighbours(n).into_iter().find(|other| self.id(*other) == peer);
                let is_open = |other: &usize| self.links(n, *other).iter().any(|link| self.links[*link].carries());
                match other.filter(is_open) {
                    Some(other) => {
                        let (ask, peer) = (AskId(self.asked.len() as u64), self.id(n));
                        self.asked.push((n, other, exchange));
                        self.queue.push_back((other, NetEvent::ContextAsked { ask, peer, request }));
                    }
                    None => {
                        let result = Err("not connected".to_owned());
                        self.queue.push_back((n, NetEvent::ContextAnswered { exchange, result }));
                    }
                }
            }
            #[cfg(feature = "context")]
            NetAction::AnswerContext { ask, response } => {
                let (asked_by, answers, exchange) = self.asked[ask.0 as usize];
                assert_eq!(answers, n, "an answer to a request of another");
                let result = response.ok_or_else(|| "the substream has ended".to_owned());
                self.queue.push_back((asked_by, NetEvent::ContextAnswered { exchange, result }));
            }
            NetAction::Publish { publish, topic, data } => self.carry_message(n, publish, topic.as_str(), data),
            NetAction::OpenSubstream { stream, connection } => self.open_substream(n, stream, connection),
            NetAction::Write { substream, bytes } => self.write(substream, Some(bytes)),
            NetAction::Finish { substream } => self.write(substream, None),
            NetAction::Reset { substream } => {
                let (pipe, end) = place(substream);
                self.pipes[pipe].ends[end].gone = true;
                self.break_pipe(pipe);
            }
        }
    }

    fn dial(&mut self, n: usize, dial: DialId, peer: Option<PeerId>, addresses: &[String]) {
        let listens = |other: &usize| addresses.contains(&address(*other as u16 + 1));
        let failure = match (0..self.nodes.len()).find(listens) {
            Some(other) if other == n => DialFailure::Myself,
            Some(other) if self.ports[other].unplugged || self.ports[n].unplugged => {
                DialFailure::Unreachable("out of reach".to_owned())
            }
            Some(other) if peer.is_some_and(|peer| peer != self.id(other)) => {
                DialFailure::Unreachable("somebody else answered".to_owned())
            }
            Some(other) => match (self.outbound(n, other), self.inbound(other, n)) {
                (Err(refusal), _) => DialFailure::Refused(refusal),
                (Ok(()), Err(refusal)) => {
                    self.queue.push_back((other, NetEvent::InboundRefused(refusal)));
                    DialFailure::HungUp("the connection was closed".to_owned())
                }
                (Ok(()), Ok(())) => return self.link(n, other, dial),
            },
            None => DialFailure::Unreachable("nobody there".to_owned()),
        };
        self.queue.push_back((n, NetEvent::DialFailed { dial, failure }));
    }

    fn admission(&self, n: usize) -> Result<&Admission, Refusal> {
        self.nodes[n].admission.as_ref().ok_or(Refusal::ShuttingDown)
    }

    fn outbound(&self, n: usize, other: usize) -> Result<(), Refusal> {
        let (peers, connections) = (self.neighbours(n).len(), self.links(n, other).len());
        self.admission(n)?.outbound(peers, connections)?;
        self.admission(n)?.established(&self.id(other), peers, connections)
    }

    fn inbound(&self, n: usize, other: usize) -> Result<(), Refusal> {
        let (peers, connections) = (self.neighbours(n).len(), self.links(n, other).len());
        self.admission(n)?.inbound(Count { peers, ..Count::default() })?;
        self.admission(n)?.established(&self.id(other), peers, connections)
    }

    pub(super) fn neighbours(&self, n: usize) -> BTreeSet<usize> {
        let mine = self.links.iter().filter(|link| link.has(n));
        mine.map(|link| if link.nodes[0] == n { link.nodes[1] } else { link.nodes[0] }).collect()
    }

    fn link(&mut self, from: usize, to: usize, dial: DialId) {
        let is_first = !self.neighbours(from).contains(&to);
        let link = self.links.len();
        self.links.push(Link { nodes: [from, to], open: [true; 2], silent_since: None });
        for (end, direction) in [Direction::Outbound(dial), Direction::Inbound].into_iter().enumerate() {
            let (here, there) = ([from, to][end], [to, from][end]);
            let (connection, peer) = (ConnectionId(2 * link as u64 + end as u64), self.id(there));
            let address = address(there as u16 + 1);
            let name = self.nodes[there].config.node_name.clone();
            let identified =
                NetEvent::Identified { connection, peer: peer.clone(), name, addresses: vec![address.clone()] };
            self.queue.push_back((here, NetEvent::Connected { connection, peer, address, direction }));
            self.queue.push_back((here, identified));
            if is_first {
                self.queue.push_back((here, NetEvent::PubSubOpened { connection }));
                for topic in self.ports[there].topics.clone() {
                    self.tell_subscription(there, here, &topic);
                }
            }
        }
    }

    fn close_link(&mut self, link: usize) {
        self.close_ends(link, |_| true);
    }

    /// A node closes a link. The other end learns of it if something passes.
    fn end_link(&mut self, link: usize, n: usize) {
        let is_silent = self.links[link].silent_since.is_some();
        self.close_ends(link, |node| node == n || !is_silent);
    }

    fn close_ends(&mut self, link: usize, which: impl Fn(usize) -> bool) {
        let nodes = self.links[link].nodes;
        for pipe in (0..self.pipes.len()).filter(|pipe| self.pipes[*pipe].link == link).collect::<Vec<_>>() {
            for end in 0..2 {
                if which(self.pipes[pipe].nodes[end]) {
                    self.break_end(pipe, end);
                }
            }
        }
        for end in 0..2 {
            let (here, there) = (nodes[end], nodes[1 - end]);
            if !which(here) || !std::mem::take(&mut self.links[link].open[end]) {
                continue;
            }
            let connection = ConnectionId(2 * link as u64 + end as u64);
            self.queue.push_back((here, NetEvent::Disconnected { connection, peer: self.id(there) }));
        }
    }

    fn tell_subscription(&mut self, of: usize, to: usize, topic: &str) {
        self.queue.push_back((to, NetEvent::PeerSubscribed { peer: self.id(of), topic: topic.to_owned() }));
    }

    fn carry_message(&mut self, n: usize, publish: PublishId, topic: &str, data: Bytes) {
        let subscribers = self.neighbours(n).into_iter().filter(|other| self.ports[*other].topics.contains(topic));
        let subscribers: Vec<_> = subscribers.collect();
        let due = if subscribers.is_empty() { PublishOutcome::NoSubscribers } else { PublishOutcome::Sent };
        let outcome = self.publish_outcome.unwrap_or(due);
        self.queue.push_back((n, NetEvent::Published { publish, outcome }));
        if outcome == PublishOutcome::Sent {
            for other in subscribers {
                let event = NetEvent::Message { from: self.id(n), topic: topic.to_owned(), data: data.clone() };
                self.queue.push_back((other, event));
            }
        }
    }

    fn open_substream(&mut self, n: usize, stream: StreamId, connection: ConnectionId) {
        let (link, end) = ((connection.0 / 2) as usize, (connection.0 % 2) as usize);
        if !self.links[link].carries() {
            return;
        }
        let other = self.links[link].nodes[1 - end];
        let pipe = self.pipes.len() as u64;
        self.pipes.push(Pipe { link, nodes: [n, other], ends: Default::default() });
        self.queue.push_back((n, NetEvent::SubstreamOpened { stream, substream: SubstreamId(2 * pipe) }));
        let (substream, peer) = (SubstreamId(2 * pipe + 1), self.id(n));
        let connection = ConnectionId(2 * link as u64 + 1 - end as u64);
        self.queue.push_back((other, NetEvent::SubstreamOffered { substream, peer, connection }));
    }

    fn write(&mut self, substream: SubstreamId, bytes: Option<Bytes>) {
        let (pipe, end) = place(substream);
        self.pipes[pipe].ends[end].backlog.push_back(bytes);
        self.flush(pipe, end);
    }

    fn flush(&mut self, pipe: usize, end: usize) {
        let Pipe { link, nodes: [opener, other], .. } = self.pipes[pipe];
        let (here, there) = if end == 0 { (opener, other) } else { (other, opener) };
        if self.ports[here].congested || !self.links[link].carries() {
            return;
        }
        let (mine, theirs) = (substream(pipe, end), substream(pipe, 1 - end));
        while let Some(item) = self.pipes[pipe].ends[end].backlog.pop_front() {
            let Some(mut bytes) = item else {
                self.pipes[pipe].ends[end].finished = true;
                self.queue.push_back((there, NetEvent::Finished { substream: theirs }));
                continue;
            };
            while !bytes.is_empty() {
                let cut = self.cuts[self.next_cut % self.cuts.len()];
                self.next_cut += 1;
                let piece = bytes.split_to(if cut == 0 { bytes.len() } else { cut.min(bytes.len()) });
                self.queue.push_back((there, NetEvent::Received { substream: theirs, bytes: piece }));
            }
            self.queue.push_back((here, NetEvent::Writable { substream: mine }));
        }
    }

    /// Reports the end of a substream to each end that has not been told.
    fn break_pipe(&mut self, pipe: usize) {
        let is_silent = self.links[self.pipes[pipe].link].silent_since.is_some();
        for end in 0..2 {
            // What a node resets, the other end does not learn on a silent link.
            if !is_silent || self.pipes[pipe].ends[end].gone {
                self.break_end(pipe, end);
            }
        }
    }

    fn break_end(&mut self, pipe: usize, end: usize) {
        let n = self.pipes[pipe].nodes[end];
        self.pipes[pipe].ends[end].backlog.clear();
        if !self.pipes[pipe].ends[end].is_over() && self.links[self.pipes[pipe].link].has(n) {
            let event = NetEvent::Broken { substream: substream(pipe, end), reason: "reset".to_owned() };
            self.queue.push_back((n, event));
        }
    }

    fn deliver(&mut self, n: usize, event: NetEvent) {
        if let NetEvent::SubstreamOpened { substream, .. }
        | NetEvent::SubstreamOffered { substream, .. }
        | NetEvent::Received { substream, .. }
        | NetEvent::Writable { substream }
        | NetEvent::Finished { substream }
        | NetEvent::Broken { substream, .. } = &event
        {
            let (pipe, end) = place(*substream);
            let end = &mut self.pipes[pipe].ends[end];
            match event {
                _ if end.gone => return,
                NetEvent::Broken { .. } if end.is_over() => return,
                NetEvent::Broken { .. } => end.gone = true,
                NetEvent::Finished { .. } => end.heard_finish = true,
                _ => {}
            }
        }
        self.nodes[n].net(event);
    }
}

/// The pipe and the end that a substream's id stands for, and the reverse.
fn place(substream: SubstreamId) -> (usize, usize) {
    ((substream.0 / 2) as usize, (substream.0 % 2) as usize)
}

fn substream(pipe: usize, end: usize) -> SubstreamId {
    SubstreamId(2 * pipe as u64 + end as u64)
}
