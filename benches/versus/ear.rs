//! What does the receiving end check? Everything came, in order, and when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::process::now;

/// A stamp that stands for: not to be measured.
pub const UNSTAMPED: u64 = 0;
const HEADER_BYTES: usize = 16;

/// `len` bytes that begin with a number and the time.
pub fn stamped(number: u64, stamp: u64, len: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(len.max(HEADER_BYTES));
    data.extend_from_slice(&number.to_be_bytes());
    data.extend_from_slice(&stamp.to_be_bytes());
    data.resize(len.max(HEADER_BYTES), 7);
    data
}

fn header(data: &[u8]) -> (u64, u64) {
    let word = |at: usize| data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    (word(0), word(8))
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of a call.
    Frame,
    /// Of pub/sub.
    Message,
}

/// One that had a stamp. Not every benchmark reads all of it.
#[allow(dead_code)]
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub kind: Kind,
    pub number: u64,
    pub latency_ns: u64,
}

/// All that came. Not every benchmark reads all of it.
#[allow(dead_code)]
#[derive(Clone, Debug)]
pub struct Tally {
    /// With a stamp or without.
    pub heard: u64,
    /// Messages that the application did not read in time, as its node told it.
    pub unread: u64,
    pub out_of_order: u64,
    /// When the last came.
    pub last_ns: u64,
    /// In the order in which they came.
    pub stamped: Vec<Heard>,
}

/// What all streams and authors of a run come together in.
#[derive(Clone, Default)]
pub struct Ear(Arc<Shared>);

#[derive(Default)]
struct Shared {
    heard: AtomicU64,
    expected: u64,
    unread: AtomicU64,
    out_of_order: AtomicU64,
    last_ns: AtomicU64,
    stamped: Mutex<Vec<Heard>>,
    complete: Notify,
}

impl Ear {
    /// Complete once it has heard that much.
    pub fn new(expected: u64) -> Self {
        Self(Arc::new(Shared { expected, ..Shared::default() }))
    }

    /// The ear for one sequence.
    pub fn one(&self, kind: Kind) -> One {
        One { ear: self.clone(), kind, next: 0 }
    }

    /// The node tells that it has dropped messages before they were read.
    pub fn miss(&self, messages: u64) {
        self.0.unread.fetch_add(messages, Ordering::AcqRel);
    }

    pub async fn complete(&self) {
        while self.0.heard.load(Ordering::Acquire) < self.0.expected {
            self.0.complete.notified().await;
        }
    }

    /// What has been heard so far.
    pub fn tally(&self) -> Tally {
        let shared = &self.0;
        Tally {
            heard: shared.heard.load(Ordering::Acquire),
            unread: shared.unread.load(Ordering::Acquire),
            out_of_order: shared.out_of_order.load(Ordering::Acquire),
            last_ns: shared.last_ns.load(Ordering::Acquire),
            stamped: shared.stamped.lock().unwrap_or_else(|error| error.into_inner()).clone(),
        }
    }
}

/// Hears one sequence.
pub struct One {
    ear: Ear,
    kind: Kind,
    next: u64,
}

impl One {
    pub fn hear(&mut self, data: &[u8]) {
        let (number, stamp) = header(data);
        let shared = &self.ear.0;
        if number < self.next {
            shared.out_of_order.fetch_add(1, Ordering::AcqRel);
        }
        self.next = number + 1;
        let now = now();
        shared.last_ns.fetch_max(now, Ordering::AcqRel);
        if stamp != UNSTAMPED {
            let heard = Heard { kind: self.kind, number, latency_ns: now.saturating_sub(stamp) };
            shared.stamped.lock().unwrap_or_else(|error| error.into_inner()).push(heard);
        }
        if shared.heard.fetch_add(1, Ordering::AcqRel) + 1 == shared.expected {
            shared.complete.notify_one();
        }
    }
}

/// Hears one sequence a key.
pub struct Many<K> {
    ear: Ear,
    kind: Kind,
    each: BTreeMap<K, One>,
}

impl<K: Ord> Many<K> {
    pub fn new(ear: Ear, kind: Kind) -> Self {
        Self { ear, kind, each: BTreeMap::new() }
    }

    pub fn hear(&mut self, key: K, data: &[u8]) {
        self.each.entry(key).or_insert_with(|| self.ear.one(self.kind)).hear(data);
    }
}

/// 0 if there is nothing to measure.
pub fn percentile_us(mut latencies_ns: Vec<u64>, percent: usize) -> f64 {
    latencies_ns.sort_unstable();
    let at = (latencies_ns.len() * percent / 100).min(latencies_ns.len().saturating_sub(1));
    latencies_ns.get(at).map_or(0.0, |nanos| *nanos as f64 / 1000.0)
}
