//! What has a device dropped, and why?

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of a device, from [`AviDevice::stats`](crate::device::AviDevice::stats). Those of its node are
/// `device.handle().stats()`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceStats {
    /// Messages that a handler of a topic was too slow for, the oldest of its queue.
    pub messages_dropped: u64,
    /// Calls of `on_…` handlers that were too slow, the oldest of each queue.
    pub callbacks_dropped: u64,
    /// Events that this device as a whole was too slow for.
    pub events_dropped: u64,
    /// Frames of streams that came before the stream had its reader, and that were too many.
    pub frames_dropped: u64,
    /// Calls of handlers that panicked. The handler is called again for what comes next; a stream's is not, and its
    /// stream is closed.
    pub handler_panics: u64,
    /// Streams that were refused because nothing here handles their reason.
    pub streams_refused: u64,
    /// Devices whose capabilities in the shared context could not be read, each time that a query met one.
    pub capabilities_unreadable: u64,
    /// Contexts of AVI 0.5 that were read.
    pub legacy_snapshots: u64,
    /// Those that were not, because they are malformed, old, or signed by another than their device.
    pub legacy_snapshots_refused: u64,
    /// Values of them that went into the shared context.
    pub legacy_values: u64,
    /// Values of them that the shared context cannot have.
    pub legacy_values_refused: u64,
    /// How often the shared context was published for AVI 0.5.
    pub legacy_publishes: u64,
    /// How often it could not be, as when it exceeds `limits.max_message_bytes`.
    pub legacy_publishes_failed: u64,
}

/// The same, as it grows.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub messages_dropped: Counter,
    pub callbacks_dropped: Counter,
    pub events_dropped: Counter,
    pub frames_dropped: Counter,
    pub handler_panics: Counter,
    pub streams_refused: Counter,
    pub capabilities_unreadable: Counter,
    pub legacy_snapshots: Counter,
    pub legacy_snapshots_refused: Counter,
    pub legacy_values: Counter,
    pub legacy_values_refused: Counter,
    pub legacy_publishes: Counter,
    pub legacy_publishes_failed: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub fn snapshot(&self) -> DeviceStats {
        DeviceStats {
            messages_dropped: self.messages_dropped.get(),
            callbacks_dropped: self.callbacks_dropped.get(),
            events_dropped: self.events_dropped.get(),
            frames_dropped: self.frames_dropped.get(),
            handler_panics: self.handler_panics.get(),
            streams_refused: self.streams_refused.get(),
            capabilities_unreadable: self.capabilities_unreadable.get(),
            legacy_snapshots: self.legacy_snapshots.get(),
            legacy_snapshots_refused: self.legacy_snapshots_refused.get(),
            legacy_values: self.legacy_values.get(),
            legacy_values_refused: self.legacy_values_refused.get(),
            legacy_publishes: self.legacy_publishes.get(),
            legacy_publishes_failed: self.legacy_publishes_failed.get(),
        }
    }
}
