//! Can peers that others wrote take part in a mesh? Those of js-libp2p and py-libp2p do here, each in a process of its
//! own, beside nodes of AVI. `tests/interop/run` installs them and starts this.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pError, EventReceiver, Identity, NetworkKey, PeerId};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};

/// The topic of the programs in docs/interop.md.
const TOPIC: &str = "lobby";
const WITHIN: Duration = Duration::from_secs(30);
const NETWORK_KEY: [u8; 32] = *b"32 bytes that nobody may know...";
/// A message of 60 KiB fits into `max_message_bytes` of 64 KiB.
const LARGE_BYTES: usize = 60 * 1024;

type Outcome<T = ()> = Result<T, String>;
/// Returns its figures.
type Scenario = fn(Language) -> BoxFuture<'static, Outcome<String>>;

/// The longest comes first, and runs beside the others.
const SCENARIOS: [(&str, Scenario); 14] = [
    ("idle for a minute", |language| idle(language).boxed()),
    ("1,000 messages each way", |language| many(language).boxed()),
    ("60 KiB messages", |language| large(language).boxed()),
    ("relay through us", |language| relay(language, language).boxed()),
    ("hang up and return", |language| hang_up(language).boxed()),
    ("killed and back", |language| killed(language).boxed()),
    ("dialled by us", |language| dialled(language).boxed()),
    ("without ping", |language| without_ping(language).boxed()),
    ("without kad", |language| without_kad(language).boxed()),
    ("private mesh", |language| private(language).boxed()),
    ("a call it cannot take", |language| call(language).boxed()),
    ("other kinds of keys", |language| other_keys(language).boxed()),
    ("other authors' keys", |language| other_authors(language).boxed()),
    ("the documented program", |language| documented(language).boxed()),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Js,
    Py,
}

impl Language {
    fn name(self) -> &'static str {
        match self {
            Self::Js => "js",
            Self::Py => "py",
        }
    }

    /// The folder where its peers are installed, if they are.
    fn folder(self) -> Option<PathBuf> {
        std::env::var_os(format!("AVI_INTEROP_{}", self.name().to_uppercase())).map(PathBuf::from)
    }

    /// Runs one of its programs: `peer`, which this driver leads, or `join`, that of docs/interop.md.
    fn program(self, name: &str, argument: &str) -> Outcome<Child> {
        let folder = self.folder().ok_or("it is not installed")?;
        let mut command = match self {
            Self::Js => {
                let mut node = Command::new("node");
                node.arg("--import").arg(folder.join("node20.mjs")).arg(folder.join(name).with_extension("mjs"));
                node
            }
            Self::Py => {
                let mut python = Command::new(folder.join("venv/bin/python"));
                python.arg("-u").arg(folder.join(name).with_extension("py"));
                python
            }
        };
        command.arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(|error| format!("{command:?}: {error}"))
    }
}

/// What a party has noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Notice {
    Started { id: String, address: String },
    Connected(String),
    Disconnected(String),
    Subscribed(String),
    Found(String),
    Message { from: String, data: Vec<u8> },
    CallEnded(String),
    Said(String),
    Trouble(String),
}

/// A peer of either kind: what it has noticed since its start.
struct Party {
    name: &'static str,
    id: String,
    address: String,
    notices: watch::Receiver<Vec<Notice>>,
}

impl Party {
    /// Waits until what it has noticed is as asked.
    async fn until(&self, what: &str, is_so: impl FnMut(&[Notice]) -> bool) -> Outcome {
        let mut is_so = is_so;
        let mut notices = self.notices.clone();
        match timeout(WITHIN, notices.wait_for(|notices| is_so(notices))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(format!("{} ended before: {what}; {}", self.name, self.trouble())),
            Err(_) => Err(format!("{} waits in vain for: {what}; {}", self.name, self.trouble())),
        }
    }

    async fn connected_to(&self, other: &Party, times: usize) -> Outcome {
        let notice = Notice::Connected(other.id.clone());
        self.until(&format!("{} connected, {times} times", other.name), |seen| count(seen, &notice) >= times).await
    }

    async fn disconnected_from(&self, other: &Party, times: usize) -> Outcome {
        let notice = Notice::Disconnected(other.id.clone());
        self.until(&format!("{} disconnected, {times} times", other.name), |seen| count(seen, &notice) >= times).await
    }

