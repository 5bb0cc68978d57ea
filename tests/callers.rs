//! May anybody call a node at any time, from any thread? A caller does the node's work itself while nobody else does.

mod common;
#[allow(dead_code, reason = "other tests cut it")]
#[path = "common/memory.rs"]
mod memory;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake};
use std::time::{Duration, Instant};

use avi_p2p::transport::{self, Network};
use avi_p2p::{AviEvent, AviP2p, AviP2pError, AviP2pHandle, Platform};
use common::{Node, WITHIN, config};
use futures::FutureExt;
use futures::future::BoxFuture;
use memory::Memory;

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
            std::thread::yield_now();
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
            std::thread::spawn(move || speak(&handle, thread))
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

/// What happens when a caller is about to do the node's work; once.
type Inside = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Memory in place of a network.
struct ByHand {
    network: Memory,
    epoch: Instant,
    inside: Inside,
}

impl Platform for ByHand {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, moment: Duration) -> BoxFuture<'static, ()> {
        let timer = smol::Timer::at(self.epoch + moment);
        timer.map(drop).boxed()
    }

    fn network(&self) -> Network {
        Network::Custom(Arc::new(self.network.clone()))
    }

    fn enter(&self, work: &mut dyn FnMut()) {
        let first = self.inside.lock().unwrap().take();
        if let Some(first) = first {
            first();
        }
        work();
    }
}

/// A node whose task nobody polls any more, that task, and what the next caller is to meet.
async fn asleep() -> (AviP2p, BoxFuture<'static, ()>, Inside) {
    let inside = Inside::default();
    let platform = ByHand { network: Memory::default(), epoch: Instant::now(), inside: inside.clone() };
    let (give, take) = mpsc::channel();
    let starting = AviP2p::start_on(config(), platform, move |task| give.send(task).unwrap());
    let mut starting = Box::pin(starting);
    assert!(starting.as_mut().now_or_never().is_none());
    let mut task = take.try_recv().expect("it was spawned");
    let started = futures::future::select(starting, &mut task).await;
    let futures::future::Either::Left((started, _)) = started else { panic!("its task ended") };
    let (node, mut events) = started.unwrap();
    let first = futures::future::select(Box::pin(events.recv()), &mut task).await;
    assert!(matches!(first, futures::future::Either::Left((Some(AviEvent::Started { .. }), _))));
    (node, task, inside)
}

#[test]
fn a_node_whose_task_sleeps_answers_on_the_callers_thread() {
    smol::block_on(async {
        let (node, task, _) = asleep().await;
        let handle = node.handle();
        assert_eq!(handle.subscribe("lobby").now_or_never(), Some(Ok(())));
        assert_eq!(handle.subscribe("lobby").now_or_never(), Some(Err(AviP2pError::AlreadySubscribed("lobby".into()))));
        assert!(handle.stats().now_or_never().expect("at once").is_ok());
        let end = futures::future::join(task, node.shutdown()).map(|((), result)| Some(result));
        let deadline = smol::Timer::after(WITHIN).map(|_| None);
        assert_eq!(smol::future::or(end, deadline).await, Some(Ok(())));
        assert_eq!(handle.subscribe("late").await, Err(AviP2pError::ChannelClosed));
    });
}

#[test]
fn a_panic_on_a_callers_thread_ends_the_node_and_leaves_nobody_waiting() {
    smol::block_on(async {
        let (node, mut task, inside) = asleep().await;
        let handle = node.handle();
        let woken = settled(&mut task);
        *inside.lock().unwrap() = Some(Box::new(|| panic!("as told")));
        let call = AssertUnwindSafe(|| handle.subscribe("lobby").now_or_never());
        assert!(catch_unwind(call).is_err(), "the caller hears of it");
        assert!(woken.0.load(Ordering::SeqCst), "so does the node's task");
        let waiting = handle.subscribe("lobby");
        let (answer, ()) = futures::future::join(waiting, task).await;
        assert_eq!(answer, Err(AviP2pError::ChannelClosed));
    });
}

/// Polls a node's task until it sleeps. Returns whether it is woken from then on.
fn settled(task: &mut BoxFuture<'static, ()>) -> Arc<Woken> {
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = woken.clone().into();
    while woken.0.swap(false, Ordering::SeqCst) {
        assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    woken
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn calls_that_come_while_a_caller_is_at_work_are_all_answered() {
    // As many as the node's task takes in one go, which is as many as may wait, and more that wait for a place.
    const CALLS: usize = 300;
    smol::block_on(async {
        let (node, mut task, inside) = asleep().await;
        let handle = node.handle();
        let woken = settled(&mut task);
        let waker = woken.clone().into();
        let calls: Arc<Mutex<Vec<BoxFuture<'static, _>>>> = Arc::default();
        let (queued, caller) = (calls.clone(), handle.clone());
        *inside.lock().unwrap() = Some(Box::new(move || {
            for _ in 0..CALLS {
                let caller = caller.clone();
                let mut call = async move { caller.subscribe("lobby").await }.boxed();
                assert!(call.as_mut().now_or_never().is_none(), "somebody is at work");
                queued.lock().unwrap().push(call);
            }
            assert!(caller.stats().now_or_never().is_some_and(|stats| stats.is_ok()), "a question waits for nobody");
        }));
        handle.subscribe("lobby").await.unwrap();

        let mut calls = std::mem::take(&mut *calls.lock().unwrap());
        assert_eq!(calls.len(), CALLS);
        while woken.0.swap(false, Ordering::SeqCst) {
            assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            calls.retain_mut(|call| {
                let answer = call.as_mut().now_or_never();
                assert!(answer.is_none() || answer == Some(Err(AviP2pError::AlreadySubscribed("lobby".into()))));
                answer.is_none()
            });
        }
        assert!(calls.is_empty(), "{} are forgotten", calls.len());
    });
}
