//! Do nodes on a real local network find each other, and only where they may? Each host is a network namespace with
//! real multicast, made and removed by the test. That takes root, and `ip` of iproute2; where they are missing the tests
//! say so and pass, unless `AVI_NETNS=required`.
#![cfg(target_os = "linux")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pHandle, EventReceiver, Interfaces, StreamId};
use namespace::{Namespace, or_skip, remove_leftovers};
use smol::channel;
use smol::future::FutureExt;

#[path = "emulator/namespace.rs"]
mod namespace;

const WITHIN: Duration = Duration::from_secs(40);
/// What a child is to be, in its environment.
const ROLE: &str = "AVI_NETNS_ROLE";
/// Before the options of a node that is a task of tokio's.
const ON_TOKIO: &str = "on-tokio";

// The network.

/// A switch for each local network, in a namespace of its own.
struct Lan(Namespace);

impl Lan {
    /// `None`, said aloud, where this machine does not allow it.
    fn new() -> Option<Self> {
        let attempt = || -> Result<Self, String> {
            remove_leftovers()?;
            let switch = Namespace::new()?;
            for bridge in ["br0", "br1"] {
                switch.try_ip(&format!("link add {bridge} type bridge"))?;
                switch.try_ip(&format!("link set {bridge} up"))?;
            }
            let host = Namespace::new()?;
            switch.try_ip(&format!("link add probe type veth peer name eth0 netns {}", host.0))?;
            Command::new("ip").args(["netns", "exec", &host.0, "true"]).status().map_err(|error| error.to_string())?;
            switch.try_ip("link del probe")?;
            Ok(Self(switch))
        };
        or_skip(attempt())
    }

    fn host(&self) -> Namespace {
        Namespace::new().unwrap()
    }

    /// Lays a cable from a host's new interface to a switch, and numbers it.
    fn plug(&self, host: &Namespace, interface: &str, bridge: &str, address: &str) {
        let port = format!("{}{interface}", host.0.rsplit('-').next().unwrap());
        self.0.ip(&format!("link add p{port} type veth peer name {interface} netns {}", host.0));
        self.0.ip(&format!("link set p{port} master {bridge} up"));
        host.ip(&format!("addr add {address} dev {interface}"));
        host.ip(&format!("link set {interface} up"));
    }

    /// A host on the first switch.
    fn host_at(&self, address: &str) -> Namespace {
        let host = self.host();
        self.plug(&host, "eth0", "br0", address);
        host
    }
}

// The processes.

/// This program once more, in a namespace, as something else.
struct Process {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    seen: RefCell<Vec<String>>,
}