    /// Waits for these messages of an author, in whatever order, and for no others.
    async fn hears(&self, author: &Party, messages: &[Vec<u8>]) -> Outcome {
        let heard = |seen: &[Notice]| {
            let mut times: BTreeMap<Vec<u8>, usize> = messages.iter().map(|message| (message.clone(), 0)).collect();
            let mut strange = 0;
            for notice in seen {
                if let Notice::Message { from, data } = notice {
                    match times.get_mut(data) {
                        Some(times) if *from == author.id => *times += 1,
                        Some(_) => strange += 1,
                        None => {}
                    }
                }
            }
            (times, strange)
        };
        let about = |seen: &[Notice]| seen.iter().filter(|notice| matches!(notice, Notice::Message { .. })).count();
        // Compares all only when there may be enough.
        let all = |seen: &[Notice]| about(seen) >= messages.len() && heard(seen).0.values().all(|times| *times > 0);
        let waited = self.until("messages", all).await;
        let (times, strange) = heard(&self.notices.borrow());
        let lost = times.values().filter(|times| **times == 0).count();
        let twice = times.values().filter(|times| **times > 1).count();
        match (lost, twice, strange) {
            (0, 0, 0) => waited,
            _ => {
                let (me, it, of) = (self.name, author.name, messages.len());
                let trouble = self.trouble();
                Err(format!("{me} heard from {it}: {lost} of {of} lost, {twice} twice, {strange} by others; {trouble}"))
            }
        }
    }

    fn count(&self, notice: &Notice) -> usize {
        count(&self.notices.borrow(), notice)
    }

    /// What it has noticed besides messages, at the end.
    fn trouble(&self) -> String {
        let notices = self.notices.borrow();
        let others: Vec<_> = notices.iter().filter(|notice| !matches!(notice, Notice::Message { .. })).collect();
        let last = others[others.len().saturating_sub(6)..].iter();
        let last: Vec<String> = last.map(|notice| format!("{notice:?}").chars().take(300).collect()).collect();
        format!("it noticed {}", last.join(", "))
    }
}

fn count(notices: &[Notice], notice: &Notice) -> usize {
    notices.iter().filter(|other| *other == notice).count()
}

/// A node of AVI.
struct Ours {
    party: Party,
    node: AviP2p,
}

impl Ours {
    async fn start() -> Outcome<Self> {
        Self::start_with(AviP2pConfig::default()).await
    }

    async fn start_with(config: AviP2pConfig) -> Outcome<Self> {
        let config = AviP2pConfig {
            node_name: "ours".to_owned(),
            listen_ips: vec![std::net::Ipv4Addr::LOCALHOST.into()],
            enable_mdns: false,
            identity: Identity::Bytes(seed()),
            ..config
        };
        let (node, mut events) = AviP2p::start(config).await.map_err(text)?;
        node.handle().subscribe(TOPIC).await.map_err(text)?;
        let Some(AviEvent::Started { listen_addresses, .. }) = events.recv().await else {
            return Err("no Started".to_owned());
        };
        let id = node.local_peer_id().to_string();
        let (told, notices) = watch::channel(Vec::new());
        tokio::spawn(note(events, told));
        let address = format!("{}/p2p/{id}", listen_addresses[0]);
        Ok(Self { party: Party { name: "ours", id, address, notices }, node })
    }

    /// Publishes as fast as the node takes it.
    async fn publish(&self, data: Vec<u8>) -> Outcome {
        loop {
            match self.node.handle().publish(TOPIC, data.clone()).await {
                Err(AviP2pError::Congested { .. }) => sleep(Duration::from_millis(5)).await,
                other => return other.map_err(text),
            }
        }
    }

