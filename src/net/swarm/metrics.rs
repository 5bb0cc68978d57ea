//! Which events do libp2p's own metrics receive?

#[cfg(feature = "metrics")]
use libp2p_metrics::Recorder as _;
#[cfg(feature = "metrics")]
use libp2p_ping::Failure;
use libp2p_swarm::SwarmEvent;

use crate::metrics::Metrics;
#[cfg(feature = "metrics")]
use crate::net::connections::{Answer, Answered};
#[cfg(feature = "metrics")]
use crate::net::pubsub::Heard;
use crate::net::swarm::behaviour::BehaviourEvent;

/// Passes events to libp2p's metrics. Does nothing without the feature `metrics`.
pub(in crate::net) struct Recorder {
    #[cfg(feature = "metrics")]
    metrics: libp2p_metrics::Metrics,
}

impl Recorder {
    #[cfg(feature = "metrics")]
    pub(in crate::net) fn new(metrics: &Metrics) -> Self {
        Self { metrics: libp2p_metrics::Metrics::new(&mut metrics.registry()) }
    }

    #[cfg(not(feature = "metrics"))]
    pub(in crate::net) fn new(_: &Metrics) -> Self {
        Self {}
    }

    #[cfg(feature = "metrics")]
    pub(in crate::net) fn record(&self, event: &SwarmEvent<BehaviourEvent>) {
        self.metrics.record(event);
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(Heard::Upstream(event))) => self.metrics.record(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.metrics.record(event),
            SwarmEvent::Behaviour(BehaviourEvent::Routing(event)) => self.metrics.record(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(Answered { connection, peer, result })) => {
                let result = match result {
                    Ok(Answer::Pong(rtt)) => Ok(*rtt),
                    Ok(Answer::Probed { .. }) => return,
                    Err(Failure::Timeout) => Err(Failure::Timeout),
                    Err(Failure::Unsupported) => Err(Failure::Unsupported),
                    Err(Failure::Other { error }) => Err(Failure::Other { error: error.to_string().into() }),
                };
                self.metrics.record(&libp2p_ping::Event { connection: *connection, peer: *peer, result });
            }
            _ => {}
        }
    }

    #[cfg(not(feature = "metrics"))]
    pub(in crate::net) fn record(&self, _: &SwarmEvent<BehaviourEvent>) {}
}
