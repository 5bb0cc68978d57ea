//! Does the page show what was recorded, for any recording?

use std::time::Duration;

use avi_p2p::{AviP2pConfig, StreamOptions};
use avi_p2p_proto::engine::{CommandId, ConnectionId, DialFailure, Engine, Time};
use avi_p2p_proto::recording::{Memory, Recorded, RecorderOptions, Start};

use super::*;

const LOCAL: &str = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";
const HALL: &str = "12D3KooWGQ3Ao3XzcqVpzPo7PFrUCz4erRTtWCATErx943YEFDVR";
const HOSTILE: &str = "</title></svg><script>alert('&')</script>\"\u{1b}\u{202e}";

/// An engine that is recorded.
struct Node {
    recorded: Recorded,
    now: Time,
    outputs: Vec<Output>,
    commands: u64,
}

impl Node {
    fn new() -> Self {
        let config = AviP2pConfig { enable_mdns: false, enable_kad: false, ..AviP2pConfig::default() };
        let engine = Engine::new(&config, PeerId::new(LOCAL), [7; 32]);
        let options = RecorderOptions { bytes: 64 * 1024 * 1024, ..RecorderOptions::default() };
        let segment_bytes = options.segment_bytes();
        let start =
            Start { options, segment_bytes, store: Box::new(Memory::default()), hash_key: [1; 16], unix_millis: 0 };
        Self { recorded: Recorded::new(engine, Some(start)), now: Time::ZERO, outputs: Vec::new(), commands: 0 }
    }

    fn give(&mut self, input: Input) {
        self.recorded.handle(self.now, input);
        self.outputs = std::iter::from_fn(|| self.recorded.poll_output()).collect();
    }

    fn net(&mut self, event: NetEvent) {
        self.give(Input::Net(event));
    }

    fn command(&mut self, command: impl FnOnce(u64) -> Command) {
        self.commands += 1;
        self.give(Input::Command(command(self.commands)));
    }

    /// Lets time pass, with what the engine does by itself.
    fn wait(&mut self, seconds: f64) {
        let until = Time(self.now.0 + Duration::from_secs_f64(seconds));
        while let Some(at) = self.recorded.next_deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.recorded.handle_timeout(self.now);
            while self.recorded.poll_output().is_some() {}
        }
        self.now = until;
    }

    fn meets(&mut self, connection: u64, peer: &PeerId, name: &str) {
        let (connection, address) = (ConnectionId(connection), "/ip4/192.0.2.2/tcp/9000".to_owned());
        let connected = NetEvent::Connected { connection, peer: peer.clone(), address, direction: Direction::Inbound };
        self.net(connected);
        self.net(NetEvent::PubSubOpened { connection });
        self.net(NetEvent::Identified { connection, peer: peer.clone(), name: name.to_owned(), addresses: Vec::new() });
    }

    fn loses(&mut self, connection: u64, peer: &PeerId) {
        self.net(NetEvent::Disconnected { connection: ConnectionId(connection), peer: peer.clone() });
    }

    /// The page of all that was recorded.
    fn page(&self) -> String {
        let mut replay = Replay::new(self.recorded.recording().unwrap()).unwrap();
        let mut timeline = Timeline::default();
        while let Some(step) = replay.next() {
            timeline.add(&replay, &step.unwrap(), &Words::default());
        }
        timeline.page()
    }
}

/// One of many peers: the encoding of an Ed25519 key, as libp2p's ids are.
fn nth(n: u64) -> PeerId {
    let hash = [&[0, 36, 8, 1, 18, 32][..], &[7; 24], &n.to_be_bytes()].concat();
    PeerId::new(&bs58::encode(hash).into_string())
}

/// Whether every element that begins ends, in order; the names of all.
fn elements(page: &str) -> Vec<&str> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        let name = tag.split([' ', '/', '\n']).find(|part| !part.is_empty()).unwrap();
        match tag {
            _ if tag.starts_with('!') || name == "meta" || tag.ends_with('/') => all.push(name),
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "before {tag}"),
            _ => {
                open.push(name);
                all.push(name);
            }
        }
    }
    assert_eq!(open, [""; 0]);
    all
}

fn count(page: &str, part: &str) -> usize {
    page.matches(part).count()
}

/// A morning in the life of a node.
fn morning() -> Node {
    let hall = PeerId::new(HALL);
    let mut node = Node::new();
    node.net(NetEvent::Listening { addresses: vec!["/ip4/192.0.2.1/tcp/9000".to_owned()] });
    let addresses = vec!["/ip4/192.0.2.2/tcp/9000".to_owned()];
    node.net(NetEvent::Announced { peer: hall.clone(), addresses });
    node.wait(1.0);
    let dial = node.outputs.iter().find_map(|output| match output {
        Output::Net(NetAction::Dial { dial, .. }) => Some(*dial),
        _ => None,
    });
    if let Some(dial) = dial {
        node.net(NetEvent::DialFailed { dial, failure: DialFailure::Unreachable(HOSTILE.to_owned()) });
    }
    node.meets(1, &hall, HOSTILE);
    node.command(|id| Command::RequestStream {
        id: CommandId::new(id),
        peer: hall.clone(),
        options: StreamOptions::default(),
    });
    node.wait(0.5);
    node.net(NetEvent::SubstreamFailed { stream: StreamId(1), reason: HOSTILE.to_owned() });
    let topic = "nobody/hears".to_owned();
    node.command(|id| Command::Publish { id: CommandId::new(id), topic, data: b"x".to_vec().into() });
    node.wait(20.0);
    node.loses(1, &hall);
    node.wait(2.0);
    node
}

#[test]
fn a_page_shows_peers_streams_and_losses() {
    let page = morning().page();
    let elements = elements(&page);
    let of = |name: &str| elements.iter().filter(|element| **element == name).count();
    // Peers, streams, losses, and four figures, of which one is always 0.
    assert_eq!((of("figure"), of("svg"), of("h2")), (7, 6, 8));
    assert_eq!(count(&page, "Always 0."), 1);
    assert_eq!(count(&page, ">stream 1<"), 1, "{page}");
    assert!(page.contains("connected from 1.000 s to 21.500 s"), "{page}");
    assert!(page.contains("1 messages expired") && page.contains("ended at 2.000 s: its substream failed"), "{page}");
    assert!(page.len() < 40_000, "{} bytes", page.len());
}

#[test]
fn a_page_loads_and_runs_nothing_whatever_peers_say() {
    let page = morning().page();
    elements(&page);
    assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;&quot;"), "their words are shown");
    for part in ["<script", "<img", "http", "url(", "src=", "href", "@import", "onload", "\u{1b}", "\u{202e}"] {
        assert!(!page.contains(part), "{part:?}");
    }
}

#[test]
fn a_page_of_many_peers_and_hours_stays_small() {
    let mut node = Node::new();
    let mut connection = 0;
    for round in 0..40_u64 {
        for peer in 0..100_u64 {
            connection += 1;
            let peer = nth((peer + round) % 150);
            node.meets(connection, &peer, "a name of some length");
            node.wait(1.0);
            node.loses(connection, &peer);
            node.wait(1.0);
        }
    }
    let page = node.page();
    elements(&page);
    assert!(page.contains("which are not shown") && page.contains(" more</p>"));
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

#[test]
fn a_recording_of_nothing_is_a_page_too() {
    let page = Node::new().page();
    elements(&page);
    assert_eq!(count(&page, "None."), 2);
}
