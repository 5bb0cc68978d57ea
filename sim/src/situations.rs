//! Which of the situations that are worth reaching has a run reached, and how often?

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use avi_p2p::situation::{FIELD, Situation, TARGET};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Event, Metadata, Subscriber};

/// How often each situation was reached, by its name. It has all names.
pub type Situations = BTreeMap<String, u64>;

/// Counts the marks of the nodes that run on the threads on which it [listens](Self::listen).
#[derive(Clone)]
pub(crate) struct Counters(Arc<[AtomicU64]>);

impl Counters {
    pub(crate) fn new() -> Self {
        Self(Situation::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts what this thread does, until the guard is dropped.
    pub(crate) fn listen(&self) -> DefaultGuard {
        set_default(self.clone())
    }

    pub(crate) fn counts(&self) -> Situations {
        let counts = Situation::ALL.iter().zip(self.0.iter());
        counts.map(|(situation, count)| (situation.name().to_owned(), count.load(Ordering::Relaxed))).collect()
    }
}

impl Subscriber for Counters {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == TARGET
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Marks(self));
    }

    // No span is enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Marks<'a>(&'a Counters);

impl Visit for Marks<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let index = Situation::ALL.iter().position(|situation| field.name() == FIELD && situation.name() == value);
        if let Some(count) = index.and_then(|index| self.0.0.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
