//! What if a node ends in another way than by `shutdown`? A panic below, the last owner gone, a call given up half-way.

#[path = "common/by_hand.rs"]
mod by_hand;
mod common;
#[allow(dead_code, reason = "other tests cut it")]
#[path = "common/memory.rs"]
mod memory;

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::task::Context;
use std::thread;

use avi_p2p::{AviEvent, AviP2pConfig, AviP2pError, StreamOptions, transport};
use by_hand::{ByHand, Pair, at_once, until};
use common::{WITHIN, config};
use futures::FutureExt;
use tokio::sync::mpsc::error::TryRecvError;

/// The node has ended with this panic: an event tells it, calls return, and `shutdown` says so.
fn assert_panicked(mut node: ByHand, reason: &str) {
    let handle = node.node.handle();
    assert_eq!(at_once(handle.subscribe("late")), Err(AviP2pError::ChannelClosed));
    assert_eq!(at_once(handle.stats()), Err(AviP2pError::ChannelClosed));
    assert!(node.is_woken() || node.has_ended(), "nobody would end it");
    node.settle();
    assert!(node.has_ended());
    let told = node.take(|event| matches!(event, AviEvent::NodeFailed { .. }));
    assert_eq!(told, [AviEvent::NodeFailed { reason: reason.to_owned() }]);
    assert_eq!(node.events.recv().now_or_never(), Some(None), "it is the last event");
    assert_eq!(node.shut_down(), Err(AviP2pError::Panicked(reason.to_owned())));
}

#[test]
fn a_panic_that_a_peer_provokes_ends_the_node_and_is_told() {
    let mut pair = Pair::in_a_call(StreamOptions::default());
    pair.near.wire.read_panics.store(true, Ordering::SeqCst);
    let far = pair.far.node.handle();
    at_once(far.publish("bulk", vec![1; 100])).unwrap();
    let stream = pair.stream;
    at_once(pair.near.node.handle().send_audio(stream, vec![7; 640])).unwrap();
    // The far one answers at the level of Yamux or says goodbye: whatever it sends is read, and that panics.
    at_once(far.close_audio_stream(far_stream(&mut pair))).unwrap();
    until(|| {
        pair.far.settle();
        pair.near.settle();
        pair.near.has_ended().then_some(())
    });
    assert_panicked(pair.near, "a read panics, as told");
}

fn far_stream(pair: &mut Pair) -> avi_p2p::StreamId {
    pair.settle();
    let heard = pair.far.take(|event| matches!(event, AviEvent::AudioData { .. }));
    let Some(AviEvent::AudioData { stream_id, .. }) = heard.into_iter().next() else { panic!("no frame") };
    stream_id
}

#[test]
fn a_panic_on_a_callers_thread_does_not_unwind_through_the_call() {
    let pair = Pair::in_a_call(StreamOptions::default());
    pair.near.wire.write_panics.store(true, Ordering::SeqCst);
    // What a call writes, it writes on this thread.
    let sent = at_once(pair.near.node.handle().send_audio(pair.stream, vec![7; 640]));
    assert_eq!(sent, Err(AviP2pError::ChannelClosed));
    assert_panicked(pair.near, "a write panics, as told");
}

#[test]
fn a_panic_leaves_no_caller_waiting() {
    let mut node = ByHand::start(AviP2pConfig { enable_kad: true, ..config() });
    let handle = node.node.handle();
    let mut waiting = Box::pin(handle.find_more_peers());
    assert_eq!(waiting.as_mut().now_or_never(), None, "a walk takes its time");
    node.next_work(|| panic!("as told"));
    assert_eq!(at_once(handle.subscribe("lobby")), Err(AviP2pError::ChannelClosed));
    node.settle();
    assert_eq!(waiting.now_or_never(), Some(Err(AviP2pError::ChannelClosed)));
    assert_panicked(node, "as told");
}

