//! Does a node under attack serve its peers as before? A node in a process of its own, two peers that hold a call and
//! exchange messages with it all the time, and a watch on its memory and file descriptors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2pConfig, AviP2pHandle, PeerId, StreamId, StreamOptions};
use tokio::sync::mpsc;

use crate::common::{Node, WITHIN, config};
use crate::heap;

/// What a call is labelled that the node accepts, and sends each frame back.
pub const ECHO: &str = "echo";
/// What a call is labelled that the node accepts, and sends frames without end.
pub const POUR: &str = "pour";
pub const MAX_PEERS: usize = 20;
pub const POURED_BYTES: usize = 8 * 1024;

/// The name of the test that is the node's process.
const NODE_TEST: &str = "the_node_under_attack";
const IS_CHILD: &str = "AVI_TEST_UNDER_ATTACK";
/// A stall of a busy machine is not to drop a frame.
const AUDIO_QUEUE: Duration = Duration::from_secs(30);
const FRAME_EVERY: Duration = Duration::from_millis(20);
const FRAME_BYTES: usize = 160;
/// One message for so many frames.
const FRAMES_A_MESSAGE: u64 = 3;
const BASELINE: Duration = Duration::from_millis(800);
/// Messages under attack, to compare with those before.
const MIN_MESSAGES: usize = 10;
/// The runtime's own, which come and go.
const SPARE_SOCKETS: i64 = 2;
/// What caches hold of it for a while: peers remembered, messages seen.
const KEPT_MIB: f64 = 4.0;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// In a process of its own: a node that does what its standard input and its peers ask.
pub async fn be_the_node() {
    if std::env::var_os(IS_CHILD).is_none() {
        return;
    }
    let node_config = AviP2pConfig { max_peers: MAX_PEERS, audio_queue: AUDIO_QUEUE, ..config() };
    let mut node = Node::start(node_config).await;
    for topic in ["ask", "quiet"] {
        node.handle.subscribe(topic).await.unwrap();
    }
    let (sender, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    say(&format!("ready {} {}", node.id, node.address));
    let mut heard = BTreeMap::<String, u64>::new();
    let mut told = Told::default();
    loop {
        tokio::select! {
            event = node.events.recv() => told.react(&node.handle, event.unwrap(), &mut heard).await,
            line = lines.recv() => match line {
                Some(line) => obey(&node.handle, &line, &heard).await,
                None => break,
            },
        }
    }
    node.node.shutdown().await.unwrap();
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // The harness may have left a line unfinished.
    let _ = writeln!(out, "\n> {text}");
    let _ = out.flush();
}

async fn obey(handle: &AviP2pHandle, line: &str, heard: &BTreeMap<String, u64>) {
    let words: Vec<_> = line.split(' ').collect();
    match words.as_slice() {
        ["stats"] => say(&format!("{:?}", handle.stats().await.unwrap())),
        ["memory"] => say(&format!("{} {}", heap::held(), heap::most())),
        ["heard", topic] => say(&heard.get(*topic).copied().unwrap_or_default().to_string()),
        ["publish", topic, count, bytes] => {
            let (topic, payload) = ((*topic).to_owned(), vec![7; bytes.parse().unwrap()]);
            let (handle, count) = (handle.clone(), count.parse::<u32>().unwrap());
            tokio::spawn(async move {
                for _ in 0..count {
                    // A path that is full is what some ask for.
                    let _ = handle.publish(&topic, payload.clone()).await;
                }
                say("published");
            });
        }
        _ => panic!("{line:?} is no command"),
    }
}

/// What the node's application does with its events.
#[derive(Default)]
struct Told {
    echoing: BTreeSet<StreamId>,
}

impl Told {
    async fn react(&mut self, handle: &AviP2pHandle, event: AviEvent, heard: &mut BTreeMap<String, u64>) {
        match event {
            AviEvent::Message { topic, data, .. } if topic == "ask" => {
                let _ = handle.publish("answer", data).await;
            }
            AviEvent::Message { topic, .. } => *heard.entry(topic).or_default() += 1,
            AviEvent::AudioStreamRequested { stream_id, .. } => {
                let Ok(stats) = handle.audio_stats(stream_id).await else { return };
                let label = stats.label.unwrap_or_default();
                if ![ECHO, POUR].contains(&label.as_str()) || handle.accept_audio_stream(stream_id).await.is_err() {
                    return;
                }
                if label == ECHO {
                    self.echoing.insert(stream_id);
                } else {
                    tokio::spawn(pour(handle.clone(), stream_id));
                }
            }
            AviEvent::AudioData { stream_id, data, .. } if self.echoing.contains(&stream_id) => {
                let _ = handle.send_audio(stream_id, data).await;
            }
            AviEvent::AudioStreamClosed { stream_id, .. } => drop(self.echoing.remove(&stream_id)),
            _ => {}
        }
    }
}

async fn pour(handle: AviP2pHandle, stream: StreamId) {
    while handle.send_audio(stream, vec![1; POURED_BYTES]).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The node's process, seen from the test.
pub struct Victim {
    child: Child,
    input: Mutex<ChildStdin>,
    lines: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
    pub id: PeerId,
    pub address: String,
    pub socket: SocketAddr,
}

impl Victim {
    async fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NODE_TEST, "--ignored", "--nocapture"])
            .env(IS_CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, mut lines) = mpsc::unbounded_channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let said =
                output.lines().map_while(Result::ok).filter_map(|line| Some(line.strip_prefix("> ")?.to_owned()));
            said.into_iter().try_for_each(|line| sender.send(line))
        });
        let ready = next_line(&mut lines).await;
        let [_, id, address] = ready.split(' ').collect::<Vec<_>>()[..] else { panic!("{ready}") };
        let port = address.rsplit('/').next().and_then(|port| port.parse().ok()).expect("an address with a port");
        Self {
            input: Mutex::new(child.stdin.take().unwrap()),
            child,
            lines: tokio::sync::Mutex::new(lines),
            id: id.parse().unwrap(),
            address: address.to_owned(),
            socket: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    /// Has the node do something, and returns what it says.
    pub async fn ask(&self, command: &str) -> String {
        let mut lines = self.lines.lock().await;
        writeln!(self.input.lock().unwrap(), "{command}").expect("the node's process runs");
        next_line(&mut lines).await
    }

    /// A counter of the node's `stats()`.
    pub async fn stat(&self, counter: &str) -> u64 {
        let stats = self.ask("stats").await;
        let value = stats.split([' ', ',']).skip_while(|word| *word != format!("{counter}:")).nth(1);
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {counter} in {stats}"))
    }

    /// How many messages on a topic its application got.
    pub async fn heard(&self, topic: &str) -> u64 {
        self.ask(&format!("heard {topic}")).await.parse().unwrap()
    }

    /// Waits until a counter is what it should be.
    pub async fn stat_until(&self, counter: &str, is_right: impl Fn(u64) -> bool) -> u64 {
        self.stats_until([counter], is_right).await
    }

    /// Waits until some counters are together what they should be.
    pub async fn stats_until<const N: usize>(&self, counters: [&str; N], is_right: impl Fn(u64) -> bool) -> u64 {
        let deadline = Instant::now() + WITHIN;
        loop {
            let mut value = 0;
            for counter in counters {
                value += self.stat(counter).await;
            }
            if is_right(value) {
                return value;
            }
            if Instant::now() > deadline {
                panic!("{counters:?} is {value}: {}", self.ask("stats").await);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn file_descriptors(pid: u32) -> usize {
        fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
    }

    /// What it holds, and what it has held at most, in MiB. Files and code are not counted.
    async fn memory_mib(&self) -> (f64, f64) {
        let answer = self.ask("memory").await;
        let mut bytes = answer.split(' ').map(|bytes| bytes.parse::<f64>().unwrap() / f64::from(1 << 20));
        (bytes.next().unwrap(), bytes.next().unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn next_line(lines: &mut mpsc::UnboundedReceiver<String>) -> String {
    let line = tokio::time::timeout(WITHIN, lines.recv()).await;
    line.expect("the node answers in time").expect("the node's process runs")
}

/// What the node may cost while it is attacked.
pub struct Bounds {
    /// Memory beyond what it had before.
    pub memory_mib: f64,
    /// Sockets beyond those it had before.
    pub sockets: usize,
}

/// A node, and the peers that it is to serve whatever happens.
pub struct Siege {
    pub victim: Victim,
    peers: Vec<PeerId>,
    book: Arc<Book>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    memory_mib: f64,
    sockets: usize,
    most_sockets: Arc<AtomicUsize>,
}

impl Siege {
    /// A node in the middle of its day: two peers hold calls with it, and it is known how fast it answers.
    pub async fn lay() -> Self {
        let victim = Victim::start().await;
        let book = Arc::new(Book::default());
        let mut peers = Vec::new();
        for who in 0..2 {
            peers.push(Honest::call(&victim, who, book.clone()).await);
        }
        let ids: Vec<_> = peers.iter().map(|peer| peer.node.id.clone()).collect();
        let tasks = peers.into_iter().map(|peer| tokio::spawn(peer.live(ids.clone()))).collect();
        book.until("the mesh has formed", |ledger| (0..2).all(|who| ledger.is_met(who))).await;
        book.begin(Stage::Baseline);
        tokio::time::sleep(BASELINE).await;
        book.begin(Stage::Attack);
        let sockets = Victim::file_descriptors(victim.child.id());
        let most_sockets = Arc::new(AtomicUsize::new(sockets));
        let (memory_mib, _) = victim.memory_mib().await;
        watch(victim.child.id(), &most_sockets);
        Self { victim, peers: ids, book, tasks, memory_mib, sockets, most_sockets }
    }

    /// The attack is over, and its sockets are closed: nobody else has noticed it, and nothing of it is left.
    pub async fn ends_well(self, bounds: Bounds) {
        let victim = &self.victim;
        victim.stat_until("peers_connected", |peers| peers == self.peers.len() as u64).await;
        self.book.until("enough is said", |ledger| ledger.heard_under_attack() >= MIN_MESSAGES).await;
        self.book.begin(Stage::Rest);
        let is_audio = |key: &(Kind, u8, u64)| key.0 == Kind::Audio;
        self.book.until("every message arrives", |ledger| ledger.under_way.keys().all(is_audio)).await;
        let (missed, heard) = self.book.audio();
        assert!(4 * missed <= heard, "{missed} frames were missed, {heard} came back");
        self.tasks.iter().for_each(|task| task.abort());

        let (baseline, attack) = self.book.compare();
        let peak = victim.memory_mib().await.1 - self.memory_mib;
        let sockets = self.most_sockets.load(Ordering::SeqCst).saturating_sub(self.sockets);
        println!("baseline {baseline:?}\nattack   {attack:?}\nat most {peak:.1} MiB and {sockets} sockets more");
        for (kind, before) in &baseline {
            let during = &attack[kind];
            assert!(
                during.median <= 20 * (before.median + Duration::from_millis(25)),
                "{kind:?}: {during:?}, {before:?}"
            );
            assert!(
                during.worst <= 20 * (before.worst + Duration::from_millis(500)),
                "{kind:?}: {during:?}, {before:?}"
            );
        }
        assert!(peak <= bounds.memory_mib, "{peak:.1} MiB exceed {} MiB", bounds.memory_mib);
        assert!(sockets <= bounds.sockets, "{sockets} sockets exceed {}", bounds.sockets);

        let deadline = Instant::now() + WITHIN;
        loop {
            let sockets = Victim::file_descriptors(victim.child.id()) as i64 - self.sockets as i64;
            let memory = victim.memory_mib().await.0 - self.memory_mib;
            if sockets <= SPARE_SOCKETS && memory <= KEPT_MIB {
                return;
            }
            assert!(Instant::now() < deadline, "{sockets} sockets and {memory:.1} MiB more than before are left");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Counts the file descriptors of a process for as long as somebody wants to know.
fn watch(pid: u32, most: &Arc<AtomicUsize>) {
    let most = Arc::downgrade(most);
    std::thread::spawn(move || {
        while let Some(most) = most.upgrade() {
            most.fetch_max(Victim::file_descriptors(pid), Ordering::SeqCst);
            drop(most);
            std::thread::sleep(LOOK_EVERY);
        }
    });
}

/// A peer that keeps all rules, in a call with the node.
struct Honest {
    who: u8,
    node: Node,
    stream: StreamId,
    victim: PeerId,
    book: Arc<Book>,
}

impl Honest {
    async fn call(victim: &Victim, who: u8, book: Arc<Book>) -> Self {
        let bootstrap_peers = vec![victim.address.clone()];
        let mut node = Node::start(AviP2pConfig { bootstrap_peers, audio_queue: AUDIO_QUEUE, ..config() }).await;
        node.wait("PeerConnected", |event| matches!(event, AviEvent::PeerConnected { .. }).then_some(())).await;
        for topic in ["ask", "answer"] {
            node.handle.subscribe(topic).await.unwrap();
        }
        let options = StreamOptions { label: Some(ECHO.to_owned()), ..StreamOptions::default() };
        let stream = node.handle.request_stream_with(victim.id.clone(), options).await.unwrap();
        node.wait("accepted", |event| matches!(event, AviEvent::AudioStreamAccepted { .. }).then_some(())).await;
        Self { who, node, stream, victim: victim.id.clone(), book }
    }

    /// Speaks, asks and listens until the task is aborted.
    async fn live(self, peers: Vec<PeerId>) {
        let Self { who, mut node, stream, victim, book } = self;
        let listening = async {
            let mut next = 0;
            while let Some(event) = node.events.recv().await {
                match event {
                    AviEvent::AudioData { data, .. } => {
                        let number = parse(&data).filter(|(author, _)| *author == who).map(|(_, number)| number);
                        let Some(number) = number.filter(|number| *number >= next) else {
                            book.check(false, || format!("frame {next} of {who} came back as {data:?}"));
                            continue;
                        };
                        book.missed(who, next..number);
                        book.arrived(Kind::Audio, who, number);
                        next = number + 1;
                    }
                    AviEvent::Message { from, topic, data } => {
                        let Some((author, number)) = parse(&data) else {
                            book.check(false, || format!("{topic}: {data:?} of {from}"));
                            continue;
                        };
                        let expected = if topic == "answer" { &victim } else { &peers[usize::from(author)] };
                        book.check(from == *expected, || format!("{topic}: {data:?} of {from}"));
                        match topic.as_str() {
                            "answer" if author == who => book.arrived(Kind::Answer, who, number),
                            "answer" => {}
                            _ => book.arrived(Kind::Forwarded, author, number),
                        }
                    }
                    // Audio that a node without a moment's time cannot carry is dropped.
                    // Identify may come after all else.
                    AviEvent::PeerDiscovered { .. } | AviEvent::PeerIdentified { .. } => {}
                    AviEvent::AudioGap { .. } | AviEvent::AudioRate { .. } => {}
                    other => book.check(false, || format!("{who}: {other:?}")),
                }
            }
        };
        let speaking = async {
            let mut beat = tokio::time::interval(FRAME_EVERY);
            let (mut frames, mut messages) = (0, 0);
            while book.stage() != Stage::Rest {
                beat.tick().await;
                book.sent(&[Kind::Audio], who, frames);
                let sent = node.handle.send_audio(stream, frame(who, frames)).await;
                book.check(sent.is_ok(), || format!("frame {frames} of {who}: {sent:?}"));
                frames += 1;
                if frames % FRAMES_A_MESSAGE == 0 {
                    book.sent(&[Kind::Answer, Kind::Forwarded], who, messages);
                    let sent = node.handle.publish("ask", frame(who, messages)).await;
                    book.check(sent.is_ok(), || format!("message {messages} of {who}: {sent:?}"));
                    messages += 1;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::join!(listening, speaking);
    }
}

/// What is said: who, the how manieth, and a filling that depends on both.
fn frame(who: u8, number: u64) -> Vec<u8> {
    let mut frame = vec![who ^ number as u8; FRAME_BYTES];
    frame[0] = who;
    frame[1..9].copy_from_slice(&number.to_be_bytes());
    frame
}

fn parse(data: &[u8]) -> Option<(u8, u64)> {
    let number = u64::from_be_bytes(data.get(1..9)?.try_into().ok()?);
    (data[0] < 2 && data == frame(data[0], number)).then_some((data[0], number))
}

/// Meeting → Baseline → Attack → Rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Some messages may be lost: not all know yet who subscribes.
    #[default]
    Meeting,
    Baseline,
    Attack,
    /// Nothing more is said.
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Frames, to the node and back.
    Audio,
    /// Messages that the node's application answers.
    Answer,
    /// Messages that the node passes on to the other peer.
    Forwarded,
}

#[derive(Debug)]
struct Latency {
    median: Duration,
    worst: Duration,
}

/// What was said, and when it was heard.
#[derive(Default)]
struct Book {
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    stage: Stage,
    under_way: BTreeMap<(Kind, u8, u64), (Instant, Stage)>,
    took: BTreeMap<(Kind, Stage), Vec<Duration>>,
    met: BTreeSet<(Kind, u8)>,
    /// Messages of the meeting that nobody has heard so far. Gossip may still repair that.
    unheard: BTreeSet<(Kind, u8, u64)>,
    wrong: Vec<String>,
    /// Frames that did not come back.
    missed: u64,
}

impl Ledger {
    fn heard_under_attack(&self) -> usize {
        let heard = |kind| self.took.get(&(kind, Stage::Attack)).map_or(0, Vec::len);
        heard(Kind::Answer).min(heard(Kind::Forwarded))
    }

    fn is_met(&self, who: u8) -> bool {
        [Kind::Audio, Kind::Answer, Kind::Forwarded].iter().all(|&kind| self.met.contains(&(kind, who)))
    }
}

impl Book {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn stage(&self) -> Stage {
        self.ledger().stage
    }

    fn begin(&self, stage: Stage) {
        let ledger = &mut *self.ledger();
        ledger.stage = stage;
        let lost = ledger.under_way.extract_if(.., |key, said| said.1 == Stage::Meeting && key.0 != Kind::Audio);
        ledger.unheard.extend(lost.map(|(key, _)| key));
    }

    fn sent(&self, kinds: &[Kind], who: u8, number: u64) {
        let mut ledger = self.ledger();
        let entry = (Instant::now(), ledger.stage);
        ledger.under_way.extend(kinds.iter().map(|&kind| ((kind, who, number), entry)));
    }

    fn arrived(&self, kind: Kind, who: u8, number: u64) {
        let mut ledger = self.ledger();
        ledger.met.insert((kind, who));
        match ledger.under_way.remove(&(kind, who, number)) {
            Some((at, stage)) => ledger.took.entry((kind, stage)).or_default().push(at.elapsed()),
            None if ledger.unheard.remove(&(kind, who, number)) => {}
            None => ledger.wrong.push(format!("{kind:?} {number} of {who} came twice")),
        }
    }

    /// Frames of audio were dropped on their way.
    fn missed(&self, who: u8, frames: std::ops::Range<u64>) {
        let mut ledger = self.ledger();
        for number in frames {
            ledger.under_way.remove(&(Kind::Audio, who, number));
            ledger.missed += 1;
        }
    }

    fn check(&self, is_right: bool, what: impl FnOnce() -> String) {
        if !is_right {
            self.ledger().wrong.push(what());
        }
    }

    /// Waits, and fails as soon as a peer has had cause for complaint.
    async fn until(&self, what: &str, is_so: impl Fn(&Ledger) -> bool) {
        let deadline = Instant::now() + WITHIN;
        loop {
            {
                let ledger = self.ledger();
                assert!(ledger.wrong.is_empty(), "{:#?}", ledger.wrong);
                if is_so(&ledger) {
                    return;
                }
                assert!(Instant::now() < deadline, "not so: {what}; under way: {:?}", ledger.under_way.keys());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The frames that did not come back, or not yet, and those that did.
    fn audio(&self) -> (u64, u64) {
        let ledger = self.ledger();
        let waiting = ledger.under_way.keys().filter(|key| key.0 == Kind::Audio).count() as u64;
        let took = ledger.took.iter().filter(|((kind, _), _)| *kind == Kind::Audio).map(|(_, took)| took.len() as u64);
        (ledger.missed + waiting, took.sum())
    }

    /// How long it took before the attack, and during it.
    fn compare(&self) -> (BTreeMap<Kind, Latency>, BTreeMap<Kind, Latency>) {
        let mut ledger = self.ledger();
        let mut of = |stage: Stage| {
            let of_stage = ledger.took.iter_mut().filter(|((_, other), _)| *other == stage);
            let latencies = of_stage.map(|((kind, _), took)| {
                took.sort_unstable();
                let median = took[took.len() / 2];
                (*kind, Latency { median, worst: took[took.len() - 1] })
            });
            latencies.collect::<BTreeMap<_, _>>()
        };
        (of(Stage::Baseline), of(Stage::Attack))
    }
}
