//! What does a jitter buffer make of the delays of usual paths?

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const FRAME_MS: u64 = 20;

/// Minimal, repeatable randomness: a number below `bound` (splitmix64).
fn random(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31) % bound
}

/// A frame that was sent, and when it comes.
#[derive(Clone, Copy, Debug)]
struct Sent {
    sequence: u64,
    timestamp_us: u64,
    arrival_us: u64,
}

/// The trace of a sender that gives a frame every 20 ms, whose frames take `delay_us` from it; `None` is lost.
fn trace(frames: u64, mut delay_us: impl FnMut(u64) -> Option<u64>) -> Vec<Sent> {
    let mut last_us = 0;
    let send = |sequence| {
        let timestamp_us = sequence * FRAME_MS * 1000;
        // In order: a frame waits for those before it.
        last_us = last_us.max(timestamp_us + delay_us(sequence)?);
        Some(Sent { sequence, timestamp_us, arrival_us: last_us })
    };
    (0..frames).filter_map(send).collect()
}

fn ms(ms: u64) -> Option<u64> {
    Some(ms * 1000)
}

/// What came out, and when.
struct Played {
    /// By time in milliseconds.
    ticks: Vec<(u64, Option<u64>)>,
    /// By time in seconds.
    stats: BTreeMap<u64, PlayoutStats>,
    end: PlayoutStats,
    arrived: u64,
}

fn buffer(options: PlayoutOptions) -> JitterBuffer {
    JitterBuffer::new(&options, Some(Duration::from_millis(FRAME_MS)), 1000, 1 << 20)
}

fn play(trace: &[Sent]) -> Played {
    play_with(buffer(PlayoutOptions::default()), trace)
}

/// Drives a buffer as a reader does, and checks what must hold for any trace.
fn play_with(mut buffer: JitterBuffer, trace: &[Sent]) -> Played {
    let mut played = Played { ticks: Vec::new(), stats: BTreeMap::new(), end: PlayoutStats::default(), arrived: 0 };
    let mut rest = trace.iter().peekable();
    loop {
        let next = rest.peek().map(|sent| Time(Duration::from_micros(sent.arrival_us)));
        match (next, buffer.next_tick()) {
            (Some(next), tick) if tick.is_none_or(|tick| next <= tick) => {
                let Some(sent) = rest.next() else { break };
                let data = vec![0; 100];
                buffer.push(AudioFrame::new(sent.sequence, sent.timestamp_us, next.0, 0, data));
                played.arrived += 1;
                if rest.peek().is_none() {
                    buffer.end();
                }
            }
            (_, Some(tick)) => match buffer.tick(tick) {
                Tick::Play(frame) => played.ticks.push((tick.as_micros() / 1000, Some(frame.sequence))),
                Tick::Conceal => played.ticks.push((tick.as_micros() / 1000, None)),
                Tick::Wait => {}
            },
            (_, None) => break,
        }
        let now = played.ticks.last().map_or(0, |(ms, _)| ms / 1000);
        played.stats.insert(now, buffer.stats());
    }
    assert!(buffer.is_over());
    played.end = buffer.stats();
    played.check();
    played
}

impl Played {
    fn check(&self) {
        for pair in self.ticks.windows(2) {
            assert!(pair[1].0 + 1 >= pair[0].0 + FRAME_MS, "two ticks at a time: {pair:?}");
        }
        let frames: Vec<u64> = self.ticks.iter().filter_map(|(_, frame)| *frame).collect();
        assert!(frames.is_sorted_by(|first, second| first < second), "in order, and each once");
        assert_eq!(frames.len() as u64, self.end.played);
        assert_eq!((self.ticks.len() - frames.len()) as u64, self.end.concealed);
        let PlayoutStats { played, late, removed, .. } = self.end;
        assert_eq!(played + late + removed, self.arrived, "each frame is accounted for");
    }

    /// Of all ticks, in percent.
    fn concealed_percent(&self) -> f64 {
        self.end.concealed as f64 * 100.0 / self.ticks.len() as f64
    }