#[test]
fn a_receiver_says_whether_more_events_may_come() {
    let mut node = ByHand::start(config());
    assert_eq!(node.events.try_recv(), Err(TryRecvError::Empty));
    let mut events = std::mem::replace(&mut node.events, ByHand::start(config()).events);
    assert_eq!(node.shut_down(), Ok(()));
    assert_eq!(events.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(events.blocking_recv(), None);
}

#[test]
fn a_closed_receiver_yields_what_waits_and_then_none_while_the_node_runs_on() {
    let own = |node: &ByHand, data: &[u8]| AviEvent::Message {
        from: node.node.local_peer_id().clone(),
        topic: "lobby".to_owned(),
        data: data.to_vec(),
    };
    let mut node = ByHand::start(AviP2pConfig { deliver_own: true, ..config() });
    let handle = node.node.handle();
    at_once(handle.subscribe("lobby")).unwrap();
    at_once(handle.publish("lobby", b"before".to_vec())).unwrap();
    node.events.close();
    at_once(handle.publish("lobby", b"after".to_vec())).unwrap();
    assert_eq!(node.events.blocking_recv(), Some(own(&node, b"before")));
    assert_eq!(node.events.blocking_recv(), None);
    assert_eq!(node.events.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(node.shut_down(), Ok(()));
}

#[test]
fn a_thread_that_waits_for_events_is_woken_by_the_next() {
    let mut node = ByHand::start(AviP2pConfig { deliver_own: true, ..config() });
    let handle = node.node.handle();
    at_once(handle.subscribe("lobby")).unwrap();
    let mut events = std::mem::replace(&mut node.events, ByHand::start(config()).events);
    let reader = std::thread::spawn(move || events.blocking_recv());
    at_once(handle.publish("lobby", b"hello".to_vec())).unwrap();
    assert!(matches!(reader.join().unwrap(), Some(AviEvent::Message { .. })));
    assert_eq!(node.shut_down(), Ok(()));
}

#[test]
fn dropping_the_last_owner_does_not_wait_though_the_node_is_at_work() {
    let mut node = ByHand::start(config());
    let (entered, inside) = mpsc::channel();
    let (let_go, wait) = mpsc::channel();
    node.next_work(move || {
        entered.send(()).unwrap();
        wait.recv().unwrap();
    });
    let mut task = node.take_task();
    let polling = thread::spawn(move || {
        futures::executor::block_on(std::future::poll_fn(|cx: &mut Context<'_>| task.as_mut().poll(cx)));
    });
    inside.recv().unwrap();
    let (dropped, is_dropped) = mpsc::channel();
    let dropping = thread::spawn(move || {
        drop(node.node);
        dropped.send(()).unwrap();
        node.events
    });
    is_dropped.recv_timeout(WITHIN).expect("the drop returns while the task has the node");
    let_go.send(()).unwrap();
    polling.join().expect("the node ends, since nobody can call it");
    let mut events = dropping.join().unwrap();
    assert_eq!(futures::executor::block_on(events.recv()), None);
}

#[test]
fn the_last_owner_may_go_at_any_step_of_the_tasks_work() {
    for step in 0..2 {
        assert!(ByHand::start(config()).ends_if_dropped_at(step), "forgotten at step {step}");
    }
}

#[test]
fn a_shutdown_given_up_half_way_and_a_cancelled_start_end_the_node_too() {
    let mut node = ByHand::start(config());
    let mut task = node.take_task();
    let mut shutdown = Box::pin(node.node.shutdown());
    assert_eq!(shutdown.as_mut().now_or_never(), None);
    drop(shutdown);
    futures::executor::block_on(&mut task);
    assert_eq!(futures::executor::block_on(node.events.recv()), None);

    let (give, take) = mpsc::channel();
    let mut starting = Box::pin(ByHand::starting(config(), move |task| give.send(task).unwrap()));
    assert!(starting.as_mut().now_or_never().is_none());
    drop(starting);
    futures::executor::block_on(take.recv().expect("its task was spawned"));
}
