//! Where do the node's log entries land? Alone in its process, because it sets the subscriber of the whole process.

#[path = "common/by_hand.rs"]
mod by_hand;
mod common;
#[allow(dead_code, reason = "other tests cut it")]
#[path = "common/memory.rs"]
mod memory;

use std::sync::{Arc, Mutex};

use avi_p2p::{StreamOptions, transport};
use by_hand::{Pair, at_once};
use tracing_subscriber::layer::{self, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Notes of each event of the library whether it is told within a span of the application.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(String, bool)>>>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> layer::Layer<S> for Told {
    fn on_event(&self, event: &tracing::Event<'_>, context: layer::Context<'_, S>) {
        let is_within =
            context.event_scope(event).is_some_and(|mut scope| scope.any(|span| span.name() == "application"));
        self.0.lock().unwrap().push((event.metadata().target().to_owned(), is_within));
    }
}

#[test]
fn what_the_node_logs_on_a_callers_thread_does_not_land_in_the_callers_span() {
    let told = Told::default();
    tracing::subscriber::set_global_default(Registry::default().with(told.clone())).unwrap();
    let mut pair = Pair::in_a_call(StreamOptions::default());
    told.0.lock().unwrap().clear();
    tracing::info_span!("application").in_scope(|| {
        let handle = pair.near.node.handle();
        at_once(handle.publish("bulk", vec![1; 100])).unwrap();
        at_once(handle.send_audio(pair.stream, vec![7; 640])).unwrap();
        tracing::info!("of the application");
    });
    pair.settle();
    let told = told.0.lock().unwrap();
    assert!(told.contains(&("spans".to_owned(), true)), "the check sees the span: {told:?}");
    assert!(told.iter().any(|(target, _)| target.starts_with("avi_p2p")), "{told:?}");
    let strays: Vec<_> = told.iter().filter(|(target, is_within)| *is_within && target != "spans").collect();
    assert!(strays.is_empty(), "{strays:?}");
}
