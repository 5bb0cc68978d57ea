//! How often does the engine ask for memory? Counted on its way from a call to a write, and from bytes to an event.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "an allocator, which is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use avi_p2p::AudioFrame;
use avi_p2p::engine::{Input, NetAction, NetEvent, Output};
use bytes::Bytes;

#[path = "../benches/rig/mod.rs"]
mod rig;

use rig::{Rig, SUBSTREAM};

/// Counts what this thread asks for; the harness has threads of its own.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: everything is the system allocator's; counting asks for no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FRAMES: u64 = 1000;
const PAYLOAD: [u8; 1024] = [7; 1024];

/// How often memory is asked for while an input is handled and its outputs are taken.
fn asked(rig: &mut Rig, input: Input, outputs: &mut Vec<Output>) -> u64 {
    outputs.clear();
    outputs.reserve(256);
    let before = ASKED.get();
    rig.step(input, |output| outputs.push(output));
    ASKED.get() - before
}

fn audio_events(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Audio { .. })).count()
}

#[test]
fn a_sent_frame_asks_for_memory_once() {
    let (mut rig, mut outputs) = (Rig::new(10), Vec::new());
    for frame in 0..FRAMES {
        let input = rig.send(Bytes::from(PAYLOAD.to_vec()));
        let asked = asked(&mut rig, input, &mut outputs);
        let written = outputs.iter().any(|output| matches!(output, Output::Net(NetAction::Write { .. })));
        assert!(written, "{outputs:?}");
        // The first makes room in the queues.
        assert!(frame == 0 || asked <= 1, "frame {frame} asked {asked} times");
        rig.net(NetEvent::Writable { substream: SUBSTREAM });
    }
}

#[test]
fn frames_that_waited_ask_for_memory_once_for_all_of_them() {
    let (mut rig, mut outputs) = (Rig::new(10), Vec::new());
    for round in 0..10 {
        for _ in 0..9 {
            let input = rig.send(Bytes::from(PAYLOAD.to_vec()));
            let asked = asked(&mut rig, input, &mut outputs);
            assert!(round == 0 || asked <= 1, "round {round}: a frame that waits asked {asked} times");
        }
        let input = Input::Net(NetEvent::Writable { substream: SUBSTREAM });
        let asked = asked(&mut rig, input, &mut outputs);
        assert!(round == 0 || asked <= 1, "round {round}: eight frames asked {asked} times");
        rig.net(NetEvent::Writable { substream: SUBSTREAM });
    }
}

#[test]
fn a_received_frame_asks_for_memory_once_at_most_and_a_piece_of_several_once_more() {
    for frames_a_piece in [1, 2, 3, 15] {
        let (mut rig, mut outputs) = (Rig::new(10), Vec::new());
        for piece in 0..FRAMES / frames_a_piece {
            let input = rig.receive(frames_a_piece, &PAYLOAD);
            let asked = asked(&mut rig, input, &mut outputs);
            assert_eq!(audio_events(&outputs) as u64, frames_a_piece);
            let most = frames_a_piece + u64::from(frames_a_piece > 1);
            // The first makes room in the queues, and arms the timer of REPORT.
            assert!(piece == 0 || asked <= most, "{frames_a_piece} frames asked {asked} times");
        }
    }
}

#[test]
fn a_frame_in_two_pieces_asks_for_memory_twice_at_most() {
    let (mut rig, mut outputs) = (Rig::new(10), Vec::new());
    for frame in 0..FRAMES {
        let Input::Net(NetEvent::Received { substream, bytes }) = rig.receive(1, &PAYLOAD) else { unreachable!() };
        let cut = 1 + frame as usize % (bytes.len() - 1);
        let mut asked_for_both = 0;
        for bytes in [Bytes::copy_from_slice(&bytes[..cut]), Bytes::copy_from_slice(&bytes[cut..])] {
            let input = Input::Net(NetEvent::Received { substream, bytes });
            asked_for_both += asked(&mut rig, input, &mut outputs);
        }
        assert_eq!(audio_events(&outputs), 1);
        assert!(frame == 0 || asked_for_both <= 2, "cut at {cut}: asked {asked_for_both} times");
    }
}

#[test]
fn an_event_holds_no_more_memory_than_its_audio() {
    let (mut rig, mut outputs) = (Rig::new(10), Vec::new());
    for frames_a_piece in [1, 15] {
        let input = rig.receive(frames_a_piece, &PAYLOAD);
        asked(&mut rig, input, &mut outputs);
        for output in &outputs {
            if let Output::Audio { frame: AudioFrame { data, .. }, .. } = output {
                assert!(data.capacity() <= data.len() + 64, "{} bytes for {}", data.capacity(), data.len());
            }
        }
    }
}

#[test]
fn a_message_asks_for_memory_a_few_times() {
    let mut rig = Rig::new(10);
    let mut outputs = Vec::with_capacity(256);
    for message in 0..FRAMES {
        let input = rig.message(Bytes::from(PAYLOAD.to_vec()));
        let received = asked(&mut rig, input, &mut outputs);
        let data = Bytes::from(PAYLOAD.to_vec());
        outputs.clear();
        let before = ASKED.get();
        rig.publish(data, |output| outputs.push(output));
        let published = ASKED.get() - before;
        if message > 0 {
            assert_eq!(received, 0, "a received message is moved");
            // The topic's names, the table of what the network has, a shared payload.
            assert!(published <= 5, "a published message asked {published} times");
        }
    }
}