    /// Of all frames that arrived, in percent.
    fn unplayed_percent(&self) -> f64 {
        (self.end.late + self.end.removed) as f64 * 100.0 / self.arrived as f64
    }

    fn target_ms(&self, at_s: u64) -> u64 {
        self.stats[&at_s].target_delay.as_millis() as u64
    }

    fn delay_ms(&self, at_s: u64) -> u64 {
        self.stats[&at_s].delay.as_millis() as u64
    }

    #[track_caller]
    fn assert_at_most(&self, concealed_percent: f64, unplayed_percent: f64, late: u64) {
        let (concealed, unplayed) = (self.concealed_percent(), self.unplayed_percent());
        assert!(concealed <= concealed_percent, "{concealed:.2} % are concealed: {:?}", self.end);
        assert!(unplayed <= unplayed_percent, "{unplayed:.2} % are not played: {:?}", self.end);
        assert!(self.end.late <= late, "{} are late", self.end.late);
    }
}

#[test]
fn a_steady_path_is_played_as_it_comes() {
    let played = play(&trace(3000, |_| ms(30)));
    assert_eq!((played.end.concealed, played.end.late, played.end.inserted), (0, 0, 0));
    assert_eq!(played.end.removed, 1, "what was assumed of the path is taken back");
    assert_eq!((played.target_ms(30), played.delay_ms(30)), (10, 20));
    assert_eq!(played.ticks[0], (70, Some(0)), "two frames are assumed");
}

#[test]
fn jitter_of_20_ms_either_way_costs_little() {
    let mut state = 1;
    let played = play(&trace(6000, |_| Some(30_000 + random(&mut state, 40_000))));
    played.assert_at_most(0.3, 0.3, 0);
    for at_s in 10..119 {
        assert!((20..=60).contains(&played.target_ms(at_s)), "{} ms at {at_s} s", played.target_ms(at_s));
        assert!(played.delay_ms(at_s) <= 80, "{} ms at {at_s} s", played.delay_ms(at_s));
    }
}

#[test]
fn a_lost_frame_is_concealed_once() {
    let (mut state, mut lost) = (2, 0);
    let played = play(&trace(6000, |n| {
        let is_lost = n > 0 && n < 5999 && random(&mut state, 100) < 2;
        lost += u64::from(is_lost);
        (!is_lost).then(|| 30_000 + random(&mut state, 10_000))
    }));
    assert!((90..150).contains(&lost), "{lost}");
    let extra = played.end.concealed.abs_diff(lost);
    assert!(extra <= 3, "{} are concealed for {lost} lost", played.end.concealed);
    assert!(played.end.late == 0 && played.end.removed <= 3, "{:?}", played.end);
}

#[test]
fn frames_given_in_bursts_are_played_at_their_pace() {
    // Ten at once every 200 ms; and five seconds of speech at once, twice, as a synthesizer gives them.
    let burst = |n: u64, size: u64, every_ms: u64| {
        let at_us = n / size * every_ms * 1000;
        Sent { sequence: n, timestamp_us: at_us, arrival_us: at_us + 30_000 }
    };
    let tens: Vec<Sent> = (0..3000).map(|n| burst(n, 10, 200)).collect();
    let played = play(&tens);
    assert_eq!((played.end.concealed, played.end.late), (0, 0));
    assert!(played.end.removed <= 1, "{:?}", played.end);

    let speech: Vec<Sent> = (0..500).map(|n| burst(n, 250, 8000)).collect();
    let played = play(&speech);
    assert_eq!((played.end.played, played.end.late), (500, 0), "{:?}", played.end);
    assert_eq!(played.end.concealed, u64::from(MAX_CONCEALED));
    let first: Vec<u64> = played.ticks[..250].iter().map(|(ms, _)| *ms).collect();
    assert_eq!((first[0], first[249]), (70, 70 + 249 * 20), "five seconds long");
}

