//! Who is best, as far as the figures tell them apart.

use crate::figure::{Figure, RATE, answers};
use crate::results::{Measure, Point, Scenario, Spread};

/// A difference that nobody need care about, as a part.
const SLIGHT: f64 = 0.03;

/// The subjects that are best at the last point, the best first.
pub fn of(scenario: &Scenario) -> Vec<String> {
    let Some(point) = scenario.points.last() else { return Vec::new() };
    let figure = Figure::that_decides(scenario).unwrap_or(RATE);
    let ranked = ranked(figure, point);
    let Some((_, best)) = ranked.first() else { return Vec::new() };
    // Who could have done more, had more been asked, is not behind.
    let held_back = |measure: &Measure| figure.more_is_better && measure.generator_bound;
    let ties = ranked.iter().filter(|(measure, spread)| held_back(measure) || !differ(best, spread));
    ties.map(|(measure, _)| measure.subject.clone()).collect()
}

/// Those that do what they are asked, the best first.
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

/// Says whether two figures are apart: no round of one is within the rounds of the other, and by more than is slight.
pub fn differ(a: &Spread, b: &Spread) -> bool {
    let apart = a.max < b.min || b.max < a.min;
    let larger = a.median.abs().max(b.median.abs());
    apart && (a.median - b.median).abs() > larger * SLIGHT
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
    fn the_best_and_who_is_not_apart_from_it() {
        let measures = vec![
            measure("slow", &[50.0, 51.0, 52.0], 0),
            measure("near", &[90.0, 96.0, 99.0], 0),
            measure("best", &[98.0, 100.0, 102.0], 0),
            measure("slightly", &[97.5, 97.5, 97.9], 0),
        ];
        assert_eq!(winners("rate", measures), ["best", "slightly", "near"]);
    }

    #[test]
    fn fewer_bytes_win_and_who_was_skipped_does_not() {
        let bytes = |subject: &str, bytes: f64| Measure {
            idle_bytes: Some(Spread::of(vec![bytes])),
            ..measure(subject, &[], 0)
        };
        let skipped = Measure { skipped: Some("no".into()), ..bytes("skipped", 1.0) };
        assert_eq!(winners("idle_bytes", vec![bytes("a", 900.0), bytes("b", 500.0), skipped]), ["b"]);
    }

    #[test]
    fn who_answers_with_errors_does_not_win() {
        let measures = vec![measure("wrong", &[100.0], 50), measure("right", &[10.0], 0)];
        assert_eq!(winners("rate", measures), ["right"]);
    }

    #[test]
    fn who_was_held_back_by_the_generator_is_not_behind() {
        let bound = Measure { generator_bound: true, ..measure("bound", &[50.0], 0) };
        assert_eq!(winners("rate", vec![measure("best", &[100.0], 0), bound]), ["best", "bound"]);
    }

    #[test]
    fn nobody_wins_nothing() {
        assert!(of(&Scenario::default()).is_empty());
    }
}
