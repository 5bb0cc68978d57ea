//! How fast may somebody send?

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::config::GatewayLimits;

/// Addresses that the gateway counts one by one. Those beyond share one bucket.
const SENDERS: usize = 256;

/// Gives `rate` units a second, and up to `burst` at once.
#[derive(Clone, Debug)]
pub(super) struct TokenBucket {
    rate: u64,
    burst: u64,
    /// Millionths of a unit.
    level: u64,
    filled: Duration,
}

impl TokenBucket {
    /// A full one. Both numbers are at most 2^32.
    pub(super) fn new(rate: u32, burst: u32, now: Duration) -> Self {
        let burst = u64::from(burst) * 1_000_000;
        Self { rate: rate.into(), burst, level: burst, filled: now }
    }

    fn fill(&mut self, now: Duration) {
        let elapsed_us = u64::try_from(now.saturating_sub(self.filled).as_micros()).unwrap_or(u64::MAX);
        self.level = self.level.saturating_add(elapsed_us.saturating_mul(self.rate)).min(self.burst);
        self.filled = self.filled.max(now);
    }

    /// Whether `units` may be used now; then they are.
    pub(super) fn take(&mut self, units: usize, now: Duration) -> bool {
        self.fill(now);
        let cost = u64::try_from(units).unwrap_or(u64::MAX).saturating_mul(1_000_000);
        let may = cost <= self.level;
        if may {
            self.level -= cost;
        }
        may
    }

    fn is_full(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.level == self.burst
    }
}

/// How much a session may send and get now.
#[derive(Clone, Debug)]
pub(super) struct Rates {
    pub(super) datagrams: TokenBucket,
    pub(super) messages: TokenBucket,
    pub(super) downlink: TokenBucket,
}

impl Rates {
    /// Those of a device that has used nothing.
    pub(super) fn new(limits: &GatewayLimits, now: Duration) -> Self {
        Self {
            datagrams: TokenBucket::new(limits.datagrams_per_second, limits.datagrams_per_second, now),
            messages: TokenBucket::new(limits.messages_per_second, limits.messages_per_second.saturating_mul(2), now),
            downlink: TokenBucket::new(limits.downlink_bytes_per_second, limits.downlink_bytes_per_second, now),
        }
    }

    fn is_full(&mut self, now: Duration) -> bool {
        self.datagrams.is_full(now) && self.messages.is_full(now) && self.downlink.is_full(now)
    }
}

/// What sessions had used that have ended. The next one from the address goes on with that, or the next one of the device:
/// to begin anew makes nobody faster.
#[derive(Debug, Default)]
pub(super) struct Ended(VecDeque<(u64, Option<IpAddr>, Rates)>);

impl Ended {
    /// A session of a device has ended, which was one without a key from this address. `most` are remembered.
    pub(super) fn put(&mut self, device: u64, plain_from: Option<IpAddr>, rates: Rates, now: Duration, most: usize) {
        // Full ones say as much as none: in two seconds each is.
        self.0.retain_mut(|(_, _, rates)| !rates.is_full(now));
        self.0.push_back((device, plain_from.map(network_of), rates));
        if self.0.len() > most {
            self.0.pop_front();
        }
    }

    /// A session of a device begins, without a key from this address.
    pub(super) fn take(&mut self, device: u64, plain_from: Option<IpAddr>) -> Option<Rates> {
        let network = plain_from.map(network_of);
        let near = network.and_then(|_| self.0.iter().rposition(|(_, ended, _)| *ended == network));
        let at = near.or_else(|| self.0.iter().rposition(|(ended, _, _)| *ended == device))?;
        self.0.remove(at).map(|(_, _, rates)| rates)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A bucket for each address that has no session.
#[derive(Debug)]
pub(super) struct Senders {
    rate: u32,
    buckets: BTreeMap<IpAddr, TokenBucket>,
    others: TokenBucket,
}

impl Senders {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, buckets: BTreeMap::new(), others: Self::bucket(rate, Duration::ZERO) }
    }

    fn bucket(rate: u32, now: Duration) -> TokenBucket {
        TokenBucket::new(rate, rate.saturating_mul(2), now)
    }

    /// Whether a datagram from this address may be looked at now.
    pub(super) fn take(&mut self, ip: IpAddr, now: Duration) -> bool {
        let ip = network_of(ip);
        if !self.buckets.contains_key(&ip) && self.buckets.len() >= SENDERS {
            // A full bucket says as much as none.
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= SENDERS {
                return self.others.take(1, now);
            }
        }
        self.buckets.entry(ip).or_insert_with(|| Self::bucket(self.rate, now)).take(1, now)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }
}

/// Whoever has one address of IPv6 has its /64.
pub(super) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_from_then_on() {
        let mut bucket = TokenBucket::new(10, 5, Duration::ZERO);
        assert_eq!((0..100).filter(|_| bucket.take(1, Duration::ZERO)).count(), 5);
        let later = |ms: u64| Duration::from_millis(ms);
        assert_eq!(
            (0..1000).filter(|ms| bucket.take(1, later(*ms))).count(),
            9,
            "ten a second, the first after 100 ms"
        );
        assert!(bucket.take(5, Duration::MAX), "an age later it is full, and no fuller");
        assert!(!bucket.take(1, Duration::MAX));
        assert!(!bucket.take(1, Duration::ZERO), "time that goes back gives nothing");
    }

    #[test]
    fn many_addresses_share_what_is_left_and_take_no_memory() {
        let mut senders = Senders::new(10);
        let now = Duration::from_secs(1);
        let ip = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
        let taken = (0..100_000).filter(|n| senders.take(ip(*n), now)).count();
        assert_eq!(taken, SENDERS + 20, "one each for those who are counted, a burst for all others together");
        assert_eq!(senders.len(), SENDERS);
        assert!(senders.take(ip(7_000_000), now + Duration::from_secs(9)), "buckets that are full again make room");
        assert_eq!(senders.len(), 1);
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let mut senders = Senders::new(1);
        let taken =
            (0..100_u128).filter(|host| senders.take(IpAddr::V6((0x2001_0db8 << 96 | host).into()), Duration::ZERO));
        assert_eq!(taken.count(), 2);
    }
}
