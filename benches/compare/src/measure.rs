//! From the trials of all rounds to one [`Measure`].

use crate::load::at;
use crate::results::{Latency, Measure, Spread};
use crate::trial::Taken;

/// What a subject's rounds come to.
pub fn of(subject: &str, rounds: &[Taken]) -> Measure {
    let done: Vec<&Taken> = rounds.iter().filter(|taken| taken.skipped.is_none()).collect();
    if done.is_empty() {
        let skipped = rounds.iter().find_map(|taken| taken.skipped.clone());
        let skipped = Some(skipped.unwrap_or_else(|| "there was no time for it".into()));
        return Measure { subject: subject.into(), skipped, ..Measure::default() };
    }
    let each = |figure: fn(&Taken) -> f64| Spread::of(done.iter().map(|taken| figure(taken)).collect());
    let idle: Vec<f64> = done.iter().filter_map(|taken| taken.idle_bytes).collect();
    Measure {
        subject: subject.into(),
        skipped: None,
        rate: each(|taken| taken.rate),
        latency: latency(&done),
        errors: done.iter().map(|taken| taken.errors).sum(),
        unanswered: done.iter().map(|taken| taken.unanswered).sum::<f64>() / done.len() as f64,
        cpu_user: each(|taken| taken.each.user),
        cpu_system: each(|taken| taken.each.system),
        ticks: done.iter().map(|taken| taken.each.ticks).sum(),
        switches: each(|taken| taken.each.switches),
        threads: each(|taken| taken.threads as f64),
        peak_rss: each(|taken| taken.peak_kib as f64),
        idle_bytes: (!idle.is_empty()).then(|| Spread::of(idle)),
        disturbed: done.iter().map(|taken| taken.disturbed).fold(0.0, f64::max),
        generator_bound: done.iter().filter(|taken| taken.generator_bound).count() * 2 > done.len(),
    }
}

fn latency(rounds: &[&Taken]) -> Latency {
    let mut curves: Vec<&Vec<(f64, f64)>> =
        rounds.iter().map(|taken| &taken.curve).filter(|curve| !curve.is_empty()).collect();
    let spread = |percentile| Spread::of(curves.iter().map(|curve| at(curve, percentile)).collect());
    let (p50, p90, p99, p999, max) = (spread(50.0), spread(90.0), spread(99.0), spread(99.9), spread(100.0));
    curves.sort_by(|a, b| at(a, 50.0).total_cmp(&at(b, 50.0)));
    let curve = curves.get(curves.len().saturating_sub(1) / 2).map(|curve| (*curve).clone());
    Latency { p50, p90, p99, p999, max, curve: curve.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rate: f64, p50: f64) -> Taken {
        Taken { rate, curve: vec![(50.0, p50)], errors: 1, ..Taken::default() }
    }

    #[test]
    fn the_curve_is_that_of_the_median_round() {
        let measure = of("x", &[taken(3.0, 30.0), taken(1.0, 10.0), taken(2.0, 20.0)]);
        assert_eq!(measure.latency.curve, [(50.0, 20.0)]);
        assert_eq!(measure.rate.values, [3.0, 1.0, 2.0]);
        assert_eq!((measure.rate.median, measure.errors), (2.0, 3));
    }

    #[test]
    fn what_was_skipped_in_every_round_says_why() {
        let skipped = Taken { skipped: Some("too many".into()), ..Taken::default() };
        assert_eq!(of("x", std::slice::from_ref(&skipped)).skipped.as_deref(), Some("too many"));
        assert_eq!(of("x", &[skipped, taken(1.0, 1.0)]).rate.values, [1.0]);
        assert!(of("x", &[]).skipped.is_some());
    }
}
