//! Which addresses were heard by mDNS, and how long are they valid?

use std::collections::BTreeMap;
use std::time::Duration;

use super::time::{Time, TimerTable};
use crate::config::Limits;
use crate::id::PeerId;

/// How long an address is valid after it was last heard. Nodes of AVI ask for this time; what others ask for is
/// ignored.
const LIFETIME: Duration = Duration::from_secs(6 * 60);
/// A peer that is still heard is reported again after this time: by then nodes that could not reach it have given up.
const TOLD_FOR: Duration = Duration::from_secs(15 * 60);

/// The addresses of all peers. Bounded per peer, and in total.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Records {
    peers: BTreeMap<PeerId, BTreeMap<String, Record>>,
    /// One per record. Hearing a record again does not move its timer, which then fires early.
    timers: TimerTable<(PeerId, String)>,
    count: usize,
    max: usize,
    max_per_peer: usize,
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
struct Record {
    heard_at: Time,
    told_at: Time,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The address must be reported. It replaces the one that was heard longest ago, if the peer has too many.
    News {
        instead_of: Option<String>,
    },
    Known,
    /// There is no room for the address.
    Full,
}

impl Records {
    pub(crate) fn new(limits: &Limits) -> Self {
        let max_per_peer = limits.addresses_per_peer;
        Self::bounded(limits.known_peers * max_per_peer, max_per_peer)
    }

    fn bounded(max: usize, max_per_peer: usize) -> Self {
        Self { peers: BTreeMap::new(), timers: TimerTable::new(), count: 0, max, max_per_peer }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    pub(crate) fn hear(&mut self, now: Time, peer: &PeerId, address: &str) -> Verdict {
        let of_peer = self.peers.get_mut(peer);
        if let Some(record) = of_peer.and_then(|addresses| addresses.get_mut(address)) {
            record.heard_at = now;
            let is_news = now - record.told_at >= TOLD_FOR;
            if is_news {
                record.told_at = now;
                return Verdict::News { instead_of: None };
            }
            return Verdict::Known;
        }
        let of_peer = self.peers.get(peer).filter(|addresses| addresses.len() >= self.max_per_peer);
        let instead_of = match of_peer {
            Some(addresses) => {
                addresses.iter().min_by_key(|(_, record)| record.heard_at).map(|(address, _)| address.clone())
            }
            None if self.count >= self.max => return Verdict::Full,
            None => None,
        };
        if let Some(oldest) = &instead_of {
            self.forget(peer, oldest);
        }
        let record = Record { heard_at: now, told_at: now };
        self.peers.entry(peer.clone()).or_default().insert(address.to_owned(), record);
        self.timers.set((peer.clone(), address.to_owned()), now + LIFETIME);
        self.count += 1;
        Verdict::News { instead_of }
    }

    /// Takes an address that was not heard again in time. Each is returned once.
    pub(crate) fn pop_expired(&mut self, now: Time) -> Option<(PeerId, String)> {
        while let Some((peer, address)) = self.timers.pop_due(now) {
            let record = self.peers.get(&peer).and_then(|addresses| addresses.get(&address));
            match record.map(|record| record.heard_at + LIFETIME) {
                Some(expires) if expires > now => self.timers.set((peer, address), expires),
                Some(_) => {
                    self.forget(&peer, &address);
                    return Some((peer, address));
                }
                None => {}
            }
        }
        None
    }

    fn forget(&mut self, peer: &PeerId, address: &str) {
        let Some(addresses) = self.peers.get_mut(peer) else { return };
        if addresses.remove(address).is_some() {
            self.count -= 1;
            self.timers.stop(&(peer.clone(), address.to_owned()));
        }
        if addresses.is_empty() {
            self.peers.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::new(&format!("peer {n}"))
    }

    const NEWS: Verdict = Verdict::News { instead_of: None };

    fn expired(records: &mut Records, now: Time) -> Vec<(PeerId, String)> {
        std::iter::from_fn(|| records.pop_expired(now)).collect()
    }

    fn records(all: &[(u8, &str)]) -> Vec<(PeerId, String)> {
        all.iter().map(|&(n, address)| (peer(n), address.to_owned())).collect()
    }

    #[test]
    fn an_address_is_told_once_and_again_after_a_while() {
        let (mut records, start) = (Records::bounded(9, 3), Time::ZERO);
        assert_eq!(records.hear(start, &peer(1), "a"), NEWS);
        assert_eq!(records.hear(start, &peer(1), "a"), Verdict::Known);
        assert_eq!(records.hear(start + (TOLD_FOR - Duration::from_nanos(1)), &peer(1), "a"), Verdict::Known);
        assert_eq!(records.hear(start + TOLD_FOR, &peer(1), "a"), NEWS);
        assert_eq!(records.hear(start + TOLD_FOR, &peer(1), "a"), Verdict::Known);
    }

    #[test]
    fn an_address_that_is_not_heard_any_more_expires() {
        let (mut all, start) = (Records::bounded(9, 3), Time::ZERO);
        for (n, address) in [(1, "a"), (1, "b"), (2, "c"), (2, "d")] {
            all.hear(start, &peer(n), address);
        }
        let later = start + Duration::from_secs(60);
        all.hear(later, &peer(2), "c");
        assert_eq!(expired(&mut all, later), []);
        assert_eq!(all.next_deadline(), Some(start + LIFETIME));
        assert_eq!(expired(&mut all, start + LIFETIME), records(&[(1, "a"), (1, "b"), (2, "d")]));
        assert_eq!((all.count, all.next_deadline()), (1, Some(later + LIFETIME)));
        assert_eq!(expired(&mut all, later + LIFETIME), records(&[(2, "c")]));
        assert_eq!((all.count, all.peers.len(), all.next_deadline()), (0, 0, None));
    }

    #[test]
    fn a_peer_that_moves_is_believed_and_what_was_heard_longest_ago_makes_room() {
        let (mut records, start) = (Records::bounded(2, 2), Time::ZERO);
        let after = |seconds| start + Duration::from_secs(seconds);
        records.hear(start, &peer(1), "a");
        records.hear(after(1), &peer(1), "b");
        records.hear(after(2), &peer(1), "a");
        assert_eq!(records.hear(after(3), &peer(1), "c"), Verdict::News { instead_of: Some("b".to_owned()) });
        assert_eq!(records.count, 2);
        assert_eq!(records.hear(after(3), &peer(2), "c"), Verdict::Full);
        expired(&mut records, after(2) + LIFETIME);
        assert_eq!(records.hear(after(2) + LIFETIME, &peer(2), "c"), NEWS);
    }
}
