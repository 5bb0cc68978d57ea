//! What does a sender do on paths of all kinds? A path here is a queue with a rate and a delay, in steps of 1 ms.

use super::*;
use crate::audio::{AudioReceiver, SendQueue};
use crate::media::OnCongestion;
use crate::wire::{Decoder, Frame};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

const AUDIO_QUEUE: Duration = Duration::from_millis(200);

/// How the other end acknowledges.
#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Acks,
    Reports,
    Mute,
}

/// A call of 20 ms frames over a path.
struct Call {
    now_ms: u64,
    queue: SendQueue,
    flight: Flight,
    receiver: AudioReceiver,
    peer: Peer,
    frame_bytes: usize,
    /// Of one direction.
    delay_ms: u64,
    bytes_per_ms: f64,
    /// Nothing passes before this time.
    stalled_until_ms: u64,
    /// Loses each frame with a sequence divisible by this.
    loses_each: u64,
    /// What waits for the path: when it was sent, and the frame.
    pipe: VecDeque<(u64, usize, Frame)>,
    credit: f64,
    arriving: VecDeque<(u64, Frame)>,
    acks: VecDeque<(u64, Frame)>,
    acked_ms: Option<u64>,
    acked: u64,
    /// When each frame arrived, and how old it was.
    ages: Vec<(u64, u64)>,
}

impl Call {
    fn new(peer: Peer, path: Path, kbit: u64) -> Self {
        let mut flight = Flight::new(path);
        if peer == Peer::Acks {
            flight.on_ack(Time::ZERO, &Ack::default());
        }
        Self {
            now_ms: 0,
            queue: SendQueue::new(AUDIO_QUEUE, 1 << 20, OnCongestion::DropOldest),
            flight,
            receiver: AudioReceiver::new(AUDIO_QUEUE),
            peer,
            frame_bytes: 640,
            delay_ms: 20,
            bytes_per_ms: kbit as f64 / 8.0,
            stalled_until_ms: 0,
            loses_each: u64::MAX,
            pipe: VecDeque::new(),
            credit: 0.0,
            arriving: VecDeque::new(),
            acks: VecDeque::new(),
            acked_ms: None,
            acked: 0,
            ages: Vec::new(),
        }
    }

    fn run(&mut self, seconds: f64) -> &mut Self {
        let end = self.now_ms + (seconds * 1000.0) as u64;
        while self.now_ms < end {
            let now = Time::from_millis(self.now_ms);
            if self.now_ms.is_multiple_of(20) {
                self.queue.push(now, Bytes::from(vec![7; self.frame_bytes])).unwrap();
            }
            self.carry();
            while self.acks.front().is_some_and(|(at, _)| *at <= self.now_ms) {
                match self.acks.pop_front() {
                    Some((_, Frame::Ack(ack))) => self.flight.on_ack(now, &ack),
                    Some((_, Frame::Report(report))) => self.flight.on_report(now, report.highest_sequence),
                    _ => {}
                }
            }
            self.send(now);
            self.now_ms += 1;
        }
        self
    }

    fn send(&mut self, now: Time) {
        let room = self.flight.room(now);
        if room == 0 && !self.queue.is_empty() {
            assert!(self.flight.opens_at(now).is_none_or(|at| at > now));
        }
        self.queue.set_max_age(self.flight.max_wait(AUDIO_QUEUE));
        let mut bytes = BytesMut::new();
        let Some(batch) = self.queue.take_batch(now, room, &mut bytes) else { return };
        self.flight.on_sent(now, &batch, self.queue.is_empty());
        let (mut decoder, mut bytes) = (Decoder::new(1 << 20), bytes.freeze());
        while let Some(frame) = decoder.decode(&mut bytes).unwrap() {
            self.pipe.push_back((self.now_ms, self.frame_bytes, frame));
        }
    }

