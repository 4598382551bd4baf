//! Renders the results as `index.html`: one file without scripts, fonts or network requests, so that it can be sent,
//! kept and printed. The template language escapes all text, because names come from the command line.
//!
//! Charts are inline SVG. They follow the light or dark colours of the page and take a few kilobytes each.

mod axis;
mod bars;
mod changes;
mod chart;
mod charts;
mod claims;
mod curves;
mod legend;
mod method;
mod overview;
mod ratios;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::results::{Results, Scenario};

use self::legend::Legend;
use crate::figure::Figure;
use crate::format::{date, duration, several};

const STYLE: &str = include_str!("page/style.css");

/// If escaping ever fails, the browser still runs and fetches nothing (CSP Level 3).
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Renders the page.
pub fn render(results: &Results) -> String {
    let legend = Legend::of(results);
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
                    (overview::overview(results, &legend))
                    (ratios::ratios(&results.ratios))
                    @for (number, scenario) in results.scenarios.iter().enumerate() {
                        (section(scenario, number, results.rounds, &legend))
                    }
                    (changes::changes(results, &legend))
                    (claims::claims(&results.claims, results.rounds, &legend))
                    (method::method(results, &legend))
                }
            }
        }
    };
    page.into_string()
}

/// Renders the page from the content of a `results.json`.
///
/// # Errors
///
/// If the content does not match the schema.
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

fn section(scenario: &Scenario, number: usize, rounds: usize, legend: &Legend<'_>) -> Markup {
    let id = overview::anchor(number);
    html! {
        section {
            h2 id=(id) { span class="number" { (number + 1) } " " (scenario.title) }
            p class="question" { (scenario.question) }
            div class="verdict-box" {
                p {
                    b { "Best" }
                    @if let Some(figure) = Figure::that_decides(scenario) { " by " (figure.long) }
                    ": " (overview::winners(scenario, legend))
                }
                @if !scenario.reading.is_empty() { p { (scenario.reading) } }
            }
            (charts::charts(scenario, &id, legend))
            (tables::tables(scenario, rounds, legend))
            p class="back" { a href="#overview" { "Back to the overview" } }
        }
    }
}