#[test]
fn after_an_outage_the_delay_is_small_again_within_four_seconds() {
    // At 20 s, nothing comes for 3 s. Then all that was held comes at once, or a sender has dropped what was old.
    let outage = |n: u64| ms(if (1000..1150).contains(&n) { 3030 - (n - 1000) * 20 } else { 30 });
    let held = play(&trace(2000, outage));
    let dropped = play(&trace(2000, |n| outage(n).filter(|us| *us < 200_000 || n < 1000)));
    for played in [held, dropped] {
        assert!(played.end.concealed <= 2 * u64::from(MAX_CONCEALED), "a bounded run: {:?}", played.end);
        assert!(played.delay_ms(23) <= 500, "{} ms", played.delay_ms(23));
        for at_s in 27..39 {
            assert!(played.delay_ms(at_s) <= 40, "{} ms at {at_s} s", played.delay_ms(at_s));
        }
    }
}

#[test]
fn a_step_in_delay_costs_a_few_frames_and_is_taken_back_within_fifteen_seconds() {
    let mut state = 3;
    // The path takes 200 ms instead of 20 from 20 s to 50 s.
    let step = |n: u64| if (1000..2500).contains(&n) { 200_000 } else { 20_000 };
    let played = play(&trace(4500, |n| Some(step(n) + random(&mut state, 10_000))));
    assert!(played.end.concealed <= 15, "{:?}", played.end);
    assert!(played.end.removed <= 15 && played.end.late == 0, "{:?}", played.end);
    // Relative to the fastest recent frame, so the same on the slower path after 10 s and after 15 s on the faster one.
    for at_s in (5..19).chain(35..49).chain(65..89) {
        assert!(played.delay_ms(at_s) <= 40, "{} ms at {at_s} s", played.delay_ms(at_s));
        assert!(played.target_ms(at_s) <= 20, "{} ms at {at_s} s", played.target_ms(at_s));
    }
}

#[test]
fn a_radio_that_saves_power_is_covered_but_for_its_rarest_sleeps() {
    let mut state = 4;
    // Frames wait for the access point's beacon, up to 125 ms; and every 20 s for 0.9 s.
    let played = play(&trace(15_000, |n| {
        let sleep_ms = if n % 1000 == 999 { 900 } else { random(&mut state, 125) };
        ms(5 + sleep_ms)
    }));
    // 0.4 s of each long sleep exceed the bound, and the delay that it leaves is taken back by removing.
    played.assert_at_most(0.6, 4.0, 15 * 21);
    for at_s in 10..299 {
        let target_ms = played.target_ms(at_s);
        assert!((60..=200).contains(&target_ms), "{target_ms} ms at {at_s} s");
        assert!(played.delay_ms(at_s) <= 520, "{} ms at {at_s} s", played.delay_ms(at_s));
    }
}

#[test]
fn bursts_of_loss_are_concealed_for_a_bounded_time() {
    // 10 frames in a row of every 250.
    let played = play(&trace(5000, |n| if n % 250 >= 240 { None } else { ms(30) }));
    assert_eq!(played.end.concealed, 19 * u64::from(MAX_CONCEALED), "the last hole is at the end: {:?}", played.end);
    assert_eq!((played.end.late, played.end.inserted), (0, 0), "{:?}", played.end);
    assert!(played.delay_ms(90) <= 40);
}

#[test]
fn a_sender_that_pauses_makes_no_mountain_of_concealments() {
    // Push to talk: 2 s of speech, then 10 s without a frame.
    let talk = |n: u64| {
        let timestamp_us = (n / 100 * 12_000 + n % 100 * 20) * 1000;
        Sent { sequence: n, timestamp_us, arrival_us: timestamp_us + 30_000 }
    };
    let played = play(&(0..1000).map(talk).collect::<Vec<_>>());
    assert_eq!(played.end.concealed, 9 * u64::from(MAX_CONCEALED));
    assert_eq!((played.end.late, played.end.inserted), (0, 0));
    assert!(played.end.played >= 999, "{:?}", played.end);
}

