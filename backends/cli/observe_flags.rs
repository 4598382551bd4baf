//! The flags for observing a server: the listener of the metrics, histograms, and the delay of a drain.

use std::time::Duration;

use gearshift_core::{Bind, Config};

use super::values;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ObserveFlags {
    /// Address of a separate listener for /metrics in the Prometheus format, /healthz and /readyz, in the forms of
    /// --bind; it answers also while the server is full or stops [default: none]
    #[arg(long, value_name = "ADDR", env = "GEARSHIFT_METRICS_BIND", value_parser = values::bind)]
    pub(crate) metrics_bind: Option<Bind>,

    /// Number of routes with a histogram of their latency among the metrics, up to 65536 [default: 0]
    #[arg(long, value_name = "N", env = "GEARSHIFT_ROUTE_HISTOGRAMS", value_parser = histograms)]
    route_histograms: Option<usize>,

    /// Time between the first signal, which ends readiness, and the drain [default: 0s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_DRAIN_DELAY", value_parser = values::duration)]
    drain_delay: Option<Duration>,
}

/// Reads a number of histograms.
fn histograms(text: &str) -> Result<usize, String> {
    let max = Config::MAX_ROUTE_HISTOGRAMS;
    text.parse().ok().filter(|number| *number <= max).ok_or_else(|| format!("not a number up to {max}"))
}

impl ObserveFlags {
    /// Sets the settings.
    pub(crate) fn set(&self, config: &mut Config) {
        config.route_histograms = self.route_histograms.unwrap_or(config.route_histograms);
        config.drain_delay = self.drain_delay.unwrap_or(config.drain_delay);
    }
}
