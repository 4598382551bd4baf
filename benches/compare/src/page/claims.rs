//! What is said of servers, and on which of them it holds: a row for each claim with a cell for each server.

use maud::{Markup, html};

use crate::results::{Claim, Finding, left_out};

use super::roster::Roster;
use crate::format::{NOTHING, ratio};

pub(super) fn claims(claims: &[Claim], rounds: usize, roster: &Roster<'_>) -> Markup {
    if claims.is_empty() {
        return html! {};
    }
    let spoken_of =
        |name: &&str| claims.iter().flat_map(|claim| &claim.findings).any(|finding| finding.subject == *name);
    let names: Vec<&str> = roster.names().filter(spoken_of).collect();
    html! {
        section {
            h2 id="claims" { "Claims" }
            p {
                "What is said of these servers, and what was measured of it. The margin is how far the figure is on the "
                "good side, as a ratio: above ×1 the claim holds with room to spare."
            }
            div class="wide" tabindex="0" role="region" aria-labelledby="claims" {
                table class="claims" {
                    thead { tr { @for name in &names { th scope="col" { (roster.badge(name)) } } } }
                    @for claim in claims { (body(claim, &names, rounds, roster)) }
                }
            }
        }
    }
}

fn body(claim: &Claim, names: &[&str], rounds: usize, roster: &Roster<'_>) -> Markup {
    let of = |name: &str| -> Vec<&Finding> {
        claim.findings.iter().filter(|finding| finding.subject == name).collect()
    };
    let columns = names.len().max(1);
    html! {
        tbody {
            tr { th scope="rowgroup" colspan=(columns) {
                div class="statement stay" {
                    span class="number" { (claim.number) } " " (claim.statement) " " (verdict(claim.holds))
                    @if let Some(said) = left_out(claim.left_out, rounds) { " " span class="note" { (said) } }
                }
            } }
            @match claim.findings.first() {
                None => {}
                // What is said of one server takes the room of all.
                Some(first) if claim.findings.iter().all(|finding| finding.subject == first.subject) => tr {
                    td colspan=(columns) {
                        div class="stay" {
                            (roster.badge(&first.subject))
                            div class="alone" { @for finding in &claim.findings { (entry(finding)) } }
                        }
                    }
                },
                Some(_) => tr { @for name in names { (cell(&of(name))) } },
            }
        }
    }
}

/// What was measured on one server; a claim may want several things of it.
fn cell(findings: &[&Finding]) -> Markup {
    html! {
        @if findings.is_empty() {
            td class="none" { (NOTHING) }
        } @else {
            td { @for finding in findings { (entry(finding)) } }
        }
    }
}

fn entry(finding: &Finding) -> Markup {
    html! {
        div class=(if finding.holds { "finding holds" } else { "finding fails" }) {
            (mark(finding.holds)) " " (finding.measured)
            small { "wanted " (finding.wanted) }
            small { "margin " (ratio(finding.margin)) }
        }
    }
}

fn verdict(holds: bool) -> Markup {
    html! { span class=(if holds { "verdict holds" } else { "verdict fails" }) { (if holds { "holds" } else { "does not hold" }) } }
}

fn mark(holds: bool) -> Markup {
    html! { span class="mark" role="img" aria-label=(if holds { "holds" } else { "does not hold" }) { (if holds { "✓" } else { "✗" }) } }
}
