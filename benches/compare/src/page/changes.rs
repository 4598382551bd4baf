//! The changes since a baseline. Unchanged figures are only counted.

use maud::{Markup, html};

use crate::baseline::{SAME, WORSE, summary};
use crate::results::{Change, Results};

use super::legend::Legend;
use crate::format::{Unit, ratio};

/// The section; empty without a baseline.
pub(super) fn changes(results: &Results, legend: &Legend<'_>) -> Markup {
    if results.changes.is_empty() {
        return html! {};
    }
    let changed: Vec<&Change> = results.changes.iter().filter(|change| change.verdict != SAME).collect();
    html! {
        section {
            h2 id="changes" { "Since the baseline" }
            p {
                (summary(&results.changes)) ". A ratio above ×1 is worse. Ratios are corrected for changes of the "
                "machine itself. Figures within the noise are not listed."
            }
            @if !changed.is_empty() {
                div class="wide" tabindex="0" role="region" aria-labelledby="changes" {
                    table class="changes" {
                        thead { tr {
                            @for name in ["Server", "Scenario", "Figure", "Before", "Now", "Ratio", "Noise", "Verdict"] {
                                th scope="col" { (name) }
                            }
                        } }
                        tbody { @for change in changed { (row(change, results, legend)) } }
                    }
                }
            }
        }
    }
}

fn row(change: &Change, results: &Results, legend: &Legend<'_>) -> Markup {
    let scenario = results.scenarios.iter().find(|scenario| scenario.id == change.scenario);
    let work = scenario.map_or(&change.scenario, |scenario| &scenario.title);
    let class = if change.verdict == WORSE { "verdict fails" } else { "verdict holds" };
    html! {
        tr {
            th scope="row" { (legend.badge(&change.subject)) }
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
