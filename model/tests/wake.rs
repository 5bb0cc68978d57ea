//! Does the wake protocol lose no wake-up? loom tries all interleavings of a node's task, its callers and its sources of
//! work, with up to three preemptions. A lost wake-up leaves the task asleep, which loom reports as a deadlock.
//!
//! Each of the four promises of `wake.rs` is also broken on purpose, to see that the check notices.

use std::sync::Arc;
use std::task::{Wake as _, Waker};

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// Puts a thread to sleep until its waker is called.
#[derive(Default)]
struct Sleeper {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

impl Sleeper {
    fn sleep(&self) {
        let mut is_woken = self.is_woken.lock().unwrap();
        while !std::mem::take(&mut *is_woken) {
            is_woken = self.changed.wait(is_woken).unwrap();
        }
    }
}

impl std::task::Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// Checks one of the files that `build.rs` writes.
macro_rules! checks {
    ($name:ident, $source:literal $(, #[$panics:meta])?) => {
        mod $name {
            use super::*;

            #[allow(dead_code, reason = "a broken promise leaves something unused")]
            mod wake {
                include!(concat!(env!("OUT_DIR"), "/", $source, ".rs"));
            }
            use wake::{Flag, Wake};

            /// What is behind the node's lock: the work that has been seen.
            type Node = Mutex<usize>;

            struct World {
                wake: Arc<Wake>,
                flag: Arc<Flag>,
                /// A note that is taken before the work, as the one of the last owner.
                is_abandoned: AtomicBool,
                node: Node,
                /// Work that was left for the node.
                left: AtomicUsize,
                /// Connection tasks that are ready.
                ready: AtomicUsize,
            }

            impl World {
                fn new() -> Arc<Self> {
                    let wake = Arc::<Wake>::default();
                    let flag = Flag::new(wake.clone());
                    let (is_abandoned, node) = (AtomicBool::new(false), Mutex::new(0));
                    let (left, ready) = (AtomicUsize::new(0), AtomicUsize::new(0));
                    Arc::new(Self { wake, flag, is_abandoned, node, left, ready })
                }

                fn work(&self, seen: &mut usize) {
                    let is_abandoned = self.is_abandoned.swap(false, Ordering::SeqCst);
                    while self.flag.take() | is_abandoned {
                        *seen = self.left.load(Ordering::SeqCst);
                        if is_abandoned {
                            break;
                        }
                    }
                    self.sum_up();
                }

                fn sum_up(&self) {
                    self.wake.sum_up(|| self.flag.is_set() || self.is_abandoned.load(Ordering::SeqCst));
                }

                /// The last owner goes.
                fn abandon(&self) {
                    self.left.fetch_add(1, Ordering::SeqCst);
                    self.is_abandoned.swap(true, Ordering::SeqCst);
                    self.wake.set_due();
                    self.wake.wake();
                }

                /// As the node's task does.
                fn drive(&self, all: usize) {
                    let sleeper = Arc::<Sleeper>::default();
                    let waker = Waker::from(sleeper.clone());
                    let (mut seen, mut has_run) = (0, 0);
                    loop {
                        self.wake.attend(&waker);
                        loop {
                            has_run += self.ready.swap(0, Ordering::SeqCst);
                            if self.wake.is_due() {
                                let mut node = self.node.lock().unwrap();
                                self.work(&mut node);
                                seen = *node;
                            }
                            if seen + has_run == all {
                                return;
                            }
                            if self.wake.rest(|| self.ready.load(Ordering::SeqCst) > 0) {
                                break;
                            }
                        }
                        sleeper.sleep();
                    }
                }

                /// A source of work, for example a socket.
                fn source(&self) {
                    self.left.fetch_add(1, Ordering::SeqCst);
                    self.flag.wake_by_ref();
                }

                /// A connection task becomes ready.
                fn schedule(&self) {
                    self.ready.fetch_add(1, Ordering::SeqCst);
                    self.wake.wake_beside();
                }

                /// A caller whose input wakes something that only the task polls.
                fn call(&self) {
                    self.turn(|| {
                        self.left.fetch_add(1, Ordering::SeqCst);
                        self.flag.wake_by_ref();
                    });
                }

                /// A caller whose input leaves something due that has no waker, for example an earlier deadline.
                fn set(&self) {
                    self.turn(|| {
                        self.left.fetch_add(1, Ordering::SeqCst);
                        self.flag.set();
                    });
                }

                /// A caller whose input leaves nothing.
                fn ask(&self) {
                    self.turn(|| {});
                }

                fn turn(&self, work: impl FnOnce()) {
                    let node = self.node.lock().unwrap();
                    let turn = self.wake.begin();
                    work();
                    self.sum_up();
                    drop(node);
                    if self.wake.end(turn, || self.ready.load(Ordering::SeqCst) > 0) {
                        self.wake.wake_task();
                    }
                }
            }

            /// Whether the task sees all work, of which two others leave so much.
            fn check(left: usize, others: [fn(&World); 2]) {
                let mut model = loom::model::Builder::new();
                model.preemption_bound = Some(3);
                model.check(move || {
                    let world = World::new();
                    let threads = others.map(|other| {
                        let world = world.clone();
                        thread::spawn(move || other(&world))
                    });
                    world.drive(left);
                    threads.into_iter().for_each(|thread| thread.join().unwrap());
                });
            }

            #[test]
            $(#[$panics])?
            fn no_wake_up_is_lost() {
                check(2, [World::source, World::source]);
                check(2, [World::source, World::call]);
                check(1, [World::source, World::ask]);
                check(2, [World::call, World::call]);
                check(1, [World::call, World::ask]);
                check(2, [World::set, World::set]);
                check(2, [World::source, World::set]);
                check(1, [World::set, World::ask]);
                check(1, [World::abandon, World::ask]);
                check(2, [World::abandon, World::source]);
                check(1, [World::schedule, World::ask]);
                check(2, [World::schedule, World::call]);
                check(2, [World::schedule, World::source]);
            }
        }
    };
}

checks!(as_it_is, "as_it_is");
checks!(second_look, "no_second_look_after_registering", #[should_panic(expected = "deadlock")]);
checks!(note_first, "no_note_left_before_waking", #[should_panic(expected = "deadlock")]);
checks!(end_first, "the_last_look_before_the_end", #[should_panic(expected = "deadlock")]);
checks!(ends, "no_end_at_all", #[should_panic(expected = "deadlock")]);
