//! What does the receiving end check? Everything came, in order, and when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::process::{Facts, now};

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

/// What all streams and authors of a run come together in.
#[derive(Clone, Default)]
pub struct Ear(Arc<Shared>);

#[derive(Default)]
struct Shared {
    heard: AtomicU64,
    expected: u64,
    out_of_order: AtomicU64,
    last_ns: AtomicU64,
    latencies_ns: Mutex<Vec<u64>>,
    complete: Notify,
}

impl Ear {
    /// Complete once it has heard that much.
    pub fn new(expected: u64) -> Self {
        Self(Arc::new(Shared { expected, ..Shared::default() }))
    }

    /// The ear for one sequence.
    pub fn one(&self) -> One {
        One { ear: self.clone(), next: 0 }
    }

    pub async fn complete(&self) {
        while self.0.heard.load(Ordering::Acquire) < self.0.expected {
            self.0.complete.notified().await;
        }
    }

    pub fn report(&self) -> Facts {
        let shared = &self.0;
        let latencies_ns = std::mem::take(&mut *shared.latencies_ns.lock().unwrap_or_else(|error| error.into_inner()));
        Facts::default()
            .with("heard", shared.heard.load(Ordering::Acquire))
            .with("out_of_order", shared.out_of_order.load(Ordering::Acquire))
            .with("last_ns", shared.last_ns.load(Ordering::Acquire))
            .with("p50_us", percentile_us(latencies_ns.clone(), 50))
            .with("p99_us", percentile_us(latencies_ns, 99))
    }
}

/// Hears one sequence.
pub struct One {
    ear: Ear,
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
            let latency = now.saturating_sub(stamp);
            shared.latencies_ns.lock().unwrap_or_else(|error| error.into_inner()).push(latency);
        }
        if shared.heard.fetch_add(1, Ordering::AcqRel) + 1 == shared.expected {
            shared.complete.notify_one();
        }
    }
}

/// Hears one sequence a key.
pub struct Many<K> {
    ear: Ear,
    each: BTreeMap<K, One>,
}

impl<K: Ord> Many<K> {
    pub fn new(ear: Ear) -> Self {
        Self { ear, each: BTreeMap::new() }
    }

    pub fn hear(&mut self, key: K, data: &[u8]) {
        self.each.entry(key).or_insert_with(|| self.ear.one()).hear(data);
    }
}

/// 0 if there is nothing to measure.
pub fn percentile_us(mut latencies_ns: Vec<u64>, percent: usize) -> f64 {
    latencies_ns.sort_unstable();
    let at = (latencies_ns.len() * percent / 100).min(latencies_ns.len().saturating_sub(1));
    latencies_ns.get(at).map_or(0.0, |nanos| *nanos as f64 / 1000.0)
}
