//! What waits for a handler, and what is dropped if the handler is slow?

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The most items that wait for one handler.
pub(crate) const MAX_ITEMS: usize = 1024;
/// The most bytes that wait for one handler.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Items for one reader. The oldest are dropped first; the newest is always kept.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub fn new() -> Self {
        let waiting = Waiting { items: VecDeque::new(), bytes: 0, closed: false };
        Self { waiting: Mutex::new(waiting), changed: Notify::new() }
    }

    /// Adds an item of so many bytes, and returns how many were dropped for it.
    pub fn push(&self, item: T, bytes: usize) -> u64 {
        let mut waiting = self.lock();
        if waiting.closed {
            return 0;
        }
        waiting.items.push_back((item, bytes));
        waiting.bytes += bytes;
        let mut dropped = 0;
        while waiting.items.len() > MAX_ITEMS || (waiting.bytes > MAX_BYTES && waiting.items.len() > 1) {
            let oldest = waiting.items.pop_front();
            waiting.bytes -= oldest.map_or(0, |(_, bytes)| bytes);
            dropped += 1;
        }
        drop(waiting);
        self.changed.notify_one();
        dropped
    }

    /// Takes no more. What waits is still read.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next item; `None` once the queue is closed and read. For one reader.
    pub async fn pop(&self) -> Option<T> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some((item, bytes)) = waiting.items.pop_front() {
                    waiting.bytes -= bytes;
                    return Some(item);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        // No code of the application runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_are_dropped_first_by_number() {
        let queue = Queue::new();
        let dropped: u64 = (0..MAX_ITEMS + 3).map(|item| queue.push(item, 1)).sum();
        assert_eq!(dropped, 3);
        assert_eq!(queue.pop().await, Some(3));
    }

    #[tokio::test]
    async fn the_oldest_are_dropped_first_by_bytes() {
        let queue = Queue::new();
        assert_eq!(queue.push("a", MAX_BYTES / 2), 0);
        assert_eq!(queue.push("b", MAX_BYTES / 2), 0);
        assert_eq!(queue.push("c", 1), 1);
        assert_eq!(queue.pop().await, Some("b"));
        assert_eq!(queue.push("huge", 2 * MAX_BYTES), 1, "the newest is kept");
        assert_eq!(queue.pop().await, Some("huge"));
        assert_eq!(queue.push("d", MAX_BYTES), 0, "what was read has made room");
    }

    #[tokio::test]
    async fn what_waits_is_read_after_the_close_and_then_it_ends() {
        let queue = Queue::new();
        queue.push(1, 0);
        queue.close();
        assert_eq!(queue.push(2, 0), 0);
        assert_eq!(queue.pop().await, Some(1));
        assert_eq!(queue.pop().await, None);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let queue = std::sync::Arc::new(Queue::new());
        let reader = tokio::spawn({
            let queue = queue.clone();
            async move { (queue.pop().await, queue.pop().await) }
        });
        tokio::task::yield_now().await;
        queue.push(1, 0);
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(reader.await.unwrap(), (Some(1), None));
    }
}
