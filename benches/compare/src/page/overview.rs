//! The overview, which is also the table of contents: the best servers of each scenario, and how many times worse the
//! others are.

use maud::{Markup, html};

use crate::baseline;
use crate::results::{Results, Scenario};

use super::charts::find;
use super::legend::Legend;
use crate::figure::{Figure, answers, shown};
use crate::format::{MISSING, ratio};

/// A cell has a stronger tint from each of these ratios on.
const TINTS: [f64; 4] = [1.1, 1.5, 3.0, 10.0];

/// The id of a scenario's heading, counted from 0.
pub(super) fn anchor(scenario: usize) -> String {
    format!("scenario-{}", scenario + 1)
}

pub(super) fn overview(results: &Results, legend: &Legend<'_>) -> Markup {
    html! {
        nav aria-labelledby="overview" {
            h2 id="overview" { "Overview" }
            @if results.scenarios.is_empty() {
                p class="note" { "No scenario was run." }
            } @else {
                p {
                    "The best servers of each scenario, by the figure that decides it, and how many times worse the "
                    "others are at the last load. ×1 is the best; bold means best within the noise."
                }
                (table(results, legend))
            }
            @if !results.changes.is_empty() {
                p { a href="#changes" { "Since the baseline" } ": " (baseline::summary(&results.changes)) "." }
            }
            @if !results.claims.is_empty() {
                @let held = results.claims.iter().filter(|claim| claim.holds).count();
                p { a href="#claims" { "Claims" } ": " (held) " of " (results.claims.len()) " hold." }
            }
            p { a href="#method" { "How it was measured" } "." }
        }
    }
}

fn table(results: &Results, legend: &Legend<'_>) -> Markup {
    let names: Vec<&str> = legend.names().collect();
    html! {
        div class="wide" tabindex="0" role="region" aria-labelledby="overview" {
            table class="overview" {
                thead { tr {
                    th scope="col" { "Scenario" }
                    th scope="col" { "Best" }
                    @for name in &names { th scope="col" { (legend.badge(name)) } }
                } }
                tbody {
                    @for (number, scenario) in results.scenarios.iter().enumerate() {
                        tr {
                            th scope="row" {
                                a href={ "#" (anchor(number)) } { (scenario.title) }
                                small { (decided_by(scenario)) }
                            }
                            td class="winners" { (winners(scenario, legend)) }
                            @for name in &names { (cell(scenario, name)) }
                        }
                    }
                }
            }
        }
    }
}

/// The names of the best servers.
pub(super) fn winners(scenario: &Scenario, legend: &Legend<'_>) -> Markup {
    html! {
        @if scenario.winners.is_empty() {
            span class="note" { "none" }
        } @else {
            (legend.badges(scenario.winners.iter().map(String::as_str)))
        }
    }
}

/// The deciding figure and the load at which it is compared.
fn decided_by(scenario: &Scenario) -> String {
    let figure = Figure::that_decides(scenario).map_or(scenario.decides.as_str(), |figure| figure.long);
    match shown(scenario) {
        Some(point) => format!("{figure}, {}", point.label),
        None => figure.into(),
    }
}

fn cell(scenario: &Scenario, name: &str) -> Markup {
    let times = || {
        let (figure, point) = (Figure::that_decides(scenario)?, shown(scenario)?);
        figure.times_worse(figure.of(find(point, name)?)?.median, figure.best(point)?)
    };
    let refuses =
        shown(scenario).and_then(|point| find(point, name)).is_some_and(|measure| !answers(measure));
    match times() {
        _ if refuses => html! { td class="times errors" { "errors" } },
        Some(times) => {
            let best = scenario.winners.iter().any(|winner| winner == name);
            // A server that does not differ from the best gets no tint.
            let tint = TINTS.iter().filter(|from| !best && times >= **from).count();
            html! { td class={ "times t" (tint) @if best { " best" } } { (ratio(times)) } }
        }
        None => html! { td class="times none" { (MISSING) } },
    }
}