    /// Waits until it knows that a peer subscribes.
    async fn knows(&self, peer: &Party) -> Outcome {
        let id = PeerId::new(peer.id.as_str());
        let known = async {
            while !self.node.handle().peer_info(&id).await.is_ok_and(|info| info.topics.iter().any(|at| at == TOPIC)) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(WITHIN, known).await.map_err(|_| format!("ours does not hear that {} subscribes", peer.name))
    }
}

async fn note(mut events: EventReceiver, told: watch::Sender<Vec<Notice>>) {
    while let Some(event) = events.recv().await {
        let notice = match event {
            AviEvent::PeerConnected { peer_id, .. } => Notice::Connected(peer_id.to_string()),
            AviEvent::PeerDisconnected { peer_id } => Notice::Disconnected(peer_id.to_string()),
            AviEvent::Message { from, data, .. } => Notice::Message { from: from.to_string(), data },
            AviEvent::AudioStreamClosed { reason, .. } => Notice::CallEnded(format!("{reason:?}")),
            other => Notice::Trouble(format!("{other:?}")),
        };
        told.send_modify(|notices| notices.push(notice));
    }
}

/// A peer that somebody else wrote.
struct Foreign {
    party: Party,
    stdin: Mutex<ChildStdin>,
    /// Killed when dropped.
    child: Child,
}

#[derive(Clone)]
struct Options {
    ping: bool,
    kad: bool,
    /// What its identity is made of, if its key is Ed25519.
    seed: [u8; 32],
    key: &'static str,
    network_key: Option<[u8; 32]>,
    /// Whether Noise gets the network key too.
    prologue: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { ping: true, kad: false, seed: seed(), key: "Ed25519", network_key: None, prologue: true }
    }
}

impl Foreign {
    async fn start(language: Language) -> Outcome<Self> {
        Self::start_with(language, Options::default()).await
    }

    async fn start_with(language: Language, options: Options) -> Outcome<Self> {
        let Options { ping, kad, seed, key, network_key, prologue } = options;
        let options = json!({ "topic": TOPIC, "ping": ping, "kad": kad, "seed": hex(seed), "key": key,
            "network_key": network_key.map(hex), "prologue": prologue });
        let mut child = language.program("peer", &options.to_string())?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let (told, notices) = watch::channel(Vec::new());
        note_lines(child.stdout.take(), &told, notice)?;
        note_lines(child.stderr.take(), &told, |line| Notice::Trouble(line.to_owned()))?;
        let mut party = Party { name: language.name(), id: String::new(), address: String::new(), notices };
        let started = |seen: &[Notice]| {
            seen.iter().find_map(|notice| match notice {
                Notice::Started { id, address } => Some((id.clone(), address.clone())),
                _ => None,
            })
        };
        party.until("its start", |seen| started(seen).is_some()).await?;
        (party.id, party.address) = started(&party.notices.borrow()).unwrap_or_default();
        Ok(Self { party, stdin: Mutex::new(stdin), child })
    }

    async fn command(&self, command: Value) -> Outcome {
        self.stdin.lock().await.write_all(format!("{command}\n").as_bytes()).await.map_err(text)
    }

    async fn dial(&self, to: &Party) -> Outcome {
        self.command(json!({ "command": "dial", "address": to.address })).await
    }

    async fn hang_up(&self, on: &Ours) -> Outcome {
        self.command(json!({ "command": "hang_up", "peer": on.party.id })).await
    }

    async fn publish(&self, data: &[u8]) -> Outcome {
        let data: String = data.iter().map(|byte| char::from(*byte)).collect();
        self.command(json!({ "command": "publish", "data": data })).await
    }

    /// Both know that the other subscribes.
    async fn meets(&self, ours: &Ours, times: usize) -> Outcome {
        self.party.connected_to(&ours.party, times).await?;
        ours.party.connected_to(&self.party, times).await?;
        let subscribed = Notice::Subscribed(ours.party.id.clone());
        self.party.until("ours subscribes", |seen| count(seen, &subscribed) >= times).await?;
        ours.knows(&self.party).await
    }

    /// Joins a node.
    async fn join(&self, ours: &Ours) -> Outcome {
        self.dial(&ours.party).await?;
        self.meets(ours, 1).await
    }
}

/// Notes each line that a process writes.
fn note_lines(
    from: Option<impl AsyncRead + Send + Unpin + 'static>,
    told: &watch::Sender<Vec<Notice>>,
    notice: fn(&str) -> Notice,
) -> Outcome {
    let (from, told) = (from.ok_or("no pipe")?, told.clone());
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            told.send_modify(|notices| notices.push(notice(&line)));
        }
    });
    Ok(())
}

