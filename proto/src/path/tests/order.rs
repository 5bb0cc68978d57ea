use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MAX_BYTES: usize = 1_000;

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn frame(sequence: u64) -> AudioFrame {
    sized(sequence, 10)
}

fn sized(sequence: u64, bytes: usize) -> AudioFrame {
    AudioFrame { sequence, timestamp_us: sequence * 20_000, payload: Bytes::from(vec![sequence as u8; bytes]) }
}

fn order() -> Order {
    Order::new(MAX_BYTES)
}

const NONE: [u64; 0] = [];

/// The sequences that leave when a frame comes.
fn push(order: &mut Order, now: Time, via: Via, frame: AudioFrame) -> Vec<u64> {
    let first = match order.push(now, via, frame) {
        Arrival::Due(frame) => Some(frame.sequence),
        _ => None,
    };
    first.into_iter().chain(pop(order, now)).collect()
}

fn pop(order: &mut Order, now: Time) -> Vec<u64> {
    std::iter::from_fn(|| order.pop(now)).map(|(_, frame)| frame.sequence).collect()
}

#[test]
fn a_datagram_before_the_frame_at_which_the_other_end_goes_on_is_late() {
    let mut order = order();
    order.skip_to(1);
    assert_eq!(order.push(ms(0), Via::Datagram, frame(0)), Arrival::Late);
    assert_eq!(push(&mut order, ms(0), Via::Substream, frame(1)), [1]);
    order.skip_to(1);
    assert_eq!(order.next_sequence(), 2);
}

#[test]
fn frames_in_order_pass_through_as_they_are() {
    for via in [Via::Substream, Via::Datagram] {
        let mut order = order();
        for n in 0..100 {
            let given = frame(n);
            let at = given.payload.as_ptr();
            let Arrival::Due(taken) = order.push(ms(n), via, given) else { panic!("frame {n} is due") };
            assert_eq!((taken.sequence, taken.payload.as_ptr()), (n, at));
            assert_eq!((order.pop(ms(n)), order.next_deadline()), (None, None));
        }
        assert_eq!((order.duplicates(), order.late()), (0, 0));
    }
}

#[test]
fn on_the_substream_alone_a_hole_is_final() {
    let mut order = order();
    assert_eq!(push(&mut order, ms(0), Via::Substream, frame(0)), [0]);
    assert_eq!(push(&mut order, ms(1), Via::Substream, frame(5)), [5]);
    assert!(!order.has_seen_datagrams());
    // And again six seconds after the last datagram.
    push(&mut order, ms(2), Via::Datagram, frame(6));
    assert_eq!(push(&mut order, ms(6_001), Via::Substream, frame(8)), NONE);
    assert_eq!(pop(&mut order, ms(6_041)), [8]);
    assert!(order.has_seen_datagrams() && !order.is_mixed(ms(6_041)));
    assert_eq!(push(&mut order, ms(6_042), Via::Substream, frame(20)), [20]);
}

#[test]
fn a_frame_that_was_overtaken_is_put_in_its_place() {
    let mut order = order();
    assert_eq!(push(&mut order, ms(0), Via::Datagram, frame(0)), [0]);
    assert_eq!(push(&mut order, ms(20), Via::Datagram, frame(2)), NONE);
    assert_eq!(push(&mut order, ms(25), Via::Datagram, frame(3)), NONE);
    assert_eq!(order.next_deadline(), Some(ms(60)));
    assert_eq!(push(&mut order, ms(59), Via::Substream, frame(1)), [1, 2, 3]);
    assert_eq!(order.next_deadline(), None);
}

#[test]
fn the_first_frame_of_a_stream_may_be_overtaken_too() {
    let mut order = order();
    assert_eq!(push(&mut order, ms(0), Via::Datagram, frame(1)), NONE);
    assert_eq!(push(&mut order, ms(1), Via::Datagram, frame(0)), [0, 1]);
}

#[test]
fn a_hole_is_given_up_after_its_time_and_what_comes_for_it_is_late() {
    let mut order = order();
    push(&mut order, ms(0), Via::Datagram, frame(0));
    assert_eq!(push(&mut order, ms(20), Via::Datagram, frame(2)), NONE);
    assert_eq!(pop(&mut order, ms(59)), NONE);
    assert_eq!(order.pop(ms(60)), Some((ms(20), frame(2))));
    assert_eq!(order.push(ms(61), Via::Datagram, frame(1)), Arrival::Late);
    assert_eq!(order.push(ms(62), Via::Datagram, frame(1)), Arrival::Duplicate);
    assert_eq!(order.push(ms(62), Via::Datagram, frame(2)), Arrival::Duplicate);
    assert_eq!((order.late(), order.duplicates(), order.next_sequence()), (1, 2, 3));
}

#[test]
fn a_frame_that_waited_long_enough_takes_all_before_it_along() {
    let mut order = order();
    assert_eq!(push(&mut order, ms(0), Via::Datagram, frame(7)), NONE);
    assert_eq!(push(&mut order, ms(30), Via::Datagram, frame(3)), NONE);
    assert_eq!(push(&mut order, ms(35), Via::Datagram, frame(9)), NONE);
    assert_eq!(order.next_deadline(), Some(ms(40)));
    assert_eq!(pop(&mut order, ms(40)), [3, 7], "3 has waited for 10 ms, but 7 may wait no longer");
    assert_eq!(order.next_deadline(), Some(ms(75)));
}

