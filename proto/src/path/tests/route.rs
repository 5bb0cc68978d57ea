use std::collections::BTreeSet;

use super::*;

pub(super) fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

pub(super) fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 4_000))
}

pub(super) const TOLD: u8 = 1;
const MOVED: u8 = 2;

/// A route, and the token that the next probe gets.
pub(super) struct Driver {
    pub(super) route: Route,
    token: u64,
}

impl Driver {
    pub(super) fn new() -> Self {
        Self { route: Route::new(ms(0), Some(address(TOLD))), token: 0 }
    }

    /// What is sent now.
    pub(super) fn drain(&mut self, now: Time) -> Vec<Transmit> {
        let mut all = Vec::new();
        while let Some(probe) = self.route.poll_transmit(now, || self.token + 1) {
            self.token += 1;
            assert_eq!(probe.token, self.token);
            all.push(probe);
        }
        all
    }

    /// Lets time pass. Returns what is sent, and when.
    fn run(&mut self, until: Time) -> Vec<(u64, SocketAddr)> {
        let mut sent = Vec::new();
        while let Some(at) = self.route.next_deadline().filter(|at| *at <= until) {
            self.route.handle_timeout(at);
            assert!(self.route.next_deadline().is_none_or(|next| next > at), "busy at {at:?}");
            sent.extend(self.drain(at).iter().map(|probe| (at.as_micros() / 1000, probe.to)));
        }
        sent
    }

    fn times(&mut self, until: Time) -> Vec<u64> {
        self.run(until).into_iter().map(|(at, _)| at).collect()
    }

    /// A route that has been confirmed at 20 ms and again at 540 ms, with a round trip of 20 ms.
    fn up() -> Self {
        let mut driver = Self::new();
        assert_eq!(driver.drain(ms(0)), [Transmit { to: address(TOLD), token: 1 }]);
        driver.route.on_probed(ms(20), 1, Via::Datagram);
        assert_eq!(driver.route.address(), Some(address(TOLD)));
        assert_eq!(driver.times(ms(520)), [520]);
        driver.route.on_probed(ms(540), 2, Via::Datagram);
        driver
    }

    /// The machine cannot send any more.
    fn lose(&mut self, now: Time) {
        (0..MAX_DROPPED).for_each(|_| self.route.on_dropped(now));
        assert!(!self.route.is_up());
    }

    /// A frame every 20 ms, and nothing comes back.
    fn talk(&mut self, from: u64, until: u64) {
        for at in (from..=until).step_by(20) {
            self.run(ms(at));
            if self.route.is_up() {
                self.route.on_sent(ms(at), Some(at / 20), 200);
            }
        }
    }
}

#[test]
fn a_path_is_probed_fast_at_first_and_for_ever() {
    let mut driver = Driver::new();
    assert_eq!(driver.drain(ms(0)).len(), 1);
    assert_eq!(driver.times(ms(3_000)), [50, 150, 350, 750, 1_550, 2_550]);
    let later = driver.times(ms(60_000));
    assert!(later[..8].windows(2).all(|pair| pair[1] - pair[0] == 1_000), "{later:?}");
    assert!(later[9..].windows(2).all(|pair| pair[1] - pair[0] == 5_000), "{later:?}");
    assert!(!driver.route.is_up() && driver.route.address().is_none());
    let last = *later.last().unwrap();
    driver.route.on_probed(ms(last + 30), driver.token, Via::Datagram);
    assert_eq!(driver.route.address(), Some(address(TOLD)));
    assert_eq!(driver.route.stats().rtt, Some(Duration::from_millis(30)));
}

#[test]
fn only_an_answer_to_a_probe_confirms_and_only_once_and_in_time() {
    let mut driver = Driver::new();
    driver.drain(ms(0));
    driver.route.on_probed(ms(10), 99, Via::Datagram);
    driver.route.on_ack(0);
    assert!(!driver.route.is_up());
    driver.route.on_probed(ms(3_001), 1, Via::Datagram);
    assert!(!driver.route.is_up(), "too late");
    let mut driver = Driver::up();
    driver.lose(ms(600));
    driver.route.on_probed(ms(601), 1, Via::Datagram);
    assert!(!driver.route.is_up(), "the same answer again");
}