fn notice(line: &str) -> Notice {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return Notice::Trouble(line.to_owned()) };
    let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    match event["event"].as_str() {
        Some("started") => Notice::Started { id: field("peer"), address: field("address") },
        Some("connected") => Notice::Connected(field("peer")),
        Some("disconnected") => Notice::Disconnected(field("peer")),
        Some("subscribed") => Notice::Subscribed(field("peer")),
        Some("found") => Notice::Found(field("peer")),
        Some("message") => {
            let data = field("data").chars().filter_map(|char| u8::try_from(char).ok()).collect();
            Notice::Message { from: field("from"), data }
        }
        _ => Notice::Trouble(line.to_owned()),
    }
}

/// Messages of one author that differ in all, with every value of a byte.
fn messages(label: &str, number: usize, bytes: usize) -> Vec<Vec<u8>> {
    let message = |index: usize| {
        let mut data = format!("{label} {index} ").into_bytes();
        let filling = (0..).map(|at: usize| (at + index) as u8);
        let missing = bytes.saturating_sub(data.len());
        data.extend(filling.take(missing));
        data
    };
    (0..number).map(message).collect()
}

/// Messages go both ways, none lost, none twice.
async fn talk(ours: &Ours, foreign: &Foreign, label: &str, number: usize, bytes: usize) -> Outcome<[Duration; 2]> {
    let (from_ours, from_foreign) =
        (messages(&format!("ours {label}"), number, bytes), messages(&format!("theirs {label}"), number, bytes));
    let began = Instant::now();
    for (index, data) in from_ours.iter().enumerate() {
        ours.publish(data.clone()).await?;
        if foreign.party.name == "py" && index % 16 == 15 {
            // py-libp2p drops what its application has not read, beyond 32 messages.
            foreign.party.hears(&ours.party, &from_ours[index - 15..=index]).await?;
        }
    }
    foreign.party.hears(&ours.party, &from_ours).await?;
    let there = began.elapsed();
    let began = Instant::now();
    for data in &from_foreign {
        foreign.publish(data).await?;
    }
    ours.party.hears(&foreign.party, &from_foreign).await?;
    let back = began.elapsed();
    // A copy that comes later would be counted now.
    foreign.party.hears(&ours.party, &from_ours).await?;
    Ok([there, back])
}

async fn idle(language: Language) -> Outcome<String> {
    const MINUTE: Duration = Duration::from_secs(60);
    let (ours, foreign) = (Ours::start().await?, Foreign::start(language).await?);
    foreign.join(&ours).await?;
    sleep(MINUTE).await;
    for (party, other) in [(&ours.party, &foreign.party), (&foreign.party, &ours.party)] {
        let ended = party.count(&Notice::Disconnected(other.id.clone()));
        if ended > 0 {
            return Err(format!("disconnected {ended} times; {}", party.trouble()));
        }
    }
    talk(&ours, &foreign, "after", 1, 100).await?;
    Ok(format!("connected for {MINUTE:?}, then a message each way"))
}

async fn many(language: Language) -> Outcome<String> {
    let (ours, foreign) = (Ours::start().await?, Foreign::start(language).await?);
    foreign.join(&ours).await?;
    let [there, back] = talk(&ours, &foreign, "many", 1000, 100).await?;
    Ok(format!("1,000 there in {there:.1?}, 1,000 back in {back:.1?}; none lost, none twice"))
}

async fn large(language: Language) -> Outcome<String> {
    let (ours, foreign) = (Ours::start().await?, Foreign::start(language).await?);
    foreign.join(&ours).await?;
    let [there, back] = talk(&ours, &foreign, "large", 20, LARGE_BYTES).await?;
    Ok(format!("20 there in {there:.1?}, 20 back in {back:.1?}"))
}

/// Two foreign peers that know only a node of ours hear each other through it.
async fn relay(one: Language, other: Language) -> Outcome<String> {
    let ours = Ours::start().await?;
    let (one, other) = (Foreign::start(one).await?, Foreign::start(other).await?);
    one.join(&ours).await?;
    other.join(&ours).await?;
    let (from_one, from_other) = (messages("one", 100, 100), messages("other", 100, 100));
    let mut slowest = Duration::ZERO;
    for (a, b) in from_one.iter().zip(&from_other) {
        let began = Instant::now();
        one.publish(a).await?;
        other.publish(b).await?;
        for (party, author, message) in [(&other.party, &one.party, a), (&one.party, &other.party, b)] {
            party.hears(author, std::slice::from_ref(message)).await?;
        }
        slowest = slowest.max(began.elapsed());
    }
    for (party, author, messages) in [
        (&other.party, &one.party, &from_one),
        (&one.party, &other.party, &from_other),
        (&ours.party, &one.party, &from_one),
        (&ours.party, &other.party, &from_other),
    ] {
        party.hears(author, messages).await?;
    }
    if one.party.count(&Notice::Connected(other.party.id.clone())) > 0 {
        return Err("they have met without us".to_owned());
    }
    Ok(format!("100 each way, each from its author; the slowest exchange took {slowest:.1?}"))
}

