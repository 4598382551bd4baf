//! Selects the charts of a scenario: line charts for growing loads, bar charts for loads of different kinds.

use maud::{Markup, html};

use crate::results::{Measure, Point, Scenario};

use super::axis::{Axis, apart};
use super::bars::{Bar, Bars, Group, Row};
use super::chart::{Chart, Line, Mark};
use super::curves::latencies;
use super::legend::Legend;
use crate::figure::{CPU, Figure, IDLE, MEMORY, P99, RATE, shown};
use crate::format::{MISSING, Unit, count};

/// If the maximum is more than this many times the minimum, the y axis is logarithmic.
const WIDE: f64 = 30.0;

/// A chart with more bars than this is as high as several others.
const TALL: usize = 16;

/// All charts of a scenario.
pub(super) fn charts(scenario: &Scenario, id: &str, legend: &Legend<'_>) -> Markup {
    let Some(shown) = shown(scenario) else {
        return html! { p class="note" { "Nothing was measured." } };
    };
    let grows = grows(&scenario.points);
    let others = scenario.points.iter().filter(|point| !std::ptr::eq(*point, shown));
    let only = std::slice::from_ref(shown);
    html! {
        div class="charts" {
            @for figure in [RATE, P99] {
                @if grows { (line_chart(scenario, figure, id, legend)) } @else { (bar_chart(&scenario.points, figure, id, legend)) }
            }
            (latencies(shown, &format!("{id}-curve"), legend))
            @for figure in [CPU, MEMORY, IDLE] { (bar_chart(only, figure, id, legend)) }
        }
        @if others.clone().any(|point| P99.is_in([point])) {
            details {
                summary { "Latencies at the other loads" }
                div class="charts" {
                    @for (number, point) in others.enumerate() { (latencies(point, &format!("{id}-curve-{number}"), legend)) }
                }
            }
        }
    }
}

/// A chart with its title and a note on its load or axis. A tall chart stands beside several others.
pub(super) fn figure(title: &str, at: &str, key: &Markup, tall: bool, chart: &Markup) -> Markup {
    html! {
        figure class=[tall.then_some("tall")] {
            figcaption { b { (title) } " " span { (at) } (key) }
            (chart)
        }
    }
}

/// A line chart of a figure over growing loads.
fn line_chart(scenario: &Scenario, which: Figure, id: &str, legend: &Legend<'_>) -> Markup {
    if !which.is_in(&scenario.points) {
        return html! {};
    }
    let lines: Vec<Line<'_>> = legend
        .names()
        .filter_map(|name| {
            let marks: Vec<Mark> = scenario
                .points
                .iter()
                .filter_map(|point| {
                    let measure = find(point, name)?;
                    let spread = which.of(measure)?;
                    let at_least = which.is_at_least(measure);
                    let tooltip = tooltip(name, &point.label, which, measure);
                    Some(Mark {
                        x: point.x,
                        median: spread.median,
                        min: spread.min,
                        max: spread.max,
                        at_least,
                        tooltip,
                    })
                })
                .collect();
            let points = marks.iter().map(|mark| (mark.x, mark.median)).collect();
            (!marks.is_empty()).then_some(Line { name, points, marks })
        })
        .collect();
    let figures: Vec<f64> = lines
        .iter()
        .flat_map(|line| &line.marks)
        .flat_map(|mark| [mark.median, mark.min, mark.max])
        .collect();
    let (least, most) = positive_ends(&figures);
    let y = if which.unit == Unit::Time || most / least > WIDE {
        Axis::log(figures.iter().copied())
    } else {
        Axis::from_zero(figures.iter().copied())
    };
    let loads: Vec<f64> = scenario.points.iter().map(|point| point.x).collect();
    let (first, last) = (loads[0], loads[loads.len() - 1]);
    let x = if first > 0.0 && last / first >= 8.0 {
        Axis::log_exactly(loads.iter().copied())
    } else {
        Axis::exactly(loads.iter().copied())
    };
    let labelled = apart(&x.clone().between(0.0, 190.0), &loads, 38.0);
    let ticks = scenario.points.iter().filter(|point| labelled.contains(&point.x));
    let title = sentence(which.long);
    let at = format!("by {}", scenario.axis);
    let chart = Chart {
        id: format!("{id}-{}", which.id),
        title: &title,
        description: shown(scenario).map(|point| summary(point, which, legend)).unwrap_or_default(),
        x,
        x_ticks: ticks.map(|point| (point.x, load_tick(point))).collect(),
        x_name: &scenario.axis,
        y,
        unit: which.unit,
        lines,
    };
    figure(&title, &at, &html! {}, false, &chart.draw(legend))
}