#[test]
fn what_waits_is_bounded_in_frames_and_in_bytes() {
    let mut order = order();
    for n in 1..=MAX_WAITING as u64 {
        assert_eq!(push(&mut order, ms(0), Via::Datagram, sized(n, 1)), NONE);
    }
    let all: Vec<_> = (1..=MAX_WAITING as u64).collect();
    assert_eq!(push(&mut order, ms(0), Via::Datagram, sized(1_000, 1)), all);

    let mut order = self::order();
    assert_eq!(push(&mut order, ms(0), Via::Datagram, sized(1, 2_000)), NONE, "one may wait whatever its size");
    assert_eq!(push(&mut order, ms(0), Via::Datagram, sized(3, 500)), [1]);
    assert_eq!(push(&mut order, ms(0), Via::Datagram, sized(5, 500)), NONE);
    assert_eq!(push(&mut order, ms(0), Via::Datagram, sized(7, 1)), [3]);
    assert_eq!(order.waiting_bytes, 501);
}

#[test]
fn a_frame_of_the_substream_that_waits_does_not_keep_its_buffer() {
    let mut order = order();
    push(&mut order, ms(0), Via::Datagram, frame(0));
    let buffer = Bytes::from(vec![7; 1 << 16]);
    let part = AudioFrame { payload: buffer.slice(..10), ..frame(2) };
    assert_eq!(order.push(ms(1), Via::Substream, part), Arrival::Waits);
    assert!(buffer.is_unique());
}

#[test]
fn the_end_takes_all() {
    let mut order = order();
    push(&mut order, ms(0), Via::Datagram, frame(2));
    push(&mut order, ms(0), Via::Datagram, frame(4));
    let rest: Vec<_> = std::iter::from_fn(|| order.pop_first()).map(|(_, frame)| frame.sequence).collect();
    assert_eq!(rest, [2, 4]);
    assert_eq!((order.waiting_bytes, order.next_deadline()), (0, None));
}

/// A frame that comes: how far its sequence is from the middle, how long after the one before it, its path, its size.
type Coming = (i64, u64, bool, usize);

fn any_coming() -> impl Strategy<Value = Vec<Coming>> {
    let offset = prop_oneof![10 => -4..5i64, 1 => -200..200i64];
    let gap = prop_oneof![4 => 0..30u64, 1 => 0..300u64];
    vec((offset, gap, any::<bool>(), prop_oneof![9 => 1..200usize, 1 => 900..1_500usize]), 1..300)
}

proptest! {
    /// Any order, any copies, any times: what leaves is increasing, each frame is accounted for, and none waits longer
    /// than its time, provided that the deadline is kept.
    #[test]
    fn any_frames_leave_in_order_each_once_and_in_time(coming in any_coming()) {
        let (mut order, mut now) = (order(), ms(0));
        let (mut given, mut left, mut refused) = (0, Vec::new(), (0, 0));
        let mut waiting: BTreeSet<u64> = BTreeSet::new();
        for (index, (offset, gap, is_datagram, bytes)) in coming.into_iter().enumerate() {
            let arrives = now + Duration::from_millis(gap);
            while let Some(at) = order.next_deadline().filter(|at| *at < arrives) {
                let due = pop(&mut order, at);
                prop_assert!(!due.is_empty(), "a deadline without a frame");
                due.iter().for_each(|sequence| { waiting.remove(sequence); });
                left.extend(due);
            }
            now = arrives;
            let sequence = (index as u64 / 2).saturating_add_signed(offset);
            let via = if is_datagram { Via::Datagram } else { Via::Substream };
            given += 1;
            match order.push(now, via, sized(sequence, bytes)) {
                Arrival::Due(frame) => left.push(frame.sequence),
                Arrival::Waits => prop_assert!(waiting.insert(sequence)),
                Arrival::Duplicate => {
                    refused.0 += 1;
                    prop_assert!(waiting.contains(&sequence) || sequence < order.next_sequence());
                }
                Arrival::Late => {
                    refused.1 += 1;
                    prop_assert!(!left.contains(&sequence), "{} is late, and has left", sequence);
                }
            }
            while let Some((since, frame)) = order.pop(now) {
                prop_assert!(now - since <= REORDER_WITHIN);
                prop_assert!(waiting.remove(&frame.sequence));
                left.push(frame.sequence);
            }
            prop_assert!(waiting.len() <= MAX_WAITING);
            prop_assert!(order.waiting_bytes <= MAX_BYTES || waiting.len() == 1);
            prop_assert!(order.next_deadline().is_none_or(|at| at > now), "something is due and did not leave");
            prop_assert!(!waiting.contains(&order.next_sequence()));
        }
        prop_assert!(left.is_sorted_by(|a, b| a < b), "{:?}", left);
        prop_assert_eq!((order.duplicates(), order.late()), refused);
        prop_assert_eq!(given, left.len() as u64 + waiting.len() as u64 + refused.0 + refused.1);
    }

    /// Whatever is overtaken by less than the bound gets its place: nothing is lost, nothing is late.
    #[test]
    fn frames_that_are_late_by_less_than_the_bound_all_leave(delays in vec((0..40u64, any::<bool>()), 1..200)) {
        let mut arrivals: Vec<(u64, u64)> = Vec::new();
        for (sequence, (delay, is_twice)) in (0..).zip(&delays) {
            arrivals.push((sequence * 20 + delay, sequence));
            if *is_twice {
                arrivals.push((sequence * 20 + 39, sequence));
            }
        }
        arrivals.sort();
        let (mut order, mut left) = (order(), Vec::new());
        for (at, sequence) in arrivals {
            // The deadline of frames whose time is up at this very moment may come first.
            left.extend(pop(&mut order, ms(at)));
            left.extend(push(&mut order, ms(at), Via::Datagram, frame(sequence)));
        }
        left.extend(std::iter::from_fn(|| order.pop_first()).map(|(_, frame)| frame.sequence));
        prop_assert_eq!(left, (0..delays.len() as u64).collect::<Vec<_>>());
        prop_assert_eq!(order.late(), 0);
    }
}