#[test]
fn without_an_address_nothing_is_sent_until_the_peer_is_heard() {
    let mut driver = Driver { route: Route::new(ms(0), None), token: 0 };
    assert_eq!((driver.drain(ms(0)), driver.route.next_deadline()), (vec![], None));
    driver.route.on_datagram(ms(5), address(MOVED), 42, true);
    assert_eq!(driver.drain(ms(5)), [Transmit { to: address(MOVED), token: 1 }]);
    driver.route.on_probed(ms(10), 1, Via::Datagram);
    assert_eq!(driver.route.address(), Some(address(MOVED)));
}

#[test]
fn a_path_that_confirms_nothing_for_300_ms_and_two_round_trips_is_not_used() {
    let mut driver = Driver::up();
    driver.talk(1_000, 1_339);
    assert!(driver.route.is_up());
    // The first frame was sent at 1,000 ms, the round trip is 20 ms.
    assert_eq!(driver.route.next_deadline(), Some(ms(1_340)));
    let asked = driver.times(ms(1_340));
    assert!(!driver.route.is_up());
    assert_eq!(asked, [1_340], "probed at once");
    assert_eq!(driver.route.stats().losses, 1);
}

#[test]
fn a_path_whose_round_trips_differ_much_is_waited_for() {
    let mut driver = Driver::up();
    // As with a radio that dozes: 10 ms, or 200.
    let mut now = 1_000;
    for n in 0..20 {
        driver.route.on_interfaces_changed(ms(now));
        let probes = driver.drain(ms(now));
        assert_eq!(probes.len(), 1);
        now += if n % 2 == 0 { 10 } else { 200 };
        driver.route.on_probed(ms(now), driver.token, Via::Datagram);
    }
    driver.talk(now, now + 500);
    assert!(driver.route.is_up(), "{:?}", driver.route.stats());
    driver.run(ms(now + 1_000));
    assert!(!driver.route.is_up());
}

#[test]
fn before_a_path_is_given_up_probes_ask() {
    let mut driver = Driver::up();
    driver.route.on_sent(ms(1_000), Some(7), 200);
    assert_eq!(driver.times(ms(1_319)), [1_170, 1_220, 1_270]);
    // The answer to the second one comes, by the substream maybe.
    driver.route.on_probed(ms(1_319), driver.token - 1, Via::Datagram);
    driver.route.on_probed(ms(1_319), driver.token, Via::Datagram);
    driver.run(ms(1_400));
    assert!(driver.route.is_up());
}

#[test]
fn acks_of_frames_that_took_the_path_keep_it() {
    let mut driver = Driver::up();
    for n in 0..500 {
        let at = 1_000 + n * 20;
        driver.run(ms(at));
        driver.route.on_sent(ms(at), Some(n), 200);
        if n % 5 == 4 {
            driver.route.on_ack(n - 2);
        }
    }
    assert!(driver.route.is_up());
    // Frames that took the substream say nothing.
    for n in 500..520 {
        driver.run(ms(1_000 + n * 20));
        driver.route.on_ack(10_000 + n);
    }
    assert!(!driver.route.is_up());
}

#[test]
fn a_lost_path_is_probed_every_100_ms_then_less_and_is_used_again_at_the_first_answer() {
    let mut driver = Driver::up();
    driver.run(ms(5_520));
    driver.route.on_probed(ms(5_540), driver.token, Via::Datagram);
    driver.talk(6_000, 6_400);
    let lost_at = 6_320;
    let probes = driver.times(ms(lost_at + 9_900));
    assert!(probes.windows(2).all(|pair| pair[1] - pair[0] == 100), "{probes:?}");
    driver.route.on_probed(ms(lost_at + 9_920), driver.token, Via::Datagram);
    assert!(driver.route.is_up());
    driver.talk(17_000, 17_400);
    let probes = driver.times(ms(150_000));
    let pauses: BTreeSet<_> = probes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses, BTreeSet::from([100, 1_000, 5_000]));
    assert!(probes.len() < 180, "{}", probes.len());
    assert!(!driver.route.is_up());
}