    fn carry(&mut self) {
        let now = Time::from_millis(self.now_ms);
        if self.now_ms >= self.stalled_until_ms {
            self.credit = if self.pipe.is_empty() { 0.0 } else { self.credit + self.bytes_per_ms };
            while self.pipe.front().is_some_and(|(_, bytes, _)| *bytes as f64 <= self.credit) {
                let (_, bytes, frame) = self.pipe.pop_front().unwrap();
                self.credit -= bytes as f64;
                self.arriving.push_back((self.now_ms + self.delay_ms, frame));
            }
        }
        while self.arriving.front().is_some_and(|(at, _)| *at <= self.now_ms) {
            let Some((_, Frame::Data { sequence, timestamp_us, .. })) = self.arriving.pop_front() else { panic!() };
            if sequence.is_multiple_of(self.loses_each) && sequence > 0 {
                continue;
            }
            self.receiver.on_data(now, sequence, timestamp_us).unwrap();
            self.ages.push((self.now_ms, self.now_ms - timestamp_us / 1000));
        }
        let every_ms = if self.peer == Peer::Acks { 100 } else { 1000 };
        let is_due = self.acked_ms.is_none_or(|at| self.now_ms >= at + every_ms);
        if self.peer != Peer::Mute && is_due && self.receiver.received() > self.acked {
            (self.acked_ms, self.acked) = (Some(self.now_ms), self.receiver.received());
            let frame = match self.peer {
                Peer::Acks => Frame::Ack(self.receiver.ack()),
                _ => Frame::Report(self.receiver.report()),
            };
            self.acks.push_back((self.now_ms + self.delay_ms, frame));
        }
    }

    /// The ages of the frames that arrived after so many seconds: the oldest, and the oldest of 99 %.
    fn ages(&self, after_s: u64) -> (u64, u64) {
        let mut ages: Vec<u64> = self.ages.iter().filter(|(at, _)| *at > after_s * 1000).map(|(_, age)| *age).collect();
        ages.sort_unstable();
        (ages[ages.len() - 1], ages[ages.len() * 99 / 100])
    }

    fn share_received(&self) -> f64 {
        self.receiver.received() as f64 / self.queue.next_sequence() as f64
    }
}

#[test]
fn on_half_of_what_a_call_wants_frames_stay_young_and_the_path_is_used() {
    for path in [Path::Ordered, Path::Lossy] {
        for (kbit, least) in [(240, 0.85), (200, 0.7), (128, 0.44)] {
            let mut call = Call::new(Peer::Acks, path, kbit);
            call.run(60.0);
            // The path's own delay is 20 ms, and 40 ms to send a frame at 128 kbit/s.
            let (oldest, most) = call.ages(0);
            assert!(oldest <= 400 && most <= 360, "{kbit} kbit/s: {oldest} ms, {most} ms");
            let (oldest, _) = call.ages(3);
            assert!(oldest <= 300, "{kbit} kbit/s: {oldest} ms");
            assert!(call.share_received() >= least, "{kbit} kbit/s: {} arrive", call.share_received());
            let rate = call.flight.rate_bits_per_second().unwrap() as f64 / 1000.0;
            assert!((0.85..=1.3).contains(&(rate / kbit as f64)), "{kbit} kbit/s is thought to be {rate}");
        }
    }
}

#[test]
fn an_older_end_that_only_reports_bounds_frames_too() {
    for kbit in [200, 128] {
        let mut call = Call::new(Peer::Reports, Path::Ordered, kbit);
        call.run(60.0);
        let (oldest, _) = call.ages(10);
        assert!(oldest <= 500, "{kbit} kbit/s: {oldest} ms");
        assert!(call.share_received() >= 0.4, "{kbit} kbit/s: {}", call.share_received());
    }
}

#[test]
fn a_good_path_drops_nothing_and_has_no_limit() {
    for peer in [Peer::Acks, Peer::Reports, Peer::Mute] {
        for delay_ms in [0, 20, 100] {
            let mut call = Call::new(peer, Path::Ordered, 20_000);
            call.delay_ms = delay_ms;
            call.run(20.0);
            assert_eq!(call.queue.dropped(), 0);
            // The first frames wait for the first ACK, if it takes long.
            assert!(call.ages(0).0 <= 2 * delay_ms + 60 && call.ages(2).0 <= delay_ms + 2, "{:?}", call.ages(0));
            assert_eq!(call.flight.rate_bits_per_second(), None);
        }
    }
}

#[test]
fn a_retransmission_costs_no_frame() {
    for stall_ms in [200, 300] {
        let mut call = Call::new(Peer::Acks, Path::Ordered, 20_000);
        for _ in 0..20 {
            call.run(1.013);
            call.stalled_until_ms = call.now_ms + stall_ms;
        }
        call.run(1.0);
        assert_eq!(call.queue.dropped(), 0, "stalls of {stall_ms} ms");
        assert!(call.ages(0).0 <= stall_ms + 60, "{:?}", call.ages(0));
    }
}

#[test]
fn after_an_outage_the_frames_that_leave_are_fresh() {
    let mut call = Call::new(Peer::Acks, Path::Ordered, 20_000);
    call.run(5.0);
    call.stalled_until_ms = call.now_ms + 3000;
    call.run(5.0);
    let old = call.ages.iter().filter(|(_, age)| *age > 300).count();
    // What was in flight: the interval, the round trip and the allowance.
    assert!((18..=24).contains(&old), "{old} old frames");
    assert!(call.queue.dropped() >= 105);
}

