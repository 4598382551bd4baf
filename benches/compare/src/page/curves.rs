//! The chart of latency by percentile. The x axis is logarithmic towards 100%, so that 90, 99 and 99.9 are equally far
//! apart and the tail is legible.

use maud::{Markup, html};

use crate::results::{Measure, Point};

use super::axis::Axis;
use super::chart::{Chart, Line, Mark};
use super::charts::{figure, find, summary, with_range};
use super::legend::Legend;
use crate::figure::P99;
use crate::format::Unit;

/// The percentiles with a mark on a curve, and their labels.
const MARKS: [(f64, &str); 4] = [(50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9")];

/// The chart of one load.
pub(super) fn latencies(point: &Point, id: &str, legend: &Legend<'_>) -> Markup {
    let lines: Vec<Line<'_>> = legend.names().filter_map(|name| curve(find(point, name)?, name)).collect();
    if lines.is_empty() {
        return html! {};
    }
    let marks = lines.iter().flat_map(|line| &line.marks).flat_map(|mark| [mark.median, mark.min, mark.max]);
    let latencies = lines.iter().flat_map(|line| &line.points).map(|(_, latency)| *latency);
    let figures: Vec<f64> = marks.chain(latencies).collect();
    let far = lines.iter().flat_map(|line| &line.points).any(|(tail, _)| *tail > 3.9);
    let marks = MARKS.iter().chain(far.then_some(&(99.99, "99.99")));
    let tails = lines.iter().flat_map(|line| line.points.iter().map(|(tail, _)| *tail));
    let chart = Chart {
        id: id.into(),
        title: "Latency by percentile",
        description: summary(point, P99, legend),
        x: Axis::exactly(tails.chain(MARKS.map(|(percentile, _)| tail(percentile))).collect::<Vec<_>>()),
        x_ticks: marks.map(|(percentile, name)| (tail(*percentile), (*name).to_owned())).collect(),
        x_name: "percentile",
        y: Axis::log(figures.iter().copied()),
        unit: Unit::Time,
        lines,
    };
    figure("Latency by percentile", &point.label, &html! {}, false, &chart.draw(legend))
}

/// The curve of one measurement from the median on, with marks at percentiles that all rounds have.
fn curve<'a>(measure: &Measure, name: &'a str) -> Option<Line<'a>> {
    P99.of(measure)?;
    let latency = &measure.latency;
    let spreads = [&latency.p50, &latency.p90, &latency.p99, &latency.p999];
    let marks: Vec<Mark> = MARKS
        .iter()
        .zip(spreads)
        .filter(|(_, spread)| spread.median.is_finite() && spread.median > 0.0)
        .map(|((percentile, mark), spread)| Mark {
            x: tail(*percentile),
            median: spread.median,
            min: if spread.min > 0.0 { spread.min } else { spread.median },
            max: if spread.max.is_finite() { spread.max } else { spread.median },
            at_least: measure.unanswered > 1.0 - percentile / 100.0,
            tooltip: format!(
                "{name}, p{mark}: {}",
                with_range(Unit::Time, spread.median, spread.min, spread.max)
            ),
        })
        .collect();
    let inside = |(percentile, latency): &&(f64, f64)| {
        (50.0..=99.99).contains(percentile) && latency.is_finite() && *latency > 0.0
    };
    let mut points: Vec<(f64, f64)> = latency
        .curve
        .iter()
        .filter(inside)
        .map(|(percentile, latency)| (tail(*percentile), *latency))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    if points.len() < 2 {
        points = marks.iter().map(|mark| (mark.x, mark.median)).collect();
    }
    Some(Line { name, points, marks })
}

/// The position of a percentile: 1 for 90%, 2 for 99%, and so on.
fn tail(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}