#[test]
fn an_idle_path_is_kept_alive_and_watched() {
    let mut driver = Driver::up();
    assert_eq!(driver.times(ms(5_520)), [5_520]);
    driver.route.on_probed(ms(5_540), driver.token, Via::Datagram);
    assert_eq!(driver.times(ms(10_600)), [10_520]);
    assert_eq!(driver.times(ms(10_859)), [10_690, 10_740, 10_790, 10_840]);
    assert!(driver.route.is_up());
    driver.run(ms(10_860));
    assert!(!driver.route.is_up());
}

#[test]
fn a_path_that_carries_acks_alone_is_checked_twice_a_second() {
    let mut driver = Driver::up();
    driver.route.on_sent(ms(600), None, 40);
    assert_eq!(driver.times(ms(1_030)), [1_020]);
    driver.route.on_probed(ms(1_040), driver.token, Via::Datagram);
    driver.route.on_sent(ms(1_100), None, 40);
    driver.run(ms(1_859));
    assert!(driver.route.is_up());
    driver.run(ms(1_860));
    assert!(!driver.route.is_up());
}

#[test]
fn a_peer_that_has_moved_is_followed_once_the_new_address_answers() {
    let mut driver = Driver::up();
    driver.route.on_datagram(ms(1_000), address(MOVED), 100, true);
    let probes = driver.drain(ms(1_000));
    assert_eq!(probes.iter().map(|probe| probe.to).collect::<Vec<_>>(), [address(MOVED)]);
    assert_eq!(driver.route.address(), Some(address(TOLD)), "not yet confirmed");
    driver.route.on_probed(ms(1_040), driver.token, Via::Datagram);
    assert_eq!(driver.route.address(), Some(address(MOVED)));
    assert_eq!(driver.route.stats().changes, 2);
    assert_eq!(driver.route.stats().rtt, Some(Duration::from_millis(40)), "that of the new path");
}

#[test]
fn nobody_moves_a_path_with_an_old_datagram() {
    let mut driver = Driver::up();
    driver.route.on_datagram(ms(1_000), address(MOVED), 100, false);
    assert_eq!(driver.drain(ms(1_000)), []);
}

#[test]
fn an_address_that_does_not_answer_gets_three_probes_a_second() {
    let mut driver = Driver::up();
    let mut to_others = Vec::new();
    for at in 1_000..4_000 {
        to_others.extend(driver.run(ms(at)));
        // Whoever has the key claims to be somebody else each time, and asks for answers.
        let victim = address(100 + (at % 50) as u8);
        driver.route.on_datagram(ms(at), victim, 42, true);
        to_others.extend(driver.drain(ms(at)).iter().map(|probe| (at, probe.to)));
        if driver.route.may_answer(victim) {
            to_others.push((at, victim));
        }
    }
    to_others.retain(|(_, to)| *to != address(TOLD));
    assert!((9..=18).contains(&to_others.len()), "{to_others:?}");
    assert_eq!(driver.route.address(), Some(address(TOLD)));
}

#[test]
fn a_probe_is_never_larger_than_what_came() {
    let mut driver = Driver::up();
    driver.route.on_datagram(ms(1_000), address(MOVED), PROBE_DATAGRAM_BYTES - 1, true);
    assert_eq!(driver.drain(ms(1_000)), []);
    driver.route.on_datagram(ms(1_000), address(MOVED), PROBE_DATAGRAM_BYTES, true);
    assert_eq!(driver.drain(ms(1_000)).len(), 1);
    let mut sealer = crate::path::Sealer::new(crate::path::SessionId::new([1; 8]), &crate::path::Key::new([1; 32]));
    let probe = crate::wire::Frame::Probe { token: u64::MAX };
    assert_eq!(sealer.seal(10, |out| probe.encode(out)).unwrap().len(), PROBE_DATAGRAM_BYTES);
}

