//! The tables of a scenario: one for each load, and notes on the figures.

use maud::{Markup, html};

use crate::results::{Measure, Point, Scenario, Spread, left_out};

use super::legend::Legend;
use crate::figure::{ALL, Figure, IDLE, RATE, shown};
use crate::format::{MISSING, Unit, count, several};

/// The table of the load that represents the scenario, then the others in a fold.
pub(super) fn tables(scenario: &Scenario, rounds: usize, legend: &Legend<'_>) -> Markup {
    let Some(shown) = shown(scenario) else { return html! {} };
    let figures: Vec<Figure> =
        ALL.into_iter().chain([IDLE]).filter(|figure| figure.is_in(&scenario.points)).collect();
    let others: Vec<&Point> = scenario.points.iter().filter(|point| !std::ptr::eq(*point, shown)).collect();
    html! {
        (table(shown, &figures, legend))
        @if !others.is_empty() {
            details {
                summary { "Figures of the other loads" }
                @for point in others { (table(point, &figures, legend)) }
            }
        }
        (notes(scenario, rounds, legend))
    }
}

fn table(point: &Point, figures: &[Figure], legend: &Legend<'_>) -> Markup {
    let best: Vec<Option<String>> = figures.iter().map(|figure| best(figure, point)).collect();
    html! {
        div class="wide" tabindex="0" role="region" aria-label={ "Figures, " (point.label) } {
            table class="figures" {
                caption { div class="stay" { (load(point)) } }
                thead { tr {
                    th scope="col" { "Server" }
                    @for figure in figures { th scope="col" { (figure.name) } }
                    th scope="col" { "Errors" }
                } }
                tbody {
                    @for measure in &point.measures { (row(measure, &best, figures, legend)) }
                }
            }
        }
    }
}

/// The best figure of a column as text, unless all figures read the same.
fn best(figure: &Figure, point: &Point) -> Option<String> {
    let best = figure.unit.write(figure.best(point)?);
    let others = point.measures.iter().filter_map(|measure| figure.of(measure));
    others.map(|spread| figure.unit.write(spread.median)).any(|other| other != best).then_some(best)
}

/// A description of the load.
fn load(point: &Point) -> Markup {
    let connections = several(point.connections, "connection");
    html! {
        b { (point.label) }
        @if !point.path.is_empty() { " · " code { (point.path) } }
        @if point.label.replace(',', "") != connections.replace(',', "") { " · " (connections) }
        @match point.offered {
            Some(rate) => { ", " (Unit::Rate.write(rate)) " at a fixed rate" }
            None => @if RATE.is_in([point]) { ", closed loop" },
        }
    }
}

fn row(measure: &Measure, best: &[Option<String>], figures: &[Figure], legend: &Legend<'_>) -> Markup {
    html! {
        tr {
            th scope="row" { (legend.badge(&measure.subject)) }
            @if let Some(reason) = &measure.skipped {
                td class="skipped" colspan=(figures.len() + 1) { "not measured: " (reason) }
            } @else {
                @for (figure, best) in figures.iter().zip(best) {
                    @let at_least = figure.is_at_least(measure);
                    (cell(figure, figure.of(measure), best.as_ref(), at_least))
                }
                td class=(if measure.errors > 0 { "errors" } else { "none" }) { (count(measure.errors)) }
            }
        }
    }
}

fn cell(figure: &Figure, spread: Option<Spread>, best: Option<&String>, at_least: bool) -> Markup {
    let Some(spread) = spread else { return html! { td class="none" { (MISSING) } } };
    let text = figure.unit.write(spread.median);
    let range = figure.unit.range(spread.min, spread.max);
    // Figures that read the same are marked alike.
    let is_best = best == Some(&text);
    html! {
        td class=[is_best.then_some("best")] {
            @if at_least { abbr title="at least" { "≥" } " " }
            (text)
            @if range != text { small { (range) } }
        }
    }
}

/// Notes on limits of the figures, load by load.
fn notes(scenario: &Scenario, rounds: usize, legend: &Legend<'_>) -> Markup {
    let notes: Vec<Markup> = scenario.points.iter().flat_map(|point| of_point(point, legend)).collect();
    let yardstick = scenario.points.last().map(|point| &point.yardstick);
    html! {
        @if let Some(yardstick) = yardstick.filter(|spread| spread.median > 0.0) {
            p class="note yardstick" {
                "The reference server took " (Unit::Time.write(yardstick.median))
                " of CPU time per request in the same rounds (" (Unit::Time.range(yardstick.min, yardstick.max))
                "): the speed of this machine at that time."
            }
        }
        @if let Some(note) = left_out(scenario.left_out, rounds) { p class="note" { (note) "." } }
        @if !notes.is_empty() {
            ul class="notes" { @for note in notes { li { (note) } } }
        }
    }
}

fn of_point(point: &Point, legend: &Legend<'_>) -> Vec<Markup> {
    let mut notes = Vec::new();
    let names = |which: &dyn Fn(&Measure) -> bool| -> Vec<&str> {
        point
            .measures
            .iter()
            .filter(|measure| which(measure))
            .map(|measure| measure.subject.as_str())
            .collect()
    };
    let mut reasons: Vec<&str> =
        point.measures.iter().filter_map(|measure| measure.skipped.as_deref()).collect();
    reasons.dedup();
    for reason in reasons {
        let skipped = names(&|measure| measure.skipped.as_deref() == Some(reason));
        notes.push(
            html! { b { (point.label) ":" } " not measured (" (reason) "): " (legend.badges(skipped)) },
        );
    }
    let bound = names(&|measure| measure.skipped.is_none() && measure.generator_bound);
    if !bound.is_empty() {
        notes.push(html! {
            b { (point.label) ":" } " the generator was the bottleneck, so the rate is a lower bound for: "
            (legend.badges(bound))
        });
    }
    let each = |note: &str, of: &dyn Fn(&Measure) -> Option<String>| {
        let measured = point.measures.iter().filter(|measure| measure.skipped.is_none());
        let told: Vec<(&Measure, String)> =
            measured.filter_map(|measure| Some((measure, of(measure)?))).collect();
        (!told.is_empty()).then(|| {
            html! {
                b { (point.label) ":" } " " (note) ": "
                @for (nth, (measure, figure)) in told.into_iter().enumerate() {
                    @if nth > 0 { ", " }
                    (figure) " of " (legend.badge(&measure.subject))
                }
            }
        })
    };
    notes.extend(each("errors", &|measure| (measure.errors > 0).then(|| count(measure.errors))));
    let late = "no response at the end, counted in the latencies with the time waited so far";
    notes.extend(each(late, &|measure| {
        let percent = Unit::Count.write(measure.unanswered * 100.0);
        (measure.unanswered > 0.0).then(|| format!("{percent}%"))
    }));
    notes
}