async fn hang_up(language: Language) -> Outcome<String> {
    let (ours, foreign) = (Ours::start().await?, Foreign::start(language).await?);
    foreign.join(&ours).await?;
    let mut slowest = Duration::ZERO;
    for round in 1..=5 {
        talk(&ours, &foreign, &round.to_string(), 3, 100).await?;
        foreign.hang_up(&ours).await?;
        ours.party.disconnected_from(&foreign.party, round).await?;
        let began = Instant::now();
        foreign.dial(&ours.party).await?;
        foreign.meets(&ours, round + 1).await?;
        talk(&ours, &foreign, &format!("{round} again"), 3, 100).await?;
        slowest = slowest.max(began.elapsed());
    }
    Ok(format!("5 times; the slowest return to messages both ways took {slowest:.1?}"))
}

async fn killed(language: Language) -> Outcome<String> {
    let options = Options::default();
    let (ours, mut foreign) = (Ours::start().await?, Foreign::start_with(language, options.clone()).await?);
    foreign.join(&ours).await?;
    talk(&ours, &foreign, "before", 3, 100).await?;
    foreign.child.kill().await.map_err(text)?;
    let began = Instant::now();
    let foreign = Foreign::start_with(language, options).await?;
    foreign.dial(&ours.party).await?;
    foreign.party.connected_to(&ours.party, 1).await?;
    let subscribed = Notice::Subscribed(ours.party.id.clone());
    foreign.party.until("ours subscribes", |seen| seen.contains(&subscribed)).await?;
    ours.knows(&foreign.party).await?;
    talk(&ours, &foreign, "after", 3, 100).await?;
    Ok(format!("messages both ways {:.1?} after it was killed", began.elapsed()))
}

async fn dialled(language: Language) -> Outcome<String> {
    let foreign = Foreign::start(language).await?;
    let bootstrap_peers = vec![foreign.party.address.clone()];
    let ours = Ours::start_with(AviP2pConfig { bootstrap_peers, ..Default::default() }).await?;
    foreign.meets(&ours, 1).await?;
    talk(&ours, &foreign, "first", 3, 100).await?;
    foreign.hang_up(&ours).await?;
    let began = Instant::now();
    foreign.meets(&ours, 2).await?;
    talk(&ours, &foreign, "second", 3, 100).await?;
    Ok(format!("a bootstrap peer; messages both ways {:.1?} after it hung up", began.elapsed()))
}

async fn without_ping(language: Language) -> Outcome<String> {
    const WATCHED: Duration = Duration::from_secs(25);
    let options = Options { ping: false, ..Options::default() };
    let (ours, foreign) = (Ours::start().await?, Foreign::start_with(language, options).await?);
    foreign.join(&ours).await?;
    // Silence ends a connection after 15 s.
    sleep(WATCHED).await;
    talk(&ours, &foreign, "after", 3, 100).await?;
    match ours.party.count(&Notice::Disconnected(foreign.party.id.clone())) {
        0 => Ok(format!("connected for {WATCHED:?}, then messages both ways")),
        ended => Err(format!("disconnected {ended} times; {}", ours.party.trouble())),
    }
}

