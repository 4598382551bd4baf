//! The table of contents, which is the result at a glance: each scenario, who is best at it, and how far behind the others
//! are.

use maud::{Markup, html};

use crate::baseline;
use crate::results::{Results, Scenario};

use super::charts::find;
use super::roster::Roster;
use crate::figure::{Figure, answers, shown};
use crate::format::{NOTHING, ratio};

/// From these many times worse on, a cell has the next stronger tint.
const TINTS: [f64; 4] = [1.1, 1.5, 3.0, 10.0];

/// Where on the page a scenario is, from 0.
pub(super) fn anchor(scenario: usize) -> String {
    format!("scenario-{}", scenario + 1)
}

pub(super) fn glance(results: &Results, roster: &Roster<'_>) -> Markup {
    html! {
        nav aria-labelledby="glance" {
            h2 id="glance" { "At a glance" }
            @if results.scenarios.is_empty() {
                p class="note" { "No scenario was run." }
            } @else {
                p {
                    "Who is best at which work, by the figure that decides it, and how many times worse the others are "
                    "at the last load: ×1 is the best there, bold is best within what the rounds can tell."
                }
                (table(results, roster))
            }
            @if !results.changes.is_empty() {
                p { a href="#changes" { "Since the baseline" } ": " (baseline::summary(&results.changes)) "." }
            }
            @if !results.claims.is_empty() {
                @let held = results.claims.iter().filter(|claim| claim.holds).count();
                p { a href="#claims" { "Claims" } ": " (held) " of " (results.claims.len()) " hold." }
            }
            p { a href="#method" { "How it was measured" } ", and how to measure it again." }
        }
    }
}

fn table(results: &Results, roster: &Roster<'_>) -> Markup {
    let names: Vec<&str> = roster.names().collect();
    html! {
        div class="wide" tabindex="0" role="region" aria-labelledby="glance" {
            table class="glance" {
                thead { tr {
                    th scope="col" { "Work" }
                    th scope="col" { "Best" }
                    @for name in &names { th scope="col" { (roster.badge(name)) } }
                } }
                tbody {
                    @for (number, scenario) in results.scenarios.iter().enumerate() {
                        tr {
                            th scope="row" {
                                a href={ "#" (anchor(number)) } { (scenario.title) }
                                small { (decided_by(scenario)) }
                            }
                            td class="winners" { (winners(scenario, roster)) }
                            @for name in &names { (cell(scenario, name)) }
                        }
                    }
                }
            }
        }
    }
}

/// The names, or that there is none.
pub(super) fn winners(scenario: &Scenario, roster: &Roster<'_>) -> Markup {
    html! {
        @if scenario.winners.is_empty() {
            span class="note" { "none" }
        } @else {
            (roster.badges(scenario.winners.iter().map(String::as_str)))
        }
    }
}

/// The figure that decides, in words, and the load at which it is compared.
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
            // What the rounds cannot tell from the best is not painted as worse.
            let tint = TINTS.iter().filter(|from| !best && times >= **from).count();
            html! { td class={ "times t" (tint) @if best { " best" } } { (ratio(times)) } }
        }
        None => html! { td class="times none" { (NOTHING) } },
    }
}
