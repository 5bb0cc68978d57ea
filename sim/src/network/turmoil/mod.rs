//! turmoil as the network: an independent simulator, as a cross-check for meshes of any size in at most 25 homes.
//!
//! Every home is a turmoil host: one address, one runtime, and a machine for each of its ports. turmoil's tick costs the
//! number of hosts cubed, and hardly anything for a machine. Nodes use turmoil's TCP, and its loopback within a home. It
//! differs from `events`:
//!
//! - Time advances in ticks of a millisecond: nothing happens between them, and the plan's actions wait for the next one.
//!   Jitter is exponential within its bound, and in whole milliseconds. Bandwidth is not modelled: a scenario with
//!   `uplink_kbit` is refused.
//! - A SYN is answered, and a window opens, without latency and through every cut.
//! - A hold stops both directions in turmoil. If only one must stop, this module delivers the data of the other direction
//!   after its latency.
//! - A reset partition loses the data that is sent, like turmoil's own. turmoil would leave the connections with a gap for
//!   ever, so this module resets both ends. If a pair is held and reset at once, the reset counts.
//! - A stream that is dropped without a close ends at the other end with an end of data.
//! - Only bytes that nodes write, and those of datagrams, are counted as sent.
//! - A machine has lost a datagram that arrives while it is off. A hold lets datagrams wait too.
//!
//! turmoil itself can only crash a whole host, and tells the other ends. Here a host runs to the end, and a machine that
//! loses power leaves its ends of connections behind. They take data until it is on again, and answer with a reset after
//! that, as with `events`.

mod datagrams;
mod stream;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use ::turmoil::net::TcpStream;
use ::turmoil::{Builder, IpVersion, Sim};
use avi_p2p::PeerId;
use avi_p2p::transport::Transport;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

use self::wire::Wires;
use super::lan::Lan;
use super::{CutId, FIRST_EPHEMERAL, Group, Home, Homes, Host, Network, Software};
use crate::interpose;
use crate::random::mix;
use crate::scenario::{Link, PartitionMode};

/// The most homes: a run of 30 s with so many takes turmoil a few seconds.
pub const MOST_HOMES: usize = 25;
/// The time for which turmoil runs the hosts, one after the other.
const TICK: Duration = super::WITHIN_HOME;
/// How far the clock of a host is ahead: turmoil lets this much time pass in each new runtime.
const HEAD_START: Duration = Duration::from_millis(1);
/// Connections that wait to be accepted, segments of a connection that are in flight or unread, datagrams that are unread.
/// One connection more, and turmoil panics.
const CAPACITY: usize = 4096;

/// The network, as the world and the nodes use it. All clones share it.
#[derive(Clone)]
pub struct Turmoil {
    state: Arc<Mutex<State>>,
}

struct State {
    homes: Homes,
    machines: Vec<Machine>,
    /// Programs that start with the next step.
    starts: Vec<(Host, Software)>,
    /// Machines that have lost power since the last step, whose nodes end with the next one.
    ending: BTreeSet<Host>,
    /// The way into each home's runtime.
    doors: Vec<UnboundedSender<Software>>,
    /// Ends of connections of machines that have lost power since.
    left: Vec<(Host, TcpStream)>,
    wires: Wires,
    next_cut: u64,
    next_line: u64,
    lines: BTreeMap<LineId, Line>,
    lan: Lan,
    digest: u64,
}

