//! The page that a comparison is read on: one file that needs nothing else, no script, no font and no network, so that it
//! can be sent, kept and printed. Every text in it is escaped by the template language, as names come from a command
//! line.
//!
//! Drawings are markup like the rest: they take their colours from the page, light or dark, and are a few kilobytes each.

mod axis;
mod bars;
mod changes;
mod chart;
mod charts;
mod claims;
mod curves;
mod glance;
mod method;
mod roster;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::results::{Results, Scenario};

use self::roster::Roster;
use crate::figure::Figure;
use crate::format::{date, duration, several};

const STYLE: &str = include_str!("page/style.css");

/// Should escaping ever fail, a browser still runs and fetches nothing (CSP Level 3).
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The page, whole.
pub fn render(results: &Results) -> String {
    let roster = Roster::of(results);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Which backend suits which work" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { (head(results)) }
                main {
                    (glance::glance(results, &roster))
                    @for (number, scenario) in results.scenarios.iter().enumerate() {
                        (section(scenario, number, results.rounds, &roster))
                    }
                    (changes::changes(results, &roster))
                    (claims::claims(&results.claims, results.rounds, &roster))
                    (method::method(results, &roster))
                }
            }
        }
    };
    page.into_string()
}

/// The page of a comparison that was kept as `results.json`.
///
/// # Errors
///
/// If it is not one.
pub fn from_json(results: &str) -> serde_json::Result<String> {
    serde_json::from_str(results).map(|results| render(&results))
}

fn head(results: &Results) -> Markup {
    html! {
        p class="eyebrow" { "Gearshift " (results.version) }
        h1 { "Which backend suits which work" }
        p class="meta" {
            time datetime=(results.began) { (date(&results.began)) }
            " · " (results.machine.cpu)
            " · " (several(results.subjects.len(), "server")) ", " (several(results.scenarios.len(), "scenario"))
            " · took " (duration(results.seconds))
        }
    }
}

fn section(scenario: &Scenario, number: usize, rounds: usize, roster: &Roster<'_>) -> Markup {
    let id = glance::anchor(number);
    html! {
        section {
            h2 id=(id) { span class="number" { (number + 1) } " " (scenario.title) }
            p class="question" { (scenario.question) }
            div class="verdict-box" {
                p {
                    b { "Best" }
                    @if let Some(figure) = Figure::that_decides(scenario) { " by " (figure.long) }
                    ": " (glance::winners(scenario, roster))
                }
                @if !scenario.reading.is_empty() { p { (scenario.reading) } }
            }
            (charts::charts(scenario, &id, roster))
            (tables::tables(scenario, rounds, roster))
            p class="back" { a href="#glance" { "Back to the overview" } }
        }
    }
}
