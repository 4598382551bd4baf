//! The table of claims: a row for each claim and a cell for each server.

use maud::{Markup, html};

use crate::results::{Claim, Finding, left_out};

use super::legend::Legend;
use crate::format::{MISSING, ratio};

pub(super) fn claims(claims: &[Claim], rounds: usize, legend: &Legend<'_>) -> Markup {
    if claims.is_empty() {
        return html! {};
    }
    let spoken_of =
        |name: &&str| claims.iter().flat_map(|claim| &claim.findings).any(|finding| finding.subject == *name);
    let names: Vec<&str> = legend.names().filter(spoken_of).collect();
    html! {
        section {
            h2 id="claims" { "Claims" }
            p {
                "Common claims about these servers, and the measurements that support or refute them. The margin is a "
                "ratio: the claim holds at ×1 and above."
            }
            div class="wide" tabindex="0" role="region" aria-labelledby="claims" {
                table class="claims" {
                    thead { tr { @for name in &names { th scope="col" { (legend.badge(name)) } } } }
                    @for claim in claims { (body(claim, &names, rounds, legend)) }
                }
            }
        }
    }
}

fn body(claim: &Claim, names: &[&str], rounds: usize, legend: &Legend<'_>) -> Markup {
    let of = |name: &str| -> Vec<&Finding> {
        claim.findings.iter().filter(|finding| finding.subject == name).collect()
    };
    let columns = names.len().max(1);
    html! {
        tbody {
            tr { th scope="rowgroup" colspan=(columns) {
                div class="statement stay" {
                    span class="number" { (claim.number) } " " (claim.statement) " " (verdict(claim.holds))
                    @if !claim.summary.is_empty() { " " (claim.summary) }
                    @if let Some(note) = left_out(claim.left_out, rounds) { " " span class="note" { (note) } }
                }
            } }
            @match claim.findings.first() {
                None => {}
                // Findings about a single server span the whole row.
                Some(first) if claim.findings.iter().all(|finding| finding.subject == first.subject) => tr {
                    td colspan=(columns) {
                        div class="stay" {
                            (legend.badge(&first.subject))
                            div class="alone" { @for finding in &claim.findings { (entry(finding)) } }
                        }
                    }
                },
                Some(_) => tr { @for name in names { (cell(&of(name))) } },
            }
        }
    }
}

/// The findings on one server, of which a claim may have several.
fn cell(findings: &[&Finding]) -> Markup {
    html! {
        @if findings.is_empty() {
            td class="none" { (MISSING) }
        } @else {
            td { @for finding in findings { (entry(finding)) } }
        }
    }
}

fn entry(finding: &Finding) -> Markup {
    html! {
        div class=(if finding.holds { "finding holds" } else { "finding fails" }) {
            (mark(finding.holds)) " " (finding.measured)
            small { "required " (finding.wanted) }
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