#[test]
fn a_path_that_gets_slower_or_faster_is_followed() {
    let mut call = Call::new(Peer::Acks, Path::Ordered, 1000);
    call.run(20.0);
    assert_eq!(call.flight.rate_bits_per_second(), None);
    call.bytes_per_ms = 16.0;
    call.run(5.0);
    assert!(call.ages(20).0 <= 500, "{:?}", call.ages(20));
    call.run(15.0);
    assert!(call.ages(25).0 <= 300, "{:?}", call.ages(25));
    let dropped = call.queue.dropped();
    call.bytes_per_ms = 125.0;
    call.run(10.0);
    assert!(call.queue.dropped() <= dropped + 10, "{} of {dropped}", call.queue.dropped());
    assert_eq!(call.flight.rate_bits_per_second(), None);
}

#[test]
fn a_path_that_becomes_longer_for_good_is_used_again() {
    let mut call = Call::new(Peer::Acks, Path::Ordered, 2000);
    call.run(10.0);
    call.delay_ms = 200;
    call.run(30.0);
    let dropped = call.queue.dropped();
    call.run(30.0);
    assert_eq!(call.queue.dropped(), dropped);
}

#[test]
fn lost_datagrams_neither_close_the_flight_nor_count_as_delivered() {
    let mut call = Call::new(Peer::Acks, Path::Lossy, 20_000);
    call.loses_each = 10;
    call.run(20.0);
    assert_eq!(call.queue.dropped(), 0);
    let delivered = call.flight.delivered_bytes as f64 / (call.queue.next_sequence() * 648) as f64;
    assert!((0.88..=0.92).contains(&delivered), "{delivered}");

    // Nothing arrives at all: the flight gives up what is lost, and tries again.
    let batch =
        |sequence| Batch { frames: 1, bytes: 650, sequences: (sequence, sequence), given: (Time::ZERO, Time::ZERO) };
    let mut flight = Flight::new(Path::Lossy);
    flight.on_ack(Time::ZERO, &Ack::default());
    flight.on_sent(Time::ZERO, &batch(0), true);
    let late = Time::ZERO + FIRST_ACK_WITHIN + Duration::from_millis(1);
    assert_eq!(flight.room(late), 0);
    let again = flight.opens_at(late).unwrap();
    assert_eq!(again, Time::ZERO + FIRST_ACK_WITHIN + STALL);
    assert_eq!((flight.room(again), flight.in_flight_bytes()), (usize::MAX, 0));
}

#[test]
fn the_acknowledgement_of_a_long_queue_of_datagrams_is_waited_for() {
    // What waits for the first one is given up after it could have come.
    let mut call = Call::new(Peer::Acks, Path::Lossy, 160);
    call.delay_ms = 100;
    call.run(20.0);
    assert!(call.flight.rate_bits_per_second().is_some());
    let (oldest, most) = call.ages(5);
    assert!(oldest <= 700 && most <= 500, "{oldest} {most}");
}

#[test]
fn an_end_that_tells_nothing_gets_a_bounded_number_of_bytes_in_a_second() {
    let mut flight = Flight::new(Path::Ordered);
    let batch = Batch { frames: 1, bytes: 64 * 1024, sequences: (0, 0), given: (Time::ZERO, Time::ZERO) };
    for n in 0..4 {
        assert!(flight.room(Time::ZERO) > 0);
        flight.on_sent(Time::ZERO, &Batch { sequences: (n, n), ..batch }, true);
    }
    assert_eq!(flight.room(Time::ZERO), 0);
    let opens_at = flight.opens_at(Time::ZERO).unwrap();
    assert_eq!(opens_at, Time::ZERO + UNREPORTED_FOR);
    assert_eq!(flight.room(opens_at), usize::MAX);
}

#[test]
fn an_acknowledgement_of_a_part_takes_a_part() {
    let mut flight = Flight::new(Path::Ordered);
    let batch = Batch { frames: 10, bytes: 1000, sequences: (5, 14), given: (Time::ZERO, Time::ZERO) };
    flight.on_sent(Time::ZERO, &batch, true);
    let at = Time::from_millis(30);
    let ack = |highest_sequence, received| Ack { highest_sequence, received, delay_us: 0 };
    flight.on_ack(at, &ack(4, 1));
    assert_eq!(flight.in_flight_bytes(), 1000);
    flight.on_ack(at, &ack(7, 3));
    assert_eq!(flight.in_flight_bytes(), 700);
    flight.on_ack(at, &ack(6, 3));
    assert_eq!(flight.in_flight_bytes(), 700);
    flight.on_ack(at, &ack(u64::MAX, u64::MAX));
    assert_eq!((flight.in_flight_bytes(), flight.room(at)), (0, usize::MAX));
}

