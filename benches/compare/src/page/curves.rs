//! How slow the slowest are: latency by percentile, along an axis on which 90, 99 and 99.9 are as far apart from each other,
//! so that the tail is as wide as the rest.

use maud::{Markup, html};

use crate::results::{Measure, Point};

use super::axis::Axis;
use super::chart::{Chart, Line, Spot};
use super::charts::{figure, find, summary, with_range};
use super::roster::Roster;
use crate::figure::P99;
use crate::format::Unit;

/// Percentiles that have a mark on a curve.
const MARKS: [(f64, &str); 4] = [(50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9")];

/// The curves of one load: how slow the slowest are.
pub(super) fn latencies(point: &Point, id: &str, roster: &Roster<'_>) -> Markup {
    let lines: Vec<Line<'_>> = roster.names().filter_map(|name| curve(find(point, name)?, name)).collect();
    if lines.is_empty() {
        return html! {};
    }
    let spots = lines.iter().flat_map(|line| &line.spots).flat_map(|spot| [spot.median, spot.min, spot.max]);
    let ways = lines.iter().flat_map(|line| &line.way).map(|(_, latency)| *latency);
    let figures: Vec<f64> = spots.chain(ways).collect();
    let far = lines.iter().flat_map(|line| &line.way).any(|(tail, _)| *tail > 3.9);
    let marks = MARKS.iter().chain(far.then_some(&(99.99, "99.99")));
    let tails = lines.iter().flat_map(|line| line.way.iter().map(|(tail, _)| *tail));
    let chart = Chart {
        id: id.into(),
        title: "Latency by percentile",
        description: summary(point, P99, roster),
        x: Axis::exactly(tails.chain(MARKS.map(|(percentile, _)| tail(percentile))).collect::<Vec<_>>()),
        x_ticks: marks.map(|(percentile, name)| (tail(*percentile), (*name).to_owned())).collect(),
        x_name: "percentile",
        y: Axis::log(figures.iter().copied()),
        unit: Unit::Time,
        lines,
    };
    figure("Latency by percentile", &point.label, &html! {}, false, &chart.draw(roster))
}

/// The curve of one measurement from the median on, with marks where all rounds are known.
fn curve<'a>(measure: &Measure, name: &'a str) -> Option<Line<'a>> {
    P99.of(measure)?;
    let latency = &measure.latency;
    let spreads = [&latency.p50, &latency.p90, &latency.p99, &latency.p999];
    let spots: Vec<Spot> = MARKS
        .iter()
        .zip(spreads)
        .filter(|(_, spread)| spread.median.is_finite() && spread.median > 0.0)
        .map(|((percentile, mark), spread)| Spot {
            x: tail(*percentile),
            median: spread.median,
            min: if spread.min > 0.0 { spread.min } else { spread.median },
            max: if spread.max.is_finite() { spread.max } else { spread.median },
            at_least: measure.unanswered > 1.0 - percentile / 100.0,
            words: format!(
                "{name}, p{mark}: {}",
                with_range(Unit::Time, spread.median, spread.min, spread.max)
            ),
        })
        .collect();
    let inside = |(percentile, latency): &&(f64, f64)| {
        (50.0..=99.99).contains(percentile) && latency.is_finite() && *latency > 0.0
    };
    let mut way: Vec<(f64, f64)> = latency
        .curve
        .iter()
        .filter(inside)
        .map(|(percentile, latency)| (tail(*percentile), *latency))
        .collect();
    way.sort_by(|a, b| a.0.total_cmp(&b.0));
    if way.len() < 2 {
        way = spots.iter().map(|spot| (spot.x, spot.median)).collect();
    }
    Some(Line { name, way, spots })
}

/// How far out a percentile lies: 1 for each tenth that the rest becomes less.
fn tail(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}
