//! How are a node's counters exported to Prometheus?

use std::fmt;
#[cfg(feature = "metrics")]
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "metrics")]
use prometheus_client::encoding::text::{encode_eof, encode_registry};
#[cfg(feature = "metrics")]
use prometheus_client::metrics::counter::Counter;
#[cfg(feature = "metrics")]
use prometheus_client::metrics::gauge::Gauge;
#[cfg(feature = "metrics")]
use prometheus_client::registry::Registry;

#[cfg(feature = "metrics")]
use crate::stats::{Figure, Kind, Stats, figures};

/// The registry into which `net` registers libp2p's metrics. Without the feature `metrics` it is empty and has no size.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    #[cfg(feature = "metrics")]
    registry: Arc<Mutex<Registry>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(feature = "metrics")]
impl Metrics {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic elsewhere leaves the registry usable, so the poison flag is ignored.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes the node's own counters and libp2p's metrics in the text format of OpenMetrics.
    pub(crate) fn encode(&self, stats: &Stats) -> Result<String, fmt::Error> {
        let mut own = Registry::with_prefix("avi_p2p");
        for Figure { name, help, kind, value } in figures(stats) {
            // The encoder adds the full stop itself.
            let help = help.trim_end_matches('.');
            match kind {
                Kind::counter => {
                    let counter: Counter = Counter::default();
                    counter.inc_by(value);
                    own.register(name, help, counter);
                }
                Kind::gauge => {
                    let gauge: Gauge = Gauge::default();
                    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
                    own.register(name, help, gauge);
                }
            }
        }
        let mut text = String::new();
        encode_registry(&mut text, &own)?;
        encode_registry(&mut text, &self.registry())?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}