#[test]
fn clocks_that_drift_apart_by_200_ppm_cost_a_frame_in_a_hundred_seconds() {
    for drift in [-1i64, 1] {
        // Ten minutes. The sender's clock is slow, then fast.
        let drifted = |n: u64| {
            let timestamp_us = n * 20_000;
            let arrival_us = timestamp_us.saturating_add_signed(drift * (n as i64) * 4) + 200_000;
            Sent { sequence: n, timestamp_us, arrival_us }
        };
        let played = play(&(0..30_000).map(drifted).collect::<Vec<_>>());
        assert!(played.end.concealed <= 7 && played.end.removed <= 7 && played.end.late == 0, "{:?}", played.end);
        let moved = played.end.concealed + played.end.removed;
        assert!(moved >= 6, "120 ms of drift are six frames: {:?}", played.end);
        for at_s in 5..599 {
            assert!(played.delay_ms(at_s) <= 45, "{} ms at {at_s} s", played.delay_ms(at_s));
        }
    }
}

#[test]
fn small_frames_are_removed_first() {
    let mut buffer = buffer(PlayoutOptions::default());
    // At 6 s nothing comes for 0.2 s. Of five frames, one is silence.
    let is_small = |n: u64| n.is_multiple_of(5);
    let mut played = Vec::new();
    for sent in trace(500, |n| ms(if (300..310).contains(&n) { 200 - (n - 300) * 20 } else { 0 })) {
        let arrival = Time(Duration::from_micros(sent.arrival_us));
        while let Some(tick) = buffer.next_tick().filter(|tick| *tick < arrival) {
            if let Tick::Play(frame) = buffer.tick(tick) {
                played.push(frame.sequence);
            }
        }
        let data = vec![0; if is_small(sent.sequence) { 10 } else { 100 }];
        buffer.push(AudioFrame::new(sent.sequence, sent.timestamp_us, arrival.0, 0, data));
    }
    let last = *played.last().unwrap();
    let (small, others): (Vec<u64>, Vec<u64>) = (300..last).filter(|n| !played.contains(n)).partition(|n| is_small(*n));
    assert!(small.len() >= 2 * others.len() && small.len() >= 5, "{small:?} of the small ones, {others:?}");
}

#[test]
fn too_many_frames_push_out_the_oldest() {
    let mut buffer = JitterBuffer::new(&PlayoutOptions::default(), None, 10, 500);
    let frame = |n: u64| AudioFrame::new(n, n * 20_000, Duration::ZERO, 0, vec![0; 100]);
    let removed: u64 = (0..8).map(|n| buffer.push(frame(n))).sum();
    assert_eq!((removed, buffer.stats().removed), (3, 3));
    assert_eq!(buffer.push(frame(7)), 0, "it has come before");
    let large = AudioFrame::new(9, 0, Duration::ZERO, 0, vec![0; 1000]);
    assert_eq!(buffer.push(large), 5, "one frame may always wait");
}

#[test]
fn a_driver_that_is_late_catches_up_or_loses_what_is_old() {
    let mut buffer = buffer(PlayoutOptions::default());
    for n in 0..45 {
        buffer.push(AudioFrame::new(n, n * 20_000, Duration::from_millis(n * 20), 0, vec![0; 100]));
    }
    assert_eq!(buffer.tick(Time::from_millis(39)), Tick::Wait);
    let mut frames_until = |ms: u64| {
        std::iter::from_fn(|| match buffer.tick(Time::from_millis(ms)) {
            Tick::Play(frame) => Some(frame.sequence),
            _ => None,
        })
        .collect::<Vec<_>>()
    };
    // The delay is 40 ms, and nothing is known of the path yet.
    assert_eq!(frames_until(100), [0, 1, 2, 3]);
    assert_eq!(frames_until(100), [0u64; 0]);
    assert_eq!(frames_until(540), (15..=25).collect::<Vec<_>>(), "0.2 s of it");
    assert_eq!(buffer.stats().removed, 11);
    // What was lost does not count as played: the application hears no more than five concealments in a row.
    let frame = |n: u64| AudioFrame::new(n, n * 20_000, Duration::from_millis(n * 20), 0, vec![0; 100]);
    let mut buffer = self::buffer(PlayoutOptions::default());
    buffer.push(frame(0));
    assert_eq!(buffer.tick(Time::from_millis(40)), Tick::Play(frame(0)));
    (1..=5).for_each(|n| assert_eq!(buffer.tick(Time::from_millis(40 + n * 20)), Tick::Conceal));
    (10..15).map(frame).for_each(|frame| assert_eq!(buffer.push(frame), 0));
    assert_eq!(buffer.tick(Time::from_millis(600)), Tick::Wait);
    assert_eq!(buffer.stats().removed, 5);
}