#[test]
fn what_frames_waited_on_the_path_before_says_nothing_of_this_one() {
    let batch = |n: u64| {
        let given = Time::from_millis(20 * n);
        Batch { frames: 1, bytes: 650, sequences: (n, n), given: (given, given) }
    };
    let mut flight = Flight::new(Path::Ordered);
    flight.on_ack(Time::ZERO, &Ack::default());
    (0..5).for_each(|n| flight.on_sent(Time::from_millis(20 * n), &batch(n), true));
    flight.change_path(Path::Lossy, None);
    // TCP sends them again, and their acknowledgements come one after another.
    let ack = |n: u64| Ack { highest_sequence: n, received: n + 1, delay_us: 400_000 };
    for n in 0..5 {
        flight.on_ack(Time::from_millis(100 + 100 * n), &ack(n));
        flight.on_sent(Time::from_millis(100 + 100 * n), &batch(5 + n), true);
    }
    assert_eq!((flight.queue_delay(), flight.rate_bits_per_second()), (None, None));
}

#[test]
fn on_another_path_nothing_of_the_old_one_is_known() {
    let mut call = Call::new(Peer::Acks, Path::Ordered, 128);
    call.run(10.0);
    assert!(call.flight.rate_bits_per_second().is_some() && call.flight.in_flight_bytes() > 0);
    call.flight.change_path(Path::Lossy, None);
    assert_eq!((call.flight.rate_bits_per_second(), call.flight.in_flight_bytes()), (None, 0));
    assert_eq!(call.flight.feedback, Feedback::Acks);
    let interval_ms = call.flight.interval.as_millis();
    assert!((70..=120).contains(&interval_ms), "{interval_ms} ms");
}

proptest! {
    /// Whatever the other end claims: the bytes in flight add up, the flight opens later than now, and memory is bounded.
    #[test]
    fn any_acknowledgements_at_any_times_keep_the_account(
        is_lossy in any::<bool>(),
        steps in vec((0..5u8, 0..3_000_000u64, any::<u64>(), 0..64u32), 1..200),
    ) {
        let mut flight = Flight::new(if is_lossy { Path::Lossy } else { Path::Ordered });
        let (mut now, mut next) = (Time::ZERO, 0u64);
        for (kind, micros, number, shift) in steps {
            now = now + Duration::from_micros(micros >> (shift % 22));
            let number = number >> shift;
            match kind {
                0 | 1 => {
                    let (frames, bytes) = (1 + number % 100, 1 + number % 1_000_000);
                    let batch = Batch { frames, bytes, sequences: (next, next + frames - 1), given: (now, now) };
                    flight.on_sent(now, &batch, kind == 0);
                    next += frames;
                }
                2 => flight.on_report(now, number),
                3 => {
                    let highest_sequence = next.saturating_sub(number % 32);
                    flight.on_ack(now, &Ack { highest_sequence, received: highest_sequence, delay_us: micros });
                }
                _ => flight.on_ack(now, &Ack { highest_sequence: number, received: micros, delay_us: number }),
            }
            let room = flight.room(now);
            prop_assert_eq!(flight.in_flight_bytes(), flight.sent.iter().map(|sent| sent.bytes).sum::<u64>());
            prop_assert!(room > 0 || flight.opens_at(now).is_none_or(|at| at > now));
            prop_assert!(room > 0 || flight.in_flight_bytes() > 0, "an empty flight is open");
            prop_assert!(flight.max_wait(AUDIO_QUEUE) >= FRESH && flight.max_wait(AUDIO_QUEUE) <= AUDIO_QUEUE);
        }
    }

    /// Of a flood, as many entries are kept as there were times.
    #[test]
    fn a_flood_costs_no_memory(frames in 1..5000u64) {
        let mut flight = Flight::new(Path::Ordered);
        for n in 0..frames {
            let now = Time(Duration::from_micros(n));
            flight.on_sent(now, &Batch { frames: 1, bytes: 9, sequences: (n, n), given: (now, now) }, true);
        }
        prop_assert_eq!(flight.sent.len(), 1);
        flight.on_ack(Time::from_millis(9), &Ack { highest_sequence: frames, received: frames, delay_us: 0 });
        prop_assert_eq!(flight.in_flight_bytes(), 0);
    }
}