impl Process {
    fn run(host: &Namespace, role: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut child = host
            .command(&program)
            .args(["--exact", "what_runs_on_a_host", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { input: child.stdin.take().unwrap(), child, lines, seen: RefCell::default() }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the process reads");
    }

    /// The rest of the first line that has not been waited for and begins so. It may have been said before others.
    #[track_caller]
    fn wait(&self, beginning: &str) -> String {
        let deadline = Instant::now() + WITHIN;
        let mut at = 0;
        loop {
            let mut seen = self.seen.borrow_mut();
            if let Some(found) = seen[at..].iter().position(|line| line.starts_with(beginning)) {
                return seen.remove(at + found)[beginning.len()..].trim().to_owned();
            }
            at = seen.len();
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => seen.push(line),
                Err(error) => panic!("no {beginning:?} ({error}) in {seen:#?}"),
            }
        }
    }

    /// Whether it has said a line that begins so, which was not waited for.
    fn has_said(&self, beginning: &str) -> bool {
        let mut seen = self.seen.borrow_mut();
        seen.extend(self.lines.try_iter());
        seen.iter().any(|line| line.starts_with(beginning))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node on a host.
struct Node {
    process: Process,
    id: String,
    listening: String,
}

impl Node {
    /// Options as in [`configure`], behind [`ON_TOKIO`] or not.
    fn run(host: &Namespace, options: &str) -> Self {
        let process = Process::run(host, &format!("node {options}"));
        let started = process.wait("started ");
        let (id, listening) = started.split_once(' ').unwrap_or((&started, ""));
        Self { id: id.to_owned(), listening: listening.to_owned(), process }
    }

    /// Waits until it is connected to another. Returns at which address.
    #[track_caller]
    fn meets(&self, other: &Node) -> String {
        self.process.wait(&format!("+ {}", other.id))
    }

    #[track_caller]
    fn loses(&self, other: &Node) {
        self.process.wait(&format!("- {}", other.id));
    }

    /// Waits for a connection that stays: of two that meet each other at once, one ends.
    #[track_caller]
    fn settles_with(&mut self, other: &Node) {
        self.meets(other);
        self.ask_until(&format!("since {}", other.id), |answer| answer.parse().is_ok_and(|seconds: f32| seconds > 1.0));
        self.process.seen.borrow_mut().clear();
    }

    #[track_caller]
    fn ask_until(&mut self, question: &str, is_good: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + WITHIN;
        loop {
            self.process.say(question);
            let answer = self.process.wait(&format!("{} ", question.split(' ').next().unwrap()));
            if is_good(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{question:?} is still answered with {answer:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn port(&self) -> &str {
        self.listening.rsplit('/').next().unwrap()
    }

    /// The IP addresses that it listens on.
    fn ips(&self) -> BTreeSet<&str> {
        ips(&self.listening)
    }
}

fn ips(addresses: &str) -> BTreeSet<&str> {
    addresses.split(' ').filter_map(|address| address.split('/').nth(2)).collect()
}

#[test]
fn what_runs_on_a_host() {
    let Ok(role) = std::env::var(ROLE) else { return };
    println!();
    match role.split_once(' ') {
        Some(("node", options)) => match options.strip_prefix(ON_TOKIO) {
            Some(options) => {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.block_on(async { run_node(AviP2p::start_on_tokio(configure(options)).await.unwrap()).await });
            }
            None => smol::block_on(async { run_node(AviP2p::start(configure(options)).await.unwrap()).await }),
        },
        _ => {
            let _port = UdpSocket::bind("0.0.0.0:5353").unwrap();
            println!("holds the port of mDNS");
            let _ = std::io::stdin().read_line(&mut String::new());
        }
    }
}

/// From `key=value` words.
fn configure(options: &str) -> AviP2pConfig {
    let mut config = AviP2pConfig::default();
    for option in options.split_whitespace() {
        let (key, value) = option.split_once('=').unwrap();
        let names = || value.split(',').map(str::to_owned).collect();
        match key {
            "ip" => config.listen_ips = value.split(',').map(|ip| ip.parse().unwrap()).collect(),
            "port" => config.listen_port = value.parse().unwrap(),
            "only" => config.interfaces = Interfaces::Only(names()),
            "except" => config.interfaces = Interfaces::Except(names()),
            "bootstrap" => config.bootstrap_peers = vec![value.to_owned()],
            "mdns" => config.enable_mdns = value.parse().unwrap(),
            other => panic!("{other}"),
        }
    }
    config
}

async fn run_node((node, mut events): (AviP2p, EventReceiver)) {
    let (lines, questions) = channel::unbounded();
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| lines.try_send(line))
    });
    let mut call = None;
    loop {
        let event = async { Ok(events.recv().await.unwrap()) };
        let question = async { Err(questions.recv().await) };
        match event.or(question).await {
            Ok(AviEvent::AudioStreamRequested { stream_id, .. }) => {
                node.handle().accept_audio_stream(stream_id).await.unwrap();
                call = Some(stream_id);
            }
            Ok(event) => show(event),
            Err(Ok(question)) => answer(&node.handle(), &question, &mut call).await,
            // The test has ended.
            Err(Err(_)) => return,
        }
    }
}

fn show(event: AviEvent) {
    match event {
        AviEvent::Started { local_peer_id, listen_addresses } => {
            println!("started {local_peer_id} {}", listen_addresses.join(" "));
        }
        AviEvent::ListenAddressesChanged { listen_addresses } => println!("listens {}", listen_addresses.join(" ")),
        AviEvent::PeerDiscovered { peer_id } => println!("discovered {peer_id}"),
        AviEvent::PeerConnected { peer_id, address } => println!("+ {peer_id} {address}"),
        AviEvent::PeerDisconnected { peer_id } => println!("- {peer_id}"),
        AviEvent::AudioStreamAccepted { .. } => println!("accepted"),
        AviEvent::AudioData { data, .. } => println!("heard {}", String::from_utf8(data).unwrap()),
        AviEvent::AudioStreamClosed { reason, .. } => println!("closed {reason:?}"),
        AviEvent::BootstrapFailed { reason, .. } => println!("failed {reason}"),
        AviEvent::DiscoveryUnavailable { reason, .. } => println!("unavailable {reason}"),
        _ => {}
    }
}

async fn answer(handle: &AviP2pHandle, question: &str, call: &mut Option<StreamId>) {
    let Some((word, peer)) = question.split_once(' ') else {
        return println!("ignored {}", handle.stats().await.unwrap().mdns_ignored);
    };
    match word {
        "call" => return *call = Some(handle.request_stream(avi_p2p::PeerId::new(peer)).await.unwrap()),
        "say" => return handle.send_audio(call.unwrap(), peer.as_bytes().to_vec()).await.unwrap(),
        _ => {}
    }
    let info = handle.peer_info(&avi_p2p::PeerId::new(peer)).await.unwrap();
    match word {
        "since" => println!("since {}", info.connected_for.unwrap_or_default().as_secs_f32()),
        _ => println!("where {}", info.addresses.join(" ")),
    }
}

// What is promised.

/// The same with different options, which takes long and little.
fn at_once(variants: [&'static str; 2], test: fn(&str)) {
    let name = || std::thread::current().name().unwrap_or_default().to_owned();
    let run = |options| std::thread::Builder::new().name(name()).spawn(move || test(options)).unwrap();
    variants.map(run).into_iter().for_each(|variant| variant.join().unwrap());
}

#[test]
fn hosts_on_a_local_network_find_each_other_and_one_that_comes_late() {
    let Some(lan) = Lan::new() else { return };
    let hosts = ["192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24"].map(|address| lan.host_at(address));
    let mut nodes = hosts.each_ref().map(|host| Node::run(host, ""));
    for node in &nodes {
        for other in nodes.iter().filter(|other| other.id != node.id) {
            node.meets(other);
        }
    }
    // They dial each other at the same time. One of two connections ends, and no application hears of it.
    let ids = nodes.each_ref().map(|node| node.id.clone());
    for node in &mut nodes {
        let own = node.id.clone();
        for other in ids.iter().filter(|other| **other != own) {
            node.ask_until(&format!("since {other}"), |answer| answer.parse().is_ok_and(|seconds: f32| seconds > 6.0));
        }
    }
    for node in &nodes {
        assert!(!node.process.has_said("- "), "{} has lost a peer", node.id);
    }
    let host = lan.host_at("192.0.2.4/24");
    let late = Node::run(&host, ON_TOKIO);
    for node in &nodes {
        late.meets(node);
        node.meets(&late);
    }
}

#[test]
fn a_host_that_is_renumbered_is_reached_at_its_new_address() {
    at_once(["", "except=tun0"], |options| {
        let Some(lan) = Lan::new() else { return };
        let hosts = ["192.0.2.1/24", "192.0.2.2/24"].map(|address| lan.host_at(address));
        let [mut stays, mut moves] = hosts.each_ref().map(|host| Node::run(host, options));
        stays.settles_with(&moves);
        moves.settles_with(&stays);
        hosts[1].ip("addr del 192.0.2.2/24 dev eth0");
        assert!(!ips(&moves.process.wait("listens")).contains("192.0.2.2"));
        hosts[1].ip("addr add 192.0.2.9/24 dev eth0");
        assert!(ips(&moves.process.wait("listens")).contains("192.0.2.9"));
        // Its connection is replaced, so nobody is told that it is gone.
        let address = format!("/ip4/192.0.2.9/tcp/{}", moves.port());
        stays.ask_until(&format!("where {}", moves.id), |answer| answer.contains(&address));
        stays.process.say(&format!("call {}", moves.id));
        stays.process.wait("accepted");
        for (node, other) in [(&stays, &moves), (&moves, &stays)] {
            assert!(!node.process.has_said(&format!("- {}", other.id)));
        }
    });
}

#[test]
fn a_call_goes_on_when_a_host_is_renumbered() {
    let Some(lan) = Lan::new() else { return };
    let hosts = ["192.0.2.1/24", "192.0.2.2/24"].map(|address| lan.host_at(address));
    let [mut stays, mut moves] = hosts.each_ref().map(|host| Node::run(host, ""));
    stays.settles_with(&moves);
    moves.settles_with(&stays);
    stays.process.say(&format!("call {}", moves.id));
    stays.process.wait("accepted");
    hosts[1].ip("addr del 192.0.2.2/24 dev eth0");
    hosts[1].ip("addr add 192.0.2.9/24 dev eth0");
    // What is said before the call goes on may be too old then.
    let moved = Instant::now();
    let deadline = moved + WITHIN;
    for word in 0.. {
        stays.process.say(&format!("say {word}"));
        moves.process.say(&format!("say {word}"));
        if stays.process.has_said("heard") && moves.process.has_said("heard") {
            break;
        }
        assert!(Instant::now() < deadline, "nobody is heard");
        std::thread::sleep(Duration::from_millis(100));
    }
    let silent_for = moved.elapsed();
    println!("both are heard again {silent_for:?} after the move");
    // A silence is noticed after nine seconds. The host knows at once that its address has changed.
    assert!(silent_for < Duration::from_secs(5), "{silent_for:?}");
    assert!(!stays.process.has_said("closed") && !moves.process.has_said("closed"));
}

#[test]
fn a_host_that_was_cut_off_is_connected_again() {
    let Some(lan) = Lan::new() else { return };
    let hosts = ["192.0.2.1/24", "192.0.2.2/24"].map(|address| lan.host_at(address));
    let [mut one, mut two] = hosts.each_ref().map(|host| Node::run(host, ""));
    one.settles_with(&two);
    two.settles_with(&one);
    hosts[1].ip("link set eth0 down");
    one.loses(&two);
    two.loses(&one);
    hosts[1].ip("link set eth0 up");
    one.meets(&two);
    two.meets(&one);
}

#[test]
fn an_interface_that_is_denied_is_neither_listened_on_nor_announced_nor_believed() {
    let Some(lan) = Lan::new() else { return };
    let host = lan.host_at("192.0.2.1/24");
    lan.plug(&host, "eth1", "br1", "198.51.100.1/24");
    // As containers have it, and a VPN.
    host.ip("link add docker0 type bridge");
    host.ip("addr add 203.0.113.1/24 dev docker0");
    host.ip("link set docker0 up");
    host.ip("link add tun0 type veth peer name far");
    host.ip("addr add 10.8.0.1/24 dev tun0");
    host.ip("link set tun0 up");
    let mut node = Node::run(&host, "except=eth1,docker*,tun*");
    assert_eq!(node.ips(), BTreeSet::from(["127.0.0.1", "192.0.2.1"]));

    let near = lan.host_at("192.0.2.2/24");
    let near = Node::run(&near, "");
    near.meets(&node);

    let beyond = [lan.host(), lan.host()];
    lan.plug(&beyond[0], "eth0", "br1", "198.51.100.2/24");
    lan.plug(&beyond[1], "eth0", "br1", "198.51.100.3/24");
    let bootstrap = format!("bootstrap=/ip4/198.51.100.1/tcp/{}", node.port());
    let beyond = [Node::run(&beyond[0], &bootstrap), Node::run(&beyond[1], "")];
    assert!(beyond[0].process.wait("failed").contains("refused"));
    // They ask on the network where the node does not belong, and all who do have answered.
    beyond[0].meets(&beyond[1]);
    beyond[1].meets(&beyond[0]);
    node.ask_until("ignored", |answer| answer != "0");
    for other in &beyond {
        assert!(!node.process.has_said(&format!("discovered {}", other.id)));
        assert!(!other.process.has_said(&format!("discovered {}", node.id)));
    }
}

#[test]
fn addresses_of_the_interfaces_that_are_named_are_followed_on_one_port() {
    let Some(lan) = Lan::new() else { return };
    let host = lan.host_at("192.0.2.1/24");
    let node = Node::run(&host, "only=wlan0 ip=0.0.0.0,:: mdns=false");
    assert_eq!(node.listening, "", "there is none yet, and it starts");
    lan.plug(&host, "wlan0", "br1", "198.51.100.1/24");
    let first = node.process.wait("listens");
    assert_eq!(ips(&first), BTreeSet::from(["198.51.100.1"]));
    let port = first.rsplit('/').next().unwrap();
    // Of IPv6, once it is known that nobody else has it.
    host.ip("addr add fd00::1/64 dev wlan0");
    let both = format!("/ip4/198.51.100.1/tcp/{port} /ip6/fd00::1/tcp/{port}");
    assert_eq!(node.process.wait("listens"), both);
    host.ip("addr del 198.51.100.1/24 dev wlan0");
    assert_eq!(node.process.wait("listens"), format!("/ip6/fd00::1/tcp/{port}"));
    host.ip("addr add 198.51.100.1/24 dev wlan0");
    assert_eq!(node.process.wait("listens"), both);
    host.ip("link del wlan0");
    while !node.process.wait("listens").is_empty() {}
}

#[test]
fn nodes_meet_over_ipv6() {
    at_once(["ip=::", "ip=:: except=lo"], |options| {
        let Some(lan) = Lan::new() else { return };
        let hosts = ["fd00::1/64", "fd00::2/64"].map(|address| lan.host_at(address));
        let listens = Node::run(&hosts[0], &format!("{options} port=9000"));
        if !listens.ips().contains("fd00::1") {
            assert!(ips(&listens.process.wait("listens")).contains("fd00::1"));
        }
        let dials = Node::run(&hosts[1], &format!("{options} bootstrap=/ip6/fd00::1/tcp/9000"));
        assert_eq!(dials.meets(&listens), "/ip6/fd00::1/tcp/9000");
        assert!(listens.meets(&dials).starts_with("/ip6/fd00::2/"));
    });
}

#[test]
fn a_port_of_mdns_that_is_taken_is_told_once_and_mdns_begins_when_it_is_free() {
    let Some(lan) = Lan::new() else { return };
    let hosts = ["192.0.2.1/24", "192.0.2.2/24"].map(|address| lan.host_at(address));
    let mut holder = Process::run(&hosts[0], "holder");
    holder.wait("holds");
    let [one, two] = hosts.each_ref().map(|host| Node::run(host, ""));
    let reason = one.process.wait("unavailable");
    assert!(reason.contains("5353") && reason.contains("in use"), "{reason}");
    hosts[0].ip("addr add 192.0.2.11/24 dev eth0");
    assert!(ips(&one.process.wait("listens")).contains("192.0.2.11"));
    holder.say("that will do");
    holder.child.wait().unwrap();
    // It is tried again after a while, or when an address comes.
    hosts[0].ip("addr add fd00::1/64 dev eth0");
    one.meets(&two);
    two.meets(&one);
    assert!(!one.process.has_said("unavailable") && !two.process.has_said("unavailable"));
}
