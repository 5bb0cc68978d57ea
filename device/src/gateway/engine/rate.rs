//! How fast may somebody send?

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

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