#[test]
fn the_peers_own_host_gets_every_answer_and_strangers_none() {
    let mut driver = Driver::up();
    let behind_a_nat = SocketAddr::new(address(TOLD).ip(), 9);
    assert!((0..100).all(|_| driver.route.may_answer(address(TOLD)) && driver.route.may_answer(behind_a_nat)));
    assert!(!driver.route.may_answer(address(MOVED)));
    driver.route.on_datagram(ms(1_000), address(MOVED), 100, true);
    assert_eq!((0..9).filter(|_| driver.route.may_answer(address(MOVED))).count(), 3);
}

#[test]
fn a_change_of_interfaces_is_followed_by_probes_at_once() {
    let mut driver = Driver::up();
    driver.route.on_interfaces_changed(ms(1_000));
    assert_eq!(driver.drain(ms(1_000)).len(), 1);
    assert!(driver.route.is_up(), "until it is known that it does not work");
    driver.run(ms(60_000));
    driver.route.on_interfaces_changed(ms(60_001));
    assert_eq!(driver.drain(ms(60_001)).len(), 1);
    assert_eq!(driver.times(ms(60_250)), [60_101, 60_201]);
}

#[test]
fn a_path_that_flaps_must_answer_more_often() {
    let mut driver = Driver::up();
    let mut now = 1_000;
    for needed in [2, 4, 8, 8] {
        driver.talk(now, now + 440);
        assert!(!driver.route.is_up());
        now += 440;
        for answer in 1..=needed {
            assert!(!driver.route.is_up(), "{answer} of {needed}");
            while driver.run(ms(now)).is_empty() {
                now += 20;
            }
            driver.route.on_probed(ms(now + 1), driver.token, Via::Datagram);
        }
        assert!(driver.route.is_up(), "{needed}");
        now += 20;
    }
    // After a while without a loss, one answer is enough again.
    for at in (now..now + 6_000).step_by(10) {
        driver.run(ms(at));
        driver.route.on_probed(ms(at), driver.token, Via::Datagram);
    }
    now += 6_000;
    driver.lose(ms(now));
    driver.drain(ms(now));
    driver.route.on_probed(ms(now + 20), driver.token, Via::Datagram);
    assert!(driver.route.is_up());
}

#[test]
fn an_answer_that_waited_on_the_substream_hardly_changes_the_round_trip() {
    let mut driver = Driver::up();
    driver.run(ms(5_520));
    driver.route.on_probed(ms(5_820), driver.token, Via::Substream);
    let rtt = driver.route.stats().rtt.unwrap();
    assert!((Duration::from_millis(21)..Duration::from_millis(25)).contains(&rtt), "{rtt:?}");
    driver.run(ms(10_520));
    driver.route.on_probed(ms(10_540), driver.token, Via::Datagram);
    assert!(driver.route.stats().rtt.unwrap() < rtt);
}

#[test]
fn a_path_is_lost_if_the_machine_drops_three_datagrams_in_a_row() {
    let mut driver = Driver::up();
    for n in 0..10 {
        driver.route.on_sent(ms(600 + n), Some(n), 200);
        driver.route.on_dropped(ms(600 + n));
        driver.route.on_dropped(ms(600 + n));
        driver.route.on_ack(n);
        assert!(driver.route.is_up());
    }
    driver.lose(ms(700));
    assert_eq!(driver.drain(ms(700)).len(), 1);
}

#[test]
fn large_datagrams_are_not_sent_where_only_small_ones_come_through() {
    let mut driver = Driver::up();
    assert_eq!(driver.route.max_datagram_bytes(), MAX_DATAGRAM_BYTES);
    driver.route.on_sent(ms(600), Some(1), 1_400);
    driver.run(ms(1_000));
    assert!(!driver.route.is_up());
    assert_eq!(driver.route.max_datagram_bytes(), 1_200);
}
