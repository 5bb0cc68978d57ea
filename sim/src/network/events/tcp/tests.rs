use std::cmp::Reverse;
use std::collections::BinaryHeap;

use avi_links::{Lane, Link, Profile};

use super::*;

/// Two ends, each behind a link, with a clock of their own.
struct Pair {
    now: Duration,
    ends: [Endpoint; 2],
    links: [Link; 2],
    /// Arrivals: when, their order, at which end, the index of the packet, and whether it crosses the downlink first.
    heap: BinaryHeap<Reverse<(Duration, usize, usize, bool)>>,
    packets: Vec<Packet>,
    /// What the second end has read.
    read: Vec<u8>,
    reads: bool,
    /// Whether a packet of the first end is lost, by its number.
    lost: Box<dyn Fn(usize, Duration) -> bool>,
    sent: usize,
}

impl Pair {
    fn new(profile: &Profile) -> Self {
        Self {
            now: Duration::ZERO,
            ends: [Endpoint::new(), Endpoint::new()],
            links: [Link::new(profile, 1), Link::new(profile, 2)],
            heap: BinaryHeap::new(),
            packets: Vec::new(),
            read: Vec::new(),
            reads: true,
            lost: Box::new(|_, _| false),
            sent: 0,
        }
    }

    /// 50 ms one way, without a bound.
    fn plain() -> Self {
        let lane = Lane { latency_ms: 25.0, ..Lane::default() };
        Self::new(&Profile { up: lane.clone(), down: lane, ..Profile::default() })
    }

    fn flush(&mut self) {
        for from in 0..2 {
            while let Some(packet) = self.ends[from].poll_packet(self.now) {
                let is_lost = from == 0 && (self.lost)(self.sent, self.now);
                self.sent += usize::from(from == 0);
                let fate = self.links[from].up(self.now, packet.len());
                if let Some(at) = fate.at.filter(|_| !is_lost) {
                    self.packets.push(packet);
                    self.heap.push(Reverse((at, self.packets.len() - 1, 1 - from, false)));
                }
            }
        }
    }

    /// Lets things happen until the time, or until nothing happens any more.
    fn run_until(&mut self, end: Duration) {
        self.flush();
        loop {
            let arrival = self.heap.peek().map(|Reverse((at, ..))| *at);
            let timers = self.ends.iter().filter_map(Endpoint::next_timer);
            let Some(next) = timers.chain(arrival).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrival == Some(next)
                && let Some(Reverse((at, packet, to, has_crossed))) = self.heap.pop()
            {
                let len = self.packets[packet].len();
                match (has_crossed, self.links[to].clone()) {
                    (true, _) => self.ends[to].on_packet(self.now, self.packets[packet].clone()),
                    (false, _) => {
                        if let Some(at) = self.links[to].down(at, len).at {
                            self.heap.push(Reverse((at, packet, to, true)));
                        }
                    }
                }
            } else {
                self.ends.iter_mut().for_each(|end| end.on_timer(next));
            }
            self.read();
            self.flush();
        }
        self.now = self.now.max(end);
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while self.reads
            && let Read::Bytes(len) = self.ends[1].read(&mut buffer)
        {
            self.read.extend_from_slice(&buffer[..len]);
        }
    }