struct Machine {
    is_on: bool,
    /// How often it has lost power.
    outages: u32,
    bytes_sent: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineId(u64);

/// One end of a connection.
struct Line {
    here: Home,
    there: Home,
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
    /// A network with this many machines in these homes.
    pub fn new(machines: usize, homes: Homes, link: &Link, end: Duration, seed: u64) -> (Self, Simulation) {
        let count = homes.count(machines);
        let (doors, ways): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded()).unzip();
        let machines = (0..machines).map(|_| Machine { is_on: true, outages: 0, bytes_sent: 0 });
        let state = State {
            homes,
            machines: machines.collect(),
            starts: Vec::new(),
            ending: BTreeSet::new(),
            doors,
            left: Vec::new(),
            wires: Wires::new(count, link.clone(), seed),
            next_cut: 0,
            next_line: 0,
            lines: BTreeMap::new(),
            lan: Lan::new(homes),
            digest: seed,
        };
        let network = Self { state: Arc::new(Mutex::new(state)) };
        let mut sim = Builder::new()
            .rng_seed(seed)
            .simulation_duration(end + Duration::from_secs(1))
            .tick_duration(TICK)
            .ip_version(IpVersion::V4)
            .ephemeral_ports(FIRST_EPHEMERAL..=u16::MAX)
            .tcp_capacity(CAPACITY)
            .udp_capacity(CAPACITY)
            .build();
        for (home, way) in (0..count).map(Home).zip(ways) {
            // The clock of each new runtime starts at this time.
            interpose::set_now(Duration::ZERO);
            // turmoil could start a host again, but here it never does.
            let way = Mutex::new(Some(way));
            // Registered under an address, not a name: turmoil takes both.
            sim.host(home.ip(), move || serve(way.lock().unwrap_or_else(PoisonError::into_inner).take()));
        }
        (network.clone(), Simulation { sim, network })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a simulation ends it; until then its state is still worth reading.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a home: starts the programs of its machines.
async fn serve(way: Option<UnboundedReceiver<Software>>) -> ::turmoil::Result {
    let mut way = way.ok_or("a home starts once")?;
    while let Some(software) = way.next().await {
        let time = ::turmoil::sim_elapsed().map(|elapsed| elapsed + HEAD_START);
        assert_eq!(time, Some(interpose::now()), "the clock of a host is not the simulation's");
        software();
    }
    Ok(())
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
    pub fn step(&mut self) -> ::turmoil::Result {
        let mut state = self.network.lock();
        state.start();
        let forgotten = state.forget();
        state.wires.arrange(&self.sim);
        drop(state);
        // Outside of turmoil's step these tell the other ends nothing. Data for them is answered with a reset.
        drop(forgotten);
        self.sim.step()?;
        interpose::set_now(self.sim.elapsed());
        self.network.lock().wires.hand_on(&self.sim);
        Ok(())
    }
}

impl State {
    /// Starts the waiting programs. If a machine's old node only ends with this step, its new one waits for the next.
    fn start(&mut self) {
        let ending = std::mem::take(&mut self.ending);
        for (machine, software) in std::mem::take(&mut self.starts) {
            match (ending.contains(&machine), self.doors.get(self.homes.home(machine).0 as usize)) {
                (true, _) => self.starts.push((machine, software)),
                // A home that has ended has failed, which turmoil reports.
                (false, Some(door)) => drop(door.unbounded_send(software)),
                (false, None) => {}
            }
        }
    }

    /// The connections left behind by machines that are on again.
    fn forget(&mut self) -> Vec<(Host, TcpStream)> {
        let machines = &self.machines;
        self.left.extract_if(.., |(machine, _)| machines[machine.0 as usize].is_on).collect()
    }

    /// Whether nothing answers to a dial.
    fn is_silent(&self, from: Home, to: Host) -> bool {
        let is_lost = self.wires.fate(from, self.homes.home(to)) == Some(PartitionMode::Reset);
        is_lost || !self.machines[to.0 as usize].is_on
    }

    /// Adds carried data to the digest.
    fn note(&mut self, kind: u64, here: Home, there: Home, len: usize) {
        let ends = u64::from(here.0) << 32 | u64::from(there.0);
        let now = interpose::now().as_nanos() as u64;
        self.digest = mix(mix(mix(self.digest, now), ends), kind << 32 | len as u64);
    }

    /// Ends the connections across a cut.
    fn reset(&mut self, from: &BTreeSet<Home>, to: &BTreeSet<Home>) -> Vec<Waker> {
        let is_across = |a: &Home, b: &Home| a != b && from.contains(a) && to.contains(b);
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
        self.lock().starts.push((host, software));
    }

    fn transport(&self, host: Host) -> Arc<dyn Transport> {
        Arc::new(stream::HostTransport { network: self.clone(), host })
    }

    fn announce(&self, host: Host, peer: PeerId) {
        self.lock().lan.announce(host, peer);
    }

    fn power(&self, host: Host, on: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(machine) = state.machines.get_mut(host.0 as usize) else { return };
        machine.is_on = on;
        if !on {
            machine.outages += 1;
            state.ending.insert(host);
            state.starts.retain(|(starting, _)| *starting != host);
        }
    }

    fn cut(&self, from: &Group, to: &Group, mode: PartitionMode) -> CutId {
        let mut state = self.lock();
        state.next_cut += 1;
        let cut = CutId(state.next_cut);
        let (from, to) = (state.homes.of(from), state.homes.of(to));
        let wakers = if mode == PartitionMode::Reset { state.reset(&from, &to) } else { Vec::new() };
        state.wires.cut(cut, from, to, mode);
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
        self.lock().machines.iter().map(|machine| machine.bytes_sent).collect()
    }

    fn digest(&self) -> u64 {
        self.lock().digest
    }
}
