//! What has become worse or better since a baseline. What has not is a number.

use maud::{Markup, html};

use crate::baseline::{SAME, WORSE, summary};
use crate::results::{Change, Results};

use super::roster::Roster;
use crate::format::{Unit, ratio};

/// The section, if there is a baseline.
pub(super) fn changes(results: &Results, roster: &Roster<'_>) -> Markup {
    if results.changes.is_empty() {
        return html! {};
    }
    let changed: Vec<&Change> = results.changes.iter().filter(|change| change.verdict != SAME).collect();
    html! {
        section {
            h2 id="changes" { "Since the baseline" }
            p {
                (summary(&results.changes)) ". A ratio above ×1 is worse; what the machine itself became slower by is taken "
                "out of it, and what is within the noise is left out here."
            }
            @if !changed.is_empty() {
                div class="wide" tabindex="0" role="region" aria-labelledby="changes" {
                    table class="changes" {
                        thead { tr {
                            @for name in ["Server", "Work", "Figure", "Before", "Now", "Ratio", "Noise", "Verdict"] {
                                th scope="col" { (name) }
                            }
                        } }
                        tbody { @for change in changed { (row(change, results, roster)) } }
                    }
                }
            }
        }
    }
}

fn row(change: &Change, results: &Results, roster: &Roster<'_>) -> Markup {
    let scenario = results.scenarios.iter().find(|scenario| scenario.id == change.scenario);
    let work = scenario.map_or(&change.scenario, |scenario| &scenario.title);
    let class = if change.verdict == WORSE { "verdict fails" } else { "verdict holds" };
    html! {
        tr {
            th scope="row" { (roster.badge(&change.subject)) }
            td { (work) small { (change.point) } }
            td { (change.figure) }
            td { (Unit::Count.write(change.before)) }
            td { (Unit::Count.write(change.after)) }
            td { (ratio(change.ratio)) }
            td { (ratio(change.threshold)) }
            td class=(class) { (change.verdict) }
        }
    }
}