    /// Writes everything, and returns when the last byte has been read.
    fn transfer(&mut self, bytes: &[u8], patience: Duration) -> Duration {
        let (mut rest, before) = (bytes, self.read.len());
        let end = self.now + patience;
        while self.read.len() < before + bytes.len() {
            rest = &rest[self.ends[0].write(rest)..];
            self.run_until(self.now + Duration::from_millis(1));
            assert!(self.now < end, "{} of {} bytes after {patience:?}", self.read.len() - before, bytes.len());
        }
        self.now
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn everything_arrives_in_order_over_every_profile() {
    for (name, _) in avi_links::BUILTIN {
        let mut pair = Pair::new(&Profile::load(name).unwrap());
        let sent = bytes(60_000);
        pair.transfer(&sent, Duration::from_secs(120));
        assert!(pair.read == sent, "{name}");
    }
}

#[test]
fn everything_arrives_in_order_although_packets_overtake_and_come_twice() {
    let lane = Lane { latency_ms: 30.0, jitter_ms: 25.0, reorder: true, duplicate: 0.1, loss: 0.05, ..Lane::default() };
    let mut pair = Pair::new(&Profile { up: lane.clone(), down: lane, ..Profile::default() });
    let sent = bytes(300_000);
    pair.transfer(&sent, Duration::from_secs(120));
    assert!(pair.read == sent);
}

#[test]
fn slow_start_doubles_the_window_every_round_trip() {
    // 10, 20 and 40 segments: the last ones leave after two round trips, and arrive half a one later.
    let took = Pair::plain().transfer(&bytes(70 * SEGMENT_BYTES), Duration::from_secs(5));
    assert!((millis(250)..=millis(255)).contains(&took), "{took:?}");
}

/// Sends a small segment every 20 ms, as a call does, and returns when each was read.
fn call(pair: &mut Pair, frames: usize) -> Vec<Duration> {
    let mut read_at = Vec::new();
    for frame in 0..frames {
        assert_eq!(pair.ends[0].write(&[frame as u8; 100]), 100);
        for _ in 0..20 {
            pair.run_until(pair.now + millis(1));
            read_at.resize(pair.read.len() / 100, pair.now);
        }
    }
    read_at
}

#[test]
fn a_lost_segment_is_sent_again_a_little_after_a_later_one_has_arrived_and_all_wait_for_it() {
    let mut pair = Pair::plain();
    pair.lost = Box::new(|number, _| number == 50);
    let read_at = call(&mut pair, 100);
    let age = |frame: usize| read_at[frame].saturating_sub(millis(20) * frame as u32);
    assert!(age(49) <= millis(51), "{:?}", age(49));
    // A round trip, a quarter of one in which it might be reordered, and half a one for the second try.
    assert!((millis(174)..=millis(177)).contains(&age(50)), "{:?}", age(50));
    assert!(read_at[50] == read_at[55], "what came later waits for it");
    assert!(age(70) <= millis(51), "{:?}", age(70));
}

#[test]
fn a_lost_last_segment_is_repaired_by_a_probe_before_the_timeout() {
    let mut pair = Pair::plain();
    call(&mut pair, 20);
    let sent = pair.sent;
    pair.lost = Box::new(move |number, _| number == sent);
    let began = pair.now;
    pair.ends[0].write(&[1; 100]);
    pair.run_until(began + millis(1000));
    assert_eq!(pair.read.len(), 2100);
    assert_eq!(pair.sent, sent + 2, "one segment, and one probe");
}

#[test]
fn after_an_outage_frames_stay_behind_until_a_timeout_that_has_doubled() {
    let mut pair = Pair::plain();
    pair.lost = Box::new(|_, now| (millis(1000)..millis(4000)).contains(&now));
    let read_at = call(&mut pair, 400);
    let late = read_at.iter().enumerate().map(|(n, at)| at.saturating_sub(millis(20) * n as u32)).max().unwrap();
    assert!((millis(3000)..=millis(7000)).contains(&late), "{late:?}");
}

#[test]
fn a_writer_is_pushed_back_when_the_send_buffer_is_full() {
    let mut pair = Pair::plain();
    pair.lost = Box::new(|_, _| true);
    let mut taken = 0;
    loop {
        match pair.ends[0].write(&[0; 10_000]) {
            0 => break,
            len => taken += len,
        }
        pair.run_until(pair.now + millis(1));
    }
    assert!((50_000..=100_000).contains(&taken), "{taken}");
    assert!(!pair.ends[0].is_writable());
}

#[test]
fn a_reader_that_does_not_read_stops_the_sender_and_later_gets_everything() {
    let mut pair = Pair::plain();
    pair.reads = false;
    let sent = bytes(2 * WINDOW_BYTES);
    let mut rest = &sent[..];
    for _ in 0..30_000 {
        rest = &rest[pair.ends[0].write(rest)..];
        pair.run_until(pair.now + millis(1));
    }
    let before = pair.sent;
    pair.run_until(pair.now + Duration::from_secs(60));
    assert!(pair.sent - before < 30, "a sender without a window only asks for one: {}", pair.sent - before);
    pair.reads = true;
    pair.read();
    pair.flush();
    let began = pair.now;
    while pair.read.len() < sent.len() {
        rest = &rest[pair.ends[0].write(rest)..];
        pair.run_until(pair.now + millis(1));
        assert!(pair.now < began + Duration::from_secs(10), "{} bytes", pair.read.len());
    }
    assert!(pair.read == sent);
}

#[test]
fn the_end_comes_after_the_data_and_is_acknowledged() {
    let mut pair = Pair::new(&Profile::load("wifi_busy").unwrap());
    pair.ends[0].write(&bytes(20_000));
    pair.ends[0].close();
    pair.run_until(Duration::from_secs(20));
    assert_eq!(pair.read, bytes(20_000));
    assert!(matches!(pair.ends[1].read(&mut [0; 8]), Read::End));
    assert!(pair.ends[0].is_done());
}

#[test]
fn the_system_gives_up_after_about_a_quarter_of_an_hour() {
    let mut pair = Pair::plain();
    call(&mut pair, 20);
    pair.lost = Box::new(|_, _| true);
    pair.ends[0].write(&[1; 100]);
    pair.run_until(pair.now + Duration::from_secs(900));
    assert!(!pair.ends[0].has_given_up());
    pair.run_until(pair.now + Duration::from_secs(600));
    assert!(pair.ends[0].has_given_up());
}

#[test]
fn nothing_is_left_to_do_when_everything_has_arrived() {
    let mut pair = Pair::plain();
    call(&mut pair, 20);
    pair.run_until(pair.now + Duration::from_secs(5));
    assert_eq!(pair.ends[0].next_timer(), None);
    assert_eq!(pair.ends[1].next_timer(), None);
}