/// A bar chart of a figure, with a group per load.
fn bar_chart(points: &[Point], which: Figure, id: &str, legend: &Legend<'_>) -> Markup {
    if !which.is_in(points) {
        return html! {};
    }
    let group = |point| {
        let row = |name| {
            let measure = find(point, name)?;
            let bar = which.of(measure).map(|spread| Bar {
                solid: if which.id == CPU.id { measure.user_share() } else { Some(1.0) },
                median: spread.median,
                min: spread.min,
                max: spread.max,
                tooltip: tooltip(name, &point.label, which, measure),
            });
            Some(Row { name, bar })
        };
        let label = if points.len() > 1 { point.label.as_str() } else { "" };
        Group { label, rows: legend.names().filter_map(row).collect() }
    };
    let groups: Vec<Group<'_>> = points.iter().map(group).collect();
    let title = sentence(which.long);
    let rows = groups.iter().map(|group| group.rows.len()).sum::<usize>();
    let figures: Vec<f64> = groups
        .iter()
        .flat_map(|group| &group.rows)
        .filter_map(|row| row.bar.as_ref())
        .flat_map(|bar| [bar.median, bar.min, bar.max])
        .collect();
    let key = html! {
        @if which.id == CPU.id {
            @let bars = || groups.iter().flat_map(|group| &group.rows).filter_map(|row| row.bar.as_ref());
            span class="key" {
                @if bars().any(|bar| bar.solid.is_some()) {
                    i class="solid" {} " user " i class="pale" {} " kernel "
                }
                @if bars().any(|bar| bar.solid.is_none()) { i class="unknown" {} " unknown: too few clock ticks" }
            }
        }
    };
    let latency = which.id == P99.id;
    let chart = Bars {
        id: format!("{id}-{}", which.id),
        title: &title,
        description: points.iter().map(|point| summary(point, which, legend)).collect::<Vec<_>>().join(" "),
        unit: which.unit,
        dots: latency.then(|| Axis::log(figures)),
        groups,
    };
    let at = if let [only] = points { &only.label } else { "at each load" };
    figure(&title, at, &key, rows > TALL, &chart.draw(legend))
}

/// The measure of a server at a load.
pub(super) fn find<'p>(point: &'p Point, name: &str) -> Option<&'p Measure> {
    point.measures.iter().find(|measure| measure.subject == name)
}

fn tooltip(name: &str, label: &str, which: Figure, measure: &Measure) -> String {
    let figure = which.of(measure).map_or_else(
        || MISSING.into(),
        |spread| with_range(which.unit, spread.median, spread.min, spread.max),
    );
    format!("{name}, {label}: {figure}")
}

pub(super) fn with_range(unit: Unit, median: f64, min: f64, max: f64) -> String {
    if min < max { format!("{} ({})", unit.write(median), unit.range(min, max)) } else { unit.write(median) }
}

/// The figures of all servers at a load, in tooltip.
pub(super) fn summary(point: &Point, which: Figure, legend: &Legend<'_>) -> String {
    let told: Vec<String> = legend
        .names()
        .filter_map(|name| Some(format!("{name} {}", which.unit.write(which.of(find(point, name)?)?.median))))
        .collect();
    format!("{}, {}: {}.", sentence(which.long), point.label, told.join(", "))
}

/// Whether the points are growing loads of one kind. The labels of such points start with their position on the axis,
/// as in "64 connections" and "25% of capacity".
fn grows(points: &[Point]) -> bool {
    let says_so = |point: &Point| {
        let (number, percent) = match amount(&point.label) {
            amount if amount.ends_with('%') => (amount.trim_end_matches('%'), 100.0),
            amount => (amount, 1.0),
        };
        let number = number.replace(',', "").parse::<f64>().unwrap_or(f64::NAN);
        (number / percent - point.x).abs() <= point.x.abs() * 1e-6
    };
    points.len() > 1 && points.windows(2).all(|pair| pair[0].x < pair[1].x) && points.iter().all(says_so)
}

/// The label of a load on the axis.
fn load_tick(point: &Point) -> String {
    let amount = amount(&point.label);
    if amount.ends_with('%') {
        amount.into()
    } else if point.x.fract() == 0.0 && (0.0..1e4).contains(&point.x) {
        count(point.x as u64)
    } else {
        Unit::Count.tick(point.x)
    }
}

/// The number at the start of a label.
fn amount(label: &str) -> &str {
    let end = label.find(|c: char| !c.is_ascii_digit() && !",.%".contains(c)).unwrap_or(label.len());
    &label[..end]
}

fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn positive_ends(figures: &[f64]) -> (f64, f64) {
    let positive = || figures.iter().copied().filter(|figure| *figure > 0.0);
    (positive().fold(f64::MAX, f64::min), positive().fold(f64::MIN_POSITIVE, f64::max))
}
