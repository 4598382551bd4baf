//! Determines the best servers of a scenario, as far as the figures differ.

use crate::figure::{Figure, RATE, answers};
use crate::results::{Measure, Point, Scenario, Spread};

/// Differences up to this share are ignored.
const NEGLIGIBLE: f64 = 0.03;

/// The best servers at the last point, best first.
pub fn of(scenario: &Scenario) -> Vec<String> {
    let Some(point) = scenario.points.last() else { return Vec::new() };
    let figure = Figure::that_decides(scenario).unwrap_or(RATE);
    let ranked = ranked(figure, point);
    let Some((_, best)) = ranked.first() else { return Vec::new() };
    // A server that the generator held back may be as good as the best one.
    let held_back = |measure: &Measure| figure.more_is_better && measure.generator_bound;
    let ties = ranked.iter().filter(|(measure, spread)| held_back(measure) || !differ(best, spread));
    ties.map(|(measure, _)| measure.subject.clone()).collect()
}

/// The servers without too many errors, best first.
pub(crate) fn ranked(figure: Figure, point: &Point) -> Vec<(&Measure, Spread)> {
    let of = |measure| figure.of(measure).map(|spread| (measure, spread));
    let mut ranked: Vec<_> =
        point.measures.iter().filter(|measure| answers(measure)).filter_map(of).collect();
    ranked.sort_by(|a, b| a.1.median.total_cmp(&b.1.median));
    if figure.more_is_better {
        ranked.reverse();
    }
    ranked
}

/// Whether two figures differ: the ranges of their rounds are disjoint and the medians differ by more than a
/// negligible share.
pub fn differ(a: &Spread, b: &Spread) -> bool {
    let apart = a.max < b.min || b.max < a.min;
    let larger = a.median.abs().max(b.median.abs());
    apart && (a.median - b.median).abs() > larger * NEGLIGIBLE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(subject: &str, rates: &[f64], errors: u64) -> Measure {
        Measure { subject: subject.into(), rate: Spread::of(rates.to_vec()), errors, ..Measure::default() }
    }

    fn winners(decides: &str, measures: Vec<Measure>) -> Vec<String> {
        let points = vec![Point::default(), Point { measures, ..Point::default() }];
        of(&Scenario { decides: decides.into(), points, ..Scenario::default() })
    }

    #[test]
    fn servers_that_do_not_differ_from_the_best_win_too() {
        let measures = vec![
            measure("slow", &[50.0, 51.0, 52.0], 0),
            measure("near", &[90.0, 96.0, 99.0], 0),
            measure("best", &[98.0, 100.0, 102.0], 0),
            measure("slightly", &[97.5, 97.5, 97.9], 0),
        ];
        assert_eq!(winners("rate", measures), ["best", "slightly", "near"]);
    }

    #[test]
    fn fewer_bytes_win_and_skipped_servers_do_not() {
        let bytes = |subject: &str, bytes: f64| Measure {
            idle_bytes: Some(Spread::of(vec![bytes])),
            ..measure(subject, &[], 0)
        };
        let skipped = Measure { skipped: Some("no".into()), ..bytes("skipped", 1.0) };
        assert_eq!(winners("idle_bytes", vec![bytes("a", 900.0), bytes("b", 500.0), skipped]), ["b"]);
    }

    #[test]
    fn servers_with_errors_do_not_win() {
        let measures = vec![measure("wrong", &[100.0], 50), measure("right", &[10.0], 0)];
        assert_eq!(winners("rate", measures), ["right"]);
    }

    #[test]
    fn a_server_held_back_by_the_generator_wins_too() {
        let bound = Measure { generator_bound: true, ..measure("bound", &[50.0], 0) };
        assert_eq!(winners("rate", vec![measure("best", &[100.0], 0), bound]), ["best", "bound"]);
    }

    #[test]
    fn without_points_there_is_no_winner() {
        assert!(of(&Scenario::default()).is_empty());
    }
}
