//! What do the figures of a node look like to Prometheus?

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

/// What the network room records, for whoever asks. Nothing, and of no size, without the feature `metrics`.
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
        // It is as it was, whoever panicked.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node's own figures and what was recorded, in the text format of OpenMetrics.
    pub(crate) fn encode(&self, stats: &Stats) -> Result<String, fmt::Error> {
        let mut own = Registry::with_prefix("avi_p2p");
        for Figure { name, help, kind, value } in figures(stats) {
            // It adds the full stop itself.
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
