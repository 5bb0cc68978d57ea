//! Is a path up only while it is confirmed, and soon once it works? A peer that answers, over links that fail.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::watch::CONFIRMED_WITHIN;
use super::tests::{Driver, TOLD, address, ms};
use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Works,
    /// Datagrams of this direction are lost, the substream works.
    Blocked,
    /// Nothing comes through. The substream delivers later.
    Dead,
    /// So many percent of the datagrams are lost, each way.
    Lossy(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    ProbeAtPeer(u64),
    FrameAtPeer(u64),
    AckDue,
    ProbedAtUs(u64),
    AckAtUs(u64),
    Frame,
}

struct Model {
    driver: Driver,
    now: Time,
    events: BTreeMap<(Time, u64), Event>,
    count: u64,
    /// When each link begins.
    links: Vec<(Time, Link)>,
    /// One way.
    delay: Duration,
    dice: u64,
    highest: Option<u64>,
    next_frame: u64,
    /// The times at which datagrams were sent since the newest that has been confirmed.
    unconfirmed: BTreeSet<Time>,
    probes: BTreeMap<u64, Time>,
    frames: BTreeMap<u64, Time>,
    confirmed_at: Option<Time>,
}

impl Model {
    fn new(links: &[(u64, Link)], delay: Duration, dice: u64) -> Self {
        let mut begins = ms(0);
        let links = links.iter().map(|&(millis, link)| {
            let at = begins;
            begins = begins + Duration::from_millis(millis);
            (at, link)
        });
        let links = links.collect();
        let (events, driver) = (BTreeMap::new(), Driver::new());
        let (unconfirmed, probes, frames) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let (count, highest, next_frame, confirmed_at, now) = (0, None, 0, None, ms(0));
        let mut model = Self {
            driver,
            now,
            events,
            count,
            links,
            delay,
            dice,
            highest,
            next_frame,
            unconfirmed,
            probes,
            frames,
            confirmed_at,
        };
        model.after(Duration::ZERO, Event::AckDue);
        model.send_probes();
        model
    }

    fn after(&mut self, pause: Duration, event: Event) {
        self.count += 1;
        self.events.insert((self.now + pause, self.count), event);
    }

    fn link(&self) -> (Time, Link) {
        *self.links.iter().rev().find(|(at, _)| *at <= self.now).expect("the first begins at zero")
    }

    fn is_lost(&mut self, percent: u8) -> bool {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % 100 < percent.into()
    }

    fn datagram(&mut self, event: Event, is_ours: bool) {
        let is_lost = match self.link().1 {
            Link::Works => false,
            Link::Blocked => is_ours,
            Link::Dead => true,
            Link::Lossy(percent) => self.is_lost(percent),
        };
        if !is_lost {
            self.after(self.delay, event);
        }
    }

    fn substream(&mut self, event: Event) {
        let dead_for = match self.link().1 {
            Link::Dead => self.links.iter().find(|(at, _)| *at > self.now).map(|(at, _)| *at - self.now),
            _ => Some(Duration::ZERO),
        };
        // What is sent while the last link is dead never arrives.
        if let Some(dead_for) = dead_for {
            self.after(dead_for + self.delay * 2, event);
        }
    }

    fn send_probes(&mut self) {
        for probe in self.driver.drain(self.now) {
            assert_eq!(probe.to, address(TOLD));
            self.probes.insert(probe.token, self.now);
            self.unconfirmed.insert(self.now);
            self.datagram(Event::ProbeAtPeer(probe.token), true);
        }
    }

