//! Combines the samples of all rounds into one [`Measure`].

use crate::load::at;
use crate::results::{Latency, Measure, Spread};
use crate::trial::Sample;

/// Combines a server's samples, one per round.
pub fn of(subject: &str, rounds: &[Sample]) -> Measure {
    let done: Vec<&Sample> = rounds.iter().filter(|sample| sample.skipped.is_none()).collect();
    if done.is_empty() {
        let skipped = rounds.iter().find_map(|sample| sample.skipped.clone());
        let skipped = Some(skipped.unwrap_or_else(|| "the time limit was reached".into()));
        return Measure { subject: subject.into(), skipped, ..Measure::default() };
    }
    let each = |figure: fn(&Sample) -> f64| Spread::of(done.iter().map(|sample| figure(sample)).collect());
    let idle: Vec<f64> = done.iter().filter_map(|sample| sample.idle_bytes).collect();
    Measure {
        subject: subject.into(),
        skipped: None,
        rate: each(|sample| sample.rate),
        latency: latency(&done),
        errors: done.iter().map(|sample| sample.errors).sum(),
        unanswered: done.iter().map(|sample| sample.unanswered).sum::<f64>() / done.len() as f64,
        cpu_user: each(|sample| sample.each.user),
        cpu_system: each(|sample| sample.each.system),
        ticks: done.iter().map(|sample| sample.each.ticks).sum(),
        switches: each(|sample| sample.each.switches),
        threads: each(|sample| sample.threads as f64),
        peak_rss: each(|sample| sample.peak_kib as f64),
        idle_bytes: (!idle.is_empty()).then(|| Spread::of(idle)),
        disturbed: done.iter().map(|sample| sample.disturbed).fold(0.0, f64::max),
        generator_bound: done.iter().filter(|sample| sample.generator_bound).count() * 2 > done.len(),
    }
}

fn latency(rounds: &[&Sample]) -> Latency {
    let mut curves: Vec<&Vec<(f64, f64)>> =
        rounds.iter().map(|samples| &samples.curve).filter(|curve| !curve.is_empty()).collect();
    let spread = |percentile| Spread::of(curves.iter().map(|curve| at(curve, percentile)).collect());
    let (p50, p90, p99, p999, max) = (spread(50.0), spread(90.0), spread(99.0), spread(99.9), spread(100.0));
    curves.sort_by(|a, b| at(a, 50.0).total_cmp(&at(b, 50.0)));
    let curve = curves.get(curves.len().saturating_sub(1) / 2).map(|curve| (*curve).clone());
    Latency { p50, p90, p99, p999, max, curve: curve.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: f64, p50: f64) -> Sample {
        Sample { rate, curve: vec![(50.0, p50)], errors: 1, ..Sample::default() }
    }

    #[test]
    fn the_curve_is_that_of_the_median_round() {
        let measure = of("x", &[sample(3.0, 30.0), sample(1.0, 10.0), sample(2.0, 20.0)]);
        assert_eq!(measure.latency.curve, [(50.0, 20.0)]);
        assert_eq!(measure.rate.values, [3.0, 1.0, 2.0]);
        assert_eq!((measure.rate.median, measure.errors), (2.0, 3));
    }

    #[test]
    fn a_measure_is_skipped_only_if_every_round_was() {
        let skipped = Sample { skipped: Some("too many".into()), ..Sample::default() };
        assert_eq!(of("x", std::slice::from_ref(&skipped)).skipped.as_deref(), Some("too many"));
        assert_eq!(of("x", &[skipped, sample(1.0, 1.0)]).rate.values, [1.0]);
        assert!(of("x", &[]).skipped.is_some());
    }
}
