//! turmoil as the network: an independent simulator, as a cross-check for up to about 25 nodes.
//!
//! Every host is a turmoil host with its own runtime; nodes use turmoil's TCP. It differs from `events`:
//!
//! - Time advances in ticks of a millisecond: nothing happens between them, and the plan's actions wait for the next one.
//!   Jitter is exponential within its bound, and in whole milliseconds. Bandwidth is not modelled: a scenario with
//!   `uplink_kbit` is refused.
//! - A SYN is answered, and a window opens, without latency and through every cut.
//! - A hold stops both directions in turmoil. If only one must stop, this module delivers the data of the other direction
//!   after its latency.
//! - A reset partition loses the data that is sent, like turmoil's own. turmoil would leave the connections with a gap for
//!   ever, so this module resets both ends. If a pair is held and reset at once, the reset counts.
//! - A crash ends a host's connections like the end of a process: the other ends see an end of data or a reset. With
//!   `events` it is like a power failure, and they see nothing. For a stream that is dropped without a close the other end
//!   also sees an end of data.
//! - Only bytes that nodes write are counted as sent.

mod stream;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use avi_p2p::PeerId;
use avi_p2p::transport::Transport;
use turmoil::{Builder, IpVersion, Sim};

use self::wire::Wires;
use super::lan::Lan;
use super::{CutId, Group, Host, Network, Software};
use crate::interpose;
use crate::random::mix;
use crate::scenario::{Link, PartitionMode};

/// The time for which turmoil runs the hosts, one after the other.
const TICK: Duration = Duration::from_millis(1);
/// How far the clock of a host is ahead: turmoil lets this much time pass in each new runtime.
const HEAD_START: Duration = Duration::from_millis(1);
/// Connections that wait to be accepted, and segments of a connection that are in flight or unread. One connection
/// more, and turmoil panics.
const CAPACITY: usize = 4096;

/// The network, as the world and the nodes use it. All clones share it.
#[derive(Clone)]
pub struct Turmoil {
    state: Arc<Mutex<State>>,
}

struct State {
    hosts: Vec<HostState>,
    /// The work that the simulation must do before its next step.
    orders: VecDeque<Order>,
    wires: Wires,
    next_cut: u64,
    next_line: u64,
    lines: BTreeMap<LineId, Line>,
    lan: Lan,
    digest: u64,
}

#[derive(Default)]
struct HostState {
    software: Option<Software>,
    bytes_sent: u64,
}

enum Order {
    Start(Host),
    Crash(Host),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineId(u64);

/// One end of a connection.
struct Line {
    here: Host,
    there: Host,
    is_reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The simulation, which runs turmoil.
pub struct Simulation {
    sim: Sim<'static>,
    network: Turmoil,
}

impl Turmoil {
    /// A network with this many hosts, which are off.
    pub fn new(hosts: usize, link: &Link, end: Duration, seed: u64) -> (Self, Simulation) {
        let state = State {
            hosts: (0..hosts).map(|_| HostState::default()).collect(),
            orders: VecDeque::new(),
            wires: Wires::new(hosts, link.clone(), seed),
            next_cut: 0,
            next_line: 0,
            lines: BTreeMap::new(),
            lan: Lan::default(),
            digest: seed,
        };
        let network = Self { state: Arc::new(Mutex::new(state)) };
        let mut sim = Builder::new()
            .rng_seed(seed)
            .simulation_duration(end + Duration::from_secs(1))
            .tick_duration(TICK)
            .ip_version(IpVersion::V4)
            .tcp_capacity(CAPACITY)
            .build();
        for host in (0..hosts as u32).map(Host) {
            let network = network.clone();
            // The clock of each new runtime starts at this time.
            interpose::set_now(Duration::ZERO);
            // Registered under an address, not a name: turmoil takes both.
            sim.host(host.ip(), move || network.clone().serve(host));
        }
        (network.clone(), Simulation { sim, network })
    }

    /// Runs a host from its start to its crash.
    async fn serve(self, host: Host) -> turmoil::Result {
        let software = self.lock().hosts[host.0 as usize].software.take();
        if let Some(software) = software {
            let time = turmoil::sim_elapsed().map(|elapsed| elapsed + HEAD_START);
            assert_eq!(time, Some(interpose::now()), "the clock of a host is not the simulation's");
            software();
        }
        // A node that has stopped may still have data to send.
        std::future::pending().await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a simulation ends it; until then its state is still worth reading.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Simulation {
    /// The virtual time that has passed.
    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Advances by one tick.
    ///
    /// # Errors
    /// An error of turmoil.
    pub fn step(&mut self) -> turmoil::Result {
        let mut state = self.network.lock();
        let orders = std::mem::take(&mut state.orders);
        state.wires.arrange(&self.sim);
        drop(state);
        for order in orders {
            interpose::set_now(self.sim.elapsed());
            match order {
                Order::Start(host) => self.sim.bounce(host.ip()),
                Order::Crash(host) => self.sim.crash(host.ip()),
            }
        }
        self.sim.step()?;
        interpose::set_now(self.sim.elapsed());
        self.network.lock().wires.hand_on(&self.sim);
        Ok(())
    }
}

impl State {
    /// Adds carried data to the digest.
    fn note(&mut self, kind: u64, here: Host, there: Host, len: usize) {
        let ends = u64::from(here.0) << 32 | u64::from(there.0);
        let now = interpose::now().as_nanos() as u64;
        self.digest = mix(mix(mix(self.digest, now), ends), kind << 32 | len as u64);
    }

    /// Ends the connections across a cut.
    fn reset(&mut self, from: &Group, to: &Group) -> Vec<Waker> {
        let is_across = |a: &Host, b: &Host| from.contains(a) && to.contains(b);
        let lines = self.lines.values_mut();
        let broken = lines.filter(|line| is_across(&line.here, &line.there) || is_across(&line.there, &line.here));
        let mut wakers = Vec::new();
        for line in broken {
            line.is_reset = true;
            wakers.extend(line.reader.take());
            wakers.extend(line.writer.take());
        }
        wakers
    }
}

impl Network for Turmoil {
    fn launch(&self, host: Host, software: Software) {
        let mut state = self.lock();
        state.hosts[host.0 as usize].software = Some(software);
        state.orders.push_back(Order::Start(host));
    }

    fn transport(&self, host: Host) -> Arc<dyn Transport> {
        Arc::new(stream::HostTransport { network: self.clone(), host })
    }

    fn announce(&self, host: Host, peer: PeerId) {
        self.lock().lan.announce(host, peer);
    }

    /// Only turning off needs an order: [`Network::launch`] starts the host again.
    fn power(&self, host: Host, on: bool) {
        if !on {
            self.lock().orders.push_back(Order::Crash(host));
        }
    }

    fn cut(&self, from: &Group, to: &Group, mode: PartitionMode) -> CutId {
        let mut state = self.lock();
        state.next_cut += 1;
        let cut = CutId(state.next_cut);
        state.wires.cut(cut, from.clone(), to.clone(), mode);
        let wakers = if mode == PartitionMode::Reset { state.reset(from, to) } else { Vec::new() };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        cut
    }

    fn heal(&self, cut: CutId) {
        self.lock().wires.heal(cut);
    }

    fn slow_down(&self, more: Duration) {
        self.lock().wires.slow_down(more);
    }

    fn bytes_sent(&self) -> Vec<u64> {
        self.lock().hosts.iter().map(|host| host.bytes_sent).collect()
    }

    fn digest(&self) -> u64 {
        self.lock().digest
    }
}
