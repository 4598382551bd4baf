//! Counts responses and errors.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest recorded latency in ns: one hour.
const MAX_LATENCY: u64 = 3_600_000_000_000;
/// Significant digits of recorded latencies.
const DIGITS: u8 = 3;
/// The percentiles of the latency curve.
const CURVE: [f64; 14] =
    [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0];

/// Counts and latencies of one traffic.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Latencies in ns.
    latency: Histogram<u64>,
    /// Successful responses within the window.
    pub answered: u64,
    /// Unsuccessful responses and failed connections.
    pub errors: u64,
    /// Requests without a response at the end. The latencies include them with the time waited so far.
    pub unanswered: u64,
}

impl Default for Tally {
    fn default() -> Tally {
        let latency = Histogram::new_with_bounds(1, MAX_LATENCY, DIGITS).expect("the bounds are constants");
        Tally { latency, answered: 0, errors: 0, unanswered: 0 }
    }
}

impl Tally {
    /// Records the latency of a response.
    pub fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(ns.max(1));
    }

    /// Records a request without a response, with the time waited so far.
    pub fn record_unanswered(&mut self, latency: Duration) {
        self.record(latency);
        self.unanswered += 1;
    }

    /// Share of the requests without a response.
    pub fn unanswered_share(&self) -> f64 {
        self.unanswered as f64 / self.latency.len().max(1) as f64
    }

    /// Adds the counts of another generator.
    pub fn add(&mut self, other: &Tally) {
        self.latency.add(&other.latency).expect("all have the same bounds");
        self.answered += other.answered;
        self.errors += other.errors;
        self.unanswered += other.unanswered;
    }

    /// Pairs of percentile and latency in µs; empty if there are none.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let at = |percentile| (percentile, self.latency.value_at_percentile(percentile) as f64 / 1e3);
        if self.latency.is_empty() { Vec::new() } else { CURVE.into_iter().map(at).collect() }
    }
}

/// The latency at a percentile of a curve in µs; 0 if the curve has no such point.
pub fn at(curve: &[(f64, f64)], percentile: f64) -> f64 {
    curve.iter().find(|point| point.0 == percentile).map_or(0.0, |point| point.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds_and_cover_what_is_unanswered() {
        let mut tally = Tally::default();
        (1..=99).for_each(|ms| tally.record(Duration::from_millis(ms)));
        tally.record_unanswered(Duration::from_secs(2));
        let curve = tally.curve();
        let near = |percentile, us: f64| {
            let is = at(&curve, percentile);
            assert!((is / us - 1.0).abs() < 0.002, "{is} at {percentile}");
        };
        near(50.0, 50_000.0);
        near(99.0, 99_000.0);
        near(100.0, 2_000_000.0);
        assert_eq!(tally.unanswered_share(), 0.01);
    }

    #[test]
    fn nothing_has_no_curve() {
        assert!(Tally::default().curve().is_empty());
    }
}
