//! The figures of a scenario as tables, one for each load, and what has to be known to read them.

use maud::{Markup, html};

use crate::results::{Measure, Point, Scenario, Spread, left_out};

use super::roster::Roster;
use crate::figure::{ALL, Figure, IDLE, RATE, shown};
use crate::format::{NOTHING, Unit, count, several};

/// The load that is shown, then the others behind a fold.
pub(super) fn tables(scenario: &Scenario, rounds: usize, roster: &Roster<'_>) -> Markup {
    let Some(shown) = shown(scenario) else { return html! {} };
    let figures: Vec<Figure> =
        ALL.into_iter().chain([IDLE]).filter(|figure| figure.is_in(&scenario.points)).collect();
    let others: Vec<&Point> = scenario.points.iter().filter(|point| !std::ptr::eq(*point, shown)).collect();
    html! {
        (table(shown, &figures, roster))
        @if !others.is_empty() {
            details {
                summary { "Figures of the other loads" }
                @for point in others { (table(point, &figures, roster)) }
            }
        }
        (notes(scenario, rounds, roster))
    }
}

fn table(point: &Point, figures: &[Figure], roster: &Roster<'_>) -> Markup {
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
                    @for measure in &point.measures { (row(measure, &best, figures, roster)) }
                }
            }
        }
    }
}

/// How the best of a column reads, if not all read the same.
fn best(figure: &Figure, point: &Point) -> Option<String> {
    let best = figure.unit.write(figure.best(point)?);
    let others = point.measures.iter().filter_map(|measure| figure.of(measure));
    others.map(|spread| figure.unit.write(spread.median)).any(|other| other != best).then_some(best)
}

/// How a load was put on a server.
fn load(point: &Point) -> Markup {
    let connections = several(point.connections, "connection");
    html! {
        b { (point.label) }
        @if !point.path.is_empty() { " · " code { (point.path) } }
        @if point.label.replace(',', "") != connections.replace(',', "") { " · " (connections) }
        @match point.offered {
            Some(rate) => { ", " (Unit::Rate.write(rate)) " offered, whatever became of those before" }
            None => @if RATE.is_in([point]) { ", each waits for its response" },
        }
    }
}

fn row(measure: &Measure, best: &[Option<String>], figures: &[Figure], roster: &Roster<'_>) -> Markup {
    html! {
        tr {
            th scope="row" { (roster.badge(&measure.subject)) }
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
    let Some(spread) = spread else { return html! { td class="none" { (NOTHING) } } };
    let text = figure.unit.write(spread.median);
    let range = figure.unit.range(spread.min, spread.max);
    // Two that read the same are not told apart.
    let is_best = best == Some(&text);
    html! {
        td class=[is_best.then_some("best")] {
            @if at_least { abbr title="at least" { "≥" } " " }
            (text)
            @if range != text { small { (range) } }
        }
    }
}

/// What went wrong or is less than the truth, load by load.
fn notes(scenario: &Scenario, rounds: usize, roster: &Roster<'_>) -> Markup {
    let notes: Vec<Markup> = scenario.points.iter().flat_map(|point| of_point(point, roster)).collect();
    let yardstick = scenario.points.last().map(|point| &point.yardstick);
    html! {
        @if let Some(yardstick) = yardstick.filter(|spread| spread.median > 0.0) {
            p class="note yardstick" {
                "A server that never changes took " (Unit::Time.write(yardstick.median))
                " of CPU time a request in the same rounds (" (Unit::Time.range(yardstick.min, yardstick.max))
                "): what this machine took for it at that hour."
            }
        }
        @if let Some(said) = left_out(scenario.left_out, rounds) { p class="note" { (said) } }
        @if !notes.is_empty() {
            ul class="notes" { @for note in notes { li { (note) } } }
        }
    }
}

fn of_point(point: &Point, roster: &Roster<'_>) -> Vec<Markup> {
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
            html! { b { (point.label) ":" } " not measured, as " (reason) ": " (roster.badges(skipped)) },
        );
    }
    let bound = names(&|measure| measure.skipped.is_none() && measure.generator_bound);
    if !bound.is_empty() {
        notes.push(html! {
            b { (point.label) ":" } " the generator was the bottleneck, so that the rate is the least that these can do: "
            (roster.badges(bound))
        });
    }
    let each = |said: &str, of: &dyn Fn(&Measure) -> Option<String>| {
        let measured = point.measures.iter().filter(|measure| measure.skipped.is_none());
        let told: Vec<(&Measure, String)> =
            measured.filter_map(|measure| Some((measure, of(measure)?))).collect();
        (!told.is_empty()).then(|| {
            html! {
                b { (point.label) ":" } " " (said) ": "
                @for (nth, (measure, figure)) in told.into_iter().enumerate() {
                    @if nth > 0 { ", " }
                    (figure) " of " (roster.badge(&measure.subject))
                }
            }
        })
    };
    notes.extend(each("errors", &|measure| (measure.errors > 0).then(|| count(measure.errors))));
    let late = "no answer when the time was over, so that they count with what they had waited";
    notes.extend(each(late, &|measure| {
        let percent = Unit::Count.write(measure.unanswered * 100.0);
        (measure.unanswered > 0.0).then(|| format!("{percent}%"))
    }));
    notes
}
