//! Audio on a path whose other end acknowledges late, or not at all.

use super::*;
use crate::wire::{Ack, Frame};

const SUBSTREAM: SubstreamId = SubstreamId(1);

/// A node in a call with `peer(2)`, which acknowledges.
fn talking() -> (Node, StreamId) {
    let mut node = Node::with_peer(1, 2, config());
    let stream = node.request(&peer(2), StreamOptions::default()).unwrap();
    node.net(NetEvent::SubstreamOpened { stream, substream: SUBSTREAM });
    node.written(SUBSTREAM);
    node.received(SUBSTREAM, &[Frame::Accept, Frame::Ack(Ack::default())]);
    assert_eq!(node.written(SUBSTREAM), [Frame::Ack(Ack::default())]);
    node.take_events();
    (node, stream)
}

fn send(node: &mut Node, stream: StreamId, number: u64) {
    let data = Bytes::copy_from_slice(&number.to_be_bytes());
    node.ask(|id| Command::SendAudio { id, stream, data }).unwrap();
}

fn acknowledge(node: &mut Node, highest_sequence: u64, received: u64, delay_ms: u64) {
    node.received(SUBSTREAM, &[Frame::Ack(Ack { highest_sequence, received, delay_us: 1000 * delay_ms })]);
}

fn sequences(frames: &[Frame]) -> Vec<u64> {
    let sequence = |frame: &Frame| match frame {
        Frame::Data { sequence, .. } => Some(*sequence),
        _ => None,
    };
    frames.iter().filter_map(sequence).collect()
}

fn data(sequence: u64) -> Frame {
    Frame::Data { sequence, timestamp_us: 20_000 * sequence, payload: Bytes::from_static(b"a") }
}

#[test]
fn frames_behind_an_outage_are_few_and_those_after_it_are_fresh() {
    let (mut node, stream) = talking();
    for number in 0..100 {
        send(&mut node, stream, number);
        assert_eq!(sequences(&node.written(SUBSTREAM)), [number]);
        node.wait(millis(20));
        if number.is_multiple_of(5) {
            acknowledge(&mut node, number, number + 1, 0);
        }
    }
    let mut written = Vec::new();
    for number in 100..250 {
        send(&mut node, stream, number);
        written.extend(sequences(&node.written(SUBSTREAM)));
        node.wait(millis(20));
    }
    // 20 ms to an acknowledgement, its interval and what a retransmission may take.
    assert!((16..=20).contains(&written.len()), "{written:?}");
    let (sent, stats) = (100 + written.len() as u64, node.engine().audio_stats(stream).unwrap());
    assert_eq!((stats.frames_sent, stats.in_flight_bytes > 0), (sent, true));
    acknowledge(&mut node, sent - 1, sent, 0);
    assert_eq!(sequences(&node.written(SUBSTREAM)), (240..250).collect::<Vec<_>>());
    let stats = node.engine().audio_stats(stream).unwrap();
    assert_eq!(stats.frames_dropped + stats.frames_sent, 250);
    assert_eq!(node.stats().audio_frames_dropped, stats.frames_dropped);
}

/// Sends five frames each 100 ms over a path that takes some of them. Without its queue it takes no time.
struct Limited {
    node: Node,
    begin: Time,
    stream: StreamId,
    given: u64,
    sent: Vec<u64>,
    acked: usize,
    /// Frames that left when nothing but time passed.
    timed: usize,
}

impl Limited {
    fn new() -> Self {
        let (node, stream) = talking();
        Self { begin: node.now, node, stream, given: 0, sent: Vec::new(), acked: 0, timed: 0 }
    }

    fn round(&mut self, taken: usize) {
        for _ in 0..5 {
            send(&mut self.node, self.stream, self.given);
            self.given += 1;
            self.sent.extend(sequences(&self.node.written(SUBSTREAM)));
            self.node.wait(millis(20));
            let timed = sequences(&self.node.written(SUBSTREAM));
            self.timed += timed.len();
            self.sent.extend(timed);
        }
        self.acked = self.sent.len().min(self.acked + taken);
        let highest = self.sent[self.acked - 1];
        let age = self.node.now - (self.begin + millis(20 * highest));
        acknowledge(&mut self.node, highest, self.acked as u64, age.as_millis() as u64 - 20);
        self.sent.extend(sequences(&self.node.written(SUBSTREAM)));
    }

    fn rate(&self) -> Option<u64> {
        self.node.engine().audio_stats(self.stream).unwrap().rate_bits_per_second
    }
}

#[test]
fn what_a_limited_path_takes_is_told_when_it_is_known_when_it_changes_and_when_it_ends() {
    let mut path = Limited::new();
    let mut told = Vec::new();
    let mut rounds = |path: &mut Limited, rounds: usize, taken: usize| {
        (0..rounds).for_each(|_| path.round(taken));
        told.extend(path.node.take_events().into_iter().filter_map(|event| match event {
            AviEvent::AudioRate { bits_per_second, .. } => Some(bits_per_second),
            _ => None,
        }));
        told.clone()
    };
    let slow = rounds(&mut path, 60, 2);
    // Two frames of 12 bytes in 100 ms.
    assert!(!slow.is_empty() && slow.len() <= 6, "at most one a second: {slow:?}");
    assert!((1500..=3000).contains(&path.rate().unwrap()), "{:?}", path.rate());
    let all = rounds(&mut path, 60, 5);
    assert_eq!((all.last(), path.rate()), (Some(&None), None), "{all:?}");
    assert_eq!(all.iter().filter(|rate| rate.is_none()).count(), 1, "{all:?}");
    let again = rounds(&mut path, 60, 1);
    assert!(again.len() > all.len() && again.last().unwrap().is_some(), "{again:?}");
}

#[test]
fn audio_is_acknowledged_every_100_ms_while_it_arrives_and_soon_after_a_silence() {
    let (mut node, _) = talking();
    let mut acks = Vec::new();
    for sequence in 0..50 {
        node.received(SUBSTREAM, &[data(sequence)]);
        for _ in 0..20 {
            acks.extend(node.written(SUBSTREAM).into_iter().filter_map(|frame| match frame {
                Frame::Ack(ack) => Some((node.now, ack.received)),
                _ => None,
            }));
            node.wait(millis(1));
        }
    }
    assert_eq!(acks.len(), 10, "{acks:?}");
    assert!(acks.windows(2).all(|two| two[1].0 - two[0].0 >= millis(100) && two[1].1 > two[0].1), "{acks:?}");
    assert_eq!(acks[0].1, 1);
    // What is left is acknowledged, and then nothing more.
    node.wait(secs(5));
    assert_eq!(acknowledged(&node.written(SUBSTREAM)), [49]);
    node.wait(secs(5));
    assert_eq!(node.written(SUBSTREAM), []);
    // Two frames at once, and one acknowledgement of both.
    node.received(SUBSTREAM, &[data(50)]);
    node.received(SUBSTREAM, &[data(51)]);
    node.wait(millis(10));
    assert_eq!(acknowledged(&node.written(SUBSTREAM)), [51]);
}

fn acknowledged(frames: &[Frame]) -> Vec<u64> {
    let highest = |frame: &Frame| match frame {
        Frame::Ack(ack) => Some(ack.highest_sequence),
        _ => None,
    };
    frames.iter().filter_map(highest).collect()
}

#[test]
fn a_limited_path_gets_its_next_frame_without_an_acknowledgement() {
    let mut path = Limited::new();
    (0..60).for_each(|_| path.round(2));
    assert!(path.timed >= 20, "{} of {}", path.timed, path.sent.len());
}
