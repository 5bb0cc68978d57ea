//! May anybody call a node at any time, from any thread? A caller does what its own call takes, and nothing else.

mod common;
#[allow(dead_code, reason = "other tests cut it")]
#[path = "common/memory.rs"]
mod memory;

#[path = "common/by_hand.rs"]
mod by_hand;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use avi_p2p::{AviEvent, AviP2pError, AviP2pHandle, OnCongestion, StreamOptions, transport};
use by_hand::{ByHand, Pair, at_once, until};
use common::{Node, config};

const THREADS: u8 = 6;
const MESSAGES: u32 = 120;

/// From the smallest to one that a caller leaves to the node's task.
const BYTES: [usize; 4] = [8, 1024, 6000, 48 * 1024];

fn speak(handle: &AviP2pHandle, thread: u8) {
    for number in 0..MESSAGES {
        let mut data = vec![thread; BYTES[number as usize % BYTES.len()]];
        data[1..5].copy_from_slice(&number.to_be_bytes());
        while let Err(error) = futures::executor::block_on(handle.publish("crowd", data.clone())) {
            assert!(matches!(error, AviP2pError::Congested(_)), "{error}");
            thread::yield_now();
        }
        if number % 16 == 0 {
            futures::executor::block_on(handle.stats()).expect("the node runs");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_on_many_threads_lose_nothing_and_keep_their_order() {
    let mut hearer = Node::start(config()).await;
    hearer.handle.subscribe("crowd").await.unwrap();
    let speaker = Node::connected_to(config(), &mut [&mut hearer]).await;
    speaker.wait_subscriber_of(&hearer.id).await;

    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let handle = speaker.handle.clone();
            thread::spawn(move || speak(&handle, thread))
        })
        .collect();
    let mut heard = BTreeMap::from_iter((0..THREADS).map(|thread| (thread, 0u32)));
    for _ in 0..u32::from(THREADS) * MESSAGES {
        let (from, data) = hearer.wait_message().await;
        assert_eq!(from, speaker.id);
        let next = heard.get_mut(&data[0]).expect("a thread of ours");
        assert_eq!(data[1..5], next.to_be_bytes(), "of thread {}", data[0]);
        *next += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().expect("it published everything"));
    assert!(heard.values().all(|&count| count == MESSAGES), "{heard:?}");
    speaker.node.shutdown().await.unwrap();
    hearer.node.shutdown().await.unwrap();
}

#[test]
fn a_node_whose_task_sleeps_answers_on_the_callers_thread() {
    let node = ByHand::start(config());
    let handle = node.node.handle();
    assert_eq!(at_once(handle.subscribe("lobby")), Ok(()));
    assert_eq!(at_once(handle.subscribe("lobby")), Ok(()));
    assert!(at_once(handle.stats()).is_ok());
    assert_eq!(node.shut_down(), Ok(()));
    assert_eq!(at_once(handle.subscribe("late")), Err(AviP2pError::ChannelClosed));
}

#[test]
fn a_call_waits_while_another_has_the_node_and_both_are_answered() {
    let mut node = ByHand::start(config());
    let (first, second) = (node.node.handle(), node.node.handle());
    let (entered, inside) = mpsc::channel();
    let (let_go, wait) = mpsc::channel();
    node.next_work(move || {
        entered.send(()).unwrap();
        wait.recv().unwrap();
    });
    let one = thread::spawn(move || futures::executor::block_on(first.subscribe("one")));
    inside.recv().unwrap();
    let two = thread::spawn(move || futures::executor::block_on(second.subscribe("two")));
    let_go.send(()).unwrap();
    assert_eq!((one.join().unwrap(), two.join().unwrap()), (Ok(()), Ok(())));
    node.settle();
    assert_eq!(node.shut_down(), Ok(()));
}

#[test]
fn a_frame_goes_to_the_socket_on_the_callers_thread_and_wakes_nobody() {
    let mut pair = Pair::in_a_call(StreamOptions::default());
    let handle = pair.near.node.handle();
    let before = pair.near.written() + pair.near.sent();
    assert_eq!(at_once(handle.send_audio(pair.stream, vec![7; 640])), Ok(()));
    assert!(pair.near.written() + pair.near.sent() > before + 640, "it was not written");
    assert!(!pair.near.is_woken(), "the node's task has nothing to do");
    pair.settle();
    assert_eq!(pair.far.take(|event| matches!(event, AviEvent::AudioData { .. })).len(), 1);
}

#[test]
fn a_frame_never_encrypts_what_somebody_else_has_left() {
    let mut pair = Pair::in_a_call(StreamOptions::default());
    let handle = pair.near.node.handle();
    let before = pair.near.written();
    // More than a caller writes itself.
    assert_eq!(at_once(handle.publish("bulk", vec![1; 48 * 1024])), Ok(()));
    assert_eq!(pair.near.written(), before, "the message is left to the node's task");
    assert!(pair.near.is_woken());
    assert_eq!(at_once(handle.send_audio(pair.stream, vec![7; 640])), Ok(()));
    assert_eq!(pair.near.written(), before, "the message stays with the node's task");
    // Beside the call, the message takes a while.
    let mut heard = Vec::new();
    until(|| {
        pair.settle();
        heard.extend(pair.far.take(|event| matches!(event, AviEvent::AudioData { .. } | AviEvent::Message { .. })));
        (heard.len() == 2).then_some(())
    });
}

#[test]
fn a_question_writes_nothing_and_wakes_nobody() {
    let mut pair = Pair::in_a_call(StreamOptions { on_congestion: OnCongestion::Refuse, ..StreamOptions::default() });
    let handle = pair.near.node.handle();
    let before = pair.near.written();
    for _ in 0..20 {
        at_once(handle.stats()).unwrap();
        at_once(handle.audio_stats(pair.stream)).unwrap();
        assert_eq!(at_once(handle.connected_peers()).map(|peers| peers.len()), Ok(1));
    }
    assert_eq!(pair.near.written(), before);
    assert!(!pair.near.is_woken());
    pair.settle();
}
