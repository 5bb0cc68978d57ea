//! When did bytes last move on a connection? A meter on each socket, below all encryption.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p_core::ConnectedPoint;

/// The meters of all sockets. libp2p tells a socket its endpoint, but not its connection. An endpoint has one connection;
/// only two dials to one address at once have the same, and the same path.
#[derive(Default)]
pub(in crate::net) struct Meters(Mutex<Sockets>);

#[derive(Default)]
struct Sockets {
    by_key: BTreeMap<u64, (ConnectedPoint, Arc<Moved>)>,
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

    /// The time since bytes last moved at this endpoint; endless without a socket.
    pub(super) fn silent_for(&self, endpoint: &ConnectedPoint) -> Duration {
        let sockets = self.lock();
        let here = sockets.by_key.values().filter(|(other, _)| other == endpoint);
        here.map(|(_, moved)| moved.silent_for()).min().unwrap_or(Duration::MAX)
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
        self.meters.lock().by_key.remove(&self.key);
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
        let (one, _other) = (meters.register(from(7)), meters.register(from(8)));
        std::thread::sleep(Duration::from_millis(20));
        one.on_moved();
        let (here, there) = (meters.silent_for(&from(7)), meters.silent_for(&from(8)));
        assert!(here < there && there >= Duration::from_millis(20), "{here:?}, {there:?}");
        assert_eq!(meters.silent_for(&from(9)), Duration::MAX);
        drop(one);
        assert_eq!(meters.silent_for(&from(7)), Duration::MAX, "the socket is closed");
    }
}
