//! What has been heard of whom by mDNS, and for how long does it hold?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libp2p_identity::PeerId;

/// How long an address is believed after it was last heard: as long as nodes of this kind ask for, whatever others ask
/// for.
const LIFETIME: Duration = Duration::from_secs(6 * 60);
/// A peer that is still heard is told of again after this long: whoever could not reach it has given up by then.
const TOLD_FOR: Duration = Duration::from_secs(15 * 60);

/// Addresses, each of a peer. Bounded per peer, and together.
pub(super) struct Records {
    peers: BTreeMap<PeerId, BTreeMap<SocketAddr, Record>>,
    count: usize,
    max: usize,
    max_per_peer: usize,
}

struct Record {
    heard_at: Instant,
    told_at: Instant,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// To be told. What it takes the place of was heard longest ago.
    News {
        instead_of: Option<SocketAddr>,
    },
    Known,
    /// There is no room.
    Full,
}

impl Records {
    pub(super) fn new(max: usize, max_per_peer: usize) -> Self {
        Self { peers: BTreeMap::new(), count: 0, max, max_per_peer }
    }

    pub(super) fn hear(&mut self, now: Instant, peer: PeerId, address: SocketAddr) -> Verdict {
        let known = self.peers.get_mut(&peer).and_then(|addresses| addresses.get_mut(&address));
        if let Some(record) = known {
            record.heard_at = now;
            let is_news = now.duration_since(record.told_at) >= TOLD_FOR;
            return match is_news {
                true => {
                    record.told_at = now;
                    Verdict::News { instead_of: None }
                }
                false => Verdict::Known,
            };
        }
        let of_peer = self.peers.get(&peer);
        let instead_of = match of_peer.filter(|addresses| addresses.len() >= self.max_per_peer) {
            Some(addresses) => addresses.iter().min_by_key(|(_, record)| record.heard_at).map(|(address, _)| *address),
            None if self.count >= self.max => return Verdict::Full,
            None => None,
        };
        let addresses = self.peers.entry(peer).or_default();
        match instead_of {
            Some(oldest) => drop(addresses.remove(&oldest)),
            None => self.count += 1,
        }
        addresses.insert(address, Record { heard_at: now, told_at: now });
        Verdict::News { instead_of }
    }

    pub(super) fn expire(&mut self, now: Instant) -> Vec<(PeerId, Vec<SocketAddr>)> {
        let mut all = Vec::new();
        self.peers.retain(|peer, addresses| {
            let is_old = |_: &SocketAddr, record: &mut Record| now.duration_since(record.heard_at) >= LIFETIME;
            let expired: Vec<_> = addresses.extract_if(.., is_old).map(|(address, _)| address).collect();
            self.count -= expired.len();
            if !expired.is_empty() {
                all.push((*peer, expired));
            }
            !addresses.is_empty()
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::new([192, 0, 2, 1].into(), port)
    }

    const NEWS: Verdict = Verdict::News { instead_of: None };

    #[test]
    fn an_address_is_told_once_and_again_after_a_while() {
        let (mut records, peer, start) = (Records::new(9, 3), PeerId::random(), Instant::now());
        assert_eq!(records.hear(start, peer, at(1)), NEWS);
        assert_eq!(records.hear(start, peer, at(1)), Verdict::Known);
        assert_eq!(records.hear(start + TOLD_FOR - Duration::from_nanos(1), peer, at(1)), Verdict::Known);
        assert_eq!(records.hear(start + TOLD_FOR, peer, at(1)), NEWS);
        assert_eq!(records.hear(start + TOLD_FOR, peer, at(1)), Verdict::Known);
    }

    #[test]
    fn an_address_that_is_not_heard_any_more_expires() {
        let (mut records, start) = (Records::new(9, 3), Instant::now());
        let (gone, stays) = (PeerId::random(), PeerId::random());
        for (peer, port) in [(gone, 1), (gone, 2), (stays, 3), (stays, 4)] {
            records.hear(start, peer, at(port));
        }
        let later = start + Duration::from_secs(60);
        records.hear(later, stays, at(3));
        assert_eq!(records.expire(later), []);
        let mut expired = records.expire(start + LIFETIME);
        expired.sort();
        let mut expected = [(gone, vec![at(1), at(2)]), (stays, vec![at(4)])];
        expected.sort();
        assert_eq!((expired.as_slice(), records.count), (expected.as_slice(), 1));
        assert_eq!(records.expire(later + LIFETIME), [(stays, vec![at(3)])]);
        assert_eq!((records.count, records.peers.len()), (0, 0));
    }

    #[test]
    fn a_peer_that_moves_is_believed_and_what_was_heard_longest_ago_makes_room() {
        let (mut records, peer, start) = (Records::new(2, 2), PeerId::random(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        records.hear(start, peer, at(1));
        records.hear(after(1), peer, at(2));
        records.hear(after(2), peer, at(1));
        assert_eq!(records.hear(after(3), peer, at(3)), Verdict::News { instead_of: Some(at(2)) });
        assert_eq!(records.count, 2);
        assert_eq!(records.hear(after(3), PeerId::random(), at(3)), Verdict::Full);
        records.expire(after(2) + LIFETIME);
        assert_eq!(records.hear(after(2) + LIFETIME, PeerId::random(), at(3)), NEWS);
    }
}
