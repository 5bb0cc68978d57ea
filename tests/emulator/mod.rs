//! How do two machines get a link between them that is slow, lossy or away, on one machine? Each is a network namespace
//! with a TUN device; a thread of this process carries the packets between them, as `avi_links` says: out of the
//! sender's uplink, then through the receiver's downlink.
#![allow(dead_code)]

mod attacker;
mod carrier;
pub mod namespace;
pub mod report;
mod tun;

use std::io::{self, PipeWriter};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use avi_links::{Link, Profile};

use carrier::Carrier;
use namespace::{Namespace, remove_leftovers};
use report::Report;
use tun::{DEVICE, MTU_BYTES, Tun};

/// A network for benchmarks (RFC 2544). Machine `n` is host `n` of it, from 1.
const NETWORK: [u8; 3] = [198, 18, 0];
const BROADCAST_HOST: u8 = 255;
/// Packets that wait for the emulator's thread. The queue of a slow link is in the emulator.
const DEVICE_QUEUE: usize = 2000;

/// Machines that reach each other, each through the link of its own.
pub struct Emulator {
    /// To drop it is to say stop. Before the machines, whose devices the thread reads.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<Report>>>,
    rules: Rules,
    machines: Vec<Machine>,
}

/// What is done to packets besides what the links do.
#[derive(Clone)]
struct Rules {
    /// From which machines no UDP packet goes further.
    blocked: Arc<[AtomicBool]>,
    /// Whether no packet goes further.
    is_cut: Arc<AtomicBool>,
    /// Whether each datagram is followed by forged ones, and comes again.
    is_attacked: Arc<AtomicBool>,
}

impl Rules {
    fn new(machines: usize) -> Self {
        let blocked = (0..machines).map(|_| AtomicBool::new(false)).collect();
        Self { blocked, is_cut: Arc::default(), is_attacked: Arc::default() }
    }

    fn blocks(&self, from: usize, packet: &[u8]) -> bool {
        let is_blocked = packet.get(9) == Some(&UDP) && self.blocked[from].load(Ordering::Relaxed);
        is_blocked || self.is_cut.load(Ordering::Relaxed)
    }

    fn forge(&self, packet: &[u8]) -> Vec<Rc<[u8]>> {
        if self.is_attacked.load(Ordering::Relaxed) { attacker::forge(packet) } else { Vec::new() }
    }
}

/// The number of the protocol in IPv4's header.
const UDP: u8 = 17;

/// What Linux does about congestion. A distribution may have chosen something else for this machine than Linux's default,
/// and figures would say more about that than about the link.
const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// Linux's default, and what it always allows: both wait for losses.
const ALGORITHMS: [&str; 2] = ["cubic", "reno"];

pub struct Machine {
    pub namespace: Namespace,
    pub ip: Ipv4Addr,
}

impl Emulator {
    /// A machine for each profile. What the links do by chance follows from the seed.
    pub fn start(profiles: &[Profile], seed: u64) -> Result<Self, String> {
        remove_leftovers()?;
        let (mut machines, mut tuns, mut links) = (Vec::new(), Vec::new(), Vec::new());
        for (profile, host) in profiles.iter().zip(1..BROADCAST_HOST) {
            let (machine, tun) = Machine::new(host)?;
            machines.push(machine);
            tuns.push(tun);
            links.push(Link::new(profile, seed.wrapping_add(host.into())));
        }
        let (stopped, stop) = io::pipe().map_err(|error| error.to_string())?;
        let rules = Rules::new(machines.len());
        let followed = rules.clone();
        let carry = move || Carrier::new(tuns, links, followed).run(&stopped);
        let thread = std::thread::Builder::new().name("emulator".to_owned()).spawn(carry);
        let thread = Some(thread.map_err(|error| error.to_string())?);
        Ok(Self { stop: Some(stop), thread, rules, machines })
    }

    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// Blocks the UDP packets that a machine sends from now on, or no more.
    pub fn block_udp(&self, from: usize, is_blocked: bool) {
        self.rules.blocked[from].store(is_blocked, Ordering::Relaxed);
    }

    /// From now on, no machine reaches another, or each does again.
    pub fn cut(&self, is_cut: bool) {
        self.rules.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// From now on, a third host forges and replays the datagrams of all machines.
    pub fn attack(&self) {
        self.rules.is_attacked.store(true, Ordering::Relaxed);
    }

    /// Ends it, with all that is on its way.
    pub fn stop(mut self) -> Result<Report, String> {
        self.stop = None;
        let thread = self.thread.take().ok_or("stopped already")?;
        let report = thread.join().map_err(|_| "the emulator's thread panicked")?;
        report.map_err(|error| format!("the emulator: {error}"))
    }
}

impl Machine {
    fn new(host: u8) -> Result<(Self, Tun), String> {
        let namespace = Namespace::new()?;
        let tun = Tun::new(&namespace).map_err(|error| format!("a TUN device: {error}"))?;
        let congestion = namespace
            .spawn(|| {
                let set = |algorithm| std::fs::write(CONGESTION, algorithm);
                set(ALGORITHMS[0]).or_else(|_| set(ALGORITHMS[1]))
            })
            .and_then(|thread| thread.join().map_err(|_| io::Error::other("a panic"))??);
        congestion.map_err(|error| format!("{CONGESTION}: {error}"))?;
        let [a, b, c] = NETWORK;
        let ip = Ipv4Addr::new(a, b, c, host);
        // Without IPv6, whose own packets would come between those that are measured.
        namespace.try_ip(&format!("link set {DEVICE} addrgenmode none"))?;
        namespace.try_ip(&format!("addr add {ip}/24 broadcast {a}.{b}.{c}.{BROADCAST_HOST} dev {DEVICE}"))?;
        namespace.try_ip(&format!("link set {DEVICE} mtu {MTU_BYTES} txqueuelen {DEVICE_QUEUE} up"))?;
        Ok((Self { namespace, ip }, tun))
    }
}

/// For which host an IPv4 packet is, [`BROADCAST_HOST`] if it is for all. `None` if it is for nobody here.
fn host_of(packet: &[u8]) -> Option<u8> {
    let is_ipv4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let destination: [u8; 4] = packet.get(16..20).filter(|_| is_ipv4)?.try_into().ok()?;
    let [network @ .., host] = destination;
    match Ipv4Addr::from(destination) {
        address if address.is_multicast() || address.is_broadcast() => Some(BROADCAST_HOST),
        _ if network == NETWORK && host > 0 => Some(host),
        _ => None,
    }
}
