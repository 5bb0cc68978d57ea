//! What do libp2p's own metrics hear of?

#[cfg(feature = "metrics")]
use libp2p_gossipsub::MetricsConfig;
#[cfg(feature = "metrics")]
use libp2p_metrics::Recorder as _;
use libp2p_swarm::SwarmEvent;

use crate::config::Limits;
use crate::metrics::Metrics;
use crate::net::behaviour::BehaviourEvent;
use crate::net::gossip::Upstream;
#[cfg(feature = "metrics")]
use crate::net::gossip::thresholds;
#[cfg(feature = "metrics")]
use crate::net::watched::Heard;

/// Topics of others that have a label of their own; the rest are not told apart.
#[cfg(feature = "metrics")]
const MAX_FOREIGN_TOPICS: usize = 16;

/// Passes events on to libp2p's metrics. Does nothing without the feature `metrics`.
pub(super) struct Recorder {
    #[cfg(feature = "metrics")]
    metrics: libp2p_metrics::Metrics,
}

impl Recorder {
    #[cfg(feature = "metrics")]
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { metrics: libp2p_metrics::Metrics::new(&mut metrics.registry()) }
    }

    #[cfg(not(feature = "metrics"))]
    pub(super) fn new(_: &Metrics) -> Self {
        Self {}
    }

    #[cfg(feature = "metrics")]
    pub(super) fn record(&self, event: &SwarmEvent<BehaviourEvent>) {
        self.metrics.record(event);
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(Heard::Upstream(event))) => self.metrics.record(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.metrics.record(event),
            SwarmEvent::Behaviour(BehaviourEvent::Routing(event)) => self.metrics.record(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.metrics.record(event),
            _ => {}
        }
    }

    #[cfg(not(feature = "metrics"))]
    pub(super) fn record(&self, _: &SwarmEvent<BehaviourEvent>) {}
}

/// Has pub/sub record what it does, with a bounded number of labels.
#[cfg(feature = "metrics")]
pub(super) fn observe(upstream: Upstream, metrics: &Metrics, limits: &Limits) -> Upstream {
    let mut config = MetricsConfig {
        max_topics: limits.max_topics,
        max_never_subscribed_topics: MAX_FOREIGN_TOPICS,
        ..MetricsConfig::default()
    };
    config.buckets_using_scoring_thresholds(&thresholds());
    let mut registry = metrics.registry();
    let libp2p = registry.sub_registry_with_prefix("libp2p");
    upstream.with_metrics(libp2p.sub_registry_with_prefix("gossipsub"), config)
}

#[cfg(not(feature = "metrics"))]
pub(super) fn observe(upstream: Upstream, _: &Metrics, _: &Limits) -> Upstream {
    upstream
}