async fn private(language: Language) -> Outcome<String> {
    let network_key = Some(NetworkKey::from_bytes(NETWORK_KEY));
    let ours = Ours::start_with(AviP2pConfig { network_key, ..Default::default() }).await?;
    let options = |network_key, prologue| Options { network_key, prologue, ..Options::default() };
    let member = Foreign::start_with(language, options(Some(NETWORK_KEY), true)).await?;
    member.join(&ours).await?;
    talk(&ours, &member, "private", 100, 100).await?;
    for (network_key, prologue) in [(None, false), (Some(NETWORK_KEY), false), (Some([1; 32]), true)] {
        let stranger = Foreign::start_with(language, options(network_key, prologue)).await?;
        stranger.dial(&ours.party).await?;
        let is_told = |seen: &[Notice]| seen.iter().any(|notice| matches!(notice, Notice::Trouble(_)));
        stranger.party.until("a refusal", is_told).await?;
        if ours.party.count(&Notice::Connected(stranger.party.id.clone())) > 0 {
            return Err(format!("a stranger was let in: {network_key:?}, {prologue}"));
        }
    }
    Ok("100 each way; without the key, with another, or without the prologue: refused".to_owned())
}

/// It speaks no audio: the call ends, the connection does not.
async fn call(language: Language) -> Outcome<String> {
    let (ours, foreign) = (Ours::start().await?, Foreign::start(language).await?);
    foreign.join(&ours).await?;
    let began = Instant::now();
    ours.node.handle().request_stream(PeerId::new(foreign.party.id.as_str())).await.map_err(text)?;
    let reason = |seen: &[Notice]| {
        seen.iter().find_map(|notice| match notice {
            Notice::CallEnded(reason) => Some(reason.clone()),
            _ => None,
        })
    };
    ours.party.until("the end of the call", |seen| reason(seen).is_some()).await?;
    let took = began.elapsed();
    let why = reason(&ours.party.notices.borrow()).unwrap_or_default();
    talk(&ours, &foreign, "after", 3, 100).await?;
    match ours.party.count(&Notice::Disconnected(foreign.party.id.clone())) {
        0 => Ok(format!("closed after {took:.1?} with {why}; messages both ways afterwards")),
        _ => Err("the call ended the connection".to_owned()),
    }
}

/// Two nodes of ours find each other through a third one, which a peer without Kademlia is connected to as well.
async fn without_kad(language: Language) -> Outcome<String> {
    let (middle, foreign) = (Ours::start().await?, Foreign::start(language).await?);
    foreign.join(&middle).await?;
    let config = AviP2pConfig { bootstrap_peers: vec![middle.party.address.clone()], ..Default::default() };
    let (near, far) = (Ours::start_with(config.clone()).await?, Ours::start_with(config).await?);
    let began = Instant::now();
    near.party.connected_to(&far.party, 1).await?;
    let took = began.elapsed();
    talk(&middle, &foreign, "without kad", 3, 100).await?;
    match middle.party.count(&Notice::Disconnected(foreign.party.id.clone())) {
        0 => Ok(format!("connected; two nodes of ours found each other beside it in {took:.1?}")),
        ended => Err(format!("disconnected {ended} times; {}", middle.party.trouble())),
    }
}

/// A peer whose key is not Ed25519 takes part, and so does one that only forwards its messages.
async fn other_keys(language: Language) -> Outcome<String> {
    for key in ["secp256k1", "RSA"] {
        let options = Options { key, ..Options::default() };
        let (ours, foreign) = (Ours::start().await?, Foreign::start_with(language, options.clone()).await?);
        foreign.join(&ours).await.map_err(|error| format!("{key}: {error}"))?;
        talk(&ours, &foreign, key, 3, 100).await.map_err(|error| format!("{key}: {error}"))?;
    }
    Ok("secp256k1 and RSA: messages both ways".to_owned())
}

/// Messages whose author has another kind of key, and is known only to a foreign neighbour, are heard through that one.
async fn other_authors(language: Language) -> Outcome<String> {
    for key in ["secp256k1", "RSA"] {
        let options = Options { key, ..Options::default() };
        let (ours, neighbour) = (Ours::start().await?, Foreign::start(language).await?);
        let author = Foreign::start_with(language, options.clone()).await?;
        neighbour.join(&ours).await?;
        author.dial(&neighbour.party).await?;
        author.party.connected_to(&neighbour.party, 1).await?;
        let subscribed = Notice::Subscribed(author.party.id.clone());
        neighbour.party.until("the author subscribes", |seen| seen.contains(&subscribed)).await?;
        let messages = messages("far", 10, 100);
        for message in &messages {
            author.publish(message).await?;
            neighbour.party.hears(&author.party, std::slice::from_ref(message)).await?;
        }
        ours.party.hears(&author.party, &messages).await.map_err(|error| format!("{key}: {error}"))?;
    }
    Ok("secp256k1 and RSA: 10 messages each, through a neighbour".to_owned())
}