#[test]
fn forged_numbers_overflow_nothing_and_play_on() {
    let mut buffer = JitterBuffer::new(&PlayoutOptions::default(), Some(Duration::from_secs(1)), 100, 10_000);
    let end = Duration::MAX;
    for (sequence, timestamp_us, arrival) in
        [(0, u64::MAX, Duration::ZERO), (1 << 62, 0, Duration::from_secs(1)), (u64::MAX - 1, u64::MAX, end)]
    {
        buffer.push(AudioFrame::new(sequence, timestamp_us, arrival, 0, vec![0]));
        buffer.tick(Time(arrival));
        buffer.stats();
    }
    for n in 0..20u32 {
        buffer.tick(Time(end - Duration::from_secs(u64::from(20 - n))));
    }
    buffer.end();
    let PlayoutStats { played, removed, late, .. } = buffer.stats();
    assert_eq!(played + removed + late + buffer.frames.len() as u64, 3);

    // A sequence that jumps ahead by years is a new beginning.
    let mut buffer = self::buffer(PlayoutOptions::default());
    let frame = |n: u64, ms: u64| AudioFrame::new(n, ms * 1000, Duration::from_millis(ms), 0, vec![0]);
    buffer.push(frame(0, 0));
    buffer.push(frame(1 << 40, 20));
    (0..40).for_each(|n| drop(buffer.tick(Time::from_millis(n * 20))));
    assert_eq!(buffer.stats().played, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_path_keeps_the_promises(
        seed: u64,
        jitter_us in 1..300_000u64,
        loss_percent in 0..40u64,
        stalls in proptest::collection::vec((0..400u64, 0..4000u64), 0..4),
        pauses in proptest::collection::vec((1..400u64, 0..20_000u64), 0..3),
        max_delay_ms in 0..1000u64,
    ) {
        let mut state = seed;
        let mut sent = trace(400, |n| {
            let stall_ms = stalls.iter().filter(|(at, _)| *at == n).map(|(_, ms)| *ms).sum::<u64>();
            let is_lost = n < 399 && random(&mut state, 100) < loss_percent;
            (!is_lost).then(|| stall_ms * 1000 + random(&mut state, jitter_us))
        });
        for (at, pause_ms) in &pauses {
            for frame in sent.iter_mut().filter(|frame| frame.sequence >= *at) {
                frame.timestamp_us += pause_ms * 1000;
                frame.arrival_us += pause_ms * 1000;
            }
        }
        let max_delay = Duration::from_millis(max_delay_ms);
        let options = PlayoutOptions { min_delay: Duration::ZERO, max_delay, frame_duration: None };
        let played = play_with(buffer(options), &sent);
        for stats in played.stats.values() {
            prop_assert!(stats.target_delay <= max_delay);
            prop_assert!(stats.buffered <= Duration::from_secs(20));
        }
        let mut in_a_row = 0;
        for (_, frame) in &played.ticks {
            in_a_row = if frame.is_some() { 0 } else { in_a_row + 1 };
            prop_assert!(in_a_row <= MAX_CONCEALED);
        }
    }
}
