//! When did bytes last move on a connection? A meter on each socket, below all encryption.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p_core::ConnectedPoint;

/// The meters of all sockets. libp2p tells a socket its endpoint, but not its connection: a new connection claims the
/// meter of its endpoint. Only two dials to one address at once may claim each other's, and one of them is closed soon.
#[derive(Default)]
pub(in crate::net) struct Meters(Mutex<Sockets>);

#[derive(Default)]
struct Sockets {
    by_key: BTreeMap<u64, (ConnectedPoint, Arc<Moved>)>,
    claimed: BTreeSet<u64>,
    last_key: u64,
}

impl Meters {
    /// Registers a new socket and returns its meter.
    pub(in crate::net) fn register(self: &Arc<Self>, endpoint: ConnectedPoint) -> Meter {
        let mut sockets = self.lock();
        sockets.last_key += 1;
        let (key, moved) = (sockets.last_key, Arc::new(Moved { since: Instant::now(), at_us: AtomicU64::new(0) }));
        sockets.by_key.insert(key, (endpoint, moved.clone()));
        Meter { key, moved, meters: self.clone() }
    }

    /// The socket of a new connection.
    pub(super) fn claim(&self, endpoint: &ConnectedPoint) -> Option<u64> {
        let mut sockets = self.lock();
        let free = |key: &&u64| !sockets.claimed.contains(key);
        let here = sockets.by_key.iter().filter(|(_, (other, _))| other == endpoint);
        let key = here.map(|(key, _)| key).find(free).copied()?;
        sockets.claimed.insert(key);
        Some(key)
    }

    /// The time since bytes last moved on a socket, or on any other at the endpoint if the meter is gone; endless without
    /// one.
    pub(super) fn silent_for(&self, key: Option<u64>, endpoint: &ConnectedPoint) -> Duration {
        let sockets = self.lock();
        let own = key.and_then(|key| sockets.by_key.get(&key));
        let here = || sockets.by_key.values().filter(|(other, _)| other == endpoint);
        let silent_for = |(_, moved): &(ConnectedPoint, Arc<Moved>)| moved.silent_for();
        own.map(silent_for).or_else(|| here().map(silent_for).min()).unwrap_or(Duration::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Sockets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Moved {
    since: Instant,
    /// Microseconds from `since` until bytes last moved.
    at_us: AtomicU64,
}

impl Moved {
    fn silent_for(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_micros(self.at_us.load(Ordering::Relaxed)))
    }
}

/// The meter that a socket holds. It is deregistered when dropped.
pub(in crate::net) struct Meter {
    key: u64,
    moved: Arc<Moved>,
    meters: Arc<Meters>,
}

impl Meter {
    /// Bytes have moved. It wakes nobody.
    pub(in crate::net) fn on_moved(&self) {
        let micros = u64::try_from(self.moved.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.moved.at_us.store(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl Meter {
    /// When bytes last moved, in microseconds since the socket exists.
    pub(in crate::net) fn at_us(&self) -> u64 {
        self.moved.at_us.load(Ordering::Relaxed)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let mut sockets = self.meters.lock();
        sockets.by_key.remove(&self.key);
        sockets.claimed.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use libp2p_core::Multiaddr;

    use super::*;

    fn from(port: u16) -> ConnectedPoint {
        let address = |port: u16| format!("/ip4/192.0.2.1/tcp/{port}").parse::<Multiaddr>().unwrap();
        ConnectedPoint::Listener { local_addr: address(1), send_back_addr: address(port) }
    }

    #[test]
    fn a_meter_says_when_bytes_last_moved_on_its_own_socket() {
        let meters = Arc::<Meters>::default();
        let (one, _other, _same) = (meters.register(from(7)), meters.register(from(8)), meters.register(from(7)));
        let [here, there, twin] = [7, 8, 7].map(|port| meters.claim(&from(port)));
        assert_eq!((meters.claim(&from(7)), meters.claim(&from(9))), (None, None));
        std::thread::sleep(Duration::from_millis(20));
        one.on_moved();
        for other in [there, twin] {
            let (here, there) = (meters.silent_for(here, &from(7)), meters.silent_for(other, &from(7)));
            assert!(here < there && there >= Duration::from_millis(20), "{here:?}, {there:?}");
        }
        let _replaced = meters.register(from(9));
        drop(one);
        assert!(meters.silent_for(here, &from(7)) >= Duration::from_millis(20), "its twin");
        assert_eq!(meters.silent_for(here, &from(10)), Duration::MAX, "the socket is closed");
    }
}