/// The program of docs/interop.md greets, and prints what it hears.
async fn documented(language: Language) -> Outcome<String> {
    let ours = Ours::start().await?;
    let mut child = language.program("join", &ours.party.address)?;
    let (told, notices) = watch::channel(Vec::new());
    note_lines(child.stdout.take(), &told, |line| Notice::Said(line.to_owned()))?;
    note_lines(child.stderr.take(), &told, |line| Notice::Trouble(line.to_owned()))?;
    let program = Party { name: language.name(), id: String::new(), address: String::new(), notices };
    let greets = |seen: &[Notice]| seen.iter().any(|notice| matches!(notice, Notice::Message { .. }));
    let greeted = ours.party.until("the greeting", greets).await;
    greeted.map_err(|error| format!("{error}; the program: {}", program.trouble()))?;
    ours.publish(b"Hello from AVI".to_vec()).await?;
    let line = format!("Msg from {} on {TOPIC}: Hello from AVI", ours.party.id);
    program.until("our greeting", |seen| seen.contains(&Notice::Said(line.clone()))).await?;
    Ok("greets, and prints our greeting".to_owned())
}

/// Through a node of ours, a peer with Kademlia under our protocol id finds another node of ours.
async fn kademlia() -> Outcome<String> {
    let middle = Ours::start().await?;
    let bootstrap_peers = vec![middle.party.address.clone()];
    let far = Ours::start_with(AviP2pConfig { bootstrap_peers, ..Default::default() }).await?;
    middle.party.connected_to(&far.party, 1).await?;
    let foreign = Foreign::start_with(Language::Js, Options { kad: true, ..Options::default() }).await?;
    foreign.join(&middle).await?;
    foreign.command(json!({ "command": "find", "peer": far.party.id })).await?;
    let found = Notice::Found(far.party.id.clone());
    foreign.party.until("the other node", |seen| seen.contains(&found)).await?;
    Ok("found a node of ours through another one".to_owned())
}

/// Runs a scenario, and prints its line. Whether it passed.
async fn play(peers: String, name: &str, scenario: BoxFuture<'static, Outcome<String>>) -> bool {
    // In a task of its own, so that a panic is its failure alone.
    let outcome = tokio::spawn(scenario).await.unwrap_or_else(|error| Err(error.to_string()));
    let (verdict, figures) = match &outcome {
        Ok(figures) => ("passed", figures),
        Err(why) => ("FAILED", why),
    };
    println!("{peers:<6} {name:<24} {verdict}  {figures}");
    outcome.is_ok()
}

#[tokio::main]
async fn main() -> ExitCode {
    let only = std::env::args().nth(1).unwrap_or_default();
    let languages: Vec<_> = [Language::Js, Language::Py].into_iter().filter(|it| it.folder().is_some()).collect();
    if languages.is_empty() {
        println!("interop: skipped, tests/interop/run installs the peers and starts this");
        return ExitCode::SUCCESS;
    }
    let mut lanes: Vec<BoxFuture<'static, bool>> = Vec::new();
    let mut lane = |plays: Vec<(String, &'static str, BoxFuture<'static, Outcome<String>>)>| {
        let only = only.clone();
        lanes.push(
            async move {
                let mut passed = true;
                for (peers, name, scenario) in plays {
                    if name.contains(&only) {
                        passed &= play(peers, name, scenario).await;
                    }
                }
                passed
            }
            .boxed(),
        );
    };
    for language in &languages {
        let plays = SCENARIOS.iter().map(|(name, scenario)| (language.name().to_owned(), *name, scenario(*language)));
        let (idle, others): (Vec<_>, Vec<_>) = plays.partition(|(_, name, _)| name.starts_with("idle"));
        lane(idle);
        lane(others);
    }
    if languages.contains(&Language::Js) {
        lane(vec![("js".to_owned(), "kademlia", kademlia().boxed())]);
    }
    if languages.len() == 2 {
        let both = relay(Language::Js, Language::Py).boxed();
        lane(vec![("js+py".to_owned(), "relay through us", both)]);
    }
    let passed = futures::future::join_all(lanes).await;
    ExitCode::from(u8::from(passed.contains(&false)))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new one for each peer.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has randomness");
    seed
}