    fn confirm(&mut self, sent_at: Time) {
        self.unconfirmed.retain(|at| *at > sent_at);
        self.confirmed_at = Some(self.now);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ProbeAtPeer(token) => {
                self.datagram(Event::ProbedAtUs(token), false);
                self.substream(Event::ProbedAtUs(token));
            }
            Event::FrameAtPeer(sequence) => self.highest = self.highest.max(Some(sequence)),
            Event::AckDue => {
                if let Some(highest) = self.highest {
                    self.datagram(Event::AckAtUs(highest), false);
                }
                self.after(Duration::from_millis(100), Event::AckDue);
            }
            Event::ProbedAtUs(token) => {
                if let Some(sent_at) = self.probes.get(&token).copied() {
                    self.confirm(sent_at);
                }
                let was_up = self.driver.route.is_up();
                self.driver.route.on_probed(self.now, token, Via::Datagram);
                if !was_up && self.driver.route.is_up() {
                    // What was sent before the suspicion is forgotten. The probes after it count.
                    self.unconfirmed.retain(|at| self.probes.values().any(|probe| probe == at));
                }
            }
            Event::AckAtUs(highest) => {
                if let Some(sent_at) = self.frames.get(&highest).copied() {
                    self.confirm(sent_at);
                }
                self.driver.route.on_ack(highest);
            }
            Event::Frame => {
                let sequence = self.next_frame;
                self.next_frame += 1;
                if self.driver.route.is_up() {
                    self.driver.route.on_sent(self.now, Some(sequence), 200);
                    self.frames.insert(sequence, self.now);
                    self.unconfirmed.insert(self.now);
                    self.datagram(Event::FrameAtPeer(sequence), true);
                } else {
                    self.substream(Event::FrameAtPeer(sequence));
                }
                self.after(Duration::from_millis(20), Event::Frame);
            }
        }
    }

    /// One event. Returns false at the end.
    fn step(&mut self, end: Time) -> bool {
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let timer = self.driver.route.next_deadline();
        let Some(at) = event.into_iter().chain(timer).min().filter(|at| *at <= end) else { return false };
        let now = self.now.max(at);
        self.now = now;
        if timer == Some(at) {
            self.driver.route.handle_timeout(now);
            assert!(self.driver.route.next_deadline().is_none_or(|next| next > now), "busy at {now:?}");
        } else if let Some((_, event)) = self.events.pop_first() {
            self.handle(event);
        }
        self.send_probes();
        self.check();
        true
    }

    /// The greatest round trip: there by datagram, back by the substream at half the speed.
    fn max_rtt(&self) -> Duration {
        self.delay * 3
    }

    fn check(&self) {
        // A round trip can make the bound less: then the suspicion is due.
        if !self.driver.route.is_up() || self.driver.route.next_deadline().is_some_and(|at| at <= self.now) {
            return;
        }
        let bound = self.driver.route.watch.confirmed_within();
        let confirmed_at = self.confirmed_at.expect("up without any confirmation");
        assert!(self.now - confirmed_at <= KEPT_ALIVE_EVERY + bound, "up without a confirmation for long");
        if let Some(first) = self.unconfirmed.first() {
            assert!(self.now - *first <= bound, "up, but nothing that was sent since {first:?} was confirmed");
        }
    }

    fn run(&mut self, end: Time) {
        while self.step(end) {}
    }
}

fn any_link() -> impl Strategy<Value = Link> {
    prop_oneof![
        4 => Just(Link::Works),
        2 => Just(Link::Blocked),
        2 => Just(Link::Dead),
        3 => (1..95u8).prop_map(Link::Lossy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Up means confirmed, whatever is lost and when.
    #[test]
    fn a_path_is_up_only_while_it_is_confirmed(
        links in vec((10..20_000u64, any_link()), 1..12),
        delay_ms in 1..150u64,
        dice in any::<u64>(),
        talks_at in 0..20_000u64,
    ) {
        let mut model = Model::new(&links, Duration::from_millis(delay_ms), dice);
        model.after(Duration::from_millis(talks_at), Event::Frame);
        model.run(ms(links.iter().map(|(millis, _)| millis).sum()));
    }

    /// And once datagrams come through, it is up soon, and stays up.
    #[test]
    fn a_path_that_works_is_up_soon_and_stays_up(
        links in vec((10..20_000u64, any_link()), 0..6),
        delay_ms in 1..150u64,
        dice in any::<u64>(),
        talks in any::<bool>(),
    ) {
        let mut links = links;
        links.push((60_000, Link::Works));
        let mut model = Model::new(&links, Duration::from_millis(delay_ms), dice);
        if talks {
            model.after(Duration::ZERO, Event::Frame);
        }
        let (works_at, _) = *model.links.last().unwrap();
        // The slowest probes, the most answers that a path that flaps must give, and one bound to notice the last loss.
        let slack = CONFIRMED_WITHIN + model.max_rtt() * 7;
        let up_at = works_at + KEPT_ALIVE_EVERY + LOST_EVERY * MAX_NEEDED + slack;
        model.run(up_at);
        prop_assert!(model.driver.route.is_up());
        let losses = model.driver.route.stats().losses;
        model.run(works_at + Duration::from_secs(60));
        prop_assert!(model.driver.route.is_up());
        prop_assert_eq!(model.driver.route.stats().losses, losses);
    }

    /// A path that was up is used again within 100 ms and a round trip, if it fails for less than 10 s.
    #[test]
    fn a_path_that_comes_back_is_used_at_once(
        outage_ms in 1..9_000u64,
        is_dead in any::<bool>(),
        delay_ms in 1..150u64,
    ) {
        let outage = if is_dead { Link::Dead } else { Link::Blocked };
        let links = [(10_000, Link::Works), (outage_ms, outage), (10_000, Link::Works)];
        let mut model = Model::new(&links, Duration::from_millis(delay_ms), 0);
        model.after(Duration::ZERO, Event::Frame);
        model.run(ms(10_000 + outage_ms) + LOST_EVERY + model.max_rtt());
        prop_assert!(model.driver.route.is_up() || model.driver.route.stats().losses == 0);
        model.run(ms(20_000 + outage_ms));
        prop_assert!(model.driver.route.is_up());
        prop_assert!(model.driver.route.stats().losses <= 1);
    }
}
